"""A worker that lacks much of its changelog, on a real Apache Kafka: read by batches, past Faust."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP, EventT

from streams.kafka import stamps
from streams.kafka.changelog_catch_up import RECORDS_MIN, Merge, Span, catch_up
from streams.kafka.faust_fences import recovery as faust_recovery
from streams.kafka.faust_fences.recovery import OrderedTableManager
from streams.kafka.faust_fences.tables import ChangelogTable
from streams.kafka.faust_fences.worker_app import WorkerApp
from streams.kafka.stamps import Stamp
from streams.kafka.worker import Worker
from tests.kafka_cluster import ChildProcess, FoundKafka
from tests.support.forgetful_worker import once_records_wait, read_line, slowly
from tests.support.kafka_topics import read_to_end, unique
from tests.support.metric_pages import rise_of
from tests.support.tally_worker import (
    READY_LINE,
    TABLE,
    TallyTopics,
    build_tally,
    ids_of,
    make_topics,
    quick_settings,
    worker_command,
)
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

WAIT_S = 30.0
ROWS = RECORDS_MIN + 500


@contextlib.asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator[None]:
    serving = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.request_stop()
        async with asyncio.timeout(WAIT_S):
            await serving


async def _ready(worker: Worker) -> None:
    await until(lambda: worker.ready.is_set() or worker.crashed is not None, timeout_s=WAIT_S)
    assert worker.crashed is None


async def _write_rows(kafka: FoundKafka, topics: TallyTopics, *, in_transaction: bool = False) -> None:
    """Rows `key-n` of n over all partitions, as owners of generation 5 wrote them."""
    transaction = {"transactional_id": unique("transaction")} if in_transaction else {}
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, **transaction) as producer:
        async with producer.transaction() if in_transaction else contextlib.nullcontext():
            for number in range(ROWS):
                headers = [stamps.to_header(Stamp(5, 1))]
                await producer.send(
                    topics.changelog,
                    str(number).encode(),
                    key=b"key-%d" % number,
                    partition=number % topics.partitions,
                    headers=headers,
                )
        await producer.flush()


def _rows_of(*workers: Worker) -> dict[bytes, list[int]]:
    return {row.key: ids_of(row.value) for worker in workers for row in worker.live_rows(TABLE)}


ALL_ROWS = {b"key-%d" % number: [number] for number in range(ROWS)}


@pytest.fixture
def read_by_faust(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each of Faust's batches had."""
    sizes: list[int] = []
    apply = ChangelogTable.apply_changelog_batch

    def counted(table: ChangelogTable, batch: Iterable[EventT[Any]]) -> None:
        events = list(batch)
        sizes.append(len(events))
        apply(table, events)

    monkeypatch.setattr(ChangelogTable, "apply_changelog_batch", counted)
    return sizes


@pytest.mark.parametrize("local", ["memory", "disk"])
@pytest.mark.parametrize("ends_in_marker", [False, True])
async def test_worker_reads_a_long_changelog_past_faust_when_its_rows_are_gone(
    kafka: FoundKafka, tmp_path: Path, read_by_faust: list[int], *, local: str, ends_in_marker: bool
) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    await _write_rows(kafka, topics, in_transaction=ends_in_marker)
    settings = quick_settings(data_dir=None if local == "memory" else tmp_path)
    worker = build_tally(kafka.bootstrap_servers, topics, settings=settings)
    async with _running(worker):
        await _ready(worker)
        assert _rows_of(worker) == ALL_ROWS
    assert sum(read_by_faust) == 0


async def test_worker_leaves_a_short_changelog_to_faust(kafka: FoundKafka, read_by_faust: list[int]) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topics.changelog, b"1", key=b"key-1", partition=0)
    worker = build_tally(kafka.bootstrap_servers, topics)
    async with _running(worker):
        await _ready(worker)
    assert sum(read_by_faust) == 1


async def test_worker_keeps_the_newest_row_when_a_long_changelog_ends_with_a_frozen_owners_write(
    kafka: FoundKafka,
) -> None:
    topics = make_topics(kafka.bootstrap_servers, partitions=1)
    await _write_rows(kafka, topics)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        late = [stamps.to_header(Stamp(4, 99))]
        await producer.send_and_wait(topics.changelog, b"999999", key=b"key-7", partition=0, headers=late)
    worker, regressed = build_tally(kafka.bootstrap_servers, topics), rise_of("row_regressions", table=TABLE)
    async with _running(worker):
        await _ready(worker)
        assert regressed() == 1
        assert _rows_of(worker) == ALL_ROWS
    of_key = [r.value for r in await read_to_end(kafka.bootstrap_servers, topics.changelog) if r.key == b"key-7"]
    assert [ids_of(value) for value in of_key] == [[7], [999999], [7]]


async def test_workers_have_every_row_when_another_joins_while_one_catches_up(
    kafka: FoundKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    await _write_rows(kafka, topics)
    calls: list[str] = []

    async def held_at_first(options: Mapping[str, Any], spans: Mapping[TP, Span], merge: Merge) -> bool:
        if calls:
            return await catch_up(options, spans, merge)
        calls.append("began")
        try:
            await asyncio.Event().wait()  # until the recovery is told of the rebalance
        finally:
            calls.append("ended")
        return False

    monkeypatch.setattr(faust_recovery, "catch_up", held_at_first)
    first, second = (
        build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(data_dir=tmp_path / name))
        for name in ("first", "second")
    )
    async with _running(first):
        await until(lambda: bool(calls), timeout_s=WAIT_S)
        async with _running(second):
            await _ready(first)
            await _ready(second)
            assert calls == ["began", "ended"]
            everything = frozenset(range(topics.partitions))
            await until(lambda: first._owned | second._owned == everything, timeout_s=WAIT_S)
            assert _rows_of(first, second) == ALL_ROWS


async def test_standby_has_every_row_when_records_wait_while_the_flow_is_resumed(
    kafka: FoundKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed flow clears Faust's queues: the standby's next owner would never have known the rows in there."""
    topics = make_topics(kafka.bootstrap_servers)
    await _write_rows(kafka, topics)

    monkeypatch.setattr(ChangelogTable, "on_changelog_event", slowly)
    monkeypatch.setattr(WorkerApp, "on_lanes_ready", once_records_wait)
    settings = quick_settings(standby_replicas=1)
    first, second = (build_tally(kafka.bootstrap_servers, topics, settings=settings) for _ in range(2))
    everything = frozenset(range(topics.partitions))

    def has_all() -> bool:
        recovery = cast("OrderedTableManager", second.app.tables).recovery
        return second.ready.is_set() and bool(recovery.standby_tps) and recovery.standby_remaining_total() == 0

    async with contextlib.AsyncExitStack() as longer:
        async with _running(first):
            await _ready(first)  # alone at first: else it is chance which of the two reads all rows as their owner
            await longer.enter_async_context(_running(second))
            await until(has_all, timeout_s=WAIT_S)
        await until(lambda: second._owned == everything, timeout_s=WAIT_S)
        assert _rows_of(second) == ALL_ROWS


async def test_standby_ends_when_records_of_the_changelog_are_dropped(kafka: FoundKafka, tmp_path: Path) -> None:
    """Instead of deciding without those rows; whatever runs it starts it again, and they are read again."""
    topics = make_topics(kafka.bootstrap_servers)
    await _write_rows(kafka, topics)
    first = build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(standby_replicas=1))
    command = worker_command(
        kafka.bootstrap_servers, topics, standby_replicas=1, module="tests.support.forgetful_worker"
    )
    forgetful = ChildProcess(command, log_path=tmp_path / "forgetful.log")

    def said(*lines: str) -> bool:
        log = forgetful.log_tail(10_000)
        return any(line in log for line in lines) or not forgetful.is_running()

    next_rows = [read_line(partition, ROWS // topics.partitions) for partition in range(topics.partitions)]
    try:
        async with _running(first):
            await _ready(first)
            forgetful.start()
            await until(lambda: said(READY_LINE), timeout_s=WAIT_S)
            async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
                for partition in range(topics.partitions):  # what was dropped may have been the end: let more follow
                    await producer.send_and_wait(topics.inputs, b"999999", key=b"key-999", partition=partition)
            await until(lambda: said(*next_rows), timeout_s=WAIT_S)
        await until(lambda: not forgetful.is_running(), timeout_s=WAIT_S)  # as it becomes the owner
    finally:
        forgetful.kill()
    assert forgetful.exit_code == 1
    assert "DeliveryGapError" in forgetful.log_tail()
