"""What every gateway's adapter does with money: holds, takes, gives back, refuses, and keeps secrets to itself.

Held against a real peer over a socket: see `tests.support.gateway_contract`.
"""

from dataclasses import replace

import pytest

from gateway_adapters.contract import MAX_RAW_CHARS, CallResult
from gateway_adapters.errors import DECLINES, Code, InvariantViolatedError
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_contract import needs, payment, reference_of, refusals_of, settled
from tests.support.gateway_requests import follow_up
from tests.support.gateway_under_test import GatewayUnderTest


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
