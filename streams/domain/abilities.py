"""What the account of a payment cannot do: refused before it is sent, with the reason.

Called by `admission`, once the sums allow the operation, and by `doubt` (can the gateway be asked?). What an account
can do its gateway tells (`gateway_adapters.contract.Capabilities`), and nothing is tried to find out. An account that
is not set up here is judged by whoever makes the call.

Where a hold can be captured from but once, the gateway lets the rest go with any capture, whatever was asked for. So a
part is captured there only by a capture that says itself that it is the final one.
"""

from typing import Final

from gateway_adapters.contract import Ability, Capabilities
from schemas import identifiers
from schemas.identifiers import OpId
from schemas.records.orders import OperationRow, PaymentRow
from schemas.vocabulary import CallKind, OperationKind, Rejection
from streams.domain.sums import OPEN
from streams.domain.turn import Turn

_TAKING: Final = frozenset({OperationKind.SALE, OperationKind.CAPTURE})


def why_unable(turn: Turn, operation: OperationRow, payment: PaymentRow, amount_minor: int) -> Rejection | None:
    """Return why this operation on the payment cannot be done at its gateway; None: it can, as far as is known here."""
    can = capabilities_of(turn, payment)
    if can is None:
        return None
    if CallKind(operation.kind.value) not in can.operations:
        return Rejection.OPERATION_UNSUPPORTED
    match operation.kind:
        case OperationKind.CAPTURE:
            return _why_no_capture(turn, operation, payment, amount_minor, can)
        case OperationKind.REFUND:
            return _why_no_refund(turn, operation, payment, amount_minor, can)
        case _:
            return None


def capabilities_of(turn: Turn, row: PaymentRow | OperationRow) -> Capabilities | None:
    """Return what can be done with the row's account at its gateway; None when it is not set up here."""
    assert row.gateway is not None, "its first attempt was begun together with it"
    return turn.rules.capabilities.get(identifiers.gateway_route(row.gateway, row.account))


def voids_unnamed(turn: Turn, payment: PaymentRow) -> bool:
    """Return whether a payment that its gateway has not named can be voided there, by our own reference."""
    can = capabilities_of(turn, payment)
    return can is not None and can.voids_by_own_reference


def capture_to_draw_on(turn: Turn, operation: OperationRow, payment: PaymentRow, amount_minor: int) -> OpId | None:
    """Return the capture, or sale, that a refund of so much draws from, where its gateway wants one named.

    The smallest that has enough left, so that larger refunds find theirs later. None: none has, or none is wanted.
    """
    can = capabilities_of(turn, payment)
    if operation.kind is not OperationKind.REFUND or can is None or not can.refunds_name_captures:
        return None
    ours = [each for each in turn.operations.values() if each.payment_id == payment.payment_id]
    left = {each.op_id: each.counted_minor for each in ours if each.kind in _TAKING and each.gateway_reference}
    for each in ours:
        if each.draws_on in left and each.op_id != operation.op_id:
            left[each.draws_on] -= each.amount_minor if each.state in OPEN else each.counted_minor
    for gone in turn.subtotals:
        if gone.payment_id == payment.payment_id and gone.draws_on in left:
            left[gone.draws_on] -= gone.refunded_minor
    fitting = [op_id for op_id, left_minor in left.items() if left_minor >= amount_minor]
    return min(fitting, key=lambda op_id: left[op_id], default=None)


def _why_no_capture(
    turn: Turn, operation: OperationRow, payment: PaymentRow, amount_minor: int, can: Capabilities
) -> Rejection | None:
    part = amount_minor < turn.books_of(payment).room_to_capture
    once = not can.can(Ability.MULTIPLE_CAPTURE, payment.currency)
    if once and (_has_others(turn, operation) or (part and not operation.final)):
        return Rejection.MULTIPLE_CAPTURE_UNSUPPORTED
    if part and not can.can(Ability.PARTIAL_CAPTURE, payment.currency):
        return Rejection.PARTIAL_CAPTURE_UNSUPPORTED
    return None


def _why_no_refund(
    turn: Turn, operation: OperationRow, payment: PaymentRow, amount_minor: int, can: Capabilities
) -> Rejection | None:
    if _has_others(turn, operation) and not can.can(Ability.MULTIPLE_REFUND, payment.currency):
        return Rejection.MULTIPLE_REFUND_UNSUPPORTED
    part = amount_minor < turn.books_of(payment).captured
    if part and not can.can(Ability.PARTIAL_REFUND, payment.currency):
        return Rejection.PARTIAL_REFUND_UNSUPPORTED
    if can.refunds_name_captures and capture_to_draw_on(turn, operation, payment, amount_minor) is None:
        return Rejection.REFUND_EXCEEDS_ONE_CAPTURE
    return None


def _has_others(turn: Turn, operation: OperationRow) -> bool:
    """Return whether another operation of the payment and of this kind counts for something, or may yet."""
    if operation.kind is OperationKind.REFUND and any(
        gone.payment_id == operation.payment_id and gone.counting for gone in turn.subtotals
    ):
        return True
    return any(
        each.payment_id == operation.payment_id
        and each.kind is operation.kind
        and each.op_id != operation.op_id
        and (each.state in OPEN or each.counted_minor > 0)
        for each in turn.operations.values()
    )
