"""A Kafka client that is not the engine's (confluent-kafka), and what the engine's dead letters say of what it sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

from schemas import topics
from schemas.messages import Envelope, MessageCodec
from schemas.records.dead_letters import DeadLetter
from schemas.records.payments import PaymentEvent
from schemas.schema_ids import SchemaIds
from streams.development.local_engine import LocalEngine
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import LogRecord, ReadFrom, end_offsets, read_log
from tests.support.raw_header_names import append_raw, has_raw_names

FLUSH_TIMEOUT_S = 150.0
"""Longer than three brokers take to come back together on two busy cores: some 75 s were seen."""
WAIT_TIMEOUT_S = 120.0
POLL_S = 0.25
ANY_PARTITION = -1
"""librdkafka's own word for: ask the partitioner."""
MAX_RECORD_BYTES = 10_000_000
"""Largest record before it is compressed; what a topic takes is the broker's to say."""
POLL_EVERY = 100
"""Records between two looks for acknowledgements."""

CODEC = MessageCodec(SchemaIds.packaged())
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
"""Every way in which a Kafka client may compress."""

HeaderList = list[tuple[str | bytes, bytes | None]]
"""A name that is no text is bytes."""

Origin = tuple[str, int, int]
"""Topic, partition and offset of a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A record to send. `partition` None: the partitioner decides."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: HeaderList
    partition: int | None = None
    timestamp_ms: int | None = None  # None: now


def send_all(
    engine: LocalEngine, records: Iterable[Sent], *, partitioner: str = "murmur2_random", codec: str = "none"
) -> Mapping[Origin, Sent]:
    """Append with an idempotent producer; returns each record by where the broker says that it stands.

    Those with a header name that is no text go by another producer, afterwards.
    """
    return append_all(engine.bootstrap_servers, records, partitioner=partitioner, codec=codec)


def append_all(
    bootstrap_servers: str, records: Iterable[Sent], *, partitioner: str = "murmur2_random", codec: str = "none"
) -> Mapping[Origin, Sent]:
    """As `send_all`, to brokers that are named. Outages shorter than the flush are waited out."""
    raw: list[Sent] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "partitioner": partitioner,
            "compression.type": codec,
            "message.max.bytes": MAX_RECORD_BYTES,
            "enable.idempotence": True,
            "linger.ms": 5,
            "log_level": 0,
        }
    )
    placed: dict[Origin, Sent] = {}

    def delivered(record: Sent) -> Callable[[KafkaError | None, Message], None]:
        def note(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            placed[topic, partition, offset] = record

        return note

    count = 0
    for count, record in enumerate(records, start=1):
        if has_raw_names(record):
            raw.append(record)
            continue
        producer.produce(
            record.topic,
            key=record.key,
            value=record.value,
            headers=[(str(name), value) for name, value in record.headers],
            partition=ANY_PARTITION if record.partition is None else record.partition,
            timestamp=record.timestamp_ms or 0,  # 0 is librdkafka's word for now
            on_delivery=delivered(record),
        )
        if count % POLL_EVERY == 0:
            producer.poll(0)
    assert producer.flush(FLUSH_TIMEOUT_S) == 0
    if raw:
        placed |= asyncio.run(append_raw(bootstrap_servers, raw, codec=codec))
    assert len(placed) == count
    return placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Buried:
    """One record of the dead letter topic, decoded."""

    at: LogRecord
    envelope: Envelope
    letter: DeadLetter

    @property
    def origin(self) -> Origin:
        """Where the record died."""
        return self.letter.topic, self.letter.partition, self.letter.offset


class Graveyard:
    """What came to the dead letter topic since the graveyard was opened."""

    def __init__(self, connection: KafkaConnection, ends: Mapping[int, int]) -> None:
        self._connection = connection
        self._next = dict(ends)
        self._found: list[Buried] = []

    @classmethod
    async def open(cls, engine: LocalEngine) -> "Graveyard":
        """Begin to look at the end of the topic as it is now."""
        connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
        return cls(connection, await end_offsets(connection, topics.DLQ))

    @classmethod
    def whole(cls, bootstrap_servers: str) -> "Graveyard":
        """Everything that ever came."""
        return cls(KafkaConnection(bootstrap_servers=bootstrap_servers), {})

    async def look(self) -> list[Buried]:
        """Return every letter that came since, in the order of their partitions."""
        async for record in read_log(self._connection, topics.DLQ, start=ReadFrom(offsets=self._next)):
            self._next[record.partition] = record.offset + 1
            envelope, letter = CODEC.decode(record.value, record.headers)
            if isinstance(letter, DeadLetter):
                self._found.append(Buried(at=record, envelope=envelope, letter=letter))
        return list(self._found)

    async def when_all_there(self, origins: Iterable[Origin]) -> list[Buried]:
        """Return every letter once each of these records has one; fails with what is missing."""
        wanted = set(origins)
        deadline_s = time.monotonic() + WAIT_TIMEOUT_S
        while missing := wanted - {each.origin for each in await self.look()}:
            assert time.monotonic() < deadline_s, f"{len(missing)} of {len(wanted)} never came: {sorted(missing)[:5]}"
            await asyncio.sleep(POLL_S)
        return list(self._found)


async def event_of(engine: LocalEngine, order: str, event_type: str, *, codec: MessageCodec = CODEC) -> PaymentEvent:
    """Return the order's event of that type once it is on the log."""
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while True:
        async for envelope, event in _events(engine, order, codec):
            if envelope.type == event_type:
                return event
        assert time.monotonic() < deadline_s, f"{order}: no {event_type}"
        await asyncio.sleep(POLL_S)


async def _events(engine: LocalEngine, order: str, codec: MessageCodec) -> AsyncIterator[tuple[Envelope, PaymentEvent]]:
    connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
    async for record in read_log(connection, topics.EVENTS, key=order.encode()):
        envelope, event = codec.decode(record.value, record.headers)
        assert isinstance(event, PaymentEvent)
        yield envelope, event


def not_running(engine: LocalEngine) -> list[str]:
    """Return the components that have ended."""
    return [each.name for each in engine.components.values() if not each.running]
