"""In doubt: inquiries and their schedule, the new operation that has to wait, late failures and notices."""

from dataclasses import replace

import pytest

from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, OperationState, Outcome, Overlay, Rejection, RetryAdvice, TimerKind
from streams.domain.errors import InvariantViolatedError
from streams.domain.limits import DEFAULT_RULES, LATE_CALL_MS, MAX_EVENTS, RECONCILE_AFTER_MS, Rules
from streams.domain.outcomes import AUTHORIZATION_EXPIRED
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    MOCK,
    NOT_FOUND,
    ORDER,
    OTHER,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    completed,
    error,
    plan,
    refund,
    refusal,
    sale,
    void,
)

RESEND_ADVISED = Said(outcome=Outcome.UNKNOWN, error=error(RetryAdvice.SAME_KEY_NOW), reference=None)
DAY_MS = 86_400_000
WINDOWS = Rules(
    order_life_ms=DEFAULT_RULES.order_life_ms,
    claim_life_ms=DEFAULT_RULES.claim_life_ms,
    key_windows_ms={MOCK: {CallKind.SALE: DAY_MS, CallKind.REFUND: None}},
)
REVERSED = Said(outcome=Outcome.REVERSED)


def doubtful() -> tuple[Desk, str]:
    desk = Desk(plan=plan("mock", "other"))
    return desk, desk.do(sale(), UNKNOWN)


def looked(desk: Desk, op_id: object, answer: Said) -> GatewayCallRequested:
    """Let the timer fire and the look be answered; return what was asked."""
    desk.fire(op_id)  # type: ignore[arg-type]  # an operation id as text
    request = desk.requests[0]
    desk.call(answer)
    return request


def state(desk: Desk, op_id: str) -> OperationState:
    return desk.state(op_id)  # type: ignore[arg-type]  # an operation id as text


def test_operation_is_in_doubt_and_answered_when_the_outcome_is_unknown() -> None:
    desk, op_id = doubtful()
    assert state(desk, op_id) is OperationState.UNKNOWN
    assert desk.transitions == ["accepted", "doubted"]
    assert desk.view.overlays == (Overlay.IN_DOUBT,)
    assert desk.replies[-1].final
    assert len(desk.requests) == 0


def test_operation_in_doubt_is_inquired_about_and_never_fails_over() -> None:
    desk, op_id = doubtful()
    request = looked(desk, op_id, SUCCESS)
    assert (request.kind, request.inquired_kind, request.gateway) == (CallKind.INQUIRE, CallKind.SALE, MOCK)
    assert (request.token, request.attempt, request.call_number) == (None, 1, 2)
    assert request.gateway_key.endswith("-1")
    assert state(desk, op_id) is OperationState.SUCCEEDED
    assert len(desk.replies) == 2


def test_operation_fails_without_another_attempt_when_the_inquiry_finds_nothing_late_enough() -> None:
    desk, op_id = doubtful()
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    assert desk.transitions[-1] == "failed"
    assert desk.view.status == "failed"
    assert len(desk.requests) == 0


def test_doubt_stays_when_an_inquiry_finds_nothing_while_the_call_may_still_be_on_its_way() -> None:
    desk, op_id = doubtful()
    for _ in range(4):  # after 5 s, 35 s, 2 min 35 s, 12 min 35 s: all within LATE_CALL_MS
        assert looked(desk, op_id, NOT_FOUND).kind is CallKind.INQUIRE
        assert state(desk, op_id) is OperationState.UNKNOWN
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    assert desk.transitions == ["accepted", "doubted", "failed"]


def test_call_is_made_again_with_its_key_at_once_when_the_inquiry_finds_nothing_inside_the_window() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.UNKNOWN
    again = desk.requests[0]
    assert (again.kind, again.token, again.attempt, again.call_number) == (CallKind.SALE, "tok_1", 1, 3)
    assert again.gateway_key.endswith("-1")
    desk.call(SUCCESS)
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert desk.transitions == ["accepted", "doubted", "succeeded"]


def test_lateness_counts_from_the_answer_to_the_last_sending() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    desk.now_ms += DAY_MS - 2 * 60_000  # the window is about to close
    looked(desk, op_id, NOT_FOUND)
    desk.now_ms += 120_000
    desk.call(RESEND_ADVISED)  # sent again, and held once more
    assert looked(desk, op_id, NOT_FOUND).kind is CallKind.INQUIRE
    assert desk.state(op_id) is OperationState.UNKNOWN
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


def test_absence_is_no_proof_of_an_attempt_that_was_learnt_of_elsewhere() -> None:
    """This owner does not know when it was sent: it counts as sent when it was heard of."""
    desk = Desk(now_ms=DAY_MS)
    op_id = desk.send(sale())
    desk.grant()
    ahead = replace(desk.requests.popleft(), kind=CallKind.INQUIRE, attempt=2, call_number=3)
    desk.result(completed(ahead, UNKNOWN, now_ms=desk.now_ms))
    assert desk.state(op_id) is OperationState.UNKNOWN
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.UNKNOWN


def test_pending_operation_is_never_sent_again_when_an_inquiry_finds_nothing() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), PENDING)
    looked(desk, op_id, NOT_FOUND)
    assert (desk.state(op_id), len(desk.requests)) == (OperationState.PENDING, 0)
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


def test_new_operation_waits_for_the_call_made_again_when_the_inquiry_finds_nothing() -> None:
    desk = Desk(rules=WINDOWS)
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 4_000, key="1"), RESEND_ADVISED)
    second = desk.send(refund(payment, 5_000, key="2"))
    desk.grant()
    desk.call(NOT_FOUND)
    assert (desk.requests[0].op_id, desk.requests[0].kind) == (first, CallKind.REFUND)
    assert desk.operation(second).attempt == 0
    desk.settle()
    assert (desk.state(first), desk.state(second)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
    assert desk.payment.refunded_minor == 9_000


def test_review_ends_when_an_extra_inquiry_finds_nothing() -> None:
    desk, op_id = doubtful()
    for _ in RECONCILE_AFTER_MS:
        looked(desk, op_id, UNKNOWN)
    desk.do(refund(desk.payment.payment_id, 1), NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED


def test_looks_follow_the_schedule_and_a_person_decides_when_the_doubt_stays() -> None:
    desk, op_id = doubtful()
    pauses = []
    for _ in RECONCILE_AFTER_MS:
        timer = desk.timers[op_id]  # type: ignore[index]  # an operation id as text
        assert timer.kind is TimerKind.RECONCILE
        pauses.append(timer.due_at_ms - desk.now_ms)
        looked(desk, op_id, UNKNOWN)
    assert tuple(pauses) == RECONCILE_AFTER_MS
    assert state(desk, op_id) is OperationState.MANUAL_REVIEW
    assert desk.transitions == ["accepted", "doubted", "reviewed"]
    assert desk.view.overlays == (Overlay.IN_DOUBT, Overlay.REVIEW)
    assert desk.timers == {}
    desk.notice(op_id, DECLINE)  # type: ignore[arg-type]  # an operation id as text
    assert state(desk, op_id) is OperationState.DECLINED


def test_schedule_is_five_daily_looks_after_the_seven_growing_ones() -> None:
    assert [each // 1_000 for each in RECONCILE_AFTER_MS] == [5, 30, 120, 600, 3_600, 21_600, 86_400] + [86_400] * 5


def test_pending_operation_is_looked_at_too_and_ends_in_review_when_nothing_comes() -> None:
    desk = Desk()
    op_id = desk.do(sale(), PENDING)
    for index in range(len(RECONCILE_AFTER_MS)):
        looked(desk, op_id, UNKNOWN if index % 2 else PENDING)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW
    assert desk.transitions == ["accepted", "pended", "reviewed"]


def looked_twice(desk: Desk, op_id: object) -> None:
    """Two scheduled looks prove nothing, so that the call is made again if it can be."""
    for _ in range(2):
        assert looked(desk, op_id, RESEND_ADVISED).kind is CallKind.INQUIRE


def test_call_is_sent_again_with_its_key_when_the_second_inquiry_proves_nothing_inside_the_window() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    assert desk.operation(op_id).token == "tok_1"
    assert looked(desk, op_id, RESEND_ADVISED).kind is CallKind.INQUIRE
    assert len(desk.requests) == 0
    assert looked(desk, op_id, RESEND_ADVISED).kind is CallKind.INQUIRE
    again = desk.requests[0]
    assert (again.kind, again.token, again.call_number) == (CallKind.SALE, "tok_1", 4)
    assert again.gateway_key.endswith("-1")
    desk.call(SUCCESS)
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert desk.operation(op_id).token is None


def test_each_look_is_an_inquiry_though_the_call_is_made_again_too() -> None:
    """A gateway that fails each time it is asked to do it again may still tell that it has done it."""
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    looked_twice(desk, op_id)
    desk.call(RESEND_ADVISED)
    assert looked(desk, op_id, SUCCESS).kind is CallKind.INQUIRE
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_refusal_of_a_second_sending_proves_nothing_when_the_first_is_in_doubt() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    looked_twice(desk, op_id)
    desk.call(refusal(RetryAdvice.OTHER_GATEWAY))
    assert desk.state(op_id) is OperationState.UNKNOWN
    assert op_id in desk.timers


def test_only_inquiries_are_made_when_the_window_is_over() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    desk.now_ms += DAY_MS
    looked_twice(desk, op_id)
    assert len(desk.requests) == 0
    assert desk.operation(op_id).token is None


def test_only_inquiries_are_made_when_the_gateway_does_not_advise_its_key() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), UNKNOWN)
    for _ in range(3):
        assert looked(desk, op_id, Said(outcome=Outcome.UNKNOWN, reference=None)).kind is CallKind.INQUIRE
    assert len(desk.requests) == 0


REFUSED_FOR_GOOD = refusal(RetryAdvice.NEVER)


def in_doubt_and_refused_again(answer: Said, *, late_call_ms: int = LATE_CALL_MS) -> tuple[Desk, str]:
    """A refund whose key holds, of which the gateway knows nothing, and which it refuses each time it comes again."""
    desk = Desk(plan=plan("mock"), rules=replace(WINDOWS, late_call_ms=late_call_ms))
    desk.do(sale())
    op_id = desk.do(refund(desk.payment.payment_id), UNKNOWN)
    for _ in range(4):  # up to ten minutes after the call
        looked(desk, op_id, NOT_FOUND)
        desk.call(answer)
    assert state(desk, op_id) is OperationState.UNKNOWN
    return desk, op_id


def test_refusal_ends_the_doubt_when_no_copy_of_an_earlier_call_can_be_on_its_way() -> None:
    """A capture was taken back meanwhile, say: else it would be asked for days, and the payment be in doubt."""
    desk, op_id = in_doubt_and_refused_again(REFUSED_FOR_GOOD)
    looked(desk, op_id, NOT_FOUND)  # an hour later
    assert desk.requests[0].kind is CallKind.REFUND
    desk.call(REFUSED_FOR_GOOD)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    assert desk.timers == {}


def test_success_of_the_last_sending_counts_although_earlier_ones_were_refused() -> None:
    desk, op_id = in_doubt_and_refused_again(REFUSED_FOR_GOOD)
    looked(desk, op_id, NOT_FOUND)
    desk.call(SUCCESS)
    assert state(desk, op_id) is OperationState.SUCCEEDED


@pytest.mark.parametrize("last", [UNKNOWN, refusal(RetryAdvice.OTHER_GATEWAY)], ids=["unknown", "unreachable"])
def test_doubt_stays_when_the_last_sending_proves_nothing_or_may_succeed_later(last: Said) -> None:
    desk, op_id = in_doubt_and_refused_again(REFUSED_FOR_GOOD)
    looked(desk, op_id, NOT_FOUND)
    desk.call(last)
    assert state(desk, op_id) is OperationState.UNKNOWN


def test_doubt_stays_when_a_sending_before_the_refusal_may_still_be_on_its_way() -> None:
    desk, op_id = in_doubt_and_refused_again(REFUSED_FOR_GOOD, late_call_ms=2 * RECONCILE_AFTER_MS[4])
    looked(desk, op_id, NOT_FOUND)
    desk.call(REFUSED_FOR_GOOD)
    assert state(desk, op_id) is OperationState.UNKNOWN


def test_doubt_stays_when_the_sending_right_before_the_refusal_was_not_answered() -> None:
    desk, op_id = in_doubt_and_refused_again(REFUSED_FOR_GOOD)
    looked(desk, op_id, NOT_FOUND)
    desk.call(UNKNOWN)
    wish = desk.do(refund(desk.payment.payment_id, key="another"), NOT_FOUND, REFUSED_FOR_GOOD)  # it looks at once
    assert desk.state(wish) is OperationState.REJECTED
    assert state(desk, op_id) is OperationState.UNKNOWN


def test_refund_is_sent_again_without_a_token_when_its_key_holds_for_ever() -> None:
    desk = Desk(rules=WINDOWS)
    desk.do(sale())
    op_id = desk.do(refund(desk.payment.payment_id, 1), RESEND_ADVISED)
    looked_twice(desk, op_id)
    assert desk.requests[0].kind is CallKind.REFUND
    desk.call(SUCCESS)
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_new_operation_goes_ahead_when_the_inquiry_ends_the_doubt() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    first = desk.do(capture(payment, 4_000, key="1"), UNKNOWN)
    second = desk.send(capture(payment, 5_000, key="2"))
    desk.grant()
    assert desk.requests[0].kind is CallKind.INQUIRE
    assert desk.requests[0].op_id == first
    assert desk.replies_to("c3") == []
    desk.settle()
    assert (desk.state(first), desk.state(second)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
    assert desk.payment.captured_minor == 9_000
    assert desk.timers == {}


def test_new_operation_is_refused_when_the_doubt_stays() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    timer = desk.timers[first]
    second = desk.do(refund(payment, 2_000, key="2"), UNKNOWN)
    assert desk.operation(second).rejection is Rejection.PAYMENT_IN_DOUBT
    assert desk.timers == {first: timer}
    assert desk.operation(first).inquiries == 0
    assert desk.replies[-1].final
    again = desk.send(refund(payment, 2_000, key="2"))
    assert desk.replies[-1].operation is not None
    assert desk.replies[-1].operation.rejection is Rejection.PAYMENT_IN_DOUBT
    assert again == second


def test_new_operation_goes_ahead_when_a_notice_ends_the_doubt_first() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    second = desk.send(refund(payment, 2_000, key="2"))
    desk.grant()
    desk.notice(first, SUCCESS)
    assert desk.operation(second).attempt == 1
    desk.settle()
    assert desk.payment.refunded_minor == 3_000


def test_new_operation_waits_on_when_a_notice_is_about_another_one() -> None:
    desk = Desk()
    payment_op = desk.do(sale())
    payment = desk.payment.payment_id
    desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    second = desk.send(refund(payment, 2_000, key="2"))
    desk.grant()
    desk.notice(payment_op, SUCCESS)
    assert desk.operation(second).attempt == 0
    desk.settle()
    assert desk.payment.refunded_minor == 3_000


def test_scheduled_look_is_not_made_twice_when_another_operation_has_asked_already() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    desk.send(refund(payment, 2_000, key="2"))
    desk.grant()
    desk.fire(first)
    assert len(desk.requests) == 1
    desk.call(UNKNOWN)
    assert desk.operation(first).inquiries == 1
    assert desk.timers[first].number == 2


def test_look_that_is_under_way_will_do_when_another_operation_wants_to_know() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    desk.fire(first)
    second = desk.send(refund(payment, 2_000, key="2"))
    desk.grant()
    assert len(desk.requests) == 1
    desk.settle()
    assert desk.state(second) is OperationState.SUCCEEDED


def test_new_operation_waits_for_each_doubt_when_there_are_two() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), PENDING)
    second = desk.do(refund(payment, 2_000, key="2"), UNKNOWN)
    for _ in RECONCILE_AFTER_MS:
        looked(desk, first, UNKNOWN)
    assert desk.state(first) is OperationState.MANUAL_REVIEW
    third = desk.send(refund(payment, 3_000, key="3"))
    desk.grant()
    assert desk.operation(third).doubted_op_id == first
    desk.call()
    assert desk.operation(third).doubted_op_id == second
    desk.settle()
    assert desk.payment.refunded_minor == 6_000


def test_second_payment_waits_for_the_inquiry_when_the_first_is_in_doubt() -> None:
    desk, _ = doubtful()
    desk.plan = plan("mock")
    desk.now_ms += LATE_CALL_MS
    second = desk.do(sale(key="2"), NOT_FOUND)
    assert desk.state(second) is OperationState.SUCCEEDED
    third = desk.do(sale(key="3"))
    assert desk.operation(third).rejection is Rejection.PAYMENT_ALREADY_EXISTS


def test_review_stays_when_an_extra_inquiry_says_pending() -> None:
    desk, op_id = doubtful()
    for _ in RECONCILE_AFTER_MS:
        looked(desk, op_id, UNKNOWN)
    second = desk.do(refund(desk.payment.payment_id, 1), PENDING)
    assert state(desk, op_id) is OperationState.MANUAL_REVIEW
    assert desk.operation(second).rejection is Rejection.PAYMENT_IN_DOUBT


def test_doubt_becomes_pending_or_action_when_the_gateway_knows_more() -> None:
    desk, op_id = doubtful()
    looked(desk, op_id, PENDING)
    assert state(desk, op_id).value == "pending"
    looked(desk, op_id, ACTION)
    assert state(desk, op_id).value == "requires_action"
    desk.notice(op_id, PENDING)  # type: ignore[arg-type]  # an operation id as text
    assert desk.transitions == ["accepted", "doubted", "pended", "action_required", "pended"]
    assert len({each.event_id for each in desk.events}) == 5


def test_states_stop_alternating_when_the_operation_has_told_enough() -> None:
    desk = Desk()
    op_id = desk.do(sale(), PENDING)
    for index in range(MAX_EVENTS * 2):
        desk.notice(op_id, PENDING if index % 2 else ACTION)
    assert len(desk.operation(op_id).events) == MAX_EVENTS
    desk.notice(op_id, SUCCESS)
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_notice_of_not_executed_ends_the_doubt_but_not_a_call_under_way() -> None:
    desk, op_id = doubtful()
    desk.notice(op_id, NOT_FOUND)  # type: ignore[arg-type]  # an operation id as text
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    busy = Desk()
    called = busy.send(sale())
    busy.grant()
    busy.notice(called, NOT_FOUND)
    assert busy.state(called) is OperationState.DISPATCHED


def test_stale_inquiry_proves_nothing_when_a_newer_call_is_awaited() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    desk.fire(op_id)
    stale = desk.requests[0]
    desk.call(RESEND_ADVISED)
    looked(desk, op_id, RESEND_ADVISED)
    desk.requests.appendleft(stale)
    desk.call(NOT_FOUND)
    assert desk.state(op_id) is OperationState.UNKNOWN
    assert desk.operation(op_id).call_kind is CallKind.SALE


def test_unknown_notice_changes_nothing_when_the_operation_is_in_doubt_already() -> None:
    desk, op_id = doubtful()
    before = desk.row
    desk.notice(op_id, UNKNOWN)  # type: ignore[arg-type]  # an operation id as text
    assert desk.row is before


@pytest.mark.parametrize("make", [refund, capture])
def test_sums_go_back_when_a_success_is_taken_back(make: object) -> None:
    desk = Desk()
    desk.do(sale() if make is refund else authorize())
    op_id = desk.do(make(desk.payment.payment_id, 4_000))  # type: ignore[operator]  # one of two functions
    desk.notice(op_id, REVERSED)
    assert desk.state(op_id) is OperationState.REVERSED
    assert desk.transitions[-1] == "reversed"
    assert (desk.payment.refunded_minor, desk.payment.captured_minor) == (0, 10_000 if make is refund else 0)
    before = desk.row
    desk.notice(op_id, REVERSED)
    desk.notice(op_id, SUCCESS)
    assert desk.row is before


def test_payment_fails_when_its_sale_is_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    desk.notice(op_id, REVERSED)
    assert desk.view.status == "failed"
    assert not desk.payment.review


def test_payment_is_reviewed_when_a_refunded_capture_is_taken_back() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    captured = desk.do(capture(payment, 5_000))
    desk.do(refund(payment, 5_000))
    desk.notice(captured, REVERSED)
    assert desk.payment.review
    assert desk.view.status == "refunded"
    late = desk.do(refund(payment, 1, key="2"))
    assert desk.operation(late).rejection is Rejection.INVALID_STATE


def test_payment_is_reviewed_when_a_refund_succeeds_after_its_capture_was_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    refunded = desk.do(refund(desk.payment.payment_id, 1_000), PENDING)
    desk.notice(op_id, REVERSED)
    desk.notice(refunded, SUCCESS)
    assert (desk.payment.refunded_minor, desk.payment.review) == (1_000, True)


def test_payment_is_reviewed_when_a_capture_succeeds_after_its_hold_was_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(authorize())
    captured = desk.do(capture(desk.payment.payment_id, 1_000), PENDING)
    desk.notice(op_id, REVERSED)
    desk.notice(captured, SUCCESS)
    assert (desk.payment.captured_minor, desk.payment.review) == (1_000, True)


def test_hold_is_back_when_a_void_is_taken_back() -> None:
    desk = Desk()
    desk.do(authorize())
    op_id = desk.do(void(desk.payment.payment_id))
    desk.notice(op_id, REVERSED)
    assert desk.view.status == "authorized"


def test_both_facts_are_told_when_a_success_is_taken_back_before_it_was_known() -> None:
    desk, op_id = doubtful()
    desk.notice(op_id, REVERSED)  # type: ignore[arg-type]  # an operation id as text
    assert desk.transitions == ["accepted", "doubted", "succeeded", "reversed"]
    assert (desk.payment.captured_minor, desk.view.status) == (0, "failed")


def test_payment_expires_when_its_authorization_runs_out() -> None:
    expired = Said(outcome=Outcome.REVERSED, error=error(RetryAdvice.NEVER, code=AUTHORIZATION_EXPIRED))
    desk = Desk()
    op_id = desk.do(authorize())
    desk.notice(op_id, expired)
    assert desk.events[-1].type == "payments.payment.expired.v1"
    assert (desk.view.status, desk.state(op_id)) == ("expired", OperationState.SUCCEEDED)
    before = desk.row
    desk.notice(op_id, expired)
    assert desk.row is before


def test_rest_is_released_when_an_authorization_runs_out_after_a_capture() -> None:
    expired = Said(outcome=Outcome.REVERSED, error=error(RetryAdvice.NEVER, code=AUTHORIZATION_EXPIRED))
    desk = Desk()
    op_id = desk.do(authorize())
    desk.do(capture(desk.payment.payment_id, 1))
    desk.notice(op_id, expired)
    assert (desk.view.status, desk.payment.released) == ("captured", True)


@pytest.mark.parametrize("command", [sale(), refund(Desk().send(sale()), 1)])  # type: ignore[arg-type]  # any id will do
def test_contradiction_asks_for_a_person_when_what_was_refused_succeeds(command: object) -> None:
    desk = Desk(plan=plan())
    op_id = desk.do(command)  # type: ignore[arg-type]  # a command
    assert desk.state(op_id) is OperationState.REJECTED
    desk.notice(op_id, SUCCESS)
    desk.notice(op_id, SUCCESS)
    assert desk.transitions == ["rejected", "reviewed"]


def test_decline_after_success_is_ignored_when_webhooks_are_late() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    before = desk.row
    desk.notice(op_id, DECLINE)
    assert desk.row is before


def test_notice_finds_its_operation_when_only_the_gateways_references_are_known() -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="pay-ref"))
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), Said(outcome=Outcome.PENDING, reference="re-1"))
    second = desk.do(refund(payment, 2_000, key="2"), Said(outcome=Outcome.PENDING, reference=None))
    desk.notice(None, Said(reference="re-1"), kind=CallKind.REFUND)
    assert desk.state(first) is OperationState.SUCCEEDED
    desk.notice(None, Said(reference="re-2"), kind=CallKind.REFUND, payment_reference="pay-ref")
    assert desk.state(second) is OperationState.SUCCEEDED
    assert desk.payment.refunded_minor == 3_000


@pytest.mark.parametrize(
    "fields",
    [
        {"gateway": OTHER},
        {"kind": CallKind.CAPTURE, "payment_reference": "ref"},
        {"kind": CallKind.REFUND, "payment_reference": "another"},
        {"kind": CallKind.REFUND},
        {"payment_reference": "ref"},
        {"gateway_reference": "nobody's", "kind": CallKind.REFUND, "payment_reference": "ref"},
    ],
)
def test_notice_is_ignored_when_it_leaves_any_doubt_about_its_operation(fields: dict[str, object]) -> None:
    desk = Desk()
    desk.do(sale())
    for key in ("1", "2"):
        desk.do(refund(desk.payment.payment_id, 1_000, key=key), Said(outcome=Outcome.PENDING, reference=None))
    before = desk.row
    desk.notice(None, Said(reference=None), **fields)
    assert desk.row is before


def test_notice_is_refused_as_a_defect_when_it_names_no_order() -> None:
    desk = Desk()
    with pytest.raises(InvariantViolatedError):
        desk.notice(None, SUCCESS, order_id=None)


def test_input_is_refused_as_a_defect_when_it_is_about_another_order() -> None:
    desk = Desk()
    desk.do(sale())
    with pytest.raises(InvariantViolatedError):
        desk.notice(None, SUCCESS, order_id=f"{ORDER}-other")


def test_look_is_not_made_when_its_timer_is_fired_before_its_time() -> None:
    """Else a worker whose clock is far ahead would make all twelve looks at once, and give the rest to a person."""
    desk, op_id = doubtful()
    for _ in range(2 * len(RECONCILE_AFTER_MS)):
        desk.fire_early(op_id)  # type: ignore[arg-type]  # an operation id as text
    assert not desk.requests
    assert state(desk, op_id) is OperationState.UNKNOWN
    assert looked(desk, op_id, SUCCESS).kind is CallKind.INQUIRE
    assert state(desk, op_id) is OperationState.SUCCEEDED
