"""What a payment amounts to: its status, and what is left to capture and to refund.

Called by admission (may this operation go ahead?), by outcomes (what did it change?) and by views. Everything follows
from the payment's sums and from its open operations, whose amounts count as taken until their last word is known.
"""

from collections.abc import Iterable
from typing import Final, assert_never

from schemas.identifiers import PaymentId
from schemas.records.orders import OperationRow, PaymentRow
from schemas.vocabulary import OperationKind, OperationState, Overlay, PaymentStatus
from streams.domain.rows import replace

OPENING: Final = frozenset({OperationKind.AUTHORIZE, OperationKind.SALE})
"""The kinds that open a payment."""

IN_DOUBT: Final = frozenset({OperationState.UNKNOWN, OperationState.MANUAL_REVIEW})
"""Nobody knows whether the gateway did it."""

UNSETTLED: Final = IN_DOUBT | {OperationState.PENDING, OperationState.REQUIRES_ACTION}
"""The order goes on, the operation's last word is still to come, its amount stays reserved."""

OPEN: Final = UNSETTLED | {OperationState.DISPATCHED}
"""The gateway may have done it, or may yet."""

UNANSWERED: Final = frozenset({OperationState.QUEUED, OperationState.CLAIMING, OperationState.DISPATCHED})
"""Who asked still waits for a word."""


def open_amount(operations: Iterable[OperationRow], payment: PaymentId, kind: OperationKind) -> int:
    """Return the minor units that open operations of this kind may still move on the payment."""
    return sum(
        each.amount_minor
        for each in operations
        if each.kind is kind and each.state in OPEN and each.payment_id == payment
    )


def room_to_capture(payment: PaymentRow, operations: Iterable[OperationRow]) -> int:
    """Return the minor units that a new capture may take; 0 once a final capture is under way or done."""
    captures = [
        each
        for each in operations
        if each.kind is OperationKind.CAPTURE and each.state in OPEN and each.payment_id == payment.payment_id
    ]
    if payment.released or any(each.final for each in captures):
        return 0
    taken = payment.captured_minor + sum(each.amount_minor for each in captures)
    return max(0, payment.authorized_minor - taken)


def room_to_refund(payment: PaymentRow, operations: Iterable[OperationRow]) -> int:
    """Return the minor units that a new refund may give back."""
    refunding = open_amount(operations, payment.payment_id, OperationKind.REFUND)
    return max(0, payment.captured_minor - payment.refunded_minor - refunding)


def counted(operation: OperationRow, confirmed_minor: int | None, currency: str | None, *, room_minor: int) -> int:
    """Return the minor units that a success counts for in the sums: what the gateway confirms, within what is there.

    `room_minor` is the most that the sums leave beside this operation. More than that, another currency or nothing at
    all cannot be counted: `mismatched` flags it for a review, and the amount asked for, which was reserved, stands.
    """
    if confirmed_minor is None or confirmed_minor <= 0 or currency not in {None, operation.asked_currency}:
        return operation.amount_minor
    return min(confirmed_minor, max(operation.amount_minor, room_minor))


def mismatched(operation: OperationRow, confirmed_minor: int | None, currency: str | None) -> bool:
    """Return whether the gateway confirms another amount or currency than was asked for."""
    if operation.kind is OperationKind.VOID:
        return False  # gateways confirm anything from 0 to the whole amount
    wrong_amount = confirmed_minor is not None and confirmed_minor != operation.amount_minor
    return wrong_amount or currency not in {None, operation.asked_currency}


def with_success(payment: PaymentRow, operation: OperationRow, *, now_ms: int) -> PaymentRow:
    """Return the payment after this operation's success; `operation.amount_minor` is what counts."""
    amount = operation.amount_minor
    match operation.kind:
        case OperationKind.AUTHORIZE:
            return replace(payment, authorized_minor=amount, updated_at_ms=now_ms)
        case OperationKind.SALE:
            return replace(payment, authorized_minor=amount, captured_minor=amount, updated_at_ms=now_ms)
        case OperationKind.CAPTURE:
            captured = payment.captured_minor + amount
            released = payment.released or operation.final
            review = payment.review or captured > payment.authorized_minor  # the authorization was reversed meanwhile
            return replace(payment, captured_minor=captured, released=released, review=review, updated_at_ms=now_ms)
        case OperationKind.VOID:
            return replace(payment, released=True, updated_at_ms=now_ms)
        case OperationKind.REFUND:
            refunded = payment.refunded_minor + amount
            review = payment.review or refunded > payment.captured_minor  # the capture was reversed meanwhile
            return replace(payment, refunded_minor=refunded, review=review, updated_at_ms=now_ms)
        case _:
            assert_never(operation.kind)


def with_reversal(payment: PaymentRow, operation: OperationRow, *, now_ms: int) -> PaymentRow:
    """Return the payment after this operation's success was taken back.

    What was built on it stands (a refund of a reversed capture): facts are facts, so a deficit asks for a person.
    """
    amount = operation.amount_minor
    authorized, captured, refunded = payment.authorized_minor, payment.captured_minor, payment.refunded_minor
    released = payment.released
    match operation.kind:
        case OperationKind.AUTHORIZE:
            authorized -= amount
        case OperationKind.SALE:
            authorized -= amount
            captured -= amount
        case OperationKind.CAPTURE:
            captured -= amount
        case OperationKind.VOID:
            released = False
        case OperationKind.REFUND:
            refunded -= amount
        case _:
            assert_never(operation.kind)
    return replace(
        payment,
        authorized_minor=authorized,
        captured_minor=captured,
        refunded_minor=refunded,
        released=released,
        review=payment.review or refunded > captured or captured > authorized,
        updated_at_ms=now_ms,
    )


def status_of(payment: PaymentRow, opening: OperationRow) -> PaymentStatus:
    """Return the payment's status. `opening` is the authorize or sale that it began with.

    What was captured counts though its hold was taken back: it is there to be refunded.
    """
    if payment.authorized_minor == 0 and payment.captured_minor == 0:
        return _status_without_hold(opening.state)
    closed = payment.released or payment.expired or payment.captured_minor >= payment.authorized_minor
    if payment.refunded_minor > 0:
        # `refunded` is a last word: not while more can be captured, which would take it back.
        deficit = payment.refunded_minor > payment.captured_minor  # a refunded capture was taken back: a person looks
        whole = deficit or (closed and payment.refunded_minor == payment.captured_minor)
        return PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED
    if payment.captured_minor > 0:
        return PaymentStatus.CAPTURED if closed else PaymentStatus.PARTIALLY_CAPTURED
    if payment.expired:
        return PaymentStatus.EXPIRED
    return PaymentStatus.VOIDED if payment.released else PaymentStatus.AUTHORIZED


def _status_without_hold(opening: OperationState) -> PaymentStatus:
    if opening is OperationState.REQUIRES_ACTION:
        return PaymentStatus.REQUIRES_ACTION
    return PaymentStatus.AUTHORIZING if opening in OPEN else PaymentStatus.FAILED


def overlays_of(payment: PaymentRow, operations: Iterable[OperationRow]) -> tuple[Overlay, ...]:
    """Return what lies over the status."""
    states = {each.state for each in operations if each.payment_id == payment.payment_id and each.state in IN_DOUBT}
    overlays = [Overlay.IN_DOUBT] if states else []
    if payment.review or OperationState.MANUAL_REVIEW in states:
        overlays.append(Overlay.REVIEW)
    if payment.disputed:
        overlays.append(Overlay.DISPUTED)
    return tuple(overlays)
