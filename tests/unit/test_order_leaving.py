"""Settled operations leave their order's row for rows of their own, step by step, and go when the order has ended."""

from dataclasses import replace

import pytest

from schemas.identifiers import OpId, PaymentId
from schemas.records.orders import OperationRow
from schemas.records.timers import TimerFired
from schemas.vocabulary import (
    CallKind,
    OperationKind,
    OperationState,
    Outcome,
    Rejection,
    TimerKind,
    Verdict,
)
from streams.domain.limits import DEFAULT_RULES, KEPT_OPERATIONS, LEAVING_OPERATIONS, MAX_LEAVING
from streams.domain.order import order_ends_at_ms
from streams.domain.outputs import KeepApart, SayTimer
from tests.support.order_desk import (
    DECLINE,
    ORDER,
    ORIGIN,
    PENDING,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    refund,
    sale,
    void,
)

SOON = replace(DEFAULT_RULES, kept_operations=1, leaving_operations=2)


def said(reference: str) -> Said:
    return Said(reference=reference)


def paid(rules: object = SOON, **fields: object) -> Desk:
    desk = Desk(rules=replace(SOON, **fields))  # type: ignore[arg-type]  # a test names any field of the rules
    desk.do(sale(10_000), said("sale"))
    return desk


def refunded(desk: Desk, count: int, *, minor: int = 100, first: int = 1) -> list[OpId]:
    """Give so many refunds back, one after the other, each with its own reference; nobody leaves yet."""
    payment = desk.payment.payment_id
    return [
        desk.do(refund(payment, minor, key=f"r{number}"), said(f"ref-{number}"))
        for number in range(first, first + count)
    ]


def with_two_gone() -> tuple[Desk, OpId, OpId, OpId]:
    """An order of which two refunds stand in rows of their own, and a third in its row."""
    desk = paid()
    one, two, three = refunded(desk, 3)
    desk.leave()
    assert numbers(desk) == [1, 4]
    return desk, one, two, three


def numbers(desk: Desk) -> list[int]:
    assert desk.row is not None
    return [each.number for each in desk.row.operations]


def gone(desk: Desk) -> int:
    assert desk.row is not None
    return sum(each.operations for each in desk.row.subtotals)


def life_timer(desk: Desk) -> TimerFired:
    """The request to end the order, of no life of it that is named."""
    return TimerFired(
        origin_id=ORIGIN,
        order_id=ORDER,
        op_id=None,
        kind=TimerKind.EXPIRE_ROW,
        number=0,
        due_at_ms=desk.now_ms,
        fired_at_ms=desk.now_ms,
    )


def own_rows(desk: Desk) -> list[OperationRow]:
    return [each.operation for each in desk.apart.values() if each.operation is not None]


# Who leaves, and when


def test_nothing_leaves_when_an_order_has_few_operations() -> None:
    desk = Desk()
    desk.do(sale(10_000))
    refunded(desk, KEPT_OPERATIONS + LEAVING_OPERATIONS - 1)
    assert not desk.steps
    refunded(desk, 1, first=50)
    assert [each.kind for each in desk.steps] == [TimerKind.COPY_APART]


def test_settled_refunds_leave_and_the_row_keeps_what_they_come_to() -> None:
    desk = paid()
    refunded(desk, 3)
    before, events = desk.sums, len(desk.events)
    assert desk.leave() == 2
    assert desk.row is not None
    (subtotal,) = desk.row.subtotals
    assert (subtotal.refunded_minor, subtotal.operations, subtotal.counting) == (200, 2, 2)
    assert [each.number for each in own_rows(desk)] == [2, 3]
    assert (desk.sums, len(desk.events)) == (before, events), "nobody is told, since nothing has happened"
    desk.do(refund(desk.payment.payment_id, 50, key="more"), said("more"))
    assert desk.view.refunded_minor == 350


def test_refund_beyond_what_is_left_is_refused_when_the_others_have_left() -> None:
    desk = paid()
    refunded(desk, 3, minor=3_000)
    desk.leave()
    refused = desk.do(refund(desk.payment.payment_id, 1_001, key="too much"))
    assert desk.operation(refused).rejection is Rejection.AMOUNT_EXCEEDS_CAPTURED
    assert desk.state(desk.do(refund(desk.payment.payment_id, None, key="all"))) is OperationState.SUCCEEDED
    assert desk.view.refunded_minor == 10_000


def test_row_stays_small_when_an_order_is_refunded_again_and_again() -> None:
    desk = Desk()
    desk.do(sale(10_000))
    for number in range(60):
        refunded(desk, 1, minor=1, first=number)
        desk.leave()
        assert len(numbers(desk)) <= 1 + KEPT_OPERATIONS + LEAVING_OPERATIONS
    assert gone(desk) >= 60 - KEPT_OPERATIONS - LEAVING_OPERATIONS


def test_refused_operations_leave_too_when_nothing_of_them_was_sent() -> None:
    desk = paid()
    payment = desk.payment.payment_id
    for number in range(2):
        desk.do(capture(payment, 1, key=f"c{number}"))
        desk.do(void(payment, key=f"v{number}"))
        desk.do(refund(PaymentId("pay_nobody"), 1, key=f"n{number}"))
    desk.leave()
    assert gone(desk) >= 4
    assert desk.row is not None
    assert {each.payment_id for each in desk.row.subtotals} == {payment, "pay_nobody"}
    assert {each.refunded_minor for each in desk.row.subtotals} == {0}


@pytest.mark.parametrize("answer", [PENDING, UNKNOWN, Said(reference=None)])
def test_refund_stays_when_it_is_open_or_its_gateway_has_not_named_it(answer: Said) -> None:
    desk = paid()
    stays = desk.do(refund(desk.payment.payment_id, 1, key="stays"), answer)
    refunded(desk, 4)
    desk.leave()
    assert desk.row is not None
    assert stays in {each.op_id for each in desk.row.operations}
    assert gone(desk) > 0


def test_declined_refund_leaves() -> None:
    desk = paid()
    declined = desk.do(refund(desk.payment.payment_id, 1, key="declined"), DECLINE)
    refunded(desk, 3)
    desk.leave()
    assert declined in {each.op_id for each in own_rows(desk)}


def test_captures_stay() -> None:
    desk = Desk(rules=SOON)
    desk.do(authorize(10_000))
    for number in range(4):
        desk.do(capture(desk.payment.payment_id, 100, key=f"c{number}"), said(f"cap-{number}"))
    refunded(desk, 4)
    desk.leave()
    assert desk.row is not None
    assert sum(each.kind is OperationKind.CAPTURE for each in desk.row.operations) == 4


def test_operation_stays_when_another_waited_for_it_or_a_person_was_asked_about_it() -> None:
    desk = paid()
    payment = desk.payment.payment_id
    doubtful = desk.do(refund(payment, 1, key="doubtful"), UNKNOWN)
    waiting = desk.do(refund(payment, 1, key="waiting"), said("found"), said("waiting"))
    noted = desk.do(refund(payment, 1, key="noted"), said("noted"))
    desk.decide(noted, Verdict.NOTE)
    recorded = desk.notice(
        None, Said(reference="at the desk", confirmed_minor=1), kind=CallKind.REFUND, payment_reference="sale"
    )
    assert recorded.outputs
    refunded(desk, 5)
    desk.leave()
    assert desk.row is not None
    here = {each.op_id for each in desk.row.operations}
    assert {doubtful, waiting, noted} <= here
    assert any(each.gateway_reference == "at the desk" for each in desk.row.operations)
    assert gone(desk) > 0


def test_nothing_of_a_payment_leaves_when_it_is_unclear_whose_a_success_is() -> None:
    desk = paid()
    payment = desk.payment.payment_id
    desk.do(refund(payment, 1, key="nameless"), replace(PENDING, reference=None))
    desk.do(refund(payment, 2, key="nameless too"), replace(PENDING, reference=None))
    desk.notice(None, Said(reference="whose", confirmed_minor=3), kind=CallKind.REFUND, payment_reference="sale")
    assert desk.payment.unclaimed
    refunded(desk, 4)
    desk.leave()
    assert gone(desk) == 0


def test_at_most_so_many_leave_at_once() -> None:
    desk = Desk(rules=replace(DEFAULT_RULES, kept_operations=0, leaving_operations=MAX_LEAVING + 20))
    desk.do(sale(10_000))
    refunded(desk, MAX_LEAVING + 20, minor=1)
    assert [len(each.leaving) for each in desk.steps] == [MAX_LEAVING]


# The steps


def test_step_is_asked_for_once_a_batch_and_again_by_a_replay() -> None:
    desk = paid()
    refunded(desk, 2)
    desk.send(refund(desk.payment.payment_id, 1, key="third"))
    verdict = desk.grant()
    desk.call(said("third"))
    assert len(desk.steps) == 1
    refunded(desk, 1, first=10)
    assert len(desk.steps) == 1, "three may leave: no second batch"
    desk.replay = True
    desk.verdict(verdict)
    assert len(desk.steps) == 2


def test_row_has_its_operations_until_they_are_dropped() -> None:
    desk = paid()
    refunded(desk, 3)
    copied = desk.step(desk.steps.popleft())
    assert numbers(desk) == [1, 2, 3, 4]
    kinds = [type(each) for each in copied.outputs]
    assert kinds[-1] is SayTimer, "it is asked to be dropped once all of it is durable"
    own = [each.row.operation is not None for each in copied.outputs if isinstance(each, KeepApart) and each.row]
    assert own == sorted(own), "names come first"
    desk.leave()
    assert numbers(desk) == [1, 4]


def test_crash_between_the_two_rows_loses_nothing() -> None:
    desk = paid()
    refunded(desk, 3)
    copy = desk.steps.popleft()
    row = desk.row
    desk.step(copy)
    desk.row = row  # nothing of it had been written but some rows beside
    for name in list(desk.apart)[::2]:
        del desk.apart[name]
    early = desk.steps.popleft()
    desk.step(early)
    assert set(numbers(desk)) >= {1, 4}
    assert len({each.number for each in own_rows(desk)} | set(numbers(desk))) == 4
    desk.step(copy)
    desk.leave()
    assert numbers(desk) == [1, 4]


def test_operation_is_not_dropped_when_it_has_no_row_of_its_own() -> None:
    desk = paid()
    refunded(desk, 3)
    desk.step(desk.steps.popleft())
    desk.apart.clear()
    desk.leave()
    assert numbers(desk) == [1, 2, 3, 4]


def test_operation_stays_when_it_has_changed_since_it_was_asked_to_leave() -> None:
    desk = paid()
    one, *_ = refunded(desk, 3)
    desk.notice(one, Said(outcome=Outcome.REVERSED, reference="ref-1"))
    desk.step(desk.steps.popleft())
    assert [each.number for each in own_rows(desk)] == [3]
    desk.leave()
    assert numbers(desk) == [1, 2, 4]


def test_operation_stays_when_it_has_changed_since_it_was_copied() -> None:
    desk = paid()
    one, *_ = refunded(desk, 3)
    desk.step(desk.steps.popleft())
    desk.notice(one, Said(outcome=Outcome.REVERSED, reference="ref-1"))
    desk.leave()
    assert numbers(desk) == [1, 2, 4]
    assert desk.operation(one).state is OperationState.REVERSED


def test_step_of_another_life_of_the_order_does_nothing() -> None:
    desk = paid()
    refunded(desk, 3)
    row = desk.row
    desk.step(replace(desk.steps.popleft(), life_ms=7))
    assert desk.row == row
    assert not desk.apart
    desk.row = None
    desk.step(replace(life_timer(desk), kind=TimerKind.DROP_COPIED))
    assert desk.row is None


# The end of the order


def ended(desk: Desk) -> Desk:
    """The desk, its order's life over, and its row gone."""
    assert desk.row is not None
    desk.now_ms = order_ends_at_ms(desk.row, desk.rules) or 0
    assert desk.end().row is None
    return desk


def test_rows_beside_an_order_go_after_it() -> None:
    desk, *_ = with_two_gone()
    ended(desk)
    assert desk.apart, "not before its own row is gone"
    (asked,) = desk.steps
    assert (asked.kind, asked.operations) == (TimerKind.FORGET_APART, 4)
    desk.leave()
    assert desk.apart == {}


def test_rows_beside_an_order_go_at_last_when_the_worker_crashes_on_the_way() -> None:
    desk, *_ = with_two_gone()
    life_ms = desk.row.created_at_ms if desk.row is not None else 0
    ended(desk)
    desk.steps.clear()  # it was never said
    desk.replay = True
    desk.step(replace(life_timer(desk), life_ms=life_ms, operations=4))
    (asked,) = desk.steps
    outputs = desk.step(asked).outputs
    assert len(outputs) == 8
    assert desk.apart == {}
    assert desk.step(asked).outputs == ()


def test_rows_beside_a_life_of_an_order_go_and_those_of_the_next_stay() -> None:
    desk, *_ = with_two_gone()
    ended(desk)
    first = desk.steps.popleft()
    desk.claim_rows.clear()
    desk.do(sale(10_000, key="anew"), said("sale anew"))
    refunded(desk, 3, first=20)
    desk.leave()
    assert gone(desk) == 2
    desk.replay = True
    desk.step(first)
    assert sorted(each.number for each in own_rows(desk)) == [2, 3]
    assert desk.row is not None
    assert all(str(desk.row.created_at_ms) in name for name in desk.apart)


def test_rows_beside_an_order_stay_while_it_lives() -> None:
    desk, *_ = with_two_gone()
    assert desk.row is not None
    known = dict(desk.apart)
    forget = replace(life_timer(desk), kind=TimerKind.FORGET_APART, life_ms=desk.row.created_at_ms, operations=4)
    desk.step(forget)
    assert desk.apart == known
    expire = replace(forget, kind=TimerKind.EXPIRE_ROW)
    assert desk.step(expire).outputs == ()
    assert desk.row is not None


def test_nothing_is_asked_for_at_the_end_of_an_order_that_never_had_many_operations() -> None:
    desk = Desk()
    desk.do(sale(10_000), DECLINE)
    ended(desk)
    assert not desk.steps
