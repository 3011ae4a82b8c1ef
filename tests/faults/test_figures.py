"""The scenarios of `tests.faults.figures` in short, on one engine of two workers each: what they aim at holds."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.faults.figures import broker_gone, cold_recovery, failover, orders_gone, static_restart
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage, a_cluster, engine_on
from tests.kafka_cluster import KafkaCluster
from tests.kafka_cluster.jars import KafkaUnavailableError

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(120)]

SESSION_S = 6.0
RATE = 40.0
SLACK = 3.0
"""Seconds of a scenario's aim are stretched by this: the tests may share two cores with anything."""


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[KafkaCluster]:
    """A broker that may be killed."""
    try:
        with a_cluster() as kafka:
            yield kafka
    except KafkaUnavailableError as missing:
        pytest.skip(f"no Apache Kafka: {missing}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(own_kafka: KafkaCluster) -> AsyncIterator[Stage]:
    """An engine that every test leaves as it was."""
    async with engine_on(
        own_kafka, session_timeout_s=SESSION_S, orders_workers=2, claims_workers=2, standby_replicas=1
    ) as started:
        yield started


async def test_no_other_worker_notices_when_a_static_member_is_restarted(stage: Stage) -> None:
    report = Report()
    await static_restart.measure(stage, report, component="orders", per_second=RATE, aim_s=SLACK * static_restart.AIM_S)
    assert report.misses == []


async def test_every_partition_serves_again_when_a_worker_with_a_standby_is_killed(stage: Stage) -> None:
    report = Report()
    await failover.measure(stage, report, component="orders", per_second=RATE)
    assert report.misses == []


async def test_async_commands_are_taken_and_complete_when_no_orders_worker_runs(stage: Stage) -> None:
    report = Report()
    await orders_gone.measure(stage, report, seconds=3.0, per_second=5.0)
    assert report.misses == []


async def test_ingress_refuses_and_recovers_when_the_broker_dies(stage: Stage) -> None:
    report = Report()
    await broker_gone.measure(stage, report, seconds=5.0, per_second=5.0)
    assert report.misses == []


async def test_orders_are_known_when_a_worker_has_lost_its_disk(stage: Stage) -> None:
    report = Report()
    await stage.engine.components["orders-1"].stop()  # the other one owns all partitions
    await cold_recovery.measure(stage, report, rows=20_000)
    assert report.misses == []
