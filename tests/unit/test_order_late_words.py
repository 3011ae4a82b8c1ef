"""Late words: successes taken back, contradictions, and notices that nobody asked for."""

import pytest

from schemas.identifiers import OpId
from schemas.vocabulary import CallKind, OperationState, Outcome, Rejection
from streams.domain.errors import InvariantViolatedError
from tests.support.doubtful_orders import (
    doubtful,
    state,
)
from tests.support.order_desk import (
    DECLINE,
    NOT_FOUND,
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

REVERSED = Said(outcome=Outcome.REVERSED)


def test_notice_of_not_executed_ends_the_doubt_but_not_a_call_under_way() -> None:
    desk, op_id = doubtful()
    desk.notice(op_id, NOT_FOUND)  # type: ignore[arg-type]  # an operation id as text
    assert state(desk, op_id) is OperationState.NOT_EXECUTED
    busy = Desk()
    called = busy.send(sale())
    busy.grant()
    busy.notice(called, NOT_FOUND)
    assert busy.state(called) is OperationState.DISPATCHED


def test_success_says_nothing_of_an_operation_that_was_never_sent() -> None:
    """It waits for its claim: nobody can have carried it out. The notice is another's, and no reason for a review."""
    desk = Desk()
    op_id = desk.send(sale())
    before = desk.row
    desk.notice(op_id, SUCCESS)
    assert desk.row is before
    desk.settle()
    assert (desk.state(op_id), desk.payment.review) == (OperationState.SUCCEEDED, False)


def test_unknown_notice_changes_nothing_when_the_operation_is_in_doubt_already() -> None:
    desk, op_id = doubtful()
    before = desk.row
    desk.notice(op_id, UNKNOWN)  # type: ignore[arg-type]  # an operation id as text
    assert desk.row is before


@pytest.mark.parametrize("make", [refund, capture])
def test_sums_go_back_when_a_success_is_taken_back(make: object) -> None:
    desk = Desk()
    desk.do(sale() if make is refund else authorize())
    op_id = desk.do(make(desk.payment.payment_id, 4_000))  # type: ignore[operator]  # one of two functions
    desk.notice(op_id, REVERSED)
    assert desk.state(op_id) is OperationState.REVERSED
    assert desk.transitions[-1] == "reversed"
    assert (desk.sums.refunded, desk.sums.captured) == (0, 10_000 if make is refund else 0)
    said = len(desk.said)
    desk.notice(op_id, REVERSED)
    desk.notice(op_id, SUCCESS)  # of the same time: what was taken back had to be there first
    assert (len(desk.said), desk.state(op_id)) == (said, OperationState.REVERSED)


def test_payment_fails_when_its_sale_is_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    desk.notice(op_id, REVERSED)
    assert desk.view.status == "failed"
    assert not desk.payment.review


def test_payment_is_reviewed_when_a_refunded_capture_is_taken_back() -> None:
    desk = Desk()
    desk.do(authorize())
    payment = desk.payment.payment_id
    captured = desk.do(capture(payment, 5_000))
    desk.do(refund(payment, 5_000))
    desk.notice(captured, REVERSED)
    assert desk.payment.review
    assert desk.view.status == "refunded"
    late = desk.do(refund(payment, 1, key="2"))
    assert desk.operation(late).rejection is Rejection.INVALID_STATE


def test_payment_is_reviewed_when_a_refund_succeeds_after_its_capture_was_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    refunded = desk.do(refund(desk.payment.payment_id, 1_000), PENDING)
    desk.notice(op_id, REVERSED)
    desk.notice(refunded, SUCCESS)
    assert (desk.sums.refunded, desk.payment.review) == (1_000, True)


def test_payment_is_reviewed_when_a_capture_succeeds_after_its_hold_was_taken_back() -> None:
    desk = Desk()
    op_id = desk.do(authorize())
    captured = desk.do(capture(desk.payment.payment_id, 1_000), PENDING)
    desk.notice(op_id, REVERSED)
    desk.notice(captured, SUCCESS)
    assert (desk.sums.captured, desk.payment.review) == (1_000, True)


def test_hold_is_back_when_a_void_is_taken_back() -> None:
    desk = Desk()
    desk.do(authorize())
    op_id = desk.do(void(desk.payment.payment_id))
    desk.notice(op_id, REVERSED)
    assert desk.view.status == "authorized"


def test_both_facts_are_told_when_a_success_is_taken_back_before_it_was_known() -> None:
    desk, op_id = doubtful()
    desk.notice(op_id, REVERSED)  # type: ignore[arg-type]  # an operation id as text
    assert desk.transitions == ["accepted", "doubted", "succeeded", "reversed"]
    assert (desk.sums.captured, desk.view.status) == (0, "failed")


def test_payment_expires_when_its_authorization_runs_out() -> None:
    expired = Said(outcome=Outcome.EXPIRED)
    desk = Desk()
    op_id = desk.do(authorize())
    desk.notice(op_id, expired)
    assert desk.events[-1].type == "payments.payment.expired.v1"
    assert (desk.view.status, desk.state(op_id)) == ("expired", OperationState.SUCCEEDED)
    before = desk.row
    desk.notice(op_id, expired)
    assert desk.row is before


def test_rest_is_released_when_an_authorization_runs_out_after_a_capture() -> None:
    expired = Said(outcome=Outcome.EXPIRED)
    desk = Desk()
    op_id = desk.do(authorize())
    desk.do(capture(desk.payment.payment_id, 1))
    desk.notice(op_id, expired)
    assert (desk.view.status, desk.view.released_minor) == ("captured", 9_999)


@pytest.mark.parametrize("command", [sale(), refund(Desk().send(sale()), 1)])  # type: ignore[arg-type]  # any id will do
def test_contradiction_asks_for_a_person_when_what_was_refused_succeeds(command: object) -> None:
    desk = Desk(plan=plan())
    op_id = desk.do(command)  # type: ignore[arg-type]  # a command
    assert desk.state(op_id) is OperationState.REJECTED
    desk.notice(op_id, SUCCESS)
    desk.notice(op_id, SUCCESS)
    assert desk.transitions == ["rejected", "reviewed"]


def test_decline_after_success_is_ignored_when_webhooks_are_late() -> None:
    desk = Desk()
    op_id = desk.do(sale())
    before = desk.row
    desk.notice(op_id, DECLINE)
    assert desk.row is before


def test_notice_finds_its_operation_when_only_the_gateways_references_are_known() -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="pay-ref"))
    payment = desk.payment.payment_id
    first = desk.do(refund(payment, 1_000, key="1"), Said(outcome=Outcome.PENDING, reference="re-1"))
    second = desk.do(refund(payment, 2_000, key="2"), Said(outcome=Outcome.PENDING, reference=None))
    desk.notice(None, Said(reference="re-1"), kind=CallKind.REFUND)
    assert desk.state(first) is OperationState.SUCCEEDED
    desk.notice(None, Said(reference="re-2"), kind=CallKind.REFUND, payment_reference="pay-ref")
    assert desk.state(second) is OperationState.SUCCEEDED
    assert desk.sums.refunded == 3_000


@pytest.mark.parametrize(
    "fields",
    [
        {"gateway": OTHER},
        {"kind": CallKind.CAPTURE, "payment_reference": "ref"},
        {"kind": CallKind.REFUND, "payment_reference": "another"},
        {"kind": CallKind.REFUND},
        {"payment_reference": "ref"},
    ],
)
def test_notice_is_ignored_when_it_leaves_any_doubt_about_its_operation(fields: dict[str, object]) -> None:
    desk = Desk()
    desk.do(sale())
    for key in ("1", "2"):
        desk.do(refund(desk.payment.payment_id, 1_000, key=key), Said(outcome=Outcome.PENDING, reference=None))
    before = desk.row
    desk.notice(None, Said(reference=None), **fields)
    assert desk.row is before


def pending_refund(reference: str | None) -> tuple[Desk, OpId]:
    desk = Desk()
    desk.do(sale(), Said(reference="pay-ref"))
    wish = refund(desk.payment.payment_id, 6_000, key="1")
    return desk, desk.do(wish, Said(outcome=Outcome.PENDING, reference=reference))


def told_of_refund(desk: Desk, said: Said) -> None:
    """A notice without our operation's id, as of a refund that was made at the gateway's own desk."""
    desk.notice(None, said, kind=CallKind.REFUND, payment_reference="pay-ref")


def test_notice_is_none_of_the_only_open_operation_when_that_has_another_reference() -> None:
    desk, op_id = pending_refund("re-1")
    told_of_refund(desk, Said(reference="re-2", confirmed_minor=1_000))
    assert desk.state(op_id) is OperationState.PENDING
    told_of_refund(desk, Said(reference="re-1"))
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_notice_is_none_of_the_only_open_operation_when_it_confirms_another_amount() -> None:
    desk, op_id = pending_refund(None)
    told_of_refund(desk, Said(reference="re-2", confirmed_minor=2_000, confirmed_currency="USD"))
    assert (desk.state(op_id), desk.sums.refunded) == (OperationState.PENDING, 0)


@pytest.mark.parametrize(
    "named",
    [
        {"kind": None, "payment_reference": "pay-ref"},
        {"kind": CallKind.REFUND, "payment_reference": None},
        {"kind": CallKind.REFUND, "payment_reference": "another"},
    ],
)
def test_notice_is_ignored_when_it_does_not_name_payment_and_kind_of_the_only_open_operation(
    named: dict[str, object],
) -> None:
    desk, _ = pending_refund(None)
    before = desk.row
    desk.notice(None, Said(reference="re-1"), **named)
    assert desk.row is before


def test_notice_speaks_for_no_later_operation_when_it_names_no_object_and_comes_twice() -> None:
    desk, first = pending_refund(None)
    told_of_refund(desk, Said(reference=None))
    assert desk.state(first) is OperationState.PENDING
    told_of_refund(desk, Said(reference="re-1"))
    second = desk.do(refund(desk.payment.payment_id, 3_000, key="2"), UNKNOWN)
    for reference in ("re-1", None):
        told_of_refund(desk, Said(reference=reference))
    assert (desk.state(first), desk.state(second)) == (OperationState.SUCCEEDED, OperationState.UNKNOWN)


def test_notice_is_refused_as_a_defect_when_it_names_no_order() -> None:
    desk = Desk()
    with pytest.raises(InvariantViolatedError):
        desk.notice(None, SUCCESS, order_id=None)


def test_input_is_refused_as_a_defect_when_it_is_about_another_order() -> None:
    desk = Desk()
    desk.do(sale())
    with pytest.raises(InvariantViolatedError):
        desk.notice(None, SUCCESS, order_id=f"{ORDER}-other")
