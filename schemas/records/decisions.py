"""What a person decides about an operation that no gateway settles, what waits for that, and what came of it.

Decisions stand on `decisions.v1`, written by the operators' listener alone and read by the orders agent. A decision is
evidence and no command: merchants have no right to write it. It is known by its id, so that it holds once however often
it is said.
"""

from dataclasses import dataclass

from schemas.identifiers import DecisionId, GatewayName, OperatorName, OpId, OrderId, OriginId, PaymentId
from schemas.quick_init import quick_init
from schemas.vocabulary import DecisionRefusal, OperationKind, Verdict, WaitingFor


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """A person has decided."""

    decision_id: DecisionId
    origin_id: OriginId
    order_id: OrderId
    payment_id: PaymentId
    op_id: OpId
    verdict: Verdict
    amount_minor: int | None  # of `succeeded` and `taken_back`; None: all that the operation is about
    why: str  # for a person; never holds card data
    decided_by: OperatorName  # whose key it was
    approved_by: OperatorName | None  # with four eyes: the second person, never the first one
    decided_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionProposed:
    """With four eyes: a person would decide so. Nothing follows from it until another one approves it, in time."""

    decision_id: DecisionId
    origin_id: OriginId
    order_id: OrderId
    payment_id: PaymentId
    op_id: OpId
    verdict: Verdict
    amount_minor: int | None
    why: str
    proposed_by: OperatorName
    proposed_at_ms: int
    expires_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTried:
    """What would become of this decision? Asked through the log, of the order as it is then (`payments.queries.v1`)."""

    request_id: str
    reply_partition: int
    origin_id: OriginId
    order_id: OrderId
    decision: DecisionMade
    tried_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """A decision as an event or an answer shows it, and what became of it."""

    decision_id: DecisionId
    verdict: Verdict
    amount_minor: int | None
    why: str
    decided_by: OperatorName
    approved_by: OperatorName | None
    decided_at_ms: int
    refusal: DecisionRefusal | None  # None: it holds


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentWaiting:
    """An operation waits, for its gateway or for a person. On `payments.waiting.v1` the last of each key holds."""

    origin_id: OriginId
    order_id: OrderId
    payment_id: PaymentId
    op_id: OpId
    kind: OperationKind
    waits_for: tuple[WaitingFor, ...]
    amount_minor: int
    currency: str
    gateway: GatewayName | None
    gateway_reference: str | None
    since_ms: int  # of the log: when it came to wait for this
