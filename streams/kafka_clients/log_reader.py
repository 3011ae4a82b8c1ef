"""A bounded read of a topic: from where it is told to where the log ends when the reading begins.

Called by `payments show`, `dlq list|show|redrive`, the policy writer and tests. Calls aiokafka, without a group: it
moves nobody's offsets. Records come partition by partition as they are fetched; within a partition in order.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.misconfigured import MisconfiguredError
from schemas.topics import partition_of
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader, partitions_of
from streams.kafka_clients.errors import RetryableError, classify

MAX_RECORDS = 1_000_000
"""Default bound on what one read returns."""

STALL_TIMEOUT_S = 15.0
"""Longest time without any progress before a read gives up."""

POLL_TIMEOUT_MS = 200
POLL_MAX_RECORDS = 1_000
CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One record as it stands on the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFrom:
    """Where a read begins. Offsets win over a time, a time over the beginning of the log."""

    offsets: Mapping[int, int] | None = None  # partition to offset; a partition left out begins at its first record
    timestamp_ms: int | None = None  # the first record at or after this time


async def read_log(
    connection: KafkaConnection,
    topic: str,
    *,
    start: ReadFrom | None = None,
    partition: int | None = None,
    key: bytes | None = None,
    max_records: int = MAX_RECORDS,
    stall_timeout_s: float = STALL_TIMEOUT_S,
) -> AsyncIterator[LogRecord]:
    """Yield the records between `start` and the end of the log as it is now.

    Args:
        connection: the broker.
        topic: an existing topic.
        start: where to begin; None: at the first record.
        partition: only this one.
        key: only records with this key; only their partition is read, by murmur2, unless `partition` says another.
        max_records: stop after this many.
        stall_timeout_s: longest time without progress.

    Raises:
        MisconfiguredError: there is no such topic or partition.
        RetryableError: the broker did not answer, or no progress was made in time.
    """
    consumer = build_reader(connection)
    try:
        async with asyncio.timeout(stall_timeout_s):
            await consumer.start()
            wanted = _partitions(await partitions_of(consumer, topic), topic, partition, key)
            consumer.assign(wanted)
            ends = await _seek(consumer, wanted, start or ReadFrom())
        found = 0
        async for record in _until(consumer, ends, stall_timeout_s):
            if key is None or record.key == key:
                yield record
                found += 1
                if found >= max_records:
                    return
    except (KafkaError, TimeoutError, OSError) as error:
        raise classify(error) from error
    finally:
        await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_TIMEOUT_S)


async def end_offsets(connection: KafkaConnection, topic: str) -> Mapping[int, int]:
    """Return the offset after the last record of each partition. Raises: MisconfiguredError, RetryableError."""
    consumer = build_reader(connection)
    try:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            await consumer.start()
            known = await partitions_of(consumer, topic)
            ends = await consumer.end_offsets([TopicPartition(topic, each) for each in known])
    except (KafkaError, TimeoutError, OSError) as error:
        raise classify(error) from error
    finally:
        await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_TIMEOUT_S)
    return {each.partition: offset for each, offset in ends.items()}


async def has_record(connection: KafkaConnection, topic: str, partition: int, *, from_offset: int) -> bool:
    """Return whether a record stands there or behind it, up to an open transaction.

    Offsets alone do not tell: transactions' markers, and what they aborted, have offsets too.

    Raises: MisconfiguredError, RetryableError.
    """
    start = ReadFrom(offsets={partition: from_offset})
    found = [1 async for _ in read_log(connection, topic, start=start, partition=partition, max_records=1)]
    return bool(found)


def _partitions(known: Sequence[int], topic: str, partition: int | None, key: bytes | None) -> list[TopicPartition]:
    if partition is None and key is not None:
        partition = partition_of(key, len(known))
    if partition is None:
        return [TopicPartition(topic, each) for each in known]
    if partition not in known:
        raise MisconfiguredError(f"{topic} has no partition {partition}")
    return [TopicPartition(topic, partition)]


async def _seek(consumer: Any, wanted: Sequence[TopicPartition], start: ReadFrom) -> dict[TopicPartition, int]:
    """Go to the start of each partition; returns the ends of those that hold anything from there on."""
    first = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    begin = dict(first)
    if start.timestamp_ms is not None:
        times = await consumer.offsets_for_times(dict.fromkeys(wanted, start.timestamp_ms))
        begin = {each: ends[each] if times[each] is None else times[each].offset for each in wanted}
    for each in wanted:
        if start.offsets is not None and each.partition in start.offsets:
            begin[each] = max(first[each], start.offsets[each.partition])
    open_ends = {each: ends[each] for each in wanted if begin[each] < ends[each]}
    if open_ends:
        consumer.assign(list(open_ends))
    for each in open_ends:
        consumer.seek(each, begin[each])
    return open_ends


async def _until(consumer: Any, ends: dict[TopicPartition, int], stall_timeout_s: float) -> AsyncIterator[LogRecord]:
    loop = asyncio.get_running_loop()
    moved_s = loop.time()
    open_ends = dict(ends)
    while open_ends:
        batches = await consumer.getmany(*open_ends, timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_MAX_RECORDS)
        for source, records in batches.items():
            for record in records:
                if record.offset < ends[source]:
                    yield log_record_of(record)
        # The position, not the last record, tells the end: compaction may have taken what stood there.
        for each in list(open_ends):
            if await consumer.position(each) >= open_ends[each]:
                del open_ends[each]
        if batches:
            moved_s = loop.time()
        elif loop.time() - moved_s > stall_timeout_s:
            raise RetryableError(f"no record for {stall_timeout_s:.0f} s before the end of the log")


def log_record_of(record: Any) -> LogRecord:
    """Return an aiokafka record in our words."""
    return LogRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple((name, bytes(value or b"")) for name, value in record.headers),
    )
