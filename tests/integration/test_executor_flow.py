"""The executor on a real log: many calls in flight, nothing lost, whatever comes and goes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway_adapters.contract import CallResult
from schemas.records.dead_letters import DeadLetter
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, DeadLetterReason, Outcome
from streams.executor.worker import GatewayExecutor
from tests.support.embedded_process import embedded_broker_process
from tests.support.gateway_calls import (
    CODEC,
    GATEWAY,
    NOW_MS,
    OwnTopics,
    TellableGateway,
    append_request,
    message_of,
    request_of,
    succeeds,
    writing,
)
from tests.support.kafka_topics import committed_offsets, end_offsets


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """The embedded broker, then Apache Kafka."""
    if request.param == "kafka":
        yield str(request.getfixturevalue("kafka").bootstrap_servers)
        return
    with embedded_broker_process() as address:
        yield address


@pytest.fixture
def topics(broker: str) -> OwnTopics:
    return OwnTopics(bootstrap_servers=broker).create()


@asynccontextmanager
async def running(topics: OwnTopics, gateway: TellableGateway, **changes: object) -> AsyncIterator[GatewayExecutor]:
    """A worker that is a member of its group; drained and stopped at the end."""
    executor = GatewayExecutor(
        topics.connection, CODEC, {GATEWAY: gateway}, topics.options(**changes), clock_ms=lambda: NOW_MS + 1_000
    )
    await executor.start()
    try:
        yield executor
    finally:
        await executor.stop()


def orders(count: int) -> set[str]:
    return {f"order-{number}" for number in range(count)}


async def assert_all_committed(topics: OwnTopics) -> None:
    ends = await end_offsets(topics.bootstrap_servers, topics.requests)
    committed = await asyncio.to_thread(
        committed_offsets, topics.bootstrap_servers, topics.group, topics.requests, len(ends)
    )
    assert {number: max(offset, 0) for number, offset in committed.items()} == ends


async def test_executor_answers_every_request_with_512_in_flight_when_the_gateway_is_slow(topics: OwnTopics) -> None:
    async def slow(request: GatewayCallRequested) -> CallResult:
        await asyncio.sleep(0.5)
        return await succeeds(request)

    count = 2_000
    await topics.append_requests([request_of(number) for number in range(count)])
    gateway = TellableGateway(slow)
    started_s = time.monotonic()
    async with running(topics, gateway):
        seen = await topics.wait_for_orders(orders(count))
        took_s = time.monotonic() - started_s
    assert set(seen.values()) == {1}
    assert gateway.most_at_once == 512
    assert count / took_s >= 300, f"{count / took_s:.0f} calls/s"
    await assert_all_committed(topics)
