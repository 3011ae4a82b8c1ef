"""The references index in the orders agent: keeps whose each reference is, and sends what names one to its order.

Called by `webhooks` for a webhook that stands under a reference's key, and by `orders` for what orders say of their
references, in the reference's partition and in the order's. The rules are `streams.domain.references`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from gateway_adapters.contract import Capabilities
from gateway_adapters.spec import GatewaySpec
from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import GatewayName, GatewayRoute
from schemas.messages import Envelope, MessageCodec
from schemas.records.gateway import WebhookReceived
from schemas.records.orders import OrderRow
from schemas.records.references import (
    KnownReference,
    ParkedRow,
    ParkedWebhook,
    ReferenceDropped,
    ReferenceKept,
    ReferenceRow,
)
from schemas.records.timers import TimerFired
from schemas.vocabulary import DeadLetterReason
from streams.agents.dues import due_of_parked
from streams.agents.intake import Intake, RefusedError
from streams.domain import leaving, references
from streams.domain.apart import Load
from streams.kafka.step import InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.telemetry import metrics
from streams.topology import ORDERS, PARKED_TABLE, REFERENCES_TABLE

SOURCE: Final = ORDERS.event_source

MAX_PARKED_REFERENCES: Final = 10_000
"""References of one partition that webhooks wait for: an account that another system fills must not fill ours."""

MAX_PARKED_BYTES: Final = 16 * 1024 * 1024
"""Of what waits in one partition."""

log = structlog.get_logger(__name__)


class Parking:
    """How much waits in each partition of this worker; kept in step with the table. Not thread-safe."""

    def __init__(self) -> None:
        self._sizes: dict[int, dict[bytes, int]] = {}
        self._bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._sizes.values()))

    def has_room(self, partition: int) -> bool:
        """Return whether one more webhook may be parked here: the last one may pass the limit of bytes."""
        here = self._sizes.get(partition, {})
        return len(here) < MAX_PARKED_REFERENCES and self._bytes.get(partition, 0) < MAX_PARKED_BYTES

    def put(self, partition: int, key: bytes, size: int) -> None:
        """Say that so many bytes wait under this key; 0: nothing does."""
        here = self._sizes.setdefault(partition, {})
        self._bytes[partition] = self._bytes.get(partition, 0) - here.pop(key, 0) + size
        if size:
            here[key] = size

    def replace(self, partition: int, rows: Iterable[tuple[bytes, int]]) -> None:
        """Hold exactly these for the partition: what its table says after a recovery."""
        self.drop(partition)
        for key, size in rows:
            self.put(partition, key, size)

    def drop(self, partition: int) -> None:
        """Forget a partition that went to another worker."""
        self._sizes.pop(partition, None)
        self._bytes.pop(partition, None)


class References:
    """The index, as far as the partitions of this worker have it."""

    __slots__ = ("_changes", "_codec", "_indexed", "_intake", "_named_anyway", "_parking")

    def __init__(
        self,
        codec: MessageCodec,
        intake: Intake,
        gateways: Mapping[GatewayName, GatewaySpec],
        capabilities: Mapping[GatewayRoute, Capabilities],
        parking: Parking,
    ) -> None:
        """Build it.

        Args:
            codec: The published language.
            intake: Looks at keys and partitions.
            gateways: Their capabilities say what is indexed.
            capabilities: Of each account: one may need no index, since all its notices name their orders.
            parking: What waits in this worker's partitions.
        """
        self._codec = codec
        self._intake = intake
        self._indexed = {name: gateway.capabilities for name, gateway in gateways.items()}
        needless = [route for route, account in capabilities.items() if not account.references_indexed]
        self._named_anyway = frozenset(map(identifiers.parts_of, needless))
        self._parking = parking
        self._changes: list[Callable[[], None]] = []

    def forget_changes(self) -> None:
        """The step last returned was dropped, or a new record is about to be taken."""
        self._changes.clear()

    def accepted(self) -> None:
        """The step last returned is carried out."""
        for change in self._changes:
            change()
        self._changes.clear()

    # In the order's partition

    @property
    def indexed(self) -> references.Indexed:
        """What is indexed, by gateway."""
        return self._indexed

    def said_by(self, before: OrderRow | None, row: OrderRow | None, *, again: bool, now_ms: int) -> Sequence[Outgoing]:
        """Return what the order has to say of its references after a decision; `again`: it may be a replay."""
        kept = references.to_register(before, row, self._indexed, named_anyway=self._named_anyway, again=again)
        return [self._message(each, name=f"kept-{each.op_id}", now_ms=now_ms) for each in kept]

    def left_by(self, timer: TimerFired, row: OrderRow | None, *, now_ms: int) -> Sequence[Outgoing]:
        """Return what leaves the index after the order was asked to end; `row`: as it is then."""
        dropped = references.to_drop(timer.references, timer.origin_id, timer.order_id, row, self._indexed)
        return [self._message(each, name=f"dropped-{each.order_id}", now_ms=now_ms) for each in dropped]

    def named_in(self, asked: TimerFired, load: Load) -> TimerFired:
        """Return the request to forget what stands beside an order, with all that this is known by.

        So that a replay of it, which may find those rows gone, knows them too.
        """
        known = references.known_of(leaving.standing_apart(asked, load), self._indexed)
        return replace(asked, references=tuple(known))

    def _message(self, record: ReferenceKept | ReferenceDropped, *, name: str, now_ms: int) -> Outgoing:
        key = _key_of(record)
        message = self._codec.encode(
            record,
            Envelope(
                id=identifiers.event_id(key.decode(), name),
                source=SOURCE,
                type=TYPES[type(record)],
                time_ms=now_ms,
                originid=record.origin_id,
            ),
        )
        # Named: the client's own partitioner would work it out anew, and whoever takes the record asks for it again.
        partition = self._intake.partition_of(key)
        return Outgoing(
            topic=topics.REFERENCES, key=key, value=message.value, headers=message.headers, partition=partition
        )

    # In the reference's partition

    def take(self, event: InputEvent, record: ReferenceKept | ReferenceDropped, read: RowReader) -> Step:
        """Return what an order's word about its reference leads to. Raises: RefusedError: it has a wrong key."""
        key = _key_of(record)
        self._intake.require_key(event, key)
        known = self._known(key, read)
        if isinstance(record, ReferenceKept):
            return self._registered(event, key, known, record, read)
        row = references.drop(known, record)
        if row is not None:
            return Step(rows=(), speak=())
        # The tombstone is for the topic's compaction alone; read back, it means nothing.
        tombstone = Outgoing(topic=topics.REFERENCES, key=key, value=None)
        return Step(rows=(RowWrite(table=REFERENCES_TABLE, key=key, value=None),), speak=(tombstone,))

    def _registered(
        self, event: InputEvent, key: bytes, known: ReferenceRow | None, kept: ReferenceKept, read: RowReader
    ) -> Step:
        came = references.register(known, kept, possible_replay=event.possible_replay)
        if came.contested:
            metrics.count("references_contested", gateway=kept.gateway)
            log.error("reference_contested", gateway=kept.gateway, order_id=kept.order_id, op_id=came.row.op_id)
        rows = []
        if came.row != known or event.possible_replay:
            rows.append(RowWrite(table=REFERENCES_TABLE, key=key, value=self._codec.encode_row(came.row)))
        if not came.release:
            return Step(rows=rows, speak=())
        where = KnownReference(gateway=kept.gateway, account=kept.account, reference=kept.reference)
        return Step(rows=rows, speak=[append_again(self._codec, where, each) for each in self._parked(key, read)])

    def route(self, event: InputEvent, envelope: Envelope, webhook: WebhookReceived, read: RowReader) -> Step:
        """Return where a webhook that names a reference goes: to its order, or into the row of those that wait.

        Raises:
            RefusedError: it has a wrong key, or nobody came to be known by its reference; the latter with its rows.
        """
        where = _reference_of(webhook)
        key = _key_of(where)
        self._intake.require_key(event, key)
        known, parked, said = self._known(key, read), self._parked(key, read), _to_park(envelope, webhook)
        room = self._parking.has_room(event.partition)
        came = references.arrive(known, parked, said, now_ms=event.timestamp_ms, room=room)
        rows = []
        if came.parked != parked or (event.possible_replay and came.parked):
            rows.append(self._waiting(event.partition, where, came.parked))
        if came.unknown is not None:
            raise RefusedError(DeadLetterReason.REFERENCE_UNKNOWN, came.unknown, rows=rows)
        if came.again:
            return Step(rows=rows, speak=(append_again(self._codec, where, said),))
        if came.forward and known is not None:
            return Step(rows=rows, speak=(self._forwarded(envelope, webhook, known),))
        return Step(rows=rows, speak=())

    def unpark(
        self, event: InputEvent, envelope: Envelope, webhook: WebhookReceived, read: RowReader
    ) -> Sequence[RowWrite]:
        """Return the row without this webhook, if it waits for its reference. Raises: RefusedError: a wrong key."""
        where = _reference_of(webhook)
        key = _key_of(where)
        self._intake.require_key(event, key)
        parked = self._parked(key, read)
        others = tuple(each for each in parked if each.webhook_id != envelope.id)
        return () if others == parked else (self._waiting(event.partition, where, others),)

    def _waiting(self, partition: int, where: KnownReference, parked: tuple[ParkedWebhook, ...]) -> RowWrite:
        key = _key_of(where)
        self._changes.append(partial(self._parking.put, partition, key, references.size_of(parked)))
        if not parked:
            return RowWrite(table=PARKED_TABLE, key=key, value=None)
        row = ParkedRow(gateway=where.gateway, account=where.account, reference=where.reference, webhooks=parked)
        return RowWrite(table=PARKED_TABLE, key=key, value=self._codec.encode_row(row), due=due_of_parked(parked))

    def _forwarded(self, envelope: Envelope, webhook: WebhookReceived, known: ReferenceRow) -> Outgoing:
        address = identifiers.row_key(known.origin_id, known.order_id).decode()
        return webhook_message(
            self._codec,
            replace(webhook, origin_id=known.origin_id, order_id=known.order_id),
            webhook_id=identifiers.event_id(envelope.id, address),
            traceparent=envelope.traceparent,
            tracestate=envelope.tracestate,
        )

    def _known(self, key: bytes, read: RowReader) -> ReferenceRow | None:
        stored = read(REFERENCES_TABLE, key)
        return None if stored is None else self._codec.decode_row(ReferenceRow, stored)

    def _parked(self, key: bytes, read: RowReader) -> tuple[ParkedWebhook, ...]:
        stored = read(PARKED_TABLE, key)
        return () if stored is None else self._codec.decode_row(ParkedRow, stored).webhooks


def webhook_message(
    codec: MessageCodec, webhook: WebhookReceived, *, webhook_id: str, traceparent: str | None, tracestate: str | None
) -> Outgoing:
    """Return a webhook as a message for whoever it is addressed to: its order, else its reference."""
    if webhook.order_id is not None:
        key = webhook.order_id.encode()
    else:
        assert webhook.gateway_reference is not None
        key = identifiers.reference_key(webhook.gateway, webhook.account, webhook.gateway_reference)
    message = codec.encode(
        webhook,
        Envelope(
            id=webhook_id,
            source=SOURCE,
            type=TYPES[WebhookReceived],
            subject=webhook.gateway_reference,
            time_ms=webhook.received_at_ms,
            partitionkey=webhook.order_id,
            originid=webhook.origin_id,
            traceparent=traceparent,
            tracestate=tracestate,
        ),
    )
    return Outgoing(topic=topics.WEBHOOKS, key=key, value=message.value, headers=message.headers)


def append_again(codec: MessageCodec, where: KnownReference | ParkedRow, waits: ParkedWebhook) -> Outgoing:
    """Return a parked webhook as it first came to its reference, its id included: it is still the same one."""
    webhook = WebhookReceived(
        gateway=where.gateway,
        origin_id=None,
        order_id=None,
        gateway_reference=where.reference,
        headers=waits.headers,
        body=waits.body,
        received_at_ms=waits.received_at_ms,
        account=where.account,
    )
    return webhook_message(
        codec, webhook, webhook_id=waits.webhook_id, traceparent=waits.traceparent, tracestate=waits.tracestate
    )


def _to_park(envelope: Envelope, webhook: WebhookReceived) -> ParkedWebhook:
    return ParkedWebhook(
        webhook_id=envelope.id,
        traceparent=envelope.traceparent,
        tracestate=envelope.tracestate,
        headers=webhook.headers,
        body=webhook.body,
        received_at_ms=webhook.received_at_ms,
    )


def _reference_of(webhook: WebhookReceived) -> KnownReference:
    assert webhook.gateway_reference is not None
    return KnownReference(gateway=webhook.gateway, account=webhook.account, reference=webhook.gateway_reference)


def _key_of(where: KnownReference | ReferenceKept | ReferenceDropped) -> bytes:
    return identifiers.reference_key(where.gateway, where.account, where.reference)
