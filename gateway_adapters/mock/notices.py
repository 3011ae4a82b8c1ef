"""What the Mock tells of its operations by webhook: writes the deliveries that `webhooks` carries out.

Called by `bank` and `lifecycle`, in the writer's thread and inside a transaction. A batch is put together when it goes
out; what concerns others, or nobody, is written beside the event that asks for company.
"""

import secrets
import sqlite3
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

import orjson

from gateway_adapters.mock import postings
from gateway_adapters.mock.courses import Manner
from gateway_adapters.mock.wire import Case, Event, EventType, Metadata, Operation, Status, encode_event, operation_json

BATCH_GRID_MS: Final = 100
"""Batched events fall due together at multiples of this: so those of several orders meet in one body."""

ELSEWHERE: Final = "elsewhere"
"""The origin of orders that another engine on the same account looks after."""


def announce(
    db: sqlite3.Connection,
    operation: Operation,
    event_type: EventType = EventType.UPDATED,
    *,
    case: Case | None = None,
    created_ms: int | None = None,
    manners: AbstractSet[Manner],
    due_ms: int,
) -> None:
    """Write one webhook about the operation as it stands.

    Args:
        db: inside a transaction.
        operation: as the event shows it.
        event_type: what the event says.
        case: the reversal or dispute that it is about.
        created_ms: when it happened; None: when the operation came to stand as it does.
        manners: how it comes.
        due_ms: when it comes, at the earliest.
    """
    account = postings.account_of(db, operation.id)
    by_ours = Manner.BY_OUR_REFERENCE in manners and operation.metadata is not None
    shown = replace(operation, metadata=None) if by_ours or Manner.BY_REFERENCE in manners else operation
    event = Event(
        id=_event_id(),
        type=event_type,
        created_ms=operation.updated_ms if created_ms is None else created_ms,
        operation=shown,
        case=case,
        own_reference=operation.metadata.op_id if by_ours and operation.metadata is not None else None,
    )
    batched = Manner.BATCHED in manners
    if batched:
        due_ms = -(-due_ms // BATCH_GRID_MS) * BATCH_GRID_MS
    for _ in range(2 if Manner.DUPLICATE in manners else 1):
        _write(db, account, operation.id, event.id, encode_event(event), batched=batched, due_ms=due_ms)
    company = [_of_another_engine(shown), _of_another_system(shown), _about_nothing()] if batched else []
    if Manner.STRANGER in manners:
        company.append(encode_event(_strangers(shown, metadata=None)))
    for body in company:
        _write(db, account, None, str(orjson.loads(body)["id"]), body, batched=batched, due_ms=due_ms)


def is_waiting(db: sqlite3.Connection, operation: str, *, now_ms: int) -> bool:
    """Return whether a notice about the operation is due and was not tried yet."""
    row = db.execute(
        "SELECT 1 FROM deliveries WHERE operation_id = ? AND state = 'waiting' AND attempts = 0 AND due_ms <= ?",
        (operation, now_ms),
    ).fetchone()
    return row is not None


def _write(
    db: sqlite3.Connection, account: str, operation: str | None, event: str, body: bytes, *, batched: bool, due_ms: int
) -> None:
    db.execute(
        "INSERT INTO deliveries (account, operation_id, event_id, body, batched, due_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (account, operation, event, body, int(batched), due_ms),
    )


def _event_id() -> str:
    return f"evt_{secrets.token_hex(12)}"


def _strangers(like: Operation, *, metadata: Metadata | None) -> Event:
    """Return an event about a payment that no call of an engine here made."""
    identifier = f"mpay_{secrets.token_hex(12)}"
    stranger = replace(
        like,
        id=identifier,
        kind="sale",
        status=Status.SUCCEEDED.value,
        payment=identifier,
        counted=like.amount,
        gateway_key=f"{ELSEWHERE}-{identifier}",
        action_url=None,
        failure=None,
        metadata=metadata,
    )
    return Event(id=_event_id(), type=EventType.UPDATED, created_ms=like.updated_ms, operation=stranger)


def _of_another_engine(like: Operation) -> bytes:
    number = secrets.token_hex(8)
    metadata = Metadata(origin_id=ELSEWHERE, order_id=f"order-{number}", op_id=f"op_{number}")
    return encode_event(_strangers(like, metadata=metadata))


def _of_another_system(like: Operation) -> bytes:
    event = _strangers(like, metadata=None)
    body = orjson.loads(encode_event(event))
    body["operation"] = operation_json(event.operation) | {"metadata": {"invoice": f"INV-{secrets.token_hex(4)}"}}
    return orjson.dumps(body)


def _about_nothing() -> bytes:
    return orjson.dumps(
        {"id": _event_id(), "object": "event", "type": "report.available", "created_ms": 0, "report": "settlement"}
    )
