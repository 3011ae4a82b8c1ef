"""In doubt: the same call made again with its key, and what a refusal of it proves."""

from dataclasses import replace

import pytest

from schemas.vocabulary import CallKind, OperationState, Outcome, RetryAdvice
from streams.domain.limits import LATE_CALL_MS, RECONCILE_AFTER_MS
from tests.support.doubtful_orders import (
    DAY_MS,
    RESEND_ADVISED,
    WINDOWS,
    looked,
    state,
)
from tests.support.order_desk import (
    NOT_FOUND,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    plan,
    refund,
    refusal,
    sale,
)


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
    looked(desk, op_id, NOT_FOUND)  # ten minutes later
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
    desk, op_id = in_doubt_and_refused_again(REFUSED_FOR_GOOD, late_call_ms=3 * RECONCILE_AFTER_MS[4])
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
