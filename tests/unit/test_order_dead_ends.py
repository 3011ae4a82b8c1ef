"""What would wait for ever has an exit: payers who never come, holds that are over, orders to be paid again."""

from dataclasses import replace

import pytest

from schemas.identifiers import OpId
from schemas.vocabulary import (
    CallKind,
    Initiator,
    OperationKind,
    OperationState,
    Outcome,
    Rejection,
    RetryAdvice,
    TimerKind,
)
from streams.domain.limits import ACTION_LIFE_MS, ORDER_LIFE_MS, PAID_LIFE_MS, RECONCILE_AFTER_MS
from tests.support.exhibits import Sums
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    plan,
    refund,
    refusal,
    sale,
    void,
)

NAMELESS_ACTION = Said(outcome=Outcome.REQUIRES_ACTION, action_url="https://bank.example/3ds", reference=None)


def waiting(answer: Said = ACTION) -> tuple[Desk, OpId]:
    desk = Desk()
    return desk, desk.do(authorize(), answer)


def until_expiry(desk: Desk, op_id: OpId) -> None:
    """Look as often as the schedule says; the payer never comes."""
    for _ in RECONCILE_AFTER_MS:
        if desk.timers[op_id].kind is TimerKind.EXPIRE_ACTION:
            desk.fire(op_id)
            return
        desk.fire(op_id)
        desk.call(ACTION)
    raise AssertionError("it never expired")


# The payer's action


def test_payment_that_waits_for_its_payer_can_be_cancelled_and_the_order_paid_otherwise() -> None:
    desk, op_id = waiting()
    cancelled = desk.do(void(desk.payment.payment_id))
    assert desk.state(cancelled) is OperationState.SUCCEEDED
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert desk.operation(op_id).error.code == "cancelled"  # type: ignore[union-attr]  # it has one
    assert (desk.view.status, desk.sums, desk.timers) == ("voided", Sums(), {})
    assert desk.state(desk.do(sale(key="other-card"))) is OperationState.SUCCEEDED


def test_answer_to_a_cancellation_shows_that_the_payment_waits_no_more() -> None:
    desk, _ = waiting()
    desk.do(void(desk.payment.payment_id))
    answer = desk.replies[-1]
    assert answer.operation is not None
    assert answer.payment is not None
    assert (answer.operation.kind, answer.payment.status) == (OperationKind.VOID, "voided")


def test_payment_of_which_the_gateway_named_nothing_is_cancelled_without_a_call() -> None:
    desk, op_id = waiting(NAMELESS_ACTION)
    desk.send(void(desk.payment.payment_id))
    desk.grant()
    assert not desk.requests
    assert (desk.state(op_id), desk.transitions[-2:]) == (OperationState.NOT_EXECUTED, ["failed", "succeeded"])


def test_payment_stands_when_its_payer_acts_while_it_is_cancelled_and_the_gateway_refuses_the_void() -> None:
    desk, op_id = waiting()
    desk.send(void(desk.payment.payment_id))
    desk.grant()
    desk.notice(op_id, SUCCESS)
    desk.call(refusal(RetryAdvice.NEVER))
    assert (desk.view.status, desk.payment.review) == ("authorized", False)


def test_hold_is_let_go_when_its_payer_acts_while_it_is_cancelled_and_the_void_succeeds() -> None:
    desk, op_id = waiting()
    desk.send(void(desk.payment.payment_id))
    desk.grant()
    desk.notice(op_id, SUCCESS)
    desk.settle()
    assert (desk.state(op_id), desk.view.status) == (OperationState.SUCCEEDED, "voided")


def test_success_after_the_cancellation_asks_for_a_person() -> None:
    desk, op_id = waiting()
    desk.do(void(desk.payment.payment_id))
    desk.notice(op_id, SUCCESS)
    assert (desk.payment.review, desk.transitions[-1]) == (True, "reviewed")


def test_action_expires_after_an_hour_by_a_void_of_the_engine() -> None:
    desk, op_id = waiting()
    began_ms = desk.now_ms
    until_expiry(desk, op_id)
    assert desk.now_ms == began_ms + ACTION_LIFE_MS
    assert desk.requests[0].kind is CallKind.VOID
    desk.settle()
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert desk.operation(op_id).error.code == "action_expired"  # type: ignore[union-attr]  # it has one
    own = desk.row.operations[-1]  # type: ignore[union-attr]  # it has a row
    assert (own.kind, own.initiator, desk.payment.review) == (OperationKind.VOID, Initiator.ENGINE, False)
    assert desk.state(desk.do(sale(key="again"))) is OperationState.SUCCEEDED


def test_action_expires_by_the_policy_that_its_plan_pinned() -> None:
    desk = Desk(plan=replace(plan("mock"), action_life_ms=60_000))
    op_id = desk.do(authorize(), ACTION)
    began_ms = desk.now_ms
    until_expiry(desk, op_id)
    assert desk.now_ms == began_ms + 60_000


def test_action_of_which_the_gateway_named_nothing_expires_without_a_call() -> None:
    desk, op_id = waiting(NAMELESS_ACTION)
    for _ in RECONCILE_AFTER_MS:
        if desk.timers[op_id].kind is TimerKind.EXPIRE_ACTION:
            break
        desk.fire(op_id)
        desk.call(NAMELESS_ACTION)
    desk.fire(op_id)
    assert not desk.requests
    assert (desk.state(op_id), desk.timers) == (OperationState.NOT_EXECUTED, {})
    desk.notice(op_id, SUCCESS)  # where no void by our reference can be made, only a person lets go of it
    assert (desk.payment.review, list(desk.requests)) == (True, [])


def test_action_that_the_gateway_does_not_let_go_of_is_looked_at_again() -> None:
    desk, op_id = waiting()
    until_expiry(desk, op_id)
    desk.call(refusal(RetryAdvice.NEVER))
    assert (desk.state(op_id), desk.payment.review) == (OperationState.REQUIRES_ACTION, False)
    desk.fire(op_id)
    assert desk.requests[0].kind is CallKind.INQUIRE
    desk.call(SUCCESS)
    assert desk.view.status == "authorized"


def test_payment_that_is_pending_cannot_be_cancelled() -> None:
    desk, _ = waiting(PENDING)
    assert desk.operation(desk.do(void(desk.payment.payment_id))).rejection is Rejection.INVALID_STATE


# Paid again


def test_voided_order_can_be_paid_again() -> None:
    desk = Desk()
    desk.do(authorize())
    desk.do(void(desk.payment.payment_id))
    assert desk.state(desk.do(sale(key="again"))) is OperationState.SUCCEEDED


def test_expired_order_can_be_paid_again() -> None:
    desk = Desk()
    op_id = desk.do(authorize())
    desk.notice(op_id, Said(outcome=Outcome.EXPIRED))
    assert desk.state(desk.do(sale(key="again"))) is OperationState.SUCCEEDED


@pytest.mark.parametrize("open_void", [PENDING, UNKNOWN])
def test_order_cannot_be_paid_again_while_its_void_is_open(open_void: Said) -> None:
    desk = Desk()
    desk.do(authorize())
    desk.do(void(desk.payment.payment_id), open_void, UNKNOWN)
    desk.script.append(UNKNOWN)
    assert desk.state(desk.do(sale(key="again"))) is OperationState.REJECTED


def test_hold_that_is_back_after_its_order_was_paid_again_asks_for_a_person() -> None:
    desk = Desk()
    desk.do(authorize())
    first = desk.payment.payment_id
    voided = desk.do(void(first))
    desk.do(sale(key="again"), Said(reference="s2"))
    desk.notice(voided, Said(outcome=Outcome.REVERSED))
    assert [each.review for each in desk.row.payments] == [True, False]  # type: ignore[union-attr]  # it has a row


def test_rest_that_is_let_go_cannot_be_captured() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    desk.do(capture(payment, 4_000))
    desk.do(void(payment))
    assert desk.state(desk.do(sale(key="again"))) is OperationState.REJECTED


# Lives


def test_paid_order_can_be_refunded_and_disputed_long_after_an_unpaid_one_has_gone() -> None:
    paid, unpaid = Desk(), Desk()
    op_id = paid.do(sale(), Said(reference="ch"))
    unpaid.do(sale(), DECLINE)
    for desk in (paid, unpaid):
        desk.now_ms += ORDER_LIFE_MS + 1
        desk.end()
    assert unpaid.row is None
    assert paid.state(paid.do(refund(paid.payment.payment_id, 1_000))) is OperationState.SUCCEEDED
    paid.notice(op_id, Said(outcome=Outcome.DISPUTE_OPENED, reference="ch", confirmed_minor=10))
    assert paid.transitions[-1] == "disputed"


def test_paid_order_goes_when_its_life_is_over() -> None:
    desk = Desk()
    desk.do(sale())
    desk.now_ms += PAID_LIFE_MS
    desk.end()
    assert desk.row is None


def test_action_that_expired_while_another_operation_was_under_way_is_let_go_once() -> None:
    desk, op_id = waiting()
    desk.send(void("pay_nobodys"))  # type: ignore[arg-type]  # its claim is on the way, and holds the queue
    timer = desk.timers[op_id]
    desk.now_ms += ACTION_LIFE_MS
    for _ in range(2):
        desk.fire(op_id)
    own = [each for each in desk.row.operations if each.initiator is Initiator.ENGINE]  # type: ignore[union-attr]
    assert (len(own), own[0].state, desk.timers[op_id] != timer) == (1, OperationState.QUEUED, True)
    desk.settle()
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
