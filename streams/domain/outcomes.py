"""What a gateway's word makes of an operation: the heart of the order's state machine.

Called by `order` with each piece of evidence. The rules:

* While it is open, a success or a refusal ends it, from whichever call or notice of the current attempt it comes.
* Only positive evidence ends it as not executed: the answer to the very call it waits for, a notice, or an inquiry made
  so late that no copy of the call can be on its way any more. In doubt, that a second sending was refused says nothing
  about the first, unless it was made as late: had a copy been carried out, its key would have brought that answer.
* In doubt it is never sent anywhere else, and once it has let the order go on it gets no further attempt.
* A confirmed amount or currency other than asked for is a success, and a review.
* After its end: a success may be taken back, by who confirmed it.
* At any time: a success of what we held to be refused, given up or not made asks for a person. From then on nothing
  more of the operation is sent, and no refusal ends it: that it was not executed would be a guess.
"""

from typing import Final, assert_never

from schemas.event_types import Transition
from schemas.records.orders import OperationRow, PaymentRow
from schemas.vocabulary import CallKind, OperationKind, OperationState, Outcome
from streams.domain import paid_once, reconciliation, retry, settlement, sums, timers
from streams.domain.evidence import Evidence
from streams.domain.limits import MAX_EVENTS
from streams.domain.rows import replace
from streams.domain.sums import OPEN, OPENING
from streams.domain.turn import Turn

AUTHORIZATION_EXPIRED: Final = "authorization_expired"
"""The error code of a taken back authorization that simply ran out."""

_REFUSED: Final = frozenset(
    {OperationState.DECLINED, OperationState.NOT_EXECUTED, OperationState.REJECTED, OperationState.CONFLICT}
)
_SUCCESSFUL: Final = frozenset({OperationState.SUCCEEDED, OperationState.REVERSED})
_LAST_WORDS: Final = frozenset({Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.REVERSED})
_NOT_READ_YET: Final = (Outcome.EXPIRED, Outcome.DISPUTE_OPENED, Outcome.DISPUTE_WON, Outcome.DISPUTE_LOST)
"""What gateways may say and this version does not weigh yet: it settles nothing."""

_RESTS: Final = {
    Outcome.PENDING: (OperationState.PENDING, Transition.PENDED),
    Outcome.REQUIRES_ACTION: (OperationState.REQUIRES_ACTION, Transition.ACTION_REQUIRED),
    Outcome.UNKNOWN: (OperationState.UNKNOWN, Transition.DOUBTED),
} | dict.fromkeys(_NOT_READ_YET, (OperationState.UNKNOWN, Transition.DOUBTED))


def judged(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    """Apply the evidence to an operation that is past its claim. The same evidence twice changes nothing."""
    called = operation.attempt > 0 and operation.state in OPEN
    if operation.state is OperationState.DISPATCHED and called and evidence.is_ahead_of(operation):
        operation = _caught_up(turn, operation, evidence)
    concerned = evidence.concerns(operation)
    known = concerned and operation.state in _SUCCESSFUL and not evidence.names_another(operation)
    if called and concerned:
        _judge_open(turn, operation, evidence)
    elif evidence.outcome is Outcome.SUCCEEDED and not known:
        if called or operation.state in _REFUSED | _SUCCESSFUL:
            _contradicted(turn, operation)
    elif evidence.outcome is Outcome.REVERSED and known and operation.state is OperationState.SUCCEEDED:
        _taken_back(turn, operation, evidence)


def _caught_up(turn: Turn, operation: OperationRow, evidence: Evidence) -> OperationRow:
    """Take over that a later attempt was made: by an owner of this order that was ahead, under the same pinned plan.

    A paused owner that wakes up sees this, and so does one whose row was lost. Making the earlier attempts again would
    be wrong: the later one was made because they positively were not executed. Whoever inquires is in doubt: what an
    inquiry says is no answer to the call, and must not send the operation elsewhere.
    """
    assert evidence.attempt is not None
    assert evidence.call_number is not None
    operation = replace(
        timers.let_go(turn, operation),
        attempt=evidence.attempt,
        gateway=evidence.gateway,
        account=evidence.account,
        gateway_reference=None,
        call_number=evidence.call_number,
        call_kind=CallKind.INQUIRE if evidence.inquiry else CallKind(operation.kind.value),
        called_at_ms=turn.now_ms,
        # As far as this owner can know; 0 would let absence pass for proof. When the attempt was first asked for is not
        # known either: the time of an earlier one stays, since a key may be older than it seems, but not younger.
        sent_until_ms=turn.now_ms,
    )
    if operation.kind in OPENING:
        here = replace(turn.payment_of(operation), gateway=evidence.gateway, account=evidence.account)
        turn.put_payment(here)
    turn.put(operation)
    if evidence.inquiry:
        return settlement.moved(turn, operation, OperationState.UNKNOWN, Transition.DOUBTED)
    return operation


def _judge_open(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    answered = evidence.answers(operation)
    if operation.state is OperationState.DISPATCHED and not answered and evidence.outcome not in _LAST_WORDS:
        return  # the call's own result will say it, and whose reference this is
    operation = _noted(turn, operation, evidence, answered=answered)
    match evidence.outcome:
        case Outcome.SUCCEEDED:
            _succeeded(turn, operation, evidence)
        case Outcome.DECLINED:
            settlement.refused_there(turn, operation, OperationState.DECLINED, evidence.error)
        case Outcome.REVERSED:  # then it had succeeded: both facts are told, whichever came first
            _succeeded(turn, operation, evidence)
            _taken_back(turn, turn.operations[operation.op_id], evidence)
        case Outcome.NOT_EXECUTED:
            _not_executed(turn, operation, evidence, answered=answered)
        case (
            Outcome.PENDING
            | Outcome.REQUIRES_ACTION
            | Outcome.UNKNOWN
            | Outcome.EXPIRED
            | Outcome.DISPUTE_OPENED
            | Outcome.DISPUTE_WON
            | Outcome.DISPUTE_LOST
        ):
            _unsettled(turn, operation, evidence, answered=answered)
        case _:
            assert_never(evidence.outcome)


def _noted(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> OperationRow:
    """Keep what the evidence teaches whatever its outcome: that a call is over, and the gateway's reference."""
    reference = evidence.gateway_reference or operation.gateway_reference
    if reference != operation.gateway_reference:
        if operation.kind in OPENING:
            turn.put_payment(replace(turn.payment_of(operation), gateway_reference=reference))
        operation = turn.put(replace(operation, gateway_reference=reference))
    # In doubt, a call that was refused leaves no copy on its way (the executor would have said that it does not know).
    # A second copy of a call may be answered later than the one that was waited for: it too was on its way until then.
    refused = operation.state is OperationState.UNKNOWN and evidence.outcome is Outcome.NOT_EXECUTED
    sent = evidence.call_number is not None and not evidence.inquiry and not refused
    sent_until_ms = max(operation.sent_until_ms, turn.now_ms) if sent else operation.sent_until_ms
    if answered or sent_until_ms != operation.sent_until_ms:
        call_kind = None if answered else operation.call_kind
        operation = turn.put(replace(operation, call_kind=call_kind, sent_until_ms=sent_until_ms))
    return operation


def _succeeded(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    payment = turn.payment_of(operation)
    confirmed, currency = evidence.confirmed_amount_minor, evidence.confirmed_currency
    review = payment.review or sums.mismatched(operation, confirmed, currency)
    counts = operation.amount_minor
    if operation.kind is not OperationKind.VOID:
        room_minor = _room(turn, operation, payment)
        counts = sums.counted(operation, confirmed, currency, room_minor=room_minor)
    operation = replace(operation, amount_minor=counts, confirmed_amount_minor=confirmed, action_url=None)
    payment = sums.with_success(payment, operation, now_ms=turn.now_ms)
    turn.put_payment(replace(payment, review=payment.review or review))
    settlement.settled(turn, operation, OperationState.SUCCEEDED, Transition.SUCCEEDED, None)


def _room(turn: Turn, operation: OperationRow, payment: PaymentRow) -> int:
    """Return the most that this operation may count for beside the others."""
    others = [each for each in turn.operations.values() if each.op_id != operation.op_id]
    if operation.kind is OperationKind.CAPTURE:
        return sums.room_to_capture(payment, others)
    return sums.room_to_refund(payment, others) if operation.kind is OperationKind.REFUND else 0


def _not_executed(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> None:
    if operation.state is OperationState.DISPATCHED:
        retry.not_executed(turn, operation, evidence.error)
        return
    told_unasked = evidence.call_number is None
    found_nothing = answered and evidence.inquiry
    if found_nothing and reconciliation.made_again(turn, operation, found_nothing=True):
        return
    refused = answered and not evidence.inquiry and retry.is_hopeless(evidence.error)
    if told_unasked or ((found_nothing or refused) and reconciliation.absence_is_proof(turn, operation)):
        settlement.refused_there(turn, operation, OperationState.NOT_EXECUTED, evidence.error)
    elif answered:
        _look_later(turn, operation, evidence)


def _unsettled(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> None:
    """The last word is still to come: let the order go on, and look again later."""
    if not answered and not _rests_anew(turn, operation, evidence):
        return
    state, transition = _RESTS[evidence.outcome]
    if _leads_on(operation, state):
        operation = replace(operation, error=evidence.error, action_url=evidence.action_url)
        operation = reconciliation.without_needless_token(turn, operation)
        operation = settlement.moved(turn, operation, state, transition)
    elif answered and evidence.outcome is Outcome.UNKNOWN:
        operation = turn.put(replace(operation, error=evidence.error))
        if evidence.inquiry and reconciliation.made_again(turn, operation, found_nothing=False):
            return
    _look_later(turn, operation, evidence)


def _rests_anew(turn: Turn, operation: OperationRow, evidence: Evidence) -> bool:
    """Return whether a word that nobody waits for, and that is not the last one, may say something new.

    A result that is not awaited was taken before, or is an older one's copy; so is a notice from before the operation's
    last fact, read again after a crash. (A row keeps no notices' ids: the log's time tells. Notices of one millisecond
    may so be told twice, or in the wrong order; no last word is.)
    """
    told_unasked = evidence.call_number is None
    return told_unasked and turn.now_ms >= operation.events[-1].occurred_at_ms


def _leads_on(operation: OperationRow, state: OperationState) -> bool:
    """Return whether the state says more than the one the operation is in. Not knowing never says more."""
    if operation.state is OperationState.DISPATCHED:
        return True
    if operation.state is OperationState.MANUAL_REVIEW or state in {OperationState.UNKNOWN, operation.state}:
        return False
    return len(operation.events) < MAX_EVENTS


def _look_later(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    if operation.state is not OperationState.MANUAL_REVIEW:
        asked_ms = None if evidence.error is None else evidence.error.retry_after_ms
        reconciliation.look_later(turn, operation, asked_ms=asked_ms)


def _contradicted(turn: Turn, operation: OperationRow) -> None:
    """A success of what was refused, given up or never ours to send: money may be held that no sum counts."""
    if paid_once.is_contradicted(operation):
        return
    payment = turn.payment(operation.payment_id)
    if payment is not None:
        turn.put_payment(replace(payment, review=True, updated_at_ms=turn.now_ms))
    turn.publish(operation, Transition.REVIEWED)


def _taken_back(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    payment = turn.payment_of(operation)
    if operation.kind is OperationKind.AUTHORIZE:
        if payment.released:
            return  # nothing is held any more that could be taken back
        if evidence.error is not None and evidence.error.code == AUTHORIZATION_EXPIRED:
            expired = payment.captured_minor == 0
            turn.put_payment(replace(payment, released=True, expired=expired, updated_at_ms=turn.now_ms))
            turn.publish(operation, Transition.EXPIRED)
            return
    turn.put_payment(sums.with_reversal(payment, operation, now_ms=turn.now_ms))
    settlement.settled(turn, operation, OperationState.REVERSED, Transition.REVERSED, evidence.error)
