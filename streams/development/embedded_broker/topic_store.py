"""All topics of the broker: their logs, settings and the memory they may take.

Called by the API modules; calls `partition_log` and `compaction`. Memory is bounded twice, per partition and in
total (`limits`): topics with `cleanup.policy=delete` lose their oldest records, as if their retention were shorter;
topics that only compact are compacted, and a write that still does not fit is **refused**, since dropping a row of
a table in silence is worse than an error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from streams.development.embedded_broker.compaction import compact
from streams.development.embedded_broker.limits import (
    COMPACTION_MIN_DIRTY_BYTES,
    MAX_EVICTIONS_PER_APPEND,
    MAX_PARTITION_BYTES,
    MAX_PARTITIONS,
    MAX_PARTITIONS_PER_TOPIC,
    MAX_TOPIC_NAME_CHARS,
    MAX_TOPICS,
    MAX_TOTAL_BYTES,
    STORED_BATCH_OVERHEAD_BYTES,
)
from streams.development.embedded_broker.partition_log import PartitionLog
from streams.development.embedded_broker.topic_config import TopicConfig

_LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9._-]+")
_EVICTION_FRACTION: Final = 8  # make room in steps of an eighth, so that not every append evicts


class TopicExistsError(Exception):
    """A topic of that name exists."""


class UnknownTopicError(Exception):
    """No topic of that name."""


class InvalidTopicNameError(Exception):
    """A name that Kafka does not allow."""


class InvalidPartitionCountError(Exception):
    """A partition count below one, above the limit, or not above the present one."""


class MemoryFullError(Exception):
    """The record does not fit under the memory limits and nothing may be dropped for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    """How much the broker may hold, in bytes; the overhead of Python's objects is counted in."""

    partition_bytes: int = MAX_PARTITION_BYTES
    total_bytes: int = MAX_TOTAL_BYTES


@dataclass(slots=True, kw_only=True)
class Topic:
    """A topic's settings and logs; the list's index is the partition."""

    name: str
    config: TopicConfig
    logs: list[PartitionLog] = field(default_factory=list)


class TopicStore:
    """Creates, finds, changes and deletes topics, and keeps them within their memory."""

    def __init__(self, *, default_partitions: int, memory: MemoryLimits) -> None:
        self._topics: dict[str, Topic] = {}
        self._default_partitions = default_partitions
        self._memory = memory
        self._size_bound_bytes = 0  # never below `size_bytes`; spares a sum over all partitions at every append

    def __iter__(self) -> Iterator[Topic]:
        return iter(tuple(self._topics.values()))

    def find(self, name: str) -> Topic | None:
        """The topic of that name, if there is one."""
        return self._topics.get(name)

    def log(self, topic: str, partition: int) -> PartitionLog | None:
        """That partition's log, if there is one."""
        found = self._topics.get(topic)
        return found.logs[partition] if found is not None and 0 <= partition < len(found.logs) else None

    @property
    def size_bytes(self) -> int:
        """The memory that all logs take."""
        return sum(log.size_bytes for topic in self._topics.values() for log in topic.logs)

    def check_new(self, name: str, partitions: int | None, config: Mapping[str, str]) -> Topic:
        """The topic as `create` would make it, without making it.

        Args:
            name: the topic's name.
            partitions: how many, or None for the broker's default.
            config: settings that differ from their default.

        Raises:
            InvalidTopicNameError, TopicExistsError, InvalidPartitionCountError, InvalidConfigError: as they say.
        """
        if not _LEGAL_NAME.fullmatch(name) or name in (".", "..") or len(name) > MAX_TOPIC_NAME_CHARS:
            raise InvalidTopicNameError(f"Topic name is invalid: {name!r}")
        if name in self._topics:
            raise TopicExistsError(f"Topic '{name}' already exists.")
        if len(self._topics) >= MAX_TOPICS:
            raise InvalidPartitionCountError(f"the embedded broker holds at most {MAX_TOPICS} topics")
        count = self._default_partitions if partitions is None else partitions
        self._check_count(count, growth=count)
        return Topic(name=name, config=TopicConfig(config), logs=[PartitionLog() for _ in range(count)])

    def create(self, name: str, partitions: int | None, config: Mapping[str, str]) -> Topic:
        """Makes a topic; arguments and errors are those of `check_new`."""
        topic = self._topics[name] = self.check_new(name, partitions, config)
        return topic

    def delete(self, name: str) -> None:
        """Removes a topic with all its records; readers that wait on it are woken and find it gone.

        Raises:
            UnknownTopicError: there is none.
        """
        topic = self._topics.pop(name, None)
        if topic is None:
            raise UnknownTopicError(name)
        for log in topic.logs:
            log.wake_waiters()

    def grow(self, name: str, partitions: int, *, validate_only: bool) -> None:
        """Raises the partition count to `partitions`.

        Raises:
            UnknownTopicError: there is none.
            InvalidPartitionCountError: not above the present count, or above the limit.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise UnknownTopicError(name)
        present = len(topic.logs)
        if partitions <= present:
            raise InvalidPartitionCountError(
                f"The topic {name} currently has {present} partition(s); {partitions} would not be an increase."
            )
        self._check_count(partitions, growth=partitions - present)
        if not validate_only:
            topic.logs.extend(PartitionLog() for _ in range(partitions - present))

    def _check_count(self, count: int, *, growth: int) -> None:
        if count < 1:
            raise InvalidPartitionCountError("Number of partitions was set to an invalid non-positive value.")
        held = sum(len(topic.logs) for topic in self._topics.values())
        if count > MAX_PARTITIONS_PER_TOPIC or held + growth > MAX_PARTITIONS:
            raise InvalidPartitionCountError(
                f"the limits are {MAX_PARTITIONS_PER_TOPIC} partitions a topic and {MAX_PARTITIONS} in all"
            )

    def make_room(self, topic: Topic, log: PartitionLog, payload_bytes: int, now_ms: int) -> None:
        """Sees to it that a batch of `payload_bytes` fits into `log`; drops only what the topics' policies let it drop.

        Raises:
            MemoryFullError: it does not fit.
        """
        needed = payload_bytes + STORED_BATCH_OVERHEAD_BYTES
        limit = self._memory.partition_bytes
        if log.size_bytes + needed > limit:
            self._shrink(topic, log, limit - limit // _EVICTION_FRACTION, now_ms)
        if log.size_bytes + needed > limit:
            raise MemoryFullError(f"partition of {topic.name} would exceed {limit} bytes; {_policy_hint(topic)}")
        self._make_total_room(needed)

    def _make_total_room(self, needed: int) -> None:
        limit = self._memory.total_bytes
        self._size_bound_bytes += needed
        if self._size_bound_bytes <= limit:
            return
        for _ in range(MAX_EVICTIONS_PER_APPEND):
            self._size_bound_bytes = self.size_bytes + needed
            if self._size_bound_bytes <= limit:
                return
            largest = max(
                (log for topic in self._topics.values() if topic.config.deletes for log in topic.logs),
                key=lambda log: log.size_bytes,
                default=None,
            )
            if largest is None:
                break
            before = largest.size_bytes
            largest.cut_to_size(before - before // _EVICTION_FRACTION)
            if largest.size_bytes == before:
                break
        raise MemoryFullError(f"the embedded broker holds {limit} bytes in all, and nothing more may be dropped")

    def _shrink(self, topic: Topic, log: PartitionLog, target_bytes: int, now_ms: int) -> None:
        if topic.config.compacts and log.dirty_bytes >= self._memory.partition_bytes // _EVICTION_FRACTION:
            # Upkeep should have come first; at the limit the write has to wait for it, however long it takes.
            for _ in compact(log, tombstones_expire_before_ms=now_ms - topic.config.delete_retention_ms):
                pass  # each step does its work; there is nothing to do between them
        if topic.config.deletes:
            log.cut_to_size(target_bytes)

    def expire(self, now_ms: int) -> None:
        """Drops what retention by time and size says; cheap, called at every upkeep."""
        for topic in self._topics.values():
            if not topic.config.deletes:
                continue
            for log in topic.logs:
                if topic.config.retention_ms is not None:
                    log.cut_expired(now_ms - topic.config.retention_ms)
                if topic.config.retention_bytes is not None:
                    log.cut_to_size(topic.config.retention_bytes)

    def compactions(self, now_ms: int) -> Iterator[None]:
        """Runs every compaction that is due, pausing after each batch for the caller to let others run."""
        for topic in self:
            if not topic.config.compacts:
                continue
            for log in tuple(topic.logs):
                if is_dirty(topic, log):
                    yield from compact(log, tombstones_expire_before_ms=now_ms - topic.config.delete_retention_ms)


def is_dirty(topic: Topic, log: PartitionLog) -> bool:
    """Whether enough was appended since the last compaction for the next one to be worth its cost."""
    return (
        log.dirty_bytes >= COMPACTION_MIN_DIRTY_BYTES
        and log.dirty_bytes >= topic.config.min_dirty_ratio * log.size_bytes
    )


def _policy_hint(topic: Topic) -> str:
    return "cleanup.policy=compact keeps every key" if topic.config.compacts else "the batch alone is too large"
