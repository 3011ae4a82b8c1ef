"""When rows want to be looked at: the header that tells it, and the places of rows in the order of their due times.

Called by `pipeline` and by whoever reads a changelog (the header), and by the two implementations of `PartitionRows`
(the places). Pure.

The time stands beside the row, since only the agent can tell it from a row's bytes: a recovery would decode every row
of the table, which takes ten times as long as to read them.
"""

import struct
from collections.abc import Iterable

from streams.kafka.step import MAX_NOTE_BYTES, NEVER, NEVER_MS, Due

HEADER = "row-due"
"""Name of the header of a changelog record whose row has a due time."""

AT_ONCE = Due(0)
"""Of a row of such a table that does not tell: a version before this one wrote it. Whoever looks writes it again."""

_TIME = struct.Struct(">Q")


def to_header(due: Due) -> tuple[str, bytes]:
    """The header that carries a due time."""
    return HEADER, _TIME.pack(due.at_ms) + due.note


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> Due:
    """The due time of a changelog record; `AT_ONCE` when it has none that can be read."""
    for name, value in headers:
        if name == HEADER and value is not None and _TIME.size <= len(value) <= _TIME.size + MAX_NOTE_BYTES:
            at_ms = _TIME.unpack_from(value)[0]
            return Due(at_ms, value[_TIME.size :]) if at_ms < NEVER_MS else NEVER
    return AT_ONCE


def place_of(at_ms: int, key: bytes) -> bytes:
    """The row's place in the order of due times: places compare as bytes."""
    return _TIME.pack(at_ms) + key


def from_place(place: bytes) -> tuple[int, bytes]:
    """The due time and the key of a place."""
    return _TIME.unpack_from(place)[0], place[_TIME.size :]
