"""A worker on a real Apache Kafka: start, recovery, clean stop, refusal, and the races that Faust loses."""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery

from streams.kafka import stamps
from streams.kafka.changelog_ledger import ChangelogLedger
from streams.kafka.errors import DeliveryGapError, StalledError, TopicsNotReadyError
from streams.kafka.faust_fences import transport as faust_transport
from streams.kafka.faust_fences.recovery import OrderedRecovery, OrderedTableManager
from streams.kafka.faust_fences.transport import LedgerConsumer, PromptConsumerThread, WorkerTransport
from streams.kafka.faust_fences.worker_app import FaustParts
from streams.kafka.stamps import Stamp
from streams.kafka.step import InputEvent, RowReader, Step, TableRow
from streams.kafka.worker import Worker, build_worker
from streams.kafka_clients.aiokafka_fences.fenced_consumer import MembershipEndedError
from tests.kafka_cluster import FoundKafka
from tests.support.kafka_topics import (
    COMPACTED,
    committed_offsets,
    create_topics,
    delete_topics,
    producing,
    read_to_end,
    unique,
)
from tests.support.metric_pages import rise_of
from tests.support.tally_worker import (
    TABLE,
    Tally,
    TallyTopics,
    build_tally,
    finished,
    ids_of,
    make_topics,
    quick_settings,
)
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

WAIT_S = 30.0
KEYS = 25


async def _until(condition: Callable[[], bool], worker: Worker | None = None) -> None:
    await until(lambda: condition() or (worker is not None and worker.crashed is not None), timeout_s=WAIT_S)


@contextlib.asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator[Worker]:
    """The worker serves; afterwards it is stopped cleanly, whatever it ended with."""
    serving = asyncio.create_task(worker.run())
    started = asyncio.create_task(worker.ready.wait())
    try:
        await asyncio.wait([serving, started], timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert started.done() or serving.done(), "the worker was not ready in time"
        yield worker
    finally:
        started.cancel()
        worker.request_stop()
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(Exception):
                await serving


async def _produce(kafka: FoundKafka, topics: TallyTopics, numbers: range) -> None:
    async with producing(kafka.bootstrap_servers) as producer:
        sent = [
            await producer.send(topics.inputs, str(number).encode(), key=b"key-%d" % (number % KEYS))
            for number in numbers
        ]
        await asyncio.gather(*sent)


async def _work_off(kafka: FoundKafka, topics: TallyTopics, count: int, *, data_dir: Path | None = None) -> Tally:
    """A worker that handles `count` inputs, stops cleanly and is gone."""
    tally = Tally(topics.outputs)
    worker = build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(data_dir=data_dir), handler=tally)
    async with _running(worker):
        await _until(lambda: finished(worker, tally) >= count, worker)
    assert worker.crashed is None
    return tally


def test_worker_on_uvloop_fetches_on_uvloop_and_closes_that_loop_when_it_stops(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    found: dict[str, Any] = {}

    class Thread(PromptConsumerThread):
        async def _fetch(self, *args: Any, **options: Any) -> Any:
            found.update(loop=asyncio.get_running_loop(), thread=threading.current_thread())
            return await super()._fetch(*args, **options)

    async def work_off() -> None:
        await _produce(kafka, topics, range(50))
        await _work_off(kafka, topics, 50)

    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        patch.setattr(faust_transport, "PromptConsumerThread", Thread)
        runner.run(work_off())
    assert isinstance(found["loop"], uvloop.Loop)
    assert found["thread"] is not threading.main_thread()
    assert found["loop"].is_closed()


async def test_worker_has_committed_everything_when_it_was_stopped(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    await _produce(kafka, topics, range(400))
    await _work_off(kafka, topics, 400)
    committed = committed_offsets(kafka.bootstrap_servers, topics.app_id, topics.inputs, topics.partitions)
    assert sum(offset for offset in committed.values() if offset > 0) == 400
    assert len(await read_to_end(kafka.bootstrap_servers, topics.outputs)) == 400
    again = await _work_off(kafka, topics, 0)
    assert again.events == []


async def test_worker_says_what_it_waits_for_until_it_serves_and_after(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    await _produce(kafka, topics, range(200))
    await _work_off(kafka, topics, 200)
    worker = build_tally(kafka.bootstrap_servers, topics)
    said = [worker.faults()]

    def listen() -> bool:
        if worker.faults() != said[-1]:
            said.append(worker.faults())
        return said[-1] == ()

    listening = asyncio.create_task(until(listen, timeout_s=WAIT_S, look_again_s=0.0))
    async with _running(worker):
        await listening
    assert said == [("waiting for the topics",), ("no partitions assigned yet",), ("recovering",), ()]
    assert worker.faults() == ("stopping",)


@pytest.mark.parametrize("local", ["memory", "disk", "disk deleted"])
async def test_worker_reads_its_rows_back_when_started_again(kafka: FoundKafka, tmp_path: Path, local: str) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    data_dir = None if local == "memory" else tmp_path / "rows"
    await _produce(kafka, topics, range(200))
    await _work_off(kafka, topics, 200, data_dir=data_dir)
    handed_over: list[TableRow] = []

    async def hand_over(_numbers: frozenset[int], rows: Iterator[TableRow]) -> None:
        handed_over.extend(rows)

    worker = build_worker(
        app_id=topics.app_id,
        bootstrap_servers=kafka.bootstrap_servers,
        source_topics=[topics.inputs],
        tables=[TABLE],
        partitions=topics.partitions,
        handler=Tally(topics.outputs),
        settings=quick_settings(data_dir=tmp_path / "others" if local == "disk deleted" else data_dir),
        on_partitions_ready=hand_over,
    )
    async with _running(worker):
        assert worker._owned == frozenset(range(topics.partitions))
    rows = {row.key: ids_of(row.value) for row in handed_over}
    assert rows == {b"key-%d" % key: list(range(key, 200, KEYS)) for key in range(KEYS)}


async def test_worker_throws_local_rows_away_when_they_are_ahead_of_the_changelog(
    kafka: FoundKafka, tmp_path: Path
) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    await _produce(kafka, topics, range(100))
    await _work_off(kafka, topics, 100, data_dir=tmp_path)
    delete_topics(kafka.bootstrap_servers, [topics.changelog])
    create_topics(kafka.bootstrap_servers, [topics.changelog], partitions=topics.partitions, config=COMPACTED)
    tally = Tally(topics.outputs)
    worker = build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(data_dir=tmp_path), handler=tally)
    async with _running(worker):
        await _produce(kafka, topics, range(100, 125))
        await _until(lambda: finished(worker, tally) == 25, worker)
    changelog = await read_to_end(kafka.bootstrap_servers, topics.changelog)
    assert sorted(ids_of(record.value) for record in changelog) == [[number] for number in range(100, 125)]


async def test_worker_marks_inputs_as_possible_replays_when_they_were_there_before_it(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    await _produce(kafka, topics, range(50))
    tally = Tally(topics.outputs)
    worker = build_tally(kafka.bootstrap_servers, topics, handler=tally)
    async with _running(worker):
        await _until(lambda: finished(worker, tally) == 50, worker)
        await _produce(kafka, topics, range(50, 100))
        await _until(lambda: finished(worker, tally) == 100, worker)
    assert {int(event.value or b""): event.possible_replay for event in tally.events} == {
        number: number < 50 for number in range(100)
    }


async def test_worker_refuses_to_start_when_a_topic_is_missing_or_has_other_partitions(kafka: FoundKafka) -> None:
    app_id = unique("tally")
    topics = TallyTopics(app_id=app_id, inputs=f"{app_id}-in", outputs=f"{app_id}-out", partitions=4)
    create_topics(kafka.bootstrap_servers, [topics.inputs], partitions=3)
    worker = build_tally(kafka.bootstrap_servers, topics)
    with pytest.raises(TopicsNotReadyError) as refused:
        await worker.run()
    assert f"{topics.inputs} has 3 partitions, not 4" in str(refused.value)
    assert f"{topics.changelog} is missing" in str(refused.value)


async def test_worker_stops_and_commits_nothing_of_an_input_when_its_handler_raises(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    await _produce(kafka, topics, range(20))

    class Poisoned(Tally):
        def __call__(self, event: InputEvent, read: RowReader) -> Step:
            if event.value == b"13":
                raise ZeroDivisionError
            return super().__call__(event, read)

    worker = build_tally(kafka.bootstrap_servers, topics, handler=Poisoned(topics.outputs))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(worker.run(), WAIT_S)
    committed = committed_offsets(kafka.bootstrap_servers, topics.app_id, topics.inputs, 1)
    assert committed[0] <= 13
    await _work_off(kafka, topics, 20 - max(committed[0], 0))
    answers = {record.value for record in await read_to_end(kafka.bootstrap_servers, topics.outputs)}
    assert {int(answer.split(b":")[0]) for answer in answers} == set(range(20))


async def test_worker_keeps_the_newest_row_and_writes_it_again_when_a_frozen_owner_wrote_last(
    kafka: FoundKafka,
) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    await _produce(kafka, topics, range(KEYS * 2))
    await _work_off(kafka, topics, KEYS * 2)
    async with producing(kafka.bootstrap_servers) as producer:
        late = [stamps.to_header(Stamp(0, 99))]
        await producer.send_and_wait(topics.changelog, b"999", key=b"key-7", partition=0, headers=late)
    worker, regressed = build_tally(kafka.bootstrap_servers, topics), rise_of("row_regressions", table=TABLE)
    async with _running(worker):
        assert regressed() == 1
    of_key = [r for r in await read_to_end(kafka.bootstrap_servers, topics.changelog) if r.key == b"key-7"]
    assert [ids_of(record.value) for record in of_key[-2:]] == [[999], [7, 7 + KEYS]]
    rows = [stamps.from_headers(record.headers) for record in of_key]
    assert rows[-1] == max(rows)


async def test_worker_reads_what_its_successor_wrote_when_it_wrote_behind_it_as_a_frozen_owner(
    kafka: FoundKafka, tmp_path: Path
) -> None:
    """A worker that was frozen, wrote late and was given its partition back granted a key twice: the fault run."""
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    tally = Tally(topics.outputs)
    worker = build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(data_dir=tmp_path), handler=tally)
    async with _running(worker):
        await _produce(kafka, topics, range(KEYS))
        await _until(lambda: finished(worker, tally) == KEYS, worker)
        async with producing(kafka.bootstrap_servers) as successor:
            stamp = stamps.to_header(Stamp(9, 1))
            await successor.send_and_wait(topics.changelog, b"77", key=b"theirs", partition=0, headers=[stamp])
        await _produce(kafka, topics, range(KEYS, 2 * KEYS))
        await _until(lambda: finished(worker, tally) == 2 * KEYS, worker)

    handed_over: list[TableRow] = []

    async def hand_over(_numbers: frozenset[int], rows: Iterator[TableRow]) -> None:
        handed_over.extend(rows)

    again = build_worker(
        app_id=topics.app_id,
        bootstrap_servers=kafka.bootstrap_servers,
        source_topics=[topics.inputs],
        tables=[TABLE],
        partitions=1,
        handler=Tally(topics.outputs),
        settings=quick_settings(data_dir=tmp_path),
        on_partitions_ready=hand_over,
    )
    async with _running(again):
        rows = {row.key: ids_of(row.value) for row in handed_over}
    assert rows == {b"key-%d" % key: [key, key + KEYS] for key in range(KEYS)} | {b"theirs": [77]}


async def test_worker_recovers_when_the_changelog_ends_in_a_transaction_marker(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    await _end_changelog_in_a_marker(kafka, topics)
    worker = build_tally(kafka.bootstrap_servers, topics)
    async with _running(worker):
        assert worker.ready.is_set()


class _StockEnd(OrderedRecovery):
    """Waits for a record at the last offset, as upstream does."""

    def _came_all(self, tp: object, now: object, *, fetches: int) -> bool:
        self.looked = True
        return False


class _StockEndManager(OrderedTableManager):
    recovery_type: type[Recovery] = _StockEnd


async def test_recovery_hangs_when_nobody_passes_over_a_transaction_marker(kafka: FoundKafka) -> None:
    """What the override is for: without it the same worker is not ready when it has long looked at the end."""
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    await _end_changelog_in_a_marker(kafka, topics)
    worker = build_tally(kafka.bootstrap_servers, topics, parts=FaustParts(table_manager=_StockEndManager))
    serving = asyncio.create_task(worker.run())
    recovery = cast("OrderedTableManager", worker.app.tables).recovery
    await _until(lambda: getattr(recovery, "looked", False), worker)
    assert not worker.ready.is_set()
    worker.request_stop()
    await asyncio.wait_for(serving, WAIT_S)


async def _end_changelog_in_a_marker(kafka: FoundKafka, topics: TallyTopics) -> None:
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("transaction")) as producer,
        producer.transaction(),
    ):
        await producer.send(topics.changelog, b"1", key=b"key-1", partition=0)


async def test_worker_ends_when_it_fails_before_its_first_recovery_is_over(
    kafka: FoundKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust waits for the end of that recovery, which does not come."""
    monkeypatch.setattr(ChangelogLedger, "lacks", lambda *_args, **_offsets: True)
    worker = build_tally(kafka.bootstrap_servers, make_topics(kafka.bootstrap_servers, partitions=1))
    with pytest.raises(DeliveryGapError):
        await asyncio.wait_for(worker.run(), WAIT_S)


async def _no_heartbeat() -> bool:
    raise GroupAuthorizationFailedError("the rights of the group were taken away")


async def _no_join(_subscription: object) -> bool:
    raise AssertionError("a defect of an assignor")


@pytest.mark.parametrize("failing", ["heartbeat", "join"])
async def test_worker_without_a_partition_ends_when_it_is_no_member_of_its_group_any_more(
    kafka: FoundKafka, failing: str
) -> None:
    """It fetches nothing, and only a fetch would hear of it: it would never be given what the other one leaves."""
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    first, second = (build_tally(kafka.bootstrap_servers, topics) for _ in range(2))
    async with _running(first), _running(second):
        await _until(lambda: len(first._owned) + len(second._owned) == 1)
        idle = second if first._owned else first
        consumer: Any = idle.app.consumer
        coordinator = consumer._thread._consumer._coordinator
        if failing == "heartbeat":
            coordinator._do_heartbeat = _no_heartbeat
        else:
            coordinator._do_rejoin_group = _no_join
            consumer._thread.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)
        await _until(lambda: False, idle)
    assert isinstance(idle.crashed, MembershipEndedError)


LATE_S = 1.0


class _SlowSeekConsumer(LedgerConsumer):
    """A broker that is slow to answer OffsetFetch: the answer comes when records wait already, or after `LATE_S`."""

    async def perform_seek(self) -> None:
        await super().perform_seek()
        with contextlib.suppress(TimeoutError):
            await until(self.app.records_waiting, timeout_s=LATE_S)


class _SlowSeekTransport(WorkerTransport):
    Consumer = _SlowSeekConsumer


STOCK_TRIES = 6


class _StockOrder(OrderedRecovery):
    """Un-pauses the sources before it seeks, and clears the queues after, as upstream does."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        consumer = self.app.consumer
        self._set_recovery_ended()
        await self.app.on_lanes_ready(generation_id)
        consumer.resume_partitions({tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)})
        await consumer.perform_seek()
        self.completed.set()
        self.app.flow_control.resume()
        consumer.resume_flow()
        await self.app.start_fetching()
        self.app.on_worker_ready()


class _StockOrderManager(OrderedTableManager):
    recovery_type: type[Recovery] = _StockOrder


async def _recover_late(kafka: FoundKafka, table_manager: type[TableManager]) -> tuple[BaseException | None, int]:
    """One recovery while committed offsets come late: what stopped the worker, and how many inputs were answered."""
    topics = make_topics(kafka.bootstrap_servers)
    await _produce(kafka, topics, range(KEYS))
    await _work_off(kafka, topics, KEYS)  # there must be rows to recover, or nothing is fetched before the end of it
    await _produce(kafka, topics, range(KEYS, 400))
    parts = FaustParts(transport=_SlowSeekTransport, table_manager=table_manager)
    # One input in flight, so that records wait in Faust's queue; and a dropped tail of the log is soon missed.
    slow = dataclasses.replace(quick_settings(), max_inputs_in_flight=1, ack_timeout_s=4.0)
    tally = Tally(topics.outputs)
    worker = build_tally(kafka.bootstrap_servers, topics, settings=slow, handler=tally, parts=parts)
    async with _running(worker):
        await _until(lambda: finished(worker, tally) >= 400 - KEYS, worker)
    answers = await read_to_end(kafka.bootstrap_servers, topics.outputs)
    return worker.crashed, len({record.value for record in answers})


async def test_worker_drops_no_record_when_the_committed_offsets_come_late(kafka: FoundKafka) -> None:
    assert await _recover_late(kafka, OrderedTableManager) == (None, 400)


async def test_worker_stops_when_records_are_dropped_in_the_order_of_stock_faust(kafka: FoundKafka) -> None:
    """With upstream's order records are dropped in most recoveries; the ledger notices each time, and loses none."""
    for _ in range(STOCK_TRIES):
        crashed, _ = await _recover_late(kafka, _StockOrderManager)
        if crashed is not None:
            assert isinstance(crashed, DeliveryGapError | StalledError)
            return
    pytest.fail(f"stock Faust dropped nothing in {STOCK_TRIES} recoveries: the override may go")
