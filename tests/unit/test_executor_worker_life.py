"""The worker with a fake log: rebalances, freezes, failures and stops."""

import asyncio

import pytest
import structlog.testing
from aiokafka.errors import CommitFailedError, KafkaConnectionError, TopicAuthorizationFailedError

from gateway_adapters.contract import CallResult
from schemas.misconfigured import MisconfiguredError
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.executor.options import ExecutorOptions
from streams.kafka_clients.errors import RetryableError
from streams.log_worker import worker
from streams.log_worker.hand_over import hand_over_of
from tests.support.executor_scene import (
    FIRST,
    SECOND,
    Gate,
    Scene,
    refuses,
    started,
    until,
)
from tests.support.gateway_calls import (
    TellableGateway,
    message_of,
    request_of,
)
from tests.support.metric_pages import rise_of


async def wakes_up_with_a_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was frozen for longer than its session, and holds a request that it has not begun."""
    scene.skipped_s = 60.0
    # A logger of its own: one that another test's program has configured and cached cannot be listened to.
    monkeypatch.setattr("streams.log_worker.handler.log", structlog.get_logger())
    with structlog.testing.capture_logs() as logged:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await until(lambda: any(line["event"] == "lease_over" for line in logged))
    assert scene.executor.in_flight == 1


async def test_worker_leaves_its_requests_to_the_next_owner_when_it_was_frozen_and_its_partition_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = rise_of("worker_records_let_go")
    async with started(Scene(TellableGateway())) as scene:
        await wakes_up_with_a_request(scene, monkeypatch)
        await asyncio.wait_for(scene.consumer.rebalance([SECOND]), 2.0)  # not as long as a drain may take
        assert scene.executor.in_flight == 0
    assert let_go() == 1
    assert not scene.gateway.calls
    assert FIRST not in scene.consumer.committed


async def test_worker_makes_the_call_when_it_was_frozen_and_gets_its_partition_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with started(Scene(TellableGateway())) as scene:
        await wakes_up_with_a_request(scene, monkeypatch)
        await scene.consumer.rebalance([FIRST])
        scene.put(FIRST, 0, message_of(request_of(1)))  # redelivered from the committed offset
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert scene.gateway.calls.total() == 1


async def test_worker_takes_a_refusal_as_doubt_when_it_was_frozen_during_the_call() -> None:
    gate = Gate()

    async def refuses_late(request: GatewayCallRequested) -> CallResult:
        await gate(request)
        return await refuses(request)

    async with started(Scene(TellableGateway(refuses_late))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await gate.wait_for(1)
        scene.skipped_s = 60.0  # long enough for another worker to have made the call
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [result.outcome for result in scene.results()] == [Outcome.UNKNOWN]


async def test_worker_goes_on_when_a_rebalance_refuses_a_commit() -> None:
    scene = Scene(TellableGateway())
    scene.consumer.commit_failures = [CommitFailedError()]
    refused = rise_of("worker_commits_failed", error="CommitFailedError")
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert refused() == 1


async def test_worker_stops_when_it_may_not_commit() -> None:
    scene = Scene(TellableGateway())
    scene.consumer.commit_failures = [TopicAuthorizationFailedError(), TopicAuthorizationFailedError()]
    scene.put(FIRST, 0, message_of(request_of(1)))
    with pytest.raises(MisconfiguredError):
        await scene.executor.run()


async def test_worker_polls_again_when_the_broker_is_away_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_RETRY_AFTER_S", 0.001)
    scene = Scene(TellableGateway())
    scene.consumer.poll_failures = [KafkaConnectionError(), KafkaConnectionError()]
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)


async def test_worker_stops_when_the_broker_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_RETRY_AFTER_S", 0.0)
    scene = Scene(TellableGateway())
    scene.consumer.poll_failures = [KafkaConnectionError() for _ in range(worker.MAX_POLL_FAILURES)]
    with pytest.raises(RetryableError):
        await scene.executor.run()


async def test_worker_finishes_what_is_under_way_when_it_is_asked_to_stop() -> None:
    gate = Gate()
    scene = Scene(TellableGateway(gate))
    run = asyncio.ensure_future(scene.executor.run())
    scene.put(FIRST, 0, message_of(request_of(1)))
    await gate.wait_for(1)
    scene.executor.request_stop()
    gate.open.set()
    await asyncio.wait_for(run, 5.0)
    assert scene.consumer.committed == {FIRST: 1}
    assert [result.kind for result in scene.results()] == [CallKind.SALE]


async def test_worker_ends_in_time_and_commits_nothing_when_a_call_does_not_end() -> None:
    gate = Gate()
    scene, abandoned = Scene(TellableGateway(gate), drain_timeout_s=0.05), rise_of("worker_records_abandoned")
    await scene.executor.start()
    scene.put(FIRST, 0, message_of(request_of(1)))
    await gate.wait_for(1)
    await asyncio.wait_for(scene.executor.stop(), 5.0)
    await scene.executor.stop()  # twice is safe
    assert abandoned() == 1
    assert scene.consumer.committed == {FIRST: 0}
    left = hand_over_of(scene.consumer.left_notes[FIRST])
    assert left is not None
    assert left.under_way == frozenset({0})
    assert not scene.results()


async def test_worker_says_what_is_wrong_when_the_broker_cannot_be_reached() -> None:
    scene = Scene(TellableGateway())

    async def refuse() -> None:
        raise KafkaConnectionError

    scene.consumer.start = refuse  # type: ignore[method-assign]  # a broker that is away
    with pytest.raises(RetryableError):
        await scene.executor.run()
    assert scene.writer.was_stopped


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_calls_in_flight": 0},
        {"max_requests_in_flight": 511},
        {"breaker_failures": 0},
        {"call_timeout_s": 0.0},
        {"slot_wait_s": 0.0},
        {"breaker_open_s": 0.0},
    ],
)
def test_options_refuse_a_value_when_nothing_could_work_with_it(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ExecutorOptions(**wrong)  # type: ignore[arg-type]  # wrong on purpose


async def test_worker_reads_the_log_anew_when_a_partition_comes_back_that_went_in_the_moment_of_its_record() -> None:
    """Begun, and revoked before its first step: what it had read of the log then would be of an earlier life."""
    async with started(Scene(TellableGateway())) as scene:
        await scene.executor.ready.wait()
        record = scene.record(FIRST, 0, message_of(request_of(1)))
        scene.executor._begin(FIRST, record)
        await scene.executor.give_up([FIRST])
        assert scene.asked_since_ms == []
        await scene.executor.take_over([FIRST])
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
        assert len(scene.asked_since_ms) == 1
