"""The local rows of one table in one partition: what the changelog says, as far as it has been applied.

Called by `row_tables`. Two implementations of one port: `MemoryRows` here (recovered from the changelog at each start),
and `rocks_rows.RocksRows` (kept on disk). Neither is ever ahead of the log: a change is applied only once its changelog
record is acknowledged, together with that record's offset, in one write.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from streams.kafka.stamps import UNSTAMPED, Stamp


class StoredRow(NamedTuple):
    """A row, or the memory of a deleted one: without it a late write of a frozen owner would bring the row back."""

    stamp: Stamp
    value: bytes | None
    written_ms: int
    """When the broker wrote its record, milliseconds since the epoch."""


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

    def get(self, key: bytes) -> StoredRow | None:
        """The row, or its tombstone, or None. Raises: LocalRowsBrokenError: nobody can tell."""

    def put(self, rows: Mapping[bytes, StoredRow], offset: int | None) -> None:
        """Write these over whatever is there and raise the applied offset to `offset`, if any: all of it or nothing."""

    def items(self) -> Iterator[tuple[bytes, StoredRow]]:
        """Every row and tombstone, in no order that may be relied on; ends when the rows are closed meanwhile."""

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove these without a trace; nothing when closed."""

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

    def get(self, key: bytes) -> StoredRow | None:
        """See `PartitionRows`."""
        return self._rows.get(key)

    def put(self, rows: Mapping[bytes, StoredRow], offset: int | None) -> None:
        """See `PartitionRows`."""
        self._rows.update(rows)
        self._highest_generation = max([self._highest_generation, *(row.stamp.generation for row in rows.values())])
        self._newest_ms = max([self._newest_ms, *(row.written_ms for row in rows.values())])
        if offset is not None:
            self._applied_offset = offset if self._applied_offset is None else max(offset, self._applied_offset)

    def items(self) -> Iterator[tuple[bytes, StoredRow]]:
        """See `PartitionRows`."""
        for item in list(self._rows.items()):
            if self._is_closed:
                return
            yield item

    def forget(self, keys: Iterable[bytes]) -> None:
        """See `PartitionRows`."""
        for key in keys:
            self._rows.pop(key, None)

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


def put_own(rows: PartitionRows, written: Mapping[bytes, StoredRow], offset: int) -> None:
    """Write rows of this owner, whose changelog record has been acknowledged at `offset`.

    The applied offset follows only when that record stands right behind it. A gap holds what another owner has written:
    this one was frozen, or its predecessor was. Were it passed over, an owner that is given its partition back would
    never read it, and would decide without those rows. Until the next recovery has read the gap, which changes nothing
    where the stamps are known, the applied offset stays.
    """
    applied = rows.applied_offset
    follows = offset == (0 if applied is None else applied + 1)
    rows.put(written, offset if follows else None)


def merge_changelog(rows: PartitionRows, records: Iterable[ChangelogRecord]) -> frozenset[bytes]:
    """Apply records in the order of the log, the highest stamp of each key winning whatever that order.

    Returns:
        The keys that had a record behind one of a higher stamp (a frozen owner's late write): it did not win.

    A record equal to the row (our own, read back) changes nothing. One without a stamp was written by no owner: it is
    passed over, and counts as a regress of the row that it stands before, so that this is written again.
    """
    newest: dict[bytes, StoredRow] = {}
    regressed: set[bytes] = set()
    last_offset = -1
    for key, row, offset in records:
        last_offset = max(last_offset, offset)
        known = newest.get(key) or rows.get(key)
        if row.stamp > (UNSTAMPED if known is None else known.stamp):
            newest[key] = row
        elif known is not None and row.stamp < known.stamp:
            regressed.add(key)
    if last_offset >= 0:
        rows.put(newest, last_offset)
    return frozenset(regressed)
