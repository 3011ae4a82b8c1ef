"""Due timers become records: when, how often, and by whose clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from schemas.identifiers import OpId, OrderId, OriginId
from schemas.messages import MessageCodec
from schemas.records.timers import OpenTimer, TimerFired
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import TimerKind
from streams.agents import timers
from streams.agents.timers import TimerClock, TimerHeap, timer_key
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_clock import LogClock
from tests.support.fake_log import FakeWriter
from tests.support.metric_pages import rise_of
from tests.support.waiting import until

NOW_MS = 1_700_000_000_000
WAIT_S = 5.0
HOUR_MS = 3_600_000


class Scene:
    """A clock, its heap, and a machine whose own time is off by so much."""

    def __init__(self, *, off_ms: int = 0) -> None:
        self.off_ms = off_ms
        self.up_ms = 0
        self.heap = TimerHeap()
        self.writer = FakeWriter()
        self.codec = MessageCodec(SchemaIds.packaged())
        self.log_clock = LogClock(wall_ms=lambda: NOW_MS + self.up_ms + off_ms, monotonic_s=lambda: self.up_ms / 1000)
        self.clock = TimerClock(self.heap, codec=self.codec, log_writer=self.writer, clock=self.log_clock)
        self.writer.broker_ms = NOW_MS

    def put(self, number: int = 1, *, due_ms: int, partition: int = 0, order: str = "order") -> OpenTimer:
        timer = OpenTimer(
            origin_id=OriginId("shop"),
            order_id=OrderId(order),
            op_id=OpId("op_1"),
            kind=TimerKind.RECONCILE,
            number=number,
            due_at_ms=due_ms,
        )
        self.heap.put(partition, timer)
        return timer

    def passes(self, milliseconds: int) -> None:
        self.up_ms += milliseconds
        self.writer.broker_ms = NOW_MS + self.up_ms
        self.clock.wake()

    def fired(self) -> list[int]:
        """Return the numbers of the fired timers."""
        found = [self.codec.decode(value, headers)[1] for _, _, value, headers in self.writer.appended]
        return [each.number for each in found if isinstance(each, TimerFired)]


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[Scene]:
    task = asyncio.create_task(scene.clock.run())
    try:
        yield scene
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _turns(count: int = 20) -> None:
    """Let the clock go on, as far as it would without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_timer_is_fired_once_when_it_is_due() -> None:
    counted = rise_of("timers_fired")
    async with running(Scene()) as scene:
        scene.put(due_ms=NOW_MS + 500)
        scene.passes(499)
        await _turns()
        assert scene.fired() == []
        scene.passes(1)
        await until(lambda: scene.fired() == [1], timeout_s=WAIT_S)
        scene.passes(1_000)
        await _turns()
    assert scene.fired() == [1]
    assert counted() == 1


async def test_timer_is_fired_again_when_its_order_says_nothing_for_a_minute() -> None:
    async with running(Scene()) as scene:
        timer = scene.put(due_ms=NOW_MS)
        scene.clock.wake()
        await until(lambda: scene.fired() == [1], timeout_s=WAIT_S)
        scene.passes(60_000)
        await until(lambda: scene.fired() == [1, 1], timeout_s=WAIT_S)
        scene.heap.clear(timer_key(timer))
        scene.passes(60_000)
        await _turns()
    assert scene.fired() == [1, 1]


async def test_timer_is_fired_at_its_time_by_the_broker_when_the_machine_is_hours_ahead() -> None:
    """Early once, which means nothing, and then not in a loop but when it is due."""
    async with running(Scene(off_ms=2 * HOUR_MS)) as scene:
        scene.put(due_ms=NOW_MS + HOUR_MS)
        scene.clock.wake()
        await until(lambda: scene.fired() == [1], timeout_s=WAIT_S)
        scene.passes(HOUR_MS - 1)
        await _turns()
        assert scene.fired() == [1]
        scene.passes(1)
        await until(lambda: scene.fired() == [1, 1], timeout_s=WAIT_S)


async def test_timer_is_fired_at_its_time_by_the_broker_when_the_machine_is_hours_behind() -> None:
    async with running(Scene(off_ms=-2 * HOUR_MS)) as scene:
        scene.put(due_ms=NOW_MS + 500)
        scene.log_clock.saw(NOW_MS)  # any input that the worker takes
        scene.passes(500)
        await until(lambda: scene.fired() == [1], timeout_s=WAIT_S)


async def test_timer_is_fired_a_second_later_when_the_broker_is_gone() -> None:
    async with running(Scene()) as scene:
        scene.writer.failures.append(RetryableError("gone"))
        scene.put(due_ms=NOW_MS)
        scene.clock.wake()
        await until(lambda: not scene.writer.failures, timeout_s=WAIT_S)
        scene.passes(timers.RETRY_AFTER_MS)
        await until(lambda: scene.fired() == [1], timeout_s=WAIT_S)


async def test_later_wish_replaces_the_earlier_and_a_partition_that_goes_takes_its_timers_along() -> None:
    async with running(Scene()) as scene:
        scene.put(1, due_ms=NOW_MS + 100)
        scene.put(2, due_ms=NOW_MS + 200)
        scene.put(3, due_ms=NOW_MS + 200, partition=1, order="other")
        scene.heap.drop(1)
        assert len(scene.heap) == 1
        scene.passes(200)
        await until(lambda: scene.fired() == [2], timeout_s=WAIT_S)
        await _turns()
    assert scene.fired() == [2]


def test_no_more_timers_are_taken_at_once_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "MAX_FIRED_AT_ONCE", 3)
    scene = Scene()
    for number in range(5):
        scene.put(due_ms=NOW_MS, order=f"order-{number}")
    assert [len(scene.heap.take_due(NOW_MS)) for _ in range(3)] == [3, 2, 0]


def test_timer_is_fired_once_however_often_its_partition_came_back() -> None:
    scene = Scene()
    timer = scene.put(due_ms=NOW_MS)
    for _ in range(5):
        scene.heap.drop(0)
        scene.heap.replace(0, [timer])
    scene.heap.put(0, timer)  # a replayed input says it once more
    assert scene.heap.take_due(NOW_MS) == [timer]


def test_heap_holds_nothing_of_a_partition_that_went_away() -> None:
    """Else what it holds grows with each rebalance, for as long as the timers are far away."""
    scene = Scene()
    scene.put(due_ms=NOW_MS)
    scene.heap.drop(0)
    assert scene.heap.next_due_ms() is None


def test_timer_that_was_cleared_or_renewed_while_it_fired_is_not_looked_at_again() -> None:
    scene = Scene()
    first = scene.put(1, due_ms=NOW_MS)
    scene.heap.take_due(NOW_MS)
    second = scene.put(2, due_ms=NOW_MS)
    scene.heap.look_again(first, NOW_MS)
    assert scene.heap.take_due(NOW_MS) == [second]
    scene.heap.clear(timer_key(second))
    scene.heap.look_again(second, NOW_MS)
    assert scene.heap.next_due_ms() is None
