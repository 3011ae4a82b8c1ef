"""A worker: one handler over co-partitioned source topics, with its tables, on a real log.

For: `streams.bootstrap` (apps `orders` and `claims`) and the fault tests. Calls: `faust_fences.worker_app` and its
overrides, `pipeline`, `row_tables`, `topic_check`. It runs on the event loop of its caller, installs no
signal handlers and serves no HTTP: whoever starts it watches `ready` and `crashed`.

    worker = build_worker(app_id="orders", source_topics=[…], tables=["orders"], handler=…, …)
    await worker.run()          # until `worker.request_stop()`; raises what crashed it
"""

import asyncio
import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import structlog
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types import TP

from schemas.topics import changelog_topic
from streams.kafka.best_effort import LIFE_S, BestEffortSender
from streams.kafka.changelog_ledger import ChangelogLedger
from streams.kafka.errors import NotCopartitionedError, WorkerError
from streams.kafka.faust_fences.tables import ChangelogTable
from streams.kafka.faust_fences.worker_app import FaustParts, WorkerApp, WorkerHooks, build_app, credentials_of
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.pipeline import Acknowledged, Pipeline
from streams.kafka.row_tables import AGAIN_MS, RowTable
from streams.kafka.stamps import generation_above
from streams.kafka.step import DueRow, Handler, Headers, InputEvent, PartitionsReady, PartitionsRevoked, TableRow
from streams.kafka.topic_check import check_topics
from streams.kafka.worker_settings import MAX_MESSAGE_BYTES, WorkerSettings
from streams.kafka_clients.aiokafka_fences.abandonable import AbandonableProducer
from streams.kafka_clients.aiokafka_fences.fenced_consumer import MembershipEndedError
from streams.kafka_clients.lease import Lease
from streams.kafka_clients.log_clock import wall_clock_ms

FAILED_STOP_TIMEOUT_S = 15.0
"""Longest stop after a failure: nothing is waited for that matters, the log has it all."""

TABLES_MAX = 16
"""Tables of one worker."""

INPUTS_A_TURN = 32
"""Records handled before everybody else on the event loop gets a turn: some ten milliseconds of work."""

MEMBERSHIP_LOOK_S = 1.0
"""Between two looks whether the worker takes part in its group."""

MAX_RECORD_TIME_S = 253_402_300_799.0
"""The last second of the year 9999, where RFC 3339 ends."""

_VALUE_OF = operator.itemgetter(1)

log = structlog.get_logger(__name__)


def record_time_ms(timestamp_s: float) -> int:
    """Return a record's time in whole milliseconds, within the years 1970 to 9999.

    It is its sender's word, who may be a stranger; a time that cannot be written as text would stop the worker.
    """
    return round(min(max(timestamp_s, 0.0), MAX_RECORD_TIME_S) * 1000)


class Worker:
    """Made by `build_worker`. Runs once."""

    def __init__(
        self,
        *,
        app: WorkerApp,
        tables: Sequence[RowTable],
        handler: Handler,
        bootstrap_servers: str,
        partitions: int,
        settings: WorkerSettings,
        on_partitions_ready: PartitionsReady,
        on_partitions_revoked: PartitionsRevoked,
    ):
        self.app = app
        """The Faust app, for tests and diagnosis."""
        self._bootstrap_servers = bootstrap_servers
        self._partitions = partitions
        self._settings = settings
        self._tables = {table.name: table for table in tables}
        self._on_partitions_ready = on_partitions_ready
        self._on_partitions_revoked = on_partitions_revoked
        self._replay_ends: dict[TP, int] = {}
        self._owned: frozenset[int] = frozenset()
        self._ended = asyncio.Event()
        self._serving = False
        self._starting: asyncio.Task[None] | None = None
        self._watches: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()
        """Set when the first assignment is recovered and inputs flow; stays set."""
        self.crashed: BaseException | None = None
        """What stopped the worker, if it did not stop because it was asked to."""
        self._replies = BestEffortSender(self._build_reply_producer)
        self._changelogs = {name: changelog_topic(app.conf.id, name) for name in self._tables}
        self.pipeline = app.pipeline = Pipeline(
            tables=self._tables,
            changelogs=self._changelogs,
            handler=handler,
            ledger=app.ledger,
            lease=app.lease,
            send=self._send,
            say=self._replies.say,
            on_failure=self._crash,
            max_inputs_in_flight=settings.max_inputs_in_flight,
            drain_timeout_s=settings.drain_timeout_s,
            ack_timeout_s=settings.ack_timeout_s,
        )
        app.hooks = WorkerHooks(
            lanes_ready=self._lanes_ready, lanes_revoked=self._lanes_revoked, worker_ready=self._inputs_flow
        )

    def faults(self) -> tuple[str, ...]:
        """Return what keeps this worker from handling inputs now, for a person; empty: nothing does.

        A worker that its group has left without a partition is ready: it takes over when another ends.
        """
        if self._ended.is_set():
            return ("stopping",)
        if self._starting is None:
            return ("waiting for the topics",)
        if not self._serving:
            return ("recovering" if self.app.has_assignment() else "no partitions assigned yet",)
        return () if self.app.lease.holds() else ("its group does not answer",)

    async def start(self) -> None:
        """Check the topics and start; returns once inputs flow, or the worker has failed or been stopped.

        Raises:
            TopicsNotReadyError: topics are missing or have another partition count.
        """
        await check_topics(
            bootstrap_servers=self._bootstrap_servers,
            partitions=self._partitions,
            topics=[*self.app.source_topics, *self._changelogs.values()],
            security=self._security(),
        )
        self._watches = [
            asyncio.create_task(watch(), name="worker-watch") for watch in (self._watch_app, self._watch_membership)
        ]
        self._starting = asyncio.create_task(self.app.start(), name="worker-start")
        ended = asyncio.create_task(self._ended.wait())
        try:
            # Faust's own start waits for the first recovery, whatever becomes of the worker meanwhile.
            await asyncio.wait([self._starting, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if self._starting.done():
            self._starting.result()

    async def run(self) -> None:
        """Start, serve until `request_stop` or a failure, stop.

        Raises:
            BaseException: what crashed the worker; nothing unacknowledged was committed.
        """
        try:
            await self.start()
            await self._ended.wait()
        finally:
            await self.stop()
        if self.crashed is not None:
            raise self.crashed

    def request_stop(self) -> None:
        """Make `run` stop cleanly. Safe in a signal handler of the loop, and to call twice."""
        self._ended.set()

    async def stop(self) -> None:
        """Finish what is in flight, commit it, leave; after a failure only leave. Safe to call twice."""
        timeout_s = self._settings.stop_timeout_s if self.crashed is None else FAILED_STOP_TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s):
                await self.app.stop()
        except TimeoutError:
            log.warning("stop_timed_out", app=self.app.conf.id, timeout_s=timeout_s)
        finally:
            self.pipeline.close_lanes()
            self._owned = frozenset()  # so that nobody who asks for what is due opens them again
            for table in self._tables.values():
                table.keep_only(())
            self._ended.set()
            await self._end_own_tasks()
            await self._replies.stop()

    async def _end_own_tasks(self) -> None:
        own = [*self._watches, *([] if self._starting is None else [self._starting])]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)  # a failed start has raised in `start`

    def _build_reply_producer(self) -> AbandonableProducer:
        return AbandonableProducer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._settings.client_id,
            acks=1,
            request_timeout_ms=round(LIFE_S * 1000),
            max_request_size=MAX_MESSAGE_BYTES,
            **self._security(),
        )

    def _security(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = credentials_to_aiokafka_auth(
            credentials_of(self._settings), self._settings.ssl_context
        )
        return options

    async def _send(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int | None, headers: Headers
    ) -> asyncio.Future[Acknowledged]:
        # The typed signature is aiokafka's; Faust wraps that producer only to start and stop it.
        producer: Any = self.app.producer
        future: asyncio.Future[Acknowledged] = await producer.open_producer().send(
            topic, value, key=key, partition=partition, headers=list(headers)
        )
        return future

    async def take_all(self, queue: Any) -> None:
        """Every record that Faust delivers, until the queue raises; many of them in one turn of the event loop.

        Not by iterating over the stream: that acknowledges what raised or was cancelled, and it gives the
        loop a turn before every record, so that each record's rows left in a request of their own. Passed over is what
        Faust's stream passes over too: records from before a rebalance, which are read again from what is committed.
        """
        while True:
            for _ in range(INPUTS_A_TURN):
                event = await queue.get()  # suspends only when there is none
                if self.app.is_current(event.message):
                    await self.take(event.message)
            await asyncio.sleep(0)

    async def take(self, message: Any) -> None:
        """One record from Faust's queue, into the pipeline."""
        await self.pipeline.take(
            InputEvent(
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                timestamp_ms=record_time_ms(message.timestamp),
                key=message.key,
                value=message.value,
                headers=_headers_of(message),
                possible_replay=message.offset < self._replay_ends.get(message.tp, 0),
            )
        )

    async def _lanes_ready(self, generation: int) -> None:
        sources = [TP(*tp) for tp in self.app.consumer.assignment() if tp.topic in self.app.source_topics]
        numbers = self._copartitioned(sources)
        consumer: Any = self.app.consumer  # Faust's interface does not know `log_ends`
        self._replay_ends = await consumer.log_ends(sources) if sources else {}
        if not self.app.is_assigned(generation):
            return  # the next assignment is under way
        self.pipeline.open_lanes({number: self._write_generation(number, generation) for number in numbers})
        if self.pipeline.failure is not None:
            return  # the worker is about to stop
        await self.pipeline.rewrite_regressed()
        if not self.app.is_assigned(generation):
            return  # else partitions that went away would be opened again, and be taken for owned
        self._owned = numbers
        await self._on_partitions_ready(numbers, self._rows_of(numbers))
        log.info("partitions_ready", app=self.app.conf.id, generation=generation, partitions=sorted(numbers))

    def _copartitioned(self, sources: Sequence[TP]) -> frozenset[int]:
        numbers = frozenset(tp.partition for tp in sources)
        if len(sources) != len(numbers) * len(self.app.source_topics):
            raise NotCopartitionedError(f"assigned unevenly: {sorted(sources)}")
        return numbers

    def _write_generation(self, number: int, generation: int) -> int:
        """Above any in the partition; the group's own may stay (static member) or begin anew (forgotten group)."""
        seen = max(table.partition(number).highest_generation for table in self._tables.values())
        return generation_above(seen, generation)

    def live_rows(self, table: str) -> Iterator[TableRow]:
        """The acknowledged rows of one table in the owned partitions, lazily; rows may change while it is read.

        A partition that goes away meanwhile is left where it is, and not opened again.
        """
        for number in sorted(self._owned):
            if number in self._owned:
                yield from self._tables[table].live_rows(number)

    @property
    def owned(self) -> frozenset[int]:
        """The partitions that are this worker's now."""
        return self._owned

    def due_rows(self, table: str, number: int, now_ms: int, limit: int) -> list[DueRow]:
        """Return the first so many acknowledged rows whose time has come; the same again until `pass_over_due`.

        None for a partition that has gone. See `RowTable.due_rows`.
        """
        return self._tables[table].due_rows(number, now_ms, limit) if number in self._owned else []

    def pass_over_due(self, table: str, due: DueRow) -> None:
        """Go on behind this row; nothing for a partition that has gone."""
        if due.partition in self._owned:
            self._tables[table].pass_over(due)

    def live_count(self, table: str) -> int:
        """Return how many rows of a table are here, those of standbys included and deleted ones left out."""
        return self._tables[table].live_count()

    def row(self, table: str, number: int, key: bytes) -> bytes | None:
        """Return an acknowledged row; None when there is none, and for a partition that has gone."""
        row = self._tables[table].partition(number).get(key) if number in self._owned else None
        return None if row is None else row.value

    def has_done(self, topic: str, number: int, offset: int) -> bool:
        """Return whether everything that this input caused is acknowledged, and that of all inputs before it."""
        return self.app.ledger.is_done(TP(topic, number), offset)

    def _rows_of(self, numbers: frozenset[int]) -> Iterator[TableRow]:
        return chain.from_iterable(table.live_rows(n) for table in self._tables.values() for n in sorted(numbers))

    def _inputs_flow(self) -> None:
        self._serving = True
        self.ready.set()

    async def _lanes_revoked(self) -> None:
        self._serving = False
        self.pipeline.close_lanes()
        revoked, self._owned = self._owned, frozenset()
        if revoked:
            self._on_partitions_revoked(revoked)

    def _crash(self, failure: BaseException) -> None:
        if self.crashed is None:
            self.crashed = failure
            log.error("worker_crashed", app=self.app.conf.id, error=repr(failure), exc_info=failure)
            self.app.flow_control.suspend()
            self._ended.set()

    async def _watch_app(self) -> None:
        """Faust's own services crash their root; that is the app."""
        await self.app.wait_for_crash()
        self.pipeline.fail(self.app.crash_reason or WorkerError("Faust crashed without a reason"))

    def _confirm_rows(self) -> None:
        if self.app.lease.holds():  # else the machine may have slept, and another may own them
            for table in self._tables.values():
                table.confirm(self._owned)

    async def _watch_membership(self) -> None:
        """A worker that fetches nothing would not notice otherwise, nor would one that was given no partition."""
        try:
            while True:
                await asyncio.sleep(MEMBERSHIP_LOOK_S)
                self.app.check_membership()
                self._confirm_rows()
        except MembershipEndedError as ended:
            self.pipeline.fail(ended)


async def _nothing_to_load(_numbers: frozenset[int], _rows: Iterator[TableRow]) -> None:
    """What a worker does with the rows of its partitions that keeps nothing beside its tables."""


def build_worker(
    *,
    app_id: str,
    bootstrap_servers: str,
    source_topics: Sequence[str],
    tables: Sequence[str],
    partitions: int,
    handler: Handler,
    settings: WorkerSettings | None = None,
    on_partitions_ready: PartitionsReady = _nothing_to_load,
    on_partitions_revoked: PartitionsRevoked = lambda _numbers: None,
    dues: Mapping[str, float] = MappingProxyType({}),
    parts: FaustParts | None = None,
    now_ms: Callable[[], int] = wall_clock_ms,
) -> Worker:
    """Returns a worker that is not started. Call it on the loop that will run it.

    Args:
        app_id: the consumer group; also names the changelogs (`schemas.topics.changelog_topic`).
        bootstrap_servers: `host:port` with commas.
        source_topics: read as one; an input's partition number is its lane, whatever its topic.
        tables: names; each has a compacted changelog topic, created beforehand.
        partitions: of every source and changelog topic.
        handler: decides; synchronous.
        settings: see `WorkerSettings`.
        on_partitions_ready: awaited before the first input of an assignment, with the rows of its partitions.
        on_partitions_revoked: called after the last commit of an assignment.
        dues: the tables whose every row says when it is due (`RowWrite.due`); for each, the seconds after which a row
            that was handed out, and is still there, is handed out again.
        parts: replaced parts of Faust; for tests.
        now_ms: the clock for the age of local rows.

    Raises:
        ValueError: no source topic, no table, too many tables or a bad table name.
    """
    if not source_topics or not 1 <= len(tables) <= TABLES_MAX:
        raise ValueError(f"a worker needs source topics and 1 to {TABLES_MAX} tables")
    chosen = settings or WorkerSettings()
    app = build_app(
        app_id=app_id,
        bootstrap_servers=bootstrap_servers,
        partitions=partitions,
        settings=chosen,
        parts=parts or FaustParts(),
    )
    app.ledger = OffsetLedger()
    app.changelog_ledger = ChangelogLedger()
    app.lease = Lease(session_timeout_s=chosen.session_timeout_s)
    app.source_topics = frozenset(source_topics)
    row_tables = [
        RowTable(
            name,
            data_dir=chosen.data_dir,
            now_ms=now_ms,
            has_dues=name in dues,
            again_ms=round(dues[name] * 1000) if name in dues else AGAIN_MS,
        )
        for name in tables
    ]
    for table in row_tables:
        app.tables.add(ChangelogTable(app, table, partitions=partitions))
    worker = Worker(
        app=app,
        tables=row_tables,
        handler=handler,
        bootstrap_servers=bootstrap_servers,
        partitions=partitions,
        settings=chosen,
        on_partitions_ready=on_partitions_ready,
        on_partitions_revoked=on_partitions_revoked,
    )
    _attach_agent(app, worker, source_topics)
    return worker


def _headers_of(message: Any) -> Headers:
    """Return the headers of a record. Kafka allows one without a value, which is an empty one from here on."""
    headers: Headers = tuple(message.headers or ())
    if None in map(_VALUE_OF, headers):
        return tuple((name, value or b"") for name, value in headers)
    return headers  # nearly always: no step of Python's for each


def _attach_agent(app: WorkerApp, worker: Worker, source_topics: Sequence[str]) -> None:
    # "raw" beside the types: without it Faust takes the values for JSON, and crashes on Avro (6).
    topic = app.topic(
        *source_topics,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
    )

    async def read(stream: Any) -> None:
        await stream.maybe_start()
        app.source_queue = stream.channel.queue
        with contextlib.suppress(StopAsyncIteration):  # how Faust says through the queue that it stops
            await worker.take_all(app.source_queue)
        stream.channel.on_stop_iteration()

    app.agent(topic, name="pipeline")(read)
