"""The step after the payer has acted: what it comes to is said of the payment, and ends the step."""

from dataclasses import replace

import pytest

from gateway_adapters.mock.spec import CAPABILITIES
from schemas.identifiers import GatewayRoute, IdempotencyKey, OpId, PaymentId, gateway_key
from schemas.records.commands import Command, CompletionRequested, NamedText
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, OperationKind, OperationState, Outcome, PaymentStatus, Rejection, RetryAdvice
from streams.domain.limits import DEFAULT_RULES, Rules
from streams.domain.outputs import CallGateway
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    MOCK,
    ORDER,
    ORIGIN,
    PENDING,
    SUCCESS,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    refund,
    refusal,
    sale,
    void,
)

NEXT_PAGE = Said(outcome=Outcome.REQUIRES_ACTION, action_url="https://bank.example/second")
STILL_WAITS = Said(outcome=Outcome.REQUIRES_ACTION, action_url=ACTION.action_url)
CAME_BACK = (NamedText(name="redirectResult", value="X6X!Y"),)


def complete(payment: PaymentId, *, key: str = "complete", parameters: tuple[NamedText, ...] = CAME_BACK) -> Command:
    return CompletionRequested(
        origin_id=ORIGIN,
        order_id=ORDER,
        idempotency_key=IdempotencyKey(key),
        payment_id=payment,
        parameters=parameters,
    )


def waiting(command: Command | None = None, **desk: object) -> tuple[Desk, OpId]:
    """A desk whose payment waits for its payer."""
    made = Desk(**desk)  # type: ignore[arg-type]  # each test names real fields
    return made, made.do(command or authorize(), ACTION)


def requests_of(desk: Desk) -> list[GatewayCallRequested]:
    return [output.request for output in desk.said if isinstance(output, CallGateway)]


@pytest.mark.parametrize(
    ("command", "status"), [(authorize(), PaymentStatus.AUTHORIZED), (sale(), PaymentStatus.CAPTURED)]
)
def test_payment_succeeds_by_its_completion(command: Command, status: PaymentStatus) -> None:
    desk, opening = waiting(command)
    step = desk.do(complete(desk.payment.payment_id), SUCCESS)
    assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
    assert (desk.view.status, desk.view.authorized_minor) == (status, 10_000)
    assert desk.operation(opening).action_url is None
    assert desk.transitions[-3:] == ["accepted", "succeeded", "succeeded"]
    assert [each.event.operation.kind for each in desk.events[-2:]] == [
        desk.operation(opening).kind,
        OperationKind.COMPLETE,
    ]


def test_completion_is_a_call_with_a_key_of_its_own_about_the_payment() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id))
    *_, request = requests_of(desk)
    assert (request.kind, request.gateway, request.payment_reference) == (CallKind.COMPLETE, MOCK, "ref")
    assert request.opening_op_id == desk.payment.op_id, "what the gateway says it completes is held to it"
    assert request.gateway_key == gateway_key(step, 1) != gateway_key(opening, 1)
    assert (request.token, request.command_offset, request.amount_minor) == (None, 2, 10_000)
    assert "redirectResult" not in repr(desk.row) + repr(desk.said)


def test_completion_without_parameters_needs_no_command() -> None:
    desk, _ = waiting()
    desk.do(complete(desk.payment.payment_id, parameters=()))
    assert requests_of(desk)[-1].command_offset is None


def test_payment_is_declined_by_its_completion() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), DECLINE)
    assert (desk.state(opening), desk.state(step)) == (OperationState.DECLINED, OperationState.DECLINED)
    assert desk.view.status is PaymentStatus.FAILED
    assert desk.replies[-1].operation is not None
    assert desk.replies[-1].operation.error is not None
    another = desk.do(authorize(key="another"))
    assert desk.state(another) is OperationState.SUCCEEDED


def test_payment_is_pending_after_its_completion_when_the_gateway_says_so() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), PENDING)
    assert (desk.state(opening), desk.state(step)) == (OperationState.PENDING, OperationState.SUCCEEDED)
    desk.notice(opening, SUCCESS)
    assert desk.view.status is PaymentStatus.AUTHORIZED


def test_payer_is_sent_on_when_there_is_one_more_thing_to_do() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), NEXT_PAGE)
    assert (desk.state(opening), desk.state(step)) == (OperationState.REQUIRES_ACTION, OperationState.SUCCEEDED)
    assert desk.operation(opening).action_url == NEXT_PAGE.action_url
    assert "action_required" in desk.transitions[-2:]
    told = [each.event.operation for each in desk.events if each.transition.value == "action_required"]
    assert [each.action_url for each in told] == [ACTION.action_url, NEXT_PAGE.action_url]
    answered = desk.replies[-1].operation
    assert answered is not None
    assert (answered.op_id, answered.action_url) == (step, NEXT_PAGE.action_url)
    last = desk.do(complete(desk.payment.payment_id, key="second"), SUCCESS)
    assert (desk.state(opening), desk.state(last)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)


def test_payment_waits_on_when_its_completion_was_not_executed() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), refusal(RetryAdvice.NEVER))
    assert (desk.state(opening), desk.state(step)) == (OperationState.REQUIRES_ACTION, OperationState.NOT_EXECUTED)
    assert desk.view.status is PaymentStatus.REQUIRES_ACTION
    again = desk.do(complete(desk.payment.payment_id, key="again"), SUCCESS)
    assert (desk.state(opening), desk.state(again)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)


def test_completion_is_tried_again_at_the_gateway_of_its_payment() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), refusal(RetryAdvice.NEW_KEY_LATER))
    assert desk.state(step) is OperationState.DISPATCHED
    desk.fire(step)
    desk.settle()
    assert [request.gateway_key for request in requests_of(desk)][-2:] == [gateway_key(step, 1), gateway_key(step, 2)]
    assert desk.state(opening) is OperationState.SUCCEEDED


def test_doubtful_completion_is_inquired_about_by_its_payment() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), UNKNOWN)
    assert (desk.state(opening), desk.state(step)) == (OperationState.REQUIRES_ACTION, OperationState.UNKNOWN)
    desk.fire(step)
    desk.settle()
    *_, inquiry = requests_of(desk)
    assert (inquiry.kind, inquiry.inquired_kind, inquiry.own_reference) == (CallKind.INQUIRE, CallKind.COMPLETE, "ref")
    assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)


def test_doubtful_completion_is_made_again_when_its_payment_is_found_waiting() -> None:
    rules = replace(DEFAULT_RULES, key_windows_ms={MOCK: {CallKind.COMPLETE: None}})
    desk, opening = waiting(rules=rules)
    step = desk.do(complete(desk.payment.payment_id), UNKNOWN)
    desk.script.extend([STILL_WAITS, SUCCESS])
    desk.fire(step)
    desk.settle()
    first, inquiry, again = requests_of(desk)[-3:]
    assert (inquiry.kind, again.kind, again.gateway_key) == (CallKind.INQUIRE, CallKind.COMPLETE, first.gateway_key)
    assert again.command_offset == first.command_offset
    assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)


BY_ORDER = Said(
    outcome=Outcome.REQUIRES_ACTION, action_url=ACTION.action_url, reference=None, payment_reference="order-7"
)
BY_NOTHING = Said(outcome=Outcome.REQUIRES_ACTION, action_url=ACTION.action_url, reference=None)
HELD = Said(reference="auth-1", payment_reference="order-7")
NO_KEYS_ASKED = replace(CAPABILITIES, inquire_by_key=False)


def by_reference_alone() -> Rules:
    keys = {MOCK: {CallKind.COMPLETE: None}}
    return replace(DEFAULT_RULES, capabilities={GatewayRoute(MOCK): NO_KEYS_ASKED}, key_windows_ms=keys)


def test_payment_that_its_gateway_knows_by_its_order_alone_is_completed_and_gets_its_reference() -> None:
    desk = Desk()
    opening = desk.do(authorize(), BY_ORDER)
    step = desk.do(complete(desk.payment.payment_id), HELD)
    *_, request = requests_of(desk)
    assert (request.kind, request.payment_reference, request.order_reference) == (CallKind.COMPLETE, None, "order-7")
    assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
    assert (desk.payment.gateway_reference, desk.payment.order_reference) == ("auth-1", "order-7")


def test_payment_that_its_gateway_has_not_named_is_completed_by_what_came_back() -> None:
    desk = Desk()
    opening = desk.do(authorize(), BY_NOTHING)
    desk.do(complete(desk.payment.payment_id), SUCCESS)
    assert desk.state(opening) is OperationState.SUCCEEDED
    assert desk.payment.gateway_reference == "ref"


def test_doubtful_completion_is_inquired_about_by_the_order_where_a_gateway_knows_no_keys() -> None:
    desk = Desk(rules=by_reference_alone())
    opening = desk.do(authorize(), BY_ORDER)
    step = desk.do(complete(desk.payment.payment_id), UNKNOWN)
    desk.script.append(HELD)
    desk.fire(step)
    desk.settle()
    *_, inquiry = requests_of(desk)
    assert (inquiry.kind, inquiry.own_reference) == (CallKind.INQUIRE, "order-7")
    assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)


def test_payers_time_is_not_over_while_a_completion_is_in_doubt() -> None:
    desk, opening = waiting()
    step = desk.do(complete(desk.payment.payment_id), UNKNOWN)
    desk.now_ms = (desk.operation(opening).action_expires_at_ms or 0) + 1
    desk.script.append(STILL_WAITS)
    desk.fire(opening)
    desk.settle()
    assert (desk.state(opening), desk.state(step)) == (OperationState.REQUIRES_ACTION, OperationState.UNKNOWN)
    assert OperationKind.VOID not in {each.kind for each in desk.row.operations} if desk.row else False
    desk.script.append(SUCCESS)
    desk.fire(step)
    desk.settle()
    assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)


def test_completion_and_webhook_tell_the_same_once_whichever_comes_first() -> None:
    for webhook_first in (True, False):
        desk, opening = waiting()
        step = desk.send(complete(desk.payment.payment_id))
        desk.grant()
        if webhook_first:
            desk.notice(opening, SUCCESS)
            desk.call(SUCCESS)
        else:
            desk.call(SUCCESS)
            desk.notice(opening, SUCCESS)
        assert (desk.state(opening), desk.state(step)) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
        assert (desk.payment.review, desk.view.authorized_minor) == (False, 10_000)
        assert desk.transitions.count("succeeded") == 2


def test_completion_of_a_payment_that_a_webhook_has_ended_otherwise_asks_for_a_person() -> None:
    desk, opening = waiting()
    desk.send(complete(desk.payment.payment_id))
    desk.grant()
    desk.notice(opening, DECLINE)
    desk.call(SUCCESS)
    assert desk.state(opening) is OperationState.DECLINED
    assert desk.payment.review


@pytest.mark.parametrize("answer", [SUCCESS, DECLINE, PENDING])
def test_payment_that_waits_for_nobody_is_not_completed(answer: Said) -> None:
    desk = Desk()
    desk.do(authorize(), answer)
    step = desk.do(complete(desk.payment.payment_id))
    assert desk.operation(step).rejection is Rejection.INVALID_STATE
    assert len(requests_of(desk)) == 1


def test_payment_that_is_being_cancelled_is_not_completed() -> None:
    desk, _ = waiting()
    desk.do(void(desk.payment.payment_id), PENDING)
    step = desk.do(complete(desk.payment.payment_id))
    assert desk.operation(step).rejection is Rejection.INVALID_STATE


def test_payment_that_is_not_there_is_not_completed() -> None:
    desk, opening = waiting()
    elsewhere = PaymentId(desk.operation(opening).payment_id[:-3] + "xyz")
    step = desk.do(complete(elsewhere))
    assert desk.operation(step).rejection is Rejection.PAYMENT_NOT_FOUND


def test_same_completion_is_made_once() -> None:
    desk, _ = waiting()
    payment = desk.payment.payment_id
    step = desk.do(complete(payment), SUCCESS)
    assert desk.do(complete(payment)) == step
    other = desk.do(complete(payment, parameters=()))
    assert desk.state(other) is OperationState.CONFLICT
    assert [request.kind for request in requests_of(desk)].count(CallKind.COMPLETE) == 1


def test_completion_is_said_again_as_it_was_after_a_crash() -> None:
    desk, _ = waiting()
    told = complete(desk.payment.payment_id)
    desk.send(told, command_id="the-step")
    desk.grant()
    *_, first = requests_of(desk)
    desk.replay = True
    desk.send(told, command_id="the-step")
    *_, again = requests_of(desk)
    assert again == replace(first, repeated=True)


def test_completed_payment_is_refunded_as_any_other() -> None:
    desk, _ = waiting(sale())
    payment = desk.payment.payment_id
    desk.do(complete(payment), SUCCESS)
    desk.do(refund(payment, 4_000))
    assert (desk.view.status, desk.view.refunded_minor) == (PaymentStatus.PARTIALLY_REFUNDED, 4_000)
