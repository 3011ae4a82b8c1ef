"""Walks the rows of a partition in the order of their due times, each once a round, as their times come.

One walk for each partition of a table that this worker owns; called by `row_tables`. Pure.

Whoever asks about a row cannot tell when it will have moved on: the row's next write says so. So the walk goes on
behind it, and begins anew from time to time for those that are still there: what asked for them may have been lost.
"""

from typing import Final

from streams.kafka.dues import from_place, place_of
from streams.kafka.partition_rows import DueEntry, PartitionRows
from streams.kafka.step import NEVER_MS

BEGINNING: Final = b""
"""Before every place."""


class DueWalk:
    """How far one partition was walked. Not thread-safe; no clock of its own."""

    def __init__(self, rows: PartitionRows, *, again_ms: int) -> None:
        """`again_ms`: how long after the beginning of a round the next one may begin, milliseconds."""
        self.rows = rows
        self._again_ms = again_ms
        self._behind = BEGINNING
        self._next_ms = 0
        """Nothing behind that place comes due before, but for what is put meanwhile."""
        self._round_ms: int | None = None
        self._former_round_ms: int | None = None

    def due(self, now_ms: int, limit: int) -> list[DueEntry]:
        """Return the first so many whose time has come, deleted ones included; the same again until `pass_over`."""
        self._take_up(self.rows.soonest_put_ms())
        if self._next_ms > now_ms:
            self._begin_round(now_ms)
        if self._next_ms > now_ms:
            return []
        self._round_ms = now_ms if self._round_ms is None else self._round_ms
        step = self.rows.due(self._behind, limit)
        due = [entry for entry in step if entry.at_ms <= now_ms]
        if not due:
            self._next_ms = step[0].at_ms if step else NEVER_MS
        return due

    def _take_up(self, put_ms: int) -> None:
        """Go back for what was put on the way already walked: it is due at once, or this machine's clock was ahead."""
        self._next_ms = min(self._next_ms, put_ms)
        if self._behind and put_ms <= from_place(self._behind)[0]:
            self._behind = place_of(put_ms, BEGINNING)

    def _begin_round(self, now_ms: int) -> None:
        if self._round_ms is not None and now_ms - self._round_ms >= self._again_ms:
            self._former_round_ms, self._round_ms = self._round_ms, now_ms
            self._behind, self._next_ms = BEGINNING, 0

    def pass_over(self, entry: DueEntry) -> None:
        """Go on behind this row, until the next round."""
        self._behind = max(self._behind, entry.place)

    def met_before(self, entry: DueEntry) -> bool:
        """Return whether an earlier round came by when the row was due already."""
        return self._former_round_ms is not None and entry.at_ms <= self._former_round_ms
