"""How operations are written into the Mock's memory: rows, sums, and ledger entries.

Called by `bank` (a call is carried out) and by `lifecycle` (what comes later), always in the writer's thread and inside
a transaction. The ledger gets one row for each effect that really happened, and none for anything else: that is what a
witness is asked. A reversal takes an effect back, a restoral gives back what a reversal took.
"""

import sqlite3
from dataclasses import replace
from typing import Final

from gateway_adapters.mock.wire import Case, Failure, Metadata, Operation, Status
from schemas.vocabulary import CallKind

_COLUMNS: Final = (
    "id, kind, status, payment_id, amount_minor, counted, currency, gateway_key, action_url, failure_code,"
    " origin_id, order_id, op_id, created_ms, updated_ms"
)
_PLACES: Final = ", ".join("?" * (_COLUMNS.count(",") + 4))

_RELEASING: Final = frozenset({CallKind.VOID.value, CallKind.CAPTURE.value})

_TAKE_BACK: Final = {
    # A hold that was used, released, or is being voided stands: nobody would wait for its failure any more.
    CallKind.AUTHORIZE: "UPDATE payments SET authorized = authorized - ?1 WHERE id = ?2"
    " AND captured + capturing = 0 AND released = 0 AND NOT EXISTS"
    " (SELECT 1 FROM operations WHERE payment_id = ?2 AND kind = 'void' AND status = 'pending')",
    CallKind.SALE: "UPDATE payments SET authorized = authorized - ?1, captured = captured - ?1,"
    " taken_back = taken_back + ?1 WHERE id = ?2",
    CallKind.CAPTURE: "UPDATE payments SET captured = captured - ?1, taken_back = taken_back + ?1 WHERE id = ?2",
    CallKind.REFUND: "UPDATE payments SET refunded = refunded - ?1 WHERE id = ?2",
    # `released` follows from it; what a void cancelled before anything was held stays cancelled.
    CallKind.VOID: "UPDATE payments SET released = released WHERE id = ?2 AND ?1 > 0 AND authorized > 0",
}
_GIVE_BACK: Final = {
    CallKind.AUTHORIZE: "UPDATE payments SET authorized = authorized + ?1 WHERE id = ?2",
    CallKind.SALE: "UPDATE payments SET authorized = authorized + ?1, captured = captured + ?1,"
    " taken_back = taken_back - ?1 WHERE id = ?2",
    CallKind.CAPTURE: "UPDATE payments SET captured = captured + ?1, taken_back = taken_back - ?1,"
    " restored = restored + ?1 WHERE id = ?2",
    CallKind.REFUND: "UPDATE payments SET refunded = refunded + ?1"
    " WHERE id = ?2 AND refunded + refunding + ?1 <= captured + taken_back",
    CallKind.VOID: "UPDATE payments SET released = released WHERE id = ?2 AND ?1 > 0",
}


def write_operation(db: sqlite3.Connection, operation: Operation, *, account: str, final: bool = False) -> None:
    """Write a new operation. `final`: of a capture that releases the rest."""
    metadata = operation.metadata
    db.execute(
        f"INSERT INTO operations ({_COLUMNS}, last_ms, final, account) VALUES ({_PLACES})",  # noqa: S608 - constants
        (
            operation.id,
            operation.kind,
            operation.status,
            operation.payment,
            operation.amount,
            operation.counted,
            operation.currency,
            operation.gateway_key,
            operation.action_url,
            operation.failure.code if operation.failure else None,
            None if metadata is None else metadata.origin_id,
            None if metadata is None else metadata.order_id,
            None if metadata is None else metadata.op_id,
            operation.created_ms,
            operation.updated_ms,
            operation.updated_ms,
            int(final),
            account,
        ),
    )


def find_operation(
    db: sqlite3.Connection, *, reference: str | None = None, key: str | None = None, account: str | None = None
) -> Operation | None:
    """Return the operation with this id, or the one that this idempotency key made; None: any account's."""
    column, value = ("id", reference) if reference is not None else ("gateway_key", key)
    row = db.execute(
        f"SELECT {_COLUMNS}, case_id, (SELECT amount_minor FROM cases WHERE cases.id = case_id) FROM operations"  # noqa: S608 - constants
        f" WHERE {column} = ?1 AND (?2 IS NULL OR account = ?2)",
        (value, account),
    ).fetchone()
    if row is None:
        return None
    return Operation(
        id=row[0],
        kind=row[1],
        status=row[2],
        payment=row[3],
        amount=row[4],
        counted=row[5],
        currency=row[6],
        gateway_key=row[7],
        action_url=row[8],
        failure=None if row[9] is None else Failure(code=row[9], advice=None),
        metadata=None if row[10] is None else Metadata(origin_id=row[10], order_id=row[11], op_id=row[12]),
        created_ms=row[13],
        updated_ms=row[14],
        case=None if row[15] is None else Case(id=row[15], amount=row[16]),
    )


def account_of(db: sqlite3.Connection, operation: str) -> str:
    """Return the account that an operation was made in."""
    return str(db.execute("SELECT account FROM operations WHERE id = ?", (operation,)).fetchone()[0])


def next_time_ms(db: sqlite3.Connection, operation: Operation, *, now_ms: int) -> int:
    """Return a time for what happens to the operation now: after everything that was said of it, and taken for it."""
    last_ms = int(db.execute("SELECT last_ms FROM operations WHERE id = ?", (operation.id,)).fetchone()[0])
    at_ms = max(now_ms, last_ms + 1)
    db.execute("UPDATE operations SET last_ms = ? WHERE id = ?", (at_ms, operation.id))
    return at_ms


def restate(
    db: sqlite3.Connection, operation: Operation, *, status: Status, at_ms: int, failure: str | None = None
) -> Operation:
    """Let the operation have this status from then on, counting for its `counted`; return it."""
    db.execute(
        "UPDATE operations SET status = ?, failure_code = ?, counted = ?, updated_ms = ?, case_id = ? WHERE id = ?",
        (
            status.value,
            failure,
            operation.counted,
            at_ms,
            None if operation.case is None else operation.case.id,
            operation.id,
        ),
    )
    _release(db, operation.payment)
    shown = None if failure is None else Failure(code=failure, advice=None)
    return replace(operation, status=status.value, failure=shown, updated_ms=at_ms)


def reserve(db: sqlite3.Connection, operation: Operation, *, sign: int) -> None:
    """Set a pending capture's or refund's amount aside (sign 1), or let go of it (sign -1)."""
    column = {CallKind.CAPTURE.value: "capturing", CallKind.REFUND.value: "refunding"}.get(operation.kind)
    if column is not None:
        db.execute(
            f"UPDATE payments SET {column} = {column} + ? WHERE id = ?",  # noqa: S608 - one of two constants
            (sign * operation.amount, operation.payment),
        )


def apply(db: sqlite3.Connection, operation: Operation, *, at_ms: int, of: Metadata | None = None) -> None:
    """Let an operation that was written as succeeded have its effect: the payment's sums, and its ledger entry.

    `of`: of a refund made at the gateway's desk, whose payment it is drawn from.
    """
    amount, payment = operation.amount, operation.payment
    match CallKind(operation.kind):
        case CallKind.AUTHORIZE:
            db.execute("UPDATE payments SET authorized = ? WHERE id = ?", (amount, payment))
        case CallKind.SALE:
            db.execute("UPDATE payments SET authorized = ?, captured = ? WHERE id = ?", (amount, amount, payment))
        case CallKind.CAPTURE:
            db.execute("UPDATE payments SET captured = captured + ? WHERE id = ?", (amount, payment))
        case CallKind.REFUND:
            db.execute("UPDATE payments SET refunded = refunded + ? WHERE id = ?", (amount, payment))
        case CallKind.VOID:
            pass  # `released` follows from it
        case CallKind.INQUIRE:
            raise AssertionError("an inquiry is never written")
    if operation.kind in _RELEASING:
        _release(db, payment)
    enter(db, operation, kind=operation.kind, at_ms=at_ms, of=of)


def recount(db: sqlite3.Connection, operation: Operation, counted: int, *, case: str | None, at_ms: int) -> bool:
    """Let the operation count for so much from now on: the sums follow, and the ledger says what moved.

    Returns:
        False, and nothing changes, when the sums do not let it.
    """
    moved = counted - operation.counted
    if moved == 0:
        return True
    statement = (_GIVE_BACK if moved > 0 else _TAKE_BACK)[CallKind(operation.kind)]
    if db.execute(statement, (abs(moved), operation.payment)).rowcount == 0:
        return False
    db.execute("UPDATE operations SET counted = ? WHERE id = ?", (counted, operation.id))
    _release(db, operation.payment)
    enter(db, operation, kind="restoral" if moved > 0 else "reversal", amount=abs(moved), case=case, at_ms=at_ms)
    return True


def expire(db: sqlite3.Connection, operation: Operation, *, at_ms: int) -> Operation | None:
    """Let what is left of a hold run out; return its authorization, or None when nothing is held, or may yet be."""
    left = db.execute(
        "SELECT authorized - captured - capturing FROM payments WHERE id = ?2 AND released = 0 AND ?1 > 0"
        " AND authorized > captured + capturing AND NOT EXISTS"
        " (SELECT 1 FROM operations WHERE payment_id = ?2 AND kind = 'void' AND status = 'pending')",
        (operation.counted, operation.payment),
    ).fetchone()
    if left is None:
        return None
    expired = restate(db, operation, status=Status.EXPIRED, at_ms=at_ms)
    enter(db, operation, kind="expiry", amount=left[0], at_ms=at_ms)
    return expired


def enter(
    db: sqlite3.Connection,
    operation: Operation,
    *,
    kind: str,
    at_ms: int,
    amount: int | None = None,
    case: str | None = None,
    of: Metadata | None = None,
) -> None:
    """Write one ledger entry. `of`: of a refund made at the gateway's desk, whose payment it was drawn from."""
    metadata = operation.metadata
    at_desk = metadata is None
    owner = metadata or of
    assert owner is not None
    db.execute(
        "INSERT INTO ledger (operation_id, payment_id, kind, reversed_kind, amount_minor, currency, op_id, order_id,"
        " origin_id, gateway_key, at_ms, account, at_desk, case_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT account FROM payments WHERE id = ?), ?, ?)",
        (
            operation.id,
            operation.payment,
            kind,
            operation.kind if kind in ("reversal", "restoral") else None,
            operation.amount if amount is None else amount,
            operation.currency,
            operation.id if at_desk else owner.op_id,
            owner.order_id,
            owner.origin_id,
            operation.gateway_key or operation.id,
            at_ms,
            operation.payment,
            int(at_desk),
            case,
        ),
    )


def _release(db: sqlite3.Connection, payment: str) -> None:
    """Hold or release what is left: it is released by a void, a final capture, or its expiry, as long as they stand."""
    db.execute(
        "UPDATE payments SET released = EXISTS (SELECT 1 FROM operations WHERE payment_id = ?1 AND"
        " (status = 'expired' OR counted > 0 AND (kind = 'void' OR kind = 'capture' AND final = 1)))"
        " WHERE id = ?1",
        (payment,),
    )
