"""From the claim of an operation's key to the gateway: the order's own rules, and the wait for one in doubt.

Called by `order` when its turn has come, with the verdict, and again when the operation that one had to wait for has
been looked at. Validation comes after the claim, so that a reused idempotency key always outranks what else is wrong.

An operation on a payment in doubt first has an inquiry made about the doubtful one. If that leaves it in doubt, the new
operation is refused with `payment_in_doubt`, which is final for its idempotency key: a later try needs a new key.
"""

from schemas import identifiers
from schemas.event_types import Transition
from schemas.identifiers import GatewayRoute, OpId
from schemas.quick_init import replace
from schemas.records.claims import ClaimRequested, RoutePlan
from schemas.records.orders import OperationRow, PaymentRow
from schemas.vocabulary import OperationKind, OperationState, Outcome, Rejection
from streams.domain import abilities, attempts, doubt, paid_once, settlement
from streams.domain.outputs import SendClaim
from streams.domain.sums import IN_DOUBT, OPENING, Books
from streams.domain.turn import Turn


def ask_for_key(turn: Turn, operation: OperationRow) -> None:
    """Ask the claims agent for the idempotency key of an operation whose turn has come. Twice is safe."""
    assert operation.plan is not None
    claim = ClaimRequested(
        origin_id=turn.origin_id,
        idempotency_key=operation.idempotency_key,
        order_id=turn.order_id,
        op_id=operation.op_id,
        plan=operation.plan,
        requested_at_ms=operation.updated_at_ms,
    )
    turn.say(SendClaim(claim=claim))


def admit(turn: Turn, operation: OperationRow, plan: RoutePlan) -> None:
    """The claim is granted, with the plan that it pinned: let the operation go, wait, or refuse it."""
    _admit(turn, turn.put(replace(operation, plan=plan, updated_at_ms=turn.now_ms)), plan)


def dispatch_unasked(turn: Turn, operation: OperationRow) -> None:
    """Let an operation of the engine's own go, which has no key to claim; not where its payer has acted meanwhile.

    What is held is let go: a part that was approved, and what a payer has agreed to after the end of the wait.
    """
    opening = settlement.opening_of(turn, operation)
    waits = opening.state is OperationState.REQUIRES_ACTION
    if not (waits or settlement.is_part_let_go(opening) or settlement.is_held_late(turn, opening)):
        settlement.reject(turn, operation, Rejection.INVALID_STATE)
        return
    payment = turn.payment_of(operation)
    assert payment.gateway is not None
    assert operation.asked_amount_minor is not None
    route = identifiers.gateway_route(payment.gateway, payment.account)
    _dispatch(turn, operation, route, amount_minor=operation.asked_amount_minor, draws_on=operation.draws_on)


def resume(turn: Turn) -> None:
    """Go on with the active operation if the one that it waits for has been looked at. Safe to call at any time."""
    operation = _waiting(turn)
    if operation is None or operation.doubted_op_id is None:
        return
    doubted = turn.operations[operation.doubted_op_id]
    if doubted.call_kind is not None:
        return
    if doubted.state in IN_DOUBT and not _may_pass(operation, doubted):
        settlement.reject(turn, operation, Rejection.PAYMENT_IN_DOUBT)
        return
    assert operation.plan is not None
    _admit(turn, operation, operation.plan, looked=True)


def _waiting(turn: Turn) -> OperationRow | None:
    if turn.active_op_id is None:
        return None
    operation = turn.operations[turn.active_op_id]
    return operation if operation.state is OperationState.DISPATCHED and operation.attempt == 0 else None


def _admit(turn: Turn, operation: OperationRow, plan: RoutePlan, *, looked: bool = False) -> None:
    doubted = _doubted(turn, operation, looked=looked)
    if doubted is not None:
        operation = replace(operation, state=OperationState.DISPATCHED, doubted_op_id=doubted.op_id)
        turn.put(operation)
        doubt.look_now(turn, doubted)
        if turn.operations[doubted.op_id].call_kind is None:  # its gateway cannot be asked any more
            settlement.reject(turn, operation, Rejection.PAYMENT_IN_DOUBT)
        return
    payment = turn.payment(operation.payment_id)
    verdict = _judge_opening(turn, operation, plan) if payment is None else _judge(turn, operation, payment)
    if payment is not None and operation.asked_currency is None:
        operation = replace(operation, asked_currency=payment.currency)
    if payment is not None and not isinstance(verdict, Rejection):
        verdict = abilities.why_unable(turn, operation, payment, verdict) or verdict
    if isinstance(verdict, Rejection):
        settlement.reject(turn, operation, verdict)
        return
    if payment is not None and _waits_unknown(turn, operation, payment):
        _cancel_at_once(turn, replace(operation, amount_minor=verdict), payment)
        return
    first = attempts.next_attempt(operation, plan, payment)
    if first is None:
        settlement.reject(turn, operation, Rejection.NO_GATEWAY)
        return
    _, route = first
    draws_on = None if payment is None else abilities.capture_to_draw_on(turn, operation, payment, verdict)
    _dispatch(turn, operation, route, amount_minor=verdict, draws_on=draws_on)


def _waits_unknown(turn: Turn, operation: OperationRow, payment: PaymentRow) -> bool:
    """Return whether this cancels what waits for its payer, and of which the gateway knows nothing to void."""
    waits = turn.operations[payment.op_id].state is OperationState.REQUIRES_ACTION
    unnamed = payment.gateway_reference is None and not abilities.voids_unnamed(turn, payment)
    return operation.kind is OperationKind.VOID and waits and unnamed


def _cancel_at_once(turn: Turn, operation: OperationRow, payment: PaymentRow) -> None:
    """End both: nothing is held anywhere that could be let go."""
    operation = turn.put(replace(operation, state=OperationState.DISPATCHED))
    settlement.end_unacted(turn, turn.operations[payment.op_id], settlement.CANCELLED)
    settlement.settle(turn, operation, OperationState.SUCCEEDED, Transition.SUCCEEDED, None)


def _doubted(turn: Turn, operation: OperationRow, *, looked: bool) -> OperationRow | None:
    """Return the oldest doubtful operation that must be looked at first. `looked`: one look was made for this one.

    Another payment for the order must know what became of the first, so it waits for any payment of the order.
    """
    for each in turn.operations.values():
        concerned = operation.kind in OPENING or each.payment_id == operation.payment_id
        settled = each.state is OperationState.MANUAL_REVIEW or looked
        if each.state in IN_DOUBT and concerned and not (settled and _may_pass(operation, each)):
            return each
    return None


def _may_pass(operation: OperationRow, doubted: OperationRow) -> bool:
    """Return whether the doubt leaves the operation alone: a refund in doubt blocks its own amount and no more."""
    return operation.kind is OperationKind.REFUND and doubted.kind is OperationKind.REFUND


def _dispatch(
    turn: Turn, operation: OperationRow, route: GatewayRoute, *, amount_minor: int, draws_on: OpId | None
) -> None:
    """Write the intent, tell the world and who waits that the operation is accepted, and ask for the call."""
    operation = replace(
        operation,
        state=OperationState.DISPATCHED,
        amount_minor=amount_minor,
        draws_on=draws_on,
        updated_at_ms=turn.now_ms,
    )
    if operation.kind in OPENING:
        turn.put_payment(_open_payment(turn, operation))
    operation = attempts.begin_attempt(turn, turn.put(operation), route, attempt=1)
    operation = turn.publish(operation, Transition.ACCEPTED)
    turn.answer_all(operation)


def _open_payment(turn: Turn, operation: OperationRow) -> PaymentRow:
    assert operation.asked_currency is not None
    return PaymentRow(
        payment_id=operation.payment_id,
        op_id=operation.op_id,
        amount_minor=operation.amount_minor,
        currency=operation.asked_currency,
        gateway=None,  # as soon as the attempt is begun
        gateway_reference=None,
        review=False,
        unclaimed=(),
        created_at_ms=turn.now_ms,
        updated_at_ms=turn.now_ms,
    )


def _judge_opening(turn: Turn, operation: OperationRow, plan: RoutePlan) -> Rejection | int:
    """Return the amount to ask for, or why not. An order has one live payment; after a failed one comes another."""
    if operation.kind not in OPENING:
        return Rejection.PAYMENT_NOT_FOUND
    if paid_once.another_stands(turn, operation):
        return Rejection.PAYMENT_ALREADY_EXISTS
    assert operation.asked_amount_minor is not None
    return operation.asked_amount_minor if plan.refusal is None else plan.refusal


def _judge(turn: Turn, operation: OperationRow, payment: PaymentRow) -> Rejection | int:
    """Return the amount to ask for, or why not."""
    if operation.asked_currency not in {None, payment.currency}:
        return Rejection.CURRENCY_MISMATCH
    books = turn.books_of(payment)
    if operation.kind is OperationKind.COMPLETE:
        waits = books.opening is OperationState.REQUIRES_ACTION and not books.voiding
        return payment.amount_minor if waits else Rejection.INVALID_STATE
    waiting_minor = _unclaimed_minor(payment, operation.kind)
    if operation.kind is OperationKind.REFUND:  # what was captured can be given back though the hold was taken back
        return _judge_refund(operation, books, waiting_minor)
    if operation.kind is OperationKind.VOID:
        return _judge_void(payment, books)
    if books.authorized <= 0 or books.voiding or books.released:
        return Rejection.INVALID_STATE
    room = books.room_to_capture - waiting_minor
    amount = room if operation.asked_amount_minor is None else operation.asked_amount_minor
    return amount if 0 < amount <= room else Rejection.AMOUNT_EXCEEDS_AUTHORIZED


def _unclaimed_minor(payment: PaymentRow, kind: OperationKind) -> int:
    """Return what succeeded of this kind at the gateway without anybody's being able to tell whose it is."""
    made = (each for each in payment.unclaimed if each.kind is kind and each.outcome is Outcome.SUCCEEDED)
    return sum(each.amount_minor or 0 for each in made)


def _judge_void(payment: PaymentRow, books: Books) -> Rejection | int:
    """Return what is let go: all of a payment that waits for its payer, else what is left and not being captured."""
    if books.opening is OperationState.REQUIRES_ACTION and not books.voiding:
        return payment.amount_minor
    if books.authorized <= 0 or books.voiding or books.released or books.capturing:
        return Rejection.INVALID_STATE
    return books.room_to_capture or Rejection.INVALID_STATE


def _judge_refund(operation: OperationRow, books: Books, waiting_minor: int) -> Rejection | int:
    """`waiting_minor`: refunds of which nobody can tell yet whether they are ours: no room is counted twice."""
    if books.captured <= 0 or books.voiding:
        return Rejection.INVALID_STATE
    room = books.room_to_refund - waiting_minor
    amount = room if operation.asked_amount_minor is None else operation.asked_amount_minor
    return amount if 0 < amount <= room else Rejection.AMOUNT_EXCEEDS_CAPTURED
