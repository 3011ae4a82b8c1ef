"""The catalogue against a broker: planned, applied, compared."""

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from schemas.misconfigured import MisconfiguredError
from schemas.topics import CATALOGUE, DAY_MS, TIMESTAMP_TYPE, Cleanup, PartitionRule, Topic
from streams.kafka_clients.admin import Action, TopicAdmin, TopicRow, TopicSizes
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.start_check import check_topics
from tests.kafka_cluster import FoundKafka
from tests.support.embedded_process import embedded_broker_process
from tests.support.kafka_topics import ADMIN_TIMEOUT_S, create_topics, unique


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def connection(request: pytest.FixtureRequest) -> Iterator[KafkaConnection]:
    """The embedded broker, then Apache Kafka."""
    if request.param == "kafka":
        yield KafkaConnection(bootstrap_servers=str(request.getfixturevalue("kafka").bootstrap_servers))
        return
    with embedded_broker_process() as address:
        yield KafkaConnection(bootstrap_servers=address)


def log_topic(name: str, *, retention_ms: int = DAY_MS) -> Topic:
    return Topic(
        name=unique(name),
        key="k",
        records=(),
        cleanup=Cleanup.DELETE,
        retention_ms=retention_ms,
        partition_rule=PartitionRule.MURMUR2,
    )


def table_topic(name: str) -> Topic:
    return Topic(
        name=unique(name),
        key="k",
        records=(),
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        partition_rule=PartitionRule.SINGLE,
    )


def actions(rows: tuple[TopicRow, ...]) -> dict[tuple[str, str], Action]:
    return {(row.topic, row.aspect): row.action for row in rows}


def test_topics_are_made_when_the_broker_that_is_asked_next_has_not_heard_of_them(
    connection: KafkaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several brokers, each learns of a topic in its own time."""
    asked: list[str] = []

    class Unhearing(AdminClient):
        def describe_configs(self, resources: Any, **settings: Any) -> Any:  # type: ignore[override]  # says it returns None
            asked.append("configs")
            if len(asked) > 2:
                return super().describe_configs(resources, **settings)
            unknown: Future[Any] = Future()
            unknown.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
            return dict.fromkeys(resources, unknown)

    monkeypatch.setattr("streams.kafka_clients.admin.AdminClient", Unhearing)
    made = log_topic("unheard")
    TopicAdmin(connection, TopicSizes(partitions=3), catalogue=[made]).apply()
    assert len(asked) > 2
    assert actions(TopicAdmin(connection, TopicSizes(partitions=3), catalogue=[made]).plan()) == {
        (made.name, "topic"): Action.NONE
    }


def test_topics_are_made_as_the_catalogue_says_when_they_are_missing(connection: KafkaConnection) -> None:
    log, table = log_topic("log"), table_topic("table")
    admin = TopicAdmin(connection, TopicSizes(partitions=3), catalogue=[log, table])
    assert actions(admin.plan()) == {(log.name, "topic"): Action.CREATE, (table.name, "topic"): Action.CREATE}
    admin.apply()
    rows = admin.plan()
    assert {row.action for row in rows} == {Action.NONE}
    assert [row.actual for row in rows] == ["3 partitions, 1 replicas, delete", "1 partitions, 1 replicas, compact"]
    admin.apply()  # twice is safe


def test_topics_are_altered_in_place_when_only_a_config_differs(connection: KafkaConnection) -> None:
    log = log_topic("log")
    create_topics(
        connection.bootstrap_servers,
        [log.name],
        partitions=2,
        config={"retention.ms": "1000", "retention.bytes": "9999", "min.insync.replicas": "1"},
    )
    admin = TopicAdmin(connection, TopicSizes(partitions=2), catalogue=[log])
    differing = {(row.aspect, row.wanted, row.actual) for row in admin.plan()}
    dated = ("message.timestamp.type", TIMESTAMP_TYPE, "CreateTime")  # of a topic that an earlier release has made
    kept = {("retention.ms", str(DAY_MS), "1000"), ("retention.bytes", "-1", "9999")}
    rolled = ("segment.ms", str(log.segment_ms), str(7 * DAY_MS))
    assert differing == {*kept, rolled, dated}
    admin.apply()
    assert {row.action for row in admin.plan()} == {Action.NONE}


def test_topics_are_left_alone_when_their_partition_count_differs(connection: KafkaConnection) -> None:
    log, other = log_topic("log"), log_topic("other")
    create_topics(connection.bootstrap_servers, [log.name], partitions=2)
    admin = TopicAdmin(connection, TopicSizes(partitions=4), catalogue=[log, other])
    refused = {(row.aspect, row.wanted, row.actual) for row in admin.apply() if row.action is Action.REFUSE}
    assert refused == {("partitions", "4", "2")}
    found = AdminClient(connection.confluent_options()).list_topics(timeout=ADMIN_TIMEOUT_S).topics
    assert (len(found[log.name].partitions), len(found[other.name].partitions)) == (2, 4)


def test_table_keeps_all_it_holds_whatever_its_cleanup_policy_becomes(connection: KafkaConnection) -> None:
    table = table_topic("table")
    TopicAdmin(connection, TopicSizes(partitions=1), catalogue=[table]).apply()
    by_age = dataclasses.replace(table, cleanup=Cleanup.DELETE)  # as somebody might set it by hand
    (row,) = TopicAdmin(connection, TopicSizes(partitions=1), catalogue=[by_age]).plan()
    assert (row.aspect, row.actual) == ("cleanup.policy", "compact")  # retention.ms and .bytes are -1 already


def unsafe_topic(connection: KafkaConnection, *, config: Mapping[str, str], partitions: int = 1) -> Topic:
    """A table whose topic is there, with these configs in place of what is wanted."""
    table = table_topic("table")
    wanted = {"cleanup.policy": "compact", "message.timestamp.type": TIMESTAMP_TYPE}
    create_topics(connection.bootstrap_servers, [table.name], partitions=partitions, config={**wanted, **config})
    return table


@pytest.mark.parametrize(
    ("config", "partitions", "told", "remedy"),
    [
        ({"cleanup.policy": "delete"}, 1, "has cleanup.policy delete, not compact", "topics apply"),
        ({"cleanup.policy": "compact,delete"}, 1, "has cleanup.policy compact,delete, not compact", "topics apply"),
        ({"message.timestamp.type": "CreateTime"}, 1, "has message.timestamp.type CreateTime", "topics apply"),
        ({"min.insync.replicas": "2"}, 1, "has min.insync.replicas 2, not 1", "topics apply"),
        ({}, 2, "has partitions 2, not 1", "doctor"),
    ],
)
def test_start_is_refused_with_what_mends_it_when_a_topic_is_set_up_wrongly(
    connection: KafkaConnection, config: Mapping[str, str], partitions: int, told: str, remedy: str
) -> None:
    table = unsafe_topic(connection, config=config, partitions=partitions)
    with pytest.raises(MisconfiguredError, match=f"{table.name} {told}.*payment-engine {remedy}"):
        check_topics(connection, [table], TopicSizes(partitions=1))
    if remedy == "topics apply":
        TopicAdmin(connection, TopicSizes(partitions=1), catalogue=[table]).apply()
        check_topics(connection, [table], TopicSizes(partitions=1))


def test_start_is_not_refused_when_a_topic_only_differs(connection: KafkaConnection) -> None:
    table = unsafe_topic(connection, config={"segment.ms": "3600000", "retention.ms": "1000"})
    check_topics(connection, [table], TopicSizes(partitions=1))


def test_start_is_refused_when_a_topic_stays_missing(connection: KafkaConnection) -> None:
    table = table_topic("table")
    with pytest.raises(MisconfiguredError, match=f"{table.name} is missing: `payment-engine topics apply`"):
        check_topics(connection, [table], TopicSizes(partitions=1))


async def test_topics_are_made_once_when_two_apply_at_the_same_time(connection: KafkaConnection) -> None:
    catalogue = [log_topic(str(number)) for number in range(5)]
    admins = [TopicAdmin(connection, TopicSizes(partitions=2), catalogue=catalogue) for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(admin.apply) for admin in admins))
    assert {row.action for row in admins[0].plan()} == {Action.NONE}


def test_whole_catalogue_can_be_applied(connection: KafkaConnection) -> None:
    # Under names of its own: the broker is shared with tests that run the engine on the real ones.
    catalogue = [dataclasses.replace(entry, name=unique(entry.name)) for entry in CATALOGUE]
    admin = TopicAdmin(connection, TopicSizes(partitions=4), catalogue=catalogue)
    admin.apply()
    rows = admin.plan()
    assert {row.topic for row in rows} == {entry.name for entry in catalogue}
    assert {row.action for row in rows} == {Action.NONE}


def test_topics_say_what_is_wrong_when_there_are_too_few_brokers(connection: KafkaConnection) -> None:
    admin = TopicAdmin(connection, TopicSizes(partitions=1, replication_factor=3), catalogue=[log_topic("log")])
    with pytest.raises(MisconfiguredError):
        admin.apply()


def test_topics_cannot_be_planned_when_no_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka_clients.admin.ADMIN_TIMEOUT_S", 0.5)
    admin = TopicAdmin(KafkaConnection(bootstrap_servers="127.0.0.1:1"), TopicSizes(partitions=1))
    with pytest.raises(RetryableError):
        admin.plan()


@pytest.mark.kafka
@pytest.mark.parametrize(("public", "fault"), [(True, KafkaError.MSG_SIZE_TOO_LARGE), (False, None)])
def test_broker_refuses_what_is_too_large_once_inflated_when_strangers_may_append(
    kafka: FoundKafka, public: bool, fault: int | None
) -> None:
    """Fifty megabytes in two kilobytes: whoever reads it has to hold it whole, and so has the next worker."""
    bomb = dataclasses.replace(log_topic("bomb"), public=public)
    TopicAdmin(
        KafkaConnection(bootstrap_servers=kafka.bootstrap_servers), TopicSizes(partitions=1), catalogue=[bomb]
    ).apply()
    said: list[KafkaError | None] = []
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "compression.type": "zstd", "message.max.bytes": 100_000_000}
    )
    producer.produce(bomb.name, bytes(50_000_000), on_delivery=lambda error, _: said.append(error))
    assert producer.flush(ADMIN_TIMEOUT_S) == 0
    assert [None if error is None else error.code() for error in said] == [fault]
