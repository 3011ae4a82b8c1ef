"""What an operation still owes, said again: after a crash, or because nobody has answered it for long.

Called by `order` for every input that may be a replay (the re-drive rule of DESIGN.md). The row is the outbox: what is
owed follows from it. Claims, calls, timers and events come out exactly as they were said first; answers tell how things
stand now.

Called, too, when the sweep or a client's retry asks about what has waited for long. A claim or a call, or the answer to
it, may have died on its way: as a dead letter, or by retention. Nothing else would ever move its order on.

Whatever an input made is owed by one of these: the operation it is about; the order's active operation (the input may
have let it start); what one of them waits for; those that waited for the operation it is about; and what became a fact
with it: what a void or the payer's next step made of the payment, what was made at the gateway's own desk, the same
decision of a person.
"""

from typing import Final

from schemas.identifiers import OpId
from schemas.records.orders import OperationRow
from schemas.vocabulary import Initiator, OperationKind, OperationState
from streams.domain import admission, attempts
from streams.domain.outputs import CallGateway
from streams.domain.sums import OPENING
from streams.domain.turn import Turn

_MOVING_ITS_PAYMENT: Final = frozenset({OperationKind.VOID, OperationKind.COMPLETE})
"""Their results are words about what opened the payment as well."""


def say_again(turn: Turn, op_id: OpId | None) -> None:
    """Say all that is owed by the operation and by those connected with it; what was just said is not repeated."""
    said = list(turn.outputs)
    called = {output.request.op_id for output in said if isinstance(output, CallGateway)}
    turn.outputs.clear()
    for each in _connected(turn, op_id):
        _say_owed(turn, turn.operations[each], newly_called=each in called)
    said.extend(output for output in turn.outputs if output not in said)
    turn.outputs[:] = said


def drive_again(turn: Turn, op_id: OpId) -> None:
    """Say claims and calls again that nobody has answered for `drive_again_ms`: the operation's, and those before it.

    A call is marked as a copy: the executor makes it only when no answer is on the log. Twice is safe.
    """
    for each in _connected(turn, op_id):
        operation = turn.operations[each]
        since_ms = owed_since_ms(operation)
        if since_ms is not None and turn.now_ms - since_ms >= turn.rules.drive_again_ms:
            if operation.state is OperationState.CLAIMING:
                admission.ask_for_key(turn, operation)
            else:
                attempts.say_call(turn, operation, repeated=True)


def owed_since_ms(operation: OperationRow) -> int | None:
    """Return since when the operation waits for a verdict or a result; None when it waits for neither."""
    if operation.state is OperationState.CLAIMING:
        return operation.updated_at_ms
    return None if operation.call_kind is None else operation.called_at_ms


def _connected(turn: Turn, op_id: OpId | None) -> list[OpId]:
    roots = [each for each in (op_id, turn.active_op_id) if each in turn.operations]
    connected = list(roots)
    for root in roots:
        operation = turn.operations[root]
        if operation.doubted_op_id is not None:
            connected.append(operation.doubted_op_id)
        connected.extend(each.op_id for each in turn.operations.values() if _came_of(each, operation))
    return list(dict.fromkeys(connected))


def _came_of(other: OperationRow, operation: OperationRow) -> bool:
    """Return whether an input about the operation may have made a fact of the other one, of whose own it was none."""
    if other.doubted_op_id == operation.op_id:
        return True
    if other.payment_id != operation.payment_id:
        return False
    ended_with_it = operation.kind in _MOVING_ITS_PAYMENT and other.kind in OPENING
    decided = {event.decision.decision_id for event in operation.events if event.decision is not None}
    with_it = any(event.decision is not None and event.decision.decision_id in decided for event in other.events)
    return ended_with_it or with_it or other.initiator is Initiator.GATEWAY


def _say_owed(turn: Turn, operation: OperationRow, *, newly_called: bool) -> None:
    if operation.state is OperationState.QUEUED:
        return
    if operation.state is OperationState.CLAIMING:
        admission.ask_for_key(turn, operation)
        return
    if not newly_called:
        attempts.say_call(turn, operation, repeated=True)
    turn.say_timer(operation)
    for event in operation.events:
        turn.say(turn.publication(operation, event))
    if operation.events:  # else it waits for another one's inquiry, and nobody was told anything yet
        turn.answer_all(operation)
