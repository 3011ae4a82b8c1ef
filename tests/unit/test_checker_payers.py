"""The checker on payers who have to act, on parts that are approved, and on a gateway that contradicts itself."""

from dataclasses import replace

import pytest

from gateway_adapters.mock import wire
from schemas.identifiers import GatewayName, IdempotencyKey, OpId
from schemas.records.commands import Command, CompletionRequested, NamedText, PaymentRequested
from schemas.vocabulary import OperationState
from tests.support.checker import Evidence, violations
from tests.support.exhibits import REFUSED_THEN_SUCCEEDED
from tests.support.order_desk import ACTION, DECLINE, ORDER, ORIGIN, SUCCESS, UNKNOWN, Said, authorize, sale, void
from tests.support.staged_life import PAYMENT
from tests.support.staged_run import StagedRun
from tests.support.workload import Act, History

APPROVED_MINOR = 6_000
PART = Said(confirmed_minor=APPROVED_MINOR)


def complete(*, key: str = "complete") -> Command:
    return CompletionRequested(
        origin_id=ORIGIN,
        order_id=ORDER,
        idempotency_key=IdempotencyKey(key),
        payment_id=PAYMENT,
        parameters=(NamedText(name="mock_result", value="ok"),),
    )


def waiting() -> StagedRun:
    """A payment that waits for its payer."""
    run = StagedRun()
    run.send(authorize(), ACTION)
    return run


def completed_by(*said: Said, agreed: bool) -> Evidence:
    """The payer has spoken, the merchant completes, and asks once more what became of the payment."""
    run = waiting()
    run.history.acts.append(Act(payment_id=PAYMENT, agreed=agreed))
    run.send(complete(), *said)
    run.send(authorize())
    run.history.requests = [each for each in run.history.requests if each.last.status != 202]
    return run.evidence()


def in_part(*, allowed: bool, token: str = "tok_1") -> Evidence:
    """An authorization of which a part is approved."""
    run = StagedRun()
    command = authorize(token=token)
    assert isinstance(command, PaymentRequested)
    run.send(replace(command, allow_partial=allowed), PART)
    return run.evidence()


def contradicted(token: str = REFUSED_THEN_SUCCEEDED) -> Evidence:
    """A sale that the gateway refuses and carries out later."""
    run = StagedRun()
    op_id = run.send(sale(token=token), DECLINE)
    run.notice(op_id, wire.Status.SUCCEEDED)
    return run.evidence()


def broken(evidence: Evidence) -> set[str]:
    """Return the names of the checks that find something."""
    return {each.partition(":")[0] for each in violations(evidence)}


# What is right


def test_completion_is_no_violation_when_the_payer_agreed() -> None:
    evidence = completed_by(SUCCESS, agreed=True)
    assert [each.last.status for each in evidence.history.requests] == [200, 201]
    assert len(evidence.ledger) == 1
    assert violations(evidence) == []


def test_completion_is_no_violation_when_the_payer_refused() -> None:
    evidence = completed_by(DECLINE, agreed=False)
    assert [each.last.status for each in evidence.history.requests] == [402, 402]
    assert violations(evidence) == []


def test_cancelled_payment_is_no_violation_when_its_payer_left() -> None:
    run = waiting()
    run.send(void(PAYMENT))
    run.send(authorize())
    evidence = run.evidence()
    assert [each.last.status for each in evidence.history.requests] == [202, 200, 502]
    assert violations(evidence, patient=False) == []


def test_part_is_no_violation_when_the_merchant_allows_it() -> None:
    evidence = in_part(allowed=True)
    assert [each.counted_minor for _, each in evidence.operations().values()] == [APPROVED_MINOR]
    assert violations(evidence) == []


def test_part_is_no_violation_when_it_is_let_go() -> None:
    evidence = in_part(allowed=False)
    states = [each.state for _, each in evidence.operations().values()]
    assert states == [OperationState.DECLINED, OperationState.SUCCEEDED]
    assert violations(evidence) == []


def test_part_that_is_let_go_is_no_contradiction_whatever_its_token_asks_for() -> None:
    """A rule of the Mock's goes before the token."""
    assert violations(in_part(allowed=False, token=REFUSED_THEN_SUCCEEDED)) == []


def test_refusal_that_the_gateway_contradicts_is_no_violation_when_it_was_asked_to() -> None:
    evidence = contradicted()
    assert [each.state for _, each in evidence.operations().values()] == [OperationState.DECLINED]
    assert violations(evidence) == []


# What is not


def test_checker_catches_a_refusal_that_the_gateway_contradicts_unasked() -> None:
    assert {"every_command_ended_once", "ledger_equals_rows"} <= broken(contradicted("tok_1"))


def test_checker_catches_a_contradiction_that_nobody_is_asked_about() -> None:
    evidence = contradicted()
    unseen = [each for each in evidence.events if not each[0].type.endswith("reviewed.v1")]
    assert "contradictions_are_reviewed" in broken(replace(evidence, events=unseen))
    row = evidence.rows[ORIGIN, ORDER]
    closed = replace(row, payments=tuple(replace(each, review=False) for each in row.payments))
    assert "contradictions_are_reviewed" in broken(replace(evidence, rows={(ORIGIN, ORDER): closed}))


def test_checker_catches_a_contradicted_refusal_that_counts() -> None:
    evidence = contradicted()
    row = evidence.rows[ORIGIN, ORDER]
    counts = replace(row, operations=tuple(replace(each, counted_minor=1) for each in row.operations))
    assert "ledger_equals_rows" in broken(replace(evidence, rows={(ORIGIN, ORDER): counts}))


def test_checker_catches_a_payment_whose_payer_never_agreed() -> None:
    assert "nobody_pays_unasked" in broken(completed_by(SUCCESS, agreed=False))


def test_checker_catches_a_payer_who_is_not_told_where_to_act() -> None:
    run = waiting()
    (request,) = run.history.requests
    (told,) = request.answers
    request.answers = [replace(told, body={**told.body, "actionUrl": None})]
    assert "payers_know_where_to_act" in broken(run.evidence())


def test_checker_catches_a_cancellation_that_is_told_to_leave_the_payment_waiting() -> None:
    run = waiting()
    run.send(void(PAYMENT))
    request = run.history.requests[-1]
    request.answers = [replace(request.last, body={**request.last.body, "status": "requires_action"})]
    assert broken(run.evidence()) & {"cancellations_end_the_wait"}


def carried_out_too_late(token: str) -> Evidence:
    """A sale that succeeded, and at another account of its plan, which had refused it, as well."""
    run = StagedRun()
    run.send(sale())
    evidence = run.evidence()
    stray = replace(evidence.ledger[0], seq=2, account="second", token=token)
    plans = dict.fromkeys(evidence.plans, frozenset({"mock", "mock/second"}))
    return replace(evidence, ledger=[*evidence.ledger, stray], plans=plans)


def test_refusal_that_is_carried_out_after_the_payment_went_on_counts_for_nothing_and_wants_a_person() -> None:
    evidence = carried_out_too_late(REFUSED_THEN_SUCCEEDED)
    assert broken(evidence) - {"effects_are_what_was_asked"} == {"contradictions_are_reviewed"}
    assert {"one_effect_an_operation", "ledger_equals_rows", "effects_are_at_their_accounts"} <= broken(
        carried_out_too_late("tok_1")
    )


def cancelled_at(gateway: str, *, in_ledger: bool, held: bool = False) -> Evidence:
    """A payment at this gateway whose merchant cancels; it waited for its payer, or was held."""
    run = StagedRun()
    run.send(authorize(), *(() if held else (ACTION,)))
    run.send(void(PAYMENT))
    run.send(authorize())
    run.history.requests = [each for each in run.history.requests if each.last.status != 202]
    evidence = run.evidence()
    rows = {
        key: replace(row, payments=tuple(replace(each, gateway=GatewayName(gateway)) for each in row.payments))
        for key, row in evidence.rows.items()
    }
    ledger = [replace(each, gateway=gateway) for each in evidence.ledger if in_ledger or each.kind != "void"]
    return replace(evidence, rows=rows, ledger=ledger)


def test_gateway_that_is_told_of_no_cancel_needs_none_in_its_books_unless_it_held_money() -> None:
    check = "ledger_equals_events"
    assert check not in broken(cancelled_at("paypal", in_ledger=False))
    assert check not in broken(cancelled_at("adyen", in_ledger=False))
    assert check in broken(cancelled_at("stripe", in_ledger=False))
    assert check in broken(cancelled_at("paypal", in_ledger=False, held=True))
    assert check not in broken(cancelled_at("stripe", in_ledger=True))


def test_checker_catches_a_completion_that_takes_money_itself() -> None:
    evidence = completed_by(SUCCESS, agreed=True)
    step = next(op_id for op_id in evidence.operations() if op_id != evidence.ledger[0].op_id)
    again = replace(evidence.ledger[0], seq=2, op_id=step, gateway_key=f"{step}-1")
    assert "completions_take_nothing" in broken(replace(evidence, ledger=[*evidence.ledger, again]))


def test_checker_catches_a_completion_that_is_told_to_have_paid_what_was_never_paid() -> None:
    evidence = completed_by(DECLINE, agreed=False)
    requests = list(evidence.history.requests)
    lied = replace(requests[0].last, status=200, body={"status": "captured"})
    history = History()
    history.requests = [replace(requests[0], answers=[lied]), *requests[1:]]
    assert "completions_take_nothing" in broken(replace(evidence, history=history))


def test_checker_catches_a_part_that_was_kept_and_not_wanted() -> None:
    evidence = in_part(allowed=False)
    assert "unwanted_parts_are_let_go" in broken(replace(evidence, ledger=evidence.ledger[:1]))


def test_checker_catches_a_part_that_was_given_back_for_another_amount() -> None:
    evidence = in_part(allowed=False)
    approved, let_go = evidence.ledger
    less = replace(let_go, amount_minor=let_go.amount_minor - 1)
    assert "unwanted_parts_are_let_go" in broken(replace(evidence, ledger=[approved, less]))


def test_checker_catches_a_capture_of_a_payment_that_was_let_go() -> None:
    evidence = in_part(allowed=False)
    row = evidence.rows[ORIGIN, ORDER]
    taken = replace(row.operations[0], op_id=OpId("op_capture"), error=None)
    rows = {**evidence.rows, (ORIGIN, ORDER): replace(row, operations=(*row.operations, taken))}
    effect = replace(evidence.ledger[0], seq=9, kind="capture", op_id="op_capture")
    assert "unwanted_parts_are_let_go" in broken(replace(evidence, rows=rows, ledger=[*evidence.ledger, effect]))


@pytest.mark.parametrize("amount", [APPROVED_MINOR - 1, APPROVED_MINOR + 1])
def test_checker_catches_a_part_that_is_another_than_the_engine_was_told(amount: int) -> None:
    evidence = in_part(allowed=True)
    other = [replace(evidence.ledger[0], amount_minor=amount)]
    assert "effects_are_what_was_asked" in broken(replace(evidence, ledger=other))


def test_checker_catches_a_part_that_nobody_allowed_and_that_was_not_let_go() -> None:
    evidence = in_part(allowed=True)
    history = History()
    (request,) = evidence.history.requests
    wanted = {name: value for name, value in request.body.items() if name != "allowPartial"}
    history.requests = [replace(request, body=wanted)]
    assert broken(replace(evidence, history=history)) != set()


def test_sale_is_no_violation_when_its_completion_was_doubted_first() -> None:
    run = StagedRun()
    run.send(sale(), ACTION)
    payment = run.evidence().rows[ORIGIN, ORDER].payments[0].payment_id
    run.history.acts.append(Act(payment_id=payment, agreed=True))
    command = complete()
    assert isinstance(command, CompletionRequested)
    step = run.send(replace(command, payment_id=payment), UNKNOWN)
    run.fire(step, SUCCESS)
    run.send(sale())
    evidence = run.evidence()
    assert violations(evidence, patient=False) == []
    assert len(evidence.ledger) == 1
