"""The worker: takes requests from the log, keeps many calls in flight, commits only what is durable.

Started by `payment-engine executor` through `bootstrap`. Calls aiokafka for records, `handling` for each of them.

* Intake: it polls for as many records as it has room for, so nothing is taken that does not start at once, and a revoke
  finds nothing waiting. aiokafka keeps the membership alive meanwhile, in the background.
* A rebalance: aiokafka stops the intake by itself; the worker waits (bounded) for the calls under way, commits, lets
go.
* A crash: the committed offset is the lowest not done, so a restart repeats at most what was in flight or not yet
  committed, with the same gateway keys, and nothing whose answer is on the log (`answers`).
* A freeze: what it holds when it wakes up is not begun before the group has said that the partition is still its own
  (`lease`).
* A defect or a log that cannot be written ends the worker with the error, after the same drain: nothing is skipped.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from gateway_adapters.contract import Gateway
from schemas.identifiers import GatewayName
from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from streams.executor.answers import Memory, ReadPast
from streams.executor.committer import Committer
from streams.executor.handling import RequestHandler
from streams.executor.offset_tracker import OffsetTracker
from streams.executor.options import MAX_POLL_RECORDS, ExecutorOptions
from streams.executor.partitions import OwnedPartitions
from streams.executor.results_tail import ResultsTail
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import GroupConsumer, build_group_consumer, watch_heartbeats, watch_joins
from streams.kafka_clients.errors import LogError, RetryableError, classify
from streams.kafka_clients.lease import Lease, now_s
from streams.kafka_clients.log_clock import BROKER_TIME, LogClock, wall_clock_ms
from streams.kafka_clients.log_reader import log_record_of
from streams.kafka_clients.producer import LogWriter
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

POLL_TIMEOUT_MS = 1_000
START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0
END_OFFSETS_TIMEOUT_S = 5.0
MAX_POLL_FAILURES = 30
"""In a row, one a second: then the worker stops and whoever supervises it starts a fresh one."""

POLL_RETRY_AFTER_S = 1.0


class GatewayExecutor:
    """One worker of the group. Lives on one event loop; start it once."""

    def __init__(
        self,
        connection: KafkaConnection,
        codec: MessageCodec,
        gateways: Mapping[GatewayName, Gateway],
        options: ExecutorOptions | None = None,
        *,
        clock_ms: Callable[[], int] = wall_clock_ms,
        clock_s: Callable[[], float] = now_s,
        consumer: GroupConsumer | None = None,
        writer: LogWriter | None = None,
        read_past: ReadPast | None = None,
    ) -> None:
        """The gateways belong to the caller, who closes them after `stop`. The log's clients are given by tests.

        `ready` is set once this worker is a member of the group and has been told its partitions.
        """
        self._options = options or ExecutorOptions()
        self._connection = connection
        # Twice: what a bounded wait gave up still counts until the broker settles it.
        self._writer = writer or LogWriter(connection, max_in_flight=2 * self._options.max_calls_in_flight)
        self._given_consumer = consumer
        tail = ResultsTail(
            connection, results_topic=self._options.results_topic, requests_topic=self._options.requests_topic
        )
        self._clock = LogClock(wall_ms=clock_ms)
        self._memory = Memory(read_past or tail.read, clock_ms=self._clock.now_ms)
        self._lease = Lease(session_timeout_s=self._options.session_timeout_s, clock_s=clock_s)
        self._handler = RequestHandler(
            codec=codec,
            gateways=gateways,
            writer=self._writer,
            options=self._options,
            clock=self._clock,
            memory=self._memory,
            lease=self._lease,
        )
        self._owned = OwnedPartitions()
        self._tasks: dict[asyncio.Task[None], TopicPartition] = {}
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stopped = False
        self._one_stop = asyncio.Lock()
        self._failure: BaseException | None = None
        self._consumer: GroupConsumer | None = None
        self._asked_at_s: Callable[[], float | None] = lambda: None
        self._committer: Committer | None = None
        self._loops: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests taken and not done."""
        return len(self._tasks)

    async def start(self) -> None:
        """Connect, join the group and begin. After an error nothing is left running.

        Raises: RetryableError, MisconfiguredError.
        """
        self._consumer = self._given_consumer or build_group_consumer(
            self._connection,
            group=self._options.group,
            instance_id=self._options.instance_id,
            session_timeout_s=self._options.session_timeout_s,
            rebalance_timeout_s=self._options.rebalance_timeout_s,
            max_poll_interval_s=self._options.max_poll_interval_s,
        )
        self._committer = Committer(self._consumer, self._owned, interval_s=self._options.commit_interval_s)
        try:
            await self._writer.start()
            self._consumer.subscribe(topics=[self._options.requests_topic], listener=_Rebalances(self))
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._consumer.start()
            if self._given_consumer is None:
                watch_heartbeats(self._consumer, self._lease.renewed)
                self._asked_at_s = watch_joins(self._consumer)
        except (KafkaError, LogError, MisconfiguredError, TimeoutError, OSError) as error:
            await self._close()
            raise classify(error) from error
        self._loops = [self._watched(self._take_requests()), self._watched(self._committer.run())]

    async def run(self) -> None:
        """Start, work until `request_stop` or a failure, drain, and return. Raises: whatever ended the worker."""
        await self.start()
        await self._stopping.wait()
        await self.stop()

    def request_stop(self) -> None:
        """Ask `run` to drain and return; may be a signal handler. Calling it twice is safe."""
        self._stopping.set()

    async def stop(self) -> None:
        """Stop the intake, wait (bounded) for the calls under way, commit, leave. Calling it twice is safe.

        Raises: what ended the worker, if a failure did.
        """
        self._stopping.set()
        async with self._one_stop:
            if not self._stopped:
                for loop in self._loops:
                    loop.cancel()
                await asyncio.gather(*self._loops, return_exceptions=True)
                self._leave(self._owned.all())
                await self._drain(list(self._tasks))
                await self._commit()
                await self._close()
                self._stopped = True
        if self._failure is not None:
            raise self._failure

    async def _close(self) -> None:
        self._handler.abandon()
        for task in self._tasks:
            task.cancel()
        if self._consumer is not None:
            await asyncio.wait([asyncio.ensure_future(self._consumer.stop())], timeout=CLOSE_TIMEOUT_S)
        await self._writer.stop()

    def _watched(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._fail_on_error)
        return task

    def _fail_on_error(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if self._failure is None:
                self._failure = error
                log.error("executor_failed", exc_info=error)
            self._stopping.set()

    async def _take_requests(self) -> None:
        assert self._consumer is not None
        failures = 0
        while not self._stopping.is_set():
            room = self._options.max_calls_in_flight - len(self._tasks)
            if room <= 0:
                self._room.clear()
                await self._room.wait()  # bounded: every call has its time-out, and so has its result
                continue
            try:
                batches = await self._consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=min(room, MAX_POLL_RECORDS)
                )
            except KafkaError as error:
                failures += 1
                await self._poll_failed(error, failures)
                continue
            failures = 0
            for record in (each for records in batches.values() for each in records):
                if record.timestamp_type == BROKER_TIME:  # before any call: one may depend on it
                    self._clock.saw(record.timestamp)
            # No await between the poll and the last begin: a revoke never finds a record taken but not begun.
            for partition, records in batches.items():
                for record in records:
                    self._begin(partition, record)

    async def _poll_failed(self, error: KafkaError, failures: int) -> None:
        mapped = classify(error)
        if not isinstance(mapped, RetryableError) or failures >= MAX_POLL_FAILURES:
            raise mapped from error
        log.warning("poll_failed", error=type(error).__name__, count=failures)
        await asyncio.sleep(POLL_RETRY_AFTER_S)

    def _begin(self, partition: TopicPartition, record: Any) -> None:
        tracker = self._owned.begin(partition, record.offset)
        before = self._owned.maybe_seen_before(partition, record.offset)
        task = self._watched(self._handle(partition, record, tracker, maybe_sent_before=before))
        self._tasks[task] = partition
        task.add_done_callback(self._ended)
        metrics.count("executor_calls_in_flight", 1)

    async def _handle(
        self, partition: TopicPartition, record: Any, tracker: OffsetTracker, *, maybe_sent_before: bool
    ) -> None:
        if self._lets_go(partition, tracker):  # revoked before this began: nor may it read the memory anew
            return
        answers = await self._memory.of(partition.partition, first_at_ms=record.timestamp)
        while not self._lease.holds() and self._owned.is_current(partition, tracker):
            log.warning("lease_over", partition=partition.partition, offset=record.offset)
            await self._lease.changed()  # ends with a heartbeat, or with the loss of the partition
        if self._lets_go(partition, tracker):
            return
        await self._handler.handle(log_record_of(record), answers, maybe_sent_before=maybe_sent_before)
        tracker.complete(record.offset)
        assert self._committer is not None
        self._committer.wake()

    def _lets_go(self, partition: TopicPartition, tracker: OffsetTracker) -> bool:
        """Return whether a request is the next owner's to take: it is not done, so not committed."""
        if self._owned.is_current(partition, tracker):
            return False
        metrics.count("executor_requests_let_go")
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._room.set()
        metrics.count("executor_calls_in_flight", -1)

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=self._options.drain_timeout_s)
        if left:
            metrics.count("executor_calls_abandoned", len(left))
            log.warning("drain_timed_out", abandoned=len(left), timeout_s=self._options.drain_timeout_s)

    async def _commit(self) -> None:
        if self._committer is None:
            return
        with contextlib.suppress(
            LogError, MisconfiguredError
        ):  # refused, say, for want of a right: the next owner repeats
            await self._committer.commit()

    async def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Drain, commit and forget partitions; called while the group waits for this member."""
        gone = set(partitions)
        self._leave(gone)
        await self._drain([task for task, partition in self._tasks.items() if partition in gone])
        await self._commit()
        self._owned.revoked(gone)
        log.info("partitions_revoked", partitions=len(gone), in_flight=len(self._tasks))

    def _leave(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin nothing more of these; what waits to begin ends."""
        gone = set(partitions)
        self._owned.leaving(gone)
        self._memory.forget(each.partition for each in gone)
        self._lease.wake()

    async def take_over(self, partitions: Iterable[TopicPartition]) -> None:
        """Note where the log of the new partitions ends now: what lies below may have been sent by an earlier owner."""
        assert self._consumer is not None
        self._lease.renewed(self._asked_at_s())
        come = list(partitions)
        self._memory.forget(each.partition for each in come)  # read anew: another worker may have answered since
        try:
            async with asyncio.timeout(END_OFFSETS_TIMEOUT_S):
                self._owned.assigned(await self._consumer.end_offsets(come) if come else {})
        except (KafkaError, TimeoutError) as error:
            # Everything counts as sent before then: that is safe, and only costs an inquiry here and there.
            log.warning("end_offsets_unknown", error=type(error).__name__)
        metrics.level("executor_partitions", len(come))
        log.info("partitions_assigned", partitions=len(come))
        self.ready.set()


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Tells the worker what comes and goes."""

    def __init__(self, worker: GatewayExecutor) -> None:
        self._worker = worker

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions go: drain, commit, let go."""
        await self._worker.give_up(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Partitions come."""
        await self._worker.take_over(assigned)
