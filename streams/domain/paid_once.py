"""That a payer pays once: whether what is about to be sent might take money that may be taken already.

Called by `admission` (may a payment begin?), by `attempts` and `doubt` (may a call be made, or made again?), and by
`settlement` (may a refusal end the operation?). A gateway can contradict itself: refuse a call, or know nothing of
it, and say later that it did it. Nobody can tell then which word is true: the engine stops, and a person decides.
"""

from collections.abc import Sequence
from typing import Final

from schemas.event_types import Transition
from schemas.records.orders import EventRow, OperationRow, PaymentRow
from schemas.vocabulary import Initiator, OperationState, PaymentStatus, Verdict
from streams.domain.sums import OPEN, OPENING
from streams.domain.turn import Turn

_GONE: Final = frozenset({PaymentStatus.FAILED, PaymentStatus.VOIDED, PaymentStatus.EXPIRED})


def may_take_twice(turn: Turn, operation: OperationRow) -> bool:
    """Return whether one more call of this operation could take money twice, by what its order knows now."""
    if is_contradicted(operation):
        return True
    return operation.kind in OPENING and another_stands(turn, operation)


def another_stands(turn: Turn, operation: OperationRow) -> bool:
    """Return whether the order has, or may have, a payment beside the one that this operation opens.

    One that failed, was voided or ran out stands in nobody's way, unless something of it is open still or a person has
    to look at it.
    """
    others = [each for each in turn.operations.values() if each.op_id != operation.op_id]
    if any(each.kind in OPENING and is_contradicted(each) for each in others):
        return True  # a refused one has no payment that would tell
    return any(stands(turn, each) for each in turn.payments if each.payment_id != operation.payment_id)


def is_contradicted(operation: OperationRow) -> bool:
    """Return whether a gateway says that it carried out an attempt which was refused, given up or never ours to make.

    The row tells it by its reviews: one that is not merely the end of a doubt that nobody could settle.
    """
    reviews = [each for each in _since_decided(operation) if each.transition == Transition.REVIEWED]
    return len(reviews) > 1 or any(each.state is not OperationState.MANUAL_REVIEW for each in reviews)


def _since_decided(operation: OperationRow) -> Sequence[EventRow]:
    """Return the facts since a person last judged the operation: what was contradicted before is settled by that."""
    for number in range(len(operation.events), 0, -1):
        decision = operation.events[number - 1].decision
        if decision is not None and decision.refusal is None and decision.verdict is not Verdict.NOTE:
            return operation.events[number:]
    return operation.events


def stands(turn: Turn, payment: PaymentRow) -> bool:
    """Return whether the payment holds or has taken money, may do so yet, or waits for a person."""
    if payment.review or turn.books_of(payment).status not in _GONE:
        return True
    return any(
        each.payment_id == payment.payment_id and (each.state in OPEN or _is_to_be_let_go(each))
        for each in turn.operations.values()
    )


def _is_to_be_let_go(operation: OperationRow) -> bool:
    return operation.initiator is Initiator.ENGINE and operation.state is OperationState.QUEUED
