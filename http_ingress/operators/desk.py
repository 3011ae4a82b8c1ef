"""What the desk's handlers are given: the one value that holds an instance's parts. Made by `program`, or by a test."""

from collections.abc import Callable
from dataclasses import dataclass, field

from http_ingress.access.api_keys import KeyRing
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.ingress import Stopping
from http_ingress.operators.decision_log import DecisionLog
from http_ingress.replies.waiters import Waiters


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskRules:
    """What the deployment sets."""

    dev: bool = False  # no keys; who decides is what `X-Operator` says
    four_eyes: bool = False  # a decision is a proposal until another person approves it
    proposal_life_ms: int = 24 * 3_600_000
    reply_partition: int = 0  # of `payments.replies.v1`: where this instance listens


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The parts of one instance."""

    rules: DeskRules
    log: DecisionLog
    waiters: Waiters
    limiter: RateLimiter
    keys: KeyRing | None  # None in dev mode only
    now_ms: Callable[[], int]  # wall clock, milliseconds since the epoch
    monotonic_s: Callable[[], float]
    faults: Callable[[], tuple[str, ...]]  # what keeps it from being ready, for a person; empty: ready
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        """Refuse to be built open by mistake."""
        if self.keys is None and not self.rules.dev:
            raise ValueError("without dev mode there must be operators' keys")

    def not_ready(self) -> tuple[str, ...]:
        """Return why this instance may not be sent requests, for a person; empty: it may."""
        return ("stopping",) if self.stopping.begun else self.faults()
