"""Local rows: the same contract in memory and on disk, and what only a disk can get wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rocksdict import Cache, Rdict, WriteBufferManager

from streams.kafka import rocks_rows
from streams.kafka.errors import LocalRowsLockedError
from streams.kafka.partition_rows import (
    TOMBSTONE_KEPT_MS,
    ChangelogRecord,
    MemoryRows,
    PartitionRows,
    StoredRow,
    merge_changelog,
    put_own,
)
from streams.kafka.rocks_rows import (
    CLOCKS_DIFFER_MS,
    READ_MEMORY_BYTES,
    ROWS_A_STEP,
    TRUSTED_MS,
    WRITE_MEMORY_BYTES,
    RocksRows,
    read_memory_bytes,
    write_memory_bytes,
)
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import (
    GENERATION_MAX,
    UNSTAMPED,
    VERSION_MAX,
    Stamp,
    from_headers,
    generation_above,
    to_header,
)
from streams.kafka.step import TableRow
from tests.support.metric_pages import rise_of
from tests.support.waiting import until

FLUSH_LIMIT_S = 60.0
NOW_MS = 1_800_000_000_000


def _row(generation: int, version: int, value: bytes | None, written_ms: int = NOW_MS) -> StoredRow:
    return StoredRow(Stamp(generation, version), value, written_ms)


@pytest.fixture(params=["memory", "rocks"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PartitionRows]:
    in_memory = request.param == "memory"
    opened: PartitionRows = MemoryRows() if in_memory else RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    yield opened
    opened.close()


def test_rows_have_no_offset_when_nothing_was_put(rows: PartitionRows) -> None:
    assert rows.applied_offset is None


def test_rows_return_what_was_put(rows: PartitionRows) -> None:
    rows.put({b"a": _row(3, 1, b"x"), b"b": _row(3, 1, None), b"": _row(3, 2, b"")}, 7)
    assert rows.get(b"a") == _row(3, 1, b"x")
    assert rows.get(b"b") == _row(3, 1, None)
    assert rows.get(b"") == _row(3, 2, b"")
    assert rows.get(b"c") is None
    assert rows.applied_offset == 7
    assert rows.highest_generation == 3
    assert dict(rows.items()) == {b"a": _row(3, 1, b"x"), b"b": _row(3, 1, None), b"": _row(3, 2, b"")}


def test_rows_keep_the_highest_offset_and_generation_when_a_put_has_lower_ones(rows: PartitionRows) -> None:
    rows.put({b"a": _row(3, 1, b"x")}, 7)
    rows.put({b"a": _row(2, 1, b"y")}, 5)
    assert rows.applied_offset == 7
    assert rows.highest_generation == 3


@pytest.mark.parametrize("count", [0, 1, ROWS_A_STEP - 1, ROWS_A_STEP, ROWS_A_STEP + 1, 3 * ROWS_A_STEP])
def test_rows_hand_out_each_row_once_however_many(rows: PartitionRows, count: int) -> None:
    written = {b"%d" % number: _row(3, number, b"x") for number in range(count)}
    rows.put(written, count)
    handed_out = list(rows.items())
    assert len(handed_out) == count
    assert dict(handed_out) == written


def test_rows_stop_handing_out_when_they_are_closed(rows: PartitionRows) -> None:
    rows.put({b"%d" % number: _row(3, 1, b"x") for number in range(10)}, 7)
    handed_out = rows.items()
    next(handed_out)
    rows.close()
    assert list(handed_out) == []
    rows.forget([b"1"])


def test_rocks_rows_can_be_opened_again_while_the_former_ones_are_read(tmp_path: Path) -> None:
    """A partition comes back in the middle of a sweep; the worker ended with `LocalRowsLockedError`."""
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"%d" % number: _row(3, 1, b"x") for number in range(3 * ROWS_A_STEP)}, 7)
    swept = first.items()
    next(swept)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert again.applied_offset == 7
    assert list(swept) == []
    again.close()


def test_rows_forget_without_a_trace(rows: PartitionRows) -> None:
    rows.put({b"a": _row(3, 1, b"x")}, 7)
    rows.forget([b"a"])
    assert rows.get(b"a") is None
    assert rows.applied_offset == 7


def test_merge_keeps_the_highest_stamp_when_a_frozen_owner_writes_last(rows: PartitionRows) -> None:
    late = ChangelogRecord(b"a", _row(4, 9, b"late"), 2)
    regressed = merge_changelog(rows, [ChangelogRecord(b"a", _row(5, 3, b"new"), 1), late])
    assert regressed == {b"a"}
    assert rows.get(b"a") == _row(5, 3, b"new")
    assert rows.applied_offset == 2


def test_merge_keeps_a_deleted_row_deleted_when_a_frozen_owner_writes_it_last(rows: PartitionRows) -> None:
    merge_changelog(rows, [ChangelogRecord(b"a", _row(5, 3, None), 1)])
    assert merge_changelog(rows, [ChangelogRecord(b"a", _row(4, 9, b"late"), 2)]) == {b"a"}
    found = rows.get(b"a")
    assert found is not None
    assert found.value is None


def test_merge_sees_no_regress_when_our_own_record_is_read_back(rows: PartitionRows) -> None:
    rows.put({b"a": _row(5, 3, b"x")}, 9)
    assert merge_changelog(rows, [ChangelogRecord(b"a", _row(5, 3, b"x"), 9)]) == frozenset()


def test_merge_passes_over_what_no_owner_has_written(rows: PartitionRows) -> None:
    merge_changelog(rows, [ChangelogRecord(b"a", _row(5, 3, b"x"), 0)])
    noise = [ChangelogRecord(key, StoredRow(UNSTAMPED, b"noise", NOW_MS), n) for n, key in enumerate([b"a", b"b"], 1)]

    assert merge_changelog(rows, noise) == {b"a"}  # written again, since compaction keeps the last record of a key

    found = rows.get(b"a")
    assert found is not None
    assert found.value == b"x"
    assert rows.get(b"b") is None
    assert rows.applied_offset == 2


def test_own_rows_raise_the_applied_offset_only_when_nothing_stands_between(rows: PartitionRows) -> None:
    put_own(rows, {b"a": _row(1, 1, b"x")}, 0)
    put_own(rows, {b"b": _row(1, 1, b"x")}, 1)
    assert rows.applied_offset == 1
    put_own(rows, {b"c": _row(1, 1, b"x")}, 3)  # offset 2 is another owner's
    put_own(rows, {b"d": _row(1, 1, b"x")}, 4)
    assert rows.applied_offset == 1
    assert rows.get(b"d") is not None
    merge_changelog(rows, [ChangelogRecord(b"theirs", _row(2, 1, b"y"), 2)])  # what the next recovery reads
    assert rows.applied_offset == 2


@given(
    stamps=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12),
    cut=st.integers(0, 12),
)
def test_merge_ends_in_the_highest_stamp_whatever_the_order_and_the_batches(
    stamps: list[tuple[int, int]], cut: int
) -> None:
    rows = MemoryRows()
    records = [ChangelogRecord(b"k", _row(g, v, b"%d.%d" % (g, v)), n) for n, (g, v) in enumerate(stamps)]
    merge_changelog(rows, records[:cut])
    merge_changelog(rows, records[cut:])
    found = rows.get(b"k")
    assert found is not None
    assert found.stamp == max(stamps)
    assert found.value == b"%d.%d" % max(stamps)


@given(generation=st.integers(0, GENERATION_MAX), version=st.integers(0, VERSION_MAX))
def test_stamp_survives_its_header(generation: int, version: int) -> None:
    stamp = Stamp(generation, version)
    assert from_headers([("other", b""), to_header(stamp)]) == stamp


def test_stamp_is_none_when_the_header_cannot_be_read() -> None:
    assert from_headers([("row-stamp", b"short")]) == UNSTAMPED
    assert from_headers([("row-stamp", None)]) == UNSTAMPED  # Kafka allows it


@pytest.mark.parametrize("stamp", [Stamp(2**32 - 1, 1), Stamp(GENERATION_MAX + 1, 1), Stamp(1, VERSION_MAX + 1)])
def test_stamp_is_none_when_no_owner_can_have_made_it(stamp: Stamp) -> None:
    """Believed, it would leave none above it: the worker stopped at each start."""
    assert from_headers([to_header(stamp)]) == UNSTAMPED


@pytest.mark.parametrize("seen", [Stamp(GENERATION_MAX, 1), Stamp(GENERATION_MAX - 1, VERSION_MAX)])
def test_next_stamp_is_higher_and_can_be_read_when_the_last_one_was_seen(seen: Stamp) -> None:
    after = seen.next(generation_above(seen.generation, 3))
    assert from_headers([to_header(after)]) == after > seen


def test_next_stamp_is_refused_when_none_is_left_in_its_generation() -> None:
    with pytest.raises(OverflowError):
        Stamp(3, VERSION_MAX).next(3)


@pytest.mark.parametrize(("seen", "group", "own"), [(0, 7, 7), (7, 7, 8), (9, 3, 10)])
def test_generation_of_an_owner_is_above_any_that_was_seen(seen: int, group: int, own: int) -> None:
    assert generation_above(seen, group) == own


def test_rocks_rows_start_empty_when_they_hold_a_generation_that_no_owner_had(tmp_path: Path) -> None:
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"a": _row(2**32 - 1, 1, b"x")}, 7)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert again.applied_offset is None
    again.close()


@given(
    seen=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    generation=st.integers(0, 100),
)
def test_next_stamp_is_higher_whatever_the_generation(seen: tuple[int, int], generation: int) -> None:
    assert Stamp(*seen).next(generation) > Stamp(*seen)


def test_rocks_rows_are_there_when_opened_again(tmp_path: Path) -> None:
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"a": _row(3, 1, b"x")}, 7)
    first.close()
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS + TRUSTED_MS)
    assert again.get(b"a") == _row(3, 1, b"x")
    assert (again.applied_offset, again.highest_generation) == (7, 3)
    again.close()


def test_rocks_rows_start_empty_when_older_than_tombstones_are_kept(tmp_path: Path) -> None:
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"a": _row(3, 1, b"x")}, 7)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS + TRUSTED_MS + 1)
    assert again.get(b"a") is None
    assert again.applied_offset is None
    again.close()


@pytest.mark.parametrize(("slept_ms", "confirmed", "trusted"), [(0, False, True), (1, False, False), (1, True, True)])
def test_rocks_rows_are_dated_by_what_is_known_when_they_are_closed_later(
    tmp_path: Path, *, slept_ms: int, confirmed: bool, trusted: bool
) -> None:
    """A worker that slept for a day, and then stopped, dated them by that moment; an idle owner may."""
    clock = [NOW_MS]
    first = RocksRows(tmp_path / "0.rocksdb", lambda: clock[0])
    first.put({b"a": _row(3, 1, b"x")}, 7)
    clock[0] = NOW_MS + TRUSTED_MS + slept_ms
    if confirmed:
        first.confirm()
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: clock[0])
    assert (again.applied_offset == 7) is trusted
    again.close()


@pytest.mark.parametrize(("late_ms", "trusted"), [(0, True), (1, False)])
def test_rocks_rows_that_are_being_read_back_are_dated_by_when_that_began(
    tmp_path: Path, *, late_ms: int, trusted: bool
) -> None:
    """The records are old, and the tombstones behind them are not here yet."""
    clock = [NOW_MS]
    first = RocksRows(tmp_path / "0.rocksdb", lambda: clock[0])
    clock[0] += TRUSTED_MS + late_ms
    first.put({b"a": _row(3, 1, b"x", NOW_MS - 1)}, 7)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: clock[0])
    assert (again.applied_offset == 7) is trusted
    again.close()


def test_rocks_rows_are_not_dated_into_the_future_when_the_broker_is_ahead(tmp_path: Path) -> None:
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"a": _row(3, 1, b"x", NOW_MS + 2 * CLOCKS_DIFFER_MS)}, 7)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert again.applied_offset == 7
    again.close()


@pytest.mark.parametrize(("ahead_ms", "trusted"), [(CLOCKS_DIFFER_MS, True), (CLOCKS_DIFFER_MS + 1, False)])
def test_rocks_rows_start_empty_when_they_were_dated_by_a_clock_that_was_ahead(
    tmp_path: Path, *, ahead_ms: int, trusted: bool
) -> None:
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS + ahead_ms)
    first.put({b"a": _row(3, 1, b"x")}, 7)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert (again.applied_offset == 7) is trusted
    again.close()


def test_rocks_rows_start_empty_when_the_files_are_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "0.rocksdb"
    first = RocksRows(folder, lambda: NOW_MS)
    first.put({b"a": _row(3, 1, b"x")}, 7)
    first.close()
    (folder / "CURRENT").write_bytes(b"not a manifest\n")
    again = RocksRows(folder, lambda: NOW_MS)
    assert again.applied_offset is None
    again.close()


def test_rocks_rows_are_not_taken_for_open_elsewhere_when_a_block_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would rebuild them. RocksDB's word on a file that was damaged 300 bytes before its end."""
    words = [f"Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4 in {tmp_path}/9.sst offset 1"]

    def opened(folder: Path) -> Rdict:
        if words:
            raise Exception(words.pop())  # noqa: TRY002 -- what rocksdict raises
        return open_rows(folder)

    open_rows = rocks_rows._opened_at
    monkeypatch.setattr(rocks_rows, "_opened_at", opened)
    rows = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert rows.applied_offset is None
    rows.close()


async def test_rocks_rows_share_one_bound_on_memory_when_many_partitions_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them alone would fill its buffer of 16 MiB, and read as much again."""
    # What rows of other tests hold, open and idle, is flushed by nobody.
    monkeypatch.setattr(rocks_rows, "_WRITE_MEMORY", WriteBufferManager(WRITE_MEMORY_BYTES, False))
    value, batch, batches, partitions = b"v" * 1_000, 500, 24, 8
    assert partitions * batch * batches * len(value) > 5 * WRITE_MEMORY_BYTES
    opened = [RocksRows(tmp_path / str(number), lambda: NOW_MS) for number in range(partitions)]
    for start in range(batches):
        for each in opened:
            each.put({b"%d" % (start * batch + n): _row(1, 1, value) for n in range(batch)}, start)
    # What is being flushed counts too, and this writes faster than a disk may take it.
    await until(lambda: 0 < write_memory_bytes() < 1.25 * WRITE_MEMORY_BYTES, timeout_s=FLUSH_LIMIT_S)
    for number in range(0, batch * batches, 7):
        assert all(each.get(b"%d" % number) == _row(1, 1, value) for each in opened)
    assert 0 < read_memory_bytes() < 1.25 * READ_MEMORY_BYTES
    for each in opened:
        each.close()


def test_rocks_rows_read_hardly_a_block_when_keys_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every new order is such a key: without filters each is looked for on disk. A folder opened again has them too."""
    monkeypatch.setattr(rocks_rows, "_READ_MEMORY", Cache(READ_MEMORY_BYTES))  # others have filled the shared one
    count = 5_000
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"%d" % (2 * n): _row(1, 1, os.urandom(500)) for n in range(count)}, 1)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)  # what was in memory is now in a file
    before = read_memory_bytes()
    assert all(again.get(b"%d" % (2 * n + 1)) is None for n in range(count))
    read = read_memory_bytes() - before
    assert read < count * 500 / 5
    assert all(again.get(b"%d" % (2 * n)) is not None for n in range(count))
    assert read_memory_bytes() - before > count * 500  # so it was measured rightly
    again.close()


def test_rocks_rows_read_a_part_of_the_index_when_it_is_larger_than_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With millions of rows it always is; here there is no cache to speak of, and 200 kB of index and filters."""
    count, asked = 100_000, 500
    monkeypatch.setattr(rocks_rows, "_READ_MEMORY", Cache(1))
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    first.put({b"%d" % n: _row(1, 1, os.urandom(100)) for n in range(count)}, 1)
    first.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    before = _bytes_read()
    assert all(again.get(b"%d" % n) is not None for n in range(0, count, count // asked))
    assert 1_000 < (_bytes_read() - before) / asked < 40_000
    again.close()


def _bytes_read() -> int:
    """What this process has read from files so far, the page cache included (Linux)."""
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar:"))
    return int(line.split()[1])


def test_rocks_rows_refuse_when_open_elsewhere(tmp_path: Path) -> None:
    first = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    with pytest.raises(LocalRowsLockedError):
        RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    code = (
        "import sys, pathlib; from streams.kafka.rocks_rows import RocksRows; RocksRows(pathlib.Path(sys.argv[1]), int)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "0.rocksdb")], check=False, capture_output=True, text=True
    )
    assert "LocalRowsLockedError" in other.stderr, "RocksDB has other words for another process"
    first.close()


@pytest.mark.parametrize("on_disk", [False, True])
def test_table_hands_out_live_rows_and_forgets_old_tombstones(tmp_path: Path, on_disk: bool) -> None:
    ahead = NOW_MS + 2 * TOMBSTONE_KEPT_MS  # this machine's clock: it does not matter
    table = RowTable("orders", data_dir=tmp_path if on_disk else None, now_ms=lambda: ahead)
    old_ms = NOW_MS - TOMBSTONE_KEPT_MS - 1
    table.merge(
        2,
        [
            ChangelogRecord(b"live", _row(1, 1, b"x"), 0),
            ChangelogRecord(b"deleted", _row(1, 1, None), 1),
            ChangelogRecord(b"long ago", _row(1, 1, None, old_ms), 2),
        ],
    )
    assert list(table.live_rows(2)) == [TableRow("orders", 2, b"live", b"x")]
    assert table.due_rows(2, ahead, 10) == []
    assert table.partition(2).get(b"deleted") is not None
    assert table.partition(2).get(b"long ago") is None
    assert table.live_count() == 1
    table.keep_only([])


@pytest.mark.parametrize("on_disk", [False, True])
def test_row_written_over_its_old_tombstone_is_not_forgotten_with_it(tmp_path: Path, on_disk: bool) -> None:
    """The owner, who decides from these rows, would take the key for one never used."""
    table = RowTable("claims", data_dir=tmp_path if on_disk else None, now_ms=lambda: NOW_MS)
    long_ago, live = _row(1, 1, None, NOW_MS - TOMBSTONE_KEPT_MS - 1), _row(1, 1, b"x")
    table.merge(0, [ChangelogRecord(b"again", long_ago, 0), ChangelogRecord(b"live", live, 1)])
    table.partition(0).put({b"again": _row(1, 2, b"new")}, 2)
    assert table.due_rows(0, NOW_MS, 10) == []
    assert table.partition(0).get(b"again") == _row(1, 2, b"new")
    table.keep_only([])


@pytest.mark.parametrize("on_disk", [False, True])
def test_partition_that_goes_away_while_it_is_swept_is_not_opened_again(tmp_path: Path, on_disk: bool) -> None:
    table = RowTable("claims", data_dir=tmp_path if on_disk else None, now_ms=lambda: NOW_MS)
    long_ago, live = _row(1, 1, None, NOW_MS - TOMBSTONE_KEPT_MS - 1), _row(1, 1, b"x")
    table.merge(0, [ChangelogRecord(b"again", long_ago, 0), ChangelogRecord(b"live", live, 1)])
    sweep = table.live_rows(0)
    assert next(sweep).key == b"live"
    table.keep_only([])
    assert list(sweep) == []
    if on_disk:
        again = RocksRows(tmp_path / "claims" / "0.rocksdb", lambda: NOW_MS)
        assert again.get(b"again") == long_ago
        again.close()


def test_table_whose_partitions_are_confirmed_stays_trusted_and_opens_none_for_it(tmp_path: Path) -> None:
    clock = [NOW_MS]
    table = RowTable("orders", data_dir=tmp_path, now_ms=lambda: clock[0])
    table.merge(0, [ChangelogRecord(b"a", _row(5, 1, b"x"), 0)])
    clock[0] += 2 * TRUSTED_MS
    table.confirm([0, 1])
    table.keep_only([])
    assert not (tmp_path / "orders" / "1.rocksdb").exists()
    assert table.partition(0).applied_offset == 0
    table.keep_only([])


def test_table_names_regressed_rows_once_when_they_must_be_written_again() -> None:
    table, regressed = (
        RowTable("orders", data_dir=None, now_ms=lambda: NOW_MS),
        rise_of("row_regressions", table="orders"),
    )
    table.merge(0, [ChangelogRecord(b"a", _row(5, 1, b"new"), 0), ChangelogRecord(b"a", _row(4, 1, b"late"), 1)])
    assert regressed() == 1
    assert table.take_regressed(0) == {b"a": _row(5, 1, b"new")}
    assert table.take_regressed(0) == {}


@pytest.mark.parametrize("on_disk", [False, True])
def test_table_has_nothing_when_a_partition_was_wiped(tmp_path: Path, on_disk: bool) -> None:
    table = RowTable("orders", data_dir=tmp_path if on_disk else None, now_ms=lambda: NOW_MS)
    table.merge(0, [ChangelogRecord(b"a", _row(5, 1, b"x"), 0)])
    table.wipe(0)
    assert table.partition(0).applied_offset is None
    table.keep_only([])


def test_table_refuses_a_name_that_could_leave_its_folder() -> None:
    with pytest.raises(ValueError, match="table name"):
        RowTable("../orders", data_dir=None, now_ms=lambda: NOW_MS)
