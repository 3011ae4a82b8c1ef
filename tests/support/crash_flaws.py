"""Contradictions in the crash model: what a worker may not do once it knows of one, and how to put such a flaw back."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

from gateway_adapters.contract import GatewayNotice
from schemas.event_types import Transition
from schemas.identifiers import Fingerprint
from schemas.records.gateway import GatewayCallRequested
from schemas.records.orders import AttemptRow, EventRow, OperationRow, OrderRow, PaymentRow, WordRow
from schemas.records.timers import TimerFired
from schemas.vocabulary import CallKind, OperationKind, OperationState, Outcome, PaymentStatus, RetryAdvice, Verdict
from streams.domain import attempts, later_words, leaving, order, outcomes, paid_once, words
from streams.domain.outputs import CallGateway, Output
from streams.domain.sums import OPEN, OPENING
from streams.domain.turn import Turn
from streams.domain.words import Evidence
from tests.support.exhibits import sums_of


def knowingly_twice(row: OrderRow, outputs: Iterable[Output]) -> Iterator[str]:
    """Yield each new call that might take money a second time, by what the row itself tells."""
    calls = [each.request for each in outputs if isinstance(each, CallGateway) and not each.request.repeated]
    for call in calls:
        operation = next(each for each in row.operations if each.op_id == call.op_id)
        if call.kind is CallKind.INQUIRE:
            continue
        if any(each.transition == Transition.REVIEWED for each in _since_decided(operation)):
            yield f"knowingly again {call.op_id}"
        if call.kind in {CallKind.AUTHORIZE, CallKind.SALE}:
            yield from _beside(row, call)


def _since_decided(operation: OperationRow) -> Iterator[EventRow]:
    """Yield the facts since a person last judged the operation, newest first."""
    for event in reversed(operation.events):
        told = event.decision
        if told is not None and told.refusal is None and told.verdict is not Verdict.NOTE:
            return
        yield event


def _beside(row: OrderRow, call: GatewayCallRequested) -> Iterator[str]:
    for payment in row.payments:
        sums = sums_of(row, payment.payment_id)
        held = (sums.authorized > 0 and not _is_let_go(row, payment)) or sums.captured > sums.refunded
        still_open = any(each.state in OPEN and each.payment_id == payment.payment_id for each in row.operations)
        if payment.payment_id != call.payment_id and (held or still_open or payment.review):
            yield f"knowingly beside {payment.payment_id} {call.op_id}"


def _is_let_go(row: OrderRow, payment: PaymentRow) -> bool:
    """Return whether nothing is held any more: a void was carried out, or the hold ran out."""
    ours = [each for each in row.operations if each.payment_id == payment.payment_id]
    voided = any(each.kind is OperationKind.VOID and each.counted_minor > 0 for each in ours)
    ran_out = any(word.outcome is Outcome.EXPIRED for each in ours for word in each.words)
    return voided or ran_out


def _is_stray(notice: GatewayNotice, operation: OperationRow) -> bool:
    """Return whether the notice tells of another attempt than the operation's last."""
    known = operation.gateway_reference
    return notice.gateway != operation.gateway or (known is not None and known != notice.gateway_reference)


def misheard(notice: GatewayNotice, row: OrderRow, *, anyone_takes_back: bool, silent: bool) -> GatewayNotice:
    """Return the notice as a flawed engine takes it."""
    for operation in row.operations:
        if operation.op_id == notice.op_id and operation.gateway is not None and _is_stray(notice, operation):
            if anyone_takes_back and notice.outcome is Outcome.REVERSED:
                return replace(notice, gateway=operation.gateway, gateway_reference=None)
            if silent and notice.outcome is Outcome.SUCCEEDED:
                return replace(notice, outcome=Outcome.PENDING)
    return notice


@contextmanager
def put_in(*, contradictions_are_forgotten: bool, failed_is_failed: bool) -> Iterator[None]:
    """Let the domain send on whatever gateways said against themselves, or ask of another payment only if it failed."""
    with ExitStack() as stack:
        if contradictions_are_forgotten:
            stack.enter_context(patch.object(paid_once, "may_take_twice", lambda *_: False))
        if failed_is_failed:
            stack.enter_context(patch.object(paid_once, "stands", _has_not_failed))
        yield


@contextmanager
def put_in_at_the_desk(
    *, has_the_last_word: bool, times_are_ignored: bool, is_never_asked_again: bool
) -> Iterator[None]:
    """Let a person's word count whatever is said later, or words as they came, or nobody ask a person again."""
    with ExitStack() as stack:
        if has_the_last_word:
            stack.enter_context(
                patch.object(words, "in_time", lambda said: sorted(said, key=lambda each: each.by_desk))
            )
        if times_are_ignored:
            stack.enter_context(patch.object(words, "in_time", list))
        if is_never_asked_again:
            stack.enter_context(patch.object(words, "contradicts_desk", lambda *_: False))
        yield


@contextmanager
def put_in_words(
    *, counts_twice: bool, deficits_are_silent: bool = False, returns_are_silent: bool = False
) -> Iterator[None]:
    """Let each word that takes something back count again, or nobody be asked where money is short or there twice."""
    with ExitStack() as stack:
        if deficits_are_silent:
            stack.enter_context(patch.object(later_words, "ask_review_of_deficit", lambda *_: None))
        if returns_are_silent:
            stack.enter_context(patch.object(later_words, "_ask_review_beside_another", lambda *_: None))
        if counts_twice:
            stack.enter_context(patch.multiple(words, with_word=_with_each, counted=_counted_by_sum))
        yield


def _with_each(said: tuple[WordRow, ...], word: WordRow) -> tuple[WordRow, ...]:
    return (*said, word)


def _counted_by_sum(said: Iterable[WordRow]) -> int:
    known = tuple(said)
    base = max((each.amount_minor for each in known if each.outcome is Outcome.SUCCEEDED), default=0)
    return max(0, base - sum(each.amount_minor for each in known if each.outcome in words.TAKEN))


def _has_not_failed(turn: Turn, payment: PaymentRow) -> bool:
    return turn.books_of(payment).status is not PaymentStatus.FAILED


@contextmanager
def put_in_leaving(*, whatever_it_is: bool) -> Iterator[None]:
    """Let operations leave the row whatever they have become since that was asked for, wherever they stand."""
    with ExitStack() as stack:
        if whatever_it_is:
            stack.enter_context(patch.object(leaving, "content_of", lambda _operation: Fingerprint("any")))
            steps = {kind: _drop_unseen if step is leaving.drop else step for kind, step in order._LEAVING.items()}
            stack.enter_context(patch.object(order, "_LEAVING", steps))
        yield


def _drop_unseen(turn: Turn, timer: TimerFired) -> None:
    for operation in leaving._meant(turn, timer):
        turn.leave(operation)


@contextmanager
def put_in_routing(*, moves_on_in_doubt: bool, comes_back: bool) -> Iterator[None]:
    """Let a payment go to the next gateway while it may have been made at this one, or back to one that declined it."""
    with ExitStack() as stack:
        if moves_on_in_doubt:
            stack.enter_context(patch.object(outcomes, "_rest", _go_on_in_doubt))
        if comes_back:
            stack.enter_context(patch.object(attempts, "last_attempt", _kept_as_not_declined))
        yield


_REST = outcomes._rest
_LAST_ATTEMPT = attempts.last_attempt


def _go_on_in_doubt(turn: Turn, operation: OperationRow, evidence: Evidence, *, answered: bool) -> None:
    first = operation.state is OperationState.DISPATCHED and operation.kind in OPENING
    if answered and first and evidence.outcome is Outcome.UNKNOWN and evidence.error is not None:
        attempts.retry_or_give_up(turn, operation, replace(evidence.error, retry=RetryAdvice.OTHER_GATEWAY))
    else:
        _REST(turn, operation, evidence, answered=answered)


def _kept_as_not_declined(operation: OperationRow, *, declined: bool = False) -> tuple[AttemptRow, ...]:
    return _LAST_ATTEMPT(operation, declined=False)
