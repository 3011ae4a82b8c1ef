"""Between Adyen's answers and the engine's words, and from the engine's requests to Adyen's. Pure.

The client sends what this makes and returns what this reads. `webhooks` does the same for notices.

* A payment is answered at once. Captures, cancels and refunds are only *received*: their outcome comes by webhook.
* Adyen has no inquiry: the same call with its key is the question (`streams.domain.doubt`). It gives the first answer
  again, and does not mark it as such. So nothing here is `replayed`.
* Its answers name no time.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import orjson

from gateway_adapters.adyen import amounts, wire
from gateway_adapters.adyen.references import named_by, reference_of
from gateway_adapters.adyen.wire import (
    Amount,
    BrowserInfo,
    DetailsRequest,
    ErrorAnswer,
    ModificationAnswer,
    ModificationRequest,
    PaymentAnswer,
    PaymentRequest,
    StandaloneCancelAnswer,
    StandaloneCancelRequest,
    WireError,
)
from gateway_adapters.contract import CallResult, allow_list, kept_of
from gateway_adapters.declines import decline_codes
from gateway_adapters.errors import SIGNALS, CallFailedError, Code, Signal, decline_for, error_for
from schemas.identifiers import GatewayName
from schemas.records.commands import BrowserFacts, Payer
from schemas.records.gateway import CallDetails, GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome

if TYPE_CHECKING:  # the orders agent translates without an HTTP stack
    from gateway_adapters.http_transport import Answer

NAME: Final = GatewayName("adyen")
DECLINES: Final = decline_codes("adyen")

KEPT: Final = allow_list(
    *("pspReference", "merchantReference", "resultCode", "refusalReason", "refusalReasonCode", "amount.value"),
    *("amount.currency", "paymentPspReference", "paymentReference", "reference", "status", "errorCode", "errorType"),
    *("action.type", "additionalData.refusalReasonRaw", "additionalData.merchantAdviceCode"),
)
"""What is kept of Adyen's answers. Not `message`, which repeats what was sent, nor what else is told of the card."""

OUTCOMES: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "Authorised": Outcome.SUCCEEDED,
        "PartiallyAuthorised": Outcome.SUCCEEDED,
        "Received": Outcome.PENDING,
        "Pending": Outcome.PENDING,
        "RedirectShopper": Outcome.REQUIRES_ACTION,
        "IdentifyShopper": Outcome.REQUIRES_ACTION,
        "ChallengeShopper": Outcome.REQUIRES_ACTION,
        "PresentToShopper": Outcome.REQUIRES_ACTION,
        "Refused": Outcome.DECLINED,
        "Cancelled": Outcome.DECLINED,
        "Error": Outcome.DECLINED,
    }
)
"""https://docs.adyen.com/online-payments/build-your-integration/payment-result-codes"""

PARTIAL: Final = "PartiallyAuthorised"
_OPENING: Final = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
RECEIVED: Final = "received"
STANDALONE: Final = "paymentReference"
"""Names the payment in the answer to a void by our reference, and in no other."""

IN_PROGRESS_CODE: Final = "704"
"""'request already processed or in progress', of a key whose first call is under way."""

STORED: Final = "stored"
PAYMENT_METHOD: Final = "payment_method"
"""Kinds of token: a stored payment method's id, and what Adyen's page in the payer's browser made (`paymentMethod`)."""

CARD_MEMBERS: Final = frozenset({"number", "cvc", "expiryMonth", "expiryYear"})
"""Of a payment method: card data as it is, which never passes through here."""

COMPLETION_MEMBERS: Final = frozenset(
    {"MD", "PaReq", "PaRes", "authorization_token", "billingToken", "cupsecureplus.smscode", "facilitatorAccessToken"}
    | {"oneTimePasscode", "orderID", "payerID", "payload", "paymentID", "paymentStatus", "redirectResult"}
    | {"threeDSResult", "threeds2.challengeResult", "threeds2.fingerprint"}
)
"""What `details` of /payments/details may hold (PaymentCompletionDetails), but for `resultCode`: WeChat's app gives it,
and Adyen's own return has it for people to read. A payer's return has names of the merchant's own beside them."""

PAYMENT_DATA: Final = "paymentData"

CONFLICT: Final = 409
"""Of another call, perhaps of this very one: in whatever code, it does not prove that nothing was done."""

FIRST_SERVER_ERROR: Final = 500


class IncompleteError(Exception):
    """A request that Adyen could not make anything of; the message says what it lacks, never what it holds."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is sent for a request."""

    path: str
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """What an account adds to each call."""

    account: str
    return_url: str


def call_of(request: GatewayCallRequested, merchant: Merchant) -> Call:
    """Return what is sent for this request: the same bytes whenever it is the same request.

    Raises:
        IncompleteError: Adyen could not make anything of it.
    """
    if len(request.gateway_key) > wire.MAX_KEY_CHARS:
        raise IncompleteError(f"an idempotency key of at most {wire.MAX_KEY_CHARS} characters")
    match request.kind:
        case CallKind.AUTHORIZE | CallKind.SALE:
            return Call(path="/payments", body=_payment(request, merchant).encoded())
        case CallKind.COMPLETE:
            return Call(path="/payments/details", body=_details(request).encoded())
        case CallKind.CAPTURE | CallKind.VOID | CallKind.REFUND:
            return _modification(request, merchant)
        case CallKind.INQUIRE:
            raise IncompleteError("a gateway that can be asked")


_RESOURCES: Final = {CallKind.CAPTURE: "captures", CallKind.VOID: "cancels", CallKind.REFUND: "refunds"}
"""Never `reversals`, which gives back what was captured."""


def _modification(request: GatewayCallRequested, merchant: Merchant) -> Call:
    ours = _our_reference_of_payment(request)
    if request.payment_reference is None and ours is not None:
        cancel = StandaloneCancelRequest(
            merchant_account=merchant.account,
            payment_reference=ours,
            reference=reference_of(request.op_id, request.kind),
        )
        return Call(path="/cancels", body=cancel.encoded())
    body = ModificationRequest(
        amount=None if request.kind is CallKind.VOID else _amount(request),
        merchant_account=merchant.account,
        reference=reference_of(request.op_id, request.kind),
    )
    payment = quote(request.payment_reference or "", safe="")
    return Call(path=f"/payments/{payment}/{_RESOURCES[request.kind]}", body=body.encoded())


def _our_reference_of_payment(request: GatewayCallRequested) -> str | None:
    """Return what the payment that is to be voided is called at Adyen by us."""
    if request.opening_op_id is None or request.opening_kind is None:
        return None
    return reference_of(request.opening_op_id, request.opening_kind)


def _amount(request: GatewayCallRequested) -> Amount:
    try:
        value = amounts.to_adyen(request.amount_minor, request.currency)
    except amounts.InexactAmountError:
        raise IncompleteError(f"an amount without decimals, which {request.currency} does not have at Adyen") from None
    return Amount(currency=request.currency, value=value)


def _payment(request: GatewayCallRequested, merchant: Merchant) -> PaymentRequest:
    details = request.details or CallDetails()
    payer = details.payer or Payer()
    stored = details.token_kind in {None, STORED}
    captured_at_once = request.kind is CallKind.SALE
    return PaymentRequest(
        amount=_amount(request),
        merchant_account=merchant.account,
        reference=reference_of(request.op_id, request.kind),
        return_url=details.return_url or merchant.return_url,
        payment_method=_payment_method(request.token or "", details.token_kind),
        shopper_reference=details.payer_reference or payer.reference,
        # Of a stored method: the payer is there and pays with it, or is not.
        shopper_interaction="ContAuth" if stored else "Ecommerce",
        recurring_processing_model=_processing_model(details) if stored else None,
        # Each says of this payment what else the account's own setting would say of all.
        additional_data=None if captured_at_once else {"manualCapture": "true"},
        capture_delay_hours=0 if captured_at_once else None,
        shopper_email=payer.email,
        shopper_ip=payer.ip,
        country_code=payer.country,
        browser_info=None if payer.browser is None else _browser(payer.browser),
        shopper_statement=details.statement_descriptor,
        metadata=_metadata(details),
    )


def _metadata(details: CallDetails) -> dict[str, str] | None:
    for entry in details.metadata:
        if len(entry.name) > wire.MAX_METADATA_NAME_CHARS or len(entry.value) > wire.MAX_METADATA_VALUE_CHARS:
            limits = f"{wire.MAX_METADATA_NAME_CHARS} characters, values of {wire.MAX_METADATA_VALUE_CHARS}"
            raise IncompleteError(f"metadata with names of at most {limits}")
    return {entry.name: entry.value for entry in details.metadata} or None


def _processing_model(details: CallDetails) -> str:
    return "UnscheduledCardOnFile" if details.merchant_initiated else "CardOnFile"


def _payment_method(token: str, kind: str | None) -> dict[str, str]:
    if kind in {None, STORED}:
        return {"type": "scheme", "storedPaymentMethodId": token}
    if kind != PAYMENT_METHOD:
        raise IncompleteError(f"a token of the kind {STORED} or {PAYMENT_METHOD}")
    try:
        said: object = orjson.loads(token)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict) or "type" not in said or not all(isinstance(each, str) for each in said.values()):
        raise IncompleteError(f"a token of the kind {PAYMENT_METHOD} that is an object of texts with a type")
    if CARD_MEMBERS & said.keys():
        raise IncompleteError("a payment method that was encrypted in the payer's browser")
    return said


def _browser(facts: BrowserFacts) -> BrowserInfo | None:
    """Return the facts; None unless all are there that Adyen wants."""
    if (
        facts.accept_header is None
        or facts.color_depth_bits is None
        or facts.language is None
        or facts.screen_height_px is None
        or facts.screen_width_px is None
        or facts.time_zone_offset_min is None
        or facts.user_agent is None
    ):
        return None
    return BrowserInfo(
        accept_header=facts.accept_header,
        color_depth=facts.color_depth_bits,
        java_enabled=bool(facts.java_enabled),
        language=facts.language,
        screen_height=facts.screen_height_px,
        screen_width=facts.screen_width_px,
        time_zone_offset=facts.time_zone_offset_min,
        user_agent=facts.user_agent,
    )


def _details(request: GatewayCallRequested) -> DetailsRequest:
    given = {entry.name: entry.value for entry in (request.details or CallDetails()).return_parameters}
    details = {name: value for name, value in given.items() if name in COMPLETION_MEMBERS}
    if not details:
        raise IncompleteError("what Adyen gave the payer to come back with, such as redirectResult")
    return DetailsRequest(details=details, payment_data=given.get(PAYMENT_DATA))


def from_answer(request: GatewayCallRequested, answer: "Answer") -> CallResult:
    """Return what the answer to a call means."""
    try:
        if answer.status in {200, 201}:
            body = answer.json_object()
            if request.kind is CallKind.VOID and STANDALONE in body:
                return _from_cancel(request, wire.read(StandaloneCancelAnswer, body), answer)
            if request.kind in {CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND}:
                return _from_modification(request, wire.read(ModificationAnswer, body), answer)
            return _from_payment(request, wire.read(PaymentAnswer, body), answer)
        return _failed(request, answer, *_signal_of(answer))
    except CallFailedError as error:
        return _failed(request, answer, error.signal)
    except (WireError, amounts.InexactAmountError):
        return _failed(request, answer, Signal.UNREADABLE)


def from_failure(error: CallFailedError) -> CallResult:
    """Return what a broken exchange means."""
    return CallResult(outcome=SIGNALS[error.signal].outcome, error=error_for(error.signal, detail=error.detail))


def not_sent(error: IncompleteError) -> CallResult:
    """Return what it means that nothing could be sent."""
    outcome = SIGNALS[Signal.INCOMPLETE].outcome
    return CallResult(outcome=outcome, error=error_for(Signal.INCOMPLETE, detail=f"it wants {error}"))


def _signal_of(answer: "Answer") -> tuple[Signal, str | None]:  # noqa: PLR0911 - one a status
    """Return what an answer that is no success says, and Adyen's code for it.

    A 4xx that may come to something else with the same key says nothing about the call.
    """
    transient = answer.headers.get(wire.TRANSIENT_HEADER, "").lower() == "true"
    match answer.status:
        case 401 | 403:
            return Signal.UNAUTHORIZED, _code_in(answer)
        case 429:
            return Signal.RATE_LIMITED, _code_in(answer)
        case 400 | 404 | 409 | 422:
            code = wire.read(ErrorAnswer, answer.json_object()).error_code
            if code is None:  # whoever answers so is not Adyen
                return Signal.UNREADABLE, None
            if code == IN_PROGRESS_CODE or answer.status == CONFLICT:
                return Signal.IN_PROGRESS, code
            return Signal.SERVER_ERROR if transient else Signal.BAD_REQUEST, code
        case status if status >= FIRST_SERVER_ERROR:
            return Signal.SERVER_ERROR, _code_in(answer)
        case _:
            return Signal.UNREADABLE, None


def _code_in(answer: "Answer") -> str | None:
    """Return Adyen's code if the answer is its own: a proxy's has none, and its status speaks for itself."""
    try:
        return wire.read(ErrorAnswer, answer.json_object()).error_code
    except (CallFailedError, WireError):
        return None


def _from_payment(request: GatewayCallRequested, said: PaymentAnswer, answer: "Answer") -> CallResult:
    ours = request.kind in _OPENING
    if ours and said.merchant_reference not in {None, reference_of(request.op_id, request.kind)}:
        raise WireError("answers another payment")
    outcome, problem = _meaning(said)
    if request.kind is CallKind.COMPLETE:
        _check_completed(request, said, outcome)
    # Until the payer has acted Adyen may name a step of the payment, and then the payment by another reference.
    named = None if outcome is Outcome.REQUIRES_ACTION else said.psp_reference
    confirmed = said.amount if outcome is Outcome.SUCCEEDED else None
    if said.result_code == PARTIAL and confirmed is None:
        raise WireError("does not say how large the part is")
    url = None if said.action is None else said.action.url
    return CallResult(
        outcome=outcome,
        gateway_reference=named,
        payment_reference=named,
        confirmed_amount_minor=None if confirmed is None else amounts.from_adyen(confirmed.value, confirmed.currency),
        confirmed_currency=None if confirmed is None else confirmed.currency,
        action_url=url if outcome is Outcome.REQUIRES_ACTION else None,
        error=problem,
        raw=_raw(request, answer),
    )


def _check_completed(request: GatewayCallRequested, said: PaymentAnswer, outcome: Outcome) -> None:
    """Return if the payment that was completed is the one that was meant: a payer brings back what names it.

    Raises: WireError: it is another one, perhaps of the same payer, or a success that does not say which.
    """
    named = named_by(said.merchant_reference)
    if named is None and said.merchant_reference is None and outcome is not Outcome.SUCCEEDED:
        return
    if named is None or named.kind not in _OPENING or named.op_id != request.opening_op_id:
        raise WireError("completes another payment")


def _meaning(said: PaymentAnswer) -> tuple[Outcome, OperationError | None]:
    if said.result_code not in OUTCOMES:
        return Outcome.PENDING, error_for(Signal.UNKNOWN_STATUS, gateway_code=said.result_code)
    outcome = OUTCOMES[said.result_code]
    return outcome, _refusal(said) if outcome is Outcome.DECLINED else None


def _refusal(said: PaymentAnswer) -> OperationError:
    advised = (said.additional_data or {}).get("merchantAdviceCode")
    advice = advised if isinstance(advised, str) else None
    if said.refusal_reason_code is None and said.result_code == "Cancelled":
        return decline_for(Code.CANCELLED, gateway_code=said.refusal_reason, advice=advice)
    return DECLINES.decline_of(said.refusal_reason_code or said.refusal_reason, advice=advice)


def _from_modification(request: GatewayCallRequested, said: ModificationAnswer, answer: "Answer") -> CallResult:
    if said.payment_psp_reference != request.payment_reference:
        raise WireError("answers about another payment")
    result = _received(request, said, answer)
    return dataclasses.replace(result, payment_reference=said.payment_psp_reference)


def _from_cancel(request: GatewayCallRequested, said: StandaloneCancelAnswer, answer: "Answer") -> CallResult:
    """Read the answer to a void by our reference; also when it is given again after Adyen has named the payment."""
    if said.payment_reference != _our_reference_of_payment(request):
        raise WireError("answers about another payment")
    return _received(request, said, answer)


def _received(
    request: GatewayCallRequested, said: ModificationAnswer | StandaloneCancelAnswer, answer: "Answer"
) -> CallResult:
    if said.reference not in {None, reference_of(request.op_id, request.kind)}:
        raise WireError("answers another request")
    known = said.status == RECEIVED
    return CallResult(
        outcome=Outcome.PENDING,
        gateway_reference=said.psp_reference,
        error=None if known else error_for(Signal.UNKNOWN_STATUS, gateway_code=said.status),
        raw=_raw(request, answer),
    )


def _failed(request: GatewayCallRequested, answer: "Answer", signal: Signal, code: str | None = None) -> CallResult:
    return CallResult(
        outcome=SIGNALS[signal].outcome,
        error=error_for(signal, gateway_code=code or f"http_{answer.status}", retry_after_ms=answer.retry_after_ms()),
        raw=_raw(request, answer),
    )


def _raw(request: GatewayCallRequested, answer: "Answer") -> str:
    return kept_of(answer.body, KEPT, secrets=() if request.token is None else (request.token,))
