"""How long a worker may believe that its partitions are its own.

Used by the log worker (before it begins a record) and by the pipeline of the Faust workers (before it says anything).
No I/O. A worker that was frozen, or cut off from its group, may hold work that the group has long given to another: it
must not act on it when it wakes up. So it acts only within one session time-out of the last moment when the broker said
that this worker is a member: the broker gives nothing away before.
"""

import asyncio
import time
from collections.abc import Callable

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_s() -> float:
    """Return seconds that run on while a process is stopped, and on Linux while the machine is suspended, too."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """One worker's membership, renewed by each answered heartbeat and each assignment."""

    def __init__(self, *, session_timeout_s: float, clock_s: Callable[[], float] = now_s) -> None:
        self._session_timeout_s = session_timeout_s
        self._clock_s = clock_s
        self._until_s = clock_s() + session_timeout_s
        self._changed = asyncio.Event()

    def renewed(self, asked_at_s: float | None = None) -> None:
        """Say that the group knows this worker: as of when it was asked, on this clock; None: as of now."""
        since_s = self._clock_s() if asked_at_s is None else asked_at_s
        self._until_s = max(self._until_s, since_s + self._session_timeout_s)
        self.wake()

    def holds(self) -> bool:
        """Return whether no other worker can own the partitions yet."""
        return self._clock_s() < self._until_s

    def left_s(self) -> float:
        """Return for how many seconds more no other worker can own the partitions; 0 when it is over."""
        return max(0.0, self._until_s - self._clock_s())

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until it was renewed or `wake` was called; there is no other end, so the caller sees to it."""
        await self._changed.wait()
