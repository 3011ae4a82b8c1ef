"""The orders agent and what stands beside the records: where an answer is wanted, and until when a refusal counts."""

import pytest

from schemas import topics
from schemas.event_types import TYPES
from schemas.identifiers import CommandId
from schemas.messages import Envelope, MessageCodec, Record
from schemas.records.claims import ClaimDecided
from schemas.records.commands import op_id_of
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.orders import OrderRow
from schemas.records.payments import PaymentQueried
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import DeadLetterReason, OperationState, RetryAdvice
from streams.agents.intake import RefusedError
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.step import InputEvent, Step
from streams.topology import ORDERS_TABLE
from tests.support.order_desk import DECLINE, ORDER, ORIGIN, Said, completed, plan, refusal, sale

CODEC = MessageCodec(SchemaIds.packaged())
NOW_MS = 1_800_000_000_000


class Agent:
    """An orders agent and its tables."""

    def __init__(self, *, partitions: int) -> None:
        self.tables: dict[tuple[str, bytes], bytes | None] = {}
        self.grow(partitions)

    def grow(self, partitions: int) -> None:
        """Go on with another agent, for another number of partitions."""
        self._partitions = partitions
        self._agent = OrdersAgent(
            CODEC,
            partitions=partitions,
            policies=dict,
            gateways={},
            capabilities={},
            parking=Parking(),
            rules=DEFAULT_RULES,
        )

    def take(self, topic: str, record: Record, envelope: Envelope) -> Step:
        message = CODEC.encode(record, envelope)
        event = InputEvent(
            topic=topic,
            partition=topics.partition_of(ORDER.encode(), self._partitions),
            offset=0,
            timestamp_ms=NOW_MS,
            key=ORDER.encode(),
            value=message.value,
            headers=message.headers,
            possible_replay=False,
        )
        step = self._agent.take(event, lambda table, key: self.tables.get((table, key)))
        self.tables |= {(write.table, write.key): write.value for write in step.rows}
        return step

    def command(self, *, reply_partition: int, amount: int = 5_000) -> Step:
        command = sale(amount)
        envelope = Envelope(
            id=CommandId(f"c{amount}"),
            source="test",
            type=TYPES[type(command)],
            time_ms=NOW_MS,
            originid=ORIGIN,
            idempotencykey=command.idempotency_key,
            replypartition=reply_partition,
        )
        return self.take(topics.COMMANDS, command, envelope)

    def decided(self, *gateways: str) -> Step:
        """The key is granted, with this plan."""
        command = sale(5_000)
        verdict = ClaimDecided(
            origin_id=ORIGIN,
            idempotency_key=command.idempotency_key,
            order_id=ORDER,
            op_id=op_id_of(command),
            granted=True,
            holder_order_id=ORDER,
            holder_op_id=op_id_of(command),
            plan=plan(*gateways),
            decided_at_ms=NOW_MS,
        )
        envelope = Envelope(id="v", source="test", type=TYPES[ClaimDecided], time_ms=NOW_MS)
        return self.take(topics.VERDICTS, verdict, envelope)

    def answered(self, call: Step, said: Said, *, expiry_ms: int | None) -> OperationState:
        """The gateway's answer to the call; return how the operation stands."""
        (sent,) = (each for each in call.speak if each.topic == topics.GATEWAY_REQUESTS)
        _, request = CODEC.decode(sent.value, sent.headers)
        assert isinstance(request, GatewayCallRequested)
        result = completed(request, said, now_ms=NOW_MS)
        envelope = Envelope(
            id="r", source="test", type=TYPES[GatewayCallCompleted], time_ms=NOW_MS, expiry_ms=expiry_ms
        )
        self.take(topics.GATEWAY_RESULTS, result, envelope)
        row = next(value for (table, _), value in self.tables.items() if table == ORDERS_TABLE)
        assert row is not None
        return CODEC.decode_row(OrderRow, row).operations[0].state


def test_command_is_refused_when_its_answer_has_nowhere_to_go() -> None:
    """Sent, it would end the worker, and each one after it."""
    with pytest.raises(RefusedError) as refused:
        Agent(partitions=1).command(reply_partition=1)
    assert refused.value.reason is DeadLetterReason.INVALID


def test_query_is_refused_when_its_answer_has_nowhere_to_go() -> None:
    query = PaymentQueried(
        request_id="r",
        reply_partition=-1,
        origin_id=ORIGIN,
        order_id=ORDER,
        payment_id=None,
        refund_id=None,
        queried_at_ms=NOW_MS,
    )
    envelope = Envelope(id="q", source="test", type=TYPES[PaymentQueried], time_ms=NOW_MS)
    with pytest.raises(RefusedError):
        Agent(partitions=1).take(topics.QUERIES, query, envelope)


def test_answer_is_left_out_when_a_row_of_an_earlier_version_sends_it_nowhere() -> None:
    agent = Agent(partitions=10)
    agent.command(reply_partition=9)
    agent.grow(1)
    agent.command(reply_partition=0)  # another request waits for the same operation
    step = agent.decided()  # by a plan that names no gateway: both are told
    assert [each.partition for each in step.speak if each.topic == topics.REPLIES] == [0]


@pytest.mark.parametrize(
    ("said", "expiry_ms", "state"),
    [
        (refusal(RetryAdvice.NEVER), None, OperationState.NOT_EXECUTED),
        (refusal(RetryAdvice.NEVER), NOW_MS, OperationState.NOT_EXECUTED),
        (refusal(RetryAdvice.NEVER), NOW_MS - 1, OperationState.UNKNOWN),
        (refusal(RetryAdvice.OTHER_GATEWAY), NOW_MS - 1, OperationState.UNKNOWN),  # and no other gateway is tried
        (DECLINE, NOW_MS - 1, OperationState.DECLINED),  # the gateway knows the call
    ],
)
def test_refusal_leaves_the_call_in_doubt_when_the_log_took_it_after_its_worker_may_have_been_replaced(
    said: Said, expiry_ms: int | None, state: OperationState
) -> None:
    agent = Agent(partitions=1)
    agent.command(reply_partition=0)
    assert agent.answered(agent.decided("mock", "other"), said, expiry_ms=expiry_ms) is state
