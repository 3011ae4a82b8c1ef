"""Which offset of a partition may be committed while its records are done in any order. Pure.

Used by `owned_partitions`. The rule: the staged offset is that of the lowest record that is not done, so a restart sees
again everything that is not done, and of what is done at most what was taken after it. Offsets have holes (compaction,
transaction markers), so nothing here counts or adds: below means "no unfinished record below".
"""

from collections import OrderedDict


class PartitionOffsets:
    """The offsets of one partition in one assignment, in arroyo's words (see the room's docstring)."""

    def __init__(self) -> None:
        self._unfinished: OrderedDict[int, None] = OrderedDict()
        self._working: int | None = None
        self._committed: int | None = None

    def __len__(self) -> int:
        """How many records are begun and not done."""
        return len(self._unfinished)

    def begin(self, offset: int) -> None:
        """Take a record. Raises: ValueError when it does not come after the last one taken."""
        if self._working is not None and offset < self._working:
            raise ValueError(f"offset {offset} begun after {self._working - 1}")
        if self._committed is None:
            self._committed = offset  # where the group stands already: the first record taken came from there
        self._unfinished[offset] = None
        self._working = offset + 1

    def complete(self, offset: int) -> None:
        """Say that a record is done: all it caused is durable. Raises: KeyError when it is not under way."""
        del self._unfinished[offset]

    def read_to(self, position: int) -> None:
        """Say that what lies below, and was not taken, is no record: markers, say, or what was aborted."""
        if self._working is not None:
            self._working = max(position, self._working)

    def staged(self) -> int | None:
        """Return the offset to commit: the lowest not done, else the one after the last. None: nothing new to say."""
        if self._working is None or self._committed is None:
            return None
        lowest = next(iter(self._unfinished), self._working)
        return lowest if lowest > self._committed else None

    @property
    def working(self) -> int | None:
        """The offset after the last record taken; None: nothing was."""
        return self._working

    def stands_at(self) -> int | None:
        """Return the offset to commit when there is something to say beside it; it may be no new one. None: unknown."""
        return self.staged() or self._committed

    def committed(self, offset: int) -> None:
        """Say that this offset was committed. Saying it twice, or an older one later, is safe."""
        self._committed = offset if self._committed is None else max(offset, self._committed)
