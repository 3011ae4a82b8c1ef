"""An executor on a fake log, with a gateway that does as it is told. Used by the unit tests of the worker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition

from gateway_adapters.contract import CallResult, Gateway
from schemas import topics
from schemas.identifiers import GatewayRoute
from schemas.messages import EncodedMessage, MessageCodec
from schemas.records.dead_letters import DeadLetter
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import Outcome
from streams.executor.options import ExecutorOptions
from streams.executor.past_results import PastResult, PastResults
from streams.executor.worker import GatewayExecutor
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.log_reader import LogRecord
from tests.support.fake_log import FakeGroupConsumer, FakeRecord, FakeWriter
from tests.support.gateway_calls import (
    CODEC,
    GATEWAY,
    NOW_MS,
    TellableGateway,
    succeeds,
)

DAY_MS = 86_400_000
FIRST = TopicPartition(topics.GATEWAY_REQUESTS, 0)
SECOND = TopicPartition(topics.GATEWAY_REQUESTS, 1)


class Gate:
    """A gateway's behaviour that waits until it is let go."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.changed = asyncio.Condition()

    async def __call__(self, request: GatewayCallRequested) -> CallResult:
        async with self.changed:
            self.waiting += 1
            self.changed.notify_all()
        await self.open.wait()
        return await succeeds(request)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5.0), self.changed:
            await self.changed.wait_for(lambda: self.waiting >= count)


class Scene:
    """A worker on a fake log."""

    def __init__(
        self,
        gateway: TellableGateway,
        *,
        codec: MessageCodec = CODEC,
        others: Mapping[GatewayRoute, Gateway] | None = None,
        **options: object,
    ) -> None:
        self.gateway = gateway
        self.consumer = FakeGroupConsumer([FIRST, SECOND])
        self.writer = FakeWriter()
        self.past: dict[int, PastResults] = {}
        self.past_failures: list[LogError] = []
        self.asked_since_ms: list[int] = []
        self.skipped_s = 0.0
        self.commands: dict[tuple[int, int], LogRecord] = {}
        settings: dict[str, object] = {"commit_interval_s": 0.001, "drain_timeout_s": 5.0, **options}
        self.executor = GatewayExecutor(
            KafkaConnection(bootstrap_servers="nowhere"),
            codec,
            {GatewayRoute(GATEWAY): gateway, **(others or {})},
            ExecutorOptions(**settings),  # type: ignore[arg-type]  # each test names real options
            clock_ms=lambda: NOW_MS + 1,
            build_consumer=lambda _connection, _options: self.consumer,
            writer=self.writer,
            read_past=self.read_past,
            read_command=self.read_command,
            clock_s=lambda: time.monotonic() + self.skipped_s,
        )

    async def read_past(self, partition: int, since_ms: int, *, from_offset: int = 0) -> PastResults:
        self.asked_since_ms.append(since_ms)
        if self.past_failures:
            raise self.past_failures.pop(0)
        past = self.past.get(partition, PastResults(since_ms=0, results=()))
        own = [
            PastResult(timestamp_ms=NOW_MS, message=EncodedMessage(value=value, headers=tuple(headers)))
            for _, _, value, headers in self.writer.appended
            if value is not None
        ]
        return PastResults(since_ms=past.since_ms, results=[*past.results, *own])

    async def read_command(self, partition: int, offset: int) -> LogRecord | None:
        return self.commands.get((partition, offset))

    def put(self, partition: TopicPartition, offset: int, message: EncodedMessage | bytes, **dated: Any) -> None:
        """Let the worker poll this record; how it may be dated, `record` says."""
        self.consumer.put(partition, [self.record(partition, offset, message, **dated)])

    def record(
        self,
        partition: TopicPartition,
        offset: int,
        message: EncodedMessage | bytes,
        *,
        at_ms: int = NOW_MS,
        by_broker: bool = True,
    ) -> FakeRecord:
        """Return a record as the consumer hands it out."""
        raw = isinstance(message, bytes)
        return FakeRecord(
            topic=partition.topic,
            partition=partition.partition,
            offset=offset,
            timestamp=at_ms,
            timestamp_type=1 if by_broker else 0,
            key=b"order",
            value=message if isinstance(message, bytes) else message.value,
            headers=(("content-type", b"application/avro"),) if raw else message.headers,  # type: ignore[union-attr]
        )

    def results(self) -> list[GatewayCallCompleted]:
        found = [CODEC.decode(value, headers)[1] for _, _, value, headers in self.writer.appended]
        return [each for each in found if isinstance(each, GatewayCallCompleted)]

    def letters(self) -> list[DeadLetter]:
        found = [CODEC.decode(value, headers)[1] for _, _, value, headers in self.writer.appended]
        return [each for each in found if isinstance(each, DeadLetter)]


@asynccontextmanager
async def started(scene: Scene) -> AsyncIterator[Scene]:
    await scene.executor.start()
    try:
        yield scene
    finally:
        await scene.executor.stop()


async def until(condition: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    """Let the worker go on until this holds."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- the worker has no event for each of its inner steps
            await asyncio.sleep(0)


async def refuses(_: GatewayCallRequested) -> CallResult:
    return CallResult(outcome=Outcome.NOT_EXECUTED)
