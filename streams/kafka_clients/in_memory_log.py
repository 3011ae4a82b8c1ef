"""A log in memory: topics, groups, commits and rebalances, for tests of whoever reads and appends.

Beside the real clients (`consumer`, `producer`), and held to the same contract suite as they are
(`tests/contract/test_log_worker_contract.py`). One event loop, no sockets. A rebalance is eager, as aiokafka's is: each
member gives up all that it has, then everything is given out anew.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, UnknownTopicOrPartitionError

from schemas.topics import partition_of
from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadPlace
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RejectedError
from streams.kafka_clients.lease import now_s
from streams.kafka_clients.log_clock import BROKER_TIME, wall_clock_ms
from streams.kafka_clients.log_reader import LogRecord, log_record_of
from streams.kafka_clients.producer import AppendedRecord, Headers, LogWriter

MAX_RECORDS = 1_000_000
"""Of one log: a test that appends without end ends."""

HEARTBEAT_S = 0.2


class InMemoryLog:
    """Topics and groups of one broker that never fails."""

    def __init__(
        self, topics: Mapping[str, int], *, clock_ms: Callable[[], int] = wall_clock_ms, max_record_bytes: int = 1 << 20
    ) -> None:
        """Make a log. Topics by name, with their number of partitions; larger records are refused, as a broker does."""
        self._clock_ms = clock_ms
        self._max_record_bytes = max_record_bytes
        self._records: dict[TopicPartition, list[ConsumerRecord]] = {
            TopicPartition(topic, number): [] for topic, count in topics.items() for number in range(count)
        }
        self._ends: dict[TopicPartition, int] = dict.fromkeys(self._records, 0)
        self._groups: dict[str, _Group] = {}
        self._appended = asyncio.Event()

    def append(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> AppendedRecord:
        """Append one record; murmur2 of the key says where, as everywhere here. Raises: RejectedError."""
        count = len(self.partitions_of([topic]))
        if partition is None and count:
            partition = partition_of(key, count) if key is not None else 0
        place = TopicPartition(topic, partition)
        if place not in self._records:
            raise RejectedError(f"{topic} has no partition {partition}")
        if len(key or b"") + len(value or b"") > self._max_record_bytes:
            raise RejectedError("MessageSizeTooLargeError")
        if sum(map(len, self._records.values())) >= MAX_RECORDS:
            raise RejectedError(f"{MAX_RECORDS} records are enough")
        record = ConsumerRecord(
            topic=topic,
            partition=place.partition,
            offset=self._ends[place],
            timestamp=self._clock_ms(),
            timestamp_type=BROKER_TIME,
            key=key,
            value=value,
            checksum=None,
            serialized_key_size=len(key or b""),
            serialized_value_size=len(value or b""),
            headers=tuple(headers),
        )
        self._records[place].append(record)
        self._ends[place] += 1
        self._wake()
        return AppendedRecord(
            topic=topic, partition=place.partition, offset=record.offset, timestamp_ms=record.timestamp
        )

    def leave_hole(self, partition: TopicPartition, size: int = 1) -> None:
        """Take offsets that no record will have, as transaction markers and compaction do."""
        self._ends[partition] += size

    def records(self, topic: str) -> list[LogRecord]:
        """Return what stands on a topic, partition by partition."""
        return [log_record_of(each) for place in self.partitions_of([topic]) for each in self._records[place]]

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return what a group has committed."""
        return dict(self._group(group).committed)

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Return the partitions of these topics, in order."""
        wanted = set(topics)
        return [place for place in self._records if place.topic in wanted]

    def end(self, partition: TopicPartition) -> int:
        """Return the offset that the next record will have."""
        return self._ends[partition]

    def from_offset(self, partition: TopicPartition, offset: int, *, most: int) -> list[ConsumerRecord]:
        """Return the records from an offset on."""
        return [each for each in self._records[partition] if each.offset >= offset][:most]

    async def appended(self) -> None:
        """Wait for something to happen on the log; the caller bounds it."""
        await self._appended.wait()

    def member(self, group: str) -> "InMemoryGroupConsumer":
        """Return an unstarted member of a group."""
        return InMemoryGroupConsumer(self, self._group(group))

    def _group(self, name: str) -> "_Group":
        return self._groups.setdefault(name, _Group(self))

    def _wake(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()


class _Group:
    """One group: who is in it, what it has committed."""

    def __init__(self, log: InMemoryLog) -> None:
        self.log = log
        self.members: list[InMemoryGroupConsumer] = []
        self.committed: dict[TopicPartition, int] = {}
        self.notes: dict[TopicPartition, str] = {}
        self._one_rebalance = asyncio.Lock()

    async def rebalance(self, *, join: "InMemoryGroupConsumer | None" = None) -> None:
        """Take everything from everybody, and give it out anew."""
        async with self._one_rebalance:
            await asyncio.gather(*(each.give_up_all() for each in self.members))
            if join is not None:
                self.members.append(join)
            shares = self._shares()
            await asyncio.gather(*(each.assign(share) for each, share in zip(self.members, shares, strict=True)))
            self.log._wake()  # noqa: SLF001 -- the group is a part of its log

    def _shares(self) -> list[list[TopicPartition]]:
        shares: list[list[TopicPartition]] = [[] for _ in self.members]
        topics = {topic for each in self.members for topic in each.topics}
        for number, place in enumerate(self.log.partitions_of(topics)):
            if shares:
                shares[number % len(shares)].append(place)
        return shares

    async def leave(self, member: "InMemoryGroupConsumer") -> None:
        """A member is no more; the others have its partitions."""
        if member in self.members:
            self.members.remove(member)
            await self.rebalance()


class InMemoryGroupConsumer:
    """A `GroupConsumer` on an `InMemoryLog`."""

    def __init__(self, log: InMemoryLog, group: _Group) -> None:
        self._log = log
        self._group = group
        self._positions: dict[TopicPartition, int] = {}
        self._listener: ConsumerRebalanceListener | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._rebalancing = False
        self.topics: tuple[str, ...] = ()

    def subscribe(self, *, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        """See `GroupConsumer`."""
        self.topics = tuple(topics)
        self._listener = listener

    async def start(self) -> None:
        """See `GroupConsumer`. Raises: UnknownTopicOrPartitionError."""
        if not self._log.partitions_of(self.topics):
            raise UnknownTopicOrPartitionError(self.topics)
        await self._group.rebalance(join=self)

    async def stop(self) -> None:
        """See `GroupConsumer`. Calling it twice is safe."""
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        await self._group.leave(self)

    async def give_up_all(self) -> None:
        """A rebalance begins: what is under way may still be committed."""
        assert self._listener is not None
        self._rebalancing = True
        await self._listener.on_partitions_revoked(list(self._positions))
        self._positions = {}

    async def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """A rebalance ends."""
        assert self._listener is not None
        self._positions = {each: self._group.committed.get(each, 0) for each in partitions}
        self._rebalancing = False
        await self._listener.on_partitions_assigned(list(partitions))

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `GroupConsumer`."""
        return {each: self._log.end(each) for each in partitions}

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """See `GroupConsumer`. Raises: CommitFailedError: a partition is not this member's."""
        if not set(offsets) <= set(self._positions):
            raise CommitFailedError
        self._group.committed.update({each: offset for each, (offset, _) in offsets.items()})
        self._group.notes.update({each: note for each, (_, note) in offsets.items()})

    async def notes(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, str]:
        """See `GroupConsumer`."""
        return {each: note for each, note in self._group.notes.items() if each in partitions}

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """See `GroupConsumer`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                while not (found := self._taken(partitions, most=max_records or 500)):
                    await self._log.appended()
                return found
        return {}

    def _taken(self, partitions: Sequence[TopicPartition], *, most: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        if self._rebalancing:
            return found
        for each, position in self._positions.items():
            if most > 0 and (not partitions or each in partitions):
                records = self._log.from_offset(each, position, most=most)
                if records:
                    found[each] = records
                    self._positions[each] = records[-1].offset + 1
                    most -= len(records)
        return found

    def watch_membership(self, answered: Callable[[float], None]) -> Callable[[], float | None]:
        """See `GroupConsumer`."""
        self._heartbeats = asyncio.get_running_loop().create_task(self._beat(answered))
        return lambda: None

    def read_places(self) -> Mapping[TopicPartition, ReadPlace]:
        """See `GroupConsumer`. What lies behind the last record is a hole, and read."""
        places = {}
        for each, position in self._positions.items():
            end = self._log.end(each)
            read_to = position if self._log.from_offset(each, position, most=1) else end
            places[each] = ReadPlace(position=read_to, stable_end=end, log_end=end)
        return places

    async def _beat(self, answered: Callable[[float], None]) -> None:
        while True:  # ends with the member
            answered(now_s())
            await asyncio.sleep(HEARTBEAT_S)


class InMemoryLogWriter(LogWriter):
    """A `LogWriter` on an `InMemoryLog`."""

    def __init__(self, log: InMemoryLog) -> None:
        super().__init__(KafkaConnection(bootstrap_servers="in-memory"))
        self._log = log

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def stop(self) -> None:
        """There is nothing to disconnect from."""

    async def append(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        timeout_s: float = 0.0,  # noqa: ARG002 -- nothing here takes any time
    ) -> AppendedRecord:
        """See `LogWriter`. Raises: RejectedError."""
        return self._log.append(topic, key=key, value=value, headers=headers, partition=partition)
