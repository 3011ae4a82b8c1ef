"""Stamps on rows, by which recovery tells the newest row from the last one in the log.

Nothing fences a frozen owner that wakes up (FAUST.md 9): its late rows land behind those of the new owner. So each row
carries (generation, version): the generation grows with each ownership of a partition, the version with each write of
the row. Recovery keeps the highest stamp. Pure; called by `pipeline` and `row_tables`.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

HEADER = "row-stamp"
"""Name of the header of a changelog record. A header and not a prefix of the value, since a tombstone has no value."""

_LAYOUT = struct.Struct(">IQ")


class Stamp(NamedTuple):
    """Compares by generation, then version."""

    generation: int
    version: int

    def next(self, generation: int) -> "Stamp":
        """The stamp of the next write of the same row by an owner of that generation; always higher than this one."""
        return Stamp(max(generation, self.generation), self.version + 1)


UNSTAMPED = Stamp(0, 0)
"""What a record without a stamp counts as: no owner has written it, and it never becomes a row."""


def to_header(stamp: Stamp) -> tuple[str, bytes]:
    """The header that carries a stamp."""
    return HEADER, _LAYOUT.pack(*stamp)


def from_headers(headers: Iterable[tuple[str, bytes]]) -> Stamp:
    """The stamp of a changelog record; `UNSTAMPED` when it has none that can be read."""
    for name, value in headers:
        if name == HEADER and len(value) == _LAYOUT.size:
            return Stamp(*_LAYOUT.unpack(value))
    return UNSTAMPED
