"""What the account of a payment cannot do is refused before it is sent, with the reason."""

from dataclasses import replace

import pytest

from gateway_adapters.contract import Ability, Capabilities
from schemas.identifiers import GatewayRoute, OpId, PaymentId
from schemas.vocabulary import CallKind, OperationState, Outcome, Rejection, RetryAdvice
from streams.domain.limits import DEFAULT_RULES
from tests.support.gateway_calls import capabilities_with
from tests.support.order_desk import (
    DECLINE,
    PENDING,
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


def test_hold_is_let_go_where_nothing_but_abilities_to_capture_and_refund_is_lacked() -> None:
    desk = desk_with(*Ability)
    voided = desk.do(void(pay(desk)))
    assert (refused(desk, voided), desk.state(voided)) == (None, OperationState.SUCCEEDED)


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


NAMED = replace(ALL, refunds_name_captures=True)


def captured(*amounts: int, can: Capabilities = NAMED) -> Desk:
    """An order with a payment of which these parts were captured, one after the other: `cap-1`, `cap-2` and so on."""
    desk = desk_with(can=can)
    desk.do(authorize(sum(amounts)), Said(reference="auth", payment_reference="order-7"))
    for number, amount in enumerate(amounts, start=1):
        command = capture(desk.payment.payment_id, amount, key=f"c{number}")
        desk.do(command, Said(reference=f"cap-{number}", payment_reference="auth"))
    return desk


def drawn(desk: Desk, amount: int | None, key: str, *answers: Said) -> str | None:
    """Ask for a refund; return the capture that its gateway is told, or why it was refused."""
    op_id = desk.send(refund(desk.payment.payment_id, amount, key=key))
    desk.grant()
    if not desk.requests:
        return desk.operation(op_id).rejection
    reference = desk.requests[0].capture_reference
    desk.script.extend(answers)
    desk.settle()
    return reference


def test_refund_names_the_capture_that_it_draws_from() -> None:
    desk = captured(6_000, 1_000, 3_000)
    assert drawn(desk, 1_000, "r1") == "cap-2", "the smallest that has enough"
    assert drawn(desk, 1_000, "r2") == "cap-3"
    assert drawn(desk, 2_000, "r3") == "cap-3", "what is left there is enough"
    assert drawn(desk, 2_000, "r4") == "cap-1"


def test_refund_above_what_any_capture_has_left_is_refused_where_it_draws_from_one() -> None:
    desk = captured(6_000, 4_000)
    assert drawn(desk, 6_001, "r1") == Rejection.REFUND_EXCEEDS_ONE_CAPTURE
    assert drawn(desk, None, "r2") == Rejection.REFUND_EXCEEDS_ONE_CAPTURE
    assert drawn(desk, 6_000, "r3", PENDING) == "cap-1"
    assert drawn(desk, 4_001, "r4") == Rejection.AMOUNT_EXCEEDS_CAPTURED
    assert drawn(desk, 4_000, "r5") == "cap-2", "an open refund has taken its part"


def test_refund_that_came_to_nothing_draws_from_nothing() -> None:
    desk = captured(6_000, 4_000)
    assert drawn(desk, 6_000, "r1", DECLINE) == "cap-1"
    assert drawn(desk, 6_000, "r2") == "cap-1"


def test_refund_of_a_sale_draws_from_the_sale() -> None:
    desk = desk_with(can=NAMED)
    desk.do(sale(10_000), Said(reference="s-1"))
    assert drawn(desk, 4_000, "r1") == "s-1"


def test_refund_draws_from_no_capture_that_was_taken_back_or_that_the_gateway_never_named() -> None:
    desk = captured(6_000, 4_000)
    assert desk.row is not None
    desk.notice(desk.row.operations[1].op_id, replace(TAKEN_BACK, reference="cap-1"))
    assert drawn(desk, 4_000, "r1") == "cap-2"
    desk = desk_with(can=NAMED)
    desk.do(authorize(10_000))
    desk.do(capture(desk.payment.payment_id), Said(reference=None))
    assert drawn(desk, 1, "r1") == Rejection.REFUND_EXCEEDS_ONE_CAPTURE


def test_no_capture_is_named_where_none_is_wanted() -> None:
    desk = captured(6_000, 4_000, can=ALL)
    assert drawn(desk, None, "r1") is None
    assert desk.row is not None
    assert desk.row.operations[-1].draws_on is None


def test_order_that_the_payment_stands_in_is_kept_beside_its_authorization_and_told_to_the_gateway() -> None:
    desk = captured(6_000)
    assert (desk.payment.gateway_reference, desk.payment.order_reference) == ("auth", "order-7")
    desk.send(refund(desk.payment.payment_id, 1))
    desk.grant()
    asked = desk.requests[0]
    assert (asked.payment_reference, asked.order_reference, asked.capture_reference) == ("auth", "order-7", "cap-1")


def test_order_of_an_attempt_at_another_gateway_is_not_told_to_the_next() -> None:
    desk = Desk(plan=plan("mock", "other"))
    refused_there = replace(refusal(RetryAdvice.OTHER_GATEWAY), reference="auth", payment_reference="order-7")
    desk.do(authorize(), refused_there, Said(reference="auth-2"))
    assert (desk.payment.gateway_reference, desk.payment.order_reference) == ("auth-2", None)


@pytest.mark.parametrize("named", ["auth", "order-7", "cap-1"])
def test_refund_at_the_gateways_desk_is_recorded_by_whichever_reference_of_the_payment_it_names(named: str) -> None:
    desk = captured(6_000)
    told = Said(reference="re_desk", confirmed_minor=2_000, confirmed_currency="USD")
    desk.notice(None, told, kind=CallKind.REFUND, payment_reference=named)
    assert desk.view.refunded_minor == 2_000
