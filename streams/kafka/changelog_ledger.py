"""Whether each changelog record that is applied stands right behind what is applied: no fetched one was dropped.

Called by `faust_fences`: `transport` (what was fetched), `recovery` (where reading begins) and `tables` (what comes to
be applied). Pure.

Offsets alone cannot tell: compaction and transactions leave holes. So each record is remembered with the one that was
fetched before it, and may be applied only once that one is. Whatever drops records on the way, in Faust or here: the
worker stops and reads them again, instead of deciding without those rows.
"""

from collections import OrderedDict
from collections.abc import Container, Iterable
from typing import Generic, TypeVar

from streams.kafka.errors import DeliveryGapError

T = TypeVar("T")

NOTHING = -1
"""Before the first offset."""


class _Partition:
    """One changelog partition: what is applied, what was fetched last, and what came before each record in between."""

    __slots__ = ("applied", "before", "last_fetched")

    def __init__(self) -> None:
        self.applied = NOTHING
        self.last_fetched = NOTHING
        self.before: OrderedDict[int, int] = OrderedDict()

    def forget_to(self, offset: int) -> None:
        while self.before and next(iter(self.before)) <= offset:
            self.before.popitem(last=False)


class ChangelogLedger(Generic[T]):
    """The state of every changelog partition that is read, by whatever names a topic partition.

    Bounded by what lies between fetch and rows: fetch size, changelog queue, recovery buffers.
    """

    def __init__(self) -> None:
        self._partitions: dict[T, _Partition] = {}

    def note_applied(self, partition: T, offset: int) -> None:
        """All up to here is in the local rows, or not in the log any more (-1: nothing)."""
        self._partitions.setdefault(partition, _Partition()).applied = offset

    def note_seek(self, partition: T, offset: int) -> None:
        """What is fetched next is the first record at this offset or behind it."""
        self._partitions.setdefault(partition, _Partition()).last_fetched = offset - 1

    def note_fetched(self, partition: T, offsets: Iterable[int]) -> None:
        """Records that left the consumer, in order."""
        state = self._partitions.setdefault(partition, _Partition())
        for offset in offsets:
            if offset > state.last_fetched:
                state.before[offset] = state.last_fetched
                state.last_fetched = offset

    def last_fetched(self, partition: T) -> int:
        """The offset of the last record fetched; before the first one that may come when none was yet."""
        state = self._partitions.get(partition)
        return NOTHING if state is None else state.last_fetched

    def lacks(self, partition: T, end: int, *, own: int) -> bool:
        """Whether a record that was fetched is not applied; of those up to `end`, since others may still come.

        Args:
            partition: of the changelog.
            end: the last offset that counts.
            own: up to where the rows themselves stand.
        """
        state = self._partitions.get(partition)
        if state is None:
            return False
        applied, offset = max(state.applied, own), state.last_fetched
        while offset > max(applied, end):
            offset = state.before.get(offset, NOTHING)
        return offset > applied

    def apply(self, partition: T, offset: int, *, own: int) -> None:
        """This record is about to be applied; one that is known already is passed over.

        Args:
            partition: of the changelog.
            offset: of the record.
            own: up to where the rows themselves stand, which their owner raises past the ledger.

        Raises:
            DeliveryGapError: the one fetched before it is not applied, or nobody fetched it.
        """
        state = self._partitions.setdefault(partition, _Partition())
        applied = max(state.applied, own)
        if offset > applied:
            before = state.before.get(offset)
            if before is None or before > applied:
                lacking = "it was not fetched" if before is None else f"offset {before} came before it"
                raise DeliveryGapError(f"{partition}: changelog offset {offset} behind {applied}, but {lacking}")
            applied = offset
        state.applied = applied
        state.forget_to(offset)

    def keep_only(self, partitions: Container[T]) -> None:
        """Forget all but these: they belong to someone else."""
        self._partitions = {name: state for name, state in self._partitions.items() if name in partitions}
