"""The words between the pipelined shell and the code that decides: what comes in, what a decision writes and says.

For: the agents (`streams.agents`), which are synchronous functions from an `InputEvent` to a `Step`, and
`streams.kafka.worker`, which runs them on a log. No I/O, and no Faust, so that an agent can be run without either.

The shell promises, for each input and in the order of the log within a partition: the rows of the step are
acknowledged on the changelog, then its messages are sent, then (once they too are acknowledged) the offset of the input
may be committed: persist, then speak, then commit.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.quick_init import quick_init

Headers = tuple[tuple[str, bytes], ...]


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class InputEvent:
    """One record of a source topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Milliseconds since 1970, as the record carries it (its producer's clock, as a rule)."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    possible_replay: bool
    """True when its offset lies below the log's end at the assignment of the partition: an earlier owner, or an earlier
    life of this one, may have handled it already, wholly or in part (the re-drive rule of DESIGN.md)."""


class Due(NamedTuple):
    """When a row wants to be looked at again, and what whoever looks need not read the row for."""

    at_ms: int
    """By the log's time, milliseconds since 1970."""
    note: bytes = b""
    """The agent's own; at most `MAX_NOTE_BYTES`."""


NEVER_MS = 2**63 - 1
"""A time that does not come."""

NEVER = Due(NEVER_MS)
"""Of a row that nobody need look at."""

MAX_NOTE_BYTES = 32 * 1024
"""Of what a row may say of its due time: what an order of 500 operations is known by fits as a rule."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class RowWrite:
    """One row to be written in the partition of the input."""

    table: str
    key: bytes
    value: bytes | None
    """None deletes the row: a tombstone on the changelog."""
    due: Due = NEVER
    """When to hand the row out as due (`Worker.due_rows`). It counts for this write alone: each one says it anew."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be sent once the rows are durable."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    """None: by murmur2 of the key, as Java's clients do."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one input leads to. A replayed input writes its rows again, even when nothing changed."""

    rows: Sequence[RowWrite]
    speak: Sequence[Outgoing]


RowReader = Callable[[str, bytes], bytes | None]
"""(table, key) -> value in the input's partition; sees the rows of earlier inputs that are still on their way."""

Handler = Callable[[InputEvent, RowReader], Step]
"""Decides. Synchronous, touches nothing but its arguments; an exception stops the worker.

But `SchemaAwaitedError`, before anything was decided: then it is called again for the same input, after the wait.
"""


class TableRow(NamedTuple):
    """One live row, as it is handed over when its partition becomes ready."""

    table: str
    partition: int
    key: bytes
    value: bytes


class DueRow(NamedTuple):
    """One row whose time has come, as far as its last write said."""

    partition: int
    key: bytes
    due: Due


PartitionsReady = Callable[[frozenset[int], Iterator[TableRow]], Awaitable[None]]
"""Awaited after each assignment, before the first input of it: the owned partitions and all their rows."""

PartitionsRevoked = Callable[[frozenset[int]], None]
"""Called at each revocation, after the last input has been committed: the partitions that were owned."""
