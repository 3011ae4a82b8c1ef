"""Partitions that change hands while calls are under way: nobody waits for them, and nobody makes them twice."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import RequestTimedOutError

from gateway_adapters.contract import CallResult
from schemas.messages import EncodedMessage
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import Outcome
from streams.executor import handling, past_results
from streams.executor.past_results import PastResult, PastResults
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.producer import AppendedRecord
from streams.log_worker import worker
from streams.log_worker.hand_over import HandOver, hand_over_of
from tests.support.executor_scene import FIRST, SECOND, Gate, Scene, refuses, started, until
from tests.support.gateway_calls import NOW_MS, TellableGateway, message_of, request_of, succeeds

LEFT_MS = 300
"""How long what an earlier owner has left takes at most, in these tests."""


async def test_worker_lets_go_at_once_and_says_what_is_under_way_when_partitions_are_revoked() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate), max_calls_in_flight=1, call_timeout_s=30.0)) as scene:
        for number in range(3):
            scene.put(FIRST, number, message_of(request_of(number)))
        await gate.wait_for(1)
        await until(lambda: scene.executor.in_flight == 3)
        await asyncio.wait_for(scene.consumer.rebalance([SECOND]), 1.0)
        assert scene.consumer.committed[FIRST] == 0
        left = hand_over_of(scene.consumer.left_notes[FIRST])
        assert left is not None
        assert (left.under_way, left.taken_to) == (frozenset({0}), 3)  # the others were left to the next owner
        assert left.until_ms - NOW_MS == pytest.approx(33_000, abs=3_000)
        assert scene.consumer.left_notes.get(SECOND, "") == ""
        gate.open.set()
        await scene.writer.wait_for(1)
    assert scene.gateway.calls.total() == 1
    assert scene.consumer.committed[FIRST] == 0, "what is not this worker's any more it does not commit"


async def test_fresh_payments_go_on_while_a_slow_call_is_under_way_when_the_group_rebalances() -> None:
    gate = Gate()

    async def first_hangs(request: GatewayCallRequested) -> CallResult:
        return await (gate(request) if request.order_id == "order-0" else succeeds(request))

    async with started(Scene(TellableGateway(first_hangs))) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await gate.wait_for(1)
        await asyncio.wait_for(scene.consumer.rebalance([FIRST, SECOND]), 1.0)
        scene.put(FIRST, 0, message_of(request_of(0)))  # redelivered from the committed offset
        scene.put(FIRST, 1, message_of(request_of(1)))
        scene.put(SECOND, 0, message_of(request_of(2)))
        await scene.consumer.wait_for_commit(SECOND, 1)
        await until(lambda: len(scene.results()) == 2)
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 2)
    assert scene.gateway.calls.total() == 3, "the redelivery joined the call that was still under way"


async def test_refusal_of_a_call_whose_partition_has_gone_meanwhile_is_doubt() -> None:
    """The next owner may have made the call too, and its success must not come after the order has gone elsewhere."""
    gate = Gate()

    async def refuses_late(request: GatewayCallRequested) -> CallResult:
        await gate(request)
        return CallResult(outcome=Outcome.NOT_EXECUTED)

    async with started(Scene(TellableGateway(refuses_late))) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await gate.wait_for(1)
        await scene.consumer.rebalance([SECOND])
        gate.open.set()
        await scene.writer.wait_for(1)
    assert [each.outcome for each in scene.results()] == [Outcome.UNKNOWN]


async def test_refusal_that_is_being_appended_is_on_the_log_before_its_partition_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    appends, room = asyncio.Event(), asyncio.Event()
    scene = Scene(TellableGateway(refuses))
    append = scene.writer.append

    async def slowly(topic: str, **record: Any) -> AppendedRecord:
        appends.set()
        await room.wait()
        return await append(topic, **record)

    monkeypatch.setattr(scene.writer, "append", slowly)
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        await appends.wait()
        rebalance = asyncio.ensure_future(scene.consumer.rebalance([SECOND]))
        done, _ = await asyncio.wait([rebalance], timeout=0.05)
        assert not done
        room.set()
        await rebalance
        assert scene.consumer.committed[FIRST] == 1
    assert [each.outcome for each in scene.results()] == [Outcome.NOT_EXECUTED]


async def test_worker_hands_over_what_was_left_to_it_as_long_as_that_may_be_under_way() -> None:
    inherited = HandOver(until_ms=NOW_MS + 60_000, taken_to=9, under_way=frozenset({4, 7}))
    gate, scene = Gate(), Scene(TellableGateway())
    scene.gateway.behave = gate
    scene.consumer.left_notes[FIRST], scene.consumer.ends[FIRST] = inherited.note(), 9
    async with started(scene):
        for number in (3, 4, 9):
            scene.put(FIRST, number, message_of(request_of(number)))
        await gate.wait_for(2)  # the first was let go by its earlier owner, the last is new
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 4)
        left = hand_over_of(scene.consumer.left_notes[FIRST])
        assert left == inherited
        await scene.consumer.rebalance([SECOND])
    assert hand_over_of(scene.consumer.left_notes[FIRST]) == inherited
    assert scene.gateway.calls.total() == 2


class _Heir:
    """A worker that takes over the first partition, of which somebody has one call under way."""

    def __init__(self, gateway: TellableGateway, *, note: str | None = None) -> None:
        self.scene = Scene(gateway)
        left = HandOver(until_ms=NOW_MS + LEFT_MS, taken_to=1, under_way=frozenset({0}))
        self.scene.consumer.left_notes[FIRST] = left.note() if note is None else note
        self.scene.consumer.ends[FIRST] = 1


async def test_next_owner_makes_no_copy_of_a_call_under_way_and_finds_its_answer_once_it_has_ended() -> None:
    heir = _Heir(TellableGateway())
    async with started(heir.scene) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        scene.put(FIRST, 1, message_of(request_of(1)))
        await until(lambda: len(scene.results()) == 1)  # what is new does not wait
        assert [each.order_id for each in scene.results()] == ["order-1"]
        answered = await _answer_of(request_of(0))
        scene.past[0] = PastResults(since_ms=0, results=[PastResult(timestamp_ms=NOW_MS, message=answered)])
        await scene.consumer.wait_for_commit(FIRST, 2)
    assert [each.order_id for each in scene.results()] == ["order-1", "order-0"]
    assert scene.gateway.calls.total() == 1


async def test_next_owner_makes_the_call_when_the_earlier_one_has_not_answered_in_time() -> None:
    heir = _Heir(TellableGateway(refuses))
    async with started(heir.scene) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [each.outcome for each in scene.results()] == [Outcome.UNKNOWN], "that it was refused now proves nothing"


async def test_order_that_asks_again_waits_too_for_what_was_left_under_way_and_no_other_does() -> None:
    heir = _Heir(TellableGateway())
    async with started(heir.scene) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        scene.put(FIRST, 1, message_of(replace(request_of(0), repeated=True)))
        scene.put(FIRST, 2, message_of(replace(request_of(5), repeated=True)))
        await until(lambda: scene.executor.in_flight == 2)
        assert [each.order_id for each in scene.results()] == ["order-5"]
        await scene.consumer.wait_for_commit(FIRST, 3)
    assert scene.gateway.calls.total() == 2, "the copy has joined the call, or got its answer"


async def test_next_owner_finds_the_answer_soon_after_the_call_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(past_results, "LOOK_AGAIN_S", 0.01)
    left = HandOver(until_ms=NOW_MS + 600_000, taken_to=1, under_way=frozenset({0}))
    heir = _Heir(TellableGateway(), note=left.note())
    async with started(heir.scene) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await until(lambda: len(scene.asked_since_ms) == 1)
        scene.past_failures.append(RetryableError("away"))  # one look fails
        await until(lambda: len(scene.asked_since_ms) > 3)
        answered = await _answer_of(request_of(0))
        scene.past[0] = PastResults(since_ms=0, results=[PastResult(timestamp_ms=NOW_MS, message=answered)])
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert scene.gateway.calls.total() == 0


@pytest.mark.parametrize("note", ["", "somebody's own", "v1 until=x taken=1 under=all"])
async def test_next_owner_waits_for_nothing_when_nothing_was_left(note: str) -> None:
    heir = _Heir(TellableGateway(), note=note)
    async with started(heir.scene) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await until(lambda: len(scene.results()) == 1)
    assert len(scene.asked_since_ms) == 1


async def test_what_waits_for_an_earlier_owner_is_let_go_when_its_partition_goes() -> None:
    heir = _Heir(TellableGateway())
    async with started(heir.scene) as scene:
        scene.put(FIRST, 0, message_of(request_of(0)))
        await until(lambda: scene.executor.in_flight == 1)
        await scene.consumer.rebalance([SECOND])
        await until(lambda: scene.executor.in_flight == 0)
    assert scene.gateway.calls.total() == 0


async def test_worker_waits_until_it_knows_what_was_left_before_it_makes_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "POLL_RETRY_AFTER_S", 0.01)
    heir = _Heir(TellableGateway(), note="")
    scene, told = heir.scene, heir.scene.consumer.notes
    failures = 3

    async def silent(partitions: Any) -> Mapping[TopicPartition, str]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            assert scene.gateway.calls.total() == 0
            raise RequestTimedOutError
        return await told(partitions)

    scene.consumer.notes = silent  # type: ignore[method-assign]  # the coordinator is away for a moment
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert failures == -1


async def _answer_of(request: GatewayCallRequested) -> EncodedMessage:
    """Return the result as another worker has appended it."""
    async with started(Scene(TellableGateway())) as other:
        other.put(FIRST, 0, message_of(request))
        await other.writer.wait_for(1)
    _, _, value, headers = other.writer.appended[0]
    assert value is not None
    return EncodedMessage(value=value, headers=tuple(headers))
