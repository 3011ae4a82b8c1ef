"""What aiokafka (our producers, consumers, the executor, Faust's transport) may rely on, on both brokers."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import CommitFailedError, MessageSizeTooLargeError, OffsetOutOfRangeError, UnknownError
from confluent_kafka import Producer

from streams.kafka_clients.aiokafka_fences import header_names
from tests.support.foreign_client import Sent
from tests.support.raw_header_names import append_raw

LIMIT_S = 30.0
CLOCKS_MS = 5_000
"""How far a broker in a container may be from this clock."""

CODECS = ("gzip", "snappy", "lz4", "zstd")
"""Every codec that Kafka has."""

ERROR_TOPIC_EXISTS = 36
ERROR_INVALID_CONFIG = 40
ERROR_UNKNOWN_TOPIC = 3
ERROR_INVALID_TOPIC = 17


@contextlib.asynccontextmanager
async def admin_of(address: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def producer_of(address: str, **settings: object) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=address, **{"enable_idempotence": True, **settings})
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@contextlib.asynccontextmanager
async def consumer_of(address: str, *topics: str, **settings: object) -> AsyncIterator[AIOKafkaConsumer]:
    defaults: dict[str, object] = {
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 3000,
        "heartbeat_interval_ms": 300,
        "metadata_max_age_ms": 2000,
    }
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=address, **{**defaults, **settings})
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def make_topic(address: str, partitions: int = 1, **config: str) -> str:
    name = f"contract-{uuid.uuid4().hex[:12]}"
    async with admin_of(address) as admin:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        assert [error[1] for error in answer.topic_errors] == [0]
    return name


async def take(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    records: list[ConsumerRecord] = []
    async with asyncio.timeout(LIMIT_S):
        while len(records) < count:
            batches = await consumer.getmany(timeout_ms=200)
            records += [record for batch in batches.values() for record in batch]
    return records


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            verdict = condition()
            if verdict if isinstance(verdict, bool) else await verdict:
                return
            await asyncio.sleep(0.05)  # between two questions to the broker, which sets no event of ours


def values_of(records: Iterable[ConsumerRecord]) -> list[bytes]:
    return [record.value for record in records]


async def test_admin_creates_describes_and_deletes_a_topic(broker_address: str) -> None:
    topic = await make_topic(broker_address, partitions=5)
    async with admin_of(broker_address) as admin:
        described = await admin.describe_topics([topic])
        assert [part["partition"] for part in sorted(described[0]["partitions"], key=lambda p: p["partition"])] == [
            *range(5)
        ]
        await admin.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await admin.list_topics()

        await until(is_gone)


@pytest.mark.parametrize(
    ("name", "config", "error"),
    [
        ("", {}, ERROR_INVALID_TOPIC),
        ("bad name", {}, ERROR_INVALID_TOPIC),
        ("c", {"no.such": "1"}, ERROR_INVALID_CONFIG),
    ],
)
async def test_admin_refuses_a_topic_when_name_or_config_is_wrong(
    broker_address: str, name: str, config: dict[str, str], error: int
) -> None:
    async with admin_of(broker_address) as admin:
        answer = await admin.create_topics([NewTopic(name, 1, 1, topic_configs=config)])
    assert [entry[1] for entry in answer.topic_errors] == [error]


async def test_admin_refuses_a_topic_when_it_exists(broker_address: str) -> None:
    topic = await make_topic(broker_address)
    async with admin_of(broker_address) as admin:
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
    assert [entry[1] for entry in answer.topic_errors] == [ERROR_TOPIC_EXISTS]


async def test_consumer_reads_what_an_idempotent_producer_sent_in_order(broker_address: str) -> None:
    topic = await make_topic(broker_address, retention_ms="-1")  # the records are dated into 1970
    async with producer_of(broker_address, linger_ms=2) as producer:
        sent = [
            await producer.send(
                topic, f"v{n}".encode(), key=b"k%d" % n, headers=[("ce_id", b"%d" % n)], timestamp_ms=1_000 + n
            )
            for n in range(500)
        ]
        acknowledged = await asyncio.gather(*sent)
    assert [record.offset for record in acknowledged] == [*range(500)]
    async with consumer_of(broker_address, topic) as consumer:
        records = await take(consumer, 500)
    assert values_of(records) == [f"v{n}".encode() for n in range(500)]
    assert [(r.offset, r.key, r.headers, r.timestamp) for r in records[-2:]] == [
        (498, b"k498", (("ce_id", b"498"),), 1_498),
        (499, b"k499", (("ce_id", b"499"),), 1_499),
    ]


@pytest.mark.parametrize("codec", CODECS)
async def test_compressed_records_are_read_back(broker_address: str, codec: str) -> None:
    topic = await make_topic(broker_address)
    async with producer_of(broker_address, compression_type=codec, linger_ms=20) as producer:
        await asyncio.gather(*[await producer.send(topic, b"x" * 100) for _ in range(50)])
    async with consumer_of(broker_address, topic) as consumer:
        assert values_of(await take(consumer, 50)) == [b"x" * 100] * 50


def append_by_librdkafka(address: str, topic: str, values: Iterable[bytes], codec: str = "none") -> None:
    settings: dict[str, str | int] = {"bootstrap.servers": address, "compression.type": codec, "linger.ms": 20}
    producer = Producer(settings)
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(LIMIT_S) == 0


@pytest.mark.parametrize("codec", CODECS)
async def test_consumer_reads_what_librdkafka_compressed(broker_address: str, codec: str) -> None:
    topic = await make_topic(broker_address)
    values = [b"%d" % n * 200 for n in range(200)]
    await asyncio.to_thread(append_by_librdkafka, broker_address, topic, values, codec)
    async with consumer_of(broker_address, topic) as consumer:
        records = await take(consumer, len(values))
    assert values_of(records) == values


@pytest.mark.parametrize("codec", ["none", *CODECS])
async def test_consumer_reads_a_record_and_what_follows_when_a_headers_name_is_not_utf_8(
    broker_address: str, codec: str
) -> None:
    header_names.install()  # as whoever is built from a `KafkaConnection` has it
    topic = await make_topic(broker_address)
    names: list[str | bytes] = ["größe", "größe".encode("latin-1"), "größe".encode("latin-1"), "größe"]
    records = [Sent(topic=topic, key=b"k", value=b"%d" % n, headers=[(each, b"1")]) for n, each in enumerate(names)]
    await append_raw(broker_address, records, codec=codec)
    async with consumer_of(broker_address, topic) as consumer:
        found = await take(consumer, len(records))
    assert values_of(found) == [b"0", b"1", b"2", b"3"]
    assert [record.headers[0][0] for record in found] == ["größe", r"gr\xf6\xdfe", r"gr\xf6\xdfe", "größe"]


async def test_producer_is_refused_when_the_record_is_above_the_topics_limit(broker_address: str) -> None:
    topic = await make_topic(broker_address, max_message_bytes="2000")
    async with producer_of(broker_address) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topic, b"x" * 5_000)
        assert (await producer.send_and_wait(topic, b"small")).offset == 0


async def test_consumer_seeks_and_finds_offsets_by_time_when_assigned_by_hand(broker_address: str) -> None:
    topic = await make_topic(broker_address, retention_ms="-1")  # the records are dated into 1970
    partition = TopicPartition(topic, 0)
    async with producer_of(broker_address) as producer:
        for n in range(10):
            await producer.send_and_wait(topic, b"%d" % n, timestamp_ms=10_000 + 100 * n)
    async with consumer_of(broker_address) as consumer:
        consumer.assign([partition])
        assert await consumer.beginning_offsets([partition]) == {partition: 0}
        assert await consumer.end_offsets([partition]) == {partition: 10}
        found = await consumer.offsets_for_times({partition: 10_350})
        assert (found[partition].offset, found[partition].timestamp) == (4, 10_400)
        assert await consumer.offsets_for_times({partition: 99_999}) == {partition: None}
        consumer.seek(partition, 7)
        assert values_of(await take(consumer, 3)) == [b"7", b"8", b"9"]
        await consumer.seek_to_beginning(partition)
        assert values_of(await take(consumer, 10))[0] == b"0"
        assert await consumer.position(partition) == 10


async def test_records_are_dated_by_the_broker_when_the_topic_says_so_whatever_the_producer_says(
    broker_address: str,
) -> None:
    topic = await make_topic(broker_address, message_timestamp_type="LogAppendTime")
    in_two_hours_ms = time.time_ns() // 1_000_000 + 2 * 3_600_000
    before_ms = time.time_ns() // 1_000_000 - CLOCKS_MS
    async with producer_of(broker_address, linger_ms=5) as producer:
        times = [in_two_hours_ms, 0, None]
        sent = [await producer.send(topic, b"%d" % n, timestamp_ms=at) for n, at in enumerate(times)]
        acknowledged = await asyncio.gather(*sent)
    async with consumer_of(broker_address, topic) as consumer:
        records = await take(consumer, 3)
    after_ms = time.time_ns() // 1_000_000 + CLOCKS_MS
    assert values_of(records) == [b"0", b"1", b"2"]
    assert all(before_ms <= record.timestamp <= after_ms for record in records)
    assert [record.timestamp for record in acknowledged] == [record.timestamp for record in records]


async def test_consumer_is_told_when_its_offset_is_out_of_range(broker_address: str) -> None:
    topic = await make_topic(broker_address)
    async with producer_of(broker_address) as producer:
        await producer.send_and_wait(topic, b"only")
    async with consumer_of(broker_address, auto_offset_reset="none") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek(TopicPartition(topic, 0), 50)
        with pytest.raises(OffsetOutOfRangeError):
            async with asyncio.timeout(LIMIT_S):
                await consumer.getone()


async def test_waiting_consumer_gets_a_record_at_once_when_it_arrives(broker_address: str) -> None:
    topic = await make_topic(broker_address)
    async with (
        consumer_of(broker_address, topic, fetch_max_wait_ms=20_000) as consumer,
        producer_of(broker_address) as producer,
    ):
        await producer.send_and_wait(topic, b"first")
        await take(consumer, 1)
        waiting = asyncio.create_task(consumer.getone())
        await producer.send_and_wait(topic, b"second")
        sent_at = time.monotonic()
        record = await asyncio.wait_for(waiting, LIMIT_S)
    assert record.value == b"second"
    assert time.monotonic() - sent_at < 5  # far below the fetch's own wait of 20 s


async def test_group_resumes_after_the_last_commit_when_it_restarts(broker_address: str) -> None:
    topic = await make_topic(broker_address)
    group, partition = f"g-{topic}", TopicPartition(topic, 0)
    async with producer_of(broker_address) as producer:
        for n in range(6):
            await producer.send_and_wait(topic, b"%d" % n)
    async with consumer_of(broker_address, topic, group_id=group) as consumer:
        await take(consumer, 6)
        await consumer.commit({partition: (4, "so far")})
    async with consumer_of(broker_address, topic, group_id=group) as consumer:
        assert values_of(await take(consumer, 2)) == [b"4", b"5"]
        assert await consumer.committed(partition) == 4
    async with admin_of(broker_address) as admin:
        offsets = await admin.list_consumer_group_offsets(group)
        assert (offsets[partition].offset, offsets[partition].metadata) == (4, "so far")


async def test_group_shares_partitions_and_hands_them_over_when_a_member_leaves(broker_address: str) -> None:
    topic = await make_topic(broker_address, partitions=4)
    group = f"g-{topic}"
    async with consumer_of(broker_address, topic, group_id=group) as stays:
        async with consumer_of(broker_address, topic, group_id=group) as leaves:
            await until(lambda: len(stays.assignment()) == 2 and len(leaves.assignment()) == 2)
            assert stays.assignment() | leaves.assignment() == {TopicPartition(topic, n) for n in range(4)}
            async with admin_of(broker_address) as admin:
                (described,) = await admin.describe_consumer_groups([group])
                assert (described.groups[0][2], len(described.groups[0][5])) == ("Stable", 2)
        await until(lambda: len(stays.assignment()) == 4)


async def test_static_member_keeps_its_partitions_without_a_rebalance_when_it_restarts(broker_address: str) -> None:
    topic = await make_topic(broker_address, partitions=2)
    settings = {"group_id": f"g-{topic}", "session_timeout_ms": 20_000}
    generations: list[int] = []
    async with consumer_of(broker_address, topic, group_instance_id="a", **settings) as stays:
        for _ in range(2):
            async with consumer_of(broker_address, topic, group_instance_id="b", **settings) as restarts:
                await until(lambda peer=restarts: len(stays.assignment()) == 1 and len(peer.assignment()) == 1)
                generations.append(restarts._coordinator.generation)
        assert stays._coordinator.generation == generations[-1]
    assert generations[0] == generations[1]


async def test_commit_is_refused_when_the_member_is_not_in_the_group(broker_address: str) -> None:
    topic = await make_topic(broker_address)
    group, partition = f"g-{topic}", TopicPartition(topic, 0)
    async with consumer_of(broker_address, topic, group_id=group) as member:
        await until(lambda: len(member.assignment()) == 1)
        async with consumer_of(broker_address, group_id=group) as outsider:
            outsider.assign([partition])
            with pytest.raises(CommitFailedError):
                await outsider.commit({partition: 1})


async def test_records_before_an_offset_are_gone_when_they_were_deleted(broker_address: str) -> None:
    topic = await make_topic(broker_address)
    partition = TopicPartition(topic, 0)
    async with producer_of(broker_address) as producer:
        for n in range(5):
            await producer.send_and_wait(topic, b"%d" % n)
    async with admin_of(broker_address) as admin:
        assert await admin.delete_records({partition: RecordsToDelete(before_offset=3)}) == {partition: 3}
    async with consumer_of(broker_address, topic) as consumer:
        assert await consumer.beginning_offsets([partition]) == {partition: 3}
        assert values_of(await take(consumer, 2)) == [b"3", b"4"]


async def test_record_without_key_is_refused_when_the_topic_is_compacted(broker_address: str) -> None:
    topic = await make_topic(broker_address, cleanup_policy="compact")
    async with producer_of(broker_address) as producer:
        with pytest.raises(UnknownError):  # INVALID_RECORD, which aiokafka 0.14 does not know by name
            await producer.send_and_wait(topic, b"keyless")
    async with producer_of(broker_address) as producer:
        await producer.send_and_wait(topic, b"keyed", key=b"k")
        await producer.send_and_wait(topic, None, key=b"k")
    async with consumer_of(broker_address, topic) as consumer:
        assert values_of(await take(consumer, 2)) == [b"keyed", None]
