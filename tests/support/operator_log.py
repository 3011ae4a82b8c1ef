"""An in-memory log with the engine's topics, and what stands on it, for tests of the operator's tools."""

from collections.abc import Callable

from schemas import identifiers
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec, Record, SchemaIds
from schemas.records.commands import PaymentRequested
from schemas.records.dead_letters import DeadLetter, RawHeader
from schemas.topics import CATALOGUE, COMMANDS, DLQ, PartitionRule
from schemas.vocabulary import DeadLetterReason
from streams.operator_tools.log import Log, NewRecord, Position
from streams.operator_tools.memory_log import MemoryLog

PARTITIONS = 4
CODEC = MessageCodec(SchemaIds.packaged())


class Ticking:
    """A clock that goes on by one millisecond at each look."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


def memory_log(clock_ms: Callable[[], int] | None = None) -> MemoryLog:
    """An empty log with every topic of the catalogue."""
    counts = {topic.name: 1 if topic.partition_rule is PartitionRule.SINGLE else PARTITIONS for topic in CATALOGUE}
    return MemoryLog(counts, clock_ms=clock_ms or Ticking())


def put(
    log: Log, topic: str, record: Record, *, key: bytes, event_id: str = "e-1", event_type: str | None = None
) -> Position:
    """Append a record of the engine."""
    envelope = Envelope(id=event_id, source="test", type=event_type or TYPES[type(record)], time_ms=1_700_000_000_000)
    message = CODEC.encode(record, envelope)
    (position,) = log.append([NewRecord(topic=topic, key=key, value=message.value, headers=message.headers)])
    return position


def payment_requested(order: str = "order-1", *, origin: str = "m1", key: str = "idem-1") -> PaymentRequested:
    """A sale of 19.99."""
    return PaymentRequested(
        origin_id=identifiers.origin_id(origin),
        order_id=identifiers.order_id(order),
        idempotency_key=identifiers.idempotency_key(key),
        amount_minor=1999,
        currency="USD",
        token="tok_secret",
        capture=True,
    )


def dead_letter(
    *,
    offset: int = 0,
    key: bytes | None = b"order-1",
    value: bytes | None = b"\x00garbage",
    reason: DeadLetterReason = DeadLetterReason.UNDECODABLE,
    topic: str = COMMANDS,
    origin: str | None = "m1",
    headers: tuple[tuple[str, bytes], ...] = (("x-custom", b"\xff\x00"),),
    withheld: bool = False,
    timestamp_ms: int = 1_699_999_999_000,
) -> DeadLetter:
    """A command that could not be decoded."""
    named = () if origin is None else (("ce_originid", origin.encode()),)
    return DeadLetter(
        reason=reason,
        detail="not Avro",
        component="orders",
        topic=topic,
        partition=1,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=key,
        value=value,
        headers=tuple(RawHeader(name=name, value=text) for name, text in (*named, *headers)),
        withheld=withheld,
        failed_at_ms=timestamp_ms,
    )


def bury(log: Log, letter: DeadLetter) -> Position:
    """Append a dead letter as the agents do."""
    return put(log, DLQ, letter, key=letter.key or b"", event_id=f"{letter.topic}/{letter.partition}/{letter.offset}")
