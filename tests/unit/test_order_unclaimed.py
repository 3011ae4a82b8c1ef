"""Words that come before those they follow: of what nobody can tell whose it is, and of what was assumed till then."""

from dataclasses import replace

import pytest

from schemas.identifiers import OpId
from schemas.records.commands import PaymentRequested
from schemas.vocabulary import CallKind, OperationKind, OperationState, Outcome, RetryAdvice, Verdict
from streams.domain.limits import MAX_UNCLAIMED
from tests.support.order_desk import UNKNOWN, Desk, Said, authorize, refund, refusal, sale, void

PART = Said(reference="ch", confirmed_minor=6_000)
GONE = Said(outcome=Outcome.REVERSED, reference="ch", confirmed_minor=2_000)


def under_way(*, allow_partial: bool) -> tuple[Desk, OpId]:
    """A payment whose gateway has not answered yet."""
    desk = Desk()
    command = sale()
    assert isinstance(command, PaymentRequested)
    desk.send(replace(command, allow_partial=allow_partial))
    desk.grant()
    return desk, desk.payment.op_id


@pytest.mark.parametrize(("taken_minor", "counts_minor"), [(2_000, 4_000), (None, 0)])
def test_part_approved_counts_when_some_of_it_is_taken_back_before_the_answer(
    taken_minor: int | None, counts_minor: int
) -> None:
    desk, op_id = under_way(allow_partial=True)
    desk.notice(op_id, replace(GONE, confirmed_minor=taken_minor))
    desk.call(PART)
    assert desk.sums.captured == counts_minor
    assert desk.payment.review  # had the answer been lost, nobody would know how much was approved


def test_person_is_asked_when_a_part_that_is_not_allowed_is_taken_back_before_the_answer() -> None:
    desk, op_id = under_way(allow_partial=False)
    desk.notice(op_id, GONE)
    assert not desk.payment.review
    desk.call(PART)
    assert desk.sums.captured == 4_000
    assert desk.payment.review


def test_answer_that_says_what_was_assumed_changes_nothing_after_a_later_word() -> None:
    desk, op_id = under_way(allow_partial=True)
    desk.notice(op_id, GONE)
    told = desk.transitions
    desk.call(Said(reference="ch", confirmed_minor=10_000))
    assert (desk.sums.captured, desk.transitions) == (8_000, told)


def refunding() -> tuple[Desk, OpId]:
    """A paid order whose refund of 5,000 is under way, under no name of the gateway's yet."""
    desk = Desk()
    desk.do(sale(), Said(reference="ch"))
    desk.send(refund(desk.payment.payment_id, 5_000))
    desk.grant()
    assert desk.row is not None
    return desk, desk.row.operations[-1].op_id


def tell(desk: Desk, outcome: Outcome, amount_minor: int | None, *, reference: str = "re_desk", at_ms: int = 0) -> None:
    said = Said(outcome=outcome, reference=reference, confirmed_minor=amount_minor)
    fields = {"occurred_at_ms": desk.now_ms + at_ms, "notice_id": f"{reference}-{outcome}-{amount_minor}"}
    desk.notice(None, said, kind=CallKind.REFUND, payment_reference="ch", **fields)


@pytest.mark.parametrize("reversed_first", [False, True])
def test_refund_of_the_gateways_desk_and_its_reversal_never_speak_for_our_refund(*, reversed_first: bool) -> None:
    desk, op_id = refunding()
    said = [(Outcome.SUCCEEDED, 3_000, 1), (Outcome.REVERSED, 700, 2)]
    for outcome, amount_minor, at_ms in reversed(said) if reversed_first else said:
        for _ in range(2):  # each comes twice
            tell(desk, outcome, amount_minor, at_ms=at_ms)
    assert desk.state(op_id) is OperationState.DISPATCHED
    desk.call(refusal(RetryAdvice.NEVER))
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert (desk.sums.refunded, desk.payment.unclaimed, desk.payment.review) == (2_300, (), False)


def test_refund_at_the_gateways_desk_that_is_taken_back_and_made_again_counts_when_it_is_clear_whose_it_is() -> None:
    desk, _ = refunding()
    for outcome, amount_minor, at_ms in (
        (Outcome.SUCCEEDED, 1_001, 1),
        (Outcome.REVERSED, 813, 2),
        (Outcome.SUCCEEDED, 1_001, 3),
    ):
        tell(desk, outcome, amount_minor, at_ms=at_ms)
    desk.call(refusal(RetryAdvice.NEVER))
    assert (desk.sums.refunded, desk.payment.unclaimed, desk.payment.review) == (1_001, (), False)


def voiding() -> tuple[Desk, OpId]:
    """A hold whose void is under way, at a gateway that has no id for a void but the payment's."""
    desk = Desk()
    desk.do(authorize(), Said(reference="pi"))
    desk.send(void(desk.payment.payment_id))
    desk.grant()
    assert desk.row is not None
    desk.notice(None, Said(reference="pi", confirmed_minor=None), kind=CallKind.VOID, payment_reference="pi")
    return desk, desk.row.operations[-1].op_id


def test_void_that_is_told_by_the_payments_own_id_before_its_answer_is_that_void() -> None:
    desk, op_id = voiding()
    assert (desk.state(op_id), desk.payment.review) == (OperationState.DISPATCHED, False)
    desk.call(Said(reference="pi"))
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert (desk.payment.unclaimed, desk.payment.review, len(desk.operations)) == ((), False, 2)


def test_void_at_the_gateways_desk_is_recorded_once_ours_was_refused() -> None:
    desk, op_id = voiding()
    desk.call(refusal(RetryAdvice.NEVER))
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert (desk.payment.unclaimed, desk.payment.review, len(desk.operations)) == ((), False, 3)
    recorded = desk.operations[-1]
    assert (recorded.kind, recorded.state, recorded.counted_minor) == (
        OperationKind.VOID,
        OperationState.SUCCEEDED,
        10_000,
    )


def test_same_refund_at_the_gateways_desk_never_speaks_for_ours_that_is_in_doubt() -> None:
    desk, op_id = refunding()
    desk.call(UNKNOWN)
    tell(desk, Outcome.SUCCEEDED, 5_000)  # "it hangs, I do it by hand"
    assert desk.state(op_id) is OperationState.UNKNOWN
    desk.fire(op_id)
    desk.call(Said(reference="re"))  # and ours was made, too
    assert (desk.sums.refunded, desk.payment.unclaimed) == (10_000, ())


def test_part_taken_back_of_our_refund_waits_until_its_answer_names_it() -> None:
    desk, op_id = refunding()
    tell(desk, Outcome.REVERSED, 700, reference="re")
    assert desk.state(op_id) is OperationState.DISPATCHED
    desk.call(Said(reference="re"))
    assert (desk.sums.refunded, desk.payment.unclaimed, desk.payment.review) == (4_300, (), False)


def test_person_is_asked_when_what_is_taken_back_turns_out_to_be_nobodys() -> None:
    desk, _ = refunding()
    tell(desk, Outcome.REVERSED, 700)
    assert not desk.payment.review
    desk.call(Said(reference="re"))
    assert (desk.sums.refunded, desk.payment.unclaimed, desk.payment.review) == (5_000, (), True)


def test_person_is_asked_when_there_is_no_room_for_a_word_that_nobody_can_tell_whose_it_is() -> None:
    desk, _ = refunding()
    for number in range(MAX_UNCLAIMED):
        tell(desk, Outcome.REVERSED, number + 1)
    assert not desk.payment.review
    tell(desk, Outcome.REVERSED, 900)
    assert (len(desk.payment.unclaimed), desk.payment.review) == (MAX_UNCLAIMED, True)


def test_person_is_asked_when_other_money_is_taken_back_while_nobody_can_tell_whose() -> None:
    desk, _ = refunding()
    said = Said(outcome=Outcome.REVERSED, reference="re", confirmed_minor=1, confirmed_currency="JPY")
    desk.notice(None, said, kind=CallKind.REFUND, payment_reference="ch")
    assert (desk.payment.unclaimed, desk.payment.review) == ((), True)


@pytest.mark.parametrize("outcome", [Outcome.REVERSED, Outcome.DISPUTE_OPENED, Outcome.DISPUTE_LOST])
def test_sums_follow_the_gateway_in_any_order_of_its_words_after_a_person_held_it_for_not_executed(
    outcome: Outcome,
) -> None:
    told: list[tuple[int, int, bool]] = []
    for backwards in (False, True):
        desk = Desk()
        op_id = desk.do(authorize(), UNKNOWN)
        assert desk.decide(op_id, Verdict.NOT_EXECUTED, None) is None
        desk.now_ms += 10
        said = [
            (Said(reference="auth", confirmed_minor=10_000), 1),
            (replace(GONE, outcome=outcome, reference="auth"), 2),
        ]
        for word, at_ms in reversed(said) if backwards else said:
            desk.notice(op_id, word, occurred_at_ms=desk.now_ms + at_ms, case_reference="case")
        told.append((desk.sums.authorized, desk.view.disputed_minor, desk.payment.review))
        assert desk.state(op_id) is OperationState.SUCCEEDED
    forwards, backwards_told = told
    assert forwards[:2] == backwards_told[:2]
    assert backwards_told[2]
