"""What happens to an operation after its call: the steps of its course, and the words that somebody asks for.

`schedule` is called by `bank` when a call was carried out, `run_due` by the Mock's clock, `carry_out` by both of these
and by the control endpoint. Always in the writer's thread and inside a transaction.

No two things that are said of one operation have the same time, but the same thing said again. So whoever sorts them
by time gets the same sums in whatever order they came. What a dispute does to an operation, or a reversal of a part,
shows in their own events alone: an inquiry finds the operation as it stood before them, since the time that it shows.
"""

import secrets
import sqlite3
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from gateway_adapters.mock import notices, postings
from gateway_adapters.mock.courses import Course, Manner, Step, Word
from gateway_adapters.mock.wire import Case, EventType, Operation, Status
from schemas.vocabulary import CallKind

MAX_DUE: Final = 256
"""Steps taken at once."""

FAILED_LATE: Final = "failed_late"
CANCELLED: Final = "cancelled"
"""The failure code of what a void ended before the payer had acted."""

_WAITING: Final = frozenset({Status.PENDING, Status.REQUIRES_ACTION})
_TAKING: Final = frozenset({CallKind.SALE.value, CallKind.CAPTURE.value})
_FAILURES: Final = {Word.FAILED: "processing_error", Word.ACTION_EXPIRED: "action_expired"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that happens to an operation."""

    word: Word
    amount_minor: int | None = None  # of what takes or disputes something; None: all that there is
    case: str | None = None  # the case that it belongs to; None: one of its own
    manners: frozenset[Manner] = frozenset()


def schedule(
    db: sqlite3.Connection,
    operation: Operation,
    course: Course,
    *,
    manners: AbstractSet[Manner],
    amount_minor: int | None,
    now_ms: int,
    delay_ms: int,
) -> bool:
    """Write what comes later of a call that was carried out; return whether anything does.

    Args:
        db: inside a transaction.
        operation: as it was answered.
        course: what becomes of it.
        manners: how its notices come.
        amount_minor: how much the parts of the course are, minor units; None: as the course says.
        now_ms: the time of the call.
        delay_ms: until the first step, and between steps; when told newest first, between notices too.
    """
    cases: dict[int, str] = {}
    last_ms = now_ms + delay_ms * len(course.steps)
    newest_first = Manner.OUT_OF_ORDER in manners
    for number, step in enumerate(course.steps, start=1):
        due_ms = now_ms + delay_ms * number
        case = None if step.case is None else cases.setdefault(step.case, _case_id())
        db.execute(
            "INSERT INTO transitions (operation_id, word, amount_minor, case_id, manners, due_ms, tell_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                operation.id,
                step.word.value,
                _amount(operation, step, amount_minor),
                case,
                " ".join(sorted(manners)),
                due_ms,
                last_ms + delay_ms * (len(course.steps) - number) if newest_first else due_ms,
            ),
        )
    if newest_first and course.steps:
        notices.announce(db, operation, manners=manners, due_ms=last_ms + delay_ms * len(course.steps))
    return bool(course.steps)


def run_due(db: sqlite3.Connection, *, now_ms: int) -> int:
    """Carry out the steps that are due, at most MAX_DUE; return how many there were."""
    due = db.execute(
        "SELECT seq, operation_id, word, amount_minor, case_id, manners, due_ms, tell_ms FROM transitions"
        " WHERE due_ms <= ? ORDER BY due_ms, seq LIMIT ?",
        (now_ms, MAX_DUE),
    ).fetchall()
    for seq, reference, word, amount_minor, case, manners, due_ms, tell_ms in due:
        operation = postings.find_operation(db, reference=reference)
        assert operation is not None
        change = Change(word=Word(word), amount_minor=amount_minor, case=case, manners=_manners(manners.split()))
        carry_out(db, operation, change, now_ms=now_ms, tell_ms=now_ms + tell_ms - due_ms)
        db.execute("DELETE FROM transitions WHERE seq = ?", (seq,))
    return len(due)


def carry_out(
    db: sqlite3.Connection, operation: Operation, change: Change, *, now_ms: int, tell_ms: int | None = None
) -> bool:
    """Let this happen to the operation, with its effect on the sums and its webhooks.

    Args:
        db: inside a transaction.
        operation: as it stands.
        change: what happens.
        now_ms: the time of it.
        tell_ms: when the webhooks come, at the earliest; None: at once.

    Returns:
        Whether it happened. It does not when the operation does not stand so that it could: asked twice, it happens
        once.
    """
    at_ms = postings.next_time_ms(db, operation, now_ms=now_ms)
    match change.word:
        case Word.SUCCEEDED | Word.FAILED | Word.ACTION_EXPIRED:
            event = _decided(db, operation, change.word, at_ms)
        case Word.EXPIRED:
            event = _expired(db, operation, at_ms)
        case Word.REFUNDED:
            event = _refunded_at_desk(db, operation, change.amount_minor, at_ms)
        case Word.RESTORED:
            event = _restored(db, operation, at_ms)
        case Word.REVERSED:
            event = _reversed(db, operation, change, at_ms)
        case Word.DISPUTED:
            event = _disputed(db, operation, change, at_ms)
        case Word.DISPUTE_WON | Word.DISPUTE_LOST:
            event = _dispute_ended(db, operation, change, at_ms)
    if event is None:
        return False
    notices.announce(
        db,
        event.operation,
        event.type,
        case=event.case,
        created_ms=event.created_ms,
        manners=change.manners,
        due_ms=now_ms if tell_ms is None else tell_ms,
    )
    return True


def has_case(db: sqlite3.Connection, operation: Operation, case: str) -> bool:
    """Return whether the case is one of the operation's."""
    row = db.execute("SELECT 1 FROM cases WHERE id = ? AND operation_id = ?", (case, operation.id)).fetchone()
    return row is not None


def cancel(db: sqlite3.Connection, operation: Operation, *, now_ms: int) -> None:
    """End an operation that waits for its payer, and say so."""
    at_ms = postings.next_time_ms(db, operation, now_ms=now_ms)
    cancelled = postings.restate(db, operation, status=Status.FAILED, at_ms=at_ms, failure=CANCELLED)
    notices.announce(db, cancelled, manners=frozenset(), due_ms=now_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is announced of a change."""

    operation: Operation
    type: EventType = EventType.UPDATED
    case: Case | None = None
    created_ms: int | None = None


def _decided(db: sqlite3.Connection, operation: Operation, word: Word, at_ms: int) -> _Told | None:
    contradicts = operation.status == Status.DECLINED and word is Word.SUCCEEDED
    if operation.status not in _WAITING and not contradicts:
        return None
    if word is Word.ACTION_EXPIRED and operation.status != Status.REQUIRES_ACTION:
        return None
    if operation.status != Status.REQUIRES_ACTION:
        postings.reserve(db, operation, sign=-1)
    if word is not Word.SUCCEEDED:
        failed = postings.restate(db, operation, status=Status.FAILED, at_ms=at_ms, failure=_FAILURES[word])
        return _Told(operation=failed)
    succeeded = replace(operation, counted=operation.amount)
    succeeded = postings.restate(db, succeeded, status=Status.SUCCEEDED, at_ms=at_ms)
    if operation.kind == CallKind.VOID:
        cancel_waiting(db, operation, now_ms=at_ms)
    postings.apply(db, succeeded, at_ms=at_ms)
    return _Told(operation=succeeded)


def cancel_waiting(db: sqlite3.Connection, void: Operation, *, now_ms: int) -> None:
    """Cancel the payment of a void that succeeds, if it still waits for its payer."""
    opening = postings.find_operation(db, reference=void.payment)
    if opening is not None and opening.status == Status.REQUIRES_ACTION:
        cancel(db, opening, now_ms=now_ms)


def _expired(db: sqlite3.Connection, operation: Operation, at_ms: int) -> _Told | None:
    if operation.kind != CallKind.AUTHORIZE or operation.status != Status.SUCCEEDED:
        return None
    expired = postings.expire(db, operation, at_ms=at_ms)
    return None if expired is None else _Told(operation=expired)


def _refunded_at_desk(
    db: sqlite3.Connection, operation: Operation, amount_minor: int | None, at_ms: int
) -> _Told | None:
    """Refund some of what the payment has left; the operation only says which payment that is."""
    if operation.kind not in _TAKING or operation.metadata is None:
        return None
    left = db.execute(
        "SELECT captured - refunded - refunding FROM payments WHERE id = ?", (operation.payment,)
    ).fetchone()[0]
    amount = left if amount_minor is None else min(amount_minor, left)
    if amount <= 0:
        return None
    refund = Operation(
        id=f"mref_{secrets.token_hex(12)}",
        kind=CallKind.REFUND.value,
        status=Status.SUCCEEDED.value,
        payment=operation.payment,
        amount=amount,
        counted=amount,
        currency=operation.currency,
        gateway_key=None,
        action_url=None,
        failure=None,
        metadata=None,
        created_ms=at_ms,
        updated_ms=at_ms,
    )
    postings.write_operation(db, refund, account=postings.account_of(db, operation.id))
    postings.apply(db, refund, at_ms=at_ms, of=operation.metadata)
    return _Told(operation=refund)


def _restored(db: sqlite3.Connection, operation: Operation, at_ms: int) -> _Told | None:
    if operation.counted == operation.amount or operation.status not in (Status.SUCCEEDED, Status.REVERSED):
        return None
    if not postings.recount(db, operation, operation.amount, case=None, at_ms=at_ms):
        return None
    db.execute("UPDATE cases SET taken = 0 WHERE operation_id = ?", (operation.id,))
    restored = replace(operation, counted=operation.amount, case=None)
    return _Told(operation=postings.restate(db, restored, status=Status.SUCCEEDED, at_ms=at_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    id: str
    amount: int
    taken: bool
    state: str


def _reversed(db: sqlite3.Connection, operation: Operation, change: Change, at_ms: int) -> _Told | None:
    case = _find_case(db, change.case)
    if operation.counted == 0 or (case is not None and case.taken):
        return None
    case = replace(case or _new_case(operation, change, "reversed"), taken=True)
    if not _settle(db, operation, case, at_ms):
        return None
    standing = postings.find_operation(db, reference=operation.id)
    assert standing is not None
    if case.state == "reversed" and standing.counted == 0:
        standing = replace(standing, case=Case(id=case.id, amount=case.amount))
        standing = postings.restate(db, standing, status=Status.REVERSED, at_ms=at_ms, failure=FAILED_LATE)
    return _of_case(standing, case, EventType.REVERSED, at_ms)


def _disputed(db: sqlite3.Connection, operation: Operation, change: Change, at_ms: int) -> _Told | None:
    if operation.kind not in _TAKING or operation.status not in (Status.SUCCEEDED, Status.REVERSED):
        return None
    case = _find_case(db, change.case)
    if (case is None and operation.counted == 0) or (case is not None and case.state != "reversed"):
        return None
    case = replace(case or _new_case(operation, change, "open"), state="open")
    _settle(db, operation, case, at_ms)
    return _of_case(operation, case, EventType.DISPUTE_OPENED, at_ms)


def _dispute_ended(db: sqlite3.Connection, operation: Operation, change: Change, at_ms: int) -> _Told | None:
    case = _find_case(db, change.case)
    if case is None or case.state != "open":
        return None
    lost = change.word is Word.DISPUTE_LOST
    case = replace(case, taken=lost, state="lost" if lost else "won")
    if not _settle(db, operation, case, at_ms):
        return None
    standing = postings.find_operation(db, reference=operation.id)
    assert standing is not None
    return _of_case(standing, case, EventType.DISPUTE_LOST if lost else EventType.DISPUTE_WON, at_ms)


def _settle(db: sqlite3.Connection, operation: Operation, case: _Case, at_ms: int) -> bool:
    """Keep the case as it stands now, and let the operation count for what no case takes; False: the sums forbid it."""
    others = db.execute(
        "SELECT coalesce(sum(amount_minor), 0) FROM cases WHERE operation_id = ? AND taken = 1 AND id <> ?",
        (operation.id, case.id),
    ).fetchone()[0]
    counted = max(0, operation.amount - others - (case.amount if case.taken else 0))
    if not postings.recount(db, operation, counted, case=case.id, at_ms=at_ms):
        return False
    db.execute(
        "INSERT INTO cases VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET taken = ?4, state = ?5",
        (case.id, operation.id, case.amount, int(case.taken), case.state),
    )
    return True


def _of_case(operation: Operation, case: _Case, event: EventType, at_ms: int) -> _Told:
    return _Told(operation=operation, type=event, case=Case(id=case.id, amount=case.amount), created_ms=at_ms)


def _new_case(operation: Operation, change: Change, state: str) -> _Case:
    amount = operation.counted if change.amount_minor is None else min(change.amount_minor, operation.counted)
    return _Case(id=change.case or _case_id(), amount=amount, taken=False, state=state)


def _find_case(db: sqlite3.Connection, case: str | None) -> _Case | None:
    row = db.execute("SELECT id, amount_minor, taken, state FROM cases WHERE id = ?", (case,)).fetchone()
    return None if row is None else _Case(id=row[0], amount=row[1], taken=bool(row[2]), state=row[3])


def _case_id() -> str:
    return f"mcase_{secrets.token_hex(12)}"


def _amount(operation: Operation, step: Step, amount_minor: int | None) -> int | None:
    if step.percent is None:
        return None
    return amount_minor or max(1, operation.amount * step.percent // 100)


def _manners(names: Iterable[str]) -> frozenset[Manner]:
    return frozenset(Manner(name) for name in names)
