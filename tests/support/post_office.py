"""The way of webhooks in memory: split as the ingress splits them, taken by orders agents of every partition.

Claims are always granted, calls wait until a test answers them, and what is appended to a topic that the orders agents
read is taken in its order. A gateway's webhooks are JSON lists of items with the few words that tests need.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway_adapters.contract import Capabilities, GatewayNotice, RawHeaders, WebhookTranslator
from gateway_adapters.errors import Code, UntranslatableError, decline_for
from gateway_adapters.mock.spec import SPEC
from gateway_adapters.notices import NOBODY, TooManyNoticesError, split
from http_ingress.command_log import destination_of, webhook_envelope
from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import CommandId, OpId, OrderId, OriginId
from schemas.messages import Envelope, MessageCodec
from schemas.record_shapes import Record
from schemas.records.claims import ClaimDecided, ClaimRequested
from schemas.records.commands import Command
from schemas.records.dead_letters import DeadLetter
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.references import ParkedRow
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import CallKind, Outcome
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.agents.shell import AgentShell
from streams.domain.limits import DEFAULT_RULES, Rules
from streams.domain.references import size_of
from streams.kafka.step import InputEvent, Outgoing, Step
from streams.topology import ORDERS, ORDERS_TABLE, PARKED_TABLE
from tests.support.order_desk import MOCK, ORIGIN, SUCCESS, Said, completed, plan

CODEC = MessageCodec(SchemaIds.packaged())
PARTITIONS = 8
NOW_MS = 1_800_000_000_000
MAX_RECORDS = 20_000
TRACE = f"00-{'1' * 32}-{'1' * 16}-01"


class ListTranslator(WebhookTranslator):
    """A gateway's webhook as a JSON list; a member that is left out is not given back by the gateway."""

    webhook_headers = frozenset[str]()

    def __init__(self, repair: Callable[[bytes], bytes] = lambda body: body) -> None:
        self._repair = repair

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        del headers
        try:
            items = json.loads(self._repair(body))
        except ValueError as error:
            raise UntranslatableError("not JSON") from error
        return tuple(_notice(number, item) for number, item in enumerate(items))


def _notice(number: int, item: Mapping[str, Any]) -> GatewayNotice:
    return GatewayNotice(
        gateway=MOCK,
        notice_id=f"n{number}",
        origin_id=item.get("origin"),
        order_id=item.get("order"),
        op_id=item.get("op"),
        kind=CallKind(item["kind"]) if "kind" in item else None,
        outcome=Outcome(item.get("outcome", "succeeded")),
        gateway_reference=item.get("ref"),
        payment_reference=item.get("payment"),
        confirmed_amount_minor=item.get("amount"),
        confirmed_currency="USD",
        error=decline_for(Code(item["code"]), gateway_code="as_it_came") if "code" in item else None,
        occurred_at_ms=NOW_MS,
    )


class PostOffice:
    """Orders agents of all partitions, as one, and what they have said."""

    def __init__(
        self,
        capabilities: Capabilities = SPEC.capabilities,
        *,
        translator: WebhookTranslator | None = None,
        rules: Rules = DEFAULT_RULES,
    ) -> None:
        self.rules = rules
        self.spec = replace(SPEC, translator=translator or ListTranslator(), capabilities=capabilities)
        self.now_ms = NOW_MS
        self.tables: dict[tuple[int, str, bytes], bytes] = {}
        self.letters: list[DeadLetter] = []
        self.said: list[Record] = []
        self.requests: dict[OpId, GatewayCallRequested] = {}
        self.log: list[InputEvent] = []
        self.speechless: str | None = None
        """Records of this topic lead to rows, and the worker dies before it says anything."""
        self._offsets = 0
        self._waiting: deque[Outgoing] = deque()
        self.restart()

    def restart(self) -> None:
        """Let another worker take over; the tables are recovered."""
        self.parking = Parking()
        for (partition, table, key), row in self.tables.items():
            if table == PARKED_TABLE:
                self.parking.put(partition, key, size_of(CODEC.decode_row(ParkedRow, row).webhooks))
        self.agent = OrdersAgent(
            CODEC,
            partitions=PARTITIONS,
            policies=dict,
            gateways={MOCK: self.spec},
            capabilities={},
            parking=self.parking,
            rules=self.rules,
        )
        self.shell = AgentShell(self.agent.take, codec=CODEC, component="orders", accepted=self.agent.accepted)

    def repair_translation(self, repair: Callable[[bytes], bytes]) -> None:
        """Let another version of the agents run, whose translator reads bodies so."""
        self.spec = replace(self.spec, translator=ListTranslator(repair))
        self.restart()

    # What comes from outside

    def post(self, *items: Mapping[str, Any]) -> None:
        """Let the gateway post a webhook with these items, and everybody act on it."""
        self.post_raw(json.dumps(items).encode())

    def post_raw(self, body: bytes) -> None:
        try:
            addresses: Sequence[Any] = split(
                self.spec.translator.parse_webhook({}, body), self.spec.capabilities
            ).addresses
        except (UntranslatableError, TooManyNoticesError):
            addresses = ()
        for number, address in enumerate(addresses or (NOBODY,)):
            record = WebhookReceived(
                gateway=MOCK,
                origin_id=address.origin_id,
                order_id=address.order_id,
                gateway_reference=address.reference,
                headers=(),
                body=body,
                received_at_ms=self.now_ms,
            )
            self._offsets += 1
            envelope = webhook_envelope(record, f"w{self._offsets}-{number}", traceparent=TRACE, tracestate=None)
            self.append(*destination_of(record), record, envelope)
        self.settle()

    def send(self, command: Command) -> OpId:
        """Give the command and grant its claim; return the operation's id. Its call waits for `answer`."""
        self._offsets += 1
        envelope = Envelope(
            id=CommandId(f"c{self._offsets}"), source="test", type=TYPES[type(command)], time_ms=self.now_ms
        )
        before = set(self.requests)
        self.append(topics.COMMANDS, command.order_id.encode(), command, envelope)
        self.settle()
        (op_id,) = set(self.requests) - before
        return op_id

    def answer(self, op_id: OpId, said: Said = SUCCESS) -> None:
        """Let the gateway answer the operation's last call so."""
        result = completed(self.requests[op_id], said, now_ms=self.now_ms)
        envelope = Envelope(id="r", source="test", type=TYPES[GatewayCallCompleted], time_ms=self.now_ms)
        self.append(topics.GATEWAY_RESULTS, result.order_id.encode(), result, envelope)
        self.settle()

    # The log

    def append(self, topic: str, key: bytes, record: Record, envelope: Envelope) -> None:
        message = CODEC.encode(record, envelope)
        self._waiting.append(Outgoing(topic=topic, key=key, value=message.value, headers=message.headers))

    def append_raw(self, event: InputEvent) -> None:
        """Append a record once more, as it is, and let everybody act on it."""
        self._waiting.append(Outgoing(topic=event.topic, key=event.key, value=event.value, headers=event.headers))
        self.settle()

    def settle(self) -> None:
        """Let everybody act until nothing is left to do."""
        for _ in range(MAX_RECORDS):
            if not self._waiting:
                return
            self._take(self._waiting.popleft())
        raise AssertionError("the post never came to rest")

    def _take(self, message: Outgoing) -> None:
        if message.topic not in ORDERS.source_topics:
            self._keep(message)
            return
        assert message.key is not None
        self.now_ms += 1
        self._offsets += 1
        event = InputEvent(
            topic=message.topic,
            partition=topics.partition_of(message.key, PARTITIONS),
            offset=self._offsets,
            timestamp_ms=self.now_ms,
            key=message.key,
            value=message.value,
            headers=message.headers,
            possible_replay=False,
        )
        self.log.append(event)
        self.carry_out(event, self.handle(event), speak=event.topic != self.speechless)

    def handle(self, event: InputEvent) -> Step:
        """Return what the owner of its partition makes of the record, and carry nothing out."""
        return self.shell.handle(event, lambda table, key: self.tables.get((event.partition, table, key)))

    def carry_out(self, event: InputEvent, step: Step, *, speak: bool = True) -> None:
        """Keep the rows and append what is said; `speak`: or crash before that."""
        for write in step.rows:
            if write.value is None:
                self.tables.pop((event.partition, write.table, write.key), None)
            else:
                self.tables[event.partition, write.table, write.key] = write.value
        if speak:
            self._waiting.extend(step.speak)

    def again(self, event: InputEvent) -> None:
        """Let the record be read once more, after a restart."""
        self.carry_out(event, self.handle(replace(event, possible_replay=True)))
        self.settle()

    def _keep(self, message: Outgoing) -> None:
        if message.value is None:
            return  # a tombstone of a topic that only tells
        _, record = CODEC.decode(message.value, message.headers)
        self.said.append(record)
        match record:
            case DeadLetter():
                self.letters.append(record)
            case ClaimRequested():
                self._grant(record)
            case GatewayCallRequested():
                self.requests[record.op_id] = record
            case _:
                pass  # events and replies: nobody here acts on them

    def _grant(self, claim: ClaimRequested) -> None:
        verdict = ClaimDecided(
            origin_id=claim.origin_id,
            idempotency_key=claim.idempotency_key,
            order_id=claim.order_id,
            op_id=claim.op_id,
            granted=True,
            holder_order_id=claim.order_id,
            holder_op_id=claim.op_id,
            plan=plan("mock"),
            decided_at_ms=self.now_ms,
        )
        envelope = Envelope(id="v", source="test", type=TYPES[ClaimDecided], time_ms=self.now_ms)
        self.append(topics.VERDICTS, claim.order_id.encode(), verdict, envelope)

    # What there is to see

    def row(self, order: OrderId, origin: OriginId = ORIGIN) -> OrderRow | None:
        partition = topics.partition_of(order.encode(), PARTITIONS)
        stored = self.tables.get((partition, ORDERS_TABLE, identifiers.row_key(origin, order)))
        return None if stored is None else CODEC.decode_row(OrderRow, stored)

    def operation(self, order: OrderId, op_id: OpId) -> OperationRow:
        row = self.row(order)
        assert row is not None
        return next(each for each in row.operations if each.op_id == op_id)
