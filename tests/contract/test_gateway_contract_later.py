"""What every gateway's adapter tells of an operation after its answer: taken back, disputed, made at a desk, run out.

Held against a real peer over a socket: see `tests.support.gateway_contract`.
"""

import pytest

from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_contract import asked, needs, notices, payment, provoke, reference_of, refusals_of, settled
from tests.support.gateway_requests import follow_up
from tests.support.gateway_under_test import GatewayUnderTest, Situation


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
