"""What the API answers with, as JSON: the engine's views in the words and units of HTTP.

The models are the response schemas of `/openapi.json`. Built from the records by `representation.answers`. Nothing in
them belongs to one request: no request id, no clock. A replay of an operation that is final has the first answer's
status and its `operation`; the payment beside it is as it is now, and may have been captured or refunded since. The
one thing that changes a final operation is the gateway taking it back: it is `reversed` then, and a 402.
"""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from schemas.records.gateway import OperationError
from schemas.records.payments import OperationView, PaymentView
from schemas.vocabulary import (
    DeclineClass,
    Initiator,
    OperationKind,
    OperationState,
    Overlay,
    PaymentStatus,
    Rejection,
    RetryAdvice,
)

_MS_PER_S = 1000


class View(BaseModel):
    """What every answer has in common."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )


class ErrorView(View):
    """Why an operation did not succeed."""

    code: str = Field(description="The unified code, such as `insufficient_funds`.")
    decline_class: DeclineClass | None = Field(description="Of a decline: what a merchant can do about it.")
    gateway_code: str | None
    message: str
    advice: str | None = Field(description="The network's or gateway's own advice, as it came.")
    retry: RetryAdvice
    retry_after_ms: int | None


class Operation(View):
    """One operation of an order."""

    id: str
    kind: OperationKind
    initiator: Initiator = Field(description="Who wanted it: the merchant, the engine, or the gateway's own desk.")
    state: OperationState
    idempotency_key: str
    amount: int = Field(description="Minor units.")
    counted_amount: int = Field(description="What it counts for in the payment's sums now: less, once taken back.")
    currency: str
    refund_id: str | None
    gateway: str | None
    gateway_reference: str | None
    attempts: int = Field(
        description="The last attempt's place in the route plan. Places of a gateway that had declined are passed over."
    )
    error: ErrorView | None
    rejection: Rejection | None
    action_url: str | None = Field(
        description="Where the payer goes, while the state is `requires_action`; of a completion, where they go next."
    )
    requested_at: datetime
    updated_at: datetime


class Payment(View):
    """A payment."""

    id: str
    origin_id: str
    order_id: str
    status: PaymentStatus
    overlays: tuple[Overlay, ...] = Field(description="What lies over the status: `in_doubt`, `review`, `disputed`.")
    amount: int = Field(description="Asked for, minor units.")
    currency: str
    authorized_amount: int
    captured_amount: int
    refunded_amount: int
    released_amount: int = Field(description="Of what was authorized: not captured, and not held any more.")
    disputed_amount: int = Field(description="Of what was captured: in disputes that are open.")
    created_at: datetime
    updated_at: datetime


class PaymentAnswer(Payment):
    """A payment, and the operation that was asked for."""

    operation: Operation


class PaymentDetails(Payment):
    """A payment and its whole life, oldest operation first."""

    operations: tuple[Operation, ...]


class Refund(View):
    """A refund: one operation on a payment."""

    id: str
    payment_id: str
    origin_id: str
    order_id: str
    state: OperationState
    amount: int = Field(description="Minor units.")
    currency: str
    gateway: str | None
    gateway_reference: str | None
    error: ErrorView | None
    created_at: datetime
    updated_at: datetime
    payment: Payment


class Accepted(View):
    """The operation is durable and goes on; what is known of it so far. Ask again at the `Location`."""

    id: str = Field(description="Of the payment, or of the refund that was asked for.")
    origin_id: str
    order_id: str
    state: OperationState | Literal["accepted"] = Field(
        description="`accepted` before the engine has spoken, then the operation's state."
    )
    in_doubt: bool = Field(description="Whether a gateway call may or may not have had its effect.")
    action_url: str | None = Field(description="Where the payer goes, while the state is `requires_action`.")
    operation: Operation | None
    payment: Payment | None


class Fault(View):
    """What is wrong with one field, header or parameter."""

    pointer: str = Field(description="A JSON pointer into the body (`#/amount`), or a header's or parameter's name.")
    detail: str


class Problem(View):
    """A problem (RFC 9457)."""

    type: str = Field(description="A URN that never changes; clients may branch on it.")
    title: str
    status: int
    code: str = Field(description="The last word of `type`.")
    detail: str | None = None
    errors: tuple[Fault, ...] | None = None
    operation: Operation | None = None
    payment: Payment | None = None


class Health(View):
    """Whether the instance lives, or may be sent requests."""

    status: str


def time_of(milliseconds: int) -> datetime:
    """Return the moment, UTC, with whole milliseconds."""
    seconds, rest_ms = divmod(milliseconds, _MS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ms * 1000)


def error_view(error: OperationError | None) -> ErrorView | None:
    """Return the error as a merchant may see it."""
    if error is None:
        return None
    return ErrorView(
        code=error.code,
        decline_class=error.decline_class,
        gateway_code=error.gateway_code,
        message=error.message,
        advice=error.advice,
        retry=error.retry,
        retry_after_ms=error.retry_after_ms,
    )


def operation(view: OperationView) -> Operation:
    """Return one operation."""
    return Operation(
        id=view.op_id,
        kind=view.kind,
        initiator=view.initiator,
        state=view.state,
        idempotency_key=view.idempotency_key,
        amount=view.amount_minor,
        counted_amount=view.counted_minor,
        currency=view.currency,
        refund_id=view.refund_id,
        gateway=view.gateway,
        gateway_reference=view.gateway_reference,
        attempts=view.attempts,
        error=error_view(view.error),
        rejection=view.rejection,
        action_url=view.action_url,
        requested_at=time_of(view.requested_at_ms),
        updated_at=time_of(view.updated_at_ms),
    )


def _payment_fields(view: PaymentView) -> dict[str, object]:
    return {
        "id": view.payment_id,
        "origin_id": view.origin_id,
        "order_id": view.order_id,
        "status": view.status,
        "overlays": view.overlays,
        "amount": view.amount_minor,
        "currency": view.currency,
        "authorized_amount": view.authorized_minor,
        "captured_amount": view.captured_minor,
        "refunded_amount": view.refunded_minor,
        "released_amount": view.released_minor,
        "disputed_amount": view.disputed_minor,
        "created_at": time_of(view.created_at_ms),
        "updated_at": time_of(view.updated_at_ms),
    }


def payment(view: PaymentView) -> Payment:
    """Return one payment."""
    return Payment.model_validate(_payment_fields(view))


def payment_answer(view: PaymentView, about: OperationView) -> PaymentAnswer:
    """Return a payment with the operation that was asked for."""
    return PaymentAnswer.model_validate({**_payment_fields(view), "operation": operation(about)})


def payment_details(view: PaymentView, life: tuple[OperationView, ...]) -> PaymentDetails:
    """Return a payment with its whole life."""
    return PaymentDetails.model_validate(
        {**_payment_fields(view), "operations": tuple(operation(each) for each in life)}
    )


def refund(view: PaymentView, about: OperationView) -> Refund:
    """Return one refund. `about` is the operation that it is, and has a refund id."""
    assert about.refund_id is not None
    return Refund(
        id=about.refund_id,
        payment_id=view.payment_id,
        origin_id=view.origin_id,
        order_id=view.order_id,
        state=about.state,
        amount=about.amount_minor,
        currency=about.currency,
        gateway=about.gateway,
        gateway_reference=about.gateway_reference,
        error=error_view(about.error),
        created_at=time_of(about.requested_at_ms),
        updated_at=time_of(about.updated_at_ms),
        payment=payment(view),
    )
