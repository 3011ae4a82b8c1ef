"""A consumer that is stopped while a failed fetch waits: aiokafka took whoever stopped it for cancelled."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.fetcher import Fetcher

from streams.embedded_broker import ApiKey, Effect, EmbeddedBroker, Fault
from streams.kafka_clients import cancelled_fetches
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
        assert not any(
            each.connected() for each in consumer._client._conns.values()
        )  # the rest of its stop was done too


async def test_stop_is_cancelled_when_its_caller_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never_ending(_fetcher: Fetcher) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Fetcher, "close", cancelled_fetches._keeping_cancellations(never_ending))
    async with with_a_failed_fetch(caplog) as consumer:
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.wait_for(begun.wait(), LIMIT_S)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await consumer._client.close()


def test_install_wraps_once() -> None:
    before = Fetcher.close
    cancelled_fetches.install()
    assert Fetcher.close is before
