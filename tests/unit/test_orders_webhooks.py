"""Webhooks as gateways send them: many orders in one body, orders of others, and items that say nothing to us."""

import json

from gateway_adapters.notices import MAX_ADDRESSES_PER_WEBHOOK, MAX_NOTICES_PER_WEBHOOK
from schemas import topics
from schemas.identifiers import OpId, OrderId
from schemas.vocabulary import DeadLetterReason, OperationState, Outcome
from tests.support.metric_pages import rise_of
from tests.support.order_desk import ORIGIN, Said, sale
from tests.support.post_office import PostOffice

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
