"""When to stop asking a log that does not answer: a circuit breaker, pure.

Used by `producer.LogWriter`, so that requests of a dead broker fail at once instead of each waiting its time-out, and
so that the first success closes the circuit again. Time arrives as an argument (monotonic seconds).
"""

from enum import StrEnum

FAILURES_TO_OPEN = 3
"""In a row. One slow answer is no outage; three without a success between them are."""

OPEN_S = 1.0
"""An open circuit lets one probe through after this long, and again after every further such span."""


class CircuitState(StrEnum):
    """Whether appends are let through."""

    CLOSED = "closed"  # all are
    OPEN = "open"  # none is
    HALF_OPEN = "half_open"  # one probe is under way


class Circuit:
    """Counts failures in a row. Not thread-safe; lives on one event loop.

    A probe that never reports back (its caller was cancelled) blocks nothing: the next one is let through after
    another `OPEN_S`.
    """

    def __init__(self, *, failures_to_open: int = FAILURES_TO_OPEN, open_s: float = OPEN_S) -> None:
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._failures = 0
        self._state = CircuitState.CLOSED
        self._since_s = 0.0

    @property
    def state(self) -> CircuitState:
        """Where the circuit stands."""
        return self._state

    def admits(self, now_s: float) -> bool:
        """Return whether one more append may be tried; of an open circuit, True makes it the probe."""
        if self._state is CircuitState.CLOSED:
            return True
        if now_s - self._since_s < self._open_s:
            return False
        self._state = CircuitState.HALF_OPEN
        self._since_s = now_s
        return True

    def succeeded(self) -> None:
        """Say that the log acknowledged something."""
        self._state = CircuitState.CLOSED
        self._failures = 0

    def failed(self, now_s: float) -> bool:
        """Say that the log did not answer. Returns whether this opened a closed circuit."""
        self._failures += 1
        was_closed = self._state is CircuitState.CLOSED
        if self._state is CircuitState.HALF_OPEN or self._failures >= self._failures_to_open:
            self._state = CircuitState.OPEN
            self._since_s = now_s
            return was_closed
        return False

    def trip(self, now_s: float) -> bool:
        """Say that the log has gone silent, before any failure is reported. Returns whether this opened the circuit."""
        if self._state is not CircuitState.CLOSED:
            return False
        self._state = CircuitState.OPEN
        self._since_s = now_s
        return True

    def retry_after_s(self, now_s: float) -> float:
        """Return how long until the next probe, seconds; 0 when closed."""
        if self._state is CircuitState.CLOSED:
            return 0.0
        return max(0.0, self._since_s + self._open_s - now_s)
