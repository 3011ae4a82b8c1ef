"""What a query sees of an order."""

from schemas import identifiers
from schemas.identifiers import IdempotencyKey, PaymentId, RefundId
from schemas.records.claims import ClaimRow
from schemas.records.payments import OperationReplied, PaymentQueried
from schemas.vocabulary import OperationState, Outcome, Overlay, PaymentStatus
from streams.domain.views import answer_query
from tests.support.order_desk import DECLINE, ORDER, ORIGIN, UNKNOWN, Desk, Said, plan, refund, sale


def asked(desk: Desk, *, payment: PaymentId | None = None, refunded: RefundId | None = None) -> OperationReplied:
    query = PaymentQueried(
        request_id="q1",
        reply_partition=0,
        origin_id=ORIGIN,
        order_id=ORDER,
        payment_id=payment,
        refund_id=refunded,
        queried_at_ms=5,
    )
    return answer_query(desk.row, query, 7)


def test_query_finds_the_payment_and_its_life_when_it_is_there() -> None:
    desk = Desk()
    desk.do(sale())
    desk.do(refund(desk.payment.payment_id, 1_000))
    reply = asked(desk, payment=desk.payment.payment_id)
    assert (reply.found, reply.final, reply.request_id, reply.replied_at_ms) == (True, True, "q1", 7)
    assert reply.payment is not None
    assert reply.payment.status is PaymentStatus.PARTIALLY_REFUNDED
    assert [each.kind for each in reply.operations] == ["sale", "refund"]


def test_query_finds_the_refund_when_it_is_there() -> None:
    desk = Desk()
    desk.do(sale())
    op_id = desk.do(refund(desk.payment.payment_id, 1_000), UNKNOWN)
    reply = asked(desk, refunded=identifiers.refund_id(ORDER, op_id))
    assert reply.operation is not None
    assert (reply.operation.op_id, reply.operation.state) == (op_id, OperationState.UNKNOWN)
    assert reply.operations == ()
    assert reply.payment is not None


def test_query_finds_nothing_when_the_order_or_the_payment_is_unknown() -> None:
    desk = Desk()
    assert not asked(desk, payment=PaymentId("pay_x")).found
    desk.do(sale())
    reply = asked(desk, payment=PaymentId("pay_x"))
    assert (reply.found, reply.operation, reply.payment) == (False, None, None)
    assert not asked(desk, refunded=RefundId("re_x")).found


def test_query_shows_a_created_payment_when_its_command_only_waits() -> None:
    desk = Desk()
    op_id = desk.send(sale(1_999))
    reply = asked(desk, payment=identifiers.payment_id(ORDER, op_id))
    assert reply.payment is not None
    assert (reply.payment.status, reply.payment.amount_minor) == (PaymentStatus.CREATED, 1_999)


def test_query_shows_a_failed_payment_when_it_was_never_opened() -> None:
    desk = Desk()
    holder = ClaimRow(op_id="op_elsewhere", order_id=ORDER, plan=plan("mock"), claimed_at_ms=1)  # type: ignore[arg-type]  # an id as text
    desk.claim_rows[IdempotencyKey("sale")] = holder
    op_id = desk.do(sale())
    reply = asked(desk, payment=identifiers.payment_id(ORDER, op_id))
    assert reply.payment is not None
    assert reply.payment.status is PaymentStatus.FAILED
    assert reply.operation is not None
    assert reply.operation.state is OperationState.CONFLICT


def test_query_shows_a_refund_without_payment_when_it_named_none_that_exists() -> None:
    desk = Desk()
    op_id = desk.do(refund(PaymentId("pay_x"), 1))
    reply = asked(desk, refunded=identifiers.refund_id(ORDER, op_id))
    assert (reply.found, reply.payment) == (True, None)


def test_query_finds_the_second_payment_when_the_first_failed() -> None:
    desk = Desk()
    desk.do(sale(1_000), DECLINE)
    desk.do(sale(2_000, key="2"))
    reply = asked(desk, payment=desk.payment.payment_id)
    assert reply.payment is not None
    assert (reply.payment.amount_minor, reply.payment.status) == (2_000, PaymentStatus.CAPTURED)
    assert len(reply.operations) == 1


def test_query_shows_a_dispute_when_the_row_has_one() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    desk.notice(op_id, Said(outcome=Outcome.DISPUTE_OPENED, confirmed_minor=3_000), case_reference="dp_1")
    reply = asked(desk, payment=desk.payment.payment_id)
    assert reply.payment is not None
    assert (reply.payment.overlays, reply.payment.disputed_minor) == ((Overlay.DISPUTED,), 3_000)
