"""Two orders that live one life: of one, settled operations leave the row for rows of their own; of the other, none do.

Each input is given to both, and both must say the same, to the byte. What the leaving one asks itself is done in its
own time: late, twice, once more much later, or not to the end, since the worker crashes between two rows. In the end
both have the same operations and the same sums, and answer the same to whoever asks.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.identifiers import GatewayRoute, PaymentId, refund_id
from schemas.records.commands import Command
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.payments import PaymentQueried, ReplyTo
from schemas.records.timers import TimerFired
from schemas.vocabulary import CallKind, OperationKind, Outcome, Verdict
from streams.domain.inputs import CommandReceived, DecisionReceived, OrderInput, TimerReceived
from streams.domain.limits import DEFAULT_RULES
from streams.domain.order import Decision, decide, order_ends_at_ms
from streams.domain.outputs import KeepApart, Output, Reply, SayTimer
from streams.domain.room import is_full
from streams.domain.views import answer_query
from tests.support.gateway_calls import capabilities_with
from tests.support.order_desk import (
    DECLINE,
    MOCK,
    ORDER,
    ORIGIN,
    PENDING,
    UNKNOWN,
    Desk,
    Said,
    authorize,
    capture,
    refund,
    sale,
    void,
)

NEVER: Final = 10_000
"""More operations than an order has."""

PAID_MINOR: Final = 10_000
_ALL: Final = capabilities_with(None)
ACCOUNTS: Final = (
    None,
    None,
    replace(_ALL, refunds_name_captures=True),
    replace(_ALL, refunds_name_captures=True),
    replace(_ALL, multiple_refund=False),
)
"""What the payment's account can do; None: nobody says, so it is taken to be able to do anything."""

LATE_WORDS: Final = (Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.REVERSED, Outcome.DECLINED, Outcome.NOT_EXECUTED)


def said_of(decision: Decision, waiting: frozenset[ReplyTo]) -> list[Output]:
    """Return what a decision says to others: not what it keeps beside its row, nor what it asks itself.

    Of its answers those to who waits still: a row of its own may remember for longer who has waited, since no new
    command of the order makes it forget them.
    """
    own = [each for each in decision.outputs if not isinstance(each, KeepApart | SayTimer)]
    return [each for each in own if not isinstance(each, Reply) or each.to in waiting]


@dataclass(slots=True, kw_only=True)
class Twins(Desk):
    """The order that nothing leaves; `leaving` is the other, which takes every input too."""

    leaving: Desk = field(default_factory=Desk)
    chance: random.Random = field(default_factory=random.Random)
    done: list[TimerFired] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, event: OrderInput) -> Decision:
        waiting = {event.reply_to} if isinstance(event, CommandReceived | DecisionReceived) else set()
        waiting |= self._waiters()
        decision = Desk.take(self, event)
        told = self.leaving.take(event)
        answered = frozenset(each for each in waiting | self._waiters() if each is not None)
        assert said_of(told, answered) == said_of(decision, answered)
        self.counts["loaded"] += len(told.loaded)
        return decision

    def _waiters(self) -> set[ReplyTo | None]:
        return {to for each in (() if self.row is None else self.operations) for to in each.waiters}

    def let_leave(self) -> None:
        """Do one step that the leaving order has asked itself to do, with what may happen on the way."""
        if not self.leaving.steps:
            return
        self.leaving.now_ms = self.now_ms
        asked = self.leaving.steps[0]
        draw = self.chance.random()
        if draw < 0.25:
            self._crash(asked)
            return
        if draw < 0.85:
            self.leaving.steps.popleft()  # else it comes twice
            self.done.append(asked)
        before = len(self.leaving.operations)
        self.leaving.step(asked)
        assert len(self.leaving.operations) == before, "nothing is lost on the way"
        self._count()

    def replay_a_step(self) -> None:
        """Let a step come once more that was done long ago."""
        if self.done:
            self.leaving.now_ms = self.now_ms
            event = TimerReceived(timer=self.chance.choice(self.done), now_ms=self.now_ms, possible_replay=True)
            self.leaving.take(event)
            self._count()

    def _crash(self, asked: TimerFired) -> None:
        """Lose the end of what the step writes: its row, if that changes, and some rows beside it. Nothing is said."""
        event = TimerReceived(timer=asked, now_ms=self.now_ms, possible_replay=True)
        outputs = decide(self.leaving.row, event, self.leaving.plan_for, self.leaving.rules, self.leaving.apart.get)
        kept = [each for each in outputs.outputs if isinstance(each, KeepApart)]
        for each in kept[: self.chance.randint(0, len(kept))]:
            assert each.row is not None
            self.leaving.apart[each.name] = each.row
        self.counts["crashes"] += 1

    def _count(self) -> None:
        assert self.leaving.row is not None
        self.counts["apart"] = max(self.counts["apart"], sum(each.operations for each in self.leaving.row.subtotals))

    def differences(self) -> list[str]:
        """Return in what the two have come apart."""
        row, other = self.row, self.leaving.row
        if row is None or other is None:
            return [] if row is other else ["one of them has no row"]
        found = []
        if (row.payments, row.active_op_id, row.queue) != (other.payments, other.active_op_id, other.queue):
            found.append("payments, or whose turn it is")
        if row.sequence != other.sequence:
            found.append(f"sequence {row.sequence}, {other.sequence}")
        if [without_waiters(each) for each in row.operations] != [
            without_waiters(each) for each in self.leaving.operations
        ]:
            found.append("operations")
        if is_full(row.operations) != is_full(other.operations, other.subtotals):
            found.append("room")
        if order_ends_at_ms(replace(row, updated_at_ms=0)) != order_ends_at_ms(replace(other, updated_at_ms=0)):
            found.append("its end")
        return found + self._other_answers(row, other) + subtotals_not_of(other, self.leaving.operations)

    def _other_answers(self, row: OrderRow, other: OrderRow) -> list[str]:
        queries = [query(payment.payment_id) for payment in row.payments]
        queries += [query(each.payment_id, each) for each in row.operations if each.kind is OperationKind.REFUND]
        return [
            f"the answer about {each.payment_id}, {each.refund_id}"
            for each in queries
            if answer_query(row, each, 7) != answer_query(other, each, 7, self.leaving.apart.get)
        ]


def without_waiters(operation: OperationRow) -> OperationRow:
    """Return the operation without who waits: a row of its own remembers that for longer."""
    return replace(operation, waiters=())


def subtotals_not_of(row: OrderRow, operations: Sequence[OperationRow]) -> list[str]:
    """Return where the row's subtotals are not what those operations come to that it has not: added up here."""
    here = {each.op_id for each in row.operations}
    gone = [each for each in operations if each.op_id not in here]
    refunded = Counter[PaymentId]()
    for each in gone:
        refunded[each.payment_id] += each.counted_minor if each.kind is OperationKind.REFUND else 0
    kept = Counter[PaymentId]()
    for subtotal in row.subtotals:
        kept[subtotal.payment_id] += subtotal.refunded_minor
    found = [] if +refunded == +kept else [f"subtotals {kept}, operations {refunded}"]
    if sum(each.operations for each in row.subtotals) != len(gone):
        found.append("how many have left")
    return found


def query(payment: PaymentId, of: OperationRow | None = None) -> PaymentQueried:
    """Return a question about a payment, or about one of its refunds."""
    return PaymentQueried(
        request_id="q",
        reply_partition=0,
        origin_id=ORIGIN,
        order_id=ORDER,
        payment_id=payment,
        refund_id=None if of is None else refund_id(ORDER, of.op_id),
        queried_at_ms=1,
    )


class TwinLife:
    """One seeded life of twins: many small refunds, and all that may come of them late."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        kept, batch = self.chance.randint(0, 3), self.chance.randint(1, 3)
        can = self.chance.choice(ACCOUNTS)
        known = replace(DEFAULT_RULES, capabilities={} if can is None else {GatewayRoute(MOCK): can})
        rules = replace(known, kept_operations=kept, leaving_operations=batch)
        never = replace(known, kept_operations=NEVER)
        self.twins = Twins(rules=never, leaving=Desk(rules=rules), chance=self.chance)
        self.commands: list[Command] = []
        self.results: list[GatewayCallCompleted] = []

    def play(self, happenings: int) -> list[str]:
        """Live for so many happenings, come to rest, and return in what the two differ."""
        if self.chance.random() < 0.6:
            self._send(sale(PAID_MINOR))
            self._settle()
        else:
            self._send(authorize(PAID_MINOR))
            self._settle()
            for number in range(3):
                self._send(capture(self._payment, PAID_MINOR // 3, key=f"capture-{number}"))
                self._settle()
        for _ in range(happenings):
            self.twins.now_ms += self.chance.choice((1, 1_000, 700_000))
            self.twins.replay = self.chance.random() < 0.2
            self.chance.choice(self._happenings())()
        self.twins.replay = False
        self._settle()
        return self.twins.differences()

    def _happenings(self) -> Sequence[Callable[[], None]]:
        often = (self._refund, self._refund, self._refund, self._settle, self._settle, self._settle)
        late = (self._notice, self._notice, self._result_again, self._command_again, self._key_again, self._decide)
        rest = (self._other, self._at_desk, self._fire)
        own = (self.twins.let_leave,) * 12 + (self.twins.replay_a_step,)
        return (*often, *late, *rest, *own)

    @property
    def _payment(self) -> PaymentId:
        return self.twins.operations[0].payment_id

    def _send(self, command: Command) -> None:
        self.commands.append(command)
        self.twins.send(command)

    def _refund(self) -> None:
        amount = self.chance.choice((None, 1, 7, 250, 250, 250, 20_000))
        self._send(refund(self._payment, amount, key=f"r{len(self.commands)}"))

    def _other(self) -> None:
        key = f"o{len(self.commands)}"
        payment = self._payment if self.chance.random() < 0.8 else PaymentId("pay_nobody")
        command = self.chance.choice(
            (capture(payment, 900, key=key), void(payment, key=key), refund(payment, 1, key=key), sale(key=key))
        )
        self._send(command)

    def _key_again(self) -> None:
        """Ask for something else under a key that was used; perhaps so late that its claim is forgotten."""
        known = self.chance.choice(self.commands).idempotency_key
        if self.chance.random() < 0.5:
            self.twins.claim_rows.pop(known, None)
        self._send(refund(self._payment, self.chance.randint(1, 9_000), key=known))

    def _command_again(self) -> None:
        self._send(self.chance.choice(self.commands))

    def _settle(self) -> None:
        """Let claims and the gateway answer, each as it may."""
        for _ in range(500):
            if self.twins.claims:
                self.twins.grant()
            elif self.twins.requests:
                self.results.append(self.twins.call(self._answer()))
            else:
                return
        raise AssertionError("the order never came to rest")

    def _answer(self) -> Said:
        reference = f"ref-{self.chance.randrange(8) if self.chance.random() < 0.2 else len(self.results)}"
        return self.chance.choice(
            (Said(reference=reference),) * 12
            + (DECLINE, replace(PENDING, reference=reference), UNKNOWN, Said(reference=None), Said(confirmed_minor=3))
        )

    def _result_again(self) -> None:
        if self.results:
            self.twins.result(self.chance.choice(self.results))

    def _fire(self) -> None:
        if self.twins.timers:
            self.twins.fire(self.chance.choice(sorted(self.twins.timers, key=str)))  # type: ignore[arg-type]

    def _notice(self) -> None:
        """Let the gateway say something late about any operation: by our id, or by its own reference alone."""
        about = self.chance.choice(self.twins.operations)
        reference = about.gateway_reference or f"ref-{self.chance.randrange(8)}"
        named = about.op_id if self.chance.random() < 0.4 else None
        amount = self.chance.choice((None, about.amount_minor or None, 1))
        self.twins.notice(
            named,
            Said(outcome=self.chance.choice(LATE_WORDS), reference=reference, confirmed_minor=amount),
            notice_id=f"n{self.chance.randrange(30)}",
            kind=self.chance.choice((None, CallKind(about.kind.value))),
            payment_reference=self.chance.choice((None, self.twins.operations[0].gateway_reference)),
            occurred_at_ms=self.chance.choice((1, self.twins.now_ms, max(1, self.twins.now_ms - 900_000))),
        )

    def _at_desk(self) -> None:
        """Somebody gives a little back at the gateway's own desk."""
        self.twins.notice(
            None,
            Said(reference=f"desk-{self.chance.randrange(5)}", confirmed_minor=2),
            kind=CallKind.REFUND,
            payment_reference=self.twins.operations[0].gateway_reference,
        )

    def _decide(self) -> None:
        if self.chance.random() < 0.6:
            return  # an order takes few
        about = self.chance.choice(self.twins.operations)
        verdict = self.chance.choice(tuple(Verdict))
        amount = 1 if verdict in {Verdict.SUCCEEDED, Verdict.TAKEN_BACK} and self.chance.random() < 0.5 else None
        self.twins.decide(about.op_id, verdict, amount, name=f"d{self.chance.randrange(40)}")
