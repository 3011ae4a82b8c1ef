"""The step after the payer has acted: what its call comes to is a word about the payment, and ends the step.

Called by `order` with each word about an operation of the kind `complete`. The step takes no money by itself: the
operation that opened the payment does, and what the gateway answers is about that one. So:

* What the payment came to is told to its opening operation, as a notice would tell it: succeeded, declined, pending, or
  one more thing for the payer to do. The step itself has been carried out then, or was declined with the payment.
* That the call was not executed, or that nobody knows, is the step's own affair: it is tried again, or inquired about,
  as any call. The payment waits on for its payer meanwhile.
* An inquiry that finds the payment waiting for its payer has found nothing of the step.
"""

from typing import Final

from schemas.event_types import Transition
from schemas.identifiers import OpId
from schemas.quick_init import replace
from schemas.records.orders import OperationRow
from schemas.vocabulary import OperationState, Outcome
from streams.domain import outcomes
from streams.domain.limits import MAX_EVENTS
from streams.domain.turn import Turn
from streams.domain.words import Evidence

_OWN: Final = frozenset({Outcome.NOT_EXECUTED, Outcome.UNKNOWN})
"""The words that are about the step, and say nothing of the payment."""


def judge_completion(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    """Apply the evidence to the step and to the payment that it goes on with. The same twice changes nothing."""
    opening = turn.operations[turn.payment_of(operation).op_id]
    outcome = evidence.outcome
    if evidence.inquiry and outcome is Outcome.REQUIRES_ACTION:
        outcome = Outcome.NOT_EXECUTED
    if outcome not in _OWN:
        outcomes.judge(turn, opening, replace(evidence, attempt=None, call_number=None, inquiry=False))
        _send_payer_on(turn, turn.operations[opening.op_id], evidence, step_id=operation.op_id)
        outcome = Outcome.DECLINED if outcome is Outcome.DECLINED else Outcome.SUCCEEDED
    step = replace(
        evidence, outcome=outcome, gateway_reference=None, confirmed_amount_minor=None, confirmed_currency=None
    )
    outcomes.judge(turn, turn.operations[operation.op_id], step)


def _send_payer_on(turn: Turn, opening: OperationRow, evidence: Evidence, *, step_id: OpId) -> None:
    """Tell where the payer has to go next, if the payment waits for one more act."""
    waits = opening.state is OperationState.REQUIRES_ACTION and evidence.outcome is Outcome.REQUIRES_ACTION
    if not waits or evidence.action_url in {None, opening.action_url} or len(opening.events) >= MAX_EVENTS:
        return
    opening = replace(opening, action_url=evidence.action_url, updated_at_ms=turn.now_ms)
    turn.publish(turn.put(opening), Transition.ACTION_REQUIRED)
    turn.put(replace(turn.operations[step_id], action_url=evidence.action_url))  # whoever asked for it is answered so
