"""The crash model of the claim-after-order protocol, around the real state machines of `streams.domain`.

`run` plays one seeded history: clients send commands and retries, reuse keys within and across orders; workers read,
decide, flush, commit, crash and are paused in random turns; the policy changes in between; then everything comes to
rest and `crash_checks.violations` says what was broken. A flaw is a wrapper around the code or a fault of a worker, so
that the model proves it would notice.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway_adapters.contract import GatewayNotice
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, CommandId, GatewayName, gateway_route
from schemas.records.claims import ClaimDecided, ClaimRequested, ClaimRow, RoutePlan
from schemas.records.commands import Command
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.orders import ApartRow, OrderRow
from schemas.records.payments import ReplyTo
from schemas.records.timers import OpenTimer, TimerFired
from schemas.vocabulary import CallKind, OperationKind, TimerKind
from streams.domain import desk
from streams.domain.apart import Load
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
from streams.domain.limits import DEFAULT_RULES
from streams.domain.order import decide, longest_owed
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
from tests.support.crash_commands import client_commands
from tests.support.crash_desk import DECISIONS, Person
from tests.support.crash_flaws import knowingly_twice, misheard, put_in, put_in_at_the_desk, put_in_leaving
from tests.support.crash_gateways import (
    HONOURS_KEYS,
    REQUESTS,
    RESULTS,
    WEBHOOKS,
    Executor,
    Gateways,
    Whims,
)
from tests.support.crash_log import Entry, Faults, Logs, Worker, Write, handed_back, paused

COMMANDS: Final = "commands"
CLAIMS: Final = "claims"
VERDICTS: Final = "verdicts"
TIMERS: Final = "timers"
EVENTS: Final = "events"
REPLIES: Final = "replies"

MAX_STEPS: Final = 30_000
MAX_ZOMBIES: Final = 3
ZOMBIE_STEPS: Final = 60
REDRIVEN: Final = 0.1
"""How likely an operator redrives a letter, of the turns in which one might."""

PLANS: Final = (("alpha", "beta", "alpha"), ("beta", "alpha", "beta"), ("beta",), ("alpha", "alpha"))
PLANS_ONCE: Final = (("alpha", "beta", "gamma"), ("gamma", "alpha", "beta"), ("beta",), ("beta", "alpha"))
"""No gateway twice. A notice names no attempt: of a gateway that had two in doubt, nobody could tell which it means."""

ACCOUNTS: Final = {GatewayName("beta"): AccountName("eu")}
"""The accounts that are used, where it is not the default one: what is said of another account's is about nobody."""

_RULES: Final = replace(
    DEFAULT_RULES,
    key_windows_ms={GatewayName(each): dict.fromkeys(set(CallKind) - {CallKind.INQUIRE}) for each in HONOURS_KEYS},
)
_TRUSTING: Final = replace(_RULES, late_call_ms=0)


class NeverAtRestError(Exception):
    """Something goes on for ever: a violation like any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What may happen in a run, and what is wrong on purpose."""

    commands: int = 10
    crashes: int = 10  # at most, pauses included
    crash_percent: float = 1.0  # of turns
    zombies: bool = False
    faults: Faults = field(default_factory=Faults)
    whims: Whims = field(default_factory=Whims)
    plans: tuple[tuple[str, ...], ...] = PLANS
    policy_version: int = 1  # at first; version 0 prefers the gateway that honours keys
    plan_not_pinned: bool = False  # an operation is dispatched by the policy of the moment, not by the claim's plan
    executor_forgets: bool = False  # the executor sends again without its memory, the results topic
    absence_is_proof: bool = False  # what an inquiry does not find is taken for never executed, at once
    anyone_takes_back: bool = False  # a success is taken back by whoever says so
    late_success_is_silent: bool = False  # what was given up and succeeds after all is not heard
    contradictions_are_forgotten: bool = False  # what a gateway said against itself stops no further attempt
    decisions: int = 0  # of persons, about what is open
    desk_has_the_last_word: bool = False  # a person's word counts, whatever the gateway says later
    times_are_ignored: bool = False  # words count in the order in which they came
    desk_is_never_asked_again: bool = False  # what contradicts a person is not heard
    failed_is_failed: bool = False  # a payment that failed lets another one in, whatever a person should look at
    never_driven_again: bool = False  # no sweep asks for what has waited for long
    leaving: bool = False  # settled operations leave their order's row as soon as they may
    left_whatever_it_is: bool = False  # they leave it whatever they have become since that was asked for


@dataclass(slots=True)
class Policy:
    """The routing policy of the moment: each version has its own order of gateways."""

    plans: tuple[tuple[str, ...], ...]
    version: int = 1

    def plan_for(self, command: Command) -> RoutePlan:
        return self.plan

    @property
    def plan(self) -> RoutePlan:
        gateways = map(GatewayName, self.plans[self.version % len(self.plans)])
        routes = tuple(gateway_route(each, ACCOUNTS.get(each, DEFAULT_ACCOUNT)) for each in gateways)
        return RoutePlan(policy_version=self.version, gateways=routes, refusal=None)


class Orders(Worker[OrderRow]):
    """The shell around `decide`: what the orders agent does, without codec."""

    name = "orders"
    inputs = (COMMANDS, VERDICTS, RESULTS, WEBHOOKS, DECISIONS, TIMERS)
    mortal = frozenset({VERDICTS, RESULTS})

    def __init__(self, logs: Logs, chance: random.Random, scenario: Scenario, policy: Policy) -> None:
        self._policy = policy
        self._plan_not_pinned = scenario.plan_not_pinned
        self._scenario = scenario
        self._rules = _TRUSTING if scenario.absence_is_proof else _RULES
        if scenario.leaving:
            self._rules = replace(self._rules, kept_operations=0, leaving_operations=1)
        self.decisions = 0
        self.paid_knowingly: list[str] = []
        self.dead_decisions: set[str] = set()
        super().__init__(logs, chance, scenario.faults)

    def handle(self, topic: str, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        before: OrderRow | None = self.rows.get(entry.key)
        self.decisions += 1
        event = _input(entry, possible_replay=possible_replay)
        if self._plan_not_pinned and isinstance(event, VerdictReceived):
            event = replace(event, verdict=replace(event.verdict, plan=self._policy.plan))
        if isinstance(event, NoticeReceived) and before is not None:
            event = self._heard(event, before)
        if isinstance(event, DecisionReceived) and not desk.knows(before, event.decision, self._loading(entry.key)):
            self.dead_decisions.add(event.decision.decision_id)
            return []  # a dead letter
        decision = decide(before, event, self._policy.plan_for, self._rules, self._loading(entry.key))
        row = decision.row
        if row is None:
            return []
        self.paid_knowingly += knowingly_twice(row, decision.outputs)
        self.rows[entry.key] = row
        writes = []
        # As the agent does: the answer to a decision that was heard before waits for the row that holds it.
        if row != before or possible_replay or isinstance(event, DecisionReceived):
            writes.append(self._table(entry.key, row, row))
        writes.extend(self._write(entry.key, row, output) for output in decision.outputs)
        return writes

    def _heard(self, event: NoticeReceived, row: OrderRow) -> NoticeReceived:
        flaws = self._scenario
        notice = misheard(
            event.notice, row, anyone_takes_back=flaws.anyone_takes_back, silent=flaws.late_success_is_silent
        )
        return replace(event, notice=notice)

    def _table(self, key: str, value: object, row: OrderRow) -> Write:
        return Write("changelog:orders", key, value, table=True, version=row.version)

    def _write(self, key: str, row: OrderRow, output: Output) -> Write:
        match output:
            case SendClaim():
                return Write(CLAIMS, output.claim.idempotency_key, output.claim)
            case CallGateway():
                return Write(REQUESTS, key, output.request)
            case Publish():
                return Write(EVENTS, key, output)
            case Reply():
                return Write(REPLIES, key, output.reply)
            case SayTimer():
                return Write(TIMERS, key, output.fired)
            case _:
                return self._kept(key, row, output)

    def _kept(self, key: str, row: OrderRow, output: SetTimer | ClearTimer | KeepApart) -> Write:
        value: OpenTimer | ApartRow | None
        match output:
            case KeepApart():
                name, value = f"apart|{key}|{output.name}", output.row
            case SetTimer():
                name, value = f"timer|{output.timer.op_id}", output.timer
            case ClearTimer():
                name, value = f"timer|{output.op_id}", None
        self.rows[name] = value
        return self._table(name, value, row)

    @property
    def timers(self) -> list[OpenTimer]:
        return [row for row in self.rows.values() if isinstance(row, OpenTimer)]

    def _loading(self, key: str) -> Load:
        return lambda name: self.rows.get(f"apart|{key}|{name}")

    @property
    def orders(self) -> list[OrderRow]:
        """Each order with all its operations, wherever they stand: those that its row has are the truth."""
        return [self._whole(key, row) for key, row in self.rows.items() if isinstance(row, OrderRow)]

    def _whole(self, key: str, row: OrderRow) -> OrderRow:
        if not row.subtotals:
            return row
        beside = [own for name, own in self.rows.items() if name.startswith(f"apart|{key}|") and own is not None]
        known = {own.number: own.operation for own in beside if own.operation is not None}
        known |= {each.number: each for each in row.operations}
        return replace(row, operations=tuple(known[number] for number in sorted(known)))

    def subtotals_not_of_rows(self) -> Iterator[str]:
        """Yield where an order's row keeps another sum than the operations come to that have left it: added up here."""
        for key, row in self.rows.items():
            if isinstance(row, OrderRow):
                here = {each.number for each in row.operations}
                gone = [each for each in self._whole(key, row).operations if each.number not in here]
                refunded = sum(each.counted_minor for each in gone if each.kind is OperationKind.REFUND)
                kept = sum(each.refunded_minor for each in row.subtotals)
                count = sum(each.operations for each in row.subtotals)
                if (kept, count) != (refunded, len(gone)):
                    yield f"subtotals {key} {kept} of {count}, and {refunded} of {len(gone)} beside it"


def _input(entry: Entry, *, possible_replay: bool) -> OrderInput:
    when: dict[str, Any] = {"now_ms": entry.at_ms, "possible_replay": possible_replay}
    match entry.value:
        case ClaimDecided() as verdict:
            return VerdictReceived(verdict=verdict, **when)
        case GatewayCallCompleted() as result:
            return ResultReceived(result=result, **when)
        case GatewayNotice() as notice:
            account = ACCOUNTS.get(notice.gateway, DEFAULT_ACCOUNT)
            return NoticeReceived(notice=notice, account=account, **when)
        case TimerFired() as timer:
            return TimerReceived(timer=timer, **when)
        case DecisionMade() as decision:
            waits = ReplyTo(request_id=decision.decision_id, partition=0)
            return DecisionReceived(decision=decision, reply_to=waits, **when)
        case (command, str(command_id)):
            reply_to = ReplyTo(request_id=command_id, partition=0)
            return CommandReceived(
                command=command,
                command_id=CommandId(command_id),
                offset=entry.at_ms,  # as good as any number that belongs to this record alone
                reply_to=reply_to,
                traceparent=None,
                **when,
            )
        case _:
            raise AssertionError(entry.value)


class Claims(Worker[ClaimRow]):
    """The shell around `decide_claim`."""

    name = "claims"
    inputs = (CLAIMS,)
    mortal = frozenset({CLAIMS})

    def handle(self, topic: str, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        claim: ClaimRequested = entry.value
        before = self.rows.get(entry.key)
        row, verdict = decide_claim(before, claim, entry.at_ms)
        assert verdict is not None
        self.rows[entry.key] = row
        if row != before or possible_replay:
            yield Write("changelog:claims", entry.key, row, table=True)
        yield Write(VERDICTS, claim.order_id, verdict)


class World:
    """All workers and what is around them."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.chance = random.Random(seed)
        self.logs = Logs()
        self.policy = Policy(plans=scenario.plans, version=scenario.policy_version)
        self.gateways = Gateways(self.chance, scenario.whims)
        self.sent = client_commands(self.chance, scenario.commands)
        self.person = Person(self.chance, scenario.decisions)
        self._unsent = list(reversed(list(enumerate(self.sent))))
        self.crashes = 0
        self.steps = 0
        self._zombies: list[tuple[Worker[Any], int]] = []
        self.orders = self._new_orders()
        self.claims = self._new_claims()
        self.executor = Executor(
            self.logs, self.chance, scenario.faults, self.gateways, forgets=scenario.executor_forgets
        )

    def _new_orders(self) -> Orders:
        return Orders(self.logs, self.chance, self.scenario, self.policy)

    def _new_claims(self) -> Claims:
        return Claims(self.logs, self.chance, self.scenario.faults)

    def play(self) -> None:
        """Let everything happen, in random turns, until nothing is left to do."""
        while self.steps < MAX_STEPS:
            self.steps += 1
            self._misfortune()
            self.gateways.land(now_ms=self.logs.now_ms)
            if not self._turn() and not self._busy and not self._outside():
                return
        raise NeverAtRestError("the world never came to rest")

    @property
    def _busy(self) -> bool:
        return self.orders.busy or self.claims.busy or self.executor.busy

    def _turn(self) -> bool:
        """One turn of one worker, or of a zombie, or of the world outside; return whether anything happened."""
        draw = self.chance.random()
        if draw < 0.08 and self._outside():
            return True
        if self._zombies and draw < 0.3:
            return self._zombie_turn()
        worker: Worker[Any] = self.chance.choice((self.orders, self.orders, self.claims, self.executor))
        return self._work(worker)

    def _work(self, worker: Worker[Any]) -> bool:
        draw = self.chance.random()
        if draw < 0.5:
            return worker.step()
        if draw < 0.92:
            return worker.flush()
        worker.commit()
        return False

    def _zombie_turn(self) -> bool:
        index = self.chance.randrange(len(self._zombies))
        zombie, left = self._zombies.pop(index)
        if left > 1:
            self._zombies.append((zombie, left - 1))
        return self._work(zombie)

    def _misfortune(self) -> None:
        """Perhaps a worker crashes or is paused, perhaps the policy changes."""
        if self.crashes >= self.scenario.crashes:
            return
        draw = self.chance.random()
        if draw < self.scenario.crash_percent / 100:
            self.crashes += 1
            self.chance.choice((self.orders, self.orders, self.claims, self.executor)).start()
        elif draw > 0.996 and self.scenario.zombies and len(self._zombies) < MAX_ZOMBIES:
            self.crashes += 1
            if self.chance.random() < 0.7:
                self._zombies.append((self.orders, ZOMBIE_STEPS))
                self.orders = paused(self.orders, self._new_orders)
            else:
                self._zombies.append((self.claims, ZOMBIE_STEPS))
                self.claims = paused(self.claims, self._new_claims)
        elif draw > 0.992 and self._zombies:
            self.crashes += 1
            self._hand_back()
        elif draw > 0.98:
            self.policy.version += 1

    def _hand_back(self) -> None:
        """A zombie is given its work back; who had it meanwhile is one from now on."""
        zombie, _ = self._zombies.pop(self.chance.randrange(len(self._zombies)))
        owner: Worker[Any]
        if isinstance(zombie, Orders):
            owner, self.orders = self.orders, zombie
        else:
            assert isinstance(zombie, Claims)
            owner, self.claims = self.claims, zombie
        handed_back(zombie, owner)
        self._zombies.append((owner, ZOMBIE_STEPS))

    def _outside(self) -> bool:
        """A client sends, a webhook comes, a timer fires, a late call arrives; return whether anything was left."""
        if self._unsent:
            number, command = self._unsent.pop()
            self.logs.append(COMMANDS, command.order_id, (command, request_id(number)))
            return True
        if self._judge() or self._notify():
            return True
        if self.orders.timers:
            self._fire(min(self.orders.timers, key=lambda timer: timer.due_at_ms))
            return True
        if self.logs.dead and self.chance.random() < REDRIVEN:
            self.logs.redrive(self.chance)
            return True
        # Only when nothing is under way: its answer may ask for a look that comes sooner.
        if self.gateways.on_the_wire and not self._busy:
            self.logs.now_ms = self.gateways.on_the_wire[-1].arrives_at_ms
            return True
        return not self._busy and (self._sweep() or self._tell_truth())

    def _notify(self) -> bool:
        """Let a gateway send a webhook; return whether one had anything to say."""
        notice = self.gateways.notice()
        if notice is None:
            return False
        assert notice.order_id is not None
        for _ in range(self.chance.choice((1, 1, 2))):
            self.logs.append(WEBHOOKS, notice.order_id, notice)
        return True

    def _judge(self) -> bool:
        """Perhaps let a person decide about something that is open; return whether that was done."""
        if not self.person.left or self.chance.random() < 0.5:
            return False
        decision = self.person.judge(self.orders.orders, now_ms=self.logs.now_ms)
        for _ in range(0 if decision is None else self.chance.choice((1, 1, 2))):
            assert decision is not None
            self.logs.append(DECISIONS, decision.order_id, decision)
        return decision is not None

    def _tell_truth(self) -> bool:
        """Let a gateway say what became of an operation that a person judged; return whether one was left."""
        if not self.person.untold:
            return False
        for notice in self.gateways.tell_truth(*self.person.untold.pop(0)):
            assert notice.order_id is not None
            self.logs.append(WEBHOOKS, notice.order_id, notice)
        return True

    def _sweep(self) -> bool:
        """Ask each order about what has waited longest, once that is long; return whether any was asked."""
        owed = [] if self.scenario.never_driven_again else [(row, longest_owed(row)) for row in self.orders.orders]
        for row, longest in owed:
            if longest is not None:
                op_id, since_ms = longest
                timer = OpenTimer(
                    origin_id=row.origin_id,
                    order_id=row.order_id,
                    op_id=op_id,
                    kind=TimerKind.DRIVE_AGAIN,
                    number=0,
                    due_at_ms=since_ms + _RULES.drive_again_ms,
                )
                self._fire(timer)
        return any(longest is not None for _, longest in owed)

    def _fire(self, timer: OpenTimer) -> None:
        self.logs.now_ms = max(self.logs.now_ms, timer.due_at_ms)
        self.gateways.land(now_ms=self.logs.now_ms)
        fired = TimerFired(
            origin_id=timer.origin_id,
            order_id=timer.order_id,
            op_id=timer.op_id,
            kind=timer.kind,
            number=timer.number,
            due_at_ms=timer.due_at_ms,
            fired_at_ms=self.logs.now_ms,
        )
        self.logs.append(TIMERS, timer.order_id, fired)


def request_id(number: int) -> str:
    """Return the command id of the n-th command sent."""
    return f"c{number}"


def run(scenario: Scenario, seed: int) -> World:
    """Play one history to its end and return the world as it is then."""
    world = World(scenario, seed)
    with (
        put_in(
            contradictions_are_forgotten=scenario.contradictions_are_forgotten,
            failed_is_failed=scenario.failed_is_failed,
        ),
        put_in_at_the_desk(
            has_the_last_word=scenario.desk_has_the_last_word,
            times_are_ignored=scenario.times_are_ignored,
            is_never_asked_again=scenario.desk_is_never_asked_again,
        ),
        put_in_leaving(whatever_it_is=scenario.left_whatever_it_is),
    ):
        world.play()
    return world
