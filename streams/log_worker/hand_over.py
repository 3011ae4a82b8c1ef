"""What a worker leaves with its group about a partition that it gives away with work under way. Pure.

Used by `owned_partitions`: written beside the committed offset, as its metadata, and read by the next owner. It says
which records are still being worked on, and until when at most. The next owner leaves those alone until then, and takes
everything else at once.

It saves trouble, and guards nothing: an owner that does not find it, or is older than it, takes every record below the
log's end for one that may have been begun, as after a crash.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

MAX_NOTE_CHARS: Final = 3_500
"""Of the 4,096 bytes that a broker keeps beside an offset (`offset.metadata.max.bytes`)."""

_NOTE: Final = re.compile(r"v1 until=(\d{1,15}) taken=(\d{1,19}) under=(all|\d{1,19}(?:\+\d{1,19})*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """What was under way when a partition was given away."""

    until_ms: int
    """When all of it has ended, milliseconds since the epoch."""
    taken_to: int
    """The offset after the last record that was taken."""
    under_way: frozenset[int] | None
    """The offsets of what was begun and not done. None: too many to name, so any below `taken_to`."""

    def concerns(self, offset: int) -> bool:
        """Return whether the record at this offset may still be worked on by an earlier owner."""
        return offset < self.taken_to if self.under_way is None else offset in self.under_way

    def note(self) -> str:
        """Return it as text, of at most MAX_NOTE_CHARS."""
        head = f"v1 until={self.until_ms} taken={self.taken_to} under="
        named = "all" if self.under_way is None else _rising(self.under_way)
        return head + (named if len(head) + len(named) <= MAX_NOTE_CHARS else "all")


def _rising(offsets: Collection[int]) -> str:
    """Return offsets as the first, and then how much higher each is than the one before."""
    steps, before = [], 0
    for offset in sorted(offsets):
        steps.append(str(offset - before))
        before = offset
    return "+".join(steps)


def hand_over_of(note: str) -> HandOver | None:
    """Return what the note says; None when it says nothing, or nothing of ours."""
    read = _NOTE.fullmatch(note)
    if read is None:
        return None
    until_ms, taken_to, named = read.groups()
    under_way: set[int] | None = None
    if named != "all":
        under_way, offset = set(), 0
        for step in named.split("+"):
            offset += int(step)
            under_way.add(offset)
    return HandOver(
        until_ms=int(until_ms), taken_to=int(taken_to), under_way=None if under_way is None else frozenset(under_way)
    )


def together(one: HandOver | None, other: HandOver | None) -> HandOver | None:
    """Return what holds when both do: what an owner inherited, and what it leaves itself."""
    if one is None or other is None:
        return one or other
    unnamed = one.under_way is None or other.under_way is None
    return HandOver(
        until_ms=max(one.until_ms, other.until_ms),
        taken_to=max(one.taken_to, other.taken_to),
        under_way=None if unnamed else (one.under_way or frozenset()) | (other.under_way or frozenset()),
    )
