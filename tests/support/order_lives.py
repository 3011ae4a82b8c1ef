"""Lives of a payment after its success, with a gateway that keeps its own books and tells of them in any order.

`Bank` moves money as things happen, by plain addition, and writes a word of each. The words reach the order late,
twice, by the gateway's own references alone, and before the answer to the call. Merchants refund meanwhile, workers
start again, and a person may say that a success was taken back. What the order makes of it all is held against the
bank's books at the end (`faults`). Nothing of `streams.domain` is asked what is right.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from schemas.identifiers import OpId
from schemas.vocabulary import CallKind, OperationState, Outcome, Overlay, Verdict
from streams.domain.limits import DEFAULT_RULES, Rules
from tests.support.order_desk import MOCK, Desk, Said, authorize, capture, refund, sale

STEP_MS = 1_000
MAX_HAPPENINGS = 8
"""Of one object; a row keeps `limits.MAX_WORDS` words."""

PAID_MINOR = 10_000


Statement = tuple[int, Outcome, int, str | None]
"""When it was so, what was said, minor units, and of which case."""


def by_definition(statements: Iterable[Statement]) -> int:
    """The last success or verdict, less each case whose last word since then is that it took something."""
    in_time = sorted(statements, key=lambda each: each[0])
    last = max(index for index, each in enumerate(in_time) if each[1] is Outcome.SUCCEEDED)
    taken: dict[str | None, int] = {}
    for _, outcome, amount_minor, case in in_time[last + 1 :]:
        if outcome is Outcome.DISPUTE_WON:
            taken[case] = 0
        elif outcome is not Outcome.DISPUTE_OPENED:
            taken[case] = amount_minor
    return max(0, in_time[last][2] - sum(taken.values()))


@dataclass(slots=True, kw_only=True)
class Object:
    """One thing at the gateway: a sale, a capture or a refund."""

    reference: str
    kind: CallKind
    gross_minor: int
    op_id: OpId | None  # None: made at the gateway's own desk
    balance_minor: int
    disputes: dict[str, int] = field(default_factory=dict)  # open ones
    taken: dict[str, int] = field(default_factory=dict)  # by case, while it can come back
    happenings: int = 0
    cases: int = 0
    statements: list[Statement] = field(default_factory=list)
    decided: bool = False

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

    def make(self, kind: CallKind, amount_minor: int, op_id: OpId | None, *, at_ms: int, tells: bool) -> Object:
        """Do what is asked, or what somebody does at the gateway's own desk; perhaps tell of it unasked."""
        made = Object(
            reference=f"{kind.value}-{len(self.objects)}",
            kind=kind,
            gross_minor=amount_minor,
            op_id=op_id,
            balance_minor=amount_minor,
        )
        made.statements.append((at_ms, Outcome.SUCCEEDED, amount_minor, None))
        self.objects.append(made)
        if tells:
            self._tell(Outcome.SUCCEEDED, made, amount_minor, None, at_ms=at_ms)
        return made

    def happen(self, about: Object, *, at_ms: int) -> None:
        """Let something happen to the object that it allows, move the money, and owe a word of it."""
        if about.happenings >= MAX_HAPPENINGS:
            return
        about.happenings += 1
        moves = [self._take_back, self._take_back, self._open_dispute]
        if about.disputes:
            moves += [self._lose, self._win]
        if any(case.startswith("dispute") for case in about.taken):
            moves += [self._win_back]
        if about.balance_minor < about.gross_minor and not about.disputes:
            moves += [self._make_again, self._make_again]
        self._chance.choice(moves)(about, at_ms)

    def _amount(self, most_minor: int) -> int:
        return most_minor if self._chance.random() < 0.3 else self._chance.randint(1, most_minor)

    def _take_back(self, about: Object, at_ms: int) -> None:
        left_minor = about.balance_minor - sum(about.disputes.values())
        if left_minor <= 0:
            return
        amount_minor = self._amount(left_minor)
        about.cases += 1
        case = f"reversal-{about.reference}-{about.cases}"
        about.balance_minor -= amount_minor
        about.taken[case] = amount_minor
        self._tell(Outcome.REVERSED, about, amount_minor, case, at_ms=at_ms)

    def _open_dispute(self, about: Object, at_ms: int) -> None:
        left_minor = about.balance_minor - sum(about.disputes.values())
        if left_minor <= 0 or about.kind is CallKind.REFUND:
            return
        about.cases += 1
        case = f"dispute-{about.reference}-{about.cases}"
        about.disputes[case] = self._amount(left_minor)
        self._tell(Outcome.DISPUTE_OPENED, about, about.disputes[case], case, at_ms=at_ms)

    def _lose(self, about: Object, at_ms: int) -> None:
        case = self._chance.choice(sorted(about.disputes))
        amount_minor = about.disputes.pop(case)
        about.balance_minor -= amount_minor
        about.taken[case] = amount_minor
        self._tell(Outcome.DISPUTE_LOST, about, amount_minor, case, at_ms=at_ms)
        if self._chance.random() < 0.4:  # the same loss as a reversal of its own: it counts once
            self._tell(Outcome.REVERSED, about, amount_minor, case, at_ms=at_ms + 1)

    def _win(self, about: Object, at_ms: int) -> None:
        case = self._chance.choice(sorted(about.disputes))
        self._tell(Outcome.DISPUTE_WON, about, about.disputes.pop(case), case, at_ms=at_ms)

    def _win_back(self, about: Object, at_ms: int) -> None:
        case = self._chance.choice(sorted(each for each in about.taken if each.startswith("dispute")))
        amount_minor = about.taken.pop(case)
        about.balance_minor += amount_minor
        self._tell(Outcome.DISPUTE_WON, about, amount_minor, case, at_ms=at_ms)

    def _make_again(self, about: Object, at_ms: int) -> None:
        """Carry it out once more by itself: all of it counts again, and what was taken before cannot come back."""
        about.balance_minor = about.gross_minor
        about.taken.clear()
        self._tell(Outcome.SUCCEEDED, about, about.gross_minor, None, at_ms=at_ms)

    def _tell(self, outcome: Outcome, about: Object, amount_minor: int | None, case: str | None, *, at_ms: int) -> None:
        about.statements.append((at_ms, outcome, amount_minor or 0, case))
        self.notices.append(
            Notice(
                outcome=outcome,
                about=about,
                amount_minor=amount_minor,
                case=case,
                at_ms=at_ms,
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
    def taking(self) -> list[Object]:
        """What took the payer's money, oldest first."""
        return [each for each in self.bank.objects if each.kind in {CallKind.SALE, CallKind.CAPTURE}]

    def _pay(self) -> None:
        if self.chance.random() < 0.5:
            self._make(CallKind.SALE, sale(PAID_MINOR), PAID_MINOR)
            return
        self._make(CallKind.AUTHORIZE, authorize(PAID_MINOR), PAID_MINOR)
        for number in range(self.chance.randint(1, 2)):
            amount_minor = self.chance.randint(1, PAID_MINOR // 2)
            command = capture(self.desk.payment.payment_id, amount_minor, key=f"capture-{number}")
            self._make(CallKind.CAPTURE, command, amount_minor)

    def _make(self, kind: CallKind, command: object, amount_minor: int) -> None:
        """Let the order ask for it. The gateway may do more with it, and tell of that, before its answer comes."""
        op_id = self.desk.send(command)  # type: ignore[arg-type]  # a command of `order_desk`
        while self.desk.claims:
            self.desk.grant()
        if not self.desk.requests:
            return  # it was not let through
        self.desk.now_ms += STEP_MS
        asked_minor = self.desk.requests[0].amount_minor
        made = self.bank.make(kind, asked_minor, op_id, at_ms=self.desk.now_ms, tells=self.chance.random() < 0.7)
        early = kind in {CallKind.SALE, CallKind.CAPTURE} and self.chance.random() < 0.25
        if early:
            self.desk.now_ms += STEP_MS
            self.bank.happen(made, at_ms=self.desk.now_ms)
            self._deliver()
        self.desk.call(Said(reference=made.reference))

    def _happen(self) -> None:
        about = self.chance.choice([each for each in self.bank.objects if each.kind is not CallKind.AUTHORIZE])
        self.bank.happen(about, at_ms=self.desk.now_ms)

    def _deliver(self) -> None:
        if self.bank.notices:
            self._give(self.chance.choice(self.bank.notices))

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
        if (Overlay.DISPUTED in shown.overlays) is not disputed:
            yield f"disputed {disputed} shown {shown.overlays}"
    if refunded > captured and not life.desk.payment.review:
        yield f"silent deficit {refunded} of {captured}"
    for op in life.desk.operations:
        if op.words and (op.state is OperationState.REVERSED) is not (op.counted_minor == 0):
            yield f"state {op.state} counts {op.counted_minor}"
