"""After a call that positively was not executed: another attempt by the plan, at once or after a pause, or the end.

Called by `outcomes`, and by `order` when the retry timer fires. The order's queue stands still meanwhile, other orders
do not: the pause is a timer on the log. Never reached while anything is in doubt.
"""

from schemas import identifiers
from schemas.identifiers import GatewayRoute
from schemas.records.gateway import OperationError
from schemas.records.orders import OperationRow
from schemas.vocabulary import OperationState, RetryAdvice
from streams.domain import calls, paid_once, routing, settlement, timers
from streams.domain.limits import MAX_RETRY_DELAY_MS, RETRY_BACKOFF_MS
from streams.domain.rows import replace
from streams.domain.turn import Turn

_HOPELESS = frozenset({RetryAdvice.NEVER, RetryAdvice.AFTER_FIX, RetryAdvice.AFTER_SCA})


def not_executed(turn: Turn, operation: OperationRow, error: OperationError | None) -> None:
    """Decide what follows on an attempt that was not executed.

    Another gateway, or account, is tried at once: the pause that this one asks for does not concern it.
    """
    if is_hopeless(error) or paid_once.may_take_twice(turn, operation):
        _given_up(turn, operation, error)
        return
    assert error is not None
    assert operation.plan is not None
    following = operation.attempt + 1
    route = routing.gateway_for(operation, operation.plan, turn.payment_of(operation), attempt=following)
    if route is None:
        _given_up(turn, operation, error)
        return
    operation = replace(operation, error=error, updated_at_ms=turn.now_ms)
    if route != _here(operation):
        calls.attempted(turn, operation, route)
        return
    delay_ms = max(error.retry_after_ms or 0, RETRY_BACKOFF_MS[min(operation.attempt, len(RETRY_BACKOFF_MS)) - 1])
    if delay_ms > MAX_RETRY_DELAY_MS:
        _given_up(turn, operation, error)
        return
    timers.asked(turn, operation, after_ms=delay_ms)


def is_hopeless(error: OperationError | None) -> bool:
    """Return whether the same call would be refused again."""
    return error is None or error.retry in _HOPELESS


def due(turn: Turn, operation: OperationRow) -> None:
    """The pause is over: make the next attempt. The gateway was chosen by the pinned plan, so it is there."""
    if paid_once.may_take_twice(turn, operation):  # a gateway has said so meanwhile
        _given_up(turn, operation, operation.error)
        return
    assert operation.plan is not None
    calls.attempted(turn, replace(operation, timer_due_at_ms=None), _here(operation))


def _here(operation: OperationRow) -> GatewayRoute:
    assert operation.gateway is not None
    return identifiers.gateway_route(operation.gateway, operation.account)


def _given_up(turn: Turn, operation: OperationRow, error: OperationError | None) -> None:
    settlement.refused_there(turn, operation, OperationState.NOT_EXECUTED, error)
