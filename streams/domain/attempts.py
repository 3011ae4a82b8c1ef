"""Attempts at a gateway: which gateway, what the executor is asked, and what follows on one that was not executed.

Called by `admission` (the first attempt), `outcomes` (the next one), `doubt` (an inquiry, or the same attempt again),
and by `order` when the pause before an attempt is over; `outbox` asks again for a call that is owed. The intent stands
in the row before the request leaves, and the gateway's key is made of the operation and the attempt. A plan lists the
gateways attempt by attempt (`gateway_adapters/routing.py` repeats them up to the policy's number of attempts).

A payment goes on to another gateway only when nothing of it can be held at this one: the call was positively not
executed, or it was declined, in a class that the plan names, and no other copy of the call was made. It does not come
back to a gateway that has declined it: an entry of the plan that names one is passed over.
"""

from typing import Final

from gateway_adapters.policy import may_help_elsewhere
from schemas import identifiers
from schemas.identifiers import GatewayRoute
from schemas.quick_init import replace
from schemas.records.claims import RoutePlan
from schemas.records.gateway import GatewayCallRequested, OperationError
from schemas.records.orders import AttemptRow, OperationRow, PaymentRow
from schemas.vocabulary import CallKind, OperationKind, OperationState, RetryAdvice
from streams.domain import paid_once, settlement
from streams.domain.errors import InvariantViolatedError
from streams.domain.limits import FOLLOW_UP_ATTEMPTS, MAX_ATTEMPTS, MAX_RETRY_DELAY_MS, RETRY_BACKOFF_MS
from streams.domain.outputs import CallGateway
from streams.domain.sums import OPENING
from streams.domain.turn import Turn

_ON_THE_OPENING: Final = frozenset({OperationKind.COMPLETE, OperationKind.VOID})
"""What some gateways know by the operation that opened the payment, and by nothing else."""

_HOPELESS: Final = frozenset({RetryAdvice.NEVER, RetryAdvice.AFTER_FIX, RetryAdvice.AFTER_SCA})


def next_attempt(
    operation: OperationRow, plan: RoutePlan, payment: PaymentRow | None, *, declined: bool = False
) -> tuple[int, GatewayRoute] | None:
    """Return the number of the attempt that follows, and its gateway and account; None when none does.

    The number is the attempt's place in the plan, from 1. A capture, void or refund goes where its payment is, whatever
    the plan says: nobody else knows the payment. `declined`: the last attempt was.
    """
    following = operation.attempt + 1
    if operation.kind in OPENING:
        gone = {_route_of(each) for each in operation.earlier_attempts if each.declined}
        gone |= {_here(operation)} if declined else set()
        entries = enumerate(plan.gateways[:MAX_ATTEMPTS], start=1)
        return next(((at, route) for at, route in entries if at >= following and route not in gone), None)
    allowed = min(len(plan.gateways) or FOLLOW_UP_ATTEMPTS, MAX_ATTEMPTS)
    if payment is None or payment.gateway is None or following > allowed:
        return None
    return following, identifiers.gateway_route(payment.gateway, payment.account)


def begin_attempt(
    turn: Turn, operation: OperationRow, route: GatewayRoute, *, attempt: int, declined: bool = False
) -> OperationRow:
    """Begin this attempt of the operation there; return the operation. `declined`: the one before it was."""
    gateway, account = identifiers.parts_of(route)
    if operation.kind in OPENING:
        elsewhere = replace(
            turn.payment_of(operation), gateway=gateway, account=account, gateway_reference=None, order_reference=None
        )
        turn.put_payment(elsewhere)
    operation = replace(
        operation,
        earlier_attempts=(*operation.earlier_attempts, *last_attempt(operation, declined=declined)),
        attempt=attempt,
        gateway=gateway,
        account=account,
        gateway_reference=None,
        sent_until_ms=0,
        answer_stored=False,
        first_requested_at_ms=turn.now_ms,
    )
    return call_gateway(turn, operation, CallKind(operation.kind.value))


def last_attempt(operation: OperationRow, *, declined: bool = False) -> tuple[AttemptRow, ...]:
    """Return the operation's last attempt, as it is kept once another follows; nothing before the first."""
    if operation.attempt == 0 or operation.gateway is None:
        return ()
    kept = AttemptRow(
        attempt=operation.attempt,
        gateway=operation.gateway,
        account=operation.account,
        gateway_reference=operation.gateway_reference,
        declined=declined,
    )
    return (kept,)


def call_gateway(turn: Turn, operation: OperationRow, kind: CallKind) -> OperationRow:
    """Ask for one more call of the current attempt, an inquiry or the attempt itself; return the operation."""
    operation = turn.put(
        replace(
            operation,
            call_number=operation.call_number + 1,
            call_kind=kind,
            called_at_ms=turn.now_ms,
        )
    )
    say_call(turn, operation)
    return operation


def say_call(turn: Turn, operation: OperationRow, *, repeated: bool = False) -> None:
    """Say the call that the operation waits for, if it waits for one.

    `repeated` marks a copy after a crash. If the first copy was refused and the second carried out, the first one's
    refusal would send the operation to another gateway: so the executor makes a marked copy only when no answer is on
    the log yet, and then a refusal counts as doubt.
    """
    if operation.call_kind is None:
        return
    if operation.gateway is None:
        raise InvariantViolatedError(f"{operation.op_id} owes a call and has no gateway")
    payment = turn.payment_of(operation)
    inquiry, voids = operation.call_kind is CallKind.INQUIRE, operation.kind is OperationKind.VOID
    request = GatewayCallRequested(
        origin_id=turn.origin_id,
        order_id=turn.order_id,
        payment_id=operation.payment_id,
        op_id=operation.op_id,
        kind=operation.call_kind,
        inquired_kind=CallKind(operation.kind.value) if inquiry else None,
        attempt=operation.attempt,
        call_number=operation.call_number,
        gateway=operation.gateway,
        account=operation.account,
        gateway_key=identifiers.gateway_key(operation.op_id, operation.attempt),
        amount_minor=operation.amount_minor,
        currency=payment.currency,
        token=None if inquiry else operation.token,
        payment_reference=payment.gateway_reference,
        order_reference=payment.order_reference,
        capture_reference=_capture_reference(turn, operation),
        own_reference=reference_of(operation, payment) if inquiry else None,
        final=operation.final,
        first_requested_at_ms=operation.first_requested_at_ms,
        requested_at_ms=operation.called_at_ms,
        repeated=repeated,
        command_offset=None if inquiry else operation.command_offset,
        opening_op_id=payment.op_id if operation.kind in _ON_THE_OPENING else None,
        opening_kind=CallKind(turn.operations[payment.op_id].kind.value) if voids else None,
    )
    turn.say(CallGateway(request=request))


def _capture_reference(turn: Turn, operation: OperationRow) -> str | None:
    return None if operation.draws_on is None else turn.operations[operation.draws_on].gateway_reference


def reference_of(operation: OperationRow, payment: PaymentRow) -> str | None:
    """Return what the gateway knows the operation by. A completion makes nothing: it is known by its payment.

    What waits for its payer some gateways know by its order alone. That stands for it afterwards, too.
    """
    if operation.kind is OperationKind.COMPLETE:
        return payment.order_reference or payment.gateway_reference
    return operation.gateway_reference


def retry_or_give_up(turn: Turn, operation: OperationRow, error: OperationError | None) -> None:
    """Make another attempt by the plan, at once or after a pause, or end the operation. Nothing of it is in doubt.

    The order's queue stands still meanwhile, other orders do not: the pause is a timer on the log.

    Another gateway, or account, is tried at once: the pause that this one asks for does not concern it.
    """
    if is_hopeless(error) or paid_once.may_take_twice(turn, operation):
        _give_up(turn, operation, error)
        return
    assert error is not None
    assert operation.plan is not None
    following = next_attempt(operation, operation.plan, turn.payment_of(operation))
    if following is None:
        _give_up(turn, operation, error)
        return
    attempt, route = following
    operation = replace(operation, error=error, updated_at_ms=turn.now_ms)
    if route != _here(operation):
        begin_attempt(turn, operation, route, attempt=attempt)
        return
    delay_ms = max(error.retry_after_ms or 0, RETRY_BACKOFF_MS[min(operation.attempt, len(RETRY_BACKOFF_MS)) - 1])
    if delay_ms > MAX_RETRY_DELAY_MS:
        _give_up(turn, operation, error)
        return
    turn.set_timer(operation, after_ms=delay_ms)


def may_go_elsewhere(operation: OperationRow) -> bool:
    """Return whether the operation's plan would have it go on to another gateway after a decline of some class."""
    return _elsewhere(operation) is not None


def _elsewhere(operation: OperationRow) -> tuple[int, GatewayRoute] | None:
    plan = operation.plan
    if plan is None or not plan.fallback_classes or operation.state is not OperationState.DISPATCHED:
        return None
    return next_attempt(operation, plan, None, declined=True) if operation.kind in OPENING else None


def go_elsewhere(turn: Turn, operation: OperationRow, error: OperationError | None) -> bool:
    """Perhaps ask another gateway after this decline, the only answer to the only copy of a call; return whether so.

    Nothing of the operation may be in doubt. What let its order go on is never sent anywhere else.
    """
    following = _elsewhere(operation)
    if following is None or paid_once.may_take_twice(turn, operation):
        return False
    assert operation.plan is not None
    if not may_help_elsewhere(error, operation.plan.fallback_classes):
        return False
    attempt, route = following
    operation = replace(operation, error=error, updated_at_ms=turn.now_ms)
    begin_attempt(turn, operation, route, attempt=attempt, declined=True)
    return True


def is_hopeless(error: OperationError | None) -> bool:
    """Return whether the same call would be refused again."""
    return error is None or error.retry in _HOPELESS


def attempt_after_pause(turn: Turn, operation: OperationRow) -> None:
    """The pause is over: make the next attempt. The gateway was chosen by the pinned plan, so it is there."""
    if paid_once.may_take_twice(turn, operation):  # a gateway has said so meanwhile
        _give_up(turn, operation, operation.error)
        return
    assert operation.plan is not None
    following = next_attempt(operation, operation.plan, turn.payment_of(operation))
    assert following is not None, "the pause was for it"
    attempt, route = following
    begin_attempt(turn, replace(operation, timer_due_at_ms=None), route, attempt=attempt)


def _here(operation: OperationRow) -> GatewayRoute:
    assert operation.gateway is not None
    return identifiers.gateway_route(operation.gateway, operation.account)


def _route_of(earlier: AttemptRow) -> GatewayRoute:
    return identifiers.gateway_route(earlier.gateway, earlier.account)


def _give_up(turn: Turn, operation: OperationRow, error: OperationError | None) -> None:
    settlement.refuse_there(turn, operation, OperationState.NOT_EXECUTED, error)
