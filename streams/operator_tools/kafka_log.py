"""The log on Kafka, for operators' tools: the engine's own reader and writer behind the synchronous `Log` port.

Called by `streams.cli` through `open_log`. Calls `kafka_clients` on an event loop of its own: a command line does one
thing at a time, and plain generators keep the operations free of `await`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka_clients.connection import KafkaConnection, connection_of
from streams.kafka_clients.errors import LogError, RejectedError
from streams.kafka_clients.log_reader import ReadFrom, end_offsets, read_log
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.operator_tools.errors import NotFoundError, RefusedError, UnreachableError
from streams.operator_tools.log import MAX_RECORDS, LogRecord, NewRecord, Position
from streams.operator_tools.reachability import require_broker
from streams.settings import KafkaSettings
from streams.topology import OPERATOR_CLIENT_ID

CHUNK_RECORDS = 500
"""Records handed over at a time: one step of the event loop each would cost more than reading them."""

APPEND_TIMEOUT_S = 15.0
MAX_BATCH_RECORDS = 1_000


def operator_connection(settings: KafkaSettings) -> KafkaConnection:
    """Return how an operator's tools reach the broker, by the settings."""
    return connection_of(settings, client_id=OPERATOR_CLIENT_ID)


@contextmanager
def open_log(settings: KafkaSettings) -> Iterator["KafkaLog"]:
    """Yield the log once a broker answers; close it after. Raises: UnreachableError, soon and with a cause."""
    require_broker(settings)
    with KafkaLog(operator_connection(settings)) as log:
        yield log


class KafkaLog:
    """A `Log` on Kafka. Not safe for several threads."""

    def __init__(self, connection: KafkaConnection) -> None:
        """Reach the broker by this; nothing is opened before it is needed."""
        self._connection = connection
        self._runner = asyncio.Runner()
        self._writer: LogWriter | None = None
        self._partitions: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the writer and the event loop."""
        try:
            if self._writer is not None:
                self._runner.run(self._writer.stop())
        finally:
            self._runner.close()

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions. Raises: NotFoundError, UnreachableError."""
        if not self._partitions:
            self._partitions = self._all_partitions()
        if topic not in self._partitions:
            raise NotFoundError(f"topic {topic} does not exist; `payment-engine topics apply` creates it")
        return self._partitions[topic]

    def _all_partitions(self) -> dict[str, int]:
        try:
            admin = AdminClient(self._connection.confluent_options())
            found = admin.list_topics(timeout=self._connection.request_timeout_s).topics
        except KafkaException as error:
            raise UnreachableError(f"the broker does not list its topics: {error.args[0].str()}") from error
        return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}

    def read(
        self,
        topic: str,
        *,
        partition: int | None = None,
        since_ms: int | None = None,
        first_offset: int | None = None,
        tail: int | None = None,
        max_records: int = MAX_RECORDS,
    ) -> Iterator[LogRecord]:
        """Yield as `Log.read` promises. Raises: NotFoundError, UnreachableError."""
        self.partitions_of(topic)
        start = ReadFrom(timestamp_ms=since_ms)
        if first_offset is not None and partition is not None:
            start = ReadFrom(offsets={partition: first_offset})
        elif tail is not None:
            start = ReadFrom(offsets=self._tails(topic, tail))
        records = read_log(self._connection, topic, start=start, partition=partition, max_records=max_records)
        try:
            while chunk := self._next_chunk(records):
                yield from chunk
        finally:
            self._runner.run(_closed(records))

    def _tails(self, topic: str, tail: int) -> dict[int, int]:
        with translated():
            ends = self._runner.run(end_offsets(self._connection, topic))
        return {partition: max(0, end - tail) for partition, end in ends.items()}

    def _next_chunk(self, records: AsyncIterator[LogRecord]) -> list[LogRecord]:
        async def take() -> list[LogRecord]:
            chunk: list[LogRecord] = []
            async for record in records:
                chunk.append(record)
                if len(chunk) == CHUNK_RECORDS:
                    break
            return chunk

        with translated():
            return self._runner.run(take())

    def append(self, records: Sequence[NewRecord]) -> tuple[Position, ...]:
        """Append as `Log.append` promises. Raises: RefusedError for a record no broker takes, UnreachableError."""
        if len(records) > MAX_BATCH_RECORDS:
            raise ValueError(f"at most {MAX_BATCH_RECORDS} records at a time")

        async def append_all() -> list[AppendedRecord]:
            if self._writer is None:
                self._writer = LogWriter(self._connection)
                await self._writer.start()
            return await asyncio.gather(*(self._append(self._writer, record) for record in records))

        with translated():
            return tuple(Position(each.partition, each.offset) for each in self._runner.run(append_all()))

    async def _append(self, writer: LogWriter, new: NewRecord) -> AppendedRecord:
        return await writer.append(
            new.topic,
            key=new.key,
            value=new.value,
            headers=new.headers,
            partition=new.partition,
            timeout_s=APPEND_TIMEOUT_S,
        )


async def _closed(records: AsyncIterator[LogRecord]) -> None:
    close = getattr(records, "aclose", None)
    if close is not None:
        await close()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the clients raise into what an operator can act on; a MisconfiguredError is that already."""
    try:
        yield
    except RejectedError as error:
        raise RefusedError(f"the broker refuses: {error}") from error
    except LogError as error:
        raise UnreachableError(f"the broker did not do it in time: {error}") from error
