"""Local rows on disk, so that a restart reads only the end of the changelog. RocksDB by rocksdict.

Called by `row_tables`. Not Faust's own RocksDB store, for three reasons: that writes a row before its changelog record
is acknowledged, writes the offset apart from the row, and believes the file blindly.

The file is a cache of the log: when it is older than the log keeps tombstones, or cannot be read, it is thrown away.
One that shows only later that it cannot be read ends the worker, and is gone when that starts again.
Durable against a killed process (the write-ahead log is in the page cache); after a power loss it may lack its end,
which the changelog then fills in, since rows and offset are one write.
"""

import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
from rocksdict import BlockBasedIndexType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteBufferManager

from streams.kafka.dues import from_place
from streams.kafka.errors import LocalRowsBrokenError, LocalRowsLockedError, LocalRowsUnwritableError
from streams.kafka.partition_rows import NOTHING_KNOWN, DueEntry, StoredRow, due_place, live_rows_of
from streams.kafka.stamps import GENERATION_MAX, Stamp
from streams.kafka.step import NEVER_MS, Due

TRUSTED_MS = 20 * 3600 * 1000
"""A file whose date is older is rebuilt: Kafka forgets a tombstone 24 h (`delete.retention.ms`) after compaction, and a
file older than that would keep rows that were deleted since. Its date is that up to which it surely has everything: of
its newest record, of its owner's last sign of life, or of its beginning; not of its closing, since the worker may have
slept for a day before."""

CLOCKS_DIFFER_MS = 3600 * 1000
"""A file from further in the future was dated by a clock that was wrong, and nobody knows how old it is: rebuilt. With
what is left of the 24 h above."""

WRITE_BUFFER_BYTES = 16 * 1024 * 1024
"""Most memory for writes of one partition; RocksDB's own 64 MiB is much for 8 partitions and several tables."""

WRITE_MEMORY_BYTES = 16 * 1024 * 1024
"""Memory for writes of all partitions of a process together. Without it a table that is written little grows for hours,
until each of its partitions has filled a buffer of its own: it looks like a leak, and with many partitions is one. At
177 payments/s the claims fill it in seven minutes."""

READ_MEMORY_BYTES = 16 * 1024 * 1024
"""Memory for blocks read, indexes and filters of all partitions of a process together; RocksDB's own is 32 MiB for each
partition of each table, filled over hours. What is not in it is in the page cache as a rule."""

FILTER_BITS_PER_KEY = 10
"""Bloom filters: of keys that are not there, one in a hundred is looked for on disk. Each new order and each new key is
such a one, and so is every record that an empty disk is filled with: a million orders in 17 s, 120 s without."""

ROWS_A_STEP = 64
"""Read at once where all rows are read."""

OLD_LOGS_MAX = 2
"""RocksDB's own log files that are kept."""

FORMAT = 2
"""Of what is written here. Files of another one are rebuilt: they are a cache."""

_ROW = struct.Struct(">BIQQQH")
"""Is it a row (1) or a tombstone (0), generation, version, written_ms, due_ms, length of the note; then note, value."""

_META = struct.Struct(">BqIQQ")  # format, applied offset, highest generation, written_ms, how many rows are live
_LOCK_FILE = "/LOCK: "
"""What all of RocksDB's words on a folder in use have in common: the path of its lock, then why. "lock" is in others
too: "block checksum mismatch"."""

_DAMAGED = "Corruption"
"""How RocksDB's word on files that do not fit their checksums begins."""

_ROW_PREFIX = b"r"
_META_KEY = b"m"
_DUE_PREFIX = b"d"
"""Of the rows' places in the order of due times. Before the rows, which are many."""

_DELETED = b""
_LIVE = b"+"
"""What stands at a place: of a deleted row nothing, of another this and its note."""

_WRITE_MEMORY = WriteBufferManager(WRITE_MEMORY_BYTES, False)  # no stall: past it the fullest of those written flushes
_READ_MEMORY = Cache(READ_MEMORY_BYTES)

log = structlog.get_logger(__name__)


def write_memory_bytes() -> int:
    """What all open partitions of this process hold in memory for writes now."""
    return _WRITE_MEMORY.get_usage()


def read_memory_bytes() -> int:
    """What all open partitions of this process hold in memory of what they have read."""
    return int(_READ_MEMORY.get_usage())


class RocksRows:
    """Rows of one partition in one RocksDB folder."""

    def __init__(self, folder: Path, now_ms: Callable[[], int]):
        """Open or create. Reading raises LocalRowsBrokenError when the files turn out to be damaged.

        Raises:
            LocalRowsLockedError: another process has it open.
            LocalRowsUnwritableError: the disk is full, or the folder cannot be used.
        """
        self._folder = folder
        self._now_ms = now_ms
        self._db: Rdict | None = self._open_trusted()
        self._offset, self._generation, written_ms, self._live_count = self._meta()
        self._dated_ms = written_ms if self._offset >= 0 else now_ms()
        self._newest_ms = 0
        self._soonest_ms = NEVER_MS

    def _open_trusted(self) -> Rdict:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._open()
        try:
            if self._is_of_another_format():
                log.warning("local_rows_of_another_format", folder=self._folder.name)
                self._db.close()
                return self._start_empty()
            offset, generation, written_ms, _ = self._meta()
        except LocalRowsBrokenError:
            return self._start_empty()
        age_ms = self._now_ms() - written_ms
        in_time = -CLOCKS_DIFFER_MS <= age_ms <= TRUSTED_MS
        if offset >= 0 and not (in_time and generation <= GENERATION_MAX):  # such a generation was once believed
            log.warning("local_rows_not_trusted", folder=self._folder.name, age_ms=age_ms, generation=generation)
            self._db.close()
            return self._start_empty()
        return self._db

    def _open(self) -> Rdict:
        try:
            return _opened_at(self._folder)
        except Exception as broken:
            if _LOCK_FILE in str(broken):
                raise LocalRowsLockedError(f"{self._folder} is open in another process") from broken
            log.error("local_rows_unreadable", folder=self._folder.name, error=str(broken))  # noqa: TRY400 -- rebuilt
            return self._start_empty()

    def _start_empty(self) -> Rdict:
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            return _opened_at(self._folder)
        except Exception as broken:
            raise LocalRowsUnwritableError(f"{self._folder}: {broken}") from broken

    def _is_of_another_format(self) -> bool:
        found = self._found(_META_KEY)
        return found is not None and (len(found) != _META.size or found[0] != FORMAT)

    def _meta(self) -> tuple[int, int, int, int]:
        found = self._found(_META_KEY)
        return (-1, 0, 0, 0) if found is None else _META.unpack(found)[1:]

    @property
    def _opened(self) -> Rdict:
        if self._db is None:
            raise RuntimeError(f"{self._folder} is closed")
        return self._db

    def _found(self, key: bytes) -> Any:
        opened = self._opened
        try:
            return opened.get(key)
        except Exception as broken:
            raise self._given_up(broken) from broken

    def _write(self, batch: WriteBatch) -> None:
        opened = self._opened
        try:
            opened.write(batch)
        except Exception as broken:
            if str(broken).startswith(_DAMAGED):  # found while files were merged: it would be again after a restart
                raise self._given_up(broken) from broken
            raise LocalRowsUnwritableError(f"{self._folder}: {broken}") from broken  # a full disk, say

    def _given_up(self, broken: Exception) -> LocalRowsBrokenError:
        """Throw the files away now, since the process may be killed, and answer nothing more: no row is none there."""
        log.error("local_rows_damaged", folder=self._folder.name, error=str(broken))
        if self._db is not None:
            self._db.close()
            self._db = None
        shutil.rmtree(self._folder, ignore_errors=True)
        return LocalRowsBrokenError(f"{self._folder} cannot be read, and is thrown away")

    @property
    def applied_offset(self) -> int | None:
        """See `PartitionRows`."""
        return None if self._offset < 0 else self._offset

    @property
    def highest_generation(self) -> int:
        """See `PartitionRows`."""
        return self._generation

    @property
    def newest_ms(self) -> int:
        """See `PartitionRows`."""
        return self._newest_ms

    @property
    def live_count(self) -> int:
        """See `PartitionRows`."""
        return self._live_count

    def get(self, key: bytes) -> StoredRow | None:
        """See `PartitionRows`."""
        found = self._found(_ROW_PREFIX + key)
        return None if found is None else _unpack(found)

    def put(
        self,
        rows: Mapping[bytes, StoredRow],
        offset: int | None,
        *,
        before: Mapping[bytes, StoredRow | None] = NOTHING_KNOWN,
    ) -> None:
        """See `PartitionRows`."""
        batch = WriteBatch(raw_mode=True)
        generation, newest_ms, live_count = self._generation, self._newest_ms, self._live_count
        for key, row in rows.items():
            known = before[key] if key in before else self.get(key)
            batch.put(_ROW_PREFIX + key, _pack(row))
            self._index(batch, key, row, known)
            live_count += live_rows_of(row) - live_rows_of(known)
            generation, newest_ms = max(generation, row.stamp.generation), max(newest_ms, row.written_ms)
        highest = self._offset if offset is None else max(offset, self._offset)
        # Not now: what a recovery or a standby reads may be old, and what lies behind it is not here yet.
        self._dated_ms = max(self._dated_ms, min(newest_ms, self._now_ms()))
        batch.put(_META_KEY, _META.pack(FORMAT, highest, generation, self._dated_ms, live_count))
        self._write(batch)
        self._offset, self._generation, self._newest_ms = highest, generation, newest_ms
        self._live_count = live_count

    def _index(self, batch: WriteBatch, key: bytes, row: StoredRow, known: StoredRow | None) -> None:
        """Move the row in the order of due times, if it stands elsewhere now."""
        if known is not None and known.value is None:
            known = self.get(key)  # a tombstone of this owner has its date, and so its place, only once it is here
        old = None if known is None else due_place(key, known)
        new = due_place(key, row)
        if old is not None and old != new:
            batch.delete(_DUE_PREFIX + old)
        if new is None or (old == new and known is not None and known.due.note == row.due.note):
            return
        batch.put(_DUE_PREFIX + new, _DELETED if row.value is None else _LIVE + row.due.note)
        self._soonest_ms = min(self._soonest_ms, from_place(new)[0])

    def due(self, after: bytes, limit: int) -> list[DueEntry]:
        """See `PartitionRows`."""
        if self._db is None:
            return []
        opened, last, found = self._opened, _DUE_PREFIX + after, []
        entries: Iterator[tuple[Any, Any]] = opened.items(from_key=last + b"\0" if after else last)
        for last, value in islice(entries, limit):
            if not last.startswith(_DUE_PREFIX):
                break
            found.append(DueEntry(*from_place(last[len(_DUE_PREFIX) :]), _note_of(value)))
        else:
            if len(found) < limit:
                self._require_end(opened, last)
        del entries
        return found

    def soonest_put_ms(self) -> int:
        """See `PartitionRows`."""
        soonest_ms, self._soonest_ms = self._soonest_ms, NEVER_MS
        return soonest_ms

    def forget_due(self, entries: Iterable[DueEntry]) -> None:
        """See `PartitionRows`."""
        if self._db is None:
            return
        batch = WriteBatch(raw_mode=True)
        for entry in entries:
            batch.delete(_DUE_PREFIX + entry.place)
        self._write(batch)

    def items(self) -> Iterator[tuple[bytes, StoredRow]]:
        """See `PartitionRows`."""
        # By small steps: RocksDB's own iterator, held while others have their turn, would keep the folder locked after
        # `close`, and the partition could not be opened when it comes back.
        first = _ROW_PREFIX
        while self._db is not None:
            step = self._step(first)
            for key, found in step:
                if not key.startswith(_ROW_PREFIX) or self._db is None:
                    return
                yield key[len(_ROW_PREFIX) :], _unpack(found)
            if len(step) < ROWS_A_STEP:
                return
            first = step[-1][0] + b"\0"

    def _step(self, first: bytes) -> list[tuple[bytes, bytes]]:
        opened = self._opened
        entries: Iterator[tuple[Any, Any]] = opened.items(from_key=first)  # bytes, in raw mode
        step = list(islice(entries, ROWS_A_STEP))
        del entries
        if len(step) < ROWS_A_STEP:
            self._require_end(opened, step[-1][0] if step else first)
        return step

    def _require_end(self, opened: Rdict, last: bytes) -> None:
        """Raise LocalRowsBrokenError if anything but the end stops an iterator here: at damage it stops as well."""
        here = opened.iter()
        here.seek(last)
        while here.valid() and here.key() <= last:
            here.next()
        try:
            here.status()
        except Exception as broken:
            del here  # else this error would hold the folder
            raise self._given_up(broken) from broken

    def forget(self, keys: Iterable[bytes]) -> None:
        """See `PartitionRows`."""
        if self._db is None:
            return
        batch, live_count = WriteBatch(raw_mode=True), self._live_count
        for key in keys:
            known = self.get(key)
            live_count -= live_rows_of(known)
            if known is not None and (place := due_place(key, known)) is not None:
                batch.delete(_DUE_PREFIX + place)
            batch.delete(_ROW_PREFIX + key)
        if live_count != self._live_count:
            self._live_count = live_count
            batch.put(_META_KEY, _META.pack(FORMAT, self._offset, self._generation, self._dated_ms, live_count))
        self._write(batch)

    def confirm(self) -> None:
        """See `PartitionRows`. An idle partition stays trusted by it."""
        self._dated_ms = max(self._dated_ms, self._now_ms())

    def close(self) -> None:
        """See `PartitionRows`."""
        if self._db is not None:
            if self._offset >= 0:
                meta = _META.pack(FORMAT, self._offset, self._generation, self._dated_ms, self._live_count)
                self._db.put(_META_KEY, meta)
            self._db.close()
            self._db = None


def _pack(row: StoredRow) -> bytes:
    stamp, value, written_ms, (due_ms, note) = row
    if value is None:
        return _ROW.pack(0, *stamp, written_ms, NEVER_MS, 0)
    return _ROW.pack(1, *stamp, written_ms, due_ms, len(note)) + note + value


def _unpack(found: bytes) -> StoredRow:
    is_row, generation, version, written_ms, due_ms, note_bytes = _ROW.unpack_from(found)
    value_at = _ROW.size + note_bytes
    due = Due(due_ms, found[_ROW.size : value_at])
    return StoredRow(Stamp(generation, version), found[value_at:] if is_row else None, written_ms, due)


def _note_of(found: bytes) -> bytes | None:
    return None if found == _DELETED else found[len(_LIVE) :]


def _opened_at(folder: Path) -> Rdict:
    # Named, since otherwise a folder that exists is opened with what RocksDB wrote of its former options: no filters,
    # and a cache of its own.
    options = _options()
    return Rdict(str(folder), options, column_families={"default": options})


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_write_buffer_manager(_WRITE_MEMORY)
    options.set_keep_log_file_num(OLD_LOGS_MAX)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_READ_MEMORY)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(FILTER_BITS_PER_KEY, False)  # False: of a whole file, not of each block
    # In parts, so that a read brings in what it needs. Whole ones of millions of rows would throw each other out of the
    # cache, and each read would load hundreds of kilobytes: with 3,000,000 rows 480 us, and 60 us in parts.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_pin_top_level_index_and_filter(True)
    options.set_block_based_table_factory(blocks)
    return options
