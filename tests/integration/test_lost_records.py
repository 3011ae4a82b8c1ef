"""What a broker deletes before its group has read it: every worker says so, and starts only once a person has looked."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from streams.kafka_clients.backlog import RecordsLostError, backlog_of, refuse_lost_records
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RetryableError
from tests.support.embedded_process import embedded_broker_process
from tests.support.kafka_topics import ADMIN_TIMEOUT_S, create_topics, delete_topics, unique

PARTITIONS = 2
RECORDS = 7
ASK_S = 10.0


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def connection(request: pytest.FixtureRequest) -> Iterator[KafkaConnection]:
    """The embedded broker, then Apache Kafka."""
    if request.param == "kafka":
        yield KafkaConnection(bootstrap_servers=str(request.getfixturevalue("kafka").bootstrap_servers))
        return
    with embedded_broker_process() as address:
        yield KafkaConnection(bootstrap_servers=address)


@pytest.fixture
def topic(connection: KafkaConnection) -> Iterator[str]:
    """A topic of two partitions with seven records in each."""
    name = unique("lossy")
    create_topics(connection.bootstrap_servers, [name], partitions=PARTITIONS)
    write(connection, name, RECORDS)
    yield name
    delete_topics(connection.bootstrap_servers, [name])


def write(connection: KafkaConnection, topic: str, records: int) -> None:
    producer = Producer({"bootstrap.servers": connection.bootstrap_servers})
    for partition in range(PARTITIONS):
        for number in range(records):
            producer.produce(topic, f"{number}".encode(), partition=partition)
    assert producer.flush(ADMIN_TIMEOUT_S) == 0


def commit(connection: KafkaConnection, group: str, topic: str, offset: int, *, partition: int = 0) -> None:
    consumer = Consumer({"bootstrap.servers": connection.bootstrap_servers, "group.id": group})
    try:
        consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    finally:
        consumer.close()


def delete_before(connection: KafkaConnection, topic: str, offset: int, *, partition: int = 0) -> None:
    """As retention does, at once."""
    admin = AdminClient({"bootstrap.servers": connection.bootstrap_servers})
    for answer in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        assert answer.result(ADMIN_TIMEOUT_S).low_watermark == offset


def test_nothing_is_refused_when_a_new_group_finds_the_whole_log(connection: KafkaConnection, topic: str) -> None:
    refuse_lost_records(connection, unique("group"), [topic])


def test_nothing_is_refused_when_all_that_was_deleted_had_been_read(connection: KafkaConnection, topic: str) -> None:
    group = unique("group")
    commit(connection, group, topic, 5)
    delete_before(connection, topic, 5)
    refuse_lost_records(connection, group, [topic])
    (first, _) = backlog_of(connection, group, [topic])
    assert (first.committed, first.begin, first.unread, first.lost) == (5, 5, 2, 0)


def test_start_is_refused_with_the_count_of_each_partition_when_unread_records_were_deleted(
    connection: KafkaConnection, topic: str
) -> None:
    group = unique("group")
    commit(connection, group, topic, 2)
    delete_before(connection, topic, 5)
    delete_before(connection, topic, 4, partition=1)
    with pytest.raises(RecordsLostError) as refused:
        refuse_lost_records(connection, group, [topic])
    assert str(refused.value).startswith(
        f"up to 7 records were deleted before {group} had read them: "
        f"{topic} partition 0: 3 (committed 2, begins at 5), partition 1: 4 (committed nothing, begins at 4). "
    )
    assert "--accept-loss" in str(refused.value)


def test_start_goes_on_from_what_is_left_when_the_loss_is_accepted_once(
    connection: KafkaConnection, topic: str
) -> None:
    group = unique("group")
    commit(connection, group, topic, 2)
    delete_before(connection, topic, 5)
    refuse_lost_records(connection, group, [topic], accept_loss=True)
    refuse_lost_records(connection, group, [topic])  # nothing is lost any more
    (first, second) = backlog_of(connection, group, [topic])
    assert (first.committed, second.committed) == (5, None)  # only where something was lost


def test_nothing_is_refused_when_what_was_deleted_means_nothing_any_more(connection: KafkaConnection) -> None:
    if topics.QUERIES not in AdminClient({"bootstrap.servers": connection.bootstrap_servers}).list_topics().topics:
        create_topics(connection.bootstrap_servers, [topics.QUERIES], partitions=PARTITIONS)
    group = unique("group")
    write(connection, topics.QUERIES, RECORDS)
    delete_before(connection, topics.QUERIES, RECORDS)
    refuse_lost_records(connection, group, [topics.QUERIES])
    assert [each.lost for each in backlog_of(connection, group, [topics.QUERIES])] == [0, 0]


def test_nothing_is_concluded_when_no_broker_answers() -> None:
    silent = KafkaConnection(bootstrap_servers="127.0.0.1:1", request_timeout_s=1.0)
    with pytest.raises(RetryableError):
        refuse_lost_records(silent, "orders", [topics.COMMANDS])
