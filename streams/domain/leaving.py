"""How settled operations leave an order's row for rows of their own, and what becomes of those at the order's end.

Called by `order`. A row is written whole with every input: without this, what an order of many refunds writes would
grow with their square. Three records on the log, each said only once what came before it is durable:

1. The order asks itself to copy some operations (`COPY_APART`): as the row that holds them so is durable.
2. It writes each into a row of its own, with its names, and asks itself to drop them (`DROP_COPIED`).
3. It drops from its row what stands in a row of its own as it is now. The subtotals take its place.

A crash between any of these harms nothing: while the order's row has an operation, the order's row is the truth. An
owner that was frozen harms nothing either. It can copy only what somebody asked for, by its content: somebody whose
lease held when a row with that content was durable. So whoever dropped it later has dropped that, or a later content
that was asked for after it.

Who leaves: what no other input's replay has to say again, and no rule asks for but by its sum. So no opening operation,
no capture or void that was sent, nothing that is open, in doubt, reviewed or decided by a person, that others wait for
or that waited for others. The newest stay, since they are asked for most.
"""

from collections.abc import Iterator

from schemas import identifiers
from schemas.event_types import Transition
from schemas.identifiers import Fingerprint, OrderId, OriginId
from schemas.quick_init import replace
from schemas.records.orders import ApartRow, OperationRow, OrderRow
from schemas.records.timers import LeavingOperation, TimerFired
from schemas.vocabulary import Initiator, OperationKind, OperationState, TimerKind
from streams.domain import subtotals
from streams.domain.apart import Load, name_of_number, names_of
from streams.domain.limits import MAX_LEAVING, MAX_OPERATIONS, Rules
from streams.domain.outputs import KeepApart, Output, SayTimer
from streams.domain.sums import OPENING
from streams.domain.turn import Decision, Turn
from streams.domain.words import are_decided

_NEVER_MADE = frozenset({OperationState.REJECTED, OperationState.CONFLICT})
_SETTLED = frozenset(
    {OperationState.SUCCEEDED, OperationState.REVERSED, OperationState.DECLINED, OperationState.NOT_EXECUTED}
)


def ask_to_copy(
    before: OrderRow | None, decision: Decision, rules: Rules, *, now_ms: int, possible_replay: bool
) -> Decision:
    """Return the decision, which asks for some operations to be copied once enough of them may leave.

    Asked once for each batch that there is more: what is asked for already is on its way. A replay asks again.
    """
    row = decision.row
    if row is None or len(row.operations) < rules.kept_operations + rules.leaving_operations:
        return decision
    able = may_leave(row, rules)
    batches = len(able) // rules.leaving_operations
    known = 0 if before is None else len(may_leave(before, rules)) // rules.leaving_operations
    if batches == 0 or (batches <= known and not possible_replay):
        return decision
    leaving = tuple(LeavingOperation(number=each.number, content=content_of(each)) for each in able[:MAX_LEAVING])
    asked = _timer(row.origin_id, row.order_id, TimerKind.COPY_APART, row.created_at_ms, now_ms=now_ms)
    asked = replace(asked, number=row.version, leaving=leaving)
    return replace(decision, outputs=(*decision.outputs, SayTimer(fired=asked)))


def may_leave(row: OrderRow, rules: Rules) -> list[OperationRow]:
    """Return the operations that may leave the row, oldest first."""
    newest = subtotals.operations_of(row) - rules.kept_operations
    waited_for = {each.doubted_op_id for each in row.operations}
    unclear = {each.payment_id for each in row.payments if each.unclaimed}
    return [
        each
        for each in row.operations
        if each.number <= newest
        and _is_settled(each)
        and each.op_id not in waited_for
        and each.payment_id not in unclear
        and not _is_told_with_others(each)
    ]


def _is_settled(operation: OperationRow) -> bool:
    """Return whether nothing is owed by the operation, and it counts for nothing but a refund."""
    if operation.kind in OPENING or operation.call_kind is not None or operation.timer_due_at_ms is not None:
        return False
    if operation.state in _NEVER_MADE:
        return operation.attempt == 0
    # One that counts and has no name at its gateway may be what a notice means that names nothing else.
    known = operation.gateway_reference is not None or not operation.words
    return operation.kind is OperationKind.REFUND and operation.state in _SETTLED and known


def _is_told_with_others(operation: OperationRow) -> bool:
    """Return whether facts about others, or a person's view of the payment, may have to do with the operation."""
    if operation.initiator is not Initiator.MERCHANT or operation.doubted_op_id is not None:
        return True
    facts = operation.events
    reviewed = any(each.decision is not None or each.transition == Transition.REVIEWED for each in facts)
    return reviewed or are_decided(operation.words)


def content_of(operation: OperationRow) -> Fingerprint:
    """Return what tells this operation, as it is now, from what it is at any other time.

    Another version of the code may tell it otherwise: then the operation stays, and is asked to leave once more.
    """
    return identifiers.fingerprint("apart", repr(operation))


def copy(turn: Turn, timer: TimerFired) -> None:
    """Write the operations into rows of their own that are still as they were, and ask for them to be dropped."""
    meant, life_ms = _meant(turn, timer), _life_of(timer)
    leads_to: dict[str, int] = {}
    for operation in meant:
        for name in names_of(operation, life_ms=life_ms):
            leads_to[name] = min(leads_to.get(name, operation.number), _known_number(turn, name, operation))
    for name, number in leads_to.items():
        turn.say(_kept(turn, name, ApartRow(number=number, operation=None)))
    for operation in meant:
        own = ApartRow(number=operation.number, operation=operation)
        turn.say(_kept(turn, name_of_number(operation.number, life_ms=life_ms), own))
    if meant:
        copied = tuple(LeavingOperation(number=each.number, content=content_of(each)) for each in meant)
        turn.say(SayTimer(fired=replace(timer, kind=TimerKind.DROP_COPIED, leaving=copied)))


def _known_number(turn: Turn, name: str, operation: OperationRow) -> int:
    """Return what the name leads to: the first operation that has it, as a look at all of them would find."""
    known = turn.load(name)
    return operation.number if known is None else min(operation.number, known.number)


def drop(turn: Turn, timer: TimerFired) -> None:
    """Let those operations leave the row that stand in rows of their own, as they are now."""
    for operation in _meant(turn, timer):
        own = turn.load(name_of_number(operation.number, life_ms=_life_of(timer)))
        if own is not None and own.operation == operation:
            turn.leave(operation)


def _meant(turn: Turn, timer: TimerFired) -> list[OperationRow]:
    row = turn.row
    if row is None or row.created_at_ms != timer.life_ms:
        return []
    asked = {each.number: each.content for each in timer.leaving}
    able = [each for each in may_leave(row, turn.rules) if each.number in asked]
    return [each for each in able if content_of(each) == asked[each.number]]


def _life_of(timer: TimerFired) -> int:
    return timer.life_ms or 0


def _kept(turn: Turn, name: str, row: ApartRow | None) -> KeepApart:
    return KeepApart(origin_id=turn.origin_id, order_id=turn.order_id, name=name, row=row)


# The end of an order. Its row goes first. Once that is durable, whoever takes the next record finds no such life of the
# order any more, and what stood beside it can go: again and again, if need be.


def ask_to_forget(row: OrderRow | None, timer: TimerFired, rules: Rules) -> tuple[Output, ...]:
    """Return what asks for the rows beside an order to go, which has ended: `row`, or the one that the timer names."""
    life_ms, operations = timer.life_ms, timer.operations or 0
    if row is not None:
        life_ms, operations = row.created_at_ms, subtotals.operations_of(row)
    if life_ms is None or operations <= rules.kept_operations:
        return ()
    asked = _timer(timer.origin_id, timer.order_id, TimerKind.FORGET_APART, life_ms, now_ms=timer.fired_at_ms)
    return (SayTimer(fired=replace(asked, number=timer.number, operations=operations)),)


def forget(timer: TimerFired, load: Load) -> Iterator[Output]:
    """Yield the end of each row that stood beside an order: its names first, since only it tells them."""
    life_ms = _life_of(timer)
    for operation in standing_apart(timer, load):
        own = name_of_number(operation.number, life_ms=life_ms)
        for name in (*names_of(operation, life_ms=life_ms), own):
            yield KeepApart(origin_id=timer.origin_id, order_id=timer.order_id, name=name, row=None)


def standing_apart(timer: TimerFired, load: Load) -> Iterator[OperationRow]:
    """Yield the operations of the life that the timer names which stand in rows of their own, those copied included."""
    for number in range(1, min(timer.operations or 0, MAX_OPERATIONS) + 1):
        own = load(name_of_number(number, life_ms=_life_of(timer)))
        if own is not None and own.operation is not None:
            yield own.operation


def _timer(origin: OriginId, order: OrderId, kind: TimerKind, life_ms: int, *, now_ms: int) -> TimerFired:
    return TimerFired(
        origin_id=origin,
        order_id=order,
        op_id=None,
        kind=kind,
        number=0,
        due_at_ms=now_ms,
        fired_at_ms=now_ms,
        life_ms=life_ms,
    )
