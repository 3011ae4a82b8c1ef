"""The re-drive rule: after a crash, all that is owed is said again, as it was said first, and nothing else happens."""

import dataclasses

import pytest

from schemas.records.claims import ClaimRow
from schemas.records.commands import op_id_of
from schemas.vocabulary import CallKind, OperationState, RetryAdvice
from streams.domain.errors import InvariantViolatedError
from streams.domain.limits import DEFAULT_RULES, MAX_OPERATIONS
from streams.domain.order import order_ends_at_ms
from streams.domain.outputs import CallGateway, ClearTimer, Output, Publish, Reply, SendClaim, SetTimer
from tests.support.order_desk import (
    ORDER,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    authorize,
    capture,
    completed,
    plan,
    refund,
    refusal,
    sale,
)


def crashed(desk: Desk) -> list[Output]:
    """Let the worker start again: what is said from now on is said again. Return the list it goes to."""
    desk.replay = True
    desk.said.clear()
    return desk.said


def first_copies(outputs: list[Output]) -> list[Output]:
    """Return the outputs with calls as they were said the first time."""
    return [
        CallGateway(request=dataclasses.replace(each.request, repeated=False))
        if isinstance(each, CallGateway)
        else each
        for each in outputs
    ]


def test_claim_is_said_again_with_its_plan_when_the_command_is_replayed_under_another_policy() -> None:
    desk = Desk()
    desk.send(sale(), command_id="c1")
    before, first = desk.row, list(desk.said)
    said = crashed(desk)
    desk.plan = plan("other", version=2)
    desk.send(sale(), command_id="c1")
    assert said == first
    assert desk.row is before


def test_call_event_and_answer_are_said_again_when_command_or_verdict_is_replayed() -> None:
    desk = Desk()
    desk.send(sale(), command_id="c1")
    desk.said.clear()
    verdict = desk.grant()
    first = list(desk.said)
    said = crashed(desk)
    desk.verdict(verdict)
    assert first_copies(said) == first
    assert [each.request.repeated for each in said if isinstance(each, CallGateway)] == [True]
    said.clear()
    desk.send(sale(), command_id="c1")
    assert first_copies(said) == first


def test_call_is_no_second_copy_when_the_replay_itself_makes_it() -> None:
    desk = Desk()
    desk.send(sale())
    said = crashed(desk)
    desk.grant()
    (call,) = [each for each in said if isinstance(each, CallGateway)]
    assert not call.request.repeated


def test_events_and_answers_are_said_again_when_the_operation_is_settled() -> None:
    desk = Desk()
    desk.send(sale(), command_id="c1")
    verdict = desk.grant()
    result = desk.call()
    events = list(desk.events)
    for _ in range(2):
        said = crashed(desk)
        desk.result(result)
        assert [each for each in said if isinstance(each, Publish)] == events
        assert [each.reply.final for each in said if isinstance(each, Reply)] == [True]
        assert len(said) == 3
    said = crashed(desk)
    desk.verdict(verdict)
    assert [each for each in said if isinstance(each, Publish)] == events


def test_older_events_keep_their_content_when_the_payment_has_moved_on() -> None:
    desk = Desk()
    first = desk.send(sale())
    desk.grant()
    result = desk.call()
    events = list(desk.events)
    desk.do(refund(desk.payment.payment_id, 1_000))
    desk.notice(first, SUCCESS)
    said = crashed(desk)
    desk.result(result)
    assert [each for each in said if isinstance(each, Publish)] == events


def test_next_operations_claim_is_said_again_when_the_result_before_it_is_replayed() -> None:
    desk = Desk()
    desk.send(sale())
    desk.send(capture(desk.row.operations[0].payment_id, 1))  # type: ignore[union-attr]  # the row is there
    desk.grant()
    result = desk.call()
    said = crashed(desk)
    desk.result(result)
    assert len([each for each in said if isinstance(each, SendClaim)]) == 1


def test_active_operation_is_driven_when_the_replayed_input_is_about_a_queued_one() -> None:
    desk = Desk()
    desk.send(sale(), command_id="c1")
    desk.send(sale(key="2"), command_id="c2")
    said = crashed(desk)
    desk.send(sale(key="2"), command_id="c2")
    assert [type(each) for each in said] == [SendClaim]


def test_timer_is_said_again_when_the_result_that_asked_for_it_is_replayed() -> None:
    desk = Desk()
    desk.script.append(refusal(RetryAdvice.OTHER_GATEWAY))
    op_id = desk.send(sale())
    desk.grant()
    result = desk.call()
    timer = desk.timers[op_id]
    said = crashed(desk)
    desk.result(result)
    assert SetTimer(timer=timer) in said
    said.clear()
    desk.fire(op_id)
    cleared, called = (each for each in said if isinstance(each, ClearTimer | CallGateway))
    assert isinstance(cleared, CallGateway)
    assert isinstance(called, ClearTimer)
    said.clear()
    desk.fire_timer(timer)
    assert [type(each) for each in said if isinstance(each, ClearTimer | CallGateway)] == [ClearTimer, CallGateway]


def test_inquiry_and_waiting_operation_are_driven_when_either_is_replayed() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    first = desk.do(capture(payment, 1_000, key="1"), UNKNOWN)
    second = desk.send(capture(payment, 2_000, key="2"), command_id="second")
    verdict = desk.grant()
    said = crashed(desk)
    desk.verdict(verdict)
    (call,) = [each.request for each in said if isinstance(each, CallGateway)]
    assert (call.op_id, call.kind) == (first, CallKind.INQUIRE)
    assert not [each for each in said if isinstance(each, Reply) and each.to.request_id == "second"]
    desk.replay = False
    result = desk.call(UNKNOWN)
    assert desk.state(second) is OperationState.REJECTED
    said = crashed(desk)
    desk.result(result)
    assert [each.transition for each in said if isinstance(each, Publish)][-1] == "rejected"
    assert [each.to.request_id for each in said if isinstance(each, Reply)][-1] == "second"


def test_claims_are_asked_again_only_by_the_command_when_the_row_was_lost() -> None:
    lost = Desk()
    lost.send(sale(), command_id="c1")
    verdict = lost.grant()
    desk = Desk(replay=True, claim_rows=lost.claim_rows)
    desk.plan = plan("other", version=2)
    assert desk.verdict(verdict).outputs == ()
    op_id = desk.send(sale(), command_id="c1")
    desk.settle()
    assert desk.operation(op_id).gateway == "mock"


def test_result_is_ignored_when_the_row_was_lost_and_the_claim_is_asked_again() -> None:
    lost = Desk()
    lost.send(sale(), command_id="c1")
    lost.grant()
    result = completed(lost.requests[0], SUCCESS, now_ms=1)
    desk = Desk(replay=True, claim_rows=lost.claim_rows)
    op_id = desk.send(sale(), command_id="c1")
    desk.result(result)
    assert desk.state(op_id) is OperationState.CLAIMING
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_conflict_is_told_again_when_its_verdict_is_replayed() -> None:
    desk = Desk()
    command = sale()
    desk.claim_rows[command.idempotency_key] = ClaimRow(
        op_id="op_elsewhere",  # type: ignore[arg-type]  # an id as text
        order_id=ORDER,
        plan=plan("mock"),
        claimed_at_ms=1,
    )
    desk.send(command)
    desk.said.clear()
    verdict = desk.grant()
    first = list(desk.said)
    said = crashed(desk)
    desk.verdict(verdict)
    assert said == first


def test_refusal_of_a_full_order_is_told_again_when_the_command_is_replayed() -> None:
    desk = Desk()
    desk.do(sale(1_000_000))
    for number in range(MAX_OPERATIONS - 1):
        desk.send(refund(desk.payment.payment_id, 1, key=f"r{number}"))
    said = crashed(desk)
    desk.send(sale(key="too many"))
    assert [type(each) for each in said] == [Publish, Reply, SendClaim]


def test_refusal_of_a_full_order_is_told_in_the_same_words_when_the_order_has_moved_on() -> None:
    desk = Desk()
    desk.do(sale(1_000_000))
    payment = desk.payment.payment_id
    for number in range(MAX_OPERATIONS - 1):
        desk.send(refund(payment, 1, key=f"r{number}"))
    desk.send(refund(payment, 1, key="too many"), command_id="last")
    first = desk.events[-1]
    assert (first.event.operation.op_id, first.event.sequence) == (op_id_of(refund(payment, 1, key="too many")), 0)
    moment = desk.now_ms
    desk.now_ms += 1
    desk.grant()
    desk.call()
    said = crashed(desk)
    desk.now_ms = moment
    desk.send(refund(payment, 1, key="too many"), command_id="last")
    assert next(each for each in said if isinstance(each, Publish)) == first


def test_row_leaves_when_everything_is_settled_and_its_life_is_over() -> None:
    desk = Desk()
    op_id = desk.do(sale(), PENDING)
    assert desk.row is not None
    assert order_ends_at_ms(desk.row) is None
    desk.now_ms += 10 * DEFAULT_RULES.order_life_ms
    before = desk.row
    assert desk.end().row is before
    desk.notice(op_id, SUCCESS)
    assert desk.row is not None
    assert order_ends_at_ms(desk.row) == desk.now_ms + DEFAULT_RULES.paid_life_ms
    before = desk.row
    assert desk.end().row is before
    desk.now_ms += DEFAULT_RULES.paid_life_ms
    assert desk.end().row is None
    assert desk.end().row is None


def test_row_is_a_defect_when_it_contradicts_itself() -> None:
    desk = Desk()
    desk.send(sale())
    desk.grant()
    result = completed(desk.requests[0], SUCCESS, now_ms=1)
    assert desk.row is not None
    desk.row = dataclasses.replace(desk.row, payments=())
    with pytest.raises(InvariantViolatedError):
        desk.result(result)
    broken = Desk()
    broken.send(sale(), command_id="c1")
    broken.grant()
    assert broken.row is not None
    operation = dataclasses.replace(broken.row.operations[0], gateway=None)
    broken.row = dataclasses.replace(broken.row, operations=(operation,))
    broken.replay = True
    with pytest.raises(InvariantViolatedError):
        broken.send(sale(), command_id="c1")
