"""What the engine tells the world: facts on `payments.events.v1`, answers on `payments.replies.v1`, their views."""

from dataclasses import dataclass

from schemas.identifiers import GatewayName, IdempotencyKey, OpId, OrderId, OriginId, PaymentId, RefundId
from schemas.quick_init import quick_init
from schemas.records.decisions import DecisionView
from schemas.records.gateway import OperationError
from schemas.vocabulary import Initiator, OperationKind, OperationState, Overlay, PaymentStatus, Rejection


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """One operation as a merchant may see it."""

    op_id: OpId
    kind: OperationKind
    initiator: Initiator
    state: OperationState
    idempotency_key: IdempotencyKey
    amount_minor: int
    counted_minor: int  # what it counts for in the payment's sums now: 0 until it succeeded, less once taken back
    currency: str
    refund_id: RefundId | None  # of a refund
    gateway: GatewayName | None
    gateway_reference: str | None
    attempts: int
    error: OperationError | None
    rejection: Rejection | None
    action_url: str | None
    requested_at_ms: int
    updated_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentStanding:
    """How a payment stands at a moment: what follows from its operations, in minor units of its currency."""

    status: PaymentStatus
    overlays: tuple[Overlay, ...]
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    released_minor: int  # of what was authorized: not captured, and not held any more
    disputed_minor: int  # of what was captured: in disputes that are open


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentView:
    """One payment as a merchant may see it."""

    payment_id: PaymentId
    origin_id: OriginId
    order_id: OrderId
    status: PaymentStatus
    overlays: tuple[Overlay, ...]
    amount_minor: int  # asked for
    currency: str
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    released_minor: int
    disputed_minor: int
    created_at_ms: int
    updated_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvent:
    """A public fact. Its CloudEvents id is deterministic: a consumer that drops known ids is effectively once."""

    origin_id: OriginId
    order_id: OrderId
    payment_id: PaymentId | None  # None: the operation named a payment that is not there
    command_id: str  # the command that opened the operation
    sequence: int  # per order, rising
    operation: OperationView
    payment: PaymentView | None
    occurred_at_ms: int
    decision: DecisionView | None = None  # a person's, that this fact tells of or follows from


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Where an answer goes: a partition of `payments.replies.v1`, and the id the waiting instance knows it by."""

    request_id: str
    partition: int
    final_only: bool = False  # nobody waits for the answer that the operation is accepted


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OperationReplied:
    """The answer to a waiting ingress instance: about an operation (accepted or final) or to a query."""

    request_id: str
    origin_id: OriginId
    order_id: OrderId
    final: bool  # False: accepted, the claim is granted and the rest goes on
    found: bool  # of a query: whether the payment or refund exists
    replayed: bool  # the operation was known before this request came
    operation: OperationView | None
    payment: PaymentView | None
    operations: tuple[OperationView, ...]  # of a query about a payment: its life, oldest first
    replied_at_ms: int
    decision: DecisionView | None = None  # of a decision: what became of it, or would


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentQueried:
    """Read a row through the log, so that a client reads its own writes (`payments.queries.v1`)."""

    request_id: str
    reply_partition: int
    origin_id: OriginId
    order_id: OrderId
    payment_id: PaymentId | None
    refund_id: RefundId | None
    queried_at_ms: int
