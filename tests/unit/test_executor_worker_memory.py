"""The worker with a fake log: what it remembers, what it takes as doubt, and which clock it goes by."""

import dataclasses
from typing import Any

import pytest

from gateway_adapters.contract import CallResult
from schemas import rfc3339, topics
from schemas.cloud_event import EXPIRY_HEADER
from schemas.messages import EncodedMessage
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.executor.past_results import HORIZON_MS, MARGIN_MS, Answers, Memory, PastResult, PastResults, result_id
from streams.kafka_clients.dead_letters import REDRIVEN_FROM_HEADER
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.producer import AppendedRecord
from streams.log_worker import worker
from tests.support.executor_scene import (
    DAY_MS,
    FIRST,
    Scene,
    refuses,
    started,
    until,
)
from tests.support.gateway_calls import (
    NOW_MS,
    Behaviour,
    TellableGateway,
    capabilities_with,
    message_of,
    request_of,
    succeeds,
)
from tests.support.metric_pages import rise_of


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


async def test_worker_asks_where_the_log_ended_until_it_knows_and_believes_refusals_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One slow answer of the broker made doubt of every refusal, for as long as the assignment lasted."""
    monkeypatch.setattr(worker, "POLL_RETRY_AFTER_S", 0.0)

    async def refuses(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=Outcome.NOT_EXECUTED)

    scene = Scene(TellableGateway(refuses))
    scene.consumer.end_failures = [TimeoutError() for _ in range(25)]
    async with started(scene):
        await until(lambda: not scene.consumer.end_failures)
        scene.put(FIRST, 0, message_of(request_of(0)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [result.outcome for result in scene.results()] == [Outcome.NOT_EXECUTED]


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
    assert value == past.message.value
    assert tuple(headers) == tuple(each for each in past.message.headers if each[0] != EXPIRY_HEADER)


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
    (since_ms,) = scene.asked_since_ms  # once a partition
    assert since_ms == pytest.approx(NOW_MS - HORIZON_MS - MARGIN_MS, abs=5_000)  # the log's clock goes on meanwhile


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
    inquired = rise_of("executor_calls_beyond_memory")
    async with started(scene):
        scene.put(FIRST, 0, message_of(request))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert inquired() == 1
    assert set(scene.gateway.calls) == {(CallKind.INQUIRE, request.gateway_key)}
    assert [(result.kind, result.outcome) for result in scene.results()] == [(CallKind.SALE, Outcome.UNKNOWN)]


async def test_worker_only_inquires_when_an_operator_has_brought_the_request_back() -> None:
    """Its order has gone on since: it asks again by itself, or a person has decided, or another gateway has done it."""
    scene = Scene(TellableGateway(refuses))
    letter = message_of(request_of(1))
    redriven = EncodedMessage(value=letter.value, headers=(*letter.headers, (REDRIVEN_FROM_HEADER, b"dlq:0:0")))
    async with started(scene):
        scene.put(FIRST, 0, redriven)
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert {kind for kind, _ in scene.gateway.calls} == {CallKind.INQUIRE}
    assert [(result.kind, result.outcome) for result in scene.results()] == [(CallKind.SALE, Outcome.UNKNOWN)]


async def test_worker_makes_the_call_when_a_first_request_is_older_than_its_memory() -> None:
    scene = Scene(TellableGateway())
    scene.past[0] = PastResults(since_ms=NOW_MS, results=())
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert {kind for kind, _ in scene.gateway.calls} == {CallKind.SALE}


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


def expiry_of(headers: object) -> int | None:
    """Until when a result counts, milliseconds since the epoch."""
    found = dict(headers).get(EXPIRY_HEADER)  # type: ignore[call-overload]  # of a record that a fake keeps
    return None if found is None else rfc3339.ms_of(found.decode())


async def test_refusal_counts_for_as_long_as_no_other_worker_can_have_made_the_call() -> None:
    async with started(Scene(TellableGateway(refuses), session_timeout_s=10.0)) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
    expiry_ms = expiry_of(scene.writer.appended[0][3])
    assert expiry_ms is not None
    assert NOW_MS < expiry_ms <= NOW_MS + 1 + 10_000


async def test_refusal_counts_no_longer_when_it_is_appended_after_a_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have made the call by then, and its success may stand behind this refusal."""
    scene = Scene(TellableGateway(refuses))
    append = scene.writer.append

    async def frozen_first(topic: str, **record: Any) -> AppendedRecord:
        if not scene.skipped_s:
            scene.skipped_s = 60.0
            raise RetryableError("away", retry_after_s=0.0)
        return await append(topic, **record)

    monkeypatch.setattr(scene.writer, "append", frozen_first)
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
    assert [each.outcome for each in scene.results()] == [Outcome.UNKNOWN]


async def test_only_a_refusal_has_an_end() -> None:
    async with started(Scene(TellableGateway(succeeds))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
    assert expiry_of(scene.writer.appended[0][3]) is None


@pytest.mark.parametrize(("logged_ms", "kept"), [(NOW_MS + 5, None), (NOW_MS + 6, NOW_MS + 5)])
def test_refusal_that_the_log_took_in_time_counts_for_good_when_it_is_appended_again(
    logged_ms: int, kept: int | None
) -> None:
    header = (EXPIRY_HEADER, rfc3339.text_of(NOW_MS + 5).encode())
    message = EncodedMessage(value=b"x", headers=(("ce_id", result_id(request_of(1)).encode()), header))
    answers = Answers(PastResults(since_ms=0, results=[PastResult(timestamp_ms=logged_ms, message=message)]))
    again = answers.to(request_of(1))
    assert again is not None
    assert expiry_of(again.headers) == kept
