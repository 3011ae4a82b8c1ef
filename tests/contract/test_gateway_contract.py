"""What every gateway's adapter must do, held against a real peer over a socket.

The suites are shared; what differs stands in each `GatewayUnderTest`: its capabilities say what can be asked for,
`cannot` what its peer cannot be made to do. Every gateway of the registry is held to it: the peer of gateway `x` is
what `tests/support/x_gateway_under_test.py` starts.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module

import pytest

from gateway_adapters.contract import MAX_RAW_CHARS, CallResult, GatewayNotice, weakened_for_resend
from gateway_adapters.errors import DECLINES, Code, InvariantViolatedError, UnauthenticError, UntranslatableError
from gateway_adapters.registry import SPECS
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request
from tests.support.gateway_under_test import GatewayUnderTest, Opener, PeerStarter, Situation

PEERS: Mapping[str, PeerStarter] = {
    spec.name: import_module(f"tests.support.{spec.name}_gateway_under_test").started for spec in SPECS
}

IN_DOUBT_EXECUTED = [
    Situation.TIMEOUT_AFTER,
    Situation.RESET_AFTER,
    Situation.HTML_502_AFTER,
    Situation.SERVER_ERROR_AFTER,
    Situation.CUT_AFTER,
]
IN_DOUBT_NOT_EXECUTED = [Situation.TIMEOUT_BEFORE, Situation.RESET_BEFORE, Situation.HTML_502_BEFORE]


@pytest.fixture(scope="module", params=sorted(PEERS))
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    with PEERS[request.param](tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
async def peer(opener: Opener) -> AsyncIterator[GatewayUnderTest]:
    async with opener() as under_test:
        yield under_test


async def provoke(peer: GatewayUnderTest, situation: Situation, request: GatewayCallRequested) -> None:
    if situation in peer.cannot:  # with the peer's own reason
        pytest.skip(f"{peer.gateway.name}: {peer.cannot[situation]}")
    await peer.provoke(situation, request)


@asynccontextmanager
async def running(call: Coroutine[None, None, CallResult]) -> AsyncIterator[asyncio.Task[CallResult]]:
    task = asyncio.create_task(call)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def needs(holds: bool, what: str) -> None:
    if not holds:
        pytest.skip(f"the gateway has no {what}")


def payment(
    peer: GatewayUnderTest,
    kind: CallKind = CallKind.AUTHORIZE,
    *,
    token: str | None = None,
) -> GatewayCallRequested:
    """Return a payment of 100.00 USD for an order that nobody has used, with what this gateway needs besides."""
    request = payment_request(fresh_order(), kind, token=token or peer.token)
    return replace(request, details=peer.details, gateway=peer.gateway.name)


async def asked(peer: GatewayUnderTest, call: GatewayCallRequested, known: CallResult | None = None) -> CallResult:
    """Return what the gateway says became of the call, by the first way of asking that it has.

    By the key alone; by its own reference, if `known` gives one; else by the same call again, which has its key.
    """
    can = peer.gateway.capabilities
    reference = None if known is None or not can.inquire_by_reference else known.gateway_reference
    if can.can_be_asked(call.currency, reference_known=reference is not None):
        return await peer.gateway.call(inquiry_about(call, own_reference=None if can.inquire_by_key else reference))
    return await peer.gateway.call(replace(call, call_number=call.call_number + 1))


async def settled(peer: GatewayUnderTest, call: GatewayCallRequested) -> CallResult:
    """Make the call, and return what it came to; where its kind is only received, what the notice about it tells."""
    result = await peer.gateway.call(call)
    if call.kind not in peer.tells_later or result.outcome is not Outcome.PENDING:
        return result
    for hooks in itertools.count(1):  # bounded by the peer's own time-out
        for notice in await notices(peer, hooks):
            if notice.op_id == call.op_id and notice.outcome is not Outcome.PENDING:
                return replace(
                    result,
                    outcome=notice.outcome,
                    gateway_reference=notice.gateway_reference or result.gateway_reference,
                    confirmed_amount_minor=notice.confirmed_amount_minor,
                    confirmed_currency=notice.confirmed_currency,
                    error=notice.error,
                )
    raise AssertionError


def refusals_of(peer: GatewayUnderTest, kind: CallKind) -> frozenset[Outcome]:
    """Return how such a call is refused: at once, or by the notice that brings its verdict."""
    return frozenset({Outcome.NOT_EXECUTED, *({Outcome.DECLINED} if kind in peer.tells_later else ())})


def reference_of(opened: CallResult) -> str | None:
    """Return the gateway's id that captures and voids of the payment name."""
    return opened.gateway_reference or opened.payment_reference


def refund_of(
    peer: GatewayUnderTest,
    request: GatewayCallRequested,
    opened: CallResult,
    capture: CallResult,
    amount_minor: int,
) -> GatewayCallRequested:
    """Return a refund of the payment, which names the capture, or sale, where this gateway's refunds do."""
    drawn_from = capture.gateway_reference if peer.gateway.capabilities.refunds_name_captures else None
    return follow_up(
        request,
        CallKind.REFUND,
        reference=reference_of(opened),
        amount_minor=amount_minor,
        capture_reference=drawn_from,
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# Happy paths


async def test_authorize_holds_the_amount_and_nothing_more(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    result = await peer.gateway.call(request)
    assert (result.outcome, result.error) == (Outcome.SUCCEEDED, None)
    assert (result.confirmed_amount_minor, result.confirmed_currency) == (10_000, "USD")
    assert result.gateway_reference
    assert not result.replayed
    assert peer.effects(request) == [("authorize", 10_000)]


async def test_sale_holds_and_captures_in_one_call(peer: GatewayUnderTest) -> None:
    needs(CallKind.SALE in peer.gateway.capabilities.operations, "sale")
    request = payment(peer, CallKind.SALE)
    assert (await peer.gateway.call(request)).outcome is Outcome.SUCCEEDED
    assert peer.effects(request) == [("sale", 10_000)]


async def test_captures_and_refunds_take_effect_in_part_and_several_times(peer: GatewayUnderTest) -> None:
    can = peer.gateway.capabilities
    needs(can.multiple_capture and can.multiple_refund, "multiple captures and refunds")
    request = payment(peer)
    opened = await settled(peer, request)
    captures: list[CallResult] = []
    for amount_minor in (4_000, 6_000):
        capture = follow_up(request, CallKind.CAPTURE, reference=reference_of(opened), amount_minor=amount_minor)
        captures.append(await settled(peer, capture))
        assert (captures[-1].outcome, captures[-1].confirmed_amount_minor) == (Outcome.SUCCEEDED, amount_minor)
    refunds = [(captures[0], 2_500), (captures[1], 5_500), (captures[0], 1_500)]
    for capture_made, amount_minor in refunds:
        result = await settled(peer, refund_of(peer, request, opened, capture_made, amount_minor))
        assert (result.outcome, result.confirmed_amount_minor) == (Outcome.SUCCEEDED, amount_minor)
    taken = [("authorize", 10_000), ("capture", 4_000), ("capture", 6_000)]
    assert peer.effects(request) == [*taken, *(("refund", amount_minor) for _, amount_minor in refunds)]


async def test_final_capture_releases_the_rest_so_that_no_other_capture_follows(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    reference = reference_of(await settled(peer, request))
    final = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=4_000, final=True)
    assert (await settled(peer, final)).outcome is Outcome.SUCCEEDED
    late = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=1)
    assert (await settled(peer, late)).outcome in refusals_of(peer, CallKind.CAPTURE)


async def test_void_releases_a_payment_that_was_not_captured(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    reference = reference_of(await settled(peer, request))
    void = follow_up(request, CallKind.VOID, reference=reference, amount_minor=10_000)
    assert (await settled(peer, void)).outcome is Outcome.SUCCEEDED
    assert [kind for kind, _ in peer.effects(request)] == ["authorize", "void"]


# Refusals


LATER_WORDS = {
    Code.FAILED_LATE,
    Code.AUTHORIZATION_EXPIRED,
    Code.ACTION_EXPIRED,
    Code.CANCELLED,
    Code.PARTIALLY_APPROVED,  # the engine's own word for what it gave back
    Code.NOTHING_LEFT,  # of captures, voids and refunds
    Code.NOT_PERMITTED,
    Code.NOT_YET,
}
"""Codes of refusals that no answer to a payment brings: most come later, by webhook."""


@pytest.mark.parametrize("code", sorted(DECLINES.keys() - LATER_WORDS))
async def test_decline_has_its_class_and_its_advice_and_no_effect(peer: GatewayUnderTest, code: Code) -> None:
    if code not in peer.decline_tokens:
        pytest.skip(f"the peer has no token for {code}")
    request = payment(peer, CallKind.SALE, token=peer.decline_tokens[code])
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.DECLINED
    assert result.error is not None
    assert result.error.code == code
    assert result.error.decline_class is DECLINES[code].decline_class
    assert result.error.retry is DECLINES[code].retry
    assert peer.effects(request) == []


@pytest.mark.parametrize(
    ("kind", "before", "amount_minor"),
    [
        (CallKind.CAPTURE, [(CallKind.CAPTURE, 6_000)], 4_001),
        (CallKind.REFUND, [(CallKind.CAPTURE, 6_000), (CallKind.REFUND, 5_000)], 1_001),
        (CallKind.REFUND, [], 1),
        (CallKind.VOID, [(CallKind.CAPTURE, 10_000)], 10_000),
        (CallKind.CAPTURE, [(CallKind.VOID, 10_000)], 1),
        (CallKind.VOID, [(CallKind.VOID, 10_000)], 10_000),
    ],
    ids=["over-capture", "over-refund", "refund-uncaptured", "void-captured", "capture-voided", "void-twice"],
)
async def test_call_against_the_rules_of_money_is_not_executed_and_not_retried(
    peer: GatewayUnderTest, kind: CallKind, before: list[tuple[CallKind, int]], amount_minor: int
) -> None:
    request = payment(peer)
    opened = drawn_from = await settled(peer, request)

    def step(of: CallKind, minor: int) -> GatewayCallRequested:
        if of is CallKind.REFUND:
            return refund_of(peer, request, opened, drawn_from, minor)
        return follow_up(request, of, reference=reference_of(opened), amount_minor=minor)

    for earlier, earlier_minor in before:
        made = await settled(peer, step(earlier, earlier_minor))
        assert made.outcome is Outcome.SUCCEEDED
        drawn_from = made if earlier is CallKind.CAPTURE else drawn_from
    effects = peer.effects(request)
    result = await settled(peer, step(kind, amount_minor))
    assert result.outcome in refusals_of(peer, kind)
    assert result.error is not None
    assert result.outcome is Outcome.DECLINED or result.error.retry is RetryAdvice.NEVER
    assert peer.effects(request) == effects


async def test_request_without_what_its_kind_needs_is_a_defect_of_ours(peer: GatewayUnderTest) -> None:
    request = replace(payment(peer), token=None)
    with pytest.raises(InvariantViolatedError, match="lacks token"):
        await peer.gateway.call(request)


# Idempotency keys


async def test_same_request_again_gives_the_same_answer_and_one_effect(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    first = await peer.gateway.call(request)
    again = await peer.gateway.call(replace(request, call_number=2, requested_at_ms=2_000))
    assert again == replace(first, replayed=peer.marks_replays)
    assert peer.effects(request) == [("sale", 10_000)]


async def test_declined_request_again_is_declined_again(peer: GatewayUnderTest) -> None:
    token = next(iter(peer.decline_tokens.values()))
    request = payment(peer, token=token)
    first = await peer.gateway.call(request)
    again = await peer.gateway.call(request)
    assert again == replace(first, replayed=again.replayed)  # not every gateway that marks replays marks these
    assert again.outcome is Outcome.DECLINED


async def test_same_key_with_another_amount_is_refused_and_left_in_doubt(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await peer.gateway.call(request)
    result = await peer.gateway.call(replace(request, amount_minor=10_001))
    if peer.compares_bodies:
        assert result.outcome is Outcome.UNKNOWN  # the key stands for something that was executed
        assert result.error is not None
        assert result.error.code == Code.GATEWAY_KEY_MISMATCH
    else:  # what was executed is told: the engine sees that it is not what it asked for
        assert (result.outcome, result.confirmed_amount_minor) == (Outcome.SUCCEEDED, 10_000)
    assert peer.effects(request) == [("sale", 10_000)]


async def test_twenty_equal_requests_at_once_have_one_effect(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    results = await asyncio.gather(*(peer.gateway.call(request) for _ in range(20)))
    assert {result.outcome for result in results} <= {Outcome.SUCCEEDED, Outcome.UNKNOWN}
    assert any(result.outcome is Outcome.SUCCEEDED for result in results)
    assert peer.effects(request) == [("sale", 10_000)]


async def test_same_key_is_in_progress_while_the_first_call_is_under_way(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.SLOW, request)
    if not peer.gateway.capabilities.not_found_is_proof:  # whether the first has arrived cannot be asked
        results = await asyncio.gather(peer.gateway.call(request), peer.gateway.call(request))
        told = {(each.outcome, None if each.error is None else each.error.code) for each in results}
        assert told == {(Outcome.SUCCEEDED, None), (Outcome.UNKNOWN, Code.CALL_IN_PROGRESS)}
        assert peer.effects(request) == [("sale", 10_000)]
        return
    async with running(peer.gateway.call(request)) as first:
        inquired = await peer.gateway.call(inquiry_about(request))
        while inquired.error is None or inquired.error.code != Code.CALL_IN_PROGRESS:  # the first has not arrived yet
            assert inquired.outcome is Outcome.NOT_EXECUTED
            inquired = await peer.gateway.call(inquiry_about(request))
        second = await peer.gateway.call(request)
        assert (second.outcome, inquired.outcome) == (Outcome.UNKNOWN, Outcome.UNKNOWN)
        assert second.error is not None
        assert (second.error.code, second.error.retry) == (Code.CALL_IN_PROGRESS, RetryAdvice.SAME_KEY_NOW)
        assert (await first).outcome is Outcome.SUCCEEDED
    assert peer.effects(request) == [("sale", 10_000)]


# Signals


@pytest.mark.parametrize("situation", IN_DOUBT_EXECUTED)
async def test_lost_answer_is_in_doubt_and_an_inquiry_finds_the_effect(
    peer: GatewayUnderTest, situation: Situation
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    lost = await peer.gateway.call(request)
    assert lost.outcome is Outcome.UNKNOWN
    assert lost.gateway_reference is None
    found = await asked(peer, request)
    assert (found.outcome, found.confirmed_amount_minor) == (Outcome.SUCCEEDED, 10_000)
    assert peer.effects(request) == [("sale", 10_000)]


@pytest.mark.parametrize("situation", IN_DOUBT_EXECUTED)
async def test_same_key_after_a_lost_answer_gives_the_stored_answer_and_one_effect(
    peer: GatewayUnderTest, situation: Situation
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    await peer.gateway.call(request)
    again = await peer.gateway.call(request)
    assert (again.outcome, again.replayed) == (Outcome.SUCCEEDED, peer.marks_replays)
    assert peer.effects(request) == [("sale", 10_000)]


@pytest.mark.parametrize("situation", IN_DOUBT_NOT_EXECUTED)
async def test_lost_request_is_in_doubt_until_an_inquiry_proves_that_nothing_happened(
    peer: GatewayUnderTest, situation: Situation
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    assert (await peer.gateway.call(request)).outcome is Outcome.UNKNOWN
    assert peer.effects(request) == []
    found = await asked(peer, request)
    if not peer.gateway.capabilities.inquire_by_key:  # the question is the call itself: now it has been carried out
        assert (found.outcome, peer.effects(request)) == (Outcome.SUCCEEDED, [("sale", 10_000)])
        return
    expected = Outcome.NOT_EXECUTED if peer.gateway.capabilities.not_found_is_proof else Outcome.UNKNOWN
    assert found.outcome is expected
    assert peer.effects(request) == []


async def test_call_is_not_executed_when_nobody_listens(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.REFUSED, request)
    result = await peer.gateway.call(request)
    inquired = await peer.gateway.call(inquiry_about(request))  # unsupported, or one that does not get through
    await peer.listening_again()
    assert result.outcome is Outcome.NOT_EXECUTED
    assert result.error is not None
    assert result.error.code == Code.GATEWAY_UNREACHABLE
    assert inquired.outcome is Outcome.UNKNOWN  # an inquiry that did not get through says nothing
    assert weakened_for_resend(request, result).outcome is Outcome.UNKNOWN
    assert peer.effects(request) == []
    assert (await peer.gateway.call(request)).outcome is Outcome.SUCCEEDED


async def test_throttled_call_is_not_executed_and_says_how_long_to_wait(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.RATE_LIMITED, request)
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.NOT_EXECUTED
    assert result.error is not None
    assert (result.error.code, result.error.retry_after_ms) == (Code.RATE_LIMITED, 7_000)
    assert peer.effects(request) == []


async def test_refused_credentials_are_not_executed_and_another_gateway_may_be_tried(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.UNAUTHORIZED, request)
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.NOT_EXECUTED
    assert result.error is not None
    assert result.error.retry is RetryAdvice.OTHER_GATEWAY


@pytest.mark.parametrize(
    "situation",
    [
        *IN_DOUBT_NOT_EXECUTED,
        Situation.CUT_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.NOT_FOUND_YET,
    ],
)
async def test_inquiry_that_fails_says_nothing_about_the_operation(
    peer: GatewayUnderTest, situation: Situation
) -> None:
    can = peer.gateway.capabilities
    needs(CallKind.INQUIRE in can.operations, "inquiry")
    request = payment(peer, CallKind.SALE)
    result = await peer.gateway.call(request)
    inquiry = inquiry_about(request, own_reference=None if can.inquire_by_key else result.gateway_reference)
    await provoke(peer, situation, inquiry)
    # By its nature idempotent, an inquiry may be sent again by the HTTP library; then it simply succeeds.
    allowed = {Outcome.UNKNOWN} | ({Outcome.SUCCEEDED} if situation is Situation.RESET_BEFORE else set())
    assert (await peer.gateway.call(inquiry)).outcome in allowed
    assert (await peer.gateway.call(inquiry)).outcome is Outcome.SUCCEEDED


async def test_inquiry_finds_an_operation_by_the_gateways_own_reference(peer: GatewayUnderTest) -> None:
    needs(peer.gateway.capabilities.inquire_by_reference, "inquiry by reference")
    request = payment(peer)
    result = await peer.gateway.call(request)
    found = await peer.gateway.call(inquiry_about(request, own_reference=result.gateway_reference))
    assert (found.outcome, found.gateway_reference) == (Outcome.SUCCEEDED, result.gateway_reference)


async def test_unknown_status_is_pending_and_never_a_success(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.UNKNOWN_STATUS, request)
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.PENDING
    assert result.error is not None
    assert result.error.code == Code.UNKNOWN_STATUS


async def test_amount_that_differs_is_told_as_the_gateway_confirmed_it(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.AMOUNT_MISMATCH, request)
    result = await peer.gateway.call(request)
    assert (result.outcome, result.confirmed_amount_minor) == (Outcome.SUCCEEDED, 9_999)
    assert peer.effects(request) == [("sale", 9_999)]


# What comes later, and webhooks


@pytest.mark.parametrize(
    ("situation", "outcome", "effects"),
    [
        (Situation.PENDING_THEN_SUCCEEDED, Outcome.SUCCEEDED, [("sale", 10_000)]),
        (Situation.PENDING_THEN_FAILED, Outcome.DECLINED, []),
    ],
)
async def test_pending_call_gets_its_last_word_by_a_signed_webhook(
    peer: GatewayUnderTest, situation: Situation, outcome: Outcome, effects: list[tuple[str, int]]
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.PENDING
    hook = (await peer.webhooks(1))[0]
    await peer.gateway.verify_webhook(hook.headers, hook.body, now_ms=now_ms(), certificates=peer.certificates)
    (notice,) = peer.gateway.parse_webhook(hook.headers, hook.body)
    assert notice.outcome is outcome
    assert notice.gateway == peer.gateway.name
    assert notice.kind in {CallKind.SALE, None}
    ours = (request.origin_id, request.order_id) if peer.names_orders else (None, None)
    assert (notice.origin_id, notice.order_id, notice.op_id) == (*ours, request.op_id)
    assert notice.gateway_reference == result.gateway_reference
    assert (notice.confirmed_amount_minor, notice.confirmed_currency) == (10_000, "USD")
    can = peer.gateway.capabilities
    if can.can_be_asked(request.currency, reference_known=True):  # the same call again brings its stored answer
        assert (await asked(peer, request, result)).outcome is outcome
    assert peer.effects(request) == effects


async def test_webhook_needs_no_header_that_its_gateway_does_not_name(peer: GatewayUnderTest) -> None:
    await provoke(peer, Situation.PENDING_THEN_SUCCEEDED, request := payment(peer, CallKind.SALE))
    await peer.gateway.call(request)
    hook = (await peer.webhooks(1))[0]
    named = {name: value for name, value in hook.headers.items() if name in peer.gateway.webhook_headers}
    await peer.gateway.verify_webhook(named, hook.body, now_ms=now_ms(), certificates=peer.certificates)
    assert peer.gateway.parse_webhook(named, hook.body) == peer.gateway.parse_webhook(hook.headers, hook.body)
    assert all(name == name.lower() for name in peer.gateway.webhook_headers)


async def test_success_taken_back_late_is_reversed(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    reference = reference_of(await settled(peer, request))
    capture = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=10_000)
    await provoke(peer, Situation.LATE_FAILURE, capture)
    captured = await settled(peer, capture)
    assert captured.outcome is Outcome.SUCCEEDED
    told_later = CallKind.CAPTURE in peer.tells_later
    notice = (await notices(peer, 1 + told_later))[-1]
    assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.REVERSED, CallKind.CAPTURE, capture.op_id)
    assert notice.payment_reference == reference or notice.gateway_reference == captured.gateway_reference
    assert peer.effects(request)[-1] == ("reversal", 10_000)


async def notices(peer: GatewayUnderTest, hooks: int) -> list[GatewayNotice]:
    """Return what the first so many webhooks say, in the order in which they came, once they have."""
    return [
        notice
        for hook in (await peer.webhooks(hooks))[:hooks]
        for notice in peer.gateway.parse_webhook(hook.headers, hook.body)
    ]


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        (Situation.PARTIAL_REVERSAL, [(Outcome.REVERSED, 3_000)]),
        (Situation.DISPUTE_OPENED, [(Outcome.DISPUTE_OPENED, 10_000)]),
        (Situation.DISPUTE_WON, [(Outcome.DISPUTE_OPENED, 10_000), (Outcome.DISPUTE_WON, 10_000)]),
        (Situation.DISPUTE_LOST, [(Outcome.DISPUTE_OPENED, 10_000), (Outcome.DISPUTE_LOST, 10_000)]),
        (Situation.PARTIAL_DISPUTE_LOST, [(Outcome.DISPUTE_OPENED, 3_000), (Outcome.DISPUTE_LOST, 3_000)]),
        (
            Situation.CHARGEBACK_WON,
            [(Outcome.DISPUTE_OPENED, 10_000), (Outcome.REVERSED, 10_000), (Outcome.DISPUTE_WON, 10_000)],
        ),
        (
            Situation.CHARGEBACK_LOST,
            [(Outcome.REVERSED, 10_000), (Outcome.DISPUTE_OPENED, 10_000), (Outcome.DISPUTE_LOST, 10_000)],
        ),
        (
            Situation.PARTIAL_CHARGEBACK_LOST,
            [(Outcome.DISPUTE_OPENED, 3_000), (Outcome.REVERSED, 3_000), (Outcome.DISPUTE_LOST, 3_000)],
        ),
        (
            Situation.PARTIAL_CHARGEBACK_WON,
            [(Outcome.DISPUTE_OPENED, 3_000), (Outcome.REVERSED, 3_000), (Outcome.DISPUTE_WON, 3_000)],
        ),
    ],
)
async def test_what_a_case_does_is_told_with_its_amount_and_under_one_reference(
    peer: GatewayUnderTest, situation: Situation, words: list[tuple[Outcome, int]]
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    reference = reference_of(await peer.gateway.call(request))
    told = await notices(peer, len(words))
    assert [(notice.outcome, notice.confirmed_amount_minor) for notice in told] == words
    reversals = {notice.case_reference for notice in told if notice.outcome is Outcome.REVERSED}
    disputes = {notice.case_reference for notice in told if notice.outcome is not Outcome.REVERSED}
    assert None not in reversals | disputes
    if peer.names_cases:
        assert len(reversals | disputes) == 1
    else:
        assert max(len(reversals), len(disputes)) == 1
        assert not reversals & disputes
    # A dispute is the bank's doing: some gateways give nothing of ours back, and name the payment alone.
    ours = {(request.op_id, CallKind.SALE, reference), (request.op_id, None, reference), (None, None, reference)}
    assert {(notice.op_id, notice.kind, notice.gateway_reference) for notice in told} <= ours
    times = [notice.occurred_at_ms for notice in told]
    assert times == sorted(set(times))
    assert len({notice.notice_id for notice in told}) == len(told)


async def test_reversals_of_one_operation_are_cases_of_their_own(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.TWO_REVERSALS, request)
    await peer.gateway.call(request)
    first, second = await notices(peer, 2)
    assert (first.confirmed_amount_minor, second.confirmed_amount_minor) == (3_000, 2_000)
    assert None not in {first.case_reference, second.case_reference}
    assert first.case_reference != second.case_reference
    assert peer.effects(request) == [("sale", 10_000), ("reversal", 3_000), ("reversal", 2_000)]


async def test_inquiry_tells_of_the_success_and_not_again_of_the_part_that_was_taken_back(
    peer: GatewayUnderTest,
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.PARTIAL_REVERSAL, request)
    result = await peer.gateway.call(request)
    (notice,) = await notices(peer, 1)
    found = await asked(peer, request, result)
    assert (found.outcome, found.confirmed_amount_minor) == (Outcome.SUCCEEDED, 10_000)
    # As old as the success: or whoever sorts the two by time forgets what was taken since.
    assert found.occurred_at_ms == result.occurred_at_ms
    assert (found.occurred_at_ms or 0) < notice.occurred_at_ms


async def test_inquiry_and_notice_about_a_success_taken_back_are_one_word(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.LATE_FAILURE, request)
    result = await peer.gateway.call(request)
    (notice,) = await notices(peer, 1)
    can_be_asked = peer.gateway.capabilities.can_be_asked(request.currency, reference_known=True)
    needs(peer.tells_reversals and can_be_asked, "inquiry that tells of it")
    found = await asked(peer, request, result)
    assert (found.outcome, found.confirmed_amount_minor) == (Outcome.REVERSED, 10_000)
    assert (found.case_reference, found.occurred_at_ms) == (notice.case_reference, notice.occurred_at_ms)


async def test_success_after_a_reversal_is_told_as_a_later_success(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.RECAPTURED, request)
    first = await peer.gateway.call(request)
    taken, again = await notices(peer, 2)
    assert (taken.outcome, again.outcome) == (Outcome.REVERSED, Outcome.SUCCEEDED)
    assert again.confirmed_amount_minor == 10_000
    assert (first.occurred_at_ms or 0) < taken.occurred_at_ms < again.occurred_at_ms
    assert peer.effects(request) == [("sale", 10_000), ("reversal", 10_000), ("restoral", 10_000)]


async def test_success_of_a_declined_call_is_told(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.REFUSED_THEN_SUCCEEDED, request)
    declined = await peer.gateway.call(request)
    (notice,) = await notices(peer, 1)
    assert (declined.outcome, notice.outcome) == (Outcome.DECLINED, Outcome.SUCCEEDED)
    assert notice.gateway_reference == declined.gateway_reference
    assert peer.effects(request) == [("sale", 10_000)]


@pytest.mark.parametrize(
    ("situation", "amount_minor"), [(Situation.DESK_REFUND, 10_000), (Situation.PARTIAL_DESK_REFUND, 3_000)]
)
async def test_refund_at_the_gateways_own_desk_is_told_by_reference_alone(
    peer: GatewayUnderTest, situation: Situation, amount_minor: int
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    reference = reference_of(await peer.gateway.call(request))
    (notice,) = await notices(peer, 1)
    assert (notice.kind, notice.outcome, notice.op_id) == (CallKind.REFUND, Outcome.SUCCEEDED, None)
    assert notice.payment_reference == reference
    assert notice.gateway_reference not in {None, reference}
    assert notice.confirmed_amount_minor == amount_minor
    assert peer.effects(request) == [("sale", 10_000), ("refund", amount_minor)]


async def test_hold_that_runs_out_is_told_and_found(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    await provoke(peer, Situation.HOLD_EXPIRED, request)
    opened = await peer.gateway.call(request)
    (notice,) = await notices(peer, 1)
    assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.EXPIRED, CallKind.AUTHORIZE, request.op_id)
    if peer.gateway.capabilities.can_be_asked(request.currency, reference_known=True):
        assert (await asked(peer, request, opened)).outcome is Outcome.EXPIRED
    late = follow_up(request, CallKind.CAPTURE, reference=reference_of(opened), amount_minor=1)
    assert (await settled(peer, late)).outcome in refusals_of(peer, CallKind.CAPTURE)


async def test_partial_approval_confirms_less_than_was_asked_for(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    await provoke(peer, Situation.PARTIAL_APPROVAL, request)
    result = await peer.gateway.call(request)
    assert (result.outcome, result.confirmed_amount_minor) == (Outcome.SUCCEEDED, 6_000)
    assert peer.effects(request) == [("authorize", 6_000)]


@pytest.mark.parametrize(
    ("situation", "found", "effects"),
    [
        (Situation.STORED_500_AFTER, Outcome.SUCCEEDED, [("sale", 10_000)]),
        (Situation.STORED_500_BEFORE, Outcome.NOT_EXECUTED, []),
    ],
)
async def test_server_error_kept_under_the_key_says_nothing_and_an_inquiry_does(
    peer: GatewayUnderTest, situation: Situation, found: Outcome, effects: list[tuple[str, int]]
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    first, again = await peer.gateway.call(request), await peer.gateway.call(request)
    assert (first.outcome, again.outcome, again.replayed) == (Outcome.UNKNOWN, Outcome.UNKNOWN, True)
    assert again.error is not None
    assert again.error.retry is RetryAdvice.NEVER  # asking once more with this key brings the same for ever
    can = peer.gateway.capabilities
    if can.inquire_by_key:
        unproven = found is Outcome.NOT_EXECUTED and not can.not_found_is_proof
        assert (await asked(peer, request)).outcome is (Outcome.UNKNOWN if unproven else found)
    assert peer.effects(request) == effects


async def test_notice_may_come_before_the_answer_of_its_call(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.EARLY_WEBHOOK, request)
    async with running(peer.gateway.call(request)) as call:
        (notice,) = await notices(peer, 1)
        result = await call
    assert (notice.outcome, notice.op_id) == (Outcome.SUCCEEDED, request.op_id)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.occurred_at_ms in {notice.occurred_at_ms, None}  # some answers name no time
    assert peer.effects(request) == [("sale", 10_000)]


async def test_notice_without_our_metadata_names_the_gateways_own_references(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    reference = reference_of(await settled(peer, request))
    capture = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=10_000)
    await provoke(peer, Situation.WEBHOOKS_BY_REFERENCE, capture)
    captured = await peer.gateway.call(capture)
    (notice,) = await notices(peer, 1)
    assert (notice.origin_id, notice.order_id, notice.op_id) == (None, None, None)
    assert (notice.gateway_reference, notice.payment_reference) == (captured.gateway_reference, reference)
    assert (notice.kind, notice.outcome) == (CallKind.CAPTURE, Outcome.SUCCEEDED)


async def test_one_body_speaks_of_several_orders_and_of_what_is_not_ours(peer: GatewayUnderTest) -> None:
    requests = [payment(peer, CallKind.SALE) for _ in range(2)]
    for request in requests:
        await provoke(peer, Situation.BATCHED_WEBHOOKS, request)
    await asyncio.gather(*(peer.gateway.call(request) for request in requests))
    ours = {request.op_id for request in requests}
    told: list[GatewayNotice] = []
    for hooks in (1, 2):  # they may have missed each other
        told = await notices(peer, hooks)
        if ours <= {notice.op_id for notice in told}:
            break
    assert {notice.op_id for notice in told} > ours
    assert {notice.outcome for notice in told if notice.op_id in ours} == {Outcome.SUCCEEDED}
    for hook in await peer.webhooks(1):
        await peer.gateway.verify_webhook(hook.headers, hook.body, now_ms=now_ms(), certificates=peer.certificates)


async def test_rest_of_a_partly_captured_hold_is_released_by_a_void(peer: GatewayUnderTest) -> None:
    needs(peer.gateway.capabilities.multiple_capture, "capture that leaves the rest held")
    request = payment(peer)
    reference = reference_of(await settled(peer, request))
    capture = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=6_000)
    assert (await settled(peer, capture)).outcome is Outcome.SUCCEEDED
    void = follow_up(request, CallKind.VOID, reference=reference, amount_minor=4_000)
    assert (await settled(peer, void)).outcome is Outcome.SUCCEEDED
    again = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=1)
    assert (await settled(peer, again)).outcome in refusals_of(peer, CallKind.CAPTURE)
    assert peer.effects(request) == [("authorize", 10_000), ("capture", 6_000), ("void", 4_000)]


async def test_void_cancels_what_waits_for_its_payer(peer: GatewayUnderTest) -> None:
    needs(peer.action_token is not None, "token that makes the payer act")
    request = payment(peer, token=peer.action_token or "")
    waiting = await peer.gateway.call(request)
    needs(reference_of(waiting) is not None, "name for what waits for its payer")
    void = follow_up(request, CallKind.VOID, reference=reference_of(waiting), amount_minor=10_000)
    assert (await settled(peer, void)).outcome is Outcome.SUCCEEDED
    told: list[GatewayNotice | CallResult] = list((await notices(peer, 1))[:1])
    if peer.gateway.capabilities.can_be_asked(request.currency, reference_known=True):
        told.append(await asked(peer, request, waiting))
    for word in told:
        assert word.outcome is Outcome.DECLINED
        assert word.error is not None
        assert word.error.code == Code.CANCELLED
    assert [kind for kind, _ in peer.effects(request)] == ["void"]


async def test_action_that_the_payer_does_not_take_in_time_is_a_refusal(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.ACTION_EXPIRED, request)
    assert (await peer.gateway.call(request)).outcome is Outcome.REQUIRES_ACTION
    (notice,) = await notices(peer, 1)
    assert notice.outcome is Outcome.DECLINED
    assert notice.error is not None
    assert notice.error.code == Code.ACTION_EXPIRED
    assert peer.effects(request) == []


async def test_notice_delivered_twice_has_one_id(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.DUPLICATE_WEBHOOKS, request)
    await peer.gateway.call(request)
    hooks = await peer.webhooks(2)
    notices = [peer.gateway.parse_webhook(hook.headers, hook.body) for hook in hooks]
    assert notices[0] == notices[1]


async def test_notices_out_of_order_tell_their_own_time(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.OUT_OF_ORDER_WEBHOOKS, request)
    await peer.gateway.call(request)
    hooks = await peer.webhooks(2)
    first, second = (peer.gateway.parse_webhook(hook.headers, hook.body)[0] for hook in hooks)
    assert (first.outcome, second.outcome) == (Outcome.SUCCEEDED, Outcome.PENDING)
    assert first.occurred_at_ms > second.occurred_at_ms
    assert first.notice_id != second.notice_id


async def test_payer_completes_the_action_and_the_webhook_tells(peer: GatewayUnderTest) -> None:
    needs(peer.action_token is not None, "token that makes the payer act")
    request = payment(peer, CallKind.SALE, token=peer.action_token or "")
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.REQUIRES_ACTION
    assert result.action_url
    assert peer.effects(request) == []
    await peer.complete_action(reference_of(result) or "")
    hook = (await peer.webhooks(1))[0]
    assert peer.gateway.parse_webhook(hook.headers, hook.body)[0].outcome is Outcome.SUCCEEDED
    assert peer.effects(request) == [("sale", 10_000)]


def completion_of(
    request: GatewayCallRequested, reference: str | None, came_back: tuple[NamedText, ...]
) -> GatewayCallRequested:
    completion = follow_up(request, CallKind.COMPLETE, reference=reference, amount_minor=request.amount_minor)
    return replace(completion, details=CallDetails(return_parameters=came_back))


def waiting_for_payer(peer: GatewayUnderTest, kind: CallKind) -> GatewayCallRequested:
    needs(CallKind.COMPLETE in peer.gateway.capabilities.operations, "completion")
    needs(peer.completion_token is not None, "token that needs a completion")
    return payment(peer, kind, token=peer.completion_token or "")


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE])
async def test_completion_goes_on_with_the_payment_once_its_payer_is_back(
    peer: GatewayUnderTest, kind: CallKind
) -> None:
    request = waiting_for_payer(peer, kind)
    waiting = await peer.gateway.call(request)
    reference = reference_of(waiting)
    assert (waiting.outcome, peer.effects(request)) == (Outcome.REQUIRES_ACTION, [])
    came_back = await peer.come_back(reference or "", agreed=True)
    assert peer.effects(request) == []
    completion = completion_of(request, reference, came_back)
    done = await peer.gateway.call(completion)
    assert done.outcome is Outcome.SUCCEEDED
    assert done.gateway_reference
    assert done.gateway_reference == (waiting.gateway_reference or done.gateway_reference)
    assert (done.confirmed_amount_minor, done.confirmed_currency) == (10_000, "USD")
    again = await peer.gateway.call(completion)
    assert again == replace(done, replayed=peer.marks_replays)
    assert peer.effects(request) == [(kind.value, 10_000)]
    can = peer.gateway.capabilities
    if can.can_be_asked(request.currency, reference_known=True):
        inquiry = inquiry_about(completion, own_reference=reference)
        assert (await peer.gateway.call(inquiry)).outcome is Outcome.SUCCEEDED


async def test_completion_is_a_decline_when_the_payer_came_back_without_agreeing(peer: GatewayUnderTest) -> None:
    request = waiting_for_payer(peer, CallKind.SALE)
    waiting = await peer.gateway.call(request)
    came_back = await peer.come_back(reference_of(waiting) or "", agreed=False)
    refused = await peer.gateway.call(completion_of(request, reference_of(waiting), came_back))
    assert refused.outcome is Outcome.DECLINED
    assert refused.error is not None
    assert peer.effects(request) == []


async def test_completion_decides_nothing_when_what_came_back_is_not_the_payers(peer: GatewayUnderTest) -> None:
    request = waiting_for_payer(peer, CallKind.SALE)
    waiting = await peer.gateway.call(request)
    came_back = await peer.come_back(reference_of(waiting) or "", agreed=True)
    forged = tuple(replace(entry, value="forged") for entry in came_back)
    result = await peer.gateway.call(completion_of(request, reference_of(waiting), forged))
    assert result.outcome is Outcome.NOT_EXECUTED
    assert peer.effects(request) == []


async def test_webhook_is_refused_when_tampered_old_or_unsigned(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.PENDING_THEN_SUCCEEDED, request)
    await peer.gateway.call(request)
    hook = (await peer.webhooks(1))[0]
    verify = partial(peer.gateway.verify_webhook, certificates=peer.certificates)
    tampered = peer.tampered(hook.body)
    assert tampered != hook.body
    with pytest.raises(UnauthenticError):
        await verify(hook.headers, tampered, now_ms=now_ms())
    with pytest.raises(UnauthenticError):
        await verify({}, peer.unsigned(hook.body), now_ms=now_ms())
    for away_ms in (-3_600_000, 3_600_000) if peer.signs_time else ():
        with pytest.raises(UnauthenticError):
            await verify(hook.headers, hook.body, now_ms=now_ms() + away_ms)
    await verify(hook.headers, hook.body, now_ms=now_ms())


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff\xfe", b'{"id": "evt_1", "created_ms": 1}', b"[" * 100_000])
async def test_webhook_that_cannot_be_read_is_untranslatable(peer: GatewayUnderTest, body: bytes) -> None:
    with pytest.raises(UntranslatableError):
        peer.gateway.parse_webhook({}, body)


# Confidences


async def test_token_is_in_no_result(peer: GatewayUnderTest) -> None:
    token = "tok_secret_7c1f"
    request = payment(peer, token=token)
    mismatched = replace(request, currency="EUR")
    for result in [await peer.gateway.call(request), await peer.gateway.call(mismatched)]:
        assert token not in repr(result)
        assert result.raw is not None
        assert len(result.raw) <= MAX_RAW_CHARS


async def test_closing_twice_is_safe(peer: GatewayUnderTest) -> None:
    await peer.gateway.close()
    await peer.gateway.close()
