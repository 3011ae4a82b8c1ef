"""Which operation a notice is about, and what it tells of that no command asked for.

Called by `order` with each notice. Gateways name their own objects: an operation is found by our id when the gateway
gives it back, else by the references of its attempts, else by being the only one that the notice can mean. What a
merchant did at the gateway's own desk (a refund, say) has no operation: it gets one, so that the sums stay true. A
notice that may mean one of several waits in the payment until it can be told whose it is.
"""

from typing import Final

from gateway_adapters.contract import GatewayNotice
from schemas import identifiers
from schemas.event_types import Transition
from schemas.identifiers import AccountName, IdempotencyKey, OpId
from schemas.quick_init import replace
from schemas.records.orders import OperationRow, PaymentRow, UnclaimedRow, WordRow
from schemas.vocabulary import CallKind, Initiator, OperationKind, OperationState, Outcome
from streams.domain import later_words, operations, outcomes, paid_once, room, words
from streams.domain.apart import REFERENCED, Reference
from streams.domain.limits import MAX_UNCLAIMED
from streams.domain.sums import IN_DOUBT, OPEN, Books
from streams.domain.turn import Turn

_AT_THE_DESK: Final = frozenset({CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND})
"""What can be done at a gateway's own desk to a payment of ours."""

_TAKING: Final = frozenset({OperationKind.SALE, OperationKind.CAPTURE})


def find_operation(turn: Turn, notice: GatewayNotice, account: AccountName) -> OperationRow | None:
    """Return the operation that the notice, which came to this account, is about.

    By our own id when the gateway gave it back; else by the gateway's id of one of its attempts; else, on the payment
    that it names, the only operation of that kind whose id at the gateway we do not know yet. None when that leaves any
    doubt: a merchant may refund at the gateway's own desk, and a notice without any id would, when it comes twice,
    speak for the next operation.
    """
    if notice.op_id is not None:
        named = turn.find(notice.op_id)
        return None if named is None else _drawn_from(turn, named, notice)
    if notice.gateway_reference is None:
        return None
    known_as = (notice.gateway, account, notice.gateway_reference)
    if notice.kind in {None, CallKind(REFERENCED.value)}:
        turn.fetch_known_as(known_as)
    for each in turn.operations.values():
        if notice.kind in {None, each.kind.value} and _is_known_as(each, known_as):
            return _drawn_from(turn, each, notice)
    if any(
        each.gateway_reference == notice.gateway_reference for payment in turn.payments for each in payment.unclaimed
    ):
        return None  # it was told of before, and nobody could tell whose it is
    candidates = [each for each in _nameless(turn, notice, account) if _fits(notice, each)]
    return candidates[0] if len(candidates) == 1 else None


def _fits(notice: GatewayNotice, operation: OperationRow) -> bool:
    """Return whether the notice can be about all of the operation: a part may be one of anything.

    Not while nobody knows whether the gateway made it: a person may have done the same at the gateway's own desk, just
    because it hung. An inquiry tells which of them is ours.
    """
    by_hand = operation.kind.value in _AT_THE_DESK and operation.state in IN_DOUBT | {OperationState.DISPATCHED}
    return not by_hand and notice.confirmed_amount_minor in {None, operation.amount_minor}


def _is_known_as(operation: OperationRow, name: Reference) -> bool:
    if (operation.gateway, operation.account, operation.gateway_reference) == name:
        return True
    return any((each.gateway, each.account, each.gateway_reference) == name for each in operation.earlier_attempts)


def _drawn_from(turn: Turn, operation: OperationRow, notice: GatewayNotice) -> OperationRow:
    """Return whose money a word of taking back is about: a dispute names the payment, the money is in its captures."""
    if notice.outcome not in words.DISPUTES | words.TAKEN or operation.kind is not OperationKind.AUTHORIZE:
        return operation
    captures = [
        each
        for each in turn.operations.values()
        if each.payment_id == operation.payment_id and each.kind in _TAKING and each.words
    ]
    case = words.case_of(notice)
    if any(_is_of_case(word, case, notice) for word in operation.words):
        return operation  # it was told of the hold before, and is told again
    if notice.outcome is Outcome.REVERSED and notice.kind is CallKind.AUTHORIZE:
        return operation  # the gateway says itself that it is the hold, whatever was captured of it
    known = [each for each in captures if any(_is_of_case(word, case, notice) for word in each.words)]
    # One that was refused has no payment.
    books = Books.of(operation.payment_id, turn.operations.values(), turn.subtotals)
    # A dispute names the payment, and takes what was captured of it.
    by_dispute = notice.kind is None and notice.case_reference is not None and bool(captures)
    if notice.outcome is Outcome.REVERSED and not known and not books.released and not by_dispute:
        return operation  # the hold itself was taken back
    return max(known or captures, key=lambda each: each.counted_minor, default=operation)


def _is_of_case(word: WordRow, case: str | None, notice: GatewayNotice) -> bool:
    """Return whether the word is of this notice's case, or is this very notice where neither names one."""
    if case is not None or word.case is not None:
        return word.case == case
    return (word.outcome, word.occurred_at_ms) == (notice.outcome, notice.occurred_at_ms)


def _nameless(turn: Turn, notice: GatewayNotice, account: AccountName) -> list[OperationRow]:
    """Return the payment's operations of the notice's kind whose id at the gateway is not known (yet)."""
    payment = _payment_named(turn, notice, account)
    if payment is None or notice.kind is None:
        return []
    return [
        each
        for each in turn.operations.values()
        if each.payment_id == payment.payment_id
        and each.kind.value == notice.kind.value
        and (each.gateway, each.account) == (notice.gateway, account)
        and each.gateway_reference is None
        and (each.state in OPEN or each.words)
    ]


def _payment_named(turn: Turn, notice: GatewayNotice, account: AccountName) -> PaymentRow | None:
    if notice.payment_reference is None:
        return None
    for each in turn.payments:
        named = (notice.gateway, account, notice.payment_reference)
        # By our own reference where the gateway may have named nothing to us.
        known_by = (each.gateway_reference, each.order_reference, each.op_id)
        if named in {(each.gateway, each.account, known) for known in known_by}:
            return each
    for taken in turn.operations.values():  # some gateways' refunds name the capture that they draw from
        if taken.kind in _TAKING and _is_known_as(taken, (notice.gateway, account, notice.payment_reference)):
            return turn.payment_of(taken)
    return None


def record(turn: Turn, notice: GatewayNotice, account: AccountName) -> OpId | None:
    """Record what was done at the gateway's own desk, or keep it until it is clear that it was; return its operation.

    Twice is safe: the operation's id follows from the gateway's.
    """
    payment = _payment_named(turn, notice, account)
    if payment is None or notice.op_id is not None:
        return None
    if notice.outcome in words.DISPUTES | words.TAKEN:
        if not _keep_taken(turn, payment, notice, account):
            turn.ask_review(payment)  # money of this payment is gone, and whose it is cannot be told
        return None
    if notice.outcome is not Outcome.SUCCEEDED or notice.kind not in _AT_THE_DESK or notice.gateway_reference is None:
        return None
    amount_minor = _amount(turn, payment, notice)
    unclaimed = _unclaimed(notice, notice.kind, notice.gateway_reference, amount_minor)
    if not _is_ours(payment, notice) or amount_minor <= 0 or room.is_full(turn.operations.values(), turn.subtotals):
        turn.ask_review(payment)  # it cannot be counted
    elif not _nameless(turn, notice, account):
        return _record(turn, payment, unclaimed, amount_minor)
    elif not _keep(turn, payment, unclaimed):
        turn.ask_review(payment)
    return None


def _keep_taken(turn: Turn, payment: PaymentRow, notice: GatewayNotice, account: AccountName) -> bool:
    """Keep a word that takes money back until it is clear whose it is; return whether that can become so."""
    if notice.kind is None or notice.gateway_reference is None or not _is_ours(payment, notice):
        return False
    told = any(each.gateway_reference == notice.gateway_reference for each in payment.unclaimed)
    if not told and not any(each.state in OPEN for each in _nameless(turn, notice, account)):
        return False
    amount_minor = notice.confirmed_amount_minor
    return _keep(turn, payment, _unclaimed(notice, notice.kind, notice.gateway_reference, amount_minor))


def _is_ours(payment: PaymentRow, notice: GatewayNotice) -> bool:
    """Return whether the word is about money of the payment's currency."""
    return notice.confirmed_currency in {None, payment.currency}


def _unclaimed(notice: GatewayNotice, kind: CallKind, reference: str, amount_minor: int | None) -> UnclaimedRow:
    return UnclaimedRow(
        kind=OperationKind(kind.value),
        outcome=notice.outcome,
        gateway_reference=reference,
        amount_minor=amount_minor,
        case=words.case_of(notice),
        occurred_at_ms=notice.occurred_at_ms,
    )


def _keep(turn: Turn, payment: PaymentRow, unclaimed: UnclaimedRow) -> bool:
    """Keep the word until it is clear whose it is; return whether there is room. Twice is safe."""
    if unclaimed in payment.unclaimed:
        return True
    if len(payment.unclaimed) >= MAX_UNCLAIMED:
        return False
    turn.put_payment(replace(payment, unclaimed=(*payment.unclaimed, unclaimed)))
    return True


def _amount(turn: Turn, payment: PaymentRow, notice: GatewayNotice) -> int:
    """Return the minor units that the notice counts for; without a word of it, all that is left."""
    books = turn.books_of(payment)
    match notice.kind:
        case CallKind.VOID:
            return books.authorized - books.captured
        case CallKind.CAPTURE:
            left = books.room_to_capture
        case _:
            left = books.room_to_refund
    return left if notice.confirmed_amount_minor is None else notice.confirmed_amount_minor


def claim_or_record(turn: Turn) -> bool:
    """Look again at what nobody could tell whose it is: hear what can be told by now, and record the rest.

    Returns whether anything was heard: what waited for it may go on.
    """
    heard = [_look_again(turn, payment) for payment in turn.payments if payment.unclaimed]
    return any(heard)


def _look_again(turn: Turn, payment: PaymentRow) -> bool:
    heard = False
    for unclaimed in sorted(payment.unclaimed, key=_successes_first):
        assert payment.gateway is not None
        ours = [each for each in turn.operations.values() if each.payment_id == payment.payment_id]
        known_as = (payment.gateway, payment.account, unclaimed.gateway_reference)
        # Of its own kind: at some gateways what is done to a payment has the payment's own id.
        known = any(each.kind is unclaimed.kind and _is_known_as(each, known_as) for each in ours)
        nameless = [each for each in ours if each.kind is unclaimed.kind and each.gateway_reference is None]
        if not known and any(each.state in OPEN for each in nameless):
            continue
        payment = turn.payment(payment.payment_id) or payment
        turn.put_payment(replace(payment, unclaimed=tuple(each for each in payment.unclaimed if each != unclaimed)))
        if known or unclaimed.outcome is not Outcome.SUCCEEDED:
            _hear(turn, payment, unclaimed)
            heard = True
        elif any(each.words for each in nameless):
            turn.ask_review(payment)  # one that the gateway never named may be it: counting it twice would be a guess
        else:
            _record(turn, payment, unclaimed, unclaimed.amount_minor or 0)
    return heard


def _successes_first(unclaimed: UnclaimedRow) -> tuple[bool, int]:
    return unclaimed.outcome is not Outcome.SUCCEEDED, unclaimed.occurred_at_ms


def _hear(turn: Turn, payment: PaymentRow, kept: UnclaimedRow) -> None:
    """Hear a word that was kept, now that it is clear whose it is; a person is asked when it is nobody's."""
    assert payment.gateway is not None
    notice = GatewayNotice(
        gateway=payment.gateway,
        notice_id=kept.case or kept.gateway_reference,
        origin_id=turn.origin_id,
        order_id=turn.order_id,
        op_id=None,
        kind=CallKind(kept.kind.value),
        outcome=kept.outcome,
        gateway_reference=kept.gateway_reference,
        payment_reference=None,
        confirmed_amount_minor=kept.amount_minor,
        confirmed_currency=None,
        error=None,
        occurred_at_ms=kept.occurred_at_ms,
        case_reference=kept.case,
    )
    operation = find_operation(turn, notice, payment.account)
    if operation is None:
        turn.ask_review(payment)
        return
    said = words.of_notice(notice, payment.account)
    outcomes.judge(turn, operation, replace(said, gateway_reference=operation.gateway_reference))


def _may_be_taken_twice(turn: Turn, taken: OperationRow) -> bool:
    return bool(taken.words) and later_words.may_be_taken_twice(turn, taken, taken.words)


def _record(turn: Turn, payment: PaymentRow, made: UnclaimedRow, amount_minor: int) -> OpId:
    """Give what was made at the gateway's desk an operation, and tell the world of it."""
    assert payment.gateway is not None
    opening = turn.operations[payment.op_id]
    key = IdempotencyKey(f"{payment.gateway}:{identifiers.short_hash(made.gateway_reference)}")
    body = identifiers.fingerprint("recorded", made.kind.value, payment.payment_id, made.gateway_reference)
    word = WordRow(outcome=Outcome.SUCCEEDED, amount_minor=amount_minor, case=None, occurred_at_ms=made.occurred_at_ms)
    operation = replace(
        operations.without_command(opening, now_ms=turn.now_ms),
        op_id=identifiers.op_id(turn.origin_id, key, turn.order_id, body),
        kind=made.kind,
        initiator=Initiator.GATEWAY,
        state=OperationState.SUCCEEDED,
        idempotency_key=key,
        fingerprint=body,
        asked_amount_minor=amount_minor,
        amount_minor=amount_minor,
        counted_minor=amount_minor,
        words=(word,),
        gateway=payment.gateway,
        account=payment.account,
        gateway_reference=made.gateway_reference,
        number=turn.next_number,
    )
    stood = paid_once.stands(turn, payment)
    turn.put(operation)
    taken = [each for each in turn.operations.values() if each.payment_id == payment.payment_id]
    if (
        turn.books_of(payment).in_deficit
        or (not stood and paid_once.another_stands(turn, opening))
        or (made.kind is OperationKind.REFUND and any(_may_be_taken_twice(turn, each) for each in taken))
    ):
        turn.ask_review(payment)
    turn.publish(operation, Transition.RECORDED)
    return operation.op_id
