"""What could not be taken, whole: the records of `payments.dlq.v1`."""

from dataclasses import dataclass

from schemas.quick_init import quick_init
from schemas.vocabulary import DeadLetterReason


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class RawHeader:
    """One Kafka header as it came."""

    name: str
    value: bytes


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record as it came, where it came from, and why it was not taken. Enough to append it again."""

    reason: DeadLetterReason
    detail: str  # for a person; never holds the offending value
    component: str  # who refused it: orders, claims, executor
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[RawHeader, ...]
    withheld: bool  # the value was left out: card data (the key too), too large, or for its gateway alone
    failed_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterHandled:
    """The audit record of an operator's redrive or discard, on the dead letter topic itself."""

    action: str  # redriven, discarded
    partition: int  # of the dead letter on `payments.dlq.v1`
    offset: int
    operator: str
    note: str
    handled_at_ms: int
