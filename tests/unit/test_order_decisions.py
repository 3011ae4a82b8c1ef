"""What a person decides: what it changes, what it cannot, and who has the last word when the gateway speaks too."""

from dataclasses import replace

import pytest

from gateway_adapters.mock.spec import CAPABILITIES
from schemas.identifiers import GatewayRoute, OpId
from schemas.records.orders import PaymentRow
from schemas.vocabulary import CallKind, DecisionRefusal, OperationState, Outcome, Overlay, PaymentStatus, Verdict
from streams.domain.limits import DEFAULT_RULES, MAX_DECISIONS, MAX_EVENTS
from streams.domain.outputs import Publish, SetTimer
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    NOT_FOUND,
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

SUCCEEDED, NOT_EXECUTED, TAKEN_BACK = Verdict.SUCCEEDED, Verdict.NOT_EXECUTED, Verdict.TAKEN_BACK
REVERSED = Said(outcome=Outcome.REVERSED)
OPEN = (UNKNOWN, PENDING, ACTION)


def reviewed(desk: Desk, op_id: OpId) -> None:
    """Let the looks at the gateway come to an end without a word."""
    while desk.state(op_id) is not OperationState.MANUAL_REVIEW:
        desk.script.append(UNKNOWN)
        desk.fire(op_id)
        desk.settle()


def last(desk: Desk) -> Publish:
    return desk.events[-1]


def sums(desk: Desk) -> tuple[int, int, int]:
    view = desk.view
    return view.authorized_minor, view.captured_minor, view.refunded_minor


def payment(desk: Desk) -> PaymentRow:
    return desk.payment


@pytest.mark.parametrize("answer", OPEN)
def test_operation_succeeds_for_the_amount_that_a_person_decides_when_it_is_open(answer: Said) -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), answer)
    assert desk.decide(op_id, SUCCEEDED, 9_000, approved_by="bert") is None
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert sums(desk) == (9_000, 9_000, 0)
    fact = last(desk)
    assert fact.type == "payments.sale.succeeded.v1"
    assert fact.event.decision is not None
    told = fact.event.decision
    assert (told.decided_by, told.approved_by, told.why, told.amount_minor) == ("anna", "bert", "said by a test", 9_000)
    assert op_id not in desk.timers


def test_operation_succeeds_in_full_when_the_person_names_no_amount() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    reviewed(desk, op_id)
    assert Overlay.REVIEW in desk.view.overlays
    assert desk.decide(op_id, SUCCEEDED) is None
    assert sums(desk) == (10_000, 10_000, 0)
    assert desk.view.overlays == ()


@pytest.mark.parametrize("answer", OPEN)
def test_order_can_be_paid_again_when_a_person_decides_that_nothing_was_executed(answer: Said) -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000, key="a"), answer)
    assert desk.decide(op_id, NOT_EXECUTED) is None
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert last(desk).type == "payments.sale.failed.v1"
    again = desk.do(sale(10_000, key="b"))
    assert desk.state(again) is OperationState.SUCCEEDED


def test_operation_that_waited_for_the_doubt_goes_on_when_a_person_has_decided() -> None:
    desk = Desk()
    opening = desk.do(authorize(10_000), UNKNOWN)
    desk.script.append(UNKNOWN)  # the look that the capture asks for first
    taking = desk.send(capture(desk.payment.payment_id, None))
    desk.grant()
    assert desk.state(taking) is OperationState.DISPATCHED
    assert desk.decide(opening, SUCCEEDED) is None
    desk.settle()
    assert desk.state(taking) is OperationState.SUCCEEDED
    assert sums(desk) == (10_000, 10_000, 0)


def test_money_is_taken_back_in_part_and_then_in_full_when_a_person_says_so() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000))
    assert desk.decide(op_id, TAKEN_BACK, 3_000) is None
    assert (desk.state(op_id), sums(desk)) == (OperationState.SUCCEEDED, (7_000, 7_000, 0))
    assert last(desk).type == "payments.sale.reversed.v1"
    assert desk.decide(op_id, TAKEN_BACK, name="d2") is None
    assert (desk.state(op_id), sums(desk)) == (OperationState.REVERSED, (0, 0, 0))


def test_deficit_asks_for_a_review_when_a_person_takes_back_what_was_refunded() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000))
    desk.do(refund(desk.payment.payment_id, 8_000))
    assert desk.decide(op_id, TAKEN_BACK, 5_000) is None
    assert payment(desk).review


def test_note_changes_nothing_but_what_is_told() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    before = desk.operation(op_id)
    assert desk.decide(op_id, Verdict.NOTE, why="asked the gateway, ticket 17") is None
    after = desk.operation(op_id)
    assert (after.state, after.words, desk.timers[op_id].number) == (before.state, before.words, before.timer_number)
    assert last(desk).type == "payments.sale.noted.v1"


def test_review_is_closed_when_a_person_has_looked() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), Said(confirmed_minor=12_000))
    assert payment(desk).review
    assert desk.decide(op_id, Verdict.CLOSE_REVIEW) is None
    assert not payment(desk).review
    assert last(desk).type == "payments.sale.decided.v1"
    assert last(desk).event.payment is not None
    assert desk.view.overlays == ()


def test_contradiction_blocks_no_other_payment_once_a_person_has_closed_it() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000, key="a"), DECLINE)
    desk.notice(op_id, SUCCESS)
    assert payment(desk).review
    refused = desk.do(sale(10_000, key="b"))
    assert desk.state(refused) is OperationState.REJECTED
    assert desk.decide(op_id, Verdict.CLOSE_REVIEW) is None
    again = desk.do(sale(10_000, key="c"))
    assert desk.state(again) is OperationState.SUCCEEDED


def test_review_is_closed_for_the_whole_payment_by_whichever_operation_is_named() -> None:
    desk = Desk()
    opening = desk.do(authorize(10_000))
    taking = desk.do(capture(desk.payment.payment_id, None), DECLINE)
    desk.notice(taking, SUCCESS)
    assert payment(desk).review
    assert desk.decide(opening, Verdict.CLOSE_REVIEW) is None
    assert not payment(desk).review
    assert [each.type for each in desk.events[-2:]] == [
        "payments.authorization.decided.v1",
        "payments.capture.decided.v1",
    ]
    assert desk.decide(opening, Verdict.CLOSE_REVIEW) is None, "the same decision again"
    desk.notice(taking, SUCCESS)
    assert payment(desk).review, "a gateway that contradicts itself anew is heard anew"


# What is refused.


@pytest.mark.parametrize(
    ("answer", "verdict", "amount", "refusal"),
    [
        (SUCCESS, SUCCEEDED, None, DecisionRefusal.NOT_OPEN),
        (DECLINE, NOT_EXECUTED, None, DecisionRefusal.NOT_OPEN),
        (UNKNOWN, SUCCEEDED, 10_001, DecisionRefusal.AMOUNT_OUT_OF_RANGE),
        (UNKNOWN, TAKEN_BACK, None, DecisionRefusal.NOTHING_TO_TAKE_BACK),
        (DECLINE, TAKEN_BACK, 1, DecisionRefusal.NOTHING_TO_TAKE_BACK),
        (SUCCESS, TAKEN_BACK, 10_001, DecisionRefusal.AMOUNT_OUT_OF_RANGE),
        (SUCCESS, Verdict.CLOSE_REVIEW, None, DecisionRefusal.NO_REVIEW),
    ],
)
def test_decision_is_refused_with_a_fact_when_the_operation_does_not_allow_it(
    answer: Said, verdict: Verdict, amount: int | None, refusal: DecisionRefusal
) -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), answer)
    before, seen = desk.operation(op_id), sums(desk)
    assert desk.decide(op_id, verdict, amount) is refusal
    assert (desk.operation(op_id).state, sums(desk)) == (before.state, seen)
    assert last(desk).type == "payments.decision.refused.v1"
    told = last(desk).event.decision
    assert told is not None
    assert told.refusal is refusal


def test_decision_is_refused_when_the_gateways_answer_is_still_to_come() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    assert desk.decide(op_id, SUCCEEDED) is DecisionRefusal.UNDER_WAY
    assert desk.events == []
    desk.grant()
    assert desk.decide(op_id, SUCCEEDED, name="d2") is DecisionRefusal.UNDER_WAY
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_decision_is_refused_when_the_order_does_not_know_what_it_is_about() -> None:
    desk = Desk()
    assert desk.decide(OpId("op_1"), SUCCEEDED) is DecisionRefusal.PAYMENT_UNKNOWN
    assert desk.row is None
    op_id = desk.do(sale(), UNKNOWN)
    known = desk.payment.payment_id
    assert desk.decide(OpId("op_1"), SUCCEEDED, payment=known) is DecisionRefusal.OPERATION_UNKNOWN
    other = capture(known, None).payment_id + "x"  # type: ignore[union-attr]  # a capture names its payment
    assert desk.decide(op_id, SUCCEEDED, payment=other) is DecisionRefusal.PAYMENT_UNKNOWN  # type: ignore[arg-type]
    assert desk.state(op_id) is OperationState.UNKNOWN


def test_decisions_are_refused_when_the_order_has_had_too_many() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNKNOWN)
    for number in range(MAX_DECISIONS):
        assert desk.decide(op_id, Verdict.NOTE, name=f"n{number}") is None
    assert desk.decide(op_id, SUCCEEDED) is DecisionRefusal.TOO_MANY_DECISIONS
    assert desk.state(op_id) is OperationState.UNKNOWN
    desk.notice(op_id, SUCCESS)
    assert desk.transitions[-1] == "succeeded", "notes leave room for what gateways say"


# Once, whatever is said how often.


def test_decision_holds_once_and_says_the_same_when_it_comes_again() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000))
    assert desk.decide(op_id, TAKEN_BACK, 3_000) is None
    row = desk.row
    assert desk.decide(op_id, TAKEN_BACK, 3_000, approved_by="bert") is None
    assert desk.row == row
    assert desk.replies_to("r-d1")[-1].decision == desk.replies_to("r-d1")[0].decision
    assert desk.decide(op_id, TAKEN_BACK, 4_000) is DecisionRefusal.ID_REUSED
    assert desk.row == row


def test_replay_of_a_decision_says_its_facts_again_though_the_order_has_gone_on() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.decide(op_id, SUCCEEDED)
    fact = last(desk)
    desk.notice(op_id, REVERSED, occurred_at_ms=desk.now_ms + 10)
    desk.replay = True
    said = len(desk.said)
    assert desk.decide(op_id, SUCCEEDED) is None
    assert fact in desk.said[said:]
    assert desk.state(op_id) is OperationState.REVERSED


def test_refused_decision_stays_refused_when_it_is_replayed_later() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    assert desk.decide(op_id, NOT_EXECUTED) is DecisionRefusal.UNDER_WAY
    desk.call(UNKNOWN)
    desk.replay = True
    assert desk.decide(op_id, NOT_EXECUTED) is DecisionRefusal.UNDER_WAY
    assert desk.state(op_id) is OperationState.UNKNOWN


# The gateway speaks too.


def test_later_success_of_the_gateway_beats_a_person_who_said_not_executed() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.decide(op_id, NOT_EXECUTED)
    desk.notice(op_id, Said(confirmed_minor=10_000), occurred_at_ms=desk.now_ms + 1)
    assert (desk.state(op_id), sums(desk)) == (OperationState.SUCCEEDED, (10_000, 10_000, 0))
    assert last(desk).type == "payments.sale.succeeded.v1"
    assert last(desk).event.decision is None
    assert not payment(desk).review


def test_later_success_asks_for_a_review_too_when_the_order_was_paid_again_meanwhile() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000, key="a"), UNKNOWN)
    desk.decide(op_id, NOT_EXECUTED)
    desk.call(NOT_FOUND)
    desk.do(sale(10_000, key="b"))
    desk.notice(op_id, Said(reference="late"), occurred_at_ms=desk.now_ms + 1)
    assert desk.row is not None
    assert desk.state(op_id) is OperationState.SUCCEEDED
    assert [each.review for each in desk.row.payments] == [True, False]


@pytest.mark.parametrize("at_ms", [None, 1])
def test_earlier_success_that_comes_late_asks_for_a_review_when_a_person_said_not_executed(at_ms: int | None) -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.now_ms += 1_000
    desk.decide(op_id, NOT_EXECUTED)
    desk.notice(op_id, SUCCESS, occurred_at_ms=at_ms)
    assert (desk.state(op_id), sums(desk)) == (OperationState.NOT_EXECUTED, (0, 0, 0))
    assert payment(desk).review
    assert last(desk).type == "payments.sale.reviewed.v1"
    events = len(desk.events)
    desk.notice(op_id, SUCCESS, occurred_at_ms=at_ms)
    assert len(desk.events) == events, "the same word twice"


def test_later_refusal_of_the_gateway_beats_a_person_who_said_succeeded() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), PENDING)
    desk.decide(op_id, SUCCEEDED)
    desk.notice(op_id, DECLINE, occurred_at_ms=desk.now_ms + 1)
    assert (desk.state(op_id), sums(desk)) == (OperationState.REVERSED, (0, 0, 0))
    assert last(desk).type == "payments.sale.reversed.v1"
    assert last(desk).event.operation.error is not None


def test_earlier_refusal_that_comes_late_asks_for_a_review_when_a_person_said_succeeded() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), PENDING)
    desk.now_ms += 1_000
    desk.decide(op_id, SUCCEEDED)
    desk.notice(op_id, DECLINE, occurred_at_ms=1)
    assert (desk.state(op_id), sums(desk)) == (OperationState.SUCCEEDED, (10_000, 10_000, 0))
    assert payment(desk).review


def test_success_of_the_gateway_is_no_news_when_a_person_said_the_same() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.now_ms += 1_000
    desk.decide(op_id, SUCCEEDED)
    for at_ms in (1, desk.now_ms + 1):
        desk.notice(op_id, Said(reference="late"), occurred_at_ms=at_ms)
    assert not payment(desk).review
    assert desk.transitions.count("succeeded") == 1
    assert desk.operation(op_id).gateway_reference == "late", "a refund needs it"


def test_another_amount_of_the_gateway_counts_when_it_is_later_and_is_asked_about_when_it_is_earlier() -> None:
    later, earlier = Desk(), Desk()
    for desk in (later, earlier):
        op_id = desk.do(sale(10_000), UNKNOWN)
        desk.now_ms += 1_000
        desk.decide(op_id, SUCCEEDED, 9_000)
        at_ms = desk.now_ms + 1 if desk is later else 1
        desk.notice(op_id, Said(confirmed_minor=10_000), occurred_at_ms=at_ms)
    assert (sums(later), payment(later).review) == ((10_000, 10_000, 0), False)
    assert (sums(earlier), payment(earlier).review) == ((9_000, 9_000, 0), True)


def test_answer_to_a_call_under_way_is_heard_when_a_person_was_faster() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.fire(op_id)  # a look is on its way
    desk.decide(op_id, NOT_EXECUTED)
    desk.call(Said(confirmed_minor=10_000))
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert payment(desk).review
    quiet = Desk()
    op_id = quiet.do(sale(10_000), UNKNOWN)
    quiet.fire(op_id)
    quiet.decide(op_id, SUCCEEDED)
    quiet.call(NOT_FOUND)
    assert (quiet.state(op_id), payment(quiet).review) == (OperationState.SUCCEEDED, False)


@pytest.mark.parametrize("answer", [UNKNOWN, PENDING])
def test_gateway_is_asked_once_more_when_a_person_settles_what_waited_for_it(answer: Said) -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), answer)
    desk.decide(op_id, NOT_EXECUTED)
    (request,) = desk.requests
    assert (request.kind, request.inquired_kind) == (CallKind.INQUIRE, CallKind.SALE)
    desk.call(Said(confirmed_minor=10_000))
    assert (desk.state(op_id), sums(desk)) == (OperationState.NOT_EXECUTED, (0, 0, 0))
    assert payment(desk).review, "the payer has paid, and a person said otherwise"


def test_answer_that_says_nothing_is_not_asked_for_again_when_a_person_has_settled_it() -> None:
    for says in (UNKNOWN, PENDING, NOT_FOUND):
        desk = Desk()
        op_id = desk.do(sale(10_000), PENDING)
        desk.decide(op_id, SUCCEEDED)
        desk.call(says)
        assert (desk.state(op_id), payment(desk).review) == (OperationState.SUCCEEDED, False)
        assert not desk.requests


def test_gateway_is_not_asked_behind_a_person_once_all_looks_were_made() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    reviewed(desk, op_id)
    desk.decide(op_id, NOT_EXECUTED)
    assert not desk.requests


def test_call_is_not_made_again_behind_a_person_where_a_gateway_has_no_inquiry() -> None:
    unasked = replace(CAPABILITIES, inquire_by_key=False, inquire_by_reference=False)
    desk = Desk(rules=replace(DEFAULT_RULES, capabilities={GatewayRoute("mock"): unasked}))
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.decide(op_id, NOT_EXECUTED)
    assert not desk.requests


def test_chargeback_that_a_person_entered_counts_once_when_the_gateway_tells_of_it_late() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000))
    desk.now_ms += 10_000
    desk.decide(op_id, TAKEN_BACK, 3_000)
    told = {"occurred_at_ms": desk.now_ms - 5_000, "case_reference": "case-1", "confirmed_amount_minor": 3_000}
    desk.notice(op_id, REVERSED, **told)
    assert (sums(desk), payment(desk).review) == ((7_000, 7_000, 0), False)
    desk.notice(op_id, REVERSED, **(told | {"case_reference": "case-2", "confirmed_amount_minor": 1_000}))
    assert (sums(desk), payment(desk).review) == ((7_000, 7_000, 0), True)


def test_later_chargeback_of_the_gateway_counts_beside_what_a_person_entered() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000))
    desk.decide(op_id, TAKEN_BACK, 3_000)
    desk.notice(op_id, REVERSED, occurred_at_ms=desk.now_ms + 1, case_reference="c", confirmed_amount_minor=2_000)
    assert sums(desk) == (5_000, 5_000, 0)


def test_word_of_the_same_millisecond_counts_and_is_told() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.decide(op_id, SUCCEEDED)
    desk.notice(op_id, REVERSED)
    assert (desk.state(op_id), sums(desk)) == (OperationState.REVERSED, (0, 0, 0))
    assert last(desk).type == "payments.sale.reversed.v1"


def test_hold_that_ran_out_is_heard_though_a_person_held_it_for_used_up() -> None:
    """The person was wrong: without the word the hold would count as standing for ever."""
    desk = Desk()
    opening = desk.do(authorize(10_000))
    taking = desk.do(capture(desk.payment.payment_id, 6_000, final=True), UNKNOWN)
    desk.decide(taking, SUCCEEDED)
    desk.notice(opening, Said(outcome=Outcome.EXPIRED), occurred_at_ms=desk.now_ms + 1)
    desk.notice(taking, DECLINE, occurred_at_ms=desk.now_ms + 2)
    assert desk.view.status is PaymentStatus.EXPIRED
    assert desk.view.captured_minor == 0


def test_person_beats_what_was_heard_before_though_the_gateways_clock_is_ahead() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000))
    desk.notice(op_id, REVERSED, occurred_at_ms=desk.now_ms + 60_000, case_reference="c", confirmed_amount_minor=1_000)
    assert desk.decide(op_id, TAKEN_BACK, 2_000) is None
    assert sums(desk) == (7_000, 7_000, 0)


def test_success_of_an_earlier_attempt_asks_for_a_review_whatever_a_person_decided() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.decide(op_id, NOT_EXECUTED)
    desk.notice(op_id, SUCCESS, gateway="other", occurred_at_ms=desk.now_ms + 1)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert payment(desk).review


def test_dispute_of_what_a_person_held_for_not_executed_asks_for_a_review() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    desk.decide(op_id, NOT_EXECUTED)
    desk.notice(op_id, Said(outcome=Outcome.DISPUTE_OPENED), occurred_at_ms=desk.now_ms + 1)
    assert desk.state(op_id) is OperationState.NOT_EXECUTED
    assert payment(desk).review


def test_no_timer_and_no_call_but_one_last_look_is_left_when_a_person_has_settled_an_operation() -> None:
    desk = Desk()
    op_id = desk.do(sale(10_000), UNKNOWN)
    said = len(desk.said)
    desk.decide(op_id, NOT_EXECUTED)
    assert not [each for each in desk.said[said:] if isinstance(each, SetTimer)]
    assert desk.operation(op_id).call_kind is CallKind.INQUIRE
    desk.call(UNKNOWN)
    assert desk.operation(op_id).call_kind is None
    assert not desk.requests
    assert desk.operation(op_id).token is None
    assert desk.view.status is PaymentStatus.FAILED


def test_payment_that_waited_for_its_payer_ends_when_a_person_says_that_it_was_voided() -> None:
    desk = Desk()
    op_id = desk.do(authorize(), ACTION)
    voided = desk.do(void(desk.payment.payment_id), UNKNOWN)
    assert desk.decide(voided, SUCCEEDED) is None
    assert (desk.state(op_id), desk.view.status) == (OperationState.NOT_EXECUTED, PaymentStatus.VOIDED)


def test_part_that_was_approved_stays_a_persons_to_look_at_when_it_was_not_let_go() -> None:
    desk = Desk()
    desk.do(authorize(), Said(confirmed_minor=6_000), UNKNOWN)
    assert desk.row is not None
    own = desk.row.operations[-1].op_id
    assert desk.decide(own, NOT_EXECUTED) is None
    assert (desk.state(own), desk.payment.review) == (OperationState.NOT_EXECUTED, True)


def test_review_of_what_has_no_payment_is_closed() -> None:
    desk = Desk(plan=plan())
    op_id = desk.do(sale())
    desk.notice(op_id, SUCCESS)
    assert desk.transitions[-1] == "reviewed"
    assert desk.decide(op_id, Verdict.CLOSE_REVIEW) is None
    assert desk.transitions[-1] == "decided"


def test_decision_is_told_though_nobody_waits_for_its_answer() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNKNOWN)
    replies = len(desk.replies)
    assert desk.decide(op_id, SUCCEEDED, waits=False) is None
    assert (desk.state(op_id), len(desk.replies)) == (OperationState.SUCCEEDED, replies)


def test_verdict_that_is_contradicted_asks_for_a_person_though_the_row_has_no_room_to_tell() -> None:
    desk = Desk()
    desk.now_ms = 50_000
    op_id = desk.do(sale())
    for number in range(MAX_EVENTS):
        desk.decide(op_id, Verdict.NOTE, name=f"n{number}")
    desk.decide(op_id, TAKEN_BACK, name="back")
    told = len(desk.operation(op_id).events)
    desk.notice(op_id, Said(confirmed_minor=10_000, reference="ref"), occurred_at_ms=2_000)
    assert len(desk.operation(op_id).events) >= told


def test_person_is_asked_once_though_two_earlier_words_contradict_the_verdict() -> None:
    desk = Desk()
    desk.now_ms = 50_000
    op_id = desk.do(sale(), UNKNOWN)
    desk.decide(op_id, NOT_EXECUTED)
    for at_ms in (2_000, 3_000):
        desk.notice(op_id, Said(confirmed_minor=10_000), occurred_at_ms=at_ms)
    assert (desk.payment.review, desk.transitions.count("reviewed")) == (True, 1)
