"""The invariants of DESIGN.md, 'The order row', held over random lives of an order."""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.identifiers import OpId, PaymentId, payment_id
from schemas.records.orders import OperationRow, OrderRow, PaymentRow
from schemas.records.payments import PaymentView
from schemas.vocabulary import (
    CallKind,
    DeclineClass,
    Initiator,
    OperationKind,
    OperationState,
    Outcome,
    PaymentStatus,
    RetryAdvice,
    Verdict,
)
from streams.domain.inputs import OrderInput
from streams.domain.order import Decision
from streams.domain.outputs import CallGateway, Publish
from streams.domain.sums import IN_DOUBT, OPEN, OPENING, Books
from streams.domain.words import are_decided
from tests.support.crash_flaws import knowingly_twice
from tests.support.exhibits import sums_of
from tests.support.order_desk import ORDER, SOFT_DECLINE, Desk, Said, plan, refusal
from tests.support.order_strategies import ANSWERS, CLOCKS, JUDGEMENTS, LOOKS, WISHES, Judgement, Wish

NEVER_LEFT = frozenset({OperationState.DECLINED, OperationState.NOT_EXECUTED, OperationState.CONFLICT})
NEVER_LEFT |= {OperationState.REJECTED}
TERMINAL = frozenset({PaymentStatus.VOIDED, PaymentStatus.EXPIRED, PaymentStatus.FAILED, PaymentStatus.REFUNDED})
NOBODY = payment_id(ORDER, OpId("op_nobody"))
REVERSED = Said(outcome=Outcome.REVERSED)
PLAN = plan("mock", "other", "mock", "third", after=(DeclineClass.SOFT,))
STRAY = Said(reference="stray")
STRAY_TAKEN_BACK = Said(outcome=Outcome.REVERSED, reference="stray")


@dataclass(slots=True, kw_only=True)
class WatchedDesk(Desk):
    """A desk that looks at each decision as it is made."""

    paid_knowingly: list[str] = field(default_factory=list)

    def take(self, event: OrderInput) -> Decision:
        decision = Desk.take(self, event)
        if decision.row is not None:
            self.paid_knowingly += knowingly_twice(decision.row, decision.outputs)
        return decision


class OrderMachine(RuleBasedStateMachine):
    """An order on its desk; every rule is one input, so operations wait, overlap and come back in any way."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = WatchedDesk(plan=PLAN)
        self.before: OrderRow | None = None
        self.contents: dict[str, Publish] = {}
        self.seen = 0
        self.reversals = 0
        self.closed: set[PaymentId] = set()
        self.shown = 0
        self.last_sequence = 0
        self.last_shown: dict[PaymentId, PaymentView] = {}

    @initialize(wish=WISHES.filter(lambda wish: wish.kind in {"authorize", "sale"}), answer=ANSWERS | st.none())
    def first_payment(self, wish: Wish, answer: Said | None) -> None:
        """It is answered, or under way still."""
        if answer is None:
            self.desk.send(wish.command(NOBODY))
            self.desk.grant()
        else:
            self.desk.do(wish.command(NOBODY), answer)

    def _payment(self, index: int) -> Any:
        row = self.desk.row
        ids = [each.payment_id for each in row.payments] if row is not None else []
        return ids[index % len(ids)] if ids else NOBODY

    @rule(wish=WISHES, index=st.integers(0, 3))
    def ask(self, wish: Wish, index: int) -> None:
        self.desk.send(wish.command(self._payment(index)))

    @rule(wish=WISHES, index=st.integers(0, 3), answer=ANSWERS)
    def ask_and_settle(self, wish: Wish, index: int, answer: Said) -> None:
        self.desk.do(wish.command(self._payment(index)), answer)

    @precondition(lambda self: self.desk.claims)
    @rule()
    def grant(self) -> None:
        self.desk.grant()

    @precondition(lambda self: self.desk.requests)
    @rule(answer=ANSWERS, look=LOOKS)
    def call(self, answer: Said, look: Said) -> None:
        self.desk.call(look if self.desk.requests[0].kind is CallKind.INQUIRE else answer)

    @precondition(lambda self: self.desk.requests)
    @rule()
    def refuse(self) -> None:
        """Another attempt follows, if there may be one."""
        self.desk.call(refusal(RetryAdvice.OTHER_GATEWAY))

    @precondition(lambda self: self.desk.requests)
    @rule(sole=st.booleans())
    def decline(self, sole: bool) -> None:
        """Another gateway is asked, if one may be."""
        self.desk.call(replace(SOFT_DECLINE, sole=sole))

    @precondition(lambda self: self.desk.timers)
    @rule()
    def fire(self) -> None:
        timer = min(self.desk.timers.values(), key=lambda each: each.due_at_ms)
        assert timer.op_id is not None
        self.desk.fire(timer.op_id)

    @rule(index=st.integers(0, 30), said=ANSWERS, clock=CLOCKS)
    def notice(self, index: int, said: Said, clock: int | None) -> None:
        row = self.desk.row
        assert row is not None
        operation = row.operations[index % len(row.operations)]
        at_ms = None if clock is None else max(0, self.desk.now_ms + clock)
        self.desk.notice(operation.op_id, said, gateway=operation.gateway or "mock", occurred_at_ms=at_ms)
        if self.desk.operation(operation.op_id).counted_minor < operation.counted_minor:
            self.reversals += 1  # it was confirmed for less

    @rule(index=st.integers(0, 30), said=JUDGEMENTS)
    def judge(self, index: int, said: Judgement) -> None:
        """A person decides, rightly or wrongly, perhaps a second time under one name."""
        row = self._row()
        op_id = row.operations[index % len(row.operations)].op_id
        before = self.desk.operation(op_id)
        refusal = self.desk.decide(op_id, said.verdict, said.amount, name=said.name)
        after = self.desk.operation(op_id)
        if refusal is not None:
            assert (after.state, after.words) == (before.state, before.words)
        elif said.verdict in {Verdict.NOT_EXECUTED, Verdict.TAKEN_BACK}:
            self.reversals += 1
        elif said.verdict is Verdict.CLOSE_REVIEW:
            self.closed.add(before.payment_id)

    @rule(index=st.integers(0, 30))
    def take_back(self, index: int) -> None:
        row = self.desk.row
        assert row is not None
        operation = row.operations[index % len(row.operations)]
        self.reversals += 1
        self.desk.notice(operation.op_id, REVERSED, gateway=operation.gateway or "mock")

    @rule(index=st.integers(0, 30), said=st.sampled_from([STRAY, STRAY_TAKEN_BACK]))
    def contradict(self, index: int, said: Said) -> None:
        """An attempt that was given up has succeeded after all, or had: the other gateway says so."""
        row = self._row()
        ids = [each.op_id for each in row.operations] + 2 * [row.active_op_id or row.operations[-1].op_id]
        before = self.desk.operation(ids[index % len(ids)])
        self.desk.notice(before.op_id, said, gateway="other" if before.gateway == "mock" else "mock")
        after = self.desk.operation(before.op_id)
        assert after.state is before.state, "one gateway's word moves no other's operation"
        if said is STRAY and before.attempt > 0:
            assert "reviewed" in {each.transition for each in after.events}
            assert next(each for each in self._row().payments if each.payment_id == after.payment_id).review

    @rule()
    def crash(self) -> None:
        self.desk.replay = not self.desk.replay

    # What must hold after every input

    def _row(self) -> OrderRow:
        assert self.desk.row is not None
        return self.desk.row

    @invariant()
    def sums_stay_within_what_is_there(self) -> None:
        if self.desk.row is None:
            return
        for payment in self._row().payments:
            sums = sums_of(self._row(), payment.payment_id)
            capturing = self._open(payment, OperationKind.CAPTURE)
            refunding = self._open(payment, OperationKind.REFUND)
            assert min(sums.authorized, sums.captured, sums.refunded) >= 0
            if self.reversals == 0 and not payment.review and payment.payment_id not in self.closed:
                assert sums.captured + capturing <= sums.authorized
                assert sums.refunded + refunding <= sums.captured
            if sums.refunded > sums.captured or sums.captured > sums.authorized:
                assert payment.review or payment.payment_id in self.closed, "a deficit must ask for a person"

    def _open(self, payment: PaymentRow, kind: OperationKind) -> int:
        return sum(
            each.amount_minor
            for each in self._row().operations
            if each.kind is kind and each.state in OPEN and each.payment_id == payment.payment_id
            if each.initiator is Initiator.MERCHANT
        )

    @invariant()
    def what_is_shown_is_what_the_operations_count_for(self) -> None:
        for output in self.desk.said[self.shown :]:
            # One of a lower sequence is said again after a crash.
            if isinstance(output, Publish) and output.event.sequence >= self.last_sequence:
                self.last_sequence = output.event.sequence
                if output.event.payment is not None:
                    self.last_shown[output.event.payment.payment_id] = output.event.payment
        self.shown = len(self.desk.said)
        if self.desk.row is None:
            return
        for payment in self._row().payments:
            view = self.last_shown.get(payment.payment_id)
            if view is not None:
                shown = (view.authorized_minor, view.captured_minor, view.refunded_minor)
                sums = sums_of(self._row(), payment.payment_id)
                assert shown == (sums.authorized, sums.captured, sums.refunded)

    @invariant()
    def one_operation_is_active_and_one_authorization_open(self) -> None:
        if self.desk.row is None:
            return
        operations = self._row().operations
        active = [
            each.op_id for each in operations if each.state in {OperationState.CLAIMING, OperationState.DISPATCHED}
        ]
        assert active == ([self._row().active_op_id] if self._row().active_op_id else [])
        # One that waits for another in doubt has made no attempt: it is not an authorization that is open.
        made = [each for each in operations if each.kind in OPENING and each.state in OPEN and each.attempt > 0]
        assert len(made) <= 1
        waiting = [each for each in operations if each.state is OperationState.QUEUED]
        # What the engine owes itself goes first, the newest before all.
        own = [each.op_id for each in reversed(waiting) if each.initiator is Initiator.ENGINE]
        queued = (*own, *(each.op_id for each in waiting if each.initiator is not Initiator.ENGINE))
        assert queued == self._row().queue
        assert active or not queued

    @invariant()
    def amounts_of_dispatched_operations_are_positive(self) -> None:
        for output in self.desk.said:
            if isinstance(output, CallGateway):
                assert output.request.amount_minor > 0
                assert output.request.currency == "USD"

    @invariant()
    def no_call_could_knowingly_take_money_twice(self) -> None:
        assert self.desk.paid_knowingly == [], self.desk.paid_knowingly

    @invariant()
    def attempts_follow_the_pinned_plan_and_none_comes_back_to_who_declined(self) -> None:
        for operation in () if self.desk.row is None else self._row().operations:
            if operation.kind not in OPENING:
                assert not any(each.declined for each in operation.earlier_attempts)
                continue
            tried = [(each.attempt, each.gateway, each.declined) for each in operation.earlier_attempts]
            if operation.gateway is not None:
                tried.append((operation.attempt, operation.gateway, False))
            assert all(str(PLAN.gateways[place - 1]) == str(gateway) for place, gateway, _ in tried)
            for number, (_, gateway, declined) in enumerate(tried):
                assert not declined or gateway not in {each for _, each, _ in tried[number + 1 :]}

    @invariant()
    def last_words_stand(self) -> None:
        row, before = self.desk.row, self.before
        self.before = row
        if row is None or before is None or row is before:
            return
        assert row.version > before.version
        now = {each.op_id: each for each in row.operations}
        for earlier in before.operations:
            self._stands(earlier, now[earlier.op_id])
        for earlier_payment in before.payments:
            payment = next(each for each in row.payments if each.payment_id == earlier_payment.payment_id)
            self._status_stands(earlier_payment, payment, before, row)

    def _stands(self, earlier: OperationRow, later: OperationRow) -> None:
        assert later.events[: len(earlier.events)] == earlier.events
        assert later.attempt >= earlier.attempt
        if earlier.state in NEVER_LEFT and not are_decided(later.words):
            assert later.state is earlier.state
        if earlier.state in {OperationState.SUCCEEDED, OperationState.REVERSED}:
            assert later.state in {OperationState.SUCCEEDED, OperationState.REVERSED}
        if earlier.state in IN_DOUBT:
            assert later.gateway == earlier.gateway, "in doubt, it is never sent anywhere else"
            assert later.attempt == earlier.attempt

    def _status_stands(self, earlier: PaymentRow, later: PaymentRow, before: OrderRow, row: OrderRow) -> None:
        was = Books.of(earlier.payment_id, before.operations).status
        now = Books.of(later.payment_id, row.operations).status
        if was in TERMINAL and now is not was:
            taken_back = {each.op_id for each in row.operations if each.state is OperationState.REVERSED}
            decided = any(are_decided(each.words) for each in row.operations)
            words = {each.op_id: each.words for each in row.operations}
            heard = [each.op_id for each in before.operations if each.words and words[each.op_id] != each.words]
            assert taken_back or heard or decided, f"{was} became {now} though nothing was taken back or restored"

    @invariant()
    def an_event_id_stands_for_one_content(self) -> None:
        for output in self.desk.said[self.seen :]:
            if isinstance(output, Publish):
                assert self.contents.setdefault(output.event_id, output) == output
        self.seen = len(self.desk.said)

    @invariant()
    def tokens_stay_only_where_a_call_may_need_them(self) -> None:
        if self.desk.row is None:
            return
        needy = {OperationState.QUEUED, OperationState.CLAIMING, OperationState.DISPATCHED}
        done = [each for each in self._row().operations if each.state not in needy]
        assert all((each.token, each.command_offset) == (None, None) for each in done)

    def teardown(self) -> None:
        """Let everything come to rest: nothing may be left waiting for its turn."""
        if self.desk.row is not None:
            self.desk.replay = False
            self._drain()
            assert self._row().active_op_id is None
            assert self._row().queue == ()

    def _drain(self) -> None:
        for _ in range(500):
            self.desk.settle()
            if self._row().active_op_id is None or not self.desk.timers:
                return
            timer = min(self.desk.timers.values(), key=lambda each: each.due_at_ms)
            assert timer.op_id is not None
            self.desk.fire(timer.op_id)
        raise AssertionError("the order never came to rest")


TestOrderInvariants = OrderMachine.TestCase
TestOrderInvariants.settings = settings(
    max_examples=120,
    stateful_step_count=35,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
