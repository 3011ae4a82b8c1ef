"""On uvloop a write to a closed transport raises RuntimeError: aiokafka must see a broken connection instead."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from streams.kafka_clients.aiokafka_fences import closed_transport

uvloop = pytest.importorskip("uvloop")


async def _over_closed_transport() -> Any:
    """Return a connection of aiokafka's whose transport has been closed and that has not been told yet."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        connection: Any = AIOKafkaConnection(host="127.0.0.1", port=1)
        connection._reader, connection._writer = reader, writer
        connection._read_task = asyncio.create_task(asyncio.sleep(0))
        connection._versions = {3: (0, 0)}
        writer.transport.abort()
        await asyncio.sleep(0)
        return connection


@pytest.mark.parametrize("elsewhere", [False, True], ids=["main thread", "another thread, as the workers' consumer"])
@pytest.mark.parametrize("method", ["send", "_send_sasl_token"])
def test_write_to_a_closed_transport_is_a_broken_connection(method: str, elsewhere: bool) -> None:
    async def write() -> None:
        connection = await _over_closed_transport()
        with pytest.raises(RuntimeError, match="handler is closed"):
            connection._writer.write(b"x")
        with pytest.raises(KafkaConnectionError, match="broken"):
            getattr(connection, method)(b"x" if method == "_send_sasl_token" else MetadataRequest())
        assert connection._writer is None

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(write())

    if elsewhere:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(run).result()
    else:
        run()


async def test_other_runtime_errors_are_not_hidden() -> None:
    def defect(_connection: object) -> None:
        raise RuntimeError("a defect")

    class _Open:
        def is_closing(self) -> bool:
            return False

    class _Connection:
        _writer = _Open()

    with pytest.raises(RuntimeError, match="a defect"):
        closed_transport._wrapped(defect)(_Connection())


def test_connection_is_wrapped_once_when_installed_twice() -> None:
    before = AIOKafkaConnection.send
    closed_transport.install()
    assert AIOKafkaConnection.send is before
