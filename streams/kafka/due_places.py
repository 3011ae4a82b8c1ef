"""The places of rows in the order of their due times, in memory.

Used by `partition_rows.MemoryRows`. Pure. By the minute, since one sorted list of millions would be moved by each entry
that does not go to its end: a payment under way is due before every order that has ended.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

from streams.kafka.dues import from_place

MINUTE_MS: Final = 60_000


class DuePlaces:
    """A sorted set of places. Not thread-safe."""

    def __init__(self) -> None:
        self._minutes: list[int] = []  # those that have places, in order
        self._of: dict[int, list[bytes]] = {}

    def add(self, place: bytes) -> None:
        """Keep a place; it is not there yet."""
        minute = _minute_of(place)
        if minute not in self._of:
            insort(self._minutes, minute)
            self._of[minute] = []
        insort(self._of[minute], place)

    def remove(self, place: bytes) -> None:
        """Forget a place; it is there."""
        minute = _minute_of(place)
        places = self._of[minute]
        del places[bisect_left(places, place)]
        if not places:
            del self._of[minute]
            del self._minutes[bisect_left(self._minutes, minute)]

    def behind(self, after: bytes) -> Iterator[bytes]:
        """Every place behind this one, in order; b"": every place. Nothing may change meanwhile."""
        first = bisect_left(self._minutes, _minute_of(after)) if after else 0
        for minute in self._minutes[first : first + 1]:
            places = self._of[minute]
            yield from places[bisect_right(places, after) :]
        for index in range(first + 1, len(self._minutes)):
            yield from self._of[self._minutes[index]]


def _minute_of(place: bytes) -> int:
    return from_place(place)[0] // MINUTE_MS
