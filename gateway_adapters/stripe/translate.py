"""Stripe's answers in the engine's words. Pure: the same bytes always mean the same.

The client uses it with each answer, `webhooks` shares the meaning of statuses with it. An answer about another object
than was asked for is unreadable: it proves nothing.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway_adapters.contract import CallResult, allow_list, kept_of
from gateway_adapters.declines import decline_codes
from gateway_adapters.errors import SIGNALS, CallFailedError, Code, Signal, decline_for, error_for
from gateway_adapters.stripe import requests, wire
from gateway_adapters.stripe.amounts import UncountableError, from_stripe
from gateway_adapters.stripe.wire import Failure, Json, PaymentIntent, Refund, WireError
from schemas.identifiers import GatewayName
from schemas.records.gateway import GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome

if TYPE_CHECKING:  # the orders agent translates without an HTTP stack
    from gateway_adapters.http_transport import Answer

NAME: Final = GatewayName("stripe")
REPLAYED_HEADER: Final = "idempotent-replayed"
"""`true` on an answer that was stored under the key (https://docs.stripe.com/api/idempotent_requests)."""

_OBJECT: Final = (
    *("id", "object", "status", "amount", "amount_capturable", "amount_received", "currency", "created"),
    *("canceled_at", "cancellation_reason", "capture_method", "livemode", "failure_reason"),
    *("metadata.op_id", "metadata.order_id", "metadata.gateway_key"),
    *("latest_charge.id", "latest_charge.status", "latest_charge.created", "latest_charge.amount_captured"),
    *("latest_charge.outcome.network_status", "latest_charge.outcome.reason", "latest_charge.outcome.type"),
    *("last_payment_error.type", "last_payment_error.code", "last_payment_error.decline_code"),
    "last_payment_error.advice_code",
)
KEPT: Final = allow_list(
    *_OBJECT,
    *("error.type", "error.code", "error.decline_code", "error.advice_code", "error.param"),
    *("error.payment_intent.id", "error.payment_intent.status"),
    *(f"data.{member}" for member in _OBJECT),
    "has_more",
)
"""What is kept of Stripe's answers. Not payer, card, `client_secret`, nor messages: they repeat what was sent."""

DECLINES: Final = decline_codes(NAME)

ERROR_CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "card_declined": Code.CARD_DECLINED,
        "card_decline_rate_limit_exceeded": Code.LIMIT_EXCEEDED,
        "payment_intent_authentication_failure": Code.AUTHENTICATION_REQUIRED,
        "payment_intent_payment_attempt_expired": Code.ACTION_EXPIRED,
        "payment_method_customer_decline": Code.CARD_DECLINED,
        "payment_method_provider_decline": Code.CARD_DECLINED,
        "payment_method_provider_timeout": Code.ISSUER_UNAVAILABLE,
    }
)
"""Of errors without a decline code: those that are refusals (https://docs.stripe.com/error-codes)."""

REFUND_FAILURES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "charge_for_pending_refund_disputed": Code.CANCELLED,
        "declined": Code.CARD_DECLINED,
        "expired_or_canceled_card": Code.EXPIRED_CARD,
        "insufficient_funds": Code.INSUFFICIENT_FUNDS,
        "lost_or_stolen_card": Code.LOST_OR_STOLEN,
        "merchant_request": Code.CANCELLED,
    }
)
"""Why a refund failed (https://docs.stripe.com/api/refunds/object, `failure_reason`)."""

BY_ITSELF: Final = frozenset({"automatic", "expired"})
"""Why Stripe itself cancels a payment: nobody captured it in time, or the payer did not act."""

APPROVED: Final = frozenset({"succeeded", "requires_capture", "processing"})
"""Statuses of a payment that was not refused, whatever an answer about it says."""

HTTP_OK: Final = 200
FIRST_SERVER_ERROR: Final = 500


class Meaning(NamedTuple):
    """What a status comes to."""

    outcome: Outcome
    error: OperationError | None = None


def from_answer(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return what the answer to a call, or to the look at its object, means for the operation."""
    try:
        if answer.status != HTTP_OK:
            return _refused(request, answer)
        body = answer.json_object()
        if (request.inquired_kind or request.kind) is CallKind.REFUND:
            return _of_refund(request, wire.refund(body), answer)
        return _of_payment(request, wire.payment_intent(body), answer)
    except CallFailedError as error:
        return failed(request, answer, error.signal)
    except (WireError, UncountableError):
        return failed(request, answer, Signal.UNREADABLE)


def from_failure(request: GatewayCallRequested, error: CallFailedError) -> CallResult:
    """Return what a broken exchange means: for a call by the table of signals, for an inquiry nothing at all."""
    result = CallResult(outcome=SIGNALS[error.signal].outcome, error=error_for(error.signal, detail=error.detail))
    return _as_inquiry(result) if request.kind is CallKind.INQUIRE else result


def uncountable(error: UncountableError) -> CallResult:
    """Return the result of a call that is not made, since Stripe has no number for its amount."""
    return CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.UNSUPPORTED, detail=str(error)))


def found_in(request: GatewayCallRequested, answer: "Answer") -> tuple[str | None, str | None]:
    """Return the id of this inquiry's object in a list or search result; else the one after which the list goes on.

    Raises:
        WireError, CallFailedError: it is no list.
    """
    objects, more = wire.listed(answer.json_object())
    for each in objects:
        if wire.metadata_of(each).get(requests.KEY) == request.gateway_key:
            return wire.text(each, "id"), None
    return None, wire.text(objects[-1], "id") if more and objects else None


def failed(request: GatewayCallRequested, answer: "Answer", signal: Signal, code: str | None = None) -> CallResult:
    """Return the result of an answer that is such a signal."""
    result = CallResult(
        outcome=SIGNALS[signal].outcome,
        error=error_for(signal, gateway_code=code or f"http_{answer.status}", retry_after_ms=answer.retry_after_ms()),
        raw=_raw(request, answer),
        replayed=_replayed(answer),
    )
    proven = signal is Signal.INQUIRY_FOUND_NOTHING
    return _as_inquiry(result) if request.kind is CallKind.INQUIRE and not proven else result


def decline_of(failure: Failure | None) -> OperationError:
    """Return the error of a payment that was refused."""
    if failure is None:
        return DECLINES.decline_of(None)
    refusal = ERROR_CODES.get(failure.code or "")
    if failure.decline_code is None and refusal is not None:
        return decline_for(refusal, gateway_code=failure.code, advice=failure.advice)
    return DECLINES.decline_of(failure.decline_code or failure.code, advice=failure.advice)


def kind_of(payment: PaymentIntent) -> CallKind:
    """Return what opened the payment."""
    return CallKind.AUTHORIZE if payment.manual else CallKind.SALE


def meaning_of_payment(payment: PaymentIntent) -> Meaning:  # noqa: PLR0911 - one a status
    """Return what the payment's status comes to for the operation that opened it."""
    match payment.status:
        case "succeeded":
            return Meaning(Outcome.SUCCEEDED)
        case "requires_capture" if payment.manual:
            return Meaning(Outcome.SUCCEEDED)
        case "processing":
            return Meaning(Outcome.PENDING)
        case "requires_action":
            return Meaning(Outcome.REQUIRES_ACTION)
        case "requires_payment_method" if payment.failure is not None:
            return Meaning(Outcome.DECLINED, decline_of(payment.failure))
        case "canceled":
            return _meaning_of_cancellation(payment)
        case status:
            return Meaning(Outcome.PENDING, error_for(Signal.UNKNOWN_STATUS, gateway_code=status))


def was_held(payment: PaymentIntent) -> bool:
    """Return whether the payment's last attempt was approved, whatever came of it since.

    What is captured by itself is never held: a bank debit that is cancelled under way has a charge too, a pending one.
    """
    if not payment.manual or payment.failure is not None or payment.charge_id is None:
        return False
    return payment.charge is None or payment.charge.status == "succeeded"


def amount_of(payment: PaymentIntent) -> int:
    """Return what was approved, in ISO's minor units. Raises: UncountableError."""
    if not payment.manual and payment.status == "succeeded":
        return from_stripe(payment.received, payment.currency)
    untouched = payment.status == "requires_capture" and payment.received == 0
    return from_stripe(payment.capturable if untouched else payment.amount, payment.currency)


def meaning_of_refund(refund: Refund) -> Meaning:
    """Return what the refund's status comes to."""
    match refund.status:
        case "succeeded":
            return Meaning(Outcome.SUCCEEDED)
        case "pending" | "requires_action":  # Stripe asks the payer by itself where the money may go
            return Meaning(Outcome.PENDING)
        case "failed":
            code = REFUND_FAILURES.get(refund.failure_reason or "", Code.UNKNOWN)
            return Meaning(Outcome.DECLINED, decline_for(code, gateway_code=refund.failure_reason))
        case "canceled":
            return Meaning(Outcome.DECLINED, decline_for(Code.CANCELLED, gateway_code=refund.status))
        case status:
            return Meaning(Outcome.PENDING, error_for(Signal.UNKNOWN_STATUS, gateway_code=status))


def _meaning_of_cancellation(payment: PaymentIntent) -> Meaning:
    by_itself, reason = payment.cancellation_reason in BY_ITSELF, payment.cancellation_reason
    if was_held(payment):
        if by_itself and payment.received == 0:
            return Meaning(Outcome.EXPIRED, decline_for(Code.AUTHORIZATION_EXPIRED, gateway_code=reason))
        return Meaning(Outcome.SUCCEEDED)  # it was held, and let go by a void
    code = Code.ACTION_EXPIRED if by_itself else Code.CANCELLED
    return Meaning(Outcome.DECLINED, decline_for(code, gateway_code=reason or payment.status))


def _of_payment(request: GatewayCallRequested, payment: PaymentIntent, answer: "Answer") -> CallResult:
    kind = request.inquired_kind or request.kind
    opens = kind in (CallKind.AUTHORIZE, CallKind.SALE)
    if opens and payment.metadata.get(requests.OPERATION) != request.op_id:
        raise WireError("answers another operation")
    if not opens and payment.id != request.payment_reference:
        raise WireError("answers about another payment")
    if kind is CallKind.CAPTURE:
        return _of_capture(request, payment, answer)
    if kind is CallKind.VOID:
        return _of_void(request, payment, answer)
    outcome, error = meaning_of_payment(payment)
    return CallResult(
        outcome=outcome,
        gateway_reference=payment.id,
        payment_reference=payment.id,
        confirmed_amount_minor=amount_of(payment),
        confirmed_currency=payment.currency,
        action_url=payment.action_url if outcome is Outcome.REQUIRES_ACTION else None,
        error=error,
        raw=_raw(request, answer),
        replayed=_replayed(answer),
        occurred_at_ms=_time_ms(payment),
    )


def _of_capture(request: GatewayCallRequested, payment: PaymentIntent, answer: "Answer") -> CallResult:
    notes = requests.capture_notes(payment.metadata)
    own = next((each for each in notes if each.op_id == request.op_id), None)
    if own is None and request.kind is CallKind.INQUIRE:
        return failed(request, answer, Signal.INQUIRY_FOUND_NOTHING)
    if request.kind is CallKind.INQUIRE and (payment.received == 0 or _notes_say_too_much(payment, notes)):
        # A note alone took nothing: it came with a capture that may have failed, or may still be under way.
        return failed(request, answer, Signal.INQUIRY_PROVED_NOTHING)
    # The payment tells what was captured of it in all; of several captures, each note tells its own part.
    taken = payment.received if own is None or len(notes) == 1 else own.amount
    known = {"succeeded": Outcome.SUCCEEDED, "requires_capture": Outcome.SUCCEEDED, "canceled": Outcome.SUCCEEDED}
    outcome = {**known, "processing": Outcome.PENDING}.get(payment.status)
    unknown = error_for(Signal.UNKNOWN_STATUS, gateway_code=payment.status)
    return CallResult(
        outcome=Outcome.PENDING if outcome is None else outcome,
        gateway_reference=payment.charge_id,
        payment_reference=payment.id,
        confirmed_amount_minor=from_stripe(taken, payment.currency),
        confirmed_currency=payment.currency,
        error=unknown if outcome is None else None,
        raw=_raw(request, answer),
        replayed=_replayed(answer),
    )


def _notes_say_too_much(payment: PaymentIntent, notes: list[requests.CaptureNote]) -> bool:
    """Return whether one of several notes is of a capture that took nothing; which, nobody can tell."""
    return len(notes) > 1 and sum(each.amount for each in notes) > payment.received


def _of_void(request: GatewayCallRequested, payment: PaymentIntent, answer: "Answer") -> CallResult:
    released = payment.status == "canceled" or (payment.status == "succeeded" and payment.canceled_s is not None)
    if not released and request.kind is CallKind.INQUIRE:
        return failed(request, answer, Signal.INQUIRY_FOUND_NOTHING)
    unknown = error_for(Signal.UNKNOWN_STATUS, gateway_code=payment.status)
    return CallResult(
        outcome=Outcome.SUCCEEDED if released else Outcome.PENDING,
        gateway_reference=payment.id,
        payment_reference=payment.id,
        error=None if released else unknown,
        raw=_raw(request, answer),
        replayed=_replayed(answer),
        occurred_at_ms=None if payment.canceled_s is None else payment.canceled_s * 1000,
    )


def _of_refund(request: GatewayCallRequested, refund: Refund, answer: "Answer") -> CallResult:
    if refund.metadata.get(requests.OPERATION) != request.op_id:
        raise WireError("answers another operation")
    outcome, error = meaning_of_refund(refund)
    return CallResult(
        outcome=outcome,
        gateway_reference=refund.id,
        payment_reference=refund.payment,
        confirmed_amount_minor=from_stripe(refund.amount, refund.currency),
        confirmed_currency=refund.currency,
        error=error,
        raw=_raw(request, answer),
        replayed=_replayed(answer),
        occurred_at_ms=refund.created_s * 1000,
    )


def _refused(request: GatewayCallRequested, answer: "Answer") -> CallResult:  # noqa: PLR0911 - one a status
    status = answer.status
    if status >= FIRST_SERVER_ERROR:
        return failed(request, answer, Signal.KEPT_ERROR if _replayed(answer) else Signal.SERVER_ERROR)
    match status:
        case 401 | 403:
            return failed(request, answer, Signal.UNAUTHORIZED)
        case 429:
            return failed(request, answer, Signal.RATE_LIMITED)
        case 408 | 424:  # Stripe, or what it depends on, did not come to an end
            return failed(request, answer, Signal.SERVER_ERROR)
    if not 400 <= status < FIRST_SERVER_ERROR:  # noqa: PLR2004 - HTTP's own classes
        return failed(request, answer, Signal.UNREADABLE)
    error = wire.error_of(answer.json_object())
    code = wire.text(error, "code")
    if status == 409:  # noqa: PLR2004 - 'conflict': the key is in use
        return failed(request, answer, Signal.IN_PROGRESS, code)
    if wire.text(error, "type") == "idempotency_error":
        return failed(request, answer, Signal.KEY_MISMATCH, code)
    if status == 402 and request.kind is not CallKind.INQUIRE:  # noqa: PLR2004 - 'request failed'
        return _declined(request, answer, error)
    return failed(request, answer, Signal.BAD_REQUEST, code)


def _declined(request: GatewayCallRequested, answer: "Answer", error: Json) -> CallResult:
    told = error.get("payment_intent")
    payment = wire.payment_intent(told) if isinstance(told, dict) else None
    opens = request.kind in (CallKind.AUTHORIZE, CallKind.SALE)
    if opens and payment is not None and payment.status in APPROVED:
        raise WireError("a refusal of a payment that was approved")
    return CallResult(
        outcome=Outcome.DECLINED,
        gateway_reference=payment.id if payment is not None and opens else None,
        payment_reference=None if payment is None else payment.id,
        error=decline_of(wire.failure_of(error)),
        raw=_raw(request, answer),
        replayed=_replayed(answer),
        occurred_at_ms=None if payment is None else _time_ms(payment),
    )


def _time_ms(payment: PaymentIntent) -> int:
    """Return when the payment came to where it stands, as far as it tells: its last attempt's time."""
    if payment.status == "canceled" and payment.canceled_s is not None and not was_held(payment):
        return payment.canceled_s * 1000
    if payment.status == "canceled" and payment.cancellation_reason in BY_ITSELF and payment.canceled_s is not None:
        return payment.canceled_s * 1000
    return (payment.created_s if payment.charge is None else payment.charge.created_s) * 1000


def _as_inquiry(result: CallResult) -> CallResult:
    return dataclasses.replace(result, outcome=Outcome.UNKNOWN)


def _replayed(answer: "Answer") -> bool:
    return answer.headers.get(REPLAYED_HEADER) == "true"


def _raw(request: GatewayCallRequested, answer: "Answer") -> str:
    return kept_of(answer.body, KEPT, secrets=() if request.token is None else (request.token,))
