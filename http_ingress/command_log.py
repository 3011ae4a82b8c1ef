"""The way from the ingress to the log: what is appended, where, and under which envelope.

`CommandLog` is what the handlers see, so that the whole ingress runs in a test on an engine in memory.
`KafkaCommandLog` is the real one: it encodes and hands the bytes to the log writer of `streams.kafka_clients`.

An append that fails, or whose acknowledgement does not come in time, is a 503: the client sends the same key again,
and the engine knows the operation if it was written after all.
"""

import math
from typing import Final, Protocol, assert_never

from http_ingress.limits import APPEND_TIMEOUT_S, RETRY_AFTER_LOG_S
from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import CommandId
from schemas.messages import EncodedMessage, Envelope, Headers, MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.gateway import WebhookReceived
from schemas.records.payments import PaymentQueried
from streams.kafka_clients.errors import BackpressureError, RetryableError

SOURCE: Final = "payment-engine/ingress"

Appendable = Command | PaymentQueried | WebhookReceived


class LogUnavailableError(Exception):
    """The record was not acknowledged by the log.

    Attributes:
        retry_after_s: how long the client shall wait, seconds.
        may_be_written: whether it was sent, so that it may be on the log all the same.
    """

    def __init__(self, reason: str, *, retry_after_s: int = RETRY_AFTER_LOG_S, may_be_written: bool = True) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.may_be_written = may_be_written


class CommandLog(Protocol):
    """Where the ingress writes."""

    async def append(self, record: Appendable, envelope: Envelope) -> None:
        """Append the record; when this returns, it is durable. Raises: LogUnavailableError."""
        ...


class Appender(Protocol):
    """What is needed of `streams.kafka_clients.producer.LogWriter`."""

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, timeout_s: float
    ) -> object:
        """Append one record to the partition of its key; return once all in-sync replicas have it. Raises: LogError."""
        ...


class KafkaCommandLog:
    """Appends to the log through a writer."""

    def __init__(self, *, writer: Appender, codec: MessageCodec) -> None:
        self._writer = writer
        self._codec = codec

    async def append(self, record: Appendable, envelope: Envelope) -> None:
        """Append the record; when this returns, every in-sync replica has it.

        Raises:
            LogUnavailableError: Not written now, or not provably.
            RejectedError: The log will never take it: a defect, since all that is appended here is far below its limit.
        """
        topic, key = destination_of(record)
        await append_durably(self._writer, topic, key=key, message=self._codec.encode(record, envelope))


async def append_durably(writer: Appender, topic: str, *, key: bytes, message: EncodedMessage) -> None:
    """Append the message; when this returns, every in-sync replica has it. Raises: as `KafkaCommandLog.append`."""
    try:
        await writer.append(topic, key=key, value=message.value, headers=message.headers, timeout_s=APPEND_TIMEOUT_S)
    except RetryableError as error:
        # Only this one says that nothing was sent; a broker's own refusal may follow a try that it did take.
        unsent = isinstance(error, BackpressureError)
        raise LogUnavailableError(
            str(error), retry_after_s=math.ceil(error.retry_after_s), may_be_written=not unsent
        ) from error
    except MisconfiguredError as error:
        raise LogUnavailableError(str(error)) from error


def destination_of(record: Appendable) -> tuple[str, bytes]:
    """Return the topic and the key of a record."""
    match record:
        case PaymentRequested() | CaptureRequested() | VoidRequested() | RefundRequested() | CompletionRequested():
            return topics.COMMANDS, record.order_id.encode()
        case PaymentQueried():
            return topics.QUERIES, record.order_id.encode()
        case WebhookReceived():
            return topics.WEBHOOKS, _webhook_key(record)
        case _:
            assert_never(record)


def _webhook_key(webhook: WebhookReceived) -> bytes:
    """An order's notices are read in its partition, a reference's where the index has it; others are spread."""
    if webhook.order_id is not None:
        return webhook.order_id.encode()
    what = webhook.gateway_reference or identifiers.short_hash(webhook.body.hex())
    return identifiers.reference_key(webhook.gateway, webhook.account, what)


def command_envelope(
    command: Command,
    command_id: CommandId,
    *,
    reply_partition: int,
    final_only: bool,
    now_ms: int,
    traceparent: str,
    tracestate: str | None,
) -> Envelope:
    """Return the envelope of a command whose answer this instance waits for; `final_only` for a sync request."""
    subject = None if isinstance(command, PaymentRequested) else command.payment_id
    return Envelope(
        id=command_id,
        source=SOURCE,
        type=TYPES[type(command)],
        subject=subject,
        time_ms=now_ms,
        partitionkey=command.order_id,
        originid=command.origin_id,
        idempotencykey=command.idempotency_key,
        traceparent=traceparent,
        tracestate=tracestate,
        replypartition=reply_partition,
        replyfinal=1 if final_only else None,
    )


def query_envelope(query: PaymentQueried, *, traceparent: str, tracestate: str | None) -> Envelope:
    """Return the envelope of a query."""
    return Envelope(
        id=query.request_id,
        source=SOURCE,
        type=TYPES[PaymentQueried],
        subject=query.payment_id or query.refund_id,
        time_ms=query.queried_at_ms,
        partitionkey=query.order_id,
        originid=query.origin_id,
        traceparent=traceparent,
        tracestate=tracestate,
        replypartition=query.reply_partition,
    )


def webhook_envelope(
    webhook: WebhookReceived, webhook_id: str, *, traceparent: str, tracestate: str | None
) -> Envelope:
    """Return the envelope of a gateway's notice."""
    return Envelope(
        id=webhook_id,
        source=SOURCE,
        type=TYPES[WebhookReceived],
        subject=webhook.gateway_reference,
        time_ms=webhook.received_at_ms,
        partitionkey=webhook.order_id,
        originid=webhook.origin_id,
        traceparent=traceparent,
        tracestate=tracestate,
    )
