"""The checker on the desk: decisions that hold pass, and what was lost, told twice, or beats a gateway is caught."""

from dataclasses import replace

import pytest

from gateway_adapters.mock import wire
from schemas.identifiers import DecisionId, OperatorName
from schemas.records.orders import OperationRow
from schemas.records.payments import PaymentEvent
from schemas.vocabulary import DecisionRefusal
from tests.support.checker import Evidence, violations
from tests.support.order_desk import ORDER, ORIGIN, PENDING, authorize, refund, sale
from tests.support.row_history import RowHistory
from tests.support.staged_life import PAYMENT
from tests.support.staged_run import StagedRun
from tests.support.workload import Answer, Ruling

REFUND_MINOR = 1_000


def ruling(op_id: str, outcome: str, *, payment: str = PAYMENT) -> Ruling:
    body = {"originId": ORIGIN, "paymentId": payment, "operation": op_id, "outcome": outcome, "why": "we were told"}
    return Ruling(operator="anna", key="r1", order_id=ORDER, body=body)


def noted() -> Evidence:
    run = StagedRun()
    run.decide(ruling(run.send(authorize()), "note"))
    return run.evidence()


def refused() -> Evidence:
    run = StagedRun()
    run.decide(ruling(run.send(authorize()), "close_review"))
    return run.evidence()


def settled_run(*said: wire.Status, verdict: str = "succeeded") -> StagedRun:
    """A refund that waits for its gateway is settled by a person; then the gateway says this."""
    run = StagedRun()
    opened = run.send(sale())
    payment = run.evidence().operations()[opened][1].payment_id
    op_id = run.send(refund(payment, REFUND_MINOR, key="back"), PENDING)
    run.decide(ruling(op_id, verdict, payment=payment), PENDING)
    run.send(refund(payment, REFUND_MINOR, key="back"))
    for each in said:
        run.notice(op_id, each)
    run.send(refund(payment, REFUND_MINOR, key="back"))
    run.history.requests = [each for each in run.history.requests if each.last.status != 202]
    return run


def settled(*said: wire.Status, verdict: str = "succeeded") -> Evidence:
    return settled_run(*said, verdict=verdict).evidence()


def broken(evidence: Evidence) -> set[str]:
    """Return the names of the checks that find something."""
    return {each.partition(":")[0] for each in violations(evidence, patient=False)}


def with_answer(evidence: Evidence, status: int, **body: object) -> Evidence:
    """The operator was told this at last."""
    evidence.history.rulings[0].answers = [Answer(status=status, body=dict(body), replayed=False, seconds=0.0)]
    return evidence


# What is right


@pytest.mark.parametrize("evidence", [noted(), refused()])
def test_note_and_refusal_are_no_violation(evidence: Evidence) -> None:
    assert len(evidence.decisions) == 1
    assert violations(evidence) == []


@pytest.mark.parametrize("verdict", ["succeeded", "not_executed"])
@pytest.mark.parametrize(("said", "counts"), [(wire.Status.SUCCEEDED, REFUND_MINOR), (wire.Status.FAILED, 0)])
def test_operation_that_a_person_settled_is_no_violation_when_the_gateway_agrees_or_contradicts_it_later(
    verdict: str, said: wire.Status, counts: int
) -> None:
    evidence = settled(said, verdict=verdict)
    (op_id,) = evidence.settled_at_desk()
    assert evidence.operations()[op_id][1].counted_minor == counts
    assert violations(evidence, patient=False) == []


def test_row_may_go_on_from_not_executed_when_a_person_had_settled_it_so() -> None:
    """And not otherwise."""
    records = settled_run(wire.Status.SUCCEEDED, verdict="not_executed").changelog
    history = RowHistory()
    for key, stamp, row in records:
        history.add(key, stamp, row)
    assert history.faults() == []
    unheard = RowHistory()
    for key, stamp, row in records:
        unheard.add(key, stamp, replace(row, operations=tuple(map(without_desk, row.operations))))
    assert any("from not_executed to succeeded" in fault for fault in unheard.faults())


def without_desk(operation: OperationRow) -> OperationRow:
    return replace(operation, words=tuple(replace(word, by_desk=False) for word in operation.words))


# What is not


def test_checker_catches_a_settled_operation_whose_last_word_is_another_than_its_state() -> None:
    evidence = settled(wire.Status.SUCCEEDED, verdict="not_executed")
    (op_id,) = evidence.settled_at_desk()
    kept = [
        each
        for each in evidence.events
        if each[1].operation.op_id != op_id or not each[0].type.endswith("succeeded.v1")
    ]
    assert "every_command_ended_once" in broken(replace(evidence, events=kept))


def test_checker_catches_a_decision_that_is_never_answered() -> None:
    assert broken(with_answer(noted(), 503, code="log_unavailable")) == {"every_ruling_answered"}


@pytest.mark.parametrize(("status", "code"), [(404, "operation_not_found"), (400, "invalid_body"), (500, "internal")])
def test_checker_catches_an_answer_that_says_nothing_of_the_decision(status: int, code: str) -> None:
    assert broken(with_answer(noted(), status, code=code)) == {"every_ruling_answered"}


def test_checker_catches_a_decision_that_is_acknowledged_and_lost() -> None:
    assert "acknowledged_decisions_are_on_the_log" in broken(replace(noted(), decisions=()))
    told_durable = with_answer(noted(), 202, state="accepted")
    assert "acknowledged_decisions_are_on_the_log" in broken(replace(told_durable, decisions=()))


@pytest.mark.parametrize("lie", [{"decided_by": "ben"}, {"op_id": "op_other"}, {"amount_minor": 7}])
def test_checker_catches_a_decision_that_stands_otherwise_than_it_was_asked_for(lie: dict[str, object]) -> None:
    evidence = noted()
    (made,) = evidence.decisions
    other = replace(made, decision=replace(made.decision, **lie))  # type: ignore[arg-type]  # a test names any field
    assert "acknowledged_decisions_are_on_the_log" in broken(replace(evidence, decisions=[other]))


def test_checker_catches_one_ruling_that_stands_as_two_decisions() -> None:
    evidence = noted()
    (made,) = evidence.decisions
    second = replace(made, decision=replace(made.decision, decision_id=DecisionId("dec_second")))
    assert "acknowledged_decisions_are_on_the_log" in broken(replace(evidence, decisions=[made, second]))


def with_facts(evidence: Evidence, *changes: PaymentEvent) -> Evidence:
    """The event that names the decision, and others beside it under ids of their own."""
    place = next(n for n, (_, event) in enumerate(evidence.events) if event.decision is not None)
    envelope, _ = evidence.events[place]
    more = [(replace(envelope, id=f"e-{number}"), change) for number, change in enumerate(changes)]
    return replace(evidence, events=[*evidence.events[:place], *more, *evidence.events[place + 1 :]])


def fact_of(evidence: Evidence) -> PaymentEvent:
    return next(event for _, event in evidence.events if event.decision is not None)


def test_checker_catches_a_decision_that_is_told_twice_or_never() -> None:
    evidence = noted()
    fact = fact_of(evidence)
    again = replace(fact, sequence=fact.sequence + 1)
    assert "decisions_are_told_once" in broken(with_facts(evidence, fact, again))
    assert "decisions_are_told_once" in broken(with_facts(evidence))


def test_checker_catches_a_fact_of_a_decision_that_nobody_made() -> None:
    assert "decisions_are_told_once" in broken(replace(noted(), decisions=()))


def test_checker_catches_a_fact_that_names_another_person() -> None:
    evidence = noted()
    fact = fact_of(evidence)
    assert fact.decision is not None
    other = replace(fact, decision=replace(fact.decision, decided_by=OperatorName("ben")))
    assert "decisions_are_told_once" in broken(with_facts(evidence, other))


def test_checker_catches_a_decision_that_was_told_to_hold_and_was_refused() -> None:
    assert broken(with_answer(refused(), 200, state="decided")) == {"decisions_are_told_once"}


def test_checker_catches_a_refusal_that_changes_the_operation_besides() -> None:
    evidence = noted()
    fact = fact_of(evidence)
    assert fact.decision is not None
    refusal = replace(fact, decision=replace(fact.decision, refusal=DecisionRefusal.NOT_OPEN))
    assert "decisions_are_told_once" in broken(with_facts(evidence, fact, refusal))


def test_checker_catches_a_note_that_moves_money() -> None:
    evidence = noted()
    fact = fact_of(evidence)
    counts_less = replace(fact, operation=replace(fact.operation, counted_minor=1))
    assert "quiet_decisions_move_nothing" in broken(with_facts(evidence, counts_less))
    assert fact.payment is not None
    sums_differ = replace(fact, payment=replace(fact.payment, captured_minor=1))
    assert "quiet_decisions_move_nothing" in broken(with_facts(evidence, sums_differ))


def with_counted(evidence: Evidence, counted_minor: int) -> Evidence:
    """The row lets the settled operation count for something else."""
    (op_id,) = evidence.settled_at_desk()
    rows = dict(evidence.rows)
    row = rows[ORIGIN, ORDER]
    changed = tuple(
        replace(each, counted_minor=counted_minor) if each.op_id == op_id else each for each in row.operations
    )
    rows[ORIGIN, ORDER] = replace(row, operations=changed)
    return replace(evidence, rows=rows)


def test_checker_catches_a_decision_that_beats_a_later_word_of_the_gateway() -> None:
    assert "later_word_holds" in broken(with_counted(settled(wire.Status.FAILED), REFUND_MINOR))


def test_checker_catches_a_settled_operation_that_counts_for_something_else() -> None:
    assert "later_word_holds" in broken(with_counted(settled(), 1))


def test_checker_catches_a_decision_against_an_earlier_word_that_nobody_is_asked_about() -> None:
    evidence = settled()
    (op_id,) = evidence.settled_at_desk()
    (made,) = evidence.decisions
    spoke = settled(wire.Status.FAILED).stands[op_id]
    earlier = {op_id: replace(spoke, said_at_ms=made.at_ms - 1)}
    assert "later_word_holds" in broken(replace(evidence, stands=earlier, heard=frozenset({op_id})))
    assert "later_word_holds" not in broken(replace(evidence, stands=earlier, heard=frozenset()))
