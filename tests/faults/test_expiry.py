"""Rows end with their lives, and not before, though their owners are killed and frozen: on a real Kafka.

A day is half a second here (`brief_lives`), so that keys live for fifteen and orders for thirty-one. The log's own
times say whether a row ended too early; the gateway's ledger says whether anything was paid twice because one did.
"""

import asyncio
import itertools
import random
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from schemas import topics
from schemas.messages import MessageCodec
from schemas.records.claims import ClaimRow
from schemas.records.orders import OrderRow
from schemas.schema_ids import SchemaIds
from streams.development.local_engine import LocalEngine
from streams.kafka.stamps import UNSTAMPED, Stamp, from_headers
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import read_log
from tests.faults.figures.stage import Stage, engine_on
from tests.faults.supervisor import Supervisor
from tests.kafka_cluster import KafkaCluster
from tests.support.brief_lives import DAY_MS, lives_of, make_brief
from tests.support.exhibits import read_ledger
from tests.support.workload import Client, Habits, History, Request

pytestmark = [pytest.mark.slow, pytest.mark.untraced, pytest.mark.kafka, pytest.mark.timeout(420)]

CLAIM_LIFE_DAYS, ORDER_LIFE_DAYS = 30, 62
SESSION_S = 6.0
ORDERS = 60
ORIGIN = "originA"
CREATED = 201
CONFLICT = 409
ALL_GONE_LIMIT_S = 120.0
LOOK_AGAIN_S = 1.0
FROZEN_S = 8.0
BETWEEN_FAULTS_S = (0.5, 2.5)
CODEC = MessageCodec(SchemaIds.packaged())
STUBBORN = Habits(tries=1_000)


@dataclass(frozen=True, slots=True)
class Ended:
    """One row that was deleted: how old it was by the log's time, from when its life counts."""

    key: bytes
    age_ms: int


class Changelog:
    """A table by its changelog, as a recovery would see it, and every deletion on the way."""

    def __init__(self, engine: LocalEngine, topic: str, since_ms: Callable[[bytes], int]) -> None:
        """`since_ms`: from when the life of a row counts, by its bytes."""
        self._connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
        self._topic = topic
        self._since_ms = since_ms

    async def read(self) -> tuple[dict[bytes, bytes], list[Ended]]:
        """Return the rows that are there, and those that have gone."""
        newest: dict[bytes, tuple[Stamp, bytes | None]] = {}
        ended: list[Ended] = []
        async for record in read_log(self._connection, self._topic):
            key, stamp = record.key or b"", from_headers(record.headers)
            before_stamp, before = newest.get(key, (UNSTAMPED, None))
            if stamp <= before_stamp:
                continue
            if record.value is None and before is not None:
                ended.append(Ended(key, record.timestamp_ms - self._since_ms(before)))
            newest[key] = stamp, record.value
        return {key: value for key, (_, value) in newest.items() if value is not None}, ended


@asynccontextmanager
async def brief_engine(kafka: KafkaCluster) -> AsyncIterator[Stage]:
    """Two workers of orders and claims each, standbys included, and brief lives."""
    environment = {
        **lives_of(CLAIM_LIFE_DAYS, ORDER_LIFE_DAYS),
        "PAYMENT_ENGINE_STREAM_SWEEP_INTERVAL_S": "0.5",
        "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
    }
    async with engine_on(
        kafka,
        session_timeout_s=SESSION_S,
        orders_workers=2,
        claims_workers=2,
        standby_replicas=1,
        environment=environment,
    ) as stage:
        await make_brief(stage.engine)
        yield stage


class Shop:
    """Pays, each order under a key of its own, and each key once more for another order."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession) -> None:
        self.run = f"x{uuid.uuid4().hex[:8]}"
        self._client = Client(session, stage.engine.url, History(), STUBBORN)

    async def pay(self, order: str, key: str) -> Request:
        """Ask until it is answered."""
        body = {
            "originId": ORIGIN,
            "orderId": f"{self.run}-{order}",
            "amount": 1999,
            "currency": "USD",
            "token": "tok_visa",
            "capture": True,
        }
        return await self._client.ask(
            origin_id=ORIGIN,
            order_id=body["orderId"],  # type: ignore[arg-type]  # a text
            key=f"{self.run}-{key}",
            path="/payments?mode=sync",
            body=body,
        )


async def _strike(stage: Stage, supervisor: Supervisor, until: asyncio.Event) -> int:
    """Kill and freeze the workers in turn; return how often."""
    chance = random.Random(7)
    workers = [name for name in stage.engine.components if name.startswith(("orders", "claims"))]
    for number, name in enumerate(itertools.cycle(workers), start=1):
        worker = stage.engine.components[name]
        if number % 4:
            supervisor.mean_to_end(worker)
            await worker.kill()
        else:
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(FROZEN_S)  # past its session: the fault itself
            worker.send(signal.SIGCONT)
        await asyncio.sleep(chance.uniform(*BETWEEN_FAULTS_S))
        if until.is_set():
            return number
    raise AssertionError("a cycle ends")


async def _all_gone(claims: Changelog, orders: Changelog) -> tuple[list[Ended], list[Ended]]:
    """Return the ends of all rows once none is left. Raises: TimeoutError."""
    async with asyncio.timeout(ALL_GONE_LIMIT_S):
        while True:
            (keys, ended_keys), (rows, ended_rows) = await claims.read(), await orders.read()
            if not keys and not rows:
                return ended_keys, ended_rows
            await asyncio.sleep(LOOK_AGAIN_S)


async def test_rows_end_with_their_lives_and_no_sooner_whatever_their_owners_suffer(
    own_kafka: KafkaCluster,
) -> None:
    async with brief_engine(own_kafka) as stage, aiohttp.ClientSession() as session:
        shop, over = Shop(stage, session), asyncio.Event()
        claims = Changelog(
            stage.engine, topics.CLAIMS_CHANGELOG, lambda row: CODEC.decode_row(ClaimRow, row).claimed_at_ms
        )
        orders = Changelog(
            stage.engine, topics.ORDERS_CHANGELOG, lambda row: CODEC.decode_row(OrderRow, row).updated_at_ms
        )
        supervisor = Supervisor(stage.engine)
        async with supervisor.watching():
            striking = asyncio.create_task(_strike(stage, supervisor, over))
            paid = await asyncio.gather(*(shop.pay(f"a{number}", f"k{number}") for number in range(ORDERS)))
            ended_keys, ended_rows = await _all_gone(claims, orders)
            over.set()
            struck = await striking
            again = await asyncio.gather(*(shop.pay(f"b{number}", f"k{number}") for number in range(ORDERS)))
            other = await asyncio.gather(*(shop.pay(f"c{number}", f"k{number}") for number in range(ORDERS)))

        effects = Counter(entry.order_id for entry in read_ledger(stage.engine.ledger_path))
        told = f"{struck} faults; ended unasked: {dict(supervisor.ended)}"
        assert [each.last.status for each in paid] == [CREATED] * ORDERS, told
        assert min(each.age_ms for each in ended_keys) >= CLAIM_LIFE_DAYS * DAY_MS, told
        assert min(each.age_ms for each in ended_rows) >= ORDER_LIFE_DAYS * DAY_MS, told
        assert len({each.key for each in ended_keys}) == len({each.key for each in ended_rows}) == ORDERS, told
        # The keys are free, once: for whoever comes first.
        assert [each.last.status for each in again] == [CREATED] * ORDERS, told
        assert [each.last.status for each in other] == [CONFLICT] * ORDERS, told
        assert effects == Counter({f"{shop.run}-{side}{number}": 1 for side in "ab" for number in range(ORDERS)}), told
