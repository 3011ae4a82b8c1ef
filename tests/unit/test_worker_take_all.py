"""What the worker does with the records that Faust delivers, and with the rows of partitions that come and go."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.queues import ThrowableQueue

from streams.kafka.row_tables import RowTable
from streams.kafka.step import Headers, InputEvent, RowReader, Step, TableRow
from streams.kafka.worker import INPUTS_A_TURN, Worker, build_worker
from tests.support.waiting import until

SOURCE = TP("inputs", 0)
GENERATION = 3


class Desk:
    """A worker that is not started, its lanes open, and what its handler has seen."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.headers: list[Headers] = []
        self.worker: Worker = build_worker(
            app_id="unit",
            bootstrap_servers="127.0.0.1:1",
            source_topics=[SOURCE.topic],
            tables=["rows"],
            partitions=1,
            handler=self._handle,
        )
        self.app = self.worker.app
        self.app.consumer_generation_id = GENERATION
        self.app.flow_control.resume()
        self.worker.pipeline.open_lanes({SOURCE.partition: 1})
        self.queue: Any = ThrowableQueue(flow_control=self.app.flow_control)

    def _handle(self, event: InputEvent, _read: RowReader) -> Step:
        self.handled.append(event.offset)
        self.headers.append(event.headers)
        return Step(rows=(), speak=())

    def deliver(self, offsets: Sequence[int], *, generation: int = GENERATION) -> None:
        self.app.ledger.note_fetched(SOURCE, offsets)
        for offset in offsets:
            self.queue.put_nowait(_Event(_message(offset, generation)))


class _Event:
    def __init__(self, message: ConsumerMessage) -> None:
        self.message = message


def _message(offset: int, generation: int, headers: Sequence[tuple[str, bytes | None]] = ()) -> ConsumerMessage:
    return ConsumerMessage(
        SOURCE.topic,
        SOURCE.partition,
        offset,
        timestamp=0.0,
        timestamp_type=0,
        headers=list(headers),  # type: ignore[arg-type]  # Kafka allows one without a value
        key=b"k",
        value=b"v",
        checksum=None,
        generation_id=generation,
    )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    made.worker.pipeline.close_lanes()


async def take_what_waits(desk: Desk) -> None:
    """Until Faust says that it stops, which it says behind the records: an empty queue raises what was thrown."""

    async def stop() -> None:
        await until(desk.queue.empty, timeout_s=5)
        desk.queue._throw(StopAsyncIteration())

    async with asyncio.TaskGroup() as group:
        group.create_task(stop())
        with pytest.raises(StopAsyncIteration):
            await desk.worker.take_all(desk.queue)


async def test_records_of_an_earlier_assignment_are_passed_over_when_they_come_late(desk: Desk) -> None:
    desk.deliver([10], generation=GENERATION - 1)
    desk.app.ledger.reset([SOURCE])  # the rebalance; what is not committed is fetched again
    desk.deliver([10, 11])
    await take_what_waits(desk)
    assert desk.handled == [10, 11]


async def test_records_are_passed_over_and_not_committed_when_the_flow_was_stopped(desk: Desk) -> None:
    desk.deliver([10])
    desk.app.flow_control.suspend()
    await take_what_waits(desk)
    assert desk.handled == []
    assert desk.app.ledger.committable(SOURCE) is None


async def test_records_are_taken_in_one_turn_of_the_loop_when_they_were_delivered_together(desk: Desk) -> None:
    seen: list[int] = []
    desk.deliver(range(INPUTS_A_TURN + 1))
    asyncio.get_running_loop().call_soon(lambda: seen.append(len(desk.handled)))
    taking = asyncio.create_task(desk.worker.take_all(desk.queue))
    asyncio.get_running_loop().call_soon(lambda: seen.append(len(desk.handled)))
    await asyncio.sleep(0)
    assert seen == [0, INPUTS_A_TURN]
    taking.cancel()


async def test_partition_that_went_away_is_not_opened_again_when_rows_are_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def live_rows(_table: RowTable, number: int) -> Iterator[TableRow]:
        opened.append(number)
        yield TableRow("rows", number, b"k", b"v")

    monkeypatch.setattr(RowTable, "live_rows", live_rows)
    monkeypatch.setattr(desk.worker, "_owned", frozenset({0, 1}))
    rows = desk.worker.live_rows("rows")
    next(rows)
    monkeypatch.setattr(desk.worker, "_owned", frozenset({0}))
    assert list(rows) == []
    assert opened == [0]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ((), ()),
        ((("a", b"1"), ("b", b"")), (("a", b"1"), ("b", b""))),
        ((("a", b"1"), ("b", None), ("a", b"2")), (("a", b"1"), ("b", b""), ("a", b"2"))),
    ],
)
async def test_header_without_a_value_is_an_empty_one_to_the_handler(
    desk: Desk, sent: Sequence[tuple[str, bytes | None]], seen: Headers
) -> None:
    desk.app.ledger.note_fetched(SOURCE, [0])
    await desk.worker.take(_message(0, GENERATION, sent))
    assert desk.headers == [seen]
