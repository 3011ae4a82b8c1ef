"""An engine in memory, for tests of the ingress: it takes appended records and replies through the real codec.

It keeps the rules that HTTP shows (keys, sums, states) in the simplest form. What a payment comes to is in its token:
`tok_declined`, `tok_unknown`, `tok_pending`, `tok_action`, `tok_unavailable`, `tok_silent` (no reply ever), `tok_slow`
(accepted; final when the test says so); any other succeeds.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from http_ingress.command_log import Appendable, LogUnavailableError
from schemas import identifiers
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId
from schemas.messages import Envelope, Headers, MessageCodec
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    kind_of,
    op_id_of,
)
from schemas.records.gateway import OperationError, WebhookReceived
from schemas.records.payments import OperationReplied, OperationView, PaymentQueried, PaymentView
from schemas.vocabulary import (
    DeclineClass,
    Initiator,
    OperationKind,
    OperationState,
    Overlay,
    PaymentStatus,
    Rejection,
    RetryAdvice,
)

NOW_MS = 1_764_000_000_123

_OUTCOMES = {
    "tok_declined": OperationState.DECLINED,
    "tok_unknown": OperationState.UNKNOWN,
    "tok_pending": OperationState.PENDING,
    "tok_action": OperationState.REQUIRES_ACTION,
    "tok_mock_completion_required": OperationState.REQUIRES_ACTION,
    "tok_unavailable": OperationState.NOT_EXECUTED,
    "tok_review": OperationState.MANUAL_REVIEW,
    "tok_reversed": OperationState.REVERSED,
}


def error(code: str, *, decline: DeclineClass | None = None, retry_after_ms: int | None = None) -> OperationError:
    """An operation's error."""
    return OperationError(
        code=code,
        decline_class=decline,
        gateway_code="51",
        message=f"the gateway said {code}",
        advice=None,
        retry=RetryAdvice.NEW_KEY_LATER,
        retry_after_ms=retry_after_ms,
    )


_ERRORS = {
    OperationState.DECLINED: error("insufficient_funds", decline=DeclineClass.SOFT),
    OperationState.NOT_EXECUTED: error("gateway_unreachable", retry_after_ms=1_500),
    OperationState.REVERSED: error("late_failure"),
}


@dataclass(slots=True, kw_only=True)
class _Payment:
    view: PaymentView
    operations: list[OpId] = field(default_factory=list)


Delivered = tuple[bytes | None, Headers]


class FakeEngine:
    """A `CommandLog` and a `ReplyFeed` in one."""

    def __init__(self, codec: MessageCodec) -> None:
        self.codec = codec
        self.appended: list[tuple[Appendable, Envelope]] = []
        self.fault: Exception | None = None  # raised by every append while set
        self.silent = False
        self.something_appended = asyncio.Event()
        self._replies: asyncio.Queue[Delivered] = asyncio.Queue()
        self._keys: dict[tuple[OriginId, IdempotencyKey], tuple[OpId, OrderId]] = {}
        self._operations: dict[OpId, OperationView] = {}
        self._payments: dict[tuple[OriginId, OrderId], _Payment] = {}
        self._held: list[OperationReplied] = []

    # What the ingress sees.

    async def append(self, record: Appendable, envelope: Envelope) -> None:
        """Take a record."""
        if self.fault is not None:
            raise self.fault
        self.codec.encode(record, envelope)  # what cannot be encoded would fail in reality too
        self.appended.append((record, envelope))
        self.something_appended.set()
        match record:
            case WebhookReceived():
                return
            case PaymentQueried():
                self.reply(self._answer_query(record))
            case PaymentRequested() | CaptureRequested() | VoidRequested() | RefundRequested() | CompletionRequested():
                self._take(record, envelope.id)
            case _:
                assert_never(record)

    async def open(self) -> None:
        """Nothing to open."""

    async def read(self) -> Sequence[Delivered]:
        """Return the next replies."""
        return [await self._replies.get()]

    async def close(self) -> None:
        """Nothing to close."""

    # What the tests say.

    def break_log(self, *, may_be_written: bool = False) -> None:
        """Let every append fail."""
        self.fault = LogUnavailableError("the broker is gone", retry_after_s=2, may_be_written=may_be_written)

    def release_held(self) -> None:
        """Send the final replies of slow operations."""
        for reply in self._held:
            self.reply(reply)
        self._held.clear()

    def taken_replies(self) -> list[Delivered]:
        """Return the replies that nobody has read, and forget them."""
        return [self._replies.get_nowait() for _ in range(self._replies.qsize())]

    def reply(self, reply: OperationReplied) -> None:
        """Put a reply on the feed, encoded."""
        if self.silent:
            return
        envelope = Envelope(
            id=identifiers.event_id(reply.request_id, "final" if reply.final else "accepted"),
            source="fake",
            type=TYPES[OperationReplied],
            subject=reply.request_id,
            time_ms=NOW_MS,
        )
        message = self.codec.encode(reply, envelope)
        self._replies.put_nowait((message.value, message.headers))

    # The rules.

    def _take(self, command: Command, request_id: str) -> None:
        op = op_id_of(command)
        held_op, _ = self._keys.setdefault((command.origin_id, command.idempotency_key), (op, command.order_id))
        if held_op != op:
            view = self._view(command, OperationState.CONFLICT, rejection=Rejection.IDEMPOTENCY_KEY_REUSED)
            self.reply(self._replied(command, request_id, view, final=True, replayed=False))
            return
        replayed = op in self._operations
        if not replayed:
            self._operations[op] = self._decide(command)
        view = self._operations[op]
        token = command.token if isinstance(command, PaymentRequested) else ""
        if token == "tok_silent":
            return
        final = self._replied(command, request_id, view, final=True, replayed=replayed)
        if not replayed and view.state not in (OperationState.REJECTED, OperationState.CONFLICT):
            accepted = dataclasses.replace(view, state=OperationState.DISPATCHED, error=None, action_url=None)
            self.reply(self._replied(command, request_id, accepted, final=False, replayed=False))
        if token == "tok_slow":
            self._held.append(final)
            return
        self.reply(final)

    def _decide(self, command: Command) -> OperationView:
        if isinstance(command, PaymentRequested):
            return self._pay(command)
        payment = self._payments.get((command.origin_id, command.order_id))
        if payment is None or payment.view.payment_id != command.payment_id:
            return self._view(command, OperationState.REJECTED, rejection=Rejection.PAYMENT_NOT_FOUND)
        if isinstance(command, CompletionRequested):
            return self._complete(command, payment)
        return self._change(command, payment)

    def _complete(self, command: CompletionRequested, payment: _Payment) -> OperationView:
        opening = self._operations[payment.operations[0]]
        if opening.state is not OperationState.REQUIRES_ACTION:
            return self._view(command, OperationState.REJECTED, rejection=Rejection.INVALID_STATE)
        view = payment.view
        self._operations[opening.op_id] = dataclasses.replace(opening, state=OperationState.SUCCEEDED, action_url=None)
        payment.view = dataclasses.replace(view, status=PaymentStatus.AUTHORIZED, authorized_minor=view.amount_minor)
        return self._view(command, OperationState.SUCCEEDED, amount_minor=view.amount_minor, currency=view.currency)

    def _pay(self, command: PaymentRequested) -> OperationView:
        place = (command.origin_id, command.order_id)
        if place in self._payments and self._payments[place].view.status is not PaymentStatus.FAILED:
            return self._view(command, OperationState.REJECTED, rejection=Rejection.PAYMENT_ALREADY_EXISTS)
        state = _OUTCOMES.get(command.token or "", OperationState.SUCCEEDED)
        view = self._view(command, state, amount_minor=command.amount_minor, currency=command.currency)
        held = command.amount_minor if state is OperationState.SUCCEEDED else 0
        status = PaymentStatus.AUTHORIZING
        if state in (OperationState.DECLINED, OperationState.NOT_EXECUTED, OperationState.REVERSED):
            status = PaymentStatus.FAILED
        if held:
            status = PaymentStatus.CAPTURED if command.capture else PaymentStatus.AUTHORIZED
        payment = PaymentView(
            payment_id=identifiers.payment_id(command.order_id, view.op_id),
            origin_id=command.origin_id,
            order_id=command.order_id,
            status=status,
            overlays=(Overlay.IN_DOUBT,) if state is OperationState.UNKNOWN else (),
            amount_minor=command.amount_minor,
            currency=command.currency,
            authorized_minor=held,
            captured_minor=held if command.capture else 0,
            refunded_minor=0,
            released_minor=0,
            disputed_minor=0,
            created_at_ms=NOW_MS,
            updated_at_ms=NOW_MS,
        )
        self._payments[place] = _Payment(view=payment, operations=[view.op_id])
        return view

    def _change(self, command: CaptureRequested | VoidRequested | RefundRequested, payment: _Payment) -> OperationView:
        view = payment.view
        asked = None if isinstance(command, VoidRequested) else command.amount_minor
        currency = view.currency if isinstance(command, VoidRequested) else (command.currency or view.currency)
        left = {
            OperationKind.CAPTURE: view.authorized_minor - view.captured_minor,
            OperationKind.REFUND: view.captured_minor - view.refunded_minor,
        }.get(kind_of(command), view.authorized_minor)
        amount = asked if asked is not None else left
        rejection = self._rejection(command, payment, amount=amount, left=left, currency=currency)
        if rejection is not None:
            return self._view(command, OperationState.REJECTED, rejection=rejection)
        match command:
            case CaptureRequested():
                captured = view.captured_minor + amount
                payment.view = dataclasses.replace(view, captured_minor=captured, status=PaymentStatus.CAPTURED)
            case VoidRequested():
                payment.view = dataclasses.replace(view, authorized_minor=0, status=PaymentStatus.VOIDED)
            case RefundRequested():
                refunded = view.refunded_minor + amount
                payment.view = dataclasses.replace(view, refunded_minor=refunded, status=PaymentStatus.REFUNDED)
        done = self._view(command, OperationState.SUCCEEDED, amount_minor=amount, currency=view.currency)
        payment.operations.append(done.op_id)
        return done

    def _rejection(
        self, command: Command, payment: _Payment, *, amount: int, left: int, currency: str
    ) -> Rejection | None:
        view = payment.view
        captured = isinstance(command, VoidRequested) and view.captured_minor > 0
        rules = (
            (currency != view.currency, Rejection.CURRENCY_MISMATCH),
            (Overlay.IN_DOUBT in view.overlays, Rejection.PAYMENT_IN_DOUBT),
            (captured or left <= 0, Rejection.INVALID_STATE),
            (amount > left and isinstance(command, CaptureRequested), Rejection.AMOUNT_EXCEEDS_AUTHORIZED),
            (amount > left and isinstance(command, RefundRequested), Rejection.AMOUNT_EXCEEDS_CAPTURED),
        )
        return next((rejection for broken, rejection in rules if broken), None)

    def _view(
        self,
        command: Command,
        state: OperationState,
        *,
        amount_minor: int = 0,
        currency: str = "USD",
        rejection: Rejection | None = None,
    ) -> OperationView:
        op = op_id_of(command)
        is_refund = isinstance(command, RefundRequested)
        return OperationView(
            op_id=op,
            kind=kind_of(command),
            initiator=Initiator.MERCHANT,
            state=state,
            idempotency_key=command.idempotency_key,
            amount_minor=amount_minor,
            counted_minor=0,
            currency=currency,
            refund_id=identifiers.refund_id(command.order_id, op) if is_refund else None,
            gateway=None,
            gateway_reference="gw_1" if state is OperationState.SUCCEEDED else None,
            attempts=1,
            error=_ERRORS.get(state),
            rejection=rejection,
            action_url="https://bank.example/3ds" if state is OperationState.REQUIRES_ACTION else None,
            requested_at_ms=NOW_MS,
            updated_at_ms=NOW_MS,
        )

    def _replied(
        self, command: Command, request_id: str, view: OperationView, *, final: bool, replayed: bool
    ) -> OperationReplied:
        payment = self._payments.get((command.origin_id, command.order_id))
        return OperationReplied(
            request_id=request_id,
            origin_id=command.origin_id,
            order_id=command.order_id,
            final=final,
            found=True,
            replayed=replayed,
            operation=view,
            payment=payment.view if payment is not None else None,
            operations=(),
            replied_at_ms=NOW_MS,
        )

    def _answer_query(self, query: PaymentQueried) -> OperationReplied:
        payment = self._payments.get((query.origin_id, query.order_id))
        life = tuple(self._operations[op] for op in payment.operations) if payment is not None else ()
        about = next((each for each in life if query.refund_id is not None and each.refund_id == query.refund_id), None)
        found = payment is not None and (
            payment.view.payment_id == query.payment_id if query.payment_id is not None else about is not None
        )
        return OperationReplied(
            request_id=query.request_id,
            origin_id=query.origin_id,
            order_id=query.order_id,
            final=True,
            found=found,
            replayed=False,
            operation=about if found else None,
            payment=payment.view if found and payment is not None else None,
            operations=life if found and query.payment_id is not None else (),
            replied_at_ms=NOW_MS,
        )
