"""The local rows of one table in one partition: what the changelog says, as far as it has been applied.

Called by `row_tables`. Two implementations of one port: `MemoryRows` here (recovered from the changelog at each start),
and `rocks_rows.RocksRows` (kept on disk). Neither is ever ahead of the log: a change is applied only once its changelog
record is acknowledged, together with that record's offset, in one write.

Beside the rows stands their index by due time, and in the same write: what is due is found without a scan, and a crash
finds both or neither. A deleted row is due when it may be forgotten.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, Protocol

from streams.kafka.due_places import DuePlaces
from streams.kafka.dues import from_place, place_of
from streams.kafka.stamps import UNSTAMPED, Stamp
from streams.kafka.step import NEVER, NEVER_MS, Due

TOMBSTONE_KEPT_MS = 7 * 24 * 3600 * 1000
"""How long a deleted row is remembered locally, against a late write of an owner frozen for less than this."""

NOTHING_KNOWN: Final[Mapping[bytes, "StoredRow | None"]] = {}


class StoredRow(NamedTuple):
    """A row, or the memory of a deleted one: without it a late write of a frozen owner would bring the row back."""

    stamp: Stamp
    value: bytes | None
    written_ms: int
    """When the broker wrote its record, milliseconds since the epoch."""
    due: Due = NEVER
    """When it wants to be looked at again; of a deleted row it means nothing."""


class DueEntry(NamedTuple):
    """One row in the order of due times."""

    at_ms: int
    key: bytes
    note: bytes | None
    """What the row says of its due time; None: it is deleted, and may be forgotten then."""

    @property
    def place(self) -> bytes:
        """Where it stands in that order."""
        return place_of(self.at_ms, self.key)


def due_place(key: bytes, row: StoredRow) -> bytes | None:
    """Where the row stands in the order of due times; None: nowhere."""
    if row.value is None:
        return place_of(row.written_ms + TOMBSTONE_KEPT_MS, key)
    return None if row.due.at_ms >= NEVER_MS else place_of(row.due.at_ms, key)


def may_be_forgotten(row: StoredRow, newest_ms: int) -> bool:
    """Whether a row was deleted so long before the newest one was written."""
    return row.value is None and row.written_ms < newest_ms - TOMBSTONE_KEPT_MS


def live_rows_of(row: StoredRow | None) -> int:
    """1 of a row that is there, 0 of none and of a deleted one."""
    return 0 if row is None or row.value is None else 1


class PartitionRows(Protocol):
    """What a table needs of the place where its rows live."""

    @property
    def applied_offset(self) -> int | None:
        """Changelog offset up to which everything is applied; None when nothing is."""

    @property
    def highest_generation(self) -> int:
        """Highest generation of any stamp ever applied."""

    @property
    def newest_ms(self) -> int:
        """When the newest row was written that came since these were opened; 0: none came."""

    @property
    def live_count(self) -> int:
        """How many rows there are, deleted ones apart."""

    def get(self, key: bytes) -> StoredRow | None:
        """The row, or its tombstone, or None. Raises: LocalRowsBrokenError: nobody can tell."""

    def put(
        self,
        rows: Mapping[bytes, StoredRow],
        offset: int | None,
        *,
        before: Mapping[bytes, StoredRow | None] = NOTHING_KNOWN,
    ) -> None:
        """Write these over whatever is there and raise the applied offset to `offset`, if any: all of it or nothing.

        `before`: what is there now under some of these keys, where the caller has read it. The rest is looked up.
        """

    def due(self, after: bytes, limit: int) -> list[DueEntry]:
        """The first so many rows behind this place, in the order of due times. Raises: LocalRowsBrokenError."""

    def soonest_put_ms(self) -> int:
        """The soonest due time of all rows put since this was last asked; `NEVER_MS`: none was put that has one."""

    def items(self) -> Iterator[tuple[bytes, StoredRow]]:
        """Every row and tombstone, in no order that may be relied on; ends when the rows are closed meanwhile."""

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove these rows without a trace; nothing when closed."""

    def forget_due(self, entries: Iterable[DueEntry]) -> None:
        """Remove what stands there in the order of due times, and no row; nothing when closed."""

    def confirm(self) -> None:
        """Say that these are complete as of now: this worker owns the partition, so nobody else writes to it."""

    def close(self) -> None:
        """Let go of files; safe to call twice."""


class MemoryRows:
    """Rows in a dictionary."""

    def __init__(self) -> None:
        self._rows: dict[bytes, StoredRow] = {}
        self._applied_offset: int | None = None
        self._highest_generation = 0
        self._newest_ms = 0
        self._live_count = 0
        self._soonest_ms = NEVER_MS
        self._notes: dict[bytes, bytes | None] = {}
        self._places = DuePlaces()  # of the notes
        self._is_closed = False

    @property
    def applied_offset(self) -> int | None:
        """See `PartitionRows`."""
        return self._applied_offset

    @property
    def highest_generation(self) -> int:
        """See `PartitionRows`."""
        return self._highest_generation

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
        return self._rows.get(key)

    def put(
        self,
        rows: Mapping[bytes, StoredRow],
        offset: int | None,
        *,
        before: Mapping[bytes, StoredRow | None] = NOTHING_KNOWN,  # noqa: ARG002 -- nothing is cheaper to read than this
    ) -> None:
        """See `PartitionRows`."""
        for key, row in rows.items():
            known = self._rows.get(key)
            self._live_count += live_rows_of(row) - live_rows_of(known)
            if known is not None and (place := due_place(key, known)) is not None:
                self._displace(place)
            if (place := due_place(key, row)) is not None:
                self._places.add(place)
                self._notes[place] = None if row.value is None else row.due.note
                self._soonest_ms = min(self._soonest_ms, from_place(place)[0])
        self._rows.update(rows)
        self._highest_generation = max([self._highest_generation, *(row.stamp.generation for row in rows.values())])
        self._newest_ms = max([self._newest_ms, *(row.written_ms for row in rows.values())])
        if offset is not None:
            self._applied_offset = offset if self._applied_offset is None else max(offset, self._applied_offset)

    def _displace(self, place: bytes) -> None:
        if self._notes.pop(place, place) is not place:
            self._places.remove(place)

    def due(self, after: bytes, limit: int) -> list[DueEntry]:
        """See `PartitionRows`."""
        found = islice(self._places.behind(after), limit)
        return [DueEntry(*from_place(each), self._notes[each]) for each in found]

    def soonest_put_ms(self) -> int:
        """See `PartitionRows`."""
        soonest_ms, self._soonest_ms = self._soonest_ms, NEVER_MS
        return soonest_ms

    def forget_due(self, entries: Iterable[DueEntry]) -> None:
        """See `PartitionRows`."""
        for entry in entries:
            self._displace(entry.place)

    def items(self) -> Iterator[tuple[bytes, StoredRow]]:
        """See `PartitionRows`."""
        for item in list(self._rows.items()):
            if self._is_closed:
                return
            yield item

    def forget(self, keys: Iterable[bytes]) -> None:
        """See `PartitionRows`."""
        for key in keys:
            known = self._rows.pop(key, None)
            self._live_count -= live_rows_of(known)
            if known is not None and (place := due_place(key, known)) is not None:
                self._displace(place)

    def confirm(self) -> None:
        """See `PartitionRows`."""

    def close(self) -> None:
        """See `PartitionRows`."""
        self._is_closed = True


class ChangelogRecord(NamedTuple):
    """One record of a changelog partition."""

    key: bytes
    row: StoredRow
    offset: int


def put_own(
    rows: PartitionRows,
    written: Mapping[bytes, StoredRow],
    offset: int,
    *,
    before: Mapping[bytes, StoredRow | None] = NOTHING_KNOWN,
) -> None:
    """Write rows of this owner, whose changelog record has been acknowledged at `offset`; `before` as in `put`.

    The applied offset follows only when that record stands right behind it. A gap holds what another owner has written:
    this one was frozen, or its predecessor was. Were it passed over, an owner that is given its partition back would
    never read it, and would decide without those rows. Until the next recovery has read the gap, which changes nothing
    where the stamps are known, the applied offset stays.
    """
    applied = rows.applied_offset
    follows = offset == (0 if applied is None else applied + 1)
    rows.put(written, offset if follows else None, before=before)


def merge_changelog(rows: PartitionRows, records: Iterable[ChangelogRecord]) -> frozenset[bytes]:
    """Apply records in the order of the log, the highest stamp of each key winning whatever that order.

    Returns:
        The keys that had a record behind one of a higher stamp (a frozen owner's late write): it did not win.

    A record equal to the row (our own, read back) changes nothing. One without a stamp was written by no owner: it is
    passed over, and counts as a regress of the row that it stands before, so that this is written again.
    """
    newest: dict[bytes, StoredRow] = {}
    before: dict[bytes, StoredRow | None] = {}
    regressed: set[bytes] = set()
    last_offset = -1
    for key, row, offset in records:
        last_offset = max(last_offset, offset)
        known = newest.get(key)
        if known is None:
            known = before[key] = rows.get(key)
        if row.stamp > (UNSTAMPED if known is None else known.stamp):
            newest[key] = row
        elif known is not None and row.stamp < known.stamp:
            regressed.add(key)
    if last_offset >= 0:
        rows.put(newest, last_offset, before=before)
    return frozenset(regressed)
