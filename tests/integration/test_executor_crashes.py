"""The executor against the Mock's ledger: whatever dies or freezes, each order is charged once and answered."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.vocabulary import Outcome
from tests.kafka_cluster import ChildProcess
from tests.support.executor_process import READY, arguments_for
from tests.support.gateway_calls import OwnTopics, request_of
from tests.support.kafka_topics import end_offsets
from tests.support.mock_gateway_process import MockGatewayProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
COUNT = 1_000
IN_FLIGHT = 64
SHORT_SESSION_S = 2.0
PATIENT_SESSION_S = 20.0
"""Where no worker dies: on a busy machine a short one ends in the middle of a commit, as it does in a crash."""


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[MockGatewayProcess]:
    with MockGatewayProcess(tmp_path / "ledger.sqlite", "--latency", "fixed:100") as process:
        yield process


@pytest.fixture
def topics(kafka: object) -> OwnTopics:
    return OwnTopics(bootstrap_servers=str(kafka.bootstrap_servers)).create()  # type: ignore[attr-defined]  # FoundKafka


class Workers:
    """Executor processes of one group."""

    def __init__(self, topics: OwnTopics, mock: MockGatewayProcess, folder: Path) -> None:
        self._topics = topics
        self._mock = mock
        self._folder = folder
        self._started: list[ChildProcess] = []

    async def start(
        self, *, instance_id: str | None = None, session_timeout_s: float = SHORT_SESSION_S
    ) -> ChildProcess:
        """A new one, once it is a member of the group."""
        argv = arguments_for(
            self._topics,
            mock_url=self._mock.url,
            in_flight=IN_FLIGHT,
            session_timeout_s=session_timeout_s,
            instance_id=instance_id,
        )
        process = ChildProcess(argv, log_path=self._folder / f"executor-{len(self._started)}.log", cwd=ROOT)
        self._started.append(process)
        process.start()
        async with asyncio.timeout(LIMIT_S):
            while READY not in process.log_tail():
                assert process.is_running(), process.log_tail()
                await asyncio.sleep(0.02)
        return process

    def kill_all(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
def workers(topics: OwnTopics, mock: MockGatewayProcess, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(topics, mock, tmp_path)
    yield started
    started.kill_all()


async def results_so_far(topics: OwnTopics) -> int:
    return sum((await end_offsets(topics.bootstrap_servers, topics.results)).values())


async def wait_for_results(topics: OwnTopics, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await results_so_far(topics) < count:  # noqa: ASYNC110 - a broker has no event to wait for
            await asyncio.sleep(0.02)


def orders() -> set[str]:
    return {f"order-{number}" for number in range(COUNT)}


async def assert_each_charged_once(topics: OwnTopics, mock: MockGatewayProcess) -> None:
    await topics.wait_for_orders(orders(), limit_s=LIMIT_S)
    effects: Counter[tuple[str, str]] = Counter()
    charged: dict[str, int] = {}
    for number in range(COUNT):
        for kind, amount_minor in mock.effects(f"order-{number}"):
            effects[f"order-{number}", kind] += 1
            charged[f"order-{number}"] = amount_minor
    assert set(effects.values()) == {1}
    assert charged == {f"order-{number}": 1000 + number for number in range(COUNT)}
    # A second sending may find the first one still under way, which is doubt; never is it a refusal.
    assert {result.outcome for result in await topics.read_results()} <= {Outcome.SUCCEEDED, Outcome.UNKNOWN}


async def test_executor_charges_each_order_once_when_it_is_killed_again_and_again(
    topics: OwnTopics, mock: MockGatewayProcess, workers: Workers
) -> None:
    await topics.append_requests([request_of(number) for number in range(COUNT)])
    for _ in range(4):
        worker = await workers.start(instance_id="executor-0")
        before = await results_so_far(topics)
        await wait_for_results(topics, before + 120)
        worker.kill()
        # A crash repeats what was in flight, and what was done since the last commit: no more than a few limits' worth.
    assert await results_so_far(topics) < COUNT
    worker = await workers.start(instance_id="executor-0")
    await assert_each_charged_once(topics, mock)
    assert worker.stop() == 0
    assert await results_so_far(topics) <= COUNT + 4 * 4 * IN_FLIGHT


async def test_executor_charges_each_order_once_when_a_frozen_worker_wakes_up(
    topics: OwnTopics, mock: MockGatewayProcess, workers: Workers
) -> None:
    await topics.append_requests([request_of(number) for number in range(COUNT)])
    frozen = await workers.start()
    await wait_for_results(topics, 100)
    frozen.signal(signal.SIGSTOP)
    other = await workers.start()
    await wait_for_results(topics, 400)
    frozen.signal(signal.SIGCONT)
    await assert_each_charged_once(topics, mock)
    assert (frozen.stop(), other.stop()) == (0, 0)


async def test_executor_leaves_nothing_half_done_when_it_is_told_to_stop(
    topics: OwnTopics, mock: MockGatewayProcess, workers: Workers
) -> None:
    await mock.post("/latency", {"latency": "fixed:400"})  # longer than a leaver waits: each stop hands calls over
    await topics.append_requests([request_of(number) for number in range(COUNT)])
    for _ in range(3):
        worker = await workers.start(session_timeout_s=PATIENT_SESSION_S)
        before = await results_so_far(topics)
        await wait_for_results(topics, before + 100)
        assert await asyncio.to_thread(worker.stop) == 0
    await workers.start(session_timeout_s=PATIENT_SESSION_S)
    await assert_each_charged_once(topics, mock)
    # No call was made twice. What a leaver answered after its last commit, the next owner answers again from the log.
    assert (await mock.get("/healthz"))["calls"] == COUNT
    assert {result.outcome for result in await topics.read_results()} == {Outcome.SUCCEEDED}
    assert await results_so_far(topics) <= COUNT + 3 * IN_FLIGHT
