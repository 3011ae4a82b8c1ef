"""The rows that were last written or read, by their bytes, so that an order's next event need not decode its row again.

Called by `schemas.messages` only; calls nothing. A row is frozen all the way down, so sharing one is safe, and equal
bytes are the same row: nothing here can be stale. Two generations instead of an exact order of use: a look-up costs one
hash of the bytes, and no lock.

A row that is replaced goes at once. Nobody reads it again but a replay, and each that is kept for long is walked by
Python's garbage collector: a payment would leave three, of which one is its last.
"""

from typing import Final

from schemas.record_shapes import Row

MAX_ROWS_PER_GENERATION: Final = 1_024
"""At most twice as many rows are kept; a row of three operations takes some 10 KiB."""


class RowCache:
    """Bytes to row, for the rows of the last MAX_ROWS_PER_GENERATION to twice as many look-ups and writes."""

    def __init__(self) -> None:
        self._young: dict[bytes, Row] = {}
        self._old: dict[bytes, Row] = {}

    def get(self, value: bytes) -> Row | None:
        """Return the row with exactly these bytes, if it is still known."""
        row = self._young.get(value)
        if row is None and (row := self._old.get(value)) is not None:
            self.put(value, row)
        return row

    def forget(self, value: bytes) -> None:
        """Let the row of these bytes go, if it is known."""
        if self._young.pop(value, None) is None:
            self._old.pop(value, None)

    def put(self, value: bytes, row: Row) -> None:
        """Remember the row of these bytes, and forget the oldest generation when there are too many."""
        if len(self._young) >= MAX_ROWS_PER_GENERATION:
            self._old, self._young = self._young, {}
        self._young[value] = row
