"""Whom a webhook's items are about."""

from dataclasses import replace

import pytest

from gateway_adapters.contract import Capabilities, GatewayNotice
from gateway_adapters.mock.spec import CAPABILITIES
from gateway_adapters.notices import (
    MAX_ADDRESSES_PER_WEBHOOK,
    MAX_NOTICES_PER_WEBHOOK,
    MAX_REFERENCE_CHARS,
    NOBODY,
    Address,
    TooManyNoticesError,
    address_of,
    items_for,
    split,
)
from schemas.identifiers import OpId, OrderId, OriginId
from schemas.vocabulary import CallKind, Outcome
from tests.support.order_desk import MOCK, ORIGIN

OPENING = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
BY_OURS = replace(CAPABILITIES, own_references_indexed=OPENING)


def notice(
    order: str | None = None,
    *,
    origin: str | None = ORIGIN,
    op: str | None = None,
    ref: str | None = None,
    payment: str | None = None,
    kind: CallKind | None = None,
) -> GatewayNotice:
    return GatewayNotice(
        gateway=MOCK,
        notice_id="n",
        origin_id=None if origin is None else OriginId(origin),
        order_id=None if order is None else OrderId(order),
        op_id=None if op is None else OpId(op),
        kind=kind,
        outcome=Outcome.SUCCEEDED,
        gateway_reference=ref,
        payment_reference=payment,
        confirmed_amount_minor=None,
        confirmed_currency=None,
        error=None,
        occurred_at_ms=1,
    )


@pytest.mark.parametrize(
    ("item", "address"),
    [
        (notice("o1", ref="r"), Address(origin_id=ORIGIN, order_id=OrderId("o1"))),
        (notice(ref="r", payment="p"), Address(reference="p")),
        (notice(ref="r"), Address(reference="r")),
        (notice(op="op_1", ref="r"), Address(reference="r")),
        (notice(op="op_1"), Address(reference="op_1")),
        (notice("o1", origin=None, ref="r"), Address(reference="r")),
        (notice("a|b", ref="r"), Address(reference="r")),
        (notice("o1", origin="x y", ref="r"), Address(reference="r")),
        (notice(payment="p" * (MAX_REFERENCE_CHARS + 1), ref="r"), Address(reference="r")),
        (notice(), NOBODY),
        (notice(ref=""), NOBODY),
        (notice("", origin="", ref="x" * (MAX_REFERENCE_CHARS + 1)), NOBODY),
    ],
)
def test_item_is_about_its_order_else_the_payment_else_what_happened_to_it(
    item: GatewayNotice, address: Address
) -> None:
    assert address_of(item, CAPABILITIES) == address


@pytest.mark.parametrize(
    ("kind", "reference"),
    [(CallKind.SALE, "op_1"), (None, "op_1"), (CallKind.REFUND, "p")],
)
def test_item_is_known_by_our_reference_first_when_that_is_kept_with_the_intent(
    kind: CallKind | None, reference: str
) -> None:
    assert address_of(notice(op="op_1", payment="p", kind=kind), BY_OURS) == Address(reference=reference)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, BY_OURS])
def test_each_item_belongs_to_one_address_or_to_nobody(capabilities: Capabilities) -> None:
    items = (notice("o1", ref="1"), notice(ref="p"), notice(), notice("o2"), notice("o1", ref="2"), notice(op="op_1"))
    said = split(items, capabilities)
    assert said.addresses == tuple(dict.fromkeys(address_of(each, capabilities) for each in items if each != notice()))
    found = [item for address in said.addresses for item in items_for(items, address, capabilities)]
    assert sorted(map(repr, found)) == sorted(repr(each) for each in items if each != notice())
    assert said.ignored == 1


def test_items_of_an_order_keep_their_order() -> None:
    items = (notice("o1", ref="1"), notice("o2", ref="2"), notice("o1", ref="3"))
    mine = items_for(items, Address(origin_id=ORIGIN, order_id=OrderId("o1")), CAPABILITIES)
    assert [each.gateway_reference for each in mine] == ["1", "3"]


def test_body_is_refused_when_it_holds_more_than_a_webhook_may() -> None:
    split((notice("o1"),) * MAX_NOTICES_PER_WEBHOOK, CAPABILITIES)
    with pytest.raises(TooManyNoticesError, match="at most 1000"):
        split((notice("o1"),) * (MAX_NOTICES_PER_WEBHOOK + 1), CAPABILITIES)
    many = tuple(notice(f"o{number}") for number in range(MAX_ADDRESSES_PER_WEBHOOK))
    assert len(split(many, CAPABILITIES).addresses) == MAX_ADDRESSES_PER_WEBHOOK
    with pytest.raises(TooManyNoticesError, match="at most 100"):
        split((*many, notice(ref="one more")), CAPABILITIES)
