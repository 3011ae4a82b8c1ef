"""The Mock's clock and its webhooks: carries out what is due, and delivers notices with bounded retries.

Started and stopped by the server. All it owes stands in the storage, so a killed server goes on where it was. A
notice is delivered at least once, in the order it fell due; 2xx within the time-out is a delivery, anything else is
tried again.
"""

import asyncio
import sqlite3
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway_adapters.mock import postings, signature
from gateway_adapters.mock.storage import Storage
from gateway_adapters.mock.wire import SIGNATURE_HEADER

MAX_ATTEMPTS: Final = 12
"""About three minutes, with the pauses below: longer than a restart of whoever listens."""

FIRST_BACKOFF_MS: Final = 200
MAX_BACKOFF_MS: Final = 30_000
DELIVERY_TIMEOUT_S: Final = 10.0
MAX_PARALLEL: Final = 32
MAX_IDLE_S: Final = 1.0
"""Longest sleep while nothing is due: a lost wake-up costs no more than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """Where notices go, and the secret that signs them."""

    url: str | None  # None: they are written and stay waiting
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    seq: int
    body: bytes
    attempts: int


def now_ms() -> int:
    """Return the time, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Clockwork:
    """Runs what is due. One per server."""

    def __init__(self, storage: Storage, target: WebhookTarget, *, gap_ms: int) -> None:
        self._storage = storage
        self.target = target
        self._gap_ms = gap_ms
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mock-clockwork")

    def wake(self) -> None:
        """Say that something new is due, or will be."""
        self._woken.set()

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
                moved = await self._storage.run(
                    lambda db: postings.run_due_transitions(db, now_ms=now_ms(), gap_ms=self._gap_ms)
                )
                sent = await self._deliver_due(session) if self.target.url is not None else 0
                if not moved and not sent:
                    await self._rest()

    async def _rest(self) -> None:
        due_ms = await self._storage.run(self._next_due_ms)
        wait_s = MAX_IDLE_S if due_ms is None else min(MAX_IDLE_S, max(0.0, (due_ms - now_ms()) / 1000))
        try:
            await asyncio.wait_for(self._woken.wait(), wait_s)
        except TimeoutError:
            return

    def _next_due_ms(self, db: sqlite3.Connection) -> int | None:
        waiting = "SELECT min(due_ms) AS due FROM transitions"
        if self.target.url is not None:
            waiting += " UNION ALL SELECT min(due_ms) FROM deliveries WHERE state = 'waiting'"
        row = db.execute(f"SELECT min(due) FROM ({waiting})").fetchone()  # noqa: S608 - constants
        return None if row[0] is None else int(row[0])

    async def _deliver_due(self, session: aiohttp.ClientSession) -> int:
        due = await self._storage.run(_due_deliveries)
        outcomes = await asyncio.gather(*(self._deliver(session, delivery) for delivery in due))
        if due:
            at_ms = now_ms()
            await self._storage.run(lambda db: _record(db, list(zip(due, outcomes, strict=True)), at_ms))
        return len(due)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: _Delivery) -> bool:
        assert self.target.url is not None
        signed = signature.sign(delivery.body, secret=self.target.secret, at_s=now_ms() // 1000)
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signed}
        try:
            async with session.post(
                self.target.url, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                return response.ok
        except (aiohttp.ClientError, OSError):  # a time-out is an OSError
            return False


def _due_deliveries(db: sqlite3.Connection) -> list[_Delivery]:
    rows = db.execute(
        "SELECT seq, body, attempts FROM deliveries WHERE state = 'waiting' AND due_ms <= ?"
        " ORDER BY due_ms, seq LIMIT ?",
        (now_ms(), MAX_PARALLEL),
    )
    return [_Delivery(seq=row[0], body=row[1], attempts=row[2]) for row in rows]


def _record(db: sqlite3.Connection, outcomes: list[tuple[_Delivery, bool]], at_ms: int) -> None:
    for delivery, delivered in outcomes:
        attempts = delivery.attempts + 1
        state = "delivered" if delivered else "given_up" if attempts >= MAX_ATTEMPTS else "waiting"
        backoff_ms = min(FIRST_BACKOFF_MS * 2**delivery.attempts, MAX_BACKOFF_MS)
        db.execute(
            "UPDATE deliveries SET attempts = ?, state = ?, due_ms = ? WHERE seq = ?",
            (attempts, state, at_ms + backoff_ms, delivery.seq),
        )
