"""The worker: takes records from the log, keeps many under way, commits only what is done.

Started by whoever brings a handler: the executor, bridges, stores. Calls the consumer for records, `attempts` for each
of them.

* Intake: it polls for as many records as it has room for, so nothing is taken that does not start at once (or, by key,
  as soon as its key is free), and a revoke finds nothing waiting. aiokafka keeps the membership alive meanwhile.
* A rebalance: aiokafka stops the intake by itself; the worker waits (bounded) for what is under way, commits, lets go.
  With `hand_over_s` it does not wait: it writes down beside its commit what is under way (`hand_over`), and lets go.
* A crash: the committed offset is the lowest not done, so a restart repeats at most what was taken and not committed.
* A freeze: what it holds when it wakes up is not begun before the group has said that the partition is still its own
  (`lease`).
* A defect, or a log that cannot be written, ends the worker with the error, after the same drain: nothing is skipped,
  and nothing more is begun, of no key and no partition.
"""

import asyncio
import contextlib
import random
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import GroupConsumer, build_group_consumer
from streams.kafka_clients.errors import LogError, RetryableError, classify
from streams.kafka_clients.lease import Lease, now_s
from streams.kafka_clients.log_clock import BROKER_TIME, LogClock
from streams.kafka_clients.log_reader import LogRecord, log_record_of
from streams.kafka_clients.open_transactions import LOOK_INTERVAL_S, OpenTransactions
from streams.kafka_clients.producer import LogWriter
from streams.log_worker.appending import PatientWriter
from streams.log_worker.attempts import Attempts, Chance
from streams.log_worker.committer import Committer
from streams.log_worker.errors import HandlerCancelledError, PartitionLostError
from streams.log_worker.hand_over import HandOver, hand_over_of
from streams.log_worker.handler import Delivery, RecordHandler
from streams.log_worker.options import LogWorkerOptions, Ordering
from streams.log_worker.owned_partitions import OwnedPartition, OwnedPartitions
from streams.log_worker.room import Room, size_of
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

POLL_TIMEOUT_MS = 1_000
SHORT_POLL_TIMEOUT_MS = 50
"""While a partition is paused: so soon it is asked again once it has room."""

START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0
END_OFFSETS_TIMEOUT_S = 5.0
QUICK_DRAIN_S = 0.2
"""Before partitions are handed over as they are: what ends within this leaves nothing to the next owner."""

QUICK_DRAIN_STEP_S = 0.05
"""When nothing at all has ended for so long, the rest is not about to."""

MAX_POLL_FAILURES = 30
"""In a row, one a second: then the worker stops and whoever supervises it starts a fresh one."""

POLL_RETRY_AFTER_S = 1.0

BuildConsumer = Callable[[KafkaConnection, LogWorkerOptions], GroupConsumer]
"""Makes an unstarted member of the options' group."""

_Key = tuple[TopicPartition, bytes]


class _Taken(NamedTuple):
    """What a record that is under way holds."""

    partition: TopicPartition
    size: int
    key: _Key | None


def member_of(connection: KafkaConnection, options: LogWorkerOptions) -> GroupConsumer:
    """Return an unstarted member of the options' group, on Apache Kafka."""
    member: GroupConsumer = build_group_consumer(
        connection,
        group=options.group,
        instance_id=options.instance_id,
        session_timeout_s=options.session_timeout_s,
        rebalance_timeout_s=options.rebalance_timeout_s,
        max_poll_interval_s=options.max_poll_interval_s,
    )
    return member


class LogWorker:
    """One worker of a group. Lives on one event loop; start it once."""

    def __init__(
        self,
        connection: KafkaConnection,
        codec: MessageCodec,
        handler: RecordHandler,
        options: LogWorkerOptions,
        *,
        writer: LogWriter | None = None,
        clock: LogClock | None = None,
        clock_s: Callable[[], float] = now_s,
        chance: Chance = random.random,
        build_consumer: BuildConsumer = member_of,
    ) -> None:
        """`ready` is set once this worker is a member of the group and has been told its partitions.

        Args:
            connection: the broker.
            codec: encodes dead letters.
            handler: what the worker is for.
            options: limits, time-outs, names.
            writer: appends dead letters, and whatever the handler appends; started and stopped with the worker.
            clock: is told the time of each record that a broker has dated, before that record is begun.
            clock_s: the lease's clock, seconds.
            chance: for the jitter.
            build_consumer: makes the member of the group.
        """
        self._connection = connection
        self._handler = handler
        self._options = options
        # Twice: what a bounded wait gave up still counts until the broker settles it.
        self._writer = writer or LogWriter(connection, max_in_flight=2 * options.max_records)
        self._clock = clock or LogClock()
        self._lease = Lease(session_timeout_s=options.session_timeout_s, clock_s=clock_s)
        self._build_consumer = build_consumer
        self._room = Room(
            max_records=options.max_records,
            max_bytes=options.max_bytes,
            max_record_bytes=options.max_record_bytes,
            clock_s=clock_s,
        )
        self._attempts = Attempts(
            handler,
            options,
            codec=codec,
            writer=PatientWriter(self._writer, component=options.component),
            room=self._room,
            chance=chance,
        )
        self._ordered = options.ordering is Ordering.BY_KEY
        self._owned = OwnedPartitions(self._anything_left)
        self._tasks: dict[asyncio.Task[None], _Taken] = {}
        self._last_of_key: dict[_Key, asyncio.Task[None]] = {}
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
        """Records taken and not done."""
        return self._room.records

    @property
    def bytes_in_flight(self) -> int:
        """What these hold, bytes; 0 where no bound is set, since nobody weighs them then."""
        return self._room.bytes

    def faults(self) -> tuple[str, ...]:
        """Return what keeps this worker from taking records now, for a person; empty: nothing does."""
        if self._stopping.is_set():
            return ("stopping",)
        if not self.ready.is_set():
            return ("not a member of its group yet",)
        return () if self._lease.holds() else ("its group does not answer",)

    async def start(self) -> None:
        """Connect, join the group and begin. After an error nothing is left running.

        Raises: RetryableError, MisconfiguredError.
        """
        self._consumer = self._build_consumer(self._connection, self._options)
        self._committer = Committer(
            self._consumer,
            self._owned,
            component=self._options.component,
            interval_s=self._options.commit_interval_s,
            clock_ms=self._clock.now_ms,
        )
        try:
            await self._writer.start()
            self._consumer.subscribe(topics=list(self._options.topics), listener=_Rebalances(self))
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._consumer.start()
            self._asked_at_s = self._consumer.watch_membership(self._lease.renewed)
        except (KafkaError, LogError, MisconfiguredError, TimeoutError, OSError) as error:
            await self._close()
            raise classify(error) from error
        intake = self._watched(self._take_records())
        loops = (self._committer.run(), self._look_how_far_it_is_read(self._committer, intake))
        self._loops += [intake, *map(self._watched, loops)]  # beside what joining the group has begun

    async def run(self) -> None:
        """Start, work until `request_stop` or a failure, drain, and return. Raises: whatever ended the worker."""
        await self.start()
        await self._stopping.wait()
        await self.stop()

    def request_stop(self) -> None:
        """Ask `run` to drain and return; may be a signal handler. Calling it twice is safe."""
        self._stopping.set()

    async def stop(self) -> None:
        """Stop the intake, wait (bounded) for what is under way, commit, leave. Calling it twice is safe.

        With `hand_over_s` it leaves before it waits.

        Raises: what ended the worker, if a failure did.
        """
        self._stopping.set()
        async with self._one_stop:
            if not self._stopped:
                for loop in self._loops:
                    loop.cancel()
                await asyncio.gather(*self._loops, return_exceptions=True)
                await self._end_work()
                await self._close()
                self._stopped = True
        if self._failure is not None:
            raise self._failure

    async def _end_work(self) -> None:
        gone = self._owned.all()
        self._leave(gone)
        if self._options.hand_over_s is not None:
            await self._hand_over(gone, within_s=self._options.hand_over_s)
            await self._leave_group()  # the others go on with the partitions, while this one ends what is under way
        await self._drain(list(self._tasks))
        if self._options.hand_over_s is None:
            await self._commit()

    async def _leave_group(self) -> None:
        if self._consumer is not None:
            await asyncio.wait([asyncio.ensure_future(self._consumer.stop())], timeout=CLOSE_TIMEOUT_S)

    async def _close(self) -> None:
        self._handler.abandon()
        for task in self._tasks:
            task.cancel()
        await self._leave_group()
        await self._writer.stop()

    def _watched(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._fail_on_error)
        return task

    def _fail_on_error(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if self._failure is None:
                self._failure = error
                log.error("worker_failed", component=self._options.component, exc_info=error)
            # Before whoever waits for this record by key looks again: it must not overtake one that is not done.
            self._owned.leave(self._owned.all())
            self._lease.wake()
            self._stopping.set()

    async def _take_records(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            free, partitions = self._free_where()
            if free <= 0:
                await self._room.changed()
                continue
            try:
                wait_ms = SHORT_POLL_TIMEOUT_MS if partitions else POLL_TIMEOUT_MS
                batches = await self._consumer_started.getmany(*partitions, timeout_ms=wait_ms, max_records=free)
            except KafkaError as error:
                failures += 1
                await self._poll_failed(error, failures)
                continue
            failures = 0
            self._begin_all(batches)

    @property
    def _consumer_started(self) -> GroupConsumer:
        assert self._consumer is not None
        return self._consumer

    def _free_where(self) -> tuple[int, Sequence[TopicPartition]]:
        """Return how many records to ask for, and of which partitions; none named: of all."""
        free, most = self._room.free(), self._options.max_records_per_partition
        if most is None:
            return free, ()
        lengths = self._owned.lengths()
        open_ones = {each: length for each, length in lengths.items() if length < most}
        if len(open_ones) == len(lengths):
            named: Sequence[TopicPartition] = ()
        else:
            named = list(open_ones)
            free = free if named else 0
        return min(free, most - max(open_ones.values(), default=0)), named

    def _begin_all(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        # No await from the poll to the last begin: a revoke never finds a record taken but not begun.
        for records in batches.values():
            for record in records:
                if record.timestamp_type == BROKER_TIME:  # before any is begun: one may depend on it
                    self._clock.saw(record.timestamp)
        for partition, records in batches.items():
            for record in records:
                self._begin(partition, record)
        self._tell_in_flight()

    def _tell_in_flight(self) -> None:
        """A metric for each poll, and for the last record that ends: one for each record costs more than it tells."""
        metrics.level("worker_records_in_flight", self._room.records, component=self._options.component)

    async def _look_how_far_it_is_read(self, committer: Committer, intake: asyncio.Task[None]) -> None:
        """Name partitions that wait behind a transaction; commit past what is no record, so that lag ends at zero."""
        waits = OpenTransactions()
        while not intake.done():  # one that failed may have left records of its last poll that it never began
            # A poll's records are begun before anybody else has a turn: what is below a position is taken, or nothing.
            places = self._consumer_started.read_places()
            waits.look(places)
            self._owned.read_to({each: place.position for each, place in places.items()})
            committer.wake()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _poll_failed(self, error: KafkaError, failures: int) -> None:
        mapped = classify(error)
        if not isinstance(mapped, RetryableError) or failures >= MAX_POLL_FAILURES:
            raise mapped from error
        metrics.count("worker_polls_failed", component=self._options.component, error=type(error).__name__)
        log.warning("poll_failed", error=type(error).__name__, count=failures, repeats=True)
        await asyncio.sleep(POLL_RETRY_AFTER_S)

    def _begin(self, partition: TopicPartition, raw: Any) -> None:
        record = log_record_of(raw)
        owned = self._owned.of(partition)
        owned.offsets.begin(record.offset)
        delivery = Delivery(owned, record.offset, self._lease)
        key, earlier = None, None
        if self._ordered and record.key is not None:
            key = (partition, record.key)
            earlier = self._last_of_key.get(key)
        task = self._watched(self._work(record, owned, delivery, earlier))
        size = 0 if self._options.max_bytes is None else size_of(record)
        self._tasks[task] = _Taken(partition, size, key)
        if key is not None:
            self._last_of_key[key] = task
        self._room.take(size)
        task.add_done_callback(self._ended)

    async def _work(
        self, record: LogRecord, owned: OwnedPartition, delivery: Delivery, earlier: asyncio.Task[None] | None
    ) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])  # bounded, as that one is; one that failed leaves nothing here to begin
        try:
            await self._attempts.finish(record, delivery)
        except PartitionLostError:
            # Not done, so not committed.
            metrics.count("worker_records_let_go", component=self._options.component)
            return
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if owned.is_ours and task is not None and not task.cancelling():
                # Not by `_close`: passed over in silence, it would keep its partition from being committed for ever.
                raise HandlerCancelledError(f"partition {record.partition}, offset {record.offset}") from error
            raise
        finally:
            owned.begun.discard(record.offset)
        owned.offsets.complete(record.offset)
        assert self._committer is not None
        self._committer.wake()

    def _ended(self, task: asyncio.Task[None]) -> None:
        taken = self._tasks.pop(task)
        if taken.key is not None and self._last_of_key.get(taken.key) is task:
            del self._last_of_key[taken.key]
        self._room.give_back(taken.size)
        if not self._room.records:
            self._tell_in_flight()

    async def _drain_quickly(self, tasks: Collection[asyncio.Task[None]]) -> None:
        clock, left = asyncio.get_running_loop().time, set(tasks)
        until_s = clock() + QUICK_DRAIN_S
        while left and (left_s := until_s - clock()) > 0:
            step_s = min(left_s, QUICK_DRAIN_STEP_S)
            done, left = await asyncio.wait(left, timeout=step_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return

    def _tasks_of(self, partitions: Collection[TopicPartition]) -> list[asyncio.Task[None]]:
        return [task for task, taken in self._tasks.items() if taken.partition in partitions]

    async def _wait_for(self, tasks: list[asyncio.Task[None]], limit_s: float) -> set[asyncio.Task[None]]:
        """Wait so long for these; returns what is still under way then."""
        return (await asyncio.wait(tasks, timeout=limit_s))[1] if tasks else set()

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        left = await self._wait_for(tasks, self._options.drain_timeout_s)
        if left:
            metrics.count("worker_records_abandoned", len(left), component=self._options.component)
            log.warning("drain_timed_out", abandoned=len(left), timeout_s=self._options.drain_timeout_s)

    async def _commit(self) -> None:
        if self._committer is None:
            return
        # Refused, say, for want of a right: the next owner repeats.
        with contextlib.suppress(LogError, MisconfiguredError):
            await self._committer.commit()

    async def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Drain or hand over, commit and forget partitions; called while the group waits for this member."""
        gone = set(partitions)
        self._leave(gone)
        if self._options.hand_over_s is None:
            await self._drain(self._tasks_of(gone))
            await self._commit()
        else:
            await self._hand_over(gone, within_s=self._options.hand_over_s)
        self._owned.revoked(gone)
        log.info("partitions_revoked", partitions=len(gone), in_flight=len(self._tasks))

    async def _hand_over(self, partitions: Collection[TopicPartition], *, within_s: float) -> None:
        """Let go of partitions as they are, and tell the next owner what is under way."""
        await self._drain_quickly(self._tasks_of(partitions))
        self._owned.hand_over(partitions, until_ms=self._clock.now_ms() + round(within_s * 1000))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.drain_timeout_s):
                await self._handler.settle(partitions)
        await self._commit()

    def _leave(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin nothing more of these; what waits to begin ends."""
        gone = set(partitions)
        self._owned.leave(gone)
        self._handler.forget(gone)
        self._lease.wake()

    async def take_over(self, partitions: Iterable[TopicPartition]) -> None:
        """Note where the log of new partitions ends now: what lies below may have been taken by an earlier owner."""
        self._lease.renewed(self._asked_at_s())
        come = self._owned.assigned(partitions)
        self._handler.forget(come)  # learnt anew: another worker may have been at work since
        if come and not await self._learn(come):
            # Everything counts as seen before then: that is safe, and only costs an inquiry here and there.
            under_way = [each for each in self._loops if not each.done()]
            self._loops = [*under_way, self._watched(self._learn_later(come))]
        metrics.level("worker_partitions", len(come), component=self._options.component)
        log.info("partitions_assigned", partitions=len(come))
        self._room.wake()
        self.ready.set()

    def _anything_left(self) -> HandOver | None:
        """Return what an earlier owner may have left under way, as long as nobody knows."""
        if self._options.hand_over_s is None:
            return None
        until_ms = self._clock.now_ms() + round(self._options.hand_over_s * 1000)
        return HandOver(until_ms=until_ms, taken_to=sys.maxsize, under_way=None)

    async def _learn(self, come: Mapping[TopicPartition, OwnedPartition]) -> bool:
        """Ask where the logs end now, and what earlier owners have left under way; return whether it is known."""
        try:
            async with asyncio.timeout(END_OFFSETS_TIMEOUT_S):
                ends = await self._consumer_started.end_offsets(list(come))
                notes = {} if self._options.hand_over_s is None else await self._consumer_started.notes(list(come))
        except (KafkaError, TimeoutError) as error:
            log.warning("end_offsets_unknown", error=type(error).__name__, repeats=True)
            return False
        for each, owned in come.items():
            owned.inherited = hand_over_of(notes.get(each, ""))
            owned.end = ends[each]
        self._lease.wake()  # whoever waits for what an earlier owner has left
        return True

    async def _learn_later(self, come: Mapping[TopicPartition, OwnedPartition]) -> None:
        """Ask again until it is known: a later end is a safe one, too, since it lies no lower.

        Ends with the assignment at the latest. Given up before, every refusal would be doubt for as long as that lasts.
        """
        known = False
        while not known:
            await asyncio.sleep(POLL_RETRY_AFTER_S)
            ours = {each: owned for each, owned in come.items() if owned.is_ours}
            known = not ours or await self._learn(ours)


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Tells the worker what comes and goes."""

    def __init__(self, worker: LogWorker) -> None:
        self._worker = worker

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions go: drain or hand over, commit, let go."""
        await self._worker.give_up(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Partitions come."""
        await self._worker.take_over(assigned)
