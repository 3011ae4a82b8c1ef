"""The crash model of the claim-after-order protocol, around the real state machines of `streams.domain`.

`run` plays one seeded history: clients send commands and retries, reuse keys within and across orders; workers read,
decide, flush, commit, crash and are paused in random turns; the policy changes in between; gateways and persons speak;
then everything comes to rest and `crash_checks.violations` says what was broken. A flaw is a wrapper around the code or
a fault of a worker, so that the model proves it would notice.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

from gateway_adapters.notices import Address
from schemas.records.commands import PaymentRequested, op_id_of
from schemas.records.references import ParkedWebhook
from schemas.records.timers import OpenTimer, TimerFired
from schemas.vocabulary import TimerKind
from streams.domain.order import longest_owed
from tests.support.crash_commands import client_commands
from tests.support.crash_desk import DECISIONS, Person
from tests.support.crash_executor import Executor
from tests.support.crash_flaws import (
    put_in,
    put_in_at_the_desk,
    put_in_leaving,
    put_in_routing,
    put_in_words,
)
from tests.support.crash_gateways import Gateways
from tests.support.crash_log import Logs, Worker, handed_back, paused
from tests.support.crash_orders import COMMANDS, RULES, TIMERS, WEBHOOKS, Claims, Orders, Posted
from tests.support.crash_references import REFERRING, ImpatientIndex, Index, key_of
from tests.support.crash_scenario import Policy, Scenario
from tests.support.crash_telling import Webhook

MAX_STEPS: Final = 30_000
MAX_ZOMBIES: Final = 3
ZOMBIE_STEPS: Final = 60
SENT_FIRST: Final = 0.8
"""How likely a client is the next who does something, while one has a command to send."""

REDRIVEN: Final = 0.1
"""How likely an operator redrives a letter, of the turns in which one might."""


class NeverAtRestError(Exception):
    """Something goes on for ever: a violation like any other."""


class World:
    """All workers and what is around them."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.chance = random.Random(seed)
        self.logs = Logs()
        self.policy = Policy(
            plans=scenario.plans, fallback_classes=scenario.fallback_classes, version=scenario.policy_version
        )
        self.sent = client_commands(self.chance, scenario.commands)
        part_will_do = [
            op_id_of(each) for each in self.sent if isinstance(each, PaymentRequested) and each.allow_partial
        ]
        self.gateways = Gateways(self.chance, scenario.whims, frozenset(part_will_do))
        self.post: dict[bytes, Posted] = {}
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
        index = ImpatientIndex if scenario.index_is_impatient else Index
        self.index = index(self.logs, self.chance, scenario.faults)

    def _new_orders(self) -> Orders:
        return Orders(self.logs, self.chance, self.scenario, self.policy, self.post)

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
        return any(each.busy for each in (self.orders, self.claims, self.executor, self.index))

    def _turn(self) -> bool:
        """One turn of one worker, or of a zombie, or of the world outside; return whether anything happened."""
        draw = self.chance.random()
        if draw < 0.08 and self._outside():
            return True
        if self._zombies and draw < 0.3:
            return self._zombie_turn()
        return self._work(self.chance.choice(self._workers))

    @property
    def _workers(self) -> Sequence[Worker[Any]]:
        own = (self.orders, self.orders, self.claims, self.executor)
        return (*own, self.index) if self.scenario.whims.unnamed else own

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
            self.chance.choice(self._workers).start()
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
        if self._unsent and self.chance.random() < SENT_FIRST:
            return self._send()
        if self._judge() or self._notify() or self._let_time_pass():
            return True
        if self._unsent:
            return self._send()
        return not self._busy and (self._sweep() or self._tell_truth())

    def _let_time_pass(self) -> bool:
        """A timer fires, an operator redrives a letter, or a late call arrives; return whether one was left."""
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
        return False

    def _send(self) -> bool:
        number, command = self._unsent.pop()
        self.logs.append(COMMANDS, command.order_id, (command, request_id(number)))
        return True

    def _notify(self) -> bool:
        """Let a gateway send a webhook; return whether one had anything to say."""
        webhook = self.gateways.webhook(now_ms=self.logs.now_ms)
        if webhook is None:
            return False
        for address in webhook.addresses:
            self._post_to(address, webhook, copies=self.chance.choice((1, 1, 2)))
        return True

    def _post_to(self, address: Address, webhook: Webhook, *, copies: int) -> None:
        """Append the webhook for this address, as the ingress does, once for each delivery."""
        posted = Posted(webhook=webhook, address=address)
        if address.reference is None:
            assert address.order_id is not None
            for _ in range(copies):
                self.logs.append(WEBHOOKS, address.order_id, posted)
            return
        body = b"w%d" % len(self.post)
        self.post[body] = posted
        for number in range(copies):
            said = ParkedWebhook(
                webhook_id=f"{body.decode()}-{number}",
                traceparent=None,
                tracestate=None,
                headers=(),
                body=body,
                received_at_ms=self.logs.now_ms,
            )
            self.logs.append(REFERRING, key_of(webhook.gateway, webhook.account, address.reference), said)

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
        self.gateways.tell_truth(self.person.untold.pop(0))
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
                    due_at_ms=since_ms + RULES.drive_again_ms,
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
        put_in_routing(moves_on_in_doubt=scenario.moves_on_in_doubt, comes_back=scenario.comes_back),
        put_in_words(
            counts_twice=scenario.counts_twice,
            deficits_are_silent=scenario.deficits_are_silent,
            returns_are_silent=scenario.returns_are_silent,
        ),
    ):
        world.play()
    return world
