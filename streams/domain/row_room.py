"""How much of an order's row its operations keep for good: an order takes no more of them before its row is too large.

Called by `order` for each new command. A row that outgrows a record of the changelog could not take the next verdict or
result, and its operation would hang. What is counted only ever grows, and follows from the row alone: so a command that
was refused is refused again when it is replayed, though waiters and tokens have left the row meanwhile.
"""

from collections.abc import Collection

from schemas.records.orders import EventRow, OperationRow
from streams.domain.limits import EVENT_CHARS, EVENTS_EXPECTED, MAX_KEPT_CHARS, MAX_OPERATIONS, OPERATION_CHARS


def is_full(operations: Collection[OperationRow]) -> bool:
    """Return whether an order with these operations takes no more. Once it is, it stays so."""
    return len(operations) >= MAX_OPERATIONS or sum(map(kept_chars, operations)) >= MAX_KEPT_CHARS


def kept_chars(operation: OperationRow) -> int:
    """Return the characters that this operation keeps in the row, or will: a usual life's facts are counted before."""
    named = (operation.command_id, operation.idempotency_key, operation.payment_id, operation.traceparent or "")
    facts = [_fact_chars(each) for each in operation.events]
    expected = EVENT_CHARS * max(0, EVENTS_EXPECTED - len(facts))
    return OPERATION_CHARS + sum(map(len, named)) + sum(facts) + expected


def _fact_chars(event: EventRow) -> int:
    error = event.error
    told = () if error is None else (error.code, error.message, error.gateway_code or "", error.advice or "")
    return EVENT_CHARS + sum(map(len, (*told, event.action_url or "")))
