"""What an order makes of each thing that the Mock can do after a success, from the call to the last notice."""

import pytest

from gateway_adapters.mock import postings
from gateway_adapters.mock.courses import Manner, Scenario, Word
from gateway_adapters.mock.lifecycle import Change, carry_out
from schemas.identifiers import OpId
from schemas.vocabulary import OperationState, Outcome, Overlay, PaymentStatus
from tests.support.mock_bank import DELAY_MS, MockedDesk
from tests.support.order_desk import authorize, capture, sale, void


def paid(scenario: Scenario, *manners: Manner, lost: bool = False) -> MockedDesk:
    """Return an order that was paid for 10,000 by one call, which met this, and has heard all of it."""
    desk = MockedDesk()
    desk.do_meeting(sale(10_000), scenario, *manners, lost=lost)
    desk.hear_all()
    return desk


HOW = [(), (Manner.BY_REFERENCE,), (Manner.DUPLICATE,), (Manner.OUT_OF_ORDER,), (Manner.BATCHED, Manner.STRANGER)]


@pytest.mark.parametrize("manners", HOW)
@pytest.mark.parametrize(
    ("scenario", "captured", "refunded", "status", "last"),
    [
        (Scenario.LATE_FAILURE, 0, 0, PaymentStatus.FAILED, "reversed"),
        (Scenario.PARTIAL_REVERSAL, 7_000, 0, PaymentStatus.CAPTURED, "reversed"),
        (Scenario.TWO_REVERSALS, 5_000, 0, PaymentStatus.CAPTURED, "reversed"),
        (Scenario.DESK_REFUND, 10_000, 10_000, PaymentStatus.REFUNDED, "recorded"),
        (Scenario.PARTIAL_DESK_REFUND, 10_000, 3_000, PaymentStatus.PARTIALLY_REFUNDED, "recorded"),
        (Scenario.DISPUTE_OPENED, 10_000, 0, PaymentStatus.CAPTURED, "disputed"),
        (Scenario.DISPUTE_WON, 10_000, 0, PaymentStatus.CAPTURED, None),
        (Scenario.DISPUTE_LOST, 0, 0, PaymentStatus.FAILED, None),
        (Scenario.PARTIAL_DISPUTE_LOST, 7_000, 0, PaymentStatus.CAPTURED, None),
        (Scenario.CHARGEBACK_WON, 10_000, 0, PaymentStatus.CAPTURED, None),
        (Scenario.CHARGEBACK_LOST, 0, 0, PaymentStatus.FAILED, None),
        (Scenario.PARTIAL_CHARGEBACK_WON, 10_000, 0, PaymentStatus.CAPTURED, None),
        (Scenario.PARTIAL_CHARGEBACK_LOST, 7_000, 0, PaymentStatus.CAPTURED, None),
        (Scenario.RECAPTURED, 10_000, 0, PaymentStatus.CAPTURED, None),
    ],
)
def test_payment_is_what_the_gateway_made_of_it_however_it_tells(
    scenario: Scenario,
    captured: int,
    refunded: int,
    status: PaymentStatus,
    last: str | None,
    manners: tuple[Manner, ...],
) -> None:
    desk = paid(scenario, *manners)
    assert (desk.sums.captured, desk.sums.refunded) == (captured, refunded)
    assert desk.sums == desk.bank.sums()
    assert desk.view.status is status
    assert not desk.payment.review
    if last is not None:
        assert desk.transitions[-1] == last


def say(desk: MockedDesk, op_id: OpId, word: Word) -> None:
    """Let this happen to an operation at the Mock, and let the order hear of it."""
    operation = postings.find_operation(desk.bank.db, reference=desk.operation(op_id).gateway_reference)
    assert operation is not None
    desk.pass_time(DELAY_MS)
    assert carry_out(desk.bank.db, operation, Change(word=word), now_ms=desk.now_ms)
    desk.pass_time(DELAY_MS)
    desk.hear_all()


def asks_a_person(desk: MockedDesk) -> bool:
    return desk.payment.review


def look_until_settled(desk: MockedDesk, op_id: OpId) -> None:
    """Let the engine look at the operation, again and again, until it need not any more."""
    for _ in range(50):
        if op_id not in desk.timers:
            return
        desk.fire(op_id)
        desk.settle()
        desk.hear_all()
    raise AssertionError("it is looked at for ever")


@pytest.mark.parametrize("lost", [False, True])
def test_notice_that_comes_before_the_answer_settles_the_payment_once(lost: bool) -> None:
    desk = paid(Scenario.EARLY_WEBHOOK, lost=lost)
    assert desk.sums == desk.bank.sums()
    assert desk.transitions.count("succeeded") == 1
    assert desk.view.overlays == ()


def test_open_dispute_lies_over_the_payment_until_it_ends() -> None:
    assert paid(Scenario.DISPUTE_OPENED).view.overlays == (Overlay.DISPUTED,)
    assert paid(Scenario.DISPUTE_WON).view.overlays == ()


def test_hold_that_ran_out_is_told_and_what_was_captured_of_it_stays() -> None:
    desk = MockedDesk()
    hold = desk.do(authorize(10_000))
    desk.do(capture(desk.payment.payment_id, 4_000))
    say(desk, hold, Word.EXPIRED)
    assert desk.transitions[-1] == "expired"
    assert desk.sums == desk.bank.sums()
    assert desk.sums.captured == 4_000
    assert desk.state(desk.do(capture(desk.payment.payment_id, 1, key="late"))) is OperationState.REJECTED


def test_part_that_was_approved_and_not_wanted_is_let_go_and_the_payment_declined() -> None:
    desk = MockedDesk()
    op_id = desk.do_meeting(sale(10_000), Scenario.PARTIAL_APPROVAL)
    assert desk.state(op_id) is OperationState.DECLINED
    ledger = desk.bank.db.execute("SELECT kind, amount_minor FROM ledger ORDER BY seq").fetchall()
    assert ledger == [("sale", 6_000), ("refund", 6_000)]


def test_action_that_expired_at_the_gateway_declines_the_payment() -> None:
    desk = paid(Scenario.ACTION_EXPIRED)
    assert desk.view.status is PaymentStatus.FAILED
    assert desk.events[-1].event.operation.error is not None
    assert desk.events[-1].event.operation.error.code == "action_expired"


def test_rest_of_a_partly_captured_hold_is_released() -> None:
    desk = MockedDesk()
    desk.do(authorize(10_000))
    desk.do(capture(desk.payment.payment_id, 6_000))
    assert desk.state(desk.do(void(desk.payment.payment_id))) is OperationState.SUCCEEDED
    assert desk.sums == desk.bank.sums()
    assert desk.view.status is PaymentStatus.CAPTURED


def test_payment_that_waits_for_its_payer_is_cancelled_at_the_gateway() -> None:
    desk = MockedDesk()
    op_id = desk.do_meeting(sale(10_000), Scenario.COMPLETION_REQUIRED)
    assert desk.state(op_id) is OperationState.REQUIRES_ACTION
    cancel = desk.do(void(desk.payment.payment_id))
    desk.pass_time(DELAY_MS)
    desk.hear_all()
    look_until_settled(desk, op_id)
    assert desk.state(cancel) is OperationState.SUCCEEDED
    assert (desk.state(op_id), desk.view.status) == (OperationState.NOT_EXECUTED, PaymentStatus.VOIDED)
    assert desk.sums == desk.bank.sums()


def test_merchant_and_gateway_who_both_capture_again_are_not_silent() -> None:
    desk = MockedDesk()
    desk.do(authorize(10_000))
    payment = desk.payment.payment_id
    first = desk.do(capture(payment, 10_000))
    say(desk, first, Word.REVERSED)
    desk.do(capture(payment, 10_000, key="again"))
    assert not asks_a_person(desk)
    say(desk, first, Word.RESTORED)
    assert asks_a_person(desk)
    assert desk.sums == desk.bank.sums()


@pytest.mark.parametrize(
    ("scenario", "state"),
    [
        (Scenario.STORED_500_AFTER, OperationState.SUCCEEDED),
        (Scenario.STORED_500_BEFORE, OperationState.NOT_EXECUTED),
    ],
)
def test_failure_that_is_kept_under_the_key_ends_by_what_an_inquiry_tells(
    scenario: Scenario, state: OperationState
) -> None:
    desk = MockedDesk()
    op_id = desk.do_meeting(sale(10_000), scenario)
    for _ in range(2):  # the first look may bring the same call again, and the failure with it
        if op_id in desk.timers:
            desk.fire(op_id)
            desk.settle()
    assert desk.state(op_id) is state
    assert op_id not in desk.timers
    assert desk.sums == desk.bank.sums()


def test_inquiry_and_notice_about_one_reversal_take_it_back_once() -> None:
    """The answer was lost; the inquiry finds the reversal first, its notice comes after the gateway captured again."""
    desk = MockedDesk()
    op_id = desk.do_meeting(sale(10_000), Scenario.LATE_FAILURE, lost=True)
    look_until_settled(desk, op_id)
    assert desk.state(op_id) is OperationState.REVERSED
    told = desk.transitions.count("reversed")
    desk.hear_all()
    assert (desk.sums.captured, desk.transitions.count("reversed")) == (0, told)
    assert len([word for word in desk.operation(op_id).words if word.outcome is Outcome.REVERSED]) == 1
    say(desk, op_id, Word.RESTORED)
    assert desk.sums == desk.bank.sums()
    assert desk.sums.captured == 10_000


def test_part_taken_back_by_reference_is_of_the_operation_whose_answer_was_lost() -> None:
    desk = MockedDesk()
    desk.do(authorize(10_000))
    desk.do(capture(desk.payment.payment_id, 1_000))
    op_id = desk.do_meeting(
        capture(desk.payment.payment_id, 5_000, key="lost"), Scenario.PARTIAL_REVERSAL, Manner.BY_REFERENCE, lost=True
    )
    desk.hear_all()
    look_until_settled(desk, op_id)
    assert desk.sums == desk.bank.sums()
    assert desk.sums.captured == 4_500
