"""The partitions that a worker owns: what is under way in each, what may be committed, where a replay ends.

Used by the worker and its committer. No I/O. Each assignment of a partition is an `OwnedPartition` of its own: a record
that was taken under an earlier one is never this worker's to begin, though the partition may have come back.
"""

from collections.abc import Callable, Iterable, Mapping

from aiokafka import TopicPartition

from streams.log_worker.hand_over import HandOver, together
from streams.log_worker.offsets import PartitionOffsets

Commit = tuple[int, str]
"""An offset, and the note beside it; most have none."""


class OwnedPartition:
    """One partition in one assignment. Outlives the assignment for the records that were taken in it."""

    __slots__ = ("_leaves_until_ms", "begun", "end", "inherited", "is_handed_over", "is_ours", "offsets")

    def __init__(self, *, inherited: HandOver | None = None) -> None:
        self.offsets = PartitionOffsets()
        self.is_ours = True
        """Whether what was taken may begin: no longer so once the partition is being given away."""
        self.is_handed_over = False
        """Whether another owner may be at work on what is still under way here."""
        self.end: int | None = None
        """Where its log ended when it came, at the earliest. None: not known."""
        self.begun: set[int] = set()
        """Offsets of records that cannot be left to the next owner: what they cause is under way."""
        self.inherited = inherited
        """What an earlier owner has left under way. None: nothing."""
        self._leaves_until_ms: int | None = None

    def maybe_seen_before(self, offset: int) -> bool:
        """Return whether an earlier owner may have taken this record: it lies below the log's end at assignment.

        Until that end is known, everything may have been.
        """
        return self.end is None or offset < self.end

    def hand_over(self, *, until_ms: int) -> None:
        """Say that the partition goes to another owner, and that what is under way goes on until then at most."""
        self.is_ours, self.is_handed_over = False, True
        self._leaves_until_ms = until_ms

    def to_commit(self, *, now_ms: int) -> Commit | None:
        """Return the offset that is worth a commit now, with what an owner after this one has to know."""
        leaves = self._leaves()
        left = together(leaves, self.inherited)
        note = "" if left is None or left.until_ms <= now_ms else left.note()
        offset = self.offsets.staged() if leaves is None else self.offsets.stands_at()
        return None if offset is None else (offset, note)

    def _leaves(self) -> HandOver | None:
        taken_to = self.offsets.working
        if self._leaves_until_ms is None or taken_to is None or not self.begun:
            return None
        return HandOver(until_ms=self._leaves_until_ms, taken_to=taken_to, under_way=frozenset(self.begun))


class OwnedPartitions:
    """The current assignment."""

    def __init__(self, assume_left: Callable[[], HandOver | None] = lambda: None) -> None:
        """Own nothing. `assume_left` says what an earlier owner has left under way, before it is known."""
        self._assume_left = assume_left
        self._owned: dict[TopicPartition, OwnedPartition] = {}

    def assigned(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OwnedPartition]:
        """Say which partitions have come; returns their state, which may hold records that were quicker than this."""
        return {each: self.of(each) for each in partitions}

    def of(self, partition: TopicPartition) -> OwnedPartition:
        """Return the state of a partition of which a record has come: it is owned, whether we were told or not yet."""
        found = self._owned.get(partition)
        if found is None:
            found = self._owned[partition] = OwnedPartition(inherited=self._assume_left())
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

    def hand_over(self, partitions: Iterable[TopicPartition], *, until_ms: int) -> None:
        """Say that these go to another owner, and that what is under way goes on until then at most."""
        for each in partitions:
            if (owned := self._owned.get(each)) is not None:
                owned.hand_over(until_ms=until_ms)

    def to_commit(self, *, now_ms: int) -> dict[TopicPartition, Commit]:
        """Return what is worth a commit now."""
        commits = {partition: owned.to_commit(now_ms=now_ms) for partition, owned in self._owned.items()}
        return {partition: commit for partition, commit in commits.items() if commit is not None}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Say that these offsets were committed; partitions that are gone meanwhile are passed over."""
        for partition, offset in offsets.items():
            if partition in self._owned:
                self._owned[partition].offsets.committed(offset)
