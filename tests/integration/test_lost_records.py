"""What a broker deletes before its group has read it: a worker says so, and starts only once a person has looked."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from streams.kafka_clients.backlog import Backlog, RecordsLostError, backlog_of, oldest_unread_ms, refuse_lost_records
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_group_consumer
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.retention_watch import RetentionWatch
from tests.support.embedded_process import embedded_broker_process
from tests.support.kafka_topics import ADMIN_TIMEOUT_S, create_topics, delete_topics, producing, read_to_end, unique
from tests.support.metric_pages import value_of
from tests.support.tally_worker import Tally, TallyTopics, build_tally, make_topics
from tests.support.waiting import until

PARTITIONS = 2
RECORDS = 7
READ_S = 45.0


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


async def read_partition(connection: KafkaConnection, topic: str, partition: int) -> list[ConsumerRecord[bytes, bytes]]:
    found = await read_to_end(connection.bootstrap_servers, topic)
    return [record for record in found if record.partition == partition]


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


def test_age_of_what_is_unread_is_that_of_the_first_record_that_is_left(
    connection: KafkaConnection, topic: str
) -> None:
    group = unique("group")
    commit(connection, group, topic, RECORDS)  # the other partition was never read
    delete_before(connection, topic, 4, partition=1)
    stamps = {record.offset: record.timestamp for record in asyncio.run(read_partition(connection, topic, 1))}
    oldest = oldest_unread_ms(connection, group, backlog_of(connection, group, [topic]))
    assert oldest == {topic: stamps[4]}


def test_nothing_is_oldest_when_everything_was_read(connection: KafkaConnection, topic: str) -> None:
    group = unique("group")
    for partition in range(PARTITIONS):
        commit(connection, group, topic, RECORDS, partition=partition)
    assert oldest_unread_ms(connection, group, backlog_of(connection, group, [topic])) == {}


def test_nothing_is_lost_when_what_was_deleted_means_nothing_any_more() -> None:
    places = [
        Backlog(topic=name, partition=0, committed=2, begin=9, end=11) for name in (topics.QUERIES, topics.COMMANDS)
    ]
    assert [each.lost for each in places] == [0, 7]
    assert [each.unread for each in places] == [2, 2]


def test_nothing_is_concluded_when_no_broker_answers() -> None:
    silent = KafkaConnection(bootstrap_servers="127.0.0.1:1", request_timeout_s=1.0)
    with pytest.raises(RetryableError):
        refuse_lost_records(silent, "orders", [topics.COMMANDS])


def group_consumer(connection: KafkaConnection, group: str) -> Any:
    return build_group_consumer(
        connection,
        group=group,
        instance_id=None,
        session_timeout_s=6.0,
        rebalance_timeout_s=10.0,
        max_poll_interval_s=60.0,
    )


async def read_some(consumer: Any, topic: str, *, records: int) -> list[tuple[int, int]]:
    """Read until there are so many records; their partitions and offsets, in order."""
    consumer.subscribe([topic])
    await consumer.start()
    found: list[tuple[int, int]] = []
    try:
        async with asyncio.timeout(READ_S):
            while len(found) < records:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(record.partition, record.offset) for record in batch]
    finally:
        await consumer.stop()
    return sorted(found)


async def test_member_reads_from_the_beginning_when_its_group_is_new(connection: KafkaConnection, topic: str) -> None:
    found = await read_some(group_consumer(connection, unique("group")), topic, records=PARTITIONS * RECORDS)
    assert found == [(partition, offset) for partition in range(PARTITIONS) for offset in range(RECORDS)]


async def test_member_stops_instead_of_passing_over_when_its_next_record_was_deleted(
    connection: KafkaConnection, topic: str
) -> None:
    group = unique("group")
    for partition in range(PARTITIONS):
        await asyncio.to_thread(commit, connection, group, topic, 2, partition=partition)
    await asyncio.to_thread(delete_before, connection, topic, 5)
    with pytest.raises(RecordsLostError, match=rf"{topic} partition 0: 3 \(committed 2, begins at 5\)"):
        await read_some(group_consumer(connection, group), topic, records=PARTITIONS * RECORDS)


async def test_member_reads_a_log_that_was_made_anew_when_its_commit_is_past_the_end(
    connection: KafkaConnection, topic: str
) -> None:
    group = unique("group")
    for partition in range(PARTITIONS):
        await asyncio.to_thread(commit, connection, group, topic, 1_000, partition=partition)
    found = await read_some(group_consumer(connection, group), topic, records=PARTITIONS * RECORDS)
    assert len(found) == PARTITIONS * RECORDS


@pytest.fixture
def tally(connection: KafkaConnection) -> TallyTopics:
    """The topics of a Faust worker, with records."""
    return make_topics(connection.bootstrap_servers)


async def produce(connection: KafkaConnection, tally: TallyTopics, *, count: int) -> None:
    async with producing(connection.bootstrap_servers) as producer:
        for number in range(count):
            await producer.send_and_wait(tally.inputs, b"%d" % number, key=b"one key", partition=0)


async def test_faust_worker_stops_instead_of_passing_over_when_its_next_record_was_deleted(
    connection: KafkaConnection, tally: TallyTopics
) -> None:
    await produce(connection, tally, count=RECORDS)
    await asyncio.to_thread(commit, connection, tally.app_id, tally.inputs, 2)
    await asyncio.to_thread(delete_before, connection, tally.inputs, 5)
    handler = Tally(tally.outputs)
    worker = build_tally(connection.bootstrap_servers, tally, handler=handler)
    async with asyncio.timeout(READ_S):
        with pytest.raises(RecordsLostError, match=rf"{tally.inputs} partition 0: 3 \(committed 2, begins at 5\)"):
            await worker.run()
    assert handler.events == []


async def test_faust_worker_goes_on_from_what_is_left_when_the_loss_was_accepted(
    connection: KafkaConnection, tally: TallyTopics
) -> None:
    await produce(connection, tally, count=RECORDS)
    await asyncio.to_thread(delete_before, connection, tally.inputs, 5)
    await asyncio.to_thread(refuse_lost_records, connection, tally.app_id, [tally.inputs], accept_loss=True)
    handler = Tally(tally.outputs)
    worker = build_tally(connection.bootstrap_servers, tally, handler=handler)
    serving = asyncio.create_task(worker.run())
    try:
        await until(lambda: len(handler.events) == RECORDS - 5 or serving.done(), timeout_s=READ_S)
    finally:
        worker.request_stop()
        await serving
    assert [event.offset for event in handler.events] == [5, 6]


def test_watch_shows_what_share_of_the_retention_the_oldest_unread_record_has_waited(
    connection: KafkaConnection, topic: str
) -> None:
    group, watched = unique("group"), replace(topics.topic(topics.CLAIMS), name=topic)
    (stamp, *_) = [record.timestamp for record in asyncio.run(read_partition(connection, topic, 0))]
    watch = RetentionWatch(connection, group, [watched], clock_ms=lambda: stamp + 4 * topics.DAY_MS)
    assert watch.look()[topic] == pytest.approx(4 / 7, abs=0.001)
    assert value_of("retention_used", topic=topic) == pytest.approx(4 / 7, abs=0.001)
    for partition in range(PARTITIONS):
        commit(connection, group, topic, RECORDS, partition=partition)
    assert watch.look() == {topic: 0.0}
