"""Reading the log: a group member that commits by hand, and a reader without a group.

Called by the log worker (group), and by the policy follower, the log reader and the ingress's replies (no group). Calls
aiokafka. The protocol is what the log worker uses of it: `in_memory_log` keeps it too, and one contract suite runs on
both.
"""

import copy
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.protocol.group import SyncGroupRequest

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients import lease
from streams.kafka_clients.backlog import Backlog, RecordsLostError, describe_loss
from streams.kafka_clients.connection import KafkaConnection

MAX_PARTITION_FETCH_BYTES = 1_048_576
"""What may be fetched ahead of a partition: a bound on memory, and room for a record of the largest size."""

FETCH_MAX_WAIT_MS = 500
"""A long poll: it ends as soon as there is one record, so this costs no latency."""

HEARTBEATS_PER_SESSION = 5

ISOLATION: Final = "read_committed"
"""Of every consumer of ours: a record of an aborted transaction never happened (Kafka's `isolation.level`). Whoever
appends commands may do so in transactions, as Kafka Streams, Connect and Spring do. One that is open holds its
partitions up from its first record on, until it ends or the broker ends it (`transaction.max.timeout.ms`)."""

log = structlog.get_logger(__name__)


class ReadingEndedError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """The consumer reads no more, and will not begin again: another must take its place."""


class MembershipEndedError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """The consumer takes part in its group no more, or not before it is asked why: another must take its place."""


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's own returns nothing for ever when its task of fetching has failed; this one says so.

    And a poll of aiokafka's own that failed or was cancelled counts as under way for ever, so that `max_poll_interval`
    is never enforced again (consumer/subscription_state.py, `fetch_context`). For one poll at a time.
    """

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next records.

        Raises:
            ReadingEndedError: the consumer fetches no more.
            RecordsLostError: records of a group's topic were deleted before it had read them.
            KafkaError: as aiokafka's own.
        """
        check_reading(self)
        polls = self._subscription
        try:
            records: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=max_records
            )
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as nowhere:
            polls._fetch_count, polls._last_fetch_ended = 0, time.monotonic()  # noqa: SLF001 -- as below
            await settle_position(self, nowhere)
            return {}
        except BaseException:  # cancellation too: raised on, only the poll must not count as under way
            polls._fetch_count, polls._last_fetch_ended = 0, time.monotonic()  # noqa: SLF001 -- as aiokafka should
            raise
        return records

    def watch_membership(self, answered: Callable[[float], None]) -> Callable[[], float | None]:
        """See `GroupConsumer`. Of a started member; by `watch_heartbeats` and `watch_joins`."""
        watch_heartbeats(self, answered)
        return watch_joins(self)

    def read_places(self) -> "dict[TopicPartition, ReadPlace]":
        """See `GroupConsumer`; by the function of that name."""
        return read_places(self)


class _Member(_Consumer):
    """Asked where the log ends, to tell what an earlier owner may have taken: it may have read uncommitted."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition, open transactions included. Raises: KafkaError."""
        return await log_ends(self, partitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlace:
    """How far a partition is read, as of the last fetch. Offsets."""

    position: int
    """Next to be read: all records below were handed out, and what else is below is no record (markers, aborted)."""
    stable_end: int
    """The last stable offset: what stands from here on is, or waits behind, an open transaction."""
    log_end: int
    """The high watermark."""

    @property
    def waits(self) -> bool:
        """Whether there is more, and nothing of it may be read before a transaction ends."""
        return self.stable_end <= self.position < self.log_end


def read_places(consumer: Any) -> dict[TopicPartition, ReadPlace]:
    """Return how far each assigned partition is read; without those that were not fetched from yet.

    Call it on the consumer's own loop, where no fetch or seek comes between.
    """
    subscription = consumer._subscription.subscription  # noqa: SLF001 -- `position` alone is public, and may wait
    if subscription is None or subscription.assignment is None:
        return {}
    assignment = subscription.assignment
    states = {each: assignment.state_value(each) for each in assignment.tps}
    return {
        each: ReadPlace(position=state.position, stable_end=state.lso, log_end=state.highwater)
        for each, state in states.items()
        if state is not None and state.has_valid_position and state.lso is not None and state.highwater is not None
    }


async def log_ends(consumer: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return where each partition ends, open transactions included: aiokafka's `end_offsets` stops before them.

    For whoever must not take what it cannot see yet for not being there. Raises: KafkaError.
    """
    # A copy shares all but this one field, and is asked nothing else; there is no public way.
    fetcher = copy.copy(consumer._fetcher)  # noqa: SLF001
    fetcher._isolation_level = READ_UNCOMMITTED  # noqa: SLF001
    ends: dict[TopicPartition, int] = await fetcher.end_offsets(partitions, consumer._request_timeout_ms)  # noqa: SLF001
    return ends


async def settle_position(
    consumer: Any, nowhere: NoOffsetForPartitionError | OffsetOutOfRangeError, *, inputs: Container[str] | None = None
) -> None:
    """Give a group's partition, whose next record is not on the log, a place to go on from: where the log begins.

    So it is where nothing was committed yet, and where the log was made anew and ends before what was committed. But
    where what comes next was deleted, going on would pass over records that nobody has handled.

    Args:
        consumer: a started member of a group, assigned the partition.
        nowhere: what aiokafka raised, whose automatic reset is off.
        inputs: the topics of which nothing may be passed over. None: all.

    Raises:
        RecordsLostError: records were deleted unread.
        KafkaError: the broker does not answer.
    """
    (cause,) = nowhere.args
    places: Mapping[TopicPartition, int] = cause if isinstance(cause, dict) else {cause: 0}
    begins = await consumer.beginning_offsets(list(places))
    gone = [
        Backlog(topic=each.topic, partition=each.partition, committed=offset, begin=begins[each], end=begins[each])
        for each, offset in places.items()
    ]
    lost = [each for each in gone if each.lost and (inputs is None or each.topic in inputs)]
    if lost:
        raise RecordsLostError(describe_loss(consumer._group_id, lost))  # noqa: SLF001 -- nothing public tells it
    for each in gone:
        log.info("read_from_beginning", topic=each.topic, partition=each.partition, offset=each.begin)
    await consumer.seek_to_beginning(*places)


def check_reading(consumer: Any) -> None:
    """Return if the started consumer still fetches, or was stopped on purpose. Raises: ReadingEndedError."""
    fetcher = consumer._fetcher  # noqa: SLF001 -- there is no public way to tell
    if fetcher.error_future.done() and not fetcher._closed:  # noqa: SLF001 -- as above
        raise ReadingEndedError("the consumer fetches no more")


def check_membership(consumer: Any) -> None:
    """Return if the consumer does its part in its group, is not started yet, or was stopped on purpose.

    For whoever does not fetch by aiokafka's own `getmany`, which asks the same and hands the reason out: the task of
    coordination waits for that, after any error that it does not know, and joins no group meanwhile. Safe to call from
    another thread than the consumer's.

    Raises: MembershipEndedError.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 -- there is no public way to tell
    if coordinator is None:
        return
    task = coordinator._coordination_task  # noqa: SLF001 -- as above
    reason = coordinator._pending_exception  # noqa: SLF001 -- as above
    if task.done():
        reason = "it was cancelled" if task.cancelled() else task.exception()
    elif reason is None:
        return
    if not consumer._closed:  # noqa: SLF001 -- as above; looked at last, since a stop sets it first
        raise MembershipEndedError(f"the consumer is no member of its group any more: {reason!r}")


class GroupConsumer(Protocol):
    """What the log worker uses of aiokafka's consumer, in its words. One contract suite holds all of them to it."""

    async def start(self) -> None:
        """Connect and join the group."""
        ...

    async def stop(self) -> None:
        """Leave and disconnect."""
        ...

    def subscribe(self, *, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        """Say what to read, and whom to tell about partitions that come and go."""
        ...

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the offsets to go on from."""
        ...

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next records of the partitions named, of all that are owned when none is, or nothing in time."""
        ...

    def watch_membership(self, answered: Callable[[float], None]) -> Callable[[], float | None]:
        """Call `answered` for each heartbeat that the group accepts from now on, with when it was sent.

        Returns what tells when the member last asked for its assignment; None: not since this call. Both on the clock
        of `lease`.
        """
        ...

    def read_places(self) -> Mapping[TopicPartition, ReadPlace]:
        """Return how far each assigned partition is read; without those that were not fetched from yet."""
        ...


def build_group_consumer(
    connection: KafkaConnection,
    *,
    group: str,
    instance_id: str | None,
    session_timeout_s: float,
    rebalance_timeout_s: float,
    max_poll_interval_s: float,
) -> Any:
    """Return an unstarted member of a group that commits by hand and starts at the earliest record.

    Args:
        connection: the broker.
        group: the group's id.
        instance_id: static membership: a restart within the session moves no partition.
        session_timeout_s: a silent member loses its partitions after this.
        rebalance_timeout_s: longest wait of the others for this member's drain; above the longest await of a revoke.
        max_poll_interval_s: longest time between two polls.
    """
    return _Member(
        **connection.aiokafka_options(),
        group_id=group,
        group_instance_id=instance_id,
        enable_auto_commit=False,
        auto_offset_reset="none",  # `settle_position`: a group without offsets has handled nothing, and begins there
        session_timeout_ms=round(session_timeout_s * 1000),
        heartbeat_interval_ms=round(session_timeout_s * 1000 / HEARTBEATS_PER_SESSION),
        rebalance_timeout_ms=round(rebalance_timeout_s * 1000),
        max_poll_interval_ms=round(max_poll_interval_s * 1000),
        max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        isolation_level=ISOLATION,
    )


def build_reader(connection: KafkaConnection) -> Any:
    """Return an unstarted consumer without a group: it commits nothing and is assigned by hand."""
    return _Consumer(
        **connection.aiokafka_options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        isolation_level=ISOLATION,
    )


async def partitions_of(consumer: Any, topic: str) -> list[int]:
    """Return the topic's partitions as the broker has them now, in order.

    Raises: MisconfiguredError: there is no such topic; KafkaError: the broker does not answer.
    """
    # aiokafka's public look-ups know only the topics that a consumer subscribed to.
    cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001
    known = cluster.partitions_for_topic(topic)
    if not known:
        raise MisconfiguredError(f"there is no topic {topic}; `payment-engine topics apply` makes it")
    return sorted(known)


def watch_heartbeats(consumer: Any, answered: Callable[[float], None]) -> None:
    """Call `answered` for each heartbeat of a started group member that the group accepted, with when it was sent.

    On the clock of `lease`. aiokafka knows when that was, and keeps it to itself: a worker that was frozen has to know.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 -- there is no public way to tell
    beat = coordinator._do_heartbeat  # noqa: SLF001

    async def watched() -> bool:
        sent_s = lease.now_s()
        accepted = bool(await beat())
        if accepted:
            answered(sent_s)
        return accepted

    coordinator._do_heartbeat = watched  # noqa: SLF001


def watch_joins(consumer: Any) -> Callable[[], float | None]:
    """Return what tells when a started group member last asked for its assignment; None: not since this call.

    On the clock of `lease`. A worker that was frozen between the group's answer and its own next step would otherwise
    take an assignment for fresh that was given away long ago.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 -- there is no public way to tell
    send = coordinator._send_req  # noqa: SLF001
    asked_at_s: float | None = None

    async def watched(request: Any) -> Any:
        nonlocal asked_at_s
        if isinstance(request, SyncGroupRequest):
            asked_at_s = lease.now_s()
        return await send(request)

    coordinator._send_req = watched  # noqa: SLF001
    return lambda: asked_at_s
