"""How long the Mock takes over a call: a distribution, drawn from a seeded source that is given."""

import math
from dataclasses import dataclass
from random import Random
from typing import Final

MAX_LATENCY_MS: Final = 120_000
_Z_OF_P99: Final = 2.3263478740408408
"""The standard normal distribution's 99th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Always the same."""

    ms: float

    def draw_ms(self, chance: Random) -> float:  # noqa: ARG002 - the shape of every distribution
        """Return the time for one call, milliseconds."""
        return self.ms


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """Mostly quick, with a long tail, as answers over a network are."""

    p50_ms: float
    p99_ms: float

    def draw_ms(self, chance: Random) -> float:
        """Return the time for one call, milliseconds, at most MAX_LATENCY_MS."""
        sigma = math.log(self.p99_ms / self.p50_ms) / _Z_OF_P99
        return min(self.p50_ms * math.exp(sigma * chance.gauss(0.0, 1.0)), MAX_LATENCY_MS)


Latency = Fixed | LogNormal


def parse(spelled: str) -> Latency:
    """Return the distribution that `fixed:MS` or `lognormal:P50:P99` (milliseconds) spells.

    Raises:
        ValueError: it spells none; the message says what would.
    """
    kind, *numbers = spelled.split(":")
    values = [float(number) for number in numbers]
    if not all(0 <= value <= MAX_LATENCY_MS for value in values):
        raise ValueError(f"latency must be 0 to {MAX_LATENCY_MS} ms")
    match kind, values:
        case "fixed", [ms]:
            return Fixed(ms=ms)
        case "lognormal", [p50, p99] if 0 < p50 <= p99:
            return LogNormal(p50_ms=p50, p99_ms=p99)
        case _:
            raise ValueError("latency must be fixed:MS or lognormal:P50:P99, with 0 < P50 <= P99")
