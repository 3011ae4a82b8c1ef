"""One topic, its dead letters and one group, in memory or on a broker: what the contract of the log worker runs on."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError

from schemas.messages import MessageCodec
from schemas.records.dead_letters import DeadLetter
from schemas.schema_ids import SchemaIds
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import GroupConsumer
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.in_memory_log import InMemoryLog, InMemoryLogWriter
from streams.kafka_clients.lease import now_s
from streams.kafka_clients.log_reader import LogRecord, read_log
from streams.kafka_clients.producer import LogWriter
from streams.log_worker.handler import RecordHandler
from streams.log_worker.options import LogWorkerOptions
from streams.log_worker.worker import LogWorker, member_of
from tests.support.kafka_topics import committed_offsets, create_topics, unique
from tests.support.told_handler import options_of

CODEC = MessageCodec(SchemaIds.packaged())
PARTITIONS = 4
CUT_OFF_POLL_S = 0.01


class Member:
    """A member of a group between the worker and its log: hands everything on, until a test wants otherwise."""

    def __init__(self, inner: GroupConsumer) -> None:
        self._inner = inner
        self._is_cut_off = False
        self.poll_failures: list[KafkaError] = []
        self.ends_told = asyncio.Event()
        self.end_failures: list[KafkaError] = []
        self.skipped_s = 0.0  # how long the worker was frozen, by its own clock

    def cut_off(self) -> None:
        """From now on nothing of this worker's reaches the log: as far as the log can tell, it has crashed."""
        self._is_cut_off = True

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if self._is_cut_off:
            raise CommitFailedError
        await self._inner.commit(offsets)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        if self.poll_failures:
            raise self.poll_failures.pop(0)
        if self._is_cut_off:
            await asyncio.sleep(CUT_OFF_POLL_S)
            return {}
        return await self._inner.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.end_failures:
            raise self.end_failures.pop(0)
        self.ends_told.set()
        return await self._inner.end_offsets(partitions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WorkerUnderTest(LogWorker):
    """A worker whose member of the group and appends a test has in its hands."""

    member: Member
    append_failures: list[LogError]


class LogUnderTest(ABC):
    """The log, as a test needs it."""

    topic: str
    letters_topic: str
    group: str
    connection: KafkaConnection

    @abstractmethod
    async def append(self, value: bytes, *, key: bytes | None = None, partition: int = 0, hole: bool = False) -> None:
        """Append a record, and leave a hole behind it if so wished."""

    @abstractmethod
    async def committed(self) -> dict[int, int]:
        """Partition to what the group has committed; those of which nothing is are left out."""

    @abstractmethod
    async def letters(self) -> list[DeadLetter]:
        """The dead letters so far."""

    @abstractmethod
    def writer(self) -> LogWriter:
        """A writer to this log."""

    @abstractmethod
    def member(self, options: LogWorkerOptions) -> GroupConsumer:
        """An unstarted member of the group."""

    def worker(self, handler: RecordHandler, **changes: object) -> WorkerUnderTest:
        """Return an unstarted worker."""
        options = options_of(topic=self.topic, group=self.group, letters=self.letters_topic, **changes)
        member, writer = Member(self.member(options)), self.writer()
        append, failures = writer.append, list[LogError]()

        async def troubled(topic: str, **record: Any) -> Any:
            if failures:
                raise failures.pop(0)
            return await append(topic, **record)

        writer.append = troubled  # type: ignore[method-assign]  # the log that a test spoils
        worker = WorkerUnderTest(
            self.connection,
            CODEC,
            handler,
            options,
            writer=writer,
            clock_s=lambda: now_s() + member.skipped_s,
            build_consumer=lambda _connection, _options: member,
        )
        worker.member, worker.append_failures = member, failures
        return worker

    @asynccontextmanager
    async def running(self, handler: RecordHandler, **changes: object) -> AsyncIterator[WorkerUnderTest]:
        """A worker that is a member of its group; drained and stopped at the end."""
        worker = self.worker(handler, **changes)
        await worker.start()
        try:
            await worker.ready.wait()
            yield worker
        finally:
            await worker.stop()

    async def wait_for_commits(self, wanted: Mapping[int, int], *, limit_s: float = 30.0) -> None:
        """Wait until the group has committed these offsets."""
        deadline_s = time.monotonic() + limit_s
        while (found := await self.committed()) != wanted:
            assert time.monotonic() < deadline_s, f"committed {found}, wanted {wanted}"
            await asyncio.sleep(0.01)


class InMemoryLogUnderTest(LogUnderTest):
    """In memory."""

    def __init__(self) -> None:
        self.topic, self.letters_topic, self.group = "records", "letters", "group"
        self.connection = KafkaConnection(bootstrap_servers="in-memory")
        self.log = InMemoryLog({self.topic: PARTITIONS, self.letters_topic: 1})

    async def append(self, value: bytes, *, key: bytes | None = None, partition: int = 0, hole: bool = False) -> None:
        self.log.append(self.topic, key=key, value=value, partition=partition)
        if hole:
            self.log.leave_hole(TopicPartition(self.topic, partition))

    async def committed(self) -> dict[int, int]:
        return {place.partition: offset for place, offset in self.log.committed(self.group).items()}

    async def letters(self) -> list[DeadLetter]:
        return [_letter_of(each) for each in self.log.records(self.letters_topic)]

    def writer(self) -> LogWriter:
        return InMemoryLogWriter(self.log)

    def member(self, options: LogWorkerOptions) -> GroupConsumer:
        return self.log.member(options.group)


class BrokerLogUnderTest(LogUnderTest):
    """On a broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.topic, self.letters_topic, self.group = unique("records"), unique("letters"), unique("group")
        self.connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
        create_topics(bootstrap_servers, [self.topic], partitions=PARTITIONS)
        create_topics(bootstrap_servers, [self.letters_topic], partitions=1)
        self._plain: AIOKafkaProducer | None = None
        self._in_transactions: AIOKafkaProducer | None = None

    async def append(self, value: bytes, *, key: bytes | None = None, partition: int = 0, hole: bool = False) -> None:
        if hole:  # the marker of a transaction takes an offset
            producer = self._in_transactions = self._in_transactions or await self._started(transactional_id=self.group)
            async with producer.transaction():
                await producer.send_and_wait(self.topic, value, key=key, partition=partition)
            return
        producer = self._plain = self._plain or await self._started(acks="all")
        await producer.send_and_wait(self.topic, value, key=key, partition=partition)

    async def _started(self, **settings: object) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(bootstrap_servers=self.connection.bootstrap_servers, **settings)
        await producer.start()
        return producer

    async def close(self) -> None:
        for producer in (self._plain, self._in_transactions):
            if producer is not None:
                await producer.stop()

    async def committed(self) -> dict[int, int]:
        found = await asyncio.to_thread(
            committed_offsets, str(self.connection.bootstrap_servers), self.group, self.topic, PARTITIONS
        )
        return {number: offset for number, offset in found.items() if offset >= 0}

    async def letters(self) -> list[DeadLetter]:
        return [_letter_of(each) async for each in read_log(self.connection, self.letters_topic)]

    def writer(self) -> LogWriter:
        return LogWriter(self.connection)

    def member(self, options: LogWorkerOptions) -> GroupConsumer:
        return member_of(self.connection, options)


def _letter_of(record: LogRecord) -> DeadLetter:
    _, letter = CODEC.decode(record.value, record.headers)
    assert isinstance(letter, DeadLetter)
    return letter
