"""One order on a desk: the state machines with a claims table and a scripted gateway around them, and no log.

Unit and property tests of `streams.domain` give commands and evidence by hand and look at what the order says.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway_adapters.contract import GatewayNotice
from schemas.identifiers import (
    DEFAULT_ACCOUNT,
    AccountName,
    CommandId,
    DecisionId,
    GatewayName,
    GatewayRoute,
    IdempotencyKey,
    OperatorName,
    OpId,
    OrderId,
    OriginId,
    PaymentId,
    payment_id,
)
from schemas.records.claims import ClaimDecided, ClaimRequested, ClaimRow, RoutePlan
from schemas.records.commands import (
    CaptureRequested,
    Command,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    op_id_of,
)
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, OperationError
from schemas.records.orders import ApartRow, OperationRow, OrderRow, PaymentRow
from schemas.records.payments import OperationReplied, PaymentView, ReplyTo
from schemas.records.timers import OpenTimer, TimerFired
from schemas.vocabulary import (
    CallKind,
    DecisionRefusal,
    DeclineClass,
    OperationState,
    Outcome,
    RetryAdvice,
    TimerKind,
    Verdict,
)
from streams.domain.claims import decide_claim
from streams.domain.inputs import (
    CommandReceived,
    DecisionReceived,
    NoticeReceived,
    OrderInput,
    ResultReceived,
    TimerReceived,
    VerdictReceived,
)
from streams.domain.limits import DEFAULT_RULES, Rules
from streams.domain.order import Decision, decide
from streams.domain.outputs import (
    CallGateway,
    ClearTimer,
    KeepApart,
    Output,
    Publish,
    Reply,
    SayTimer,
    SendClaim,
    SetTimer,
)
from tests.support.exhibits import Sums, sums_of

ORIGIN = OriginId("origin")
ORDER = OrderId("order-1")
MOCK = GatewayName("mock")
OTHER = GatewayName("other")
MAX_STEPS = 2_000


def plan(*gateways: str, version: int = 1, after: tuple[DeclineClass, ...] = ()) -> RoutePlan:
    """A route plan; `after` which declines the next gateway is asked."""
    routes = tuple(GatewayRoute(each) for each in gateways)
    return RoutePlan(policy_version=version, gateways=routes, refusal=None, fallback_classes=after)


def error(
    retry: RetryAdvice,
    *,
    retry_after_ms: int | None = None,
    code: str = "gateway_unreachable",
    decline_class: DeclineClass | None = None,
) -> OperationError:
    return OperationError(
        code=code,
        decline_class=decline_class,
        gateway_code=None,
        message="said by a test",
        advice=None,
        retry=retry,
        retry_after_ms=retry_after_ms,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the scripted gateway answers."""

    outcome: Outcome = Outcome.SUCCEEDED
    error: OperationError | None = None
    reference: str | None = "ref"
    confirmed_minor: int | None = None
    confirmed_currency: str | None = None
    action_url: str | None = None
    replayed: bool = False
    payment_reference: str | None = None
    sole: bool = True  # of a decline: no other copy of the call was made


SUCCESS = Said()
DECLINE = Said(outcome=Outcome.DECLINED, error=error(RetryAdvice.NEVER, code="card_declined"))
SOFT_DECLINE = Said(
    outcome=Outcome.DECLINED,
    error=error(RetryAdvice.NEW_KEY_LATER, code="do_not_honor", decline_class=DeclineClass.SOFT),
)
UNKNOWN = Said(outcome=Outcome.UNKNOWN, error=error(RetryAdvice.NEVER, code="gateway_timeout"), reference=None)
PENDING = Said(outcome=Outcome.PENDING)
ACTION = Said(outcome=Outcome.REQUIRES_ACTION, action_url="https://bank.example/3ds")
NOT_FOUND = Said(outcome=Outcome.NOT_EXECUTED, error=error(RetryAdvice.OTHER_GATEWAY), reference=None)


def refusal(retry: RetryAdvice, *, retry_after_ms: int | None = None) -> Said:
    return Said(outcome=Outcome.NOT_EXECUTED, error=error(retry, retry_after_ms=retry_after_ms), reference=None)


@dataclass(slots=True, kw_only=True)
class Desk:
    """The order, and everything it has said so far."""

    plan: RoutePlan = field(default_factory=lambda: plan("mock", "mock", "mock"))
    rules: Rules = DEFAULT_RULES
    row: OrderRow | None = None
    now_ms: int = 1_000
    replay: bool = False
    script: deque[Said] = field(default_factory=deque)  # the gateway's next answers; then it succeeds
    claim_rows: dict[IdempotencyKey, ClaimRow] = field(default_factory=dict)
    claims: deque[ClaimRequested] = field(default_factory=deque)
    requests: deque[GatewayCallRequested] = field(default_factory=deque)
    timers: dict[OpId | None, OpenTimer] = field(default_factory=dict)
    said: list[Output] = field(default_factory=list)
    planned: list[Command] = field(default_factory=list)  # what a route plan was asked for
    commands: int = 0
    apart: dict[str, ApartRow] = field(default_factory=dict)  # what stands beside the row, by its name
    steps: deque[TimerFired] = field(default_factory=deque)  # what the order has asked itself

    def take(self, event: OrderInput) -> Decision:
        """Give the order this input and keep what it says."""
        decision = decide(self.row, event, self.plan_for, self.rules, self.apart.get)
        self.row = decision.row
        for output in decision.outputs:
            self._keep(output)
        return decision

    def plan_for(self, command: Command) -> RoutePlan:
        self.planned.append(command)
        return self.plan

    def _keep(self, output: Output) -> None:
        self.said.append(output)
        match output:
            case SendClaim():
                self.claims.append(output.claim)
            case CallGateway():
                self.requests.append(output.request)
            case SetTimer():
                self.timers[output.timer.op_id] = output.timer
            case ClearTimer():
                self.timers.pop(output.op_id, None)
            case SayTimer():
                self.steps.append(output.fired)
            case KeepApart() if output.row is None:
                self.apart.pop(output.name, None)
            case KeepApart():
                assert output.row is not None
                self.apart[output.name] = output.row
            case Publish() | Reply():
                pass  # read from `said`

    # Commands

    def send(
        self, command: Command, *, command_id: str | None = None, waits: bool = True, final_only: bool = False
    ) -> OpId:
        """Give the command; return its operation's id. The claim and the call wait until `settle`."""
        self.commands += 1
        name = command_id or f"c{self.commands}"
        self.take(
            CommandReceived(
                command=command,
                command_id=CommandId(name),
                offset=self.commands,
                reply_to=ReplyTo(request_id=name, partition=0, final_only=final_only) if waits else None,
                traceparent=None,
                now_ms=self.now_ms,
                possible_replay=self.replay,
            )
        )
        return op_id_of(command)

    def do(self, command: Command, *answers: Said) -> OpId:
        """Give the command, let the gateway answer so, and settle; return its operation's id."""
        self.script.extend(answers)
        op_id = self.send(command)
        self.settle()
        return op_id

    def decide(
        self,
        op_id: OpId,
        verdict: Verdict,
        amount: int | None = None,
        *,
        name: str = "d1",
        why: str = "said by a test",
        approved_by: str | None = None,
        payment: PaymentId | None = None,
        waits: bool = True,
    ) -> DecisionRefusal | None:
        """Let a person decide about an operation; return why the order does not take it, if anybody waits for that."""
        decision = decision_of(
            self, op_id, verdict, amount, name=name, why=why, approved_by=approved_by, payment=payment
        )
        self.take(
            DecisionReceived(
                decision=decision,
                reply_to=ReplyTo(request_id=f"r-{name}", partition=0) if waits else None,
                now_ms=self.now_ms,
                possible_replay=self.replay,
            )
        )
        if not waits:
            return None
        told = self.replies_to(f"r-{name}")[-1].decision
        assert told is not None
        return told.refusal

    # What others do with what the order said

    def settle(self) -> None:
        """Let claims and gateway answer until nothing is owed to the order."""
        for _ in range(MAX_STEPS):
            if self.claims:
                self.grant()
            elif self.requests:
                self.call()
            else:
                return
        raise AssertionError("the order never came to rest")

    def grant(self) -> ClaimDecided:
        """Let the claims agent decide the oldest claim."""
        claim = self.claims.popleft()
        row, verdict = decide_claim(self.claim_rows.get(claim.idempotency_key), claim, self.now_ms)
        assert row is not None
        assert verdict is not None
        self.claim_rows[claim.idempotency_key] = row
        self.verdict(verdict)
        return verdict

    def verdict(self, verdict: ClaimDecided) -> Decision:
        return self.take(VerdictReceived(verdict=verdict, now_ms=self.now_ms, possible_replay=self.replay))

    def call(self, said: Said | None = None) -> GatewayCallCompleted:
        """Let the gateway answer the oldest request: so, or by the script, or with a success."""
        answer = said or (self.script.popleft() if self.script else SUCCESS)
        result = completed(self.requests.popleft(), answer, now_ms=self.now_ms)
        self.result(result)
        return result

    def result(self, result: GatewayCallCompleted) -> Decision:
        return self.take(ResultReceived(result=result, now_ms=self.now_ms, possible_replay=self.replay))

    def notice(self, op_id: OpId | None, said: Said, **fields: object) -> Decision:
        """Let a webhook say this; `fields` replace those of the notice, but for `account`, which it comes to."""
        account = AccountName(str(fields.pop("account", DEFAULT_ACCOUNT)))
        notice = GatewayNotice(
            gateway=MOCK,
            notice_id="n1",
            origin_id=ORIGIN,
            order_id=ORDER,
            op_id=op_id,
            kind=None,
            outcome=said.outcome,
            gateway_reference=said.reference,
            payment_reference=None,
            confirmed_amount_minor=said.confirmed_minor,
            confirmed_currency=said.confirmed_currency,
            error=said.error,
            occurred_at_ms=self.now_ms,
        )
        notice = replace(notice, **fields)  # type: ignore[arg-type]  # a test names any field of the notice
        return self.take(
            NoticeReceived(notice=notice, now_ms=self.now_ms, possible_replay=self.replay, account=account)
        )

    def fire(self, op_id: OpId, *, number: int | None = None) -> Decision:
        """Let the operation's timer fire, at its time; or one of another number."""
        timer = self.timers[op_id]
        self.now_ms = max(self.now_ms, timer.due_at_ms)
        return self.fire_timer(timer if number is None else replace(timer, number=number))

    def fire_early(self, op_id: OpId) -> Decision:
        """Let the operation's timer fire a millisecond before its time, by a worker whose clock is ahead."""
        self.now_ms = max(self.now_ms, self.timers[op_id].due_at_ms - 1)
        return self.fire_timer(self.timers[op_id])

    def fire_timer(self, timer: OpenTimer) -> Decision:
        fired = TimerFired(
            origin_id=timer.origin_id,
            order_id=timer.order_id,
            op_id=timer.op_id,
            kind=timer.kind,
            number=timer.number,
            due_at_ms=timer.due_at_ms,
            fired_at_ms=self.now_ms,
        )
        return self.take(TimerReceived(timer=fired, now_ms=self.now_ms, possible_replay=self.replay))

    def leave(self) -> int:
        """Let the order do what it has asked itself to do; return how many steps that were."""
        taken = 0
        while self.steps:
            taken += 1
            self.step(self.steps.popleft())
        return taken

    def step(self, asked: TimerFired) -> Decision:
        return self.take(TimerReceived(timer=asked, now_ms=self.now_ms, possible_replay=self.replay))

    def end(self) -> Decision:
        """Let the sweep of the orders table ask for the end of the row."""
        return self.fire_timer(
            OpenTimer(
                origin_id=ORIGIN, order_id=ORDER, op_id=None, kind=TimerKind.EXPIRE_ROW, number=0, due_at_ms=self.now_ms
            )
        )

    # What there is to see

    @property
    def operations(self) -> tuple[OperationRow, ...]:
        """All operations of the order, oldest first, wherever they stand: the row's own are the truth."""
        assert self.row is not None
        known = {each.number: each.operation for each in self.apart.values() if each.operation is not None}
        known |= {each.number: each for each in self.row.operations}
        return tuple(known[number] for number in sorted(known))

    def operation(self, op_id: OpId) -> OperationRow:
        return next(each for each in self.operations if each.op_id == op_id)

    def state(self, op_id: OpId) -> OperationState:
        return self.operation(op_id).state

    @property
    def payment(self) -> PaymentRow:
        assert self.row is not None
        return self.row.payments[-1]

    @property
    def sums(self) -> Sums:
        """The newest payment's sums, added up from its operations."""
        assert self.row is not None
        return sums_of(replace(self.row, operations=self.operations), self.payment.payment_id)

    @property
    def events(self) -> list[Publish]:
        return [output for output in self.said if isinstance(output, Publish)]

    @property
    def transitions(self) -> list[str]:
        return [each.transition.value for each in self.events]

    @property
    def replies(self) -> list[OperationReplied]:
        return [output.reply for output in self.said if isinstance(output, Reply)]

    def replies_to(self, request_id: str) -> list[OperationReplied]:
        return [reply for reply in self.replies if reply.request_id == request_id]

    @property
    def view(self) -> PaymentView:
        """The payment as the last event shows it."""
        payment = self.events[-1].event.payment
        assert payment is not None
        return payment


def decision_of(
    desk: Desk,
    op_id: OpId,
    verdict: Verdict = Verdict.NOTE,
    amount: int | None = None,
    *,
    name: str = "d1",
    why: str = "said by a test",
    approved_by: str | None = None,
    payment: PaymentId | None = None,
) -> DecisionMade:
    """Return what a person decides about an operation of the desk's order."""
    known = {each.op_id: each.payment_id for each in (() if desk.row is None else desk.operations)}
    return DecisionMade(
        decision_id=DecisionId(name),
        origin_id=ORIGIN,
        order_id=ORDER,
        payment_id=payment or known.get(op_id) or payment_id(ORDER, op_id),
        op_id=op_id,
        verdict=verdict,
        amount_minor=amount,
        why=why,
        decided_by=OperatorName("anna"),
        approved_by=None if approved_by is None else OperatorName(approved_by),
        decided_at_ms=desk.now_ms,
    )


def completed(request: GatewayCallRequested, said: Said, *, now_ms: int) -> GatewayCallCompleted:
    """Return the executor's record of this answer; a success confirms what was asked unless it says otherwise."""
    succeeded = said.outcome is Outcome.SUCCEEDED
    return GatewayCallCompleted(
        origin_id=request.origin_id,
        order_id=request.order_id,
        op_id=request.op_id,
        kind=request.kind,
        attempt=request.attempt,
        call_number=request.call_number,
        gateway=request.gateway,
        account=request.account,
        outcome=said.outcome,
        gateway_reference=said.reference,
        confirmed_amount_minor=said.confirmed_minor or (request.amount_minor if succeeded else None),
        confirmed_currency=said.confirmed_currency or (request.currency if succeeded else None),
        action_url=said.action_url,
        error=said.error,
        raw=None,
        replayed=said.replayed,
        payment_reference=said.payment_reference,
        completed_at_ms=now_ms,
        sole=said.sole and said.outcome is Outcome.DECLINED and request.kind is not CallKind.INQUIRE,
    )


# Commands, short

MakeCommand = Callable[..., Command]


def authorize(amount: int = 10_000, *, key: str = "auth", token: str = "tok_1", order: OrderId = ORDER) -> Command:
    return _payment(amount, key=key, token=token, order=order, capture=False)


def sale(amount: int = 10_000, *, key: str = "sale", token: str = "tok_1", order: OrderId = ORDER) -> Command:
    return _payment(amount, key=key, token=token, order=order, capture=True)


def _payment(amount: int, *, key: str, token: str, order: OrderId, capture: bool) -> PaymentRequested:
    return PaymentRequested(
        origin_id=ORIGIN,
        order_id=order,
        idempotency_key=IdempotencyKey(key),
        amount_minor=amount,
        currency="USD",
        token=token,
        capture=capture,
    )


def capture(
    payment: PaymentId, amount: int | None = None, *, key: str = "cap", final: bool = False, currency: str | None = None
) -> Command:
    return CaptureRequested(
        origin_id=ORIGIN,
        order_id=ORDER,
        idempotency_key=IdempotencyKey(key),
        payment_id=payment,
        amount_minor=amount,
        currency=currency,
        final=final,
    )


def void(payment: PaymentId, *, key: str = "void") -> Command:
    return VoidRequested(origin_id=ORIGIN, order_id=ORDER, idempotency_key=IdempotencyKey(key), payment_id=payment)


def refund(payment: PaymentId, amount: int | None = None, *, key: str = "ref", currency: str | None = None) -> Command:
    return RefundRequested(
        origin_id=ORIGIN,
        order_id=ORDER,
        idempotency_key=IdempotencyKey(key),
        payment_id=payment,
        amount_minor=amount,
        currency=currency,
    )


def inquiry(request: GatewayCallRequested) -> bool:
    return request.kind is CallKind.INQUIRE
