"""The embedded broker over a socket: what it refuses, its faults, its promise in ApiVersions, its life and end."""

import asyncio
import contextlib
import dataclasses
import itertools
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import get_args, get_type_hints

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TransactionalIdAuthorizationFailed
from confluent_kafka import KafkaError as ForeignError
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.index import load_response_schema
from kio.schema.errors import ErrorCode

from streams.cli.exits import ExitCode
from streams.development.embedded_broker import ApiKey, Effect, EmbeddedBroker, Fault, MemoryLimits, NotLoopbackError
from streams.development.embedded_broker.apis import SERVED
from streams.development.embedded_broker.limits import MAX_ARMED_FAULTS, MAX_REQUEST_BYTES
from streams.development.embedded_broker.program import parsed
from streams.development.embedded_broker.wire import UnreadableRequestError, decode_request
from tests.support.embedded_process import embedded_broker_process

LIMIT_S = 15.0
TOPIC = "t"


@contextlib.asynccontextmanager
async def running(**options: object) -> AsyncIterator[EmbeddedBroker]:
    """A broker with one topic of one partition."""
    async with EmbeddedBroker(**options) as broker:  # type: ignore[arg-type]  # passed on as the test gave them
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(TOPIC, 1, 1)])
        finally:
            await admin.close()
        yield broker


@contextlib.asynccontextmanager
async def producing(broker: EmbeddedBroker, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    defaults: dict[str, object] = {"enable_idempotence": True, "request_timeout_ms": 1_000, "retry_backoff_ms": 20}
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, **{**defaults, **options})
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def values_in(broker: EmbeddedBroker) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        async with asyncio.timeout(LIMIT_S):
            while len(found) < end:
                found.append((await consumer.getone()).value)
        return found
    finally:
        await consumer.stop()


# ---- where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_broker_refuses_to_be_made_when_the_address_is_not_loopback(host: str) -> None:
    with pytest.raises(NotLoopbackError, match="loopback only"):
        EmbeddedBroker(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.9"])
async def test_broker_listens_when_the_address_is_loopback(host: str) -> None:
    async with EmbeddedBroker(host=host) as broker:
        address, _, port = broker.bootstrap_servers.rpartition(":")
        with socket.create_connection((address, int(port)), timeout=LIMIT_S):
            pass  # that it connects is the assertion


async def test_broker_forgets_everything_and_frees_its_port_when_it_stops() -> None:
    async with running() as broker:
        port = int(broker.bootstrap_servers.rpartition(":")[2])
        async with producing(broker) as producer:
            await producer.send_and_wait(TOPIC, b"v")
        assert broker.stored_bytes > 0
        with pytest.raises(RuntimeError):
            await broker.start()
    await broker.stop()
    assert broker.stored_bytes == 0
    with pytest.raises(RuntimeError):
        _ = broker.bootstrap_servers
    async with EmbeddedBroker(port=port):
        pass  # that the port is free again is the assertion


async def test_broker_stops_at_once_when_clients_wait_for_records_and_rebalances() -> None:
    async with running() as broker:
        consumer = AIOKafkaConsumer(
            TOPIC, bootstrap_servers=broker.bootstrap_servers, group_id="g", fetch_max_wait_ms=30_000
        )
        await consumer.start()
        waiting = asyncio.create_task(consumer.getone())
        await asyncio.sleep(0)
        started = time.monotonic()
        await broker.stop()
        assert time.monotonic() - started < 4
        waiting.cancel()
        await consumer.stop()


# ---- what it says it serves


def test_every_served_response_has_its_fields_in_the_highest_version() -> None:
    for api, versions in SERVED.items():
        highest = _fields_of(load_response_schema(api, versions.highest))
        for version in range(versions.lowest, versions.highest + 1):
            for path, names in _fields_of(load_response_schema(api, version)).items():
                assert names <= highest[path], f"{api.name} {version} {path}"


def _fields_of(entity: type[object], path: str = "") -> dict[str, set[str]]:
    hints = get_type_hints(entity)
    found = {path: set(hints) & {field.name for field in dataclasses.fields(entity)}}  # type: ignore[arg-type]  # all kio entities are dataclasses
    for name in found[path]:
        for argument in [hints[name], *get_args(hints[name])]:
            for inner in [argument, *get_args(argument)]:
                if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                    found |= _fields_of(inner, f"{path}/{name}")
    return found


async def exchange(broker: EmbeddedBroker, frame: bytes) -> bytes:
    """The answer to a frame; empty when the broker closes the connection."""
    host, _, port = broker.bootstrap_servers.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(struct.pack(">i", len(frame)) + frame)
        async with asyncio.timeout(LIMIT_S):
            try:
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                return await reader.readexactly(length)
            except asyncio.IncompleteReadError:
                return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_client_is_told_the_versions_when_it_asks_in_an_unknown_one() -> None:
    async with EmbeddedBroker() as broker:
        answer = await exchange(broker, struct.pack(">hhih", 18, 99, 7, -1))
    correlation_id, error, count = struct.unpack_from(">ihi", answer)
    served = {struct.unpack_from(">hhh", answer, 10 + 6 * n) for n in range(count)}
    assert (correlation_id, error) == (7, ErrorCode.unsupported_version)
    assert (3, 0, 8) in served
    assert not {key for key, _, _ in served} & {24, 25, 26, 28}  # no transactions


@pytest.mark.parametrize(
    "frame", [b"", b"\x00", struct.pack(">hhih", 0, 99, 1, -1), struct.pack(">hhih", 24, 0, 1, -1)]
)
async def test_connection_is_closed_when_a_request_is_not_served(frame: bytes) -> None:
    async with EmbeddedBroker() as broker:
        assert await exchange(broker, frame) == b""


async def test_connection_is_closed_when_a_frame_is_above_the_limit() -> None:
    async with EmbeddedBroker() as broker:
        host, _, port = broker.bootstrap_servers.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(struct.pack(">i", MAX_REQUEST_BYTES + 1))
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b""
        writer.close()


@given(
    api=st.sampled_from(sorted(SERVED)),
    version=st.integers(min_value=0, max_value=10),
    body=st.binary(max_size=120),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_request_is_read_or_refused_in_one_way_when_its_bytes_are_garbage(
    api: ApiKey, version: int, body: bytes
) -> None:
    with contextlib.suppress(UnreadableRequestError):
        decode_request(struct.pack(">hhih", api, version, 1, -1) + body)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_come_out_as_they_went_in(codec: str) -> None:
    values = [b"%d" % n * 200 for n in range(20)]
    async with running() as broker, producing(broker, compression_type=codec, linger_ms=20) as producer:
        await asyncio.gather(*[await producer.send(TOPIC, value) for value in values])
        assert await values_in(broker) == values


def refusal_of(address: str, topic: str, codec: str) -> ForeignError | None:
    """Return why librdkafka's producer could not append a compressed record; aiokafka has no name for it."""
    refusals: list[ForeignError | None] = []
    producer = Producer({"bootstrap.servers": address, "compression.type": codec, "log_level": 0})
    producer.produce(topic, b"v" * 200, b"k", on_delivery=lambda error, _: refusals.append(error))
    assert producer.flush(LIMIT_S) == 0
    return refusals[0]


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
async def test_producer_is_told_the_reason_when_its_codec_cannot_be_compacted(codec: str) -> None:
    async with running() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic("table", 1, 1, topic_configs={"cleanup.policy": "compact"})])
        finally:
            await admin.close()
        refusal = await asyncio.to_thread(refusal_of, broker.bootstrap_servers, "table", codec)
        assert refusal is not None
        assert refusal.code() == ForeignError.UNSUPPORTED_COMPRESSION_TYPE
        assert await asyncio.to_thread(refusal_of, broker.bootstrap_servers, "table", "gzip") is None


async def test_transactional_producer_is_refused_for_good_and_the_broker_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id="tx")
        with pytest.raises((TransactionalIdAuthorizationFailed, KafkaError)):
            async with asyncio.timeout(LIMIT_S):
                await producer.start()
        await producer.stop()
    assert "the embedded broker has no transactions" in caplog.text
    assert "use Apache Kafka" in caplog.text


# ---- faults


async def test_fault_delays_so_many_requests_and_then_no_more() -> None:
    async with running() as broker, producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"warm")
        armed = broker.faults.add(Fault(api=ApiKey.PRODUCE, delay_s=0.15, times=2))
        took_s = []
        for _ in range(3):
            started = time.monotonic()
            await producer.send_and_wait(TOPIC, b"v")
            took_s.append(time.monotonic() - started)
        assert armed.struck == 2
        assert min(took_s[:2]) >= 0.15 > took_s[2]


@pytest.mark.parametrize(
    "effect", [Effect.DROP_BEFORE, Effect.DROP_AFTER, Effect.DISCONNECT_BEFORE, Effect.DISCONNECT_AFTER]
)
async def test_idempotent_producer_stores_a_record_once_when_its_answer_is_lost(effect: Effect) -> None:
    async with running() as broker, producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"first")
        armed = broker.faults.add(Fault(api=ApiKey.PRODUCE, effect=effect))
        sending = asyncio.create_task(producer.send_and_wait(TOPIC, b"second"))
        await armed.wait_until_struck(timeout_s=LIMIT_S)
        assert (await asyncio.wait_for(sending, LIMIT_S)).offset == 1
        assert await values_in(broker) == [b"first", b"second"]


async def test_producer_without_idempotence_stores_a_record_twice_when_its_answer_is_lost() -> None:
    async with running() as broker, producing(broker, enable_idempotence=False) as producer:
        broker.faults.add(Fault(api=ApiKey.PRODUCE, effect=Effect.DISCONNECT_AFTER))
        await producer.send_and_wait(TOPIC, b"v")
        assert await values_in(broker) == [b"v", b"v"]


async def test_fault_answers_with_an_error_and_applies_nothing() -> None:
    async with running() as broker, producing(broker) as producer:
        armed = broker.faults.add(Fault(api=ApiKey.PRODUCE, topic=TOPIC, error=ErrorCode.not_enough_replicas, times=2))
        record = await producer.send_and_wait(TOPIC, b"v")
        assert (record.offset, armed.struck) == (0, 2)
        assert await values_in(broker) == [b"v"]


async def test_fault_strikes_the_nth_request_of_its_topic_only() -> None:
    async with running() as broker, producing(broker) as producer:
        other = broker.faults.add(Fault(api=ApiKey.PRODUCE, topic="other", effect=Effect.DROP_BEFORE))
        third = broker.faults.add(Fault(api=ApiKey.PRODUCE, topic=TOPIC, skip=2, delay_s=0.01))
        for n in range(1, 5):
            await producer.send_and_wait(TOPIC, b"v")
            assert third.struck == (n >= 3)
        assert other.matched == 0
        with pytest.raises(TimeoutError):
            await other.wait_until_struck(timeout_s=0.01)


async def test_fault_strikes_the_requests_of_its_group_only() -> None:
    async with running() as broker:
        armed = broker.faults.add(
            Fault(api=ApiKey.JOIN_GROUP, group="g", error=ErrorCode.coordinator_not_available, times=2)
        )
        for group in ("other", "g"):
            consumer = AIOKafkaConsumer(
                TOPIC, bootstrap_servers=broker.bootstrap_servers, group_id=group, retry_backoff_ms=20
            )
            await asyncio.wait_for(consumer.start(), LIMIT_S)
            assert consumer.assignment() == {TopicPartition(TOPIC, 0)}
            assert armed.struck == (2 if group == "g" else 0)
            await consumer.stop()


async def test_fault_is_disarmed_when_it_is_removed() -> None:
    async with running() as broker, producing(broker) as producer:
        armed = broker.faults.add(Fault(api=ApiKey.PRODUCE, effect=Effect.DROP_BEFORE, times=100))
        broker.faults.remove(armed)
        broker.faults.add(Fault(api=ApiKey.PRODUCE, effect=Effect.DROP_BEFORE, times=100))
        broker.faults.clear()
        assert (await producer.send_and_wait(TOPIC, b"v")).offset == 0


def test_fault_is_refused_when_it_contradicts_itself() -> None:
    for wrong in (
        {"times": 0},
        {"skip": -1},
        {"delay_s": -1.0},
        {"answer_delay_s": 1e9},
        {"effect": Effect.ERROR},
        {"effect": Effect.DROP_AFTER, "error": ErrorCode.corrupt_message},
        {"api": ApiKey.DELETE_GROUPS, "error": ErrorCode.corrupt_message},
    ):
        with pytest.raises(ValueError, match=r"fault|error"):
            Fault(**{"api": ApiKey.PRODUCE, **wrong})  # type: ignore[arg-type]  # wrong on purpose


def test_faults_are_refused_beyond_their_limit() -> None:
    broker = EmbeddedBroker()
    for _ in range(MAX_ARMED_FAULTS):
        broker.faults.add(Fault(api=ApiKey.PRODUCE))
    with pytest.raises(ValueError, match="at most"):
        broker.faults.add(Fault(api=ApiKey.PRODUCE))


# ---- memory


async def test_broker_stays_within_its_memory_when_producers_go_on() -> None:
    async with running(memory=MemoryLimits(partition_bytes=60_000, total_bytes=100_000)) as broker:
        async with producing(broker) as producer:
            for _ in range(100):
                await producer.send_and_wait(TOPIC, b"x" * 2_000)
        assert 20_000 < broker.stored_bytes <= 60_000


async def test_acknowledged_time_is_the_one_that_the_record_bears_when_the_broker_dates_it() -> None:
    ticks = itertools.count(int(time.time() * 1000))  # another time at each look
    async with running(now_ms=lambda: next(ticks)) as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            dated = NewTopic("dated", 1, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})
            await admin.create_topics([dated])
        finally:
            await admin.close()
        async with producing(broker) as producer:
            acknowledged = await producer.send_and_wait("dated", b"x")
        consumer = AIOKafkaConsumer("dated", bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
        async with consumer:
            record = await asyncio.wait_for(consumer.getone(), LIMIT_S)
    assert acknowledged.timestamp == record.timestamp


async def test_broker_drops_expired_records_at_its_upkeep() -> None:
    now_ms = int(time.time() * 1000)
    async with running(now_ms=lambda: now_ms) as broker, producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"old", timestamp_ms=now_ms)
        await broker.keep_up_once()
        assert broker.stored_bytes > 0
        now_ms += 8 * 24 * 3600 * 1000
        await broker.keep_up_once()
        assert broker.stored_bytes == 0


# ---- its own process


def test_broker_process_says_what_it_is_and_ends_on_a_signal() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "broker"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("READY broker ")
        process.terminate()
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert "development only, keeps nothing, is not Kafka" in said


def test_broker_process_refuses_to_start_when_address_or_port_cannot_be_had() -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "streams.cli", "broker", *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    refused = run("--host", "0.0.0.0")
    assert (refused.returncode, "loopback only" in refused.stderr) == (ExitCode.MISCONFIGURED, True)
    with embedded_broker_process() as address:
        taken = run("--port", address.rpartition(":")[2])
    assert (taken.returncode, "cannot listen" in taken.stderr) == (ExitCode.MISCONFIGURED, True)


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_command_line_is_refused_when_no_port_is_that(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--port", port])
    assert "--port" in capsys.readouterr().err
