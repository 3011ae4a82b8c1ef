"""What a merchant sees: views of operations and payments, the events made of them, and the answers to queries.

`answer_query` is called by the orders agent for `payments.queries.v1`; the rest by `turn`. Nothing here changes a row.
"""

from typing import Final

from schemas import identifiers
from schemas.event_types import Transition
from schemas.identifiers import OrderId, OriginId, RefundId
from schemas.records.decisions import DecisionView
from schemas.records.orders import EventRow, OperationRow, OrderRow, PaymentRow
from schemas.records.payments import (
    OperationReplied,
    OperationView,
    PaymentEvent,
    PaymentQueried,
    PaymentStanding,
    PaymentView,
)
from schemas.vocabulary import OperationKind, PaymentStatus
from streams.domain.apart import Apart, Load, nothing_apart
from streams.domain.sums import OPENING, UNANSWERED, standing_of

NO_CURRENCY: Final = "XXX"
"""ISO 4217's code for 'no currency': of an operation that named none and found no payment to take it from."""


def operation_view(operation: OperationRow, order_id: OrderId) -> OperationView:
    """Return the operation as a merchant may see it now."""
    return OperationView(
        op_id=operation.op_id,
        kind=operation.kind,
        initiator=operation.initiator,
        state=operation.state,
        idempotency_key=operation.idempotency_key,
        amount_minor=operation.amount_minor or operation.asked_amount_minor or 0,
        counted_minor=operation.counted_minor,
        currency=operation.asked_currency or NO_CURRENCY,
        refund_id=_refund_id(operation, order_id),
        gateway=operation.gateway,
        gateway_reference=operation.gateway_reference,
        attempts=operation.attempt,
        error=operation.error,
        rejection=operation.rejection,
        action_url=operation.action_url,
        requested_at_ms=operation.requested_at_ms,
        updated_at_ms=operation.updated_at_ms,
    )


def _refund_id(operation: OperationRow, order_id: OrderId) -> RefundId | None:
    if operation.kind is not OperationKind.REFUND:
        return None
    return identifiers.refund_id(order_id, operation.op_id)


def payment_view(
    payment: PaymentRow, standing: PaymentStanding, *, origin_id: OriginId, order_id: OrderId, updated_at_ms: int
) -> PaymentView:
    """Return the payment as a merchant sees it when it stands so."""
    return PaymentView(
        payment_id=payment.payment_id,
        origin_id=origin_id,
        order_id=order_id,
        status=standing.status,
        overlays=standing.overlays,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        authorized_minor=standing.authorized_minor,
        captured_minor=standing.captured_minor,
        refunded_minor=standing.refunded_minor,
        released_minor=standing.released_minor,
        disputed_minor=standing.disputed_minor,
        created_at_ms=payment.created_at_ms,
        updated_at_ms=updated_at_ms,
    )


def event_row(
    operation: OperationRow,
    transition: Transition,
    standing: PaymentStanding | None,
    *,
    sequence: int,
    now_ms: int,
    decision: DecisionView | None = None,
) -> EventRow:
    """Return the public fact that this transition of the operation is. `standing`: of its payment, if there is one."""
    return EventRow(
        transition=transition.value,
        number=1 + sum(1 for each in operation.events if each.transition == transition.value),
        sequence=sequence,
        state=operation.state,
        attempt=operation.attempt,
        gateway=operation.gateway,
        gateway_reference=operation.gateway_reference,
        error=operation.error,
        action_url=operation.action_url,
        amount_minor=operation.amount_minor,
        counted_minor=operation.counted_minor,
        standing=standing,
        occurred_at_ms=now_ms,
        decision=decision,
    )


def payment_event(
    operation: OperationRow,
    event: EventRow,
    *,
    payment: PaymentRow | None,
    origin_id: OriginId,
    order_id: OrderId,
) -> PaymentEvent:
    """Return the fact for `payments.events.v1`: made of what the fact recorded and of what never changes."""
    # A payment that was opened after the fact is none of it.
    seen = None
    if payment is not None and event.standing is not None:
        at_ms = event.occurred_at_ms
        seen = payment_view(payment, event.standing, origin_id=origin_id, order_id=order_id, updated_at_ms=at_ms)
    return PaymentEvent(
        origin_id=origin_id,
        order_id=order_id,
        payment_id=operation.payment_id if seen is not None or operation.kind in OPENING else None,
        command_id=operation.command_id,
        sequence=event.sequence,
        operation=_operation_at(operation, event, order_id),
        payment=seen,
        occurred_at_ms=event.occurred_at_ms,
        decision=event.decision,
    )


def _operation_at(operation: OperationRow, event: EventRow, order_id: OrderId) -> OperationView:
    """Return the operation as a merchant saw it when this fact was said."""
    return OperationView(
        op_id=operation.op_id,
        kind=operation.kind,
        initiator=operation.initiator,
        state=event.state,
        idempotency_key=operation.idempotency_key,
        amount_minor=event.amount_minor or operation.asked_amount_minor or 0,
        counted_minor=event.counted_minor,
        currency=operation.asked_currency or NO_CURRENCY,
        refund_id=_refund_id(operation, order_id),
        gateway=event.gateway,
        gateway_reference=event.gateway_reference,
        attempts=event.attempt,
        error=event.error,
        rejection=operation.rejection,
        action_url=event.action_url,
        requested_at_ms=operation.requested_at_ms,
        updated_at_ms=event.occurred_at_ms,
    )


def answer_query(
    row: OrderRow | None, query: PaymentQueried, now_ms: int, load: Load = nothing_apart
) -> OperationReplied:
    """Return the answer to a query about a payment or a refund: the row as it is, read through the log.

    A payment is found from the moment its command was taken: before it is dispatched it is `created`, and one that was
    never opened (its key belongs to another operation, or the order refused it) is `failed`, its operation says why.
    """
    apart = Apart(row, load)
    operation = None if row is None else _asked_for(row, query, apart)
    payment: PaymentView | None = None
    life: tuple[OperationView, ...] = ()
    if row is not None and operation is not None:
        payment = _payment_seen(row, operation)
        life = _life(row, operation, apart) if query.refund_id is None else ()
    return OperationReplied(
        request_id=query.request_id,
        origin_id=query.origin_id,
        order_id=query.order_id,
        final=True,
        found=operation is not None,
        replayed=False,
        operation=None if operation is None else operation_view(operation, query.order_id),
        payment=payment,
        operations=life,
        replied_at_ms=now_ms,
    )


def _asked_for(row: OrderRow, query: PaymentQueried, apart: Apart) -> OperationRow | None:
    """Return the refund asked for, or the operation that opened the payment asked for."""
    for operation in row.operations:
        if query.refund_id is not None:
            if _refund_id(operation, row.order_id) == query.refund_id:
                return operation
        elif operation.kind in OPENING and operation.payment_id == query.payment_id:
            return operation
    return None if query.refund_id is None else apart.by_refund(query.refund_id)


def _payment_seen(row: OrderRow, operation: OperationRow) -> PaymentView | None:
    for payment in row.payments:
        if payment.payment_id == operation.payment_id:
            return payment_view(
                payment,
                standing_of(payment, row.operations, row.subtotals),
                origin_id=row.origin_id,
                order_id=row.order_id,
                updated_at_ms=payment.updated_at_ms,
            )
    return _payment_unopened(row, operation) if operation.kind in OPENING else None


def _payment_unopened(row: OrderRow, operation: OperationRow) -> PaymentView:
    return PaymentView(
        payment_id=operation.payment_id,
        origin_id=row.origin_id,
        order_id=row.order_id,
        status=PaymentStatus.CREATED if operation.state in UNANSWERED else PaymentStatus.FAILED,
        overlays=(),
        amount_minor=operation.asked_amount_minor or 0,
        currency=operation.asked_currency or NO_CURRENCY,
        authorized_minor=0,
        captured_minor=0,
        refunded_minor=0,
        released_minor=0,
        disputed_minor=0,
        created_at_ms=operation.requested_at_ms,
        updated_at_ms=operation.updated_at_ms,
    )


def _life(row: OrderRow, operation: OperationRow, apart: Apart) -> tuple[OperationView, ...]:
    known = sorted((*row.operations, *apart.all()), key=lambda each: each.number)
    return tuple(operation_view(each, row.order_id) for each in known if each.payment_id == operation.payment_id)
