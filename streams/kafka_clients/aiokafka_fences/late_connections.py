"""A connection that is made while its client closes is closed too.

Installed before any aiokafka client is built. aiokafka closes the connections that it has; one that is
on its way at that moment is finished afterwards and closed by nobody (client.py, `_get_conn`): a process that
replaces a broken producer would lose a socket at times. Written against aiokafka 0.14.0.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import CloseReason

_MARK = "_closes_late_connections"
_CLOSED = "_payment_engine_closed"


def install() -> None:
    """Wrap how aiokafka's client makes connections, and how it closes. Safe to call twice."""
    if hasattr(AIOKafkaClient.close, _MARK):
        return
    AIOKafkaClient._get_conn = _closing_late(AIOKafkaClient._get_conn)  # noqa: SLF001 -- there is no other place
    AIOKafkaClient.close = _remembered(AIOKafkaClient.close)


def _closing_late(get: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(get)
    async def get_conn(client: Any, *args: Any, **options: Any) -> Any:
        connection = await get(client, *args, **options)
        if connection is None or not getattr(client, _CLOSED, False):
            return connection
        connection.close(reason=CloseReason.SHUTDOWN)  # not waited for: a silent peer would hold up whoever stops
        return None  # as when none could be made

    return get_conn


def _remembered(close: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(close)
    async def remember_and_close(client: Any) -> None:
        setattr(client, _CLOSED, True)
        await close(client)

    setattr(remember_and_close, _MARK, True)
    return remember_and_close
