"""The order of due times beside the rows: the same contract in memory and on disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from streams.kafka import due_rows, dues
from streams.kafka.errors import LocalRowsBrokenError
from streams.kafka.partition_rows import (
    TOMBSTONE_KEPT_MS,
    ChangelogRecord,
    DueEntry,
    MemoryRows,
    PartitionRows,
    StoredRow,
    merge_changelog,
)
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import MAX_NOTE_BYTES, NEVER, NEVER_MS, Due, DueRow

NOW_MS = 1_800_000_000_000
ALL = 1_000


def _row(version: int, due: Due = NEVER, value: bytes | None = b"x") -> StoredRow:
    return StoredRow(Stamp(1, version), value, NOW_MS, due)


@pytest.fixture(params=["memory", "rocks"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PartitionRows]:
    in_memory = request.param == "memory"
    opened: PartitionRows = MemoryRows() if in_memory else RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    yield opened
    opened.close()


def test_rows_are_due_in_the_order_of_their_times_and_keys(rows: PartitionRows) -> None:
    rows.put({b"b": _row(1, Due(7)), b"a": _row(1, Due(7, b"note")), b"c": _row(1, Due(3)), b"never": _row(1)}, 0)
    wanted = [DueEntry(3, b"c", b""), DueEntry(7, b"a", b"note"), DueEntry(7, b"b", b"")]
    assert rows.due(b"", ALL) == wanted
    assert rows.due(b"", 2) == wanted[:2]
    assert rows.due(wanted[0].place, ALL) == wanted[1:]
    assert rows.due(wanted[2].place, ALL) == []


@pytest.mark.parametrize("knows", [True, False])
def test_row_stands_where_its_last_write_says(rows: PartitionRows, *, knows: bool) -> None:
    """Whether whoever writes it has read what it replaces, or not."""
    versions = [_row(1, Due(7)), _row(2, Due(7, b"another note")), _row(3, Due(9)), _row(4), _row(5, Due(5))]
    before: StoredRow | None = None
    for row in versions:
        rows.put({b"k": row}, None, before={b"k": before} if knows else {})
        due = [] if row.due is NEVER else [DueEntry(row.due.at_ms, b"k", row.due.note)]
        assert rows.due(b"", ALL) == due
        assert rows.get(b"k") == row
        before = row


def test_deleted_row_is_due_when_it_may_be_forgotten_and_leaves_nothing_then(rows: PartitionRows) -> None:
    rows.put({b"k": _row(1, Due(7))}, 0)
    rows.put({b"k": _row(2, value=None)}, 1)
    assert rows.due(b"", ALL) == [DueEntry(NOW_MS + TOMBSTONE_KEPT_MS, b"k", None)]
    assert rows.live_count == 0
    rows.forget([b"k"])
    assert rows.due(b"", ALL) == []
    assert rows.get(b"k") is None


def test_rows_far_apart_are_due_in_their_order_and_from_any_place_on(rows: PartitionRows) -> None:
    times = [1, 59_999, 60_000, 60_001, 119_999, 180_000, 10**9, NEVER_MS - 1]
    for number, at_ms in enumerate(reversed(times)):
        rows.put({b"%d" % number: _row(1, Due(at_ms))}, number)
    wanted = [DueEntry(at_ms, b"%d" % (len(times) - 1 - index), b"") for index, at_ms in enumerate(times)]
    for first in range(len(times)):
        assert rows.due(wanted[first].place, ALL) == wanted[first + 1 :]
        assert rows.due(dues.place_of(wanted[first].at_ms, b""), ALL) == wanted[first:]
    assert rows.due(b"", 3) == wanted[:3]


def test_soonest_time_of_what_was_put_is_told_once(rows: PartitionRows) -> None:
    rows.put({b"a": _row(1, Due(7)), b"b": _row(1, Due(3)), b"c": _row(1)}, 0)
    assert rows.soonest_put_ms() == 3
    assert rows.soonest_put_ms() == NEVER_MS


def test_place_is_forgotten_without_its_row(rows: PartitionRows) -> None:
    rows.put({b"k": _row(1, Due(7))}, 0)
    rows.forget_due(rows.due(b"", ALL))
    assert rows.due(b"", ALL) == []
    assert rows.get(b"k") == _row(1, Due(7))
    assert rows.live_count == 1


def test_late_write_of_a_frozen_owner_moves_nothing(rows: PartitionRows) -> None:
    new = StoredRow(Stamp(5, 3), b"new", NOW_MS, Due(9))
    late = StoredRow(Stamp(4, 9), b"late", NOW_MS, Due(2))
    merge_changelog(rows, [ChangelogRecord(b"k", new, 0), ChangelogRecord(b"k", late, 1)])
    assert rows.due(b"", ALL) == [DueEntry(9, b"k", b"")]


def test_rows_that_were_closed_are_never_due_and_keep_their_places(tmp_path: Path) -> None:
    rows = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    rows.put({b"k": _row(1, Due(7))}, 0)
    rows.close()
    assert rows.due(b"", ALL) == []
    rows.forget_due([DueEntry(7, b"k", b"")])
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert (again.due(b"", ALL), again.live_count) == ([DueEntry(7, b"k", b"")], 1)
    again.close()


def test_files_of_an_earlier_format_are_read_back_from_the_changelog(tmp_path: Path) -> None:
    folder = tmp_path / "0.rocksdb"
    earlier = Rdict(str(folder), Options(raw_mode=True))
    earlier[b"m"] = b"\0" * 20
    earlier[b"rk"] = b"\1" + b"\0" * 20 + b"value"
    earlier.close()
    rows = RocksRows(folder, lambda: NOW_MS)
    assert rows.applied_offset is None
    assert list(rows.items()) == []
    rows.close()


def test_damaged_index_is_thrown_away_with_its_rows(tmp_path: Path) -> None:
    """RocksDB's iterator just stops there, as at the end: timers that nobody knows of never come due."""
    rows = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    rows.put({b"%05d" % n: _row(1, Due(n, os.urandom(40))) for n in range(5_000)}, 0)
    rows.close()
    RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS).close()
    file = max((tmp_path / "0.rocksdb").glob("*.sst"), key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    for at in range(len(content) // 6, len(content) // 6 + 64):
        content[at] ^= 0xFF
    file.write_bytes(content)
    rows = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    with pytest.raises(LocalRowsBrokenError):
        rows.due(b"", 10_000)
    assert not (tmp_path / "0.rocksdb").exists()
    rows.close()


def _table(*, has_dues: bool = True) -> RowTable:
    return RowTable("orders", data_dir=None, now_ms=lambda: NOW_MS, has_dues=has_dues, again_ms=10)


def test_row_whose_record_says_nothing_is_due_at_once_in_a_table_with_dues_and_never_in_another() -> None:
    said = StoredRow(Stamp(1, 1), b"x", NOW_MS, dues.from_headers([("row-stamp", b"")]))
    with_dues, without = _table(), _table(has_dues=False)
    for table in (with_dues, without):
        table.merge(0, [ChangelogRecord(b"k", said, 0)])
    assert with_dues.due_rows(0, NOW_MS, ALL) == [DueRow(0, b"k", dues.AT_ONCE)]
    assert without.due_rows(0, NOW_MS, ALL) == []


@pytest.mark.parametrize("due", [NEVER, Due(0), Due(NOW_MS, b"a note"), Due(NEVER_MS - 1, b"\0")])
def test_header_carries_a_due_time(due: Due) -> None:
    name, value = dues.to_header(due)
    assert dues.from_headers([("row-stamp", b"x"), (name, None), (name, b"short"), (name, value)]) == due


def test_note_that_no_agent_writes_says_nothing() -> None:
    """A stranger's: rows with it could not be kept."""
    assert dues.from_headers([(dues.HEADER, b"\0" * (9 + MAX_NOTE_BYTES))]) == dues.AT_ONCE


def test_time_past_the_last_one_is_never() -> None:
    assert dues.from_headers([(dues.HEADER, b"\xff" * 8 + b"note")]) == NEVER


def test_place_that_no_row_has_is_forgotten_when_it_is_met_again() -> None:
    """There is none, as row and place are one write. Were there one, it would be asked about for ever."""
    table = _table()
    table.merge(0, [ChangelogRecord(b"k", _row(1, Due(5)), 0)])
    (due,) = table.due_rows(0, 5, ALL)
    table.pass_over(due)
    here = table.partition(0)
    assert isinstance(here, MemoryRows)
    here._rows[b"k"] = _row(2, Due(99))  # and its place stays
    assert table.due_rows(0, 15, ALL) == []  # the round ends
    assert table.due_rows(0, 15, ALL) == []  # and the next begins
    assert here.due(b"", ALL) == []


def test_walk_asks_the_rows_only_when_something_may_be_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a thousand partitions looks at each of them every second."""
    rows = MemoryRows()
    rows.put({b"k": _row(1, Due(50))}, 0)
    asked: list[bytes] = []

    def counted(after: bytes, limit: int) -> list[DueEntry]:
        asked.append(after)
        return MemoryRows.due(rows, after, limit)

    monkeypatch.setattr(rows, "due", counted)
    walk = due_rows.DueWalk(rows, again_ms=1_000)
    assert [walk.due(now_ms, ALL) for now_ms in (1, 2, 49)] == [[], [], []]
    assert len(asked) == 1
    rows.put({b"sooner": _row(1, Due(20))}, 1)
    assert [each.key for each in walk.due(49, ALL)] == [b"sooner"]
