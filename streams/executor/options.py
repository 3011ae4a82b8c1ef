"""What an executor may be told; made by `bootstrap` from the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas import topics
from schemas.identifiers import GatewayRoute
from streams.log_worker.options import LogWorkerOptions, Ordering
from streams.topology import EXECUTOR

HAND_OVER_MARGIN_S: Final = 3.0
"""How long after its time-out a call's result is on the log, as a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Limits, time-outs and names of one executor."""

    max_calls_in_flight: int = 512  # under way at once at one account of a gateway: bounds its connections
    max_requests_in_flight: int = 4096  # taken and not done, waiting ones too: bounds memory and what a crash repeats
    slot_wait_s: float = (
        10.0  # how long a payment's first call waits for a slot; then the order goes to another gateway
    )
    calls_per_second: Mapping[GatewayRoute, float] = field(default_factory=dict)  # by account; absent: no limit
    breaker_failures: int = 10  # of the last 20 calls to one account: then it is not asked for a while
    breaker_open_s: float = 10.0  # so long, before one call is let through as a probe
    call_timeout_s: float = 30.0  # longest wait for one gateway call; then the outcome is UNKNOWN
    drain_timeout_s: float = 35.0  # longest wait for calls under way at a stop or rebalance; above call_timeout_s
    session_timeout_s: float = 10.0  # a silent worker loses its partitions after this
    commit_interval_s: float = 0.1  # between two commits; a crash repeats what was done since the last
    group: str = EXECUTOR.name
    instance_id: str | None = None  # static membership: a restart within the session moves no partition
    requests_topic: str = topics.GATEWAY_REQUESTS
    results_topic: str = topics.GATEWAY_RESULTS
    commands_topic: str = topics.COMMANDS
    dead_letters_topic: str = topics.DLQ

    def __post_init__(self) -> None:
        if self.max_calls_in_flight < 1:
            raise ValueError("max_calls_in_flight must be at least 1")
        if self.max_requests_in_flight < self.max_calls_in_flight:
            raise ValueError("max_requests_in_flight must be at least max_calls_in_flight")
        if self.breaker_failures < 1:
            raise ValueError("breaker_failures must be at least 1")
        if min(self.call_timeout_s, self.drain_timeout_s, self.session_timeout_s, self.commit_interval_s) <= 0:
            raise ValueError("time-outs and intervals must be above 0")
        if min(self.slot_wait_s, self.breaker_open_s) <= 0:
            raise ValueError("slot_wait_s and breaker_open_s must be above 0")
        if any(each <= 0 for each in self.calls_per_second.values()):
            raise ValueError("calls_per_second must be above 0")

    @property
    def hand_over_s(self) -> float:
        """How long after a partition has gone a call that was under way there may still have no result on the log."""
        return self.call_timeout_s + HAND_OVER_MARGIN_S

    def log_worker(self) -> LogWorkerOptions:
        """Return what the log worker is told: calls need no order among themselves, and end by themselves."""
        return LogWorkerOptions(
            component=EXECUTOR.name,
            group=self.group,
            topics=(self.requests_topic,),
            dead_letters_topic=self.dead_letters_topic,
            ordering=Ordering.NONE,
            max_records=self.max_requests_in_flight,
            handle_timeout_s=None,  # a call has its time-out, and its result its limit; neither may be cut off
            longest_handling_s=self.call_timeout_s,  # beside the append of its result, which the worker adds
            drain_timeout_s=self.drain_timeout_s,
            hand_over_s=self.hand_over_s,
            session_timeout_s=self.session_timeout_s,
            commit_interval_s=self.commit_interval_s,
            instance_id=self.instance_id,
        )
