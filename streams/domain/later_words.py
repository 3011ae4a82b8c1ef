"""What a gateway says of an operation after it was carried out, or against all that is known of it.

Called by `outcomes` with each word after a success, and by `desk` for what a person's word does to the sums. The word
is kept, what the operation counts for follows from all of them (`words`), and the world is told what has changed. A
person is asked where a word says more than the sums can hold, or where two payments may stand.
"""

from typing import Final

from schemas.event_types import Transition
from schemas.quick_init import replace
from schemas.records.gateway import OperationError
from schemas.records.orders import OperationRow, PaymentRow, WordRow
from schemas.vocabulary import Initiator, OperationKind, OperationState, Outcome
from streams.domain import abilities, paid_once, settlement, words
from streams.domain.limits import MAX_EVENTS
from streams.domain.sums import OPEN, OPENING, Books, amount_counted, is_part_of_payment
from streams.domain.turn import Turn
from streams.domain.words import LATER_WORDS, Evidence

REFUSED_CASE: Final = "refused"
"""Under which a gateway's refusal takes back what a person had settled as carried out."""

_TAKING: Final = frozenset({OperationKind.SALE, OperationKind.CAPTURE})

SETTLING: Final = frozenset({Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.NOT_EXECUTED})
"""What ends an operation that is open, by a gateway's word."""


def hear_later_word(turn: Turn, operation: OperationRow, evidence: Evidence) -> None:
    """Take a word about an operation that was carried out: what it counts for follows from all of them."""
    if not _says_something(turn, operation, evidence):
        return
    word = _word(turn, operation, evidence)
    said = words.with_word(operation.words, word)
    if _is_past_counting(operation, evidence, said, word) or may_be_taken_twice(turn, operation, said):
        turn.ask_review(turn.payment_of(operation))
    if said == operation.words:
        return
    if _trusts_a_date(turn, operation, evidence, word):
        turn.ask_review(turn.payment_of(operation))
    after = replace(operation, words=said, counted_minor=words.counted(said))
    if words.contradicts_desk(said, word):
        if evidence.outcome not in words.DISPUTES:
            _ask_again(turn, after)
            return
        turn.ask_review(turn.payment_of(operation))  # and the dispute is a fact of its own
    transition = _transition(operation, after, evidence.outcome)
    if transition is None:
        turn.put(after)
        return
    ask_review_of_deficit(turn, after)
    stood = paid_once.stands(turn, turn.payment_of(operation))
    if after.counted_minor > operation.counted_minor and _was_made_good(turn, after):
        turn.ask_review(turn.payment_of(operation))
    turn.put(after)
    if not stood and paid_once.stands(turn, turn.payment_of(operation)):
        _ask_review_beside_another(turn, operation)
    _tell(turn, after, transition, None if transition is Transition.RESTORED else evidence.error)
    touch_payment(turn, operation)


def _is_past_counting(operation: OperationRow, evidence: Evidence, said: tuple[WordRow, ...], word: WordRow) -> bool:
    """Return whether a person has to look at what the word comes to: it says more than the sums can hold.

    Another currency, more than was there, what the engine had let go of, or words that have no room any more.
    """
    if evidence.confirmed_currency not in {None, operation.asked_currency} or words.are_folded(said):
        return True
    told_minor = evidence.confirmed_amount_minor
    if (
        evidence.outcome is Outcome.SUCCEEDED
        and not operation.allow_partial
        and is_part_of_payment(operation, told_minor, None)
    ):
        return True
    if told_minor is not None and (
        told_minor > word.amount_minor or (word.outcome in words.TAKEN and words.left(said) < 0)
    ):
        return True
    return operation.initiator is Initiator.ENGINE and words.counted(said) < operation.counted_minor


def _trusts_a_date(turn: Turn, operation: OperationRow, evidence: Evidence, word: WordRow) -> bool:
    """Return whether the sums follow a date that whoever sent the notice may have chosen: the gateway signs none."""
    can = abilities.capabilities_of(turn, operation)
    if evidence.call_number is not None or can is None or can.notice_times_signed:
        return False
    return words.is_decided_by_its_date(operation.words, word)


def may_be_taken_twice(turn: Turn, operation: OperationRow, said: tuple[WordRow, ...]) -> bool:
    """Return whether by these words the same money may be taken away twice, which only a person can tell.

    At a gateway whose reversals, and refunds at its own desk, do not name the dispute that they carry out.
    """
    can = abilities.capabilities_of(turn, operation)
    if can is None or can.tells_cases or operation.kind not in _TAKING:
        return False
    if words.are_taken_twice(said):
        return True
    # What was made at the gateway's desk never leaves the row (`leaving`).
    return words.are_lost(said) and any(
        each.payment_id == operation.payment_id
        and (each.kind, each.initiator) == (OperationKind.REFUND, Initiator.GATEWAY)
        and each.counted_minor > 0
        for each in turn.operations.values()
    )


def _ask_again(turn: Turn, operation: OperationRow) -> None:
    """Ask a person about a verdict that an earlier word of the gateway contradicts. The verdict stands."""
    operation = turn.put(operation)
    payment = turn.payment_of(operation)
    if payment.review:
        return
    turn.ask_review(payment)
    turn.publish(operation, Transition.REVIEWED)  # at most once for each decision that closed a review


def _says_something(turn: Turn, operation: OperationRow, evidence: Evidence) -> bool:
    """Return whether the word may change what the operation counts for; an answer to a call was counted with it."""
    decided = words.are_decided(operation.words)
    if evidence.outcome is Outcome.SUCCEEDED:
        return decided or evidence.attempt is None or _corrects_what_was_assumed(operation, evidence)
    if decided and evidence.outcome in SETTLING:
        # An inquiry that finds nothing proves nothing.
        return evidence.outcome is Outcome.DECLINED or evidence.attempt is None
    if evidence.outcome not in LATER_WORDS:
        return False
    if operation.kind is OperationKind.AUTHORIZE and evidence.outcome in {Outcome.REVERSED, Outcome.EXPIRED}:
        return not _is_let_go(turn, operation)
    return evidence.outcome is not Outcome.EXPIRED


def _corrects_what_was_assumed(operation: OperationRow, evidence: Evidence) -> bool:
    """Return whether a call's answer says how much was carried out, after a later word left that open."""
    told_minor = evidence.confirmed_amount_minor
    whole = WordRow(outcome=Outcome.SUCCEEDED, amount_minor=operation.amount_minor, case=None, occurred_at_ms=0)
    return told_minor not in {None, operation.amount_minor} and len(operation.words) > 1 and whole in operation.words


def _is_let_go(turn: Turn, operation: OperationRow) -> bool:
    """Return whether nothing is held any more that could go: by a gateway's word, for a person's may prove wrong."""
    payment = turn.payment_of(operation)
    own = (each for each in turn.operations.values() if each.payment_id == payment.payment_id)
    return turn.books_of(payment).released and not any(words.are_decided(each.words) for each in own)


def _word(turn: Turn, operation: OperationRow, evidence: Evidence) -> WordRow:
    word = words.word_of(evidence, operation, now_ms=turn.now_ms)
    if evidence.outcome in {Outcome.DECLINED, Outcome.NOT_EXECUTED}:  # against a person's word that it succeeded
        return replace(word, outcome=Outcome.REVERSED, case=REFUSED_CASE)
    if evidence.outcome is not Outcome.SUCCEEDED:
        return word
    room_minor = max(operation.counted_minor, room_beside_others(turn, operation, turn.payment_of(operation)))
    confirmed_minor, currency = evidence.confirmed_amount_minor, evidence.confirmed_currency
    if confirmed_minor is None:
        return word
    return replace(word, amount_minor=amount_counted(operation, confirmed_minor, currency, room_minor=room_minor))


def _transition(before: OperationRow, after: OperationRow, outcome: Outcome) -> Transition | None:
    """Return what the world is told; None when the word came too late to change anything."""
    if before.state is OperationState.NOT_EXECUTED:
        return Transition.SUCCEEDED if after.counted_minor > 0 else None
    if outcome is Outcome.EXPIRED:
        return Transition.EXPIRED if words.ran_out(after.words) and not words.ran_out(before.words) else None
    if outcome is Outcome.DISPUTE_OPENED:
        return Transition.DISPUTED if words.disputed(after.words) > words.disputed(before.words) else None
    if outcome in words.DISPUTES:
        return Transition.DISPUTE_WON if outcome is Outcome.DISPUTE_WON else Transition.DISPUTE_LOST
    stands_again = words.ran_out(before.words) and not words.ran_out(after.words)
    if after.counted_minor == before.counted_minor and not stands_again:
        return None
    return Transition.REVERSED if after.counted_minor < before.counted_minor else Transition.RESTORED


def _ask_review_beside_another(turn: Turn, operation: OperationRow) -> None:
    """Ask for a person when a payment stands again whose order has been paid by another since."""
    payment = turn.payment_of(operation)
    if paid_once.another_stands(turn, turn.operations[payment.op_id]):
        turn.ask_review(payment)


def _was_made_good(turn: Turn, operation: OperationRow) -> bool:
    """Return whether, while the operation counted for less than now, another has taken its place: both may stand."""
    opens = operation.kind in OPENING
    if not opens:
        turn.fetch_all()  # of those that left the row no subtotal tells when they were asked for
    missing_since_ms = _counted_less_since_ms(operation)
    return any(
        each.op_id != operation.op_id
        and (each.kind in OPENING if opens else each.kind is operation.kind and each.payment_id == operation.payment_id)
        and each.requested_at_ms >= missing_since_ms
        and (each.counted_minor > 0 or each.state in OPEN)
        for each in turn.operations.values()
    )


def _counted_less_since_ms(operation: OperationRow) -> int:
    """Return since when the world has been told that the operation counts for less than now."""
    since_ms = operation.updated_at_ms  # where the row had no room for the fact
    for event in reversed(operation.events):
        if event.counted_minor >= operation.counted_minor:
            break
        since_ms = event.occurred_at_ms
    return since_ms


def _tell(turn: Turn, operation: OperationRow, transition: Transition, error: OperationError | None) -> None:
    """Publish what a later word has changed, as long as the row has room for another fact; then a person is asked."""
    state = OperationState.SUCCEEDED if operation.counted_minor > 0 else OperationState.REVERSED
    if has_room_to_tell(operation):
        settlement.settle(turn, operation, state, transition, error)
        return
    turn.ask_review(turn.payment_of(operation))
    turn.put(replace(operation, state=state, updated_at_ms=turn.now_ms))
    contradict(turn, turn.operations[operation.op_id])


def contradict(turn: Turn, operation: OperationRow) -> None:
    """Take a success of what was refused, given up or never ours to send: money may be held that no sum counts."""
    waits_for_another = operation.state in OPEN and operation.attempt == 0  # nothing was sent: whose it is, is unclear
    if waits_for_another or paid_once.is_contradicted(operation):
        return
    payment = turn.payment(operation.payment_id)
    if payment is not None:
        turn.ask_review(payment)
    turn.publish(operation, Transition.REVIEWED)


def has_room_to_tell(operation: OperationRow) -> bool:
    """Return whether the row has room for one more fact by a gateway. Those by persons have a limit of their own."""
    return sum(each.decision is None for each in operation.events) < MAX_EVENTS


def room_beside_others(turn: Turn, operation: OperationRow, payment: PaymentRow) -> int:
    """Return the most that this operation may count for beside the others."""
    if operation.kind not in {OperationKind.CAPTURE, OperationKind.REFUND}:
        return 0
    others = [each for each in turn.operations.values() if each.op_id != operation.op_id]
    books = Books.of(payment.payment_id, others, turn.subtotals)
    return books.room_to_capture if operation.kind is OperationKind.CAPTURE else books.room_to_refund


def ask_review_of_deficit(turn: Turn, operation: OperationRow) -> None:
    """Ask for a person where, with the operation so, more is taken or given back than is there. Facts are facts."""
    payment = turn.payment_of(operation)
    then = (operation if each.op_id == operation.op_id else each for each in turn.operations.values())
    if Books.of(payment.payment_id, then, turn.subtotals).in_deficit:
        turn.ask_review(payment)


def touch_payment(turn: Turn, operation: OperationRow) -> None:
    """Keep that something of the payment has changed now."""
    turn.put_payment(replace(turn.payment_of(operation), updated_at_ms=turn.now_ms))
