"""Records with headers whose names are any bytes, as clients in C, Go or PHP can write them.

Neither aiokafka nor confluent-kafka writes one: both take text alone, as UTF-8. aiokafka's batch builder in pure Python
asks the name itself for its bytes, so this is aiokafka's producer with batches built by it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from schemas.topics import partition_of

MAX_BATCH_BYTES = 1_048_576
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

RawHeader = tuple[str | bytes, bytes | None]


class RawRecord(Protocol):
    """A `Sent` of `foreign_client`."""

    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[RawHeader]: ...
    @property
    def partition(self) -> int | None: ...
    @property
    def timestamp_ms(self) -> int | None: ...


R = TypeVar("R", bound=RawRecord)


class _Name(str):
    """What the builder takes for text, and writes as these bytes."""

    __slots__ = ("raw",)
    raw: bytes

    def encode(self, *_: object) -> bytes:
        return self.raw


def name_of(raw: bytes) -> str:
    """Return a name that the builder writes as these bytes."""
    name = _Name()
    name.raw = raw
    return name


def read_as(name: str | bytes) -> str:
    """Return how the engine reads such a name."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def has_raw_names(record: RawRecord) -> bool:
    """Return whether a name of the record is bytes."""
    return any(isinstance(name, bytes) for name, _ in record.headers)


async def append_raw(
    bootstrap_servers: str, records: Iterable[R], *, codec: str = "none"
) -> Mapping[tuple[str, int, int], R]:
    """Append one batch a record; returns each by topic, partition and offset. A retry may repeat one."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    await producer.start()
    try:
        sent = [(record, await _send(producer, record, CODECS[codec])) for record in records]
        placed = await asyncio.gather(*[future for _, future in sent])
    finally:
        await producer.stop()
    return {(record.topic, at.partition, at.offset): record for (record, _), at in zip(sent, placed, strict=True)}


async def _send(producer: Any, record: RawRecord, codec: int) -> asyncio.Future[Any]:
    partitions = len(await producer.partitions_for(record.topic))
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, MAX_BATCH_BYTES)
    headers = [(name_of(name if isinstance(name, bytes) else name.encode()), value) for name, value in record.headers]
    batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=headers)
    place = partition_of(record.key or b"", partitions) if record.partition is None else record.partition
    future: asyncio.Future[Any] = await producer.send_batch(batch, record.topic, partition=place)
    return future
