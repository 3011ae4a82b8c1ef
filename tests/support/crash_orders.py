"""The orders and claims workers of the crash model: the shells around the real state machines, without codec."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway_adapters.notices import Address
from schemas.identifiers import CommandId, GatewayName
from schemas.records.claims import ClaimDecided, ClaimRequested, ClaimRow
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.orders import OrderRow
from schemas.records.payments import ReplyTo
from schemas.records.references import ParkedWebhook
from schemas.records.timers import OpenTimer, TimerFired
from schemas.vocabulary import CallKind
from streams.domain import desk, references
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
from streams.domain.order import decide
from streams.domain.outputs import CallGateway, ClearTimer, Output, Publish, Reply, SendClaim, SetTimer
from tests.support.crash_calls import HONOURS_KEYS, REQUESTS, RESULTS
from tests.support.crash_desk import DECISIONS
from tests.support.crash_flaws import knowingly_twice, misheard
from tests.support.crash_log import Entry, Logs, Worker, Write
from tests.support.crash_references import INBOX, KEPT, key_of
from tests.support.crash_scenario import Policy, Scenario
from tests.support.crash_telling import CAPABILITIES, Webhook

COMMANDS: Final = "commands"
CLAIMS: Final = "claims"
VERDICTS: Final = "verdicts"
TIMERS: Final = "timers"
WEBHOOKS: Final = "gateway.webhooks"
EVENTS: Final = "events"
REPLIES: Final = "replies"


RULES: Final = replace(
    DEFAULT_RULES,
    key_windows_ms={GatewayName(each): dict.fromkeys(set(CallKind) - {CallKind.INQUIRE}) for each in HONOURS_KEYS},
)
_TRUSTING: Final = replace(RULES, late_call_ms=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A webhook as it was appended for one address."""

    webhook: Webhook
    address: Address


class Orders(Worker[OrderRow]):
    """The shell around `decide`: what the orders agent does, without codec."""

    name = "orders"
    inputs = (COMMANDS, VERDICTS, RESULTS, WEBHOOKS, INBOX, DECISIONS, TIMERS)
    mortal = frozenset({VERDICTS, RESULTS})

    def __init__(
        self, logs: Logs, chance: random.Random, scenario: Scenario, policy: Policy, post: dict[bytes, Posted]
    ) -> None:
        self._policy = policy
        self._post = post
        self._plan_not_pinned = scenario.plan_not_pinned
        self._scenario = scenario
        self._rules = _TRUSTING if scenario.absence_is_proof else RULES
        self.decisions = 0
        self.paid_knowingly: list[str] = []
        self.dead_decisions: set[str] = set()
        super().__init__(logs, chance, scenario.faults)

    def handle(self, topic: str, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        before: OrderRow | None = self.rows.get(entry.key)
        if isinstance(entry.value, Posted | ParkedWebhook):
            posted = self._post[entry.value.body] if isinstance(entry.value, ParkedWebhook) else entry.value
            return [] if before is None else self._noticed(posted, entry, before, possible_replay=possible_replay)
        event = _input(entry, possible_replay=possible_replay)
        if self._plan_not_pinned and isinstance(event, VerdictReceived):
            event = replace(event, verdict=replace(event.verdict, plan=self._policy.plan))
        if isinstance(event, DecisionReceived) and not desk.knows(before, event.decision):
            self.dead_decisions.add(event.decision.decision_id)
            return []  # a dead letter
        # As the agent does: the answer to a decision that was heard before waits for the row that holds it.
        kept = possible_replay or isinstance(event, DecisionReceived)
        again = possible_replay and topic != COMMANDS
        return self._decided(entry.key, before, [event], kept=kept, again=again)

    def _noticed(self, posted: "Posted", entry: Entry, before: OrderRow, *, possible_replay: bool) -> list[Write]:
        """Take the items of a webhook that are about this order: those alone, and all in one step."""
        items = posted.webhook.items_of(posted.address)
        named = [replace(each, origin_id=before.origin_id, order_id=before.order_id) for each in items]
        events = [
            NoticeReceived(
                notice=misheard(
                    each,
                    before,
                    anyone_takes_back=self._scenario.anyone_takes_back,
                    silent=self._scenario.late_success_is_silent,
                ),
                now_ms=entry.at_ms,
                possible_replay=possible_replay,
                account=posted.webhook.account,
            )
            for each in named
        ]
        return self._decided(entry.key, before, events, kept=possible_replay, again=possible_replay)

    def _decided(
        self, key: str, before: OrderRow | None, events: Sequence[OrderInput], *, kept: bool, again: bool
    ) -> list[Write]:
        row, outputs = before, list[Output]()
        for event in events:
            self.decisions += 1
            decision = decide(row, event, self._policy.plan_for, self._rules)
            row = decision.row
            outputs += decision.outputs
        if row is None:
            return []
        self.paid_knowingly += knowingly_twice(row, outputs)
        self.rows[key] = row
        writes = [self._table(key, row, row)] if row != before or kept else []
        writes.extend(self._write(key, row, output) for output in outputs)
        if self._scenario.whims.unnamed:
            writes.extend(self._referred(before, row, again=again))
        return writes

    def _referred(self, before: OrderRow | None, row: OrderRow, *, again: bool) -> Iterable[Write]:
        for each in references.to_register(before, row, CAPABILITIES, again=again):
            yield Write(KEPT, key_of(each.gateway, each.account, each.reference), each)

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
            case SetTimer():
                name = f"timer|{output.timer.op_id}"
                self.rows[name] = output.timer
                return self._table(name, output.timer, row)
            case ClearTimer():
                name = f"timer|{output.op_id}"
                self.rows[name] = None
                return self._table(name, None, row)

    @property
    def timers(self) -> list[OpenTimer]:
        return [row for row in self.rows.values() if isinstance(row, OpenTimer)]

    @property
    def orders(self) -> list[OrderRow]:
        return [row for row in self.rows.values() if isinstance(row, OrderRow)]


def _input(entry: Entry, *, possible_replay: bool) -> OrderInput:
    when: dict[str, Any] = {"now_ms": entry.at_ms, "possible_replay": possible_replay}
    match entry.value:
        case ClaimDecided() as verdict:
            return VerdictReceived(verdict=verdict, **when)
        case GatewayCallCompleted() as result:
            return ResultReceived(result=result, **when)
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
