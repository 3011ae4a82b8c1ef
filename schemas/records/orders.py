"""The order row: the state of one order and, being also its outbox, all it still owes (DESIGN.md, "The order row").

Kept in the orders table and its changelog. Only `streams/domain` makes or changes one.
"""

from dataclasses import dataclass

from schemas.identifiers import (
    DEFAULT_ACCOUNT,
    AccountName,
    Fingerprint,
    GatewayName,
    IdempotencyKey,
    OpId,
    OrderId,
    OriginId,
    PaymentId,
)
from schemas.quick_init import quick_init
from schemas.records.claims import RoutePlan
from schemas.records.decisions import DecisionView
from schemas.records.gateway import OperationError
from schemas.records.payments import PaymentStanding, ReplyTo
from schemas.vocabulary import CallKind, Initiator, OperationKind, OperationState, Outcome, Rejection

__all__ = [
    "ApartRow",
    "AttemptRow",
    "EventRow",
    "OperationRow",
    "OrderRow",
    "PaymentRow",
    "PaymentStanding",
    "ReplyTo",
    "SubtotalRow",
    "UnclaimedRow",
    "WordRow",
]


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class WordRow:
    """What was said about an operation's money after the gateway had carried it out: one of the words it is judged by.

    The words of an operation stand in the order in which they came; what they come to follows from their times
    (`streams.domain.words`).
    """

    outcome: Outcome  # SUCCEEDED, REVERSED, EXPIRED, or of a dispute
    amount_minor: int  # of a success: what it counts for from then on; else what is taken back or disputed
    case: str | None  # of what is taken back or disputed: the same in each word about it
    occurred_at_ms: int  # by the gateway's own clock; 0 of an answer that names no time: all else came after it
    by_desk: bool = False  # a person's: from then on it counts for so much


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """An earlier attempt of an operation, by which a late word about it is recognised."""

    attempt: int
    gateway: GatewayName
    account: AccountName
    gateway_reference: str | None
    declined: bool = False  # so it is not made again there


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A public fact as it was when it happened: enough to publish it again, byte for byte, after a crash."""

    transition: str  # a `schemas.event_types.Transition`
    number: int  # from 1, of the facts of this name in the operation's life: the event id is derived from both
    sequence: int
    state: OperationState
    attempt: int
    gateway: GatewayName | None
    gateway_reference: str | None
    error: OperationError | None
    action_url: str | None
    amount_minor: int
    counted_minor: int
    standing: PaymentStanding | None  # None: there was no payment
    occurred_at_ms: int
    decision: DecisionView | None = None  # a person's, that the fact tells of


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRow:
    """One operation of the order, from its command to its last word."""

    op_id: OpId
    kind: OperationKind
    initiator: Initiator
    state: OperationState
    command_id: str  # of the first command: event ids are derived from it
    idempotency_key: IdempotencyKey
    fingerprint: Fingerprint
    payment_id: PaymentId  # named by the command; of an authorize or sale: the one it opens
    asked_amount_minor: int | None  # None: all that is left
    asked_currency: str | None  # None: the payment's; filled in when it is dispatched
    amount_minor: int  # as dispatched; 0 before
    counted_minor: int  # what it counts for in the payment's sums now, by its words
    words: tuple[WordRow, ...]  # as they came
    token: str | None  # authorize and sale, only while a call may still need it
    tokens_for: tuple[GatewayName, ...]  # what it brings a token for, each; the tokens stand in the command
    command_offset: int | None  # of a command that says what only its gateway may know, while a call may need it
    final: bool
    allow_partial: bool  # of an authorize or sale: a part of the amount may be approved
    traceparent: str | None
    plan: RoutePlan | None  # pinned by the verdict; before it, the plan of the claim as first sent
    attempt: int  # 0 before the first
    call_number: int  # of the last call, inquiries included; 0 before the first
    call_kind: CallKind | None  # of the call whose result is awaited; None: none is owed
    called_at_ms: int  # when that call was asked for
    sent_until_ms: int  # when the attempt's last call but inquiries was answered: no copy was sent later; 0: none was
    inquiries: int  # scheduled looks made so far, inquiries and resends
    doubted_op_id: OpId | None  # the operation in doubt that this one had, or has, to wait for
    gateway: GatewayName | None
    gateway_reference: str | None
    earlier_attempts: tuple[AttemptRow, ...]
    timer_number: int  # of the last timer asked for
    timer_due_at_ms: int | None
    error: OperationError | None
    rejection: Rejection | None
    action_url: str | None
    action_expires_at_ms: int | None  # while the payer has to act: from then on it is ended
    waiters: tuple[ReplyTo, ...]  # who asked before it was settled; kept, since a replay answers again
    events: tuple[EventRow, ...]  # oldest first; owed again on a replay
    first_requested_at_ms: int  # of the current attempt
    requested_at_ms: int
    updated_at_ms: int
    account: AccountName = DEFAULT_ACCOUNT  # at the gateway: pinned by the plan, as the gateway is
    draws_on: OpId | None = None  # of a refund whose gateway wants one named: the capture that it draws from
    answer_stored: bool = False  # an answer that leaves it in doubt stands under its key: no resend
    number: int = 0  # its place in the order's life, from 1; it stays when the operation leaves the row, or comes back


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class UnclaimedRow:
    """A gateway's word of which nobody can tell yet whose it is: an operation's, or of what its own desk made."""

    kind: OperationKind
    outcome: Outcome  # SUCCEEDED, or a later word
    gateway_reference: str
    amount_minor: int | None  # None: of a later word that does not say how much; it is all of it
    case: str | None
    occurred_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRow:
    """The payment that the order's authorize or sale opened. Its sums follow from its operations (`domain.sums`)."""

    payment_id: PaymentId
    op_id: OpId  # of the authorize or sale
    amount_minor: int
    currency: str
    gateway: GatewayName | None
    gateway_reference: str | None
    review: bool  # a person is asked for, and has not closed it yet
    unclaimed: tuple[UnclaimedRow, ...]
    created_at_ms: int
    updated_at_ms: int
    order_reference: str | None = None  # the gateway's id of the order that the payment stands in, where it has one
    account: AccountName = DEFAULT_ACCOUNT  # at the gateway; captures, voids and refunds go to it


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class SubtotalRow:
    """What those operations come to that have left the row for rows of their own: of one payment, and of one capture.

    Each operation adds the same to it that the folds over the row would have made of it (`domain.subtotals`).
    """

    payment_id: PaymentId  # as the operations name it; the order may have no such payment
    draws_on: OpId | None  # the capture that the refunds draw from, where their gateway wants one named
    refunded_minor: int
    operations: int  # how many
    counting: int  # of these, how many count for something
    kept_chars: int  # what they are counted as in the room that an order has (`domain.room`)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """One order of one origin."""

    origin_id: OriginId
    order_id: OrderId
    version: int  # rises with every change
    sequence: int  # of the last event
    active_op_id: OpId | None
    queue: tuple[OpId, ...]
    payments: tuple[PaymentRow, ...]  # oldest first; a failed payment may be followed by another
    operations: tuple[OperationRow, ...]  # oldest first; without those that stand in rows of their own
    created_at_ms: int  # also tells this life of the order from a later one
    updated_at_ms: int
    rules_version: int = 0  # of the rules that decided it last
    subtotals: tuple[SubtotalRow, ...] = ()  # of the operations that stand in rows of their own


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ApartRow:
    """A row beside the order's: an operation that has left it, or what such an operation is found by.

    While the order's row has the operation too, the order's row is the truth.
    """

    number: int  # the operation's
    operation: OperationRow | None  # None: only a name that leads to the number
