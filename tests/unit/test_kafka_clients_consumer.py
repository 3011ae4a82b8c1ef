"""A group member that polls no more counts as idle, also after a poll that failed: by that aiokafka leaves a group."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_group_consumer

CONNECTION = KafkaConnection(bootstrap_servers="127.0.0.1:1")
IDLE_S = 60.0


class Fetcher:
    """As much of one as a poll asks for: it waits for ever, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.error_future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()
        self._failure = failure

    async def fetched_records(self, *_: object, **__: object) -> None:
        self.asked.set()
        if self._failure is not None:
            raise self._failure
        await asyncio.Event().wait()


@contextmanager
def member(fetcher: Fetcher) -> Iterator[Any]:
    """A group member as if started."""
    consumer = build_group_consumer(
        CONNECTION,
        group="g",
        instance_id=None,
        session_timeout_s=10.0,
        rebalance_timeout_s=10.0,
        max_poll_interval_s=IDLE_S,
    )
    consumer._fetcher = fetcher
    consumer._coordinator = SimpleNamespace(check_errors=lambda: None)
    yield consumer
    consumer._closed = True  # it never was open, and would complain of not being closed


def is_idle(consumer: Any) -> bool:
    """Whether it counts as idle once some time has gone by."""
    consumer._subscription._last_fetch_ended -= IDLE_S
    return bool(consumer._subscription.fetcher_idle_time >= IDLE_S)


async def test_member_counts_as_idle_when_its_last_poll_failed() -> None:
    with member(Fetcher(KafkaConnectionError())) as consumer:
        with pytest.raises(KafkaConnectionError):
            await consumer.getmany()
        assert is_idle(consumer)


async def test_member_counts_as_idle_when_its_last_poll_was_cancelled_and_not_during_one() -> None:
    fetcher = Fetcher()
    with member(fetcher) as consumer:
        poll = asyncio.create_task(consumer.getmany())
        await fetcher.asked.wait()
        assert not is_idle(consumer)
        poll.cancel()
        await asyncio.wait([poll])
        assert consumer._subscription.fetcher_idle_time < IDLE_S  # it counts from the end of the poll
        assert is_idle(consumer)


async def test_stock_consumer_never_counts_as_idle_again_when_a_poll_has_failed() -> None:
    with member(Fetcher(KafkaConnectionError())) as consumer:
        with pytest.raises(KafkaConnectionError):
            await AIOKafkaConsumer.getmany(consumer)
        assert not is_idle(consumer)
