"""In doubt: the new operation of the payment, which has to wait for a word."""

from schemas.vocabulary import CallKind, OperationState, Rejection
from streams.domain.limits import LATE_CALL_MS
from tests.support.doubtful_orders import (
    RESEND_ADVISED,
    WINDOWS,
    doubtful,
    looked,
)
from tests.support.order_desk import (
    NOT_FOUND,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    authorize,
    capture,
    plan,
    refund,
    sale,
)


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
    assert desk.sums.refunded == 9_000


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
    assert desk.sums.captured == 9_000
    assert desk.timers == {}


def test_new_operation_is_refused_when_the_doubt_stays() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    first = desk.do(capture(payment, 1_000, key="1"), UNKNOWN)
    timer = desk.timers[first]
    second = desk.do(capture(payment, 2_000, key="2"), UNKNOWN)
    assert desk.operation(second).rejection is Rejection.PAYMENT_IN_DOUBT
    assert desk.timers == {first: timer}
    assert desk.operation(first).inquiries == 0
    assert desk.replies[-1].final
    again = desk.send(capture(payment, 2_000, key="2"))
    assert desk.replies[-1].operation is not None
    assert desk.replies[-1].operation.rejection is Rejection.PAYMENT_IN_DOUBT
    assert again == second


def test_refund_goes_ahead_beside_one_in_doubt_that_was_looked_at_and_leaves_it_its_amount() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 4_000, key="1"), UNKNOWN)
    second = desk.do(refund(payment, 6_000, key="2"), UNKNOWN)
    assert (desk.state(first), desk.state(second)) == (OperationState.UNKNOWN, OperationState.SUCCEEDED)
    third = desk.do(refund(payment, 1, key="3"), UNKNOWN)
    assert desk.operation(third).rejection is Rejection.AMOUNT_EXCEEDS_CAPTURED


def test_refund_given_to_a_person_blocks_only_its_own_amount() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    while first in desk.timers:
        looked(desk, first, UNKNOWN)
    assert desk.state(first) is OperationState.MANUAL_REVIEW
    second = desk.send(refund(payment, 9_000, key="2"))
    desk.grant()
    assert desk.requests[0].op_id == second, "nobody is asked about the first again"
    desk.settle()
    assert desk.sums.refunded == 9_000


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
    assert desk.sums.refunded == 3_000


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
    assert desk.sums.refunded == 3_000


def test_new_operation_waits_on_when_a_notice_speaks_of_it_though_it_was_never_sent() -> None:
    """Sent later, under its own key: had a gateway done it already, that call would bring the answer."""
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    desk.do(refund(payment, 1_000, key="1"), UNKNOWN)
    second = desk.send(refund(payment, 2_000, key="2"))
    desk.grant()
    before = desk.row
    desk.notice(second, SUCCESS)
    assert desk.row is before
    desk.settle()
    assert (desk.sums.refunded, desk.payment.review) == (3_000, False)


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
    desk.do(authorize())
    payment = desk.payment.payment_id
    first = desk.do(capture(payment, 1_000, key="1"), PENDING)
    second = desk.do(capture(payment, 2_000, key="2"), UNKNOWN)
    while first in desk.timers:
        looked(desk, first, UNKNOWN)
    assert desk.state(first) is OperationState.MANUAL_REVIEW
    third = desk.send(capture(payment, 3_000, key="3"))
    desk.grant()
    assert desk.operation(third).doubted_op_id == first
    desk.call()
    assert desk.operation(third).doubted_op_id == second
    desk.settle()
    assert desk.sums.captured == 6_000


def test_second_payment_waits_for_the_inquiry_when_the_first_is_in_doubt() -> None:
    desk, _ = doubtful()
    desk.plan = plan("mock")
    desk.now_ms += LATE_CALL_MS
    second = desk.do(sale(key="2"), NOT_FOUND)
    assert desk.state(second) is OperationState.SUCCEEDED
    third = desk.do(sale(key="3"))
    assert desk.operation(third).rejection is Rejection.PAYMENT_ALREADY_EXISTS
