"""Stripe's events in the engine's words. Pure, so that a replay translates as the first run did.

An event holds one object as it stood when the event was made. What opens a payment, captures it or gives it back
carries our metadata; refunds made at Stripe's own desk, and disputes, name the payment alone, which the references
index knows. Events of other types, and about payments without our metadata, say nothing here
(https://docs.stripe.com/api/events/types).

A capture is told with the time of its own request: each later event of its payment holds its note again, and a success
that seemed new would bring back what a dispute took meanwhile.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway_adapters.contract import GatewayNotice, RawHeaders, WebhookTranslator
from gateway_adapters.errors import Code, UntranslatableError, decline_for
from gateway_adapters.stripe import disputes, requests, signature, translate, wire
from gateway_adapters.stripe.amounts import UncountableError, from_stripe
from gateway_adapters.stripe.wire import Event, PaymentIntent, WireError
from schemas.identifiers import OpId, OrderId, OriginId
from schemas.records.gateway import OperationError
from schemas.vocabulary import CallKind, Outcome

_NOT_YET_MOVED: Final = frozenset({"pending", "requires_action"})
"""Statuses of a refund that has not been carried out."""


class StripeTranslator(WebhookTranslator):
    """The pure half of Stripe's webhooks, as the port wants it."""

    webhook_headers = frozenset({signature.HEADER})

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:  # noqa: ARG002 - the port's shape
        """Return what the webhook says. Raises: UntranslatableError."""
        try:
            told = wire.object_of(body)
            read = READERS.get(wire.event_type(told))
            if read is None:
                return ()
            event = wire.event(told)
            # A connected account's: whoever owns it writes its metadata, and could name any order there.
            return () if event.account is not None else read(event)
        except (WireError, UncountableError) as error:
            raise UntranslatableError(f"stripe webhook: {error}") from error


def _of_payment(event: Event) -> tuple[GatewayNotice, ...]:
    """`payment_intent.*`: what became of the payment, and of captures of it."""
    payment = wire.payment_intent(event.object)
    if requests.OPERATION not in payment.metadata:
        return ()  # another system's, which shares the account
    if payment.status in {"succeeded", "requires_capture"} and payment.manual and payment.received > 0:
        return _of_captures(event, payment)
    if payment.status == "requires_action":
        return ()  # the answer to the call tells it, with where the payer goes
    if payment.status == "canceled" and translate.was_held(payment):
        return _of_release(event, payment)
    outcome, error = translate.meaning_of_payment(payment)
    return (_about_payment(event, payment, outcome, error),)


def _of_captures(event: Event, payment: PaymentIntent) -> tuple[GatewayNotice, ...]:
    notes = requests.capture_notes(payment.metadata)
    about = _about_payment(event, payment, Outcome.SUCCEEDED, None)
    about = replace(about, kind=CallKind.CAPTURE, gateway_reference=payment.charge_id, op_id=None)
    if not notes:  # captured at Stripe's own desk
        return (replace(about, confirmed_amount_minor=from_stripe(payment.received, payment.currency)),)
    return tuple(
        replace(
            about,
            notice_id=f"{event.id}:{note.op_id}",
            op_id=note.op_id,
            confirmed_amount_minor=from_stripe(payment.received if len(notes) == 1 else note.amount, payment.currency),
            occurred_at_ms=note.requested_at_ms,
        )
        for note in notes
    )


def _of_release(event: Event, payment: PaymentIntent) -> tuple[GatewayNotice, ...]:
    """What was held and is let go: it ran out, or somebody voided it, the engine or a person at Stripe's desk."""
    outcome, error = translate.meaning_of_payment(payment)
    if outcome is Outcome.EXPIRED:
        return (_about_payment(event, payment, outcome, error),)
    about = _about_payment(event, payment, Outcome.SUCCEEDED, None)
    return (replace(about, kind=CallKind.VOID, op_id=None, confirmed_amount_minor=None),)


def _of_refund(event: Event) -> tuple[GatewayNotice, ...]:
    """`refund.*`: ours, with our metadata; or made at Stripe's desk, with the payment's reference alone."""
    refund = wire.refund(event.object)
    if refund.payment is None:
        return ()
    outcome, error = translate.meaning_of_refund(refund)
    if requests.OPERATION not in refund.metadata and refund.released:
        return ()  # Stripe's way of letting a hold go: nothing that was taken is given back
    case, before = None, event.previous.get("status")
    failed_late = refund.status == "failed" and before not in _NOT_YET_MOVED
    if failed_late or (refund.status == "canceled" and before == "succeeded"):
        # It had counted until now: what failed late is taken back.
        outcome, case = Outcome.REVERSED, refund.id
        error = decline_for(Code.FAILED_LATE, gateway_code=refund.failure_reason or refund.status)
    about = _about(
        event,
        refund.metadata,
        kind=CallKind.REFUND,
        outcome=outcome,
        reference=refund.id,
        payment=refund.payment,
        amount_minor=from_stripe(refund.amount, refund.currency),
        currency=refund.currency,
        error=error,
    )
    return (replace(about, case_reference=case),)


def _of_dispute(event: Event) -> tuple[GatewayNotice, ...]:
    """`charge.dispute.*`: opened, withdrawn, ended, under the dispute's own id."""
    dispute = wire.dispute(event.object)
    said = None if dispute.payment is None else disputes.meaning_of(event.type, dispute)
    if dispute.payment is None or said is None:
        return ()
    outcome, amount = said
    about = _about(
        event,
        {},
        kind=None,
        outcome=outcome,
        reference=dispute.payment,
        payment=dispute.payment,
        amount_minor=from_stripe(amount, dispute.currency),
        currency=dispute.currency,
        error=decline_for(Code.FAILED_LATE, gateway_code=event.type) if outcome is Outcome.REVERSED else None,
    )
    return (replace(about, case_reference=dispute.id),)


def _about_payment(
    event: Event, payment: PaymentIntent, outcome: Outcome, error: OperationError | None
) -> GatewayNotice:
    return _about(
        event,
        payment.metadata,
        kind=translate.kind_of(payment),
        outcome=outcome,
        reference=payment.id,
        payment=payment.id,
        amount_minor=translate.amount_of(payment),
        currency=payment.currency,
        error=error,
    )


def _about(
    event: Event,
    metadata: Mapping[str, str],
    *,
    kind: CallKind | None,
    outcome: Outcome,
    reference: str,
    payment: str,
    amount_minor: int,
    currency: str,
    error: OperationError | None,
) -> GatewayNotice:
    origin, order, op = (metadata.get(name) for name in (requests.ORIGIN, requests.ORDER, requests.OPERATION))
    return GatewayNotice(
        gateway=translate.NAME,
        notice_id=event.id,
        origin_id=None if origin is None else OriginId(origin),
        order_id=None if order is None else OrderId(order),
        op_id=None if op is None else OpId(op),
        kind=kind,
        outcome=outcome,
        gateway_reference=reference,
        payment_reference=payment,
        confirmed_amount_minor=amount_minor,
        confirmed_currency=currency,
        error=error,
        occurred_at_ms=event.created_s * 1000,
    )


READERS: Final[Mapping[str, Callable[[Event], tuple[GatewayNotice, ...]]]] = MappingProxyType(
    {
        "payment_intent.amount_capturable_updated": _of_payment,
        "payment_intent.canceled": _of_payment,
        "payment_intent.payment_failed": _of_payment,
        "payment_intent.processing": _of_payment,
        "payment_intent.succeeded": _of_payment,
        "refund.created": _of_refund,
        "refund.updated": _of_refund,
        "refund.failed": _of_refund,
        "charge.refund.updated": _of_refund,
        disputes.CREATED: _of_dispute,
        disputes.WITHDRAWN: _of_dispute,
        disputes.REINSTATED: _of_dispute,
        disputes.CLOSED: _of_dispute,
    }
)
"""The events that say something, by their types: those an endpoint is subscribed to."""
