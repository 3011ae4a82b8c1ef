"""The Mock's memory: a SQLite file with one writer, which commits before anybody is answered.

`Storage.run` hands a job to the writer thread. Jobs that wait are carried out together in one transaction (group
commit), so that the price of a commit is shared; each caller is answered after it. `synchronous=NORMAL` in WAL mode
survives the death of the process at any point (kill -9), though perhaps not of the machine: a witness in tests
needs no more, and it saves one disk flush a commit.

The file may be read by others while the server runs, and after it died: `ledger` has one row an effect, and
`operations` one row a call that reached a verdict.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

MAX_WAITING_JOBS: Final = 20_000
MAX_BATCH_JOBS: Final = 256
BUSY_TIMEOUT_S: Final = 5.0

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
"""What the writer thread runs inside a transaction. It must not wait for anything."""

SCHEMA_VERSION: Final = 4
"""What `PRAGMA user_version` says of a file: one of another version is refused, since a witness must not guess."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payments (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    token TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    authorized INTEGER NOT NULL DEFAULT 0,
    capturing INTEGER NOT NULL DEFAULT 0,   -- by captures that are pending
    captured INTEGER NOT NULL DEFAULT 0,    -- without what was taken back
    taken_back INTEGER NOT NULL DEFAULT 0,  -- of what was captured
    restored INTEGER NOT NULL DEFAULT 0,    -- of captures, in all: beside another capture it may exceed the hold
    refunding INTEGER NOT NULL DEFAULT 0,
    refunded INTEGER NOT NULL DEFAULT 0,
    released INTEGER NOT NULL DEFAULT 0,    -- 1: voided, finally captured, or expired
    CHECK (captured + capturing <= authorized + restored),
    -- The witness itself refuses to give back more than was ever taken; a chargeback of what was refunded is none.
    CHECK (refunded + refunding <= captured + taken_back),
    CHECK (min(authorized, capturing, captured, taken_back, refunding, refunded) >= 0)
) STRICT;
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    payment_id TEXT NOT NULL REFERENCES payments (id),
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    counted INTEGER NOT NULL,               -- how much of the amount it counts for now
    currency TEXT NOT NULL,
    final INTEGER NOT NULL,
    failure_code TEXT,
    action_url TEXT,
    op_id TEXT,                             -- these three: NULL of what was made at the gateway's own desk
    order_id TEXT,
    origin_id TEXT,
    gateway_key TEXT,                       -- NULL: nobody's call made it
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,               -- of the last thing that was said of it: each has a time of its own
    case_id TEXT,                           -- of one that was reversed: by which case
    UNIQUE (account, gateway_key),          -- the promise itself: one key, one operation
    CHECK (0 <= counted AND counted <= amount_minor)
) STRICT;
CREATE INDEX IF NOT EXISTS operations_by_payment ON operations (payment_id);
CREATE TABLE IF NOT EXISTS actions (
    operation_id TEXT PRIMARY KEY REFERENCES operations (id),
    return_url TEXT,                        -- where the payer goes afterwards
    code TEXT,                              -- what the payer brings back; NULL: the act alone decides the payment
    answer TEXT                             -- what the payer said: succeeded, failed; NULL: nothing yet
) STRICT;
CREATE TABLE IF NOT EXISTS cases (
    id TEXT PRIMARY KEY,
    operation_id TEXT NOT NULL REFERENCES operations (id),
    amount_minor INTEGER NOT NULL,          -- what is disputed, or was taken back
    taken INTEGER NOT NULL,                 -- 1: it is taken now
    state TEXT NOT NULL                     -- reversed, open, won, lost
) STRICT;
CREATE INDEX IF NOT EXISTS cases_by_operation ON cases (operation_id);
CREATE TABLE IF NOT EXISTS keys (
    account TEXT NOT NULL,
    gateway_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    http_status INTEGER NOT NULL,
    answer BLOB NOT NULL,
    PRIMARY KEY (account, gateway_key)
) STRICT;
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    kind TEXT NOT NULL,                     -- authorize, sale, capture, void, refund, reversal, restoral, expiry
    reversed_kind TEXT,                     -- of a reversal or restoral: of what
    amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    op_id TEXT NOT NULL,
    order_id TEXT NOT NULL,
    origin_id TEXT NOT NULL,
    gateway_key TEXT NOT NULL,              -- op_id and this, of a refund at the desk: the Mock's id of it
    at_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    at_desk INTEGER NOT NULL,               -- 1: no call of an engine did it, a person at the gateway did
    case_id TEXT                            -- of what was taken, or given back, under a case
) STRICT;
CREATE INDEX IF NOT EXISTS ledger_by_order ON ledger (order_id);
CREATE TABLE IF NOT EXISTS transitions (
    seq INTEGER PRIMARY KEY,
    operation_id TEXT NOT NULL,
    word TEXT NOT NULL,
    amount_minor INTEGER,                   -- NULL: all that there is
    case_id TEXT,
    manners TEXT NOT NULL,                  -- how the webhooks about it come, with spaces between
    due_ms INTEGER NOT NULL,
    tell_ms INTEGER NOT NULL                -- when the webhooks about it come, at the earliest
) STRICT;
CREATE INDEX IF NOT EXISTS transitions_by_time ON transitions (due_ms);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    operation_id TEXT,                      -- NULL: about none
    event_id TEXT NOT NULL,
    body BLOB NOT NULL,
    batched INTEGER NOT NULL,               -- 1: goes out in one body with others
    attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting',  -- waiting, delivered, given_up
    due_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_by_time ON deliveries (state, due_ms);
"""


class StorageBusyError(Exception):
    """Too many jobs wait for the writer; the caller should answer 429."""


def _prepare(connection: sqlite3.Connection) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None and version != SCHEMA_VERSION:
        connection.close()
        raise sqlite3.DatabaseError(
            f"it was written by another version of the Mock (format {version}, this one is {SCHEMA_VERSION});"
            " move it away to begin a new one"
        )
    connection.executescript(SCHEMA)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


class Storage:
    """The SQLite file and its one writer. Belongs to the event loop it is used in."""

    def __init__(self, path: Path) -> None:
        # isolation_level=None: transactions begin and end where this module says so. The connection is made here and
        # then only ever used by the one writer thread.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        _prepare(self._connection)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mock-ledger")
        self._waiting: deque[tuple[Job[object], asyncio.Future[object]]] = deque()
        self._running = False

    async def run(self, job: Job[T]) -> T:
        """Return what the job returned, once the transaction it ran in is committed.

        Raises:
            StorageBusyError: MAX_WAITING_JOBS wait already; the job was not run.
            sqlite3.Error: the transaction was rolled back, with every job in it.
        """
        if len(self._waiting) >= MAX_WAITING_JOBS:
            raise StorageBusyError
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        self._start_batch()
        return cast("T", await answer)

    async def close(self) -> None:
        """Finish the batch under way and close the file. What waits behind it is never answered."""
        self._waiting.clear()
        await asyncio.to_thread(self._writer.shutdown)
        self._connection.close()

    def _start_batch(self) -> None:
        if self._running or not self._waiting:
            return
        self._running = True
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH_JOBS))]
        future = asyncio.get_running_loop().run_in_executor(self._writer, self._commit, [job for job, _ in batch])
        future.add_done_callback(partial(self._settle, [answer for _, answer in batch]))

    def _commit(self, jobs: Sequence[Job[object]]) -> list[object]:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back and lets the exception through
            return [job(self._connection) for job in jobs]

    def _settle(self, answers: Sequence[asyncio.Future[object]], batch: asyncio.Future[list[object]]) -> None:
        error = batch.exception()
        results = [None] * len(answers) if error is not None else batch.result()
        for answer, result in zip(answers, results, strict=True):
            if answer.done():  # its caller went away
                continue
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)
        self._running = False
        self._start_batch()
