"""In doubt: when it is looked at, what ends it, and what proves nothing."""

from dataclasses import replace

from gateway_adapters.mock.spec import SPEC
from schemas.identifiers import GatewayRoute
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, OperationState, Overlay, Rejection, RetryAdvice, TimerKind
from streams.domain.limits import (
    DEFAULT_RULES,
    LATE_CALL_MS,
    MAX_EVENTS,
    MIN_ASKED_PAUSE_MS,
    PENDING_LIFE_MS,
    RECONCILE_AFTER_MS,
)
from streams.domain.outputs import CallGateway
from tests.support.doubtful_orders import (
    DAY_MS,
    RESEND_ADVISED,
    WINDOWS,
    doubtful,
    looked,
    state,
)
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    MOCK,
    NOT_FOUND,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    completed,
    refund,
    refusal,
    sale,
)


def test_operation_is_in_doubt_and_answered_when_the_outcome_is_unknown() -> None:
    desk, op_id = doubtful()
    assert state(desk, op_id) is OperationState.UNKNOWN
    assert desk.transitions == ["accepted", "doubted"]
    assert desk.view.overlays == (Overlay.IN_DOUBT,)
    assert desk.replies[-1].final
    assert len(desk.requests) == 0


def test_operation_in_doubt_is_inquired_about_and_never_fails_over() -> None:
    desk, op_id = doubtful()
    request = looked(desk, op_id, SUCCESS)
    assert (request.kind, request.inquired_kind, request.gateway) == (CallKind.INQUIRE, CallKind.SALE, MOCK)
    assert (request.token, request.attempt, request.call_number) == (None, 1, 2)
    assert request.gateway_key.endswith("-1")
    assert state(desk, op_id) is OperationState.SUCCEEDED
    assert len(desk.replies) == 2


def test_operation_fails_without_another_attempt_when_the_inquiry_finds_nothing_late_enough() -> None:
    desk, op_id = doubtful()
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    assert desk.transitions[-1] == "failed"
    assert desk.view.status == "failed"
    assert len(desk.requests) == 0


def test_doubt_stays_when_an_inquiry_finds_nothing_while_the_call_may_still_be_on_its_way() -> None:
    desk, op_id = doubtful()
    for _ in range(4):  # after 5 s, 35 s, 2 min 35 s, 12 min 35 s: all within LATE_CALL_MS
        assert looked(desk, op_id, NOT_FOUND).kind is CallKind.INQUIRE
        assert state(desk, op_id) is OperationState.UNKNOWN
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    assert desk.transitions == ["accepted", "doubted", "failed"]


def test_absence_is_no_proof_of_an_attempt_that_was_learnt_of_elsewhere() -> None:
    """This owner does not know when it was sent: it counts as sent when it was heard of."""
    desk = Desk(now_ms=DAY_MS)
    op_id = desk.send(sale())
    desk.grant()
    ahead = replace(desk.requests.popleft(), kind=CallKind.INQUIRE, attempt=2, call_number=3)
    desk.result(completed(ahead, UNKNOWN, now_ms=desk.now_ms))
    assert desk.state(op_id) is OperationState.UNKNOWN
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.UNKNOWN


def test_pending_operation_is_never_sent_again_when_an_inquiry_finds_nothing() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), PENDING)
    looked(desk, op_id, NOT_FOUND)
    assert (desk.state(op_id), len(desk.requests)) == (OperationState.PENDING, 0)
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


def test_review_ends_when_an_extra_inquiry_finds_nothing() -> None:
    desk, op_id = doubtful()
    for _ in RECONCILE_AFTER_MS:
        looked(desk, op_id, UNKNOWN)
    desk.do(refund(desk.payment.payment_id, 1), NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED


def test_looks_follow_the_schedule_and_a_person_decides_when_the_doubt_stays() -> None:
    desk, op_id = doubtful()
    pauses = []
    for _ in RECONCILE_AFTER_MS:
        timer = desk.timers[op_id]  # type: ignore[index]  # an operation id as text
        assert timer.kind is TimerKind.RECONCILE
        pauses.append(timer.due_at_ms - desk.now_ms)
        looked(desk, op_id, UNKNOWN)
    assert tuple(pauses) == RECONCILE_AFTER_MS
    assert state(desk, op_id) is OperationState.MANUAL_REVIEW
    assert desk.transitions == ["accepted", "doubted", "reviewed"]
    assert desk.view.overlays == (Overlay.IN_DOUBT, Overlay.REVIEW)
    assert desk.timers == {}
    desk.notice(op_id, DECLINE)  # type: ignore[arg-type]  # an operation id as text
    assert state(desk, op_id) is OperationState.DECLINED


GROWING_S = [5, 30, 120, 600, 600, 3_600, 21_600, 86_400]


def test_schedule_is_five_daily_looks_after_the_eight_growing_ones() -> None:
    assert [each // 1_000 for each in RECONCILE_AFTER_MS] == GROWING_S + [86_400] * 5


def test_pending_operation_is_looked_at_for_thirty_days_and_ends_in_review_when_nothing_comes() -> None:
    desk = Desk()
    op_id = desk.do(sale(), PENDING)
    began_ms, looks = desk.now_ms, 0
    while op_id in desk.timers:
        looked(desk, op_id, UNKNOWN if looks % 2 else PENDING)
        looks += 1
        assert looks < 2 * len(RECONCILE_AFTER_MS) + 30
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW
    assert desk.transitions == ["accepted", "pended", "reviewed"]
    assert PENDING_LIFE_MS <= desk.now_ms - began_ms < PENDING_LIFE_MS + DAY_MS


def test_pending_operation_is_given_up_when_its_gateway_says_how_long_it_may_take() -> None:
    able = replace(SPEC.capabilities, pending_life_ms={CallKind.SALE: DAY_MS})
    desk = Desk(rules=replace(DEFAULT_RULES, capabilities={GatewayRoute("mock"): able}))
    op_id = desk.do(sale(), PENDING)
    while op_id in desk.timers:
        looked(desk, op_id, PENDING)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW
    assert desk.now_ms < 3 * DAY_MS


def test_review_stays_when_an_extra_inquiry_says_pending() -> None:
    desk, op_id = doubtful()
    for _ in RECONCILE_AFTER_MS:
        looked(desk, op_id, UNKNOWN)
    second = desk.do(refund(desk.payment.payment_id, 1), PENDING)
    assert state(desk, op_id) is OperationState.MANUAL_REVIEW
    assert desk.operation(second).rejection is Rejection.PAYMENT_IN_DOUBT


def test_doubt_becomes_pending_or_action_when_the_gateway_knows_more() -> None:
    desk, op_id = doubtful()
    looked(desk, op_id, PENDING)
    assert state(desk, op_id).value == "pending"
    looked(desk, op_id, ACTION)
    assert state(desk, op_id).value == "requires_action"
    desk.notice(op_id, PENDING)  # type: ignore[arg-type]  # an operation id as text
    assert desk.transitions == ["accepted", "doubted", "pended", "action_required", "pended"]
    assert len({each.event_id for each in desk.events}) == 5


def test_states_stop_alternating_when_the_operation_has_told_enough() -> None:
    desk = Desk()
    op_id = desk.do(sale(), PENDING)
    for index in range(MAX_EVENTS * 2):
        desk.notice(op_id, PENDING if index % 2 else ACTION)
        if desk.requests:
            desk.call(ACTION)
    assert len(desk.operation(op_id).events) == MAX_EVENTS
    desk.notice(op_id, SUCCESS)
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_stale_inquiry_proves_nothing_when_a_newer_call_is_awaited() -> None:
    desk = Desk(rules=WINDOWS)
    op_id = desk.do(sale(), RESEND_ADVISED)
    desk.fire(op_id)
    stale = desk.requests[0]
    desk.call(RESEND_ADVISED)
    looked(desk, op_id, RESEND_ADVISED)
    desk.requests.appendleft(stale)
    desk.call(NOT_FOUND)
    assert desk.state(op_id) is OperationState.UNKNOWN
    assert desk.operation(op_id).call_kind is CallKind.SALE


def test_operation_rests_once_when_the_result_and_the_notice_after_it_are_read_again() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    result = desk.call(ACTION)
    started_ms = desk.now_ms
    desk.now_ms += 1
    desk.notice(op_id, PENDING)
    desk.now_ms += 1
    desk.notice(op_id, ACTION)
    desk.call(ACTION)
    before = desk.row
    desk.replay = True
    desk.now_ms = started_ms  # the time of a record is the log's, also when it is read again
    desk.result(result)
    desk.now_ms += 1
    desk.notice(op_id, PENDING)
    assert desk.row is before
    assert len({each.event_id for each in desk.events}) == 4


def test_gateway_is_asked_where_the_payer_acts_when_a_notice_says_that_it_has_to() -> None:
    """A notice brings no page: told so without it, a merchant can send its payer nowhere."""
    for first in (PENDING, UNKNOWN):
        desk = Desk()
        op_id = desk.do(sale(), first)
        desk.notice(op_id, ACTION)
        assert desk.state(op_id) is not OperationState.REQUIRES_ACTION
        assert [each.kind for each in desk.requests] == [CallKind.INQUIRE]
        desk.notice(op_id, ACTION)
        assert len(desk.requests) == 1
        desk.call(ACTION)
        assert desk.state(op_id) is OperationState.REQUIRES_ACTION
        assert desk.view.status == "requires_action"
        assert desk.operation(op_id).action_url == ACTION.action_url
        desk.notice(op_id, ACTION)
        assert not desk.requests


def test_gateway_is_asked_again_soon_when_the_answer_under_way_is_older_than_the_notice_of_an_action() -> None:
    desk = Desk()
    op_id = desk.do(sale(), PENDING)
    desk.fire(op_id)
    desk.notice(op_id, ACTION)
    soon_ms = desk.timers[op_id].due_at_ms
    desk.now_ms += 1
    desk.notice(op_id, ACTION)
    assert desk.timers[op_id].due_at_ms == soon_ms, "a second notice puts nothing off"
    desk.now_ms -= 1
    desk.call(PENDING)
    assert desk.timers[op_id].due_at_ms == desk.now_ms + MIN_ASKED_PAUSE_MS
    looked(desk, op_id, ACTION)
    assert desk.operation(op_id).action_url == ACTION.action_url
    assert desk.timers[op_id].due_at_ms > desk.now_ms + MIN_ASKED_PAUSE_MS


def test_notice_of_an_action_is_believed_without_a_page_when_the_gateway_cannot_be_asked() -> None:
    mute = replace(SPEC.capabilities, operations=SPEC.capabilities.operations - {CallKind.INQUIRE})
    desk = Desk(rules=replace(DEFAULT_RULES, capabilities={GatewayRoute(MOCK): mute}))
    op_id = desk.do(sale(), PENDING)
    desk.notice(op_id, ACTION)
    assert desk.state(op_id) is OperationState.REQUIRES_ACTION
    assert not desk.requests


def test_lateness_counts_from_the_last_answer_to_any_copy_of_the_call() -> None:
    """Two copies were made, and the one that nobody waits for any more was given up later."""
    desk, op_id = doubtful()
    first = completed(first_call(desk, op_id), UNKNOWN, now_ms=desk.now_ms)
    desk.now_ms += LATE_CALL_MS
    desk.result(first)
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.UNKNOWN
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED


def test_lateness_does_not_count_from_a_refusal_of_another_copy_of_the_call() -> None:
    desk, op_id = doubtful()
    first = completed(first_call(desk, op_id), refusal(RetryAdvice.NEVER), now_ms=desk.now_ms)
    desk.now_ms += LATE_CALL_MS
    before = desk.row
    desk.result(first)
    assert desk.row is before
    looked(desk, op_id, NOT_FOUND)
    assert state(desk, op_id) is OperationState.NOT_EXECUTED


def first_call(desk: Desk, op_id: str) -> GatewayCallRequested:
    """Return the first call that was made of the operation."""
    calls = [each.request for each in desk.said if isinstance(each, CallGateway)]
    return next(each for each in calls if each.op_id == op_id)


def test_look_is_not_made_when_its_timer_is_fired_before_its_time() -> None:
    """Else a worker whose clock is far ahead would make all twelve looks at once, and give the rest to a person."""
    desk, op_id = doubtful()
    for _ in range(2 * len(RECONCILE_AFTER_MS)):
        desk.fire_early(op_id)  # type: ignore[arg-type]  # an operation id as text
    assert not desk.requests
    assert state(desk, op_id) is OperationState.UNKNOWN
    assert looked(desk, op_id, SUCCESS).kind is CallKind.INQUIRE
    assert state(desk, op_id) is OperationState.SUCCEEDED
