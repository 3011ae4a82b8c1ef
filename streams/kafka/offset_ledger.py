"""Which offset may be committed: only past inputs whose every write was acknowledged, and past no other.

Called by `faust_fences.transport` (what was fetched, what to commit) and `pipeline` (what arrived, what is done). Pure.

Faust counts acknowledgements and fills holes with "gaps", which commits over inputs in flight (upstream #606) and over
records that it fetched and then dropped. Here a record is noted when it is fetched, and again when it arrives at the
handler; the two sequences must be equal, so that a dropped record is noticed instead of skipped.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from streams.kafka.errors import DeliveryGapError

T = TypeVar("T", bound=Hashable)


class _Partition:
    """One partition: fetched, then working, then done; each a run of rising offsets."""

    __slots__ = ("committable", "done", "fetched", "last_arrived", "last_fetched", "read_to", "working")

    def __init__(self) -> None:
        self.fetched: deque[int] = deque()
        self.working: deque[int] = deque()
        self.done: set[int] = set()
        self.last_fetched = -1
        self.last_arrived = -1
        self.read_to = 0
        self.committable: int | None = None


class OffsetLedger(Generic[T]):
    """The state of every assigned partition, by whatever names a topic partition.

    Its queues are bounded by the buffers before it: fetch size, stream buffer, inputs in flight.
    """

    def __init__(self) -> None:
        self._partitions: dict[T, _Partition] = {}

    def note_fetched(self, partition: T, offsets: Iterable[int]) -> None:
        """Records that left the consumer, in order. Ones noted before are ignored."""
        state = self._partitions.setdefault(partition, _Partition())
        for offset in offsets:
            if offset > state.last_fetched:
                state.last_fetched = offset
                state.fetched.append(offset)

    def last_fetched(self, partition: T) -> int:
        """The highest offset that was fetched, -1: none was. A record at a lower one counts as known."""
        state = self._partitions.get(partition)
        return -1 if state is None else state.last_fetched

    def note_read_to(self, partition: T, offset: int) -> None:
        """Every record below this offset has been noted as fetched; what else is below is none.

        So that a partition whose end is a transaction's marker is committed to its end, and does not count as behind.
        """
        self._partitions.setdefault(partition, _Partition()).read_to = offset

    def note_arrival(self, partition: T, offset: int) -> bool:
        """True when this input is the next one to handle; False when it came before and is to be passed over.

        Raises:
            DeliveryGapError: an earlier record was fetched and has never arrived.
        """
        state = self._partitions.setdefault(partition, _Partition())
        if offset <= state.last_arrived:
            return False
        if not state.fetched or state.fetched[0] != offset:
            missing = state.fetched[0] if state.fetched else "none fetched"
            raise DeliveryGapError(f"{partition}: offset {offset} arrived, expected {missing}")
        state.fetched.popleft()
        state.working.append(offset)
        state.last_arrived = offset
        return True

    def note_done(self, partition: T, offset: int) -> None:
        """Everything that this input caused is acknowledged. Ignored for a partition that went away meanwhile."""
        state = self._partitions.get(partition)
        if state is None:
            return
        state.done.add(offset)
        while state.working and state.working[0] in state.done:
            finished = state.working.popleft()
            state.done.discard(finished)
            state.committable = finished + 1

    def committable(self, partition: T) -> int | None:
        """The offset to commit (the next one to read), or None when nothing is finished yet."""
        state = self._partitions.get(partition)
        if state is None:
            return None
        if state.fetched or state.working:
            return state.committable
        return max(state.committable or 0, state.read_to) or None

    def oldest_unfinished(self) -> dict[T, int]:
        """The first record of each partition that was fetched and is not done; without those that have none."""
        return {
            name: (state.working or state.fetched)[0]
            for name, state in self._partitions.items()
            if state.working or state.fetched
        }

    def is_done(self, partition: T, offset: int) -> bool:
        """Whether this record was fetched, and it and all before it are done."""
        state = self._partitions.get(partition)
        if state is None or offset > state.last_fetched:
            return False
        unfinished = state.working or state.fetched
        return not unfinished or unfinished[0] > offset

    def unfinished(self) -> int:
        """How many inputs have arrived and are not done yet."""
        return sum(len(state.working) for state in self._partitions.values())

    def partitions(self) -> list[T]:
        """The partitions of which something is known."""
        return list(self._partitions)

    def reset(self, partitions: Iterable[T]) -> None:
        """Forget these: they are read again from their committed offsets, or belong to someone else."""
        for partition in partitions:
            self._partitions.pop(partition, None)
