"""The way from the desk to the log and back: decisions and proposals are appended, and read again to be approved.

`DecisionLog` is what the handlers see, so that the whole desk runs in a test without a broker. `KafkaDecisionLog` is
the real one. Nothing of a proposal is kept in memory: whoever approves reads the log anew, so a restart forgets none,
and each of several instances sees what all of them took.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, assert_never

import structlog

from http_ingress.command_log import Appender, LogUnavailableError, append_durably
from http_ingress.door.tracing import Trace
from http_ingress.operators.proposals import Proposals
from schemas import topics
from schemas.event_types import TYPES
from schemas.identifiers import CommandId
from schemas.messages import DecodeError, Envelope, MessageCodec, OtherReleaseError
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried
from schemas.records.payments import PaymentQueried
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.log_reader import LogRecord, ReadFrom, read_log
from streams.topology import OPERATORS

SOURCE: Final = OPERATORS.event_source
MAX_DECISIONS_READ: Final = 20_000
"""Records of one look at the proposals: a week of a busy desk has hundreds."""

READ_TIMEOUT_S: Final = 10.0

Appendable = DecisionMade | DecisionProposed | DecisionTried | PaymentQueried
ReadSince = Callable[[int], AsyncIterator[LogRecord]]
"""The records of `decisions.v1` from that time on, ms since the epoch, to its end as it is now."""

_log = structlog.get_logger(__name__)


class DecisionLog(Protocol):
    """Where the desk writes, and what it reads back."""

    async def append(self, record: Appendable, envelope: Envelope) -> None:
        """Append the record; when this returns, it is durable. Raises: LogUnavailableError."""
        ...

    async def proposals(self, *, since_ms: int) -> Proposals:
        """Return what was proposed and decided since then. Raises: LogUnavailableError."""
        ...


class KafkaDecisionLog:
    """Appends through a writer, and reads the topic of decisions to its end."""

    def __init__(self, *, writer: Appender, codec: MessageCodec, read_since: ReadSince) -> None:
        self._writer = writer
        self._codec = codec
        self._read_since = read_since
        self._reading = asyncio.Lock()  # one look at a time: each opens a connection

    async def append(self, record: Appendable, envelope: Envelope) -> None:
        """Append the record; when this returns, every in-sync replica has it. Raises: LogUnavailableError."""
        message = self._codec.encode(record, envelope)
        await append_durably(self._writer, _topic_of(record), key=record.order_id.encode(), message=message)

    async def proposals(self, *, since_ms: int) -> Proposals:
        """Return what was proposed and decided since then. A record that cannot be read is passed over, and logged.

        Raises: LogUnavailableError: the topic was not read to its end in time.
        """
        found = Proposals()
        try:
            async with self._reading, asyncio.timeout(READ_TIMEOUT_S):
                async for at in self._read_since(since_ms):
                    self._take(found, at)
        except (LogError, TimeoutError) as error:
            raise LogUnavailableError(str(error) or "the log was not read in time", may_be_written=False) from error
        return found

    def _take(self, found: Proposals, at: LogRecord) -> None:
        try:
            _, record = self._codec.decode(at.value, at.headers, ours=True)
        except OtherReleaseError as newer:  # it may be the approval that somebody asks for
            raise LogUnavailableError(newer.detail, may_be_written=False) from newer
        except DecodeError as error:
            _log.error("decision_undecodable", partition=at.partition, offset=at.offset, reason=error.reason)
            return
        if isinstance(record, DecisionMade | DecisionProposed):
            found.take(record)


def reading_from(connection: KafkaConnection) -> ReadSince:
    """Return how the topic of decisions is read on this broker."""

    def read_since(since_ms: int) -> AsyncIterator[LogRecord]:
        start = ReadFrom(timestamp_ms=since_ms)
        return read_log(
            connection,
            topics.DECISIONS,
            start=start,
            max_records=MAX_DECISIONS_READ,
            stall_timeout_s=READ_TIMEOUT_S,
        )

    return read_since


def _topic_of(record: Appendable) -> str:
    match record:
        case DecisionMade() | DecisionProposed():
            return topics.DECISIONS
        case DecisionTried() | PaymentQueried():
            return topics.QUERIES
        case _:
            assert_never(record)


def envelope_of(
    record: Appendable, request_id: CommandId, *, trace: Trace, reply_partition: int, now_ms: int
) -> Envelope:
    """Return the envelope of a record. Its id is the request's, which the answer comes back under.

    A decision that is asked for again is another message about the same decision: the record's id says so.
    """
    subject = record.decision.payment_id if isinstance(record, DecisionTried) else record.payment_id
    return Envelope(
        id=request_id,
        source=SOURCE,
        type=TYPES[type(record)],
        subject=subject,
        time_ms=now_ms,
        partitionkey=record.order_id,
        originid=record.origin_id,
        traceparent=trace.traceparent,
        tracestate=trace.tracestate,
        replypartition=None if isinstance(record, DecisionProposed) else reply_partition,
    )
