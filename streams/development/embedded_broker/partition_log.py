"""One partition's log in memory: append, read, find by time, cut the head.

Called by `topic_store` (retention, compaction), `produce_api`, `fetch_api` and `log_apis`. It calls `record_batch` and
`producer_state`. The log knows nothing of topics' settings or of the wire; batches stay the bytes that were produced.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from streams.development.embedded_broker.limits import STORED_BATCH_OVERHEAD_BYTES
from streams.development.embedded_broker.producer_state import NO_PRODUCER_ID, ProducerStates
from streams.development.embedded_broker.record_batch import (
    BatchHeader,
    can_read_records,
    header_of,
    record_section,
    spans,
    with_base_offset,
)

NO_OFFSET: Final = -1


class OffsetOutOfRangeError(Exception):
    """The offset lies before the log's start or after its end."""


class StoredBatch(NamedTuple):
    """A batch at its place. A NamedTuple for its cost: one is made for every produced batch."""

    base_offset: int
    next_offset: int
    max_timestamp_ms: int
    payload: bytes

    @property
    def size_bytes(self) -> int:
        """What the batch costs in memory, Python's own objects included."""
        return len(self.payload) + STORED_BATCH_OVERHEAD_BYTES


class FoundOffset(NamedTuple):
    """The answer to "the first record at or after this time"; both -1 when there is none."""

    offset: int
    timestamp_ms: int


class PartitionLog:
    """The log of one partition.

    Invariants: batches are ordered and do not overlap; `start_offset` <= `end_offset`; `size_bytes` is the sum over the
    stored batches; `dirty_bytes` is what was appended since the last compaction.
    """

    __slots__ = (
        "_bases",
        "_batches",
        "dirty_bytes",
        "end_offset",
        "producers",
        "size_bytes",
        "start_offset",
        "waiters",
    )

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._batches: list[StoredBatch] = []
        self.start_offset = 0
        self.end_offset = 0  # the high watermark too, since there are no replicas
        self.size_bytes = 0
        self.dirty_bytes = 0
        self.producers = ProducerStates()
        self.waiters: set[asyncio.Event] = set()  # of long polls; each takes its own away

    @property
    def batches(self) -> Sequence[StoredBatch]:
        """The stored batches, oldest first; a snapshot is the caller's business."""
        return self._batches

    def append(self, header: BatchHeader, batch: bytes) -> int:
        """Stores a checked batch and returns its first record's offset; for a duplicate, the first copy's offset.

        Raises:
            OutOfOrderSequenceError: an idempotent producer's batch is missing before this one.
            StaleProducerEpochError: an idempotent producer has a newer instance.
        """
        if header.producer_id != NO_PRODUCER_ID:
            stored_at = self.producers.base_offset_of_duplicate(header)
            if stored_at is not None:
                return stored_at
        base_offset = self.end_offset
        next_offset = base_offset + header.last_offset_delta + 1
        stored = StoredBatch(base_offset, next_offset, header.max_timestamp_ms, with_base_offset(batch, base_offset))
        self._bases.append(base_offset)
        self._batches.append(stored)
        self.end_offset = next_offset
        self.size_bytes += stored.size_bytes
        self.dirty_bytes += stored.size_bytes
        if header.producer_id != NO_PRODUCER_ID:
            self.producers.remember(header, base_offset)
        return base_offset

    def wake_waiters(self) -> None:
        """Tells every long poll to look again."""
        for waiter in self.waiters:
            waiter.set()

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool) -> list[bytes]:
        """Whole batches from the one that holds `offset` on, up to `max_bytes`.

        Args:
            offset: first wanted record; the first batch may begin before it, as in Kafka.
            max_bytes: limit on the sum of the batches.
            at_least_one: return the first batch even if it alone is larger than the limit, so that a reader never
                stalls on a large record.

        Raises:
            OffsetOutOfRangeError: outside of the log.
        """
        if not self.start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRangeError(offset)
        found: list[bytes] = []
        if offset == self.end_offset:
            return found
        index = max(bisect_right(self._bases, offset) - 1, 0)
        if index < len(self._batches) and self._batches[index].next_offset <= offset:
            index += 1  # compaction left a hole here
        left = max_bytes
        for position in range(index, len(self._batches)):
            payload = self._batches[position].payload
            if len(payload) > left and not (at_least_one and not found):
                break
            found.append(payload)
            left -= len(payload)
        return found

    def first_at_or_after(self, timestamp_ms: int) -> FoundOffset:
        """The first record not before `timestamp_ms`; in a batch we cannot look into, its first record."""
        for batch in self._batches:
            if batch.max_timestamp_ms < timestamp_ms or batch.next_offset <= self.start_offset:
                continue
            header = header_of(batch.payload)
            if not can_read_records(header):
                return FoundOffset(max(batch.base_offset, self.start_offset), header.base_timestamp_ms)
            for span in spans(record_section(batch.payload, header), header):
                if span.timestamp_ms >= timestamp_ms and span.offset >= self.start_offset:
                    return FoundOffset(span.offset, span.timestamp_ms)
        return FoundOffset(NO_OFFSET, NO_OFFSET)

    def latest_timestamp(self) -> FoundOffset:
        """The record with the highest time (ListOffsets' max timestamp)."""
        newest = max(self._batches, key=lambda batch: batch.max_timestamp_ms, default=None)
        return FoundOffset(NO_OFFSET, NO_OFFSET) if newest is None else self.first_at_or_after(newest.max_timestamp_ms)

    def cut_before(self, offset: int) -> None:
        """Moves the start to `offset` and frees the batches that lie wholly before it.

        Raises:
            OffsetOutOfRangeError: after the end.
        """
        if offset > self.end_offset:
            raise OffsetOutOfRangeError(offset)
        self.start_offset = max(self.start_offset, offset)
        dropped = 0
        for batch in self._batches:
            if batch.next_offset > self.start_offset:
                break
            self.size_bytes -= batch.size_bytes
            dropped += 1
        del self._batches[:dropped]
        del self._bases[:dropped]
        self.dirty_bytes = min(self.dirty_bytes, self.size_bytes)

    def cut_expired(self, before_ms: int) -> None:
        """Frees the head up to the first batch that has a record at or after `before_ms`."""
        offset = self.start_offset
        for batch in self._batches:
            if batch.max_timestamp_ms >= before_ms:
                break
            offset = batch.next_offset
        if offset > self.start_offset:
            self.cut_before(offset)

    def cut_to_size(self, limit_bytes: int) -> None:
        """Frees oldest batches until the log takes at most `limit_bytes`; the newest batch always stays."""
        excess = self.size_bytes - limit_bytes
        offset = self.start_offset
        for batch in self._batches[:-1]:
            if excess <= 0:
                break
            excess -= batch.size_bytes
            offset = batch.next_offset
        if offset > self.start_offset:
            self.cut_before(offset)

    def replace_head(self, until_offset: int, compacted: Iterable[StoredBatch]) -> None:
        """Puts `compacted` in the place of all batches before `until_offset`; what was appended meanwhile stays."""
        tail = [batch for batch in self._batches if batch.base_offset >= until_offset]
        head = [batch for batch in compacted if batch.next_offset > self.start_offset]
        self._batches = head + tail
        self._bases = [batch.base_offset for batch in self._batches]
        self.size_bytes = sum(batch.size_bytes for batch in self._batches)
        self.dirty_bytes = sum(batch.size_bytes for batch in tail)
