"""The tables of a worker without a log: rows are written as the pipeline writes them, and handed out when due.

What the sweep and the clock of timers ask of a worker, for tests that have no broker.
"""

from collections.abc import Iterable, Mapping

from streams.kafka.dues import AT_ONCE
from streams.kafka.partition_rows import StoredRow, put_own
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import DueRow, RowWrite

AGAIN_MS = 600_000


class KeptTables:
    """Tables in memory, of one owner."""

    def __init__(self, *names: str, partitions: int = 1, again_ms: Mapping[str, int] | None = None) -> None:
        """`again_ms`: after how long a row of a table is handed out again; of the others `AGAIN_MS`."""
        again = again_ms or {}
        self._tables = {
            name: RowTable(name, data_dir=None, now_ms=lambda: 0, has_dues=True, again_ms=again.get(name, AGAIN_MS))
            for name in names
        }
        self._offsets: dict[tuple[str, int], int] = {}
        self.owned = frozenset(range(partitions))
        self.is_done = True
        """What `has_done` says of everything."""

    def write(self, rows: Iterable[RowWrite], *, now_ms: int, partition: int = 0) -> None:
        """Keep these, as acknowledged now; rows of a table that is not kept here are left out."""
        for write in rows:
            table = self._tables.get(write.table)
            if table is None:
                continue
            here = table.partition(partition)
            known = here.get(write.key)
            stamp = (Stamp(0, 0) if known is None else known.stamp).next(1)
            offset = self._offsets.get((write.table, partition), -1) + 1
            self._offsets[write.table, partition] = offset
            row = StoredRow(stamp, write.value, now_ms, write.due)
            put_own(here, {write.key: row}, offset, before={write.key: known})

    def forget_dues(self) -> None:
        """Let the rows be as a version wrote them that did not say when they are due."""
        for table in self._tables.values():
            for number in self.owned:
                here = table.partition(number)
                here.put({key: row._replace(due=AT_ONCE) for key, row in here.items()}, None)

    def due_rows(self, table: str, number: int, now_ms: int, limit: int) -> list[DueRow]:
        return self._tables[table].due_rows(number, now_ms, limit) if number in self.owned else []

    def pass_over_due(self, table: str, due: DueRow) -> None:
        if due.partition in self.owned:
            self._tables[table].pass_over(due)

    def row(self, table: str, number: int, key: bytes) -> bytes | None:
        row = self._tables[table].partition(number).get(key)
        return None if row is None else row.value

    def has_done(self, topic: str, number: int, offset: int) -> bool:
        return self.is_done
