"""A replica that reads its changelog through Faust's queue, in a model: whatever is dropped, no row is lacking.

The model has what Faust has between the log and the rows: fetches, a queue that outlives rebalances, the filter "seen
before", rows that stay (disk) or go (memory) with their partition, and compaction. Beside it stands the engine's own
ledger. Where nothing drops a record the ledger must never stop the worker; where something does, either it stops it or
no row is lacking.
"""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.kafka.changelog_ledger import NOTHING, ChangelogLedger
from streams.kafka.errors import DeliveryGapError

P = "changelog-0"
KEYS = 3


class _Reading(RuleBasedStateMachine):
    """One partition of one worker."""

    in_memory = False

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, int] = {}  # offset to key; compaction takes offsets away
        self.key_of: dict[int, int] = {}  # of every record that ever was
        self.end = 0
        self.rows: dict[int, int] = {}  # key to the offset of its newest applied record
        self.applied = NOTHING
        self.queue: deque[int] = deque()
        self.dropped = False
        self.restart()

    # The worker.

    def restart(self) -> None:
        """A new process: what is on disk stays."""
        self.ledger = ChangelogLedger[str]()
        self.queue.clear()
        if self.in_memory:
            self.rows, self.applied = {}, NOTHING
        self.assigned = False
        self.assign()

    @precondition(lambda self: not self.assigned)
    @rule()
    def assign(self) -> None:
        self.assigned = True
        begin = max(self.applied, min(self.log, default=0) - 1)
        self.seen, self.position = begin, begin + 1
        self.ledger.note_applied(P, begin)
        self.ledger.note_seek(P, begin + 1)

    @precondition(lambda self: self.assigned)
    @rule(stays=st.booleans())
    def rebalance(self, *, stays: bool) -> None:
        if stays:
            self.assigned = False
            self.assign()
            return
        self.drain(len(self.queue))  # far shorter than the time between two rebalances
        self.assigned = False
        self.ledger.keep_only(())
        if self.in_memory:
            self.rows, self.applied = {}, NOTHING

    @precondition(lambda self: self.assigned)
    @rule(count=st.integers(1, 5))
    def fetch(self, count: int) -> None:
        offsets = [offset for offset in sorted(self.log) if offset >= self.position][:count]
        if offsets:
            self.position = offsets[-1] + 1
            self.ledger.note_fetched(P, offsets)
            self.queue.extend(offsets)

    @rule(count=st.integers(1, 5))
    def drain(self, count: int) -> None:
        for _ in range(min(count, len(self.queue))):
            offset = self.queue.popleft()
            if not self.assigned or offset <= self.seen:
                continue
            self.seen = offset
            try:
                self.ledger.apply(P, offset, own=self.applied)
            except DeliveryGapError:
                assert self.dropped, "stopped for nothing"
                self.restart()
                return
            key = self.key_of[offset]
            self.rows[key] = max(offset, self.rows.get(key, NOTHING))
            self.applied = max(self.applied, offset)

    # What happens to it.

    @rule(key=st.integers(0, KEYS - 1))
    def append(self, key: int) -> None:
        self.log[self.end] = self.key_of[self.end] = key
        self.end += 1

    @rule()
    def compact(self) -> None:
        newest = {key: offset for offset, key in sorted(self.log.items())}
        self.log = {offset: key for offset, key in self.log.items() if newest[key] == offset}

    @precondition(lambda self: self.queue)
    @rule(at=st.integers(0, 4))
    def drop(self, at: int) -> None:
        del self.queue[min(at, len(self.queue) - 1)]
        self.dropped = True

    @precondition(lambda self: self.queue)
    @rule()
    def clear(self) -> None:
        """What Faust does when the flow is resumed."""
        self.queue.clear()
        self.dropped = True

    @invariant()
    def no_row_is_lacking(self) -> None:
        for offset, key in self.log.items():
            if offset <= self.applied:
                assert self.rows.get(key, NOTHING) >= offset


class _ReadingIntoMemory(_Reading):
    in_memory = True


class _ReadingWithoutFault(_Reading):
    """Nothing is dropped, so nothing may stop the worker."""

    drop = None  # type: ignore[assignment]  # no rule any more
    clear = None  # type: ignore[assignment]


_MANY = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestReading = _Reading.TestCase
TestReading.settings = _MANY
TestReadingIntoMemory = _ReadingIntoMemory.TestCase
TestReadingIntoMemory.settings = _MANY
TestReadingWithoutFault = _ReadingWithoutFault.TestCase
TestReadingWithoutFault.settings = _MANY
