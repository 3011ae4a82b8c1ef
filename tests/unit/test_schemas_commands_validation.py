"""Each rule of a command's values is refused by name, and never with the value."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given

from schemas import identifiers
from schemas.commands_validation import CardDataError, InvalidCommandError, validate
from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId, payment_id, refund_id
from schemas.money import MAX_AMOUNT_MINOR
from schemas.records.commands import CaptureRequested, Command, PaymentRequested, RefundRequested, VoidRequested
from tests.support.record_strategies import commands

ORDER = OrderId("order-1")
PAYMENT = PaymentRequested(
    origin_id=OriginId("originA"),
    order_id=ORDER,
    idempotency_key=IdempotencyKey("idem-1"),
    amount_minor=1999,
    currency="USD",
    token="tok_123",
    capture=True,
)
_IDENTITY: dict[str, Any] = {
    "origin_id": OriginId("originA"),
    "order_id": ORDER,
    "idempotency_key": IdempotencyKey("idem-2"),
    "payment_id": payment_id(ORDER, OpId("op_1")),
}
CAPTURE = CaptureRequested(**_IDENTITY, amount_minor=None, currency=None, final=True)
REFUND = RefundRequested(**_IDENTITY, amount_minor=5, currency="USD")
VOID = VoidRequested(**_IDENTITY)


@given(command=commands())
def test_command_is_taken_when_it_keeps_the_rules(command: Command) -> None:
    validate(command)


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (PAYMENT, {"amount_minor": 0}),
        (PAYMENT, {"amount_minor": -1}),
        (PAYMENT, {"amount_minor": MAX_AMOUNT_MINOR + 1}),
        (PAYMENT, {"currency": "XXX"}),
        (PAYMENT, {"currency": "usd"}),
        (PAYMENT, {"token": ""}),
        (PAYMENT, {"token": "a b"}),
        (PAYMENT, {"token": "x" * (identifiers.MAX_TOKEN_CHARS + 1)}),
        (PAYMENT, {"token": "4111-1111-1111-1111"}),
        (PAYMENT, {"origin_id": "4111111111111111"}),
        (PAYMENT, {"order_id": "order-4111111111111111"}),
        (VOID, {"idempotency_key": "4111.1111.1111.1111"}),
        (PAYMENT, {"token": "NDExMTExMTExMTExMTExMQ"}),
        (PAYMENT, {"order_id": "4111a1111b1111c1111"}),
        (CAPTURE, {"idempotency_key": "34313131313131313131313131313131"}),
        (PAYMENT, {"origin_id": ""}),
        (PAYMENT, {"origin_id": "a|b"}),
        (PAYMENT, {"order_id": "é"}),
        (PAYMENT, {"order_id": "x" * (identifiers.MAX_ORDER_ID_CHARS + 1)}),
        (PAYMENT, {"idempotency_key": "a\nb"}),
        (CAPTURE, {"amount_minor": 0}),
        (CAPTURE, {"currency": "XAU"}),
        (CAPTURE, {"payment_id": "pay_nonsense"}),
        (CAPTURE, {"payment_id": payment_id(OrderId("order-2"), OpId("op_1"))}),
        (CAPTURE, {"payment_id": refund_id(ORDER, OpId("op_1"))}),
        (REFUND, {"amount_minor": MAX_AMOUNT_MINOR + 1}),
        (REFUND, {"payment_id": ""}),
        (VOID, {"payment_id": payment_id(OrderId("order-2"), OpId("op_1"))}),
        (VOID, {"idempotency_key": ""}),
    ],
)
def test_command_is_refused_by_the_name_of_its_field(command: Command, changed: dict[str, Any]) -> None:
    ((field, value),) = changed.items()
    with pytest.raises(InvalidCommandError) as caught:
        validate(dataclasses.replace(command, **changed))
    assert caught.value.field == field
    assert not str(value) or str(value) not in caught.value.message or isinstance(value, int)


def test_card_data_is_told_apart_from_other_faults() -> None:
    split = dataclasses.replace(PAYMENT, order_id=OrderId("11111111"), token="41111111")
    for command in (split, dataclasses.replace(PAYMENT, token="4111(1111)1111(1111)")):
        with pytest.raises(CardDataError) as caught:
            validate(command)
        assert caught.value.field == "token"


def test_payment_that_exists_stays_within_reach_when_its_order_only_hides_a_number() -> None:
    order = OrderId("4111a1111b1111c1111")  # let in before disguises were looked for
    validate(dataclasses.replace(VOID, order_id=order, payment_id=payment_id(order, OpId("op_1"))))
