"""What is about an operation in a row of its own finds it there: retries, late words, persons and questions."""

from dataclasses import replace

import pytest

from gateway_adapters.contract import Ability
from schemas.identifiers import GatewayRoute, OpId, PaymentId
from schemas.vocabulary import CallKind, DecisionRefusal, OperationState, Outcome, Rejection, RetryAdvice, Verdict
from streams.domain import desk as desk_rules
from streams.domain.apart import with_loaded
from streams.domain.errors import InvariantViolatedError
from streams.domain.limits import DEFAULT_RULES, MAX_OPERATIONS
from streams.domain.outputs import Publish, Reply
from streams.domain.views import answer_query
from tests.support.gateway_calls import capabilities_with
from tests.support.order_desk import Desk, Said, authorize, capture, decision_of, plan, refund, refusal, sale
from tests.support.order_twins import query
from tests.unit.test_order_leaving import gone, numbers, own_rows, paid, refunded, said, with_two_gone

LATE = 900_000


def is_reviewed(desk: Desk) -> bool:
    return desk.payment.review


def test_retry_is_answered_from_the_row_of_its_own() -> None:
    desk, one, *_ = with_two_gone()
    row = desk.row
    desk.send(refund(desk.payment.payment_id, 100, key="r1"), command_id="again")
    (answer,) = desk.replies_to("again")
    assert answer.operation is not None
    assert (answer.operation.op_id, answer.replayed, answer.final) == (one, True, True)
    assert answer.payment is not None
    assert answer.payment.refunded_minor == 300
    assert desk.row is row
    assert not desk.claims


def test_replay_says_again_what_an_operation_in_a_row_of_its_own_has_said() -> None:
    desk = paid()
    desk.send(refund(desk.payment.payment_id, 100, key="r1"), command_id="first")
    verdict = desk.grant()
    result = desk.call(said("ref-1"))
    refunded(desk, 2, first=2)
    desk.leave()
    assert gone(desk) == 2
    first = [each for each in desk.said if isinstance(each, Publish) and each.event.command_id == "first"]
    desk.said.clear()
    desk.replay = True
    for again in (desk.verdict(verdict), desk.result(result)):
        assert [each for each in again.outputs if isinstance(each, Publish)] == first
        assert [each.to.request_id for each in again.outputs if isinstance(each, Reply)] == ["first"]
        assert [each.op_id for each in again.loaded] == [result.op_id]
    assert numbers(desk) == [1, 4]


def test_key_is_refused_for_another_body_when_its_operation_has_left_and_its_claim_is_forgotten() -> None:
    desk, *_ = with_two_gone()
    desk.claim_rows.clear()
    reused = desk.do(refund(desk.payment.payment_id, 7, key="r1"))
    assert desk.state(reused) is OperationState.CONFLICT
    assert desk.operation(reused).rejection is Rejection.IDEMPOTENCY_KEY_REUSED
    assert not desk.claim_rows


@pytest.mark.parametrize("kind", [None, CallKind.REFUND])
def test_late_word_that_names_a_reference_alone_is_about_the_operation_in_a_row_of_its_own(
    kind: CallKind | None,
) -> None:
    desk, one, *_ = with_two_gone()
    desk.now_ms += LATE
    desk.notice(None, Said(outcome=Outcome.REVERSED, reference="ref-1"), kind=kind, payment_reference="sale")
    assert (desk.operation(one).state, desk.operation(one).counted_minor) == (OperationState.REVERSED, 0)
    assert desk.view.refunded_minor == 200
    assert numbers(desk) == [1, 2, 4], "it is back, at its place"
    assert gone(desk) == 1
    again = desk.notice(None, Said(outcome=Outcome.REVERSED, reference="ref-1"), kind=kind, payment_reference="sale")
    assert again.loaded == (), "the row's own is the truth, though another stands beside it"
    refunded(desk, 1, first=30)
    desk.leave()
    assert 2 not in numbers(desk), "and leaves again"
    assert desk.sums.refunded == 300


def test_word_of_another_kind_is_not_looked_for_beside_the_row() -> None:
    desk, *_ = with_two_gone()
    told = desk.notice(None, Said(reference="ref-1"), kind=CallKind.CAPTURE)
    assert told.loaded == ()


def test_operation_goes_back_when_nothing_of_it_has_changed() -> None:
    desk, one, *_ = with_two_gone()
    row, apart = desk.row, dict(desk.apart)
    told = desk.notice(one, Said(outcome=Outcome.PENDING, reference="ref-1"))
    assert [each.op_id for each in told.loaded] == [one]
    assert (desk.row, desk.apart) == (row, apart)


def test_operation_goes_back_when_something_else_has_changed() -> None:
    desk, one, *_ = with_two_gone()
    desk.send(refund(desk.payment.payment_id, 5, key="next"))
    desk.grant()
    desk.replay = True
    result = desk.call(said("ref-1"))  # of the same name: the first that has it is loaded by what names no more
    assert result.op_id != one
    desk.notice(None, Said(outcome=Outcome.REVERSED, reference="sale"))
    assert gone(desk) == 2


def test_review_is_asked_for_when_a_refund_counts_again_that_others_in_rows_of_their_own_have_made_good() -> None:
    desk = paid()
    payment = desk.payment.payment_id
    desk.do(refund(payment, 100, key="r1"), said("ref-1"))
    desk.now_ms += LATE
    desk.notice(None, Said(outcome=Outcome.REVERSED, reference="ref-1"), kind=CallKind.REFUND)
    desk.now_ms += LATE
    refunded(desk, 4, first=2)
    desk.leave()
    assert gone(desk) == 4
    assert not is_reviewed(desk)
    desk.now_ms += LATE
    desk.notice(None, Said(reference="ref-1", confirmed_minor=100), kind=CallKind.REFUND)
    assert is_reviewed(desk)
    assert desk.sums.refunded == 500
    assert numbers(desk) == [1, 2, 6], "those that were only looked at are where they were"


def test_worker_stops_when_an_operation_stands_in_no_row() -> None:
    desk, *_ = with_two_gone()
    del desk.apart[next(name for name, row in desk.apart.items() if row.operation is not None)]
    with pytest.raises(InvariantViolatedError):
        answer_query(desk.row, query(desk.payment.payment_id), 7, desk.apart.get)


def test_answer_tells_the_whole_life_when_some_of_it_stands_in_rows_of_its_own() -> None:
    desk, one, two, three = with_two_gone()
    answer = answer_query(desk.row, query(desk.payment.payment_id), 7, desk.apart.get)
    assert [each.op_id for each in answer.operations][1:] == [one, two, three]
    assert answer.payment is not None
    assert answer.payment.refunded_minor == 300
    for each in (one, three):
        found = answer_query(desk.row, query(desk.payment.payment_id, desk.operation(each)), 7, desk.apart.get)
        assert found.operation is not None
        assert found.operation.op_id == each


# Persons


def test_person_decides_about_an_operation_in_a_row_of_its_own() -> None:
    desk, one, *_ = with_two_gone()
    assert desk.decide(one, Verdict.TAKEN_BACK, 40) is None
    assert desk.sums.refunded == 260
    assert numbers(desk) == [1, 2, 4]
    refunded(desk, 5, first=40)
    desk.leave()
    assert 2 in numbers(desk), "what a person has decided stays"
    assert desk.decide(one, Verdict.TAKEN_BACK, 40) is None, "and is known by its id"


def test_decision_is_known_or_not_by_operations_that_have_left() -> None:
    desk = paid()
    for number in range(3):
        desk.do(refund(PaymentId("pay_nobody"), 1, key=f"n{number}"))
    refunded(desk, 1)
    desk.leave()
    assert gone(desk) == 2
    assert desk.decide(OpId("op_no"), Verdict.NOTE, name="a", payment=PaymentId("pay_nobody")) is (
        DecisionRefusal.OPERATION_UNKNOWN
    )
    assert desk.decide(OpId("op_no"), Verdict.NOTE, name="b", payment=PaymentId("pay_other")) is (
        DecisionRefusal.PAYMENT_UNKNOWN
    )


def test_desk_knows_an_operation_in_a_row_of_its_own() -> None:
    desk, one, _, three = with_two_gone()
    for each in (one, three):
        assert desk_rules.knows(desk.row, decision_of(desk, each), desk.apart.get)
    assert not desk_rules.knows(desk.row, decision_of(desk, OpId("op_no")), desk.apart.get)
    assert not desk_rules.knows(None, decision_of(desk, one), desk.apart.get)


# Accounts that cannot do everything


def at_account(**can: bool) -> Desk:
    account = replace(capabilities_with(None), **can)  # type: ignore[arg-type]  # each is a bool
    return Desk(
        plan=plan("mock"),
        rules=replace(
            DEFAULT_RULES, kept_operations=1, leaving_operations=1, capabilities={GatewayRoute("mock"): account}
        ),
    )


def test_refund_draws_on_the_capture_that_has_enough_left_after_those_that_have_left() -> None:
    desk = at_account(refunds_name_captures=True)
    desk.do(authorize(10_000))
    payment = desk.payment.payment_id
    small = desk.do(capture(payment, 1_000, key="c1"), said("cap-1"))
    large = desk.do(capture(payment, 2_000, key="c2"), said("cap-2"))
    desk.do(refund(PaymentId("pay_nobody"), 700, key="of no payment"))
    drawn = [desk.do(refund(payment, 700, key=f"r{number}"), said(f"ref-{number}")) for number in range(3)]
    desk.leave()
    assert gone(desk) == 3
    assert [desk.operation(each).draws_on for each in drawn] == [small, large, large]
    assert desk.row is not None
    refunds = {(each.draws_on, each.refunded_minor) for each in desk.row.subtotals}
    assert refunds == {(small, 700), (large, 700), (None, 0)}
    refused = desk.do(refund(payment, 700, key="too much"))
    assert desk.operation(refused).rejection is Rejection.REFUND_EXCEEDS_ONE_CAPTURE
    assert desk.operation(desk.do(refund(payment, 600, key="fits"), said("fits"))).draws_on == large


def test_second_refund_is_refused_where_one_is_all_though_the_first_has_left() -> None:
    desk = at_account(**{Ability.MULTIPLE_REFUND.value: False})
    desk.do(sale(10_000))
    refunded(desk, 1)
    for number in range(2):
        desk.do(refund(PaymentId("pay_nobody"), 1, key=f"n{number}"))
    desk.leave()
    assert gone(desk) >= 1
    refused = desk.do(refund(desk.payment.payment_id, 5, key="second"))
    assert desk.operation(refused).rejection is Rejection.MULTIPLE_REFUND_UNSUPPORTED


# The room of an order


def test_order_is_full_after_as_many_operations_as_ever() -> None:
    desk = Desk()
    desk.do(sale(10_000))
    for number in range(1, MAX_OPERATIONS):
        refunded(desk, 1, minor=1, first=number)
        desk.leave()
        desk.said.clear()
    assert gone(desk) > MAX_OPERATIONS - 40
    desk.send(refund(desk.payment.payment_id, 1, key="one more"))
    assert desk.replies[-1].operation is not None
    assert desk.replies[-1].operation.rejection is Rejection.TOO_MANY_OPERATIONS


# Names that several have


@pytest.mark.parametrize("leaves_first", [True, False])
def test_word_is_about_the_first_that_has_a_name_when_several_have_it(leaves_first: bool) -> None:
    desk = paid()
    payment = desk.payment.payment_id
    one = desk.do(refund(payment, 10, key="a"), said("shared"))
    if not leaves_first:
        desk.notice(one, Said(outcome=Outcome.SUCCEEDED, reference="shared", confirmed_minor=9))
    two = desk.do(refund(payment, 10, key="b"), said("shared"))
    refunded(desk, 2)
    desk.leave()
    assert {one, two} <= {each.op_id for each in own_rows(desk)}
    desk.now_ms += LATE
    desk.notice(None, Said(outcome=Outcome.REVERSED, reference="shared"), kind=CallKind.REFUND)
    assert [desk.state(each) for each in (one, two)] == [OperationState.REVERSED, OperationState.SUCCEEDED]


def test_operation_is_found_by_the_reference_of_an_attempt_that_was_given_up() -> None:
    desk = paid()
    payment = desk.payment.payment_id
    desk.send(refund(payment, 10, key="a"))
    desk.grant()
    desk.call(replace(refusal(RetryAdvice.NEW_KEY_LATER), reference="first"))
    one = desk.operations[-1].op_id
    desk.fire(one)
    desk.call(said("second"))
    refunded(desk, 3)
    desk.leave()
    assert one in {each.op_id for each in own_rows(desk)}
    desk.notice(None, Said(reference="first"), kind=CallKind.REFUND, payment_reference="sale")
    assert desk.payment.review, "a success of what was given up"
    assert desk.operation(one).events[-1].transition == "reviewed"


def test_row_with_what_was_loaded_has_each_operation_once() -> None:
    desk, one, _, three = with_two_gone()
    assert desk.row is not None
    both = with_loaded(desk.row, [desk.operation(one), desk.operation(three)])
    assert both is not None
    assert [each.op_id for each in both.operations].count(three) == 1
    assert one in {each.op_id for each in both.operations}
    assert with_loaded(desk.row, []) is desk.row
    assert with_loaded(None, [desk.operation(one)]) is None
