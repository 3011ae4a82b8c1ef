"""How fast one gateway account is called: a token bucket, and a gate that the gateway itself can close. Pure.

Used by `gateway_slots`, one for each gateway and account. Time arrives as an argument (monotonic seconds).

A bucket without a rate lets every call through. With one it holds a second's worth of calls, so that a burst after a
lull is as large as the rate, and no larger. When a gateway asks for fewer calls (429) the gate closes for as long as it
says in `Retry-After`, within limits: what would come meanwhile would be refused, and counted against us.
"""

from typing import Final

DEFAULT_CLOSED_S: Final = 1.0
"""Of a gateway that asks for fewer calls and does not say for how long: the least that the header can say."""

MAX_CLOSED_S: Final = 60.0
"""Calls that cannot go elsewhere wait behind the gate, and their orders with them: after a minute one asks again."""


class Pace:
    """One account's."""

    def __init__(self, *, calls_per_second: float | None) -> None:
        """Make a full one. `calls_per_second`: above 0; None: no limit of ours."""
        self._rate = calls_per_second
        self._most = max(1.0, calls_per_second or 1.0)
        self._left = self._most
        self._at_s: float | None = None
        self._closed_until_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take leave for one call, and return 0; or take nothing, and return how long to wait, seconds."""
        closed_s = self.closed_s(now_s)
        if closed_s > 0 or self._rate is None:
            return closed_s
        if self._at_s is not None:
            self._left = min(self._most, self._left + max(0.0, now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._left < 1.0:
            return (1.0 - self._left) / self._rate
        self._left -= 1.0
        return 0.0

    def closed_s(self, now_s: float) -> float:
        """Return how long the gateway wants no call yet, seconds; 0: it takes calls."""
        return 0.0 if self._closed_until_s is None else max(0.0, self._closed_until_s - now_s)

    def close(self, now_s: float, *, for_s: float | None) -> None:
        """Close the gate: the gateway has asked for it, for so long or, None, without saying. It never opens sooner."""
        until_s = now_s + (DEFAULT_CLOSED_S if for_s is None else min(max(for_s, DEFAULT_CLOSED_S), MAX_CLOSED_S))
        self._closed_until_s = until_s if self._closed_until_s is None else max(self._closed_until_s, until_s)
