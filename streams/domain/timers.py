"""An operation's timer: at most one, numbered, so that an older one that fires late means nothing.

Called by `retry` and `reconciliation` to ask for one, by `settlement` to let go of it, by `outbox` to ask again.
"""

from schemas.records.orders import OperationRow
from schemas.records.timers import OpenTimer
from schemas.vocabulary import OperationState, TimerKind
from streams.domain.outputs import ClearTimer, SetTimer
from streams.domain.rows import replace
from streams.domain.turn import Turn


def asked(turn: Turn, operation: OperationRow, *, after_ms: int) -> OperationRow:
    """Ask to be woken in so many milliseconds, instead of at any earlier wish; return the operation."""
    operation = turn.put(
        replace(operation, timer_number=operation.timer_number + 1, timer_due_at_ms=turn.now_ms + after_ms)
    )
    say_timer(turn, operation)
    return operation


def let_go(turn: Turn, operation: OperationRow) -> OperationRow:
    """Forget the operation's timer, if there is one; return the operation."""
    if operation.timer_due_at_ms is None:
        return operation
    operation = turn.put(replace(operation, timer_due_at_ms=None))
    say_timer(turn, operation)
    return operation


def say_timer(turn: Turn, operation: OperationRow) -> None:
    """Say what the operation's timer is now; one that never had a timer says nothing. Twice is safe."""
    if operation.timer_due_at_ms is not None:
        kind = TimerKind.RETRY if operation.state is OperationState.DISPATCHED else TimerKind.RECONCILE
        timer = OpenTimer(
            origin_id=turn.origin_id,
            order_id=turn.order_id,
            op_id=operation.op_id,
            kind=kind,
            number=operation.timer_number,
            due_at_ms=operation.timer_due_at_ms,
        )
        turn.say(SetTimer(timer=timer))
    elif operation.timer_number > 0:
        turn.say(ClearTimer(origin_id=turn.origin_id, order_id=turn.order_id, op_id=operation.op_id))
