"""A producer whose broker is gone can be ended: nothing of it goes on, and its deliveries fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.cluster import ClusterMetadata

from streams.development.embedded_broker.broker import EmbeddedBroker
from streams.kafka_clients.aiokafka_fences.abandonable import AbandonableProducer
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import UnconfirmedError, classify
from streams.kafka_clients.producer import LogWriter, build_producer

TIMEOUT_S = 20.0


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker(auto_create_topics=True, default_partitions=1) as started:
        yield started


@pytest.fixture
async def connection(broker: EmbeddedBroker) -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=broker.bootstrap_servers, request_timeout_s=TIMEOUT_S)


async def send(producer: AbandonableProducer) -> asyncio.Future[Any]:
    delivery: asyncio.Future[Any] = await producer.send("t", key=b"k", value=b"v")
    return delivery


async def cut_short(producer: AbandonableProducer) -> None:
    """A `stop` that did not end in time."""
    stopping = asyncio.create_task(producer.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])


async def assert_ended(before: set[asyncio.Task[Any]], delivery: asyncio.Future[Any]) -> None:
    error = delivery.exception()
    assert error is not None
    assert isinstance(classify(error), UnconfirmedError)  # it may be written
    left = asyncio.all_tasks() - before
    if left:  # what was told to end needs its turn
        await asyncio.wait(left, timeout=TIMEOUT_S)
    assert not {task for task in left if not task.done()}


@pytest.mark.parametrize("stops_first", [True, False])
async def test_producer_ends_when_its_broker_is_gone(
    broker: EmbeddedBroker, connection: KafkaConnection, *, stops_first: bool
) -> None:
    before = asyncio.all_tasks()
    producer = build_producer(connection)
    await producer.start()
    await (await send(producer))
    await broker.stop()
    delivery = await send(producer)
    async with asyncio.timeout(TIMEOUT_S):
        if stops_first:
            await cut_short(producer)
        await producer.abandon()
        await producer.abandon()
        await assert_ended(before, delivery)
        await producer.stop()


async def test_producer_ends_when_it_waits_for_a_leader(
    connection: KafkaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    producer = build_producer(connection)
    await producer.start()
    await (await send(producer))
    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", lambda *_: -1)
    delivery = await send(producer)
    async with asyncio.timeout(TIMEOUT_S):
        await cut_short(producer)
        await producer.abandon()
        await assert_ended(before, delivery)


async def test_producer_ends_when_it_never_started() -> None:
    producer = build_producer(KafkaConnection(bootstrap_servers="127.0.0.1:1"))
    await producer.abandon()
    await producer.stop()


async def test_writer_stops_and_owes_nothing_when_its_broker_is_gone(
    broker: EmbeddedBroker, connection: KafkaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka_clients.producer.STOP_TIMEOUT_S", 0.05)
    writer = LogWriter(connection)
    await writer.append("t", key=b"k", value=b"v")
    await broker.stop()
    with pytest.raises(UnconfirmedError):
        await writer.append("t", key=b"k", value=b"v", timeout_s=0.01)
    assert writer.in_flight == 1
    async with asyncio.timeout(TIMEOUT_S):
        await writer.stop()
    assert writer.in_flight == 0
