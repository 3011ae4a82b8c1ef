"""A write to a connection that has just been closed is a broken connection, whatever loop it runs on.

Installed before any aiokafka client is built. On uvloop such a write raises RuntimeError, where
asyncio drops the bytes; aiokafka catches OSError alone (aiokafka #1038, open). The error then ends whatever task was
sending: the fetcher of a consumer, which afterwards returns nothing for ever and says nothing. A fault run saw an
ingress that heard no reply any more and called itself ready. Written against aiokafka 0.14.0; can go when that issue is
closed.
"""

import functools
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_MARK = "_turns_closed_transports_into_broken_connections"


def install() -> None:
    """Wrap the two methods of aiokafka's connection that write. Safe to call twice."""
    for name in ("send", "_send_sasl_token"):
        method = getattr(AIOKafkaConnection, name)
        if not hasattr(method, _MARK):
            setattr(AIOKafkaConnection, name, _wrapped(method))


def _wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def send(connection: Any, *args: Any, **options: Any) -> Any:
        try:
            return method(connection, *args, **options)
        except RuntimeError as error:
            writer = connection._writer  # noqa: SLF001 -- the only way to tell why
            if writer is None or not writer.is_closing():
                raise
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error

    setattr(send, _MARK, True)
    return send
