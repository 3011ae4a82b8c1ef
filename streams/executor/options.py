"""What a worker may be told; made by `bootstrap` from the settings."""

from dataclasses import dataclass

from schemas import topics
from streams.topology import EXECUTOR

# Between the end of a bounded drain and the moment when the group gives this member up.
REBALANCE_MARGIN_S = 15.0

APPEND_LIMIT_S = 60.0
"""How long a result or dead letter is tried to be appended, before the worker stops: the restart takes it up again."""

APPEND_TIMEOUT_S = 10.0
"""Longest wait for one such append."""

MAX_POLL_RECORDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Limits, time-outs and names of one worker."""

    max_calls_in_flight: int = 512  # requests taken and not done: bounds memory, connections and what a crash repeats
    call_timeout_s: float = 30.0  # longest wait for one gateway call; then the outcome is UNKNOWN
    drain_timeout_s: float = 35.0  # longest wait for calls under way at a stop or rebalance; above call_timeout_s
    session_timeout_s: float = 10.0  # a silent worker loses its partitions after this
    commit_interval_s: float = 0.1  # between two commits; a crash repeats what was done since the last
    group: str = EXECUTOR.name
    instance_id: str | None = None  # static membership: a restart within the session moves no partition
    requests_topic: str = topics.GATEWAY_REQUESTS
    results_topic: str = topics.GATEWAY_RESULTS
    dead_letters_topic: str = topics.DLQ

    def __post_init__(self) -> None:
        if self.max_calls_in_flight < 1:
            raise ValueError("max_calls_in_flight must be at least 1")
        if min(self.call_timeout_s, self.drain_timeout_s, self.session_timeout_s, self.commit_interval_s) <= 0:
            raise ValueError("time-outs and intervals must be above 0")

    @property
    def rebalance_timeout_s(self) -> float:
        """How long the group waits for this member at a rebalance: longer than its drain takes."""
        return self.drain_timeout_s + REBALANCE_MARGIN_S

    @property
    def max_poll_interval_s(self) -> float:
        """The longest that a worker at its limit goes without a poll: one call, its result, and a margin."""
        return self.call_timeout_s + APPEND_LIMIT_S + self.rebalance_timeout_s
