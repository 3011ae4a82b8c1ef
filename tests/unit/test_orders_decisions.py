"""The orders agent and what persons decide: taken once, answered, refused as a dead letter where it means nothing."""

from dataclasses import replace

import pytest

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import DecisionId, OperatorName, OpId, OrderId
from schemas.messages import Envelope, MessageCodec, Record
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, PaymentWaiting
from schemas.records.gateway import GatewayCallRequested
from schemas.records.orders import OrderRow
from schemas.records.payments import OperationReplied, PaymentEvent
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import CallKind, DeadLetterReason, DecisionRefusal, OperationState, Verdict
from streams.agents.intake import RefusedError
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.step import InputEvent, Step
from streams.topology import ORDERS_TABLE
from tests.support.order_desk import ORDER, ORIGIN, UNKNOWN, Desk, completed, sale

CODEC = MessageCodec(SchemaIds.packaged())
NOW_MS = 1_800_000_000_000
KEY = identifiers.row_key(ORIGIN, ORDER)


class Agent:
    """An orders agent whose one order has an operation in doubt."""

    def __init__(self) -> None:
        desk = Desk(now_ms=NOW_MS - 10_000)
        self.op_id = desk.do(sale(10_000), UNKNOWN)
        assert desk.row is not None
        self.payment_id = desk.payment.payment_id
        self.tables: dict[tuple[str, bytes], bytes | None] = {(ORDERS_TABLE, KEY): CODEC.encode_row(desk.row)}
        self.agent = OrdersAgent(
            CODEC,
            partitions=1,
            policies=dict,
            gateways={},
            capabilities={},
            parking=Parking(),
            rules=DEFAULT_RULES,
        )

    def take(self, topic: str, record: Record, *, waits_on: int | None = 0, replay: bool = False) -> Step:
        envelope = Envelope(id="r1", source="test", type=TYPES[type(record)], time_ms=NOW_MS, replypartition=waits_on)
        message = CODEC.encode(record, envelope)
        event = InputEvent(
            topic=topic,
            partition=0,
            offset=0,
            timestamp_ms=NOW_MS,
            key=ORDER.encode(),
            value=message.value,
            headers=message.headers,
            possible_replay=replay,
        )
        step = self.agent.take(event, lambda table, key: self.tables.get((table, key)))
        self.agent.accepted()
        self.tables |= {(write.table, write.key): write.value for write in step.rows}
        return step

    def decision(self, **changes: object) -> DecisionMade:
        made = DecisionMade(
            decision_id=DecisionId("dec_1"),
            origin_id=ORIGIN,
            order_id=ORDER,
            payment_id=self.payment_id,
            op_id=self.op_id,
            verdict=Verdict.SUCCEEDED,
            amount_minor=9_000,
            why="seen in the settlement report",
            decided_by=OperatorName("anna"),
            approved_by=OperatorName("bert"),
            decided_at_ms=NOW_MS - 5,
        )
        return replace(made, **changes)  # type: ignore[arg-type]  # a test names any field

    @property
    def state(self) -> OperationState:
        stored = self.tables[ORDERS_TABLE, KEY]
        assert stored is not None
        return CODEC.decode_row(OrderRow, stored).operations[0].state


def said(step: Step, topic: str) -> list[Record]:
    return [CODEC.decode(each.value, each.headers)[1] for each in step.speak if each.topic == topic and each.value]


def reply_of(step: Step) -> OperationReplied:
    (reply,) = said(step, topics.REPLIES)
    assert isinstance(reply, OperationReplied)
    assert reply.decision is not None
    return reply


def test_decision_settles_the_operation_and_answers_whoever_waits() -> None:
    agent = Agent()
    step = agent.take(topics.DECISIONS, agent.decision())
    assert agent.state is OperationState.SUCCEEDED
    reply = reply_of(step)
    assert reply.operation is not None
    assert (reply.request_id, reply.operation.state) == ("r1", OperationState.SUCCEEDED)
    (fact,) = said(step, topics.EVENTS)
    assert isinstance(fact, PaymentEvent)
    assert fact.decision is not None
    assert (fact.decision.decided_by, fact.decision.approved_by) == ("anna", "bert")
    (ended,) = (each for each in step.speak if each.topic == topics.WAITING)
    assert ended.value is None, "it waits no longer"


def test_decision_says_the_same_again_when_it_is_replayed() -> None:
    agent = Agent()
    first = agent.take(topics.DECISIONS, agent.decision())
    row = agent.tables[ORDERS_TABLE, KEY]
    again = agent.take(topics.DECISIONS, agent.decision(), replay=True)
    assert agent.tables[ORDERS_TABLE, KEY] == row
    unmarked = [each for each in first.speak if each.topic != topics.GATEWAY_REQUESTS]
    assert len(unmarked) == len(first.speak) - 1
    assert {each.value for each in unmarked} <= {each.value for each in again.speak}
    (look,), (repeated,) = said(first, topics.GATEWAY_REQUESTS), said(again, topics.GATEWAY_REQUESTS)
    assert isinstance(look, GatewayCallRequested)
    assert look.kind is CallKind.INQUIRE
    assert repeated == replace(look, repeated=True), "a copy of a call is marked"


def test_look_behind_a_person_is_owed_until_its_gateway_has_answered() -> None:
    agent = Agent()
    (look,) = said(agent.take(topics.DECISIONS, agent.decision()), topics.GATEWAY_REQUESTS)
    assert isinstance(look, GatewayCallRequested)
    agent.take(topics.GATEWAY_RESULTS, completed(look, UNKNOWN, now_ms=NOW_MS))
    row = agent.tables[ORDERS_TABLE, KEY]
    again = agent.take(topics.DECISIONS, agent.decision(), replay=True)
    assert agent.tables[ORDERS_TABLE, KEY] == row
    assert not said(again, topics.GATEWAY_REQUESTS)


def test_trial_answers_what_would_be_and_keeps_nothing() -> None:
    agent = Agent()
    trial = DecisionTried(
        request_id="r2",
        reply_partition=0,
        origin_id=ORIGIN,
        order_id=ORDER,
        decision=agent.decision(),
        tried_at_ms=NOW_MS,
    )
    step = agent.take(topics.QUERIES, trial)
    assert step.rows == ()
    assert [each.topic for each in step.speak] == [topics.REPLIES]
    reply = reply_of(step)
    assert reply.operation is not None
    assert (reply.request_id, reply.operation.state) == ("r2", OperationState.SUCCEEDED)
    assert agent.state is OperationState.UNKNOWN
    refused = replace(trial, decision=agent.decision(amount_minor=10_001))
    told = reply_of(agent.take(topics.QUERIES, refused)).decision
    assert told is not None
    assert told.refusal is DecisionRefusal.AMOUNT_OUT_OF_RANGE


def test_trial_about_what_nobody_knows_is_answered_with_the_refusal() -> None:
    agent = Agent()
    other = identifiers.payment_id(ORDER, OpId("op_other"))
    for changes, refusal in (
        ({"payment_id": other}, DecisionRefusal.PAYMENT_UNKNOWN),
        ({"op_id": OpId("op_other")}, DecisionRefusal.OPERATION_UNKNOWN),
    ):
        decision = agent.decision(**changes)
        trial = DecisionTried(
            request_id="r2", reply_partition=0, origin_id=ORIGIN, order_id=ORDER, decision=decision, tried_at_ms=NOW_MS
        )
        reply = reply_of(agent.take(topics.QUERIES, trial))
        assert reply.decision is not None
        assert reply.decision.refusal is refusal


def test_proposal_changes_nothing() -> None:
    agent = Agent()
    proposed = DecisionProposed(
        decision_id=DecisionId("dec_1"),
        origin_id=ORIGIN,
        order_id=ORDER,
        payment_id=agent.payment_id,
        op_id=agent.op_id,
        verdict=Verdict.SUCCEEDED,
        amount_minor=None,
        why="seen",
        proposed_by=OperatorName("anna"),
        proposed_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 1,
    )
    step = agent.take(topics.DECISIONS, proposed)
    assert (tuple(step.rows), tuple(step.speak)) == ((), ())
    assert agent.state is OperationState.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount_minor": 0}, DeadLetterReason.INVALID),
        ({"why": ""}, DeadLetterReason.INVALID),
        ({"approved_by": OperatorName("anna")}, DeadLetterReason.INVALID),
        ({"why": "card 4242 4242 4242 4242"}, DeadLetterReason.CARD_NUMBER),
        ({"op_id": OpId("op_other")}, DeadLetterReason.INVALID),
        ({"payment_id": identifiers.payment_id(OrderId("order-2"), OpId("op_1"))}, DeadLetterReason.INVALID),
    ],
)
def test_decision_is_a_dead_letter_when_it_means_nothing(changes: dict[str, object], reason: DeadLetterReason) -> None:
    agent = Agent()
    with pytest.raises(RefusedError) as refused:
        agent.take(topics.DECISIONS, agent.decision(**changes))
    assert refused.value.reason is reason
    assert "4242" not in str(refused.value)
    assert agent.state is OperationState.UNKNOWN


def test_decision_is_a_dead_letter_where_commands_stand() -> None:
    """Who may write commands may not thereby decide."""
    agent = Agent()
    with pytest.raises(RefusedError) as refused:
        agent.take(topics.COMMANDS, agent.decision())
    assert refused.value.reason is DeadLetterReason.UNKNOWN_TYPE


def test_trial_is_a_dead_letter_when_its_two_orders_differ_or_nobody_can_be_answered() -> None:
    agent = Agent()
    trial = DecisionTried(
        request_id="r2",
        reply_partition=0,
        origin_id=ORIGIN,
        order_id=ORDER,
        decision=agent.decision(),
        tried_at_ms=NOW_MS,
    )
    for broken in (replace(trial, origin_id=identifiers.origin_id("other")), replace(trial, reply_partition=7)):
        with pytest.raises(RefusedError):
            agent.take(topics.QUERIES, broken)


def test_what_waits_is_said_until_a_person_has_decided() -> None:
    agent = Agent()
    note = agent.decision(verdict=Verdict.NOTE, amount_minor=None)
    (waiting,) = said(agent.take(topics.DECISIONS, note, replay=True), topics.WAITING)
    assert isinstance(waiting, PaymentWaiting)
    assert waiting.op_id == agent.op_id
