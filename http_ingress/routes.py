"""The one table of routes: the router and the OpenAPI document are both made from it, so they cannot disagree."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from http_ingress.money.bodies import Body, CaptureBody, CompleteBody, PaymentBody, RefundBody, VoidBody
from http_ingress.money.endpoints import (
    Handler,
    capture_payment,
    complete_payment,
    create_payment,
    create_refund,
    void_payment,
)
from http_ingress.queries.lookups import read_payment, read_refund
from http_ingress.representation import payloads
from http_ingress.representation.payloads import View
from http_ingress.representation.problems import ProblemCode
from http_ingress.webhooks.receipt import receive_webhook

Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One answer that is not a problem."""

    meaning: str
    model: type[View]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRoute:
    """One route of the API proper; `/healthz` and its like are in `http_ingress.app`."""

    method: Method
    path: str
    name: str  # operationId, and the label in logs, metrics and spans
    summary: str
    description: str
    handler: Handler
    outcomes: Mapping[int, Outcome]
    problems: frozenset[ProblemCode]  # what this route can answer with, beyond what every route can
    body: type[Body] | None = None
    body_required: bool = False
    raw_body: bool = False  # a webhook: any bytes
    moves_money: bool = False  # takes an Idempotency-Key, `mode` and `Prefer`
    authenticated: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)  # of the path: name -> description


_READ_PROBLEMS: Final = frozenset(
    {
        ProblemCode.ORIGIN_MISSING,
        ProblemCode.INVALID_PARAMETER,
        ProblemCode.CARD_NUMBER,
        ProblemCode.UNAUTHENTICATED,
        ProblemCode.FORBIDDEN,
        ProblemCode.NOT_ACCEPTABLE,
        ProblemCode.RATE_LIMITED,
        ProblemCode.LOG_UNAVAILABLE,
        ProblemCode.OVERLOADED,
        ProblemCode.SHUTTING_DOWN,
    }
)
_WRITE_PROBLEMS: Final = _READ_PROBLEMS | {
    ProblemCode.BAD_JSON,
    ProblemCode.INVALID_BODY,
    ProblemCode.MISSING_IDEMPOTENCY_KEY,
    ProblemCode.ORIGIN_MISMATCH,
    ProblemCode.REQUEST_TIMEOUT,
    ProblemCode.TOO_LARGE,
    ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    ProblemCode.DECLINED,
    ProblemCode.REVERSED,
    ProblemCode.IDEMPOTENCY_KEY_REUSED,
    ProblemCode.INVALID_STATE,
    ProblemCode.PAYMENT_IN_DOUBT,
    ProblemCode.TOO_MANY_OPERATIONS,
    ProblemCode.NO_GATEWAY,
    ProblemCode.LIMIT_EXCEEDED,
    ProblemCode.GATEWAY_UNAVAILABLE,
}
_ON_A_PAYMENT: Final = frozenset(
    {ProblemCode.PAYMENT_NOT_FOUND, ProblemCode.CURRENCY_MISMATCH, ProblemCode.OPERATION_UNSUPPORTED}
)

_ACCEPTED: Final = Outcome(
    meaning="Durable and under way: asynchronous, pending, in doubt, waiting for the payer, or the time-out was over. "
    "The Location tells where to read on; the same request with the same key may be sent again at any time.",
    model=payloads.Accepted,
    headers=("Location", "Idempotent-Replayed", "Preference-Applied"),
)
_SYNC_HEADERS: Final = ("Idempotent-Replayed", "Preference-Applied")
_MODES: Final = (
    "With `mode=sync` (the default) the answer is the outcome; with `mode=async` it is a 202 as soon as the operation "
    "is accepted, or its refusal. The same key with the same request answers with the same status and "
    "operation, marked `Idempotent-Replayed: true`, and the payment as it is now; with another request, 409."
)
_PAYMENT_ID: Final = {"paymentId": "The payment's id, as this engine gave it."}

_WEBHOOKS: Final = ApiRoute(
    method="POST",
    path="/webhooks/{gateway}",
    name="receiveWebhook",
    summary="A gateway's notice",
    description="For gateways only: verified on the raw bytes by the gateway's signature, kept raw.",
    handler=receive_webhook,
    raw_body=True,
    authenticated=False,
    parameters={"gateway": "The gateway's name. Without an account behind it, the default account is meant."},
    outcomes={200: Outcome(meaning="Kept. Some gateways are answered in words of their own.", model=payloads.Health)},
    problems=frozenset(
        {
            ProblemCode.UNAUTHENTICATED,
            ProblemCode.UNVERIFIABLE,
            ProblemCode.NOT_FOUND,
            ProblemCode.REQUEST_TIMEOUT,
            ProblemCode.TOO_LARGE,
            ProblemCode.UNSUPPORTED_MEDIA_TYPE,
            ProblemCode.LOG_UNAVAILABLE,
            ProblemCode.SHUTTING_DOWN,
        }
    ),
)

API_ROUTES: Final[tuple[ApiRoute, ...]] = (
    ApiRoute(
        method="POST",
        path="/payments",
        name="createPayment",
        summary="Pay, or authorize",
        description=f"Opens the payment of an order: a sale with `capture: true`, else an authorization. {_MODES}",
        handler=create_payment,
        body=PaymentBody,
        body_required=True,
        moves_money=True,
        outcomes={
            201: Outcome(
                meaning="Captured or authorized.", model=payloads.PaymentAnswer, headers=("Location", *_SYNC_HEADERS)
            ),
            202: _ACCEPTED,
        },
        problems=_WRITE_PROBLEMS | {ProblemCode.PAYMENT_ALREADY_EXISTS},
    ),
    ApiRoute(
        method="POST",
        path="/payments/{paymentId}/capture",
        name="capturePayment",
        summary="Capture",
        description=f"Captures some or all of an authorized payment. Without a body: all that is left. {_MODES}",
        handler=capture_payment,
        body=CaptureBody,
        moves_money=True,
        parameters=_PAYMENT_ID,
        outcomes={
            200: Outcome(meaning="Captured.", model=payloads.PaymentAnswer, headers=_SYNC_HEADERS),
            202: _ACCEPTED,
        },
        problems=_WRITE_PROBLEMS
        | _ON_A_PAYMENT
        | {
            ProblemCode.AMOUNT_EXCEEDS_AUTHORIZED,
            ProblemCode.PARTIAL_CAPTURE_UNSUPPORTED,
            ProblemCode.MULTIPLE_CAPTURE_UNSUPPORTED,
        },
    ),
    ApiRoute(
        method="POST",
        path="/payments/{paymentId}/void",
        name="voidPayment",
        summary="Void",
        description=f"Releases a payment of which nothing was captured. {_MODES}",
        handler=void_payment,
        body=VoidBody,
        moves_money=True,
        parameters=_PAYMENT_ID,
        outcomes={
            200: Outcome(meaning="Released.", model=payloads.PaymentAnswer, headers=_SYNC_HEADERS),
            202: _ACCEPTED,
        },
        problems=_WRITE_PROBLEMS | _ON_A_PAYMENT,
    ),
    ApiRoute(
        method="POST",
        path="/payments/{paymentId}/cancel",
        name="cancelPayment",
        summary="Cancel",
        description="Ends a payment of which nothing was captured: what is held is released, and a payer who still has "
        "to act is waited for no longer. It is the same operation as a void: the same key sent to either path is "
        f"answered with the first one's outcome. {_MODES}",
        handler=void_payment,
        body=VoidBody,
        moves_money=True,
        parameters=_PAYMENT_ID,
        outcomes={
            200: Outcome(meaning="Cancelled.", model=payloads.PaymentAnswer, headers=_SYNC_HEADERS),
            202: _ACCEPTED,
        },
        problems=_WRITE_PROBLEMS | _ON_A_PAYMENT,
    ),
    ApiRoute(
        method="POST",
        path="/payments/{paymentId}/complete",
        name="completePayment",
        summary="Complete",
        description="Goes on with a payment that waits for its payer, who has acted and come back, by 3-D Secure, a "
        "redirect or an approval. The answer's operation is this step; the payment shows what came of it, which "
        f"may be one more thing for the payer to do. Of a payment that waits for nobody: 409. {_MODES}",
        handler=complete_payment,
        body=CompleteBody,
        moves_money=True,
        parameters=_PAYMENT_ID,
        outcomes={
            200: Outcome(meaning="Completed.", model=payloads.PaymentAnswer, headers=_SYNC_HEADERS),
            202: _ACCEPTED,
        },
        problems=_WRITE_PROBLEMS | _ON_A_PAYMENT,
    ),
    ApiRoute(
        method="POST",
        path="/refunds",
        name="createRefund",
        summary="Refund",
        description=f"Gives back some or all of what a payment has captured. {_MODES}",
        handler=create_refund,
        body=RefundBody,
        body_required=True,
        moves_money=True,
        outcomes={
            201: Outcome(meaning="Refunded.", model=payloads.Refund, headers=("Location", *_SYNC_HEADERS)),
            202: _ACCEPTED,
        },
        problems=_WRITE_PROBLEMS
        | _ON_A_PAYMENT
        | {
            ProblemCode.AMOUNT_EXCEEDS_CAPTURED,
            ProblemCode.PARTIAL_REFUND_UNSUPPORTED,
            ProblemCode.MULTIPLE_REFUND_UNSUPPORTED,
            ProblemCode.REFUND_EXCEEDS_ONE_CAPTURE,
        },
    ),
    ApiRoute(
        method="GET",
        path="/payments/{paymentId}",
        name="readPayment",
        summary="Read a payment",
        description="The payment and its whole life, read through the log: you read your own writes.",
        handler=read_payment,
        parameters=_PAYMENT_ID,
        outcomes={200: Outcome(meaning="The payment.", model=payloads.PaymentDetails)},
        problems=_READ_PROBLEMS | {ProblemCode.PAYMENT_NOT_FOUND, ProblemCode.NO_ANSWER},
    ),
    ApiRoute(
        method="GET",
        path="/refunds/{refundId}",
        name="readRefund",
        summary="Read a refund",
        description="The refund, read through the log: you read your own writes.",
        handler=read_refund,
        parameters={"refundId": "The refund's id, as this engine gave it."},
        outcomes={200: Outcome(meaning="The refund.", model=payloads.Refund)},
        problems=_READ_PROBLEMS | {ProblemCode.REFUND_NOT_FOUND, ProblemCode.NO_ANSWER},
    ),
    _WEBHOOKS,
    replace(
        _WEBHOOKS,
        path="/webhooks/{gateway}/{account}",
        name="receiveAccountWebhook",
        summary="A gateway's notice to one account",
        parameters={**_WEBHOOKS.parameters, "account": "The account's name, as policies have it."},
    ),
)
