"""Which offset may be committed while records of a partition are done in any order. Pure.

Used by `partitions`. The rule: the offset committed is that of the lowest record that is not done, so a restart sees
again everything that is not done, and of what is done at most what was taken after it.
"""

from collections import OrderedDict


class OffsetTracker:
    """The offsets of one partition in one assignment. Offsets may have gaps (compaction, transaction markers)."""

    def __init__(self) -> None:
        self._in_flight: OrderedDict[int, None] = OrderedDict()
        self._next: int | None = None  # after the highest begun
        self._committed: int | None = None

    def __len__(self) -> int:
        """How many records are begun and not done."""
        return len(self._in_flight)

    def begin(self, offset: int) -> None:
        """Take a record. Raises: ValueError when it does not come after the last one taken."""
        if self._next is not None and offset < self._next:
            raise ValueError(f"offset {offset} begun after {self._next - 1}")
        if self._committed is None:
            self._committed = offset  # where the group stands already: the first record taken came from there
        self._in_flight[offset] = None
        self._next = offset + 1

    def complete(self, offset: int) -> None:
        """Say that a record is done: all it caused is durable. Raises: KeyError when it is not in flight."""
        del self._in_flight[offset]

    def committable(self) -> int | None:
        """Return the offset to commit: the lowest not done, else the one after the last. None: nothing new to say."""
        if self._next is None or self._committed is None:
            return None
        lowest = next(iter(self._in_flight), self._next)
        return lowest if lowest > self._committed else None

    def committed(self, offset: int) -> None:
        """Say that this offset was committed."""
        self._committed = offset if self._committed is None else max(offset, self._committed)
