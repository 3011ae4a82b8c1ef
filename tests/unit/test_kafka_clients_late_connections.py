"""A connection of aiokafka's that is made while its client closes must not stay open."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import client as aiokafka_client
from aiokafka.client import AIOKafkaClient

from streams.kafka_clients.aiokafka_fences import late_connections


class _Connection:
    """As much of one as the client asks for."""

    def __init__(self) -> None:
        self.closed = False

    def connected(self) -> bool:
        return not self.closed

    def close(self, reason: object = None) -> asyncio.Future[None]:
        assert reason is not None
        self.closed = True
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    made.arrives, made.connection = asyncio.Event(), _Connection()

    async def create_conn(*_: object, **__: object) -> _Connection:
        await made.arrives.wait()
        connection: _Connection = made.connection
        return connection

    monkeypatch.setattr(aiokafka_client, "create_conn", create_conn)
    broker = SimpleNamespace(host="127.0.0.1", port=1)
    monkeypatch.setattr(made.cluster, "broker_metadata", lambda _node: broker)
    return made


async def test_connection_is_closed_when_it_is_made_after_its_client_was(client: Any) -> None:
    getting = asyncio.create_task(client._get_conn(0))
    await asyncio.sleep(0)
    await client.close()
    client.arrives.set()
    assert await getting is None
    assert client.connection.closed


async def test_stock_client_leaves_such_a_connection_open(client: Any) -> None:
    getting = asyncio.create_task(AIOKafkaClient._get_conn.__wrapped__(client, 0))
    await asyncio.sleep(0)
    await AIOKafkaClient.close.__wrapped__(client)
    client.arrives.set()
    assert await getting is client.connection
    assert not client.connection.closed


async def test_connection_of_an_open_client_stays_open_and_is_closed_with_it(client: Any) -> None:
    client.arrives.set()
    assert await client._get_conn(0) is client.connection
    assert not client.connection.closed
    await client.close()
    assert client.connection.closed


def test_installing_twice_wraps_once() -> None:
    before = AIOKafkaClient.close, AIOKafkaClient._get_conn
    late_connections.install()
    assert before == (AIOKafkaClient.close, AIOKafkaClient._get_conn)
