"""Reading the log: a group member that commits by hand, and a reader without a group.

Called by the log worker (group), and by the policy follower, the log reader and the ingress's replies (no group). Calls
aiokafka. The protocol is what the log worker uses of it: `in_memory_log` keeps it too, and one contract suite runs on
both.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.aiokafka_fences.fenced_consumer import (
    FencedConsumer,
    ReadPlace,
    ask_partitions,
    committed_notes,
    group_of,
    log_ends,
    read_places,
    watch_heartbeats,
    watch_joins,
)
from streams.kafka_clients.backlog import Backlog, RecordsLostError, describe_loss
from streams.kafka_clients.connection import KafkaConnection

MAX_PARTITION_FETCH_BYTES = 1_048_576
"""What may be fetched ahead of a partition: a bound on memory, and room for a record of the largest size."""

FETCH_MAX_WAIT_MS = 500
"""A long poll: it ends as soon as there is one record, so this costs no latency."""

SHORT_FETCH_WAIT_MS = 10
"""Of a reader that goes from partition to partition: a broker answers a connection's requests one after the other."""

HEARTBEATS_PER_SESSION = 30
"""Three a second with a session of ten seconds. A member hears of a rebalance by its heartbeat, and all who have heard
wait for the last."""

ISOLATION: Final = "read_committed"
"""Of every consumer of ours: a record of an aborted transaction never happened (Kafka's `isolation.level`). Whoever
appends commands may do so in transactions, as Kafka Streams, Connect and Spring do. One that is open holds its
partitions up from its first record on, until it ends or the broker ends it (`transaction.max.timeout.ms`)."""

log = structlog.get_logger(__name__)


class _Consumer(FencedConsumer):
    """One of a group stands where its group is, or where the log begins, and passes over nothing that was deleted."""

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next records.

        Raises:
            ReadingEndedError: the consumer fetches no more.
            RecordsLostError: records of a group's topic were deleted before it had read them.
            KafkaError: as aiokafka's own.
        """
        try:
            return await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as nowhere:
            await settle_position(self, nowhere)
            return {}

    def read_places(self) -> dict[TopicPartition, ReadPlace]:
        """See `GroupConsumer`; by the function of that name."""
        return read_places(self)


class _Member(_Consumer):
    """Asked where the log ends, to tell what an earlier owner may have taken: it may have read uncommitted."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition, open transactions included. Raises: KafkaError."""
        return await log_ends(self, partitions)

    async def notes(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, str]:
        """See `GroupConsumer`. Raises: KafkaError."""
        return await committed_notes(self, partitions)

    def watch_membership(self, answered: Callable[[float], None]) -> Callable[[], float | None]:
        """See `GroupConsumer`. Of a started member; by `watch_heartbeats` and `watch_joins`."""
        watch_heartbeats(self, answered)
        return watch_joins(self)


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
        raise RecordsLostError(describe_loss(group_of(consumer), lost))
    for each in gone:
        log.info("read_from_beginning", topic=each.topic, partition=each.partition, offset=each.begin)
    await consumer.seek_to_beginning(*places)


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

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit the offsets to go on from, each with a note for whoever goes on there."""
        ...

    async def notes(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, str]:
        """Return the note beside what the group has committed; of partitions of which nothing is, none."""
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


def build_reader(
    connection: KafkaConnection,
    *,
    max_partition_fetch_bytes: int = MAX_PARTITION_FETCH_BYTES,
    fetch_max_wait_ms: int = FETCH_MAX_WAIT_MS,
) -> Any:
    """Return an unstarted consumer without a group: it commits nothing and is assigned by hand.

    Args:
        connection: the broker.
        max_partition_fetch_bytes: what may be fetched ahead of a partition.
        fetch_max_wait_ms: how long a fetch that finds nothing waits at the broker; its connection answers nothing else.
    """
    return _Consumer(
        **connection.aiokafka_options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=max_partition_fetch_bytes,
        fetch_max_wait_ms=fetch_max_wait_ms,
        isolation_level=ISOLATION,
    )


async def partitions_of(consumer: Any, topic: str) -> list[int]:
    """Return the topic's partitions as the broker has them now, in order.

    Raises: MisconfiguredError: there is no such topic; KafkaError: the broker does not answer.
    """
    known = await ask_partitions(consumer, topic)
    if not known:
        raise MisconfiguredError(f"there is no topic {topic}; `payment-engine topics apply` makes it")
    return sorted(known)
