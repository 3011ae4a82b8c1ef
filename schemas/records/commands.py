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
from schemas.identifiers import Fingerprint, GatewayName, IdempotencyKey, OpId, OrderId, OriginId, PaymentId
from schemas.quick_init import quick_init
from schemas.source_code import compiled, indented
from schemas.vocabulary import OperationKind

C = TypeVar("C")

_NOT_IN_BODY: Final = frozenset({"origin_id", "idempotency_key", "capture"})
"""The first two are parts of the operation id themselves; `capture` is said by the kind of operation."""
_NOT_IN_PART: Final = frozenset({"ip", "browser"})
"""Of the payer: they differ between retries of the same wish, from another network or another tab."""
_TEXT_TYPES: Final = (str, OrderId, PaymentId)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentToken:
    """What one gateway knows the payment method by."""

    gateway: GatewayName  # or `gateway/account`, as in a policy; without one: good for each account there
    kind: str  # in that gateway's words: what sort of token it is, such as a stored method or encrypted fields
    value: str  # never a card number
    payer_reference: str | None = None  # whose it is, where the gateway wants to know


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserFacts:
    """What 3-D Secure asks about the payer's browser, as the browser says it (EMV 3-D Secure 2, browser data)."""

    accept_header: str | None = None
    color_depth_bits: int | None = None
    java_enabled: bool | None = None
    language: str | None = None  # IETF BCP 47
    screen_height_px: int | None = None
    screen_width_px: int | None = None
    time_zone_offset_min: int | None = None  # as JavaScript has it: UTC minus local time
    user_agent: str | None = None


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who pays. For the gateway alone: it is read from the command when the call is made, and kept nowhere else."""

    email: str | None = None
    reference: str | None = None  # the merchant's own id of the payer
    ip: str | None = None  # not part of what is asked for: it may differ when the same is asked for again
    browser: BrowserFacts | None = None  # nor are these
    country: str | None = None  # ISO 3166-1 alpha-2, upper case; routing rules may ask for it


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class NamedText:
    """One entry of a map of texts. No two of a map have the same name, and their order means nothing."""

    name: str
    value: str


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequested:
    """Open the payment of an order: a sale when `capture` is true, else an authorization."""

    origin_id: OriginId
    order_id: OrderId
    idempotency_key: IdempotencyKey
    amount_minor: int  # > 0
    currency: str  # ISO 4217, upper case
    token: str | None  # of the plan's first gateway, for the payment method; never a card number; None: see `tokens`
    capture: bool
    tokens: tuple[PaymentToken, ...] = ()  # one a gateway, in any order; exactly one of both is given
    allow_partial: bool = False  # whether an approval of less than the amount will do
    merchant_initiated: bool = False  # the payer is not there (EMV 3-D Secure: 3RI)
    return_url: str | None = None  # where the payer comes back to after acting on a page of somebody else's
    payer: Payer | None = None
    statement_descriptor: str | None = None  # what the payer reads on the statement
    metadata: tuple[NamedText, ...] = ()  # for the gateway's own records


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


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequested:
    """Go on with a payment whose payer has acted, with what the payer came back with."""

    origin_id: OriginId
    order_id: OrderId
    idempotency_key: IdempotencyKey
    payment_id: PaymentId
    parameters: tuple[NamedText, ...] = ()  # of the return, in the gateway's words, such as a redirect result


Command = PaymentRequested | CaptureRequested | VoidRequested | RefundRequested | CompletionRequested


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
        case CompletionRequested():
            return OperationKind.COMPLETE


def is_for_its_gateway_alone(command: Command) -> bool:
    """Return whether a command says what only a gateway may be told: it is read from the command, and copied nowhere.

    A single token is no such thing: it is part of the order's row for as long as a call may need it.
    """
    if isinstance(command, CompletionRequested):
        return bool(command.parameters)
    return isinstance(command, PaymentRequested) and (
        command.payer is not None
        or bool(command.tokens or command.metadata)
        or command.return_url is not None
        or command.statement_descriptor is not None
        or command.merchant_initiated
        or command.allow_partial
    )


def body_of(cls: type[C]) -> Callable[[C], tuple[str, ...]]:
    """Return what tells the canonical body of a command of this class, as texts in a fixed order, without its kind.

    It follows from the class. A field without a default is always part of the body, in the class's order. A field with
    one was added later: it is part of the body, under its name, only where it has another value. So the ids of
    operations that were asked for before the field was there stay as they were. A later field that holds records is
    told by `_text_of_part`. Code from source, since every command pays for it at the ingress and twice in the orders
    agent.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a record class is a dataclass
    told = [field for field in fields if field.name not in _NOT_IN_BODY]
    later = [field for field in told if field.default is not dataclasses.MISSING]
    always = "".join(f"{_text_of(field)}, " for field in told if field not in later)
    lines = [f"body = ({always})"]
    known: dict[str, object] = {}
    nested = {shape for shape, hint in typing.get_type_hints(cls).items() if _holds_records(hint)}
    for field in sorted(later, key=lambda each: each.name):
        known[f"default_{field.name}"] = field.default
        lines += [f"if command.{field.name} != default_{field.name}:"]
        if field.name in nested:
            known["text_of_part"] = _text_of_part
            lines += indented([f"text = text_of_part(command.{field.name})", "if text:"])
            lines += indented(indented([f"body += ({field.name!r}, text)"]))
        else:
            lines += indented([f"body += ({field.name!r}, {_text_of(field)})"])
    source = "\n".join(["def body_of_command(command):", *indented([*lines, "return body"])])
    body: Callable[[C], tuple[str, ...]] = compiled(source, "body_of_command", known)
    return body


def _text_of(field: "dataclasses.Field[object]") -> str:
    value = f"command.{field.name}"
    return value if field.type in _TEXT_TYPES else f"str({value})"


def _holds_records(hint: object) -> bool:
    members = typing.get_args(hint) or (hint,)
    return any(dataclasses.is_dataclass(each) for each in members)


def _text_of_part(part: object) -> str:
    """Return the canonical text of a record, or of several whose order means nothing; empty when it says nothing.

    A record is told by the digest of its fields, each under its name, and only of those that have another value than
    their default: so a field that is added to it later changes no id either. All of its later fields have one.
    """
    if isinstance(part, tuple):
        return identifiers.fingerprint(*sorted(map(_text_of_part, part)))
    told: list[str] = []
    for field in dataclasses.fields(part):  # type: ignore[arg-type]  # a record, as `_holds_records` has seen
        value = getattr(part, field.name)
        if field.name in _NOT_IN_PART or value == field.default:
            continue
        text = _text_of_part(value) if dataclasses.is_dataclass(value) else str(value)
        told += [field.name, text] if text else []
    return identifiers.fingerprint(*told) if told else ""


_BODIES: Mapping[type, Callable[[Any], tuple[str, ...]]] = {cls: body_of(cls) for cls in typing.get_args(Command)}


def fingerprint_of(command: Command) -> Fingerprint:
    """Return the fingerprint of the command's canonical body.

    It covers every field but the origin, the idempotency key, and what may differ between retries of the same wish (the
    payer's address and browser).
    """
    return identifiers.fingerprint(kind_of(command), *_BODIES[type(command)](command))


def op_id_of(command: Command) -> OpId:
    """Return the id of the operation that the command asks for, the same whenever the same is asked for again.

    Two commands are one operation exactly when origin, idempotency key, order and body are (DESIGN.md, "Identity").
    """
    return identifiers.op_id(command.origin_id, command.idempotency_key, command.order_id, fingerprint_of(command))
