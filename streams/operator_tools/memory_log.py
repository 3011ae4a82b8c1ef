"""The log as lists in memory: what the operations' unit tests run on."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from schemas.topics import partition_of
from streams.operator_tools.errors import NotFoundError
from streams.operator_tools.log import MAX_RECORDS, LogRecord, NewRecord, Position


class MemoryLog:
    """A `Log` that keeps its records in lists."""

    def __init__(self, topics: Mapping[str, int], *, clock_ms: Callable[[], int]) -> None:
        """Hold these topics (name and number of partitions); `clock_ms` stamps what is appended."""
        self._topics = dict(topics)
        self._clock_ms = clock_ms
        self._records: dict[tuple[str, int], list[LogRecord]] = defaultdict(list)

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions. Raises: NotFoundError."""
        if topic not in self._topics:
            raise NotFoundError(f"topic {topic} does not exist; `payment-engine topics apply` creates it")
        return self._topics[topic]

    def read(
        self,
        topic: str,
        *,
        partition: int | None = None,
        since_ms: int | None = None,
        first_offset: int | None = None,
        tail: int | None = None,
        max_records: int = MAX_RECORDS,
    ) -> Iterator[LogRecord]:
        """Return what `Log.read` promises. Raises: NotFoundError."""
        count = self.partitions_of(topic)
        chosen = range(count) if partition is None else (partition,)
        found = (
            record
            for each in chosen
            for record in self._from(topic, each, since_ms=since_ms, first_offset=first_offset, tail=tail)
        )
        return islice(found, max_records)

    def _from(
        self, topic: str, partition: int, *, since_ms: int | None, first_offset: int | None, tail: int | None
    ) -> Sequence[LogRecord]:
        records = self._records[topic, partition]
        if first_offset is not None:
            return records[first_offset:]
        if tail is not None:
            return records[max(0, len(records) - tail) :]
        # Like a broker: the first record of that time, then all that follow it, whatever their times.
        start = next((each.offset for each in records if since_ms is None or each.timestamp_ms >= since_ms), None)
        return [] if start is None else records[start:]

    def append(self, records: Sequence[NewRecord]) -> tuple[Position, ...]:
        """Append and return the positions. Raises: NotFoundError."""
        return tuple(self._append(record) for record in records)

    def _append(self, new: NewRecord) -> Position:
        count = self.partitions_of(new.topic)
        partition = new.partition if new.partition is not None else partition_of(new.key or b"", count)
        records = self._records[new.topic, partition]
        record = LogRecord(
            topic=new.topic,
            partition=partition,
            offset=len(records),
            timestamp_ms=self._clock_ms(),
            key=new.key,
            value=new.value,
            headers=new.headers,
        )
        records.append(record)
        return Position(partition, record.offset)
