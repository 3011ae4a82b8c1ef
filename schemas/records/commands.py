"""What a merchant asks for: the records of `payments.commands.v1`.

Written by the ingress and by direct producers, read by the orders agent. The CloudEvents id of the message is the
command id; a client's retry is another command with the same idempotency key, hence the same operation.
"""

from dataclasses import dataclass

from schemas import identifiers
from schemas.identifiers import Fingerprint, IdempotencyKey, OpId, OrderId, OriginId, PaymentId
from schemas.quick_init import quick_init
from schemas.vocabulary import OperationKind


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequested:
    """Open the payment of an order: a sale when `capture` is true, else an authorization."""

    origin_id: OriginId
    order_id: OrderId
    idempotency_key: IdempotencyKey
    amount_minor: int  # > 0
    currency: str  # ISO 4217, upper case
    token: str  # a gateway's token for the payment method; never a card number
    capture: bool


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequested:
    """Capture some of what a payment has authorized; `final` releases the rest."""

    origin_id: OriginId
    order_id: OrderId
    idempotency_key: IdempotencyKey
    payment_id: PaymentId
    amount_minor: int | None  # None: all that is left
    currency: str | None  # None: the payment's
    final: bool


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class VoidRequested:
    """Release a payment of which nothing was captured."""

    origin_id: OriginId
    order_id: OrderId
    idempotency_key: IdempotencyKey
    payment_id: PaymentId


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequested:
    """Give back some of what a payment has captured."""

    origin_id: OriginId
    order_id: OrderId
    idempotency_key: IdempotencyKey
    payment_id: PaymentId
    amount_minor: int | None  # None: all that is left
    currency: str | None  # None: the payment's


Command = PaymentRequested | CaptureRequested | VoidRequested | RefundRequested


def kind_of(command: Command) -> OperationKind:
    """Return the kind of operation that the command asks for."""
    match command:
        case PaymentRequested(capture=True):
            return OperationKind.SALE
        case PaymentRequested():
            return OperationKind.AUTHORIZE
        case CaptureRequested():
            return OperationKind.CAPTURE
        case VoidRequested():
            return OperationKind.VOID
        case RefundRequested():
            return OperationKind.REFUND


def fingerprint_of(command: Command) -> Fingerprint:
    """Return the fingerprint of the command's canonical body: every field but the origin and the idempotency key."""
    parts: tuple[str, ...]
    match command:
        case PaymentRequested():
            parts = (str(command.amount_minor), command.currency, command.token)
        case CaptureRequested():
            parts = (command.payment_id, str(command.amount_minor), str(command.currency), str(command.final))
        case VoidRequested():
            parts = (command.payment_id,)
        case RefundRequested():
            parts = (command.payment_id, str(command.amount_minor), str(command.currency))
    return identifiers.fingerprint(kind_of(command), command.order_id, *parts)


def op_id_of(command: Command) -> OpId:
    """Return the id of the operation that the command asks for (DESIGN.md section 4)."""
    return identifiers.op_id(command.origin_id, command.idempotency_key, command.order_id, fingerprint_of(command))
