"""The order row: the state of one order and, being also its outbox, all it still owes (DESIGN.md sections 5, 6).

Kept in the orders table and its changelog. Only `streams/domain` makes or changes one.
"""

from dataclasses import dataclass

from schemas.identifiers import Fingerprint, GatewayName, IdempotencyKey, OpId, OrderId, OriginId, PaymentId
from schemas.records.claims import RoutePlan
from schemas.records.gateway import OperationError
from schemas.records.payments import ReplyTo
from schemas.vocabulary import OperationKind, OperationState, Rejection

__all__ = ["OperationRow", "OrderRow", "PaymentRow", "ReplyTo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRow:
    """One operation of the order, from its command to its last word."""

    op_id: OpId
    kind: OperationKind
    state: OperationState
    command_id: str  # of the first command: event ids are derived from it
    idempotency_key: IdempotencyKey
    fingerprint: Fingerprint
    payment_id: PaymentId | None  # None: the payment this operation opens
    asked_amount_minor: int | None  # None: all that is left
    asked_currency: str | None
    amount_minor: int  # as dispatched; 0 before
    token: str | None  # authorize and sale, until the last attempt is over
    final: bool
    traceparent: str | None
    plan: RoutePlan | None  # pinned by the verdict; before it, the plan of the claim as first sent
    attempt: int  # 0 before the first
    call_number: int
    inquiries: int  # made so far in this doubt
    gateway: GatewayName | None
    gateway_reference: str | None
    timer_number: int  # of the last timer asked for
    timer_due_at_ms: int | None
    error: OperationError | None
    rejection: Rejection | None
    action_url: str | None
    confirmed_amount_minor: int | None
    waiters: tuple[ReplyTo, ...]
    last_event: str | None  # the transition whose event is owed again on a replay
    last_event_sequence: int
    first_requested_at_ms: int  # of the current attempt
    requested_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRow:
    """The payment that the order's authorize or sale opened: the sums everything is measured by."""

    payment_id: PaymentId
    op_id: OpId  # of the authorize or sale
    amount_minor: int
    currency: str
    gateway: GatewayName | None
    gateway_reference: str | None
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    released: bool  # voided, or the rest released by a final capture
    expired: bool
    review: bool
    disputed: bool
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """One order of one origin."""

    origin_id: OriginId
    order_id: OrderId
    version: int  # rises with every change
    sequence: int  # of the last event
    active_op_id: OpId | None
    queue: tuple[OpId, ...]
    payments: tuple[PaymentRow, ...]  # oldest first; a failed payment may be followed by another
    operations: tuple[OperationRow, ...]  # oldest first
    created_at_ms: int
    updated_at_ms: int
