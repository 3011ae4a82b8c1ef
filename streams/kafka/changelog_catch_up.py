"""Reads a long changelog into the local rows by large batches, before Faust reads what little is left record by record.

Called by `faust_fences.recovery`, for the partitions of an owner that lack many records: a worker with an empty disk.
Calls aiokafka's consumer directly. Faust's own way, an event, a queue and a dozen awaits a record, takes
about ten times as long, and the orders of the partition wait all the while.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from faust.types import TP

from streams.kafka import dues, stamps
from streams.kafka.errors import StalledError
from streams.kafka.partition_rows import ChangelogRecord, StoredRow
from streams.kafka_clients.consumer import ISOLATION

RECORDS_MIN = 2_000
"""A shorter backlog is left to Faust: to connect another consumer would take as long."""

BATCH_RECORDS = 2_000
"""Merged at once: bounds how long the event loop is held, some 50 ms."""

FETCH_BYTES = 1_048_576
"""Of one partition, fetched ahead: bounds memory, and holds a record of the largest size."""

POLL_TIMEOUT_MS = 1_000
STALL_TIMEOUT_S = 90.0
"""Longest time without a record; then the worker stops, and whoever supervises it starts it again."""

CLOSE_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is to be read of one partition: from the first offset to the one before `end`."""

    first: int
    end: int


Merge = Callable[[TP, Sequence[ChangelogRecord]], bool]
"""Applies records of one partition; False when the partition is not this worker's any more, and reading shall end."""


async def catch_up(options: Mapping[str, Any], spans: Mapping[TP, Span], merge: Merge) -> bool:
    """Read every span to its end.

    Safe to cancel at any moment: what is merged is merged, and the next recovery goes on behind it.

    Args:
        options: aiokafka's, for the connection.
        spans: what to read.
        merge: applies a batch.

    Returns:
        Whether all was read; False when `merge` ended it.

    Raises:
        StalledError: the broker gave nothing for `STALL_TIMEOUT_S`.
        KafkaError: it does not answer at all.
    """
    async with _reader(options) as consumer:
        consumer.assign(list(spans))
        for tp, span in spans.items():
            consumer.seek(tp, span.first)
        return await _read(consumer, dict(spans), merge)


@asynccontextmanager
async def _reader(options: Mapping[str, Any]) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        **options,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        isolation_level=ISOLATION,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_TIMEOUT_S)


async def _read(consumer: Any, left: dict[TP, Span], merge: Merge) -> bool:
    loop = asyncio.get_running_loop()
    moved_at_s = loop.time()
    while left:
        batches = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=BATCH_RECORDS)
        for raw_tp, batch in batches.items():
            if not merge(TP(*raw_tp), [_changelog_record(record) for record in batch if record.key is not None]):
                return False
        if batches:
            moved_at_s = loop.time()
        elif loop.time() - moved_at_s > STALL_TIMEOUT_S:
            raise StalledError(f"no changelog record for {STALL_TIMEOUT_S} s, {len(left)} partitions are not read")
        # By position, not by the last record: the end may be a hole that compaction or a transaction left.
        for tp, span in list(left.items()):
            if await consumer.position(tp) >= span.end:
                del left[tp]
                consumer.pause(tp)
    return True


def _changelog_record(record: Any) -> ChangelogRecord:
    stamp, due = stamps.from_headers(record.headers), dues.from_headers(record.headers)
    return ChangelogRecord(record.key, StoredRow(stamp, record.value, record.timestamp, due), record.offset)
