"""A small valid run of the engine on a log in memory, with everything the checker reads; tests then spoil it.

Production's agents and codec write the topics and the changelog; the claims agent and a scripted gateway with a ledger
stand behind them, and answers over HTTP are made of the replies as the ingress makes them.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from gateway_adapters.mock import wire
from gateway_adapters.mock.spec import SPEC
from gateway_adapters.policy import ANY_ORIGIN, default_policy
from http_ingress.command_log import command_envelope
from http_ingress.representation import answers
from schemas import topics
from schemas.event_types import TYPES
from schemas.identifiers import (
    CommandId,
    DecisionId,
    GatewayName,
    GatewayRoute,
    OperatorName,
    OpId,
    OrderId,
    OriginId,
    PaymentId,
)
from schemas.messages import Envelope, MessageCodec, Record
from schemas.records.commands import (
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    kind_of,
    op_id_of,
)
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.orders import ApartRow, OrderRow
from schemas.records.payments import OperationReplied, PaymentEvent
from schemas.records.timers import OpenTimer, TimerFired
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import CallKind, OperationState, Outcome, Verdict
from streams.agents.claims import ClaimsAgent
from streams.agents.intake import RefusedError
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.domain.limits import DEFAULT_RULES, Rules
from streams.kafka.stamps import Stamp
from streams.kafka.step import Step
from streams.kafka_clients.log_reader import LogRecord
from streams.topology import CLAIMS, OPERATIONS_TABLE, ORDERS, ORDERS_TABLE, TIMERS_TABLE
from tests.support.evidence import decisions_in, plans_in
from tests.support.exhibits import Evidence, GatewayStand, LedgerEntry
from tests.support.kept_tables import KeptTables
from tests.support.order_desk import SUCCESS, Said, completed
from tests.support.replay import Replay
from tests.support.replay_course import INPUT_TOPICS, input_of
from tests.support.row_history import RowHistory
from tests.support.workload import Answer, History, Request, Ruling

MAX_RECORDS = 10_000
STEP_MS = 3
MOCK = GatewayName("mock")


class StagedRun:
    """One partition, one generation, no faults. `send` a command, and look at the log."""

    def __init__(self, rules: Rules = DEFAULT_RULES) -> None:
        self.codec = MessageCodec(SchemaIds.packaged())
        self.live_by(rules)
        self._tables: dict[tuple[str, bytes], bytes | None] = {}
        self._waiting: deque[LogRecord] = deque()
        self._script: deque[Said] = deque()
        self._requests: dict[str, Request] = {}
        self._commands: dict[str, Command] = {}
        self.log: dict[str, list[LogRecord]] = defaultdict(list)
        self.changelog: list[tuple[bytes, Stamp, OrderRow]] = []
        self.apart: list[tuple[bytes, Stamp, ApartRow]] = []  # the changelog of the rows beside orders'
        self.timers: dict[OpId, OpenTimer] = {}
        self.due_tables = KeptTables(*ORDERS.tables, *CLAIMS.tables)
        self.ledger: list[LedgerEntry] = []
        self.calls: dict[str, GatewayCallRequested] = {}  # the last call of each operation that was to have an effect
        self.history = History()
        self.stands: dict[str, GatewayStand] = {}  # what the gateway said last, by notice
        self._tokens: dict[tuple[str, str], str] = {}  # of the payments at the gateway
        self.dies_once: str | None = None  # the topic whose next record nobody takes
        self.now_ms = 1_000_000

    def live_by(self, rules: Rules) -> None:
        """Let the agents go by these rules from now on."""
        self._orders = OrdersAgent(
            self.codec,
            partitions=1,
            policies=lambda: {ANY_ORIGIN: default_policy((GatewayRoute(MOCK),))},
            gateways={MOCK: SPEC},
            capabilities={GatewayRoute(MOCK): SPEC.capabilities},
            parking=Parking(),
            rules=replace(rules, key_windows_ms={MOCK: SPEC.capabilities.key_window_ms}),
        )
        self._claims = ClaimsAgent(self.codec, partitions=1, rules=rules)

    def send(self, command: Command, *said: Said) -> str:
        """Give the command over HTTP, let the gateway answer so (then: success), and return its operation's id."""
        self._script.extend(said)
        self.append_command(command)
        self.settle()
        return op_id_of(command)

    def append_command(self, command: Command) -> None:
        """Append the command of a new request, and let nobody act on it yet."""
        request = self.history.new(
            origin_id=command.origin_id,
            order_id=command.order_id,
            key=command.idempotency_key,
            path=_path_of(command),
            body=_body_of(command),
        )
        name = f"c{request.number}"
        self._requests[name], self._commands[name] = request, command
        trace = f"00-{'1' * 32}-{'1' * 16}-01"
        envelope = command_envelope(
            command,
            CommandId(name),
            reply_partition=0,
            final_only=True,
            now_ms=self.now_ms,
            traceparent=trace,
            tracestate=None,
        )
        self._say(topics.COMMANDS, command.order_id.encode(), command, envelope)

    def notice(self, op_id: str, status: wire.Status) -> None:
        """Let the gateway's webhook say this of an operation; a success or a reversal has its effect now."""
        call = self.calls[op_id]
        if status is wire.Status.SUCCEEDED:
            self._effect(call, kind=call.kind.value, reversed_kind=None)
        if status is wire.Status.REVERSED:
            self._effect(call, kind="reversal", reversed_kind=call.kind.value)
        counted = call.amount_minor if status is wire.Status.SUCCEEDED else 0
        self.stands[op_id] = GatewayStand(counted_minor=counted, said_at_ms=self.now_ms)
        self._tell(call, self._operation(call, status=status, counted=counted), wire.EventType.UPDATED)

    def decide(self, ruling: Ruling, *said: Said) -> None:
        """Let an operator decide: appended, taken, answered as the desk does. The gateway, when asked, says this."""
        self._script.extend(said)
        body = ruling.body
        decision = DecisionMade(
            decision_id=DecisionId(f"dec_{len(self.history.rulings)}"),
            origin_id=OriginId(body["originId"]),
            order_id=OrderId(ruling.order_id),
            payment_id=PaymentId(body["paymentId"]),
            op_id=OpId(body["operation"]),
            verdict=Verdict(body["outcome"]),
            amount_minor=body.get("amount"),
            why=ruling.why,
            decided_by=OperatorName(ruling.operator),
            approved_by=None,
            decided_at_ms=self.now_ms,
        )
        self.history.rulings.append(ruling)
        envelope = Envelope(id=f"d{self.now_ms}", source="test", type=TYPES[DecisionMade], time_ms=self.now_ms)
        self._say(topics.DECISIONS, decision.order_id.encode(), decision, envelope)
        self.settle()
        refused = any(
            event.decision is not None and event.decision.why == ruling.why and event.decision.refusal is not None
            for _, event in self.events()
        )
        status, told = (409, {"code": "decision_refused"}) if refused else (200, {"state": "decided"})
        ruling.answers.append(Answer(status=status, body=told, replayed=False, seconds=0.0))

    def case(self, op_id: str, event: wire.EventType, amount_minor: int, *, effect: str | None = None) -> None:
        """Let a webhook say this of a reversal or dispute; `effect`: what it does to the ledger now, if anything."""
        call = self.calls[op_id]
        if effect is not None:
            self._effect(call, kind=effect, reversed_kind=call.kind.value, amount_minor=amount_minor)
        operation = self._operation(call, status=wire.Status.SUCCEEDED, counted=call.amount_minor)
        self._tell(call, operation, event, case=wire.Case(id="case", amount=amount_minor))

    def refund_at_desk(self, op_id: str, amount_minor: int) -> None:
        """Let a person at the gateway refund some of what this operation took; its webhook names the order alone."""
        call = replace(self.calls[op_id], kind=CallKind.REFUND, amount_minor=amount_minor)
        desk = replace(call, op_id=OpId("mref_desk"), gateway_key="mref_desk")
        self._effect(desk, kind="refund", reversed_kind=None, at_desk=1)
        operation = self._operation(call, status=wire.Status.SUCCEEDED, counted=amount_minor)
        self._tell(call, replace(operation, id="mref_desk", metadata=None), wire.EventType.UPDATED)

    def _operation(self, call: GatewayCallRequested, *, status: wire.Status, counted: int) -> wire.Operation:
        return wire.Operation(
            id="ref",
            kind=call.kind.value,
            status=status.value,
            payment="ref",
            amount=call.amount_minor,
            counted=counted,
            currency=call.currency,
            gateway_key=call.gateway_key,
            action_url=None,
            failure=None,
            metadata=wire.Metadata(origin_id=call.origin_id, order_id=call.order_id, op_id=call.op_id),
            created_ms=self.now_ms,
            updated_ms=self.now_ms,
        )

    def _tell(
        self,
        call: GatewayCallRequested,
        operation: wire.Operation,
        event: wire.EventType,
        *,
        case: wire.Case | None = None,
    ) -> None:
        told = wire.Event(id=f"evt{self.now_ms}", type=event, created_ms=self.now_ms, operation=operation, case=case)
        by_reference = "ref" if operation.metadata is None else None  # as the references index forwards it
        webhook = WebhookReceived(
            gateway=MOCK,
            origin_id=call.origin_id,
            order_id=call.order_id,
            gateway_reference=by_reference,
            headers=(),
            body=wire.encode_event(told),
            received_at_ms=self.now_ms,
        )
        envelope = Envelope(id=f"w{self.now_ms}", source="test", type=TYPES[WebhookReceived], time_ms=self.now_ms)
        self._say(topics.WEBHOOKS, call.order_id.encode(), webhook, envelope)
        self.settle()

    def fire(self, op_id: str, *said: Said) -> None:
        """Let the operation's timer fire, at its time, and the gateway then answer so."""
        self._script.extend(said)
        timer = self.timers[OpId(op_id)]
        self.now_ms = max(self.now_ms, timer.due_at_ms)
        fired = TimerFired(
            origin_id=timer.origin_id,
            order_id=timer.order_id,
            op_id=timer.op_id,
            kind=timer.kind,
            number=timer.number,
            due_at_ms=timer.due_at_ms,
            fired_at_ms=self.now_ms,
        )
        envelope = Envelope(id=f"t{self.now_ms}", source="test", type=TYPES[TimerFired], time_ms=self.now_ms)
        self._say(topics.TIMERS, timer.order_id.encode(), fired, envelope)
        self.settle()

    def settle(self) -> None:
        """Let everybody act until nothing is left to do."""
        for _ in range(MAX_RECORDS):
            if not self._waiting:
                return
            self._handle(self._waiting.popleft())
        raise AssertionError("the run never came to rest")

    def take(self, *records: LogRecord) -> None:
        """Let the orders agent take these now, in this order, whatever their times: as after a pause."""
        for record in records:
            self._waiting.remove(record)
            self._handle(record)

    def waiting(self, topic: str) -> LogRecord:
        """Return the oldest record of the topic that nobody has taken yet."""
        return next(record for record in self._waiting if record.topic == topic)

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> LogRecord:
        """Append raw bytes."""
        self.now_ms += STEP_MS
        record = LogRecord(
            topic=topic,
            partition=0,
            offset=len(self.log[topic]),
            timestamp_ms=self.now_ms,
            key=key,
            value=value,
            headers=tuple(headers),
        )
        self.log[topic].append(record)
        self._waiting.append(record)
        return record

    def _say(self, topic: str, key: bytes, message: Record, envelope: Envelope) -> None:
        encoded = self.codec.encode(message, envelope)
        self.append(topic, key, encoded.value, encoded.headers)

    def _handle(self, record: LogRecord) -> None:
        if record.topic == self.dies_once:
            self.dies_once = None
            return
        try:
            if record.topic in INPUT_TOPICS:
                self._carry_out(self._orders.take(input_of(record), lambda table, key: self._tables.get((table, key))))
            elif record.topic == topics.CLAIMS:
                self._carry_out(self._claims.take(input_of(record), lambda table, key: self._tables.get((table, key))))
            elif record.topic == topics.GATEWAY_REQUESTS:
                self._call(record)
            elif record.topic == topics.REPLIES:
                self._answer(record)
        except RefusedError:
            return

    def _carry_out(self, step: Step) -> None:
        self.due_tables.write(step.rows, now_ms=self.now_ms)
        for write in step.rows:
            self._tables[write.table, write.key] = write.value
            if write.table == ORDERS_TABLE and write.value is not None:
                version = 1 + sum(1 for key, _, _ in self.changelog if key == write.key)
                self.changelog.append((write.key, Stamp(1, version), self.codec.decode_row(OrderRow, write.value)))
            if write.table == OPERATIONS_TABLE and write.value is not None:
                row = self.codec.decode_row(ApartRow, write.value)
                self.apart.append((write.key, Stamp(1, 1 + len(self.apart)), row))
            if write.table == TIMERS_TABLE and write.value is not None:
                timer = self.codec.decode_row(OpenTimer, write.value)
                assert timer.op_id is not None
                self.timers[timer.op_id] = timer
        for message in step.speak:
            self.append(message.topic, message.key, message.value, message.headers)

    def _call(self, record: LogRecord) -> None:
        _, request = self.codec.decode(record.value, record.headers)
        assert isinstance(request, GatewayCallRequested)
        said = self._script.popleft() if self._script else SUCCESS
        result = completed(request, said, now_ms=self.now_ms)
        if request.kind is not CallKind.INQUIRE:
            self.calls[request.op_id] = request
        done_before = any(request.repeated and each.gateway_key == request.gateway_key for each in self.ledger)
        if said.outcome is Outcome.SUCCEEDED and not done_before:
            call = self._call_with_effect(self.calls[request.op_id])
            self._effect(call, kind=call.kind.value, reversed_kind=None, amount_minor=said.confirmed_minor)
        envelope = Envelope(id=f"r{self.now_ms}", source="test", type=TYPES[GatewayCallCompleted], time_ms=self.now_ms)
        self._say(topics.GATEWAY_RESULTS, request.order_id.encode(), result, envelope)

    def _call_with_effect(self, call: GatewayCallRequested) -> GatewayCallRequested:
        """Return the call whose effect the success of this one is: of a completion, what opened its payment."""
        if call.kind is not CallKind.COMPLETE:
            return call
        opening = {CallKind.AUTHORIZE, CallKind.SALE}
        return next(each for each in self.calls.values() if each.payment_id == call.payment_id and each.kind in opening)

    def _effect(
        self,
        call: GatewayCallRequested,
        *,
        kind: str,
        reversed_kind: str | None,
        amount_minor: int | None = None,
        at_desk: int = 0,
    ) -> None:
        self.ledger.append(
            LedgerEntry(
                seq=len(self.ledger) + 1,
                kind=kind,
                reversed_kind=reversed_kind,
                amount_minor=call.amount_minor if amount_minor is None else amount_minor,
                op_id=call.op_id,
                order_id=call.order_id,
                origin_id=call.origin_id,
                gateway_key=call.gateway_key,
                currency=call.currency,
                account=call.account,
                at_desk=at_desk,
                token=self._tokens.setdefault((call.origin_id, call.order_id), call.token or ""),
            )
        )

    def _answer(self, record: LogRecord) -> None:
        _, reply = self.codec.decode(record.value, record.headers)
        assert isinstance(reply, OperationReplied)
        answer = answers.to_sync(answers.wish_of(self._commands[reply.request_id]), reply)
        self._requests[reply.request_id].answers.append(
            Answer(
                status=answer.status,
                body=orjson.loads(answer.encoded()),
                replayed=reply.replayed,
                seconds=0.0,
                request_id=reply.request_id,
            )
        )

    def rows(self, table: str) -> dict[bytes, bytes]:
        """Return the rows of an agent's table, as they are stored."""
        return {key: row for (name, key), row in self._tables.items() if name == table and row is not None}

    def state_of(self, op_id: str) -> OperationState:
        """Return how the operation stands."""
        rows = (self.codec.decode_row(OrderRow, row) for row in self.rows(ORDERS_TABLE).values())
        return next(each.state for row in rows for each in row.operations if each.op_id == op_id)

    # What the checker reads

    def inputs(self) -> list[LogRecord]:
        return [record for topic in INPUT_TOPICS for record in self.log[topic]]

    def evidence(self) -> Evidence:
        """Return what a gatherer finds in this log."""
        history = RowHistory()
        for key, stamp, row in self.changelog:
            history.add(key, stamp, row)
        for key, stamp, own in self.apart:
            history.add_apart(key, stamp, own)
        commands: dict[str, list[str]] = defaultdict(list)
        for command in self._commands.values():
            commands[command.order_id].append(op_id_of(command))
        return replace(
            self.evidence_of_log(),
            events=self.events(),
            rows={(row.origin_id, row.order_id): row for row in history.rows()},
            commands=dict(commands),
            command_ids=frozenset(self._commands),
            plans=plans_in(self.codec, self.log[topics.VERDICTS]),
            decisions=decisions_in(self.codec, self.log[topics.DECISIONS]),
            stands=dict(self.stands),
            heard=frozenset(self.stands),
            row_faults=history.faults(),
        )

    def evidence_of_log(self) -> Evidence:
        """Return what the replay says of this log, and no more: the log may hold anything."""
        replay = Replay(partitions=1)
        faults = replay.compare(self.inputs(), self.log[topics.EVENTS])
        return Evidence(
            history=self.history,
            ledger=list(self.ledger),
            events=(),
            rows={},
            commands={},
            command_ids=frozenset(),
            replay_faults=faults,
            lag={"orders": 0, "claims": 0, "executor": 0},
            reordered=replay.reordered,
            refused_inputs=replay.refused,
        )

    def events(self) -> list[tuple[Envelope, PaymentEvent]]:
        found = []
        for record in self.log[topics.EVENTS]:
            envelope, event = self.codec.decode(record.value, record.headers)
            assert isinstance(event, PaymentEvent)
            found.append((envelope, event))
        return found


def _path_of(command: Command) -> str:
    match command:
        case PaymentRequested():
            return "/payments?mode=sync"
        case RefundRequested():
            return "/refunds?mode=sync"
        case _:
            return f"/payments/{command.payment_id}/{kind_of(command)}?mode=sync"


def _body_of(command: Command) -> dict[str, object]:
    match command:
        case PaymentRequested():
            body: Mapping[str, object] = {
                "originId": command.origin_id,
                "orderId": command.order_id,
                "amount": command.amount_minor,
                "currency": command.currency,
                "token": command.token,
                "capture": command.capture,
                "allowPartial": command.allow_partial or None,
            }
        case VoidRequested():
            body = {}
        case CompletionRequested():
            body = {"parameters": {entry.name: entry.value for entry in command.parameters}}
        case RefundRequested():
            body = {"paymentId": command.payment_id, "amount": command.amount_minor}
        case _:
            body = {"amount": command.amount_minor, "final": command.final}
    return {name: value for name, value in body.items() if value is not None}
