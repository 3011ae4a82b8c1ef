"""The partitions that a worker owns: what is under way in each, what may be committed, where a replay ends.

Used by the worker and its committer. No I/O. Each assignment of a partition is an `OwnedPartition` of its own: a record
that was taken under an earlier one is never this worker's to begin, though the partition may have come back.
"""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition

from streams.log_worker.offsets import PartitionOffsets


class OwnedPartition:
    """One partition in one assignment. Outlives the assignment for the records that were taken in it."""

    __slots__ = ("end", "is_ours", "offsets")

    def __init__(self) -> None:
        self.offsets = PartitionOffsets()
        self.is_ours = True
        """Whether what was taken may begin: no longer so once the partition is being given away."""
        self.end: int | None = None
        """Where its log ended when it came, at the earliest. None: not known."""

    def maybe_seen_before(self, offset: int) -> bool:
        """Return whether an earlier owner may have taken this record: it lies below the log's end at assignment.

        Until that end is known, everything may have been.
        """
        return self.end is None or offset < self.end


class OwnedPartitions:
    """The current assignment."""

    def __init__(self) -> None:
        self._owned: dict[TopicPartition, OwnedPartition] = {}

    def assigned(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OwnedPartition]:
        """Say which partitions have come; returns their state, which may hold records that were quicker than this."""
        return {each: self.of(each) for each in partitions}

    def of(self, partition: TopicPartition) -> OwnedPartition:
        """Return the state of a partition of which a record has come: it is owned, whether we were told or not yet."""
        found = self._owned.get(partition)
        if found is None:
            found = self._owned[partition] = OwnedPartition()
        return found

    def leave(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin nothing more of partitions that are about to be given away."""
        for each in partitions:
            if (owned := self._owned.get(each)) is not None:
                owned.is_ours = False

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that are given away."""
        self.leave(partitions)
        for each in partitions:
            self._owned.pop(each, None)

    def all(self) -> list[TopicPartition]:
        """Return the partitions owned now."""
        return list(self._owned)

    def lengths(self) -> dict[TopicPartition, int]:
        """Return how many records are under way in each."""
        return {each: len(owned.offsets) for each, owned in self._owned.items()}

    def read_to(self, positions: Mapping[TopicPartition, int]) -> None:
        """Say that what lies below these offsets, and was not taken, is no record."""
        for each, position in positions.items():
            if (owned := self._owned.get(each)) is not None:
                owned.offsets.read_to(position)

    def staged(self) -> dict[TopicPartition, int]:
        """Return the offsets that are worth a commit now."""
        offsets = {partition: owned.offsets.staged() for partition, owned in self._owned.items()}
        return {partition: offset for partition, offset in offsets.items() if offset is not None}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Say that these offsets were committed; partitions that are gone meanwhile are passed over."""
        for partition, offset in offsets.items():
            if partition in self._owned:
                self._owned[partition].offsets.committed(offset)
