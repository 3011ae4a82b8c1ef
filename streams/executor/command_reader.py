"""Reads a command again, for what it alone holds: tokens for each gateway, the payer, what a payer came back with.

Called by `handling` for a request that names an offset; a plain payment names none, and costs nothing here. Calls
aiokafka, without a group: no offset is moved. Commands and requests have the same partitions, so the request's own
partition is the command's.

Why so: payer facts may stand in the command only, not in rows, requests, events or dead letters, and the log's
retention of the commands is what removes them (docs/DECISIONS.md).
"""

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas import identifiers, topics
from schemas.decode_errors import OtherReleaseError, SchemaAwaitedError
from schemas.identifiers import GatewayName
from schemas.messages import DecodeError, MessageCodec
from schemas.records.commands import Command, CompletionRequested, PaymentRequested, PaymentToken, op_id_of
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.releases import OutdatedError, place_of
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import SHORT_FETCH_WAIT_MS, build_reader
from streams.kafka_clients.errors import RetryableError, classify
from streams.kafka_clients.log_reader import LogRecord, log_record_of
from streams.log_worker import options

log = structlog.get_logger(__name__)

MAX_FETCH_BYTES: Final = 65_536
"""What a read may fetch: some hundred commands that are probably wanted next. A larger batch comes whole."""

MAX_KEPT_BYTES: Final = 4 * 1_048_576
"""Of commands that came along with one that was wanted."""

KEPT_OVERHEAD_BYTES: Final = 1_024
"""What Python adds to a record and its headers."""

CONNECT_TIMEOUT_S: Final = 15.0
READ_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0
MAX_RETRY_WAIT_S: Final = 1.0
POLL_TIMEOUT_MS: Final = 200
POLL_MAX_RECORDS: Final = 500

ReadCommand = Callable[[int, int], Awaitable[LogRecord | None]]
"""Reads the command at this partition and offset; None: retention has deleted it. Raises: LogError."""


class CommandReader:
    """Reads from one broker. One read at a time; what came along with it is kept for the next."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        commands_topic: str = topics.COMMANDS,
        patience_s: float = options.APPEND_LIMIT_S,
    ) -> None:
        """Nothing is opened before it is needed. `patience_s`: how long a broker that does not answer is waited for."""
        self._connection = connection
        self._topic = commands_topic
        self._patience_s = patience_s
        self._one_read = asyncio.Lock()
        self._consumer: Any = None
        self._kept: OrderedDict[tuple[int, int], LogRecord] = OrderedDict()
        self._kept_bytes = 0

    async def read(self, partition: int, offset: int) -> LogRecord | None:
        """Return the record that stands there; None when the log no longer holds it. Twice is safe.

        A broker that does not answer is asked again, as long as a result would be appended again.

        Raises:
            LogError: it cannot be read, or not for so long.
        """
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + self._patience_s
        while True:  # bounded by give_up_s
            try:
                return await self._read_once(partition, offset)
            except RetryableError as error:
                if clock() >= give_up_s:
                    raise
                log.warning("command_read_retried", partition=partition, offset=offset, error=type(error).__name__)
                await asyncio.sleep(min(error.retry_after_s, MAX_RETRY_WAIT_S))

    async def _read_once(self, partition: int, offset: int) -> LogRecord | None:
        async with self._one_read:
            kept = self._taken(partition, offset)
            if kept is not None:
                return kept
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._connect()
                async with asyncio.timeout(READ_TIMEOUT_S):
                    found = await self._fetched(TopicPartition(self._topic, partition), offset)
            except (KafkaError, TimeoutError, OSError) as error:
                await self._disconnect()
                raise classify(error) from error
            self._consumer.pause(TopicPartition(self._topic, partition))  # a fetch at the end holds up the next read
            return found

    async def close(self) -> None:
        """Let go of the connection. Calling it twice is safe."""
        async with self._one_read:
            await self._disconnect()

    async def _connect(self) -> None:
        if self._consumer is None:
            self._consumer = build_reader(
                self._connection, max_partition_fetch_bytes=MAX_FETCH_BYTES, fetch_max_wait_ms=SHORT_FETCH_WAIT_MS
            )
            await self._consumer.start()

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_TIMEOUT_S)

    async def _fetched(self, source: TopicPartition, offset: int) -> LogRecord | None:
        consumer = self._consumer
        consumer.assign([source])
        consumer.seek(source, offset)
        while True:  # bounded by the caller's time-out
            batches = await consumer.getmany(source, timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_MAX_RECORDS)
            found = [log_record_of(record) for record in batches.get(source, ())]
            for record in found:
                if record.offset != offset:
                    self._keep(record)
            if found:  # from another offset on, if this one is before the log's start, or after the end of a new log
                return next((record for record in found if record.offset == offset), None)
            if await consumer.position(source) != offset:
                return None

    def _taken(self, partition: int, offset: int) -> LogRecord | None:
        """Return the record if it came along with another; it is kept no longer: it may tell of a person."""
        kept = self._kept.pop((partition, offset), None)
        self._kept_bytes -= 0 if kept is None else _size(kept)
        return kept

    def _keep(self, record: LogRecord) -> None:
        place = (record.partition, record.offset)
        if place in self._kept:
            return
        self._kept[place] = record
        self._kept_bytes += _size(record)
        while self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= _size(oldest)


def _size(record: LogRecord) -> int:
    return len(record.value or b"") + sum(len(value) for _, value in record.headers) + KEPT_OVERHEAD_BYTES


async def with_details(
    request: GatewayCallRequested, partition: int, read: ReadCommand, codec: MessageCodec
) -> GatewayCallRequested | None:
    """Return the request with its token and details, as its command says; None when the log no longer holds that.

    Args:
        request: as it stands on the log; one that names no offset comes back as it is.
        partition: of the request, which is its command's too.
        read: reads the command.
        codec: of what is read.

    Raises:
        LogError: the command could not be read now.
        OutdatedError: a later release wrote it.
    """
    if request.command_offset is None:
        return request
    record = await read(partition, request.command_offset)
    command = None if record is None else await _decoded(record, codec)
    if command is None or op_id_of(command) != request.op_id:
        return None  # another log than the one that the order was told from
    match command:
        case PaymentRequested():
            return _of_payment(request, command)
        case CompletionRequested():
            return dataclasses.replace(request, details=CallDetails(return_parameters=command.parameters))
        case _:
            return request  # the others say nothing that their rows do not hold


async def _decoded(record: LogRecord, codec: MessageCodec) -> Command | None:
    try:
        try:
            _, found = codec.decode(record.value, record.headers)
        except SchemaAwaitedError as awaited:
            await awaited.wait()
            _, found = codec.decode(record.value, record.headers)
    except OtherReleaseError as newer:  # its order has read it: so this is the older of the two
        raise OutdatedError(place_of(record.topic, record.partition, record.offset), newer.detail) from newer
    except DecodeError:
        return None
    return found if isinstance(found, Command) else None


def _token_for(request: GatewayCallRequested, command: PaymentRequested) -> PaymentToken | None:
    tokens = {token.gateway: token for token in command.tokens}
    route = identifiers.gateway_route(request.gateway, request.account)
    return tokens.get(GatewayName(route)) or tokens.get(request.gateway)


def _of_payment(request: GatewayCallRequested, command: PaymentRequested) -> GatewayCallRequested:
    token = _token_for(request, command)
    details = CallDetails(
        token_kind=None if token is None else token.kind,
        payer_reference=None if token is None else token.payer_reference,
        payer=command.payer,
        return_url=command.return_url,
        statement_descriptor=command.statement_descriptor,
        metadata=command.metadata,
        merchant_initiated=command.merchant_initiated,
        allow_partial=command.allow_partial,
    )
    return dataclasses.replace(request, token=command.token if token is None else token.value, details=details)
