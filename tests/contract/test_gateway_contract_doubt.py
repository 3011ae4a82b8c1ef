"""What every gateway's adapter makes of an answer that is lost, refused or odd, and of an inquiry about it.

Held against a real peer over a socket: see `tests.support.gateway_contract`.
"""

import pytest

from gateway_adapters.contract import weakened_for_resend
from gateway_adapters.errors import Code
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_contract import asked, needs, payment, provoke
from tests.support.gateway_requests import inquiry_about
from tests.support.gateway_under_test import GatewayUnderTest, Situation

IN_DOUBT_EXECUTED = [
    Situation.TIMEOUT_AFTER,
    Situation.RESET_AFTER,
    Situation.HTML_502_AFTER,
    Situation.SERVER_ERROR_AFTER,
    Situation.CUT_AFTER,
]


IN_DOUBT_NOT_EXECUTED = [Situation.TIMEOUT_BEFORE, Situation.RESET_BEFORE, Situation.HTML_502_BEFORE]


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
