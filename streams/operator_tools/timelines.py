"""The life of an order, a payment or a refund as the log tells it.

Called by `streams.cli.payments`. Reads the order's own partition of each topic (the id carries the
order) and, for claims, whose key is another, the partitions of the idempotency keys that the order's commands
name. What the log no longer keeps (7 days of internal topics, 30 of events) is not told.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from schemas import identifiers
from schemas.identifiers import OpId, OrderId, OriginId
from schemas.messages import DecodeError, Envelope, MessageCodec, Record
from schemas.records.claims import ClaimDecided, ClaimRequested
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    op_id_of,
)
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.records.decisions import DecisionMade, DecisionProposed
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.payments import PaymentEvent
from schemas.records.timers import TimerFired
from schemas.topics import (
    CLAIMS,
    COMMANDS,
    DECISIONS,
    DLQ,
    EVENTS,
    GATEWAY_REQUESTS,
    GATEWAY_RESULTS,
    TIMERS,
    VERDICTS,
    WEBHOOKS,
    partition_of,
)
from streams.operator_tools.dead_letters import origin_of
from streams.operator_tools.errors import NotFoundError, RefusedError
from streams.operator_tools.facts import Fact, shown
from streams.operator_tools.log import Log, LogRecord

MAX_ENTRIES = 20_000
"""An order has at most 500 operations, each of some ten records; far more is a flood, shown in part."""

MAX_KEYS = 1_000
"""Idempotency keys of one order that claims are looked up for."""

# Cause before effect: breaks the tie between records of the same millisecond.
_CAUSAL_ORDER = (
    COMMANDS,
    CLAIMS,
    VERDICTS,
    GATEWAY_REQUESTS,
    GATEWAY_RESULTS,
    WEBHOOKS,
    DECISIONS,
    TIMERS,
    EVENTS,
    DLQ,
)
_BY_ORDER_KEY = tuple(topic for topic in _CAUSAL_ORDER if topic != CLAIMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose life is told. With a payment or refund id the order is in the id, and the origin is found on the log."""

    order_id: OrderId
    origin_id: OriginId | None
    identifier: str | None  # payment or refund id; None: the whole order


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record of the life, reduced to what may be shown."""

    at_ms: int
    topic: str
    partition: int
    offset: int
    event_id: str
    event_type: str
    kind: str
    op_id: OpId | None
    facts: tuple[Fact, ...]
    repeat: bool  # the same event stood on the topic before: a replay's copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The life, in the order of the log's times."""

    order_id: OrderId
    origin_id: OriginId
    identifier: str | None
    entries: tuple[Entry, ...]
    truncated: bool  # more than MAX_ENTRIES; the oldest are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A record of the order, decoded."""

    at: LogRecord
    envelope: Envelope
    record: Record


def subject_of(identifier: str, *, origin: str | None) -> Subject:
    """Return whose life an id means: of a payment or refund, or, with its origin, of an order.

    Raises:
        RefusedError: The id is neither, or is an order id without its origin.
    """
    try:
        origin_id = None if origin is None else identifiers.origin_id(origin)
        order = _order_in(identifier)
        if order is not None:
            return Subject(order_id=order, origin_id=origin_id, identifier=identifier)
        if origin_id is None:
            raise RefusedError(f"{identifier!r} is no payment or refund id; of an order id, say --origin too")
        return Subject(order_id=identifiers.order_id(identifier), origin_id=origin_id, identifier=None)
    except identifiers.InvalidIdentifierError as error:
        raise RefusedError(str(error)) from error


def _order_in(identifier: str) -> OrderId | None:
    try:
        return identifiers.order_of(identifier)
    except identifiers.InvalidIdentifierError:
        return None


def timeline(log: Log, codec: MessageCodec, subject: Subject, *, since_ms: int | None = None) -> Timeline:
    """Return the subject's life as the log holds it now. Changes nothing.

    Raises:
        NotFoundError: The log holds no trace of it (from `since_ms` on).
        UnreachableError: The broker does not answer.
    """
    found = list(_of_order(log, codec, subject.order_id, since_ms))
    origin = subject.origin_id or _origin_on_log(found, subject)
    if origin is None:
        raise NotFoundError(f"the log holds no trace of {subject.identifier or subject.order_id}")
    ours = [each for each in found if _origin_named_by(each) in {origin, None}]
    ours += _claims(log, codec, ours, origin, since_ms)
    if subject.identifier is not None:
        wanted = _operations_of(ours, subject.identifier)
        ours = [each for each in ours if _op_named_by(each) in wanted or _op_named_by(each) is None]
    entries = _entries(ours)
    if not any(entry.kind != "dead letter handled" for entry in entries):
        raise NotFoundError(f"the log holds no trace of {subject.identifier or subject.order_id} at origin {origin}")
    return Timeline(
        order_id=subject.order_id,
        origin_id=origin,
        identifier=subject.identifier,
        entries=tuple(entries[:MAX_ENTRIES]),
        truncated=len(entries) > MAX_ENTRIES,
    )


def origin_of_subject(log: Log, codec: MessageCodec, subject: Subject) -> OriginId:
    """Return whose payment or refund this is. Raises: NotFoundError: the log tells no more; UnreachableError."""
    origin = _origin_on_log(_of_order(log, codec, subject.order_id, None), subject)
    if origin is None:
        raise NotFoundError(f"the log holds no trace of {subject.identifier or subject.order_id}; say its --origin")
    return origin


def _of_order(log: Log, codec: MessageCodec, order: OrderId, since_ms: int | None) -> Iterator[_Found]:
    key = order.encode()
    for topic in _BY_ORDER_KEY:
        partition = partition_of(key, log.partitions_of(topic))
        yield from _keyed(log, codec, topic, partition=partition, keys={key}, since_ms=since_ms)


def _claims(
    log: Log, codec: MessageCodec, found: Iterable[_Found], origin: OriginId, since_ms: int | None
) -> Iterator[_Found]:
    named = (getattr(each.record, "idempotency_key", None) for each in found)
    keys = sorted({identifiers.claim_key(origin, key) for key in named if key is not None})[:MAX_KEYS]
    operations = {_op_named_by(each) for each in found}
    partitions = log.partitions_of(CLAIMS)
    for partition in sorted({partition_of(key, partitions) for key in keys}):
        for each in _keyed(log, codec, CLAIMS, partition=partition, keys=set(keys), since_ms=since_ms):
            if _op_named_by(each) in operations:  # another order may have claimed the same key
                yield each


def _keyed(
    log: Log, codec: MessageCodec, topic: str, *, partition: int, keys: Collection[bytes], since_ms: int | None
) -> Iterator[_Found]:
    for at in log.read(topic, partition=partition, since_ms=since_ms):
        if at.key not in keys:
            continue  # decided on bytes alone: most of a partition is other orders
        try:
            envelope, record = codec.decode(at.value, at.headers)
        except DecodeError:
            continue  # it is, or will be, a dead letter, and shows up as that
        yield _Found(at=at, envelope=envelope, record=record)


def _origin_named_by(found: _Found) -> OriginId | None:
    match found.record:
        case DeadLetter() as letter:
            named = origin_of(letter)
            return None if named is None else OriginId(named)
        case DeadLetterHandled():
            return None
        case _:
            return getattr(found.record, "origin_id", None)


def _op_named_by(found: _Found) -> OpId | None:
    match found.record:
        case (
            PaymentRequested()
            | CaptureRequested()
            | VoidRequested()
            | RefundRequested()
            | CompletionRequested() as command
        ):
            return op_id_of(command)
        case PaymentEvent() as event:
            return event.operation.op_id
        case ClaimRequested() | ClaimDecided() | GatewayCallRequested() | GatewayCallCompleted() as record:
            return record.op_id
        case TimerFired() as timer:
            return timer.op_id
        case DecisionMade() | DecisionProposed() as decision:
            return decision.op_id
        case _:
            return None


def _origin_on_log(found: Iterable[_Found], subject: Subject) -> OriginId | None:
    for each in found:
        match each.record:
            case PaymentRequested() | RefundRequested() as command if _opens(command) == subject.identifier:
                return command.origin_id
            case (
                CaptureRequested()
                | VoidRequested()
                | RefundRequested()
                | CompletionRequested()
                | GatewayCallRequested() as record
            ):
                if record.payment_id == subject.identifier:
                    return record.origin_id
            case PaymentEvent() as event if subject.identifier in {event.payment_id, event.operation.refund_id}:
                return event.origin_id
            case _:
                pass  # no record that names the subject: the next one may
    return None


def _opens(command: Command) -> str | None:
    """Return the id of the payment or refund that this command opens."""
    match command:
        case PaymentRequested():
            return identifiers.payment_id(command.order_id, op_id_of(command))
        case RefundRequested():
            return identifiers.refund_id(command.order_id, op_id_of(command))
        case _:
            return None


def _operations_of(found: Iterable[_Found], identifier: str) -> frozenset[OpId]:
    operations: set[OpId] = set()
    for each in found:
        match each.record:
            case (
                PaymentRequested()
                | CaptureRequested()
                | VoidRequested()
                | RefundRequested()
                | CompletionRequested() as command
            ):
                names = {_opens(command), getattr(command, "payment_id", None)}
            case PaymentEvent() as event:
                names = {event.payment_id, event.operation.refund_id}
            case GatewayCallRequested() as call:
                names = {call.payment_id}
            case _:
                continue
        operation = _op_named_by(each)
        if identifier in names and operation is not None:
            operations.add(operation)
    return frozenset(operations)


def _entries(found: Iterable[_Found]) -> list[Entry]:
    ordered = sorted(found, key=lambda each: (each.at.timestamp_ms, _CAUSAL_ORDER.index(each.at.topic), each.at.offset))
    seen: set[tuple[str, str]] = set()
    entries: list[Entry] = []
    for each in ordered:
        what = shown(each.record)
        if what is None:
            continue
        identity = (each.at.topic, each.envelope.id)
        entries.append(
            Entry(
                at_ms=each.at.timestamp_ms,
                topic=each.at.topic,
                partition=each.at.partition,
                offset=each.at.offset,
                event_id=each.envelope.id,
                event_type=each.envelope.type,
                kind=what.kind,
                op_id=what.op_id,
                facts=what.facts,
                repeat=identity in seen,
            )
        )
        seen.add(identity)
    return entries
