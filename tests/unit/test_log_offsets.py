"""Where a group stands, asked while brokers move: librdkafka's admin client dies of that, or says nothing is behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import KafkaError, KafkaException
from kio.schema.errors import ErrorCode

from streams.development.embedded_broker import ApiKey, Effect, EmbeddedBroker, Fault
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_offsets import Place, committed_offsets
from streams.operator_tools.doctor.cluster import GroupState
from streams.operator_tools.doctor.cluster_facts import gather_cluster, gather_groups
from tests.support.group_lag import GroupLag

TOPIC, GROUP = "payments.commands.v1", "orders"
"""The doctor looks at the catalogue's topics alone."""

PLACES = [(TOPIC, 0), (TOPIC, 1)]
COMMITTED = {(TOPIC, 0): 7}
LIMIT_S = 10.0
MOVED = ErrorCode.not_coordinator


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    """One with a group that has committed one of two partitions."""
    async with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        await admin.create_topics([NewTopic(TOPIC, 2, 1)])
        await admin.close()
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=GROUP)
        await consumer.start()
        consumer.assign([TopicPartition(TOPIC, 0)])
        await consumer.commit({TopicPartition(TOPIC, 0): 7})
        await consumer.stop()
        yield broker


async def ask(broker: EmbeddedBroker, group: str = GROUP, timeout_s: float = LIMIT_S) -> Mapping[Place, int]:
    connection = KafkaConnection(bootstrap_servers=broker.bootstrap_servers)
    return await asyncio.to_thread(committed_offsets, connection, group, PLACES, timeout_s=timeout_s)


async def test_committed_offsets_are_told_when_nothing_is_wrong(broker: EmbeddedBroker) -> None:
    assert await ask(broker) == COMMITTED
    assert await ask(broker, "nobody") == {}


@pytest.mark.parametrize("code", [MOVED, ErrorCode.coordinator_not_available, ErrorCode.coordinator_load_in_progress])
async def test_committed_offsets_are_asked_again_when_the_coordinator_moves(
    broker: EmbeddedBroker, code: ErrorCode
) -> None:
    armed = broker.faults.add(Fault(api=ApiKey.OFFSET_FETCH, error=code))
    assert await ask(broker) == COMMITTED
    await armed.wait_until_struck(timeout_s=LIMIT_S)


async def test_committed_offsets_are_refused_in_time_when_the_coordinator_stays_away(broker: EmbeddedBroker) -> None:
    broker.faults.add(Fault(api=ApiKey.OFFSET_FETCH, error=MOVED, times=1_000))
    began = time.monotonic()
    with pytest.raises(KafkaException) as refused:
        await ask(broker, timeout_s=0.5)
    assert refused.value.args[0].code() in {KafkaError.NOT_COORDINATOR, KafkaError._TIMED_OUT}
    assert time.monotonic() - began < LIMIT_S


async def test_committed_offsets_are_refused_when_the_group_may_not_be_read(broker: EmbeddedBroker) -> None:
    broker.faults.add(Fault(api=ApiKey.OFFSET_FETCH, error=ErrorCode.group_authorization_failed))
    with pytest.raises(KafkaException) as refused:
        await ask(broker)
    assert refused.value.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED


async def doctor_told(broker: EmbeddedBroker) -> dict[str, GroupState]:
    connection = KafkaConnection(bootstrap_servers=broker.bootstrap_servers)

    def gathered() -> dict[str, GroupState]:
        return dict(gather_groups(connection, gather_cluster(connection), {GROUP: (TOPIC,)}))

    return await asyncio.to_thread(gathered)


async def test_doctor_is_told_the_lag_when_the_coordinator_moves(broker: EmbeddedBroker) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    await producer.start()
    for number in range(10):
        await producer.send_and_wait(TOPIC, b"%d" % number, partition=0)
    await producer.stop()
    broker.faults.add(Fault(api=ApiKey.OFFSET_FETCH, error=MOVED))
    told = await doctor_told(broker)
    assert {name: (group.lag, group.behind_by) for name, group in told.items()} == {GROUP: ({TOPIC: 3}, {TOPIC: 3})}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(api=ApiKey.OFFSET_FETCH, error=ErrorCode.group_authorization_failed),
        Fault(api=ApiKey.DESCRIBE_GROUPS, effect=Effect.DISCONNECT_BEFORE),
        Fault(api=ApiKey.LIST_OFFSETS, effect=Effect.DISCONNECT_BEFORE, times=100),
    ],
    ids=["committed", "described", "ends"],
)
async def test_doctor_says_nothing_of_a_group_when_a_part_of_the_answer_is_missing(
    broker: EmbeddedBroker, fault: Fault
) -> None:
    broker.faults.add(fault)
    assert await doctor_told(broker) == {}


async def test_lag_is_an_error_and_not_zero_when_a_leader_does_not_say_where_its_partition_ends(
    broker: EmbeddedBroker,
) -> None:
    lag = GroupLag(KafkaConnection(bootstrap_servers=broker.bootstrap_servers), {GROUP: (TOPIC,)})
    assert await asyncio.to_thread(lag.now) == {GROUP: 0}
    broker.faults.add(Fault(api=ApiKey.LIST_OFFSETS, effect=Effect.DISCONNECT_BEFORE))
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(lag.now)
    await lag.when_caught_up()
