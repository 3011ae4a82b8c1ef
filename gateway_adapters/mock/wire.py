"""What goes over the socket between the Mock's two halves: typed payloads, to and from JSON. Pure.

Field names are the Mock's own. `status` is a plain string on purpose: a gateway may one day say a word that this
version does not know, and the adapter must see it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from schemas.vocabulary import CallKind

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotent-Replayed"
SIGNATURE_HEADER: Final = "Mock-Signature"
MAX_BODY_BYTES: Final = 64 * 1024
MAX_KEY_CHARS: Final = 255
MAX_TEXT_CHARS: Final = 2048
MAX_AMOUNT_MINOR: Final = 10**12

Json = dict[str, object]


class WireError(ValueError):
    """A payload that is not what this page describes; the message names the field, never its value."""


class Status(StrEnum):
    """Where an operation stands at the Mock."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    FAILED = "failed"  # was pending, or waited for the payer
    REVERSED = "reversed"  # had succeeded
    PROCESSING = "processing"  # only in an inquiry: the call is still under way


class ErrorCode(StrEnum):
    """Codes of `{"error": {"code": …}}`."""

    INVALID = "invalid_request"
    NOT_FOUND = "not_found"
    KEY_REUSED = "idempotency_key_reused"
    KEY_IN_PROGRESS = "idempotency_key_in_progress"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
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
    currency: str
    gateway_key: str
    action_url: str | None
    failure: Failure | None
    metadata: Metadata
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One webhook."""

    id: str
    created_ms: int
    operation: Operation


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
            return f"/payments/{payment}/completions"
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
    return orjson.dumps(body)


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
        token=text(body, "token") if opens else None,
        final=_flag(body, "final", default=False),
        metadata=_metadata(body),
    )


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
        "currency": operation.currency,
        "gateway_key": operation.gateway_key,
        "action_url": operation.action_url,
        "failure": None if failure is None else {"code": failure.code, "advice": failure.advice},
        "metadata": _metadata_json(operation.metadata),
        "created_ms": operation.created_ms,
        "updated_ms": operation.updated_ms,
    }


def decode_operation(body: Mapping[str, object]) -> Operation:
    """Return the operation in a JSON object. Raises: WireError."""
    failure = body.get("failure")
    return Operation(
        id=text(body, "id"),
        kind=text(body, "kind"),
        status=text(body, "status"),
        payment=text(body, "payment"),
        amount=_amount(body),
        currency=text(body, "currency"),
        gateway_key=text(body, "gateway_key"),
        action_url=optional_text(body, "action_url"),
        failure=_failure(failure) if failure is not None else None,
        metadata=_metadata(body),
        created_ms=_integer(body, "created_ms"),
        updated_ms=_integer(body, "updated_ms"),
    )


def encode_event(event: Event) -> bytes:
    """Return the bytes of a webhook."""
    return orjson.dumps(
        {
            "id": event.id,
            "object": "event",
            "created_ms": event.created_ms,
            "operation": operation_json(event.operation),
        }
    )


def decode_event(raw: bytes) -> Event:
    """Return the webhook in these bytes. Raises: WireError."""
    body = decode_object(raw)
    return Event(
        id=text(body, "id"),
        created_ms=_integer(body, "created_ms"),
        operation=decode_operation(_object(body.get("operation"), "operation")),
    )


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


def text(body: Mapping[str, object], field: str) -> str:
    """Return a field that must be a text of 1 to MAX_TEXT_CHARS characters. Raises: WireError."""
    value = body.get(field)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_CHARS:
        raise WireError(f"{field} must be a text of 1 to {MAX_TEXT_CHARS} characters")
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


def _flag(body: Mapping[str, object], field: str, *, default: bool) -> bool:
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise WireError(f"{field} must be true or false")
    return value
