"""What a simulator that runs as a process of its own remembers: one SQLite file, which kill -9 takes nothing from.

Used by `stripe_process`, `adyen_process` and `paypal_process`. Each call is handled in one piece: what it did, the
answer under its key, and the webhooks that will tell of it are written together, in one transaction, before anybody is
answered. So a process that is killed between two calls, or within one, has done a thing and remembers it, or neither.
The harness reads the same file, past the process: `tests.support.peer_books`.

Effects are noted as the gateway sees them. It knows operations by what the engine gave it: a reference, or a key.
"""

import pickle
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,                     -- authorize, sale, capture, void, refund, reversal, restoral, expiry
    reversed_kind TEXT,                     -- of a reversal or restoral: of what
    amount_minor INTEGER NOT NULL,          -- as the vendor counts
    currency TEXT NOT NULL,
    op_id TEXT NOT NULL,                    -- of a refund at the desk: the gateway's id of it
    opening_op_id TEXT NOT NULL,            -- the operation that opened the payment
    gateway_key TEXT NOT NULL,
    token TEXT NOT NULL,                    -- what the payment was opened with
    at_desk INTEGER NOT NULL DEFAULT 0,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS words (         -- what was told of operations that are only received at first
    op_id TEXT PRIMARY KEY,
    counted INTEGER NOT NULL,               -- what it counts for by that word, as the vendor counts
    at_ms INTEGER NOT NULL                  -- as the word is dated
) STRICT;
CREATE TABLE IF NOT EXISTS objects (id TEXT PRIMARY KEY, kept BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS keys (gateway_key TEXT PRIMARY KEY, kept BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    headers BLOB NOT NULL,                  -- JSON; what is signed anew with each try is not among them
    body BLOB NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    status INTEGER                          -- the last answer's; NULL: there was none
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_by_time ON deliveries (due_ms) WHERE status IS NULL OR status >= 300;
CREATE TABLE IF NOT EXISTS complaints (said TEXT PRIMARY KEY) STRICT;
"""

UNTOLD: Final = "(status IS NULL OR status >= 300)"
"""Of a delivery that nobody has taken yet: gateways repeat theirs for days."""

NUMBER: Final = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook that is due."""

    seq: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int


class Book:
    """The file. Belongs to one event loop: nothing here waits, so nothing comes between what is written together."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # The death of the process loses nothing so; that of the machine would, and no test ends that.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file. What was not committed is lost."""
        self._db.close()

    def commit(self) -> None:
        """Keep what was written since the last time."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def _write(self, statement: str, values: Iterable[object]) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(statement, tuple(values))

    # What really happened

    def effect(
        self,
        kind: str,
        amount: int,
        *,
        currency: str,
        op_id: str,
        opening_op_id: str,
        gateway_key: str,
        token: str,
        reversed_kind: str | None = None,
        at_desk: bool = False,
    ) -> None:
        """Note one effect."""
        values = kind, reversed_kind, amount, currency.upper(), op_id, opening_op_id, gateway_key, token, int(at_desk)
        self._write(
            "INSERT INTO ledger (kind, reversed_kind, amount_minor, currency, op_id, opening_op_id, gateway_key, token,"
            " at_desk, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, time.time_ns() // 1_000_000),
        )

    def word(self, op_id: str, counted: int, *, at_s: int) -> None:
        """Note what will be told of an operation, with the date that it is told under."""
        self._write("INSERT OR REPLACE INTO words VALUES (?, ?, ?)", (op_id, counted, at_s * 1000))

    # What it needs to go on

    def keep(self, name: str, kept: object) -> None:
        """Keep the object under this name, instead of what was kept there."""
        self._write("INSERT OR REPLACE INTO objects VALUES (?, ?)", (name, pickle.dumps(kept)))

    def kept(self) -> dict[str, Any]:
        """Return every object by its name, in the order in which they were first kept."""
        return _unpickled(self._db.execute("SELECT id, kept FROM objects ORDER BY rowid").fetchall())

    def keep_key(self, key: str, kept: object) -> None:
        """Keep what the idempotency key stands for."""
        self._write("INSERT OR REPLACE INTO keys VALUES (?, ?)", (key, pickle.dumps(kept)))

    def keys(self) -> dict[str, Any]:
        """Return what each idempotency key stands for."""
        return _unpickled(self._db.execute("SELECT gateway_key, kept FROM keys").fetchall())

    def next_number(self) -> int:
        """Return a number that no object of this book has."""
        self._write("INSERT INTO numbers VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", (NUMBER,))
        return int(self._db.execute("SELECT value FROM numbers WHERE name = ?", (NUMBER,)).fetchone()[0])

    def complain(self, about: str) -> None:
        """Note that a request was none that the vendor takes."""
        self._write("INSERT OR IGNORE INTO complaints VALUES (?)", (about,))

    # What is to be told

    def tell(self, body: bytes, headers: Mapping[str, str], *, due_ms: int) -> None:
        """Have the webhook delivered at that time, milliseconds since the epoch, or later."""
        self._write(
            "INSERT INTO deliveries (headers, body, due_ms) VALUES (?, ?, ?)", (orjson.dumps(headers), body, due_ms)
        )

    def due(self, now_ms: int, *, most: int) -> list[Delivery]:
        """Return the deliveries that are due, the oldest first."""
        columns = "seq, headers, body, attempts"
        query = f"SELECT {columns} FROM deliveries WHERE {UNTOLD} AND due_ms <= ? ORDER BY due_ms LIMIT ?"
        found = self._db.execute(query, (now_ms, most)).fetchall()
        return [
            Delivery(seq=seq, headers=orjson.loads(headers), body=body, attempts=attempts)
            for seq, headers, body, attempts in found
        ]

    def delivered(self, seq: int, status: int | None, *, again_ms: int) -> None:
        """Note how the delivery was answered; unless it was taken, it is due again then."""
        self._write(
            "UPDATE deliveries SET attempts = attempts + 1, status = ?, due_ms = ? WHERE seq = ?",
            (status, again_ms, seq),
        )
        self.commit()


def _unpickled(rows: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    return {name: pickle.loads(kept) for name, kept in rows}  # its own file
