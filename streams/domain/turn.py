"""One input's work on one order: the workbench that the modules of this package share.

`order.decide` lays a row on it, the others read and change operations and payments and say things, and `decision` gives
back the new row and all that was said. Why a mutable bench inside a pure function: rows are frozen, and a decision
changes several operations in turn; nothing of the bench outlives the call.
"""

from collections.abc import Callable
from dataclasses import dataclass

from schemas import identifiers
from schemas.event_types import Transition
from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId, PaymentId
from schemas.quick_init import quick_init, replace
from schemas.records.claims import RoutePlan
from schemas.records.commands import Command
from schemas.records.decisions import DecisionView
from schemas.records.orders import EventRow, OperationRow, OrderRow, PaymentRow
from schemas.records.payments import OperationReplied, PaymentStanding, ReplyTo
from schemas.records.timers import OpenTimer
from schemas.vocabulary import OperationState, TimerKind
from streams.domain import subtotals, views
from streams.domain.apart import Apart, Load, Reference
from streams.domain.errors import InvariantViolatedError
from streams.domain.limits import RULES_VERSION, Rules
from streams.domain.outputs import ClearTimer, Output, Publish, Reply, SetTimer
from streams.domain.sums import UNANSWERED, Books, standing_of

PlanFor = Callable[[Command], RoutePlan]
"""The routing policy as it is now: asked once an operation, before its claim is first sent."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What came of one input.

    `row` is the row to keep; None when there is none: it never was, or it leaves the table (write a tombstone). On a
    possible replay it is written again even if it is the same. `outputs` leave, in their order, once it is durable.
    `loaded`: the operations that came out of rows of their own for this decision, as they were there.
    """

    row: OrderRow | None
    outputs: tuple[Output, ...]
    loaded: tuple[OperationRow, ...] = ()


class Turn:
    """The order under change. Reads are of the state as changed so far."""

    __slots__ = (
        "_apart",
        "_loaded",
        "_numbered",
        "_payments",
        "_row",
        "_sequence",
        "_standings",
        "_touched",
        "active_op_id",
        "now_ms",
        "operations",
        "order_id",
        "origin_id",
        "outputs",
        "plan_for",
        "queue",
        "rules",
        "subtotals",
        "told_decision",
    )

    def __init__(
        self,
        row: OrderRow | None,
        *,
        origin_id: OriginId,
        order_id: OrderId,
        now_ms: int,
        plan_for: PlanFor,
        rules: Rules,
        load: Load,
    ) -> None:
        self._row = row
        self._apart = Apart(row, load)
        self._loaded: dict[OpId, OperationRow] = {}
        self._numbered = 0 if row is None else subtotals.operations_of(row)
        self._touched = False
        self._sequence = 0 if row is None else row.sequence
        self._payments = [] if row is None else list(row.payments)
        self.origin_id = origin_id
        self.order_id = order_id
        self.now_ms = now_ms
        self.plan_for = plan_for
        self.rules = rules
        self.active_op_id = None if row is None else row.active_op_id
        self.queue: list[OpId] = [] if row is None else list(row.queue)
        self.operations: dict[OpId, OperationRow] = {} if row is None else {op.op_id: op for op in row.operations}
        self.subtotals = () if row is None else row.subtotals
        self.outputs: list[Output] = []
        self._standings: dict[PaymentId, PaymentStanding] = {}
        """As long as nothing changes that they follow from: a fact shows the same as the answer that goes with it."""
        self.told_decision: DecisionView | None = None
        """A person's decision while it is carried out: each fact that is published then tells of it."""

    @property
    def row(self) -> OrderRow | None:
        """The order as it was before this input."""
        return self._row

    @property
    def load(self) -> Load:
        """What stands beside the order's row."""
        return self._apart.load

    @property
    def next_number(self) -> int:
        """The number of the operation that is put next and was not there before."""
        return self._numbered + 1

    def put(self, operation: OperationRow) -> OperationRow:
        """Keep this version of the operation, and return it; a new one has the next number."""
        if operation.op_id not in self.operations:
            self._numbered += 1
            assert operation.number == self._numbered
        self.operations[operation.op_id] = operation
        self._touched = True
        self._standings.clear()
        return operation

    # Operations in rows of their own. One that an input is about is among `operations` from then on, at its place, and
    # the subtotals are without it. It goes back when nothing of it has changed; else it stays, until it leaves again.

    def find(self, op_id: OpId) -> OperationRow | None:
        """Return the order's operation of this id, out of its own row if it stands there."""
        return self.operations.get(op_id) or self._joined(self._apart.by_op(op_id))

    def find_asked_under(self, key: IdempotencyKey) -> OperationRow | None:
        """Return an operation that was asked for under this key and stands in a row of its own."""
        return self._apart.by_key(key)

    def fetch_known_as(self, reference: Reference) -> None:
        """Have the operation here that a gateway knows so, if it stands in a row of its own."""
        self._joined(self._apart.by_reference(reference))

    def fetch_all(self) -> None:
        """Have all operations of the order here: for what no subtotal tells, and is asked rarely."""
        for operation in self._apart.all():
            self._joined(operation)

    def _joined(self, operation: OperationRow | None) -> OperationRow | None:
        if operation is None or operation.op_id in self.operations:
            return operation
        self._loaded[operation.op_id] = operation
        self._standings.clear()
        self.subtotals = subtotals.without_operation(self.subtotals, operation)
        known = (*self.operations.values(), operation)
        self.operations = {each.op_id: each for each in sorted(known, key=lambda each: each.number)}
        return operation

    def leave(self, operation: OperationRow) -> None:
        """Let the operation go from the row: it stands, as it is now, in a row of its own."""
        del self.operations[operation.op_id]
        self.subtotals = subtotals.with_operation(self.subtotals, operation)
        self._touched = True
        self._standings.clear()

    def _put_back(self) -> None:
        for op_id, loaded in self._loaded.items():
            if self.operations[op_id] == loaded:
                del self.operations[op_id]
                self.subtotals = subtotals.with_operation(self.subtotals, loaded)

    def put_payment(self, payment: PaymentRow) -> None:
        """Keep this version of the payment, or open it."""
        self._touched = True
        self._standings.clear()
        for index, known in enumerate(self._payments):
            if known.payment_id == payment.payment_id:
                self._payments[index] = payment
                return
        self._payments.append(payment)

    @property
    def payments(self) -> tuple[PaymentRow, ...]:
        """The order's payments, oldest first."""
        return tuple(self._payments)

    def payment(self, payment_id: PaymentId) -> PaymentRow | None:
        """Return the payment, if the order has it."""
        for payment in self._payments:
            if payment.payment_id == payment_id:
                return payment
        return None

    def payment_of(self, operation: OperationRow) -> PaymentRow:
        """Return the payment of an operation that was dispatched. Raises: InvariantViolatedError when it has none."""
        payment = self.payment(operation.payment_id)
        if payment is None:
            raise InvariantViolatedError(f"{operation.op_id} was dispatched without a payment")
        return payment

    def books_of(self, payment: PaymentRow) -> Books:
        """Return the payment's sums as they are now."""
        return Books.of(payment.payment_id, self.operations.values(), self.subtotals)

    def ask_review(self, payment: PaymentRow) -> None:
        """Ask for a person to look at the payment. Asking again changes nothing."""
        now = self.payment(payment.payment_id) or payment
        if not now.review:
            self.put_payment(replace(now, review=True, updated_at_ms=self.now_ms))

    # Timers: at most one an operation, numbered, so that an older one that fires late means nothing.

    def set_timer(self, operation: OperationRow, *, after_ms: int) -> OperationRow:
        """Ask to be woken in so many milliseconds, instead of at any earlier wish; return the operation."""
        due_at_ms = self.now_ms + after_ms
        operation = self.put(replace(operation, timer_number=operation.timer_number + 1, timer_due_at_ms=due_at_ms))
        self.say_timer(operation)
        return operation

    def clear_timer(self, operation: OperationRow) -> OperationRow:
        """Forget the operation's timer, if there is one; return the operation."""
        if operation.timer_due_at_ms is None:
            return operation
        operation = self.put(replace(operation, timer_due_at_ms=None))
        self.say_timer(operation)
        return operation

    def say_timer(self, operation: OperationRow) -> None:
        """Say what the operation's timer is now; one that never had a timer says nothing. Twice is safe."""
        if operation.timer_due_at_ms is not None:
            kind = TimerKind.RETRY if operation.state is OperationState.DISPATCHED else TimerKind.RECONCILE
            if operation.timer_due_at_ms == operation.action_expires_at_ms:
                kind = TimerKind.EXPIRE_ACTION
            timer = OpenTimer(
                origin_id=self.origin_id,
                order_id=self.order_id,
                op_id=operation.op_id,
                kind=kind,
                number=operation.timer_number,
                due_at_ms=operation.timer_due_at_ms,
            )
            self.say(SetTimer(timer=timer))
        elif operation.timer_number > 0:
            self.say(ClearTimer(origin_id=self.origin_id, order_id=self.order_id, op_id=operation.op_id))

    # What is said

    def say(self, *outputs: Output) -> None:
        """Add to what the decision says."""
        self.outputs.extend(outputs)

    def publish(self, operation: OperationRow, transition: Transition) -> OperationRow:
        """Record the public fact in the operation, say it, and return the operation."""
        payment = self.payment(operation.payment_id)
        self._sequence += 1
        standing = None if payment is None else self._standing_of(payment)
        event = views.event_row(
            operation, transition, standing, sequence=self._sequence, now_ms=self.now_ms, decision=self.told_decision
        )
        operation = self.put(replace(operation, events=(*operation.events, event)))
        if payment is not None and standing is not None:
            self._standings[payment.payment_id] = standing  # it does not follow from facts
        self.say(self.publication(operation, event))
        return operation

    def _standing_of(self, payment: PaymentRow) -> PaymentStanding:
        standing = self._standings.get(payment.payment_id)
        if standing is None:
            standing = standing_of(payment, self.operations.values(), self.subtotals)
            self._standings[payment.payment_id] = standing
        return standing

    def say_unrecorded(self, operation: OperationRow, transition: Transition) -> None:
        """Say a public fact about an operation that the row does not keep, made of the operation alone.

        Nothing tells a replay what the order looked like then. So the fact shows no payment, and its sequence is 0.
        """
        event = views.event_row(operation, transition, None, sequence=0, now_ms=self.now_ms)
        self.say(self.publication(operation, event))

    def publication(self, operation: OperationRow, event: EventRow) -> Publish:
        """Return the event to publish: the same one each time, whatever has happened since."""
        number = "" if event.number == 1 else f".{event.number}"
        # The operation's id is part of the name, since two producers may give their commands the same id.
        name = f"{operation.op_id}.{event.transition}{number}"
        return Publish(
            event_id=identifiers.event_id(operation.command_id, name),
            transition=Transition(event.transition),
            event=views.payment_event(
                operation,
                event,
                payment=self.payment(operation.payment_id),
                origin_id=self.origin_id,
                order_id=self.order_id,
            ),
        )

    def answer(self, operation: OperationRow, to: ReplyTo, *, final: bool) -> None:
        """Say to one waiting request how the operation stands; `final`: there is no need to wait any longer."""
        if to.final_only and not final:
            return
        replayed = to.request_id != operation.command_id
        self.say(Reply(to=to, reply=self.reply_about(operation, to, final=final, replayed=replayed)))

    def reply_about(
        self,
        operation: OperationRow | None,
        to: ReplyTo,
        *,
        final: bool,
        replayed: bool,
        decision: DecisionView | None = None,
    ) -> OperationReplied:
        """Return the answer that tells how the operation stands; None: the order has no such operation."""
        payment = None if operation is None else self.payment(operation.payment_id)
        return OperationReplied(
            request_id=to.request_id,
            origin_id=self.origin_id,
            order_id=self.order_id,
            final=final,
            found=operation is not None,
            replayed=replayed,
            operation=None if operation is None else views.operation_view(operation, self.order_id),
            payment=None
            if payment is None
            else views.payment_view(
                payment,
                self._standing_of(payment),
                origin_id=self.origin_id,
                order_id=self.order_id,
                updated_at_ms=payment.updated_at_ms,
            ),
            operations=(),
            replied_at_ms=self.now_ms,
            decision=decision,
        )

    def answer_all(self, operation: OperationRow) -> None:
        """Say to all who wait how the operation stands; final unless it is still under way."""
        for to in operation.waiters:
            self.answer(operation, to, final=operation.state not in UNANSWERED)

    def release(self, operation: OperationRow) -> None:
        """Let the next operation of the order go, if this one held it."""
        if self.active_op_id == operation.op_id:
            self.active_op_id = None
            self._touched = True

    def take_next(self) -> OperationRow | None:
        """Return the operation that is now the active one and was not before, or None."""
        if self.active_op_id is not None or not self.queue:
            return None
        self.active_op_id = self.queue.pop(0)
        self._touched = True
        operation = self.operations[self.active_op_id]
        return self.put(replace(operation, state=OperationState.CLAIMING, updated_at_ms=self.now_ms))

    def decision(self) -> Decision:
        """Return the row as it is now, and all that was said; an untouched row comes back as it was. Asked once."""
        loaded = tuple(self._loaded.values())
        if not self._touched:
            return Decision(row=self._row, outputs=tuple(self.outputs), loaded=loaded)
        self._put_back()
        row = OrderRow(
            origin_id=self.origin_id,
            order_id=self.order_id,
            version=1 if self._row is None else self._row.version + 1,
            sequence=self._sequence,
            active_op_id=self.active_op_id,
            queue=tuple(self.queue),
            payments=tuple(self._payments),
            operations=tuple(self.operations.values()),
            created_at_ms=self.now_ms if self._row is None else self._row.created_at_ms,
            updated_at_ms=self.now_ms,
            rules_version=RULES_VERSION,
            subtotals=self.subtotals,
        )
        return Decision(row=row, outputs=tuple(self.outputs), loaded=loaded)
