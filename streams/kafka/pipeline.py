"""Persist, then speak, then commit, with many inputs in flight: the heart of a worker.

Called by `worker` (one input after the other) and by `faust_fences.transport` (drain at a rebalance or a stop). Calls:
the handler, the row tables, the ledger and the producer's `send`.

Each partition is a lane of three steps, each in the order of the log: the handler decides and the changelog records
are sent (`take`); when they are acknowledged the rows enter the local store and the messages are sent (`_speak`);
when those are acknowledged the input is done (`_confirm`). So no output leaves before its row is durable, none
overtakes that of an earlier input of its partition, and a lane waits for one round trip, not one for each input.

An input whose schema a registry is being asked for waits, and what is behind it in its lane (`_Lane.hold`).

Replies are said, and not waited for (`best_effort`): nothing is lost with them, so no offset waits for them.

Between the second and the third the worker makes sure that the group still counts it as a member (`lease`).

Sends go straight to aiokafka's producer, not through Faust's: 16 instead of 72 µs each, and a future for each record,
where Faust only logs an asynchronous failure of a changelog write and commits all the same.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, cast

import structlog

from schemas.decode_errors import SchemaAwaitedError
from schemas.topics import DLQ, MAX_LETTER_BYTES
from streams.kafka import dues, stamps
from streams.kafka.best_effort import BEST_EFFORT
from streams.kafka.errors import StalledError, TooLargeError
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.partition_rows import StoredRow, put_own
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import Handler, Headers, InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.kafka.worker_settings import MAX_MESSAGE_BYTES, MAX_ROW_BYTES
from streams.kafka_clients.lease import Lease

HEADER_OVERHEAD_BYTES = 16
"""Counted for each header beside name and value; generous."""

LEASE_LOOK_S = 0.2
"""Between two looks of a drain whether the lease still holds: it ends by the clock, which wakes nobody."""

UNDATED = 0
"""A row's time until the broker has dated its record."""

WATCH_INTERVAL_S = 1.0
"""Between two looks whether anything moves."""

log = structlog.get_logger(__name__)


class Acknowledged(Protocol):
    """What the producer says about a record that all in-sync replicas have."""

    @property
    def offset(self) -> int:
        """Where it is."""

    @property
    def timestamp(self) -> int:
        """When the broker wrote it, milliseconds since the epoch."""


class Send(Protocol):
    """aiokafka's `AIOKafkaProducer.send`: waits for room in its buffer, returns the future of the acknowledgement."""

    def __call__(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int | None, headers: Headers
    ) -> Awaitable[asyncio.Future[Acknowledged]]:
        """Send one record."""


@dataclass(slots=True, eq=False)
class _RowInFlight:
    write: RowWrite
    row: StoredRow
    before: StoredRow | None
    acknowledged: asyncio.Future[Acknowledged]


@dataclass(slots=True, eq=False)
class _InputInFlight:
    topic: str
    offset: int
    rows: list[_RowInFlight]
    speak: tuple[Outgoing, ...]
    spoken: list[asyncio.Future[Acknowledged]] = field(default_factory=list)


class _Lane:
    """One partition, across all source topics."""

    def __init__(self, pipeline: "Pipeline", partition: int, generation: int):
        self._pipeline = pipeline
        self.partition = partition
        self.generation = generation
        self._overlay: dict[tuple[str, bytes], StoredRow] = {}
        self._persisting: asyncio.Queue[_InputInFlight] = asyncio.Queue()  # bounded by the pipeline's slots
        self._speaking: asyncio.Queue[_InputInFlight] = asyncio.Queue()  # bounded by the pipeline's slots
        self._held: deque[InputEvent] = deque()  # behind one that waits; bounded by the pipeline's slots
        self.is_closed = False
        self._stores = {name: table.partition(partition) for name, table in pipeline.tables.items()}
        self._tasks = [
            asyncio.create_task(self._guarded(step), name=f"lane-{partition}") for step in (self._speak, self._confirm)
        ]
        self.read: RowReader = self._read

    def _stored(self, table: str, key: bytes) -> StoredRow | None:
        return self._overlay.get((table, key)) or self._stores[table].get(key)

    def _read(self, table: str, key: bytes) -> bytes | None:
        row = self._stored(table, key)
        return None if row is None else row.value

    def holds_back(self, event: InputEvent) -> bool:
        """Keep the input if one before it waits for its schema: they are handled in the order of the log."""
        if self._held:
            self._held.append(event)
            return True
        return False

    def hold(self, event: InputEvent) -> None:
        """Let this input, and what comes behind it, wait for its schema; the other partitions go on."""
        log.warning("schema_awaited", topic=event.topic, partition=event.partition, offset=event.offset)
        self._held.append(event)
        self._tasks.append(asyncio.create_task(self._guarded(self._release), name=f"lane-{self.partition}-held"))

    async def _release(self) -> None:
        # Ends: each input waits once, and for a limited time (`schemas.late_schemas`).
        while self._held and self._pipeline.failure is None:
            try:
                await self._pipeline.decide(self._held[0], self)
            except SchemaAwaitedError as awaited:
                await awaited.wait()
            else:
                self._held.popleft()
        self._tasks.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    async def persist(self, event: InputEvent, step: Step) -> None:
        """Send the rows to the changelog and let later inputs see them; returns before they are acknowledged.

        A lane that is closed meanwhile sends nothing more: the input is not done, and whoever has the partition next
        reads it again.
        """
        rows = await self._send(step.rows)
        if not self.is_closed:
            self._persisting.put_nowait(_InputInFlight(event.topic, event.offset, rows, tuple(step.speak)))

    async def _send(self, writes: Iterable[RowWrite]) -> list[_RowInFlight]:
        # All stamps before the first send, which may wait. The partition may come back meanwhile, with rows of another
        # owner: a stamp that was made from those would win over them, with a row that was decided without them.
        stamped = [(write, *self._stamp(write)) for write in writes]
        sent: list[_RowInFlight] = []
        for write, row, before in stamped:
            acknowledged = await self._pipeline.send_row(write, row.stamp, self.partition)
            sent.append(_RowInFlight(write, row, before, acknowledged))
            if self.is_closed:
                _abandon(entry.acknowledged for entry in sent)
                return []
        return sent

    def _stamp(self, write: RowWrite) -> tuple[StoredRow, StoredRow | None]:
        """Return the row to be written, and the one that it replaces."""
        known = self._stored(write.table, write.key)
        before = self._pipeline.tables[write.table].stamp_of_none(self.partition) if known is None else known.stamp
        row = StoredRow(before.next(self.generation), write.value, UNDATED, write.due)
        self._overlay[write.table, write.key] = row
        return row, known

    async def rewrite(self, table: str, key: bytes) -> None:
        """Write a row again as it is now, acknowledged, so that it is the last of its key on the changelog."""
        row = self._stored(table, key)
        if row is not None:
            await self._store(await self._send([RowWrite(table=table, key=key, value=row.value, due=row.due)]))

    async def _speak(self) -> None:
        while True:
            taken = await self._persisting.get()
            await self._store(taken.rows)
            await self._pipeline.still_owner()
            for message in taken.speak:
                if message.topic in BEST_EFFORT:
                    self._pipeline.say(message)
                else:
                    taken.spoken.append(await self._pipeline.send_message(message))
            self._speaking.put_nowait(taken)

    async def _store(self, rows: Iterable[_RowInFlight]) -> None:
        """Wait for the changelog, and only then let the rows into the local store."""
        for entry in rows:
            written = await entry.acknowledged
            if self.is_closed:
                return  # the rows are those of the next assignment by now
            dated = entry.row._replace(written_ms=written.timestamp)
            table, key = entry.write.table, entry.write.key
            put_own(self._stores[table], {key: dated}, written.offset, before={key: entry.before})
            if self._overlay.get((table, key)) is entry.row:
                del self._overlay[table, key]

    async def _confirm(self) -> None:
        while True:
            taken = await self._speaking.get()
            for acknowledged in taken.spoken:
                await acknowledged
            self._pipeline.finish(self.partition, taken.topic, taken.offset)

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as failure:  # noqa: BLE001 -- whatever it is, the worker must stop: nothing may be committed past it
            self._pipeline.fail(failure)

    def close(self) -> None:
        """Stop at once. What is in flight is not waited for, and never committed."""
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        for queue in (self._persisting, self._speaking):
            while not queue.empty():
                taken = queue.get_nowait()
                _abandon([*(entry.acknowledged for entry in taken.rows), *taken.spoken])


def _abandon(futures: Iterable[asyncio.Future[Acknowledged]]) -> None:
    for future in futures:
        future.add_done_callback(_retrieve)


def _retrieve(future: asyncio.Future[Acknowledged]) -> None:
    """An abandoned future's failure is known already; asyncio would log it once more."""
    if not future.cancelled():
        future.exception()


class Pipeline:
    """All lanes of a worker."""

    def __init__(
        self,
        *,
        tables: Mapping[str, RowTable],
        changelogs: Mapping[str, str],
        handler: Handler,
        ledger: OffsetLedger[tuple[str, int]],
        lease: Lease,
        send: Send,
        say: Callable[[Outgoing], None],
        on_failure: Callable[[BaseException], None],
        max_inputs_in_flight: int,
        drain_timeout_s: float,
        ack_timeout_s: float,
    ):
        """Make it without a lane.

        Args:
            tables: their rows, by name.
            changelogs: table to topic.
            handler: decides.
            ledger: which offsets may be committed.
            lease: until when the partitions are this worker's.
            send: sends what is waited for.
            say: takes what is not (`best_effort`); returns at once, and raises nothing.
            on_failure: called once, with the first failure.
            max_inputs_in_flight: taken and not done.
            drain_timeout_s: longest wait of a drain, seconds.
            ack_timeout_s: longest that an input may take, seconds.
        """
        self.tables = dict(tables)
        self._changelogs = dict(changelogs)
        self._handler = handler
        self._ledger = ledger
        self._lease = lease
        self._send = send
        self.say = say
        self._on_failure = on_failure
        self._slots = asyncio.Semaphore(max_inputs_in_flight)
        self._drain_timeout_s = drain_timeout_s
        self._ack_timeout_s = ack_timeout_s
        self._lanes: dict[int, _Lane] = {}
        self._closings = 0
        self._slots_held = 0
        self._in_flight: set[tuple[str, int, int]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._watch: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """Inputs taken and not done."""
        return len(self._in_flight)

    def open_lanes(self, generations: Mapping[int, int]) -> None:
        """Serve these partitions, writing with these generations; earlier lanes must be closed.

        What arrived before its lane would never be done, nor read again: then the worker fails, and a restart reads it.
        Nothing opens after a failure: rows may be lacking, and one written again from those that are here would win
        over the newer one that is not.
        """
        if self.failure is not None:
            return
        if unfinished := self._ledger.unfinished():
            self.fail(StalledError(f"{unfinished} inputs arrived before their lanes were open"))
            return
        self._lanes = {number: _Lane(self, number, generation) for number, generation in generations.items()}
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_age(), name="pipeline-watch")

    async def rewrite_regressed(self) -> None:
        """Make rows that won over a later record the last of their key again, before any input is handled.

        Ends when the lanes are closed meanwhile; the next assignment's recovery finds them again.
        """
        for lane in self._lanes.values():
            for table in self.tables.values():
                for key in table.take_regressed(lane.partition):
                    await lane.rewrite(table.name, key)
                    if lane.is_closed:
                        return

    def close_lanes(self) -> None:
        """Stop serving. Safe to call twice."""
        self._closings += 1
        for lane in self._lanes.values():
            lane.close()
        self._lanes = {}
        for _ in range(self._slots_held):  # of inputs that were abandoned
            self._slots.release()
        self._slots_held = 0
        self._in_flight.clear()
        self._idle.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def take(self, event: InputEvent) -> None:
        """Handle one input; waits only while too many are in flight, or the producer's buffer is full.

        Raises:
            Exception: what the handler raised, or what stopped the worker; `on_failure` knows it already.
        """
        if self.failure is not None:
            return
        identity = (event.topic, event.partition, event.offset)
        try:
            if not self._ledger.note_arrival((event.topic, event.partition), event.offset):
                return
            self._in_flight.add(identity)
            self._idle.clear()
            closings = self._closings
            await self._slots.acquire()
            lane = self._lanes.get(event.partition)
            if lane is None or self._closings != closings:
                # Given away while it waited: not done, so whoever has the partition reads it again, in its order.
                self._slots.release()
                return
            self._slots_held += 1
            if lane.holds_back(event):
                return
            try:
                await self.decide(event, lane)
            except SchemaAwaitedError:
                lane.hold(event)
        except Exception as failure:
            self.fail(failure)
            raise

    async def decide(self, event: InputEvent, lane: _Lane) -> None:
        """Have the handler decide about an input, and send the rows of its step.

        Raises: SchemaAwaitedError: it cannot yet, and nothing was done; ask again after its wait. TooLargeError.
        """
        step = self._handler(event, lane.read)
        self._refuse_too_large(step)
        await lane.persist(event, step)

    def _refuse_too_large(self, step: Step) -> None:
        """Before anything is written: a half-written step would be a decision nobody made."""
        fault = oversize(step)
        if fault is not None:
            raise TooLargeError(fault)

    def send_row(self, write: RowWrite, stamp: Stamp, partition: int) -> Awaitable[asyncio.Future[Acknowledged]]:
        """One changelog record, in the partition of the input: a row lives where its order's events are."""
        topic = self._changelogs[write.table]
        headers: Headers = (stamps.to_header(stamp),)
        if write.value is not None and self.tables[write.table].has_dues:
            headers = (*headers, dues.to_header(write.due))
        return self._send(topic, write.value, key=write.key, partition=partition, headers=headers)

    def send_message(self, message: Outgoing) -> Awaitable[asyncio.Future[Acknowledged]]:
        """One outgoing message."""
        return self._send(
            message.topic, message.value, key=message.key, partition=message.partition, headers=message.headers
        )

    def finish(self, partition: int, topic: str, offset: int) -> None:
        """Everything that this input caused is acknowledged."""
        self._ledger.note_done((topic, partition), offset)
        self._in_flight.discard((topic, partition, offset))
        self._slots.release()
        self._slots_held -= 1
        if not self._in_flight:
            self._idle.set()

    async def still_owner(self) -> None:
        """Return once the group is known to count this worker as a member still (`lease`).

        Called between an input's rows, which are durable by then, and its messages. What is said after it follows from
        rows that a later owner finds; what a frozen owner has decided too late is never said.
        """
        while not self._lease.holds():
            log.warning("lease_over", in_flight=self.in_flight)
            await self._lease.changed()  # ends with a heartbeat, or with the lane

    async def drain(self) -> None:
        """Returns when nothing is in flight any more, or the worker has failed; fails it after the time-out.

        What a worker that has lost its group may not say any more is abandoned: not done, hence not committed.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._drain_timeout_s
        while not self._idle.is_set():
            if not self._lease.holds():
                log.warning("drain_abandoned", in_flight=self.in_flight)
                return
            if loop.time() >= until_s:
                self.fail(StalledError(f"{self.in_flight} inputs still in flight after {self._drain_timeout_s} s"))
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEASE_LOOK_S):
                    await self._idle.wait()

    def fail(self, failure: BaseException) -> None:
        """Stop handling; the first failure is reported. What is in flight stays uncommitted."""
        if self.failure is None:
            self.failure = failure
            self._idle.set()  # nobody waits for what will not end
            self._on_failure(failure)

    async def _watch_age(self) -> None:
        """The producer has its own time-outs; this one holds whatever becomes of them, and of what was fetched.

        Of each partition by itself: one input that is never done keeps all behind it from being committed, and nothing
        reads it again but a restart, however well the others go on.
        """
        loop = asyncio.get_running_loop()
        seen: dict[tuple[str, int], tuple[int, float]] = {}  # the first unfinished offset, and since when it is that
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            now_s = loop.time()
            known, seen = seen, {}
            for partition, offset in self._ledger.oldest_unfinished().items():
                before = known.get(partition)
                seen[partition] = before if before is not None and before[0] == offset else (offset, now_s)
                if now_s - seen[partition][1] > self._ack_timeout_s:
                    self.fail(StalledError(f"{partition}: offset {offset} is not done after {self._ack_timeout_s} s"))
                    return


def oversize(step: Step) -> str | None:
    """Return what of the step the broker would refuse for its size, or None. Who decides should ask first.

    A worker that is given such a step stops, and would stop again at the same record after every restart.
    """
    for row in step.rows:
        if row.value is not None and len(row.value) > MAX_ROW_BYTES:
            return f"row of table {row.table}: {len(row.value)} bytes, at most {MAX_ROW_BYTES}"
    for message in step.speak:
        limit = MAX_LETTER_BYTES if message.topic == DLQ else MAX_MESSAGE_BYTES
        if (size := _message_bytes(message)) > limit:
            return f"message for {message.topic}: {size} bytes, at most {limit}"
    return None


def _message_bytes(message: Outgoing) -> int:
    # Asked twice of every message: this form makes no step of Python's for each header.
    headers = sum(map(len, chain.from_iterable(message.headers))) + HEADER_OVERHEAD_BYTES * len(message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers
