"""Topics of their own for each test, and what stands on them."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # where the type checker sees it exported

from streams.kafka_clients import log_offsets
from streams.kafka_clients.connection import KafkaConnection

ADMIN_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 60.0
COMPACTED: Mapping[str, str] = {"cleanup.policy": "compact"}


def unique(name: str) -> str:
    """A name that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:10]}"


def create_topics(
    bootstrap_servers: str, names: Sequence[str], *, partitions: int, config: Mapping[str, str] | None = None
) -> None:
    """Create topics and return when the broker has them."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    topics = [NewTopic(name, partitions, config=dict(config or {})) for name in names]
    for created in admin.create_topics(topics, request_timeout=ADMIN_TIMEOUT_S).values():
        created.result(ADMIN_TIMEOUT_S)


def delete_topics(bootstrap_servers: str, names: Sequence[str]) -> None:
    """Delete topics with all that is in them."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for deleted in admin.delete_topics(list(names), request_timeout=ADMIN_TIMEOUT_S).values():
        deleted.result(ADMIN_TIMEOUT_S)


@contextlib.asynccontextmanager
async def producing(bootstrap_servers: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer with acks=all."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True) as producer:
        yield producer


async def read_to_end(bootstrap_servers: str, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """Everything on a topic now, partition by partition, in the order of the log."""
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        await consumer._client.force_metadata_update()
        partitions = [TopicPartition(topic, number) for number in sorted(await _partitions_of(consumer, topic))]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = {tp: [] for tp in partitions}
        async with asyncio.timeout(READ_TIMEOUT_S):
            for tp in partitions:
                while await consumer.position(tp) < ends[tp]:
                    for source, records in (await consumer.getmany(timeout_ms=200)).items():
                        found[source] += [record for record in records if record.offset < ends[source]]
        return [record for tp in partitions for record in found[tp]]


async def _partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    cluster = await consumer._client.fetch_all_metadata()
    found = cluster.partitions_for_topic(topic)
    if not found:
        raise LookupError(f"no topic {topic}")
    return set(found)


async def end_offsets(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """Partition to log end. By librdkafka: it is polled, and needs no consumer a look. Raises: LookupError."""
    return await asyncio.to_thread(_end_offsets, bootstrap_servers, topic)


def _end_offsets(bootstrap_servers: str, topic: str) -> dict[int, int]:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    numbers = admin.list_topics(topic, timeout=ADMIN_TIMEOUT_S).topics[topic].partitions
    if not numbers:
        raise LookupError(f"no topic {topic}")
    ends = log_offsets.end_offsets(admin, [(topic, number) for number in numbers], timeout_s=ADMIN_TIMEOUT_S)
    return {number: ends[topic, number] for number in numbers}


def committed_offsets(bootstrap_servers: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """Partition to committed offset of a group; a negative one is none."""
    places = [(topic, number) for number in range(partitions)]
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    found = log_offsets.committed_offsets(connection, group, places, timeout_s=ADMIN_TIMEOUT_S)
    return {number: found.get((topic, number), -1) for number in range(partitions)}
