"""What a payment amounts to: folds over its operations, and over the subtotals of those that have left the row.

Called by admission (may this operation go ahead?), by outcomes (is there a deficit?) and by views. An operation counts
for what its words come to. The amounts of open ones are taken until their last word is known.
"""

from collections.abc import Iterable
from typing import Final

from schemas.identifiers import PaymentId
from schemas.records.orders import OperationRow, PaymentRow, SubtotalRow
from schemas.records.payments import PaymentStanding
from schemas.vocabulary import Initiator, OperationKind, OperationState, Overlay, PaymentStatus
from streams.domain import words

OPENING: Final = frozenset({OperationKind.AUTHORIZE, OperationKind.SALE})
"""The kinds that open a payment."""

_TAKING: Final = frozenset({OperationKind.CAPTURE, OperationKind.SALE})

IN_DOUBT: Final = frozenset({OperationState.UNKNOWN, OperationState.MANUAL_REVIEW})
"""Nobody knows whether the gateway did it."""

UNSETTLED: Final = IN_DOUBT | {OperationState.PENDING, OperationState.REQUIRES_ACTION}
"""The order goes on, the operation's last word is still to come, its amount stays reserved."""

OPEN: Final = UNSETTLED | {OperationState.DISPATCHED}
"""The gateway may have done it, or may yet."""

UNANSWERED: Final = frozenset({OperationState.QUEUED, OperationState.CLAIMING, OperationState.DISPATCHED})
"""Who asked still waits for a word."""


class Books:
    """The sums of one payment, minor units of its currency. `of` is the one way to make them."""

    __slots__ = (
        "authorized",
        "captured",
        "capturing",
        "disputed",
        "expired",
        "finishing",
        "in_doubt",
        "in_review",
        "opening",
        "refunded",
        "refunding",
        "released",
        "voiding",
    )

    def __init__(self) -> None:
        self.authorized = 0
        self.captured = 0
        self.capturing = 0
        self.refunded = 0
        self.refunding = 0
        self.disputed = 0
        self.released = False  # voided, or the rest let go by a final capture, or the hold ran out
        self.expired = False
        self.voiding = False
        self.finishing = False  # a final capture is under way
        self.in_doubt = False
        self.in_review = False
        self.opening: OperationState | None = None

    @classmethod
    def of(
        cls, payment_id: PaymentId, operations: Iterable[OperationRow], subtotals: Iterable[SubtotalRow] = ()
    ) -> "Books":
        """Return what these operations make of the payment. Others' operations count for nothing.

        `subtotals`: of the operations that stand in rows of their own, refunds all of them or never carried out.
        """
        books = cls()
        for left in subtotals:
            if left.payment_id == payment_id:
                books.refunded += left.refunded_minor
        for each in operations:
            if each.payment_id == payment_id:
                if each.state in OPEN:
                    books._reserve(each)
                # A part that was approved and let go was never the payment's, nor is the engine's letting go of it. But
                # a payment may have succeeded while the engine let go of it, since its payer had not acted in time.
                elif each.words and (each.initiator is not Initiator.ENGINE or books.authorized > 0):
                    books._count(each)
                if each.kind in OPENING:
                    books.opening = each.state
        return books

    def _reserve(self, operation: OperationRow) -> None:
        if operation.state in IN_DOUBT:
            self.in_doubt = True
            self.in_review = self.in_review or operation.state is OperationState.MANUAL_REVIEW
        if operation.kind is OperationKind.CAPTURE:
            self.capturing += operation.amount_minor
            self.finishing = self.finishing or operation.final
        elif operation.kind is OperationKind.REFUND:
            self.refunding += operation.amount_minor
        elif operation.kind is OperationKind.VOID:
            self.voiding = True

    def _count(self, operation: OperationRow) -> None:
        counts = operation.counted_minor
        if operation.kind in OPENING:
            self.authorized += counts
            self.expired = self.expired or words.ran_out(operation.words)
            self.released = self.released or self.expired
        if operation.kind in _TAKING:
            self.captured += counts
            self.disputed += words.disputed(operation.words)
            self.released = self.released or (operation.final and counts > 0)
        elif operation.kind is OperationKind.REFUND:
            self.refunded += counts
        elif operation.kind is OperationKind.VOID:
            self.released = self.released or counts > 0

    @property
    def room_to_capture(self) -> int:
        """The minor units that a new capture may take; 0 once a final capture is under way or done."""
        if self.released or self.finishing:
            return 0
        return max(0, self.authorized - self.captured - self.capturing)

    @property
    def room_to_refund(self) -> int:
        """The minor units that a new refund may give back."""
        return max(0, self.captured - self.refunded - self.refunding)

    @property
    def in_deficit(self) -> bool:
        """Whether more was given back, or taken, than the gateway's words leave there: a person has to look."""
        return self.refunded > self.captured or self.captured > self.authorized

    @property
    def status(self) -> PaymentStatus:
        """The payment's status. What was captured counts though its hold was taken back: it can be refunded."""
        if self.authorized == 0 and self.captured == 0 and self.refunded == 0:
            return self._status_without_hold()
        closed = self.released or self.captured >= self.authorized
        if self.refunded > 0:
            # `refunded` is a last word: not while more can be captured, which would take it back.
            deficit = self.refunded > self.captured  # a refunded capture was taken back: a person looks
            whole = deficit or (closed and self.refunded == self.captured)
            return PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED
        if self.captured > 0:
            return PaymentStatus.CAPTURED if closed else PaymentStatus.PARTIALLY_CAPTURED
        if self.expired:
            return PaymentStatus.EXPIRED
        return PaymentStatus.VOIDED if self.released else PaymentStatus.AUTHORIZED

    def _status_without_hold(self) -> PaymentStatus:
        if self.opening is OperationState.REQUIRES_ACTION:
            return PaymentStatus.REQUIRES_ACTION
        if self.opening in OPEN:
            return PaymentStatus.AUTHORIZING
        return PaymentStatus.VOIDED if self.released else PaymentStatus.FAILED


def standing_of(
    payment: PaymentRow, operations: Iterable[OperationRow], subtotals: Iterable[SubtotalRow]
) -> PaymentStanding:
    """Return how the payment stands: the one shape in which events, answers and rows show it."""
    books = Books.of(payment.payment_id, operations, subtotals)
    overlays = [Overlay.IN_DOUBT] if books.in_doubt else []
    if payment.review or books.in_review:
        overlays.append(Overlay.REVIEW)
    if books.disputed:
        overlays.append(Overlay.DISPUTED)
    return PaymentStanding(
        status=books.status,
        overlays=tuple(overlays),
        authorized_minor=books.authorized,
        captured_minor=books.captured,
        refunded_minor=books.refunded,
        released_minor=max(0, books.authorized - books.captured) if books.released else 0,
        disputed_minor=books.disputed,
    )


def amount_counted(
    operation: OperationRow, confirmed_minor: int | None, currency: str | None, *, room_minor: int
) -> int:
    """Return the minor units that a success counts for: what the gateway confirms, within what is there.

    `room_minor` is the most that the sums leave beside this operation. More than that, another currency or nothing at
    all cannot be counted: `is_mismatched` flags it for a review, and the amount asked for, which was reserved, stands.
    """
    if operation.kind is OperationKind.VOID:
        return operation.amount_minor
    if confirmed_minor is None or confirmed_minor <= 0 or currency not in {None, operation.asked_currency}:
        return operation.amount_minor
    return min(confirmed_minor, max(operation.amount_minor, room_minor))


def is_mismatched(operation: OperationRow, confirmed_minor: int | None, currency: str | None) -> bool:
    """Return whether the gateway confirms another amount or currency than was asked for."""
    if operation.kind is OperationKind.VOID:
        return False  # gateways confirm anything from 0 to the whole amount
    wrong_amount = confirmed_minor is not None and confirmed_minor != operation.amount_minor
    return wrong_amount or currency not in {None, operation.asked_currency}


def is_part_of_payment(operation: OperationRow, confirmed_minor: int | None, currency: str | None) -> bool:
    """Return whether the gateway approved a part of what was to be paid."""
    told = confirmed_minor is not None and 0 < confirmed_minor < operation.amount_minor
    return operation.kind in OPENING and told and currency in {None, operation.asked_currency}
