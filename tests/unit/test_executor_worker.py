"""The worker with a fake log: limits, joins, dead letters, rebalances, failures and stops."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog.testing
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, TopicAuthorizationFailedError

from gateway_adapters.contract import CallResult
from schemas import topics
from schemas.identifiers import GatewayName
from schemas.messages import EncodedMessage
from schemas.records.dead_letters import DeadLetter
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, DeadLetterReason, Outcome
from streams.executor import handling, worker
from streams.executor.answers import HORIZON_MS, MARGIN_MS, Memory, PastResult, PastResults
from streams.executor.options import ExecutorOptions
from streams.executor.worker import GatewayExecutor
from streams.kafka_clients import dead_letters
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError, MisconfiguredError, RejectedError, RetryableError
from tests.support.fake_log import FakeGroupConsumer, FakeRecord, FakeWriter
from tests.support.gateway_calls import (
    CODEC,
    GATEWAY,
    NOW_MS,
    Behaviour,
    TellableGateway,
    capabilities_with,
    message_of,
    request_of,
    succeeds,
)

DAY_MS = 86_400_000
FIRST = TopicPartition(topics.GATEWAY_REQUESTS, 0)
SECOND = TopicPartition(topics.GATEWAY_REQUESTS, 1)


class Gate:
    """A gateway's behaviour that waits until it is let go."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.changed = asyncio.Condition()

    async def __call__(self, request: GatewayCallRequested) -> CallResult:
        async with self.changed:
            self.waiting += 1
            self.changed.notify_all()
        await self.open.wait()
        return await succeeds(request)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5.0), self.changed:
            await self.changed.wait_for(lambda: self.waiting >= count)


class Scene:
    """A worker on a fake log."""

    def __init__(self, gateway: TellableGateway, **options: object) -> None:
        self.gateway = gateway
        self.consumer = FakeGroupConsumer([FIRST, SECOND])
        self.writer = FakeWriter()
        self.past: dict[int, PastResults] = {}
        self.past_failures: list[LogError] = []
        self.asked_since_ms: list[int] = []
        self.skipped_s = 0.0
        settings: dict[str, object] = {"commit_interval_s": 0.001, "drain_timeout_s": 5.0, **options}
        self.executor = GatewayExecutor(
            KafkaConnection(bootstrap_servers="nowhere"),
            CODEC,
            {GATEWAY: gateway},
            ExecutorOptions(**settings),  # type: ignore[arg-type]  # each test names real options
            clock_ms=lambda: NOW_MS + 1,
            consumer=self.consumer,
            writer=self.writer,
            read_past=self.read_past,
            clock_s=lambda: time.monotonic() + self.skipped_s,
        )

    async def read_past(self, partition: int, since_ms: int) -> PastResults:
        self.asked_since_ms.append(since_ms)
        if self.past_failures:
            raise self.past_failures.pop(0)
        past = self.past.get(partition, PastResults(since_ms=0, results=()))
        own = [
            PastResult(timestamp_ms=NOW_MS, message=EncodedMessage(value=value, headers=tuple(headers)))
            for _, _, value, headers in self.writer.appended
            if value is not None
        ]
        return PastResults(since_ms=past.since_ms, results=[*past.results, *own])

    def put(
        self,
        partition: TopicPartition,
        offset: int,
        message: EncodedMessage | bytes,
        *,
        at_ms: int = NOW_MS,
        by_broker: bool = True,
    ) -> None:
        raw = isinstance(message, bytes)
        record = FakeRecord(
            topic=partition.topic,
            partition=partition.partition,
            offset=offset,
            timestamp=at_ms,
            timestamp_type=1 if by_broker else 0,
            key=b"order",
            value=message if isinstance(message, bytes) else message.value,
            headers=(("content-type", b"application/avro"),) if raw else message.headers,  # type: ignore[union-attr]
        )
        self.consumer.put(partition, [record])

    def results(self) -> list[GatewayCallCompleted]:
        found = [CODEC.decode(value, headers)[1] for _, _, value, headers in self.writer.appended]
        return [each for each in found if isinstance(each, GatewayCallCompleted)]

    def letters(self) -> list[DeadLetter]:
        found = [CODEC.decode(value, headers)[1] for _, _, value, headers in self.writer.appended]
        return [each for each in found if isinstance(each, DeadLetter)]


@asynccontextmanager
async def started(scene: Scene) -> AsyncIterator[Scene]:
    await scene.executor.start()
    try:
        yield scene
    finally:
        await scene.executor.stop()


async def until(condition: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    """Let the worker go on until this holds."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- the worker has no event for each of its inner steps
            await asyncio.sleep(0)


async def test_worker_writes_a_result_and_commits_when_a_call_is_done() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 5, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        await scene.consumer.wait_for_commit(FIRST, 6)
    assert scene.executor.ready.is_set()
    topic, key, _, headers = scene.writer.appended[0]
    assert (topic, key) == (topics.GATEWAY_RESULTS, b"order-1")
    assert dict(headers)["ce_partitionkey"] == b"order-1"
    assert scene.consumer.was_stopped
    assert scene.writer.was_stopped


async def test_worker_gives_the_same_result_id_when_a_request_comes_again() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        scene.put(FIRST, 1, message_of(request_of(1)))
        await scene.writer.wait_for(2)
    ids = {dict(headers)["ce_id"] for _, _, _, headers in scene.writer.appended}
    assert len(ids) == 1


async def test_worker_does_not_commit_past_a_call_when_it_is_still_under_way() -> None:
    gate = Gate()

    async def first_waits(request: GatewayCallRequested) -> CallResult:
        return await (gate(request) if request.order_id == "order-0" else succeeds(request))

    async with started(Scene(TellableGateway(first_waits))) as scene:
        for number in range(10):
            scene.put(FIRST, number, message_of(request_of(number)))
        await scene.writer.wait_for(9)
        assert FIRST not in scene.consumer.committed
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 10)


async def test_worker_takes_no_more_than_its_limit_when_calls_are_slow() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate), max_calls_in_flight=3)) as scene:
        for number in range(10):
            scene.put(FIRST, number, message_of(request_of(number)))
        await gate.wait_for(3)
        assert scene.executor.in_flight == 3
        assert max(asked or 0 for asked in scene.consumer.asked_for) <= 3
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 10)
    assert scene.gateway.most_at_once <= 3


async def test_worker_makes_one_call_and_one_result_when_duplicates_come_while_it_runs() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        scene.put(FIRST, 1, message_of(request_of(1)))
        scene.put(SECOND, 0, message_of(request_of(1)))
        await gate.wait_for(1)
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 2)
        await scene.consumer.wait_for_commit(SECOND, 1)
    assert scene.gateway.calls.total() == 1
    assert len(scene.results()) == 1


async def test_worker_keeps_the_raw_bytes_as_a_dead_letter_when_it_cannot_read_them() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, b"\x00garbage")
        scene.put(FIRST, 1, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 2)
    (letter,) = scene.letters()
    assert (letter.value, letter.key, letter.offset, letter.component) == (b"\x00garbage", b"order", 0, "executor")
    assert len(scene.results()) == 1  # its neighbour flowed on


async def test_worker_makes_a_dead_letter_when_it_has_no_such_gateway() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, message_of(request_of(1, gateway=GatewayName("nobody"))))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [letter.reason for letter in scene.letters()] == [DeadLetterReason.UNKNOWN_GATEWAY]


async def test_worker_makes_a_dead_letter_when_the_record_is_no_request() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(SECOND, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        _, _, value, headers = scene.writer.appended[0]
        assert value is not None
        scene.put(FIRST, 0, EncodedMessage(value=value, headers=tuple(headers)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [letter.reason for letter in scene.letters()] == [DeadLetterReason.INVALID]


async def test_worker_tries_again_when_a_result_cannot_be_appended_at_once() -> None:
    scene = Scene(TellableGateway())
    scene.writer.failures = [RetryableError("away", retry_after_s=0.001), RetryableError("away", retry_after_s=0.001)]
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert scene.gateway.calls.total() == 1  # the call was not repeated for it


async def test_worker_stops_and_commits_nothing_when_a_result_cannot_be_appended_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handling, "APPEND_LIMIT_S", 0.0)
    scene = Scene(TellableGateway())
    scene.writer.failures = [RetryableError("away")]
    scene.put(FIRST, 0, message_of(request_of(1)))
    with pytest.raises(RetryableError, match="away"):
        await scene.executor.run()
    assert FIRST not in scene.consumer.committed
    assert scene.consumer.was_stopped


async def test_worker_stops_and_commits_nothing_when_a_dead_letter_is_refused() -> None:
    scene = Scene(TellableGateway())
    scene.writer.failures = [RejectedError("too large")]
    scene.put(FIRST, 0, b"garbage")
    with pytest.raises(RejectedError):
        await scene.executor.run()
    assert FIRST not in scene.consumer.committed


async def test_worker_writes_unknown_when_the_adapter_raises() -> None:
    async def broken(_: GatewayCallRequested) -> CallResult:
        raise ZeroDivisionError

    async with started(Scene(TellableGateway(broken))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [result.outcome for result in scene.results()] == [Outcome.UNKNOWN]


async def test_worker_drains_and_commits_before_it_lets_go_when_partitions_are_revoked() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await gate.wait_for(1)
        rebalance = asyncio.ensure_future(scene.consumer.rebalance([SECOND]))
        scene.put(FIRST, 1, message_of(request_of(2)))
        gate.open.set()
        await asyncio.wait_for(rebalance, 5.0)
        assert scene.consumer.committed[FIRST] == 1
        assert gate.waiting == 1  # the second was left to the next owner


async def test_worker_lets_go_after_its_drain_time_when_a_call_does_not_end() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate), drain_timeout_s=0.05)) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await gate.wait_for(1)
        await asyncio.wait_for(scene.consumer.rebalance([FIRST]), 5.0)
        assert FIRST not in scene.consumer.committed
        scene.put(FIRST, 0, message_of(request_of(1)))  # redelivered from the committed offset
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert scene.gateway.calls.total() == 1  # the redelivery joined the call that was still under way


async def test_worker_takes_a_refusal_as_doubt_when_the_request_lay_there_before_it_came() -> None:
    async def refuses(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=Outcome.NOT_EXECUTED)

    scene = Scene(TellableGateway(refuses))
    scene.consumer.ends[FIRST] = 1
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        scene.put(FIRST, 1, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 2)
    outcomes = {result.order_id: result.outcome for result in scene.results()}
    assert outcomes == {"order-0": Outcome.UNKNOWN, "order-1": Outcome.NOT_EXECUTED}


async def test_worker_takes_a_refusal_as_doubt_when_the_order_asks_again_after_a_crash() -> None:
    async def refuses(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=Outcome.NOT_EXECUTED)

    async with started(Scene(TellableGateway(refuses))) as scene:
        scene.put(FIRST, 0, message_of(dataclasses.replace(request_of(0), repeated=True)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [result.outcome for result in scene.results()] == [Outcome.UNKNOWN]


async def appended_by(request: GatewayCallRequested, behave: Behaviour) -> PastResult:
    """What a worker appends for this request."""
    async with started(Scene(TellableGateway(behave))) as scene:
        scene.put(FIRST, 0, message_of(request))
        await scene.writer.wait_for(1)
    _, _, value, headers = scene.writer.appended[0]
    assert value is not None
    return PastResult(timestamp_ms=NOW_MS, message=EncodedMessage(value=value, headers=tuple(headers)))


async def refuses(_: GatewayCallRequested) -> CallResult:
    return CallResult(outcome=Outcome.NOT_EXECUTED)


async def test_worker_appends_the_answer_again_and_calls_nobody_when_it_is_on_the_log() -> None:
    request = request_of(1)
    past = await appended_by(request, refuses)
    scene = Scene(TellableGateway())
    scene.past[0] = PastResults(since_ms=NOW_MS, results=[past])
    scene.consumer.ends[FIRST] = 1
    async with started(scene):
        scene.put(FIRST, 0, message_of(request))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert not scene.gateway.calls
    ((topic, key, value, headers),) = scene.writer.appended
    assert (topic, key) == (topics.GATEWAY_RESULTS, b"order-1")
    assert (value, tuple(headers)) == (past.message.value, past.message.headers)


async def test_worker_appends_its_own_answer_again_and_calls_once_when_the_order_asks_again() -> None:
    async with started(Scene(TellableGateway(refuses))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        scene.gateway.behave = succeeds
        scene.put(FIRST, 1, message_of(dataclasses.replace(request_of(1), repeated=True)))
        await scene.consumer.wait_for_commit(FIRST, 2)
    assert scene.gateway.calls.total() == 1
    assert [result.outcome for result in scene.results()] == [Outcome.NOT_EXECUTED] * 2


async def test_worker_reads_the_log_again_when_a_partition_comes_back() -> None:
    request = request_of(1)
    past = await appended_by(request, refuses)
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await scene.consumer.wait_for_commit(FIRST, 1)
        await scene.consumer.rebalance([])
        scene.past[0] = PastResults(since_ms=0, results=[past])  # another worker answered meanwhile
        await scene.consumer.rebalance([FIRST])
        scene.put(FIRST, 1, message_of(request))
        await scene.consumer.wait_for_commit(FIRST, 2)
    assert [kind_key[1] for kind_key in scene.gateway.calls] == [request_of(0).gateway_key]


async def test_worker_reads_back_from_the_first_request_or_the_horizon_when_it_begins() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        scene.put(FIRST, 1, message_of(request_of(2)))
        await scene.consumer.wait_for_commit(FIRST, 2)
    assert scene.asked_since_ms == [NOW_MS + 1 - HORIZON_MS - MARGIN_MS]  # once a partition


async def test_worker_stops_and_calls_nobody_when_it_cannot_read_what_was_answered() -> None:
    scene = Scene(TellableGateway())
    scene.past_failures = [RetryableError("away")]
    scene.put(FIRST, 0, message_of(request_of(1)))
    with pytest.raises(RetryableError, match="away"):
        await scene.executor.run()
    assert not scene.gateway.calls
    assert FIRST not in scene.consumer.committed


async def test_worker_only_inquires_and_takes_not_found_as_doubt_when_the_request_is_older_than_its_memory() -> None:
    scene = Scene(TellableGateway(refuses))
    scene.past[0] = PastResults(since_ms=NOW_MS, results=())  # within the clocks' skew: nobody knows
    request = dataclasses.replace(request_of(1), repeated=True)
    async with started(scene):
        scene.put(FIRST, 0, message_of(request))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert set(scene.gateway.calls) == {(CallKind.INQUIRE, request.gateway_key)}
    assert [(result.kind, result.outcome) for result in scene.results()] == [(CallKind.SALE, Outcome.UNKNOWN)]


async def test_worker_makes_the_call_when_a_first_request_is_older_than_its_memory() -> None:
    scene = Scene(TellableGateway())
    scene.past[0] = PastResults(since_ms=NOW_MS, results=())
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert {kind for kind, _ in scene.gateway.calls} == {CallKind.SALE}


async def wakes_up_with_a_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was frozen for longer than its session, and holds a request that it has not begun."""
    scene.skipped_s = 60.0
    # A logger of its own: one that another test's program has configured and cached cannot be listened to.
    monkeypatch.setattr("streams.executor.worker.log", structlog.get_logger())
    with structlog.testing.capture_logs() as logged:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await until(lambda: any(line["event"] == "lease_over" for line in logged))
    assert scene.executor.in_flight == 1


async def test_worker_leaves_its_requests_to_the_next_owner_when_it_was_frozen_and_its_partition_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with started(Scene(TellableGateway())) as scene:
        await wakes_up_with_a_request(scene, monkeypatch)
        await asyncio.wait_for(scene.consumer.rebalance([SECOND]), 2.0)  # not as long as a drain may take
        assert scene.executor.in_flight == 0
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


async def test_worker_withholds_the_bytes_when_they_hold_what_looks_like_a_card_number() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, b'{"token": "4242 4242 4242 4242"}')
        await scene.consumer.wait_for_commit(FIRST, 1)
    (letter,) = scene.letters()
    assert (letter.reason, letter.withheld) == (DeadLetterReason.CARD_NUMBER, True)
    assert (letter.key, letter.value, letter.headers) == (None, None, ())


async def test_worker_leaves_the_value_out_when_it_is_too_large_for_a_letter() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, b"x" * (dead_letters.MAX_RAW_BYTES + 1))
        await scene.consumer.wait_for_commit(FIRST, 1)
    (letter,) = scene.letters()
    assert (letter.key, letter.value, letter.withheld) == (b"order", None, True)


async def test_worker_goes_on_when_a_rebalance_refuses_a_commit() -> None:
    scene = Scene(TellableGateway())
    scene.consumer.commit_failures = [CommitFailedError()]
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)


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
    scene = Scene(TellableGateway(gate), drain_timeout_s=0.05)
    await scene.executor.start()
    scene.put(FIRST, 0, message_of(request_of(1)))
    await gate.wait_for(1)
    await asyncio.wait_for(scene.executor.stop(), 5.0)
    await scene.executor.stop()  # twice is safe
    assert not scene.consumer.committed
    assert not scene.results()


async def test_worker_says_what_is_wrong_when_the_broker_cannot_be_reached() -> None:
    scene = Scene(TellableGateway())

    async def refuse() -> None:
        raise KafkaConnectionError

    scene.consumer.start = refuse  # type: ignore[method-assign]  # a broker that is away
    with pytest.raises(RetryableError):
        await scene.executor.run()
    assert scene.writer.was_stopped


@pytest.mark.parametrize("wrong", [{"max_calls_in_flight": 0}, {"call_timeout_s": 0.0}])
def test_options_refuse_a_value_when_nothing_could_work_with_it(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ExecutorOptions(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(("by_broker", "kind"), [(True, CallKind.INQUIRE), (False, CallKind.SALE)])
async def test_worker_whose_clock_is_behind_goes_by_the_log_when_a_key_may_be_too_old(
    *, by_broker: bool, kind: CallKind
) -> None:
    """A newer record tells the time, even behind the old request; but only if a broker dated it."""
    gateway = TellableGateway(capabilities=capabilities_with(DAY_MS))
    old, new = request_of(1), dataclasses.replace(request_of(2), first_requested_at_ms=NOW_MS + DAY_MS)
    async with started(Scene(gateway)) as scene:
        scene.put(FIRST, 0, message_of(old))
        scene.put(FIRST, 1, message_of(new), at_ms=NOW_MS + DAY_MS, by_broker=by_broker)
        await scene.writer.wait_for(2)
    assert (kind, old.gateway_key) in gateway.calls


async def test_worker_remembers_an_answer_by_the_brokers_time_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is behind, what is forgotten would pass for never answered."""
    remembered: list[PastResult] = []
    monkeypatch.setattr(Memory, "remember", lambda _memory, _partition, result: remembered.append(result))
    async with started(Scene(TellableGateway())) as scene:
        scene.writer.broker_ms = NOW_MS + DAY_MS
        scene.put(FIRST, 0, message_of(request_of(1)))
        await until(lambda: bool(remembered))
    assert [each.timestamp_ms for each in remembered] == [NOW_MS + DAY_MS]
