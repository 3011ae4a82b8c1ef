"""Local rows on disk whose files are damaged: they are thrown away and read back; nobody decides by what is left."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from streams.kafka.errors import LocalRowsBrokenError, LocalRowsUnwritableError
from streams.kafka.partition_rows import StoredRow
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.stamps import Stamp

NOW_MS = 1_800_000_000_000
COUNT = 3_000


def _damaged(folder: Path, *, largest: bool = True) -> RocksRows:
    """Open rows that fill many blocks of one file, of which one is damaged; or one of the file with their offset."""
    rows = RocksRows(folder, lambda: NOW_MS)
    rows.put({b"%05d" % n: StoredRow(Stamp(1, 1), os.urandom(300), NOW_MS) for n in range(COUNT)}, 7)
    rows.close()
    RocksRows(folder, lambda: NOW_MS).close()  # what was in memory and its log is now in a file
    files = sorted(folder.glob("*.sst"), key=lambda file: file.stat().st_size)
    file = files[-1] if largest else files[0]
    found = bytearray(file.read_bytes())
    place = len(found) // 3 if largest else 8
    for each in range(place, place + 64):
        found[each] ^= 0xFF
    file.write_bytes(found)
    return RocksRows(folder, lambda: NOW_MS)


def _read_all_by_key(rows: RocksRows) -> int:
    return sum(rows.get(b"%05d" % n) is not None for n in range(COUNT))


def _read_all_in_order(rows: RocksRows) -> int:
    return sum(1 for _ in rows.items())


@pytest.mark.parametrize("read", [_read_all_by_key, _read_all_in_order])
def test_rocks_rows_are_thrown_away_when_a_block_turns_out_to_be_damaged(
    tmp_path: Path, read: Callable[[RocksRows], int]
) -> None:
    """RocksDB's iterator just stops there, as at the end: timers that nobody knows of never come due."""
    rows = _damaged(tmp_path / "0.rocksdb")
    assert rows.applied_offset == 7
    with pytest.raises(LocalRowsBrokenError):
        read(rows)
    with pytest.raises(RuntimeError):
        rows.get(b"00000")  # not None: nobody may decide as if there were no row
    assert not (tmp_path / "0.rocksdb").exists()  # at once: the process may be killed before it closes them
    rows.close()
    again = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    assert again.applied_offset is None
    again.close()


def test_rocks_rows_start_empty_when_their_offset_cannot_be_read(tmp_path: Path) -> None:
    rows = _damaged(tmp_path / "0.rocksdb", largest=False)
    assert rows.applied_offset is None
    assert list(rows.items()) == []
    rows.close()


@pytest.mark.parametrize(
    ("word", "kept"), [("Corruption: block checksum mismatch", False), ("IO error: No space", True)]
)
def test_rocks_rows_are_thrown_away_when_writing_finds_damage_and_not_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, word: str, kept: bool
) -> None:
    rows = RocksRows(tmp_path / "0.rocksdb", lambda: NOW_MS)
    refusing = SimpleNamespace(write=_raiser(word), get=lambda _key: None, close=rows._opened.close)
    monkeypatch.setattr(rows, "_db", refusing)
    wanted = LocalRowsUnwritableError if kept else LocalRowsBrokenError
    with pytest.raises(wanted, match="No space" if kept else "thrown away"):
        rows.put({b"a": StoredRow(Stamp(3, 1), b"x", NOW_MS)}, 7)
    assert (tmp_path / "0.rocksdb").exists() is kept
    if kept:
        refusing.close()


def _raiser(word: str) -> Callable[[object], None]:
    def write(_batch: object) -> None:
        raise Exception(word)  # noqa: TRY002 -- what rocksdict raises

    return write
