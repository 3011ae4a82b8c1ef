"""The orders agent and rows beside an order's: what it writes, what it says again, and what goes at the order's end."""

from dataclasses import replace

from gateway_adapters.mock.spec import SPEC
from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import CommandId, OpId, OrderId
from schemas.messages import Envelope
from schemas.records.orders import ApartRow, OperationRow, OrderRow
from schemas.records.payments import OperationReplied, PaymentEvent, PaymentQueried
from schemas.records.references import ReferenceDropped, ReferenceKept
from schemas.records.timers import OrderExpiryRequested, TimerFired
from schemas.vocabulary import CallKind, OperationState, Outcome, TimerKind
from streams.agents.dues import LOOK_MS, due_of_order
from streams.agents.sweep import due_orders
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.step import DueRow, InputEvent
from streams.topology import OPERATIONS_TABLE, ORDERS_TABLE
from tests.support.order_desk import MOCK, ORIGIN, Said, refund, sale
from tests.support.post_office import CODEC, PARTITIONS, TRACE, PostOffice

ORDER = OrderId("order-1")
INDEXED = replace(SPEC.capabilities, references_indexed=frozenset({CallKind.SALE, CallKind.REFUND}))
SOON = replace(DEFAULT_RULES, kept_operations=1, leaving_operations=2)


def office_with_two_gone() -> tuple[PostOffice, list[OpId]]:
    """An order of a sale and three refunds, two of which stand in rows of their own."""
    office = PostOffice(INDEXED, rules=SOON)
    sold = office.send(sale(order=ORDER))
    office.answer(sold, Said(reference="sale"))
    payment = identifiers.payment_id(ORDER, sold)
    refunds = []
    for number in range(3):
        refunds.append(office.send(refund(payment, 100, key=f"r{number}")))
        office.answer(refunds[-1], Said(reference=f"ref-{number}"))
    assert office.letters == []
    assert [each.number for each in apart(office)] == [2, 3]
    return office, refunds


def apart(office: PostOffice) -> list[OperationRow]:
    stored = [row for (_, table, _), row in office.tables.items() if table == OPERATIONS_TABLE]
    rows = [CODEC.decode_row(ApartRow, row) for row in stored]
    return [each.operation for each in rows if each.operation is not None]


def own_partition() -> int:
    return topics.partition_of(ORDER.encode(), PARTITIONS)


def test_operations_leave_by_records_that_the_order_appends_for_itself() -> None:
    office, refunds = office_with_two_gone()
    row = office.row(ORDER)
    assert row is not None
    assert [each.number for each in row.operations] == [1, 4]
    asked = [timer for event in office.log if event.topic == topics.TIMERS for timer in [decoded(event)]]
    assert [each.kind for each in asked] == [TimerKind.COPY_APART, TimerKind.DROP_COPIED]
    assert {partition for partition, table, _ in office.tables if table == OPERATIONS_TABLE} == {own_partition()}
    assert {each.op_id for each in apart(office)} == set(refunds[:2])


def decoded(event: InputEvent) -> TimerFired:
    _, timer = CODEC.decode(event.value, event.headers)
    assert isinstance(timer, TimerFired)
    return timer


def test_webhook_that_names_a_reference_alone_finds_the_operation_in_a_row_of_its_own() -> None:
    office, refunds = office_with_two_gone()
    reversal = {"ref": "ref-0", "kind": CallKind.REFUND.value, "outcome": Outcome.REVERSED.value, "payment": "sale"}
    office.post({"origin": ORIGIN, "order": ORDER, **reversal})
    assert office.operation(ORDER, refunds[0]).state is OperationState.REVERSED
    assert office.letters == []
    row = office.row(ORDER)
    assert row is not None
    assert len(row.operations) == 3, "no refund was recorded as made at the gateway's desk"


def test_replay_says_the_same_in_full_when_the_operation_stands_in_a_row_of_its_own() -> None:
    office, refunds = office_with_two_gone()
    results = [event for event in office.log if event.topic == topics.GATEWAY_RESULTS]
    again = replace(results[1], possible_replay=True)  # the first refund's
    said = office.handle(again).speak
    events = [each for each in said if each.topic == topics.EVENTS]
    assert [type(CODEC.decode(each.value, each.headers)[1]) for each in events] == [PaymentEvent, PaymentEvent]
    first = [each for each in office.said if isinstance(each, PaymentEvent) and each.operation.op_id == refunds[0]]
    assert [CODEC.decode(each.value, each.headers)[1] for each in events] == first
    kept = [CODEC.decode(each.value, each.headers)[1] for each in said if each.topic == topics.REFERENCES]
    assert "ref-0" in {each.reference for each in kept if isinstance(each, ReferenceKept)}, "and what it is known by"


def test_trace_of_a_command_is_in_what_is_said_again_of_an_operation_in_a_row_of_its_own() -> None:
    office = PostOffice(INDEXED, rules=SOON)
    sold = office.send(sale(order=ORDER))
    office.answer(sold, Said(reference="sale"))
    payment = identifiers.payment_id(ORDER, sold)
    command = refund(payment, 5, key="traced")
    envelope = Envelope(id=CommandId("traced"), source="test", type=TYPES[type(command)], time_ms=1, traceparent=TRACE)
    office.append(topics.COMMANDS, ORDER.encode(), command, envelope)
    office.settle()
    (traced,) = set(office.requests) - {sold}
    office.answer(traced, Said(reference="traced"))
    for number in range(2):
        office.answer(office.send(refund(payment, 5, key=f"r{number}")), Said(reference=f"ref-{number}"))
    assert traced in {each.op_id for each in apart(office)}
    event = next(each for each in office.log if dict(each.headers).get("ce_id") == b"traced")
    said = office.handle(replace(event, possible_replay=True)).speak
    traces = {dict(each.headers).get("ce_traceparent") for each in said if each.topic == topics.EVENTS}
    assert traces == {TRACE.encode()}


def test_question_about_a_payment_is_answered_with_its_whole_life() -> None:
    office, refunds = office_with_two_gone()
    query = PaymentQueried(
        request_id="q",
        reply_partition=0,
        origin_id=ORIGIN,
        order_id=ORDER,
        payment_id=office.operation(ORDER, refunds[2]).payment_id,
        refund_id=None,
        queried_at_ms=1,
    )
    envelope = Envelope(id="q", source="test", type=TYPES[type(query)], time_ms=1)
    office.append(topics.QUERIES, ORDER.encode(), query, envelope)
    office.settle()
    answer = office.said[-1]
    assert isinstance(answer, OperationReplied)
    assert [each.op_id for each in answer.operations][1:] == refunds


# The end of the order


def ask_to_end(office: PostOffice) -> OrderExpiryRequested:
    """Let the sweep ask, long after, for the end of the order."""
    office.now_ms += DEFAULT_RULES.paid_life_ms + LOOK_MS
    key, indexed = identifiers.row_key(ORIGIN, ORDER), {MOCK: office.spec.capabilities}
    row = CODEC.decode_row(OrderRow, office.tables[own_partition(), ORDERS_TABLE, key])
    due = DueRow(own_partition(), key, due_of_order(row, SOON, indexed))
    assert due.due.at_ms <= office.now_ms
    (message,) = due_orders(CODEC, indexed)([due], lambda _due: None, office.now_ms)
    _, request = CODEC.decode(message.value, message.headers)
    assert isinstance(request, OrderExpiryRequested)
    return request


def give(office: PostOffice, request: OrderExpiryRequested) -> InputEvent:
    """Append the request, let everybody act on it, and return its record."""
    envelope = Envelope(id="end", source="test", type=TYPES[OrderExpiryRequested], time_ms=1)
    office.append(topics.TIMERS, ORDER.encode(), request, envelope)
    office.settle()
    return next(event for event in office.log if dict(event.headers).get("ce_id") == b"end")


def test_rows_beside_an_order_and_its_references_go_with_it() -> None:
    office, _ = office_with_two_gone()
    assert len(office.tables) > 6
    give(office, ask_to_end(office))
    assert office.letters == []
    assert [table for _, table, _ in office.tables if table in {ORDERS_TABLE, OPERATIONS_TABLE}] == []
    assert [table for _, table, _ in office.tables if table == "references"] == []


def test_rows_beside_an_order_and_its_references_go_when_the_worker_dies_before_it_says_that_they_shall() -> None:
    office, _ = office_with_two_gone()
    office.speechless = topics.TIMERS
    end = give(office, ask_to_end(office))
    assert office.row(ORDER) is None
    assert apart(office)
    office.speechless = None
    office.again(end)
    assert [table for _, table, _ in office.tables if table in {ORDERS_TABLE, OPERATIONS_TABLE, "references"}] == []


def test_references_of_rows_beside_an_order_are_dropped_again_when_those_rows_are_gone_already() -> None:
    office, _ = office_with_two_gone()
    give(office, ask_to_end(office))
    timers = [
        event for event in office.log if event.topic == topics.TIMERS and dict(event.headers).get("ce_id") != b"end"
    ]
    forget = next(event for event in timers if decoded(event).kind is TimerKind.FORGET_APART)
    said = office.handle(replace(forget, possible_replay=True)).speak
    dropped = [CODEC.decode(each.value, each.headers)[1] for each in said]
    assert {each.reference for each in dropped if isinstance(each, ReferenceDropped)} >= {"ref-0", "ref-1"}
