"""What an order says: the outputs of `order.decide`, turned into messages and table writes by the orders agent.

They leave only after the row is durable (persist, then speak). Each may be said again after a crash, with the same
identity and content: a claim by its operation, a call by its `gateway_key` and `call_number`, an event by its id.
"""

from dataclasses import dataclass

from schemas import identifiers
from schemas.event_types import Transition, event_type
from schemas.identifiers import EventId, OpId, OrderId, OriginId
from schemas.quick_init import quick_init
from schemas.records.claims import ClaimRequested
from schemas.records.gateway import GatewayCallRequested
from schemas.records.orders import ApartRow
from schemas.records.payments import OperationReplied, PaymentEvent, ReplyTo
from schemas.records.timers import OpenTimer, TimerFired


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class SendClaim:
    """Ask the claims agent for the operation's idempotency key."""

    claim: ClaimRequested


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class CallGateway:
    """Ask the executor for one call."""

    request: GatewayCallRequested


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Tell the world."""

    event_id: EventId
    transition: Transition
    event: PaymentEvent

    @property
    def type(self) -> str:
        """The event's CloudEvents type."""
        return event_type(self.event.operation.kind, self.transition)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer one waiting request."""

    to: ReplyTo
    reply: OperationReplied


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimer:
    """Wake the order at that time; replaces the operation's earlier timer."""

    timer: OpenTimer


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ClearTimer:
    """Forget the operation's timer, if there is one. Doing it twice is safe."""

    origin_id: OriginId
    order_id: OrderId
    op_id: OpId | None

    @property
    def key(self) -> bytes:
        """The timer's key in its table."""
        return identifiers.row_key(self.origin_id, self.order_id) + b"|" + (self.op_id or "").encode()


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class SayTimer:
    """Ask the order, by a record on the timers topic, for the next step of something: at once, and not by the clock."""

    fired: TimerFired


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class KeepApart:
    """Keep this row beside the order's, or (None) no such row. Doing it twice is safe."""

    origin_id: OriginId
    order_id: OrderId
    name: str
    row: ApartRow | None

    @property
    def key(self) -> bytes:
        """The row's key in its table."""
        return identifiers.row_key(self.origin_id, self.order_id) + b"|" + self.name.encode()


Message = SendClaim | CallGateway | Publish | Reply | SayTimer
"""What goes to a topic."""

Output = Message | SetTimer | ClearTimer | KeepApart
"""All that a decision can say."""
