"""One key, one operation: joins, replays, conflicts, and who is answered what."""

import pytest

from schemas.identifiers import OrderId
from schemas.records.claims import ClaimRow
from schemas.vocabulary import OperationState, Outcome, Rejection
from streams.domain.claims import decide_claim
from streams.domain.limits import MAX_WAITERS
from tests.support.order_desk import PENDING, SUCCESS, Desk, authorize, capture, completed, plan, refund, sale

ELSEWHERE = OrderId("order-2")


def test_same_command_joins_and_both_are_answered_when_it_is_in_flight() -> None:
    desk = Desk()
    op_id = desk.send(sale(), command_id="first")
    assert desk.send(sale(), command_id="second") == op_id
    desk.settle()
    assert len(desk.events) == 2
    assert [reply.replayed for reply in desk.replies_to("first")] == [False, False]
    assert [reply.replayed for reply in desk.replies_to("second")] == [True, True]
    assert [reply.final for reply in desk.replies_to("second")] == [False, True]


def test_late_joiner_hears_at_once_that_it_is_accepted_when_the_claim_was_granted() -> None:
    desk = Desk()
    desk.send(sale(), command_id="first")
    desk.grant()
    desk.send(sale(), command_id="second")
    assert [reply.final for reply in desk.replies_to("second")] == [False]


def test_stored_outcome_is_replayed_when_the_command_comes_again_later() -> None:
    desk = Desk()
    desk.do(sale())
    said = len(desk.said)
    desk.send(sale(), command_id="later")
    (reply,) = desk.replies_to("later")
    assert (reply.final, reply.replayed) == (True, True)
    assert len(desk.said) == said + 1


def test_replay_has_the_operation_as_it_ended_and_the_payment_as_it_is_now() -> None:
    desk = Desk()
    opened = desk.send(authorize(), command_id="authorize first")
    desk.settle()
    payment = desk.payment.payment_id
    for name, command in (("capture", capture(payment)), ("refund", refund(payment, 300))):
        desk.send(command, command_id=f"{name} first")
        desk.settle()
    for name, command in (("authorize", authorize()), ("capture", capture(payment)), ("refund", refund(payment, 300))):
        desk.send(command, command_id=f"{name} again")
        first, again = (desk.replies_to(f"{name} {when}")[-1] for when in ("first", "again"))
        assert (again.final, again.replayed) == (True, True)
        assert again.operation == first.operation
        assert again.payment == desk.view
    assert desk.state(opened) is OperationState.SUCCEEDED
    assert desk.replies_to("authorize first")[-1].payment != desk.view


def test_redelivery_is_no_replay_when_the_very_same_command_comes_twice() -> None:
    desk = Desk()
    desk.send(sale(), command_id="first")
    before = desk.row
    desk.send(sale(), command_id="first")
    assert desk.row is before
    desk.settle()
    desk.send(sale(), command_id="first")
    assert not any(reply.replayed for reply in desk.replies)


def test_command_says_nothing_when_it_is_known_and_nobody_waits() -> None:
    desk = Desk()
    desk.do(sale())
    before, said = desk.row, len(desk.said)
    desk.send(sale(), waits=False)
    assert (desk.row, len(desk.said)) == (before, said)


def test_request_is_answered_at_once_when_too_many_wait_already() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    for _ in range(MAX_WAITERS - 1):
        desk.send(sale())
    desk.send(sale(), command_id="one too many")
    (reply,) = desk.replies_to("one too many")
    assert reply.final
    assert reply.operation is not None
    assert reply.operation.state is OperationState.CLAIMING
    assert len(desk.operation(op_id).waiters) == MAX_WAITERS


def test_key_is_refused_at_once_when_this_order_used_it_with_another_body() -> None:
    desk = Desk()
    first = desk.send(sale(1_999))
    second = desk.send(sale(2_000), command_id="other body")
    assert desk.state(second) is OperationState.CONFLICT
    (reply,) = desk.replies_to("other body")
    assert reply.final
    assert reply.operation is not None
    assert reply.operation.rejection is Rejection.IDEMPOTENCY_KEY_REUSED
    desk.settle()
    assert desk.state(first) is OperationState.SUCCEEDED


def test_key_is_refused_when_another_order_holds_it() -> None:
    desk = Desk()
    holder = ClaimRow(op_id="op_elsewhere", order_id=ELSEWHERE, plan=plan("mock"), claimed_at_ms=1)  # type: ignore[arg-type]  # an id as text
    command = sale()
    desk.claim_rows[command.idempotency_key] = holder
    op_id = desk.do(command)
    assert desk.state(op_id) is OperationState.CONFLICT
    assert desk.transitions == ["rejected"]
    assert desk.operation(op_id).token is None
    assert desk.row is not None
    assert desk.row.active_op_id is None


def test_conflict_outranks_the_orders_own_rules_when_both_would_refuse() -> None:
    desk = Desk()
    desk.do(sale())
    holder = ClaimRow(op_id="op_elsewhere", order_id=ELSEWHERE, plan=plan("mock"), claimed_at_ms=1)  # type: ignore[arg-type]  # an id as text
    command = sale(key="second")
    desk.claim_rows[command.idempotency_key] = holder
    assert desk.state(desk.do(command)) is OperationState.CONFLICT


def test_next_operation_starts_when_the_active_one_loses_its_key() -> None:
    desk = Desk()
    holder = ClaimRow(op_id="op_elsewhere", order_id=ELSEWHERE, plan=plan("mock"), claimed_at_ms=1)  # type: ignore[arg-type]  # an id as text
    lost = sale(key="lost")
    desk.claim_rows[lost.idempotency_key] = holder
    desk.send(lost)
    kept = desk.send(sale(key="kept"))
    desk.settle()
    assert desk.state(kept) is OperationState.SUCCEEDED


def test_two_orders_get_opposite_verdicts_when_they_race_for_a_key() -> None:
    command = sale(order=ELSEWHERE)
    desk = Desk()
    op_id = desk.send(sale())
    rival = Desk()
    rival.send(command)
    row, verdict = decide_claim(None, rival.claims.popleft(), 1)
    assert verdict is not None
    assert verdict.granted
    assert row is not None
    desk.claim_rows[command.idempotency_key] = row
    desk.settle()
    assert desk.state(op_id) is OperationState.CONFLICT


def test_verdict_is_ignored_when_the_operation_is_unknown_or_queued() -> None:
    desk = Desk()
    desk.send(sale())
    verdict = desk.grant()
    stranger = Desk()
    assert stranger.verdict(verdict).row is None
    assert stranger.said == []
    busy = Desk()
    busy.send(sale(key="busy"))
    queued = busy.send(sale())
    before = busy.row
    assert busy.verdict(verdict).row is before
    assert busy.state(queued) is OperationState.QUEUED


def test_verdict_and_result_change_nothing_when_they_come_twice() -> None:
    desk = Desk()
    desk.send(sale())
    verdict = desk.grant()
    before, said = desk.row, len(desk.said)
    assert desk.verdict(verdict).row is before
    result = desk.call()
    before, said = desk.row, len(desk.said)
    assert desk.result(result).row is before
    assert desk.verdict(verdict).row is before
    assert len(desk.said) == said


@pytest.mark.parametrize("queued", [True, False])
def test_result_is_ignored_when_its_operation_is_not_dispatched(queued: bool) -> None:
    first = Desk()
    first.send(sale())
    first.grant()
    result = completed(first.requests[0], SUCCESS, now_ms=1)
    desk = Desk()
    if queued:
        desk.send(sale(key="busy"))
    desk.send(sale())
    before = desk.row
    assert desk.result(result).row is before
    assert desk.requests.__len__() == 0


def test_result_is_ignored_when_its_operation_is_unknown() -> None:
    first = Desk()
    first.send(sale())
    first.grant()
    result = completed(first.requests[0], SUCCESS, now_ms=1)
    assert Desk().result(result).row is None


def test_late_result_is_taken_when_a_notice_left_the_call_open() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    desk.notice(op_id, PENDING)  # the call's own result will say it
    assert desk.state(op_id) is OperationState.DISPATCHED
    desk.call()
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert desk.operation(op_id).call_kind is None


def test_event_ids_differ_when_two_producers_give_their_commands_the_same_id() -> None:
    desk = Desk()
    desk.send(sale(), command_id="1")
    desk.settle()
    desk.send(capture(desk.payment.payment_id, 1), command_id="1")
    desk.settle()
    assert len({each.event_id for each in desk.events}) == len(desk.events)
    assert Outcome.SUCCEEDED.value in desk.transitions
