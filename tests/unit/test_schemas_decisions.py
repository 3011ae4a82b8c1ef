"""The rules of a decision's values."""

import dataclasses

import pytest

from schemas import identifiers
from schemas.decisions_validation import CardInDecisionError, InvalidDecisionError, validate
from schemas.identifiers import DecisionId, IdempotencyKey, OperatorName, OpId, OrderId, OriginId
from schemas.money import MAX_AMOUNT_MINOR
from schemas.records.decisions import DecisionMade
from schemas.vocabulary import Verdict

ORDER = OrderId("order-1")
OP = OpId("op_" + "A" * 32)
DECISION = DecisionMade(
    decision_id=DecisionId("dec_1"),
    origin_id=OriginId("originA"),
    order_id=ORDER,
    payment_id=identifiers.payment_id(ORDER, OP),
    op_id=OP,
    verdict=Verdict.SUCCEEDED,
    amount_minor=1_000,
    why="the gateway's settlement report of 30 November shows it",
    decided_by=OperatorName("anna"),
    approved_by=None,
    decided_at_ms=1,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"amount_minor": None},
        {"amount_minor": MAX_AMOUNT_MINOR},
        {"verdict": Verdict.NOTE, "amount_minor": None},
        {"verdict": Verdict.TAKEN_BACK},
        {"approved_by": "bert"},
        {"why": "Gespräch mit der Bank, Fall 17; ok ✓"},
    ],
)
def test_decision_is_taken_when_its_values_keep_the_rules(changes: dict[str, object]) -> None:
    validate(dataclasses.replace(DECISION, **changes))  # type: ignore[arg-type]  # the table names fields


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": -1}, "amount_minor"),
        ({"amount_minor": MAX_AMOUNT_MINOR + 1}, "amount_minor"),
        ({"verdict": Verdict.NOT_EXECUTED}, "amount_minor"),
        ({"verdict": Verdict.NOTE}, "amount_minor"),
        ({"verdict": Verdict.CLOSE_REVIEW}, "amount_minor"),
        ({"approved_by": "anna"}, "approved_by"),
        ({"decided_by": "an na"}, "decided_by"),
        ({"approved_by": ""}, "approved_by"),
        ({"decision_id": ""}, "decision_id"),
        ({"origin_id": "a|b"}, "origin_id"),
        ({"op_id": "x" * 65}, "op_id"),
        ({"payment_id": "pay_nonsense"}, "payment_id"),
        ({"payment_id": identifiers.payment_id(OrderId("order-2"), OP)}, "payment_id"),
        ({"why": ""}, "why"),
        ({"why": "   "}, "why"),
        ({"why": "x" * 501}, "why"),
        ({"why": "two\nlines"}, "why"),
        ({"why": "red \x1b[31m"}, "why"),
        ({"why": "turned \u202e round"}, "why"),
    ],
)
def test_decision_names_the_field_when_a_value_breaks_a_rule(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidDecisionError) as refused:
        validate(dataclasses.replace(DECISION, **changes))  # type: ignore[arg-type]  # the table names fields
    assert refused.value.field == field
    assert not isinstance(refused.value, CardInDecisionError)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"why": "the payer said 4242 4242 4242 4242"}, "why"),
        ({"why": "card%3D4242424242424242"}, "why"),
        ({"decided_by": "4242-4242-4242-4242"}, "decided_by"),
        ({"op_id": "4242424242424242"}, "op_id"),
        ({"decision_id": "4242424242424242"}, "decision_id"),
    ],
)
def test_decision_is_refused_without_its_value_when_it_holds_a_card_number(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(CardInDecisionError) as refused:
        validate(dataclasses.replace(DECISION, **changes))  # type: ignore[arg-type]  # the table names fields
    assert refused.value.field == field
    assert "4242" not in str(refused.value)


def test_decision_has_one_id_when_the_same_operator_asks_again_under_the_same_key() -> None:
    key = IdempotencyKey("k")
    first = identifiers.decision_of(OperatorName("anna"), key, ORDER)
    assert first == identifiers.decision_of(OperatorName("anna"), key, ORDER)
    others = {
        identifiers.decision_of(OperatorName("bert"), key, ORDER),
        identifiers.decision_of(OperatorName("anna"), IdempotencyKey("l"), ORDER),
        identifiers.decision_of(OperatorName("anna"), key, OrderId("order-2")),
    }
    assert len(others | {first}) == 4
    identifiers.decision_id(first)
