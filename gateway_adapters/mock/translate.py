"""Between the Mock's words and the engine's. Pure: the same bytes always mean the same.

The client uses it for answers, the orders agent (through `parse_webhook`) for notices, a replay again for both.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from gateway_adapters.contract import CallResult, GatewayNotice, RawHeaders, WebhookTranslator, allow_list, kept_of
from gateway_adapters.errors import (
    SIGNALS,
    CallFailedError,
    Code,
    Signal,
    UntranslatableError,
    decline_for,
    error_for,
)
from gateway_adapters.mock import wire
from gateway_adapters.mock.wire import (
    Call,
    Completion,
    ErrorCode,
    Event,
    EventType,
    Metadata,
    Operation,
    Status,
    WireError,
)
from schemas.identifiers import GatewayName, OpId, OrderId, OriginId
from schemas.records.gateway import CallDetails, GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome

if TYPE_CHECKING:  # the orders agent translates without an HTTP stack
    from gateway_adapters.http_transport import Answer

NAME: Final = GatewayName("mock")
KEPT: Final = allow_list(
    *("id", "kind", "status", "payment", "amount", "counted", "currency", "gateway_key", "created_ms", "updated_ms"),
    *("failure.code", "failure.advice", "error.code", "found", "authoritative"),
)
"""What is kept of the Mock's answers. Not `error.message`, which repeats what was sent, nor the payer's page."""

KINDS: Final = frozenset(kind.value for kind in CallKind)
HTTP_OK: Final = 200
HTTP_CONFLICT: Final = 409
FIRST_SERVER_ERROR: Final = 500

OUTCOMES: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        Status.SUCCEEDED: Outcome.SUCCEEDED,
        Status.DECLINED: Outcome.DECLINED,
        Status.FAILED: Outcome.DECLINED,
        Status.PENDING: Outcome.PENDING,
        Status.REQUIRES_ACTION: Outcome.REQUIRES_ACTION,
        Status.REVERSED: Outcome.REVERSED,
        Status.EXPIRED: Outcome.EXPIRED,
        Status.PROCESSING: Outcome.UNKNOWN,
    }
)

CASE_OUTCOMES: Final[Mapping[EventType, Outcome]] = MappingProxyType(
    {
        EventType.REVERSED: Outcome.REVERSED,
        EventType.DISPUTE_OPENED: Outcome.DISPUTE_OPENED,
        EventType.DISPUTE_WON: Outcome.DISPUTE_WON,
        EventType.DISPUTE_LOST: Outcome.DISPUTE_LOST,
    }
)

DECLINE_CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "generic_decline": Code.CARD_DECLINED,
        "insufficient_funds": Code.INSUFFICIENT_FUNDS,
        "expired_card": Code.EXPIRED_CARD,
        "incorrect_cvc": Code.INCORRECT_CVC,
        "processing_error": Code.PROCESSING_ERROR,
        "fraudulent": Code.FRAUDULENT,
        "lost_card": Code.LOST_OR_STOLEN,
        "stolen_card": Code.LOST_OR_STOLEN,
        "card_velocity_exceeded": Code.LIMIT_EXCEEDED,
        "do_not_honor": Code.DO_NOT_HONOR,
        "invalid_account": Code.INVALID_ACCOUNT,
        "authentication_required": Code.AUTHENTICATION_REQUIRED,
        "failed_late": Code.FAILED_LATE,
        "action_expired": Code.ACTION_EXPIRED,
        "cancelled": Code.CANCELLED,
    }
)


def to_call(request: GatewayCallRequested) -> Call:
    """Return the Mock's form of a request that should have an effect."""
    return Call(
        kind=request.kind,
        gateway_key=request.gateway_key,
        payment=None if request.token is not None else request.payment_reference,
        amount=None if request.kind is CallKind.VOID else request.amount_minor,
        currency=request.currency,
        token=request.token,
        final=request.final,
        metadata=Metadata(origin_id=request.origin_id, order_id=request.order_id, op_id=request.op_id),
        extras={} if request.details is None else _extras(request.details),
    )


def to_completion(request: GatewayCallRequested) -> Completion:
    """Return the Mock's form of a request to go on with a payment whose payer is back."""
    details = request.details or CallDetails()
    return Completion(
        gateway_key=request.gateway_key,
        payment=request.payment_reference or "",
        parameters={entry.name: entry.value for entry in details.return_parameters},
    )


def _extras(details: CallDetails) -> dict[str, object]:
    """Return what was given besides, in the Mock's words, and nothing of what was not."""
    payer = details.payer
    said: dict[str, object] = {
        "token_kind": details.token_kind,
        "customer": details.payer_reference,
        "shopper": None if payer is None else _given(dataclasses.asdict(payer)),
        "return_url": details.return_url,
        "statement_descriptor": details.statement_descriptor,
        "merchant_metadata": {entry.name: entry.value for entry in details.metadata},
        "off_session": details.merchant_initiated,
        "allow_partial": details.allow_partial,
    }
    return {name: value for name, value in said.items() if value}


def _given(facts: dict[str, object]) -> dict[str, object]:
    told = {name: _given(value) if isinstance(value, dict) else value for name, value in facts.items()}
    return {name: value for name, value in told.items() if value is not None and value != {}}


def inquiry_path(request: GatewayCallRequested) -> str:
    """Return the path and query of an inquiry: by the gateway's own id when known, else by key."""
    asked = (
        {"reference": request.own_reference}
        if request.own_reference is not None
        else {"idempotency_key": request.gateway_key}
    )
    return "/operations?" + urlencode({**asked, "order_id": request.order_id, "origin_id": request.origin_id})


def posted_path(call: Call) -> str:
    """Return the percent-encoded path that a call is posted to."""
    return wire.call_path(call.kind, None if call.payment is None else quote(call.payment, safe=""))


def from_answer(request: GatewayCallRequested, answer: "Answer") -> CallResult:  # noqa: PLR0911 - one a status
    """Return what the answer to a call that should have an effect means."""
    try:
        match answer.status:
            case 200 | 402:
                return _from_operation(request, wire.decode_operation(answer.json_object()), answer)
            case 401 | 403:
                return _failed(request, answer, Signal.UNAUTHORIZED)
            case 429:
                return _failed(request, answer, Signal.RATE_LIMITED)
            case 400 | 404 | 409 | 422:
                return _refused(request, answer, wire.decode_error_code(answer.json_object()))
            case status if status >= FIRST_SERVER_ERROR:
                return _failed(request, answer, Signal.KEPT_ERROR if _replayed(answer) else Signal.SERVER_ERROR)
            case _:
                return _failed(request, answer, Signal.UNREADABLE)
    except CallFailedError as error:
        return _failed(request, answer, error.signal)
    except WireError:
        return _failed(request, answer, Signal.UNREADABLE)


def from_inquiry(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return what the answer to an inquiry means for the operation it asks about.

    Only an answer about that operation, or the Mock's word that there is certainly none, is evidence. Everything else,
    refused credentials and throttling included, leaves it UNKNOWN.
    """
    if answer.status != HTTP_OK:
        return _as_inquiry(from_answer(request, answer))
    try:
        body = answer.json_object()
        if body.get("found") is False:
            proof = body.get("authoritative") is True
            signal = Signal.INQUIRY_FOUND_NOTHING if proof else Signal.INQUIRY_PROVED_NOTHING
            return _failed(request, answer, signal)
        if body.get("status") == Status.PROCESSING and "id" not in body:
            return _failed(request, answer, Signal.IN_PROGRESS)
        return _from_operation(request, wire.decode_operation(body), answer)
    except CallFailedError as error:
        return _failed(request, answer, error.signal)
    except WireError:
        return _failed(request, answer, Signal.UNREADABLE)


def from_failure(request: GatewayCallRequested, error: CallFailedError) -> CallResult:
    """Return what a broken exchange means: for a call by the table of signals, for an inquiry nothing at all."""
    result = CallResult(outcome=SIGNALS[error.signal].outcome, error=error_for(error.signal, detail=error.detail))
    return _as_inquiry(result) if request.kind is CallKind.INQUIRE else result


class MockTranslator(WebhookTranslator):
    """The pure half of the Mock's webhooks, as the port wants it."""

    webhook_headers = frozenset({wire.SIGNATURE_HEADER.lower()})

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:  # noqa: ARG002 - the port's shape
        """Return what the webhook says. Raises: UntranslatableError."""
        return notices_of(body)


def notices_of(body: bytes) -> tuple[GatewayNotice, ...]:
    """Return what a webhook says.

    Raises:
        UntranslatableError: it cannot be read.
    """
    try:
        return tuple(_notice(event) for event in wire.decode_events(body))
    except WireError as error:
        raise UntranslatableError(f"mock webhook: {error}") from error


def _op_id(event: Event) -> OpId | None:
    given = event.own_reference if event.operation.metadata is None else event.operation.metadata.op_id
    return None if given is None else OpId(given)


def _notice(event: Event) -> GatewayNotice:
    operation, case, metadata = event.operation, event.case, event.operation.metadata
    outcome, problem = _meaning(operation)
    if event.type in CASE_OUTCOMES:
        outcome, problem = CASE_OUTCOMES[event.type], None
        if case is None:
            raise WireError("case must be an object")
    if outcome is Outcome.REVERSED:
        problem = decline_for(Code.FAILED_LATE, gateway_code=event.type)
    return GatewayNotice(
        gateway=NAME,
        notice_id=event.id,
        origin_id=None if metadata is None else OriginId(metadata.origin_id),
        order_id=None if metadata is None else OrderId(metadata.order_id),
        op_id=_op_id(event),
        kind=CallKind(operation.kind) if operation.kind in KINDS else None,
        outcome=outcome,
        gateway_reference=operation.id,
        payment_reference=operation.payment,
        confirmed_amount_minor=operation.amount if case is None else case.amount,
        confirmed_currency=operation.currency,
        error=problem,
        occurred_at_ms=event.created_ms,
        case_reference=None if case is None else case.id,
    )


def _from_operation(request: GatewayCallRequested, operation: Operation, answer: "Answer") -> CallResult:
    about_payment = CallKind.COMPLETE in (request.kind, request.inquired_kind)
    named = request.payment_reference if about_payment else request.op_id
    if named != (operation.id if about_payment else None if operation.metadata is None else operation.metadata.op_id):
        raise WireError("answers another operation")
    outcome, problem = _meaning(operation)
    return CallResult(
        outcome=outcome,
        gateway_reference=operation.id,
        payment_reference=operation.payment,
        confirmed_amount_minor=operation.amount if operation.case is None else operation.case.amount,
        confirmed_currency=operation.currency,
        action_url=operation.action_url if outcome is Outcome.REQUIRES_ACTION else None,
        error=problem,
        raw=_raw(request, answer),
        replayed=_replayed(answer),
        occurred_at_ms=operation.updated_ms,
        case_reference=None if operation.case is None else operation.case.id,
    )


def _meaning(operation: Operation) -> tuple[Outcome, OperationError | None]:
    if operation.status not in OUTCOMES:
        return Outcome.PENDING, error_for(Signal.UNKNOWN_STATUS, gateway_code=operation.status)
    outcome = OUTCOMES[operation.status]
    if outcome is Outcome.UNKNOWN:
        return outcome, error_for(Signal.IN_PROGRESS)
    if outcome is Outcome.REVERSED:
        return outcome, decline_for(Code.FAILED_LATE, gateway_code=_failure_code(operation))
    if outcome is Outcome.EXPIRED:
        return outcome, decline_for(Code.AUTHORIZATION_EXPIRED, gateway_code=operation.status)
    if outcome is Outcome.DECLINED:
        code = _failure_code(operation)
        advice = operation.failure.advice if operation.failure else None
        # A code this version does not know is still a decline, and says nothing more.
        known = DECLINE_CODES.get(code or "", Code.UNKNOWN)
        return outcome, decline_for(known, gateway_code=code, advice=advice)
    return outcome, None


def _failure_code(operation: Operation) -> str | None:
    return operation.failure.code if operation.failure else None


def _refused(request: GatewayCallRequested, answer: "Answer", code: str) -> CallResult:
    if code == ErrorCode.KEY_REUSED:
        return _failed(request, answer, Signal.KEY_MISMATCH, code)
    if answer.status == HTTP_CONFLICT:
        return _failed(request, answer, Signal.IN_PROGRESS, code)
    return _failed(request, answer, Signal.BAD_REQUEST, code)


def _failed(request: GatewayCallRequested, answer: "Answer", signal: Signal, code: str | None = None) -> CallResult:
    return CallResult(
        outcome=SIGNALS[signal].outcome,
        error=error_for(signal, gateway_code=code or f"http_{answer.status}", retry_after_ms=answer.retry_after_ms()),
        raw=_raw(request, answer),
        replayed=_replayed(answer),
    )


def _as_inquiry(result: CallResult) -> CallResult:
    return dataclasses.replace(result, outcome=Outcome.UNKNOWN)


def _replayed(answer: "Answer") -> bool:
    return answer.headers.get(wire.REPLAYED_HEADER.lower()) == "true"


def _raw(request: GatewayCallRequested, answer: "Answer") -> str:
    secrets = () if request.token is None else (request.token,)
    return kept_of(answer.body, KEPT, secrets=secrets)
