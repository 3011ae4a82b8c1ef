"""Gateways that contradict themselves: what they refused succeeds after all, and nobody is knowingly paid twice."""

from dataclasses import replace

import pytest

from schemas.identifiers import OpId
from schemas.vocabulary import OperationState, Outcome, Overlay, PaymentStatus, Rejection, RetryAdvice
from streams.domain.limits import LATE_CALL_MS, RECONCILE_AFTER_MS
from tests.support.doubtful_orders import RESEND_ADVISED, WINDOWS, looked
from tests.support.order_desk import (
    DECLINE,
    MOCK,
    NOT_FOUND,
    OTHER,
    PENDING,
    SUCCESS,
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
)

ELSEWHERE = refusal(RetryAdvice.OTHER_GATEWAY)
FIRST = Said(reference="m1", confirmed_minor=10_000, confirmed_currency="USD")
SECOND = Said(reference="o1")
TAKEN_BACK = Said(outcome=Outcome.REVERSED, reference="m1", error=error(RetryAdvice.NEVER, code="failed_late"))
EXPIRED = Said(outcome=Outcome.EXPIRED, reference="m1")


def failed_over(*, gateways: tuple[str, ...] = ("mock", "other"), capture: bool = True) -> tuple[Desk, OpId]:
    """The first attempt was refused, the second succeeded."""
    desk = Desk(plan=plan(*gateways))
    op_id = desk.do(sale() if capture else authorize(), ELSEWHERE, SECOND)
    if op_id in desk.timers:  # the same gateway again: after a pause
        desk.fire(op_id)
        desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED
    return desk, op_id


# A success taken back by somebody else


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("said", [TAKEN_BACK, EXPIRED], ids=["failed late", "expired"])
def test_success_stands_when_the_gateway_of_a_given_up_attempt_takes_its_own_back(said: Said, capture: bool) -> None:
    desk, op_id = failed_over(capture=capture)
    before = desk.row
    desk.notice(op_id, said, gateway=MOCK)
    assert desk.row is before
    assert desk.operation(desk.do(sale(key="again"))).rejection is Rejection.PAYMENT_ALREADY_EXISTS


def test_success_stands_when_an_earlier_attempt_at_the_same_gateway_is_taken_back() -> None:
    desk, op_id = failed_over(gateways=("mock", "mock"))
    before = desk.row
    desk.notice(op_id, TAKEN_BACK)
    assert desk.row is before


def test_result_counts_though_a_notice_named_the_object_of_an_earlier_attempt_at_the_same_gateway() -> None:
    """Else the call that is awaited would have no answer, and the order would hang."""
    desk = Desk(plan=plan("mock", "mock"))
    op_id = desk.do(sale(), ELSEWHERE)
    desk.fire(op_id)
    for said in (PENDING, NOT_FOUND):
        desk.notice(op_id, replace(said, reference="m1"))
    assert desk.operation(op_id).gateway_reference is None
    desk.call(SECOND)
    assert (desk.state(op_id), desk.operation(op_id).gateway_reference) == (OperationState.SUCCEEDED, "o1")
    assert not desk.payment.review


def test_payment_is_reviewed_when_the_result_names_another_object_than_the_notice_before_it() -> None:
    desk = Desk(plan=plan("mock", "mock"))
    op_id = desk.do(sale(), ELSEWHERE)
    desk.fire(op_id)
    desk.notice(op_id, FIRST)
    desk.call(SECOND)
    assert (desk.state(op_id), desk.payment.review) == (OperationState.SUCCEEDED, True)


def test_success_is_taken_back_when_the_notice_names_no_object_or_the_right_one() -> None:
    for reference in (None, "o1"):
        desk, op_id = failed_over()
        desk.notice(op_id, Said(outcome=Outcome.REVERSED, reference=reference), gateway=OTHER)
        assert desk.state(op_id) is OperationState.REVERSED


# A given-up attempt that succeeds


@pytest.mark.parametrize("gateways", [("mock", "other"), ("mock", "mock")], ids=["another gateway", "the same"])
def test_payment_is_reviewed_when_a_given_up_attempt_succeeds_after_a_later_one_has(gateways: tuple[str, ...]) -> None:
    desk, op_id = failed_over(gateways=gateways)
    for _ in range(2):
        desk.notice(op_id, FIRST, gateway=MOCK)
    assert desk.transitions == ["accepted", "succeeded", "reviewed"]
    assert desk.view.overlays == (Overlay.REVIEW,)
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert desk.sums.captured == 10_000


def test_payment_is_reviewed_when_a_given_up_attempt_succeeds_after_the_later_one_was_taken_back() -> None:
    desk, op_id = failed_over()
    desk.notice(op_id, Said(outcome=Outcome.REVERSED, reference="o1"), gateway=OTHER)
    desk.notice(op_id, FIRST, gateway=MOCK)
    assert (desk.state(op_id), desk.payment.review) == (OperationState.REVERSED, True)


def test_payment_is_reviewed_when_a_gateway_did_two_things_for_one_call() -> None:
    desk = Desk()
    op_id = desk.do(sale(), SECOND)
    desk.notice(op_id, Said(reference="o1"))
    assert not desk.payment.review
    desk.notice(op_id, Said(reference="o2"))
    assert (desk.payment.review, desk.transitions[-1]) == (True, "reviewed")


def contradicted_under_way(*gateways: str) -> tuple[Desk, OpId]:
    """The first attempt succeeds after all while the second is under way."""
    desk = Desk(plan=plan(*gateways))
    op_id = desk.send(sale())
    desk.grant()
    desk.call(ELSEWHERE)
    desk.notice(op_id, FIRST, gateway=MOCK)
    assert desk.transitions == ["accepted", "reviewed"]
    return desk, op_id


@pytest.mark.parametrize("answer", [ELSEWHERE, refusal(RetryAdvice.NEVER), DECLINE], ids=["retry", "never", "declined"])
def test_person_decides_and_no_attempt_follows_when_the_next_one_is_refused_after_a_known_success(answer: Said) -> None:
    desk, op_id = contradicted_under_way("mock", "other", "mock")
    desk.call(answer)
    assert (desk.state(op_id), desk.operation(op_id).attempt) == (OperationState.MANUAL_REVIEW, 2)
    assert (len(desk.requests), desk.timers) == (0, {})
    assert desk.transitions == ["accepted", "reviewed", "reviewed"]
    assert desk.replies[-1].final
    desk.notice(op_id, DECLINE, gateway=OTHER)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW, "it is no answer to what the other gateway says"
    assert desk.operation(desk.do(sale(key="again"), DECLINE)).rejection is Rejection.PAYMENT_IN_DOUBT


def test_success_of_the_later_attempt_counts_though_the_earlier_one_is_reviewed() -> None:
    desk, op_id = contradicted_under_way("mock", "other")
    desk.call(SECOND)
    assert (desk.state(op_id), desk.sums.captured) == (OperationState.SUCCEEDED, 10_000)
    assert desk.payment.review


def test_no_attempt_follows_when_the_success_is_heard_of_in_the_pause_before_it() -> None:
    desk = Desk(plan=plan("mock", "other", "other"))
    op_id = desk.do(sale(), ELSEWHERE, ELSEWHERE)
    desk.notice(op_id, FIRST, gateway=MOCK)
    desk.fire(op_id)
    assert len(desk.requests) == 0
    assert (desk.state(op_id), desk.timers) == (OperationState.MANUAL_REVIEW, {})


def test_call_in_doubt_is_not_made_again_when_another_attempt_has_succeeded_meanwhile() -> None:
    desk = Desk(plan=plan("other", "mock"), rules=WINDOWS)
    op_id = desk.do(sale(), ELSEWHERE, RESEND_ADVISED)
    desk.notice(op_id, FIRST, gateway=OTHER)
    looked(desk, op_id, NOT_FOUND)
    assert len(desk.requests) == 0
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW


def test_contradiction_is_told_though_a_person_looks_at_the_doubt_already() -> None:
    desk = Desk(plan=plan("mock", "other"))
    op_id = desk.do(sale(), ELSEWHERE, UNKNOWN)
    for _ in RECONCILE_AFTER_MS:
        looked(desk, op_id, UNKNOWN)
    for _ in range(2):
        desk.notice(op_id, FIRST, gateway=MOCK)
    assert desk.payment.review
    assert desk.transitions == ["accepted", "doubted", "reviewed", "reviewed"]
    desk.notice(op_id, DECLINE, gateway=OTHER)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW


# Another payment for the order


def test_another_payment_is_refused_when_the_declined_one_succeeded_after_all() -> None:
    desk = Desk()
    op_id = desk.do(sale(), DECLINE)
    desk.notice(op_id, SUCCESS)
    assert desk.view.overlays == (Overlay.REVIEW,)
    assert desk.operation(desk.do(sale(key="again"))).rejection is Rejection.PAYMENT_ALREADY_EXISTS


def test_another_payment_is_refused_when_one_that_was_never_sent_succeeded() -> None:
    desk = Desk(plan=plan())
    op_id = desk.do(sale())
    desk.notice(op_id, SUCCESS)
    desk.plan = plan("mock")
    assert desk.operation(desk.do(sale(key="again"))).rejection is Rejection.PAYMENT_ALREADY_EXISTS


def test_another_payment_makes_no_further_attempt_when_the_declined_one_succeeds_in_the_pause() -> None:
    desk = Desk(plan=plan("mock", "mock"))
    first = desk.do(sale(), DECLINE)
    second = desk.do(sale(key="again"), ELSEWHERE)
    desk.notice(first, SUCCESS)
    desk.fire(second)
    assert (desk.state(second), len(desk.requests)) == (OperationState.NOT_EXECUTED, 0)


def captured_without_a_hold() -> tuple[Desk, OpId]:
    """60 of 100 were captured, then the authorization was taken back."""
    desk = Desk()
    op_id = desk.do(authorize(100))
    desk.do(capture(desk.payment.payment_id, 60))
    desk.notice(op_id, Said(outcome=Outcome.REVERSED))
    return desk, op_id


def test_capture_counts_and_can_be_refunded_when_its_authorization_was_taken_back() -> None:
    desk, _ = captured_without_a_hold()
    payment = desk.payment.payment_id
    assert (desk.view.status, desk.view.captured_minor) == (PaymentStatus.CAPTURED, 60)
    assert desk.view.overlays == (Overlay.REVIEW,)
    assert desk.operation(desk.do(sale(key="again"))).rejection is Rejection.PAYMENT_ALREADY_EXISTS
    assert desk.operation(desk.do(capture(payment, 1, key="c2"))).rejection is Rejection.INVALID_STATE
    assert desk.state(desk.do(refund(payment, 60))) is OperationState.SUCCEEDED
    assert desk.view.status is PaymentStatus.REFUNDED


def test_another_payment_is_refused_when_a_capture_is_open_and_its_hold_was_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(authorize())
    captured = desk.do(capture(desk.payment.payment_id, 6_000), PENDING)
    desk.notice(op_id, Said(outcome=Outcome.REVERSED))
    assert desk.operation(desk.do(sale(key="again"))).rejection is Rejection.PAYMENT_ALREADY_EXISTS
    desk.notice(captured, SUCCESS)
    assert (desk.sums.captured, desk.payment.review) == (6_000, True)


def test_another_payment_may_follow_when_the_first_was_taken_back_and_nothing_is_left_of_it() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    desk.notice(op_id, Said(outcome=Outcome.REVERSED))
    assert desk.state(desk.do(sale(key="again"))) is OperationState.SUCCEEDED
