"""The broker under the tests is a real Apache Kafka, and can be treated as badly as the fault tests need."""

import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # where the type checker sees it exported

from tests.kafka_cluster import FoundKafka, KafkaCluster

pytestmark = pytest.mark.kafka

TIMEOUT_S = 30.0


def _create_topic(bootstrap_servers: str, partitions: int) -> str:
    name = f"test-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for created in admin.create_topics([NewTopic(name, partitions)], request_timeout=TIMEOUT_S).values():
        created.result(TIMEOUT_S)
    return name


async def _round_trip(bootstrap_servers: str, topic: str, values: list[bytes]) -> list[Any]:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in values]


async def test_single_node_returns_what_was_produced(kafka: FoundKafka) -> None:
    topic = _create_topic(kafka.bootstrap_servers, 1)
    assert await _round_trip(kafka.bootstrap_servers, topic, [b"a", b"b"]) == [b"a", b"b"]


def test_single_node_creates_no_topic_when_one_is_merely_asked_for(kafka: FoundKafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.list_topics(topic="never-created", timeout=TIMEOUT_S)
    assert "never-created" not in admin.list_topics(timeout=TIMEOUT_S).topics


async def test_three_nodes_keep_acknowledged_records_when_one_is_killed(kafka_cluster_of_three: KafkaCluster) -> None:
    cluster = kafka_cluster_of_three
    topic = _create_topic(cluster.bootstrap_servers, 3)
    assert await _round_trip(cluster.bootstrap_servers, topic, [b"before"]) == [b"before"]
    cluster.nodes[1].kill()
    survivors = ",".join(f"127.0.0.1:{n.spec.client_port}" for n in cluster.nodes if n.process.is_running())
    assert (await _round_trip(survivors, topic, [b"after"]))[0] in {b"before", b"after"}
    cluster.nodes[1].start()
    cluster.wait_until_serving(3)
