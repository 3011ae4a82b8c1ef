"""Time as an input on the log (`payments.timers.v1`), and the row of an open timer: the domain reads no clock."""

from dataclasses import dataclass

from schemas.identifiers import Fingerprint, OpId, OrderId, OriginId
from schemas.quick_init import quick_init
from schemas.records.references import KnownReference
from schemas.vocabulary import TimerKind


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingOperation:
    """An operation that is to leave its order's row, as it was when that was asked for; changed since, it stays."""

    number: int
    content: Fingerprint


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
    references: tuple[KnownReference, ...] = ()  # at an order's end: what it is known by, and leaves the index
    life_ms: int | None = None  # when the order's row was created: which life of the order is meant
    operations: int | None = None  # at an order's end: how many it has had
    leaving: tuple[LeavingOperation, ...] = ()  # of COPY_APART and DROP_COPIED


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
