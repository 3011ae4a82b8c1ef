"""The log as lists in memory: what the operations' unit tests run on."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from schemas.topics import partition_of
from streams.operations.errors import NotFoundError
from streams.operations.log import LogRecord, NewRecord, Position


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
        partitions: Collection[int] | None = None,
        since_ms: int | None = None,
        first_offset: int | None = None,
        tail: int | None = None,
    ) -> Iterator[LogRecord]:
        """Yield as `Log.read` promises. Raises: NotFoundError."""
        chosen = range(self.partitions_of(topic)) if partitions is None else sorted(partitions)
        for partition in chosen:
            records = tuple(self._records[topic, partition])
            start = first_offset or 0
            if tail is not None:
                start = max(start, len(records) - tail)
            for record in records[start:]:
                if first_offset is not None or since_ms is None or record.timestamp_ms >= since_ms:
                    yield record

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
