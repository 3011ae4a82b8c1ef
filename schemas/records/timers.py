"""Time as an input on the log (`payments.timers.v1`), and the row of an open timer: the domain reads no clock."""

from dataclasses import dataclass

from schemas.identifiers import OpId, OrderId, OriginId
from schemas.quick_init import quick_init
from schemas.records.references import KnownReference
from schemas.vocabulary import TimerKind


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """The time that an order asked for has come. `number` tells which wish it was: an older one is ignored."""

    origin_id: OriginId
    order_id: OrderId
    op_id: OpId | None  # None: about the whole row
    kind: TimerKind
    number: int
    due_at_ms: int
    fired_at_ms: int
    references: tuple[KnownReference, ...] = ()  # of EXPIRE_ROW: what the order is known by, and leaves the index


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderExpiryRequested:
    """Ask the orders agent to let orders go that are past their life; sent by its own sweep, of one partition."""

    orders: tuple[TimerFired, ...]  # each of EXPIRE_ROW; one whose row says another time by now is not the one meant
    asked_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTimer:
    """A timer that an order waits for, as the timers table keeps it (key: the order's row key and the operation)."""

    origin_id: OriginId
    order_id: OrderId
    op_id: OpId | None
    kind: TimerKind
    number: int
    due_at_ms: int
