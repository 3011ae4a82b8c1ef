"""This instance's partition of `payments.replies.v1`, read with aiokafka: the real `ReplyFeed`.

The partition is assigned by hand, not by a group: which one is this instance's is a setting, known before the first
command names it as the place for its reply, and a rebalance could take it away while somebody waits. Nothing is
committed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from http_ingress.limits import FEED_CLOSE_TIMEOUT_S, MAX_REPLIES_PER_READ, REPLY_READ_TIMEOUT_S
from http_ingress.replies.waiters import FeedLostError
from schemas import topics
from schemas.messages import Headers
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader

_MS_PER_S = 1000


class KafkaReplyFeed:
    """Reads one partition of replies from its end on."""

    def __init__(
        self, *, connection: KafkaConnection, partition: int, build: Callable[[KafkaConnection], Any] = build_reader
    ) -> None:
        self._connection = connection
        self._partition = TopicPartition(topics.REPLIES, partition)
        self._build = build
        self._consumer: Any = None

    async def open(self) -> None:
        """Stand at the end of the partition. Raises: FeedLostError; nothing is left open then."""
        consumer = self._build(self._connection)
        try:
            async with asyncio.timeout(self._connection.request_timeout_s):
                await consumer.start()
                # Asked for, then sought: `seek_to_end` says nothing when it failed, and a reply would be missed.
                ends = await consumer.end_offsets([self._partition])
            consumer.assign([self._partition])
            consumer.seek(self._partition, ends[self._partition])
        except BaseException as error:  # cancellation too: raised on, only the half-open consumer must not leak
            await _stop(consumer)
            if isinstance(error, KafkaError | TimeoutError | OSError):
                raise FeedLostError(f"{topics.REPLIES} {self._partition.partition}: {type(error).__name__}") from error
            raise
        self._consumer = consumer

    async def read(self) -> Sequence[tuple[bytes | None, Headers]]:
        """Return the next records, none after REPLY_READ_TIMEOUT_S without any. Raises: FeedLostError."""
        if self._consumer is None:
            raise FeedLostError("not open")
        try:
            batches = await self._consumer.getmany(
                timeout_ms=int(REPLY_READ_TIMEOUT_S * _MS_PER_S), max_records=MAX_REPLIES_PER_READ
            )
        except KafkaError as error:
            raise FeedLostError(type(error).__name__) from error
        return [(record.value, _headers(record)) for records in batches.values() for record in records]

    async def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _stop(consumer)


def _headers(record: Any) -> Headers:
    # Kafka lets a header have no value at all; for a reply that is as good as an empty one.
    return tuple((name, b"" if raw is None else raw) for name, raw in record.headers)


async def _stop(consumer: Any) -> None:
    # A broker that is gone must not hold up a restart or a stop; the process or the next open goes on without it.
    with contextlib.suppress(KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(FEED_CLOSE_TIMEOUT_S):
            await consumer.stop()
