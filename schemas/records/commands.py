"""What a merchant asks for: the records of `payments.commands.v1`.

Written by the ingress and by direct producers, read by the orders agent. The CloudEvents id of the message is the
command id; a client's retry is another command with the same idempotency key, hence the same operation.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from schemas import identifiers
from schemas.identifiers import Fingerprint, IdempotencyKey, OpId, OrderId, OriginId, PaymentId
from schemas.quick_init import quick_init
from schemas.source_code import compiled, indented
from schemas.vocabulary import OperationKind

C = TypeVar("C")

_NOT_IN_BODY: Final = frozenset({"origin_id", "idempotency_key", "capture"})
"""The first two are parts of the operation id themselves; `capture` is said by the kind of operation."""
_TEXT_TYPES: Final = (str, OrderId, PaymentId)


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
    """Return the kind of operation that the command asks for: of a payment, a sale when it is captured at once."""
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


def body_of(cls: type[C]) -> Callable[[C], tuple[str, ...]]:
    """Return what tells the canonical body of a command of this class, as texts in a fixed order, without its kind.

    It follows from the class. A field without a default is always part of the body, in the class's order. A field with
    one was added later: it is part of the body, under its name, only where it has another value. So the ids of
    operations that were asked for before the field was there stay as they were. Code from source, since every command
    pays for it at the ingress and twice in the orders agent.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a record class is a dataclass
    told = [field for field in fields if field.name not in _NOT_IN_BODY]
    later = [field for field in told if field.default is not dataclasses.MISSING]
    always = "".join(f"{_text_of(field)}, " for field in told if field not in later)
    lines = [f"body = ({always})"]
    known: dict[str, object] = {}
    for field in sorted(later, key=lambda each: each.name):
        known[f"default_{field.name}"] = field.default
        lines += [f"if command.{field.name} != default_{field.name}:"]
        lines += indented([f"body += ({field.name!r}, {_text_of(field)})"])
    source = "\n".join(["def body_of_command(command):", *indented([*lines, "return body"])])
    body: Callable[[C], tuple[str, ...]] = compiled(source, "body_of_command", known)
    return body


def _text_of(field: "dataclasses.Field[object]") -> str:
    value = f"command.{field.name}"
    return value if field.type in _TEXT_TYPES else f"str({value})"


_BODIES: Mapping[type, Callable[[Any], tuple[str, ...]]] = {cls: body_of(cls) for cls in typing.get_args(Command)}


def fingerprint_of(command: Command) -> Fingerprint:
    """Return the fingerprint of the command's canonical body: every field but the origin and the idempotency key."""
    return identifiers.fingerprint(kind_of(command), *_BODIES[type(command)](command))


def op_id_of(command: Command) -> OpId:
    """Return the id of the operation that the command asks for, the same whenever the same is asked for again.

    Two commands are one operation exactly when origin, idempotency key, order and body are (DESIGN.md, "Identity").
    """
    return identifiers.op_id(command.origin_id, command.idempotency_key, command.order_id, fingerprint_of(command))
