"""Stamps on rows, by which recovery tells the newest row from the last one in the log.

Nothing fences a frozen owner that wakes up: its late rows land behind those of the new owner. So each row
carries (generation, version): the generation grows with each ownership of a partition, the version with each write of
the row. Recovery keeps the highest stamp. Pure; called by `pipeline` and `row_tables`.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

HEADER = "row-stamp"
"""Name of the header of a changelog record. A header and not a prefix of the value, since a tombstone has no value."""

GENERATION_MAX = 2**31 - 1
"""Kafka's own generations end there. A higher one was made by no owner."""

VERSION_MAX = 2**63 - 1
"""More than any row is ever written."""

_LAYOUT = struct.Struct(">IQ")


class Stamp(NamedTuple):
    """Compares by generation, then version."""

    generation: int
    version: int

    def next(self, generation: int) -> "Stamp":
        """The stamp of the next write of the same row by an owner of that generation; always higher than this one.

        Raises:
            OverflowError: a stranger's record has the last version of this very generation; a restart has a higher one.
        """
        if self.version < VERSION_MAX:
            return Stamp(max(generation, self.generation), self.version + 1)
        if generation <= self.generation:
            raise OverflowError(f"no version is left in generation {self.generation}")
        return Stamp(generation, 1)


UNSTAMPED = Stamp(0, 0)
"""What a record without a stamp counts as: no owner has written it, and it never becomes a row."""


def generation_above(seen: int, generation: int) -> int:
    """The generation of a new owner: the group's own, or the next above any that was seen, and never past the last one.

    There the versions alone tell which row is newer; a worker that stopped instead would stop at each start.
    """
    return min(max(generation, seen + 1), GENERATION_MAX)


def to_header(stamp: Stamp) -> tuple[str, bytes]:
    """The header that carries a stamp."""
    return HEADER, _LAYOUT.pack(*stamp)


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> Stamp:
    """The stamp of a changelog record; `UNSTAMPED` when it has none that can be read, or one that no owner can make."""
    for name, value in headers:
        if name == HEADER and value is not None and len(value) == _LAYOUT.size:
            stamp = Stamp(*_LAYOUT.unpack(value))
            return stamp if stamp.generation <= GENERATION_MAX and stamp.version <= VERSION_MAX else UNSTAMPED
    return UNSTAMPED
