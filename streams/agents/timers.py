"""Due timers become records: the domain reads no clock, so someone must tell it the time, on the log.

The orders agent keeps open timers in a table, whose rows say when they are due; the clock takes those that are, and
appends a `TimerFired` to `payments.timers.v1` for each. The order decides what it means. Firing twice is safe (a timer
has a number), and so is firing early (the order goes by the record's own time, and waits for another); forgetting one
is not. So nothing is kept but the table: a partition that arrives or goes, with a million timers, costs nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.timers import OpenTimer, TimerFired
from streams.agents.intake import row_of
from streams.kafka.step import DueRow, Outgoing, TableRow
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_clock import LogClock
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.telemetry import metrics
from streams.topology import TIMERS_TABLE

log = structlog.get_logger(__name__)

SOURCE: Final = "payment-engine/timers"

LOOK_S: Final = 0.2
"""Between two looks: so much later than it asked for is a timer fired. The shortest is half a second."""

PARTITIONS_A_TURN: Final = 64
"""Looked at before everybody else on the event loop gets a turn: the first look at one takes 130 µs."""

FIRED_AT_ONCE: Final = 64
"""Timers of a partition that are appended together."""

FIRED_AGAIN_S: Final = 60.0
"""A fired timer that its order has neither cleared nor renewed by then is fired again."""

RETRY_AFTER_S: Final = 1.0
"""After a broker could not be reached."""

APPEND_TIMEOUT_S: Final = 10.0

NOT_APPENDED_MS: Final = -1
"""When the broker dated what it could not be given."""


class TimerTables(Protocol):
    """What the clock needs of a worker: see `streams.kafka.worker.Worker`."""

    @property
    def owned(self) -> frozenset[int]:
        """Its partitions."""

    def due_rows(self, table: str, number: int, now_ms: int, limit: int) -> list[DueRow]:
        """Rows whose time has come; the same again until they are passed over, and `FIRED_AGAIN_S` later."""

    def pass_over_due(self, table: str, due: DueRow) -> None:
        """Go on behind this one."""

    def row(self, table: str, number: int, key: bytes) -> bytes | None:
        """A row."""


def timer_key(timer: OpenTimer | TimerFired) -> bytes:
    """Return the timer's key in its table: one a row and operation, a later wish replaces the earlier."""
    return identifiers.row_key(timer.origin_id, timer.order_id) + b"|" + (timer.op_id or "").encode()


class TimerClock:
    """Appends a `TimerFired` for each due timer, until it is stopped."""

    def __init__(self, tables: TimerTables, *, codec: MessageCodec, log_writer: LogWriter, clock: LogClock) -> None:
        self._tables = tables
        self._codec = codec
        self._log_writer = log_writer
        self._clock = clock
        self._ahead_ms = 0
        """Our clock is so far ahead of the broker's, by the last timer fired."""

    async def run(self) -> None:
        """Fire timers until cancelled. A broker that cannot be reached only delays them."""
        while True:
            all_fired = await self.fire_due()
            await asyncio.sleep(LOOK_S if all_fired else RETRY_AFTER_S)

    async def fire_due(self) -> bool:
        """Fire all that is due now; returns False when some could not be appended, and are due still."""
        for looked, number in enumerate(sorted(self._tables.owned), start=1):
            if looked % PARTITIONS_A_TURN == 0:
                await asyncio.sleep(0)
            # Ends: what is fired is passed over, and what is not yet due by the broker is not taken again before it is.
            while due := self._tables.due_rows(TIMERS_TABLE, number, self._now_ms(), FIRED_AT_ONCE):
                dated_ms = await asyncio.gather(*(self._fire(each) for each in due))
                self._pass_over(due, dated_ms)
                if NOT_APPENDED_MS in dated_ms:
                    return False
        return True

    def _now_ms(self) -> int:
        return self._clock.now_ms() - self._ahead_ms

    def _pass_over(self, due: Sequence[DueRow], dated_ms: Sequence[int]) -> None:
        """Go on behind those that the log has in time, and stay before the first that it has not."""
        for each, at_ms in zip(due, dated_ms, strict=True):
            if at_ms < each.due.at_ms:
                return
            self._tables.pass_over_due(TIMERS_TABLE, each)

    async def _fire(self, due: DueRow) -> int:
        """Append one timer; returns when the broker dated it, `NOT_APPENDED_MS`, or its own time if it is cleared."""
        stored = self._tables.row(TIMERS_TABLE, due.partition, due.key)
        if stored is None:
            return due.due.at_ms
        timer = row_of(self._codec, OpenTimer, TableRow(TIMERS_TABLE, due.partition, due.key, stored))
        now_ms = self._clock.now_ms()
        fired = TimerFired(
            origin_id=timer.origin_id,
            order_id=timer.order_id,
            op_id=timer.op_id,
            kind=timer.kind,
            number=timer.number,
            due_at_ms=timer.due_at_ms,
            fired_at_ms=now_ms,
        )
        try:
            appended = await self._append(timer_message(self._codec, fired))
        except RetryableError as error:
            log.warning("timer_not_appended", kind=timer.kind, error=type(error).__name__, repeats=True)
            return NOT_APPENDED_MS
        metrics.count("timers_fired", kind=timer.kind)
        self._clock.saw(appended.timestamp_ms)
        self._ahead_ms = max(0, now_ms - appended.timestamp_ms)
        return appended.timestamp_ms

    async def _append(self, message: Outgoing) -> AppendedRecord:
        return await self._log_writer.append(
            message.topic, key=message.key, value=message.value, headers=message.headers, timeout_s=APPEND_TIMEOUT_S
        )


def timer_message(codec: MessageCodec, fired: TimerFired) -> Outgoing:
    """Return the due timer as a message for its order."""
    message = codec.encode(
        fired,
        Envelope(
            id=identifiers.event_id(timer_key(fired).decode(), f"{fired.kind}-{fired.number}"),
            source=SOURCE,
            type=TYPES[TimerFired],
            time_ms=fired.fired_at_ms,
            partitionkey=fired.order_id,
            originid=fired.origin_id,
        ),
    )
    return Outgoing(topic=topics.TIMERS, key=fired.order_id.encode(), value=message.value, headers=message.headers)
