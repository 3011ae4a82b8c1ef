"""What librdkafka (confluent-kafka: direct producers, the CLI, foreign consumers) may rely on, on both brokers."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its own documented names, not in its __all__
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

LIMIT_S = 30.0
POLL_S = 0.1
REBALANCE_LIMIT_S = 20.0
FENCED = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)


KEPT = {"retention.ms": "-1"}
"""For records that a test dates into 1970: a broker's upkeep would delete them at any moment."""


def make_topic(address: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    name = f"contract-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(LIMIT_S)
    return name


def produce(
    address: str, topic: str, records: list[tuple[bytes, bytes]], settings: dict[str, object] | None = None
) -> list[Message]:
    """Sends (key, value) records and returns them as delivered."""
    delivered: list[Message] = []
    errors: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered.append(message)
        else:
            errors.append(error)

    producer = Producer(
        {
            "bootstrap.servers": address,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            **(settings or {}),
        }
    )
    for key, value in records:
        producer.produce(topic, value, key, on_delivery=on_delivery)
    assert producer.flush(LIMIT_S) == 0
    if errors:
        raise KafkaException(errors[0])
    return delivered


@contextlib.contextmanager
def consumer_of(address: str, group: str, settings: dict[str, object] | None = None) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300,
            "topic.metadata.refresh.interval.ms": 1000,
            **(settings or {}),
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def take(consumer: Consumer, count: int) -> list[Message]:
    found: list[Message] = []
    ends = time.monotonic() + LIMIT_S
    while len(found) < count:
        assert time.monotonic() < ends, f"{len(found)} of {count} records within {LIMIT_S} s"
        message = consumer.poll(POLL_S)
        if message is not None:
            assert message.error() is None, message.error()
            found.append(message)
    return found


def poll_until(consumers: list[Consumer], condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + REBALANCE_LIMIT_S
    while not condition():
        assert time.monotonic() < ends, f"not so within {REBALANCE_LIMIT_S} s"
        if not consumers:
            time.sleep(POLL_S)  # the condition asks the broker itself; between two questions a pause
        for consumer in consumers:
            consumer.poll(POLL_S)


def partitions_of(cluster: ClusterMetadata, topic: str) -> int:
    return len(cluster.topics[topic].partitions) if topic in cluster.topics else 0


def test_producer_partitions_as_aiokafka_does_when_told_murmur2_random(broker_address: str) -> None:
    topic = make_topic(broker_address, partitions=8)
    keys = [f"order-{n}".encode() for n in range(60)]
    delivered = produce(broker_address, topic, [(key, b"v") for key in keys])
    default = DefaultPartitioner()
    assert {message.key(): message.partition() for message in delivered} == {
        key: default(key, [*range(8)], [*range(8)]) for key in keys
    }


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_consumer_reads_what_the_producer_sent_when_compressed(broker_address: str, codec: str) -> None:
    topic = make_topic(broker_address)
    records = [(b"k%d" % n, b"value %d" % n * 20) for n in range(200)]
    produce(broker_address, topic, records, {"compression.type": codec, "linger.ms": 20})
    with consumer_of(broker_address, f"g-{topic}") as consumer:
        consumer.subscribe([topic])
        assert [(message.key(), message.value()) for message in take(consumer, 200)] == records


def test_consumer_is_positioned_by_time_and_offset_when_assigned_by_hand(broker_address: str) -> None:
    topic = make_topic(broker_address, config=KEPT)
    producer = Producer({"bootstrap.servers": broker_address})
    for n in range(10):
        producer.produce(topic, b"%d" % n, timestamp=10_000 + 100 * n)
    assert producer.flush(LIMIT_S) == 0
    with consumer_of(broker_address, f"g-{topic}") as consumer:
        partition = TopicPartition(topic, 0)
        assert consumer.get_watermark_offsets(partition, timeout=LIMIT_S) == (0, 10)
        (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 10_350)], timeout=LIMIT_S)
        assert found.offset == 4
        consumer.assign([TopicPartition(topic, 0, found.offset)])
        assert [message.value() for message in take(consumer, 6)] == [b"4", b"5", b"6", b"7", b"8", b"9"]
        consumer.seek(TopicPartition(topic, 0, OFFSET_BEGINNING))
        assert take(consumer, 10)[0].value() == b"0"


def test_group_resumes_after_the_last_commit_when_it_restarts(broker_address: str) -> None:
    topic = make_topic(broker_address)
    produce(broker_address, topic, [(b"k", b"%d" % n) for n in range(6)])
    for expected in ([b"0", b"1", b"2"], [b"3", b"4", b"5"]):
        with consumer_of(broker_address, f"g-{topic}") as consumer:
            consumer.subscribe([topic])
            messages = take(consumer, 3)
            assert [message.value() for message in messages] == expected
            consumer.commit(message=messages[-1], asynchronous=False)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_group_shares_partitions_and_hands_them_over_when_a_member_leaves(broker_address: str, strategy: str) -> None:
    topic = make_topic(broker_address, partitions=4)
    settings: dict[str, object] = {"partition.assignment.strategy": strategy}
    with consumer_of(broker_address, f"g-{topic}", settings) as stays:
        stays.subscribe([topic])
        with consumer_of(broker_address, f"g-{topic}", settings) as leaves:
            leaves.subscribe([topic])
            poll_until([stays, leaves], lambda: len(stays.assignment()) == 2 and len(leaves.assignment()) == 2)
            held = {(part.topic, part.partition) for part in stays.assignment() + leaves.assignment()}
            assert held == {(topic, n) for n in range(4)}
        poll_until([stays], lambda: len(stays.assignment()) == 4)


def test_static_member_is_fenced_when_another_takes_its_instance_id(broker_address: str) -> None:
    topic = make_topic(broker_address)
    group, settings = f"g-{topic}", {"group.instance.id": "same"}
    with (
        consumer_of(broker_address, group, {**settings}) as newer,
        consumer_of(broker_address, group, {**settings}) as older,
    ):
        older.subscribe([topic])
        poll_until([older], lambda: len(older.assignment()) == 1)
        newer.subscribe([topic])
        poll_until([newer], lambda: len(newer.assignment()) == 1)
        poll_until([newer], lambda: _error_code(older.poll(POLL_S)) in FENCED)


def test_admin_changes_a_topics_config_and_shows_where_values_come_from(broker_address: str) -> None:
    topic = make_topic(broker_address, config={"cleanup.policy": "compact"})
    admin = AdminClient({"bootstrap.servers": broker_address})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    change = ConfigEntry("retention.ms", "1234", incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([altered])[altered].result(LIMIT_S)
    shown = admin.describe_configs([resource])[resource].result(LIMIT_S)
    assert (shown["cleanup.policy"].value, shown["cleanup.policy"].is_default) == ("compact", False)
    assert shown["retention.ms"].value == "1234"
    assert (shown["max.message.bytes"].value, shown["max.message.bytes"].is_default) == ("1048588", True)
    wrong = ConfigEntry("cleanup.policy", "burn", incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[wrong])
    with pytest.raises(KafkaException) as refused:
        admin.incremental_alter_configs([altered])[altered].result(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_admin_lists_every_topic_with_its_partitions(broker_address: str) -> None:
    topic = make_topic(broker_address, partitions=3)
    admin = AdminClient({"bootstrap.servers": broker_address})
    # Kafka's metadata follows its controller's answer a moment later, here and below.
    poll_until([], lambda: partitions_of(admin.list_topics(timeout=LIMIT_S), topic) == 3)


def test_admin_adds_partitions_and_deletes_the_topic(broker_address: str) -> None:
    topic = make_topic(broker_address, partitions=2)
    admin = AdminClient({"bootstrap.servers": broker_address})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(LIMIT_S)
    poll_until([], lambda: partitions_of(admin.list_topics(topic, timeout=LIMIT_S), topic) == 3)
    with pytest.raises(KafkaException) as refused:
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError.INVALID_PARTITIONS
    admin.delete_topics([topic])[topic].result(LIMIT_S)
    with pytest.raises(KafkaException) as refused:
        admin.delete_topics([topic])[topic].result(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_admin_refuses_a_topic_when_it_wants_more_replicas_than_brokers(broker_address: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker_address})
    name = f"contract-{uuid.uuid4().hex[:12]}"
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(name, 1, 30)])[name].result(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR


def test_admin_lists_describes_and_deletes_a_group_when_it_is_empty(broker_address: str) -> None:
    topic = make_topic(broker_address)
    group = f"g-{topic}"
    produce(broker_address, topic, [(b"k", b"v")])
    admin = AdminClient({"bootstrap.servers": broker_address})
    with consumer_of(broker_address, group) as consumer:
        consumer.subscribe([topic])
        consumer.commit(message=take(consumer, 1)[0], asynchronous=False)
        described = admin.describe_consumer_groups([group])[group].result(LIMIT_S)
        assert (described.state.name, len(described.members)) == ("STABLE", 1)
        with pytest.raises(KafkaException) as refused:
            admin.delete_consumer_groups([group])[group].result(LIMIT_S)
        assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    listed = admin.list_consumer_groups().result(LIMIT_S).valid
    assert group in {entry.group_id for entry in listed}
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(LIMIT_S)
    assert [(part.topic, part.partition, part.offset) for part in offsets.topic_partitions] == [(topic, 0, 1)]
    admin.delete_consumer_groups([group])[group].result(LIMIT_S)
    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups([group])[group].result(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND


def test_producer_is_told_the_reason_when_a_compacted_topics_record_has_no_key(broker_address: str) -> None:
    topic = make_topic(broker_address, config={"cleanup.policy": "compact"})
    failures: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": broker_address})
    producer.produce(topic, b"keyless", on_delivery=lambda error, _message: failures.append(error))
    assert producer.flush(LIMIT_S) == 0
    assert [failure.code() for failure in failures if failure is not None] == [KafkaError.INVALID_RECORD]


def _error_code(message: Message | None) -> int | None:
    error = None if message is None else message.error()
    return None if error is None else error.code()
