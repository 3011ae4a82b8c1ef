"""What a worker may be told; made by its user from the settings."""

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.topics import DLQ

REBALANCE_MARGIN_S = 15.0
"""Between the end of a bounded drain and the moment when the group gives this member up."""

APPEND_LIMIT_S = 60.0
"""How long a dead letter is tried to be appended, before the worker stops: the restart takes its record up again."""

APPEND_TIMEOUT_S = 10.0
"""Longest wait for one such append."""


class Ordering(StrEnum):
    """Which records of a partition wait for each other."""

    NONE = "none"
    """None do: what needs no order among itself, as calls of different orders."""
    BY_KEY = "by_key"
    """A record waits until those of its key that came before it are done. A record without a key waits for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """How often and how soon a record is handed over again."""

    max_attempts: int = 10
    """Then it becomes a dead letter: a record that nobody takes must not hold its key for ever."""
    first_delay_s: float = 0.5
    """Doubles with each attempt, with jitter."""
    max_delay_s: float = 30.0
    """Longest wait between two attempts, whatever the other side asks for: a wait holds room and, by key, its key."""
    busy_limit_s: float = 600.0
    """How long a destination may be busy for one record, before the worker ends: the restart takes it up again."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1")
        if min(self.first_delay_s, self.max_delay_s, self.busy_limit_s) <= 0:
            raise ValueError("delays and limits must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWorkerOptions:
    """Limits, time-outs and names of one worker."""

    component: str
    """Its name in dead letters, logs and metrics."""
    group: str
    topics: tuple[str, ...]
    dead_letters_topic: str = DLQ
    ordering: Ordering = Ordering.NONE
    max_records: int = 512
    """Records taken and not done, waiting ones too: bounds memory, connections and what a crash repeats."""
    max_records_per_partition: int | None = None
    """Of these, in one partition: then it is paused and the others flow. None: no bound of its own."""
    max_bytes: int | None = None
    """Keys, values and headers of records taken and not done. None: `max_records` of the largest size."""
    max_record_bytes: int = 1_048_576
    """The largest record that a topic takes. What it is not sure to have room for, the worker does not ask for."""
    handle_timeout_s: float | None = 30.0
    """Longest wait for the handler, which is cancelled then; counts as retryable. None: the handler bounds itself."""
    drain_timeout_s: float = 35.0
    """Longest wait for what is under way at a stop or rebalance. What has not ended then goes on by itself."""
    hand_over_s: float | None = None
    """A partition goes without its drain: what is under way goes on beside the next owner, which leaves it alone for so
    long at most. None: it is drained first. For handlers for which twice at once is safe."""
    session_timeout_s: float = 10.0
    """A silent worker loses its partitions after this."""
    commit_interval_s: float = 0.1
    """Between two commits; a crash repeats what was done since the last."""
    longest_handling_s: float | None = None
    """For the group: the longest that one record may hold its room. None: follows from the limits here."""
    retry: RetryLimits = field(default_factory=RetryLimits)
    instance_id: str | None = None
    """Static membership: a restart within the session moves no partition."""

    def __post_init__(self) -> None:
        if not self.topics:
            raise ValueError("topics must name at least one")
        for name in ("max_records", "max_record_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_bytes is not None and self.max_bytes < self.max_record_bytes:
            raise ValueError("max_bytes must be at least max_record_bytes")
        if self.max_records_per_partition is not None and self.max_records_per_partition < 1:
            raise ValueError("max_records_per_partition must be at least 1")
        if min(self.drain_timeout_s, self.session_timeout_s, self.commit_interval_s) <= 0:
            raise ValueError("time-outs and intervals must be above 0")
        if self.hand_over_s is not None and self.hand_over_s <= 0:
            raise ValueError("hand_over_s must be above 0")
        if self.ordering is Ordering.BY_KEY:
            self._check_order_survives_a_revoke()

    def _check_order_survives_a_revoke(self) -> None:
        """Raises: ValueError when a record could outlive the drain: the next owner would then overtake it."""
        if self.hand_over_s is not None:
            raise ValueError("order by key needs a drain: no hand_over_s")
        if self.handle_timeout_s is None or self.handle_timeout_s >= self.drain_timeout_s:
            raise ValueError("order by key needs a handle_timeout_s below drain_timeout_s")

    @property
    def rebalance_timeout_s(self) -> float:
        """How long the group waits for this member at a rebalance: longer than its drain takes."""
        return self.drain_timeout_s + REBALANCE_MARGIN_S

    @property
    def max_poll_interval_s(self) -> float:
        """The longest that a worker without room goes without a poll: one record's whole life, and a margin."""
        longest_s = self.longest_handling_s
        if longest_s is None:
            attempt_s = (self.handle_timeout_s or 0.0) + self.retry.max_delay_s
            longest_s = self.retry.max_attempts * attempt_s + self.retry.busy_limit_s
        return longest_s + APPEND_LIMIT_S + self.rebalance_timeout_s
