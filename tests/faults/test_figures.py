"""The scenarios of `tests.faults.figures` in short, on one engine: nothing is lost, and nobody else notices.

How long things take is for the command line to say: these tests share two cores with anything.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.figures import broker_gone, cold_recovery, orders_gone, static_restart
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage, engine_on
from tests.kafka_cluster import KafkaCluster

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
    pytest.mark.untraced,
    pytest.mark.kafka,
    pytest.mark.timeout(300),
]

SESSION_S = 15.0
"""Longer than a worker's restart on a machine that is busy with other things."""

RATE = 20.0
WARM_UP_S = 1.0
ANY_S = 100.0
"""No aim: the limit of the test itself."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(own_kafka: KafkaCluster) -> AsyncIterator[Stage]:
    """An engine that every test leaves as it was."""
    async with engine_on(own_kafka, session_timeout_s=SESSION_S, orders_workers=2) as started:
        yield started


async def test_no_other_worker_notices_when_a_static_member_is_restarted(stage: Stage) -> None:
    report = Report()
    await static_restart.measure(stage, report, component="orders", per_second=RATE, warm_up_s=WARM_UP_S, aim_s=ANY_S)
    assert report.misses == []


async def test_async_commands_are_taken_and_complete_when_no_orders_worker_runs(stage: Stage) -> None:
    report = Report()
    await orders_gone.measure(stage, report, seconds=3.0, per_second=5.0, aim_s=ANY_S)
    assert report.misses == []


async def test_ingress_refuses_and_recovers_when_the_broker_dies(stage: Stage) -> None:
    report = Report()
    await broker_gone.measure(stage, report, seconds=5.0, per_second=5.0, aim_s=ANY_S, slowest_aim_s=ANY_S)
    assert report.misses == []


async def test_orders_are_known_when_a_worker_has_lost_its_disk(stage: Stage) -> None:
    report = Report()
    await stage.engine.components["orders-1"].stop()  # the other one owns all partitions
    await cold_recovery.measure(stage, report, rows=20_000, aim_s=ANY_S)
    assert report.misses == []
