"""In-memory stand-ins for the log's clients, for unit tests that decide themselves when something arrives or fails."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadPlace
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.producer import AppendedRecord, Headers, LogWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeRecord:
    """A record as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_type: int = 0


class FakeWriter(LogWriter):
    """Keeps what is appended; fails as often as it was told to."""

    def __init__(self) -> None:
        super().__init__(KafkaConnection(bootstrap_servers="nowhere"))
        self.appended: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self.failures: list[LogError] = []
        self.changed = asyncio.Condition()
        self.was_stopped = False
        self.broker_ms = 0  # what the broker dates records with

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        self.was_stopped = True

    async def append(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        timeout_s: float = 0.0,
    ) -> AppendedRecord:
        if self.failures:
            raise self.failures.pop(0)
        async with self.changed:
            self.appended.append((topic, key, value, headers))
            self.changed.notify_all()
        return AppendedRecord(topic=topic, partition=0, offset=len(self.appended), timestamp_ms=self.broker_ms)

    async def wait_for(self, count: int, *, limit_s: float = 5.0) -> None:
        """Wait until that many records were appended."""
        async with asyncio.timeout(limit_s), self.changed:
            await self.changed.wait_for(lambda: len(self.appended) >= count)


class FakeGroupConsumer:
    """A group of one: gives what was put, remembers what was committed, rebalances when told to."""

    def __init__(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned = list(partitions)
        self.listener: ConsumerRebalanceListener | None = None
        self.committed: dict[TopicPartition, int] = {}
        self.left_notes: dict[TopicPartition, str] = {}
        self.commit_failures: list[Exception] = []
        self.poll_failures: list[Exception] = []
        self.end_failures: list[Exception] = []
        self.asked_for: list[int | None] = []
        self.ends: dict[TopicPartition, int] = defaultdict(int)
        self._waiting: dict[TopicPartition, list[FakeRecord]] = defaultdict(list)
        self._arrived = asyncio.Event()
        self._rebalancing = False
        self.was_stopped = False
        self.commits_changed = asyncio.Condition()

    def put(self, partition: TopicPartition, records: Sequence[FakeRecord]) -> None:
        """Append records to a partition."""
        self._waiting[partition] += records
        self._arrived.set()

    def subscribe(self, *, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        self.listener = listener

    async def start(self) -> None:
        assert self.listener is not None
        await self.listener.on_partitions_revoked([])
        await self.listener.on_partitions_assigned(self.owned)

    async def stop(self) -> None:
        self.was_stopped = True

    async def rebalance(self, then: Sequence[TopicPartition]) -> None:
        """Revoke everything, as an eager rebalance does, and assign these."""
        assert self.listener is not None
        self._rebalancing = True
        await self.listener.on_partitions_revoked(self.owned)
        self.owned = list(then)
        self._rebalancing = False
        self._arrived.set()
        await self.listener.on_partitions_assigned(self.owned)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.end_failures:
            raise self.end_failures.pop(0)
        return {partition: self.ends[partition] for partition in partitions}

    async def notes(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, str]:
        return {each: self.left_notes[each] for each in partitions if each in self.left_notes}

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if self.commit_failures:
            raise self.commit_failures.pop(0)
        async with self.commits_changed:
            self.committed.update({each: offset for each, (offset, _) in offsets.items()})
            self.left_notes.update({each: note for each, (_, note) in offsets.items()})
            self.commits_changed.notify_all()

    async def wait_for_commit(self, partition: TopicPartition, offset: int, *, limit_s: float = 5.0) -> None:
        """Wait until this offset was committed."""
        async with asyncio.timeout(limit_s), self.commits_changed:
            await self.commits_changed.wait_for(lambda: self.committed.get(partition) == offset)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[FakeRecord]]:
        if self.poll_failures:
            raise self.poll_failures.pop(0)
        self.asked_for.append(max_records)
        while self._rebalancing or not any(self._waiting[each] for each in self.owned):
            self._arrived.clear()
            await self._arrived.wait()
        left = max_records or 1_000
        found: dict[TopicPartition, list[FakeRecord]] = {}
        for partition in self.owned:
            taken, self._waiting[partition] = self._waiting[partition][:left], self._waiting[partition][left:]
            left -= len(taken)
            if taken:
                found[partition] = taken
        return found

    def read_places(self) -> Mapping[TopicPartition, ReadPlace]:
        return {}  # no holes

    def watch_membership(self, answered: Callable[[float], None]) -> Callable[[], float | None]:
        return lambda: None  # no heartbeats: what a test has frozen stays frozen
