"""The look at local tables finds each way in which one may lack a row, and nothing in one that is whole."""

from pathlib import Path

import pytest

from streams.kafka.partition_rows import StoredRow
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.stamps import UNSTAMPED, Stamp
from tests.support.local_rows import copies_in

NOW_MS = 1_800_000_000_000
APPLIED = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an engine, whose worker has applied the row `a` at (2, 3) and a tombstone `b` at (2, 1), up to offset 7."""
    rows = RocksRows(tmp_path / "orders-1" / "orders" / "3.rocksdb", lambda: NOW_MS)
    rows.put({b"a": StoredRow(Stamp(2, 3), b"x", NOW_MS), b"b": StoredRow(Stamp(2, 1), None, NOW_MS)}, APPLIED)
    rows.close()
    return tmp_path


def _told(folder: Path, offset: int, key: bytes | None, stamp: Stamp) -> list[str]:
    (copy,) = copies_in(folder)
    assert (copy.topic, copy.partition) == ("orders-orders-changelog", 3)
    held = copy.opened()
    held.see(offset, key, stamp)
    return held.told()


@pytest.mark.parametrize(
    ("key", "stamp"),
    [
        (b"c", Stamp(1, 1)),  # never applied
        (b"a", Stamp(2, 4)),  # a later version was not
        (b"a", Stamp(3, 1)),  # a later owner's was not
        (b"b", Stamp(2, 2)),  # deleted here, and written again since
    ],
)
def test_copy_is_told_when_it_lacks_a_row(folder: Path, key: bytes, stamp: Stamp) -> None:
    (violation,) = _told(folder, APPLIED, key, stamp)
    assert violation.startswith("local_rows_are_whole: orders-1 lacks 1 rows of orders-orders-changelog[3]")
    assert str(key) in violation


@pytest.mark.parametrize(
    ("offset", "key", "stamp"),
    [
        (APPLIED, b"a", Stamp(2, 3)),
        (APPLIED, b"a", Stamp(1, 9)),  # a frozen owner's
        (APPLIED, b"b", Stamp(2, 1)),
        (APPLIED + 1, b"c", Stamp(9, 9)),  # not applied yet
        (APPLIED, None, Stamp(9, 9)),
        (APPLIED, b"c", UNSTAMPED),  # poison
    ],
)
def test_copy_is_not_told_when_it_is_whole(folder: Path, offset: int, key: bytes | None, stamp: Stamp) -> None:
    assert _told(folder, offset, key, stamp) == []
