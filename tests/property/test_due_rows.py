"""The index of due rows against a scan: every row whose time has come is told, none before, whatever happens.

A partition of a table as its owner and its standbys see it: rows are written, deleted and read back from the changelog
in any batches; workers are killed between any two writes and come back on their files or without them; the partition
moves. Whoever asks for what is due must be told what a scan of the rows would find.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streams.kafka import dues, stamps
from streams.kafka.partition_rows import TOMBSTONE_KEPT_MS, ChangelogRecord, DueEntry, StoredRow, due_place, put_own
from streams.kafka.pipeline import UNDATED
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import NEVER, Due

START_MS = 1_800_000_000_000
AGAIN_MS = 10_000
LIMIT = 3
MOST_AHEAD_MS = 5_000
KEYS = st.sampled_from([b"a", b"origin|order", b"z\xff"])
DUES = st.one_of(
    st.just(NEVER),
    st.just(dues.AT_ONCE),
    st.builds(
        Due,
        st.sampled_from([START_MS + 1_000 * second for second in (-1, 0, 2, 4, 6, 8, 12, 30)]),
        st.sampled_from([b"", b"owes:op_1", b"[]", b"\0\xff"]),
    ),
)


@dataclass(frozen=True, slots=True)
class _Written:
    """One record of the changelog."""

    key: bytes
    row: StoredRow

    def at(self, offset: int) -> ChangelogRecord:
        """As a recovery reads it: what is not in the record's headers or bytes is lost."""
        headers = [stamps.to_header(self.row.stamp)]
        if self.row.value is not None:
            headers.append(dues.to_header(self.row.due))
        row = StoredRow(stamps.from_headers(headers), self.row.value, self.row.written_ms, dues.from_headers(headers))
        return ChangelogRecord(self.key, row, offset)


class DueRows(RuleBasedStateMachine):
    """One partition, its owner, and the log."""

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk: bool) -> None:
        self.now_ms = START_MS
        self.ahead_ms = 0
        self.log: list[_Written] = []
        self.folder = Path(tempfile.mkdtemp(prefix="due-rows-")) if on_disk else None
        self.generation = 0
        self.told: dict[bytes, int] = {}
        """When each place was told last, by the owner of now."""
        self.open()

    def open(self) -> None:
        self.generation += 1
        self.table = RowTable(
            "orders", data_dir=self.folder, now_ms=lambda: self.now_ms, has_dues=True, again_ms=AGAIN_MS
        )
        self.told.clear()
        self.read_back(len(self.log))

    def read_back(self, batch: int) -> None:
        applied = self.table.partition(0).applied_offset
        first = 0 if applied is None else applied + 1
        for begin in range(first, len(self.log), max(1, batch)):
            end = min(begin + max(1, batch), len(self.log))
            self.table.merge(0, [self.log[offset].at(offset) for offset in range(begin, end)])

    @rule(key=KEYS, value=st.sampled_from([None, b"row", b"row"]), due=DUES, undated=st.booleans())
    def write(self, key: bytes, value: bytes | None, due: Due, *, undated: bool) -> None:
        """The owner's own write, as the pipeline makes it: decided on what it replaces, dated by the broker."""
        here = self.table.partition(0)
        known = here.get(key)
        before = self.table.stamp_of_none(0) if known is None else known.stamp
        row = StoredRow(before.next(self.generation), value, self.now_ms, NEVER if value is None else due)
        self.log.append(_Written(key, row))
        if undated and known is not None:
            known = known._replace(written_ms=UNDATED)  # it was on its way when this was decided
        put_own(here, {key: row}, len(self.log) - 1, before={key: known})

    @rule(key=KEYS, due=DUES)
    def late_write_of_a_frozen_owner(self, key: bytes, due: Due) -> None:
        """It loses: it is on the log, and never a row."""
        if self.table.partition(0).get(key) is not None:
            self.log.append(_Written(key, StoredRow(Stamp(0, 1), b"late", self.now_ms, due)))

    @rule(seconds=st.sampled_from([1, 5, AGAIN_MS // 1_000, 2 * AGAIN_MS // 1_000]))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1_000

    @rule()
    def a_week_passes(self) -> None:
        self.now_ms += TOMBSTONE_KEPT_MS + 1
        self.table.confirm([0])

    @rule(batch=st.integers(1, 4))
    def partition_comes_back_on_its_files(self, batch: int) -> None:
        """A clean hand-over, or a worker killed and restarted: nothing is held but what was written."""
        if self.folder is None:
            return
        self.table.keep_only(())
        self.generation += 1
        self.told.clear()
        self.read_back(batch)

    @rule(batch=st.integers(1, 4))
    def disk_is_lost(self, batch: int) -> None:
        self.table.wipe(0)
        self.generation += 1
        self.told.clear()
        self.read_back(batch)

    @rule(ahead_ms=st.sampled_from([0, MOST_AHEAD_MS]))
    def clock_is_set(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    @invariant()
    def all_that_is_due_is_told(self) -> None:
        """Ask for what is due until nothing is, and pass over it."""
        if not hasattr(self, "table"):
            return
        now_ms = self.now_ms + self.ahead_ms
        wanted = {entry.place: entry for entry in self.scan() if entry.note is not None and entry.at_ms <= now_ms}
        found = self.told_until_none_is_due(now_ms, wanted)
        found |= self.told_until_none_is_due(now_ms, wanted)  # a round may end, and the next begin at the next look
        for place in wanted.keys() - found:
            assert now_ms - self.told.get(place, 0) < AGAIN_MS + MOST_AHEAD_MS, "not told, and not of late either"
        self.told |= dict.fromkeys(found, now_ms)

    def told_until_none_is_due(self, now_ms: int, wanted: Mapping[bytes, DueEntry]) -> set[bytes]:
        found: set[bytes] = set()
        while due := self.table.due_rows(0, now_ms, LIMIT):
            for each in due:
                place = dues.place_of(each.due.at_ms, each.key)
                assert place not in found, "told twice in one go"
                assert place in wanted, "told before its time, or of no row"
                assert each.due.note == wanted[place].note
                found.add(place)
                self.table.pass_over(each)
        return found

    def scan(self) -> list[DueEntry]:
        places = [(key, row, due_place(key, row)) for key, row in self.table.partition(0).items()]
        return sorted(
            (
                DueEntry(*dues.from_place(place), None if row.value is None else row.due.note)
                for _, row, place in places
                if place is not None
            ),
            key=lambda entry: entry.place,
        )

    @invariant()
    def index_is_what_a_scan_finds(self) -> None:
        if not hasattr(self, "table"):
            return
        assert self.table.partition(0).due(b"", 1_000) == self.scan()
        live = [row for _, row in self.table.partition(0).items() if row.value is not None]
        assert self.table.live_count() == len(live)

    def teardown(self) -> None:
        if hasattr(self, "table"):
            self.table.keep_only(())
            if self.folder is not None:
                shutil.rmtree(self.folder)


DueRows.TestCase.settings = settings(stateful_step_count=40, max_examples=100, deadline=None)
TestDueRows = DueRows.TestCase


def test_rows_that_a_killed_process_left_are_found_with_their_places(tmp_path: Path) -> None:
    """The files as they are at any moment: row, place and offset are one write."""
    rows = RocksRows(tmp_path / "0.rocksdb", lambda: START_MS)
    rows.put({b"k": StoredRow(Stamp(1, 1), b"x", START_MS, Due(START_MS + 1, b"n"))}, 0)
    shutil.copytree(tmp_path / "0.rocksdb", tmp_path / "copy.rocksdb")
    (tmp_path / "copy.rocksdb" / "LOCK").unlink()
    rows.close()
    killed = RocksRows(tmp_path / "copy.rocksdb", lambda: START_MS)
    assert (killed.applied_offset, killed.live_count) == (0, 1)
    assert killed.due(b"", 10) == [DueEntry(START_MS + 1, b"k", b"n")]
    killed.close()
