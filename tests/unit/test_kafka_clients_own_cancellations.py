"""Consumers that are stopped at odd moments: aiokafka took whoever did it for cancelled, and left sockets open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.fetcher import Fetcher

from streams.development.embedded_broker import ApiKey, Effect, EmbeddedBroker, Fault
from streams.kafka_clients.aiokafka_fences import late_connections, own_cancellations
from tests.support.waiting import until

TOPIC = "t"
LIMIT_S = 10.0
BACKOFF_MS = 60_000
"""Far longer than the test: a fetch that failed waits for so long."""


@contextlib.asynccontextmanager
async def with_a_failed_fetch(caplog: pytest.LogCaptureFixture) -> AsyncIterator[AIOKafkaConsumer]:
    async with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
        await admin.close()
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, retry_backoff_ms=BACKOFF_MS)
        await consumer.start()
        broker.faults.add(Fault(api=ApiKey.FETCH, effect=Effect.DISCONNECT_BEFORE, times=1_000))
        consumer.assign([TopicPartition(TOPIC, 0)])
        await until(lambda: "Failed fetch messages" in caplog.text, timeout_s=LIMIT_S)
        yield consumer


async def test_stop_ends_when_a_failed_fetch_waits(caplog: pytest.LogCaptureFixture) -> None:
    async with with_a_failed_fetch(caplog) as consumer:
        async with asyncio.timeout(LIMIT_S):
            await consumer.stop()
        assert_closed(consumer)


@pytest.mark.parametrize("group", [None, "group"])
async def test_stop_ends_when_the_consumer_was_started_just_now(group: str | None) -> None:
    async with EmbeddedBroker() as broker:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=group)
        await consumer.start()
        async with asyncio.timeout(LIMIT_S):
            await consumer.stop()
        assert_closed(consumer)


@pytest.mark.parametrize("name", ["_heartbeat_task", "_commit_refresh_task"])
async def test_stop_ends_when_a_task_of_the_member_has_not_begun(name: str) -> None:
    async with EmbeddedBroker() as broker:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id="group")
        await consumer.start()
        setattr(consumer._coordinator, name, asyncio.create_task(asyncio.Event().wait()))
        async with asyncio.timeout(LIMIT_S):
            await consumer.stop()
        assert_closed(consumer)


def assert_closed(consumer: AIOKafkaConsumer) -> None:
    """The rest of its stop was done too."""
    assert getattr(consumer._client, late_connections._CLOSED)
    assert not any(each.connected() for each in consumer._client._conns.values())


async def test_stop_is_cancelled_when_its_caller_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never_ending(_fetcher: Fetcher) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Fetcher, "close", own_cancellations._fetches_first(never_ending))
    async with with_a_failed_fetch(caplog) as consumer:
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.wait_for(begun.wait(), LIMIT_S)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await consumer._client.close()


def test_install_wraps_once() -> None:
    before = Fetcher.close
    own_cancellations.install()
    assert Fetcher.close is before
