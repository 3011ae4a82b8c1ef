"""The tables of a worker: which rows of which partition are here, and how a changelog is read into them.

Called by `faust_fences.tables` (recovery and standby replicas), `pipeline` (reads and writes of the owner) and
`worker` (hands the rows of ready partitions over). Pure but for the store it opens.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import structlog

from streams.kafka.partition_rows import ChangelogRecord, MemoryRows, PartitionRows, StoredRow, merge_changelog
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.stamps import Stamp
from streams.kafka.step import TableRow
from streams.telemetry import metrics

TOMBSTONE_KEPT_MS = 7 * 24 * 3600 * 1000
"""How long a deleted row is remembered locally, against a late write of an owner frozen for less than this."""

_SAFE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

log = structlog.get_logger(__name__)


class RowTable:
    """One table, in the partitions that are here."""

    def __init__(self, name: str, *, data_dir: Path | None, now_ms: Callable[[], int]):
        """Raises: ValueError when the name cannot be part of a topic's and a folder's name."""
        if not _SAFE_NAME.fullmatch(name):
            raise ValueError(f"table name {name!r} must match {_SAFE_NAME.pattern}")
        self.name = name
        self._data_dir = None if data_dir is None else data_dir / name
        self._now_ms = now_ms
        self._partitions: dict[int, PartitionRows] = {}
        self._regressed: dict[int, set[bytes]] = {}
        self._forgotten_versions: dict[int, int] = {}

    def partition(self, number: int) -> PartitionRows:
        """The rows of a partition, opened if need be. Raises: LocalRowsLockedError."""
        rows = self._partitions.get(number)
        if rows is None:
            folder = self._folder(number)
            rows = MemoryRows() if folder is None else RocksRows(folder, self._now_ms)
            self._partitions[number] = rows
        return rows

    def _folder(self, number: int) -> Path | None:
        return None if self._data_dir is None else self._data_dir / f"{number}.rocksdb"

    def merge(self, number: int, records: Iterable[ChangelogRecord]) -> None:
        """Apply changelog records; a regress never wins, is counted and said."""
        regressed = merge_changelog(self.partition(number), records)
        if regressed:
            self._regressed.setdefault(number, set()).update(regressed)
            metrics.count("row_regressions", len(regressed), table=self.name)
            log.error("row_regress", table=self.name, partition=number, rows=len(regressed))

    def take_regressed(self, number: int) -> dict[bytes, StoredRow]:
        """The rows that won over a later record, once: to be written again, because compaction keeps the last."""
        rows = self.partition(number)
        keys = self._regressed.pop(number, set())
        return {key: row for key in keys if (row := rows.get(key)) is not None}

    def live_rows(self, number: int) -> Iterator[TableRow]:
        """Every row of a partition, tombstones left out; the oldest of those are forgotten on the way.

        By the log's time, as far as it is known here: this machine's clock may be far ahead.
        """
        rows = self.partition(number)
        expired: dict[bytes, StoredRow] = {}
        oldest_ms = rows.newest_ms - TOMBSTONE_KEPT_MS
        for key, row in rows.items():
            if row.value is not None:
                yield TableRow(self.name, number, key, row.value)
            elif row.written_ms < oldest_ms:
                expired[key] = row
        if self._partitions.get(number) is rows:  # else it went away while it was read
            self._forget(number, rows, expired)

    def _forget(self, number: int, rows: PartitionRows, found: Mapping[bytes, StoredRow]) -> None:
        """Forget deleted rows; not those of keys that were used again since they were found."""
        tombstones = {key: row for key, row in found.items() if rows.get(key) == row}
        if tombstones:
            highest = max(row.stamp.version for row in tombstones.values())
            self._forgotten_versions[number] = max(self.stamp_of_none(number).version, highest)
            rows.forget(tombstones)

    def stamp_of_none(self, number: int) -> Stamp:
        """What the next write of a key without a row goes by: above every tombstone that was forgotten here.

        The changelog may keep a tombstone for longer. A row of the same generation, begun anew below it, would be
        dropped by the next recovery. A later assignment has a higher generation, so this need not be kept.
        """
        return Stamp(0, self._forgotten_versions.get(number, 0))

    def confirm(self, numbers: Iterable[int]) -> None:
        """Say that these partitions are owned, so that what is here of them is complete as of now."""
        for number in numbers:
            if (rows := self._partitions.get(number)) is not None:
                rows.confirm()

    def keep_only(self, numbers: Iterable[int]) -> None:
        """Close every partition but these. On disk they stay, to be brought up to date when they come back."""
        kept = set(numbers)
        for number in [number for number in self._partitions if number not in kept]:
            self._partitions.pop(number).close()
            self._regressed.pop(number, None)
            self._forgotten_versions.pop(number, None)

    def wipe(self, number: int) -> None:
        """Throw the local rows of a partition away: they do not fit their changelog, which is the truth."""
        rows = self._partitions.pop(number, None)
        if rows is not None:
            rows.close()
        folder = self._folder(number)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
