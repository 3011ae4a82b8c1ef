"""How much a worker may have under way: in records, in bytes, and nothing more while a destination is busy.

Used by the worker's intake and by `attempts`. No I/O. The bound on bytes holds before a poll, not after it: the worker
asks for no more records than fit when each has the largest size.
"""

import asyncio
from collections.abc import Callable

from streams.kafka_clients.log_reader import LogRecord

MAX_POLL_RECORDS = 500
"""Most records of one poll: the loop has other work, too."""

HEADER_OVERHEAD_BYTES = 120
"""What Python adds to each header (tuple, two objects): more than the header itself, as a rule."""


def size_of(record: LogRecord) -> int:
    """Return what a record holds of memory: its key, value and headers, bytes."""
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name) + len(value) + HEADER_OVERHEAD_BYTES
    return size


class Room:
    """What is taken and not done."""

    def __init__(
        self, *, max_records: int, max_bytes: int | None, max_record_bytes: int, clock_s: Callable[[], float]
    ) -> None:
        """Make an empty room. Bounds: see `LogWorkerOptions`; the clock is monotonic, seconds."""
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._max_record_bytes = max_record_bytes
        self._clock_s = clock_s
        self._closed_until_s = 0.0
        self._changed = asyncio.Event()
        self.records = 0
        self.bytes = 0

    def free(self) -> int:
        """Return how many records may be asked for now: 0 when there is no room, or the room is closed."""
        free = min(self._max_records - self.records, MAX_POLL_RECORDS)
        if self._max_bytes is not None:
            free = min(free, (self._max_bytes - self.bytes) // self._max_record_bytes)
        if free <= 0:
            # One larger than promised would wait for ever otherwise: it comes alone.
            free = 1 if self.records == 0 else 0
        return 0 if free and self.closed_for_s() > 0 else free

    def take(self, size: int) -> None:
        """Say that a record of so many bytes was taken."""
        self.records += 1
        self.bytes += size

    def give_back(self, size: int) -> None:
        """Say that a record of so many bytes is done, or let go."""
        self.records -= 1
        self.bytes -= size
        self._changed.set()

    def close(self, for_s: float) -> bool:
        """Let nothing in for so long, from now on; returns whether it was open."""
        was_open = self.closed_for_s() <= 0
        self._closed_until_s = max(self._closed_until_s, self._clock_s() + for_s)
        return was_open

    def closed_for_s(self) -> float:
        """Return for how much longer nothing is let in, seconds; 0: it is open."""
        return max(0.0, self._closed_until_s - self._clock_s()) if self._closed_until_s else 0.0

    def wake(self) -> None:
        """Let whoever waits for room look again."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait until a record is given back, the room opens again, or `wake` is called."""
        self._changed.clear()
        closed_for_s = self.closed_for_s()
        try:
            async with asyncio.timeout(closed_for_s or None):
                await self._changed.wait()  # bounded: every record under way has its limits
        except TimeoutError:
            return
