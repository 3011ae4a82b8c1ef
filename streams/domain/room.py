"""The room that an order has for its operations, in its row and in the answer that tells its whole life.

Called by `order` and `notices` before an operation is taken, and by `subtotals` for those that leave the row. A row
that outgrows a record of the changelog could not take the next verdict or result, and its operation would hang. What is
counted only ever grows, and follows from the order's life alone: so a command that was refused is refused again when it
is replayed, though waiters, tokens and whole operations have left the row meanwhile.
"""

from collections.abc import Collection, Iterable

from schemas.records.decisions import DecisionView
from schemas.records.orders import EventRow, OperationRow, SubtotalRow, WordRow
from streams.domain.limits import (
    DECISION_CHARS,
    EVENT_CHARS,
    EVENTS_EXPECTED,
    MAX_CASE_CHARS,
    MAX_KEPT_CHARS,
    MAX_OPERATIONS,
    MAX_WORDS,
    OPERATION_CHARS,
    PLAN_CHARS,
    WORD_CHARS,
)
from streams.domain.sums import OPENING
from streams.domain.words import are_folded


def is_full(operations: Collection[OperationRow], subtotals: Iterable[SubtotalRow] = ()) -> bool:
    """Return whether an order with these operations takes no more. Once it is, it stays so.

    `subtotals`: of those that stand in rows of their own. They count as before they left.
    """
    left = tuple(subtotals)
    count = len(operations) + sum(each.operations for each in left)
    kept = sum(map(kept_chars, operations)) + sum(each.kept_chars for each in left)
    return count >= MAX_OPERATIONS or kept >= MAX_KEPT_CHARS


def kept_chars(operation: OperationRow) -> int:
    """Return the characters that this operation keeps in the row, or will: a usual life's facts are counted before."""
    named = (operation.command_id, operation.idempotency_key, operation.payment_id, operation.traceparent or "")
    facts = [_fact_chars(each) for each in operation.events]
    expected = EVENT_CHARS * max(0, EVENTS_EXPECTED - len(facts))
    said = sum(map(_word_chars, operation.words))
    if are_folded(operation.words):
        said = MAX_WORDS * (WORD_CHARS + MAX_CASE_CHARS)  # folding frees room, and a full order stays full
    tried = sum(EVENT_CHARS + len(each.gateway_reference or "") for each in operation.earlier_attempts)
    # What the last fact tells stands in the operation as well.
    again = max((_told_chars(each) for each in operation.events), default=0)
    planned = PLAN_CHARS if operation.kind in OPENING else 0  # counted on when it is gone: a full order stays full
    return OPERATION_CHARS + planned + sum(map(len, named)) + sum(facts) + expected + said + tried + again


def _fact_chars(event: EventRow) -> int:
    decided = 0 if event.decision is None else _decision_chars(event.decision)
    return EVENT_CHARS + _told_chars(event) + decided


def _told_chars(event: EventRow) -> int:
    error = event.error
    told = () if error is None else (error.code, error.message, error.gateway_code or "", error.advice or "")
    return sum(map(len, (*told, event.action_url or "", event.gateway_reference or "")))


def _decision_chars(decision: DecisionView) -> int:
    # A reason may be in any language: its bytes are what takes room.
    told = (decision.decision_id, decision.why.encode(), decision.decided_by, decision.approved_by or "")
    return DECISION_CHARS + sum(map(len, told))


def _word_chars(word: WordRow) -> int:
    return WORD_CHARS + len(word.case or "")
