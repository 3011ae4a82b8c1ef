"""What a person decides about an operation that no gateway settles: the word of the desk.

Called by `order` with each decision. A decision is known by its id: the second time it says again what it said first.

A verdict about money is a word of the operation's (`words`): from then on it counts for so much. It is dated by the
log, and never before what was heard until then, since whoever decides knows that. So a word of the gateway that is
dated later beats it, and one that is dated earlier changes nothing; where that one contradicts the verdict, a person is
asked again (`outcomes`). Of what still waited for its gateway, that one is asked once more, so that it can: a person
may be wrong, and a gateway whose answer nobody understood tells no more by itself.

What is settled stays so, but for a part of it that was taken back, and but for what may have been taken away twice: at
a gateway that does not say which dispute a reversal carries out, a person says how much is left.

A decision that the order does not take is a fact too, and stands in the operation's life: else a replay might take it.
"""

from typing import Final, assert_never

from schemas.event_types import Transition
from schemas.identifiers import OpId
from schemas.quick_init import replace
from schemas.records.decisions import DecisionMade, DecisionView
from schemas.records.orders import OperationRow, OrderRow, WordRow
from schemas.records.payments import OperationReplied, ReplyTo
from schemas.vocabulary import CallKind, DecisionRefusal, Initiator, OperationKind, OperationState, Outcome, Verdict
from streams.domain import admission, doubt, later_words, outcomes, paid_once, settlement, words
from streams.domain.apart import Apart, Load, nothing_apart
from streams.domain.inputs import DecisionReceived
from streams.domain.limits import MAX_DECISIONS
from streams.domain.outputs import Reply
from streams.domain.sums import UNSETTLED
from streams.domain.turn import Turn

_SETTLING: Final = frozenset({Verdict.SUCCEEDED, Verdict.NOT_EXECUTED})
_BEFORE_ITS_TURN: Final = frozenset({OperationState.QUEUED, OperationState.CLAIMING})
_UNRECORDED: Final = frozenset(
    {
        DecisionRefusal.PAYMENT_UNKNOWN,
        DecisionRefusal.OPERATION_UNKNOWN,
        DecisionRefusal.ID_REUSED,
        DecisionRefusal.TOO_MANY_DECISIONS,
    }
)
"""Refusals that follow from what never changes again, so that a replay comes to the same without a record of them."""


def hear_decision(turn: Turn, received: DecisionReceived) -> OpId | None:
    """Apply a person's decision, or refuse it, and answer who waits; return the operation, None if it is not known."""
    decision = received.decision
    operation = turn.find(decision.op_id)
    told = _as_it_was_told(turn, decision)
    if told is None:
        refusal = _refusal_of(turn, operation, decision)
        told = view_of(decision, refusal)
        if operation is not None and refusal not in _UNRECORDED and operation.state not in _BEFORE_ITS_TURN:
            _record(turn, operation, told)
    if received.reply_to is not None:
        turn.say(Reply(to=received.reply_to, reply=_reply(turn, received.reply_to, decision, told)))
    return None if operation is None else operation.op_id


def knows(row: OrderRow | None, decision: DecisionMade, load: Load = nothing_apart) -> bool:
    """Return whether the order has the operation, and has begun with it: else nothing can be decided about it."""
    apart = Apart(row, load).by_op(decision.op_id)
    operations = () if row is None else row.operations if apart is None else (*row.operations, apart)
    return any(
        each.op_id == decision.op_id and each.payment_id == decision.payment_id and each.state not in _BEFORE_ITS_TURN
        for each in operations
    )


def view_of(decision: DecisionMade, refusal: DecisionRefusal | None) -> DecisionView:
    """Return the decision as facts and answers show it."""
    return DecisionView(
        decision_id=decision.decision_id,
        verdict=decision.verdict,
        amount_minor=decision.amount_minor,
        why=decision.why,
        decided_by=decision.decided_by,
        approved_by=decision.approved_by,
        decided_at_ms=decision.decided_at_ms,
        refusal=refusal,
    )


def _as_it_was_told(turn: Turn, decision: DecisionMade) -> DecisionView | None:
    """Return what was made of the decision of this id; None: the order has heard none of it.

    The same wish asked for again is another record, made at another time, and perhaps approved by another person.
    """
    told = {
        op_id: event.decision
        for op_id, operation in turn.operations.items()
        for event in operation.events
        if event.decision is not None and event.decision.decision_id == decision.decision_id
    }
    if not told:
        return None
    known = told.get(decision.op_id)
    if known is not None and (known.verdict, known.amount_minor) == (decision.verdict, decision.amount_minor):
        return known
    return view_of(decision, DecisionRefusal.ID_REUSED)


def _refusal_of(turn: Turn, operation: OperationRow | None, decision: DecisionMade) -> DecisionRefusal | None:
    if operation is None or operation.payment_id != decision.payment_id:
        known = {each.payment_id for each in turn.operations.values()} | {each.payment_id for each in turn.subtotals}
        return DecisionRefusal.OPERATION_UNKNOWN if decision.payment_id in known else DecisionRefusal.PAYMENT_UNKNOWN
    told = (event.decision for each in turn.operations.values() for event in each.events)
    if len({each.decision_id for each in told if each is not None}) >= MAX_DECISIONS:
        return DecisionRefusal.TOO_MANY_DECISIONS
    begun = operation.state not in _BEFORE_ITS_TURN
    return _refusal_by_state(turn, operation, decision) if begun else DecisionRefusal.UNDER_WAY


def _refusal_by_state(turn: Turn, operation: OperationRow, decision: DecisionMade) -> DecisionRefusal | None:
    match decision.verdict:
        case Verdict.NOTE:
            return None
        case Verdict.CLOSE_REVIEW:
            return None if _is_reviewed(turn, operation) else DecisionRefusal.NO_REVIEW
        case Verdict.TAKEN_BACK:
            return _refusal_to_take_back(operation, decision.amount_minor)
        case Verdict.SUCCEEDED | Verdict.NOT_EXECUTED:
            if decision.verdict is Verdict.SUCCEEDED and _may_be_raised(turn, operation):
                return _refusal_to_raise(operation, decision.amount_minor)
            return _refusal_to_settle(operation, decision.amount_minor)
        case _:
            assert_never(decision.verdict)


def _refusal_to_settle(operation: OperationRow, amount_minor: int | None) -> DecisionRefusal | None:
    if operation.state is OperationState.DISPATCHED:
        return DecisionRefusal.UNDER_WAY
    if operation.state not in UNSETTLED:
        return DecisionRefusal.NOT_OPEN
    within = amount_minor is None or 0 < amount_minor <= operation.amount_minor
    return None if within else DecisionRefusal.AMOUNT_OUT_OF_RANGE


def _may_be_raised(turn: Turn, operation: OperationRow) -> bool:
    """Return whether the operation may count for too little: the same money may have been taken away twice."""
    settled = operation.state in {OperationState.SUCCEEDED, OperationState.REVERSED}
    return settled and later_words.may_be_taken_twice(turn, operation, operation.words)


def _refusal_to_raise(operation: OperationRow, amount_minor: int | None) -> DecisionRefusal | None:
    counts_minor = operation.amount_minor if amount_minor is None else amount_minor
    within = operation.counted_minor < counts_minor <= operation.amount_minor
    return None if within else DecisionRefusal.AMOUNT_OUT_OF_RANGE


def _refusal_to_take_back(operation: OperationRow, amount_minor: int | None) -> DecisionRefusal | None:
    if operation.state is not OperationState.SUCCEEDED or operation.counted_minor == 0:
        return DecisionRefusal.NOTHING_TO_TAKE_BACK
    within = amount_minor is None or 0 < amount_minor <= operation.counted_minor
    return None if within else DecisionRefusal.AMOUNT_OUT_OF_RANGE


def _record(turn: Turn, operation: OperationRow, told: DecisionView) -> None:
    """Carry out what was decided, or keep that it was refused; each fact that it makes of the operation names it."""
    turn.told_decision = told
    if told.refusal is not None:
        turn.publish(operation, Transition.DECISION_REFUSED)
    else:
        _carry_out(turn, operation, told)
    turn.told_decision = None
    admission.resume(turn)


def _carry_out(turn: Turn, operation: OperationRow, told: DecisionView) -> None:
    if told.verdict in _SETTLING:
        operation = doubt.ask_behind_a_person(turn, operation)
    match told.verdict:
        case Verdict.NOTE:
            turn.publish(operation, Transition.NOTED)
        case Verdict.CLOSE_REVIEW:
            _close_review(turn, operation)
        case Verdict.SUCCEEDED:
            amount_minor = operation.amount_minor if told.amount_minor is None else told.amount_minor
            if operation.kind is OperationKind.VOID:
                outcomes.end_what_waited(turn, operation)
            settled = operation.state in {OperationState.SUCCEEDED, OperationState.REVERSED}
            transition = Transition.RESTORED if settled else Transition.SUCCEEDED
            _count(turn, operation, amount_minor, OperationState.SUCCEEDED, transition)
        case Verdict.NOT_EXECUTED:
            if operation.initiator is Initiator.ENGINE:  # what was approved in part is still held
                turn.ask_review(turn.payment_of(operation))
            _count(turn, operation, 0, OperationState.NOT_EXECUTED, Transition.FAILED)
        case Verdict.TAKEN_BACK:
            taken_minor = operation.counted_minor if told.amount_minor is None else told.amount_minor
            left_minor = operation.counted_minor - taken_minor
            state = OperationState.SUCCEEDED if left_minor else OperationState.REVERSED
            _count(turn, operation, left_minor, state, Transition.REVERSED)
        case _:
            assert_never(told.verdict)


def _is_reviewed(turn: Turn, operation: OperationRow) -> bool:
    payment = turn.payment(operation.payment_id)
    return (payment is not None and payment.review) or paid_once.is_contradicted(operation)


def _close_review(turn: Turn, operation: OperationRow) -> None:
    """Close what a person was asked about the payment, by whichever of its operations."""
    payment = turn.payment(operation.payment_id)
    if payment is not None:
        turn.put_payment(replace(payment, review=False, updated_at_ms=turn.now_ms))
    for each in tuple(turn.operations.values()):
        same = payment is not None and each.payment_id == payment.payment_id
        if each.op_id == operation.op_id or (same and paid_once.is_contradicted(each)):
            turn.publish(each, Transition.DECIDED)


def _count(
    turn: Turn, operation: OperationRow, counts_minor: int, state: OperationState, transition: Transition
) -> None:
    """Let the operation count for so much from now on, whatever was said before."""
    heard_ms = max((each.occurred_at_ms + 1 for each in operation.words), default=0)
    word = WordRow(
        outcome=Outcome.SUCCEEDED,
        amount_minor=counts_minor,
        case=None,
        occurred_at_ms=max(turn.now_ms, heard_ms),
        by_desk=True,
    )
    said = words.with_word(operation.words, word)
    operation = replace(operation, words=said, counted_minor=words.counted(said), action_url=None)
    later_words.ask_review_of_deficit(turn, replace(operation, state=state))
    settled = settlement.settle(turn, operation, state, transition, None)
    if operation.call_kind is CallKind.INQUIRE:  # it is still owed: a crash must not lose the look behind a person
        turn.put(replace(settled, call_kind=CallKind.INQUIRE))
    later_words.touch_payment(turn, operation)


def _reply(turn: Turn, to: ReplyTo, decision: DecisionMade, told: DecisionView) -> OperationReplied:
    operation = turn.operations.get(decision.op_id)
    return turn.reply_about(operation, to, final=True, replayed=False, decision=told)
