"""The log writer on a broker that freezes and comes back: it fails fast, recovers by itself, and lies about nothing."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from streams.kafka_clients.circuit import CircuitState
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import BackpressureError, RejectedError, RetryableError, UnconfirmedError
from streams.kafka_clients.log_reader import read_log
from streams.kafka_clients.producer import MAX_RECORD_BYTES, LogWriter
from tests.kafka_cluster import KafkaCluster, KafkaUnavailableError
from tests.support.gateway_calls import writing
from tests.support.kafka_topics import create_topics, unique

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LIMIT_S = 60.0
FAST_S = 0.1
"""An append that an open circuit refuses takes no longer than this, however loaded the machine is."""


@pytest.fixture(scope="module")
def own_broker(kafka: object) -> Iterator[KafkaCluster]:
    """A node of this module's own, to be frozen."""
    try:
        with KafkaCluster() as cluster:
            yield cluster
    except KafkaUnavailableError as missing:
        pytest.skip(f"no broker of our own to freeze: {missing}")


@pytest.fixture
def connection(own_broker: KafkaCluster) -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=own_broker.bootstrap_servers, request_timeout_s=2.0)


@pytest.fixture
def topic(connection: KafkaConnection) -> str:
    name = unique("log")
    create_topics(connection.bootstrap_servers, [name], partitions=2)
    return name


async def append(writer: LogWriter, topic: str, value: bytes, *, timeout_s: float) -> bytes | None:
    """The value when it is on the log for sure, else None."""
    try:
        await writer.append(topic, key=value, value=value, timeout_s=timeout_s)
    except RetryableError:
        return None
    return value


async def append_until_written(writer: LogWriter, topic: str, value: bytes) -> bytes:
    """Try again whenever the writer says so, as a client of the ingress would."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        try:
            await writer.append(topic, key=value, value=value, timeout_s=5.0)
        except RetryableError as error:
            await asyncio.sleep(error.retry_after_s)
        else:
            return value
    raise AssertionError("the writer did not recover")


async def test_writer_fails_fast_while_the_broker_is_frozen_and_recovers_by_itself(
    own_broker: KafkaCluster, connection: KafkaConnection, topic: str
) -> None:
    sure: set[bytes] = set()
    async with writing(connection) as writer:
        sure.add(await append(writer, topic, b"before", timeout_s=10.0) or b"lost")
        own_broker.nodes[0].freeze()
        try:
            unsure = await asyncio.gather(*(append(writer, topic, b"during-%d" % n, timeout_s=0.5) for n in range(10)))
            assert unsure == [None] * 10
            assert writer.state is CircuitState.OPEN
            started_s = time.monotonic()
            with pytest.raises(BackpressureError) as refused:
                await writer.append(topic, key=b"x", value=b"refused", timeout_s=10.0)
            assert time.monotonic() - started_s < FAST_S
            assert 0 < refused.value.retry_after_s <= 1.0
        finally:
            own_broker.nodes[0].thaw()
        after = await append_until_written(writer, topic, b"after")
        sure.add(after)
        assert await append(writer, topic, b"closed again", timeout_s=10.0) is not None
    found = [record.value async for record in read_log(connection, topic)]
    assert sure <= set(found)
    assert b"refused" not in found  # Backpressure means that nothing was sent
    assert found.count(b"before") == 1
    assert {value for value in found if value and value.startswith(b"during")} <= {b"during-%d" % n for n in range(10)}


async def test_writer_stops_in_time_when_the_broker_is_frozen(
    own_broker: KafkaCluster, connection: KafkaConnection, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka_clients.producer.STOP_TIMEOUT_S", 1.0)
    writer = LogWriter(connection)
    await writer.append(topic, key=b"k", value=b"v", timeout_s=10.0)
    own_broker.nodes[0].freeze()
    try:
        with pytest.raises(UnconfirmedError):
            await writer.append(topic, key=b"k", value=b"v", timeout_s=0.2)
        started_s = time.monotonic()
        await writer.stop()
        assert time.monotonic() - started_s < 10.0
    finally:
        own_broker.nodes[0].thaw()


async def test_writer_refuses_a_record_when_it_is_larger_than_a_broker_takes(
    connection: KafkaConnection, topic: str
) -> None:
    async with writing(connection) as writer:
        with pytest.raises(RejectedError):
            await writer.append(topic, key=b"k", value=b"v" * (MAX_RECORD_BYTES + 1))
        await writer.append(topic, key=b"k", value=b"v")
        assert writer.state is CircuitState.CLOSED


async def test_writer_is_not_confirmed_when_there_is_no_topic(connection: KafkaConnection) -> None:
    async with writing(connection) as writer:
        with pytest.raises(RetryableError):
            await writer.append(unique("nowhere"), key=b"k", value=b"v", timeout_s=0.5)
