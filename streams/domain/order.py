"""The order state machine: one order, one input at a time.

`decide` is called by the orders agent for every record of an order, in the order of each topic; it calls the other
modules of this package by the kind of input. What it decides depends on the row and the input alone.

What a duplicate does. A command whose operation is known joins it: it waits too, or is answered at once; and what
nobody has answered for long is said again. A verdict, result or timer that the row has already taken changes nothing
and says nothing, unless it may be a replay: then all that is owed is said again (`outbox`). A verdict, result or notice
about an operation that is unknown, or still queued, is ignored: the command's own replay drives it. A notice of what
was made at the gateway's own desk is about no operation of ours: it makes one, or waits until it is clear whose it is.

Confluence. How the inputs of different topics interleave does not matter: the same commands in the same order, and for
each operation the same verdict, results and timers, end in the same row and the same events. It holds but for

* what only tells of the way: `version`, `sequence`, times, timer and waiter bookkeeping, and what an event shows of the
  payment beside its operation;
* `late_word`: a notice or an inquiry's result about an operation that had let the order go on (pending, in doubt, or a
  success taken back), or about what was made at the gateway's own desk, against the admission of a newer operation.
  Whichever comes first decides whether the newer one is let through, whether another attempt or payment is made, and
  whether a pending state was ever seen. Safe either way, since open amounts stay reserved, and since a success of what
  this row refused or gave up is never silent but asks for a review;
* `order_end`: the sweep's end of a settled order against a new command, which then finds an empty order.
"""

from typing import assert_never

from gateway_adapters.contract import GatewayNotice
from schemas.event_types import Transition
from schemas.identifiers import AccountName, OpId, OrderId, OriginId
from schemas.quick_init import replace
from schemas.records.claims import ClaimDecided
from schemas.records.commands import kind_of, op_id_of
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.payments import ReplyTo
from schemas.records.timers import TimerFired
from schemas.vocabulary import Initiator, OperationKind, OperationState, Rejection, TimerKind
from streams.domain import (
    admission,
    attempts,
    completion,
    desk,
    doubt,
    leaving,
    notices,
    operations,
    outbox,
    outcomes,
    room,
    settlement,
    words,
)
from streams.domain.apart import Load, nothing_apart
from streams.domain.errors import InvariantViolatedError
from streams.domain.inputs import (
    CommandReceived,
    DecisionReceived,
    NoticeReceived,
    OrderInput,
    ResultReceived,
    TimerReceived,
    VerdictReceived,
)
from streams.domain.limits import DEFAULT_RULES, MAX_ROW_WAITERS, MAX_WAITERS, WAITERS_KEPT_MS, Rules
from streams.domain.outputs import ClearTimer
from streams.domain.sums import OPEN, OPENING, UNANSWERED, Books
from streams.domain.turn import Decision, PlanFor, Turn
from streams.domain.words import Evidence

__all__ = ["Decision", "decide", "longest_owed", "order_ends_at_ms"]

_LEAVING = {TimerKind.COPY_APART: leaving.copy, TimerKind.DROP_COPIED: leaving.drop}
_ENDING = frozenset({TimerKind.EXPIRE_ROW, TimerKind.FORGET_APART})
_BEFORE_ITS_TURN = frozenset({OperationState.QUEUED, OperationState.CLAIMING})


def decide(
    row: OrderRow | None,
    event: OrderInput,
    plan_for: PlanFor,
    rules: Rules = DEFAULT_RULES,
    load: Load = nothing_apart,
) -> Decision:
    """Return the order's row after this input, and what is to be said once that row is durable.

    Calling it again with the row it returned and the same input, marked as a possible replay, says again what is owed.

    Args:
        row: The order as it is kept; None when it is unknown.
        event: What has happened.
        plan_for: The routing policy as it is now; asked once for an operation: of a payment when its command comes,
            which alone tells of its tokens and its payer, of what follows when its claim is first sent.
        rules: What the deployment sets.
        load: What stands beside the row. Asked only of an order whose operations have partly left the row.

    Raises:
        InvariantViolatedError: The input is about another order, or the row contradicts itself.
    """
    origin_id, order_id = _order_of(event, row)
    if isinstance(event, TimerReceived) and event.timer.kind in _ENDING:
        return _end(row, event, rules, load)
    turn = Turn(
        row, origin_id=origin_id, order_id=order_id, now_ms=event.now_ms, plan_for=plan_for, rules=rules, load=load
    )
    op_id = _take(turn, event)
    if notices.claim_or_record(turn):
        admission.resume(turn)
    _start_next(turn)
    if event.possible_replay and (op_id is not None or isinstance(event, CommandReceived)):
        outbox.say_again(turn, op_id)
    decision = turn.decision()
    return leaving.ask_to_copy(row, decision, rules, now_ms=event.now_ms, possible_replay=event.possible_replay)


def _end(row: OrderRow | None, event: TimerReceived, rules: Rules, load: Load) -> Decision:
    """End the order if its time is over; or, once it has ended, what stood beside its row."""
    timer = event.timer
    is_over = row is None or row.created_at_ms != timer.life_ms
    if timer.kind is TimerKind.FORGET_APART:
        return Decision(row=row, outputs=tuple(leaving.forget(timer, load)) if is_over else ())
    if row is not None and event.now_ms >= (order_ends_at_ms(row, rules) or event.now_ms + 1):
        return Decision(row=None, outputs=leaving.ask_to_forget(row, timer, rules))
    # Of a life that is over this is a copy: what it asked for may be lost.
    return Decision(row=row, outputs=leaving.ask_to_forget(None, timer, rules) if is_over else ())


def order_ends_at_ms(row: OrderRow, rules: Rules = DEFAULT_RULES) -> int | None:
    """Return from when on the sweep may end this order (by a timer of `expire_row`); None while anything is open."""
    if any(each.state in OPEN or each.state in UNANSWERED for each in row.operations):
        return None
    # What was captured can be refunded or charged back, and a review is somebody's to close.
    books = [Books.of(each.payment_id, row.operations, row.subtotals) for each in row.payments]
    has_money = any(each.captured > 0 for each in books) or any(each.review for each in row.payments)
    life_ms = max(rules.order_life_ms, rules.paid_life_ms) if has_money else rules.order_life_ms
    return row.updated_at_ms + life_ms


def longest_owed(row: OrderRow) -> tuple[OpId, int] | None:
    """Return the operation that has waited longest for a verdict or a result, and since when; None when none waits.

    The sweep asks about it once that is longer than `drive_again_ms` (by a timer of `drive_again`).
    """
    waiting = [(outbox.owed_since_ms(each), each.op_id) for each in row.operations]
    owed = [(since_ms, op_id) for since_ms, op_id in waiting if since_ms is not None]
    if not owed:
        return None
    since_ms, op_id = min(owed)
    return op_id, since_ms


def _order_of(event: OrderInput, row: OrderRow | None) -> tuple[OriginId, OrderId]:
    match event:
        case CommandReceived():
            named = event.command.origin_id, event.command.order_id
        case VerdictReceived():
            named = event.verdict.origin_id, event.verdict.order_id
        case ResultReceived():
            named = event.result.origin_id, event.result.order_id
        case TimerReceived():
            named = event.timer.origin_id, event.timer.order_id
        case DecisionReceived():
            named = event.decision.origin_id, event.decision.order_id
        case NoticeReceived():
            if event.notice.origin_id is None or event.notice.order_id is None:
                raise InvariantViolatedError("a notice that names no order came to an order")
            named = event.notice.origin_id, event.notice.order_id
        case _:
            assert_never(event)
    if row is not None and named != (row.origin_id, row.order_id):
        raise InvariantViolatedError("an input came to the row of another order")
    return named


def _take(turn: Turn, event: OrderInput) -> OpId | None:
    """Apply the input; return the operation it is about, or None when the order does not know it."""
    match event:
        case CommandReceived():
            return _command(turn, event)
        case VerdictReceived():
            return _verdict(turn, event.verdict)
        case ResultReceived():
            operation = turn.find(event.result.op_id)
            return _evidence(turn, operation, words.of_result(event.result))
        case NoticeReceived():
            return _notice(turn, event.notice, event.account)
        case TimerReceived():
            return _woken(turn, event.timer)
        case DecisionReceived():
            return desk.hear_decision(turn, event)
        case _:
            assert_never(event)


def _command(turn: Turn, received: CommandReceived) -> OpId:
    op_id = op_id_of(received.command)
    known = turn.find(op_id)
    if known is not None:
        if received.reply_to is not None:
            _join(turn, known, received.reply_to)
        outbox.drive_again(turn, op_id)
        return op_id
    if room.is_full(turn.operations.values(), turn.subtotals):
        _refuse_unrecorded(turn, operations.open_operation(received, op_id, None, number=turn.next_number))
        return op_id
    opens = kind_of(received.command) in OPENING
    plan = turn.plan_for(received.command) if opens else None
    operation = turn.put(operations.open_operation(received, op_id, plan, number=turn.next_number))
    _forget_waiters(turn)
    if operations.key_is_taken(turn, operation):
        settlement.conflict(turn, operation)
    else:
        turn.queue.append(op_id)
    return op_id


def _join(turn: Turn, operation: OperationRow, to: ReplyTo) -> None:
    """Let one more request wait for the operation, or answer it if there is nothing to wait for (any more).

    A request beyond `MAX_WAITERS` or `MAX_ROW_WAITERS` is answered with how things stand, as one that need not wait.
    """
    if operation.state not in UNANSWERED:
        turn.answer(operation, to, final=True)
        return
    if to in operation.waiters:
        return  # the same command, delivered again
    remembered = sum(len(each.waiters) for each in turn.operations.values())
    if len(operation.waiters) >= MAX_WAITERS or remembered >= MAX_ROW_WAITERS:
        turn.answer(operation, to, final=True)
        return
    operation = turn.put(replace(operation, waiters=(*operation.waiters, to)))
    if operation.events:
        turn.answer(operation, to, final=False)


def _forget_waiters(turn: Turn) -> None:
    oldest_ms = turn.now_ms - WAITERS_KEPT_MS
    for each in tuple(turn.operations.values()):
        if each.waiters and each.updated_at_ms < oldest_ms and each.state not in UNANSWERED:
            turn.put(replace(each, waiters=()))


def _refuse_unrecorded(turn: Turn, operation: OperationRow) -> None:
    """Refuse a command that the full row cannot keep: each delivery says the same again, its fact takes no sequence."""
    operation = replace(operation, state=OperationState.REJECTED, rejection=Rejection.TOO_MANY_OPERATIONS)
    turn.say_unrecorded(operation, Transition.REJECTED)
    turn.answer_all(operation)


def _verdict(turn: Turn, verdict: ClaimDecided) -> OpId | None:
    operation = turn.find(verdict.op_id)
    if operation is None:
        return None
    if operation.state is OperationState.CLAIMING:
        if verdict.granted:
            admission.admit(turn, operation, verdict.plan)
        else:
            settlement.conflict(turn, operation)
    return operation.op_id


def _evidence(turn: Turn, operation: OperationRow | None, said: Evidence) -> OpId | None:
    if operation is None:
        return None
    if operation.state not in _BEFORE_ITS_TURN:
        if operation.kind is OperationKind.COMPLETE:
            completion.judge_completion(turn, operation, said)
        else:
            outcomes.judge(turn, operation, said)
        admission.resume(turn)
    return operation.op_id


def _notice(turn: Turn, notice: GatewayNotice, account: AccountName) -> OpId | None:
    operation = notices.find_operation(turn, notice, account)
    if operation is None:
        return notices.record(turn, notice, account)
    said = words.of_notice(notice, account)
    payment = turn.payment(operation.payment_id)
    if payment is not None and said.gateway_reference == payment.gateway_reference:
        said = replace(
            said, gateway_reference=operation.gateway_reference
        )  # it names the payment, none of its captures
    return _evidence(turn, operation, said)


def _woken(turn: Turn, timer: TimerFired) -> OpId | None:
    step = _LEAVING.get(timer.kind)
    if step is None:
        return _timer(turn, timer)
    step(turn, timer)
    return None


def _timer(turn: Turn, timer: TimerFired) -> OpId | None:
    operation = None if timer.op_id is None else turn.find(timer.op_id)
    if timer.kind is TimerKind.DRIVE_AGAIN:  # the sweep's, and of no table: there is nothing to clear
        if operation is None:
            return None
        outbox.drive_again(turn, operation.op_id)
        return operation.op_id
    if operation is None:
        turn.say(ClearTimer(origin_id=turn.origin_id, order_id=turn.order_id, op_id=timer.op_id))
        return None
    if operation.timer_due_at_ms is not None and timer.number == operation.timer_number:
        if turn.now_ms < operation.timer_due_at_ms:
            return None  # by a clock that is ahead of the log's; whoever keeps the time fires it again
        if operation.state is OperationState.DISPATCHED:
            attempts.attempt_after_pause(turn, operation)
        else:
            doubt.look_by_plan(turn, operation)
    # One that means nothing any more is cleared, or replaced by the one that does: else it would fire for ever.
    turn.say_timer(turn.operations[operation.op_id])
    return operation.op_id


def _start_next(turn: Turn) -> None:
    """Claim the key of the order's next operation if none is active; one of the engine's own has none to claim."""
    while (operation := turn.take_next()) is not None:  # bounded by the queue: each takes one from it
        if operation.initiator is Initiator.ENGINE:
            admission.dispatch_unasked(turn, operation)
        else:
            plan = operation.plan or turn.plan_for(operations.command_of(turn, operation))
            admission.ask_for_key(turn, turn.put(replace(operation, plan=plan)))
