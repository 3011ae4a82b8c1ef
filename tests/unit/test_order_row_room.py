"""An order takes no more operations before its row outgrows what a changelog record may hold."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway_adapters.policy import MAX_ATTEMPTS
from gateway_adapters.registry import SPECS
from schemas.identifiers import MAX_ACCOUNT_CHARS, IdempotencyKey, OrderId, PaymentId
from schemas.messages import MessageCodec
from schemas.record_shapes import fields_of
from schemas.records.commands import Command, RefundRequested
from schemas.records.orders import OperationRow
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import DeclineClass, OperationState, Outcome, Rejection, RetryAdvice
from streams.domain.limits import MAX_KEPT_CHARS, MAX_OPERATIONS, MAX_ROW_WAITERS, MAX_WAITERS
from streams.domain.outputs import Publish
from streams.domain.room import is_full, kept_chars
from streams.kafka.worker_settings import MAX_ROW_BYTES
from tests.support.golden_messages import example
from tests.support.order_desk import ORIGIN, Desk, Said, authorize, error, plan, refund, sale

LONGEST_ORDER = OrderId("o" * 128)
COPIES = 3
WORDY = replace(error(RetryAdvice.SAME_KEY_NOW), message="It may have been carried out. " * 4, gateway_code="http_504")
IN_DOUBT = Said(outcome=Outcome.UNKNOWN, error=WORDY, reference=None)
REFERENCE = Said(reference="mref_" + "0" * 24)
CODEC = MessageCodec(SchemaIds.packaged())


NOT_COUNTED = {
    "op_id": "a hash, in OPERATION_CHARS",
    "fingerprint": "a hash, in OPERATION_CHARS",
    "doubted_op_id": "a hash, in OPERATION_CHARS",
    "asked_currency": "three letters, in OPERATION_CHARS",
    "gateway": "a name of ours, in OPERATION_CHARS",
    "account": "a name of ours, in OPERATION_CHARS",
    "draws_on": "a hash, of a refund at some gateways, in OPERATION_CHARS",
    "gateway_reference": "the last fact tells it, and is counted twice",
    "earlier_attempts.account": "a name of ours, in EVENT_CHARS",
    "earlier_attempts.gateway": "a name of ours, in EVENT_CHARS",
    "events.gateway": "a name of ours, in EVENT_CHARS",
    "events.transition": "a word of ours, in EVENT_CHARS",
    "plan.gateways": "in PLAN_CHARS; leaves the row with the operation's last word",
    "tokens_for": "gateways that a policy names, in OPERATION_CHARS",
    "token": "leaves the row when no call needs it any more",
    "error.code": "the last fact tells it, and is counted twice",
    "error.gateway_code": "the last fact tells it, and is counted twice",
    "error.message": "the last fact tells it, and is counted twice",
    "error.advice": "the last fact tells it, and is counted twice",
    "action_url": "the last fact tells it, and is counted twice",
    "waiters.request_id": "leaves the row after WAITERS_KEPT_MS",
}
"""Texts of an operation's row that `kept_chars` leaves out, and why it may."""

COUNTED_TWICE = {
    "events.error.code",
    "events.error.gateway_code",
    "events.error.message",
    "events.error.advice",
    "events.action_url",
    "events.gateway_reference",
}
"""What the last fact tells, and the operation as well."""


def texts_of(cls: type, path: str = "") -> Iterator[str]:
    """The paths of all fields of a row's class that hold text of any length."""
    for shape in fields_of(cls):
        if shape.nested is not None:
            yield from texts_of(shape.nested, f"{path}{shape.name}.")
        elif shape.scalar in {"string", "bytes"}:
            yield path + shape.name


def lengthened(row: Any, path: str, chars: int) -> Any:
    """The same row, with so many more characters at the path."""
    name, _, below = path.partition(".")
    value = getattr(row, name)
    first = value[0] if isinstance(value, tuple) else value
    longer = lengthened(first, below, chars) if below else first + "x" * chars
    return replace(row, **{name: (longer, *value[1:]) if isinstance(value, tuple) else longer})


@pytest.mark.parametrize("path", list(texts_of(OperationRow)))
def test_text_of_an_operation_is_counted_unless_it_is_said_why_not(path: str) -> None:
    row = example(OperationRow)
    counted = kept_chars(lengthened(row, path, 100)) - kept_chars(row)
    twice = path in COUNTED_TWICE
    assert counted == (0 if path in NOT_COUNTED else 200 if twice else 100)


def test_what_is_said_of_texts_that_are_not_counted_is_of_fields_that_are_there() -> None:
    assert NOT_COUNTED.keys() <= set(texts_of(OperationRow))


def longest_refund(payment: PaymentId, number: int) -> Command:
    return RefundRequested(
        origin_id=ORIGIN,
        order_id=LONGEST_ORDER,
        idempotency_key=IdempotencyKey(f"k{number}".ljust(255, "x")),
        payment_id=payment,
        amount_minor=1,
        currency="USD",
    )


def row_bytes(desk: Desk) -> int:
    assert desk.row is not None
    return len(CODEC.encode_row(desk.row))


def sold() -> Desk:
    desk = Desk()
    desk.do(replace(sale(1_000_000), order_id=LONGEST_ORDER))
    return desk


def filled(desk: Desk) -> Command:
    """Ask for refunds, each several times, until one is refused; return that one. Nothing is carried out meanwhile."""
    payment = desk.payment.payment_id
    for number in range(MAX_OPERATIONS):
        command = longest_refund(payment, number)
        for copy in range(COPIES):
            desk.send(command, command_id=f"c{number}-{copy}".ljust(128, "c"))
        if desk.events[-1].transition == "rejected":
            return command
    raise AssertionError("it was never full")


def test_row_has_room_for_all_that_was_taken_when_ids_are_longest_and_everything_is_in_doubt() -> None:
    desk = sold()
    filled(desk)
    assert desk.row is not None
    taken = len(desk.row.operations)
    assert 200 < taken < MAX_OPERATIONS
    assert row_bytes(desk) < MAX_ROW_BYTES
    while desk.claims:
        desk.grant()
        if desk.requests:
            op_id = desk.requests[0].op_id
            desk.call(IN_DOUBT)
            desk.fire(op_id)
            desk.call(REFERENCE)
    assert {each.state for each in desk.row.operations} == {OperationState.SUCCEEDED}
    assert row_bytes(desk) < MAX_ROW_BYTES
    assert MAX_KEPT_CHARS < 0.6 * MAX_ROW_BYTES


def test_row_has_room_for_payments_that_wait_with_the_longest_plans() -> None:
    account = "a" * MAX_ACCOUNT_CHARS
    routes = [f"{spec.name}/{account}" for spec in SPECS] * MAX_ATTEMPTS
    desk = Desk(plan=plan(*routes[:MAX_ATTEMPTS], after=tuple(DeclineClass)))
    for number in range(MAX_OPERATIONS):
        wish = replace(authorize(key=f"k{number}".ljust(255, "x")), order_id=LONGEST_ORDER)
        for copy in range(COPIES):
            desk.send(wish, command_id=f"c{number}-{copy}".ljust(128, "c"))
        if desk.events and desk.events[-1].transition == "rejected":
            break
    assert desk.row is not None
    assert 200 < len(desk.row.operations) < MAX_OPERATIONS
    assert row_bytes(desk) < MAX_ROW_BYTES


def test_command_stays_refused_for_want_of_room_when_it_is_replayed_after_the_row_has_shrunk() -> None:
    desk = sold()
    command = filled(desk)
    first = desk.events[-1]
    assert first.event.operation.rejection is Rejection.TOO_MANY_OPERATIONS
    before = row_bytes(desk)
    assert desk.row is not None
    desk.row = replace(desk.row, operations=tuple(replace(each, waiters=()) for each in desk.row.operations))
    assert row_bytes(desk) < 0.9 * before
    desk.replay = True
    desk.said.clear()
    desk.send(command, command_id=first.event.command_id)
    assert next(each for each in desk.said if isinstance(each, Publish)) == first


def test_order_has_room_for_all_its_operations_when_ids_are_uuids() -> None:
    desk = Desk()
    desk.do(sale(1_000_000))
    command = refund(desk.payment.payment_id, 1, key="k" * 36)
    op_id = desk.send(command, command_id="c" * 36)
    operation = replace(desk.operation(op_id), traceparent="t" * 55, payment_id=PaymentId("p" * 69))
    assert kept_chars(operation) * MAX_OPERATIONS < MAX_KEPT_CHARS
    assert not is_full([operation] * (MAX_OPERATIONS - 1))
    assert is_full([operation] * MAX_OPERATIONS)


def test_what_an_operation_keeps_never_shrinks_when_it_lives() -> None:
    desk = Desk()
    desk.do(sale())
    op_id = desk.send(refund(desk.payment.payment_id, 1))
    kept = [kept_chars(desk.operation(op_id))]
    desk.grant()
    for said in (IN_DOUBT, replace(REFERENCE, outcome=Outcome.PENDING), REFERENCE):
        if desk.requests:
            desk.call(said)
        else:
            desk.notice(op_id, said)
        kept.append(kept_chars(desk.operation(op_id)))
    assert kept == sorted(kept)
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_request_is_answered_at_once_when_the_order_remembers_too_many() -> None:
    desk = Desk()
    desk.do(sale())
    payment = desk.payment.payment_id
    for number in range(MAX_ROW_WAITERS // MAX_WAITERS):
        for copy in range(MAX_WAITERS):
            desk.send(refund(payment, 1, key=f"r{number}"), command_id=f"r{number}-{copy}")
    desk.send(refund(payment, 1, key="last"), waits=False)
    before = desk.row
    desk.send(refund(payment, 1, key="last"), command_id="one more")
    assert desk.row is before
    (reply,) = desk.replies_to("one more")
    assert reply.final
