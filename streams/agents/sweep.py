"""Rows whose time has come are asked to go, and orders that nobody answers to move, through the log.

Each write of a row says when it is due (`dues`). A sweep takes what is due of the partitions that this worker owns, in
the order of time, and appends requests: `OrderExpiryRequested` to the timers topic, `ClaimExpiryRequested` to the
claims topic, each for many rows; a `TimerFired` (DRIVE_AGAIN) for an order whose claim or call has waited for its
answer for long; a webhook that has waited for its reference for too long to the webhooks topic once more. The agent
that owns the row decides, by the log's time and by the row, so that one writer stays one writer; asking twice is safe.

It may not be felt by payments. So it reads an index and, as a rule, no row; it takes a small share of the worker's CPU;
it asks for so many rows a second and no more; and of each partition it asks for the next ones only when those before
are done.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimExpiryRequested, ExpiringClaim
from schemas.records.orders import OrderRow
from schemas.records.references import ParkedRow
from schemas.records.timers import OrderExpiryRequested, TimerFired
from schemas.vocabulary import TimerKind
from streams.agents.dues import UNTOLD, Over, Owed, end_of, meaning_of
from streams.agents.intake import row_of
from streams.agents.references import append_again
from streams.agents.timers import timer_message
from streams.domain.references import Indexed, overdue
from streams.kafka.step import DueRow, Outgoing, TableRow
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.telemetry import metrics
from streams.topology import ORDERS_TABLE, PARKED_TABLE

SOURCE: Final = "payment-engine/sweep"

LOOK_S: Final = 1.0
"""Between two looks when nothing is due."""

BUSY_LOOK_S: Final = 0.05
"""Between two looks while requests are under way: about as long as one takes to be done."""

ROWS_AT_ONCE: Final = 32
"""Rows of one request. Its agent decides about all of them in one turn of the event loop: some five milliseconds."""

ROWS_A_SECOND: Final = 1_000
"""Asked for at most, of all tables of a worker. More than it takes in, so that it catches up; its agent is busy with
them for a fifth of a core at most."""

REQUESTS_A_SECOND: Final = 50
"""Appended at most. Orders that wait for an answer, and parked webhooks, have one each: while no executor runs, each
order that waits is asked time and again, and each time says its call once more."""

CPU_SHARE: Final = 0.015
"""Of one core, at most, for finding what is due and for making requests of it. With their appends it is below 2 %."""

REST_MIN_S: Final = 0.005
"""A shorter rest is added to the next: each costs a turn of the event loop."""

DONE_WITHIN_S: Final = 60.0
"""A request that is not done by then is taken for lost, and the next rows of its partition are asked for."""

REFERENCE_BYTES: Final = 256 * 1024
"""Of references in one request, counted as they stand in the notes."""

APPEND_TIMEOUT_S: Final = 10.0

log = structlog.get_logger(__name__)

Read = Callable[[DueRow], bytes | None]
"""The row itself, as it is stored now."""

Ask = Callable[[Sequence[DueRow], Read, int], Iterable[Outgoing]]
"""The requests about these rows of one partition, at this time."""


class DueTables(Protocol):
    """What a sweep needs of a worker: see `streams.kafka.worker.Worker`."""

    @property
    def owned(self) -> frozenset[int]:
        """Its partitions."""

    def due_rows(self, table: str, number: int, now_ms: int, limit: int) -> list[DueRow]:
        """Rows whose time has come."""

    def pass_over_due(self, table: str, due: DueRow) -> None:
        """Go on behind this one."""

    def row(self, table: str, number: int, key: bytes) -> bytes | None:
        """A row."""

    def has_done(self, topic: str, number: int, offset: int) -> bool:
        """Whether this input and all before it are done."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The last request about a partition of a table."""

    record: AppendedRecord
    at_s: float


class Sweeper:
    """Sweeps the tables of one worker, until cancelled."""

    def __init__(
        self,
        tables: DueTables,
        asks: Mapping[str, Ask],
        *,
        log_writer: LogWriter,
        now_ms: Callable[[], int],
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """Build it.

        Args:
            tables: The worker's.
            asks: What to ask about the due rows of each table; of one without due rows, say nothing.
            log_writer: Appends the requests.
            now_ms: The time as far as the log proves it, milliseconds since the epoch.
            cpu_s: What this thread has used of the CPU, seconds.
        """
        self._tables = tables
        self._asks = asks
        self._log_writer = log_writer
        self._now_ms = now_ms
        self._cpu_s = cpu_s
        self._ahead_ms = 0
        self._owed_s = 0.0
        self._owned: frozenset[int] = frozenset()
        self._asked: dict[tuple[str, int], _Asked] = {}

    async def run(self) -> None:
        """Sweep for ever. A broker that cannot be reached leaves the rest to the next look."""
        while True:
            await asyncio.sleep(BUSY_LOOK_S if self._asked else LOOK_S)
            try:
                await self.sweep()
            except RetryableError as error:
                log.warning("sweep_cut_short", error=type(error).__name__, repeats=True)

    async def sweep(self) -> int:
        """Ask about all that is due now and not asked about yet; returns how many rows. Raises: RetryableError."""
        asked = 0
        while count := await self._pass():  # ends: what was asked about is behind, and only time makes more due
            asked += count
        return asked

    async def _pass(self) -> int:
        """Ask once for each partition of each table; returns how many rows were asked about."""
        asked = 0
        if (
            self._tables.owned is not self._owned
        ):  # another assignment: nobody knows here what is done of the last one's
            self._owned = self._tables.owned
            self._asked.clear()
        for table, ask in self._asks.items():
            for number in sorted(self._owned):
                if self._may_ask(table, number):
                    asked += await self._look(table, ask, number)
        return asked

    def _may_ask(self, table: str, number: int) -> bool:
        last = self._asked.get((table, number))
        if last is None:
            return True
        record, late = last.record, asyncio.get_running_loop().time() - last.at_s > DONE_WITHIN_S
        if not late and not self._tables.has_done(record.topic, record.partition, record.offset):
            return False
        del self._asked[table, number]
        return True

    async def _look(self, table: str, ask: Ask, number: int) -> int:
        began_s, now_ms = self._cpu_s(), self._now_ms()
        due = self._tables.due_rows(table, number, now_ms - self._ahead_ms, ROWS_AT_ONCE)
        requests = list(ask(due, lambda each: self._tables.row(table, number, each.key), now_ms)) if due else []
        self._owed_s += (self._cpu_s() - began_s) / CPU_SHARE
        appended = None
        for request in requests:
            appended = await self._append(request)
        if appended is not None:
            self._asked[table, number] = _Asked(appended, asyncio.get_running_loop().time())
            self._ahead_ms = max(0, now_ms - appended.timestamp_ms)
        # Not those that are asked too soon, by a clock that is ahead of the log's: the row will say so.
        in_time = [each for each in due if appended is None or each.due.at_ms <= appended.timestamp_ms]
        if in_time:
            self._tables.pass_over_due(table, in_time[-1])
            metrics.count("rows_due", len(in_time), table=table)
        await self._rest(rows=len(due), requests=len(requests))
        return len(due)

    async def _rest(self, *, rows: int, requests: int) -> None:
        """Keep to the rates and to the share of the CPU."""
        self._owed_s = max(self._owed_s, rows / ROWS_A_SECOND, requests / REQUESTS_A_SECOND)
        if self._owed_s >= REST_MIN_S:
            await asyncio.sleep(self._owed_s)
            self._owed_s = 0.0

    async def _append(self, request: Outgoing) -> AppendedRecord:
        return await self._log_writer.append(
            request.topic,
            key=request.key,
            value=request.value,
            headers=request.headers,
            partition=request.partition,
            timeout_s=APPEND_TIMEOUT_S,
        )


def nothing_due(_due: Sequence[DueRow], _read: Read, _now_ms: int) -> Iterable[Outgoing]:
    """Ask nothing: of a table whose rows are not due, deleted ones alone are forgotten when they come by."""
    return ()


def old_claims(codec: MessageCodec) -> Ask:
    """Return what to ask about claims: that they go."""

    def ask(due: Sequence[DueRow], _read: Read, now_ms: int) -> Iterator[Outgoing]:
        request = ClaimExpiryRequested(claims=tuple(map(_expiring_claim, due)), asked_at_ms=now_ms)
        name = identifiers.event_id(due[0].key.decode(), f"expiry-{now_ms}")
        message = codec.encode(
            request, Envelope(id=name, source=SOURCE, type=TYPES[ClaimExpiryRequested], time_ms=now_ms)
        )
        yield Outgoing(
            topic=topics.CLAIMS,
            key=due[0].key,
            value=message.value,
            headers=message.headers,
            partition=due[0].partition,
        )

    return ask


def _expiring_claim(due: DueRow) -> ExpiringClaim:
    origin, _, key = due.key.decode().partition("|")
    return ExpiringClaim(origin_id=OriginId(origin), idempotency_key=IdempotencyKey(key), due_at_ms=due.due.at_ms)


def due_orders(codec: MessageCodec, indexed: Indexed) -> Ask:
    """Return what to ask about orders: that they say again what nobody answers, or leave.

    `indexed`: the gateways' capabilities; they say which references leave the index with an order.
    """

    def ask(due: Sequence[DueRow], read: Read, now_ms: int) -> Iterator[Outgoing]:
        over: list[TimerFired] = []
        listed_bytes = 0
        for each in due:
            meaning = meaning_of(each.due.note)
            if isinstance(meaning, Owed):
                yield timer_message(codec, _timer(each, TimerKind.DRIVE_AGAIN, now_ms, op_id=meaning.op_id))
                continue
            listed_bytes += REFERENCE_BYTES if meaning is None else len(each.due.note)
            end = _read_end(codec, each, read(each), indexed) if meaning is None else meaning
            over.append(_timer(each, TimerKind.EXPIRE_ROW, now_ms, end=end))
            if listed_bytes >= REFERENCE_BYTES:
                yield _order_expiry(codec, over, each.partition, now_ms)
                over, listed_bytes = [], 0
        if over:
            yield _order_expiry(codec, over, due[0].partition, now_ms)

    return ask


def _timer(due: DueRow, kind: TimerKind, now_ms: int, *, op_id: OpId | None = None, end: Over = UNTOLD) -> TimerFired:
    origin, _, order = due.key.decode().partition("|")
    return TimerFired(
        origin_id=OriginId(origin),
        order_id=OrderId(order),
        op_id=op_id,
        kind=kind,
        number=end.version,
        due_at_ms=due.due.at_ms,
        fired_at_ms=now_ms,
        references=end.references,
        life_ms=end.life_ms,
        operations=end.operations,
    )


def _read_end(codec: MessageCodec, due: DueRow, stored: bytes | None, indexed: Indexed) -> Over:
    if stored is None:
        return UNTOLD
    return end_of(row_of(codec, OrderRow, TableRow(ORDERS_TABLE, due.partition, due.key, stored)), indexed)


def _order_expiry(codec: MessageCodec, orders: Sequence[TimerFired], partition: int, now_ms: int) -> Outgoing:
    request = OrderExpiryRequested(orders=tuple(orders), asked_at_ms=now_ms)
    first = orders[0]
    name = identifiers.event_id(identifiers.row_key(first.origin_id, first.order_id).decode(), f"expiry-{now_ms}")
    message = codec.encode(request, Envelope(id=name, source=SOURCE, type=TYPES[OrderExpiryRequested], time_ms=now_ms))
    return Outgoing(
        topic=topics.TIMERS,
        key=first.order_id.encode(),
        value=message.value,
        headers=message.headers,
        partition=partition,
    )


def overdue_webhooks(codec: MessageCodec) -> Ask:
    """Return what to ask about parked webhooks: that those whose time is over look for their reference once more."""

    def ask(due: Sequence[DueRow], read: Read, now_ms: int) -> Iterator[Outgoing]:
        for each in due:
            if (stored := read(each)) is not None:
                waiting = row_of(codec, ParkedRow, TableRow(PARKED_TABLE, each.partition, each.key, stored))
                yield from (append_again(codec, waiting, one) for one in overdue(waiting.webhooks, now_ms=now_ms))

    return ask
