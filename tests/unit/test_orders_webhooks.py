"""Webhooks as gateways send them: many orders in one body, orders of others, and items that say nothing to us."""

import json
from dataclasses import replace

import pytest

from gateway_adapters.mock import wire
from gateway_adapters.mock.spec import CAPABILITIES, SPEC
from gateway_adapters.notices import MAX_ADDRESSES_PER_WEBHOOK, MAX_NOTICES_PER_WEBHOOK
from schemas import topics
from schemas.identifiers import OpId, OrderId
from schemas.records.references import ParkedRow
from schemas.vocabulary import CallKind, DeadLetterReason, OperationState, Outcome
from streams.domain.references import PARKED_FOR_MS
from streams.topology import PARKED_TABLE
from tests.support.metric_pages import rise_of
from tests.support.order_desk import ORIGIN, Said, sale
from tests.support.post_office import CODEC, PARTITIONS, PostOffice

FIRST, SECOND = OrderId("order-1"), OrderId("order-2")


def pending(office: PostOffice, order: OrderId) -> OpId:
    """Return the operation of a sale that the gateway has taken, and has not decided."""
    op_id = office.send(sale(order=order, key=f"key-{order}"))
    office.answer(op_id, Said(outcome=Outcome.PENDING, reference=f"psp-{order}"))
    return op_id


def test_batch_of_two_orders_reaches_both() -> None:
    office = PostOffice()
    ops = {order: pending(office, order) for order in (FIRST, SECOND)}
    office.post(*({"origin": ORIGIN, "order": order, "op": op, "amount": 10_000} for order, op in ops.items()))
    assert office.letters == []
    assert {office.operation(order, op).state for order, op in ops.items()} == {OperationState.SUCCEEDED}


def test_order_takes_its_own_items_alone() -> None:
    """An item of another order must not settle the one that reads the same body."""
    office = PostOffice()
    mine, other = pending(office, FIRST), pending(office, SECOND)
    office.post({"origin": ORIGIN, "order": FIRST, "op": other, "amount": 10_000})
    assert office.letters == []
    assert {office.operation(FIRST, mine).state, office.operation(SECOND, other).state} == {OperationState.PENDING}


def test_item_of_an_order_that_nobody_has_is_counted_and_no_dead_letter() -> None:
    """The merchant's account at the gateway is used by another system too."""
    office = PostOffice()
    op = pending(office, FIRST)
    ignored = rise_of("webhooks_ignored", gateway="mock", reason="order_unknown")
    office.post(
        {"origin": "elsewhere", "order": "theirs", "op": "op_theirs"},
        {"origin": ORIGIN, "order": FIRST, "op": op, "amount": 10_000},
    )
    assert office.letters == []
    assert ignored() == 1
    assert office.row(OrderId("theirs")) is None
    assert office.operation(FIRST, op).state is OperationState.SUCCEEDED


def test_decline_by_a_code_that_nobody_knows_is_counted() -> None:
    office = PostOffice()
    known, unknown = pending(office, FIRST), pending(office, SECOND)
    counted = rise_of("declines_unknown", gateway="mock")
    office.post(
        {"origin": ORIGIN, "order": FIRST, "op": known, "outcome": "declined", "code": "card_declined"},
        {"origin": ORIGIN, "order": SECOND, "op": unknown, "outcome": "declined", "code": "unknown"},
    )
    assert office.letters == []
    assert counted() == 1
    assert office.operation(SECOND, unknown).state is OperationState.DECLINED


def test_webhook_that_means_nothing_to_us_is_passed_over() -> None:
    office = PostOffice()
    office.post()
    office.post({"outcome": "succeeded"})
    assert office.letters == []
    assert len(office.log) == 2  # kept on the log all the same, to be read again


def test_body_with_too_many_items_is_one_dead_letter_that_holds_it() -> None:
    office = PostOffice()
    for items in (
        [{"origin": ORIGIN, "order": FIRST}] * (MAX_NOTICES_PER_WEBHOOK + 1),
        [{"origin": ORIGIN, "order": f"o{number}"} for number in range(MAX_ADDRESSES_PER_WEBHOOK + 1)],
    ):
        office.post(*items)
        letter = office.letters.pop()
        assert not office.letters
        assert letter.reason is DeadLetterReason.TOO_LARGE
        assert letter.value is not None


def test_webhook_that_could_not_be_read_reaches_its_orders_when_it_is_redriven_after_the_repair() -> None:
    office = PostOffice()
    ops = {order: pending(office, order) for order in (FIRST, SECOND)}
    body = json.dumps([{"origin": ORIGIN, "order": order, "op": op, "amount": 10_000} for order, op in ops.items()])
    office.post_raw(b"not yet " + body.encode())
    (letter,) = office.letters
    assert letter.reason is DeadLetterReason.UNTRANSLATABLE_WEBHOOK
    (dead,) = (event for event in office.log if event.topic == topics.WEBHOOKS)
    office.repair_translation(lambda text: text.removeprefix(b"not yet "))
    office.again(dead)
    assert len(office.letters) == 1
    assert {office.operation(order, op).state for order, op in ops.items()} == {OperationState.SUCCEEDED}


def test_record_is_a_dead_letter_when_its_body_has_no_item_of_its_order() -> None:
    office = PostOffice()
    op = pending(office, FIRST)
    office.post({"origin": ORIGIN, "order": FIRST, "op": op})
    event = office.log[-1]
    office.repair_translation(lambda _body: b"[]")
    office.again(event)
    assert [letter.reason for letter in office.letters] == [DeadLetterReason.UNTRANSLATABLE_WEBHOOK]


# By reference


BY_OURS = replace(CAPABILITIES, own_references_indexed=frozenset({CallKind.AUTHORIZE, CallKind.SALE}))
"""Of a gateway whose notices give back our operation's id, and may come before its answer."""


def paid(office: PostOffice, order: OrderId) -> OpId:
    op_id = office.send(sale(order=order, key=f"key-{order}"))
    office.answer(op_id, Said(reference=f"psp-{order}"))
    return op_id


def chargeback(order: OrderId) -> dict[str, object]:
    """A notice that gives nothing of ours back."""
    return {"kind": "sale", "outcome": "reversed", "ref": f"psp-{order}", "payment": f"psp-{order}", "amount": 10_000}


def waiting(office: PostOffice) -> int:
    rows = [CODEC.decode_row(ParkedRow, row) for (_, table, _), row in office.tables.items() if table == PARKED_TABLE]
    return sum(len(row.webhooks) for row in rows)


def test_notice_that_names_only_a_reference_finds_its_order() -> None:
    office = PostOffice()
    op_id, other = paid(office, FIRST), paid(office, SECOND)
    office.post(chargeback(FIRST))
    assert office.letters == []
    assert office.operation(FIRST, op_id).state is OperationState.REVERSED
    assert office.operation(SECOND, other).state is OperationState.SUCCEEDED


def test_notice_that_comes_before_its_reference_waits_for_it() -> None:
    office = PostOffice()
    op_id = office.send(sale(order=FIRST))
    office.post(chargeback(FIRST))
    assert (office.letters, waiting(office)) == ([], 1)
    office.restart()
    office.answer(op_id, Said(reference=f"psp-{FIRST}"))
    assert (office.letters, waiting(office)) == ([], 0)
    assert office.operation(FIRST, op_id).state is OperationState.REVERSED


def test_notice_that_gives_back_our_reference_alone_settles_what_was_never_answered() -> None:
    office = PostOffice(BY_OURS)
    op_id = office.send(sale(order=FIRST))
    office.post({"kind": "sale", "op": op_id, "ref": "psp-1", "amount": 10_000})
    assert (office.letters, waiting(office)) == ([], 0)
    assert office.operation(FIRST, op_id).state is OperationState.SUCCEEDED


def test_mock_that_gives_back_our_reference_alone_settles_what_was_never_answered() -> None:
    office = PostOffice(BY_OURS, translator=SPEC.translator)
    op_id = office.send(sale(order=FIRST))
    operation = wire.Operation(
        id="mpay_1",
        kind="sale",
        status=wire.Status.SUCCEEDED,
        payment="mpay_1",
        amount=10_000,
        counted=10_000,
        currency="USD",
        gateway_key=None,
        action_url=None,
        failure=None,
        metadata=None,
        created_ms=1,
        updated_ms=1,
    )
    event = wire.Event(id="evt_1", type=wire.EventType.UPDATED, created_ms=1, operation=operation, own_reference=op_id)
    office.post_raw(wire.encode_event(event))
    assert (office.letters, waiting(office)) == ([], 0)
    assert office.operation(FIRST, op_id).state is OperationState.SUCCEEDED


def test_notice_of_nobody_waits_its_time_and_is_a_dead_letter_then() -> None:
    office = PostOffice()
    office.post({"ref": "pi_elsewhere", "payment": "pi_elsewhere"})
    assert (office.letters, waiting(office)) == ([], 1)
    arrived = office.log[-1]
    office.now_ms += PARKED_FOR_MS
    office.append_raw(arrived)  # what the sweep does with it
    assert [letter.reason for letter in office.letters] == [DeadLetterReason.REFERENCE_UNKNOWN]
    assert waiting(office) == len(office.parking) == 0


def test_notice_that_can_be_read_no_more_waits_no_longer() -> None:
    """Its gateway was taken away, or its translator reads it otherwise: each sweep would make one more dead letter."""
    office = PostOffice()
    office.post({"ref": "psp-1"})
    arrived = office.log[-1]
    office.repair_translation(lambda _body: b"[]")
    office.append_raw(arrived)
    assert [letter.reason for letter in office.letters] == [DeadLetterReason.UNTRANSLATABLE_WEBHOOK]
    assert waiting(office) == len(office.parking) == 0


def test_dead_letter_of_an_unknown_reference_finds_its_order_when_it_is_redriven_later() -> None:
    office = PostOffice()
    office.post(chargeback(FIRST))
    arrived = office.log[-1]
    office.now_ms += PARKED_FOR_MS
    office.append_raw(arrived)
    op_id = paid(office, FIRST)
    assert office.operation(FIRST, op_id).state is OperationState.SUCCEEDED
    office.append_raw(arrived)
    assert office.operation(FIRST, op_id).state is OperationState.REVERSED


def test_nothing_more_is_parked_when_the_partition_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.agents.references.MAX_PARKED_REFERENCES", 2)
    office = PostOffice()
    for number in range(200):
        office.post({"ref": f"elsewhere-{number}"})
    assert waiting(office) == len(office.parking) == 2 * PARTITIONS
    assert len(office.letters) == 200 - 2 * PARTITIONS
    assert {letter.reason for letter in office.letters} == {DeadLetterReason.REFERENCE_UNKNOWN}


def test_two_orders_known_by_one_reference_are_an_alarm_and_the_first_keeps_it() -> None:
    office = PostOffice()
    contested = rise_of("references_contested", gateway="mock")
    first = office.send(sale(order=FIRST, key="k1"))
    office.answer(first, Said(reference="same"))
    second = office.send(sale(order=SECOND, key="k2"))
    office.answer(second, Said(reference="same"))
    assert contested() == 1
    office.post({"kind": "sale", "outcome": "reversed", "payment": "same", "ref": "same", "amount": 10_000})
    assert office.operation(FIRST, first).state is OperationState.REVERSED
    assert office.operation(SECOND, second).state is OperationState.SUCCEEDED


def test_reference_is_said_again_when_the_worker_died_before_it_was_said() -> None:
    office = PostOffice()
    op_id = office.send(sale(order=FIRST))
    office.post(chargeback(FIRST))
    office.speechless = topics.GATEWAY_RESULTS
    office.answer(op_id, Said(reference=f"psp-{FIRST}"))
    office.speechless = None
    assert waiting(office) == 1
    office.restart()
    office.again(office.log[-1])
    assert waiting(office) == 0
    assert office.operation(FIRST, op_id).state is OperationState.REVERSED


def test_notice_is_released_again_when_the_worker_died_before_it_was_said() -> None:
    office = PostOffice()
    op_id = office.send(sale(order=FIRST))
    office.post(chargeback(FIRST))
    office.speechless = topics.REFERENCES
    office.answer(op_id, Said(reference=f"psp-{FIRST}"))
    office.speechless = None
    assert office.operation(FIRST, op_id).state is OperationState.SUCCEEDED
    office.restart()
    office.again(office.log[-1])
    assert waiting(office) == 0
    assert office.operation(FIRST, op_id).state is OperationState.REVERSED


def test_record_under_another_key_than_its_reference_is_refused() -> None:
    office = PostOffice()
    op_id = paid(office, FIRST)
    (kept,) = (event for event in office.log if event.topic == topics.REFERENCES)
    office.append_raw(replace(kept, key=b"mock|default|other"))
    office.append_raw(replace(kept, value=None))  # a tombstone says nothing to the table
    assert [letter.reason for letter in office.letters] == [DeadLetterReason.WRONG_KEY]
    office.post(chargeback(FIRST))
    assert office.operation(FIRST, op_id).state is OperationState.REVERSED
