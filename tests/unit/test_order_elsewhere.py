"""Declines after which another gateway is asked: when, where, with which key, and when never."""

from dataclasses import replace

import pytest

from gateway_adapters.errors import Code, decline_for
from schemas.identifiers import OpId
from schemas.records.commands import Command
from schemas.vocabulary import CallKind, DeclineClass, OperationState, Outcome, RetryAdvice, TimerKind
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    MOCK,
    OTHER,
    PENDING,
    SOFT_DECLINE,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    completed,
    plan,
    refund,
    refusal,
    sale,
)

SOFT = (DeclineClass.SOFT,)
UNREACHABLE = refusal(RetryAdvice.OTHER_GATEWAY)


def desk_with(*gateways: str, after: tuple[DeclineClass, ...] = SOFT) -> Desk:
    return Desk(plan=plan(*gateways, after=after))


def tried(desk: Desk, op_id: OpId) -> list[tuple[int, str, bool]]:
    """The attempts of an operation so far: its place in the plan, its gateway, and whether it was declined."""
    operation = desk.operation(op_id)
    assert operation.gateway is not None
    earlier = [(each.attempt, str(each.gateway), each.declined) for each in operation.earlier_attempts]
    return [*earlier, (operation.attempt, str(operation.gateway), operation.state is OperationState.DECLINED)]


@pytest.mark.parametrize("command", [sale(), authorize()])
def test_next_gateway_is_asked_with_a_key_of_its_own_when_the_declines_class_is_named(command: Command) -> None:
    desk = desk_with("mock", "other")
    op_id = desk.send(command)
    desk.grant()
    first = desk.requests[0]
    desk.call(SOFT_DECLINE)
    second = desk.requests[0]
    assert (second.gateway, second.attempt, second.call_number, second.kind) == (OTHER, 2, 2, first.kind)
    assert second.gateway_key != first.gateway_key
    assert second.token == first.token
    assert desk.state(op_id) is OperationState.DISPATCHED
    desk.settle()
    assert desk.transitions == ["accepted", "succeeded"]
    assert (desk.payment.gateway, desk.operation(op_id).error) == (OTHER, None)
    assert tried(desk, op_id) == [(1, "mock", True), (2, "other", False)]


def test_later_operations_stay_where_the_payment_lives_now() -> None:
    desk = desk_with("mock", "other", "mock")
    desk.do(authorize(), SOFT_DECLINE)
    desk.send(capture(desk.payment.payment_id))
    desk.grant()
    assert desk.requests[0].gateway == OTHER


@pytest.mark.parametrize(
    "answer",
    [
        DECLINE,
        replace(SOFT_DECLINE, error=decline_for(Code.FRAUDULENT, gateway_code=None)),
        replace(SOFT_DECLINE, error=replace(decline_for(Code.DUPLICATE, gateway_code=None), decline_class=SOFT[0])),
        replace(SOFT_DECLINE, error=None),
        replace(SOFT_DECLINE, sole=False),
    ],
    ids=["another class", "fraud", "may be made already", "no reason", "another copy may have been made"],
)
def test_decline_ends_the_payment_when_another_gateway_may_not_be_asked(answer: Said) -> None:
    desk = desk_with("mock", "other")
    op_id = desk.do(sale(), answer)
    assert desk.state(op_id) is OperationState.DECLINED
    assert tried(desk, op_id) == [(1, "mock", True)]


@pytest.mark.parametrize("desk", [desk_with("mock", "other", after=()), desk_with("mock", "mock"), desk_with("mock")])
def test_decline_ends_the_payment_when_the_plan_names_no_class_or_no_other_gateway(desk: Desk) -> None:
    op_id = desk.do(sale(), SOFT_DECLINE)
    assert desk.state(op_id) is OperationState.DECLINED
    assert not desk.requests


def test_last_gateways_decline_is_the_payments_when_all_have_declined() -> None:
    desk = desk_with("mock", "other", "mock")
    last = replace(SOFT_DECLINE, reference="last")
    op_id = desk.do(sale(), SOFT_DECLINE, last)
    assert desk.state(op_id) is OperationState.DECLINED
    assert desk.operation(op_id).gateway_reference == "last"
    assert tried(desk, op_id) == [(1, "mock", True), (2, "other", True)]
    assert desk.transitions == ["accepted", "declined"]
    assert desk.view.status == "failed"


def test_payment_never_comes_back_to_a_gateway_that_has_declined_it() -> None:
    desk = desk_with("mock", "other", "mock", "other", "mock")
    op_id = desk.do(sale(), SOFT_DECLINE, UNREACHABLE)
    assert desk.timers[op_id].kind is TimerKind.RETRY, "the same gateway again, after a pause: place 3 is passed over"
    desk.script.append(UNREACHABLE)
    desk.fire(op_id)
    desk.settle()
    assert tried(desk, op_id) == [(1, "mock", True), (2, "other", False), (4, "other", False)]
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


def test_payment_does_not_come_back_by_a_refusal_either() -> None:
    desk = desk_with("mock", "other", "mock")
    op_id = desk.do(sale(), SOFT_DECLINE, UNREACHABLE)
    assert (desk.state(op_id), desk.timers) == (OperationState.NOT_EXECUTED, {})


def test_another_account_of_the_same_gateway_is_another_place_to_ask() -> None:
    desk = desk_with("mock", "mock/eu")
    op_id = desk.do(sale(), SOFT_DECLINE)
    assert (desk.state(op_id), desk.operation(op_id).account) == (OperationState.SUCCEEDED, "eu")


@pytest.mark.parametrize("first", [UNKNOWN, PENDING, ACTION])
def test_payment_is_never_sent_elsewhere_once_it_was_in_doubt_or_had_let_its_order_go_on(first: Said) -> None:
    desk = desk_with("mock", "other")
    op_id = desk.do(sale(), first)
    desk.notice(op_id, SOFT_DECLINE)
    assert desk.state(op_id) is OperationState.DECLINED
    assert not desk.requests


def test_inquirys_decline_sends_nothing_elsewhere() -> None:
    desk = desk_with("mock", "other")
    op_id = desk.do(sale(), UNKNOWN)
    desk.fire(op_id)
    assert desk.requests[0].kind is CallKind.INQUIRE
    desk.call(SOFT_DECLINE)
    assert (desk.state(op_id), len(desk.requests)) == (OperationState.DECLINED, 0)


@pytest.mark.parametrize("notice_first", [True, False])
def test_decline_told_by_a_notice_waits_for_the_answer_so_that_it_does_not_matter_which_comes_first(
    *,
    notice_first: bool,
) -> None:
    desk = desk_with("mock", "other")
    op_id = desk.send(sale())
    desk.grant()
    if notice_first:
        desk.notice(op_id, SOFT_DECLINE)
    desk.call(SOFT_DECLINE)
    if not notice_first:
        desk.notice(op_id, SOFT_DECLINE)
    desk.settle()
    assert (desk.state(op_id), desk.operation(op_id).gateway) == (OperationState.SUCCEEDED, OTHER)


def test_notice_of_a_decline_is_not_lost_when_the_answer_is_doubt() -> None:
    desk = desk_with("mock", "other")
    op_id = desk.send(sale())
    desk.grant()
    desk.notice(op_id, SOFT_DECLINE)
    desk.call(UNKNOWN)
    desk.fire(op_id)
    desk.call(SOFT_DECLINE)
    assert (desk.state(op_id), desk.operation(op_id).gateway) == (OperationState.DECLINED, MOCK)


def test_notice_of_a_decline_ends_the_payment_at_once_when_no_other_gateway_is_left() -> None:
    desk = desk_with("mock", "other")
    op_id = desk.send(sale())
    desk.grant()
    desk.call(SOFT_DECLINE)
    desk.notice(op_id, replace(SOFT_DECLINE, reference="there"), gateway=OTHER)
    assert desk.state(op_id) is OperationState.DECLINED


def test_payment_is_reviewed_when_a_gateway_that_declined_says_that_it_took_the_money() -> None:
    desk = desk_with("mock", "other", "third")
    op_id = desk.send(sale())
    desk.grant()
    desk.call(SOFT_DECLINE)
    desk.notice(op_id, replace(SUCCESS, reference="late"), gateway=MOCK)
    assert desk.payment.review
    desk.call(SOFT_DECLINE)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW, "no third gateway is asked, and no decline is told"
    assert not desk.requests


def test_refund_is_declined_where_its_payment_lives_whatever_classes_the_policy_names() -> None:
    desk = desk_with("mock", "other")
    desk.do(sale())
    op_id = desk.do(refund(desk.payment.payment_id, 1), SOFT_DECLINE)
    assert (desk.state(op_id), len(desk.requests)) == (OperationState.DECLINED, 0)


def test_part_that_was_approved_is_let_go_and_nothing_is_sent_elsewhere() -> None:
    desk = desk_with("mock", "other")
    op_id = desk.do(sale(10_000), Said(confirmed_minor=4_000))
    assert desk.state(op_id) is OperationState.DECLINED
    assert [each.gateway for each in desk.row.operations] == [MOCK, MOCK]  # type: ignore[union-attr]


def test_answer_of_the_attempt_before_changes_nothing_when_it_comes_again() -> None:
    desk = desk_with("mock", "other")
    op_id = desk.send(sale())
    desk.grant()
    result = completed(desk.requests.popleft(), SOFT_DECLINE, now_ms=desk.now_ms)
    desk.result(result)
    before = desk.row
    assert desk.result(result).outputs == ()
    assert desk.row == before
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


# The plan is made when the command comes


def test_plan_is_asked_for_with_the_command_itself_which_alone_tells_of_the_payer() -> None:
    desk = Desk()
    command = sale()
    desk.send(command)
    assert desk.planned == [command]
    assert desk.planned[0] is command


def test_payment_that_waits_for_its_turn_keeps_the_plan_of_when_it_was_asked_for() -> None:
    desk = Desk(plan=plan("mock"))
    desk.send(sale(key="1"))
    second = desk.send(sale(key="2"))
    desk.plan = plan("other", version=2)
    desk.settle()
    assert len(desk.planned) == 2
    assert desk.claim_rows[desk.operation(second).idempotency_key].plan == plan("mock")


def test_payment_that_an_earlier_release_has_queued_gets_its_plan_when_its_turn_comes() -> None:
    desk = Desk(plan=plan("other"))
    desk.send(sale(key="1"))
    second = desk.send(sale(key="2"))
    row = desk.row
    assert row is not None
    desk.row = replace(
        row, operations=tuple(replace(each, plan=None) if each.op_id == second else each for each in row.operations)
    )
    desk.do(sale(key="1"), DECLINE)
    assert desk.state(second) is OperationState.SUCCEEDED
    assert desk.payment.gateway == OTHER


def test_a_decline_has_an_outcome_that_the_desk_marks_as_sole() -> None:
    """The scripted executor of these tests: an inquiry's answer is never the sole answer to a call."""
    desk = Desk()
    desk.send(sale())
    desk.grant()
    request = desk.requests[0]
    assert completed(request, SOFT_DECLINE, now_ms=1).sole
    assert not completed(replace(request, kind=CallKind.INQUIRE), SOFT_DECLINE, now_ms=1).sole
    assert not completed(request, Said(outcome=Outcome.PENDING), now_ms=1).sole
