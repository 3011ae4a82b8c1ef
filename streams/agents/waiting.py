"""What waits, for its gateway or for a person: said on the compacted `payments.waiting.v1` when it begins and ends.

Called by the orders agent for every step. What is said follows from the order's row before and after, as all that it
says: once the row is durable, and again on a replay. An operation that never waits costs nothing: neither when it is
settled at once, nor on its replay.

One record for each operation. What a whole payment waits for, its review, stands at the operation that opened it.
"""

from collections.abc import Iterator
from typing import Final

from schemas import identifiers, topics
from schemas.event_types import TYPES, Transition
from schemas.identifiers import OpId, PaymentId
from schemas.messages import Envelope, MessageCodec
from schemas.records.decisions import PaymentWaiting
from schemas.records.orders import OperationRow, OrderRow, PaymentRow
from schemas.vocabulary import OperationState, WaitingFor
from streams.kafka.step import Outgoing
from streams.topology import ORDERS

SOURCE: Final = ORDERS.event_source
_WAITS: Final = {
    OperationState.UNKNOWN: WaitingFor.IN_DOUBT,
    OperationState.MANUAL_REVIEW: WaitingFor.REVIEW,
    OperationState.PENDING: WaitingFor.PENDING,
}
_TOLD_OF_WAITING: Final = frozenset({Transition.DOUBTED, Transition.REVIEWED, Transition.PENDED, Transition.DECIDED})
"""Facts of which at least one stands in the life of what ever waited."""

Known = dict[OpId, PaymentWaiting]


def say_waiting(
    codec: MessageCodec, before: OrderRow | None, after: OrderRow | None, *, possible_replay: bool
) -> list[Outgoing]:
    """Return the messages that tell how what waits has changed; on a possible replay, how it stands."""
    row = before if after is None else after
    if row is None or (before is after and not possible_replay):
        return []
    if not possible_replay and not _any_waits(before) and not _any_waits(after):
        return []  # nearly every step
    waited, waits = _waiting(before), _waiting(after)
    said = {op_id for op_id in waited | waits if waited.get(op_id) != waits.get(op_id)}
    if possible_replay and after is not None:
        said.update(_ever_waited(after))
    return [_message(codec, row, op_id, waits.get(op_id)) for op_id in sorted(said)]


def _any_waits(row: OrderRow | None) -> bool:
    if row is None:
        return False
    for operation in row.operations:
        if operation.state in _WAITS:
            return True
    return any(payment.review for payment in row.payments)


def _waiting(row: OrderRow | None) -> Known:
    if row is None:
        return {}
    reviewed = {payment.op_id for payment in row.payments if payment.review}
    return {
        each.op_id: _record(row, each, reviewed=each.op_id in reviewed)
        for each in row.operations
        if each.state in _WAITS or each.op_id in reviewed
    }


def _record(row: OrderRow, operation: OperationRow, *, reviewed: bool) -> PaymentWaiting:
    own = _WAITS.get(operation.state)
    waits_for = dict.fromkeys(each for each in (own, WaitingFor.REVIEW if reviewed else None) if each is not None)
    payment = _payment(row, operation.payment_id)
    return PaymentWaiting(
        origin_id=row.origin_id,
        order_id=row.order_id,
        payment_id=operation.payment_id,
        op_id=operation.op_id,
        kind=operation.kind,
        waits_for=tuple(waits_for),
        amount_minor=operation.amount_minor,
        currency=operation.asked_currency or ("" if payment is None else payment.currency),
        gateway=operation.gateway,
        gateway_reference=operation.gateway_reference,
        since_ms=_since_ms(operation),
    )


def _since_ms(operation: OperationRow) -> int:
    """Return since when it waits: looks at its gateway, and notes about it, do not let that begin anew."""
    told = (each.occurred_at_ms for each in reversed(operation.events) if each.transition in _TOLD_OF_WAITING)
    return next(told, operation.updated_at_ms)


def _payment(row: OrderRow, payment_id: PaymentId) -> PaymentRow | None:
    return next((each for each in row.payments if each.payment_id == payment_id), None)


def _ever_waited(row: OrderRow) -> Iterator[OpId]:
    """Yield the operations that wait, and those that may stand on the topic although they do so no longer."""
    yield from _waiting(row)
    openers = {payment.payment_id: payment.op_id for payment in row.payments}
    for operation in row.operations:
        if any(event.transition in _TOLD_OF_WAITING for event in operation.events):
            yield operation.op_id
            if operation.payment_id in openers:
                yield openers[operation.payment_id]


def _message(codec: MessageCodec, row: OrderRow, op_id: OpId, waiting: PaymentWaiting | None) -> Outgoing:
    key = identifiers.row_key(row.origin_id, row.order_id) + b"|" + op_id.encode()
    if waiting is None:
        return Outgoing(topic=topics.WAITING, key=key, value=None)
    message = codec.encode(
        waiting,
        Envelope(
            id=identifiers.event_id(op_id, f"waiting-{row.version}"),
            source=SOURCE,
            type=TYPES[PaymentWaiting],
            subject=waiting.payment_id,
            time_ms=waiting.since_ms,
            partitionkey=waiting.order_id,
            originid=waiting.origin_id,
        ),
    )
    return Outgoing(topic=topics.WAITING, key=key, value=message.value, headers=message.headers)
