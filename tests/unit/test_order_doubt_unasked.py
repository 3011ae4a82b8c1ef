"""In doubt at a gateway that has no inquiry, or that gives one useless answer for ever."""

from dataclasses import replace

import pytest

from gateway_adapters.contract import Ability, Capabilities
from gateway_adapters.errors import Signal, error_for
from schemas.identifiers import GatewayRoute
from schemas.records.gateway import OperationError
from schemas.vocabulary import CallKind, OperationState, Outcome, Rejection, RetryAdvice
from streams.domain.limits import LATE_CALL_MS, RECONCILE_AFTER_MS
from tests.support.doubtful_orders import DAY_MS, RESEND_ADVISED, WINDOWS, looked
from tests.support.gateway_calls import capabilities_with
from tests.support.order_desk import (
    ACTION,
    NOT_FOUND,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    error,
    refund,
    refusal,
    sale,
)

ALL = capabilities_with(None)
UNASKED = replace(ALL, operations=ALL.operations - {CallKind.INQUIRE})
BY_REFERENCE = replace(ALL, inquire_by_key=False)
STORED = replace(RESEND_ADVISED, replayed=True)
KEPT = error_for(Signal.KEPT_ERROR)


def desk_with(can: Capabilities) -> Desk:
    return Desk(rules=replace(WINDOWS, capabilities={GatewayRoute("mock"): can}))


def test_same_call_with_its_key_is_the_question_from_the_first_look_on_where_there_is_no_inquiry() -> None:
    desk = desk_with(UNASKED)
    op_id = desk.do(sale(), UNKNOWN)
    for call_number in (2, 3):
        asked = looked(desk, op_id, UNKNOWN)
        assert (asked.kind, asked.token, asked.attempt, asked.call_number) == (CallKind.SALE, "tok_1", 1, call_number)
        assert asked.gateway_key.endswith("-1")
    assert looked(desk, op_id, SUCCESS).kind is CallKind.SALE
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_pending_and_waiting_operations_are_asked_about_so_too() -> None:
    for open_ in (PENDING, ACTION):
        desk = desk_with(UNASKED)
        op_id = desk.do(sale(), open_)
        assert looked(desk, op_id, SUCCESS).kind is CallKind.SALE
        assert desk.state(op_id) is OperationState.SUCCEEDED


def test_reference_serves_for_an_inquiry_where_a_key_does_not() -> None:
    desk = desk_with(BY_REFERENCE)
    op_id = desk.do(sale(), UNKNOWN)
    assert looked(desk, op_id, replace(UNKNOWN, reference="ref")).kind is CallKind.SALE  # none is known yet
    assert looked(desk, op_id, SUCCESS).kind is CallKind.INQUIRE


@pytest.mark.parametrize("answer", [PENDING, replace(UNKNOWN, reference="ref")])
def test_refusal_of_the_same_call_ends_nothing_that_the_gateway_has_named(answer: Said) -> None:
    desk = desk_with(UNASKED)
    desk.do(sale(), SUCCESS)
    op_id = desk.do(refund(desk.payment.payment_id, 1, key="r"), replace(answer, reference="ref"))
    before = desk.state(op_id)
    desk.now_ms += LATE_CALL_MS
    assert looked(desk, op_id, refusal(RetryAdvice.NEVER)).kind is CallKind.REFUND
    assert desk.state(op_id) is before, "it was taken up: that a copy is refused says nothing about it"


def test_nobody_is_asked_past_the_window_and_a_person_decides_at_the_end() -> None:
    desk = desk_with(UNASKED)
    op_id = desk.do(sale(), UNKNOWN)
    desk.now_ms += DAY_MS
    for _ in range(len(RECONCILE_AFTER_MS) + 1):
        if op_id not in desk.timers:
            break
        desk.fire(op_id)
        assert not desk.requests
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW
    assert desk.operation(op_id).call_number == 1
    assert desk.operation(op_id).token is None


def test_operation_that_waits_for_one_that_nobody_can_be_asked_about_is_refused_at_once() -> None:
    desk = desk_with(UNASKED)
    desk.do(sale(), SUCCESS)
    payment = desk.payment.payment_id
    doubtful = desk.do(refund(payment, 1, key="r1"), UNKNOWN)
    row = desk.operation(doubtful)
    assert row.state is OperationState.UNKNOWN
    desk.rules = replace(desk.rules, key_windows_ms={})  # its key is no longer honoured
    waiting = desk.do(refund(payment, 1, key="r2"))
    assert desk.operation(waiting).rejection is Rejection.PAYMENT_IN_DOUBT
    assert not desk.requests


def test_call_whose_doubtful_answer_is_stored_is_not_made_again_and_inquiries_go_on() -> None:
    desk = desk_with(ALL)
    op_id = desk.do(sale(), RESEND_ADVISED)
    for _ in range(2):
        assert looked(desk, op_id, RESEND_ADVISED).kind is CallKind.INQUIRE
    assert desk.requests[0].kind is CallKind.SALE
    desk.call(STORED)
    kinds = []
    while op_id in desk.timers:
        kinds.append(looked(desk, op_id, RESEND_ADVISED).kind)
        assert not desk.requests, "the stored answer would only come again"
    assert set(kinds) == {CallKind.INQUIRE}
    assert len(kinds) == len(RECONCILE_AFTER_MS) - 2
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW


def test_stored_doubt_ends_by_what_an_inquiry_finds() -> None:
    desk = desk_with(ALL)
    op_id = desk.do(sale(), STORED)
    assert desk.operation(op_id).answer_stored
    assert looked(desk, op_id, SUCCESS).kind is CallKind.INQUIRE
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_stored_doubt_ends_as_not_executed_when_the_gateway_knows_nothing_of_it_late_enough() -> None:
    desk = desk_with(ALL)
    op_id = desk.do(sale(), STORED)
    looked(desk, op_id, NOT_FOUND)
    assert (desk.state(op_id), list(desk.requests)) == (OperationState.UNKNOWN, [])
    desk.now_ms += LATE_CALL_MS
    looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED


@pytest.mark.parametrize("failure", [STORED.error, KEPT])
def test_stored_doubt_is_for_a_person_where_what_a_gateway_does_not_find_may_still_come_to_be(
    failure: OperationError,
) -> None:
    desk = desk_with(replace(ALL, not_found_is_proof=False))
    op_id = desk.do(sale(), replace(STORED, error=failure))
    while op_id in desk.timers:
        desk.now_ms += LATE_CALL_MS
        looked(desk, op_id, NOT_FOUND)
        assert not desk.requests
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW


def test_operation_is_never_held_for_not_executed_by_what_some_gateways_do_not_find() -> None:
    desk = desk_with(replace(ALL, not_found_is_proof=False))
    op_id = desk.do(sale(), UNKNOWN)
    desk.now_ms += DAY_MS  # its key is no longer honoured
    while op_id in desk.timers:
        looked(desk, op_id, NOT_FOUND)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW


def test_stored_doubt_drops_the_token_that_no_call_needs_any_more() -> None:
    desk = desk_with(ALL)
    op_id = desk.do(sale(), STORED)
    looked(desk, op_id, UNKNOWN)
    assert desk.operation(op_id).token is None


def test_answer_that_is_stored_and_says_what_became_of_it_counts() -> None:
    desk = desk_with(ALL)
    declined = Said(outcome=Outcome.DECLINED, error=error(RetryAdvice.NEVER, code="card_declined"), replayed=True)
    assert desk.state(desk.do(sale(), declined)) is OperationState.DECLINED


def test_inquiry_can_be_made_by_what_the_gateway_is_asked_by() -> None:
    assert ALL.can_be_asked("USD", reference_known=False)
    assert not UNASKED.can_be_asked("USD", reference_known=True)
    assert [BY_REFERENCE.can_be_asked("USD", reference_known=known) for known in (False, True)] == [False, True]
    neither = replace(BY_REFERENCE, not_in_currency=frozenset({(Ability.INQUIRE_BY_REFERENCE, "USD")}))
    assert [neither.can_be_asked(each, reference_known=True) for each in ("USD", "EUR")] == [False, True]
