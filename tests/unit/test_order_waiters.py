"""Who waits for an operation: told what they asked to be told, and forgotten once nobody can wait any more."""

from streams.domain.limits import WAITERS_KEPT_MS
from tests.support.order_desk import Desk, refund, sale


def test_an_accepted_operation_tells_only_those_who_asked_for_it() -> None:
    desk = Desk()
    desk.send(sale(), command_id="waits-for-both")
    desk.send(sale(), command_id="waits-for-the-end", final_only=True)
    desk.settle()
    assert [reply.final for reply in desk.replies_to("waits-for-both")] == [False, True]
    assert [reply.final for reply in desk.replies_to("waits-for-the-end")] == [True]


def test_waiters_are_forgotten_when_their_operation_was_settled_long_ago() -> None:
    desk = Desk()
    paid = desk.do(sale())
    payment = desk.payment.payment_id
    assert desk.operation(paid).waiters
    desk.now_ms += WAITERS_KEPT_MS
    desk.send(refund(payment, 1, key="early"))
    assert desk.operation(paid).waiters
    desk.settle()
    desk.now_ms += 1
    desk.send(refund(payment, 1, key="late"))
    assert not desk.operation(paid).waiters
