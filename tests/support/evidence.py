"""Gathers what the checker reads from a running engine: the ledger's file, the log's topics, the rows' changelog.

Each topic is read once, partition by partition, and the replay is made of a partition while it is at hand. What cannot
be decoded, or stands under another key, is nobody's order (the fault runs put garbage on every topic) and is skipped.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from gateway_adapters.spec import Accounts
from schemas import identifiers, topics
from schemas.card_disguises import hides_card_number
from schemas.commands_validation import InvalidCommandError, validate
from schemas.identifiers import InvalidIdentifierError
from schemas.messages import DecodeError, Envelope, MessageCodec
from schemas.records.claims import ClaimDecided
from schemas.records.commands import (
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    op_id_of,
)
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.orders import ApartRow, OrderRow
from schemas.records.payments import PaymentEvent
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import Outcome
from streams.agents.intake import Intake, RefusedError
from streams.development.local_engine import LocalEngine
from streams.domain.limits import LATE_CALL_MS
from streams.kafka.stamps import UNSTAMPED, from_headers
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import LogRecord, ReadFrom, end_offsets, read_log
from tests.support.exhibits import (
    Decided,
    Evidence,
    GatewayStand,
    LedgerEntry,
    OrderKey,
    owed_by_gateway,
    read_ledger,
    read_stands,
)
from tests.support.group_lag import GroupLag
from tests.support.peer_books import PeerBook
from tests.support.replay import Replay
from tests.support.replay_course import INPUT_TOPICS, ONLY_MOCK, input_of
from tests.support.row_history import RowHistory
from tests.support.workload import History

NO_LAST_WORD = frozenset({Outcome.UNKNOWN, Outcome.PENDING, Outcome.REQUIRES_ACTION, Outcome.NOT_EXECUTED})
"""Outcomes by which a call, or an inquiry, leaves open what became of the operation."""

SETTLE_TIMEOUT_S = 120.0
SETTLE_POLL_S = 0.5
MAX_SETTLE_POLL_S = 4.0
TELLING = ("ce_id", "ce_type", "ce_originid", "ce_partitionkey", "ce_idempotencykey", "ce_subject", "ce_sequence")
"""The attributes of an event that say something of its payment; two copies may differ in their traces alone."""

MAX_RECORDS = 100_000_000
"""Of one read: the whole log of a long run."""


@dataclass(slots=True)
class _Found:
    """What one pass over the log found."""

    events: list[tuple[Envelope, PaymentEvent]] = field(default_factory=list)
    event_copies: int = 0
    commands: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    orders: dict[str, OrderKey] = field(default_factory=dict)  # op id -> whose it is
    command_ids: set[str] = field(default_factory=set)
    plans: dict[str, frozenset[str]] = field(default_factory=dict)
    decisions: list[Decided] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)
    replay_faults: list[str] = field(default_factory=list)


class EvidenceGatherer:
    """Reads everything about the orders of one run, whose names begin with the run's."""

    def __init__(
        self,
        engine: LocalEngine | None = None,
        *,
        run: str,
        bootstrap_servers: str | None = None,
        ledger_path: Path | None = None,
        late_call_ms: int = LATE_CALL_MS,
        alone: bool = False,
        peers: Sequence[PeerBook] = (),
        accounts: Accounts = ONLY_MOCK,
    ) -> None:
        """Name an `engine`, or the broker and the ledger of one that somebody else runs.

        Args:
            engine: one of ours.
            run: what the names of all its orders begin with.
            bootstrap_servers: its brokers.
            ledger_path: its Mock's ledger.
            late_call_ms: as the engine has it.
            alone: nobody else has used this engine, so that every effect in its ledger is this run's.
            peers: the books of the other gateways' simulators.
            accounts: at those gateways, as the engine has them; for a replay by the same rules.
        """
        if engine is not None:
            bootstrap_servers = bootstrap_servers or engine.bootstrap_servers
            ledger_path = ledger_path or engine.ledger_path
        if bootstrap_servers is None or ledger_path is None:
            raise ValueError("name an engine, or a broker and a ledger")
        self._connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
        self._ledger_path = ledger_path
        self._late_call_ms = late_call_ms
        self._alone = alone
        self._peers = peers
        self._accounts = accounts
        self._run = run.encode()
        self._codec = MessageCodec(SchemaIds.packaged())
        self._lag = GroupLag(self._connection)
        self._history = RowHistory()
        self._read: dict[int, int] = {}  # partition of the changelog -> offset read up to
        self._read_apart: dict[int, int] = {}  # the same, of the rows beside orders'

    async def when_settled(self, history: History, *, timeout_s: float = SETTLE_TIMEOUT_S) -> Evidence:
        """Return the evidence once nothing is open and no consumer is behind, or at the time-out as it is.

        The gateway must have had its last word too: it may take back what it granted (a late failure).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause_s = SETTLE_POLL_S
        await self._lag.when_zero(timeout_s=timeout_s)
        await self._read_rows()
        while (self._history.open_rows or self._owed()) and loop.time() < deadline:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_SETTLE_POLL_S)
            await self._read_rows()
        lag = await self._lag.when_zero(timeout_s=max(SETTLE_POLL_S, deadline - loop.time()))
        return await self.gather(history, lag=lag)

    async def gather(self, history: History, *, lag: Mapping[str, int]) -> Evidence:
        """Return the evidence as it is now. The engine should be idle: topics are read one after the other."""
        rows = await self.rows()
        partitions = sorted(await end_offsets(self._connection, topics.COMMANDS))
        replay = Replay(partitions=len(partitions), late_call_ms=self._late_call_ms, accounts=self._accounts)
        found = _Found()
        for partition in partitions:
            await self._read_partition(partition, len(partitions), replay, found)
        return Evidence(
            history=history,
            ledger=[*self._ledger(), *self._ledger_of_peers(found)],
            events=found.events,
            rows=rows,
            commands=found.commands,
            command_ids=frozenset(found.command_ids),
            plans=found.plans,
            decisions=found.decisions,
            stands=self._stands(found.decisions),
            heard=frozenset(found.heard),
            row_faults=[*self._history.faults(), *await self._forgotten_claims()],
            replay_faults=found.replay_faults,
            lag=lag,
            late_rows=self._history.late,
            superseded_rows=self._history.superseded,
            operations_apart=self._history.apart,
            event_copies=found.event_copies,
            reordered=replay.reordered,
            refused_inputs=replay.refused,
        )

    async def rows(self) -> dict[OrderKey, OrderRow]:
        """Return each order's row as recovery would see it: the highest stamp wins, not the last record."""
        await self._read_rows()
        return {(row.origin_id, row.order_id): row for row in self._history.rows()}

    async def _read_rows(self) -> None:
        """Read what the changelog has got since the last time."""
        start = ReadFrom(offsets=dict(self._read))
        topic = topics.ORDERS_CHANGELOG
        async for record in read_log(self._connection, topic, start=start, max_records=MAX_RECORDS):
            self._read[record.partition] = record.offset + 1
            key, stamp = record.key or b"", from_headers(record.headers)
            if stamp == UNSTAMPED or not self._ours(key.partition(b"|")[2]):
                continue  # no owner has written it, or none of ours
            try:
                row = None if record.value is None else self._codec.decode_row(OrderRow, record.value)
            except DecodeError:
                continue
            self._history.add(key, stamp, row)
        await self._read_rows_apart()

    async def _read_rows_apart(self) -> None:
        """Read the rows beside orders': after the orders', so that none is missing that has been left for its own."""
        start = ReadFrom(offsets=dict(self._read_apart))
        topic = topics.OPERATIONS_CHANGELOG
        async for record in read_log(self._connection, topic, start=start, max_records=MAX_RECORDS):
            self._read_apart[record.partition] = record.offset + 1
            key, stamp = record.key or b"", from_headers(record.headers)
            if stamp == UNSTAMPED or not self._ours(key.partition(b"|")[2]):
                continue
            try:
                row = None if record.value is None else self._codec.decode_row(ApartRow, record.value)
            except DecodeError:
                continue
            self._history.add_apart(key, stamp, row)

    async def _forgotten_claims(self) -> list[str]:
        """Return the idempotency keys of the run that were freed: no run lasts as long as a claim's life."""
        records = read_log(self._connection, topics.CLAIMS_CHANGELOG, max_records=MAX_RECORDS)
        return [
            f"claim {(record.key or b'').decode(errors='replace')} was forgotten before its life was over"
            async for record in records
            if record.value is None
            and from_headers(record.headers) != UNSTAMPED
            and self._ours((record.key or b"").partition(b"|")[2])
        ]

    def _ledger(self) -> list[LedgerEntry]:
        entries = read_ledger(self._ledger_path)
        return entries if self._alone else [each for each in entries if self._ours(each.order_id.encode())]

    def _ledger_of_peers(self, found: _Found) -> list[LedgerEntry]:
        """Return what happened at the other gateways, all of it this run's."""
        return [entry for book in self._peers for entry in book.entries(found.orders)]

    def _owed(self) -> int:
        """Return how much the gateways still owe."""
        return owed_by_gateway(self._ledger_path) + sum(book.owed() for book in self._peers)

    def _stands(self, decisions: Sequence[Decided]) -> dict[str, GatewayStand]:
        """Return how those operations stand at the gateway that somebody has decided about."""
        named = {each.decision.op_id for each in decisions}
        stands = read_stands(self._ledger_path) if named else {}
        for book in self._peers if named else ():
            stands |= book.stands()
        return {op_id: each for op_id, each in stands.items() if op_id in named}

    def _ours(self, key: bytes | None) -> bool:
        return key is not None and key.startswith(self._run)

    async def _records(self, topic: str, partition: int) -> list[LogRecord]:
        reading = read_log(self._connection, topic, partition=partition, max_records=MAX_RECORDS)
        return [record async for record in reading if self._ours(record.key)]

    async def _read_partition(self, partition: int, partitions: int, replay: Replay, found: _Found) -> None:
        by_topic = {topic: await self._records(topic, partition) for topic in (*INPUT_TOPICS, topics.EVENTS)}
        intake = Intake(self._codec, partitions=partitions)
        for record in by_topic[topics.COMMANDS]:
            found.command_ids.add(dict(record.headers).get("ce_id", b"").decode(errors="replace"))
            command = accepted_command(intake, record)
            if command is not None:
                origin_id, order_id, op_id = command
                found.commands[order_id].append(op_id)
                found.orders[op_id] = origin_id, order_id
        self._keep_events(by_topic[topics.EVENTS], found)
        found.plans |= plans_in(self._codec, by_topic[topics.VERDICTS])
        decisions = decisions_in(self._codec, by_topic[topics.DECISIONS])
        found.decisions += decisions
        named = {each.decision.op_id for each in decisions}
        found.heard |= heard_of(self._codec, named, by_topic[topics.GATEWAY_RESULTS], by_topic[topics.WEBHOOKS])
        inputs = [record for topic in INPUT_TOPICS for record in by_topic[topic]]
        found.replay_faults += await asyncio.to_thread(replay.compare, inputs, by_topic[topics.EVENTS])

    def _keep_events(self, records: list[LogRecord], found: _Found) -> None:
        """Keep each event once, and a copy that is not the same beside it."""
        known: set[tuple[bytes, ...]] = set()
        for record in records:
            said = dict(record.headers)
            content = (*(said.get(name, b"") for name in TELLING), record.value or b"")
            if content in known:
                found.event_copies += 1
                continue
            known.add(content)
            try:
                envelope, event = self._codec.decode(record.value, record.headers)
            except DecodeError as error:
                found.replay_faults.append(f"the event at {record.partition}:{record.offset} cannot be read: {error}")
                continue
            if isinstance(event, PaymentEvent) and event.order_id.encode() == record.key:
                found.events.append((envelope, event))
            else:
                found.replay_faults.append(f"the event at {record.partition}:{record.offset} stands under another key")


def plans_in(codec: MessageCodec, verdicts: Iterable[LogRecord]) -> dict[str, frozenset[str]]:
    """Return the routes of each operation's plan, by the verdict that granted its key."""
    plans: dict[str, frozenset[str]] = {}
    alike: dict[frozenset[str], frozenset[str]] = {}  # a long run has 100,000 plans, and a few different ones
    for record in verdicts:
        try:
            _, verdict = codec.decode(record.value, record.headers)
        except DecodeError:
            continue  # poison
        if isinstance(verdict, ClaimDecided) and verdict.granted:
            routes: frozenset[str] = frozenset(verdict.plan.gateways)
            plans[verdict.op_id] = alike.setdefault(routes, routes)
    return plans


def decisions_in(codec: MessageCodec, records: Iterable[LogRecord]) -> list[Decided]:
    """Return the decisions that were made, each as often as it stands there."""
    found = []
    for record in records:
        try:
            _, decision = codec.decode(record.value, record.headers)
        except DecodeError:
            continue  # poison
        if isinstance(decision, DecisionMade):
            found.append(Decided(at_ms=record.timestamp_ms, decision=decision))
    return found


def heard_of(
    codec: MessageCodec, op_ids: AbstractSet[str], results: Iterable[LogRecord], webhooks: Iterable[LogRecord]
) -> set[str]:
    """Return those of which a gateway has told what became of them: by a last word, or by any notice about them.

    A notice may name the gateway's own object alone, which some result has told to be the operation's.
    """
    heard: set[str] = set()
    names = {op_id: {op_id.encode()} for op_id in op_ids}
    for record in results:
        try:
            _, result = codec.decode(record.value, record.headers)
        except DecodeError:
            continue  # poison
        if not isinstance(result, GatewayCallCompleted) or result.op_id not in op_ids:
            continue
        if result.outcome not in NO_LAST_WORD:
            heard.add(result.op_id)
        if result.gateway_reference is not None:
            names[result.op_id].add(result.gateway_reference.encode())
    bodies = [each.value or b"" for each in webhooks]
    return heard | {op_id for op_id, known in names.items() if any(name in body for name in known for body in bodies)}


def accepted_command(intake: Intake, record: LogRecord) -> tuple[str, str, str] | None:
    """Return origin, order and operation of a command that the orders agent takes; None of one it dead-letters."""
    event = input_of(record)
    try:
        taken = intake.decode(event)
        command = taken.record
        if not isinstance(
            command, PaymentRequested | CaptureRequested | VoidRequested | RefundRequested | CompletionRequested
        ):
            return None
        validate(command)
        if hides_card_number(identifiers.command_id(taken.envelope.id)):
            return None
        intake.require_key(event, command.order_id.encode())
    except (RefusedError, InvalidCommandError, InvalidIdentifierError):
        return None
    return command.origin_id, command.order_id, op_id_of(command)
