"""The orders and claims workers of the crash model: the shells around the real state machines, without codec."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway_adapters.notices import Address
from schemas.identifiers import CommandId, GatewayName
from schemas.records.claims import ClaimDecided, ClaimRequested, ClaimRow
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.orders import ApartRow, OperationRow, OrderRow
from schemas.records.payments import ReplyTo
from schemas.records.references import ParkedWebhook
from schemas.records.timers import OpenTimer, TimerFired
from schemas.vocabulary import CallKind, OperationKind
from streams.domain import desk, references
from streams.domain.apart import Load, with_loaded
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
        if scenario.leaving:
            self._rules = replace(self._rules, kept_operations=0, leaving_operations=1)
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
        if isinstance(event, DecisionReceived) and not desk.knows(before, event.decision, self._loading(entry.key)):
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
        row, outputs, loaded = before, list[Output](), list[OperationRow]()
        for event in events:
            self.decisions += 1
            decision = decide(row, event, self._policy.plan_for, self._rules, self._loading(key))
            row = decision.row
            outputs += decision.outputs
            loaded += decision.loaded
        if row is None:
            return []
        self.paid_knowingly += knowingly_twice(row, outputs)
        self.rows[key] = row
        writes = [self._table(key, row, row)] if row != before or kept else []
        writes.extend(self._write(key, row, output) for output in outputs)
        if self._scenario.whims.unnamed:
            writes.extend(self._referred(with_loaded(before, loaded), with_loaded(row, loaded), again=again))
        return writes

    def _referred(self, before: OrderRow | None, row: OrderRow | None, *, again: bool) -> Iterable[Write]:
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
