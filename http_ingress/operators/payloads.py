"""What an operator sends to the desk and is answered, as JSON. Pure."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from http_ingress.money.bodies import AmountField, PaymentIdField
from http_ingress.representation import payloads
from http_ingress.representation.payloads import Operation, Payment, View, time_of
from schemas.decisions_validation import MAX_WHY_CHARS
from schemas.identifiers import MAX_OP_ID_CHARS, MAX_ORIGIN_ID_CHARS
from schemas.records.decisions import DecisionMade, DecisionProposed
from schemas.records.payments import OperationReplied

Verdicts = Literal["succeeded", "not_executed", "taken_back", "note", "close_review"]
State = Literal["decided", "accepted", "proposed", "tried"]


class DecisionBody(BaseModel):
    """What a person decides about one operation."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)

    origin_id: Annotated[str, Field(min_length=1, max_length=MAX_ORIGIN_ID_CHARS)]
    payment_id: PaymentIdField
    operation: Annotated[str, Field(min_length=1, max_length=MAX_OP_ID_CHARS)]
    outcome: Verdicts
    amount: AmountField | None = None
    why: Annotated[str, Field(min_length=1, max_length=MAX_WHY_CHARS)]
    dry_run: bool = False


class Decision(View):
    """A decision, or the proposal of one."""

    id: str
    origin_id: str
    order_id: str
    payment_id: str
    operation: str
    outcome: Verdicts
    amount: int | None
    why: str
    decided_by: str
    approved_by: str | None
    decided_at: datetime
    expires_at: datetime | None  # of a proposal


class Standing(View):
    """How an operation and its payment stand."""

    operation: Operation | None
    payment: Payment | None


class DecisionAnswer(View):
    """What became of a decision: it holds, is not answered yet, waits for a second person, or was only tried."""

    state: State
    decision: Decision
    before: Standing | None  # of a dry run
    after: Standing | None


class Pending(View):
    """What waits for a second person."""

    proposals: tuple[Decision, ...]


def decision(made: DecisionMade) -> Decision:
    """Return a decision as an operator sees it."""
    return Decision(
        id=made.decision_id,
        origin_id=made.origin_id,
        order_id=made.order_id,
        payment_id=made.payment_id,
        operation=made.op_id,
        outcome=made.verdict.value,
        amount=made.amount_minor,
        why=made.why,
        decided_by=made.decided_by,
        approved_by=made.approved_by,
        decided_at=time_of(made.decided_at_ms),
        expires_at=None,
    )


def proposal(proposed: DecisionProposed) -> Decision:
    """Return a proposal as an operator sees it."""
    return Decision(
        id=proposed.decision_id,
        origin_id=proposed.origin_id,
        order_id=proposed.order_id,
        payment_id=proposed.payment_id,
        operation=proposed.op_id,
        outcome=proposed.verdict.value,
        amount=proposed.amount_minor,
        why=proposed.why,
        decided_by=proposed.proposed_by,
        approved_by=None,
        decided_at=time_of(proposed.proposed_at_ms),
        expires_at=time_of(proposed.expires_at_ms),
    )


def standing(reply: OperationReplied, op_id: str) -> Standing:
    """Return how the operation stands: as a decision's reply tells it, or a query's."""
    told = reply.operation if reply.operation is not None and reply.operation.op_id == op_id else None
    found = told or next((each for each in reply.operations if each.op_id == op_id), None)
    return Standing(
        operation=None if found is None else payloads.operation(found),
        payment=None if reply.payment is None else payloads.payment(reply.payment),
    )
