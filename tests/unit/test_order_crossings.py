"""Words, voids and crashes that cross: nothing is taken twice, and nothing happens in silence."""

from dataclasses import replace

import pytest

from schemas.identifiers import OpId
from schemas.vocabulary import (
    CallKind,
    Initiator,
    OperationState,
    Outcome,
    PaymentStatus,
    Rejection,
    RetryAdvice,
    TimerKind,
)
from streams.domain.limits import MAX_WORDS, RECONCILE_AFTER_MS
from streams.domain.outputs import Output, Publish
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    PENDING,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    refund,
    refusal,
    sale,
    void,
)

PART = Said(confirmed_minor=3_000, confirmed_currency="USD", reference="part")


def own_void(desk: Desk) -> OpId:
    """Return the engine's own void, which lets go of a payment."""
    assert desk.row is not None
    return next(each.op_id for each in desk.row.operations if each.initiator is Initiator.ENGINE)


def expiring(desk: Desk) -> OpId:
    """Return the payment that waits for its payer, whose time is over: the engine's void is on its way."""
    op_id = desk.do(authorize(), Said(outcome=Outcome.REQUIRES_ACTION, reference="auth"))
    for _ in RECONCILE_AFTER_MS:
        last = desk.timers[op_id].kind is TimerKind.EXPIRE_ACTION
        desk.fire(op_id)
        if last:
            return op_id
        desk.call(replace(ACTION, reference="auth"))
    raise AssertionError("it never expired")


def published(outputs: tuple[Output, ...]) -> list[str]:
    return [each.transition.value for each in outputs if isinstance(each, Publish)]


# A payer pays once


def test_reference_of_an_earlier_attempt_is_not_the_payments_any_more() -> None:
    """A refused attempt may have left an object at the gateway; a late word about it is none of the next attempt's."""
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    desk.call(replace(refusal(RetryAdvice.OTHER_GATEWAY), reference="first"))
    desk.fire(op_id)
    assert desk.payment.gateway_reference is None
    desk.notice(op_id, Said(reference="first"))
    assert desk.payment.review
    desk.call(Said(reference="second"))
    assert (desk.state(op_id), desk.operation(op_id).gateway_reference) == (OperationState.SUCCEEDED, "second")


def test_order_is_not_paid_again_before_the_part_that_was_approved_is_let_go() -> None:
    """The next payment has its turn already: the part of the first is still held."""
    desk = Desk()
    first = desk.do(authorize(key="1"), PENDING)
    second = desk.send(authorize(key="2"))
    desk.notice(first, replace(PART, reference="ref"))
    desk.settle()
    assert desk.operation(second).rejection is Rejection.PAYMENT_ALREADY_EXISTS
    assert desk.state(own_void(desk)) is OperationState.SUCCEEDED


def test_hold_that_the_engine_let_go_of_while_its_payer_acted_is_voided() -> None:
    desk = Desk()
    op_id = expiring(desk)
    desk.notice(op_id, Said(reference="auth"))
    assert desk.state(op_id) is OperationState.SUCCEEDED
    desk.call(Said(reference="void"))
    assert desk.view.status is PaymentStatus.VOIDED
    assert not desk.payment.review
    late = desk.do(capture(desk.payment.payment_id))
    assert desk.operation(late).rejection is Rejection.INVALID_STATE


def test_engine_does_not_void_what_its_payer_has_paid_before_the_void_was_sent() -> None:
    """Another operation has its turn when the time is over; the void waits for it, and the payer acts."""
    desk = Desk()
    op_id = desk.do(authorize(), Said(outcome=Outcome.REQUIRES_ACTION, reference="auth"))
    other = desk.send(capture(desk.payment.payment_id, key="early"))
    desk.send(capture(desk.payment.payment_id, key="next"))
    for _ in RECONCILE_AFTER_MS:
        last = desk.timers[op_id].kind is TimerKind.EXPIRE_ACTION
        desk.fire(op_id)
        if last:
            break
        desk.call(replace(ACTION, reference="auth"))
    assert desk.state(own_void(desk)) is OperationState.QUEUED
    desk.notice(op_id, Said(reference="auth"))
    desk.settle()
    assert desk.state(other) is OperationState.SUCCEEDED
    assert desk.state(own_void(desk)) is OperationState.REJECTED
    assert desk.view.status is PaymentStatus.CAPTURED
    assert desk.row is not None
    assert desk.row.active_op_id is None
    assert desk.row.queue == ()


def test_nobody_is_asked_when_the_gateway_refuses_the_engines_void_since_the_payer_has_paid() -> None:
    desk = Desk()
    op_id = expiring(desk)
    desk.notice(op_id, Said(reference="auth"))
    desk.call(DECLINE)
    assert desk.view.status is PaymentStatus.AUTHORIZED
    assert not desk.payment.review


def test_person_is_asked_when_a_void_succeeds_of_a_sale_that_its_payer_has_paid_meanwhile() -> None:
    """Whether the gateway gave the money back, nobody can tell."""
    desk = Desk()
    op_id = desk.do(sale(), Said(outcome=Outcome.REQUIRES_ACTION, reference="sale"))
    desk.send(void(desk.payment.payment_id))
    desk.grant()
    desk.notice(op_id, Said(reference="sale"))
    desk.call(Said(reference="void"))
    assert desk.payment.review


def test_person_is_asked_when_a_voided_payment_is_captured_at_the_gateways_desk_after_its_order_was_paid_again() -> (
    None
):
    desk = Desk()
    desk.do(authorize(key="1"), Said(reference="auth"))
    desk.do(void(desk.payment.payment_id), Said(reference="void"))
    desk.do(authorize(key="2"), Said(reference="auth2"))
    desk.notice(
        None,
        Said(reference="late", confirmed_minor=10_000, confirmed_currency="USD"),
        kind=CallKind.CAPTURE,
        payment_reference="auth",
    )
    assert desk.row is not None
    assert desk.row.payments[0].review


def test_hold_that_stands_again_after_it_ran_out_is_told_and_asks_for_a_person_when_the_order_was_paid_again() -> None:
    desk = Desk()
    first = desk.do(authorize(key="1"), Said(reference="auth"))
    desk.notice(first, Said(outcome=Outcome.EXPIRED, reference="auth"), occurred_at_ms=5_000)
    desk.do(authorize(key="2"), Said(reference="auth2"))
    desk.notice(first, Said(reference="auth"), occurred_at_ms=6_000)
    assert desk.transitions[-1] == "restored"
    assert desk.row is not None
    assert desk.row.payments[0].review


# A crash loses no fact


def test_end_of_the_payment_is_told_again_when_the_result_of_its_void_is_replayed() -> None:
    desk = Desk()
    desk.do(authorize(), Said(outcome=Outcome.REQUIRES_ACTION, reference="auth"))
    desk.send(void(desk.payment.payment_id))
    desk.grant()
    result = desk.call(Said(reference="void"))
    told = published(tuple(desk.said))[-2:]
    assert sorted(told) == ["failed", "succeeded"]
    desk.replay = True
    assert set(told) <= set(published(desk.result(result).outputs))


def test_end_of_the_payment_is_told_again_when_the_verdict_on_its_void_is_replayed() -> None:
    desk = Desk()
    desk.do(authorize(), Said(outcome=Outcome.REQUIRES_ACTION, reference=None))
    desk.send(void(desk.payment.payment_id))
    verdict = desk.grant()
    desk.replay = True
    assert {"failed", "succeeded"} <= set(published(desk.verdict(verdict).outputs))


def test_refund_made_at_the_desk_is_told_again_when_the_result_that_told_it_apart_is_replayed() -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="sale"))
    ours = desk.do(refund(desk.payment.payment_id, 4_000), UNKNOWN)
    desk_refund(desk, "desk", 6_000)
    assert "recorded" not in desk.transitions
    desk.fire(ours)
    result = desk.call(Said(reference="ours"))
    assert "recorded" in desk.transitions
    desk.replay = True
    assert "recorded" in published(desk.result(result).outputs)


def desk_refund(
    desk: Desk, reference: str, amount: int | None, *, at: int = 2_000, outcome: Outcome = Outcome.SUCCEEDED
) -> None:
    said = Said(outcome=outcome, reference=reference, confirmed_minor=amount, confirmed_currency="USD")
    desk.notice(None, said, kind=CallKind.REFUND, payment_reference="sale", occurred_at_ms=at, notice_id=f"n{at}")


# What waits until it is clear whose it is


def test_refund_made_at_the_desk_is_recorded_once_though_it_was_told_twice_while_it_waited() -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="sale"))
    ours = desk.do(refund(desk.payment.payment_id, 4_000), UNKNOWN)
    desk_refund(desk, "desk", 2_000, at=2_000)
    desk_refund(desk, "desk", 2_000, at=3_000)
    desk.fire(ours)
    desk.call(Said(reference="ours"))
    recorded = [each for each in desk.events if each.transition.value == "recorded"]
    assert len(recorded) == 1
    assert desk.sums.refunded == 6_000


def test_review_stays_though_something_else_that_waited_is_heard_after_it() -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="sale"))
    ours = desk.do(refund(desk.payment.payment_id, 4_000), UNKNOWN)
    desk_refund(desk, "desk", 8_000)
    desk_refund(desk, "ours", 3_000)
    desk.fire(ours)
    desk.call(Said(reference="ours"))
    assert desk.sums.refunded > desk.sums.captured
    assert desk.payment.review


def test_refund_that_waits_to_be_told_apart_takes_its_amount_from_what_can_be_refunded() -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="sale"))
    desk.do(refund(desk.payment.payment_id, 4_000), replace(PENDING, reference=None))
    desk_refund(desk, "desk", 6_000)
    more = desk.do(refund(desk.payment.payment_id, 6_000, key="more"))
    assert desk.operation(more).rejection is Rejection.AMOUNT_EXCEEDS_CAPTURED


# Nothing is taken back in silence


def taken(outcome: Outcome, minor: int | None, reference: str | None, currency: str = "USD") -> Said:
    return Said(outcome=outcome, reference=reference, confirmed_minor=minor, confirmed_currency=currency)


def test_reversal_that_names_the_payment_takes_from_its_capture_once_the_rest_is_let_go() -> None:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    payment = desk.payment.payment_id
    captured = desk.do(capture(payment, 4_000, final=True), Said(reference="cap"))
    desk.notice(None, taken(Outcome.REVERSED, 3_000, "auth"), case_reference="cb", occurred_at_ms=5_000)
    assert desk.operation(captured).counted_minor == 1_000
    assert desk.transitions[-1] == "reversed"
    assert desk.sums.authorized == 10_000


def test_person_is_asked_when_more_is_taken_back_than_the_capture_counts_for() -> None:
    """A dispute about the whole payment, of which there are two captures."""
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    for number in ("1", "2"):
        desk.do(capture(desk.payment.payment_id, 5_000, key=number), Said(reference=f"cap{number}"))
    desk.notice(None, taken(Outcome.DISPUTE_LOST, 10_000, "auth"), case_reference="d", occurred_at_ms=5_000)
    assert desk.payment.review


@pytest.mark.parametrize("outcome", [Outcome.REVERSED, Outcome.DISPUTE_LOST, Outcome.SUCCEEDED])
def test_person_is_asked_when_a_later_word_is_about_another_currency(outcome: Outcome) -> None:
    desk = Desk()
    op_id = desk.do(sale(), Said(reference="sale"))
    desk.notice(op_id, taken(outcome, 4_000, "sale", "EUR"), case_reference="d", occurred_at_ms=5_000)
    assert desk.payment.review


def test_sale_that_waits_for_its_payer_is_not_taken_for_paid_when_its_page_expires() -> None:
    desk = Desk()
    op_id = desk.do(sale(), Said(outcome=Outcome.REQUIRES_ACTION, reference="sale"))
    desk.notice(op_id, taken(Outcome.EXPIRED, None, "sale"))
    assert (desk.state(op_id), desk.sums.captured) == (OperationState.REQUIRES_ACTION, 0)
    assert op_id in desk.timers


def test_reversal_that_an_inquiry_told_is_not_counted_again_when_its_result_is_replayed_after_a_recapture() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNKNOWN)
    desk.fire(op_id)
    result = desk.call(taken(Outcome.REVERSED, None, "sale"))
    assert desk.state(op_id) is OperationState.REVERSED
    desk.notice(op_id, Said(reference="sale"), occurred_at_ms=desk.now_ms + 1_000)
    assert desk.sums.captured == 10_000
    desk.replay = True
    desk.result(result)
    assert desk.sums.captured == 10_000


def test_person_is_asked_when_words_have_no_room_any_more_and_when_one_is_older_than_what_was_folded() -> None:
    desk = Desk()
    op_id = desk.do(sale(), Said(reference="sale"))
    for number in range(MAX_WORDS):
        assert not desk.payment.review
        desk.notice(op_id, taken(Outcome.DISPUTE_OPENED, 1, "sale"), case_reference="d", occurred_at_ms=number + 10)
    assert desk.payment.review


@pytest.mark.parametrize(
    ("kind", "reference", "outcome"),
    [
        (CallKind.REFUND, "unknown", Outcome.REVERSED),
        (None, "dispute", Outcome.DISPUTE_OPENED),
        (None, None, Outcome.DISPUTE_LOST),
    ],
)
def test_person_is_asked_when_something_is_taken_back_of_which_only_the_payment_is_known(
    kind: CallKind | None, reference: str | None, outcome: Outcome
) -> None:
    desk = Desk()
    desk.do(sale(), Said(reference="sale"))
    desk.notice(None, taken(outcome, 1_000, reference), kind=kind, payment_reference="sale")
    assert desk.payment.review


def test_person_is_asked_when_a_part_of_what_was_refused_is_taken_back() -> None:
    """The rest of it was taken, then."""
    desk = Desk()
    op_id = desk.do(sale(), replace(DECLINE, reference="sale"))
    desk.notice(op_id, taken(Outcome.REVERSED, 3_000, "sale"))
    assert desk.payment.review


def test_person_is_asked_when_all_is_approved_after_the_part_was_let_go() -> None:
    desk = Desk()
    op_id = desk.do(authorize(), PART, Said(reference="void"))
    assert not desk.payment.review
    desk.notice(op_id, taken(Outcome.SUCCEEDED, 10_000, "part"))
    assert desk.payment.review


def test_person_is_asked_when_letting_go_of_a_part_is_taken_back() -> None:
    desk = Desk()
    desk.do(authorize(), PART, Said(reference="void"))
    desk.notice(own_void(desk), taken(Outcome.REVERSED, None, "void"), occurred_at_ms=5_000)
    assert desk.payment.review


@pytest.mark.parametrize("outcome", [Outcome.REVERSED, Outcome.DISPUTE_LOST])
def test_word_of_taking_back_stops_no_worker_when_it_is_about_a_payment_that_was_never_begun(outcome: Outcome) -> None:
    desk = Desk()
    desk.do(sale(key="1"))
    refused = desk.do(authorize(key="2"))
    desk.notice(refused, taken(outcome, None, "other"))
    assert desk.state(refused) is OperationState.REJECTED


def test_sale_is_looked_at_again_when_an_inquiry_says_that_its_page_expired() -> None:
    desk = Desk()
    op_id = desk.do(sale(), Said(outcome=Outcome.REQUIRES_ACTION, reference="sale"))
    desk.fire(op_id)
    desk.call(taken(Outcome.EXPIRED, None, "sale"))
    assert (desk.state(op_id), desk.sums.captured) == (OperationState.REQUIRES_ACTION, 0)
    assert op_id in desk.timers
