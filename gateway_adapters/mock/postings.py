"""How operations are written into the Mock's memory: rows, sums, ledger entries, and what is due later.

Called by `bank` (a call is carried out) and by the server's clock (`transition`), always in the writer's thread and
inside a transaction. The ledger gets one row for each effect that really happened, and none for anything else: that
is what a witness is asked.
"""

import secrets
import sqlite3
from typing import Final

from gateway_adapters.mock.wire import Event, Failure, Metadata, Operation, Status, encode_event
from schemas.vocabulary import CallKind

ONCE: Final = "once"
DUPLICATE: Final = "duplicate"
OUT_OF_ORDER: Final = "out_of_order"

MAX_DUE: Final = 256
"""Transitions or deliveries taken at once."""

FAILURE_CODES: Final = {Status.FAILED: "processing_error", Status.REVERSED: "failed_late"}

_COLUMNS: Final = (
    "id, kind, status, payment_id, amount_minor, currency, gateway_key, action_url, failure_code,"
    " origin_id, order_id, op_id, created_ms, updated_ms"
)


def write_operation(db: sqlite3.Connection, operation: Operation, *, final: bool) -> None:
    """Write a new operation."""
    db.execute(
        f"INSERT INTO operations ({_COLUMNS}, final) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
        (
            operation.id,
            operation.kind,
            operation.status,
            operation.payment,
            operation.amount,
            operation.currency,
            operation.gateway_key,
            operation.action_url,
            operation.failure.code if operation.failure else None,
            operation.metadata.origin_id,
            operation.metadata.order_id,
            operation.metadata.op_id,
            operation.created_ms,
            operation.updated_ms,
            int(final),
        ),
    )


def find_operation(db: sqlite3.Connection, *, reference: str | None = None, key: str | None = None) -> Operation | None:
    """Return the operation with this id, or the one that this idempotency key made."""
    column, value = ("id", reference) if reference is not None else ("gateway_key", key)
    row = db.execute(f"SELECT {_COLUMNS} FROM operations WHERE {column} = ?", (value,)).fetchone()  # noqa: S608 - constant
    if row is None:
        return None
    return Operation(
        id=row[0],
        kind=row[1],
        status=row[2],
        payment=row[3],
        amount=row[4],
        currency=row[5],
        gateway_key=row[6],
        action_url=row[7],
        failure=None if row[8] is None else Failure(code=row[8], advice=None),
        metadata=Metadata(origin_id=row[9], order_id=row[10], op_id=row[11]),
        created_ms=row[12],
        updated_ms=row[13],
    )


def reserve(db: sqlite3.Connection, operation: Operation, *, sign: int) -> None:
    """Set a pending capture's or refund's amount aside (sign 1), or let go of it (sign -1)."""
    column = {CallKind.CAPTURE.value: "capturing", CallKind.REFUND.value: "refunding"}.get(operation.kind)
    if column is not None:
        db.execute(
            f"UPDATE payments SET {column} = {column} + ? WHERE id = ?",  # noqa: S608 - one of two constants
            (sign * operation.amount, operation.payment),
        )


def apply(db: sqlite3.Connection, operation: Operation, *, at_ms: int) -> None:
    """Let the operation have its effect: the payment's sums, and its ledger entry."""
    final = db.execute("SELECT final FROM operations WHERE id = ?", (operation.id,)).fetchone()[0]
    amount, payment = operation.amount, operation.payment
    match CallKind(operation.kind):
        case CallKind.AUTHORIZE:
            db.execute("UPDATE payments SET authorized = ? WHERE id = ?", (amount, payment))
        case CallKind.SALE:
            db.execute("UPDATE payments SET authorized = ?, captured = ? WHERE id = ?", (amount, amount, payment))
        case CallKind.CAPTURE:
            db.execute(
                "UPDATE payments SET captured = captured + ?, released = max(released, ?) WHERE id = ?",
                (amount, final, payment),
            )
        case CallKind.VOID:
            db.execute("UPDATE payments SET released = 1 WHERE id = ?", (payment,))
        case CallKind.REFUND:
            db.execute("UPDATE payments SET refunded = refunded + ? WHERE id = ?", (amount, payment))
        case CallKind.INQUIRE:
            raise AssertionError("an inquiry is never written")
    _enter(db, operation, kind=operation.kind, reversed_kind=None, at_ms=at_ms)


def _reverse(db: sqlite3.Connection, operation: Operation, *, at_ms: int) -> bool:
    """Take an effect back; False, and nothing changes, when what it gave was used: captured, refunded, released.

    An authorization that is being voided stands too: nobody would wait for its failure any more.
    """
    statement = {
        CallKind.AUTHORIZE: "UPDATE payments SET authorized = authorized - ?1"
        " WHERE id = ?2 AND captured + capturing = 0 AND released = 0 AND NOT EXISTS"
        " (SELECT 1 FROM operations WHERE payment_id = ?2 AND kind = 'void' AND status = 'pending')",
        CallKind.SALE: "UPDATE payments SET authorized = authorized - ?1, captured = captured - ?1"
        " WHERE id = ?2 AND captured - ?1 >= refunded + refunding",
        CallKind.CAPTURE: "UPDATE payments SET captured = captured - ?1"
        " WHERE id = ?2 AND captured - ?1 >= refunded + refunding",
        CallKind.REFUND: "UPDATE payments SET refunded = refunded - ?1 WHERE id = ?2",
        CallKind.VOID: "UPDATE payments SET released = 0 WHERE id = ?2 AND ?1 > 0",
        CallKind.INQUIRE: "",
    }[CallKind(operation.kind)]
    if db.execute(statement, (operation.amount, operation.payment)).rowcount == 0:
        return False
    _enter(db, operation, kind="reversal", reversed_kind=operation.kind, at_ms=at_ms)
    return True


def _enter(db: sqlite3.Connection, operation: Operation, *, kind: str, reversed_kind: str | None, at_ms: int) -> None:
    metadata = operation.metadata
    db.execute(
        "INSERT INTO ledger (operation_id, payment_id, kind, reversed_kind, amount_minor, currency, op_id, order_id,"
        " origin_id, gateway_key, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            operation.id,
            operation.payment,
            kind,
            reversed_kind,
            operation.amount,
            operation.currency,
            metadata.op_id,
            metadata.order_id,
            metadata.origin_id,
            operation.gateway_key,
            at_ms,
        ),
    )


def schedule(db: sqlite3.Connection, operation: Operation, *, to: Status, pattern: str, due_ms: int) -> None:
    """Write that this operation changes later."""
    db.execute(
        "INSERT INTO transitions (operation_id, to_status, pattern, due_ms) VALUES (?, ?, ?, ?)",
        (operation.id, to.value, pattern, due_ms),
    )


def announce(db: sqlite3.Connection, operation: Operation, *, due_ms: int, times: int = 1) -> None:
    """Write one webhook about the operation as it stands, to be delivered so many times."""
    event = Event(id=f"evt_{secrets.token_hex(12)}", created_ms=operation.updated_ms, operation=operation)
    body = encode_event(event)
    db.executemany(
        "INSERT INTO deliveries (event_id, body, due_ms) VALUES (?, ?, ?)", [(event.id, body, due_ms)] * times
    )


def transition(
    db: sqlite3.Connection, operation: Operation, *, to: Status, pattern: str, now_ms: int, gap_ms: int
) -> bool:
    """Move a waiting operation on, with its effect and its webhooks.

    Args:
        db: inside a transaction.
        operation: as it stands.
        to: SUCCEEDED or FAILED of one that is pending or waits for the payer, REVERSED of one that succeeded.
        pattern: how the webhooks arrive: ONCE, DUPLICATE, OUT_OF_ORDER.
        now_ms: the time of the change.
        gap_ms: how much later the older notice arrives when out of order.

    Returns:
        Whether it moved; it does not when it is no longer waiting, so calling this twice is safe.
    """
    waiting = (Status.SUCCEEDED,) if to is Status.REVERSED else (Status.PENDING, Status.REQUIRES_ACTION)
    if operation.status not in waiting:
        return False
    if to is Status.REVERSED and not _reverse(db, operation, at_ms=now_ms):
        return False
    if operation.status == Status.PENDING:
        reserve(db, operation, sign=-1)
    if to is Status.SUCCEEDED:
        apply(db, operation, at_ms=now_ms)
    db.execute(
        "UPDATE operations SET status = ?, failure_code = ?, updated_ms = ? WHERE id = ?",
        (to.value, FAILURE_CODES.get(to), now_ms, operation.id),
    )
    moved = find_operation(db, reference=operation.id)
    assert moved is not None
    announce(db, moved, due_ms=now_ms, times=2 if pattern == DUPLICATE else 1)
    if pattern == OUT_OF_ORDER:
        announce(db, operation, due_ms=now_ms + gap_ms)
    return True


def run_due_transitions(db: sqlite3.Connection, *, now_ms: int, gap_ms: int) -> int:
    """Carry out the transitions that are due, at most MAX_DUE; return how many there were."""
    due = db.execute(
        "SELECT seq, operation_id, to_status, pattern FROM transitions WHERE due_ms <= ? ORDER BY due_ms, seq LIMIT ?",
        (now_ms, MAX_DUE),
    ).fetchall()
    for seq, reference, to, pattern in due:
        operation = find_operation(db, reference=reference)
        assert operation is not None
        transition(db, operation, to=Status(to), pattern=pattern, now_ms=now_ms, gap_ms=gap_ms)
        db.execute("DELETE FROM transitions WHERE seq = ?", (seq,))
    return len(due)
