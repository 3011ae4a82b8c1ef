"""Identifiers are the same for the same wish, carry their order, and refuse what nobody could have been given."""

import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import identifiers as ids
from schemas.identifiers import Fingerprint, IdempotencyKey, InvalidIdentifierError, OpId, OrderId, OriginId
from schemas.records.commands import Command, fingerprint_of, op_id_of
from tests.support.record_strategies import commands, visible

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
