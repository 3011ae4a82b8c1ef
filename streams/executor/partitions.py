"""The partitions that a worker owns: what is in flight in each, what may be committed, where a replay ends.

Used by the worker and its committer. No I/O.
"""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition

from streams.executor.offset_tracker import OffsetTracker


class OwnedPartitions:
    """The state of the current assignment. A partition that was given away and came back starts anew."""

    def __init__(self) -> None:
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._leaving: set[TopicPartition] = set()

    def begin(self, partition: TopicPartition, offset: int) -> OffsetTracker:
        """Take a record; returns the tracker to tell when it is done, which outlives the loss of the partition."""
        tracker = self._trackers.setdefault(partition, OffsetTracker())
        tracker.begin(offset)
        return tracker

    def maybe_seen_before(self, partition: TopicPartition, offset: int) -> bool:
        """Return whether an earlier owner may have taken this record: it lies below the log's end at assignment.

        Until that end is known, everything may have been.
        """
        end = self._ends.get(partition)
        return end is None or offset < end

    def is_current(self, partition: TopicPartition, tracker: OffsetTracker) -> bool:
        """Return whether a record taken under this tracker is still this worker's to begin."""
        return self._trackers.get(partition) is tracker and partition not in self._leaving

    def leaving(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin nothing more of partitions that are about to be given away."""
        self._leaving.update(partitions)

    def assigned(self, ends: Mapping[TopicPartition, int]) -> None:
        """Say where the log of each new partition ended when it came."""
        self._ends.update(ends)

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that are given away."""
        for partition in partitions:
            self._trackers.pop(partition, None)
            self._ends.pop(partition, None)
            self._leaving.discard(partition)

    def all(self) -> list[TopicPartition]:
        """Return the partitions of which records were taken."""
        return list(self._trackers)

    def committable(self) -> dict[TopicPartition, int]:
        """Return the offsets that are worth a commit now."""
        offsets = {partition: tracker.committable() for partition, tracker in self._trackers.items()}
        return {partition: offset for partition, offset in offsets.items() if offset is not None}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Say that these offsets were committed; partitions that are gone meanwhile are passed over."""
        for partition, offset in offsets.items():
            if partition in self._trackers:
                self._trackers[partition].committed(offset)
