"""When to stop asking a gateway that is sick: a circuit breaker, pure.

Used by `gateway_slots`, one for each gateway and account. Time arrives as an argument (monotonic seconds).

It opens when enough of the last calls failed in a way that says that the gateway, or the way to it, is sick. A decline,
a refused credential or a 429 is the word of a gateway that is well. While it is open nothing is sent. Once its time is
over one call at a time is let through as a probe, and the first word decides.

Not the log writer's `circuit`: a gateway has hundreds of calls under way at once, so failures in a row tell nothing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code
from schemas.vocabulary import Outcome, RetryAdvice

LOOKED_AT_PER_FAILURE: Final = 2
"""Of how many last calls the failures are counted, for each failure that opens it: so half of them must fail."""

REMEMBERED_S: Final = 60.0
"""A call that ended longer ago says nothing about now."""


class Verdict(Enum):
    """What the end of a call says about the gateway."""

    SICK = "sick"
    WELL = "well"
    NOTHING = "nothing"


_SICK: Final = frozenset({Code.GATEWAY_UNREACHABLE, Code.GATEWAY_TIMEOUT, Code.CONNECTION_LOST, Code.GATEWAY_FAILED})

_SAYS_NOTHING: Final[Mapping[Outcome, frozenset[Code]]] = MappingProxyType(
    {
        Outcome.UNKNOWN: frozenset({Code.UNREADABLE_ANSWER, Code.UNSUPPORTED}),  # a defect of ours, as often as not
        Outcome.NOT_EXECUTED: frozenset({Code.UNSUPPORTED, Code.INVALID_REQUEST}),  # the port may have sent nothing
    }
)


def verdict_of(result: CallResult) -> Verdict:
    """Return what a call's result says about the gateway."""
    error = result.error
    if error is None:
        return Verdict.WELL
    if error.code in _SICK:
        kept = error.retry is RetryAdvice.NEVER  # a failure that is given again is an old one
        return Verdict.NOTHING if kept else Verdict.SICK
    says_nothing = error.code in _SAYS_NOTHING.get(result.outcome, ())
    return Verdict.NOTHING if says_nothing else Verdict.WELL


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. Its word counts only while nothing has opened or closed since."""

    era: int
    is_probe: bool


class Change(Enum):
    """What a word has done to the breaker."""

    NONE = "none"
    OPENED = "opened"
    CLOSED = "closed"


class Breaker:
    """One gateway's. Lives on one event loop."""

    def __init__(self, *, failures: int, open_s: float) -> None:
        """Make a closed one.

        Args:
            failures: how many of the last `LOOKED_AT_PER_FAILURE` times as many calls open it.
            open_s: how long it stays open before a probe, and after each that failed, seconds.
        """
        self._failures = failures
        self._open_s = open_s
        self._last: deque[tuple[float, bool]] = deque()  # when, and whether sick; bounded in `_note`
        self._sick = 0
        self._era = 0
        self._open_until_s: float | None = None
        self._probe: Permit | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are kept from the gateway, but for probes."""
        return self._open_until_s is not None

    def admit(self, now_s: float) -> Permit | None:
        """Return leave to make a call; None: not now. A probe must be told of by `heard`, whatever becomes of it."""
        if self._open_until_s is None:
            return Permit(self._era, is_probe=False)
        if now_s < self._open_until_s or self._probe is not None:
            return None
        self._probe = Permit(self._era, is_probe=True)
        return self._probe

    def is_good(self, permit: Permit) -> bool:
        """Return whether leave that was given a while ago still holds."""
        return permit.era == self._era

    def heard(self, permit: Permit, verdict: Verdict, now_s: float) -> Change:
        """Say what a call came to; returns what that changed. Of a permit from before a change nothing is heard."""
        if not self.is_good(permit):
            return Change.NONE
        if permit.is_probe:
            return self._heard_of_probe(permit, verdict, now_s)
        if verdict is not Verdict.NOTHING:
            self._note(now_s, is_sick=verdict is Verdict.SICK)
        return self._open(now_s) if self._sick >= self._failures else Change.NONE

    def _heard_of_probe(self, permit: Permit, verdict: Verdict, now_s: float) -> Change:
        if permit is not self._probe:
            return Change.NONE  # heard of already
        self._probe = None
        if verdict is Verdict.WELL:
            self._open_until_s = None
            self._begin_era()
            return Change.CLOSED
        if verdict is Verdict.SICK:
            self._open_until_s = now_s + self._open_s
        return Change.NONE

    def _open(self, now_s: float) -> Change:
        self._open_until_s = now_s + self._open_s
        self._begin_era()
        return Change.OPENED

    def _begin_era(self) -> None:
        self._era += 1
        self._probe = None
        self._last.clear()
        self._sick = 0

    def _note(self, now_s: float, *, is_sick: bool) -> None:
        self._last.append((now_s, is_sick))
        self._sick += is_sick
        oldest_s, most = now_s - REMEMBERED_S, LOOKED_AT_PER_FAILURE * self._failures
        while len(self._last) > most or self._last[0][0] < oldest_s:
            _, was_sick = self._last.popleft()
            self._sick -= was_sick

    def retry_after_s(self, now_s: float) -> float:
        """Return how long until a probe may go, seconds; 0 when it may, or when nothing is kept away."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - now_s)
