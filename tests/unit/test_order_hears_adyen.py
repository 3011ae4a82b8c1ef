"""What an order makes of what Adyen says of it: 'received' answers, notices that come early, late, twice or in vain."""

from dataclasses import replace
from typing import Any

import pytest

from gateway_adapters.adyen.references import reference_of
from gateway_adapters.adyen.spec import CAPABILITIES
from gateway_adapters.adyen.webhooks import notices_of
from gateway_adapters.notices import address_of
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayName, GatewayRoute, OpId
from schemas.records.commands import Command
from schemas.vocabulary import CallKind, OperationKind, OperationState, Overlay, PaymentStatus, RetryAdvice
from streams.domain.inputs import NoticeReceived
from streams.domain.limits import DEFAULT_RULES
from tests.simulators.adyen_post import body_of
from tests.support.order_desk import (
    ACTION,
    ORDER,
    ORIGIN,
    PENDING,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    plan,
    refund,
    refusal,
    sale,
    void,
)

ADYEN = GatewayName("adyen")
RULES = replace(
    DEFAULT_RULES,
    key_windows_ms={ADYEN: CAPABILITIES.key_window_ms},
    capabilities={GatewayRoute(ADYEN): CAPABILITIES},
)
MAX_LOOKS = 20
PAID = Said(reference="PSP1", confirmed_minor=10_000, confirmed_currency="USD")
RECEIVED = replace(PENDING, reference="CAP1", payment_reference="PSP1")


class AdyenDesk:
    """An order at Adyen, whose notices are dated one after the other."""

    def __init__(self) -> None:
        self.desk = Desk(plan=plan("adyen", "adyen"), rules=RULES)
        self.told = 0

    def item(self, event: str, op_id: OpId, kind: CallKind, **changes: Any) -> dict[str, Any]:
        self.told += 1
        return {
            "pspReference": "PSP1",
            "merchantAccountCode": "ShopCOM",
            "merchantReference": reference_of(op_id, kind),
            "amount": {"currency": "USD", "value": 10_000},
            "eventCode": event,
            "success": "true",
            "eventDate": f"2026-12-01T10:{self.told:02d}:00+01:00",
            **changes,
        }

    def hear(self, *items: dict[str, Any]) -> None:
        for notice in notices_of({}, body_of(list(items))):
            found = replace(notice, origin_id=ORIGIN, order_id=ORDER)  # by the references index
            self.desk.take(
                NoticeReceived(
                    notice=found, now_ms=self.desk.now_ms, possible_replay=self.desk.replay, account=DEFAULT_ACCOUNT
                )
            )


def held() -> tuple[AdyenDesk, OpId]:
    there = AdyenDesk()
    return there, there.desk.do(authorize(), PAID)


def sold() -> tuple[AdyenDesk, OpId]:
    there = AdyenDesk()
    return there, there.desk.do(sale(), PAID)


def captured(amount: int = 10_000) -> tuple[AdyenDesk, OpId, OpId]:
    there, hold = held()
    op = there.desk.do(capture(there.desk.payment.payment_id, amount), RECEIVED)
    return there, hold, op


def of_capture(there: AdyenDesk, op: OpId, event: str = "CAPTURE", **changes: Any) -> dict[str, Any]:
    return there.item(event, op, CallKind.CAPTURE, **{"pspReference": "CAP1", "originalReference": "PSP1", **changes})


def test_capture_is_pending_until_its_notice_says_that_it_was_made() -> None:
    there, _, op = captured()
    assert there.desk.state(op) is OperationState.PENDING
    there.hear(of_capture(there, op))
    assert there.desk.state(op) is OperationState.SUCCEEDED
    assert there.desk.view.status is PaymentStatus.CAPTURED


@pytest.mark.parametrize("reference", ["op_x.authorize", ""])
def test_capture_is_found_by_adyens_reference_where_the_notice_names_the_payment(reference: str) -> None:
    there, hold, op = captured()
    named = reference.replace("op_x", hold)
    there.hear(of_capture(there, op, merchantReference=named))
    assert there.desk.state(op) is OperationState.SUCCEEDED
    assert there.desk.state(hold) is OperationState.SUCCEEDED


def test_capture_whose_answer_was_lost_is_settled_by_its_notice() -> None:
    there, _ = held()
    op = there.desk.do(capture(there.desk.payment.payment_id), UNKNOWN)
    assert there.desk.state(op) is OperationState.UNKNOWN
    there.hear(of_capture(there, op))
    assert there.desk.state(op) is OperationState.SUCCEEDED
    assert there.desk.operation(op).gateway_reference == "CAP1"


def test_call_in_doubt_is_made_again_with_its_key_since_nobody_can_be_asked() -> None:
    there = AdyenDesk()
    op = there.desk.do(sale(), UNKNOWN)
    there.desk.script.append(PAID)
    there.desk.fire(op)
    again = there.desk.requests[0]
    assert (again.kind, again.call_number) == (CallKind.SALE, 2)
    there.desk.settle()
    assert there.desk.state(op) is OperationState.SUCCEEDED


def test_notice_before_the_answer_settles_a_payment_once() -> None:
    there = AdyenDesk()
    op = there.desk.send(sale())
    there.desk.grant()
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE))
    there.desk.script.append(PAID)
    there.desk.settle()
    assert there.desk.transitions.count("succeeded") == 1
    assert there.desk.sums.captured == 10_000


def test_refusal_of_a_capture_before_its_answer_is_not_forgotten() -> None:
    there, _ = held()
    op = there.desk.send(capture(there.desk.payment.payment_id))
    there.desk.grant()
    there.hear(of_capture(there, op, success="false", reason="Insufficient balance on payment"))
    there.desk.script.append(RECEIVED)
    there.desk.settle()
    assert there.desk.state(op) is OperationState.DECLINED
    assert there.desk.sums.captured == 0


def test_capture_that_fails_late_and_is_made_again_by_adyen_counts_again() -> None:
    there, _, op = captured()
    there.hear(of_capture(there, op))
    there.hear(of_capture(there, op, "CAPTURE_FAILED"))
    assert (there.desk.state(op), there.desk.sums.captured) == (OperationState.REVERSED, 0)
    there.hear(of_capture(there, op, reason="Transaction Recaptured"))
    assert (there.desk.state(op), there.desk.sums.captured) == (OperationState.SUCCEEDED, 10_000)
    assert there.desk.payment.review  # Adyen signs neither the date nor the reason: it may be the first one, said again


def test_failure_that_is_told_twice_takes_back_once() -> None:
    there, _, op = captured()
    there.hear(of_capture(there, op))
    there.hear(of_capture(there, op, "CAPTURE_FAILED"), of_capture(there, op, "CAPTURE_FAILED"))
    assert there.desk.sums.captured == 0
    there.hear(of_capture(there, op, reason="Transaction Recaptured"))
    assert there.desk.sums.captured == 10_000


def test_sale_whose_capture_fails_late_is_taken_back_and_restored() -> None:
    there, op = sold()
    capture_of_sale = {"pspReference": "AUTO1", "originalReference": "PSP1"}
    there.hear(there.item("CAPTURE", op, CallKind.SALE, **capture_of_sale))  # of an account that tells of each
    assert (there.desk.sums.captured, there.desk.payment.review) == (10_000, False)
    there.hear(there.item("CAPTURE_FAILED", op, CallKind.SALE, **capture_of_sale))
    assert there.desk.sums.captured == 0
    there.hear(there.item("CAPTURE", op, CallKind.SALE, **capture_of_sale, reason="Transaction Recaptured"))
    assert (there.desk.sums.captured, there.desk.payment.review) == (10_000, True)


def test_void_is_pending_until_its_notice_lets_the_hold_go() -> None:
    there, hold = held()
    op = there.desk.do(void(there.desk.payment.payment_id), replace(RECEIVED, reference="VOID1"))
    named = {"pspReference": "VOID1", "originalReference": "PSP1"}
    there.hear(there.item("CANCELLATION", op, CallKind.VOID, **named))
    assert there.desk.state(hold) is OperationState.SUCCEEDED
    assert there.desk.view.status is PaymentStatus.VOIDED


def test_refund_that_is_refused_or_fails_late_leaves_the_money_where_it_is() -> None:
    there, _ = sold()
    first = there.desk.do(refund(there.desk.payment.payment_id, 4_000), replace(RECEIVED, reference="REF1"))
    named = {"pspReference": "REF1", "originalReference": "PSP1", "amount": {"currency": "USD", "value": 4_000}}
    there.hear(there.item("REFUND", first, CallKind.REFUND, **named))
    assert there.desk.sums.refunded == 4_000
    there.hear(there.item("REFUND_FAILED", first, CallKind.REFUND, **named))
    there.hear(there.item("REFUNDED_REVERSED", first, CallKind.REFUND, **named))
    assert (there.desk.sums.refunded, there.desk.payment.review) == (0, False)
    second = there.desk.do(refund(there.desk.payment.payment_id, 10_000, key="r2"), replace(RECEIVED, reference="REF2"))
    there.hear(there.item("REFUND", second, CallKind.REFUND, **{**named, "pspReference": "REF2"}, success="false"))
    assert (there.desk.state(second), there.desk.sums.refunded) == (OperationState.DECLINED, 0)


def test_refund_made_on_adyens_own_page_is_recorded() -> None:
    there, op = sold()
    named = {"pspReference": "DESK1", "originalReference": "PSP1"}
    there.hear(there.item("REFUND", op, CallKind.SALE, **named))
    assert there.desk.transitions[-1] == "recorded"
    assert there.desk.view.status is PaymentStatus.REFUNDED


@pytest.mark.parametrize("manual", [False, True])
def test_chargeback_takes_the_money_and_gives_it_back_when_it_is_won(manual: bool) -> None:
    if manual:
        there, opening, op = captured()
        there.hear(of_capture(there, op))
        kind = CallKind.AUTHORIZE
    else:
        (there, opening), kind = sold(), CallKind.SALE
    case = {"pspReference": "CASE1", "originalReference": "PSP1"}
    there.hear(there.item("NOTIFICATION_OF_CHARGEBACK", opening, kind, **case))
    assert there.desk.view.overlays == (Overlay.DISPUTED,)
    there.hear(there.item("CHARGEBACK", opening, kind, **case))
    assert there.desk.sums.captured == 0
    there.hear(there.item("CHARGEBACK_REVERSED", opening, kind, **case))
    assert there.desk.sums.captured == 10_000
    there.hear(there.item("SECOND_CHARGEBACK", opening, kind, **case))
    assert there.desk.sums.captured == 0
    there.hear(there.item("DISPUTE_DEFENSE_PERIOD_ENDED", opening, kind, **case))
    assert (there.desk.sums.captured, there.desk.payment.review) == (0, False)


CASE = {"pspReference": "CASE1", "originalReference": "PSP1"}
LONG_AGO, FAR_OFF = "2026-12-01T09:59:00+01:00", "2099-12-31T00:00:00+01:00"


def test_success_that_is_dated_anew_hides_no_chargeback_from_a_person() -> None:
    there, op = sold()
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE))
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE, eventDate=FAR_OFF))
    assert not there.desk.payment.review  # it changes nothing yet
    there.hear(there.item("CHARGEBACK", op, CallKind.SALE, **CASE))
    assert there.desk.payment.review


def test_chargeback_that_is_dated_before_its_payment_is_for_a_person() -> None:
    there, op = sold()
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE))
    there.hear(there.item("CHARGEBACK", op, CallKind.SALE, **CASE, eventDate=LONG_AGO))
    assert there.desk.payment.review


def test_won_dispute_that_is_told_again_after_it_was_lost_is_for_a_person() -> None:
    there, op = sold()
    for event in ("CHARGEBACK", "CHARGEBACK_REVERSED", "SECOND_CHARGEBACK"):
        there.hear(there.item(event, op, CallKind.SALE, **CASE))
    assert (there.desk.sums.captured, there.desk.payment.review) == (0, False)
    there.hear(there.item("CHARGEBACK_REVERSED", op, CallKind.SALE, **CASE))
    assert (there.desk.sums.captured, there.desk.payment.review) == (10_000, True)


def test_item_that_is_told_again_with_its_own_date_asks_nobody() -> None:
    there, op = sold()
    first = there.item("AUTHORISATION", op, CallKind.SALE)
    items = [first, there.item("CHARGEBACK", op, CallKind.SALE, **CASE)]
    there.hear(*items, *items)
    assert (there.desk.sums.captured, there.desk.payment.review) == (0, False)


def test_hold_that_runs_out_is_expired() -> None:
    there, hold = held()
    there.hear(there.item("EXPIRE", hold, CallKind.AUTHORIZE))
    assert there.desk.view.status is PaymentStatus.EXPIRED


def test_payment_whose_payer_never_came_ends_and_one_who_did_is_named_by_the_notice() -> None:
    there = AdyenDesk()
    op = there.desk.do(sale(), replace(ACTION, reference=None))
    assert not there.desk.payment.gateway_reference
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE))
    assert (there.desk.payment.gateway_reference, there.desk.view.status) == ("PSP1", PaymentStatus.CAPTURED)
    other = AdyenDesk()
    op = other.desk.do(sale(), replace(ACTION, reference=None))
    other.hear(other.item("OFFER_CLOSED", op, CallKind.SALE))
    assert other.desk.state(op) is OperationState.DECLINED


RECEIVED_CANCEL = replace(PENDING, reference="TECH1")


def waited(command: Command, *, answer: Said = RECEIVED_CANCEL) -> tuple[AdyenDesk, OpId, OpId]:
    """Let a payer not come in time; return the payment's operation, and the void by our reference that was sent."""
    there = AdyenDesk()
    op = there.desk.do(command, replace(ACTION, reference=None))
    for _ in range(MAX_LOOKS):
        there.desk.fire(op)
        if there.desk.requests and there.desk.requests[0].kind is CallKind.VOID:
            break
        there.desk.script.append(replace(ACTION, reference=None))  # the same call brings the same answer
        there.desk.settle()
    request = there.desk.requests[0]
    opening = there.desk.operation(op)
    assert (request.payment_reference, request.opening_op_id, request.opening_kind) == (None, op, opening.kind.value)
    there.desk.script.append(answer)
    there.desk.settle()
    return there, op, request.op_id


def cancelled(there: AdyenDesk, void_id: OpId, **changes: Any) -> dict[str, Any]:
    return there.item("TECHNICAL_CANCEL", void_id, CallKind.VOID, **{"pspReference": "TECH1", **changes})


@pytest.mark.parametrize("success", ["true", "false"])
@pytest.mark.parametrize("command", [sale(), authorize()])
def test_payer_who_never_comes_is_waited_for_no_more_once_adyen_has_judged_the_void(
    command: Command, success: str
) -> None:
    there, op, void_id = waited(command)
    assert there.desk.state(op) is OperationState.REQUIRES_ACTION
    there.hear(cancelled(there, void_id, success=success))
    assert there.desk.state(op) is OperationState.NOT_EXECUTED
    error = there.desk.operation(op).error
    assert (error and error.code, there.desk.payment.review) == ("action_expired", False)


def test_hold_of_a_payer_who_acted_just_before_is_let_go() -> None:
    there, op, void_id = waited(authorize())
    there.hear(there.item("AUTHORISATION", op, CallKind.AUTHORIZE))
    assert there.desk.state(op) is OperationState.SUCCEEDED
    there.hear(cancelled(there, void_id, originalReference="PSP1"))
    assert (there.desk.view.status, there.desk.payment.review) == (PaymentStatus.VOIDED, False)


def test_hold_of_a_payer_who_acts_after_the_void_is_let_go_and_a_person_is_asked() -> None:
    there, op, void_id = waited(authorize())
    there.hear(cancelled(there, void_id, success="false"))
    there.hear(there.item("AUTHORISATION", op, CallKind.AUTHORIZE))
    assert there.desk.payment.review
    (request,) = there.desk.requests
    assert (request.kind, request.payment_reference, request.amount_minor) == (CallKind.VOID, "PSP1", 10_000)
    there.desk.script.append(replace(RECEIVED, reference="VOID1"))
    there.desk.settle()
    there.hear(
        there.item("CANCELLATION", request.op_id, CallKind.VOID, pspReference="VOID1", originalReference="PSP1"),
        there.item("AUTHORISATION", op, CallKind.AUTHORIZE),
    )
    assert (there.desk.state(request.op_id), there.desk.view.status) == (OperationState.SUCCEEDED, PaymentStatus.FAILED)
    assert len([each for each in there.desk.operations if each.kind is OperationKind.VOID]) == 2
    assert there.desk.payment.review


def test_money_that_was_captured_before_the_void_is_for_a_person_whether_its_notice_comes_or_not() -> None:
    there, op, void_id = waited(sale())
    there.hear(cancelled(there, void_id, originalReference="PSP1", success="false", reason="already captured"))
    assert (there.desk.state(op), there.desk.payment.review) == (OperationState.NOT_EXECUTED, True)
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE))
    assert there.desk.payment.review
    assert not there.desk.requests  # what was captured only a person gives back


def test_void_that_adyen_would_not_even_take_is_for_a_person() -> None:
    there, op, void_id = waited(sale(), answer=refusal(RetryAdvice.AFTER_FIX))
    assert there.desk.state(void_id) is OperationState.NOT_EXECUTED
    assert (there.desk.state(op), there.desk.payment.review) == (OperationState.NOT_EXECUTED, True)


def test_void_of_which_nothing_is_heard_for_a_day_is_for_a_person() -> None:
    there, _, void_id = waited(authorize(), answer=UNKNOWN)
    for _ in range(MAX_LOOKS):
        if there.desk.state(void_id) is OperationState.MANUAL_REVIEW:
            break
        there.desk.script.append(RECEIVED_CANCEL)
        there.desk.fire(void_id)
        there.desk.settle()
    assert there.desk.state(void_id) is OperationState.MANUAL_REVIEW
    first = there.desk.operation(void_id).first_requested_at_ms
    assert there.desk.now_ms - first <= 2 * CAPABILITIES.pending_life_ms[CallKind.VOID]
    assert Overlay.REVIEW in there.desk.view.overlays


def test_void_by_a_merchant_of_what_waits_for_its_payer_is_sent_and_judged_alike() -> None:
    there = AdyenDesk()
    op = there.desk.do(authorize(), replace(ACTION, reference=None))
    void_id = there.desk.do(void(there.desk.payment.payment_id), RECEIVED_CANCEL)
    assert (there.desk.state(op), there.desk.state(void_id)) == (OperationState.REQUIRES_ACTION, OperationState.PENDING)
    there.hear(cancelled(there, void_id))
    error = there.desk.operation(op).error
    assert (there.desk.state(void_id), error and error.code) == (OperationState.SUCCEEDED, "cancelled")


def test_void_by_our_reference_is_found_where_notices_name_the_payment_by_ours() -> None:
    there, op, void_id = waited(authorize())
    told = cancelled(there, void_id, merchantReference=reference_of(op, CallKind.AUTHORIZE), originalReference="PSP9")
    (notice,) = notices_of({}, body_of([told]))
    assert address_of(notice, CAPABILITIES).reference == op
    there.hear(told)
    assert there.desk.state(void_id) is OperationState.SUCCEEDED


def test_verdict_on_a_void_whose_answer_was_lost_is_kept_until_its_reference_is_known() -> None:
    there, op, void_id = waited(authorize(), answer=UNKNOWN)
    there.hear(there.item("AUTHORISATION", op, CallKind.AUTHORIZE))
    of_payment = {"merchantReference": reference_of(op, CallKind.AUTHORIZE), "originalReference": "PSP1"}
    there.hear(cancelled(there, void_id, **of_payment))
    assert there.desk.state(void_id) is OperationState.UNKNOWN
    there.desk.script.append(RECEIVED_CANCEL)
    there.desk.fire(void_id)
    there.desk.settle()
    assert there.desk.state(void_id) is OperationState.SUCCEEDED
    assert (there.desk.view.status, there.desk.payment.review) == (PaymentStatus.VOIDED, False)


def test_failure_told_under_another_reference_takes_back_the_capture_that_it_names() -> None:
    there, _, op = captured()
    there.hear(of_capture(there, op))
    there.hear(of_capture(there, op, "CAPTURE_FAILED", pspReference="ANOTHER"))
    assert (there.desk.state(op), there.desk.sums.captured) == (OperationState.REVERSED, 0)


def test_chargeback_that_names_the_capture_or_nothing_of_ours_takes_the_money() -> None:
    for reference in ("{op}.capture", "typed by somebody", ""):
        there, hold, op = captured()
        there.hear(of_capture(there, op))
        case = {"pspReference": "CASE1", "originalReference": "PSP1", "merchantReference": reference.format(op=op)}
        there.hear(there.item("CHARGEBACK", hold, CallKind.AUTHORIZE, **case))
        assert there.desk.sums.captured == 0


def test_reversal_of_which_nothing_says_what_it_was_is_for_a_person_and_changes_no_sum() -> None:
    there, op = sold()
    named = {"pspReference": "DESK1", "originalReference": "PSP1"}
    there.hear(there.item("CANCEL_OR_REFUND", op, CallKind.SALE, **named))
    assert (there.desk.payment.review, there.desk.sums.captured, there.desk.sums.refunded) == (True, 10_000, 0)


def test_pending_payment_gets_its_verdict_from_the_notice() -> None:
    there = AdyenDesk()
    op = there.desk.do(sale(), replace(PENDING, reference="PSP1"))
    there.hear(there.item("AUTHORISATION", op, CallKind.SALE, success="false", reason="Not enough balance"))
    assert there.desk.state(op) is OperationState.DECLINED
    error = there.desk.operation(op).error
    assert error is not None
    assert error.code == "insufficient_funds"
