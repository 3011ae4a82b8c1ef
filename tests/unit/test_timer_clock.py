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
from streams.agents.dues import due_of_timer
from streams.agents.timers import FIRED_AGAIN_S, TimerClock, timer_key
from streams.kafka.step import RowWrite
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_clock import LogClock
from streams.topology import TIMERS_TABLE
from tests.support.fake_log import FakeWriter
from tests.support.kept_tables import KeptTables
from tests.support.metric_pages import rise_of
from tests.support.waiting import until

NOW_MS = 1_700_000_000_000
WAIT_S = 5.0
HOUR_MS = 3_600_000
AGAIN_MS = round(FIRED_AGAIN_S * 1000)


class Scene:
    """A clock, the table of its timers, and a machine whose own time is off by so much."""

    def __init__(self, *, off_ms: int = 0, partitions: int = 2) -> None:
        self.off_ms = off_ms
        self.up_ms = 0
        self.tables = KeptTables(TIMERS_TABLE, partitions=partitions, again_ms={TIMERS_TABLE: AGAIN_MS})
        self.writer = FakeWriter()
        self.codec = MessageCodec(SchemaIds.packaged())
        self.log_clock = LogClock(wall_ms=lambda: NOW_MS + self.up_ms + off_ms, monotonic_s=lambda: self.up_ms / 1000)
        self.clock = TimerClock(self.tables, codec=self.codec, log_writer=self.writer, clock=self.log_clock)
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
        self._write(timer, self.codec.encode_row(timer), partition)
        return timer

    def clear(self, timer: OpenTimer) -> None:
        self._write(timer, None, 0)

    def _write(self, timer: OpenTimer, value: bytes | None, partition: int) -> None:
        write = RowWrite(table=TIMERS_TABLE, key=timer_key(timer), value=value, due=due_of_timer(timer))
        self.tables.write([write], now_ms=NOW_MS + self.up_ms, partition=partition)

    async def passes(self, milliseconds: int) -> bool:
        """Let so much time pass, and the clock look."""
        self.up_ms += milliseconds
        self.writer.broker_ms = NOW_MS + self.up_ms
        return await self.clock.fire_due()

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


async def test_timer_is_fired_by_a_clock_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "LOOK_S", 0.0)
    async with running(Scene()) as scene:
        scene.put(due_ms=NOW_MS)
        await until(lambda: scene.fired() == [1], timeout_s=WAIT_S)


async def test_timer_is_fired_once_when_it_is_due() -> None:
    counted = rise_of("timers_fired")
    scene = Scene()
    scene.put(due_ms=NOW_MS + 500)
    await scene.passes(499)
    assert scene.fired() == []
    await scene.passes(1)
    assert scene.fired() == [1]
    await scene.passes(1_000)
    assert scene.fired() == [1]
    assert counted() == 1


async def test_timer_that_is_put_while_another_is_far_away_is_fired_at_its_own_time() -> None:
    scene = Scene()
    scene.put(1, due_ms=NOW_MS + HOUR_MS)
    await scene.passes(1)
    scene.put(2, due_ms=NOW_MS + 500, order="other")
    await scene.passes(499)
    assert scene.fired() == [2]


async def test_timer_is_fired_again_when_its_order_says_nothing_for_a_minute() -> None:
    scene = Scene()
    timer = scene.put(due_ms=NOW_MS)
    await scene.passes(0)
    await scene.passes(AGAIN_MS - 1)
    assert scene.fired() == [1]
    await scene.passes(1)
    assert scene.fired() == [1, 1]
    scene.clear(timer)
    await scene.passes(AGAIN_MS)
    assert scene.fired() == [1, 1]


async def test_timer_is_fired_at_its_time_by_the_broker_when_the_machine_is_hours_ahead() -> None:
    """Early once, which means nothing, and then not in a loop but when it is due."""
    scene = Scene(off_ms=2 * HOUR_MS)
    scene.put(due_ms=NOW_MS + HOUR_MS)
    await scene.passes(0)
    assert scene.fired() == [1]
    await scene.passes(HOUR_MS - 1)
    assert scene.fired() == [1]
    await scene.passes(1)
    assert scene.fired() == [1, 1]


async def test_timer_is_fired_at_its_time_by_the_broker_when_the_machine_is_hours_behind() -> None:
    scene = Scene(off_ms=-2 * HOUR_MS)
    scene.put(due_ms=NOW_MS + 500)
    scene.log_clock.saw(NOW_MS)  # any input that the worker takes
    await scene.passes(500)
    assert scene.fired() == [1]


async def test_timers_are_fired_later_when_the_broker_is_gone() -> None:
    scene = Scene()
    scene.writer.failures.append(RetryableError("gone"))
    for number in (1, 2):
        scene.put(number, due_ms=NOW_MS + number, order=f"order-{number}")
    assert not await scene.passes(10)
    assert await scene.passes(10)
    assert set(scene.fired()) == {1, 2}


async def test_later_wish_replaces_the_earlier_and_a_partition_that_goes_takes_its_timers_along() -> None:
    scene = Scene()
    scene.put(1, due_ms=NOW_MS + 100)
    scene.put(2, due_ms=NOW_MS + 200)
    scene.put(3, due_ms=NOW_MS + 200, partition=1, order="other")
    scene.tables.owned = frozenset({0})
    await scene.passes(200)
    assert scene.fired() == [2]


async def test_all_due_timers_are_fired_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "FIRED_AT_ONCE", 3)
    scene = Scene()
    for number in range(8):
        scene.put(number, due_ms=NOW_MS, order=f"order-{number}", partition=number % 2)
    assert await scene.passes(0)
    assert sorted(scene.fired()) == list(range(8))
