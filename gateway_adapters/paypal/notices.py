"""What PayPal's webhooks say, in the engine's words. Pure; called by the webhook route and, in a replay, by the orders.

A webhook holds one event, whose resource is the object as it was then. Whose it is its reference tells (`references`),
else its own ids do. Events about anything else (subscriptions, invoices, …) say nothing to us, nor do payments that
carry another system's reference.

* A capture or a refund that carries another kind's reference was made at PayPal's own desk.
* A dispute is a case of its own, by its id. A reversal is told as a refund, and names no dispute though it may carry
  one out. So it is a case of its own, too, by the refund's id. What a dispute takes and what its reversal takes may be
  the same money: then too little is left, never too much, and a person is asked (the capability `tells_cases`).
* A hold that is let go is told as voided, whoever did it. When its time was over, it ran out.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import orjson

from gateway_adapters.contract import GatewayNotice, RawHeaders, WebhookTranslator
from gateway_adapters.errors import Code, UntranslatableError, decline_for
from gateway_adapters.paypal.references import operation_in
from gateway_adapters.paypal.signature import HEADERS
from gateway_adapters.paypal.translate import NAME, decline_of, meaning_of, minor_of, to_ms
from gateway_adapters.paypal.wire import ApprovalReversed, Dispute, Event, Made, Order, WireError
from schemas.identifiers import OpId
from schemas.records.gateway import OperationError
from schemas.vocabulary import CallKind, Outcome

GIVEN_BACK: Final = frozenset({"PARTIALLY_REFUNDED", "REFUNDED"})
"""The statuses of a capture that has changed since it succeeded."""
SELLER_LOST: Final = frozenset({"RESOLVED_BUYER_FAVOUR", "ACCEPTED"})
SELLER_KEPT: Final = frozenset(
    {"RESOLVED_SELLER_FAVOUR", "RESOLVED_WITH_PAYOUT", "CANCELED_BY_BUYER", "DENIED", "NONE"}
)
"""How a dispute ends (customer_disputes_v1, `outcome_code`); a payout is PayPal's own money."""


class PayPalTranslator(WebhookTranslator):
    """The pure half of PayPal's webhooks, as the port wants it."""

    webhook_headers = frozenset(HEADERS)

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:  # noqa: ARG002 - the port's shape
        """Return what the webhook says; nothing, of what is nothing to us. Raises: UntranslatableError."""
        try:
            event = Event.read(_parsed(body))
            read = _READERS.get(event.event_type)
            notice = None if read is None else read(event)
        except WireError as error:
            raise UntranslatableError(f"paypal webhook: {error}") from error
        return () if notice is None else (notice,)


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise WireError("it is not JSON") from None


def _authorized(event: Event) -> GatewayNotice | None:
    made = Made.read(event.resource)
    if _is_foreign(made):
        return None
    ours = operation_in(made.custom_id, made.invoice_id)
    op_id = _op_of(ours, CallKind.AUTHORIZE)
    outcome, error = meaning_of(made, CallKind.AUTHORIZE)
    if event.event_type == VOIDED and outcome is not Outcome.EXPIRED:
        return _notice(
            event,
            kind=CallKind.VOID,
            outcome=Outcome.SUCCEEDED,
            gateway_reference=made.id,
            payment_reference=made.id,
            occurred_at_ms=_changed_at_ms(event, made),
        )
    return _notice(
        event,
        kind=CallKind.AUTHORIZE,
        outcome=outcome,
        op_id=op_id,
        gateway_reference=made.id,
        payment_reference=_belongs_to(made, CallKind.AUTHORIZE, op_id),
        made=made,
        error=error,
        occurred_at_ms=_changed_at_ms(event, made),
    )


def _captured(event: Event) -> GatewayNotice | None:
    made = Made.read(event.resource)
    if _is_foreign(made):
        return None
    outcome, error = meaning_of(made, CallKind.CAPTURE)
    kind, op_id = _taking(made)
    return _notice(
        event,
        kind=kind,
        outcome=outcome,
        op_id=op_id,
        gateway_reference=made.id,
        payment_reference=_belongs_to(made, kind, op_id),
        made=made,
        error=error,
        occurred_at_ms=_changed_at_ms(event, made),
    )


def _denied(event: Event) -> GatewayNotice | None:
    made = Made.read(event.resource)
    if _is_foreign(made):
        return None
    kind, op_id = _taking(made)
    return _notice(
        event,
        kind=kind,
        outcome=Outcome.DECLINED,
        op_id=op_id,
        gateway_reference=made.id,
        payment_reference=_belongs_to(made, kind, op_id),
        made=made,
        error=decline_of(made),
        occurred_at_ms=to_ms(event.create_time),
    )


def _refunded(event: Event) -> GatewayNotice:
    made = Made.read(event.resource)
    outcome, error = meaning_of(made, CallKind.REFUND)
    return _notice(
        event,
        kind=CallKind.REFUND,
        outcome=outcome,
        op_id=_op_of(operation_in(made.custom_id, made.invoice_id), CallKind.REFUND),
        gateway_reference=made.id,
        payment_reference=made.up("captures"),
        made=made,
        error=error,
        occurred_at_ms=_changed_at_ms(event, made),
    )


def _failed_refund(event: Event) -> GatewayNotice:
    """A refund that has failed, perhaps long after it counted: what it gave back has come back.

    The event does not say whether it had counted. Of one that had not, it says the same sum.
    """
    made = Made.read(event.resource)
    reason = None if made.status_details is None else made.status_details.reason
    return _notice(
        event,
        kind=CallKind.REFUND,
        outcome=Outcome.REVERSED,
        op_id=_op_of(operation_in(made.custom_id, made.invoice_id), CallKind.REFUND),
        gateway_reference=made.id,
        payment_reference=made.up("captures"),
        made=made,
        error=decline_for(Code.FAILED_LATE, gateway_code=reason or made.status),
        occurred_at_ms=to_ms(event.create_time),
        case_reference=made.id,
    )


def _reversed(event: Event) -> GatewayNotice:
    made = Made.read(event.resource)
    capture = made.up("captures")  # told as a refund of it, which has an id; else as the capture itself
    kind, op_id = _taking(made)
    return _notice(
        event,
        kind=kind if op_id is not None else None,
        outcome=Outcome.REVERSED,
        op_id=op_id,
        gateway_reference=made.id if capture is None else capture,
        made=made,
        error=decline_for(Code.FAILED_LATE, gateway_code=event.event_type),
        occurred_at_ms=to_ms(event.create_time),
        case_reference=event.id if capture is None else made.id,
    )


def _disputed(event: Event) -> GatewayNotice:
    dispute = Dispute.read(event.resource)
    if len(dispute.disputed_transactions) != 1:
        raise WireError("Dispute: disputed_transactions must hold one")
    about = dispute.disputed_transactions[0]
    if about.seller_transaction_id is None:
        raise WireError("Dispute: seller_transaction_id is missing")
    ours = operation_in(about.invoice_number, about.custom)
    taking = ours is not None and ours[0] in {CallKind.SALE, CallKind.CAPTURE}
    outcome = _verdict(event, dispute)
    amount = dispute.dispute_amount
    if outcome is Outcome.DISPUTE_LOST and dispute.dispute_outcome is not None:
        amount = dispute.dispute_outcome.amount_refunded or amount  # a part of what was disputed may have been lost
    return _notice(
        event,
        kind=ours[0] if ours is not None and taking else None,
        outcome=outcome,
        op_id=ours[1] if ours is not None and taking else None,
        gateway_reference=about.seller_transaction_id,
        amount=None if amount is None else (minor_of(amount), amount.currency_code),
        occurred_at_ms=to_ms(event.create_time),
        case_reference=dispute.dispute_id,
    )


def _verdict(event: Event, dispute: Dispute) -> Outcome:
    outcome = dispute.dispute_outcome
    code = None if outcome is None else outcome.outcome_code
    ended = event.event_type == RESOLVED or dispute.status == ENDED  # one that has ended is told as updated, too
    if not ended or code not in SELLER_LOST | SELLER_KEPT:
        return Outcome.DISPUTE_OPENED  # also by a word that we do not know: then it stays open, and a person looks
    return Outcome.DISPUTE_LOST if code in SELLER_LOST else Outcome.DISPUTE_WON


def _approved(event: Event) -> GatewayNotice | None:
    order = Order.read(event.resource)
    ours = operation_in(order.unit.custom_id, order.unit.invoice_id)
    if ours is None:
        return None  # each order of ours carries its reference
    return _notice(
        event,
        kind=ours[0],
        outcome=Outcome.REQUIRES_ACTION,  # of ours now: PayPal waits for the completion
        op_id=ours[1],
        payment_reference=order.id,
        occurred_at_ms=to_ms(event.create_time),
    )


def _unused(event: Event) -> GatewayNotice | None:
    approval = ApprovalReversed.read(event.resource)
    unit = approval.purchase_units[0] if approval.purchase_units else None
    ours = None if unit is None else operation_in(unit.custom_id, unit.invoice_id)
    if ours is None:
        return None
    return _notice(
        event,
        kind=ours[0],
        outcome=Outcome.DECLINED,
        op_id=ours[1],
        payment_reference=approval.order_id,
        error=decline_for(Code.ACTION_EXPIRED, gateway_code=event.event_type),
        occurred_at_ms=to_ms(event.create_time),
    )


def _is_foreign(made: Made) -> bool:
    """Return whether the object carries another system's reference, and none of ours: an account may be shared."""
    given = made.invoice_id or made.custom_id
    return given is not None and operation_in(made.invoice_id, made.custom_id) is None


def _belongs_to(made: Made, kind: CallKind, op_id: OpId | None) -> str | None:
    """Return the id of what the object belongs to. An order's is in no index: it must not have to lead."""
    if kind is CallKind.CAPTURE:
        return made.authorization_id
    return None if op_id is None else made.order_id


def _taking(made: Made) -> tuple[CallKind, OpId | None]:
    """Return whether money was taken by a sale or by a capture, and by which of ours, if by one."""
    ours = operation_in(made.invoice_id, made.custom_id)
    if ours is None:
        return (CallKind.CAPTURE if made.authorization_id is not None else CallKind.SALE), None
    kind, op_id = ours
    if kind in {CallKind.SALE, CallKind.CAPTURE}:
        return kind, op_id
    return CallKind.CAPTURE, None  # it carries its authorization's: captured at PayPal's own desk


def _op_of(ours: tuple[CallKind, OpId] | None, kind: CallKind) -> OpId | None:
    return ours[1] if ours is not None and ours[0] is kind else None


def _changed_at_ms(event: Event, made: Made) -> int:
    if made.status in GIVEN_BACK:
        # Its last change was no success, but money that went back: the success must not seem to come after that.
        return to_ms(made.create_time or event.create_time)
    return to_ms(made.update_time or made.create_time or event.create_time)


def _notice(
    event: Event,
    *,
    kind: CallKind | None,
    outcome: Outcome,
    occurred_at_ms: int,
    op_id: OpId | None = None,
    gateway_reference: str | None = None,
    payment_reference: str | None = None,
    made: Made | None = None,
    amount: tuple[int, str] | None = None,
    error: OperationError | None = None,
    case_reference: str | None = None,
) -> GatewayNotice:
    if made is not None:
        amount = minor_of(made.amount), made.amount.currency_code
    return GatewayNotice(
        gateway=NAME,
        notice_id=event.id,
        origin_id=None,
        order_id=None,
        op_id=op_id,
        kind=kind,
        outcome=outcome,
        gateway_reference=gateway_reference,
        payment_reference=payment_reference,
        confirmed_amount_minor=None if amount is None else amount[0],
        confirmed_currency=None if amount is None else amount[1],
        error=error,
        occurred_at_ms=occurred_at_ms,
        case_reference=case_reference,
    )


VOIDED: Final = "PAYMENT.AUTHORIZATION.VOIDED"
RESOLVED: Final = "CUSTOMER.DISPUTE.RESOLVED"
ENDED: Final = "RESOLVED"
"""The status of a dispute that nothing follows, unless somebody appeals."""

_READERS: Final[Mapping[str, Callable[[Event], GatewayNotice | None]]] = MappingProxyType(
    {
        "PAYMENT.AUTHORIZATION.CREATED": _authorized,
        VOIDED: _authorized,
        "PAYMENT.CAPTURE.COMPLETED": _captured,
        "PAYMENT.CAPTURE.PENDING": _captured,
        "PAYMENT.CAPTURE.DENIED": _denied,
        "PAYMENT.CAPTURE.DECLINED": _denied,
        "PAYMENT.CAPTURE.REFUNDED": _refunded,
        "PAYMENT.CAPTURE.REVERSED": _reversed,
        "PAYMENT.REFUND.PENDING": _refunded,
        "PAYMENT.REFUND.FAILED": _failed_refund,
        "CHECKOUT.ORDER.APPROVED": _approved,
        "CHECKOUT.PAYMENT-APPROVAL.REVERSED": _unused,
        "CUSTOMER.DISPUTE.CREATED": _disputed,
        "CUSTOMER.DISPUTE.UPDATED": _disputed,
        RESOLVED: _disputed,
    }
)

EVENT_TYPES: Final = frozenset(_READERS)
"""The events that say something here: those to subscribe to."""
