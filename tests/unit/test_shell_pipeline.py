"""Persist, then speak, then commit: proven step by step with a log whose acknowledgements the test gives by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from schemas import topics
from schemas.decode_errors import SchemaAwaitedError
from streams.kafka import stamps
from streams.kafka.errors import DeliveryGapError, StalledError, TooLargeError
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.partition_rows import TOMBSTONE_KEPT_MS, ChangelogRecord, MemoryRows, StoredRow, merge_changelog
from streams.kafka.pipeline import Acknowledged, Pipeline
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import Headers, InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.kafka.worker_settings import MAX_MESSAGE_BYTES, MAX_ROW_BYTES
from streams.kafka_clients.lease import Lease
from tests.support.waiting import until

NOW_MS = 1_800_000_000_000
BROKER_MS = NOW_MS + 5
"""When the broker dates what is written."""
SOURCE = ("in", 0)
WAIT_S = 5.0
SESSION_S = 10.0


@dataclass(frozen=True)
class _At:
    offset: int
    timestamp: int


@dataclass(eq=False)
class _Sent:
    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None
    headers: Headers
    acknowledged: asyncio.Future[Acknowledged]

    def acknowledge(self, offset: int) -> None:
        self.acknowledged.set_result(_At(offset, BROKER_MS))


@dataclass
class _HandLog:
    """A log on which nothing is acknowledged until the test says so."""

    sent: list[_Sent] = field(default_factory=list)
    room: asyncio.Event | None = None
    """Set when there is room in the producer's buffer again; None: there is."""

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int | None, headers: Headers
    ) -> asyncio.Future[Acknowledged]:
        future: asyncio.Future[Acknowledged] = asyncio.get_running_loop().create_future()
        self.sent.append(_Sent(topic, key, value, partition, headers, future))
        if self.room is not None:
            await self.room.wait()
        return future

    def on(self, topic: str) -> list[_Sent]:
        return [sent for sent in self.sent if sent.topic == topic]


def _echo(event: InputEvent, read: RowReader) -> Step:
    """Appends the input to its row, and says what the row is now."""
    assert event.key is not None
    row = (read("t", event.key) or b"") + (event.value or b"")
    return Step(
        rows=[RowWrite(table="t", key=event.key, value=row)], speak=[Outgoing(topic="out", key=event.key, value=row)]
    )


def _quiet(_event: InputEvent, _read: RowReader) -> Step:
    """Nothing to keep and nothing to say: done at once."""
    return Step(rows=[], speak=[])


@dataclass
class _Clock:
    now_s: float = 0.0


@dataclass
class _Bench:
    log: _HandLog
    table: RowTable
    ledger: OffsetLedger[tuple[str, int]]
    pipeline: Pipeline
    failures: list[BaseException]
    clock: _Clock
    lease: Lease
    replies: list[Outgoing]

    async def take(self, offset: int, *, key: bytes = b"k", value: bytes = b"x", partition: int = 0) -> None:
        self.ledger.note_fetched((SOURCE[0], partition), [offset])
        await self.pipeline.take(
            InputEvent(
                topic=SOURCE[0],
                partition=partition,
                offset=offset,
                timestamp_ms=NOW_MS,
                key=key,
                value=value,
                headers=(),
                possible_replay=False,
            )
        )


async def _until(condition: Callable[[], bool]) -> None:
    await until(condition, timeout_s=WAIT_S, look_again_s=0)


async def _settled() -> None:
    """Everything that can happen without the test has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


Make = Callable[..., _Bench]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[_Bench] = []

    def build(
        handler: Callable[[InputEvent, RowReader], Step] = _echo,
        *,
        max_inputs_in_flight: int = 16,
        drain_timeout_s: float = WAIT_S,
        ack_timeout_s: float = WAIT_S,
        generation: int = 3,
        records: tuple[ChangelogRecord, ...] = (),
    ) -> _Bench:
        log, failures, replies = _HandLog(), list[BaseException](), list[Outgoing]()
        table = RowTable("t", data_dir=None, now_ms=lambda: NOW_MS)
        table.merge(0, records)
        ledger: OffsetLedger[tuple[str, int]] = OffsetLedger()
        clock = _Clock()
        lease = Lease(session_timeout_s=SESSION_S, clock_s=lambda: clock.now_s)
        pipeline = Pipeline(
            tables={"t": table},
            changelogs={"t": "changelog"},
            handler=handler,
            ledger=ledger,
            lease=lease,
            send=log.send,
            say=replies.append,
            on_failure=failures.append,
            max_inputs_in_flight=max_inputs_in_flight,
            drain_timeout_s=drain_timeout_s,
            ack_timeout_s=ack_timeout_s,
        )
        pipeline.open_lanes({0: generation})
        made.append(_Bench(log, table, ledger, pipeline, failures, clock, lease, replies))
        return made[-1]

    yield build
    for bench in made:
        bench.pipeline.close_lanes()
        await _settled()


async def test_pipeline_keeps_a_row_under_the_time_that_the_broker_gave_it(make: Make) -> None:
    """As whoever reads it back from the changelog does; not under a clock of this machine, which may be wrong."""
    bench = make()
    await bench.take(0)
    bench.log.sent[0].acknowledge(0)
    await _until(lambda: bench.table.partition(0).applied_offset == 0)
    assert {row.written_ms for _, row in bench.table.partition(0).items()} == {BROKER_MS}
    assert bench.table.partition(0).newest_ms == BROKER_MS


async def test_pipeline_says_nothing_when_it_was_frozen_past_its_session_until_the_group_knows_it(make: Make) -> None:
    """Two events of one id and two contents: a frozen owner had decided in another order than its successor."""
    bench = make()
    await bench.take(0)
    bench.clock.now_s = SESSION_S + 1
    bench.log.sent[0].acknowledge(0)
    await _settled()
    assert bench.log.on("out") == []

    bench.lease.renewed(SESSION_S + 0.5)
    await _until(lambda: bool(bench.log.on("out")))


async def test_pipeline_abandons_what_it_may_not_say_when_its_partitions_go_away(make: Make) -> None:
    bench = make(max_inputs_in_flight=1)
    await bench.take(0)
    bench.clock.now_s = SESSION_S + 1
    bench.log.sent[0].acknowledge(0)
    await bench.pipeline.drain()
    bench.pipeline.close_lanes()
    assert bench.failures == []
    assert bench.ledger.committable(SOURCE) is None

    bench.lease.renewed()
    bench.ledger.reset([SOURCE])
    bench.pipeline.open_lanes({0: 9})
    await bench.take(0)  # read again; the only slot is free again
    bench.log.sent[1].acknowledge(1)
    await _until(lambda: bool(bench.log.on("out")))
    bench.log.on("out")[0].acknowledge(0)
    await _until(lambda: bench.ledger.committable(SOURCE) == 1)


async def test_pipeline_drain_ends_when_the_lease_does(make: Make) -> None:
    bench = make()
    await bench.take(0)
    drain = asyncio.create_task(bench.pipeline.drain())
    await _settled()
    assert not drain.done()
    bench.clock.now_s = SESSION_S + 1
    await asyncio.wait_for(drain, WAIT_S)
    assert bench.failures == []


async def test_pipeline_speaks_only_when_the_row_is_acknowledged(make: Make) -> None:
    bench = make()
    await bench.take(0)
    await _settled()
    assert [sent.topic for sent in bench.log.sent] == ["changelog"]
    bench.log.sent[0].acknowledge(40)
    await _until(lambda: bool(bench.log.on("out")))
    assert bench.log.on("out")[0].value == b"x"


async def test_pipeline_offers_the_offset_only_when_the_message_is_acknowledged(make: Make) -> None:
    bench = make()
    await bench.take(0)
    bench.log.sent[0].acknowledge(40)
    await _until(lambda: bool(bench.log.on("out")))
    assert bench.ledger.committable(SOURCE) is None
    bench.log.on("out")[0].acknowledge(0)
    await _until(lambda: bench.ledger.committable(SOURCE) == 1)
    assert bench.pipeline.in_flight == 0


async def test_pipeline_says_a_reply_when_the_row_is_acknowledged_and_waits_for_no_word_of_it(make: Make) -> None:
    def answers(event: InputEvent, _read: RowReader) -> Step:
        reply = Outgoing(topic=topics.REPLIES, key=None, value=b"r", partition=7)
        return Step(
            rows=[RowWrite(table="t", key=event.key or b"", value=b"row")],
            speak=[reply, Outgoing(topic="out", key=b"o", value=b"e")],
        )

    bench = make(answers)
    await bench.take(0)
    await _settled()
    assert bench.replies == []
    bench.log.sent[0].acknowledge(0)
    await _until(lambda: len(bench.log.sent) == 2)
    assert [each.partition for each in bench.replies] == [7]
    assert bench.ledger.committable(SOURCE) is None
    bench.log.on("out")[0].acknowledge(0)
    await _until(lambda: bench.ledger.committable(SOURCE) == 1)


async def test_pipeline_changes_the_local_row_only_when_it_is_acknowledged(make: Make) -> None:
    """So the local rows never run ahead of the changelog."""
    bench = make()
    await bench.take(0)
    await _settled()
    assert bench.table.partition(0).get(b"k") is None
    bench.log.sent[0].acknowledge(0)
    await _until(lambda: bench.table.partition(0).get(b"k") is not None)
    assert bench.table.partition(0).applied_offset == 0


async def test_pipeline_lets_a_later_input_see_the_row_when_it_is_still_in_flight(make: Make) -> None:
    bench = make()
    await bench.take(0, value=b"a")
    await bench.take(1, value=b"b")
    assert [sent.value for sent in bench.log.on("changelog")] == [b"a", b"ab"]
    assert [stamps.from_headers(sent.headers) for sent in bench.log.on("changelog")] == [Stamp(3, 1), Stamp(3, 2)]
    assert {sent.partition for sent in bench.log.on("changelog")} == {0}


async def test_pipeline_keeps_the_order_of_messages_when_rows_are_acknowledged_out_of_order(make: Make) -> None:
    bench = make()
    await bench.take(0, key=b"k1", value=b"a")
    await bench.take(1, key=b"k2", value=b"b")
    bench.log.on("changelog")[1].acknowledge(41)
    await _settled()
    assert bench.log.on("out") == []
    bench.log.on("changelog")[0].acknowledge(40)
    await _until(lambda: len(bench.log.on("out")) == 2)
    assert [sent.value for sent in bench.log.on("out")] == [b"a", b"b"]


async def test_pipeline_offers_no_later_offset_when_an_earlier_message_is_unacknowledged(make: Make) -> None:
    bench = make()
    for offset in (0, 1):
        await bench.take(offset)
        bench.log.on("changelog")[offset].acknowledge(40 + offset)
    await _until(lambda: len(bench.log.on("out")) == 2)
    bench.log.on("out")[1].acknowledge(1)
    await _settled()
    assert bench.ledger.committable(SOURCE) is None
    bench.log.on("out")[0].acknowledge(0)
    await _until(lambda: bench.ledger.committable(SOURCE) == 2)


async def test_pipeline_fails_and_offers_nothing_when_the_changelog_write_fails(make: Make) -> None:
    """Faust logs a warning and commits all the same."""
    bench = make()
    await bench.take(0)
    bench.log.sent[0].acknowledged.set_exception(ConnectionError("gone"))
    await _until(lambda: bool(bench.failures))
    assert isinstance(bench.failures[0], ConnectionError)
    assert bench.log.on("out") == []
    assert bench.ledger.committable(SOURCE) is None
    assert bench.table.partition(0).get(b"k") is None


async def test_pipeline_fails_and_offers_nothing_when_a_message_fails(make: Make) -> None:
    bench = make()
    await bench.take(0)
    bench.log.sent[0].acknowledge(40)
    await _until(lambda: bool(bench.log.on("out")))
    bench.log.on("out")[0].acknowledged.set_exception(ConnectionError("gone"))
    await _until(lambda: bool(bench.failures))
    assert bench.ledger.committable(SOURCE) is None


async def test_pipeline_takes_nothing_more_when_it_has_failed(make: Make) -> None:
    bench = make()
    bench.pipeline.fail(ConnectionError("gone"))
    await bench.take(0)
    assert bench.log.sent == []


async def test_pipeline_fails_when_the_handler_raises(make: Make) -> None:
    def broken(_event: InputEvent, _read: RowReader) -> Step:
        raise ZeroDivisionError

    bench = make(broken)
    with pytest.raises(ZeroDivisionError):
        await bench.take(0)
    assert isinstance(bench.failures[0], ZeroDivisionError)
    assert bench.ledger.committable(SOURCE) is None


@pytest.mark.parametrize("too_large", ["row", "message"])
async def test_pipeline_writes_nothing_of_a_step_when_a_part_is_too_large(make: Make, too_large: str) -> None:
    row = b"r" * (MAX_ROW_BYTES + (1 if too_large == "row" else 0))
    message = b"m" * (MAX_MESSAGE_BYTES if too_large == "message" else 1)

    def step(_event: InputEvent, _read: RowReader) -> Step:
        small = RowWrite(table="t", key=b"small", value=b"x")
        large = RowWrite(table="t", key=b"large", value=row)
        return Step(rows=[small, large], speak=[Outgoing(topic="out", key=b"k", value=message)])

    bench = make(step)
    with pytest.raises(TooLargeError):
        await bench.take(0)
    assert bench.log.sent == []


async def test_pipeline_takes_no_further_input_when_too_many_are_in_flight(make: Make) -> None:
    bench = make(max_inputs_in_flight=2)
    await bench.take(0)
    await bench.take(1)
    third = asyncio.create_task(bench.take(2))
    await _settled()
    assert len(bench.log.on("changelog")) == 2
    bench.log.on("changelog")[0].acknowledge(40)
    await _until(lambda: bool(bench.log.on("out")))
    bench.log.on("out")[0].acknowledge(0)
    await asyncio.wait_for(third, WAIT_S)
    assert len(bench.log.on("changelog")) == 3


async def test_input_of_an_earlier_assignment_is_not_handled_when_it_waited_into_the_next(make: Make) -> None:
    """It is read again, in its order: handled now it would overtake what was abandoned before it."""
    bench = make(max_inputs_in_flight=1)
    await bench.take(0)
    waiting = asyncio.create_task(bench.take(1))
    await _settled()
    bench.pipeline.close_lanes()
    bench.ledger.reset([SOURCE])
    bench.pipeline.open_lanes({0: 2})
    await waiting
    assert len(bench.log.on("changelog")) == 1
    assert bench.pipeline.in_flight == 0
    await bench.take(0)
    assert len(bench.log.on("changelog")) == 2


async def test_pipeline_fails_when_inputs_arrived_before_their_lanes_were_open(make: Make) -> None:
    """They would never be done: nothing behind them could be committed, and nothing would read them again."""
    bench = make()
    bench.pipeline.close_lanes()
    await bench.take(0)
    bench.pipeline.open_lanes({0: 2})
    (failure,) = bench.failures
    assert isinstance(failure, StalledError)


async def test_drain_returns_when_the_last_input_is_done(make: Make) -> None:
    bench = make()
    await bench.take(0)
    draining = asyncio.create_task(bench.pipeline.drain())
    await _settled()
    assert not draining.done()
    bench.log.sent[0].acknowledge(40)
    await _until(lambda: bool(bench.log.on("out")))
    bench.log.on("out")[0].acknowledge(0)
    await asyncio.wait_for(draining, WAIT_S)
    assert bench.failures == []


async def test_drain_fails_the_worker_when_an_input_does_not_end(make: Make) -> None:
    bench = make(drain_timeout_s=0.01)
    await bench.take(0)
    await asyncio.wait_for(bench.pipeline.drain(), WAIT_S)
    assert isinstance(bench.failures[0], StalledError)


async def test_pipeline_fails_when_a_fetched_record_never_arrives(make: Make) -> None:
    """Upstream would take the hole for a gap in the log and commit over it."""
    bench = make()
    bench.ledger.note_fetched(SOURCE, [0])
    with pytest.raises(DeliveryGapError):
        await bench.take(1)
    assert isinstance(bench.failures[0], DeliveryGapError)


async def test_pipeline_fails_when_one_partition_stands_still_and_others_go_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing behind the one that stands could be committed, and nothing but a restart reads it again."""
    monkeypatch.setattr("streams.kafka.pipeline.WATCH_INTERVAL_S", 0.01)
    bench = make(_quiet, ack_timeout_s=0.3)
    bench.ledger.note_fetched(("in", 1), [7])
    offset = 0
    async with asyncio.timeout(WAIT_S):
        while not bench.failures:
            await bench.take(offset)
            offset += 1
            await asyncio.sleep(0)
    assert isinstance(bench.failures[0], StalledError)
    assert "offset 7" in str(bench.failures[0])


async def test_pipeline_writes_no_regressed_row_when_it_has_failed(make: Make) -> None:
    """As when a changelog record was dropped: the row that is here may be older than the one that is not."""
    known = StoredRow(Stamp(5, 2), b"known", NOW_MS)
    late = StoredRow(Stamp(4, 9), b"late", NOW_MS)
    bench = make(records=(ChangelogRecord(b"k", known, 0), ChangelogRecord(b"k", late, 1)), generation=6)
    bench.pipeline.close_lanes()
    bench.pipeline.fail(DeliveryGapError("dropped"))
    bench.pipeline.open_lanes({0: 7})
    await asyncio.wait_for(bench.pipeline.rewrite_regressed(), WAIT_S)
    assert bench.log.sent == []


async def test_pipeline_writes_a_regressed_row_again_before_any_input(make: Make) -> None:
    newest = StoredRow(Stamp(5, 2), b"new", NOW_MS)
    late = StoredRow(Stamp(4, 9), b"late", NOW_MS)
    bench = make(records=(ChangelogRecord(b"k", newest, 0), ChangelogRecord(b"k", late, 1)), generation=6)
    rewriting = asyncio.create_task(bench.pipeline.rewrite_regressed())
    await _until(lambda: bool(bench.log.sent))
    assert bench.log.sent[0].value == b"new"
    assert stamps.from_headers(bench.log.sent[0].headers) == Stamp(6, 3)
    bench.log.sent[0].acknowledge(2)
    await asyncio.wait_for(rewriting, WAIT_S)


def _two_rows(_event: InputEvent, _read: RowReader) -> Step:
    return Step(rows=[RowWrite(table="t", key=key, value=b"mine") for key in (b"k1", b"k2")], speak=[])


def _give_away_and_take_back(bench: _Bench) -> None:
    """While the partition was another owner's, that one wrote both rows."""
    bench.pipeline.close_lanes()
    bench.ledger.reset([SOURCE])
    theirs = StoredRow(Stamp(8, 9), b"theirs", NOW_MS)
    bench.table.merge(0, [ChangelogRecord(b"k1", theirs, 50), ChangelogRecord(b"k2", theirs, 51)])
    bench.pipeline.open_lanes({0: 10})


async def test_step_that_was_interrupted_loses_when_its_partition_comes_back(make: Make) -> None:
    """Its first row waits for room; the next ones were stamped later, above what another owner had written by then."""
    bench = make(_two_rows)
    bench.log.room = asyncio.Event()
    taking = asyncio.create_task(bench.take(7))
    await _until(lambda: len(bench.log.sent) == 1)
    _give_away_and_take_back(bench)
    bench.log.room.set()
    await asyncio.wait_for(taking, WAIT_S)
    assert [(sent.key, stamps.from_headers(sent.headers)) for sent in bench.log.sent] == [(b"k1", Stamp(3, 1))]
    bench.log.sent[0].acknowledge(52)
    await _settled()
    assert {row.value for _, row in bench.table.partition(0).items()} == {b"theirs"}
    assert (bench.pipeline.in_flight, bench.ledger.committable(SOURCE), bench.failures) == (0, None, [])


async def test_step_stamps_all_its_rows_before_it_sends_the_first(make: Make) -> None:
    """The same row twice is two versions."""

    def twice(_event: InputEvent, _read: RowReader) -> Step:
        return Step(rows=[RowWrite(table="t", key=b"k", value=value) for value in (b"a", b"b")], speak=[])

    bench = make(twice)
    await bench.take(0)
    assert [stamps.from_headers(sent.headers) for sent in bench.log.sent] == [Stamp(3, 1), Stamp(3, 2)]


async def test_regressed_row_is_not_put_over_newer_ones_when_its_lane_was_closed_meanwhile(make: Make) -> None:
    newest, late = StoredRow(Stamp(5, 2), b"new", NOW_MS), StoredRow(Stamp(4, 9), b"late", NOW_MS)
    rows = [newest, late, newest, late]
    keys = [b"k1", b"k1", b"k2", b"k2"]
    records = (ChangelogRecord(key, row, n) for n, (key, row) in enumerate(zip(keys, rows, strict=True)))
    bench = make(records=tuple(records), generation=6)
    rewriting = asyncio.create_task(bench.pipeline.rewrite_regressed())
    await _until(lambda: bool(bench.log.sent))
    _give_away_and_take_back(bench)
    bench.log.sent[0].acknowledge(4)
    await asyncio.wait_for(rewriting, WAIT_S)
    assert len(bench.log.sent) == 1
    assert {row.value for _, row in bench.table.partition(0).items()} == {b"theirs"}


async def test_pipeline_deletes_a_row_by_a_stamped_tombstone(make: Make) -> None:
    def delete(event: InputEvent, _read: RowReader) -> Step:
        return Step(rows=[RowWrite(table="t", key=event.key or b"", value=None)], speak=[])

    bench = make(delete, records=(ChangelogRecord(b"k", StoredRow(Stamp(1, 7), b"x", NOW_MS), 0),))
    await bench.take(0)
    assert (bench.log.sent[0].value, stamps.from_headers(bench.log.sent[0].headers)) == (None, Stamp(3, 8))
    bench.log.sent[0].acknowledge(1)
    await _until(lambda: bench.ledger.committable(SOURCE) == 1)
    assert list(bench.table.live_rows(0)) == []


async def test_row_of_a_key_whose_deletion_was_forgotten_is_the_newest_on_the_changelog(make: Make) -> None:
    """Compaction may not have taken the tombstone yet: a recovery would find it, and drop the row behind it."""
    long_ago_ms = NOW_MS - TOMBSTONE_KEPT_MS - 1
    on_the_log = [ChangelogRecord(b"k", StoredRow(Stamp(3, 8), None, long_ago_ms), 0)]
    other = ChangelogRecord(b"other", StoredRow(Stamp(3, 1), b"x", NOW_MS), 1)
    bench = make(records=(*on_the_log, other), generation=3)
    assert bench.table.due_rows(0, NOW_MS, 10) == []
    assert bench.table.partition(0).get(b"k") is None
    await bench.take(0)
    row = StoredRow(stamps.from_headers(bench.log.sent[0].headers), bench.log.sent[0].value, NOW_MS)
    on_the_log.append(ChangelogRecord(b"k", row, 2))
    recovered = MemoryRows()
    merge_changelog(recovered, on_the_log)
    assert recovered.get(b"k") == row


# --- an input whose schema a registry is being asked for -------------------------------------------------------------


class _Registry:
    """A handler that knows some inputs only once they were looked up, and the wait for that."""

    def __init__(self, *late: bytes) -> None:
        self.unknown = set(late)
        self.answered = {value: asyncio.Event() for value in late}
        self.asked: list[bytes] = []
        self.handled: list[bytes] = []

    def handle(self, event: InputEvent, _read: RowReader) -> Step:
        value = event.value or b""
        if value in self.unknown:
            self.asked.append(value)
            raise SchemaAwaitedError("nobody here knows it", lambda: self._answer_to(value))
        self.handled.append(value)
        return Step(rows=[], speak=[])

    async def _answer_to(self, value: bytes) -> None:
        await self.answered[value].wait()

    def answer(self, value: bytes) -> None:
        self.unknown.discard(value)
        self.answered[value].set()


async def test_partition_keeps_its_order_and_others_go_on_when_an_input_waits_for_its_schema(make: Make) -> None:
    registry = _Registry(b"late")
    bench = make(registry.handle)
    bench.pipeline.open_lanes({0: 3, 1: 3})
    await bench.take(0, value=b"late")
    await bench.take(1, value=b"behind")
    await bench.take(0, value=b"elsewhere", partition=1)
    await _settled()
    assert registry.handled == [b"elsewhere"]
    assert bench.ledger.committable(SOURCE) is None
    registry.answer(b"late")
    await _until(lambda: bench.pipeline.in_flight == 0)
    assert registry.handled == [b"elsewhere", b"late", b"behind"]
    assert bench.ledger.committable(SOURCE) == 2
    await bench.take(2, value=b"after")
    await _until(lambda: bench.ledger.committable(SOURCE) == 3)
    assert bench.failures == []


async def test_each_input_waits_for_its_own_schema_when_several_are_unknown(make: Make) -> None:
    registry = _Registry(b"first", b"second")
    bench = make(registry.handle)
    await bench.take(0, value=b"first")
    await bench.take(1, value=b"between")
    await bench.take(2, value=b"second")
    registry.answer(b"first")
    await _until(lambda: registry.handled == [b"first", b"between"])
    await _settled()
    assert bench.ledger.committable(SOURCE) == 2
    registry.answer(b"second")
    await _until(lambda: bench.ledger.committable(SOURCE) == 3)
    assert registry.handled == [b"first", b"between", b"second"]


async def test_input_that_waits_for_its_schema_is_not_done_when_the_partition_goes_away(make: Make) -> None:
    registry = _Registry(b"late")
    bench = make(registry.handle, max_inputs_in_flight=2)
    await bench.take(0, value=b"late")
    await bench.take(1, value=b"behind")
    bench.pipeline.close_lanes()
    registry.answer(b"late")
    await _settled()
    assert registry.handled == []
    assert bench.ledger.committable(SOURCE) is None
    bench.ledger.reset([SOURCE])
    bench.pipeline.open_lanes({0: 4})
    for offset in range(4):  # more than there are places: those of the abandoned are free again
        await bench.take(offset, value=b"again")
        await _until(lambda: bench.pipeline.in_flight == 0)
    assert registry.handled == [b"again"] * 4


async def test_drain_waits_for_an_input_that_waits_for_its_schema(make: Make) -> None:
    registry = _Registry(b"late")
    bench = make(registry.handle)
    await bench.take(0, value=b"late")
    drained = asyncio.ensure_future(bench.pipeline.drain())
    await _settled()
    assert not drained.done()
    registry.answer(b"late")
    await asyncio.wait_for(drained, WAIT_S)
    assert registry.handled == [b"late"]


async def test_worker_stops_when_the_handler_fails_on_an_input_that_had_waited(make: Make) -> None:
    registry = _Registry(b"late")

    def handle(event: InputEvent, read: RowReader) -> Step:
        registry.handle(event, read)
        raise ZeroDivisionError

    bench = make(handle)
    await bench.take(0, value=b"late")
    registry.answer(b"late")
    await _until(lambda: bench.failures != [])
    assert isinstance(bench.failures[0], ZeroDivisionError)
    assert bench.ledger.committable(SOURCE) is None
