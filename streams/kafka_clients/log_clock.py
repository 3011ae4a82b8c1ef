"""What time it is by the brokers, as far as a process can know.

Used by the executor (does a gateway still honour this key?) and by the orders worker (which timers are due?). No I/O.
The log's times are the brokers' (`message.timestamp.type`), and so is everything counted from them. A machine whose own
clock is behind would find a key young that its gateway has forgotten, and the call would be made twice.
"""

import time
from collections.abc import Callable

from streams.kafka_clients.lease import now_s

BROKER_TIME = 1
"""A record's timestamp type when its broker dated it (Kafka protocol, record batch attributes: LogAppendTime)."""

WINDOW_S = 600.0
"""What was seen counts for one to two of these: a broker whose own clock was wrong for a while is forgotten."""


def wall_clock_ms() -> int:
    """Return the time by this machine, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class LogClock:
    """This machine's clock, or what the log proves to be later. Never behind the newest record seen of late."""

    def __init__(self, *, wall_ms: Callable[[], int] = wall_clock_ms, monotonic_s: Callable[[], float] = now_s) -> None:
        self._wall_ms = wall_ms
        self._monotonic_s = monotonic_s
        self._ahead_ms: float | None = None
        """The brokers' time less the monotonic one, at least: of this window."""
        self._ahead_before_ms: float | None = None
        self._window_began_s = monotonic_s()

    def saw(self, timestamp_ms: int) -> None:
        """Learn that a broker dated a record so, now or earlier."""
        at_s = self._monotonic_s()
        windows = (at_s - self._window_began_s) // WINDOW_S
        if windows >= 1:
            self._ahead_before_ms = self._ahead_ms if windows < 2 else None  # noqa: PLR2004 -- the one before this
            self._ahead_ms, self._window_began_s = None, at_s
        ahead_ms = timestamp_ms - at_s * 1000
        self._ahead_ms = ahead_ms if self._ahead_ms is None else max(self._ahead_ms, ahead_ms)

    def now_ms(self) -> int:
        """Return the time, milliseconds since the epoch."""
        proven = [each for each in (self._ahead_ms, self._ahead_before_ms) if each is not None]
        if not proven:
            return self._wall_ms()
        return max(self._wall_ms(), int(max(proven) + self._monotonic_s() * 1000))
