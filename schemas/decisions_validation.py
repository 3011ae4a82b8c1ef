"""The rules of a decision's values that its types cannot say.

Called by the operators' listener and by the orders agent, so that both refuse the same. Calls `schemas.identifiers`,
`schemas.money` and the card guard. What depends on the order (is the operation open?) is the domain's.
"""

import unicodedata
from typing import Final

from schemas import identifiers
from schemas.card_disguises import hides_card_number
from schemas.card_numbers import holds_card_number
from schemas.identifiers import InvalidIdentifierError
from schemas.money import MAX_AMOUNT_MINOR
from schemas.records.decisions import DecisionMade
from schemas.vocabulary import Verdict

MAX_WHY_CHARS: Final = 500
WITH_AMOUNT: Final = frozenset({Verdict.SUCCEEDED, Verdict.TAKEN_BACK})
"""The verdicts that may say how much."""

_LINE_AND_CONTROL: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


class InvalidDecisionError(ValueError):
    """A decision breaks a rule. `field` is the record's field; the message never holds the value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class CardInDecisionError(InvalidDecisionError):
    """A field holds what looks like a card number: nothing of the decision may be kept."""


def validate(decision: DecisionMade) -> None:
    """Return if the decision keeps every rule. Raises: InvalidDecisionError (CardInDecisionError for card data)."""
    _check_identity(decision)
    _check_people(decision)
    _check_why(decision.why)
    amount = decision.amount_minor
    if amount is not None and decision.verdict not in WITH_AMOUNT:
        raise InvalidDecisionError("amount_minor", f"means nothing with {decision.verdict}")
    if amount is not None and not 0 < amount <= MAX_AMOUNT_MINOR:
        raise InvalidDecisionError("amount_minor", f"must be from 1 to {MAX_AMOUNT_MINOR} minor units")


def _check_identity(decision: DecisionMade) -> None:
    field = "decision_id"
    try:
        identifiers.decision_id(decision.decision_id)
        field = "origin_id"
        identifiers.origin_id(decision.origin_id)
        field = "op_id"
        identifiers.operation_id(decision.op_id)
        field = "payment_id"
        carried = identifiers.order_of_payment(decision.payment_id)
    except InvalidIdentifierError as error:
        raise InvalidDecisionError(field, str(error)) from None
    if carried != decision.order_id:
        raise InvalidDecisionError("payment_id", "is not the id of a payment of this order")
    for field, text in (("decision_id", decision.decision_id), ("op_id", decision.op_id)):
        if holds_card_number(text):
            raise CardInDecisionError(field, "looks like a card number")


def _check_people(decision: DecisionMade) -> None:
    people = {"decided_by": decision.decided_by, "approved_by": decision.approved_by}
    for field, name in people.items():
        if name is None:
            continue
        try:
            identifiers.operator_name(name)
        except InvalidIdentifierError as error:
            raise InvalidDecisionError(field, str(error)) from None
        if hides_card_number(name):
            raise CardInDecisionError(field, "looks like a card number")
    if decision.approved_by == decision.decided_by:
        raise InvalidDecisionError("approved_by", "is who decided: four eyes are two people")


def _check_why(why: str) -> None:
    if not why.strip() or len(why) > MAX_WHY_CHARS:
        raise InvalidDecisionError("why", f"must have 1 to {MAX_WHY_CHARS} characters, not all of them spaces")
    if any(unicodedata.category(letter) in _LINE_AND_CONTROL for letter in why):
        raise InvalidDecisionError("why", "must be one line, without control characters")
    if hides_card_number(why):
        raise CardInDecisionError("why", "holds what looks like a card number")
