"""What a gateway's word makes of an operation: the heart of the order's state machine.

Called by `order` with each piece of evidence. The rules:

* While it is open, a success or a refusal ends it, from whichever call or notice of the current attempt it comes.
* Only positive evidence ends it as not executed: the answer to the very call it waits for, a notice, or an inquiry made
  so late that no copy of the call can be on its way any more. In doubt, that a second sending was refused says nothing
  about the first, unless it was made as late: had a copy been carried out, its key would have brought that answer.
* In doubt it is never sent anywhere else, and once it has let the order go on it gets no further attempt. Before, a
  decline may send it to another gateway, by its plan: only the answer to the very call does, where no other copy of the
  call was made. A notice of that decline waits for the answer, so that it does not matter which comes first.
* A confirmed amount or currency other than asked for is a success, and a review. A part of a payment is approved only
  where the merchant allows it: else what was approved is let go, and the payment is declined.
* After its success every word counts, by who confirmed it: what is taken back, carried out again, disputed. What the
  operation counts for follows from all of them (`words`).
* At any time: a success of what we held to be refused, given up or not made asks for a person. From then on nothing
  more of the operation is sent, and no refusal ends it: that it was not executed would be a guess.
"""

from typing import Final, assert_never

from schemas.event_types import Transition
from schemas.quick_init import replace
from schemas.records.orders import OperationRow, WordRow
from schemas.vocabulary import CallKind, OperationKind, OperationState, Outcome
from streams.domain import attempts, doubt, later_words, operations, settlement, words
from streams.domain.limits import ACTION_LIFE_MS
from streams.domain.sums import OPEN, OPENING, amount_counted, is_mismatched, is_part_of_payment
from streams.domain.turn import Turn
from streams.domain.words import LATER_WORDS, Evidence

_SUCCESSFUL: Final = frozenset({OperationState.SUCCEEDED, OperationState.REVERSED})
_SUCCESSES: Final = frozenset({Outcome.SUCCEEDED, Outcome.DISPUTE_OPENED, Outcome.DISPUTE_LOST})
"""What can be said only of money that was taken."""
_LAST_WORDS: Final = frozenset({Outcome.SUCCEEDED, Outcome.DECLINED}) | LATER_WORDS
_RESTS: Final = {
    Outcome.PENDING: (OperationState.PENDING, Transition.PENDED),
    Outcome.REQUIRES_ACTION: (OperationState.REQUIRES_ACTION, Transition.ACTION_REQUIRED),
    Outcome.UNKNOWN: (OperationState.UNKNOWN, Transition.DOUBTED),
}


def judge(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    """Apply the evidence to an operation that is past its claim. The same evidence twice changes nothing."""
    called = operation.attempt > 0 and operation.state in OPEN
    if operation.state is OperationState.DISPATCHED and called and evidence.is_ahead_of(operation):
        operation = _catch_up(turn, operation, evidence)
    if operation.state not in OPEN and evidence.answers(operation):
        operation = turn.put(replace(operation, call_kind=None))  # the look behind a person is over
    concerned = evidence.concerns(operation)
    if called and concerned:
        _judge_open(turn, operation, evidence)
    elif concerned and _is_carried_out(operation, evidence) and not evidence.names_another(operation):
        _hear_later_word(turn, operation, evidence)
    elif _tells_of_success(operation, evidence) and not (concerned and _is_about_a_part_let_go(operation, evidence)):
        later_words.contradict(turn, operation)
        _let_go_of_late_hold(turn, turn.operations[operation.op_id], evidence)


def _let_go_of_late_hold(turn: Turn, opening: OperationRow, evidence: Evidence) -> None:
    """Void what is held since a payer has agreed after the wait had ended: by an operation of our own, once.

    A person is asked in any case: the payer was told of a success. What was captured with it only a person gives back.
    """
    held = opening.kind is OperationKind.AUTHORIZE and evidence.outcome is Outcome.SUCCEEDED
    if not held or evidence.gateway_reference is None or not settlement.is_held_late(turn, opening):
        return
    opening = turn.put(replace(opening, gateway_reference=evidence.gateway_reference))
    turn.put_payment(replace(turn.payment_of(opening), gateway_reference=evidence.gateway_reference))
    operations.queue_own(turn, opening, OperationKind.VOID, opening.amount_minor, why="agreed late")


def _tells_of_success(operation: OperationRow, evidence: Evidence) -> bool:
    """Return whether money was taken by this word, or must have been: where a part is taken back, the rest was."""
    taken_minor = evidence.confirmed_amount_minor
    part = evidence.outcome is Outcome.REVERSED and taken_minor is not None and taken_minor < operation.amount_minor
    return part or evidence.outcome in _SUCCESSES


def _is_about_a_part_let_go(operation: OperationRow, evidence: Evidence) -> bool:
    told_minor = evidence.confirmed_amount_minor
    part = told_minor is None or told_minor < operation.amount_minor
    told = evidence.outcome in {Outcome.SUCCEEDED, Outcome.REVERSED}
    return settlement.is_part_let_go(operation) and told and part


def _is_carried_out(operation: OperationRow, evidence: Evidence) -> bool:
    """Return whether the evidence is a later word about an operation that was carried out, or that a person settled.

    Of the latter every word is kept: its sum does not depend on the order in which they come.
    """
    if operation.state in _SUCCESSFUL:
        return True
    return words.are_decided(operation.words) and evidence.outcome in later_words.SETTLING | LATER_WORDS


def _hear_later_word(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    later_words.hear_later_word(turn, _with_reference(turn, operation, evidence), evidence)
    heard = turn.operations[operation.op_id]
    # What a person held for not executed must have been: the success itself, which counts, may come later.
    unexecuted = heard.state is OperationState.NOT_EXECUTED
    if unexecuted and evidence.outcome in LATER_WORDS and _tells_of_success(heard, evidence):
        later_words.contradict(turn, heard)


def _with_reference(turn: Turn, operation: OperationRow, evidence: Evidence) -> OperationRow:
    """Return the operation with its id at the gateway, which a person who settled it may not have known."""
    if operation.gateway_reference is not None or evidence.gateway_reference is None:
        return operation
    return _note(turn, operation, evidence, answered=False)


def _catch_up(turn: Turn, operation: OperationRow, evidence: Evidence) -> OperationRow:
    """Take over that a later attempt was made: by an owner of this order that was ahead, under the same pinned plan.

    A paused owner that wakes up sees this, and so does one whose row was lost. Making the earlier attempts again would
    be wrong: the later one was made because they positively were not executed. Whoever inquires is in doubt: what an
    inquiry says is no answer to the call, and must not send the operation elsewhere.
    """
    assert evidence.attempt is not None
    assert evidence.call_number is not None
    operation = replace(
        turn.clear_timer(operation),
        earlier_attempts=(*operation.earlier_attempts, *attempts.last_attempt(operation)),
        attempt=evidence.attempt,
        gateway=evidence.gateway,
        account=evidence.account,
        gateway_reference=None,
        answer_stored=False,
        call_number=evidence.call_number,
        call_kind=CallKind.INQUIRE if evidence.inquiry else CallKind(operation.kind.value),
        called_at_ms=turn.now_ms,
        # As far as this owner can know; 0 would let absence pass for proof. When the attempt was first asked for is not
        # known either: the time of an earlier one stays, since a key may be older than it seems, but not younger.
        sent_until_ms=turn.now_ms,
    )
    if operation.kind in OPENING:
        here = replace(turn.payment_of(operation), gateway=evidence.gateway, account=evidence.account)
        turn.put_payment(replace(here, gateway_reference=None, order_reference=None))
    turn.put(operation)
    if evidence.inquiry:
        return settlement.move(turn, operation, OperationState.UNKNOWN, Transition.DOUBTED)
    return operation


def _judge_open(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    if evidence.outcome is Outcome.EXPIRED and operation.kind is not OperationKind.AUTHORIZE:
        evidence = replace(evidence, outcome=Outcome.UNKNOWN)  # only a hold runs out: this says nothing of it
    answered = evidence.answers(operation)
    if operation.state is OperationState.DISPATCHED and not answered and evidence.outcome not in _LAST_WORDS:
        return  # the call's own result will say it, and whose reference this is
    if evidence.outcome is Outcome.DECLINED and evidence.may_be_of_an_earlier(operation):
        return  # the last attempt's own answer, or an inquiry, will say what became of it
    if evidence.outcome is Outcome.DECLINED and not answered and attempts.may_go_elsewhere(operation):
        return  # the same
    operation = _note(turn, operation, evidence, answered=answered)
    match evidence.outcome:
        case Outcome.SUCCEEDED:
            _succeed(turn, operation, evidence.confirmed_amount_minor, evidence.confirmed_currency, evidence)
        case Outcome.DECLINED:
            if not (evidence.sole and attempts.go_elsewhere(turn, operation, evidence.error)):
                named = evidence.payment_reference is not None
                settlement.refuse_there(turn, operation, OperationState.DECLINED, evidence.error, names_payment=named)
        case Outcome.NOT_EXECUTED:
            _end_or_look(turn, operation, evidence, answered=answered)
        case Outcome.PENDING | Outcome.REQUIRES_ACTION | Outcome.UNKNOWN:
            _rest(turn, operation, evidence, answered=answered)
        case (
            Outcome.REVERSED | Outcome.EXPIRED | Outcome.DISPUTE_OPENED | Outcome.DISPUTE_WON | Outcome.DISPUTE_LOST
        ):  # then it had succeeded: both facts are told, whichever came first
            _succeed(turn, operation, None, None, None)
            if operation.allow_partial:
                turn.ask_review(turn.payment_of(operation))  # how much of it was approved may never be told
            later_words.hear_later_word(turn, turn.operations[operation.op_id], evidence)
        case _:
            assert_never(evidence.outcome)


def _note(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> OperationRow:
    """Keep what the evidence teaches whatever its outcome: that a call is over, and the gateway's reference."""
    reference = evidence.gateway_reference or operation.gateway_reference
    if operation.kind in OPENING and evidence.payment_reference not in {None, reference}:
        turn.put_payment(replace(turn.payment_of(operation), order_reference=evidence.payment_reference))
    if reference != operation.gateway_reference:
        if operation.kind in OPENING:
            turn.put_payment(replace(turn.payment_of(operation), gateway_reference=reference))
        operation = turn.put(replace(operation, gateway_reference=reference))
    if evidence.replayed and evidence.outcome is Outcome.UNKNOWN and not operation.answer_stored:
        operation = turn.put(replace(operation, answer_stored=True))
    # In doubt, a call that was refused leaves no copy on its way (the executor would have said that it does not know).
    # A second copy of a call may be answered later than the one that was waited for: it too was on its way until then.
    refused = operation.state is OperationState.UNKNOWN and evidence.outcome is Outcome.NOT_EXECUTED
    sent = evidence.call_number is not None and not evidence.inquiry and not refused
    sent_until_ms = max(operation.sent_until_ms, turn.now_ms) if sent else operation.sent_until_ms
    if answered or sent_until_ms != operation.sent_until_ms:
        call_kind = None if answered else operation.call_kind
        operation = turn.put(replace(operation, call_kind=call_kind, sent_until_ms=sent_until_ms))
    return operation


def _succeed(
    turn: Turn, operation: OperationRow, confirmed_minor: int | None, currency: str | None, said: Evidence | None
) -> None:
    """End the operation as carried out. `said`: the word itself; None when only a later one tells that it was."""
    part = is_part_of_payment(operation, confirmed_minor, currency)
    if part and not operation.allow_partial:
        _let_go(turn, operation, confirmed_minor)
        return
    payment = turn.payment_of(operation)
    if is_mismatched(operation, confirmed_minor, currency) and not part:
        turn.ask_review(payment)
    room_minor = later_words.room_beside_others(turn, operation, payment)
    counts = amount_counted(operation, confirmed_minor, currency, room_minor=room_minor)
    at_ms = 0 if said is None else said.occurred_at_ms or 0
    word = WordRow(outcome=Outcome.SUCCEEDED, amount_minor=counts, case=None, occurred_at_ms=at_ms)
    action_url = operation.action_url if operation.kind is OperationKind.COMPLETE else None  # the payer's next step
    operation = replace(operation, words=(word,), counted_minor=counts, action_url=action_url)
    later_words.ask_review_of_deficit(turn, replace(operation, state=OperationState.SUCCEEDED))
    if operation.kind is OperationKind.VOID:
        end_what_waited(turn, operation)  # first: the answer to the void shows the payment as it is then
    settlement.settle(turn, operation, OperationState.SUCCEEDED, Transition.SUCCEEDED, None)
    later_words.touch_payment(turn, operation)


def end_what_waited(turn: Turn, void: OperationRow) -> None:
    """End the payment that waited for its payer, once the gateway has let go of it."""
    opening = settlement.opening_of(turn, void)
    if opening.kind is OperationKind.SALE and opening.counted_minor > 0:
        turn.ask_review(turn.payment_of(void))  # the payer has paid meanwhile: whether it was given back is not known
    if opening.state is OperationState.REQUIRES_ACTION:
        settlement.end_unacted(turn, opening, settlement.ended_by(void))


def _let_go(turn: Turn, operation: OperationRow, approved_minor: int | None) -> None:
    """Decline a payment of which only a part was approved, and let go of that part: by an operation of our own."""
    assert approved_minor is not None
    settlement.settle(turn, operation, OperationState.DECLINED, Transition.DECLINED, settlement.PARTIALLY_APPROVED)
    kind = OperationKind.VOID if operation.kind is OperationKind.AUTHORIZE else OperationKind.REFUND
    operations.queue_own(turn, turn.operations[operation.op_id], kind, approved_minor, why="let go")


def _end_or_look(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> None:
    if operation.state is OperationState.DISPATCHED:
        attempts.retry_or_give_up(turn, operation, evidence.error)
        return
    told_unasked = evidence.call_number is None
    found_nothing = answered and evidence.inquiry
    if found_nothing and doubt.call_again(turn, operation, found_nothing=True):
        return
    # What a gateway has taken up, and named, no refusal of a further copy undoes.
    unnamed = operation.state is OperationState.UNKNOWN and operation.gateway_reference is None
    refused = answered and not evidence.inquiry and attempts.is_hopeless(evidence.error) and unnamed
    spent = found_nothing and doubt.is_key_spent(operation)
    late = doubt.absence_is_proof(turn, operation) or spent
    proven = late and doubt.may_be_proven(turn, operation, found_nothing=found_nothing)
    if told_unasked or ((found_nothing or refused) and proven):
        settlement.refuse_there(turn, operation, OperationState.NOT_EXECUTED, evidence.error)
    elif answered:
        _look_later(turn, operation, evidence)


def _rest(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> None:
    """The last word is still to come: let the order go on, and look again later."""
    if not answered and not _rests_anew(turn, operation, evidence):
        return
    state, transition = _RESTS[evidence.outcome]
    if _leads_on(operation, state):
        if _lacks_the_page(evidence) and doubt.look_for_the_page(turn, operation):
            return  # its answer says where the payer has to act: who is told so without it can do nothing
        expires_at_ms = operation.action_expires_at_ms
        if state is OperationState.REQUIRES_ACTION and expires_at_ms is None:
            expires_at_ms = turn.now_ms + _action_life_ms(operation)
        operation = replace(
            operation, error=evidence.error, action_url=evidence.action_url, action_expires_at_ms=expires_at_ms
        )
        operation = doubt.drop_needless_token(turn, operation)
        operation = settlement.move(turn, operation, state, transition)
    elif answered and evidence.outcome is Outcome.UNKNOWN:
        operation = turn.put(replace(operation, error=evidence.error))
        if evidence.inquiry and doubt.call_again(turn, operation, found_nothing=False):
            return
    _look_later(turn, operation, evidence)


def _lacks_the_page(evidence: Evidence) -> bool:
    told_unasked = evidence.call_number is None
    return told_unasked and evidence.outcome is Outcome.REQUIRES_ACTION and evidence.action_url is None


def _action_life_ms(operation: OperationRow) -> int:
    life_ms = None if operation.plan is None else operation.plan.action_life_ms
    return ACTION_LIFE_MS if life_ms is None else life_ms


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
    return later_words.has_room_to_tell(operation)


def _look_later(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    if operation.state is not OperationState.MANUAL_REVIEW:
        asked_ms = None if evidence.error is None else evidence.error.retry_after_ms
        doubt.look_later(turn, operation, asked_ms=asked_ms)
