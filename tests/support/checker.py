"""Decides whether a history was right: reads what clients were told, the Mock's own ledger, the events and the rows.

Each check returns sentences, one a violation; an empty list is a pass. `tests/unit/test_checker.py` plants each
violation and sees it caught. `CHECKS` names them; the points are those of `make faults` (see its report).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from schemas.event_types import Transition
from schemas.records.orders import OperationRow
from schemas.records.payments import PaymentEvent
from schemas.vocabulary import Initiator, OperationKind, OperationState, Rejection
from streams.domain.room import is_full
from tests.support.account_checks import effects_are_at_their_accounts
from tests.support.answer_checks import (
    acknowledged_is_on_the_log,
    answers_agree_with_rows,
    every_request_answered,
    one_answer_a_wish,
    reads_show_what_was_told,
)
from tests.support.desk_checks import (
    acknowledged_decisions_are_on_the_log,
    decisions_are_told_once,
    every_ruling_answered,
    later_word_holds,
    quiet_decisions_move_nothing,
)
from tests.support.exhibits import FINAL, Evidence, LedgerEntry, Sums, read_ledger
from tests.support.money_checks import (
    contradictions_are_reviewed,
    effects_are_what_was_asked,
    events_equal_rows,
    ledger_equals_events,
    ledger_equals_rows,
    one_effect_an_operation,
    transition_of,
    voids_release,
)
from tests.support.payer_checks import (
    cancellations_end_the_wait,
    completions_take_nothing,
    nobody_pays_unasked,
    payers_know_where_to_act,
    unwanted_parts_are_let_go,
)

__all__ = ["CHECKS", "FINAL", "MAX_SHOWN", "Evidence", "LedgerEntry", "Sums", "read_ledger", "violations"]

MAX_SHOWN = 20
_ENDS = frozenset({Transition.SUCCEEDED, Transition.DECLINED, Transition.FAILED, Transition.REJECTED})
_LAST_WORDS: Mapping[OperationState, frozenset[Transition]] = {
    OperationState.SUCCEEDED: frozenset({Transition.SUCCEEDED}),
    OperationState.REVERSED: frozenset({Transition.SUCCEEDED}),
    OperationState.DECLINED: frozenset({Transition.DECLINED}),
    OperationState.NOT_EXECUTED: frozenset({Transition.FAILED}),
    OperationState.CONFLICT: frozenset({Transition.REJECTED}),
    OperationState.REJECTED: frozenset({Transition.REJECTED}),
    OperationState.MANUAL_REVIEW: frozenset(),
}
_ALSO: Mapping[OperationState, frozenset[Transition]] = {
    OperationState.REVERSED: frozenset({Transition.REVERSED, Transition.DISPUTE_LOST}),
    OperationState.MANUAL_REVIEW: frozenset({Transition.REVIEWED}),
}
"""Of which one is told besides."""
_REFUSED = frozenset(
    {OperationState.DECLINED, OperationState.NOT_EXECUTED, OperationState.CONFLICT, OperationState.REJECTED}
)
_RELEASING = frozenset({Transition.PENDED, Transition.ACTION_REQUIRED, Transition.DOUBTED, Transition.REVIEWED})
"""What lets an order go on before the operation's last word."""


def violations(evidence: Evidence, *, patient: bool = True) -> list[str]:
    """Return every violation, a sentence each that begins with its check's name.

    `patient`: the clients asked until they were answered, so each request must have its final answer. Without it a
    client may have given up, and what it was told last is held against the rows all the same.
    """
    return [
        f"{name}: {fault}"
        for name, check in CHECKS.items()
        if patient or check is not every_request_answered
        for fault in check(evidence)
    ]


def all_settled(evidence: Evidence) -> list[str]:
    """Nothing is left open once the engine is idle."""
    return [
        f"{row.order_id}: {operation.op_id} ({OperationKind(operation.kind)}) is still {operation.state}"
        for row in evidence.rows.values()
        for operation in row.operations
        if operation.state not in FINAL
    ]


def every_command_ended_once(evidence: Evidence) -> list[str]:
    """Every command on the log, whoever produced it, has one final state in one row and one last word by event id."""
    operations, excused = evidence.operations(), evidence.contradicted()
    settled = evidence.settled_at_desk()
    ends = _ends_of(evidence)
    full = {row.order_id for row in evidence.rows.values() if is_full(row.operations, row.subtotals)}
    faults = []
    for order, ops in evidence.commands.items():
        for op_id in dict.fromkeys(ops):
            if op_id in operations:
                operation = operations[op_id][1]
                if op_id in settled:
                    faults += _wrong_end_after_a_decision(operation, ends[op_id])
                else:
                    faults += _wrong_end(operation, ends[op_id], contradicted=op_id in excused)
            elif order not in full or not _refused_unrecorded(ends[op_id]):
                faults.append(f"{order}: {op_id} is on the log and in no row")
    asked = {op_id for ops in evidence.commands.values() for op_id in ops}
    unasked = {op_id for op_id, (_, each) in operations.items() if each.initiator is not Initiator.MERCHANT}
    faults += [f"{op_id} is in a row and on no command" for op_id in operations.keys() - asked - unasked]
    return faults


def _ends_of(evidence: Evidence) -> dict[str, dict[str, tuple[Transition, PaymentEvent]]]:
    """Return the facts about each operation by event id."""
    ends: dict[str, dict[str, tuple[Transition, PaymentEvent]]] = defaultdict(dict)
    for envelope, event in evidence.events:
        ends[event.operation.op_id][envelope.id] = (transition_of(envelope), event)
    return ends


def _refused_unrecorded(facts: Mapping[str, tuple[Transition, PaymentEvent]]) -> bool:
    """Say whether all that was published is that the order, which is full, keeps no operation more."""
    said = [event.operation.rejection for _, event in facts.values()]
    return said == [Rejection.TOO_MANY_OPERATIONS]


def _wrong_end(
    operation: OperationRow, facts: Mapping[str, tuple[Transition, PaymentEvent]], *, contradicted: bool
) -> list[str]:
    if operation.state not in FINAL:
        return []  # `all_settled` says so
    state = operation.state
    transitions = sorted(transition for transition, _ in facts.values())
    ends = [each for each in transitions if each in _ENDS]
    faults = []
    if sorted(_LAST_WORDS[state]) != ends:
        faults.append(f"{operation.op_id} is {state}, its last words on the events topic are {ends}")
    for needing, needed in _ALSO.items():
        if state is needing and needed.isdisjoint(transitions):
            faults.append(f"{operation.op_id} is {state}, and no event says {' or '.join(sorted(needed))}")
    if not faults and state in _REFUSED and not contradicted and _reviewed_after_its_end(facts):
        faults.append(f"{operation.op_id} is {state}, and a gateway says that it did it")
    return faults


def _wrong_end_after_a_decision(
    operation: OperationRow, facts: Mapping[str, tuple[Transition, PaymentEvent]]
) -> list[str]:
    """Tell what is wrong with an operation that a person settled: a gateway's later word may be a second last word."""
    if operation.state not in FINAL:
        return []  # `all_settled` says so
    ends = sorted((event.sequence, transition) for transition, event in facts.values() if transition in _ENDS)
    said = [transition for _, transition in ends]
    once = len(set(said)) == len(said)
    if not once or not said or said[-1] not in _LAST_WORDS[operation.state]:
        return [f"{operation.op_id} was settled by a person, it is {operation.state}, and its last words are {said}"]
    return []


def _reviewed_after_its_end(facts: Mapping[str, tuple[Transition, PaymentEvent]]) -> bool:
    """A review before the last word was a doubt that was cleared; after it, a success of what we hold to be refused."""
    sequences = {transition: event.sequence for transition, event in facts.values()}
    ended = max(sequence for transition, sequence in sequences.items() if transition in _ENDS)
    return sequences.get(Transition.REVIEWED, 0) > ended


def one_operation_a_key(evidence: Evidence) -> list[str]:
    """One key of an origin stands for one operation, hence for one order; and a conflict is with someone."""
    holders: dict[tuple[str, str], set[str]] = defaultdict(set)
    conflicts: dict[tuple[str, str], str] = {}
    for row, operation in evidence.operations().values():
        if operation.initiator is not Initiator.MERCHANT:
            continue  # nobody asked for it by a key: it has that of what it belongs to
        key = row.origin_id, operation.idempotency_key
        if operation.state is OperationState.CONFLICT:
            conflicts[key] = operation.op_id
        elif operation.state in FINAL or operation.attempt > 0:
            holders[key].add(operation.op_id)
    twice = [f"key {key} stands for {sorted(ops)}" for key, ops in holders.items() if len(ops) > 1]
    twice += [
        f"{row.order_id} has {op_id} {count} times"
        for row in evidence.rows.values()
        for op_id, count in Counter(each.op_id for each in row.operations).items()
        if count > 1
    ]
    nobody = [f"key {key} is refused to {op}, and nobody has it" for key, op in conflicts.items() if key not in holders]
    return twice + nobody


def order_kept(evidence: Evidence) -> list[str]:
    """The effects of an order happened in the order of its commands on the log.

    Promised but for an operation that let the order go on before its last word, pending or in doubt: nobody knows when
    the gateway does it. So no effect comes before that of an earlier command which never was either.
    """
    released = {
        op_id
        for op_id, facts in _ends_of(evidence).items()
        if any(transition in _RELEASING for transition, _ in facts.values())
    }
    unasked = {op_id for op_id, (_, each) in evidence.operations().items() if each.initiator is not Initiator.MERCHANT}
    released |= {
        op_id
        for op_id, (_, row) in evidence.operations().items()
        if any(e.transition in _RELEASING for e in row.events)
    }
    done: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in evidence.ledger:
        if entry.is_effect and not entry.at_desk and entry.op_id not in unasked:
            done[entry.origin_id, entry.order_id].append(entry.op_id)
    faults = []
    for (_, order), ops in done.items():
        asked = {op: place for place, op in reversed(list(enumerate(evidence.commands.get(order, ()))))}
        faults += [f"{order}: {op} had its effect and stands on no command" for op in ops if op not in asked]
        faults += [f"{order}: {fault}" for fault in _overtaken([op for op in ops if op in asked], asked, released)]
    return faults


def _overtaken(done: list[str], asked: Mapping[str, int], released: set[str]) -> Iterable[str]:
    latest = done[0] if done else ""
    for op in done[1:]:
        if asked[op] > asked[latest]:
            latest = op
        elif asked[op] < asked[latest] and op not in released:
            yield f"{latest} had its effect before {op}, which was asked for earlier and never left open"


def events_agree(evidence: Evidence) -> list[str]:
    """The same event id always says the same."""
    said: dict[str, tuple[str, PaymentEvent]] = {}
    faults = []
    for envelope, event in evidence.events:
        first = said.setdefault(envelope.id, (envelope.type, event))
        if first != (envelope.type, event):
            faults.append(f"event {envelope.id} says two things about {event.operation.op_id}")
    return faults


def envelopes_agree(evidence: Evidence) -> list[str]:
    """The attributes of every event say what its record says: a consumer may read these alone."""
    faults = []
    for envelope, event in evidence.events:
        told = (envelope.originid, envelope.partitionkey, envelope.subject, envelope.sequence, envelope.idempotencykey)
        key = event.operation.idempotency_key
        true = (event.origin_id, event.order_id, event.payment_id, event.sequence, key)
        if told != true:
            faults.append(f"event {envelope.id} says {told} of {true}")
    return faults


def sequences_are_unique(evidence: Evidence) -> list[str]:
    """No two facts of an order have the same sequence number (but those of a full row, which take none)."""
    taken: dict[tuple[str, str, int], str] = {}
    faults = []
    for envelope, event in evidence.events:
        if event.operation.rejection is Rejection.TOO_MANY_OPERATIONS:
            continue
        place = event.origin_id, event.order_id, event.sequence
        if taken.setdefault(place, envelope.id) != envelope.id:
            faults.append(f"{event.order_id}: two events have the sequence {event.sequence}")
    return faults


def rows_never_regress(evidence: Evidence) -> list[str]:
    """No row lost anything along its stamps; found by `row_history` while the changelog was read."""
    return list(evidence.row_faults)


def consumers_drained(evidence: Evidence) -> list[str]:
    """No consumer is behind."""
    return [f"{group} is {records} records behind" for group, records in evidence.lag.items() if records]


def events_equal_replay(evidence: Evidence) -> list[str]:
    """The events are those of a fault-free replay; found by `replay` while the log was read."""
    return list(evidence.replay_faults)


CHECKS: Mapping[str, Callable[[Evidence], list[str]]] = MappingProxyType(
    {
        # 1. Every acknowledged command has exactly one final outcome.
        "every_request_answered": every_request_answered,
        "one_answer_a_wish": one_answer_a_wish,
        "acknowledged_is_on_the_log": acknowledged_is_on_the_log,
        "answers_agree_with_rows": answers_agree_with_rows,
        "reads_show_what_was_told": reads_show_what_was_told,
        "every_command_ended_once": every_command_ended_once,
        "all_settled": all_settled,
        # 2. At most one gateway effect an operation.
        "one_effect_an_operation": one_effect_an_operation,
        # 3. The ledger equals the events equals the rows, to the cent.
        "ledger_equals_rows": ledger_equals_rows,
        "ledger_equals_events": ledger_equals_events,
        "events_equal_rows": events_equal_rows,
        "effects_are_what_was_asked": effects_are_what_was_asked,
        "contradictions_are_reviewed": contradictions_are_reviewed,
        "voids_release": voids_release,
        "effects_are_at_their_accounts": effects_are_at_their_accounts,
        "nobody_pays_unasked": nobody_pays_unasked,
        "payers_know_where_to_act": payers_know_where_to_act,
        "cancellations_end_the_wait": cancellations_end_the_wait,
        "completions_take_nothing": completions_take_nothing,
        "unwanted_parts_are_let_go": unwanted_parts_are_let_go,
        # 4. Per-order order.
        "order_kept": order_kept,
        # 5. One order per idempotency key and origin.
        "one_operation_a_key": one_operation_a_key,
        # 6. No row regresses.
        "rows_never_regress": rows_never_regress,
        # 7. All consumers drain.
        "consumers_drained": consumers_drained,
        # 8. Events deduplicated by id are those of a fault-free replay.
        "events_agree": events_agree,
        "envelopes_agree": envelopes_agree,
        "sequences_are_unique": sequences_are_unique,
        "events_equal_replay": events_equal_replay,
        # 10. What operators decide holds once, and never against a gateway's later word.
        "every_ruling_answered": every_ruling_answered,
        "acknowledged_decisions_are_on_the_log": acknowledged_decisions_are_on_the_log,
        "decisions_are_told_once": decisions_are_told_once,
        "quiet_decisions_move_nothing": quiet_decisions_move_nothing,
        "later_word_holds": later_word_holds,
    }
)
"""Every check by its name, under the point of the fault harness that it serves."""
