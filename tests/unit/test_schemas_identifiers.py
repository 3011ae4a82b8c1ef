"""Identifiers are the same for the same wish, carry their order, and refuse what nobody could have been given."""

import json
import re
import typing
import uuid
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import identifiers as ids
from schemas.identifiers import (
    Fingerprint,
    GatewayName,
    IdempotencyKey,
    InvalidIdentifierError,
    OpId,
    OrderId,
    OriginId,
)
from schemas.record_shapes import FieldShape, fields_of
from schemas.records.commands import (
    BrowserFacts,
    Command,
    NamedText,
    Payer,
    PaymentRequested,
    PaymentToken,
    body_of,
    fingerprint_of,
    kind_of,
    op_id_of,
)
from schemas.vocabulary import OperationKind
from tests.support.golden_messages import GOLDEN_FOLDER, example
from tests.support.record_strategies import commands, visible

COMMAND_CLASSES: tuple[type[Command], ...] = typing.get_args(Command)
VECTORS: list[dict[str, Any]] = json.loads((GOLDEN_FOLDER / "operation_ids.json").read_text(encoding="utf-8"))
SOURCE = Path(__file__).parents[2]

orders = visible.map(OrderId)
ops = visible.map(OpId)


@given(order=orders, op=ops)
def test_payment_and_refund_ids_carry_their_order(order: OrderId, op: OpId) -> None:
    assert ids.order_of(ids.payment_id(order, op)) == order
    assert ids.order_of(ids.refund_id(order, op)) == order
    assert ids.payment_id(order, op)[4:] == ids.refund_id(order, op)[3:]


@given(order=orders, op=ops, other=ops)
def test_ids_of_two_operations_of_an_order_differ(order: OrderId, op: OpId, other: OpId) -> None:
    assert (ids.payment_id(order, op) == ids.payment_id(order, other)) == (op == other)


@given(parts=st.lists(st.text(max_size=5), min_size=1, max_size=4), at=st.integers(0, 3))
def test_fingerprint_differs_when_the_parts_are_cut_otherwise(parts: list[str], at: int) -> None:
    at %= len(parts)
    joined = [*parts[:at], "".join(parts[at : at + 2]), *parts[at + 2 :]]
    assert (ids.fingerprint(*parts) == ids.fingerprint(*joined)) == (parts == joined)


@given(first=commands(), second=commands())
def test_operations_are_the_same_exactly_when_origin_key_order_and_body_are(first: Command, second: Command) -> None:
    same = (first.origin_id, first.idempotency_key, first.order_id, fingerprint_of(first)) == (
        second.origin_id,
        second.idempotency_key,
        second.order_id,
        fingerprint_of(second),
    )
    assert (op_id_of(first) == op_id_of(second)) == same


UNTOLD = {("Payer", "ip"), ("Payer", "browser")}
"""What may differ when the same is asked for again."""


def other_values(shape: FieldShape, value: object) -> list[Any]:
    """Other values that a field of this type may have."""
    others: list[Any] = [None] if shape.nullable else []
    match value:
        case tuple():
            return [(), (*value, replace(value[0], name="other") if isinstance(value[0], NamedText) else value[0])] + [
                (other,) for other in others_of(value[0])
            ]
        case PaymentToken() | Payer() | NamedText():
            return [*others, *others_of(value)]
        case bool():
            return [*others, not value]
        case int():
            return [*others, value + 1, -value]
        case str():
            return [*others, value + "x", ""]
    raise AssertionError(f"{shape.name}: what may a command's field be?")


def others_of(record: Any) -> list[Any]:
    """The record with each of its fields that is told changed in turn."""
    return [
        replace(record, **{shape.name: other})
        for shape in fields_of(type(record))
        if (type(record).__name__, shape.name) not in UNTOLD
        for other in other_values(shape, getattr(record, shape.name))
    ]


@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        pytest.param(cls, shape, id=f"{cls.__name__}.{shape.name}")
        for cls in COMMAND_CLASSES
        for shape in fields_of(cls)
    ],
)
def test_operation_is_another_when_any_field_of_its_command_is(cls: type[Command], shape: FieldShape) -> None:
    command = example(cls)
    for value in other_values(shape, getattr(command, shape.name)):
        changed: Command = replace(command, **{shape.name: value})
        assert op_id_of(changed) != op_id_of(command)
        in_body = shape.name not in {"origin_id", "idempotency_key"}
        assert (fingerprint_of(changed) != fingerprint_of(command)) == in_body


def test_fingerprints_and_operation_ids_are_what_they_were_before_fields_were_added() -> None:
    classes = {cls.__name__: cls for cls in COMMAND_CLASSES}
    for vector in VECTORS:  # as commit 1e98262 computed them
        command = classes[vector["record"]](**vector["fields"])
        assert (fingerprint_of(command), op_id_of(command)) == (vector["fingerprint"], vector["op_id"]), command


def test_vectors_hold_every_kind_of_operation_with_and_without_each_optional_field() -> None:
    classes = {cls.__name__: cls for cls in COMMAND_CLASSES}
    commands_told = [classes[vector["record"]](**vector["fields"]) for vector in VECTORS if vector["valid"]]
    assert {kind_of(command) for command in commands_told} == set(OperationKind)
    for cls in COMMAND_CLASSES:
        for shape, field in zip(fields_of(cls), fields(cls), strict=True):
            if field.default is not MISSING:
                continue  # added after the vectors were written: its rule is held below, and no vector names it
            if shape.name == "token":
                continue  # it may be absent since there is one for each gateway
            values = [getattr(command, shape.name) for command in commands_told if type(command) is cls]
            assert {value is None for value in values} == ({True, False} if shape.nullable else {False})


@dataclass(frozen=True, kw_only=True)
class Before:
    """A command as it was released."""

    origin_id: str
    idempotency_key: str
    order_id: str
    amount_minor: int | None


def later(*added: tuple[str, type, object]) -> Any:
    """The class of the same command after these fields, with their defaults, were added to it."""
    return make_dataclass("Later", added, bases=(Before,), frozen=True, kw_only=True)


def test_field_that_was_added_later_adds_nothing_to_the_body_when_it_is_absent() -> None:
    told: dict[str, Any] = {"origin_id": "o", "idempotency_key": "k", "order_id": "1", "amount_minor": None}
    before = body_of(Before)(Before(**told))
    cls = later(("note", str, None), ("express", bool, False))
    assert body_of(cls)(cls(**told)) == before == ("1", "None")
    bodies = [
        body_of(cls)(cls(**told, **given))
        for given in (
            {"note": "None"},
            {"note": ""},
            {"express": True},
            {"note": "True"},
            {"note": "x", "express": True},
        )
    ]
    assert len({before, *bodies}) == len(bodies) + 1


def test_body_is_the_same_when_later_fields_stand_in_another_order() -> None:
    told = {"origin_id": "o", "idempotency_key": "k", "order_id": "1", "amount_minor": 1, "note": "x", "rate": 2}
    first = later(("note", str, None), ("rate", int, None))
    second = later(("rate", int, None), ("note", str, None))
    assert body_of(first)(first(**told)) == body_of(second)(second(**told)) == ("1", "1", "note", "x", "rate", "2")


@pytest.mark.parametrize("cls", COMMAND_CLASSES)
def test_field_of_a_command_has_one_text_and_a_later_one_a_default(cls: type[Command]) -> None:
    released = {field for vector in VECTORS if vector["record"] == cls.__name__ for field in vector["fields"]}
    for shape, field in zip(fields_of(cls), fields(cls), strict=True):
        told_apart = shape.nested is None or field.default is not MISSING
        assert told_apart, "only a later field is told by the parts of its records that say something"
        assert (shape.name in released) == (field.default is MISSING), (
            "ids of operations that were asked for would change"
        )


PLAIN = PaymentRequested(
    origin_id=OriginId("originA"),
    order_id=OrderId("order-1"),
    idempotency_key=IdempotencyKey("idem-1"),
    amount_minor=1999,
    currency="USD",
    token="tok_123",
    capture=True,
)
FULL = replace(
    PLAIN,
    token=None,
    tokens=(
        PaymentToken(gateway=GatewayName("mock"), kind="stored", value="tok_1", payer_reference="shopper-1"),
        PaymentToken(gateway=GatewayName("other"), kind="vault", value="v-7"),
    ),
    payer=Payer(email="anna@example.com", reference="c-17"),
    return_url="https://shop.example/back",
    statement_descriptor="SHOP 17",
    metadata=(NamedText(name="cart", value="17"), NamedText(name="campaign", value="")),
    merchant_initiated=True,
    allow_partial=True,
)


def test_ids_of_payments_with_later_fields_are_the_same_for_ever() -> None:
    assert op_id_of(FULL) == "op_e4XqwWh4paHfrfS2_zC2E3p3jnBiCHj9"
    assert op_id_of(replace(PLAIN, payer=Payer(email="anna@example.com"))) == "op_Fbq94oBvpqul-SDVdge-zMwupwIZzKg8"


@pytest.mark.parametrize("ip", [None, "203.0.113.9", "2001:db8::1"])
@pytest.mark.parametrize("browser", [None, BrowserFacts(), BrowserFacts(user_agent="Mozilla/5.0", screen_width_px=1)])
@pytest.mark.parametrize("command", [PLAIN, FULL], ids=["plain", "full"])
def test_payment_is_the_same_when_it_is_asked_for_from_another_address_or_browser(
    command: PaymentRequested, ip: str | None, browser: BrowserFacts | None
) -> None:
    payer = replace(command.payer or Payer(), ip=ip, browser=browser)
    assert op_id_of(replace(command, payer=payer)) == op_id_of(command)


def test_payment_is_the_same_when_tokens_and_metadata_come_in_another_order() -> None:
    turned = replace(FULL, tokens=FULL.tokens[::-1], metadata=FULL.metadata[::-1])
    assert op_id_of(turned) == op_id_of(FULL)


def test_payment_is_another_when_a_text_is_cut_otherwise_between_name_and_value() -> None:
    ids_found = {
        op_id_of(replace(PLAIN, metadata=(NamedText(name=name, value=value),)))
        for name, value in (("ab", "c"), ("a", "bc"), ("abc", ""))
    }
    assert len(ids_found) == 3


def test_prefix_of_a_payment_id_stands_in_one_module() -> None:
    rooms = ("schemas", "gateway_adapters", "streams", "http_ingress")
    modules = [path for room in rooms for path in (SOURCE / room).rglob("*.py")]
    assert [path.name for path in modules if re.search(r"""["'^]pay_""", path.read_text(encoding="utf-8"))] == [
        "identifiers.py"
    ]


@given(order=orders, op=ops)
def test_order_of_a_payment_is_not_read_from_the_id_of_a_refund(order: OrderId, op: OpId) -> None:
    assert ids.order_of_payment(ids.payment_id(order, op)) == order
    with pytest.raises(InvalidIdentifierError):
        ids.order_of_payment(ids.refund_id(order, op))


@pytest.mark.parametrize(
    "text",
    [
        *("", "pay_", "re_", "pay__aaaaaaaaaaaaaaaa", "pay_b3JkZXI_short", "order-1", "xpay_b3JkZXI_aaaaaaaaaaaaaaaa"),
        "pay_b3JkZXI=_aaaaaaaaaaaaaaaa",  # padded: another spelling
        "pay_b3JkZXJ_aaaaaaaaaaaaaaaa",  # stray bits: another spelling
        "pay_!!!!_aaaaaaaaaaaaaaaa",
        "pay_4pyT_aaaaaaaaaaaaaaaa",  # an order that is not ASCII
        "pay_IA_aaaaaaaaaaaaaaaa",  # an order of one space
        "pay_é_aaaaaaaaaaaaaaaa",
    ],
)
def test_id_is_refused_when_this_engine_cannot_have_made_it(text: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        ids.order_of(text)


@given(text=st.text(max_size=60))
def test_any_text_is_an_id_of_ours_or_refused(text: str) -> None:
    for candidate in (text, "pay_" + text, "re_" + text):
        try:
            order = ids.order_of(candidate)
        except InvalidIdentifierError:
            continue
        assert ids.order_id(order) == order


@pytest.mark.parametrize(
    ("check", "most"),
    [
        (ids.origin_id, ids.MAX_ORIGIN_ID_CHARS),
        (ids.order_id, ids.MAX_ORDER_ID_CHARS),
        (ids.idempotency_key, ids.MAX_IDEMPOTENCY_KEY_CHARS),
        (ids.gateway_token, ids.MAX_TOKEN_CHARS),
        (ids.command_id, ids.MAX_COMMAND_ID_CHARS),
    ],
)
def test_identifier_is_visible_ascii_of_limited_length(check: Callable[[str], str], most: int) -> None:
    assert check("x" * most) == "x" * most
    assert check("!~az09-_.:/+=") == "!~az09-_.:/+="
    for wrong in ("", "x" * (most + 1), "a b", "a|b", "a\n", "\x7f", "é"):
        with pytest.raises(InvalidIdentifierError):
            check(wrong)


def test_derived_names_are_the_same_for_ever() -> None:
    op = ids.op_id(OriginId("originA"), IdempotencyKey("idem-1"), OrderId("order-1"), Fingerprint("f"))
    assert op == "op_j9zQxY8QKvi_51F-U_yt1hpmnov-WwPB"
    assert ids.event_id("command-1", "accepted") == "1b48acde-716c-5eb5-8814-e1250aed2b1f"
    assert ids.gateway_key(OpId("op_1"), 2) == "op_1-2"
    assert ids.row_key(OriginId("o"), OrderId("1")) == b"o|1"
    assert ids.claim_key(OriginId("o"), IdempotencyKey("k")) == b"o|k"


def test_event_id_is_the_uuid_of_version_5_that_the_standard_library_makes() -> None:
    namespace = uuid.UUID("6f0c6c8e-2b55-5c0e-9d0c-5b8a6f3f7a51")
    for number in range(200):
        made = ids.event_id(f"command-{number}", "authorized-é")
        assert made == str(uuid.uuid5(namespace, f"command-{number}|authorized-é"))
