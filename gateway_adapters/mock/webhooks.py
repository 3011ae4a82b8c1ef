"""The Mock's clock and its webhooks: carries out what is due, and delivers notices with bounded retries.

Started and stopped by the server. All it owes stands in the storage, so a killed server goes on where it was. A
notice is delivered at least once, in the order it fell due; 2xx within the time-out is a delivery, anything else is
tried again. Batched events that are due together go out in one body, signed once; each account's to its own target.
"""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway_adapters.mock import lifecycle, notices, signature
from gateway_adapters.mock.storage import Storage
from gateway_adapters.mock.wire import SIGNATURE_HEADER, encode_batch

MAX_ATTEMPTS: Final = 12
"""About three minutes, with the pauses below: longer than a restart of whoever listens."""

FIRST_BACKOFF_MS: Final = 200
MAX_BACKOFF_MS: Final = 30_000
DELIVERY_TIMEOUT_S: Final = 10.0
MAX_PARALLEL: Final = 32
MAX_IDLE_S: Final = 1.0
"""Longest sleep while nothing is due: a lost wake-up costs no more than this."""
MAX_TOLD_FIRST_S: Final = 1.0
"""Longest that an answer waits for its notice to come first."""
MAX_BATCH_BYTES: Final = 32 * 1024
"""Most of the events in one body: whoever listens reads 64 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """Where notices go, and the secret that signs them."""

    url: str | None  # None: they are written and stay waiting
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One event that is due."""

    seq: int
    account: str
    body: bytes
    attempts: int
    batched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """One body that goes out, and the events in it."""

    account: str
    body: bytes
    rows: tuple[_Row, ...]


def now_ms() -> int:
    """Return the time, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Clockwork:
    """Runs what is due. One per server."""

    def __init__(self, storage: Storage, targets: Mapping[str, WebhookTarget]) -> None:
        self._storage = storage
        self._targets = dict(targets)
        self._woken = asyncio.Event()
        self._round_over = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mock-clockwork")

    def wake(self) -> None:
        """Say that something new is due, or will be."""
        self._woken.set()

    def aim(self, account: str, url: str | None) -> None:
        """Send the account's notices there from now on; None: keep them. Raises: KeyError, no such account."""
        self._targets[account] = WebhookTarget(url=url, secret=self._targets[account].secret)
        self.wake()

    async def told(self, operation: str, account: str) -> None:
        """Return once what is due about the operation went out or failed to, at the latest after MAX_TOLD_FIRST_S."""
        if account not in self._listening():
            return
        try:
            async with asyncio.timeout(MAX_TOLD_FIRST_S), self._round_over:
                while await self._storage.run(lambda db: notices.is_waiting(db, operation, now_ms=now_ms())):
                    await self._round_over.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """End; what is not delivered stays written. Raises: whatever ended the clockwork before, if anything did."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=MAX_PARALLEL)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                self._woken.clear()
                moved = await self._storage.run(lambda db: lifecycle.run_due(db, now_ms=now_ms()))
                sent = await self._deliver_due(session)
                if not moved and not sent:
                    await self._rest()

    async def _rest(self) -> None:
        due_ms = await self._storage.run(self._next_due_ms)
        wait_s = MAX_IDLE_S if due_ms is None else min(MAX_IDLE_S, max(0.0, (due_ms - now_ms()) / 1000))
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            return

    def _listening(self) -> tuple[str, ...]:
        """Return the accounts whose notices go anywhere."""
        return tuple(name for name, target in self._targets.items() if target.url is not None)

    def _next_due_ms(self, db: sqlite3.Connection) -> int | None:
        listening = self._listening()
        row = db.execute(
            "SELECT min(due) FROM (SELECT min(due_ms) AS due FROM transitions UNION ALL"  # noqa: S608 - question marks
            f" SELECT min(due_ms) FROM deliveries WHERE state = 'waiting' AND account IN ({_places(listening)}))",
            listening,
        ).fetchone()
        return None if row[0] is None else int(row[0])

    async def _deliver_due(self, session: aiohttp.ClientSession) -> int:
        listening = self._listening()
        due = _put_together(await self._storage.run(lambda db: _due(db, listening)))
        if not due:
            return 0
        outcomes = await asyncio.gather(*(self._deliver(session, delivery) for delivery in due))
        at_ms = now_ms()
        await self._storage.run(lambda db: _record(db, list(zip(due, outcomes, strict=True)), at_ms))
        async with self._round_over:
            self._round_over.notify_all()
        return len(due)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: _Delivery) -> bool:
        target = self._targets[delivery.account]
        if target.url is None:
            return False  # it was aimed at nowhere meanwhile
        signed = signature.sign(delivery.body, secret=target.secret, at_s=now_ms() // 1000)
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signed}
        try:
            async with session.post(target.url, data=delivery.body, headers=headers, allow_redirects=False) as response:
                return response.ok
        except (aiohttp.ClientError, OSError):  # a time-out is an OSError
            return False


def _places(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _due(db: sqlite3.Connection, accounts: Sequence[str]) -> list[_Row]:
    rows = db.execute(
        "SELECT seq, account, body, attempts, batched FROM deliveries WHERE state = 'waiting' AND due_ms <= ?"  # noqa: S608 - question marks
        f" AND account IN ({_places(accounts)}) ORDER BY due_ms, seq LIMIT ?",
        (now_ms(), *accounts, MAX_PARALLEL),
    )
    return [
        _Row(seq=row[0], account=row[1], body=row[2], attempts=row[3], batched=bool(row[4])) for row in rows.fetchall()
    ]


def _put_together(rows: Sequence[_Row]) -> list[_Delivery]:
    """Return what goes out: each event by itself, but the batched ones of an account in as few bodies as they fit."""
    deliveries: list[_Delivery] = []
    batches: dict[str, list[_Row]] = {}
    for row in rows:
        if not row.batched:
            deliveries.append(_Delivery(account=row.account, body=row.body, rows=(row,)))
            continue
        batch = batches.setdefault(row.account, [])
        if batch and sum(len(each.body) for each in batch) + len(row.body) > MAX_BATCH_BYTES:
            deliveries.append(_batch(batch))
            batch.clear()
        batch.append(row)
    return deliveries + [_batch(batch) for batch in batches.values()]


def _batch(rows: Sequence[_Row]) -> _Delivery:
    return _Delivery(account=rows[0].account, body=encode_batch([row.body for row in rows]), rows=tuple(rows))


def _record(db: sqlite3.Connection, outcomes: list[tuple[_Delivery, bool]], at_ms: int) -> None:
    for delivery, delivered in outcomes:
        for row in delivery.rows:
            attempts = row.attempts + 1
            state = "delivered" if delivered else "given_up" if attempts >= MAX_ATTEMPTS else "waiting"
            backoff_ms = min(FIRST_BACKOFF_MS * 2**row.attempts, MAX_BACKOFF_MS)
            db.execute(
                "UPDATE deliveries SET attempts = ?, state = ?, due_ms = ? WHERE seq = ?",
                (attempts, state, at_ms + backoff_ms, row.seq),
            )
