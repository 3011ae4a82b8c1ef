"""What gateways say after a success: the sums follow from all their words, in the order of the gateway's own times."""

from dataclasses import replace

import pytest

from schemas.identifiers import OpId
from schemas.vocabulary import (
    CallKind,
    Initiator,
    OperationKind,
    OperationState,
    Outcome,
    Overlay,
    PaymentStatus,
    RetryAdvice,
)
from streams.domain.limits import MAX_CASE_CHARS, MAX_EVENTS, MAX_UNCLAIMED, MAX_WORDS
from streams.domain.room import kept_chars
from tests.support.exhibits import Sums
from tests.support.order_desk import (
    DECLINE,
    PENDING,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    error,
    plan,
    refund,
    refusal,
    sale,
    void,
)

FAILED_LATE = Said(outcome=Outcome.REVERSED, error=error(RetryAdvice.NEVER, code="failed_late"))


def said(outcome: Outcome, minor: int | None = None) -> Said:
    return Said(outcome=outcome, confirmed_minor=minor, confirmed_currency="USD")


def sold(amount: int = 10_000) -> tuple[Desk, OpId]:
    desk = Desk()
    return desk, desk.do(sale(amount))


def captured_fully() -> tuple[Desk, OpId]:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    return desk, desk.do(capture(desk.payment.payment_id, 10_000), Said(reference="cap1"))


def tell(
    desk: Desk, op_id: OpId, outcome: Outcome, minor: int | None = None, *, case: str | None = None, at: int
) -> None:
    """A notice about this operation, by its own reference and dated by the gateway."""
    reference = desk.operation(op_id).gateway_reference
    desk.notice(op_id, replace(said(outcome, minor), reference=reference), case_reference=case, occurred_at_ms=at)


# What is taken back


def test_partial_reversal_takes_back_only_its_amount() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.REVERSED, 3_000, case="cb_1", at=5_000)
    assert (desk.sums.captured, desk.view.status, desk.state(op_id)) == (7_000, "captured", OperationState.SUCCEEDED)
    assert desk.transitions[-1] == "reversed"
    assert desk.events[-1].event.operation.counted_minor == 7_000


def test_order_cannot_be_paid_again_after_a_partial_reversal() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.REVERSED, 3_000, case="cb_1", at=5_000)
    assert desk.state(desk.do(sale(key="again"))) is OperationState.REJECTED


def test_rest_can_be_refunded_after_a_partial_reversal_and_no_more() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.REVERSED, 3_000, case="cb_1", at=5_000)
    payment = desk.payment.payment_id
    assert desk.state(desk.do(refund(payment, 5_000, key="1"))) is OperationState.SUCCEEDED
    assert desk.state(desk.do(refund(payment, 2_001, key="2"))) is OperationState.REJECTED


def test_several_reversals_count_once_a_case() -> None:
    desk, op_id = sold()
    for _ in range(2):
        tell(desk, op_id, Outcome.REVERSED, 3_000, case="cb_1", at=5_000)
        tell(desk, op_id, Outcome.REVERSED, 2_000, case="cb_2", at=6_000)
        tell(desk, op_id, Outcome.REVERSED, 3_000, case="cb_1", at=7_000)
    assert desk.sums.captured == 5_000
    assert desk.transitions.count("reversed") == 2


def test_case_of_any_length_counts_once_a_case() -> None:
    desk, op_id = sold()
    for case in ("c" * 300, "d" * 300, "c" * 300, "folded"):
        tell(desk, op_id, Outcome.REVERSED, 1_000, case=case, at=5_000)
    assert desk.sums.captured == 7_000
    assert max(len(each.case or "") for each in desk.operation(op_id).words) <= MAX_CASE_CHARS


def test_partial_reversals_without_a_case_count_once_a_notice() -> None:
    desk, op_id = sold()
    for notice_id in ("n1", "n2", "n1"):
        desk.notice(op_id, said(Outcome.REVERSED, 1_000), notice_id=notice_id, occurred_at_ms=5_000)
    assert desk.sums.captured == 8_000


def test_final_capture_that_fails_late_can_be_made_again() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    op_id = desk.do(capture(payment, 6_000, final=True), Said(reference="cap1"))
    assert desk.view.status == "captured"
    desk.notice(op_id, replace(FAILED_LATE, reference="cap1"))
    assert desk.view.status == "authorized"
    again = desk.do(capture(payment, 6_000, key="again", final=True), Said(reference="cap2"))
    assert (desk.state(again), desk.sums.captured) == (OperationState.SUCCEEDED, 6_000)


def test_charged_back_sale_that_was_refunded_in_part_is_refunded_and_reviewed() -> None:
    desk, op_id = sold()
    desk.do(refund(desk.payment.payment_id, 4_000), Said(reference="r1"))
    tell(desk, op_id, Outcome.REVERSED, at=5_000)
    assert (desk.view.status, desk.view.overlays) == (PaymentStatus.REFUNDED, (Overlay.REVIEW,))


# What is restored


def test_recaptured_capture_counts_again() -> None:
    desk, op_id = captured_fully()
    tell(desk, op_id, Outcome.REVERSED, at=5_000)
    assert desk.sums.captured == 0
    tell(desk, op_id, Outcome.SUCCEEDED, 10_000, at=6_000)
    assert (desk.sums.captured, desk.state(op_id), desk.payment.review) == (10_000, OperationState.SUCCEEDED, False)
    assert desk.events[-1].type == "payments.capture.restored.v1"
    assert desk.state(desk.do(refund(desk.payment.payment_id))) is OperationState.SUCCEEDED


@pytest.mark.parametrize("late", [5_000, 5_500])
def test_late_word_changes_nothing_that_a_later_one_has_settled(late: int) -> None:
    desk, op_id = captured_fully()
    tell(desk, op_id, Outcome.SUCCEEDED, 10_000, at=6_000)
    tell(desk, op_id, Outcome.REVERSED, at=late)
    assert (desk.sums.captured, desk.transitions.count("reversed")) == (10_000, 0)


def test_recapture_asks_for_a_person_when_the_merchant_captured_again() -> None:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    first = desk.do(capture(desk.payment.payment_id, 4_000), Said(reference="cap1"))
    tell(desk, first, Outcome.REVERSED, at=5_000)
    desk.now_ms += 10
    desk.do(capture(desk.payment.payment_id, 4_000, key="2"), Said(reference="cap2"))
    assert not desk.payment.review
    tell(desk, first, Outcome.SUCCEEDED, 4_000, at=6_000)
    assert (desk.sums.captured, desk.payment.review) == (8_000, True)


def test_sale_that_stands_again_asks_for_a_person_when_the_payer_paid_again() -> None:
    desk, first = sold()
    tell(desk, first, Outcome.REVERSED, at=5_000)
    desk.now_ms += 10
    second = desk.do(sale(key="again"), Said(reference="s2"))
    assert desk.state(second) is OperationState.SUCCEEDED
    tell(desk, first, Outcome.SUCCEEDED, 10_000, at=6_000)
    assert [each.review for each in desk.row.payments] == [True, False]  # type: ignore[union-attr]  # it has a row
    assert desk.transitions[-1] == "restored"


def test_pending_capture_hears_success_reversal_and_success_again() -> None:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    op_id = desk.do(capture(desk.payment.payment_id, 10_000), Said(outcome=Outcome.PENDING, reference="cap1"))
    for at, outcome in enumerate((Outcome.SUCCEEDED, Outcome.REVERSED, Outcome.SUCCEEDED), start=5_000):
        tell(desk, op_id, outcome, 10_000, at=at)
    assert desk.sums.captured == 10_000


# Disputes


def test_dispute_is_shown_while_it_is_open_and_changes_no_sum() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.DISPUTE_OPENED, 4_000, case="dp_1", at=5_000)
    assert (desk.view.overlays, desk.view.disputed_minor, desk.sums.captured) == ((Overlay.DISPUTED,), 4_000, 10_000)
    assert desk.events[-1].type == "payments.dispute.opened.v1"
    tell(desk, op_id, Outcome.DISPUTE_WON, 4_000, case="dp_1", at=6_000)
    assert (desk.view.overlays, desk.events[-1].type) == ((), "payments.dispute.won.v1")


def test_lost_dispute_takes_its_amount_once_though_a_reversal_of_its_case_came_first() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.DISPUTE_OPENED, 4_000, case="dp_1", at=5_000)
    tell(desk, op_id, Outcome.REVERSED, 4_000, case="dp_1", at=5_100)
    tell(desk, op_id, Outcome.DISPUTE_LOST, 4_000, case="dp_1", at=6_000)
    assert (desk.sums.captured, desk.view.overlays) == (6_000, ())
    assert desk.events[-1].type == "payments.dispute.lost.v1"


def test_won_dispute_gives_back_what_was_taken_under_its_case_alone() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.REVERSED, 4_000, case="dp_1", at=5_000)
    tell(desk, op_id, Outcome.REVERSED, 1_000, case="cb_2", at=5_100)
    tell(desk, op_id, Outcome.DISPUTE_WON, case="dp_1", at=6_000)
    assert desk.sums.captured == 9_000


def test_dispute_that_names_the_payment_is_about_its_largest_capture() -> None:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    small = desk.do(capture(desk.payment.payment_id, 1_000, key="1"), Said(reference="c1"))
    large = desk.do(capture(desk.payment.payment_id, 5_000, key="2"), Said(reference="c2"))
    for outcome, at in ((Outcome.DISPUTE_OPENED, 5_000), (Outcome.DISPUTE_LOST, 6_000)):
        desk.notice(None, replace(said(outcome, 2_000), reference="auth"), case_reference="dp_1", occurred_at_ms=at)
    assert (desk.operation(small).counted_minor, desk.operation(large).counted_minor) == (1_000, 3_000)
    desk.notice(None, replace(said(Outcome.DISPUTE_WON), reference="auth"), case_reference="dp_1", occurred_at_ms=7_000)
    assert desk.sums.captured == 6_000


@pytest.mark.parametrize("final", [False, True])
def test_money_that_a_dispute_took_is_the_captures_also_when_that_is_told_before_the_dispute(final: bool) -> None:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    taken = desk.do(capture(desk.payment.payment_id, 10_000, final=final), Said(reference="c1"))
    for outcome, at in ((Outcome.REVERSED, 5_000), (Outcome.DISPUTE_OPENED, 5_000), (Outcome.DISPUTE_LOST, 6_000)):
        told = replace(said(outcome, 10_000), reference="auth")
        desk.notice(None, told, kind=None, case_reference="du_1", occurred_at_ms=at)
        assert (desk.operation(taken).counted_minor, desk.sums.captured) == (0, 0)


def test_dispute_opened_late_is_not_told_when_it_was_won_already() -> None:
    desk, op_id = sold()
    tell(desk, op_id, Outcome.DISPUTE_WON, 4_000, case="dp_1", at=6_000)
    tell(desk, op_id, Outcome.DISPUTE_OPENED, 4_000, case="dp_1", at=5_000)
    assert (desk.transitions[-1], desk.view.overlays) == ("dispute_won", ())


def test_dispute_of_what_was_declined_asks_for_a_person() -> None:
    desk = Desk()
    op_id = desk.do(sale(), DECLINE)
    desk.notice(op_id, said(Outcome.DISPUTE_OPENED, 10), case_reference="dp_1")
    assert (desk.payment.review, desk.transitions[-1]) == (True, "reviewed")


def test_word_after_a_success_that_was_not_known_yet_tells_both() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNKNOWN)
    desk.notice(op_id, said(Outcome.DISPUTE_OPENED, 4_000), case_reference="dp_1")
    assert desk.transitions[-2:] == ["succeeded", "disputed"]
    assert (desk.sums.captured, desk.view.overlays) == (10_000, (Overlay.DISPUTED,))


def test_expiry_means_nothing_for_what_holds_nothing() -> None:
    desk, op_id = sold()
    before = desk.row
    tell(desk, op_id, Outcome.EXPIRED, at=5_000)
    assert desk.row is before


# The gateway's own desk


def told_of(desk: Desk, kind: CallKind, reference: str, minor: int | None, *, at: int = 5_000) -> None:
    notice = Said(reference=reference, confirmed_minor=minor, confirmed_currency="USD")
    desk.notice(None, notice, kind=kind, payment_reference="ref", occurred_at_ms=at)


def test_refund_made_at_the_gateways_desk_is_recorded_once_and_counts() -> None:
    desk, _ = sold()
    for _ in range(2):
        told_of(desk, CallKind.REFUND, "re_desk", 4_000)
    assert (desk.sums, desk.view.status) == (
        Sums(authorized=10_000, captured=10_000, refunded=4_000),
        "partially_refunded",
    )
    (event,) = [each for each in desk.events if each.type == "payments.refund.recorded.v1"]
    assert (event.event.operation.initiator, event.event.operation.amount_minor) == (Initiator.GATEWAY, 4_000)
    assert desk.state(desk.do(refund(desk.payment.payment_id, 6_001))) is OperationState.REJECTED


def test_capture_and_void_at_the_gateways_desk_are_recorded() -> None:
    desk = Desk()
    desk.do(authorize())
    told_of(desk, CallKind.CAPTURE, "cap_desk", 3_000)
    assert (desk.sums.captured, desk.view.status) == (3_000, "partially_captured")
    told_of(desk, CallKind.VOID, "void_desk", None)
    assert (desk.view.status, desk.view.released_minor) == ("captured", 7_000)


def test_refund_at_the_desk_without_an_amount_is_all_that_is_left() -> None:
    desk, _ = sold()
    desk.do(refund(desk.payment.payment_id, 4_000), Said(reference="r1"))
    told_of(desk, CallKind.REFUND, "re_desk", None)
    assert desk.sums.refunded == 10_000
    told_of(desk, CallKind.REFUND, "re_more", None)
    assert desk.payment.review, "nothing is left that it could mean"


def test_refund_at_the_desk_of_more_than_was_captured_asks_for_a_person() -> None:
    desk, _ = sold()
    told_of(desk, CallKind.REFUND, "re_desk", 10_001)
    assert (desk.sums.refunded, desk.payment.review) == (10_001, True)


def test_refund_at_the_desk_in_another_currency_asks_for_a_person_and_is_not_counted() -> None:
    desk, _ = sold()
    notice = Said(reference="re_desk", confirmed_minor=5, confirmed_currency="JPY")
    desk.notice(None, notice, kind=CallKind.REFUND, payment_reference="ref")
    assert (desk.sums.refunded, desk.payment.review) == (0, True)


def two_open_refunds() -> tuple[Desk, OpId, OpId]:
    desk, _ = sold()
    nameless = Said(outcome=Outcome.PENDING, reference=None)
    one, two = (desk.do(refund(desk.payment.payment_id, 1_000, key=key), nameless) for key in ("1", "2"))
    return desk, one, two


def test_notice_waits_while_nobody_can_tell_whose_it_is_and_is_dropped_when_it_was_ours() -> None:
    desk, one, two = two_open_refunds()
    told_of(desk, CallKind.REFUND, "re_1", 1_000)
    told_of(desk, CallKind.REFUND, "re_1", 1_000)
    assert (desk.sums.refunded, len(desk.payment.unclaimed)) == (0, 1)
    desk.notice(one, Said(reference="re_1"))
    desk.notice(two, Said(reference="re_2"))
    assert (desk.sums.refunded, desk.payment.unclaimed) == (2_000, ())
    assert "recorded" not in desk.transitions


def test_notice_that_waited_is_recorded_when_no_operation_turns_out_to_be_it() -> None:
    desk, one, two = two_open_refunds()
    told_of(desk, CallKind.REFUND, "re_desk", 1_000)
    for op_id in (one, two):
        desk.notice(op_id, Said(reference=f"re_{op_id}"))
    assert (desk.sums.refunded, desk.transitions[-1]) == (3_000, "recorded")


def test_notice_that_waited_asks_for_a_person_when_one_of_ours_never_had_a_name() -> None:
    desk, one, two = two_open_refunds()
    told_of(desk, CallKind.REFUND, "re_x", 1_000)
    desk.notice(one, Said(reference=None))
    desk.notice(two, Said(reference="re_2"))
    assert (desk.sums.refunded, desk.payment.review) == (2_000, True)


def test_too_many_notices_that_nobody_can_place_ask_for_a_person() -> None:
    desk, _, _ = two_open_refunds()
    for number in range(MAX_UNCLAIMED + 1):
        told_of(desk, CallKind.REFUND, f"re_{number}", 10)
    assert (len(desk.payment.unclaimed), desk.payment.review) == (MAX_UNCLAIMED, True)


def test_reversal_of_a_refund_made_at_the_desk_gives_its_amount_back() -> None:
    desk, _ = sold()
    told_of(desk, CallKind.REFUND, "re_desk", 4_000)
    notice = replace(said(Outcome.REVERSED), reference="re_desk")
    desk.notice(None, notice, kind=CallKind.REFUND, payment_reference="ref", occurred_at_ms=6_000)
    assert (desk.sums.refunded, desk.view.status) == (0, "captured")


# Parts that were approved


@pytest.mark.parametrize(("make", "kind"), [(sale, OperationKind.REFUND), (authorize, OperationKind.VOID)])
def test_part_that_was_approved_is_let_go_and_the_payment_is_declined(make: object, kind: OperationKind) -> None:
    desk = Desk()
    op_id = desk.do(make(10_000), Said(confirmed_minor=6_000))  # type: ignore[operator]  # one of two functions
    assert desk.state(op_id) is OperationState.DECLINED
    assert desk.operation(op_id).error.code == "partially_approved"  # type: ignore[union-attr]  # it has one
    letting_go = desk.row.operations[-1]  # type: ignore[union-attr]  # it has a row
    assert (letting_go.kind, letting_go.initiator) == (kind, Initiator.ENGINE)
    assert (letting_go.state, letting_go.amount_minor) == (OperationState.SUCCEEDED, 6_000)
    assert (desk.view.status, desk.sums, desk.payment.review) == ("failed", Sums(), False)
    assert desk.state(desk.do(sale(key="again"))) is OperationState.SUCCEEDED


def test_notice_of_the_part_that_was_let_go_is_no_contradiction() -> None:
    desk = Desk()
    op_id = desk.do(authorize(), Said(confirmed_minor=6_000))
    said_before = len(desk.said)
    desk.notice(op_id, Said(confirmed_minor=6_000))
    assert (len(desk.said), desk.payment.review) == (said_before, False)


def test_part_that_cannot_be_let_go_asks_for_a_person() -> None:
    desk = Desk()
    desk.do(authorize(), Said(confirmed_minor=6_000), refusal(RetryAdvice.NEVER))
    assert desk.payment.review
    assert desk.state(desk.do(sale(key="again"))) is OperationState.REJECTED


def test_operations_that_wait_go_on_after_the_part_was_let_go() -> None:
    desk = Desk()
    desk.script.append(Said(confirmed_minor=6_000))
    desk.send(authorize())
    second = desk.send(sale(key="again"))
    desk.settle()
    assert desk.state(second) is OperationState.SUCCEEDED
    assert [each.kind.value for each in desk.row.operations] == ["authorize", "sale", "void"]  # type: ignore[union-attr]


# Earlier attempts


def test_late_success_of_an_earlier_attempt_known_by_reference_only_asks_for_a_person() -> None:
    desk = Desk(plan=plan("mock", "other"))
    desk.send(sale())
    desk.grant()
    first = Said(outcome=Outcome.NOT_EXECUTED, error=error(RetryAdvice.OTHER_GATEWAY), reference="pi_first")
    desk.call(first)
    desk.call(Said(reference="psp_second"))
    desk.notice(None, Said(reference="pi_first", confirmed_minor=10_000), kind=CallKind.SALE)
    assert (desk.transitions[-1], desk.payment.review, desk.sums.captured) == ("reviewed", True, 10_000)


def test_decline_that_may_be_of_the_first_attempt_does_not_end_the_second() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    desk.call(refusal(RetryAdvice.NEW_KEY_LATER))
    desk.fire(op_id)
    desk.notice(op_id, replace(DECLINE, reference="pi_1"))
    assert desk.state(op_id) is OperationState.DISPATCHED
    desk.call(Said(reference="pi_2"))
    assert (desk.state(op_id), desk.payment.review) == (OperationState.SUCCEEDED, False)


# Limits


def test_words_beyond_the_limit_are_folded_and_old_ones_are_not_heard_again() -> None:
    desk, op_id = sold()
    for number in range(MAX_WORDS + 5):
        tell(desk, op_id, Outcome.REVERSED, 10, case=f"cb_{number}", at=5_000 + number)
    taken = 10 * (MAX_WORDS + 5)
    assert desk.sums.captured == 10_000 - taken
    assert len(desk.operation(op_id).words) <= MAX_WORDS
    tell(desk, op_id, Outcome.REVERSED, 10, case="cb_0", at=5_000)
    assert desk.sums.captured == 10_000 - taken


def test_facts_beyond_the_limit_ask_for_a_person_and_the_sums_stay_right() -> None:
    desk, op_id = sold()
    for number in range(MAX_EVENTS + 4):
        tell(desk, op_id, Outcome.REVERSED, 10, case=f"cb_{number}", at=5_000 + number)
    assert desk.sums.captured == 10_000 - 10 * (MAX_EVENTS + 4)
    assert (desk.payment.review, len(desk.operation(op_id).events)) == (True, MAX_EVENTS + 1)


def test_pending_notice_means_nothing_once_it_succeeded() -> None:
    desk, op_id = sold()
    before = desk.row
    desk.notice(op_id, PENDING)
    assert desk.row is before


def test_void_at_the_desk_of_what_is_voided_is_not_counted() -> None:
    desk = Desk()
    desk.do(authorize())
    desk.do(void(desk.payment.payment_id), Said(reference="v1"))
    told_of(desk, CallKind.VOID, "v1", None)
    assert (desk.view.status, desk.payment.review) == ("voided", False)


def test_older_success_that_comes_late_does_not_restore_what_an_inquiry_found_taken_back() -> None:
    """The inquiry's answer names no time: it tells how things stand when it was read."""
    desk = Desk()
    desk.now_ms = 50_000
    op_id = desk.do(sale(), UNKNOWN)
    desk.fire(op_id)
    desk.call(Said(outcome=Outcome.REVERSED))
    assert desk.sums.captured == 0
    tell(desk, op_id, Outcome.SUCCEEDED, 10_000, at=49_000)
    assert (desk.sums.captured, "restored" in desk.transitions) == (0, False)
    tell(desk, op_id, Outcome.SUCCEEDED, 10_000, at=desk.now_ms + 60_000)
    assert desk.sums.captured == 10_000


def test_reversal_that_names_the_hold_is_the_holds_however_often_it_is_told_and_whatever_was_captured() -> None:
    desk = Desk()
    op_id = desk.do(authorize(), Said(reference="auth"))
    desk.do(capture(desk.payment.payment_id, 10_000), Said(reference="cap1"))
    for kind in (CallKind.AUTHORIZE, CallKind.AUTHORIZE, None):
        notice = Said(outcome=Outcome.REVERSED, reference="auth", confirmed_minor=10_000)
        desk.notice(op_id, notice, kind=kind, case_reference="r1", occurred_at_ms=5_000)
    assert desk.sums == Sums(authorized=0, captured=10_000)


def test_order_with_folded_words_has_no_more_room_than_before() -> None:
    desk, op_id = sold()
    for number in range(MAX_WORDS + 5):
        before = kept_chars(desk.operation(op_id))
        tell(desk, op_id, Outcome.REVERSED, 10, case=f"cb_{number}", at=5_000 + number)
        assert kept_chars(desk.operation(op_id)) >= before
