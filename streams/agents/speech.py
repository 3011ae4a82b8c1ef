"""What a decision says, as messages: each output of the domain has one topic, one key and one deterministic id.

The ids are derived from the operation, so that what a replay says again carries the id it had the first time.
"""

from typing import assert_never

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import OpId
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimRequested
from schemas.records.gateway import GatewayCallRequested
from schemas.records.orders import OrderRow
from schemas.records.payments import OperationReplied
from streams.agents.timers import timer_message
from streams.domain.outputs import CallGateway, Message, Publish, Reply, SayTimer, SendClaim
from streams.kafka.step import Outgoing
from streams.topology import ORDERS

SOURCE = ORDERS.event_source


class Speech:
    """Turns the domain's outputs into messages."""

    __slots__ = ("_codec",)

    def __init__(self, codec: MessageCodec) -> None:
        self._codec = codec

    def message(self, output: Message, *, row: OrderRow | None, partition: int, now_ms: int) -> Outgoing:
        """Return the message. `partition` is the order's; all topics keyed by the order have as many."""
        match output:
            case SendClaim():
                return self._claim(output.claim, row, now_ms)
            case CallGateway():
                return self._call(output.request, row, partition, now_ms)
            case Publish():
                return self._event(output, row, partition)
            case Reply():
                return self.reply(output.reply, to_partition=output.to.partition, now_ms=now_ms)
            case SayTimer():
                return timer_message(self._codec, output.fired)
            case _:
                assert_never(output)

    def _claim(self, claim: ClaimRequested, row: OrderRow | None, now_ms: int) -> Outgoing:
        message = self._codec.encode(
            claim,
            Envelope(
                id=identifiers.event_id(claim.op_id, "claim"),
                source=SOURCE,
                type=TYPES[ClaimRequested],
                time_ms=now_ms,
                partitionkey=claim.order_id,
                originid=claim.origin_id,
                idempotencykey=claim.idempotency_key,
                traceparent=_traceparent(row, claim.op_id),
            ),
        )
        key = identifiers.claim_key(claim.origin_id, claim.idempotency_key)
        return Outgoing(topic=topics.CLAIMS, key=key, value=message.value, headers=message.headers)

    def _call(self, request: GatewayCallRequested, row: OrderRow | None, partition: int, now_ms: int) -> Outgoing:
        message = self._codec.encode(
            request,
            Envelope(
                id=identifiers.event_id(request.op_id, f"call-{request.attempt}-{request.call_number}"),
                source=SOURCE,
                type=TYPES[GatewayCallRequested],
                subject=request.payment_id,
                time_ms=now_ms,
                partitionkey=request.order_id,
                originid=request.origin_id,
                traceparent=_traceparent(row, request.op_id),
            ),
        )
        return Outgoing(
            topic=topics.GATEWAY_REQUESTS,
            key=request.order_id.encode(),
            value=message.value,
            headers=message.headers,
            partition=partition,
        )

    def _event(self, output: Publish, row: OrderRow | None, partition: int) -> Outgoing:
        event = output.event
        message = self._codec.encode(
            event,
            Envelope(
                id=output.event_id,
                source=SOURCE,
                type=output.type,
                subject=event.payment_id,
                time_ms=event.occurred_at_ms,
                partitionkey=event.order_id,
                originid=event.origin_id,
                idempotencykey=event.operation.idempotency_key,
                sequence=event.sequence,
                traceparent=_traceparent(row, event.operation.op_id),
            ),
        )
        return Outgoing(
            topic=topics.EVENTS,
            key=event.order_id.encode(),
            value=message.value,
            headers=message.headers,
            partition=partition,
        )

    def reply(self, reply: OperationReplied, *, to_partition: int, now_ms: int) -> Outgoing:
        """Return an answer for a waiting ingress instance; its subject is the request id, to be seen undecoded."""
        message = self._codec.encode(
            reply,
            Envelope(
                id=identifiers.event_id(reply.request_id, "final" if reply.final else "accepted"),
                source=SOURCE,
                type=TYPES[OperationReplied],
                subject=reply.request_id,
                time_ms=now_ms,
                originid=reply.origin_id,
            ),
        )
        return Outgoing(
            topic=topics.REPLIES,
            key=None,
            value=message.value,
            headers=message.headers,
            partition=to_partition,
        )


def _traceparent(row: OrderRow | None, op: OpId) -> str | None:
    for operation in reversed(row.operations if row is not None else ()):
        if operation.op_id == op:
            return operation.traceparent
    return None
