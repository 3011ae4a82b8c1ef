"""In doubt or pending: when to look at the operation again, and how.

Called by `outcomes` (a word that left it open), by `order` (the timer fired), by `admission` (another operation wants
to know) and by `desk` (a person settles it). An operation in doubt is never sent to another gateway. Every look is an
inquiry first, for a gateway may tell what it keeps failing to do again. From the second scheduled look on, where that
proved nothing and the gateway advises the same key, the same call is made again while the gateway still honours that
key (it answers what it did, or does it once). After the last look a person decides.

That the gateway knows nothing of the operation is true of the moment it was asked: the call may be held by the network
and arrive a minute later. So while the gateway honours the key, the same call is made again at once, and whichever copy
comes first is the one that counts; and without a key to rely on, absence is proof only when the inquiry was made
`late_call_ms` after the last call had ended.

A gateway that has no inquiry is asked by the same call from the first look on; past its key's window it cannot be
asked, and the schedule leads to a person. A gateway may store an answer that leaves the call in doubt (a 5xx, say)
under its key and give it again for ever: from then on the call is not made again, and inquiries alone are.
"""

from typing import Final

from schemas import identifiers
from schemas.event_types import Transition
from schemas.quick_init import replace
from schemas.records.orders import OperationRow
from schemas.vocabulary import CallKind, OperationKind, OperationState, RetryAdvice
from streams.domain import abilities, attempts, operations, paid_once, settlement
from streams.domain.limits import (
    ASKED_LOOKS_A_PAUSE,
    MAX_ASKED_PAUSE_MS,
    MIN_ASKED_PAUSE_MS,
    RECONCILE_AFTER_MS,
    pause_before_look,
    time_of_look,
)
from streams.domain.operations import without_token
from streams.domain.sums import OPEN, OPENING
from streams.domain.turn import Turn

KEPT_FAILURE: Final = "gateway_failed"
"""The error code of a failure of the gateway; one that it keeps under the key is never to be tried again with it."""

_WAITS_FOR_GATEWAY: Final = frozenset({OperationState.UNKNOWN, OperationState.PENDING})


def look_now(turn: Turn, operation: OperationRow) -> None:
    """Make an inquiry now, out of turn; one that is under way will do. The schedule goes on as it was."""
    if operation.call_kind is None:
        _ask(turn, operation)


def look_for_the_page(turn: Turn, operation: OperationRow) -> bool:
    """Make an inquiry now, since a notice says that the payer has to act and not where; return whether one will tell.

    The answer of a call that is under way may be older than the notice: then there is another look soon after it.
    """
    if operation.call_kind is None:
        return _ask(turn, operation)
    if operation.timer_due_at_ms is None or turn.now_ms + MIN_ASKED_PAUSE_MS < operation.timer_due_at_ms:
        turn.set_timer(operation, after_ms=MIN_ASKED_PAUSE_MS)
    return True


def ask_behind_a_person(turn: Turn, operation: OperationRow) -> OperationRow:
    """Make a last inquiry about what a person is about to settle, if it waits for its gateway; return the operation.

    Nobody waits for the answer. Only an inquiry: the call itself might be carried out.
    What has been looked at to the end is not asked about: a person knows that the gateway has nothing to say.
    """
    if operation.state not in _WAITS_FOR_GATEWAY or operation.call_kind is not None:
        return operation
    can = abilities.capabilities_of(turn, operation)
    known = operation.gateway_reference is not None
    if can is not None and not can.can_be_asked(turn.payment_of(operation).currency, reference_known=known):
        return operation
    return attempts.call_gateway(turn, operation, CallKind.INQUIRE)


def look_later(turn: Turn, operation: OperationRow, *, asked_ms: int | None) -> None:
    """See that the operation, whose last word is still to come, will be looked at again, or by a person.

    `asked_ms`: the pause that the gateway has just asked for (`Retry-After`, RFC 9110); None: it asked for none. A look
    that is due by then stays.
    """
    if operation.call_kind is not None or (operation.timer_due_at_ms is not None and asked_ms is None):
        return
    if _is_hopeless(turn, operation):
        settlement.settle(turn, operation, OperationState.MANUAL_REVIEW, Transition.REVIEWED, operation.error)
        return
    after_ms = _pause(pause_before_look(operation.inquiries), asked_ms)
    if operation.action_expires_at_ms is not None and operation.action_expires_at_ms > turn.now_ms:
        after_ms = min(after_ms, operation.action_expires_at_ms - turn.now_ms)
    if operation.timer_due_at_ms is None or turn.now_ms + after_ms < operation.timer_due_at_ms:
        turn.set_timer(operation, after_ms=after_ms)


def _is_hopeless(turn: Turn, operation: OperationRow) -> bool:
    """Return whether no more looks are made: a person is asked."""
    if operation.state is not OperationState.PENDING:
        return operation.inquiries >= len(RECONCILE_AFTER_MS)
    assert operation.gateway is not None
    route = identifiers.gateway_route(operation.gateway, operation.account)
    life_ms = turn.rules.pending_life_of(route, CallKind(operation.kind.value))
    return turn.now_ms - operation.first_requested_at_ms >= life_ms


def _pause(planned_ms: int, asked_ms: int | None) -> int:
    if asked_ms is None:
        return planned_ms
    floor_ms = max(MIN_ASKED_PAUSE_MS, planned_ms // ASKED_LOOKS_A_PAUSE)
    return min(max(asked_ms, floor_ms), max(planned_ms, MAX_ASKED_PAUSE_MS))


def look_by_plan(turn: Turn, operation: OperationRow) -> None:
    """The time to look has come; a call that is under way for another reason counts as the look."""
    inquiries = operation.inquiries + 1 if _is_planned(operation) else operation.inquiries
    operation = replace(operation, timer_due_at_ms=None, inquiries=inquiries)
    if operation.call_kind is not None:
        turn.put(operation)
        return
    if may_expire(turn, operation):
        expire_action(turn, turn.put(operation))
        return
    operation = drop_needless_token(turn, operation)
    if not _ask(turn, operation):
        look_later(turn, turn.put(operation), asked_ms=None)


def _ask(turn: Turn, operation: OperationRow) -> bool:
    """Ask the gateway what became of the operation; return whether it can be asked.

    Where it has no inquiry, or none without a reference that is not known, the same call with its key is the question,
    for as long as the gateway honours the key.
    """
    can = abilities.capabilities_of(turn, operation)
    known = attempts.reference_of(operation, turn.payment_of(operation)) is not None
    if can is None or can.can_be_asked(turn.payment_of(operation).currency, reference_known=known):
        attempts.call_gateway(turn, operation, CallKind.INQUIRE)
        return True
    if not _is_safe_again(turn, operation):
        return False
    attempts.call_gateway(turn, operation, CallKind(operation.kind.value))
    return True


def _is_planned(operation: OperationRow) -> bool:
    """Return whether the look that is due counts as the schedule's next, and not as an earlier one that was asked for.

    It does from the middle of its pause on, so that clocks of brokers that differ cannot make a planned look an extra
    one. Those that do not count are bounded by the floor of their pauses.
    """
    assert operation.timer_due_at_ms is not None
    middle_ms = time_of_look(operation.inquiries) - pause_before_look(operation.inquiries) // 2
    return operation.timer_due_at_ms - operation.first_requested_at_ms >= middle_ms


def may_expire(turn: Turn, operation: OperationRow) -> bool:
    """Return whether the payer's time to act is over, and nothing is being done about it yet."""
    expires_at_ms = operation.action_expires_at_ms
    late = expires_at_ms is not None and turn.now_ms >= expires_at_ms
    if not late or operation.state is not OperationState.REQUIRES_ACTION:
        return False
    return not any(
        each.payment_id == operation.payment_id and _decides_unacted(each) for each in turn.operations.values()
    )


def _decides_unacted(operation: OperationRow) -> bool:
    """Return whether this ends the wait for a payer: by a void that was sent, or since the payer has come back."""
    if operation.kind is OperationKind.VOID:
        return operation.attempt > 0
    return operation.kind is OperationKind.COMPLETE and operation.state in OPEN


def expire_action(turn: Turn, operation: OperationRow) -> None:
    """End what waits for a payer who never came: by a void where the gateway knows of it, else at once.

    The void is the engine's own. The gateway may refuse it, since the payer has acted meanwhile: then a look tells. Of
    what the gateway has not named it is a void by our own reference, where that can be made.
    """
    payment = turn.payment_of(operation)
    if payment.gateway_reference is None and not abilities.voids_unnamed(turn, payment):
        settlement.end_unacted(turn, operation, settlement.ACTION_EXPIRED)
        return
    operations.queue_own(turn, operation, OperationKind.VOID, operation.amount_minor, why="action expired")
    look_later(turn, operation, asked_ms=None)


def call_again(turn: Turn, operation: OperationRow, *, found_nothing: bool) -> bool:
    """Perhaps make the call again, of an operation that an inquiry has left in doubt; return whether it is made.

    `found_nothing`: the inquiry was answered, the gateway knows nothing of the operation.
    """
    advised = operation.error is not None and operation.error.retry is RetryAdvice.SAME_KEY_NOW
    wanted = (found_nothing and not is_key_spent(operation)) or (advised and operation.inquiries > 1)
    if not wanted or operation.state is not OperationState.UNKNOWN or not _is_safe_again(turn, operation):
        return False
    attempts.call_gateway(turn, operation, CallKind(operation.kind.value))
    return True


def is_key_spent(operation: OperationRow) -> bool:
    """Return whether the gateway keeps a failure under the operation's key: whoever brings it gets that, and no more.

    So nothing can be carried out under it any more, and what an inquiry does not find now never was.
    """
    error = operation.error
    return error is not None and (error.code, error.retry) == (KEPT_FAILURE, RetryAdvice.NEVER)


def may_be_proven(turn: Turn, operation: OperationRow, *, found_nothing: bool) -> bool:
    """Return whether it can be proven at all that the operation never was, by an inquiry or else by a refusal.

    Not by what some gateways do not find; nor where such a gateway keeps a failure under the key: Stripe calls a 500
    indeterminate, and may carry the operation out later (https://docs.stripe.com/error-low-level). A person decides.
    """
    if not found_nothing and not operation.answer_stored:
        return True
    can = abilities.capabilities_of(turn, operation)
    return can is None or can.not_found_is_proof


def absence_is_proof(turn: Turn, operation: OperationRow) -> bool:
    """Return whether no copy of the call could arrive after the inquiry that was just answered was made."""
    return operation.called_at_ms - operation.sent_until_ms >= turn.rules.late_call_ms


def drop_needless_token(turn: Turn, operation: OperationRow) -> OperationRow:
    """Return the operation without its token once no call may need it any more."""
    needed = _window_open(turn, operation) and not operation.answer_stored
    return operation if needed else without_token(operation)


def _is_safe_again(turn: Turn, operation: OperationRow) -> bool:
    """Return whether the call can be made again, and cannot have its effect twice, or beside another's."""
    has_token = operation.token is not None or operation.command_offset is not None or operation.kind not in OPENING
    useful = has_token and not operation.answer_stored
    return useful and _window_open(turn, operation) and not paid_once.may_take_twice(turn, operation)


def _window_open(turn: Turn, operation: OperationRow) -> bool:
    assert operation.gateway is not None
    age_ms = turn.now_ms - operation.first_requested_at_ms
    return turn.rules.window_open(operation.gateway, CallKind(operation.kind.value), age_ms=age_ms)
