"""Words that come out of their order where the row cannot hold them: nothing is silent."""

import pytest

from schemas.identifiers import OpId
from schemas.vocabulary import CallKind, Outcome, Overlay, Verdict
from tests.support.order_desk import Desk, Said, authorize, capture, refund, sale

TAKEN = Said(outcome=Outcome.REVERSED, reference="re_desk", confirmed_minor=500)


def paid() -> tuple[Desk, OpId]:
    desk = Desk()
    return desk, desk.do(sale(), Said(reference="ch"))


def test_person_is_asked_when_a_refund_of_the_gateways_desk_is_taken_back_before_it_was_told() -> None:
    desk, _ = paid()
    desk.notice(None, TAKEN, kind=CallKind.REFUND, payment_reference="ch")
    assert desk.payment.review
    desk.notice(None, Said(reference="re_desk", confirmed_minor=700), kind=CallKind.REFUND, payment_reference="ch")
    assert desk.sums.refunded == 700


@pytest.mark.parametrize(
    "fields",
    [
        {"payment_reference": "another"},
        {"payment_reference": "ch", "outcome": Outcome.PENDING},
    ],
)
def test_nobody_is_asked_when_the_word_is_about_nothing_that_was_made(fields: dict[str, object]) -> None:
    desk, _ = paid()
    desk.notice(None, TAKEN, **{"kind": CallKind.REFUND, **fields})
    assert not desk.payment.review


@pytest.mark.parametrize("fields", [{"gateway_reference": None}, {"kind": None}])
def test_person_is_asked_when_money_of_the_payment_is_taken_back_and_of_what_is_not_said(
    fields: dict[str, object],
) -> None:
    desk, _ = paid()
    desk.notice(None, TAKEN, **{"kind": CallKind.REFUND, "payment_reference": "ch", **fields})
    assert desk.payment.review


@pytest.mark.parametrize("outcome", [Outcome.REVERSED, Outcome.DISPUTE_LOST])
def test_person_is_asked_when_a_word_may_be_about_either_of_two_operations(outcome: Outcome) -> None:
    desk, _ = paid()
    for amount_minor in (500, 600):
        desk.do(refund(desk.payment.payment_id, amount_minor, key=str(amount_minor)), Said(reference=None))
    said = Said(outcome=outcome, reference="re", confirmed_minor=100)
    desk.notice(None, said, kind=CallKind.REFUND, payment_reference="ch")
    assert desk.payment.review
    assert desk.sums.refunded == 1_100


def test_person_is_asked_when_a_capture_stands_again_that_was_made_good_before_another_dispute_was_told() -> None:
    desk = Desk()
    desk.do(authorize(), Said(reference="auth"))
    first = desk.do(capture(desk.payment.payment_id, 3_000), Said(reference="c1"))
    for outcome, case, then in (
        (Outcome.DISPUTE_LOST, "d1", "again"),
        (Outcome.DISPUTE_OPENED, "d2", None),
        (Outcome.DISPUTE_WON, "d1", None),
    ):
        assert not desk.payment.review
        desk.now_ms += 10
        said = Said(outcome=outcome, reference="c1", confirmed_minor=3_000)
        desk.notice(first, said, occurred_at_ms=desk.now_ms, case_reference=case)
        if then is not None:
            desk.now_ms += 10
            desk.do(capture(desk.payment.payment_id, 3_000, key=then), Said(reference="c2"))
    assert desk.sums.captured == 6_000
    assert desk.payment.review


def test_nobody_is_asked_while_the_word_may_be_about_an_operation_whose_reference_is_not_known_yet() -> None:
    desk, _ = paid()
    desk.send(refund(desk.payment.payment_id, 500))
    desk.grant()
    desk.notice(None, Said(outcome=Outcome.REVERSED, reference="re", confirmed_minor=1), kind=CallKind.REFUND)
    assert not desk.payment.review


@pytest.mark.parametrize("outcome", [Outcome.DISPUTE_OPENED, Outcome.DISPUTE_LOST])
def test_dispute_is_told_when_it_is_older_than_a_persons_verdict_and_the_verdict_stands(outcome: Outcome) -> None:
    desk, op_id = paid()
    disputed_at_ms = desk.now_ms
    desk.now_ms += 10
    assert desk.decide(op_id, Verdict.TAKEN_BACK, 4_000) is None
    said = Said(outcome=outcome, reference="ch", confirmed_minor=3_000)
    desk.notice(op_id, said, occurred_at_ms=disputed_at_ms, case_reference="dp")
    assert desk.transitions[-1] == ("disputed" if outcome is Outcome.DISPUTE_OPENED else "dispute_lost")
    assert (Overlay.DISPUTED in desk.view.overlays) is (outcome is Outcome.DISPUTE_OPENED)
    assert Overlay.REVIEW in desk.view.overlays
    assert desk.sums.captured == 6_000
