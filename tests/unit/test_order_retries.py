"""Attempts: what follows on a call that positively was not executed."""

from dataclasses import replace

import pytest

from gateway_adapters.errors import Signal, error_for
from schemas.identifiers import OpId
from schemas.vocabulary import CallKind, OperationState, Outcome, RetryAdvice, TimerKind
from streams.domain.limits import FOLLOW_UP_ATTEMPTS, MAX_ATTEMPTS, MAX_RETRY_DELAY_MS, RETRY_BACKOFF_MS
from streams.domain.outputs import ClearTimer
from tests.support.order_desk import (
    MOCK,
    NOT_FOUND,
    ORDER,
    ORIGIN,
    OTHER,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    completed,
    plan,
    refund,
    refusal,
    sale,
)

UNREACHABLE = refusal(RetryAdvice.OTHER_GATEWAY)


@pytest.mark.parametrize("advice", [RetryAdvice.NEVER, RetryAdvice.AFTER_FIX, RetryAdvice.AFTER_SCA])
def test_operation_fails_at_once_when_no_retry_is_advised(advice: RetryAdvice) -> None:
    desk = Desk()
    op_id = desk.do(sale(), refusal(advice))
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert desk.transitions == ["accepted", "failed"]
    assert desk.view.status == "failed"
    assert desk.replies[-1].final


def test_operation_fails_at_once_when_the_gateway_gives_no_error() -> None:
    desk = Desk()
    refused = refusal(RetryAdvice.NEVER)
    op_id = desk.do(sale(), Said(outcome=refused.outcome))
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


@pytest.mark.parametrize("advice", [RetryAdvice.SAME_KEY_NOW, RetryAdvice.NEW_KEY_LATER, RetryAdvice.OTHER_GATEWAY])
def test_next_gateway_is_tried_at_once_when_the_plan_has_another(advice: RetryAdvice) -> None:
    desk = Desk(plan=plan("mock", "other"))
    op_id = desk.do(sale(), refusal(advice, retry_after_ms=60_000))
    assert desk.state(op_id) is OperationState.SUCCEEDED
    operation = desk.operation(op_id)
    assert (operation.attempt, operation.gateway, desk.payment.gateway) == (2, OTHER, OTHER)
    assert operation.error is None
    assert desk.timers == {}
    assert desk.transitions == ["accepted", "succeeded"]


@pytest.mark.parametrize("signal", [Signal.UNAUTHORIZED, Signal.CIRCUIT_OPEN, Signal.NO_SLOT])
def test_next_gateway_is_tried_when_one_refuses_our_credentials_or_is_not_asked(signal: Signal) -> None:
    desk = Desk(plan=plan("mock", "other"))
    op_id = desk.do(sale(), Said(outcome=Outcome.NOT_EXECUTED, error=error_for(signal), reference=None))
    assert (desk.state(op_id), desk.operation(op_id).gateway) == (OperationState.SUCCEEDED, OTHER)


def test_same_gateway_is_tried_after_a_pause_when_the_plan_names_it_again() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNREACHABLE)
    timer = desk.timers[op_id]
    assert (timer.kind, timer.number) == (TimerKind.RETRY, 1)
    assert timer.due_at_ms - desk.now_ms == RETRY_BACKOFF_MS[0]
    assert desk.state(op_id) is OperationState.DISPATCHED
    desk.fire(op_id)
    assert desk.timers == {}
    request = desk.requests[0]
    assert (request.attempt, request.call_number, request.gateway) == (2, 2, MOCK)
    assert request.gateway_key.endswith("-2")
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_pause_is_as_long_as_the_gateway_asks_when_that_is_more() -> None:
    desk = Desk()
    op_id = desk.do(sale(), refusal(RetryAdvice.NEW_KEY_LATER, retry_after_ms=42_000))
    assert desk.timers[op_id].due_at_ms - desk.now_ms == 42_000


def test_operation_fails_when_the_gateway_asks_for_too_long_a_pause() -> None:
    desk = Desk()
    op_id = desk.do(sale(), refusal(RetryAdvice.NEW_KEY_LATER, retry_after_ms=MAX_RETRY_DELAY_MS + 1))
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


def test_operation_fails_when_the_plans_attempts_are_used_up() -> None:
    desk = Desk(plan=plan("mock", "other", "mock"))
    op_id = desk.do(sale(), UNREACHABLE, UNREACHABLE, UNREACHABLE)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert desk.operation(op_id).attempt == 3
    assert desk.transitions == ["accepted", "failed"]


def test_attempts_are_bounded_when_a_plan_is_longer_than_allowed() -> None:
    desk = Desk(plan=plan(*(["mock", "other"] * MAX_ATTEMPTS)))
    op_id = desk.do(sale(), *([UNREACHABLE] * (MAX_ATTEMPTS + 1)))
    assert desk.operation(op_id).attempt == MAX_ATTEMPTS
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


def test_follow_up_is_retried_at_its_own_gateway_when_the_plan_is_empty() -> None:
    desk = Desk()
    desk.do(sale())
    desk.plan = plan()
    op_id = desk.do(refund(desk.payment.payment_id, 1), UNREACHABLE)
    for _ in range(FOLLOW_UP_ATTEMPTS - 1):
        desk.script.append(UNREACHABLE)
        desk.fire(op_id)
        desk.settle()
    assert (desk.state(op_id), desk.operation(op_id).attempt) == (OperationState.NOT_EXECUTED, FOLLOW_UP_ATTEMPTS)
    assert desk.timers == {}


def test_order_waits_but_its_timer_is_cleared_when_a_notice_ends_the_paused_operation() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNREACHABLE)
    desk.notice(op_id, SUCCESS)
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert desk.timers == {}


def test_timer_means_nothing_when_it_is_an_older_one() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNREACHABLE, UNREACHABLE)
    old = desk.timers[op_id]
    desk.fire(op_id)
    desk.settle()
    current = desk.timers[op_id]
    before = desk.row
    desk.fire_timer(old)
    assert desk.row is before
    assert desk.timers == {op_id: current}


def test_timer_is_cleared_when_its_operation_is_settled_or_unknown() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNREACHABLE)
    timer = desk.timers[op_id]
    desk.fire(op_id)
    desk.settle()
    desk.timers[op_id] = timer  # as after a lost clearing
    desk.fire(op_id)
    assert desk.timers == {}
    stranger = Desk(timers={op_id: timer})
    stranger.fire(op_id)
    assert stranger.timers == {}
    assert stranger.row is None
    assert timer.origin_id == ORIGIN


def test_owner_that_is_behind_catches_up_when_a_later_attempts_result_comes() -> None:
    ahead = Desk(plan=plan("mock", "other"))
    op_id = ahead.send(sale())
    ahead.grant()
    behind = Desk(plan=ahead.plan, row=ahead.row)
    ahead.call(UNREACHABLE)
    result = ahead.call()
    behind.result(result)
    assert behind.state(op_id) is OperationState.SUCCEEDED
    assert (behind.operation(op_id).attempt, behind.payment.gateway) == (2, OTHER)


def test_owner_that_is_behind_catches_up_when_it_is_a_follow_up() -> None:
    ahead = Desk()
    ahead.do(sale())
    op_id = ahead.do(refund(ahead.payment.payment_id, 1), UNREACHABLE)
    behind = Desk(row=ahead.row, now_ms=ahead.now_ms, timers=dict(ahead.timers))
    ahead.fire(op_id)
    result = ahead.call()
    behind.result(result)
    assert behind.state(op_id) is OperationState.SUCCEEDED
    assert behind.timers == {}


def test_owner_that_is_behind_is_in_doubt_when_it_hears_of_a_later_attempts_inquiry() -> None:
    """What an inquiry does not find is no refusal of the call: nothing may be sent elsewhere because of it."""
    desk = Desk(plan=plan("mock", "other", "mock"))
    op_id = desk.send(sale())
    desk.grant()
    ahead = replace(desk.requests.popleft(), kind=CallKind.INQUIRE, attempt=2, call_number=3, gateway=OTHER)
    desk.result(completed(ahead, NOT_FOUND, now_ms=desk.now_ms))
    assert (desk.state(op_id), desk.operation(op_id).attempt) == (OperationState.UNKNOWN, 2)
    assert len(desk.requests) == 0
    assert desk.timers[op_id].kind is TimerKind.RECONCILE
    desk.notice(op_id, SUCCESS, gateway=OTHER)
    assert desk.transitions == ["accepted", "doubted", "succeeded"]


def test_key_counts_as_no_younger_than_the_first_attempt_when_a_later_one_is_heard_of() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    first = desk.requests.popleft()
    desk.now_ms += 1_000_000
    desk.result(completed(replace(first, attempt=2, call_number=2), UNKNOWN, now_ms=desk.now_ms))
    assert desk.operation(op_id).first_requested_at_ms == first.first_requested_at_ms


def test_payment_is_reviewed_when_an_attempt_that_was_given_up_succeeds_after_all() -> None:
    desk = Desk(plan=plan("mock", "other"))
    op_id = desk.send(sale())
    desk.grant()
    desk.call(UNREACHABLE)
    desk.notice(op_id, SUCCESS, gateway=MOCK)
    assert desk.state(op_id) is OperationState.DISPATCHED
    assert desk.payment.review
    desk.notice(op_id, SUCCESS, gateway=MOCK)
    assert desk.transitions == ["accepted", "reviewed"]
    desk.settle()
    assert desk.view.overlays == ("review",)


def test_timers_have_their_tables_key_when_they_are_cleared() -> None:
    assert ClearTimer(origin_id=ORIGIN, order_id=ORDER, op_id=OpId("op_1")).key == b"origin|order-1|op_1"
    assert ClearTimer(origin_id=ORIGIN, order_id=ORDER, op_id=None).key == b"origin|order-1|"


def test_timer_means_nothing_when_it_is_fired_before_its_time() -> None:
    """By a worker whose clock is ahead. The timer stays, and does when its time has come."""
    desk = Desk(plan=plan("mock", "mock"))
    op_id = desk.do(sale(), refusal(RetryAdvice.SAME_KEY_NOW))
    before = desk.row
    said = desk.fire_early(op_id)
    assert (said.row, list(said.outputs)) == (before, [])
    assert op_id in desk.timers
    desk.fire(op_id)
    assert desk.requests[0].attempt == 2
