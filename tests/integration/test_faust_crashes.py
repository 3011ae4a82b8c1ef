"""Workers on a real Apache Kafka, killed, frozen and joined by others in the middle of their work: nothing is lost.

The tally worker runs as a process of its own. At the end every input must have its answer, every row must hold exactly
the ids of its key, and each answer must tell the position that the row gives: a decision that was lost and made again
differently would show there.
"""

import asyncio
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.kafka import stamps
from streams.kafka.stamps import Stamp
from tests.kafka_cluster import ChildProcess, FoundKafka
from tests.support.kafka_topics import committed_offsets, end_offsets, producing, read_to_end
from tests.support.tally_worker import READY_LINE, STOPPED_LINE, TallyTopics, ids_of, make_topics, worker_command
from tests.support.waiting import until, until_async

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

INPUTS = 2400
KEYS = 60
KILLS = 4
WAIT_S = 60.0
POLL_S = 0.05


async def _until(condition: Callable[[], bool], *, workers: list[ChildProcess]) -> None:
    try:
        await until(condition, timeout_s=WAIT_S, look_again_s=POLL_S)
    except TimeoutError:
        pytest.fail(f"not within {WAIT_S} s; the workers said:\n{_logs(workers)}")


def _logs(workers: list[ChildProcess]) -> str:
    return "\n".join(worker.log_tail() for worker in workers)


class _Fleet:
    """The workers of one test."""

    def __init__(self, kafka: FoundKafka, folder: Path):
        self.bootstrap_servers = kafka.bootstrap_servers
        self.topics: TallyTopics = make_topics(kafka.bootstrap_servers)
        self._folder = folder
        self.workers: list[ChildProcess] = []

    def start(self, name: str, *, on_disk: bool = True, static: bool = False, standbys: int = 0) -> ChildProcess:
        data_dir = self._folder / name if on_disk else None
        command = worker_command(
            self.bootstrap_servers,
            self.topics,
            data_dir=data_dir,
            instance_id=name if static else None,
            standby_replicas=standbys,
        )
        worker = ChildProcess(command, log_path=self._folder / f"{name}-{len(self.workers)}.log")
        worker.start()
        self.workers.append(worker)
        return worker

    async def ready(self, worker: ChildProcess) -> None:
        await _until(lambda: READY_LINE in worker.log_tail(10_000), workers=[worker])

    def stop_all(self) -> None:
        for worker in self.workers:
            worker.kill()

    async def feed(self, per_second: int = 600) -> None:
        """Append the inputs, not all at once, so that workers are always in the middle of something."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        async with producing(self.bootstrap_servers) as producer:
            for number in range(INPUTS):
                await producer.send(self.topics.inputs, str(number).encode(), key=b"key-%d" % (number % KEYS))
                if number % 20 == 0:
                    await asyncio.sleep(max(0.0, started_s + number / per_second - loop.time()))

    async def answered(self) -> int:
        return sum((await end_offsets(self.bootstrap_servers, self.topics.outputs)).values())

    async def until_answered(self, count: int) -> None:
        async def enough() -> bool:
            return await self.answered() >= count

        try:
            await until_async(enough, timeout_s=WAIT_S, look_again_s=POLL_S)
        except TimeoutError:
            pytest.fail(f"only {await self.answered()} answers; the workers said:\n{_logs(self.workers)}")

    async def until_committed(self, count: int = INPUTS) -> None:
        topics = self.topics

        def committed() -> bool:
            found = committed_offsets(self.bootstrap_servers, topics.app_id, topics.inputs, topics.partitions)
            return sum(max(0, offset) for offset in found.values()) >= count

        await _until(committed, workers=self.workers)

    async def prove_nothing_lost(self) -> int:
        """Check answers and rows against the inputs; returns how many answers were repeated."""
        expected = {b"key-%d" % key: list(range(key, INPUTS, KEYS)) for key in range(KEYS)}
        answers = await read_to_end(self.bootstrap_servers, self.topics.outputs)
        assert {record.value for record in answers} == {
            b"%d:%d" % (number, position) for ids in expected.values() for position, number in enumerate(ids)
        }
        changelog = await read_to_end(self.bootstrap_servers, self.topics.changelog)
        newest: dict[bytes, tuple[Stamp, bytes | None]] = {}
        # As recovery reads it: the highest stamp wins, for a frozen owner may be the last that wrote.
        for record in changelog:
            stamp = stamps.from_headers(record.headers)
            if record.key not in newest or stamp > newest[record.key][0]:
                newest[record.key] = (stamp, record.value)
        assert {key: ids_of(row) for key, (_, row) in newest.items()} == expected
        return len(answers) - INPUTS


@pytest.mark.parametrize(("on_disk", "static"), [(True, True), (True, False), (False, False)])
async def test_worker_loses_nothing_when_it_is_killed_again_and_again(
    kafka: FoundKafka, tmp_path: Path, on_disk: bool, static: bool
) -> None:
    """Rows on disk or in memory; a static member comes back under its own name, another as a stranger."""
    chance = random.Random(20261122)
    fleet = _Fleet(kafka, tmp_path)
    feeding = asyncio.create_task(fleet.feed())
    try:
        for kill in range(KILLS):
            worker = fleet.start("a", on_disk=on_disk, static=static)
            await fleet.ready(worker)
            # By what is committed and not by what is answered: a fast worker would be killed before its first commit,
            # having only repeated what its predecessors had answered.
            await fleet.until_committed(round(INPUTS * (kill + chance.random()) / (KILLS + 1)))
            worker.kill()
        await feeding
        last = fleet.start("a", on_disk=on_disk, static=static)
        await fleet.ready(last)
        await fleet.until_committed()
        last.signal(signal.SIGTERM)
        await _until(lambda: not last.is_running(), workers=[last])
        assert STOPPED_LINE in last.log_tail()
        assert last.exit_code == 0
    finally:
        feeding.cancel()
        fleet.stop_all()
    repeated = await fleet.prove_nothing_lost()
    assert repeated < INPUTS, "a commit every 0.2 s cannot repeat everything"


async def test_workers_lose_nothing_when_one_joins_and_one_leaves_under_load(kafka: FoundKafka, tmp_path: Path) -> None:
    fleet = _Fleet(kafka, tmp_path)
    first = fleet.start("a")
    await fleet.ready(first)
    feeding = asyncio.create_task(fleet.feed())
    try:
        await fleet.until_answered(INPUTS // 5)
        second = fleet.start("b")
        await fleet.ready(second)
        await fleet.until_answered(INPUTS // 2)
        first.signal(signal.SIGTERM)
        await _until(lambda: not first.is_running(), workers=[first])
        assert first.exit_code == 0
        await feeding
        await fleet.until_committed()
    finally:
        feeding.cancel()
        fleet.stop_all()
    repeated = await fleet.prove_nothing_lost()
    assert repeated == 0, "a hand-over drains and commits, so that nothing is done twice"


async def test_standby_takes_over_and_loses_nothing_when_the_owners_are_killed(
    kafka: FoundKafka, tmp_path: Path
) -> None:
    fleet = _Fleet(kafka, tmp_path)
    first, second = fleet.start("a", standbys=1), fleet.start("b", standbys=1)
    feeding = asyncio.create_task(fleet.feed())
    try:
        for worker in (first, second):
            await fleet.ready(worker)
        await fleet.until_answered(INPUTS // 3)
        first.kill()
        await fleet.until_answered(INPUTS * 2 // 3)
        await feeding
        await fleet.until_committed()
        second.signal(signal.SIGTERM)
        await _until(lambda: not second.is_running(), workers=[second])
        assert second.exit_code == 0
    finally:
        feeding.cancel()
        fleet.stop_all()
    await fleet.prove_nothing_lost()


async def test_workers_lose_nothing_when_an_owner_is_frozen_and_wakes_up(kafka: FoundKafka, tmp_path: Path) -> None:
    fleet = _Fleet(kafka, tmp_path)
    frozen = fleet.start("a")
    await fleet.ready(frozen)
    feeding = asyncio.create_task(fleet.feed())
    try:
        await fleet.until_answered(INPUTS // 5)
        frozen.signal(signal.SIGSTOP)
        other = fleet.start("b")
        await fleet.ready(other)
        await fleet.until_answered(INPUTS // 2)
        frozen.signal(signal.SIGCONT)
        await feeding
        await fleet.until_committed()
        other.signal(signal.SIGTERM)
        await _until(lambda: not other.is_running(), workers=[other])
    finally:
        feeding.cancel()
        fleet.stop_all()
    await fleet.prove_nothing_lost()
