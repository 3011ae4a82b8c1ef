"""What a command alone holds: read again for its call, given to the gateway, and kept nowhere."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from gateway_adapters.contract import CallResult
from schemas import topics
from schemas.event_types import TYPES
from schemas.identifiers import GatewayName, IdempotencyKey, OrderId, OriginId
from schemas.messages import EncodedMessage, Envelope
from schemas.records.commands import (
    BrowserFacts,
    Command,
    CompletionRequested,
    NamedText,
    Payer,
    PaymentRequested,
    PaymentToken,
    op_id_of,
)
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.development.embedded_broker import EmbeddedBroker
from streams.development.local_engine import free_port
from streams.executor.command_reader import CommandReader
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import FETCH_MAX_WAIT_MS
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_reader import LogRecord
from tests.support.executor_scene import FIRST, SECOND, Gate, Scene, started
from tests.support.gateway_calls import CODEC, GATEWAY, NOW_MS, TellableGateway, message_of, request_of, succeeds
from tests.support.metric_pages import rise_of

PAYER = Payer(
    email="anna@example.com", reference="c-17", ip="203.0.113.9", browser=BrowserFacts(user_agent="Mozilla/5.0")
)
COMMAND = PaymentRequested(
    origin_id=OriginId("originA"),
    order_id=OrderId("order-1"),
    idempotency_key=IdempotencyKey("key-1"),
    amount_minor=1001,
    currency="USD",
    token=None,
    capture=True,
    tokens=(
        PaymentToken(gateway=GatewayName("other"), kind="vault", value="vault-7"),
        PaymentToken(gateway=GATEWAY, kind="stored", value="tok_of_mock", payer_reference="shopper-1"),
    ),
    return_url="https://shop.example/back",
    payer=PAYER,
    statement_descriptor="SHOP 17",
    metadata=(NamedText(name="cart", value="17"),),
    merchant_initiated=True,
    allow_partial=True,
)
OFFSET = 42


def told(command: Command) -> EncodedMessage:
    return CODEC.encode(command, Envelope(id="cmd-1", source="shop", type=TYPES[type(command)], time_ms=NOW_MS))


def standing(command: Command, *, partition: int = 0, offset: int = OFFSET) -> LogRecord:
    message = told(command)
    return LogRecord(
        topic=topics.COMMANDS,
        partition=partition,
        offset=offset,
        timestamp_ms=NOW_MS,
        key=b"order-1",
        value=message.value,
        headers=message.headers,
    )


def request(command: PaymentRequested = COMMAND, *, later_ms: int = 0) -> GatewayCallRequested:
    return dataclasses.replace(
        request_of(1),
        op_id=op_id_of(command),
        token=None,
        command_offset=OFFSET,
        requested_at_ms=NOW_MS + later_ms,
    )


class Asked:
    """A gateway's behaviour that remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[GatewayCallRequested] = []

    async def __call__(self, request: GatewayCallRequested) -> CallResult:
        self.requests.append(request)
        return await succeeds(request)


async def test_call_has_the_token_of_its_gateway_and_what_the_command_says_when_the_request_names_it() -> None:
    asked = Asked()
    async with started(Scene(TellableGateway(asked))) as scene:
        scene.commands[0, OFFSET] = standing(COMMAND)
        scene.put(FIRST, 5, message_of(request()))
        await scene.writer.wait_for(1)
    (call,) = asked.requests
    assert call.token == "tok_of_mock"
    assert call.details == CallDetails(
        token_kind="stored",
        payer_reference="shopper-1",
        payer=PAYER,
        return_url="https://shop.example/back",
        statement_descriptor="SHOP 17",
        metadata=(NamedText(name="cart", value="17"),),
        merchant_initiated=True,
        allow_partial=True,
    )
    (result,) = scene.results()
    assert result.outcome is Outcome.SUCCEEDED
    kept = b"".join(value or b"" for _, _, value, _ in scene.writer.appended)
    assert b"anna" not in kept
    assert b"tok_of_mock" not in kept


async def test_command_is_read_in_the_partition_of_its_request_when_both_partitions_have_one_there() -> None:
    asked = Asked()
    async with started(Scene(TellableGateway(asked))) as scene:
        other = dataclasses.replace(COMMAND, idempotency_key=IdempotencyKey("key-2"))
        scene.commands = {(0, OFFSET): standing(other), (1, OFFSET): standing(COMMAND, partition=1)}
        scene.put(SECOND, 5, message_of(request()))
        await scene.writer.wait_for(1)
    assert [call.token for call in asked.requests] == ["tok_of_mock"]


async def test_call_has_the_single_token_when_the_command_holds_one_beside_its_details() -> None:
    asked = Asked()
    plain = dataclasses.replace(COMMAND, token="tok_plain", tokens=())
    async with started(Scene(TellableGateway(asked))) as scene:
        scene.commands[0, OFFSET] = standing(plain)
        scene.put(FIRST, 5, message_of(request(plain)))
        await scene.writer.wait_for(1)
    (call,) = asked.requests
    assert call.details is not None
    assert (call.token, call.details.token_kind, call.details.payer) == ("tok_plain", None, PAYER)


async def test_no_command_is_read_when_the_request_holds_all_that_it_needs() -> None:
    asked = Asked()
    async with started(Scene(TellableGateway(asked))) as scene:
        scene.put(FIRST, 5, message_of(request_of(1)))
        await scene.writer.wait_for(1)
    (call,) = asked.requests
    assert (call.token, call.details) == ("tok_visa", None)


@pytest.mark.parametrize("gone", ["deleted", "of another order"])
async def test_call_is_not_made_when_its_command_is_gone(gone: str) -> None:
    gateway, counted = TellableGateway(), rise_of("executor_calls_without_command")
    async with started(Scene(gateway)) as scene:
        if gone == "of another order":  # the topic was made anew
            scene.commands[0, OFFSET] = standing(dataclasses.replace(COMMAND, order_id=OrderId("order-2")))
        scene.put(FIRST, 5, message_of(request()))
        await scene.writer.wait_for(1)
    (result,) = scene.results()
    assert result.error is not None
    assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, "command_gone")
    assert (not gateway.calls, counted()) == (True, 1)


async def test_call_is_an_inquiry_when_its_command_is_gone_and_an_earlier_copy_may_have_been_sent() -> None:
    gateway = TellableGateway()
    async with started(Scene(gateway)) as scene:
        scene.put(FIRST, 5, message_of(request(later_ms=5_000)))  # not the first call of its attempt
        await scene.writer.wait_for(1)
    (result,) = scene.results()
    assert set(gateway.calls) == {(CallKind.INQUIRE, request().gateway_key)}
    assert (result.kind, result.outcome) == (CallKind.SALE, Outcome.SUCCEEDED)


async def test_absence_is_doubt_when_the_command_is_gone_and_an_earlier_copy_may_have_been_sent() -> None:
    async def finds_nothing(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=Outcome.NOT_EXECUTED)

    async with started(Scene(TellableGateway(finds_nothing))) as scene:
        scene.put(FIRST, 5, message_of(dataclasses.replace(request(), repeated=True)))
        await scene.writer.wait_for(1)
    (result,) = scene.results()
    assert result.outcome is Outcome.UNKNOWN


async def test_call_is_made_once_when_its_request_comes_twice_while_it_is_under_way() -> None:
    gate = Gate()
    gateway = TellableGateway(gate)
    async with started(Scene(gateway)) as scene:
        scene.commands[0, OFFSET] = standing(COMMAND)
        scene.put(FIRST, 5, message_of(request()))
        scene.put(FIRST, 6, message_of(request()))
        await gate.wait_for(1)
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 7)
    assert sum(gateway.calls.values()) == 1


async def test_completion_has_what_the_payer_came_back_with() -> None:
    asked = Asked()
    completion = CompletionRequested(
        origin_id=OriginId("originA"),
        order_id=OrderId("order-1"),
        idempotency_key=IdempotencyKey("key-2"),
        payment_id=request().payment_id,
        parameters=(NamedText(name="redirectResult", value="X6X!Y"),),
    )
    call = dataclasses.replace(request(), op_id=op_id_of(completion), kind=CallKind.COMPLETE, payment_reference="ref-1")
    async with started(Scene(TellableGateway(asked))) as scene:
        scene.commands[0, OFFSET] = standing(completion)
        scene.put(FIRST, 5, message_of(call))
        await scene.writer.wait_for(1)
    (made,) = asked.requests
    assert made.details == CallDetails(return_parameters=(NamedText(name="redirectResult", value="X6X!Y"),))
    assert (made.kind, made.token) == (CallKind.COMPLETE, None)


# ---- the reader itself

READS = 10
READ_PACE_S = 0.02


@contextlib.asynccontextmanager
async def broker_with(
    commands: list[PaymentRequested], *, port: int = 0
) -> AsyncIterator[tuple[EmbeddedBroker, CommandReader]]:
    async with EmbeddedBroker(port=port) as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        reader = CommandReader(KafkaConnection(bootstrap_servers=broker.bootstrap_servers))
        await admin.start()
        await producer.start()
        try:
            await admin.create_topics([NewTopic(topics.COMMANDS, 2, 1)])
            for command in commands:
                message = told(command)
                await producer.send_and_wait(
                    topics.COMMANDS, value=message.value, headers=list(message.headers), partition=1
                )
            yield broker, reader
        finally:
            await reader.close()
            await producer.stop()
            await admin.close()


def numbered(count: int) -> list[PaymentRequested]:
    return [dataclasses.replace(COMMAND, order_id=OrderId(f"order-{number}")) for number in range(count)]


async def test_reader_returns_each_command_from_its_place_in_any_order() -> None:
    commands = numbered(5)
    async with broker_with(commands) as (_, reader):
        for offset in (3, 0, 4, 3, 1, 2):
            record = await reader.read(1, offset)
            assert record is not None
            assert (record.partition, record.offset) == (1, offset)
            assert CODEC.decode(record.value, record.headers)[1] == commands[offset]


async def test_reader_that_has_come_to_a_partitions_end_is_not_held_up_there() -> None:
    """A broker answers a connection's requests in turn: a fetch that waits for more would hold up the next read."""
    async with broker_with(numbered(1)) as (broker, reader):
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        try:
            message = told(COMMAND)
            await producer.send_and_wait(
                topics.COMMANDS, value=message.value, headers=list(message.headers), partition=0
            )
        finally:
            await producer.stop()
        await reader.read(1, 0)
        began_s = time.monotonic()
        for number in range(READS):
            await reader.read(number % 2, 0)
            await asyncio.sleep(READ_PACE_S)  # the pace of payments, no condition: what reads ahead begins meanwhile
        spent_s = time.monotonic() - began_s
    assert spent_s < READS * FETCH_MAX_WAIT_MS / 1000 / 2


async def test_reader_returns_nothing_when_retention_has_deleted_the_command() -> None:
    async with broker_with(numbered(3)) as (broker, reader):
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(topics.COMMANDS, 1): RecordsToDelete(before_offset=2)})
        finally:
            await admin.close()
        assert await reader.read(1, 0) is None
        assert await reader.read(1, 99) is None  # of a topic that was made anew, and is shorter
        found = await reader.read(1, 2)
        assert found is not None


async def test_reader_says_to_try_again_when_the_broker_is_gone() -> None:
    reader = CommandReader(KafkaConnection(bootstrap_servers="127.0.0.1:9"), patience_s=0.0)
    with pytest.raises(RetryableError):
        await reader.read(0, 0)
    await reader.close()


async def test_reader_waits_for_a_broker_that_is_back_soon() -> None:
    port = free_port()
    reader = CommandReader(KafkaConnection(bootstrap_servers=f"127.0.0.1:{port}"))
    reading = asyncio.ensure_future(reader.read(1, 0))
    with pytest.raises(TimeoutError):  # nobody listens yet
        await asyncio.wait_for(asyncio.shield(reading), 0.2)
    async with broker_with(numbered(1), port=port):
        record = await asyncio.wait_for(reading, 15.0)
        await reader.close()
    assert record is not None
