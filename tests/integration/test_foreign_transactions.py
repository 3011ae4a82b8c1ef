"""Whoever appends to our topics may do so in Kafka transactions: what is aborted never happened, what is open waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from streams.executor.past_results import ID_HEADER
from streams.executor.results_tail import NOTHING_IS_CERTAIN_MS, ResultsTail
from streams.kafka.worker import Worker
from streams.kafka_clients.backlog import backlog_of
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import read_log
from streams.operator_tools.doctor import cluster_facts, transactions_check
from streams.operator_tools.doctor.cluster import ClusterState, TopicState
from tests.kafka_cluster import FoundKafka
from tests.support.kafka_topics import committed_offsets, create_topics, end_offsets, producing, read_to_end, unique
from tests.support.tally_worker import Tally, TallyTopics, build_tally, make_topics, quick_settings
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.kafka

WAIT_S = 30.0
KEYS = 10
LONGEST_S = 60.0
"""Of a transaction that a failed test leaves open."""


@contextlib.contextmanager
def transaction(kafka: FoundKafka) -> Iterator[Producer]:
    """A stranger's open transaction; aborted at the end unless the test has ended it."""
    stranger = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "transactional.id": unique("stranger"),
            "transaction.timeout.ms": round(LONGEST_S * 1000),
        }
    )
    stranger.init_transactions(WAIT_S)
    stranger.begin_transaction()
    yield stranger
    with contextlib.suppress(Exception):
        stranger.abort_transaction(WAIT_S)


def append(stranger: Producer, topic: str, partition: int, numbers: Sequence[int]) -> None:
    """Append inputs and return when the broker has them."""
    for number in numbers:
        stranger.produce(topic, str(number).encode(), key=b"key-%d" % (number % KEYS), partition=partition)
    assert stranger.flush(WAIT_S) == 0


@contextlib.asynccontextmanager
async def serving(worker: Worker, *, ready: bool = True) -> AsyncIterator[None]:
    """The worker runs; it is stopped at the end, and must not have crashed."""
    run = asyncio.create_task(worker.run())
    try:
        if ready:
            await until(lambda: worker.ready.is_set() or run.done(), timeout_s=WAIT_S)
        yield
    finally:
        worker.request_stop()
        async with asyncio.timeout(WAIT_S):
            await run


async def plain(kafka: FoundKafka, topics: TallyTopics, partition: int, numbers: Sequence[int]) -> None:
    """Append inputs without a transaction."""
    async with producing(kafka.bootstrap_servers) as producer:
        for number in numbers:
            key = b"key-%d" % (number % KEYS)
            await producer.send_and_wait(topics.inputs, str(number).encode(), key=key, partition=partition)


def numbers_of(tally: Tally) -> list[int]:
    """What the worker was given, in order."""
    return [int(event.value or b"") for event in tally.events]


async def caught_up(kafka: FoundKafka, topics: TallyTopics) -> None:
    """Return once the group has committed each partition to the end of its log."""
    ends = await end_offsets(kafka.bootstrap_servers, topics.inputs)

    async def done() -> bool:
        committed = await asyncio.to_thread(
            committed_offsets, kafka.bootstrap_servers, topics.app_id, topics.inputs, topics.partitions
        )
        return all(max(committed[number], 0) == end for number, end in ends.items())

    await until_async(done, timeout_s=WAIT_S)


async def test_aborted_inputs_are_never_handled_and_their_markers_are_committed(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=3)
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 0, range(10))
        append(stranger, topics.inputs, 1, range(10, 20))
    await plain(kafka, topics, 0, range(100, 103))
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 0, range(20, 25))
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 0, range(200, 203))
        stranger.commit_transaction(WAIT_S)
    tally = Tally(topics.outputs)
    async with serving(build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(), handler=tally)):
        await caught_up(kafka, topics)
    assert numbers_of(tally) == [100, 101, 102, 200, 201, 202]


async def test_partition_waits_for_an_open_transaction_while_the_others_flow(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=2)
    tally = Tally(topics.outputs)
    with capture_logs() as said, transaction(kafka) as stranger:
        append(stranger, topics.inputs, 0, range(5))
        await plain(kafka, topics, 0, range(100, 103))
        async with serving(build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(), handler=tally)):
            await plain(kafka, topics, 1, range(200, 203))
            await until(lambda: len(tally.events) == 3, timeout_s=WAIT_S)
            await until(lambda: any(each["event"] == "waits_for_open_transaction" for each in said), timeout_s=WAIT_S)
            assert numbers_of(tally) == [200, 201, 202]
            stranger.commit_transaction(WAIT_S)
            await caught_up(kafka, topics)
    assert numbers_of(tally) == [200, 201, 202, *range(5), 100, 101, 102]
    named = next(each for each in said if each["event"] == "waits_for_open_transaction")
    assert (named["topic"], named["partition"], named["offset"], named["records"]) == (topics.inputs, 0, 0, 8)
    assert any(each["event"] == "open_transaction_ended" for each in said)


async def test_owner_decides_nothing_without_rows_that_stand_behind_an_open_transaction(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    first, second = Tally(topics.outputs), Tally(topics.outputs)
    with transaction(kafka) as stranger:
        async with serving(build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(), handler=first)):
            stranger.produce(topics.changelog, b"nobody's row", key=b"key-1", partition=0)
            assert stranger.flush(WAIT_S) == 0
            await plain(kafka, topics, 0, [1])  # its row stands behind the open transaction
            await caught_up(kafka, topics)
        await plain(kafka, topics, 0, [1 + KEYS])
        worker = build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(), handler=second)
        async with serving(worker, ready=False):
            await until(lambda: worker.app.fetches_ended > 10, timeout_s=WAIT_S)
            assert not worker.ready.is_set()
            stranger.abort_transaction(WAIT_S)
            await until(lambda: len(second.events) == 1, timeout_s=WAIT_S)
            await caught_up(kafka, topics)
    answers = [record.value for record in await read_to_end(kafka.bootstrap_servers, topics.outputs)]
    assert answers == [b"1:0", b"11:1"]  # the second of its key: the row was there


async def test_memory_says_that_it_is_not_whole_when_results_stand_behind_an_open_transaction(
    kafka: FoundKafka,
) -> None:
    results, requests = unique("results"), unique("requests")
    create_topics(kafka.bootstrap_servers, [results, requests], partitions=1)
    connection = KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)
    tail = ResultsTail(connection, results_topic=results, requests_topic=requests)

    async def answer(name: bytes) -> None:
        async with producing(kafka.bootstrap_servers) as producer:
            await producer.send_and_wait(results, name, headers=[(ID_HEADER, name)])

    await answer(b"first")
    try:
        with transaction(kafka) as stranger:
            append(stranger, results, 0, [7])
            await answer(b"second")
            past = await tail.read(0, 0)
            assert [each.message.value for each in past.results] == [b"first"]
            assert past.since_ms == NOTHING_IS_CERTAIN_MS

        async def is_whole() -> bool:  # its broker ends a transaction a moment after it has said so
            past = await tail.read(0, 0)
            return ([each.message.value for each in past.results], past.since_ms) == ([b"first", b"second"], 0)

        await until_async(is_whole, timeout_s=10.0)
    finally:
        await tail.close()


async def test_bounded_read_ends_before_an_open_transaction_and_gives_nothing_of_an_aborted_one(
    kafka: FoundKafka,
) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=2)
    connection = KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)

    async def values() -> list[int]:
        return sorted([int(record.value or b"") async for record in read_log(connection, topics.inputs)])

    await plain(kafka, topics, 0, [1, 2])
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 0, [3, 4])
        await plain(kafka, topics, 0, [5])
        await plain(kafka, topics, 1, [6])
        assert await values() == [1, 2, 6]
    assert await values() == [1, 2, 5, 6]


async def test_doctor_finds_where_a_transaction_is_open_and_nothing_when_it_has_ended(
    kafka: FoundKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=2)
    connection = KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)
    monkeypatch.setattr(transactions_check, "CATALOGUE", [SimpleNamespace(name=topics.inputs)])
    state = TopicState(partitions=2, fewest_copies=1, fewest_in_sync=1, without_leader=(), settings={})
    cluster = ClusterState(
        cluster_id="x", brokers=(), controller=True, topics={topics.inputs: state}, broker_settings={}
    )
    await plain(kafka, topics, 1, [1, 2])
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 1, [3, 4])
        await plain(kafka, topics, 0, [5])
        await plain(kafka, topics, 1, [6])
        found = await asyncio.to_thread(transactions_check.find_waits, connection, cluster)
        assert found == (transactions_check.Wait(place=(topics.inputs, 1), first=2, end=5),)
    assert await asyncio.to_thread(transactions_check.find_waits, connection, cluster) == ()


async def test_doctor_counts_no_marker_and_nothing_aborted_for_a_group_that_does_not_run(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=3)
    connection = KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 0, [1, 2, 3])
        append(stranger, topics.inputs, 1, [4])
    await plain(kafka, topics, 1, [5])

    def lags() -> list[int]:
        backlog = backlog_of(connection, topics.app_id, [topics.inputs])
        return [each.unread for each in cluster_facts.without_markers(connection, backlog)]

    assert await asyncio.to_thread(lags) == [0, 3, 0]  # the second: one aborted, its marker, one to be read
    with transaction(kafka) as stranger:
        append(stranger, topics.inputs, 2, [6])
        assert await asyncio.to_thread(lags) == [0, 3, 1]
