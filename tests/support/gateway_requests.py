"""Requests to gateways, for tests: everything has a default but what the test is about."""

import itertools
import uuid
from dataclasses import replace

from schemas.identifiers import GatewayName, OpId, OrderId, OriginId, PaymentId, gateway_key
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind

_numbers = itertools.count(1)


def fresh_order() -> OrderId:
    """Return an order nobody has used."""
    return OrderId(f"order-{uuid.uuid4().hex[:12]}")


def payment_request(
    order: OrderId,
    kind: CallKind = CallKind.AUTHORIZE,
    *,
    token: str = "tok_visa",
    amount_minor: int = 10_000,
    currency: str = "USD",
    gateway: str = "mock",
) -> GatewayCallRequested:
    """Return a call that opens a payment, with a new operation and key."""
    op = OpId(f"op_{next(_numbers)}_{uuid.uuid4().hex[:8]}")
    return GatewayCallRequested(
        origin_id=OriginId("originA"),
        order_id=order,
        payment_id=PaymentId(f"pay_of_{order}"),
        op_id=op,
        kind=kind,
        inquired_kind=None,
        attempt=1,
        call_number=1,
        gateway=GatewayName(gateway),
        gateway_key=gateway_key(op, 1),
        amount_minor=amount_minor,
        currency=currency,
        token=token,
        payment_reference=None,
        own_reference=None,
        final=False,
        first_requested_at_ms=1_000,
        requested_at_ms=1_000,
    )


def follow_up(
    first: GatewayCallRequested,
    kind: CallKind,
    *,
    reference: str | None,
    amount_minor: int,
    final: bool = False,
    capture_reference: str | None = None,
) -> GatewayCallRequested:
    """Return a capture, void or refund of the payment that `first` opened, with a new operation and key."""
    new = payment_request(first.order_id, kind, amount_minor=amount_minor, currency=first.currency)
    return replace(
        new,
        token=None,
        payment_reference=reference,
        capture_reference=capture_reference,
        final=final,
        gateway=first.gateway,
        opening_op_id=first.op_id if kind in {CallKind.COMPLETE, CallKind.VOID} else None,
        opening_kind=first.kind if kind is CallKind.VOID else None,
    )


def inquiry_about(call: GatewayCallRequested, *, own_reference: str | None = None) -> GatewayCallRequested:
    """Return the inquiry about a call: same operation, same key."""
    return replace(
        call,
        kind=CallKind.INQUIRE,
        inquired_kind=call.kind,
        token=None,
        own_reference=own_reference,
        call_number=call.call_number + 1,
    )
