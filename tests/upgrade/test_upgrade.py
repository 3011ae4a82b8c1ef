"""Two releases side by side on a real Apache Kafka, under load, there and back: nothing is lost or done twice."""

import asyncio
import json
from pathlib import Path

import pytest

from schemas import topics
from schemas.releases import UPGRADE_IT
from streams.cli.exits import ExitCode
from streams.development.local_engine import Component, ComponentFailedError
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import read_log
from tests.kafka_cluster import KafkaCluster
from tests.support.checker import MAX_SHOWN, violations
from tests.support.evidence import EvidenceGatherer
from tests.upgrade.fleet import WORKERS, Fleet, p99_s, running
from tests.upgrade.releases import (
    LOCK,
    NoSuchReleaseError,
    Release,
    edited_in_place,
    last_release,
    planted_next,
    this_release,
    versions_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.untraced, pytest.mark.kafka, pytest.mark.timeout(400)]

SLOWEST_P99_S = 5.0
"""More than the two seconds that `make upgrade` holds: here two cores are shared with anything."""

STOP_LIMIT_S = 60.0
ORDERS_AFTER = 40


@pytest.fixture
def last(tmp_path: Path) -> Release:
    """The last release, exported from this repository."""
    folder = tmp_path / "last"
    folder.mkdir()
    try:
        release = last_release(folder)
    except NoSuchReleaseError as missing:
        pytest.skip(str(missing))
    edited = edited_in_place(release, this_release())
    assert edited == [], "changed since the last release: write new versions, or name a later commit before the first"
    return release


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The next release, planted."""
    return planted_next(tmp_path_factory.mktemp("releases") / "next")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an engine keeps its files."""
    made = tmp_path / "engine"
    made.mkdir()
    return made


async def there_and_back(fleet: Fleet, before: Release, after: Release) -> None:
    """Roll from one release to the other and back, while clients pay; only a little time may be lost."""
    async with fleet.load(seed=1):
        await fleet.command(after, "topics", "apply", "--yes")  # as docs/operations.md has it
        await fleet.roll(after)
        await fleet.roll(before)
    await judged(fleet)
    assert p99_s(fleet.client.waited) < SLOWEST_P99_S, sorted(each.seconds for each in fleet.client.waited)[-50:]


async def judged(fleet: Fleet) -> None:
    assert fleet.unanswered() == []
    evidence = await EvidenceGatherer(fleet.engine, run=fleet.run, alone=True).when_settled(fleet.history)
    assert violations(evidence)[:MAX_SHOWN] == []
    assert len(fleet.history.requests) > 300, "a roll without load proves nothing"


async def test_last_releases_workers_and_this_ones_run_side_by_side_there_and_back(
    own_kafka: KafkaCluster, last: Release, folder: Path
) -> None:
    async with running(own_kafka.bootstrap_servers, last, folder) as fleet:
        await there_and_back(fleet, last, this_release())


async def test_next_releases_workers_run_beside_this_ones_there_and_back(
    own_kafka: KafkaCluster, following: Release, folder: Path
) -> None:
    this = this_release()
    async with running(own_kafka.bootstrap_servers, this, folder) as fleet:
        await there_and_back(fleet, this, following)
        assert await versions_of_rows(fleet, following) == {f"v{newest(this)}"}


async def test_worker_of_the_release_before_stops_and_says_so_once_the_upgrade_is_finished(
    own_kafka: KafkaCluster, following: Release, folder: Path
) -> None:
    """The last test here: its broker's log is of the next release from then on."""
    this = this_release()
    async with running(own_kafka.bootstrap_servers, following, folder) as fleet:
        left_over = await fleet.start_one_more("orders", this)
        async with fleet.load(seed=2):
            assert "can be taken back" in await fleet.command(following, "upgrade", "status")
            assert "no earlier release can run" in await fleet.command(following, "upgrade", "finish", "--yes")
            await stops_and_says_so(left_over)
            await fleet.answered(ORDERS_AFTER)
        assert fleet.unanswered() == []
        assert f"v{newest(following)}" in await versions_of_rows(fleet, following)
        for kind in WORKERS:
            with pytest.raises(ComponentFailedError, match=rf"ended with {int(ExitCode.OUTDATED)}[\s\S]*{UPGRADE_IT}"):
                await fleet.start_one_more(kind, this)


async def stops_and_says_so(left_over: Component) -> None:
    """A worker of the release before ends by itself, with the reason: it was never asked to."""
    assert left_over.process is not None
    assert await asyncio.wait_for(left_over.process.wait(), STOP_LIMIT_S) == ExitCode.OUTDATED
    assert UPGRADE_IT in left_over.log_tail()


def newest(release: Release) -> int:
    return len(versions_in(release.tree)["order_row"])


async def versions_of_rows(fleet: Fleet, newer: Release) -> set[str]:
    """Return the versions of all rows of orders on the log, as the newer release calls them."""
    lock = json.loads((newer.tree / LOCK).read_text())
    ids = {entry["id"]: version for version, entry in lock["order_row"].items()}
    connection = KafkaConnection(bootstrap_servers=fleet.engine.bootstrap_servers)
    return {
        ids[int.from_bytes(record.value[1:5], "big")]
        async for record in read_log(connection, topics.ORDERS_CHANGELOG)
        if record.value is not None
    }
