"""What goes over the socket between the Mock's two halves: typed payloads, to and from JSON. Pure.

Field names are the Mock's own. `status` is a plain string on purpose: a gateway may one day say a word that this
version does not know, and the adapter must see it.

A webhook is one event or a batch of them. Some are about operations of somebody else (without metadata, or with another
system's), and some about nothing that an engine cares for: their types are in no list of this page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import orjson

from schemas.vocabulary import CallKind

ACCOUNT_HEADER: Final = "Authorization"
KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotent-Replayed"
SIGNATURE_HEADER: Final = "Mock-Signature"
MAX_BODY_BYTES: Final = 128 * 1024
MAX_TOKEN_CHARS: Final = 64_000
MAX_KEY_CHARS: Final = 255
MAX_TEXT_CHARS: Final = 2048
MAX_AMOUNT_MINOR: Final = 10**12
MAX_EVENTS: Final = 256
"""Most events in one webhook."""

Json = dict[str, object]

EXTRAS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "token_kind": str,
        "customer": str,
        "shopper": dict,
        "return_url": str,
        "statement_descriptor": str,
        "merchant_metadata": dict,
        "off_session": bool,
        "allow_partial": bool,
    }
)
"""What a call may hold besides, and of which type: a strict gateway refuses what it does not know."""

_MEMBERS: Final = frozenset({"currency", "metadata", "amount", "token", "capture", "final"})

_OURS: Final = frozenset({"origin_id", "order_id", "op_id"})
"""What the metadata of an engine holds."""


class WireError(ValueError):
    """A payload that is not what this page describes; the message names the field, never its value."""


class Status(StrEnum):
    """Where an operation stands at the Mock."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    FAILED = "failed"  # was pending, or waited for the payer
    REVERSED = "reversed"  # had succeeded, and all of it was taken back
    EXPIRED = "expired"  # a hold that ran out
    PROCESSING = "processing"  # only in an inquiry: the call is still under way


class EventType(StrEnum):
    """What an event says of its operation."""

    UPDATED = "operation.updated"  # it stands as shown, and counts for what is shown
    REVERSED = "operation.reversed"  # the case's amount was taken back
    DISPUTE_OPENED = "dispute.opened"
    DISPUTE_WON = "dispute.won"
    DISPUTE_LOST = "dispute.lost"


_EVENT_TYPES: Final = frozenset(each.value for each in EventType)


class ErrorCode(StrEnum):
    """Codes of `{"error": {"code": …}}`."""

    INVALID = "invalid_request"
    NOT_FOUND = "not_found"
    KEY_REUSED = "idempotency_key_reused"
    KEY_IN_PROGRESS = "idempotency_key_in_progress"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    FAILED = "internal_error"
    CURRENCY_MISMATCH = "currency_mismatch"
    AMOUNT_TOO_LARGE = "amount_exceeds_authorized"
    REFUND_TOO_LARGE = "amount_exceeds_captured"
    NOT_AUTHORIZED = "payment_not_authorized"
    CAPTURED = "payment_already_captured"
    RELEASED = "payment_already_released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The engine's own identifiers, which come back in answers and webhooks."""

    origin_id: str
    order_id: str
    op_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that should have an effect."""

    kind: CallKind
    gateway_key: str
    payment: str | None  # the Mock's id of the payment it works on; None: it opens one
    amount: int | None  # minor units; None for a void
    currency: str
    token: str | None  # of a call that opens a payment
    final: bool
    metadata: Metadata
    extras: Mapping[str, object] = field(default_factory=dict)  # what else was given, of EXTRAS, as JSON

    @property
    def return_url(self) -> str | None:
        """Where the payer goes after acting."""
        url = self.extras.get("return_url")
        return url if isinstance(url, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The engine's word that the payer has come back."""

    gateway_key: str
    payment: str
    parameters: Mapping[str, object]  # what the payer brought back


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an operation did not succeed."""

    code: str
    advice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as the Mock tells of it."""

    id: str
    kind: str
    status: str
    payment: str
    amount: int
    counted: int  # how much of the amount it counts for now, for people: less once some was taken back
    currency: str
    gateway_key: str | None  # None: nobody's call made it
    action_url: str | None
    failure: Failure | None
    metadata: Metadata | None  # None: made at the gateway's own desk, or a notice that does not give it back
    created_ms: int
    updated_ms: int  # since when it has its status; what cases took or gave back meanwhile, their own events tell
    case: "Case | None" = None  # of REVERSED: the reversal that took it


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A reversal or a dispute: the same in every word about it."""

    id: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a webhook says."""

    id: str
    type: EventType
    created_ms: int
    operation: Operation
    case: Case | None = None
    own_reference: str | None = None  # the operation's id at the engine, where it is given back without the metadata


def call_path(kind: CallKind, payment: str | None) -> str:
    """Return the path that a call of this kind is posted to."""
    match kind:
        case CallKind.AUTHORIZE | CallKind.SALE:
            return "/payments"
        case CallKind.CAPTURE:
            return f"/payments/{payment}/captures"
        case CallKind.VOID:
            return f"/payments/{payment}/voids"
        case CallKind.REFUND:
            return f"/payments/{payment}/refunds"
        case CallKind.COMPLETE:
            return f"/payments/{payment}/complete"
        case CallKind.INQUIRE:
            return "/operations"


def encode_call(call: Call) -> bytes:
    """Return the request body of a call; its key and payment go elsewhere (header, path)."""
    body: Json = {"currency": call.currency, "metadata": _metadata_json(call.metadata)}
    if call.amount is not None:
        body["amount"] = call.amount
    if call.token is not None:
        body |= {"token": call.token, "capture": call.kind is CallKind.SALE}
    if call.kind is CallKind.CAPTURE:
        body["final"] = call.final
    return orjson.dumps(body | dict(call.extras))


def decode_call(raw: bytes, *, kind: CallKind, gateway_key: str, payment: str | None) -> Call:
    """Return the call in a request body. A sale is an authorization with `capture`. Raises: WireError."""
    body = decode_object(raw)
    if kind is CallKind.AUTHORIZE and _flag(body, "capture", default=False):
        kind = CallKind.SALE
    opens = kind in (CallKind.AUTHORIZE, CallKind.SALE)
    return Call(
        kind=kind,
        gateway_key=gateway_key,
        payment=payment,
        amount=None if kind is CallKind.VOID else _amount(body),
        currency=text(body, "currency"),
        token=text(body, "token", max_chars=MAX_TOKEN_CHARS) if opens else None,
        final=_flag(body, "final", default=False),
        metadata=_metadata(body),
        extras=_extras(body),
    )


def encode_completion(completion: Completion) -> bytes:
    """Return the request body of a completion; its key and payment go elsewhere (header, path)."""
    return orjson.dumps({"return_parameters": completion.parameters}, option=orjson.OPT_SORT_KEYS)


def decode_completion(raw: bytes, *, gateway_key: str, payment: str) -> Completion:
    """Return the completion in a request body. Raises: WireError."""
    body = decode_object(raw)
    parameters = _object(body.get("return_parameters", {}), "return_parameters")
    return Completion(gateway_key=gateway_key, payment=payment, parameters=parameters)


def operation_json(operation: Operation) -> Json:
    """Return the operation as JSON."""
    failure = operation.failure
    return {
        "id": operation.id,
        "object": "operation",
        "kind": operation.kind,
        "status": operation.status,
        "payment": operation.payment,
        "amount": operation.amount,
        "counted": operation.counted,
        "currency": operation.currency,
        "gateway_key": operation.gateway_key,
        "action_url": operation.action_url,
        "failure": None if failure is None else {"code": failure.code, "advice": failure.advice},
        "metadata": None if operation.metadata is None else _metadata_json(operation.metadata),
        "created_ms": operation.created_ms,
        "updated_ms": operation.updated_ms,
        "case": _case_json(operation.case),
    }


def decode_operation(body: Mapping[str, object]) -> Operation:
    """Return the operation in a JSON object. Raises: WireError."""
    failure, metadata, case = body.get("failure"), body.get("metadata"), body.get("case")
    return Operation(
        id=text(body, "id"),
        kind=text(body, "kind"),
        status=text(body, "status"),
        payment=text(body, "payment"),
        amount=_amount(body),
        counted=_counted(body),
        currency=text(body, "currency"),
        gateway_key=optional_text(body, "gateway_key"),
        action_url=optional_text(body, "action_url"),
        failure=_failure(failure) if failure is not None else None,
        metadata=_metadata(body) if metadata is not None else None,
        created_ms=_integer(body, "created_ms"),
        updated_ms=_integer(body, "updated_ms"),
        case=None if case is None else _case(_object(case, "case")),
    )


def encode_event(event: Event) -> bytes:
    """Return the bytes of an event: a webhook by itself, or a part of a batch."""
    return orjson.dumps(
        {
            "id": event.id,
            "object": "event",
            "type": event.type.value,
            "created_ms": event.created_ms,
            "operation": operation_json(event.operation),
            "case": _case_json(event.case),
        }
        | ({} if event.own_reference is None else {"own_reference": event.own_reference})
    )


def encode_batch(events: Sequence[bytes]) -> bytes:
    """Return the bytes of a webhook that holds these encoded events."""
    return orjson.dumps({"object": "batch", "events": [orjson.Fragment(event) for event in events]})


def decode_events(raw: bytes) -> tuple[Event, ...]:
    """Return what the webhook in these bytes says of operations, in its order.

    Left out are events of types that are not listed in `EventType`, and those with metadata of another system: they are
    about nothing that an engine asked for.

    Raises:
        WireError: it cannot be read; one event of a batch is enough.
    """
    body = decode_object(raw)
    items: object = [body]
    if body.get("object") == "batch":
        items = body.get("events")
    if not isinstance(items, list) or len(items) > MAX_EVENTS:
        raise WireError(f"events must be a list of at most {MAX_EVENTS}")
    events = [_event(_object(item, "event")) for item in items]
    return tuple(event for event in events if event is not None)


def _event(body: Json) -> Event | None:
    identifier, created_ms = text(body, "id"), _integer(body, "created_ms")
    kind, case = text(body, "type"), body.get("case")
    if kind not in _EVENT_TYPES:
        return None
    shown = _object(body.get("operation"), "operation")
    metadata = shown.get("metadata")
    if metadata is not None and not _OURS.issubset(_object(metadata, "metadata")):
        return None
    return Event(
        id=identifier,
        type=EventType(kind),
        created_ms=created_ms,
        operation=decode_operation(shown),
        case=None if case is None else _case(_object(case, "case")),
        own_reference=optional_text(body, "own_reference"),
    )


def _case_json(case: Case | None) -> Json | None:
    return None if case is None else {"id": case.id, "amount": case.amount}


def _case(body: Mapping[str, object]) -> Case:
    return Case(id=text(body, "id"), amount=_amount(body))


def error_json(code: ErrorCode, message: str) -> bytes:
    """Return the bytes of an error answer."""
    return orjson.dumps({"error": {"code": code.value, "message": message}})


def decode_error_code(body: Mapping[str, object]) -> str:
    """Return the code of an error answer. Raises: WireError."""
    return text(_object(body.get("error"), "error"), "code")


def decode_object(raw: bytes) -> Json:
    """Return the JSON object in these bytes. Raises: WireError."""
    try:
        parsed: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise WireError("body is not JSON") from error
    return _object(parsed, "body")


def text(body: Mapping[str, object], field: str, *, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return a field that must be a text of 1 to `max_chars` characters. Raises: WireError."""
    value = body.get(field)
    if not isinstance(value, str) or not 1 <= len(value) <= max_chars:
        raise WireError(f"{field} must be a text of 1 to {max_chars} characters")
    return value


def optional_text(body: Mapping[str, object], field: str) -> str | None:
    """Return a field that may be absent or null. Raises: WireError."""
    return None if body.get(field) is None else text(body, field)


def _object(value: object, what: str) -> Json:
    if not isinstance(value, dict):
        raise WireError(f"{what} must be an object")
    return value


def _failure(value: object) -> Failure:
    body = _object(value, "failure")
    return Failure(code=text(body, "code"), advice=optional_text(body, "advice"))


def _metadata(body: Mapping[str, object]) -> Metadata:
    metadata = _object(body.get("metadata"), "metadata")
    return Metadata(
        origin_id=text(metadata, "origin_id"), order_id=text(metadata, "order_id"), op_id=text(metadata, "op_id")
    )


def _metadata_json(metadata: Metadata) -> Json:
    return {"origin_id": metadata.origin_id, "order_id": metadata.order_id, "op_id": metadata.op_id}


def _extras(body: Mapping[str, object]) -> Json:
    unknown = body.keys() - _MEMBERS - EXTRAS.keys()
    if unknown:
        raise WireError(f"the body has {len(unknown)} members that nobody knows")
    extras = {name: body[name] for name in EXTRAS if name in body}
    for name, value in extras.items():
        if type(value) is not EXTRAS[name]:
            raise WireError(f"{name} must be of JSON's type for {EXTRAS[name].__name__}")
    return extras


def _integer(body: Mapping[str, object], field: str) -> int:
    value = body.get(field)
    if type(value) is not int:  # a bool is an int to isinstance, and 1999.0 is no amount
        raise WireError(f"{field} must be an integer")
    return value


def _amount(body: Mapping[str, object]) -> int:
    value = _integer(body, "amount")
    if not 0 < value <= MAX_AMOUNT_MINOR:
        raise WireError(f"amount must be 1 to {MAX_AMOUNT_MINOR} minor units")
    return value


def _counted(body: Mapping[str, object]) -> int:
    value = _integer(body, "counted")
    if not 0 <= value <= MAX_AMOUNT_MINOR:
        raise WireError(f"counted must be 0 to {MAX_AMOUNT_MINOR} minor units")
    return value


def _flag(body: Mapping[str, object], field: str, *, default: bool) -> bool:
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise WireError(f"{field} must be true or false")
    return value
