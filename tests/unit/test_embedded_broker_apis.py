"""The embedded broker's administration, in process: what it answers, and what it refuses with which code."""

import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import InvalidPartitionsError, KafkaError, UnknownTopicOrPartitionError
from kio.schema.errors import ErrorCode

from streams.development.embedded_broker import EmbeddedBroker

TOPIC = "t"
PARTITION = TopicPartition(TOPIC, 0)


BEGAN_MS = time.time_ns() // 1_000_000
"""Records dated into 1970 would be deleted by the broker's upkeep at any moment."""


@contextlib.asynccontextmanager
async def administered(**options: bool) -> AsyncIterator[tuple[str, AIOKafkaAdminClient]]:
    async with EmbeddedBroker(**options) as broker:  # type: ignore[arg-type]  # only flags are passed on here
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(TOPIC, 2, 1)])
            yield broker.bootstrap_servers, admin
        finally:
            await admin.close()


async def write(address: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for n in range(count):
            await producer.send_and_wait(TOPIC, b"%d" % n, partition=0, timestamp_ms=BEGAN_MS + 1_000 * n)
    finally:
        await producer.stop()


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (NewTopic(TOPIC, 1, 1), ErrorCode.topic_already_exists),
        (NewTopic("..", 1, 1), ErrorCode.invalid_topic_exception),
        (NewTopic("none", 0, 1), ErrorCode.invalid_partitions),
        (NewTopic("many", 100_000, 1), ErrorCode.invalid_partitions),
        (NewTopic("replicas", 1, 3), ErrorCode.invalid_replication_factor),
        (NewTopic("config", 1, 1, topic_configs={"retention.ms": "soon"}), ErrorCode.invalid_config),
    ],
)
async def test_topic_is_created_or_refused_with_kafkas_code(topic: NewTopic, code: ErrorCode) -> None:
    async with administered() as (_, admin):
        answer = await admin.create_topics([topic])
        assert [entry[1] for entry in answer.topic_errors] == [code]


async def test_topic_is_checked_and_not_created_when_only_validation_is_asked() -> None:
    async with administered() as (_, admin):
        await admin.create_topics([NewTopic("new", 1, 1)], validate_only=True)
        assert set(await admin.list_topics()) == {TOPIC}


async def test_topic_is_created_by_its_first_metadata_when_that_is_switched_on() -> None:
    async with administered(auto_create_topics=True) as (address, admin):
        producer = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        assert len(await producer.partitions_for("made")) == 8
        await producer.stop()
        assert "made" in await admin.list_topics()


async def test_topic_grows_and_never_shrinks() -> None:
    async with administered() as (_, admin):
        await admin.create_partitions({TOPIC: NewPartitions(4)})
        with pytest.raises(InvalidPartitionsError):
            await admin.create_partitions({TOPIC: NewPartitions(3)})
        with pytest.raises(UnknownTopicOrPartitionError):
            await admin.create_partitions({"nowhere": NewPartitions(3)})


async def test_records_are_deleted_up_to_an_offset_and_only_where_the_policy_deletes() -> None:
    async with administered() as (address, admin):
        await write(address, 5)
        assert await admin.delete_records({PARTITION: RecordsToDelete(before_offset=2)}) == {PARTITION: 2}
        assert await admin.delete_records({PARTITION: RecordsToDelete(before_offset=-1)}) == {PARTITION: 5}
        with pytest.raises(KafkaError):
            await admin.delete_records({PARTITION: RecordsToDelete(before_offset=99)})
        await admin.create_topics([NewTopic("table", 1, 1, topic_configs={"cleanup.policy": "compact"})])
        with pytest.raises(KafkaError):
            await admin.delete_records({TopicPartition("table", 0): RecordsToDelete(before_offset=0)})


async def test_group_is_listed_and_described_and_keeps_its_offsets() -> None:
    async with administered() as (address, admin):
        await write(address, 3)
        consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=address, group_id="g", enable_auto_commit=False)
        await consumer.start()
        await consumer.commit({PARTITION: 2})
        assert ("g", "consumer") in await admin.list_consumer_groups()
        described = {}
        for name in ("g", "nobody"):
            (answer,) = await admin.describe_consumer_groups([name])
            described[name] = (answer.groups[0][2], len(answer.groups[0][5]))
        assert described == {"g": ("Stable", 1), "nobody": ("Dead", 0)}
        await consumer.stop()
        assert (await admin.list_consumer_group_offsets("g"))[PARTITION].offset == 2


async def test_groups_offsets_are_forgotten_when_their_topic_is_deleted() -> None:
    async with administered() as (address, admin):
        consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id="g", enable_auto_commit=False)
        await consumer.start()
        consumer.assign([PARTITION])
        await consumer.commit({PARTITION: 0})
        assert PARTITION in await admin.list_consumer_group_offsets("g")
        await admin.delete_topics([TOPIC])
        assert PARTITION not in await admin.list_consumer_group_offsets("g")
        await consumer.stop()


async def test_consumer_finds_offsets_by_time() -> None:
    async with administered() as (address, _):
        await write(address, 5)
        consumer = AIOKafkaConsumer(bootstrap_servers=address)
        await consumer.start()
        consumer.assign([PARTITION])
        found = await consumer.offsets_for_times({PARTITION: BEGAN_MS + 2_500})
        assert found[PARTITION].offset == 3
        assert (await consumer.beginning_offsets([PARTITION]), await consumer.end_offsets([PARTITION])) == (
            {PARTITION: 0},
            {PARTITION: 5},
        )
        await consumer.stop()
