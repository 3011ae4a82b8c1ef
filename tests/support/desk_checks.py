"""Whether operators were told the truth, and their decisions hold once, and never against a later word of the gateway.

Checks of `checker`; each returns sentences, one a violation. A decision is known everywhere by its `why`: no two
rulings of a run have the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.event_types import Transition
from schemas.messages import Envelope
from schemas.records.decisions import DecisionMade
from schemas.records.orders import OperationRow
from schemas.records.payments import PaymentEvent
from schemas.vocabulary import Verdict
from tests.support.exhibits import Evidence
from tests.support.money_checks import transition_of
from tests.support.workload import ACCEPTED, Answer

HOLDS, REFUSED = 200, 409
_TOLD_AS: Mapping[Verdict, Transition] = {
    Verdict.NOTE: Transition.NOTED,
    Verdict.CLOSE_REVIEW: Transition.DECIDED,
    Verdict.SUCCEEDED: Transition.SUCCEEDED,
    Verdict.NOT_EXECUTED: Transition.FAILED,
    Verdict.TAKEN_BACK: Transition.REVERSED,
}
_QUIET = frozenset({Transition.NOTED, Transition.DECIDED, Transition.DECISION_REFUSED})
"""What says something of a decision, and moves nothing."""


def every_ruling_answered(evidence: Evidence) -> list[str]:
    """Every operator is told at last that the decision holds, or that the order refuses it: and nothing else."""
    faults = []
    for ruling in evidence.history.rulings:
        last = ruling.answers[-1] if ruling.answers else None
        if last is None or not last.final:
            statuses = [each.status for each in ruling.answers]
            faults.append(f"the decision {ruling.why!r} of {ruling.order_id} has no final answer: {statuses[-5:]}")
        elif last.status != HOLDS and (last.status, last.body.get("code")) != (REFUSED, "decision_refused"):
            told = f"{last.status} {last.body.get('code')}"
            faults.append(
                f"the decision {ruling.why!r} of {ruling.order_id} was answered {told}, and its order is there"
            )
    return faults


def acknowledged_decisions_are_on_the_log(evidence: Evidence) -> list[str]:
    """A decision that an operator was told is taken stands on its topic, as it was asked for and by who asked."""
    logged: dict[str, list[DecisionMade]] = defaultdict(list)
    for each in evidence.decisions:
        logged[each.decision.why].append(each.decision)
    faults = []
    for ruling in evidence.history.rulings:
        if any(_acknowledges(answer) for answer in ruling.answers) and ruling.why not in logged:
            faults.append(f"the decision {ruling.why!r} of {ruling.order_id} was acknowledged, and is lost")
        for made in logged.get(ruling.why, ()):
            said = (made.decided_by, made.payment_id, made.op_id, made.verdict.value, made.amount_minor)
            body = ruling.body
            asked = (ruling.operator, body["paymentId"], body["operation"], body["outcome"], body.get("amount"))
            if said != asked:
                faults.append(f"the decision {ruling.why!r} was asked for as {asked}, and stands as {said}")
        if len({made.decision_id for made in logged.get(ruling.why, ())}) > 1:
            faults.append(f"the decision {ruling.why!r} was asked for once, and stands as two")
    return faults


def _acknowledges(answer: Answer) -> bool:
    return answer.status == HOLDS or (answer.status == ACCEPTED and answer.body.get("state") == "accepted")


def decisions_are_told_once(evidence: Evidence) -> list[str]:
    """Each decision on the log has its fact, once: that it holds, or that it is refused; and no fact is made up."""
    told = _facts_by_decision(evidence)
    made = {each.decision.why: each.decision for each in evidence.decisions}
    faults = [
        f"{len(facts)} events name the decision {why!r}, which nobody made"
        for why, facts in told.items()
        if why not in made
    ]
    for why, decision in made.items():
        faults += _wrong_facts(decision, list(told.get(why, {}).values()))
    answered = {ruling.why for ruling in evidence.history.rulings if any(a.status == HOLDS for a in ruling.answers)}
    refused = {why for why, facts in told.items() for _, event in facts.values() if _refusal_of(event) is not None}
    return faults + [f"the decision {why!r} was told to hold, and was refused" for why in sorted(answered & refused)]


def _facts_by_decision(evidence: Evidence) -> dict[str, dict[str, tuple[Envelope, PaymentEvent]]]:
    """Return the events that name each decision, by event id."""
    told: dict[str, dict[str, tuple[Envelope, PaymentEvent]]] = defaultdict(dict)
    for envelope, event in evidence.events:
        if event.decision is not None:
            told[event.decision.why][envelope.id] = envelope, event
    return told


def _wrong_facts(decision: DecisionMade, facts: Sequence[tuple[Envelope, PaymentEvent]]) -> Iterator[str]:
    name = f"the decision {decision.why!r} of {decision.order_id}"
    about = [each for each in facts if each[1].operation.op_id == decision.op_id]
    said = sorted(transition_of(envelope).value for envelope, _ in about)
    refused = [event for _, event in about if _refusal_of(event) is not None]
    wanted = Transition.DECISION_REFUSED if refused else _TOLD_AS[decision.verdict]
    if said.count(wanted.value) != 1:
        yield f"{name} is told {said.count(wanted.value)} times as {wanted}: {said}"
    if refused and len(about) > 1:
        yield f"{name} is refused, and told as {said} besides"
    for _, event in facts:
        view = event.decision
        assert view is not None
        shown = (view.decision_id, view.verdict, view.amount_minor, view.decided_by)
        true = (decision.decision_id, decision.verdict, decision.amount_minor, decision.decided_by)
        if shown != true:
            yield f"{name} is told as {shown}, it is {true}"


def _refusal_of(event: PaymentEvent) -> object:
    return None if event.decision is None else event.decision.refusal


def quiet_decisions_move_nothing(evidence: Evidence) -> list[str]:
    """A note, a closed review and a refusal leave every sum as it was: by the facts before and after."""
    by_order: dict[tuple[str, str], dict[int, tuple[Envelope, PaymentEvent]]] = defaultdict(dict)
    noted = {(event.origin_id, event.order_id) for _, event in evidence.events if event.decision is not None}
    for envelope, event in evidence.events:
        if (event.origin_id, event.order_id) in noted:
            by_order[event.origin_id, event.order_id][event.sequence] = envelope, event
    faults = []
    for (_, order), facts in by_order.items():
        sums: dict[str, Any] = {}
        for _, (envelope, event) in sorted(facts.items()):
            for name, shown in _sums_in(event):
                if transition_of(envelope) in _QUIET and sums.get(name, shown) != shown:
                    faults.append(f"{order}: {envelope.type} took {name} from {sums[name]} to {shown}")
                sums[name] = shown
    return faults


def _sums_in(event: PaymentEvent) -> Iterator[tuple[str, Any]]:
    said = event.operation
    yield said.op_id, (said.state, said.counted_minor)
    if event.payment is not None:
        shown = event.payment
        yield shown.payment_id, (shown.authorized_minor, shown.captured_minor, shown.refunded_minor)


def later_word_holds(evidence: Evidence) -> list[str]:
    """What a person settled counts for what was said last: by the gateway, if it spoke after the decision was made.

    Both are dated by clocks that no fault moves: the brokers' and the Mock's. Where the gateway had spoken before, and
    otherwise, its payment waits for a person: if any such word is on the log. What a gateway did and told nobody, not
    even when it was asked once more, is found out by nobody.
    """
    operations, reviewed = evidence.operations(), evidence.reviewed()
    faults = []
    for op_id, (at_ms, decision) in _settled(evidence).items():
        if op_id not in operations:
            faults.append(f"{op_id} was settled by a person, and is in no row")
            continue
        operation = operations[op_id][1]
        stands = evidence.stands.get(op_id)
        decided_minor = _decided_minor(decision, operation)
        if stands is not None and stands.said_at_ms > at_ms and stands.counted_minor != operation.counted_minor:
            theirs = f"the gateway said {stands.counted_minor} at {stands.said_at_ms}"
            faults.append(f"{op_id} counts for {operation.counted_minor}; a person settled it at {at_ms}, {theirs}")
        if (stands is None or stands.said_at_ms < at_ms) and operation.counted_minor != decided_minor:
            faults.append(f"{op_id} counts for {operation.counted_minor}, a person settled it as {decided_minor} last")
        contradicted = stands is not None and stands.said_at_ms < at_ms and stands.counted_minor != decided_minor
        if contradicted and op_id in evidence.heard and operation.payment_id not in reviewed:
            faults.append(f"{op_id} was settled against the gateway's word, and nobody is asked to look at it")
    return faults


def _settled(evidence: Evidence) -> dict[str, tuple[int, DecisionMade]]:
    """Return the decision that holds about the money of each operation, and when it was first on the log."""
    settled = evidence.settled_at_desk()
    holding = {
        event.decision.why for _, event in evidence.events if event.decision is not None and not event.decision.refusal
    }
    found: dict[str, tuple[int, DecisionMade]] = {}
    for each in evidence.decisions:
        decision = each.decision
        about_money = decision.verdict not in {Verdict.NOTE, Verdict.CLOSE_REVIEW}
        if about_money and decision.op_id in settled and decision.why in holding:
            at_ms = min(each.at_ms, found[decision.op_id][0]) if decision.op_id in found else each.at_ms
            found[decision.op_id] = at_ms, decision
    return found


def _decided_minor(decision: DecisionMade, operation: OperationRow) -> int:
    match decision.verdict:
        case Verdict.SUCCEEDED:
            return operation.amount_minor if decision.amount_minor is None else decision.amount_minor
        case Verdict.NOT_EXECUTED:
            return 0
        case _:
            return operation.counted_minor  # what was taken back the gateway does not know of
