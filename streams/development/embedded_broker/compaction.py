"""Compaction: of each key, keep the last record.

Called by `topic_store`'s upkeep for topics with `cleanup.policy=compact`, so that a changelog on a laptop stays as
large as its table and not as its history. It is a generator that pauses after every batch: the caller decides how
long to go on, so a large log never holds up the loop. The rules are Kafka's log cleaner's: the newest part is left
alone (here: the last batch), offsets never change, a tombstone outlives its `delete.retention.ms` so that a reader
that is behind still sees the deletion.
"""

from collections.abc import Generator

from streams.development.embedded_broker.partition_log import PartitionLog, StoredBatch
from streams.development.embedded_broker.record_batch import (
    BatchHeader,
    RecordSpan,
    can_read_records,
    header_of,
    rebuild,
    record_section,
    spans,
)


def compact(log: PartitionLog, *, tombstones_expire_before_ms: int) -> Generator[None, None, None]:
    """Compacts `log`; the log changes only at the very end, in one step.

    What is appended while the generator is paused stays as it is until the next run: a record it makes stale is
    only kept longer.

    Args:
        log: the partition's log.
        tombstones_expire_before_ms: tombstones in batches older than this go away too.

    Yields:
        None, after each batch, for the caller to let others run.
    """
    batches = tuple(log.batches)
    if len(batches) < 2:  # noqa: PLR2004  the last batch is never touched, so one batch leaves nothing to do
        return
    latest: dict[bytes, int] = {}
    for batch in batches:
        header = header_of(batch.payload)
        if can_read_records(header):
            latest.update(
                (span.key, span.offset)
                for span in spans(record_section(batch.payload, header), header)
                if span.key is not None
            )
        yield
    tail = batches[-1]
    compacted: list[StoredBatch] = []
    for batch in batches[:-1]:
        kept = _cut_down(batch, latest, tombstones_expire=batch.max_timestamp_ms < tombstones_expire_before_ms)
        if kept is not None:
            compacted.append(kept)
        yield
    log.replace_head(tail.base_offset, compacted)


def _cut_down(batch: StoredBatch, latest: dict[bytes, int], *, tombstones_expire: bool) -> StoredBatch | None:
    header = header_of(batch.payload)
    if not can_read_records(header):
        return batch
    section = record_section(batch.payload, header)
    records = spans(section, header)
    kept = [span for span in records if _is_live(span, latest) and not (tombstones_expire and span.is_tombstone)]
    if len(kept) == len(records):
        return batch
    return _rebuilt(batch, header, section, kept) if kept else None


def _rebuilt(batch: StoredBatch, header: BatchHeader, section: bytes, kept: list[RecordSpan]) -> StoredBatch:
    return batch._replace(payload=rebuild(header, section, kept))


def _is_live(span: RecordSpan, latest: dict[bytes, int]) -> bool:
    return span.key is None or latest[span.key] == span.offset
