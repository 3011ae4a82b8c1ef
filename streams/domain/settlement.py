"""The end of an operation's way, or a rest on it: its state, its event, its answers, and the order's next operation.

Called by admission (refusals) and by outcomes, attempts and doubt (what the gateway made of it).
"""

from typing import Final

from schemas.event_types import Transition
from schemas.quick_init import replace
from schemas.records.claims import RoutePlan
from schemas.records.gateway import OperationError
from schemas.records.orders import OperationRow
from schemas.vocabulary import DeclineClass, Initiator, OperationKind, OperationState, Rejection, RetryAdvice
from streams.domain import abilities, paid_once
from streams.domain.sums import UNANSWERED, UNSETTLED
from streams.domain.transitions import require_move
from streams.domain.turn import Turn
from streams.domain.words import are_decided

CANCELLED: Final = OperationError(
    code="cancelled",
    decline_class=None,
    gateway_code=None,
    message="The merchant cancelled the payment before its payer had acted.",
    advice=None,
    retry=RetryAdvice.NEW_KEY_LATER,
    retry_after_ms=None,
)
ACTION_EXPIRED: Final = replace(
    CANCELLED, code="action_expired", message="The payer did not act in time; nothing was taken."
)

PARTIALLY_APPROVED: Final = OperationError(
    code="partially_approved",
    decline_class=DeclineClass.SOFT,
    gateway_code=None,
    message="Only a part of the amount was approved, which the payment does not allow; it was let go.",
    advice=None,
    retry=RetryAdvice.AFTER_FIX,
    retry_after_ms=None,
)


def settle(
    turn: Turn, operation: OperationRow, state: OperationState, transition: Transition, error: OperationError | None
) -> OperationRow:
    """End the operation in this state: nothing more is owed, no token is kept. The sums must be right before."""
    settled = replace(
        turn.clear_timer(operation),
        token=None,
        command_offset=None,
        call_kind=None,
        error=error,
        state=state,
        plan=_kept_plan(operation, state),
        updated_at_ms=turn.now_ms,
    )
    return _tell(turn, settled, transition)


def refuse_there(
    turn: Turn,
    operation: OperationRow,
    state: OperationState,
    error: OperationError | None,
    *,
    names_payment: bool = False,
) -> OperationRow:
    """End the operation as declined or not executed, by a gateway's word; return it. `names_payment`: the word does.

    Not one of which a gateway says that it carried out another attempt: that one's word stands against this one's, so a
    person decides, and meanwhile the operation holds its amount. Who asked may not be told to try again.
    """
    if operation.kind is OperationKind.VOID:
        _end_unnamed(turn, operation, is_there=names_payment or state is OperationState.NOT_EXECUTED)
    if operation.initiator is Initiator.ENGINE and is_part_let_go(opening_of(turn, operation)):
        turn.ask_review(turn.payment_of(operation))  # what was approved in part is still held
    if not paid_once.is_contradicted(operation):
        transition = Transition.DECLINED if state is OperationState.DECLINED else Transition.FAILED
        return settle(turn, operation, state, transition, error)
    if operation.state is OperationState.MANUAL_REVIEW:
        return operation
    return settle(turn, operation, OperationState.MANUAL_REVIEW, Transition.REVIEWED, error)


def move(turn: Turn, operation: OperationRow, state: OperationState, transition: Transition) -> OperationRow:
    """Bring the operation into this state: publish it, answer who still waits, let the order go on; return it."""
    plan = _kept_plan(operation, state)
    return _tell(turn, replace(operation, state=state, plan=plan, updated_at_ms=turn.now_ms), transition)


def _kept_plan(operation: OperationRow, state: OperationState) -> RoutePlan | None:
    """Return the operation's plan as long as it is for something: for attempts, and how long a payer may take."""
    return operation.plan if state in UNSETTLED else None


def _tell(turn: Turn, operation: OperationRow, transition: Transition) -> OperationRow:
    before = turn.operations[operation.op_id].state
    require_move(before, operation.state, decided=are_decided(operation.words))
    operation = turn.publish(turn.put(operation), transition)
    if before in UNANSWERED:
        turn.answer_all(operation)
    turn.release(operation)
    return operation


def opening_of(turn: Turn, operation: OperationRow) -> OperationRow:
    """Return the operation that opened the payment of this one."""
    return turn.operations[turn.payment_of(operation).op_id]


def is_part_let_go(opening: OperationRow) -> bool:
    """Return whether a gateway approved a part of this payment, which is let go, or was."""
    return opening.error is not None and opening.error.code == PARTIALLY_APPROVED.code


def _end_unnamed(turn: Turn, void: OperationRow, *, is_there: bool) -> None:
    """End what waits for its payer although its gateway has not voided it, which it never named: nobody can look.

    Who acts all the same is heard of. `is_there`: the gateway knows of a payment, or has not looked: a person is asked.
    """
    opening, payment = opening_of(turn, void), turn.payment_of(void)
    if opening.state is not OperationState.REQUIRES_ACTION or payment.gateway_reference is not None:
        return
    if is_there:
        turn.ask_review(payment)
    end_unacted(turn, opening, ended_by(void))


def ended_by(void: OperationRow) -> OperationError:
    """Return why a payment ends that waited for its payer and was voided."""
    return ACTION_EXPIRED if void.initiator is Initiator.ENGINE else CANCELLED


def is_held_late(turn: Turn, opening: OperationRow) -> bool:
    """Return whether the payer of this payment has agreed to it after the engine had ended the wait on its own.

    So only where the gateway had named nothing that could be voided for certain. Elsewhere it contradicts its own word,
    and a person alone decides.
    """
    if opening.state is not OperationState.NOT_EXECUTED or opening.error is None:
        return False
    unacted = opening.error.code in {ACTION_EXPIRED.code, CANCELLED.code} and paid_once.is_contradicted(opening)
    return unacted and abilities.voids_unnamed(turn, turn.payment_of(opening))


def end_unacted(turn: Turn, opening: OperationRow, error: OperationError) -> OperationRow:
    """End a payment that waits for its payer: nothing was taken. Returns the operation."""
    opening = replace(opening, action_url=None)
    return settle(turn, opening, OperationState.NOT_EXECUTED, Transition.FAILED, error)


def reject(turn: Turn, operation: OperationRow, rejection: Rejection) -> OperationRow:
    """Refuse the operation by the order's own rules; nothing was sent. Returns the operation."""
    return settle(turn, replace(operation, rejection=rejection), OperationState.REJECTED, Transition.REJECTED, None)


def conflict(turn: Turn, operation: OperationRow) -> OperationRow:
    """Refuse the operation because its idempotency key stands for another one. Returns the operation."""
    operation = replace(operation, rejection=Rejection.IDEMPOTENCY_KEY_REUSED)
    return settle(turn, operation, OperationState.CONFLICT, Transition.REJECTED, None)
