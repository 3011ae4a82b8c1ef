"""What an ingress instance is told at its start. Built by `http_ingress.compose` from the engine's settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressSettings:
    """The ingress's own part of the settings, frozen."""

    dev: bool = False  # no API keys; the origin is what the request says it is
    sync_timeout_s: float = 10.0  # longest wait of a sync request without `Prefer: wait`
    requests_per_second: int = 1000  # an origin; its burst is RATE_BURST_S seconds' worth
    max_waiting: int = 10_000  # requests waiting for a reply at once; then 503
    reply_partition: int = 0  # of `payments.replies.v1`: where this instance listens


def reply_partition_of(instance: int, partitions: int) -> int:
    """Return the partition of replies that instance number `instance` listens on.

    Instances are numbered by whoever deploys them (a StatefulSet's ordinal). With more instances than partitions, or
    with two that were given one number, a partition is shared: request ids are unique, so an instance then only
    skips replies that are not its own, undecoded. Nothing is lost or answered wrongly.
    """
    return instance % partitions
