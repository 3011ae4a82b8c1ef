"""Due timers become records: the domain reads no clock, so someone must tell it the time, on the log.

The orders agent keeps open timers in a table and in this heap; the clock appends a `TimerFired` to
`payments.timers.v1` when one is due, and the order decides what it means. Firing twice is safe (a timer has a number),
and so is firing early (the order goes by the record's own time, and waits for another); forgetting one is not: the heap
is filled from the table whenever a partition arrives.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Iterable
from typing import NamedTuple

import structlog

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.timers import OpenTimer, TimerFired
from streams.kafka.step import Outgoing
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_clock import LogClock
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

SOURCE = "payment-engine/timers"
# The clock looks again at least this often, so that a wake-up lost to a suspended machine costs seconds.
MAX_SLEEP_S = 5.0
MAX_FIRED_AT_ONCE = 500
APPEND_TIMEOUT_S = 10.0
RETRY_AFTER_MS = 1000


def timer_key(timer: OpenTimer | TimerFired) -> bytes:
    """Return the timer's key in its table: one a row and operation, a later wish replaces the earlier."""
    return identifiers.row_key(timer.origin_id, timer.order_id) + b"|" + (timer.op_id or "").encode()


class _Held(NamedTuple):
    """An open timer."""

    partition: int
    timer: OpenTimer
    look: int
    """The one entry of the heap by which it fires; any other of its key is from before."""


class TimerHeap:
    """Open timers of the partitions that this worker owns, soonest first. Not thread-safe; no clock of its own."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Held] = {}
        self._due: list[tuple[int, int, bytes]] = []
        self._looks = 0

    def __len__(self) -> int:
        return len(self._open)

    def put(self, partition: int, timer: OpenTimer) -> None:
        """Keep this timer instead of any earlier one of the same operation."""
        self._look(partition, timer, timer.due_at_ms)

    def _look(self, partition: int, timer: OpenTimer, at_ms: int) -> None:
        key = timer_key(timer)
        self._looks += 1
        self._open[key] = _Held(partition, timer, self._looks)
        heapq.heappush(self._due, (at_ms, self._looks, key))

    def clear(self, key: bytes) -> None:
        """Forget the timer under this key, if there is one."""
        self._open.pop(key, None)

    def replace(self, partition: int, timers: Iterable[OpenTimer]) -> None:
        """Hold exactly these timers for the partition: what its table says after a recovery."""
        self.drop(partition)
        for timer in timers:
            self.put(partition, timer)

    def drop(self, partition: int) -> None:
        """Forget a partition that went to another worker, and all that nobody has open."""
        self._open = {key: held for key, held in self._open.items() if held.partition != partition}
        self._due = [entry for entry in self._due if self._held(entry) is not None]
        heapq.heapify(self._due)

    def _held(self, entry: tuple[int, int, bytes]) -> _Held | None:
        _, look, key = entry
        held = self._open.get(key)
        return held if held is not None and held.look == look else None

    def take_due(self, now_ms: int) -> list[OpenTimer]:
        """Return at most `MAX_FIRED_AT_ONCE` due timers; they stay open until the order clears or renews them."""
        fired: list[OpenTimer] = []
        while self._due and self._due[0][0] <= now_ms and len(fired) < MAX_FIRED_AT_ONCE:
            held = self._held(heapq.heappop(self._due))
            if held is not None:
                fired.append(held.timer)
        return fired

    def look_again(self, timer: OpenTimer, at_ms: int) -> None:
        """Take this timer once more at that time, if it is open still: it was due, but nobody has acted on it yet."""
        held = self._open.get(timer_key(timer))
        if held is not None and held.timer.number == timer.number:
            self._look(held.partition, held.timer, at_ms)

    def next_due_ms(self) -> int | None:
        """Return when to look next, or None."""
        return self._due[0][0] if self._due else None


class TimerClock:
    """Appends a `TimerFired` for each due timer, until it is stopped."""

    def __init__(
        self,
        heap: TimerHeap,
        *,
        codec: MessageCodec,
        log_writer: LogWriter,
        clock: LogClock,
        refire_s: float = 60.0,
    ) -> None:
        """`refire_s`: a fired timer that its order has neither cleared nor renewed by then is fired again."""
        self._heap = heap
        self._codec = codec
        self._log_writer = log_writer
        self._clock = clock
        self._refire_ms = round(refire_s * 1000)
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Look at the heap again: a sooner timer may have come."""
        self._changed.set()

    async def run(self) -> None:
        """Fire timers until cancelled. A broker that cannot be reached only delays them."""
        while True:
            self._changed.clear()
            now_ms = self._clock.now_ms()
            await asyncio.gather(*(self._fire(timer, now_ms) for timer in self._heap.take_due(now_ms)))
            await self._sleep()

    async def _sleep(self) -> None:
        due_ms = self._heap.next_due_ms()
        wait_s = MAX_SLEEP_S if due_ms is None else min(MAX_SLEEP_S, max(0.0, (due_ms - self._clock.now_ms()) / 1000))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), wait_s)

    async def _fire(self, timer: OpenTimer, now_ms: int) -> None:
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
            appended = await append_timer(self._log_writer, self._codec, fired)
        except RetryableError as error:
            log.warning("timer_not_appended", kind=timer.kind, error=type(error).__name__, repeats=True)
            self._heap.look_again(timer, now_ms + RETRY_AFTER_MS)
            return
        self._clock.saw(appended.timestamp_ms)
        early_ms = timer.due_at_ms - appended.timestamp_ms  # our clock is so far ahead of the broker's
        self._heap.look_again(timer, now_ms + (early_ms if early_ms > 0 else self._refire_ms))


def timer_message(codec: MessageCodec, fired: TimerFired) -> Outgoing:
    """Return the timer as a message, under its order's key."""
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


async def append_timer(log_writer: LogWriter, codec: MessageCodec, fired: TimerFired) -> AppendedRecord:
    """Append the due timer under its order's key; returns where, and when by the broker. Raises: RetryableError."""
    message = timer_message(codec, fired)
    appended = await log_writer.append(
        message.topic,
        key=message.key,
        value=message.value,
        headers=message.headers,
        timeout_s=APPEND_TIMEOUT_S,
    )
    metrics.count("timers_fired", kind=fired.kind)
    return appended
