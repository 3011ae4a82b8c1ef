"""What waits is said when it begins and ends, said again on a replay, and costs nothing where nothing waits."""

import itertools
from dataclasses import replace

import pytest

from schemas import topics
from schemas.messages import MessageCodec
from schemas.records.decisions import PaymentWaiting
from schemas.records.orders import OrderRow
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import WaitingFor
from streams.agents.waiting import say_waiting
from streams.kafka.step import Outgoing
from tests.support.order_desk import ORDER, ORIGIN, PENDING, SUCCESS, UNKNOWN, Desk, Said, sale

CODEC = MessageCodec(SchemaIds.packaged())


def lives(*script: Said) -> tuple[Desk, list[OrderRow | None]]:
    """A sale whose gateway says so, and the order's row after each of its inputs."""
    desk = Desk()
    desk.script.extend(script)
    rows: list[OrderRow | None] = [None]
    desk.send(sale())
    rows.append(desk.row)
    desk.settle()
    rows.append(desk.row)
    return desk, rows


def told(message: Outgoing) -> PaymentWaiting:
    _, record = CODEC.decode(message.value, message.headers)
    assert isinstance(record, PaymentWaiting)
    return record


def said(before: OrderRow | None, after: OrderRow | None, *, replay: bool = False) -> list[Outgoing]:
    return say_waiting(CODEC, before, after, possible_replay=replay)


def test_nothing_is_said_when_a_payment_succeeds_at_once_nor_when_it_is_replayed() -> None:
    _, rows = lives(SUCCESS)
    for before, after in itertools.pairwise(rows):
        assert said(before, after) == []
        assert said(after, after, replay=True) == []


@pytest.mark.parametrize(("answer", "reason"), [(UNKNOWN, WaitingFor.IN_DOUBT), (PENDING, WaitingFor.PENDING)])
def test_operation_is_listed_while_it_waits_and_gone_when_it_is_settled(answer: Said, reason: WaitingFor) -> None:
    desk, rows = lives(answer)
    waiting = rows[-1]
    assert waiting is not None
    (begun,) = said(rows[1], waiting)
    operation = waiting.operations[0]
    assert (begun.topic, begun.key) == (topics.WAITING, f"{ORIGIN}|{ORDER}|{operation.op_id}".encode())
    listed = told(begun)
    assert (listed.waits_for, listed.op_id, listed.amount_minor) == ((reason,), operation.op_id, operation.amount_minor)
    desk.notice(operation.op_id, SUCCESS)
    (ended,) = said(waiting, desk.row)
    assert (ended.key, ended.value) == (begun.key, None)


def test_operation_is_not_listed_anew_when_a_look_at_its_gateway_changes_nothing() -> None:
    _, rows = lives(UNKNOWN)
    before = rows[-1]
    assert before is not None
    after = replace(before, version=before.version + 1, operations=(replace(before.operations[0], inquiries=3),))
    assert said(before, after) == []


def test_replay_says_how_it_stands_whether_it_waits_or_has_waited() -> None:
    """The row was durable and what it says was lost: nothing changes any more, and it must be said all the same."""
    desk, rows = lives(UNKNOWN)
    waiting = rows[-1]
    (again,) = said(waiting, waiting, replay=True)
    assert told(again).waits_for == (WaitingFor.IN_DOUBT,)
    assert waiting is not None
    desk.notice(waiting.operations[0].op_id, SUCCESS)
    (ended,) = said(desk.row, desk.row, replay=True)
    assert (ended.key, ended.value) == (again.key, None)


def test_review_of_a_payment_stands_at_the_operation_that_opened_it() -> None:
    _, rows = lives(SUCCESS)
    settled = rows[-1]
    assert settled is not None
    reviewed = replace(settled, payments=(replace(settled.payments[0], review=True),))
    (begun,) = said(settled, reviewed)
    assert told(begun).waits_for == (WaitingFor.REVIEW,)
    assert told(begun).op_id == settled.payments[0].op_id
    (ended,) = said(reviewed, settled)
    assert (ended.key, ended.value) == (begun.key, None)


def test_order_that_leaves_takes_along_what_it_waited_for() -> None:
    _, rows = lives(UNKNOWN)
    (ended,) = said(rows[-1], None)
    assert ended.value is None
    assert said(None, None, replay=True) == []
