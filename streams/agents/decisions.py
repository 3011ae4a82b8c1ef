"""Decisions of persons on their way into the orders agent: what may be taken of them, as an input of their order.

Called by the orders agent for `decisions.v1`, and for the trials on `payments.queries.v1` by which the desk asks what
would become of one. Their values are judged by the rules that the desk has judged them by (`schemas`), since whoever
may write the topic could write anything.
"""

from schemas.decisions_validation import CardInDecisionError, InvalidDecisionError, validate
from schemas.messages import Envelope
from schemas.records.decisions import DecisionMade, DecisionTried
from schemas.records.orders import OrderRow
from schemas.records.payments import ReplyTo
from schemas.vocabulary import DeadLetterReason
from streams.agents.intake import Intake, RefusedError
from streams.domain import desk
from streams.domain.apart import Load
from streams.domain.inputs import DecisionReceived
from streams.kafka.step import InputEvent


def decision_received(
    event: InputEvent, envelope: Envelope, decision: DecisionMade, intake: Intake
) -> DecisionReceived:
    """Return the decision as an input of its order. Raises: RefusedError: a value breaks a rule."""
    _require_valid(decision)
    waits_on = envelope.replypartition
    intake.require_reply_partition(waits_on)
    return DecisionReceived(
        decision=decision,
        reply_to=None if waits_on is None else ReplyTo(request_id=envelope.id, partition=waits_on),
        now_ms=event.timestamp_ms,
        possible_replay=event.possible_replay,
    )


def decision_tried(event: InputEvent, trial: DecisionTried) -> DecisionReceived:
    """Return the input that the decision would be, to be decided and not kept. Raises: RefusedError."""
    _require_valid(trial.decision)
    if (trial.origin_id, trial.order_id) != (trial.decision.origin_id, trial.decision.order_id):
        raise RefusedError(DeadLetterReason.INVALID, "the trial and its decision are about two orders")
    return DecisionReceived(
        decision=trial.decision,
        reply_to=ReplyTo(request_id=trial.request_id, partition=trial.reply_partition),
        now_ms=event.timestamp_ms,
        possible_replay=False,
    )


def require_known(row: OrderRow | None, received: DecisionReceived, load: Load) -> None:
    """Return if the order has begun with what was decided about. Raises: RefusedError: else nobody could be told."""
    if not desk.knows(row, received.decision, load):
        raise RefusedError(DeadLetterReason.INVALID, "the decision is about no operation that its order has begun with")


def _require_valid(decision: DecisionMade) -> None:
    try:
        validate(decision)
    except CardInDecisionError as error:
        raise RefusedError(DeadLetterReason.CARD_NUMBER, str(error)) from error
    except InvalidDecisionError as error:
        raise RefusedError(DeadLetterReason.INVALID, str(error)) from error
