"""What the executor is asked: an attempt, the same attempt again, or an inquiry about it.

Called by `admission`, `retry` and `reconciliation`; `outbox` asks again for a call that is owed. The intent stands in
the row before the request leaves, and the gateway's key is made of the operation and the attempt.
"""

from schemas import identifiers
from schemas.identifiers import GatewayRoute
from schemas.records.gateway import GatewayCallRequested
from schemas.records.orders import OperationRow
from schemas.vocabulary import CallKind
from streams.domain.errors import InvariantViolatedError
from streams.domain.outputs import CallGateway
from streams.domain.rows import replace
from streams.domain.sums import OPENING
from streams.domain.turn import Turn


def attempted(turn: Turn, operation: OperationRow, route: GatewayRoute) -> OperationRow:
    """Begin the operation's next attempt there; return the operation."""
    gateway, account = identifiers.parts_of(route)
    if operation.kind in OPENING:
        turn.put_payment(replace(turn.payment_of(operation), gateway=gateway, account=account))
    operation = replace(
        operation,
        attempt=operation.attempt + 1,
        gateway=gateway,
        account=account,
        gateway_reference=None,
        sent_until_ms=0,
        first_requested_at_ms=turn.now_ms,
    )
    return called(turn, operation, CallKind(operation.kind.value))


def called(turn: Turn, operation: OperationRow, kind: CallKind) -> OperationRow:
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
    inquiry = operation.call_kind is CallKind.INQUIRE
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
        own_reference=operation.gateway_reference if inquiry else None,
        final=operation.final,
        first_requested_at_ms=operation.first_requested_at_ms,
        requested_at_ms=operation.called_at_ms,
        repeated=repeated,
        command_offset=None if inquiry else operation.command_offset,
    )
    turn.say(CallGateway(request=request))
