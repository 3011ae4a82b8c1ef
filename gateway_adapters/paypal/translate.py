"""What PayPal's answers mean, in the engine's words. Pure: the same bytes always mean the same.

Of an operation that makes something (a hold, a capture, a refund) the object that it made is the answer, never the
status of the order around it: an order is COMPLETED though its capture was declined.

When something succeeded is told by its time of creation, in answers and inquiries alike. Its time of change moves with
each refund, and would make an old success seem a new one.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gateway_adapters.contract import CallResult, allow_list, kept_of
from gateway_adapters.declines import decline_codes
from gateway_adapters.errors import SIGNALS, CallFailedError, Code, Signal, decline_for, error_for
from gateway_adapters.paypal.issues import Sort, sorted_issue
from gateway_adapters.paypal.money import UnfitAmountError, to_minor
from gateway_adapters.paypal.references import operation_in
from gateway_adapters.paypal.requests import INTENTS
from gateway_adapters.paypal.wire import ErrorAnswer, Made, Money, Order, WireError
from schemas.identifiers import GatewayName
from schemas.records.gateway import GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome, RetryAdvice

if TYPE_CHECKING:  # the orders agent translates without an HTTP stack
    from gateway_adapters.http_transport import Answer

NAME: Final = GatewayName("paypal")
DECLINES: Final = decline_codes("paypal")
"""Codes of card processors, reasons of captures, and issues that are refusals of a payment."""

_MADE: Final = (
    *("id", "status", "create_time", "update_time", "expiration_time", "custom_id", "invoice_id", "final_capture"),
    *("amount.value", "amount.currency_code", "status_details.reason"),
    *("processor_response.response_code", "processor_response.payment_advice_code"),
)
_IN_ORDER: Final = ("authorizations", "captures")
KEPT: Final = allow_list(
    *_MADE,
    *("intent", "name", "error", "debug_id", "details.issue", "details.field"),
    *("purchase_units.custom_id", "purchase_units.invoice_id"),
    *(f"purchase_units.payments.{made}.{member}" for made in _IN_ORDER for member in _MADE),
)
"""What is kept of PayPal's answers. No payer, no address, no link (one holds the payer's session), no message."""

HTTP_OK: Final = 200
HTTP_CREATED: Final = 201
HTTP_NO_CONTENT: Final = 204
HTTP_NOT_FOUND: Final = 404
HTTP_CONFLICT: Final = 409
FIRST_SERVER_ERROR: Final = 500

ALREADY_VOIDED: Final = "PREVIOUSLY_VOIDED"
DONE: Final = "COMPLETED"
"""The status of an order that was authorized or captured, whatever came of it."""
ACTS_AGAIN: Final = frozenset({"PAYER_ACTION_REQUIRED", "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING"})

WAITS_FOR_PAYER: Final = frozenset({"PAYER_ACTION_REQUIRED", "CREATED", "SAVED", "APPROVED"})

AUTHORIZATIONS: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "CREATED": Outcome.SUCCEEDED,
        "CAPTURED": Outcome.SUCCEEDED,
        "PARTIALLY_CAPTURED": Outcome.SUCCEEDED,
        "VOIDED": Outcome.SUCCEEDED,  # it was a hold until then, unless it ran out
        "DENIED": Outcome.DECLINED,
        "PENDING": Outcome.PENDING,
    }
)
CAPTURES: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "COMPLETED": Outcome.SUCCEEDED,
        "PARTIALLY_REFUNDED": Outcome.SUCCEEDED,
        "REFUNDED": Outcome.SUCCEEDED,
        "DECLINED": Outcome.DECLINED,
        "FAILED": Outcome.DECLINED,
        "PENDING": Outcome.PENDING,
    }
)
REFUNDS: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "COMPLETED": Outcome.SUCCEEDED,
        "PENDING": Outcome.PENDING,
        "FAILED": Outcome.DECLINED,
        "CANCELLED": Outcome.DECLINED,
    }
)
STATUSES: Final[Mapping[CallKind, Mapping[str, Outcome]]] = MappingProxyType(
    {
        CallKind.AUTHORIZE: AUTHORIZATIONS,
        CallKind.SALE: CAPTURES,
        CallKind.CAPTURE: CAPTURES,
        CallKind.REFUND: REFUNDS,
    }
)


_SIGNALS: Final[Mapping[Sort, Signal]] = MappingProxyType(
    {
        Sort.IN_DOUBT: Signal.KEY_MISMATCH,
        Sort.UNDER_WAY: Signal.IN_PROGRESS,
        Sort.DONE: Signal.IN_PROGRESS,
        Sort.ACCOUNT: Signal.UNAUTHORIZED,
        Sort.OURS: Signal.BAD_REQUEST,
    }
)


# What was made


def meaning_of(made: Made, kind: CallKind) -> tuple[Outcome, OperationError | None]:
    """Return what the object says of the operation that made it."""
    outcome = STATUSES[kind].get(made.status)
    if outcome is None:
        return Outcome.PENDING, error_for(Signal.UNKNOWN_STATUS, gateway_code=made.status)
    if kind is CallKind.AUTHORIZE and has_run_out(made):
        return Outcome.EXPIRED, decline_for(Code.AUTHORIZATION_EXPIRED, gateway_code=made.status)
    return outcome, decline_of(made) if outcome is Outcome.DECLINED else None


def decline_of(made: Made) -> OperationError:
    """Return why the object came to nothing: by the processor's code, else PayPal's reason, else its status."""
    if made.status == "CANCELLED":
        return decline_for(Code.CANCELLED, gateway_code=made.status)
    processor = made.processor_response
    code = None if processor is None else processor.response_code
    reason = None if made.status_details is None else made.status_details.reason
    return DECLINES.decline_of(
        code or reason or made.status, advice=None if processor is None else processor.payment_advice_code
    )


def has_run_out(made: Made) -> bool:
    """Return whether this is a hold that was let go since its time was over, and not by anybody's void."""
    if made.status != "VOIDED" or made.expiration_time is None or made.update_time is None:
        return False
    return to_ms(made.update_time) >= to_ms(made.expiration_time)


def to_ms(time: str) -> int:
    """Return the milliseconds since the epoch of a time as PayPal writes it (RFC 3339). Raises: WireError."""
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        raise WireError("a time is not as described") from None
    if parsed.tzinfo is None:
        raise WireError("a time names no zone")
    return int(parsed.timestamp() * 1000)


def minor_of(money: Money) -> int:
    """Return ISO's minor units of the amount. Raises: WireError."""
    try:
        return to_minor(money.value, money.currency_code)
    except UnfitAmountError as error:
        raise WireError(str(error)) from None


# Answers


def from_order(request: GatewayCallRequested, answer: "Answer", kind: CallKind | None = None) -> CallResult:
    """Return what the answer with an order means for the authorize or sale that it was made by.

    Args:
        request: the call; it may be a completion, or an inquiry about one.
        answer: to it.
        kind: whether the order is for an authorize or a sale; None: as the order says itself.
    """
    return _read(request, answer, lambda: _from_order(request, answer, kind))


def order_in(answer: "Answer", order_id: str) -> Order | None:
    """Return the order in this answer, whose intent is known; None: it does not show that order."""
    try:
        order = Order.read(answer.json_object()) if answer.status == HTTP_OK else None
    except (CallFailedError, WireError):
        return None
    return order if order is not None and order.id == order_id and order.intent in INTENTS else None


def unlooked(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return the result of a completion whose order this answer does not show."""
    shown = answer.status == HTTP_OK  # something else
    return unsent(_failed(request, answer, Signal.UNREADABLE) if shown else _refused(request, answer))


def unsent(result: CallResult) -> CallResult:
    """Return the result of a step that was not sent, since the look before it came to this: a look changes nothing."""
    return dataclasses.replace(result, outcome=Outcome.NOT_EXECUTED)


def from_made(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return what the answer with a capture or a refund means for the call that asked for it."""
    return _read(request, answer, lambda: _from_made(request, Made.read(answer.json_object()), answer))


def from_void(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return what the answer to a void means.

    Its object at PayPal is the authorization itself. That it was voided before is a success of a void that may have
    been sent before: what it asked for is so. Of a first sending it is a refusal.
    """
    sent_before = request.repeated or request.call_number > 1
    voided = CallResult(
        outcome=Outcome.SUCCEEDED,
        gateway_reference=request.payment_reference,
        payment_reference=request.payment_reference,
        raw=_raw(request, answer),
    )

    def read() -> CallResult:
        made = Made.read(answer.json_object())
        if made.id != request.payment_reference:
            raise WireError("answers about another authorization")
        if made.status != "VOIDED":
            return _failed(request, answer, Signal.UNKNOWN_STATUS, made.status)
        return voided

    if answer.status == HTTP_NO_CONTENT:
        return voided
    if sent_before and ALREADY_VOIDED in _issues(answer):
        return dataclasses.replace(voided, replayed=True)
    return _read(request, answer, read)


def from_inquiry(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return what the answer to an inquiry means for the operation that it asks about.

    That PayPal finds nothing under an id that it gave itself proves nothing.
    """
    if answer.status == HTTP_NOT_FOUND:
        return _failed(request, answer, Signal.INQUIRY_PROVED_NOTHING)
    if answer.status != HTTP_OK:
        return as_inquiry(_refused(request, answer))
    match request.inquired_kind:
        case CallKind.COMPLETE:
            result = from_order(request, answer)
        case CallKind.VOID:
            result = _read(request, answer, lambda: _is_voided(request, answer))
        case _:
            result = from_made(request, answer)
    return result


def from_failure(request: GatewayCallRequested, error: CallFailedError) -> CallResult:
    """Return what a broken exchange means: for a call by the table of signals, for an inquiry nothing at all."""
    result = CallResult(outcome=SIGNALS[error.signal].outcome, error=error_for(error.signal, detail=error.detail))
    return as_inquiry(result) if request.kind is CallKind.INQUIRE else result


def unsendable(request: GatewayCallRequested, why: str) -> CallResult:
    """Return the result of a call that cannot be said to PayPal: nothing was sent."""
    result = CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.INCOMPLETE, detail=why))
    return as_inquiry(result) if request.kind is CallKind.INQUIRE else result


def as_inquiry(result: CallResult) -> CallResult:
    """Return the result of an inquiry that was not answered: it says nothing of the operation."""
    return dataclasses.replace(result, outcome=Outcome.UNKNOWN)


def _read(request: GatewayCallRequested, answer: "Answer", read: Callable[[], CallResult]) -> CallResult:
    if answer.status not in {HTTP_OK, HTTP_CREATED}:
        return _refused(request, answer)
    try:
        return read()
    except CallFailedError as error:
        return _failed(request, answer, error.signal)
    except WireError:
        return _failed(request, answer, Signal.UNREADABLE)


def _from_order(request: GatewayCallRequested, answer: "Answer", kind: CallKind | None) -> CallResult:
    order = Order.read(answer.json_object())
    kind = kind or INTENTS.get(order.intent or "")
    if kind is None:
        raise WireError("Order: intent is not as described")
    made = order.payments.authorizations if kind is CallKind.AUTHORIZE else order.payments.captures
    if made:
        return _of_made(request, _that_counts(made, kind), answer, kind, belongs_to=order.id)
    _check_ours(request, order.unit.custom_id, order.unit.invoice_id)
    if order.status == "VOIDED":
        error = decline_for(Code.CANCELLED, gateway_code=order.status)
        return CallResult(outcome=Outcome.DECLINED, payment_reference=order.id, error=error, raw=_raw(request, answer))
    if order.status not in WAITS_FOR_PAYER:
        return _failed(request, answer, Signal.UNKNOWN_STATUS, order.status)
    return CallResult(
        outcome=Outcome.REQUIRES_ACTION,
        payment_reference=order.id,
        action_url=order.action_url,
        raw=_raw(request, answer),
    )


def _that_counts(made: Sequence[Made], kind: CallKind) -> Made:
    """Return which of an order's objects tells what became of it: one that was not declined, wherever it stands."""
    return next((each for each in made if STATUSES[kind].get(each.status) is not Outcome.DECLINED), made[0])


def _from_made(request: GatewayCallRequested, made: Made, answer: "Answer") -> CallResult:
    kind = request.inquired_kind or request.kind
    if request.own_reference is not None and made.id != request.own_reference:
        raise WireError("answers about another object")
    if kind is CallKind.REFUND:
        belongs_to = made.up("captures") or request.capture_reference
    elif kind is CallKind.CAPTURE:
        belongs_to = made.authorization_id or request.payment_reference
    else:
        belongs_to = made.order_id or request.order_reference
    return _of_made(request, made, answer, kind, belongs_to=belongs_to)


def _of_made(
    request: GatewayCallRequested, made: Made, answer: "Answer", kind: CallKind, *, belongs_to: str | None
) -> CallResult:
    _check_ours(request, made.invoice_id, made.custom_id)
    outcome, error = meaning_of(made, kind)
    return CallResult(
        outcome=outcome,
        gateway_reference=made.id,
        payment_reference=belongs_to,
        confirmed_amount_minor=minor_of(made.amount),
        confirmed_currency=made.amount.currency_code,
        error=error,
        raw=_raw(request, answer),
        replayed=request.kind is not CallKind.INQUIRE and answer.status == HTTP_OK,
        occurred_at_ms=_occurred_at_ms(made, outcome),
    )


def _occurred_at_ms(made: Made, outcome: Outcome) -> int | None:
    time = made.update_time if outcome is Outcome.EXPIRED else made.create_time
    return None if time is None else to_ms(time)


def _is_voided(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    made = Made.read(answer.json_object())
    if made.status != "VOIDED":
        return _failed(request, answer, Signal.INQUIRY_PROVED_NOTHING, made.status)
    return CallResult(
        outcome=Outcome.SUCCEEDED,
        gateway_reference=made.id,
        payment_reference=made.id,
        raw=_raw(request, answer),
        occurred_at_ms=None if made.update_time is None else to_ms(made.update_time),
    )


def _check_ours(request: GatewayCallRequested, *references: str | None) -> None:
    """Raise WireError when the object names another operation; a completion is about its payment's."""
    if CallKind.COMPLETE in (request.kind, request.inquired_kind):
        return
    named = operation_in(*references)
    if named is not None and named != (request.inquired_kind or request.kind, request.op_id):
        raise WireError("answers another operation")


def _refused(request: GatewayCallRequested, answer: "Answer") -> CallResult:  # noqa: PLR0911 - one a status
    match answer.status:
        case 401:
            return _failed(request, answer, Signal.UNAUTHORIZED)
        case 429:
            return _failed(request, answer, Signal.RATE_LIMITED)
        case 409:
            return _failed(request, answer, Signal.IN_PROGRESS)
        case status if status >= FIRST_SERVER_ERROR:
            # PayPal keeps no failure under a request id: "you can retry idempotent calls that fail with … 5xx".
            return _failed(request, answer, Signal.SERVER_ERROR)
        case 403 if _sort(answer) is not Sort.DECLINED:  # PayPal refuses a payer's missing consent with 403, too
            return _failed(request, answer, Signal.UNAUTHORIZED)
        case 400 | 403 | 404 | 422:
            try:
                return _by_issue(request, answer, ErrorAnswer.read(answer.json_object()))
            except (CallFailedError, WireError):
                return _failed(request, answer, Signal.UNREADABLE)
        case _:
            return _failed(request, answer, Signal.UNREADABLE)


def _by_issue(request: GatewayCallRequested, answer: "Answer", said: ErrorAnswer) -> CallResult:
    if not said.issues:
        return _failed(request, answer, Signal.UNREADABLE)
    sort, issue = sorted_issue(said.issues)
    if sort in _SIGNALS:
        return _failed(request, answer, _SIGNALS[sort], issue)
    acts_again = request.kind is CallKind.COMPLETE and ACTS_AGAIN.intersection(said.issues)
    if sort is Sort.DECLINED and acts_again and said.action_url is not None:
        return CallResult(
            outcome=Outcome.REQUIRES_ACTION,
            payment_reference=request.order_reference or request.payment_reference,
            action_url=said.action_url,
            raw=_raw(request, answer),
        )
    if sort is Sort.DECLINED:
        return CallResult(outcome=Outcome.DECLINED, error=DECLINES.decline_of(issue), raw=_raw(request, answer))
    return CallResult(outcome=Outcome.NOT_EXECUTED, error=_error_of(sort, issue), raw=_raw(request, answer))


def _error_of(sort: Sort, issue: str) -> OperationError:
    """Return why something was not done, by nobody's fault.

    Not 'declined': where a copy of the call was made before, that one may be why, and the engine has to find out. Nor
    is the call worth another attempt: it would be refused again.
    """
    if sort is Sort.WAITS:
        return decline_for(Code.AUTHENTICATION_REQUIRED, gateway_code=issue)
    error = DECLINES.decline_of(issue)
    return dataclasses.replace(error, retry=RetryAdvice.NEVER) if error.retry is RetryAdvice.NEW_KEY_LATER else error


def _sort(answer: "Answer") -> Sort | None:
    issues = _issues(answer)
    return sorted_issue(issues)[0] if issues else None


def _issues(answer: "Answer") -> tuple[str, ...]:
    try:
        return ErrorAnswer.read(answer.json_object()).issues
    except (CallFailedError, WireError):
        return ()


def _failed(request: GatewayCallRequested, answer: "Answer", signal: Signal, code: str | None = None) -> CallResult:
    gateway_code = code or next(iter(_issues(answer)), None) or f"http_{answer.status}"
    return CallResult(
        outcome=SIGNALS[signal].outcome,
        error=error_for(signal, gateway_code=gateway_code, retry_after_ms=answer.retry_after_ms()),
        raw=_raw(request, answer),
    )


def _raw(request: GatewayCallRequested, answer: "Answer") -> str:
    secrets = () if request.token is None else (request.token,)
    return kept_of(answer.body, KEPT, secrets=secrets)
