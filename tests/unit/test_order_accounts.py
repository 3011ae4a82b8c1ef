"""Which account at a gateway an operation goes to, and whose word about it counts."""

from dataclasses import replace

import pytest

from schemas.identifiers import (
    DEFAULT_ACCOUNT,
    AccountName,
    GatewayName,
    GatewayRoute,
    InvalidIdentifierError,
    account_name,
    gateway_route,
    parts_of,
)
from schemas.records.gateway import GatewayCallCompleted
from schemas.vocabulary import OperationState, Outcome, RetryAdvice
from tests.support.order_desk import (
    MOCK,
    PENDING,
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
)

EU = AccountName("eu")
UNREACHABLE = refusal(RetryAdvice.OTHER_GATEWAY)
TAKEN_BACK = Said(outcome=Outcome.REVERSED, error=error(RetryAdvice.NEVER, code="failed_late"))


def test_operation_goes_to_the_account_that_its_plan_names() -> None:
    desk = Desk(plan=plan("mock/eu"))
    op_id = desk.send(sale())
    desk.grant()
    request = desk.requests[0]
    assert (request.gateway, request.account) == (MOCK, EU)
    assert desk.call().account == EU
    assert (desk.operation(op_id).account, desk.payment.account) == (EU, EU)


def test_operation_goes_to_the_default_account_when_its_plan_names_a_gateway_alone() -> None:
    desk = Desk(plan=plan("mock"))
    desk.send(sale())
    desk.grant()
    assert desk.requests[0].account == DEFAULT_ACCOUNT


def test_next_account_at_the_same_gateway_is_tried_at_once_when_the_plan_names_one() -> None:
    desk = Desk(plan=plan("mock", "mock/eu"))
    op_id = desk.do(sale(), UNREACHABLE)
    assert (desk.state(op_id), desk.operation(op_id).account) == (OperationState.SUCCEEDED, EU)
    assert (desk.payment.gateway, desk.payment.account) == (MOCK, EU)
    assert desk.timers == {}


def test_same_account_is_tried_again_after_a_pause() -> None:
    desk = Desk(plan=plan("mock/eu", "mock/eu"))
    op_id = desk.do(sale(), UNREACHABLE)
    assert op_id in desk.timers
    desk.fire(op_id)
    assert desk.requests[0].account == EU


def test_what_follows_on_a_payment_goes_to_its_account_when_the_policy_names_another_by_now() -> None:
    desk = Desk(plan=plan("mock/eu"))
    desk.do(authorize())
    desk.plan = plan("mock/us")
    for command in (capture(desk.payment.payment_id), refund(desk.payment.payment_id)):
        desk.send(command)
        desk.grant()
        assert desk.requests[0].account == EU
        desk.call()


def test_notice_is_about_nobody_when_it_came_to_another_account() -> None:
    desk = Desk(plan=plan("mock/eu"))
    op_id = desk.do(sale(), Said(reference="ref"))
    before = desk.row
    desk.notice(None, TAKEN_BACK)
    assert desk.row == before
    desk.notice(None, TAKEN_BACK, account=EU)
    assert desk.state(op_id) is OperationState.REVERSED


def test_notice_that_names_our_operation_does_not_settle_it_when_it_came_to_another_account() -> None:
    desk = Desk(plan=plan("mock/eu"))
    op_id = desk.do(sale(), PENDING)
    desk.notice(op_id, Said(outcome=Outcome.DECLINED, error=error(RetryAdvice.NEVER)))
    assert desk.state(op_id) is OperationState.PENDING
    desk.notice(op_id, Said(), account=EU)
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_owner_that_was_behind_takes_over_the_account_of_a_later_attempt() -> None:
    desk = Desk(plan=plan("mock", "mock/eu"))
    op_id = desk.send(sale())
    desk.grant()
    desk.result(replace(_result_of(desk), attempt=2, call_number=2, account=EU))
    assert desk.operation(op_id).account == EU
    assert desk.payment.account == EU


def _result_of(desk: Desk) -> GatewayCallCompleted:
    return completed(desk.requests.popleft(), Said(), now_ms=desk.now_ms)


@pytest.mark.parametrize("account", ["default", "eu", "a1"])
def test_route_is_read_as_it_was_written(account: str) -> None:
    route = gateway_route(GatewayName("mock"), account_name(account))
    assert parts_of(route) == ("mock", account)


def test_default_account_has_one_spelling_in_a_route_that_we_write() -> None:
    assert gateway_route(GatewayName("mock"), DEFAULT_ACCOUNT) == "mock"
    assert parts_of(GatewayRoute("mock/default")) == ("mock", DEFAULT_ACCOUNT)


@pytest.mark.parametrize("name", ["", "EU", "a/b", "a b", "ä", "a" * 33, "a\n"])
def test_account_with_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        account_name(name)
