"""How long this worker may believe that its partitions are its own.

Used by the worker and `handling`. No I/O. A worker that was frozen, or cut off from its group, may hold requests that
the group has long given to another: it must not start a call for them when it wakes up. So a call is started only
within one session time-out of the last moment when the broker said that this worker is a member: the broker gives
nothing away before. Monotonic time, which runs on while a process is stopped.
"""

import asyncio
from collections.abc import Callable


class Lease:
    """One worker's membership, renewed by each answered heartbeat and each assignment."""

    def __init__(self, *, session_timeout_s: float, clock_s: Callable[[], float]) -> None:
        self._session_timeout_s = session_timeout_s
        self._clock_s = clock_s
        self._until_s = clock_s() + session_timeout_s
        self._changed = asyncio.Event()

    def renewed(self, asked_at_s: float | None = None) -> None:
        """Say that the group knows this worker: as of when it was asked, monotonic seconds; None: as of now."""
        since_s = self._clock_s() if asked_at_s is None else asked_at_s
        self._until_s = max(self._until_s, since_s + self._session_timeout_s)
        self.wake()

    def holds(self) -> bool:
        """Return whether no other worker can own the partitions yet."""
        return self._clock_s() < self._until_s

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until it was renewed or `wake` was called; there is no other end, so the caller sees to it."""
        await self._changed.wait()
