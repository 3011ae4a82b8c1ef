"""The GET routes of payments and refunds: a read through the log, so that a client reads its own writes.

A query is appended to `payments.queries.v1` in the order's partition and answered by the order's owner. Nothing is kept
here, so any instance can be asked. A query is not a promise: when its reply does not come, that is a 503.
"""

from http_ingress.command_log import query_envelope
from http_ingress.door import card_guard, request_headers
from http_ingress.limits import QUERY_TIMEOUT_S, RETRY_AFTER_FULL_S, RETRY_AFTER_LOG_S
from http_ingress.money.endpoints import Call, payment_in_path
from http_ingress.replies.waiters import TooManyWaitingError
from http_ingress.representation import answers
from http_ingress.representation.answers import Answer
from http_ingress.representation.problems import ProblemCode, ProblemError, retry_later
from schemas import identifiers
from schemas.identifiers import InvalidIdentifierError, OrderId, PaymentId, RefundId
from schemas.records.payments import OperationReplied, PaymentQueried


async def read_payment(call: Call) -> Answer:
    """Return a payment and its life."""
    payment_id, order = payment_in_path(call.request)
    return answers.to_payment_query(await _query(call, order, payment_id=payment_id))


async def read_refund(call: Call) -> Answer:
    """Return a refund."""
    refund_id, order = _refund_in_path(call)
    return answers.to_refund_query(await _query(call, order, refund_id=refund_id))


def _refund_in_path(call: Call) -> tuple[RefundId, OrderId]:
    value = call.request.match_info["refundId"]
    try:
        if not value.startswith("re_"):
            raise ProblemError(ProblemCode.REFUND_NOT_FOUND)
        order = identifiers.order_of(value)
    except InvalidIdentifierError:
        raise ProblemError(ProblemCode.REFUND_NOT_FOUND) from None
    card_guard.check_given_id(value, order)
    return RefundId(value), order


async def _query(
    call: Call, order: OrderId, *, payment_id: PaymentId | None = None, refund_id: RefundId | None = None
) -> OperationReplied:
    ingress = call.ingress
    request_headers.refuse_unknown_parameters(call.request.query)
    origin = call.caller.origin()
    query = PaymentQueried(
        request_id=call.request_id,
        reply_partition=ingress.settings.reply_partition,
        origin_id=origin,
        order_id=order,
        payment_id=payment_id,
        refund_id=refund_id,
        queried_at_ms=ingress.now_ms(),
    )
    try:
        waiter = ingress.waiters.expect(call.request_id, origin=origin)
    except TooManyWaitingError:
        raise retry_later(ProblemCode.OVERLOADED, after_s=RETRY_AFTER_FULL_S) from None
    with waiter:
        await ingress.log.append(
            query, query_envelope(query, traceparent=call.trace.traceparent, tracestate=call.trace.tracestate)
        )
        reply = await waiter.settled(timeout_s=QUERY_TIMEOUT_S)
    if reply is None:
        raise retry_later(ProblemCode.NO_ANSWER, after_s=RETRY_AFTER_LOG_S)
    return reply
