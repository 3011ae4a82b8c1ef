"""The tables of a worker: which rows of which partition are here, and how a changelog is read into them.

Called by `faust_fences.tables` (recovery and standby replicas), `pipeline` (reads and writes of the owner) and
`worker` (hands out the rows of ready partitions, and those that are due). Pure but for the store it opens.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from streams.kafka.due_rows import DueWalk
from streams.kafka.partition_rows import (
    ChangelogRecord,
    DueEntry,
    MemoryRows,
    PartitionRows,
    StoredRow,
    due_place,
    may_be_forgotten,
    merge_changelog,
)
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.stamps import Stamp
from streams.kafka.step import NEVER, Due, DueRow, TableRow
from streams.telemetry import metrics

AGAIN_MS = 600_000
"""A row that is still there so long after its due time was told is told again: what was asked for it may be lost."""

DELETED_AMONG = 2
"""Places looked at for each row that is handed out: where rows end steadily, every other place is of a deleted row."""

STEPS_AT_ONCE = 8
"""Of a walk past rows of which none is to be handed out, before everybody else gets a turn."""

_SAFE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

log = structlog.get_logger(__name__)


class RowTable:
    """One table, in the partitions that are here."""

    def __init__(
        self,
        name: str,
        *,
        data_dir: Path | None,
        now_ms: Callable[[], int],
        has_dues: bool = False,
        again_ms: int = AGAIN_MS,
    ):
        """Build it; nothing is opened.

        Args:
            name: of the table.
            data_dir: where the rows are kept; None: in memory.
            now_ms: the clock for the age of local rows.
            has_dues: whether each row says when it is due. One that does not is due at once then, else never.
            again_ms: how long a row that was handed out as due, and is still there, is not handed out again.

        Raises:
            ValueError: the name cannot be part of a topic's and a folder's name.
        """
        if not _SAFE_NAME.fullmatch(name):
            raise ValueError(f"table name {name!r} must match {_SAFE_NAME.pattern}")
        self.name = name
        self._data_dir = None if data_dir is None else data_dir / name
        self._now_ms = now_ms
        self.has_dues = has_dues
        self._again_ms = again_ms
        self._walks: dict[int, DueWalk] = {}
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
        if not self.has_dues:  # nobody would look at what is due
            records = (each._replace(row=each.row._replace(due=NEVER)) for each in records)
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
        """Every row of a partition, tombstones left out."""
        for key, row in self.partition(number).items():
            if row.value is not None:
                yield TableRow(self.name, number, key, row.value)

    def live_count(self) -> int:
        """How many rows there are in the partitions that are here, standbys included; deleted ones apart."""
        return sum(rows.live_count for rows in list(self._partitions.values()))  # copied: another thread may ask

    def due_rows(self, number: int, now_ms: int, limit: int) -> list[DueRow]:
        """Return the first so many rows of a partition whose time has come; the same again until `pass_over`.

        None may mean that some were passed on the way, and more are due: ask again at the next look. Rows that were
        deleted long ago are forgotten on that way, by the log's time as far as it is known here: this machine's clock
        may be far ahead.
        """
        walk = self._walk(number)
        for _ in range(STEPS_AT_ONCE):
            entries = walk.due(now_ms, DELETED_AMONG * limit)
            if not entries:
                break
            live = self._live(number, walk, entries)
            if live:
                return live[:limit]
            walk.pass_over(entries[-1])
        return []

    def pass_over(self, due: DueRow) -> None:
        """Go on behind this row: it was asked about. It is handed out again if it is still there after `again_ms`."""
        self._walk(due.partition).pass_over(DueEntry(due.due.at_ms, due.key, due.due.note))

    def _walk(self, number: int) -> DueWalk:
        rows = self.partition(number)
        walk = self._walks.get(number)
        if walk is None or walk.rows is not rows:
            walk = self._walks[number] = DueWalk(rows, again_ms=self._again_ms)
        return walk

    def _live(self, number: int, walk: DueWalk, entries: Sequence[DueEntry]) -> list[DueRow]:
        """Return what is to be handed out of these; forget the deleted rows, and the places that no row has."""
        rows, live, deleted, nowhere = walk.rows, [], [], []
        for entry in entries:
            if entry.note is not None and not walk.met_before(entry):
                live.append(DueRow(number, entry.key, Due(entry.at_ms, entry.note)))  # unread: the index is exact
                continue
            row = rows.get(entry.key)
            if row is None or due_place(entry.key, row) != entry.place:
                nowhere.append(entry)
            elif row.value is not None:
                live.append(DueRow(number, entry.key, row.due))
            elif may_be_forgotten(row, rows.newest_ms):
                deleted.append((entry.key, row))
        if nowhere:
            log.error("due_places_without_rows", table=self.name, partition=number, rows=len(nowhere))
            rows.forget_due(nowhere)
        self._forget(number, rows, deleted)
        return live

    def _forget(self, number: int, rows: PartitionRows, tombstones: Sequence[tuple[bytes, StoredRow]]) -> None:
        if tombstones:
            highest = max(row.stamp.version for _, row in tombstones)
            self._forgotten_versions[number] = max(self.stamp_of_none(number).version, highest)
            rows.forget(key for key, _ in tombstones)

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
            self._walks.pop(number, None)
            self._regressed.pop(number, None)
            self._forgotten_versions.pop(number, None)

    def wipe(self, number: int) -> None:
        """Throw the local rows of a partition away: they do not fit their changelog, which is the truth."""
        rows = self._partitions.pop(number, None)
        self._walks.pop(number, None)
        if rows is not None:
            rows.close()
        folder = self._folder(number)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
