"""The checker itself: a valid run passes, and each violation, planted in it, is caught by the check meant for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway_adapters.mock import wire
from schemas.identifiers import IdempotencyKey, OpId, PaymentId
from schemas.records.commands import op_id_of
from schemas.records.orders import OperationRow, OrderRow
from schemas.vocabulary import OperationKind, OperationState, PaymentStatus, Rejection
from streams.domain.limits import RECONCILE_AFTER_MS
from tests.support.checker import CHECKS, Evidence, violations
from tests.support.order_desk import (
    ORDER,
    ORIGIN,
    UNKNOWN,
    authorize,
    sale,
    void,
)
from tests.support.staged_life import CAPTURED, DECLINED, DOUBTED, PAYMENT, PENDED, REFUSED, valid_run
from tests.support.staged_run import StagedRun
from tests.support.workload import Answer, History, Look

Plant = Callable[[Evidence], Evidence]


@pytest.fixture(scope="module")
def valid() -> Evidence:
    return valid_run().evidence()


def broken(evidence: Evidence) -> set[str]:
    """Return the names of the checks that find something."""
    return {each.partition(":")[0] for each in violations(evidence)}


def test_checker_finds_nothing_in_a_valid_run(valid: Evidence) -> None:
    assert violations(valid) == []
    states = {operation.state for _, operation in valid.operations().values()}
    assert states == {OperationState(each) for each in ("succeeded", "declined", "rejected", "conflict")}
    assert {each.last.status for each in valid.history.requests} == {200, 201, 402, 409, 422}
    assert valid.reordered == 0


# Plants. Each returns the evidence of the same run with one lie in it.


def operation_of(evidence: Evidence, key: str) -> OperationRow:
    return next(
        each for row, each in evidence.operations().values() if each.idempotency_key == key and row.order_id == ORDER
    )


def with_row(evidence: Evidence, change: Callable[[OrderRow], OrderRow]) -> Evidence:
    rows = dict(evidence.rows)
    rows[ORIGIN, ORDER] = change(rows[ORIGIN, ORDER])
    return replace(evidence, rows=rows)


def with_operation(evidence: Evidence, key: str, **fields: object) -> Evidence:
    def change(row: OrderRow) -> OrderRow:
        changed = tuple(
            replace(each, **fields) if each.idempotency_key == key else each  # type: ignore[arg-type]  # any field
            for each in row.operations
        )
        return replace(row, operations=changed)

    return with_row(evidence, change)


def with_answer(evidence: Evidence, key: str, **fields: object) -> Evidence:
    """The client with this key was told something else, at last."""
    history = History()
    for each in evidence.history.requests:
        lied = [*each.answers[:-1], replace(each.last, **fields)]  # type: ignore[arg-type]  # a test names any field
        history.requests.append(
            replace(each, answers=lied if each.key == key and each.order_id == ORDER else each.answers)
        )
    return replace(evidence, history=history)


def without_events(evidence: Evidence, key: str, transition: str) -> Evidence:
    kept = [
        each
        for each in evidence.events
        if each[1].operation.idempotency_key != key or f".{transition}." not in each[0].type
    ]
    return replace(evidence, events=kept)


def never_answered(evidence: Evidence) -> Evidence:
    return with_answer(evidence, DECLINED, status=503, body={"code": "log_unavailable"})


def answered_twice(evidence: Evidence) -> Evidence:
    requests = evidence.history.requests
    first = next(each for each in requests if each.key == DECLINED)
    again = replace(first, answers=[Answer(status=422, body={}, replayed=True, seconds=0.0)])
    history = History()
    history.requests = [*requests, again]
    return replace(evidence, history=history)


def acknowledged_and_lost(evidence: Evidence) -> Evidence:
    kept = [each for each in evidence.commands[ORDER] if each != operation_of(evidence, DECLINED).op_id]
    return replace(evidence, commands={**evidence.commands, ORDER: kept})


def told_202_and_lost(evidence: Evidence) -> Evidence:
    history = History()
    request = history.new(origin_id=ORIGIN, order_id="order-9", key="k9", path="/payments?mode=async", body={})
    request.body = {"orderId": "order-9", "amount": 5, "currency": "USD", "token": "tok_1"}
    request.answers.append(Answer(status=202, body={}, replayed=False, seconds=0.0))
    history.requests = [*evidence.history.requests, request]
    return replace(evidence, history=history)


def lost_and_asked_again(evidence: Evidence) -> Evidence:
    """The command that a 202 was given for is gone; the client asked again, and that one was carried out."""
    requests = list(evidence.history.requests)
    place = next(n for n, each in enumerate(requests) if each.key == CAPTURED and each.order_id == ORDER)
    first = Answer(status=202, body={}, replayed=False, seconds=0.0, request_id="c-lost")
    requests[place] = replace(requests[place], answers=[first, *requests[place].answers])
    history = History()
    history.requests = requests
    return replace(evidence, history=history)


def appended_and_lost(evidence: Evidence) -> Evidence:
    history = History()
    history.requests = list(evidence.history.requests)
    place = next(n for n, each in enumerate(history.requests) if each.key == CAPTURED)
    history.requests[place] = replace(history.requests[place], appended_ids=["c-direct"])
    return replace(evidence, history=history)


def told_that_the_request_was_wrong(evidence: Evidence) -> Evidence:
    """While the capture succeeded."""
    return with_answer(evidence, CAPTURED, status=400, body={"code": "invalid_body"})


def told_of_a_defect(evidence: Evidence) -> Evidence:
    return with_answer(evidence, CAPTURED, status=500, body={"code": "internal"})


def told_a_decline_without_a_code(evidence: Evidence) -> Evidence:
    return with_answer(evidence, DECLINED, status=402, body={})


def told_a_decline_as_a_conflict(evidence: Evidence) -> Evidence:
    return with_answer(evidence, DECLINED, status=409, body={"code": "declined"})


def told_that_there_is_no_payment(evidence: Evidence) -> Evidence:
    return with_answer(evidence, CAPTURED, status=404, body={"code": "payment_not_found"})


def told_another_payment(evidence: Evidence) -> Evidence:
    last = next(each.last for each in evidence.history.requests if each.key == CAPTURED and each.order_id == ORDER)
    return with_answer(evidence, CAPTURED, body={**last.body, "id": "pay_other"})


def told_another_currency(evidence: Evidence) -> Evidence:
    last = next(each.last for each in evidence.history.requests if each.key == CAPTURED and each.order_id == ORDER)
    operation = {**last.body["operation"], "currency": "KWD"}
    return with_answer(evidence, CAPTURED, body={**last.body, "operation": operation})


def with_effect(evidence: Evidence, kind: str, **fields: object) -> Evidence:
    """Row, events and answers agree with the gateway: it is not what was asked."""
    changed = [
        replace(each, **fields) if each.kind == kind else each  # type: ignore[arg-type]  # any field
        for each in evidence.ledger
    ]
    return replace(evidence, ledger=changed)


def executed_for_another_amount(evidence: Evidence) -> Evidence:
    return with_effect(evidence, "capture", amount_minor=1)


def executed_in_another_currency(evidence: Evidence) -> Evidence:
    return with_effect(evidence, "authorize", currency="KWD")


def executed_on_another_card(evidence: Evidence) -> Evidence:
    return with_effect(evidence, "authorize", token="tok_another")


def void_that_holds(evidence: Evidence) -> Evidence:
    """The row has a void that succeeded, and the last event still shows the hold."""
    held = [
        (envelope, replace(event, payment=replace(event.payment, status=PaymentStatus.AUTHORIZED)))
        if event.payment is not None
        else (envelope, event)
        for envelope, event in evidence.events
    ]
    return with_operation(replace(evidence, events=held), CAPTURED, kind=OperationKind.VOID)


def twice_in_one_row(evidence: Evidence) -> Evidence:
    again = operation_of(evidence, DECLINED)
    return with_row(evidence, lambda row: replace(row, operations=(*row.operations, again)))


def event_under_another_sequence(evidence: Evidence) -> Evidence:
    envelope, event = evidence.events[0]
    return replace(evidence, events=[(replace(envelope, sequence=7_777), event), *evidence.events[1:]])


def read_without_what_was_told(evidence: Evidence) -> Evidence:
    history = History()
    history.requests = list(evidence.history.requests)
    told = operation_of(evidence, CAPTURED).op_id
    body = {"id": PAYMENT, "operations": [{"id": told, "state": "dispatched"}]}
    history.looks = [Look(payment_id=PAYMENT, told=frozenset({told}), status=200, body=body)]
    return replace(evidence, history=history)


def read_of_nothing(evidence: Evidence) -> Evidence:
    history = History()
    history.requests = list(evidence.history.requests)
    history.looks = [Look(payment_id=PAYMENT, told=frozenset(), status=404, body={"code": "payment_not_found"})]
    return replace(evidence, history=history)


def told_a_success_that_was_a_decline(evidence: Evidence) -> Evidence:
    return with_answer(evidence, DECLINED, status=201, body={"amount": 3_000})


def told_a_decline_that_was_a_success(evidence: Evidence) -> Evidence:
    return with_answer(evidence, CAPTURED, status=402, body={"code": "declined"})


def told_a_conflict_that_was_a_refusal(evidence: Evidence) -> Evidence:
    return with_answer(evidence, REFUSED, status=409, body={"code": "idempotency_key_reused"})


def told_another_refusal(evidence: Evidence) -> Evidence:
    return with_answer(evidence, REFUSED, status=409, body={"code": "invalid_state"})


def told_another_amount(evidence: Evidence) -> Evidence:
    return with_answer(
        evidence, CAPTURED, body={"operation": {"id": operation_of(evidence, CAPTURED).op_id, "amount": 1}}
    )


def told_about_another_operation(evidence: Evidence) -> Evidence:
    return with_answer(evidence, CAPTURED, body={"operation": {"id": "op_other", "amount": 4_000}})


def produced_directly_and_in_no_row(evidence: Evidence) -> Evidence:
    return replace(evidence, commands={**evidence.commands, "order-7": ["op_direct"]})


def two_last_words(evidence: Evidence) -> Evidence:
    envelope, event = next(each for each in evidence.events if ".declined." in each[0].type)
    second = replace(envelope, id="e-second", type=envelope.type.replace("declined", "failed"), sequence=999)
    return replace(evidence, events=[*evidence.events, (second, replace(event, sequence=999, payment=None))])


def no_last_word(evidence: Evidence) -> Evidence:
    return without_events(evidence, DECLINED, "declined")


def last_word_against_the_state(evidence: Evidence) -> Evidence:
    return with_operation(evidence, DECLINED, state=OperationState.NOT_EXECUTED)


def reversed_and_not_told(evidence: Evidence) -> Evidence:
    return with_operation(evidence, CAPTURED, state=OperationState.REVERSED)


def reviewed_after_a_refusal(evidence: Evidence) -> Evidence:
    envelope, event = next(each for each in evidence.events if ".declined." in each[0].type)
    review = replace(envelope, id="e-review", type=envelope.type.replace("declined", "reviewed"), sequence=999)
    return replace(evidence, events=[*evidence.events, (review, replace(event, sequence=999, payment=None))])


def left_open(evidence: Evidence) -> Evidence:
    return with_operation(evidence, DECLINED, state=OperationState.DISPATCHED)


def effect_twice(evidence: Evidence) -> Evidence:
    entry = evidence.ledger[-1]
    return replace(evidence, ledger=[*evidence.ledger, replace(entry, seq=99, gateway_key=f"{entry.op_id}-2")])


def effect_unknown_to_the_row(evidence: Evidence) -> Evidence:
    """A cent in the ledger that neither row nor event has."""
    entry = evidence.ledger[-1]
    return replace(evidence, ledger=[*evidence.ledger[:-1], replace(entry, amount_minor=entry.amount_minor + 1)])


def row_off_by_a_cent(evidence: Evidence) -> Evidence:
    def change(row: OrderRow) -> OrderRow:
        first = replace(row.operations[0], counted_minor=row.operations[0].counted_minor - 1)
        return replace(row, operations=(first, *row.operations[1:]))

    return with_row(evidence, change)


def event_off_by_a_cent(evidence: Evidence) -> Evidence:
    envelope, event = evidence.events[-1]
    operation = replace(event.operation, amount_minor=event.operation.amount_minor + 1)
    return replace(evidence, events=[*evidence.events[:-1], (envelope, replace(event, operation=operation))])


def event_that_counts_for_another_sum(evidence: Evidence) -> Evidence:
    envelope, event = evidence.events[-1]
    operation = replace(event.operation, counted_minor=event.operation.counted_minor + 1)
    return replace(evidence, events=[*evidence.events[:-1], (envelope, replace(event, operation=operation))])


def part_taken_back_unseen(evidence: Evidence) -> Evidence:
    """The gateway took a cent of the refund back, and the engine does not know."""
    refund = next(each for each in evidence.ledger if each.kind == "refund")
    cent = replace(refund, seq=99, kind="reversal", reversed_kind="refund", amount_minor=1)
    return replace(evidence, ledger=[*evidence.ledger, cent])


def desk_refund_unseen(evidence: Evidence) -> Evidence:
    """A person at the gateway refunded a cent, and the engine does not know."""
    refund = next(each for each in evidence.ledger if each.kind == "refund")
    cent = replace(refund, seq=99, op_id="mref_desk", gateway_key="mref_desk", amount_minor=1, at_desk=1)
    return replace(evidence, ledger=[*evidence.ledger, cent])


def success_without_effect(evidence: Evidence) -> Evidence:
    return replace(evidence, ledger=[each for each in evidence.ledger if each.kind != "refund"])


def effects_swapped(evidence: Evidence) -> Evidence:
    """The capture had its effect before the authorization it is of."""
    first, second, *rest = evidence.ledger
    return replace(evidence, ledger=[second, first, *rest])


def one_key_for_two_orders(evidence: Evidence) -> Evidence:
    rows = dict(evidence.rows)
    other = rows[ORIGIN, "order-2"]
    granted = replace(other.operations[0], state=OperationState.REJECTED, rejection=Rejection.NO_GATEWAY)
    rows[ORIGIN, "order-2"] = replace(other, operations=(granted,))
    return replace(evidence, rows=rows)


def conflict_with_nobody(evidence: Evidence) -> Evidence:
    return with_operation(evidence, CAPTURED, idempotency_key=IdempotencyKey("unheard-of"))


def behind(evidence: Evidence) -> Evidence:
    return replace(evidence, lag={**evidence.lag, "executor": 3})


def one_id_two_contents(evidence: Evidence) -> Evidence:
    envelope, event = evidence.events[0]
    return replace(evidence, events=[*evidence.events, (envelope, replace(event, occurred_at_ms=7))])


def one_sequence_twice(evidence: Evidence) -> Evidence:
    (first, said), (second, event), *rest = evidence.events
    return replace(evidence, events=[(first, said), (second, replace(event, sequence=said.sequence)), *rest])


PLANTS: list[tuple[Plant, str]] = [
    (never_answered, "every_request_answered"),
    (answered_twice, "one_answer_a_wish"),
    (acknowledged_and_lost, "acknowledged_is_on_the_log"),
    (told_202_and_lost, "acknowledged_is_on_the_log"),
    (lost_and_asked_again, "acknowledged_is_on_the_log"),
    (appended_and_lost, "acknowledged_is_on_the_log"),
    (told_that_the_request_was_wrong, "answers_agree_with_rows"),
    (read_without_what_was_told, "reads_show_what_was_told"),
    (read_of_nothing, "reads_show_what_was_told"),
    (told_of_a_defect, "answers_agree_with_rows"),
    (told_a_decline_without_a_code, "answers_agree_with_rows"),
    (told_a_decline_as_a_conflict, "answers_agree_with_rows"),
    (told_that_there_is_no_payment, "answers_agree_with_rows"),
    (told_another_payment, "answers_agree_with_rows"),
    (told_another_currency, "answers_agree_with_rows"),
    (executed_for_another_amount, "effects_are_what_was_asked"),
    (executed_in_another_currency, "effects_are_what_was_asked"),
    (executed_on_another_card, "effects_are_what_was_asked"),
    (void_that_holds, "voids_release"),
    (twice_in_one_row, "one_operation_a_key"),
    (event_under_another_sequence, "envelopes_agree"),
    (told_a_success_that_was_a_decline, "answers_agree_with_rows"),
    (told_a_decline_that_was_a_success, "answers_agree_with_rows"),
    (told_a_conflict_that_was_a_refusal, "answers_agree_with_rows"),
    (told_another_refusal, "answers_agree_with_rows"),
    (told_another_amount, "answers_agree_with_rows"),
    (told_about_another_operation, "answers_agree_with_rows"),
    (produced_directly_and_in_no_row, "every_command_ended_once"),
    (acknowledged_and_lost, "every_command_ended_once"),
    (two_last_words, "every_command_ended_once"),
    (no_last_word, "every_command_ended_once"),
    (last_word_against_the_state, "every_command_ended_once"),
    (reversed_and_not_told, "every_command_ended_once"),
    (reviewed_after_a_refusal, "every_command_ended_once"),
    (left_open, "all_settled"),
    (effect_twice, "one_effect_an_operation"),
    (effect_unknown_to_the_row, "ledger_equals_rows"),
    (effect_unknown_to_the_row, "ledger_equals_events"),
    (row_off_by_a_cent, "ledger_equals_rows"),
    (row_off_by_a_cent, "events_equal_rows"),
    (event_off_by_a_cent, "ledger_equals_events"),
    (event_that_counts_for_another_sum, "ledger_equals_events"),
    (part_taken_back_unseen, "ledger_equals_events"),
    (part_taken_back_unseen, "ledger_equals_rows"),
    (desk_refund_unseen, "ledger_equals_events"),
    (desk_refund_unseen, "ledger_equals_rows"),
    (success_without_effect, "ledger_equals_rows"),
    (success_without_effect, "ledger_equals_events"),
    (effects_swapped, "order_kept"),
    (one_key_for_two_orders, "one_operation_a_key"),
    (conflict_with_nobody, "one_operation_a_key"),
    (behind, "consumers_drained"),
    (one_id_two_contents, "events_agree"),
    (one_sequence_twice, "sequences_are_unique"),
]


@pytest.mark.parametrize(("plant", "check"), PLANTS, ids=[f"{plant.__name__}-{check}" for plant, check in PLANTS])
def test_checker_catches_a_violation_by_its_own_check_when_one_is_planted(
    valid: Evidence, plant: Plant, check: str
) -> None:
    assert check in broken(plant(valid))


def test_every_check_has_a_violation_planted() -> None:
    reading = {"rows_never_regress", "events_equal_replay"}  # found while the log is read
    beside = {  # in tests/unit/test_checker_payers.py, test_checker_accounts.py and test_checker_desk.py
        "nobody_pays_unasked",
        "payers_know_where_to_act",
        "cancellations_end_the_wait",
        "completions_take_nothing",
        "unwanted_parts_are_let_go",
        "contradictions_are_reviewed",
        "effects_are_at_their_accounts",
        "every_ruling_answered",
        "acknowledged_decisions_are_on_the_log",
        "decisions_are_told_once",
        "quiet_decisions_move_nothing",
        "later_word_holds",
    }
    assert {check for _, check in PLANTS} | reading | beside == set(CHECKS)


def test_checker_lets_a_client_give_up_when_told_so(valid: Evidence) -> None:
    assert violations(never_answered(valid), patient=False) == []


# Order, and what is promised of it


def test_effect_may_come_before_that_of_an_earlier_command_when_the_earlier_one_was_pending(valid: Evidence) -> None:
    entries = {entry.op_id: entry for entry in valid.ledger}
    pended, doubted = (entries[operation_of(valid, key).op_id] for key in (PENDED, DOUBTED))
    first = [entry for entry in valid.ledger if entry not in (pended, doubted)]
    assert violations(replace(valid, ledger=[*first, doubted, pended])) == []
    assert violations(replace(valid, ledger=[*first, pended, doubted])) == []


def test_order_is_kept_by_origin_when_two_origins_use_the_same_order_id(valid: Evidence) -> None:
    elsewhere = replace(valid.ledger[0], origin_id="other", op_id="op_elsewhere", seq=0)
    commands = {**valid.commands, ORDER: [*valid.commands[ORDER], "op_elsewhere"]}
    evidence = replace(valid, ledger=[elsewhere, *valid.ledger], commands=commands)
    assert "order_kept" not in broken(evidence)


# Endings that are right


def test_reversal_is_no_violation_when_the_gateway_takes_a_success_back() -> None:
    run = StagedRun()
    op_id = run.send(sale(5_000))
    run.notice(op_id, wire.Status.REVERSED)
    evidence = run.evidence()
    assert evidence.operations()[op_id][1].state is OperationState.REVERSED
    assert violations(evidence) == []


def test_part_taken_back_and_its_dispute_are_no_violation_when_the_engine_counts_them_once() -> None:
    run = StagedRun()
    op_id = run.send(sale(5_000))
    run.case(op_id, wire.EventType.DISPUTE_OPENED, 2_000)
    run.case(op_id, wire.EventType.REVERSED, 2_000, effect="reversal")
    assert violations(run.evidence()) == []
    run.case(op_id, wire.EventType.DISPUTE_WON, 2_000, effect="restoral")
    assert violations(run.evidence()) == []
    assert run.evidence().operations()[op_id][1].counted_minor == 5_000


def test_dispute_that_takes_everything_is_no_violation() -> None:
    run = StagedRun()
    op_id = run.send(sale(5_000))
    run.case(op_id, wire.EventType.DISPUTE_OPENED, 5_000)
    run.case(op_id, wire.EventType.DISPUTE_LOST, 5_000, effect="reversal")
    evidence = run.evidence()
    assert evidence.operations()[op_id][1].state is OperationState.REVERSED
    assert violations(evidence) == []


def test_refund_at_the_gateways_desk_is_no_violation_when_the_engine_records_it() -> None:
    run = StagedRun()
    run.refund_at_desk(run.send(sale(5_000)), 1_000)
    evidence = run.evidence()
    assert len(evidence.operations()) == 2
    assert violations(evidence) == []


def test_void_is_no_violation() -> None:
    run = StagedRun()
    run.send(authorize())
    run.send(void(PAYMENT))
    assert violations(run.evidence()) == []


def in_review(*, effect: bool) -> StagedRun:
    """An authorization that stays unknown to the last look."""
    run = StagedRun()
    op_id = run.send(authorize(), UNKNOWN)
    for _ in RECONCILE_AFTER_MS:
        run.fire(op_id, UNKNOWN)
    if effect:
        run._effect(run.calls[op_id], kind="authorize", reversed_kind=None)
    return run


@pytest.mark.parametrize("effect", [True, False])
def test_manual_review_is_a_last_word_whether_or_not_the_gateway_did_it(effect: bool) -> None:
    evidence = in_review(effect=effect).evidence()
    assert [operation.state for _, operation in evidence.operations().values()] == [OperationState.MANUAL_REVIEW]
    assert violations(evidence) == []


def test_payment_id_of_the_plants_is_the_one_that_the_run_opened(valid: Evidence) -> None:
    assert {each.payment_id for each in valid.rows[ORIGIN, ORDER].payments} == {PaymentId(PAYMENT)}
    assert OpId(valid.commands[ORDER][0]) == op_id_of(authorize())
