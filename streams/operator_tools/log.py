"""The log as an operator's tool sees it: bounded reads to the end as it is now, and acknowledged appends.

Implemented by `kafka_log.KafkaLog` and, for tests, by `memory_log.MemoryLog`; one contract test runs on both. Unlike
the clients of the running engine it joins no consumer group and commits nothing: looking at the log changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.kafka_clients.log_reader import LogRecord

__all__ = ["Log", "LogRecord", "NewRecord", "Position"]

Headers = tuple[tuple[str, bytes], ...]

MAX_RECORDS = 50_000_000
"""What one read returns at most unless told otherwise: no topic that a person looks through holds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """One record to append."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None  # None: murmur2 of the key, as every producer of the engine


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record stands within a topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """Return `partition:offset`, as the command line takes it."""
        return f"{self.partition}:{self.offset}"


class Log(Protocol):
    """What the operations need of a log."""

    def partitions_of(self, topic: str) -> int:
        """Return the number of the topic's partitions.

        Raises:
            NotFoundError: The topic does not exist.
            UnreachableError: No broker answers.
        """
        ...

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
        """Yield the records from the asked start to the end as it was at the call, then stop.

        Args:
            topic: Where to read.
            partition: Only this one; None: all. Order is kept within a partition, not across.
            since_ms: Start at the first record of this time or later (milliseconds since the epoch).
            first_offset: Start at this offset of that one partition. Wins over `since_ms`.
            tail: Start this many offsets before the end of each partition. Wins over `since_ms`.
            max_records: Stop after this many.

        Raises:
            NotFoundError: The topic does not exist.
            UnreachableError: No broker answers, or one falls silent.
        """
        ...

    def append(self, records: Sequence[NewRecord]) -> tuple[Position, ...]:
        """Append the records and return where they stand, all acknowledged by every in-sync copy.

        Raises:
            UnreachableError: At least one was not acknowledged; any of them may stand on the log all the same.
        """
        ...
