"""What the account of a payment cannot do is refused before it is sent, with the reason."""

from dataclasses import replace

import pytest

from gateway_adapters.contract import Ability, Capabilities
from schemas.identifiers import GatewayRoute, OpId, PaymentId
from schemas.vocabulary import CallKind, OperationState, Outcome, Rejection, RetryAdvice
from streams.domain.limits import DEFAULT_RULES
from tests.support.gateway_calls import capabilities_with
from tests.support.order_desk import DECLINE, PENDING, Desk, Said, authorize, capture, error, plan, refund, sale, void

TAKEN_BACK = Said(outcome=Outcome.REVERSED, error=error(RetryAdvice.NEVER, code="failed_late"), reference="cap")
ALL = capabilities_with(None)


def desk_with(*lacks: Ability, can: Capabilities = ALL, route: str = "mock") -> Desk:
    """An order whose payments go to an account that lacks these abilities."""
    can = replace(can, **dict.fromkeys(lacks, False))  # type: ignore[arg-type]  # each is a bool
    return Desk(plan=plan(route), rules=replace(DEFAULT_RULES, capabilities={GatewayRoute(route): can}))


def refused(desk: Desk, op_id: OpId) -> Rejection | None:
    operation = desk.operation(op_id)
    assert (operation.state is OperationState.REJECTED) == (operation.rejection is not None)
    if operation.rejection is not None:
        assert operation.attempt == 0, "nothing was sent"
    return operation.rejection


def pay(desk: Desk) -> PaymentId:
    desk.do(authorize(10_000))
    return desk.payment.payment_id


def test_second_capture_is_refused_where_a_hold_is_captured_from_once() -> None:
    desk = desk_with(Ability.MULTIPLE_CAPTURE)
    payment = pay(desk)
    assert refused(desk, desk.do(capture(payment, 6_000, key="c1", final=True))) is None
    desk = desk_with(Ability.MULTIPLE_CAPTURE)
    payment = pay(desk)
    desk.do(capture(payment, 10_000, key="c1"), PENDING)
    assert refused(desk, desk.do(capture(payment, 1, key="c2"))) is not None


def test_part_is_captured_where_the_rest_is_let_go_only_when_that_is_asked_for() -> None:
    desk = desk_with(Ability.MULTIPLE_CAPTURE)
    payment = pay(desk)
    assert refused(desk, desk.do(capture(payment, 6_000, key="c1"))) is Rejection.MULTIPLE_CAPTURE_UNSUPPORTED
    assert refused(desk, desk.do(capture(payment, 6_000, key="c2", final=True))) is None


def test_another_capture_follows_where_there_is_one_only_when_the_first_came_to_nothing() -> None:
    desk = desk_with(Ability.MULTIPLE_CAPTURE)
    payment = pay(desk)
    desk.do(capture(payment, key="c1"), DECLINE)
    second = desk.do(capture(payment, key="c2"), Said(reference="cap"))
    assert refused(desk, second) is None
    desk.notice(second, TAKEN_BACK)
    assert refused(desk, desk.do(capture(payment, key="c3"))) is None


def test_part_is_not_captured_where_a_capture_takes_all() -> None:
    desk = desk_with(Ability.PARTIAL_CAPTURE)
    payment = pay(desk)
    for key, final in (("c1", False), ("c2", True)):
        command = capture(payment, 6_000, key=key, final=final)
        assert refused(desk, desk.do(command)) is Rejection.PARTIAL_CAPTURE_UNSUPPORTED
    assert refused(desk, desk.do(capture(payment, key="c3"))) is None


def test_part_is_not_refunded_where_a_refund_gives_all_back() -> None:
    desk = desk_with(Ability.PARTIAL_REFUND)
    desk.do(sale(10_000))
    payment = desk.payment.payment_id
    assert refused(desk, desk.do(refund(payment, 6_000, key="r1"))) is Rejection.PARTIAL_REFUND_UNSUPPORTED
    assert refused(desk, desk.do(refund(payment, 10_000, key="r2"))) is None


def test_second_refund_is_refused_where_there_is_one() -> None:
    desk = desk_with(Ability.MULTIPLE_REFUND)
    desk.do(sale(10_000))
    payment = desk.payment.payment_id
    assert refused(desk, desk.do(refund(payment, 6_000, key="r1"))) is None
    assert refused(desk, desk.do(refund(payment, 1_000, key="r2"))) is Rejection.MULTIPLE_REFUND_UNSUPPORTED


@pytest.mark.parametrize("kind", [CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND])
def test_operation_that_the_gateway_does_not_have_is_refused(kind: CallKind) -> None:
    desk = desk_with(can=replace(ALL, operations=ALL.operations - {kind}))
    if kind is CallKind.REFUND:
        desk.do(sale(10_000))
        command = refund(desk.payment.payment_id, key="r")
    else:
        payment = pay(desk)
        command = capture(payment, key="c") if kind is CallKind.CAPTURE else void(payment, key="v")
    assert refused(desk, desk.do(command)) is Rejection.OPERATION_UNSUPPORTED


def test_ability_is_lacked_in_one_currency_alone() -> None:
    yen = replace(ALL, not_in_currency=frozenset({(Ability.PARTIAL_REFUND, "JPY")}))
    desk = desk_with(can=yen)
    desk.do(sale(10_000))  # in dollars
    assert refused(desk, desk.do(refund(desk.payment.payment_id, 1))) is None
    desk = desk_with(can=replace(ALL, not_in_currency=frozenset({(Ability.PARTIAL_REFUND, "USD")})))
    desk.do(sale(10_000))
    assert refused(desk, desk.do(refund(desk.payment.payment_id, 1))) is Rejection.PARTIAL_REFUND_UNSUPPORTED


def test_abilities_are_those_of_the_payments_own_account() -> None:
    desk = desk_with(Ability.PARTIAL_REFUND, route="mock/eu")
    desk.do(sale(10_000))
    assert refused(desk, desk.do(refund(desk.payment.payment_id, 1))) is Rejection.PARTIAL_REFUND_UNSUPPORTED
    elsewhere = desk_with(Ability.PARTIAL_REFUND, route="mock/eu")
    elsewhere.plan = plan("mock")
    elsewhere.do(sale(10_000))
    assert refused(elsewhere, elsewhere.do(refund(elsewhere.payment.payment_id, 1))) is None


def test_money_is_given_back_though_its_account_takes_the_currency_no_more() -> None:
    desk = desk_with(can=replace(ALL, currencies=frozenset({"EUR"})))
    desk.do(sale(10_000))
    assert refused(desk, desk.do(refund(desk.payment.payment_id, 1))) is None


def test_what_the_sums_refuse_is_refused_for_that_reason_first() -> None:
    desk = desk_with(*Ability)
    payment = pay(desk)
    assert refused(desk, desk.do(capture(payment, 10_001))) is Rejection.AMOUNT_EXCEEDS_AUTHORIZED
