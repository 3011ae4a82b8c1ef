"""Faust's consumer and producer, with what loses work overridden. Put into an app by `worker_app.build_app`.

What each override is against stands in `FENCES` of this folder, and each has a test that fails without it.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer, Transport
from faust.types import TP

from streams.kafka.faust_fences.engine_app import EngineApp
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka_clients.aiokafka_fences.fenced_consumer import (
    ReadingEndedError,
    ReadPlace,
    check_membership,
    check_reading,
    log_ends,
    read_places,
    watch_heartbeats,
)
from streams.kafka_clients.consumer import ISOLATION, settle_position
from streams.kafka_clients.open_transactions import LOOK_INTERVAL_S, OpenTransactions

FETCH_MAX_WAIT_MS = 250
"""How long a broker may hold an empty fetch [1500, fixed]. A broker answers the requests of a connection one after the
other, so each look for offsets waits behind the fetch on its way; a rebalance asks some six times, one after the other,
and took 6 to 9 s on three brokers."""

FETCH_WAIT_S = 0.1
"""Longest fetch while source partitions are paused: it does not notice when they are resumed."""


class Look(NamedTuple):
    """How far everything was read at the end of a fetch, and how many revocations had come."""

    revocations: int
    places: Mapping[TP, ReadPlace]


class PromptConsumerThread(AIOKafkaConsumerThread):
    """Faust's thread of the aiokafka consumer; its fetches do not wait long, its heartbeats renew the lease."""

    _look: Look | None = None
    _looked_at_s = 0.0

    async def on_start(self) -> None:
        """Start the consumer and listen to its heartbeats, from this thread to the worker's."""
        await super().on_start()
        app: Any = self.app  # a `WorkerApp`; Faust's own type does not know the lease

        def answered(sent_s: float) -> None:
            with contextlib.suppress(RuntimeError):  # the worker's loop has ended
                self.parent_loop.call_soon_threadsafe(app.lease.renewed, sent_s)

        watch_heartbeats(self._consumer, answered)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001 -- the constructor's argument, which Faust has fixed
        consumer._isolation_level = ISOLATION  # noqa: SLF001 -- as above
        return consumer

    async def _highwaters(self, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """Where the log ends, not where an open transaction begins. Raises: KafkaError."""
        return await log_ends(self._ensure_consumer(), partitions)

    def take_look(self) -> Look | None:
        """For the worker's thread, between two fetches: how far all was read, once a second; None: not looked since."""
        look, self._look = self._look, None
        return look

    def check_membership(self) -> None:
        """For the worker's thread. Raises: MembershipEndedError: the consumer takes part in the group no more."""
        if self._consumer is not None:
            check_membership(self._consumer)

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 -- Faust's own signature
        """Fetch for the assignment of this moment: nothing when it is over before the fetch is.

        Raises:
            ReadingEndedError: the consumer fetches no more, or what it reads was made anew.
            RecordsLostError: input was deleted before it was read.
        """
        app: Any = self.app
        return await self.call_thread(self._fetch, app.revocations, active_partitions, timeout)

    async def _fetch(self, revocations: int, active_partitions: set[TP], timeout: float) -> Any:  # noqa: ASYNC109 -- as above
        """On the consumer's thread, where no seek can come between the fetch and the look whether it still counts."""
        app: Any = self.app
        consumer = self._ensure_consumer()
        check_reading(consumer)
        if app.revocations != revocations:
            return {}
        try:
            records = await self._fetch_records(
                consumer,
                active_partitions,
                timeout=timeout,
                max_records=consumer._max_poll_records,  # noqa: SLF001 -- as Faust does
            )
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as nowhere:
            # Where a changelog begins is its recovery's to ask; it commits none, and what it lacks was compacted away.
            if app.revocations == revocations:  # else the next assignment's own seeks say where, and may have done so
                await settle_position(consumer, nowhere, inputs=app.source_topics)
                await self._refuse_log_made_anew(nowhere)
            return {}
        if app.revocations == revocations:
            if time.monotonic() - self._looked_at_s >= LOOK_INTERVAL_S:
                self._looked_at_s = time.monotonic()
                self._look = Look(revocations, {TP(*tp): place for tp, place in read_places(consumer).items()})
            return records
        for tp, batch in records.items():
            with contextlib.suppress(IllegalStateError):  # not ours any more
                consumer.seek(tp, batch[0].offset)
        return {}

    async def _refuse_log_made_anew(self, nowhere: NoOffsetForPartitionError | OffsetOutOfRangeError) -> None:
        """Return if all that a partition without a place goes on from is new: what the ledger knows, it passes over.

        Raises: ReadingEndedError: it was made anew while it was read; a worker that starts reads all of it.
        """
        app: Any = self.app
        places = nowhere.args[0] if isinstance(nowhere, OffsetOutOfRangeError) else ()
        known = {tp: app.ledger.last_fetched((tp.topic, tp.partition)) for tp in places}
        read = {tp: last for tp, last in known.items() if last >= 0}
        begins = await self._ensure_consumer().beginning_offsets(list(read)) if read else {}
        for tp, begin in begins.items():
            if begin <= read[tp]:
                raise ReadingEndedError(f"{tp.topic} {tp.partition} was made anew while it was read")


class LedgerConsumer(Consumer):
    """Commits what the ledger says, and nothing else."""

    app: EngineApp  # type: ignore[assignment]  # Faust's own type knows nothing of ours
    _thread: PromptConsumerThread

    def __post_init__(self) -> None:
        """Faust's own place for what its constructor would hold."""
        super().__post_init__()
        self._open_transactions = OpenTransactions()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        # Not by the policy, which Python 3.14 deprecates: a loop of the worker's own kind, uvloop's in production.
        loop = type(self.loop)()
        thread = PromptConsumerThread(self, loop=self.loop, thread_loop=loop, beacon=self.beacon)
        thread._close_thread_loop_on_stop = True  # noqa: SLF001 -- the thread's alone, as one that it makes itself
        return thread

    def check_membership(self) -> None:
        """Return if the worker is a member of its group, or on the way. Raises: MembershipEndedError."""
        if isinstance(self._thread, PromptConsumerThread):
            self._thread.check_membership()

    @property
    def _ledger(self) -> OffsetLedger[tuple[str, int]]:
        return self.app.ledger

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 -- Faust's own signature
        records = await self._fetch_and_note(active_partitions, timeout)
        self.app.fetches_ended += 1
        return records

    async def _fetch_and_note(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 -- as above
        # A copy: Faust hands its own set to the consumer's thread and changes it meanwhile, and to aiokafka a set that
        # has become empty means every partition.
        wanted = None if active_partitions is None else set(active_partitions)
        sources_paused = any(tp.topic in self.app.source_topics for tp in self._paused_partitions)
        revocations = self.app.revocations
        records = await super()._getmany(wanted, min(timeout, FETCH_WAIT_S) if sources_paused else timeout)
        unwanted = {tp: batch for tp, batch in records.items() if tp not in self._get_active_partitions()}
        if unwanted:
            await self._thread.call_thread(self._read_again, unwanted, revocations)
        if self.app.revocations != revocations:
            return {}  # of an assignment that is over; the next one seeks its places before anything is fetched
        kept = {tp: batch for tp, batch in records.items() if tp not in unwanted}
        for tp, batch in kept.items():
            if tp.topic in self.app.source_topics:
                self._ledger.note_fetched((tp.topic, tp.partition), [record.offset for record in batch])
            else:
                self.app.changelog_ledger.note_fetched(ensure_TP(tp), [record.offset for record in batch])
        self._note_places(wanted, unwanted)
        return kept

    def _note_places(self, wanted: set[TP] | None, unwanted: Mapping[TP, Any]) -> None:
        """After the records of the fetch are noted: what its position has passed without one is no record."""
        look = self._thread.take_look()
        if look is None or look.revocations != self.app.revocations:
            return
        self._open_transactions.look(look.places)
        for tp, place in look.places.items():
            # One that was paused had no part in the fetch, and may be where no seek of ours has put it yet.
            if tp.topic in self.app.source_topics and tp not in unwanted and (wanted is None or tp in wanted):
                self._ledger.note_read_to((tp.topic, tp.partition), place.position)

    async def _read_again(self, unwanted: Mapping[TP, Any], revocations: int) -> None:
        """Records of a partition that was paused meanwhile: Faust drops them, and reads on behind them.

        Runs on the consumer's thread, perhaps after the partition's own seek: so to what is committed, or to the
        beginning when nothing is, and never to where the batch began. The ledger passes over what comes twice.
        """
        for tp, batch in unwanted.items():
            if self.app.revocations != revocations:
                return
            committed = self._committed_offset.get(ensure_TP(tp))
            with contextlib.suppress(IllegalStateError):  # not ours any more
                if committed or tp.topic not in self.app.source_topics:
                    self._thread.seek(tp, committed or batch[0].offset)
                else:
                    await self._thread._ensure_consumer().seek_to_beginning(tp)  # noqa: SLF001 -- on its own thread

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 -- Faust's own signature
        """Faust sleeps for a second when every partition is paused; this ends when one is not any more."""
        if self.flow_active and not self._get_active_partitions():
            self.app.partitions_resumed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self.app.partitions_resumed.wait()
            if not self._get_active_partitions():
                return {}, self._get_active_partitions()
        return await super()._wait_next_records(timeout)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Also wakes the fetcher."""
        super().resume_partitions(tps)
        self.app.partitions_resumed.set()

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 -- Faust's own signature
        """Faust starts four tasks a record, to be able to abandon its delivery; needed only if that can block."""
        delivery, *others = coros
        if others and self.app.delivery_is_immediate():
            for other in others:
                other.close()
            return await delivery
        return await super().wait_first(*coros, timeout=timeout)

    def on_buffer_full(self, tp: TP) -> None:
        """A full queue makes the delivery wait, which is all that is needed.

        Faust would stop fetching from the partition, and when it has stopped all of them sleep for a whole second.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was stopped."""

    def ack(self, message: Any) -> bool:
        """Only for Faust's own bookkeeping: it decides nothing about commits."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes between offsets need no filling: the ledger counts records, not offsets."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return (TP(*tp) for tp in self._ledger.partitions() if topics is None or TP(*tp) in topics or tp[0] in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._ledger.committable((tp.topic, tp.partition))

    async def _commit_offsets(
        self,
        offsets: Mapping[TP, int],
        start_new_transaction: bool = True,  # noqa: ARG002 -- Faust's own signature
    ) -> bool:
        owned = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not owned or not await self._commit(owned):
            return False
        self._committed_offset.update(owned)
        self.app.monitor.on_tp_commit(owned)
        return True

    async def wait_empty(self) -> None:
        """Drain the pipeline, then commit; a commit under way may have begun before the last input was done."""
        await self.app.pipeline.drain()
        if self.app.pipeline.failure is None and not await self.commit():
            await self.commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust drains in here; only then may the ledger forget. Rebalances are eager: everything is revoked."""
        self.app.revocations += 1
        await super().on_partitions_revoked(revoked)
        await self.app.on_lanes_revoked()
        self._ledger.reset((tp.topic, tp.partition) for tp in revoked)

    async def perform_seek(self) -> None:
        """Seek source partitions to what is committed, or to their beginning when nothing is."""
        sources = [tp for tp in self.assignment() if tp.topic in self.app.source_topics]
        await super().perform_seek()
        fresh = [tp for tp in sources if not self._committed_offset.get(tp)]
        if fresh:
            await self._thread.seek_to_beginning(*(self._new_topicpartition(*tp) for tp in fresh))
        self._ledger.reset((tp.topic, tp.partition) for tp in sources)

    async def verify_all_partitions_active(self) -> None:
        """Off: it compares a monotonic clock with the time of day. The pipeline watches its inputs' age itself."""

    async def log_ends(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The offset after the last record of each partition."""
        ends = await self.highwaters(*partitions)
        return {ensure_TP(tp): int(end) for tp, end in ends.items()}


class IdempotentProducer(Producer):
    """acks=all and no duplicates or reordering by the producer's own retries."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    def open_producer(self) -> Any:
        """Aiokafka's own producer, which Faust only starts and stops here. Raises: NotReady before the start."""
        return self._ensure_producer()

    async def flush(self) -> None:
        """No barrier: the pipeline waits for each acknowledgement. Faust calls this before it stops the producer."""
        with contextlib.suppress(RuntimeError):  # Faust's own send buffer, unused here, refuses once it is stopped
            await super().flush()


class WorkerTransport(Transport):
    """What `app.transport` must be for the overrides to hold."""

    Consumer = LedgerConsumer
    Producer = IdempotentProducer
