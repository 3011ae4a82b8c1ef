"""Payments as a merchant knows them: authorize, capture, void, refund, their sums, their refusals."""

from dataclasses import replace

import pytest

from schemas.identifiers import PaymentId, payment_id
from schemas.vocabulary import CallKind, OperationKind, OperationState, Overlay, PaymentStatus, Rejection
from streams.domain.limits import MAX_OPERATIONS, RULES_VERSION
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    MOCK,
    ORDER,
    OTHER,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    plan,
    refund,
    sale,
    void,
)

NOWHERE = payment_id(ORDER, "op_nobody")  # type: ignore[arg-type]  # any text will do for an id nobody has


def authorized(amount: int = 10_000) -> tuple[Desk, PaymentId]:
    desk = Desk()
    desk.do(authorize(amount))
    return desk, desk.payment.payment_id


def captured(amount: int = 10_000) -> tuple[Desk, PaymentId]:
    desk = Desk()
    desk.do(sale(amount))
    return desk, desk.payment.payment_id


def refused(desk: Desk, op_id: str) -> Rejection | None:
    operation = desk.operation(op_id)  # type: ignore[arg-type]  # an operation id as text
    assert operation.state is OperationState.REJECTED
    return operation.rejection


def test_sale_captures_at_once_when_it_succeeds() -> None:
    desk = Desk()
    op_id = desk.do(sale(1_999))
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert desk.transitions == ["accepted", "succeeded"]
    assert [each.type for each in desk.events] == ["payments.sale.accepted.v1", "payments.sale.succeeded.v1"]
    assert (desk.view.status, desk.view.authorized_minor, desk.view.captured_minor) == ("captured", 1_999, 1_999)


def test_row_says_which_rules_decided_it_last() -> None:
    desk, _ = captured()
    assert desk.row is not None
    assert desk.row.rules_version == RULES_VERSION


def test_payment_replies_accepted_then_final_when_a_request_waits() -> None:
    desk = Desk()
    desk.do(sale())
    accepted, final = desk.replies
    assert (accepted.final, final.final) == (False, True)
    assert final.operation is not None
    assert final.operation.state is OperationState.SUCCEEDED
    assert final.payment is not None
    assert final.payment.status is PaymentStatus.CAPTURED
    assert not final.replayed


def test_payment_replies_nothing_when_nobody_waits() -> None:
    desk = Desk()
    desk.send(sale(), waits=False)
    desk.settle()
    assert desk.replies == []
    assert desk.transitions == ["accepted", "succeeded"]


def test_authorization_holds_without_capturing_when_capture_is_false() -> None:
    desk, _ = authorized()
    assert desk.view.status is PaymentStatus.AUTHORIZED
    assert desk.events[-1].type == "payments.authorization.succeeded.v1"


def test_payment_fails_and_another_may_follow_when_it_is_declined() -> None:
    desk = Desk()
    first = desk.do(sale(), DECLINE)
    assert desk.state(first) is OperationState.DECLINED
    assert desk.view.status is PaymentStatus.FAILED
    second = desk.do(sale(key="again"))
    assert desk.state(second) is OperationState.SUCCEEDED
    assert desk.row is not None
    assert len(desk.row.payments) == 2


def test_second_payment_is_refused_when_the_order_has_a_live_one() -> None:
    desk, _ = authorized()
    assert refused(desk, desk.do(sale(key="again"))) is Rejection.PAYMENT_ALREADY_EXISTS
    assert desk.events[-1].type == "payments.operation.rejected.v1"
    assert desk.events[-1].event.payment is None


def test_captures_add_up_when_they_are_partial() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 3_000, key="1"))
    assert desk.view.status is PaymentStatus.PARTIALLY_CAPTURED
    desk.do(capture(payment, 6_000, key="2"))
    desk.do(capture(payment, key="3"))  # all that is left
    assert (desk.view.status, desk.view.captured_minor) == (PaymentStatus.CAPTURED, 10_000)
    assert desk.row is not None
    assert desk.row.operations[-1].amount_minor == 1_000


def test_final_capture_releases_the_rest_when_it_takes_less() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 3_000, final=True))
    assert (desk.view.status, desk.view.captured_minor) == (PaymentStatus.CAPTURED, 3_000)
    assert refused(desk, desk.do(capture(payment, 1, key="more"))) is Rejection.INVALID_STATE


def test_capture_is_refused_when_a_final_one_is_still_open() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 3_000, final=True), PENDING)
    assert refused(desk, desk.do(capture(payment, 1, key="more"))) is Rejection.AMOUNT_EXCEEDS_AUTHORIZED


@pytest.mark.parametrize("amount", [10_001, 10_000_000])
def test_capture_is_refused_when_it_exceeds_what_is_authorized(amount: int) -> None:
    desk, payment = authorized()
    assert refused(desk, desk.do(capture(payment, amount))) is Rejection.AMOUNT_EXCEEDS_AUTHORIZED


def test_void_releases_everything_when_nothing_was_captured() -> None:
    desk, payment = authorized()
    desk.do(void(payment))
    assert desk.view.status is PaymentStatus.VOIDED
    assert refused(desk, desk.do(void(payment, key="2"))) is Rejection.INVALID_STATE
    assert refused(desk, desk.do(capture(payment, 1))) is Rejection.INVALID_STATE


def test_void_lets_go_of_the_rest_when_something_was_captured() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 4_000))
    op_id = desk.do(void(payment))
    assert (desk.operation(op_id).amount_minor, desk.view.released_minor) == (6_000, 6_000)
    assert desk.view.status == "captured"
    assert refused(desk, desk.do(capture(payment, 1, key="more"))) is Rejection.INVALID_STATE


def test_void_is_refused_when_all_was_captured() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 10_000))
    assert refused(desk, desk.do(void(payment))) is Rejection.INVALID_STATE


def test_void_is_refused_when_a_capture_is_pending() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 1), PENDING)
    assert refused(desk, desk.do(void(payment))) is Rejection.INVALID_STATE


def test_capture_is_refused_when_a_void_is_pending() -> None:
    desk, payment = authorized()
    desk.do(void(payment), PENDING)
    assert refused(desk, desk.do(capture(payment))) is Rejection.INVALID_STATE


def test_refunds_add_up_when_they_are_partial() -> None:
    desk, payment = captured()
    desk.do(refund(payment, 4_000, key="1"))
    assert desk.view.status is PaymentStatus.PARTIALLY_REFUNDED
    refund_op = desk.do(refund(payment, key="2"))
    assert (desk.view.status, desk.view.refunded_minor) == (PaymentStatus.REFUNDED, 10_000)
    view = desk.events[-1].event.operation
    assert (view.op_id, view.refund_id is not None, view.amount_minor) == (refund_op, True, 6_000)


def test_exactly_one_refund_succeeds_when_two_of_60_meet_a_capture_of_100() -> None:
    desk, payment = captured()
    first = desk.send(refund(payment, 6_000, key="1"))
    second = desk.send(refund(payment, 6_000, key="2"))
    desk.settle()
    assert desk.state(first) is OperationState.SUCCEEDED
    assert refused(desk, second) is Rejection.AMOUNT_EXCEEDS_CAPTURED
    assert desk.sums.refunded == 6_000


def test_refund_is_refused_when_nothing_was_captured() -> None:
    desk, payment = authorized()
    assert refused(desk, desk.do(refund(payment, 1))) is Rejection.INVALID_STATE


def test_refund_is_refused_when_a_pending_one_has_reserved_the_amount() -> None:
    desk, payment = captured()
    desk.do(refund(payment, 6_000, key="1"), PENDING)
    assert refused(desk, desk.do(refund(payment, 6_000, key="2"))) is Rejection.AMOUNT_EXCEEDS_CAPTURED
    assert refused(desk, desk.do(refund(payment, 4_001, key="3"))) is Rejection.AMOUNT_EXCEEDS_CAPTURED
    assert desk.state(desk.do(refund(payment, key="4"))) is OperationState.SUCCEEDED


def test_operation_is_refused_when_the_payment_is_unknown() -> None:
    desk, _ = authorized()
    op_id = desk.do(refund(NOWHERE))
    assert refused(desk, op_id) is Rejection.PAYMENT_NOT_FOUND
    event = desk.events[-1].event
    assert (event.payment_id, event.payment, event.operation.currency) == (None, None, "XXX")


def test_operation_is_refused_when_the_payment_failed() -> None:
    desk = Desk()
    desk.do(sale(), DECLINE)
    assert refused(desk, desk.do(refund(desk.payment.payment_id))) is Rejection.INVALID_STATE


@pytest.mark.parametrize("make", [capture, refund])
def test_operation_is_refused_when_the_currency_is_another(make: object) -> None:
    desk, payment = captured()
    command = make(payment, 1, currency="EUR")  # type: ignore[operator]  # one of two functions
    assert refused(desk, desk.do(command)) is Rejection.CURRENCY_MISMATCH


def test_operations_wait_their_turn_when_the_order_is_busy() -> None:
    desk, payment = authorized()
    first = desk.send(capture(payment, 1_000, key="1"))
    second = desk.send(capture(payment, 2_000, key="2"))
    assert (desk.state(first), desk.state(second)) == (OperationState.CLAIMING, OperationState.QUEUED)
    assert desk.row is not None
    assert desk.row.queue == (second,)
    desk.settle()
    assert [each.event.operation.op_id for each in desk.events[-4:]] == [first, first, second, second]
    assert [each.event.sequence for each in desk.events] == [1, 2, 3, 4, 5, 6]


def test_follow_up_goes_to_the_payments_own_gateway_when_the_plan_names_others() -> None:
    desk, payment = authorized()
    desk.plan = plan("other")
    desk.send(capture(payment))
    desk.grant()
    request = desk.requests[0]
    assert (request.gateway, request.kind, request.payment_reference) == (MOCK, CallKind.CAPTURE, "ref")


def test_follow_up_goes_to_the_payments_own_gateway_when_the_plan_names_none() -> None:
    desk, payment = captured()
    desk.plan = plan()
    assert desk.state(desk.do(refund(payment, 1))) is OperationState.SUCCEEDED


def test_payment_is_refused_when_the_plan_names_no_gateway() -> None:
    desk = Desk(plan=plan())
    assert refused(desk, desk.do(sale())) is Rejection.NO_GATEWAY


def test_payment_is_refused_when_the_plan_says_so() -> None:
    desk = Desk()
    desk.plan = replace(plan("mock"), refusal=Rejection.LIMIT_EXCEEDED)
    assert refused(desk, desk.do(sale())) is Rejection.LIMIT_EXCEEDED


def test_payment_goes_where_the_claim_says_when_the_policy_changes_before_the_verdict() -> None:
    desk = Desk()
    desk.send(sale())
    desk.plan = plan("other", version=2)
    desk.settle()
    assert desk.payment.gateway == MOCK


def test_success_counts_the_confirmed_amount_and_is_reviewed_when_it_is_less_than_asked() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 10_000), Said(confirmed_minor=9_000))
    assert (desk.view.captured_minor, desk.view.authorized_minor) == (9_000, 10_000)
    assert desk.view.overlays == (Overlay.REVIEW,)


def test_success_counts_no_more_than_there_is_room_for_when_more_is_confirmed() -> None:
    desk, payment = authorized()
    desk.do(capture(payment, 9_000), Said(confirmed_minor=12_000))
    assert (desk.view.captured_minor, desk.view.overlays) == (10_000, (Overlay.REVIEW,))


def test_refund_counts_no_more_than_was_captured_when_more_is_confirmed() -> None:
    desk, payment = captured()
    desk.do(refund(payment, 1_000), Said(confirmed_minor=99_000))
    assert (desk.view.refunded_minor, desk.view.overlays) == (10_000, (Overlay.REVIEW,))


def test_success_counts_what_was_asked_and_is_reviewed_when_the_currency_is_another() -> None:
    desk = Desk()
    desk.do(sale(), Said(confirmed_minor=5, confirmed_currency="JPY"))
    assert (desk.view.captured_minor, desk.view.overlays) == (10_000, (Overlay.REVIEW,))


def test_void_is_not_reviewed_when_the_gateway_confirms_no_amount() -> None:
    desk, payment = authorized()
    desk.do(void(payment), Said(confirmed_minor=1))
    assert desk.view.overlays == ()


def test_order_goes_on_when_an_operation_is_pending_and_a_notice_ends_it() -> None:
    desk, payment = captured()
    first = desk.do(refund(payment, 1_000, key="1"), PENDING)
    assert desk.replies[-1].final
    assert desk.state(desk.do(refund(payment, 2_000, key="2"))) is OperationState.SUCCEEDED
    desk.notice(first, SUCCESS)
    assert desk.state(first) is OperationState.SUCCEEDED
    assert desk.sums.refunded == 3_000
    assert desk.timers == {}


def test_payment_shows_the_payers_page_when_an_action_is_required() -> None:
    desk = Desk()
    op_id = desk.do(sale(), ACTION)
    view = desk.events[-1].event
    assert desk.transitions == ["accepted", "action_required"]
    assert view.operation.action_url == "https://bank.example/3ds"
    assert desk.view.status.value == "requires_action"
    assert desk.operation(op_id).token is None
    desk.notice(op_id, SUCCESS)
    assert desk.operation(op_id).action_url is None
    assert desk.view.status.value == "captured"


def test_payment_is_authorizing_when_its_last_word_is_to_come() -> None:
    desk = Desk()
    desk.do(authorize(), PENDING)
    assert desk.view.status is PaymentStatus.AUTHORIZING
    assert refused(desk, desk.do(capture(desk.payment.payment_id))) is Rejection.INVALID_STATE


def test_token_leaves_the_row_when_no_call_can_need_it() -> None:
    for answer in (SUCCESS, DECLINE, PENDING, UNKNOWN):
        desk = Desk()
        op_id = desk.send(sale())
        assert desk.operation(op_id).token == "tok_1"
        desk.settle() if answer is SUCCESS else desk.do(sale(), answer)
        assert desk.operation(op_id).token is None


def test_command_is_refused_and_not_kept_when_the_order_is_full() -> None:
    desk, payment = captured(1_000_000)
    for number in range(MAX_OPERATIONS - 1):
        desk.send(refund(payment, 1, key=f"r{number}"))
    assert desk.row is not None
    before = desk.row
    said = len(desk.said)
    desk.send(refund(payment, 1, key="too many"), command_id="last")
    assert desk.row is before
    publish, reply = desk.said[said:]
    assert publish.transition == "rejected"  # type: ignore[union-attr]  # a Publish by its place
    assert reply.reply.operation is not None  # type: ignore[union-attr]  # a Reply by its place
    assert reply.reply.operation.rejection is Rejection.TOO_MANY_OPERATIONS  # type: ignore[union-attr]  # as above
    desk.send(refund(payment, 1, key="too many"), command_id="last")
    assert desk.said[said + 2 :] == [publish, reply]


def test_plan_is_asked_for_with_the_very_command_when_an_operation_starts() -> None:
    desk = Desk()
    commands = [authorize()]
    desk.do(commands[0])
    payment = desk.payment.payment_id
    commands += [
        capture(payment, 2_000, currency="USD", final=True),
        refund(payment, 500),
        void(payment),
        sale(key="another"),
    ]
    for command in commands[1:]:
        desk.do(command)
    assert desk.planned == commands


def test_operation_kinds_name_the_calls_when_they_are_dispatched() -> None:
    assert {kind.value for kind in OperationKind} | {"inquire"} == {kind.value for kind in CallKind}
    assert OTHER != MOCK


def test_payment_is_not_refunded_for_good_when_more_of_it_can_be_captured() -> None:
    desk = Desk()
    desk.do(authorize(100))
    payment = desk.payment.payment_id
    desk.do(capture(payment, 1, key="c1"))
    statuses = []
    for command in (refund(payment, 1, key="r1"), capture(payment, 99, key="c2"), refund(payment, 99, key="r2")):
        desk.do(command)
        statuses.append(desk.view.status)
    assert statuses == [
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUNDED,
    ]
