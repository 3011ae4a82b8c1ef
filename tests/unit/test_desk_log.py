"""The desk's way to the log and back, on a log in memory."""

from collections.abc import AsyncIterator

import pytest

from http_ingress.command_log import LogUnavailableError
from http_ingress.door.tracing import Trace
from http_ingress.operators.decision_log import Appendable, KafkaDecisionLog, envelope_of
from schemas import topics
from schemas.identifiers import CommandId, DecisionId, OperatorName
from schemas.messages import Envelope, MessageCodec
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried
from schemas.records.payments import PaymentQueried
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import Verdict
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.in_memory_log import InMemoryLog
from streams.kafka_clients.log_reader import LogRecord
from streams.kafka_clients.producer import AppendedRecord, Headers
from tests.support.desk_under_test import NOW_MS, OP, ORDER, ORIGIN, PAYMENT

CODEC = MessageCodec(SchemaIds.packaged())
TRACE = Trace(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate=None)
PROPOSED = DecisionProposed(
    decision_id=DecisionId("dec_1"),
    origin_id=ORIGIN,
    order_id=ORDER,
    payment_id=PAYMENT,
    op_id=OP,
    verdict=Verdict.NOT_EXECUTED,
    amount_minor=None,
    why="their support knows of no such call",
    proposed_by=OperatorName("anna"),
    proposed_at_ms=NOW_MS,
    expires_at_ms=NOW_MS + 1_000,
)
MADE = DecisionMade(
    decision_id=DecisionId("dec_1"),
    origin_id=ORIGIN,
    order_id=ORDER,
    payment_id=PAYMENT,
    op_id=OP,
    verdict=Verdict.NOT_EXECUTED,
    amount_minor=None,
    why="their support knows of no such call",
    decided_by=OperatorName("anna"),
    approved_by=OperatorName("bert"),
    decided_at_ms=NOW_MS,
)
TRIED = DecisionTried(
    request_id="r1", reply_partition=3, origin_id=ORIGIN, order_id=ORDER, decision=MADE, tried_at_ms=NOW_MS
)
QUERIED = PaymentQueried(
    request_id="r1",
    reply_partition=3,
    origin_id=ORIGIN,
    order_id=ORDER,
    payment_id=PAYMENT,
    refund_id=None,
    queried_at_ms=NOW_MS,
)


class Memory:
    """Topics in memory, and the two ends that the desk has of them."""

    def __init__(self) -> None:
        self.log = InMemoryLog(dict.fromkeys((topics.DECISIONS, topics.QUERIES), 4), clock_ms=lambda: NOW_MS)
        self.failure: Exception | None = None

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, timeout_s: float
    ) -> AppendedRecord:
        assert timeout_s > 0
        return self.log.append(topic, key=key, value=value, headers=headers)

    async def read_since(self, since_ms: int) -> AsyncIterator[LogRecord]:
        if self.failure is not None:
            raise self.failure
        for record in self.log.records(topics.DECISIONS):
            if record.timestamp_ms >= since_ms:
                yield record


def desk_log(memory: Memory) -> KafkaDecisionLog:
    return KafkaDecisionLog(writer=memory, codec=CODEC, read_since=memory.read_since)


def envelope(record: Appendable) -> Envelope:
    return envelope_of(record, CommandId("r1"), trace=TRACE, reply_partition=3, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("record", "topic"),
    [
        (MADE, topics.DECISIONS),
        (PROPOSED, topics.DECISIONS),
        (TRIED, topics.QUERIES),
        (QUERIED, topics.QUERIES),
    ],
)
async def test_record_stands_on_its_topic_under_its_order_when_it_is_appended(record: Appendable, topic: str) -> None:
    memory = Memory()
    await desk_log(memory).append(record, envelope(record))
    (stands,) = memory.log.records(topic)
    assert stands.key == ORDER.encode()
    told, read = CODEC.decode(stands.value, stands.headers)
    assert read == record
    assert (told.id, told.subject, told.originid) == ("r1", PAYMENT, ORIGIN)
    assert told.replypartition == (None if record is PROPOSED else 3)


async def test_proposal_waits_until_it_is_decided_whatever_else_stands_there() -> None:
    memory = Memory()
    log = desk_log(memory)
    memory.log.append(topics.DECISIONS, key=b"x", value=b"nothing", headers=())
    await log.append(PROPOSED, envelope(PROPOSED))
    found = await log.proposals(since_ms=0)
    assert found.pending(NOW_MS) == (PROPOSED,)
    assert found.pending(PROPOSED.expires_at_ms) == ()
    await log.append(MADE, envelope(MADE))
    found = await log.proposals(since_ms=0)
    assert (found.pending(NOW_MS), found.made(MADE.decision_id)) == ((), MADE)
    assert (await log.proposals(since_ms=NOW_MS + 1)).proposed(PROPOSED.decision_id) is None


@pytest.mark.parametrize("failure", [RetryableError("no broker"), TimeoutError()])
async def test_log_is_unavailable_when_it_is_not_read_to_its_end(failure: Exception) -> None:
    memory = Memory()
    memory.failure = failure
    with pytest.raises(LogUnavailableError) as unavailable:
        await desk_log(memory).proposals(since_ms=0)
    assert not unavailable.value.may_be_written
    assert str(unavailable.value)
