"""Lives of a payment after its success, with a gateway that keeps its own books and tells of them in any order.

`Bank` moves money as things happen, by plain addition, and writes a word of each. The words reach the order late,
twice, several at once, by the gateway's own references alone, and before the answer to the call. A payment may be
approved in part, or wait for its payer first. Merchants refund meanwhile, holds run out, workers start again, and a
person may say that a success was taken back. What the order makes of it all is held against the
bank's books at the end (`faults`). Nothing of `streams.domain` is asked what is right.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from schemas.event_types import Transition
from schemas.identifiers import IdempotencyKey, OpId
from schemas.records.commands import Command, CompletionRequested, PaymentRequested
from schemas.vocabulary import CallKind, OperationState, Outcome, Overlay, Verdict
from streams.domain.limits import DEFAULT_RULES, Rules
from tests.support.bank_objects import BankObject, Told, by_definition
from tests.support.order_desk import ACTION, MOCK, ORDER, ORIGIN, Desk, Said, authorize, capture, refund, sale

STEP_MS = 1_000
PAID_MINOR = 10_000


@dataclass(slots=True, kw_only=True)
class Object(BankObject):
    """One thing at the gateway, by whom it was asked for, and whether a person has judged it."""

    op_id: OpId | None  # None: made at the gateway's own desk
    decided: bool = False
    expired: bool = False  # of a hold: it ran out

    @property
    def counts_minor(self) -> int:
        """What it counts for: as the bank has it, unless a person has said otherwise."""
        return by_definition(self.statements) if self.decided else self.balance_minor


@dataclass(slots=True, kw_only=True)
class Notice:
    """One webhook that the gateway owes, and how often it was delivered."""

    outcome: Outcome
    about: Object
    amount_minor: int | None
    case: str | None
    at_ms: int
    number: int
    names_operation: bool
    delivered: int = 0


class Bank:
    """What the gateway holds, and what it has still to tell."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.objects: list[Object] = []
        self.notices: list[Notice] = []

    def next_reference(self, kind: CallKind) -> str:
        """Return what the object that is made next will be known by."""
        return f"{kind.value}-{len(self.objects)}"

    def make(self, kind: CallKind, amount_minor: int, op_id: OpId | None, *, at_ms: int, tells: bool) -> Object:
        """Do what is asked, or what somebody does at the gateway's own desk; perhaps tell of it unasked."""
        made = Object(
            reference=self.next_reference(kind),
            kind=kind,
            gross_minor=amount_minor,
            op_id=op_id,
            balance_minor=amount_minor,
        )
        told = made.say(Outcome.SUCCEEDED, amount_minor, None, at_ms=at_ms)
        self.objects.append(made)
        if tells:
            self._owe(made, told)
        return made

    def happen(self, about: Object, *, at_ms: int) -> None:
        """Let something happen to the object that it allows, and owe a word of it. A hold can only run out, once."""
        if about.kind is CallKind.AUTHORIZE:
            if not about.expired:
                about.expired = True
                self._owe(about, Told(outcome=Outcome.EXPIRED, amount_minor=about.gross_minor, case=None, at_ms=at_ms))
            return
        for told in about.happen(self._chance, at_ms=at_ms):
            self._owe(about, told)

    def _owe(self, about: Object, told: Told) -> None:
        self.notices.append(
            Notice(
                outcome=told.outcome,
                about=about,
                amount_minor=told.amount_minor,
                case=told.case,
                at_ms=told.at_ms,
                number=len(self.notices),
                names_operation=self._chance.random() < 0.5,
            )
        )


class Life:
    """One seeded life of an order's payment, to its end."""

    def __init__(self, seed: int, rules: Rules = DEFAULT_RULES) -> None:
        self.chance = random.Random(seed)
        self.desk = Desk(rules=rules)
        self.bank = Bank(self.chance)
        self.asked = 0

    def play(self) -> list[str]:
        """Live, and return what does not agree with the bank's books in the end."""
        self._pay()
        for _ in range(self.chance.randint(3, 14)):
            self.desk.now_ms += STEP_MS
            self.desk.replay = self.chance.random() < 0.2  # the worker has started again: what it takes may be a copy
            happen, tell = (self._happen, self._happen), (self._deliver, self._deliver)
            self.chance.choice((*happen, *tell, self._refund, self._at_desk, self._decide))()
            self.desk.leave()
        for notice in self.chance.sample(self.bank.notices, len(self.bank.notices)):
            self._give(notice)
        self.desk.settle()
        return list(faults(self))

    @property
    def opening(self) -> list[Object]:
        """What opened the payment."""
        return [each for each in self.bank.objects if each.kind in {CallKind.SALE, CallKind.AUTHORIZE}]

    @property
    def taking(self) -> list[Object]:
        """What took the payer's money, oldest first."""
        return [each for each in self.bank.objects if each.kind in {CallKind.SALE, CallKind.CAPTURE}]

    def _pay(self) -> None:
        """Pay: all of it or a part, at once or after the payer has acted; then capture once or twice."""
        approved_minor = PAID_MINOR if self.chance.random() < 0.7 else self.chance.randint(2, PAID_MINOR)
        acts = self.chance.random() < 0.2
        if self.chance.random() < 0.5:
            self._make(CallKind.SALE, _allowing_a_part(sale(PAID_MINOR)), approved_minor, acts=acts)
            return
        self._make(CallKind.AUTHORIZE, _allowing_a_part(authorize(PAID_MINOR)), approved_minor, acts=acts)
        for number in range(self.chance.randint(1, 2)):
            amount_minor = self.chance.randint(1, approved_minor // 2)
            command = capture(self.desk.payment.payment_id, amount_minor, key=f"capture-{number}")
            self._make(CallKind.CAPTURE, command, amount_minor)

    def _make(self, kind: CallKind, command: Command, amount_minor: int, *, acts: bool = False) -> None:
        """Let the order ask for it, and the gateway approve so much.

        The gateway may do more with it, and tell of that, before its answer comes. `acts`: the payer acts first.
        """
        op_id = self.desk.send(command)
        while self.desk.claims:
            self.desk.grant()
        if not self.desk.requests:
            return  # it was not let through
        self.desk.now_ms += STEP_MS
        reference = self.bank.next_reference(kind)
        if acts:
            self.desk.call(replace(ACTION, reference=reference))
            self._send_payer_back()
        made = self.bank.make(kind, amount_minor, op_id, at_ms=self.desk.now_ms, tells=self.chance.random() < 0.7)
        early = kind in {CallKind.SALE, CallKind.CAPTURE} and self.chance.random() < 0.25
        if early:
            self.desk.now_ms += STEP_MS
            self.bank.happen(made, at_ms=self.desk.now_ms)
            self._deliver()
        if self.desk.requests:
            self.desk.call(Said(reference=made.reference, confirmed_minor=amount_minor))

    def _send_payer_back(self) -> None:
        """The payer has acted: the merchant goes on with the payment."""
        self.desk.now_ms += STEP_MS
        self.desk.send(
            CompletionRequested(
                origin_id=ORIGIN,
                order_id=ORDER,
                idempotency_key=IdempotencyKey("complete"),
                payment_id=self.desk.payment.payment_id,
            )
        )
        while self.desk.claims:
            self.desk.grant()
        self.desk.now_ms += STEP_MS

    def _happen(self) -> None:
        about = self.chance.choice(self.bank.objects)
        self.bank.happen(about, at_ms=self.desk.now_ms)

    def _deliver(self) -> None:
        """Deliver a webhook with one word, or with several of any age."""
        size = min(len(self.bank.notices), self.chance.choice((1, 1, 2, 3)))
        for notice in self.chance.sample(self.bank.notices, size):
            self._give(notice)

    def _give(self, notice: Notice) -> None:
        notice.delivered += 1
        about = notice.about
        knows = any(
            each.gateway_reference == about.reference for each in (self.desk.operations if self.desk.row else ())
        )
        # The gateway gives our id back, or not; where we do not know its own yet, only ours finds the operation.
        named = about.op_id if about.op_id is not None and (notice.names_operation or not knows) else None
        payment = self.bank.objects[0].reference
        self.desk.notice(
            named,
            Said(outcome=notice.outcome, reference=about.reference, confirmed_minor=notice.amount_minor),
            notice_id=f"n{notice.number}",
            kind=about.kind,
            payment_reference=payment,
            confirmed_currency="USD",
            case_reference=notice.case,
            occurred_at_ms=notice.at_ms,
            gateway=MOCK,
        )

    def _refund(self) -> None:
        self.asked += 1
        amount_minor = self.chance.randint(1, PAID_MINOR // 3)
        command = refund(self.desk.payment.payment_id, amount_minor, key=f"refund-{self.asked}")
        self._make(CallKind.REFUND, command, amount_minor)

    def _decide(self) -> None:
        """A person says that some of a success was taken back, rightly or not."""
        about = self.chance.choice(self.taking)
        if about.op_id is None or about.decided:
            return
        operation = self.desk.operation(about.op_id)
        if operation.counted_minor == 0:
            return
        taken_minor = self.chance.randint(1, operation.counted_minor)
        refusal = self.desk.decide(about.op_id, Verdict.TAKEN_BACK, taken_minor, name=f"d-{about.reference}")
        assert refusal is None
        about.decided = True
        left_minor = operation.counted_minor - taken_minor
        about.statements.append((self.desk.now_ms, Outcome.SUCCEEDED, left_minor, None))

    def _at_desk(self) -> None:
        """Somebody gives money back at the gateway's own desk: no operation of ours, told by a notice alone."""
        left_minor = sum(each.balance_minor for each in self.taking)
        left_minor -= sum(each.balance_minor for each in self.bank.objects if each.kind is CallKind.REFUND)
        if left_minor > 0:
            self.bank.make(
                CallKind.REFUND, self.chance.randint(1, left_minor), None, at_ms=self.desk.now_ms, tells=True
            )


def _allowing_a_part(command: Command) -> Command:
    assert isinstance(command, PaymentRequested)
    return replace(command, allow_partial=True)


def faults(life: Life) -> Iterator[str]:
    """Yield what the order says otherwise than the bank, and what nobody was asked about though it does not add up."""
    captured = sum(each.counts_minor for each in life.taking)
    refunded = sum(each.counts_minor for each in life.bank.objects if each.kind is CallKind.REFUND)
    disputed = any(each.disputes for each in life.taking)
    for each in life.bank.objects:
        found = [op for op in life.desk.operations if op.gateway_reference == each.reference]
        # What the gateway said of its desk's doing before that was known is lost, but never in silence.
        asked_for = each.op_id is None and life.desk.payment.review
        if [op.counted_minor for op in found] != [each.counts_minor] and not asked_for:
            yield f"counted {each.reference} {each.counts_minor} row {[op.counted_minor for op in found]}"
    for event in sorted(life.desk.events, key=lambda each: each.event.sequence)[-1:]:  # others may be said again
        shown = event.event.payment
        assert shown is not None
        lost = any(each.op_id is None for each in life.bank.objects) and life.desk.payment.review
        if (shown.captured_minor, shown.refunded_minor) != (captured, refunded) and not lost:
            yield f"event {(shown.captured_minor, shown.refunded_minor)} bank {(captured, refunded)}"
        if shown.authorized_minor != sum(each.counts_minor for each in life.opening) and not lost:
            yield f"event authorized {shown.authorized_minor}"
        if (Overlay.DISPUTED in shown.overlays) is not disputed:
            yield f"disputed {disputed} shown {shown.overlays}"
    ran_out = any(each.expired for each in life.bank.objects)
    if ran_out is not (Transition.EXPIRED in life.desk.transitions):
        yield f"expired {ran_out} told {life.desk.transitions}"
    if refunded > captured and not life.desk.payment.review:
        yield f"silent deficit {refunded} of {captured}"
    for op in life.desk.operations:
        if op.words and (op.state is OperationState.REVERSED) is not (op.counted_minor == 0):
            yield f"state {op.state} counts {op.counted_minor}"
