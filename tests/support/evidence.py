"""Gathers what the checker reads from a running engine: the ledger's file, the log's topics, the rows' changelog."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from schemas import topics
from schemas.messages import Envelope, MessageCodec
from schemas.records.commands import CaptureRequested, PaymentRequested, RefundRequested, VoidRequested, op_id_of
from schemas.records.orders import OrderRow
from schemas.records.payments import PaymentEvent
from schemas.schema_ids import SchemaIds
from streams.kafka.stamps import Stamp, from_headers
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import LogRecord, read_log
from streams.local_engine import LocalEngine
from tests.support.checker import FINAL, Evidence, read_ledger
from tests.support.workload import History

SETTLE_TIMEOUT_S = 120.0
SETTLE_POLL_S = 0.5


class EvidenceGatherer:
    """Reads everything about the orders of one run, whose names begin with the run's."""

    def __init__(self, engine: LocalEngine, *, run: str) -> None:
        self._connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
        self._engine = engine
        self._run = run
        self._codec = MessageCodec(SchemaIds.packaged())

    async def when_settled(self, history: History, *, timeout_s: float = SETTLE_TIMEOUT_S) -> Evidence:
        """Return the evidence once nothing of the run is open, or at the time-out as it is then."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            rows = await self.rows()
            waiting = [each for row in rows.values() for each in row.operations if each.state not in FINAL]
            if not waiting or asyncio.get_running_loop().time() > deadline:
                return await self._evidence(history, rows)
            await asyncio.sleep(SETTLE_POLL_S)

    async def _evidence(self, history: History, rows: dict[tuple[str, str], OrderRow]) -> Evidence:
        return Evidence(
            history=history,
            ledger=[entry for entry in read_ledger(self._engine.ledger_path) if entry.order_id.startswith(self._run)],
            events=await self.events(),
            rows=rows,
            commands=await self.commands(),
        )

    async def rows(self) -> dict[tuple[str, str], OrderRow]:
        """Return each order's row as recovery would see it: the highest stamp wins, not the last record."""
        newest: dict[bytes, tuple[Stamp, bytes | None]] = {}
        async for record in read_log(self._connection, topics.ORDERS_CHANGELOG):
            stamp = from_headers(record.headers)
            key = record.key or b""
            if key not in newest or stamp >= newest[key][0]:
                newest[key] = (stamp, record.value)
        rows = [self._codec.decode_row(OrderRow, value) for _, value in newest.values() if value is not None]
        return {(row.origin_id, row.order_id): row for row in rows if row.order_id.startswith(self._run)}

    async def events(self) -> list[tuple[Envelope, PaymentEvent]]:
        """Return the run's events in the order of their partitions."""
        found: list[tuple[Envelope, PaymentEvent]] = []

        def take(record: LogRecord) -> None:
            envelope, event = self._codec.decode(record.value, record.headers)
            assert isinstance(event, PaymentEvent)
            found.append((envelope, event))

        await self._each(topics.EVENTS, take)
        return found

    async def commands(self) -> dict[str, list[str]]:
        """Return the operations of each order in the order of the commands topic."""
        found: dict[str, list[str]] = defaultdict(list)

        def take(record: LogRecord) -> None:
            _, command = self._codec.decode(record.value, record.headers)
            assert isinstance(command, PaymentRequested | CaptureRequested | VoidRequested | RefundRequested)
            found[command.order_id].append(op_id_of(command))

        await self._each(topics.COMMANDS, take)
        return found

    async def _each(self, topic: str, take: Callable[[LogRecord], None]) -> None:
        async for record in read_log(self._connection, topic):
            if (record.key or b"").startswith(self._run.encode()):
                take(record)
