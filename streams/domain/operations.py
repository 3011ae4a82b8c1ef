"""Operations as such: made from a command, found again by it, and turned back into one.

Called by `order` when a command comes, and when an operation's turn has come (the route plan is asked for then).
"""

from typing import Final

from schemas import identifiers
from schemas.identifiers import OpId
from schemas.quick_init import replace
from schemas.records.claims import RoutePlan
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    PaymentToken,
    RefundRequested,
    VoidRequested,
    fingerprint_of,
    is_for_its_gateway_alone,
    kind_of,
)
from schemas.records.orders import OperationRow
from schemas.vocabulary import Initiator, OperationKind, OperationState
from streams.domain.inputs import CommandReceived
from streams.domain.turn import Turn

_WITHOUT_AMOUNT: Final = (VoidRequested, CompletionRequested)
_OWN_PLAN: Final = RoutePlan(policy_version=0, gateways=(), refusal=None)
"""Of what the engine does by itself: it goes where its payment is."""


def open_operation(received: CommandReceived, op_id: OpId, plan: RoutePlan | None, *, number: int) -> OperationRow:
    """Return the queued operation that this command asks for, its first waiter included; `number`: in its order."""
    command = received.command
    return OperationRow(
        op_id=op_id,
        kind=kind_of(command),
        initiator=Initiator.MERCHANT,
        state=OperationState.QUEUED,
        command_id=received.command_id,
        idempotency_key=command.idempotency_key,
        fingerprint=fingerprint_of(command),
        payment_id=(
            identifiers.payment_id(command.order_id, op_id)
            if isinstance(command, PaymentRequested)
            else command.payment_id
        ),
        asked_amount_minor=None if isinstance(command, _WITHOUT_AMOUNT) else command.amount_minor,
        asked_currency=None if isinstance(command, _WITHOUT_AMOUNT) else command.currency,
        amount_minor=0,
        counted_minor=0,
        words=(),
        token=command.token if isinstance(command, PaymentRequested) else None,
        tokens_for=(tuple(token.gateway for token in command.tokens) if isinstance(command, PaymentRequested) else ()),
        command_offset=received.offset if is_for_its_gateway_alone(command) else None,
        final=isinstance(command, CaptureRequested) and command.final,
        allow_partial=isinstance(command, PaymentRequested) and command.allow_partial,
        traceparent=received.traceparent,
        plan=plan,
        attempt=0,
        call_number=0,
        call_kind=None,
        called_at_ms=0,
        sent_until_ms=0,
        inquiries=0,
        doubted_op_id=None,
        gateway=None,
        gateway_reference=None,
        earlier_attempts=(),
        timer_number=0,
        timer_due_at_ms=None,
        error=None,
        rejection=None,
        action_url=None,
        action_expires_at_ms=None,
        waiters=() if received.reply_to is None else (received.reply_to,),
        events=(),
        first_requested_at_ms=0,
        requested_at_ms=received.now_ms,
        updated_at_ms=received.now_ms,
        number=number,
    )


def without_token(operation: OperationRow) -> OperationRow:
    """Return the operation of which no call needs a token any more, nor what else its command holds."""
    return replace(operation, token=None, command_offset=None)


def without_command(opening: OperationRow, *, now_ms: int) -> OperationRow:
    """Return the outline of an operation on the payment that `opening` opened, which nobody asked us for.

    It belongs to the payment's command, has no key of its own to claim, and nobody waits for it.
    """
    return replace(
        opening,
        token=None,
        command_offset=None,
        final=False,
        attempt=0,
        call_number=0,
        call_kind=None,
        called_at_ms=0,
        sent_until_ms=0,
        inquiries=0,
        doubted_op_id=None,
        counted_minor=0,
        words=(),
        gateway_reference=None,
        earlier_attempts=(),
        timer_number=0,
        timer_due_at_ms=None,
        error=None,
        rejection=None,
        action_url=None,
        action_expires_at_ms=None,
        waiters=(),
        events=(),
        first_requested_at_ms=0,
        requested_at_ms=now_ms,
        updated_at_ms=now_ms,
    )


def queue_own(turn: Turn, opening: OperationRow, kind: OperationKind, amount_minor: int, *, why: str) -> None:
    """Put an operation of the engine's own before all that wait. Twice is safe: its id follows from its reason."""
    body = identifiers.fingerprint(why, opening.op_id)
    op_id = identifiers.op_id(turn.origin_id, opening.idempotency_key, turn.order_id, body)
    if op_id in turn.operations:
        return
    own = replace(
        without_command(opening, now_ms=turn.now_ms),
        op_id=op_id,
        kind=kind,
        initiator=Initiator.ENGINE,
        state=OperationState.QUEUED,
        fingerprint=body,
        asked_amount_minor=amount_minor,
        plan=_OWN_PLAN,
        number=turn.next_number,
    )
    turn.put(own)
    turn.queue.insert(0, op_id)


def key_is_taken(turn: Turn, operation: OperationRow) -> bool:
    """Return whether an earlier operation of this order has the key with another body.

    That one claimed the key before this one ever could, or lost it to a third: either way this one cannot have it. So
    the answer depends on the order of the commands in the log alone, and needs no claim.
    """
    if any(
        each.idempotency_key == operation.idempotency_key
        and each.op_id != operation.op_id
        and each.initiator is Initiator.MERCHANT
        for each in turn.operations.values()
    ):
        return True
    # Only what merchants ask for leaves the row, and this one is in it.
    return turn.find_asked_under(operation.idempotency_key) is not None


def command_of(turn: Turn, operation: OperationRow) -> Command:
    """Return the command that asked for this operation, which was not dispatched yet, as far as a route plan needs it.

    Of tokens for each gateway it holds the gateways: the row knows no more, and no plan asks for more.
    """
    if operation.kind is OperationKind.VOID:
        return VoidRequested(
            origin_id=turn.origin_id,
            order_id=turn.order_id,
            idempotency_key=operation.idempotency_key,
            payment_id=operation.payment_id,
        )
    if operation.kind is OperationKind.COMPLETE:
        return CompletionRequested(
            origin_id=turn.origin_id,
            order_id=turn.order_id,
            idempotency_key=operation.idempotency_key,
            payment_id=operation.payment_id,
        )
    if operation.kind is OperationKind.CAPTURE:
        return CaptureRequested(
            origin_id=turn.origin_id,
            order_id=turn.order_id,
            idempotency_key=operation.idempotency_key,
            payment_id=operation.payment_id,
            amount_minor=operation.asked_amount_minor,
            currency=operation.asked_currency,
            final=operation.final,
        )
    if operation.kind is OperationKind.REFUND:
        return RefundRequested(
            origin_id=turn.origin_id,
            order_id=turn.order_id,
            idempotency_key=operation.idempotency_key,
            payment_id=operation.payment_id,
            amount_minor=operation.asked_amount_minor,
            currency=operation.asked_currency,
        )
    assert operation.asked_amount_minor is not None
    assert operation.asked_currency is not None
    return PaymentRequested(
        origin_id=turn.origin_id,
        order_id=turn.order_id,
        idempotency_key=operation.idempotency_key,
        amount_minor=operation.asked_amount_minor,
        currency=operation.asked_currency,
        token=operation.token,
        tokens=tuple(PaymentToken(gateway=gateway, kind="", value="") for gateway in operation.tokens_for),
        capture=operation.kind is OperationKind.SALE,
    )
