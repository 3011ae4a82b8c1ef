"""Each override of Faust, beside what Faust does without it. When a `stock` half fails, upstream has moved."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest
import uvloop
from aiokafka import TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.tables.recovery import Recovery, ServiceStopped
from faust.transport.drivers.aiokafka import Consumer, Producer
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from schemas import topics
from streams.kafka import stamps
from streams.kafka.changelog_ledger import NOTHING, ChangelogLedger
from streams.kafka.errors import DeliveryGapError
from streams.kafka.faust_fences import recovery as faust_recovery
from streams.kafka.faust_fences.recovery import OrderedRecovery
from streams.kafka.faust_fences.tables import ChangelogTable
from streams.kafka.faust_fences.transport import IdempotentProducer, LedgerConsumer, Look
from streams.kafka.faust_fences.worker_app import MAX_POLL_INTERVAL_S, FaustParts, WorkerApp, build_app
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.worker_settings import WorkerSettings
from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadingEndedError, ReadPlace
from tests.support.waiting import until

SOURCE = TP("orders", 0)
WAIT_S = 5.0
YEAR_MS = 365 * 24 * 3_600_000


def _built() -> WorkerApp:
    return build_app(
        app_id="unit",
        bootstrap_servers="127.0.0.1:1",
        partitions=1,
        settings=WorkerSettings(),
        parts=FaustParts(),
    )


@pytest.fixture
async def app() -> AsyncIterator[WorkerApp]:
    built = _built()
    built.ledger = OffsetLedger()
    built.changelog_ledger = ChangelogLedger()
    built.source_topics = frozenset({SOURCE.topic})
    cast("Any", built.topics)._acking_topics.add(SOURCE.topic)
    yield built
    consumer: Any = built._consumer
    if consumer is not None:
        consumer._thread.thread_loop.close()  # a consumer that never starts leaves its thread's loop behind


def _consumer(app: WorkerApp, kind: type[Consumer]) -> Any:
    consumer = kind(
        app.transport,
        callback=app.topics.on_message,
        on_partitions_revoked=app._on_partitions_revoked,
        on_partitions_assigned=app._on_partitions_assigned,
    )
    app.consumer = consumer
    return consumer


def _message(offset: int) -> ConsumerMessage:
    return ConsumerMessage(
        SOURCE.topic,
        SOURCE.partition,
        offset,
        timestamp=0.0,
        timestamp_type=0,
        headers=[],
        key=b"k",
        value=b"v",
        checksum=None,
    )


@pytest.mark.parametrize(("start", "warnings"), [(faust.App.on_rebalance_start, 2), (WorkerApp.on_rebalance_start, 0)])
async def test_rebalance_without_sensors_is_no_warning(
    app: WorkerApp, caplog: pytest.LogCaptureFixture, start: Callable[[WorkerApp], None], warnings: int
) -> None:
    start(app)
    app.on_rebalance_return()
    app.on_rebalance_end()
    assert len([each for each in caplog.records if "sensor state" in each.message]) == warnings


async def test_stock_consumer_commits_past_an_input_in_flight_when_a_later_one_is_acked(app: WorkerApp) -> None:
    stock = _consumer(app, Consumer)
    stock._committed_offset[SOURCE] = 10
    stock.ack(_message(11))  # 10 is still in flight
    assert stock._new_offset(SOURCE) == 12


async def test_ledger_consumer_commits_nothing_past_an_input_in_flight_when_a_later_one_is_done(
    app: WorkerApp,
) -> None:
    consumer = _consumer(app, LedgerConsumer)
    app.ledger.note_fetched(SOURCE, [10, 11])
    for offset in (10, 11):
        assert app.ledger.note_arrival(SOURCE, offset)
    app.ledger.note_done(SOURCE, 11)
    assert consumer._new_offset(SOURCE) is None
    app.ledger.note_done(SOURCE, 10)
    assert consumer._new_offset(SOURCE) == 12


async def test_ledger_consumer_commits_nothing_when_faust_alone_acks_a_message(app: WorkerApp) -> None:
    consumer = _consumer(app, LedgerConsumer)
    assert consumer.ack(_message(10))
    assert consumer._new_offset(SOURCE) is None


class _RefusedCommit:
    """The broker says no; `flush` has nothing to do."""

    @staticmethod
    def assignment() -> set[TP]:
        return {SOURCE}

    @staticmethod
    async def commit(_offsets: Mapping[TP, int]) -> bool:
        return False


def _refuse_commits(consumer: Any, app: WorkerApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "assignment", _RefusedCommit.assignment)
    monkeypatch.setattr(consumer, "_commit", _RefusedCommit.commit)
    monkeypatch.setattr(app.producer, "flush", _nothing)


async def _nothing() -> None:
    return None


async def test_stock_consumer_believes_in_a_commit_when_it_failed(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = _consumer(app, Consumer)
    _refuse_commits(stock, app, monkeypatch)
    assert not await stock._commit_offsets({SOURCE: 12})
    assert stock._committed_offset[SOURCE] == 12


async def test_ledger_consumer_tries_a_commit_again_when_it_failed(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = _consumer(app, LedgerConsumer)
    _refuse_commits(consumer, app, monkeypatch)
    assert not await consumer._commit_offsets({SOURCE: 12})
    assert consumer._committed_offset[SOURCE] is None
    assert consumer._should_commit(SOURCE, 12)


async def test_idempotent_producer_asks_for_idempotence_when_stock_does_not(app: WorkerApp) -> None:
    assert "enable_idempotence" not in Producer(app.transport)._settings_extra()
    assert IdempotentProducer(app.transport)._settings_extra() == {"acks": "all", "enable_idempotence": True}


async def test_consumer_of_the_app_is_the_ledger_consumer(app: WorkerApp) -> None:
    assert isinstance(app.consumer, LedgerConsumer)
    assert isinstance(app.producer, IdempotentProducer)
    assert isinstance(cast("Any", app.tables).recovery, OrderedRecovery)


async def test_worker_without_a_partition_stays_in_its_group_however_long_it_fetches_nothing(app: WorkerApp) -> None:
    """Else it leaves, and takes no partition over when another worker goes (`test_kafka_clients_membership`)."""
    consumer = _consumer(app, LedgerConsumer)._thread._create_worker_consumer(app.transport)
    await consumer.stop()
    assert consumer._max_poll_interval_ms == MAX_POLL_INTERVAL_S * 1000 > YEAR_MS


class _RecordingConsumer:
    """Notes in which order a recovery does what."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def assignment(self) -> set[TP]:
        return {SOURCE}

    def resume_flow(self) -> None:
        self.calls.append("resume_flow")

    def resume_partitions(self, _partitions: set[TP]) -> None:
        self.calls.append("resume_partitions")

    async def perform_seek(self) -> None:
        self.calls.append("perform_seek")


class _QuietApp:
    """As much of an app as the end of a recovery touches."""

    def __init__(self, consumer: _RecordingConsumer):
        self.consumer = consumer
        self.consumer_generation_id = 7
        self.given_away = False
        self.conf = SimpleNamespace(stream_recovery_delay=0.0, broker_request_timeout=1.0)
        self.flow_control = SimpleNamespace(resume=lambda: consumer.calls.append("clear_queues"))
        self.on_rebalance_complete = SimpleNamespace(send=_nothing)
        self._fetcher = SimpleNamespace(maybe_start=_nothing)
        self.start_fetching = _nothing
        self.assignor = SimpleNamespace(assigned_standbys=lambda: {SOURCE})

    def is_assigned(self, generation: int) -> bool:
        return generation == self.consumer_generation_id and not self.given_away

    async def on_lanes_ready(self, _generation: int) -> None:
        self.consumer.calls.append("lanes_ready")

    def on_worker_ready(self) -> None:
        self.consumer.calls.append("worker_ready")

    def on_rebalance_end(self) -> None:
        """Faust's span."""


class _NoTables(dict[str, Any]):
    changelog_topics = frozenset[str]()

    def on_actives_ready(self) -> None:
        """Faust's flag."""


async def _end_of_recovery(kind: type[Recovery]) -> list[str]:
    consumer = _RecordingConsumer()
    recovery = kind(cast("Any", _QuietApp(consumer)), cast("Any", _NoTables()))
    await recovery.on_recovery_completed(7)
    return consumer.calls


async def test_stock_recovery_lets_records_flow_before_it_clears_the_queues() -> None:
    """What is fetched in between is lost."""
    calls = await _end_of_recovery(Recovery)
    assert calls == ["resume_partitions", "perform_seek", "clear_queues", "resume_flow"]


async def test_ordered_recovery_clears_the_queues_before_records_may_flow() -> None:
    calls = await _end_of_recovery(OrderedRecovery)
    assert calls == [
        "perform_seek",
        "lanes_ready",
        "clear_queues",
        "resume_flow",
        "resume_partitions",
        "worker_ready",
    ]


class _BufferedTable:
    """Notes what of its changelog is applied."""

    def __init__(self, calls: list[str]):
        self._calls = calls

    def apply_changelog_batch(self, batch: list[Any]) -> None:
        self._calls.append(f"applied {batch}")


async def test_ordered_recovery_applies_what_is_in_a_buffer_before_inputs_are_decided() -> None:
    """Faust counts it as recovered; without this its owner would decide without those rows."""
    consumer = _RecordingConsumer()
    recovery = OrderedRecovery(cast("Any", _QuietApp(consumer)), cast("Any", _NoTables()))
    recovery.buffers[cast("Any", _BufferedTable(consumer.calls))].append(cast("Any", "event"))
    await recovery.on_recovery_completed(7)
    assert consumer.calls[:3] == ["applied ['event']", "perform_seek", "lanes_ready"]


class _RevokedDuringLanes(_QuietApp):
    """The group takes the partitions away, and the next assignment is still to come: the generation is the old one."""

    async def on_lanes_ready(self, generation: int) -> None:
        await super().on_lanes_ready(generation)
        self.given_away = True


async def test_ordered_recovery_lets_nothing_flow_when_its_assignment_is_over() -> None:
    """Else records of the next assignment flow before its seek and lanes, and are taken without ever being done."""
    consumer = _RecordingConsumer()
    recovery = OrderedRecovery(cast("Any", _RevokedDuringLanes(consumer)), cast("Any", _NoTables()))
    await recovery.on_recovery_completed(7)
    assert consumer.calls == ["perform_seek", "lanes_ready"]


async def test_app_knows_that_an_assignment_is_over_before_the_next_one_comes(app: WorkerApp) -> None:
    app.consumer_generation_id = 7
    assert app.is_assigned(7)
    app.revocations += 1
    assert not app.is_assigned(7)
    app.assigned_after, app.consumer_generation_id = app.revocations, 8
    assert (app.is_assigned(7), app.is_assigned(8)) == (False, True)


class _Places:
    """aiokafka's consumer, as far as a fetch touches it: it remembers where it was told to go on."""

    _max_poll_records = 10
    begin = 0

    def __init__(self) -> None:
        self.sought: list[tuple[TP, int | str]] = []
        self._fetcher = SimpleNamespace(error_future=asyncio.get_running_loop().create_future(), _closed=False)
        self._subscription = SubscriptionState()
        self._subscription.assign_from_user({TopicPartition(*SOURCE)})
        state = self._subscription.subscription.assignment.state_value(TopicPartition(*SOURCE))
        state.reset_to(6)
        state.lso, state.highwater = 6, 9

    def seek(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    async def seek_to_beginning(self, tp: TP) -> None:
        self.sought.append((tp, "beginning"))

    async def beginning_offsets(self, partitions: list[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, self.begin)


def _fetching(app: WorkerApp, monkeypatch: pytest.MonkeyPatch, *, revoked_during_fetch: bool) -> tuple[Any, _Places]:
    """Return a thread whose fetch finds one record, and its consumer."""
    thread = _consumer(app, LedgerConsumer)._thread
    places = _Places()

    async def fetched(*_: object, **__: object) -> dict[TP, list[ConsumerMessage]]:
        app.revocations += revoked_during_fetch
        return {SOURCE: [_message(5)]}

    monkeypatch.setattr(thread, "_consumer", places)
    monkeypatch.setattr(thread, "_fetch_records", fetched)
    return thread, places


def _place(position: int) -> ReadPlace:
    return ReadPlace(position=position, stable_end=position, log_end=position)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.SelectorEventLoop])
def test_consumer_thread_runs_a_loop_of_the_workers_kind(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def kinds() -> tuple[type, type, type]:
        stock, ours = (_consumer(_built(), kind)._thread for kind in (Consumer, LedgerConsumer))
        stock.thread_loop.close()
        ours.thread_loop.close()
        assert ours._close_thread_loop_on_stop
        return type(asyncio.get_running_loop()), type(ours.thread_loop), type(stock.thread_loop)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        own, of_thread, of_stock_thread = runner.run(kinds())
    assert own is of_thread
    assert (own is of_stock_thread) is (new_loop is asyncio.SelectorEventLoop)


async def test_thread_tells_how_far_it_has_read_once_when_a_fetch_has_ended(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, _ = _fetching(app, monkeypatch, revoked_during_fetch=False)
    await thread._fetch(app.revocations, {SOURCE}, 1.0)
    look = thread.take_look()
    assert look == (app.revocations, {SOURCE: ReadPlace(position=6, stable_end=6, log_end=9)})
    assert look.places[SOURCE].waits
    await thread._fetch(app.revocations, {SOURCE}, 1.0)
    assert thread.take_look() is None  # once a second


@pytest.mark.parametrize(
    ("wanted", "unwanted", "revocations", "committable"),
    [
        pytest.param({SOURCE}, {}, 0, 8, id="markers behind what is done"),
        pytest.param(None, {}, 0, 8, id="all are fetched from"),
        pytest.param(set(), {}, 0, None, id="it was paused: the position is nobody's"),
        pytest.param({SOURCE}, {SOURCE: []}, 0, None, id="its records are read again"),
        pytest.param({SOURCE}, {}, 1, None, id="another assignment's"),
    ],
)
async def test_position_is_committed_only_when_its_fetch_counts(
    app: WorkerApp,
    monkeypatch: pytest.MonkeyPatch,
    wanted: set[TP] | None,
    unwanted: dict[TP, list[object]],
    revocations: int,
    committable: int | None,
) -> None:
    consumer = _consumer(app, LedgerConsumer)
    look = Look(app.revocations + revocations, {SOURCE: _place(8)})
    monkeypatch.setattr(consumer._thread, "_look", look)
    consumer._note_places(wanted, unwanted)
    assert consumer._new_offset(SOURCE) == committable


async def test_thread_fetches_for_the_assignment_that_asked(app: WorkerApp, monkeypatch: pytest.MonkeyPatch) -> None:
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=False)
    records = await thread._fetch(app.revocations, {SOURCE}, 1.0)
    assert [each.offset for each in records[SOURCE]] == [5]
    assert places.sought == []


async def test_thread_fetches_nothing_when_the_assignment_that_asked_is_over(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=False)
    asked_at = app.revocations
    app.revocations += 1
    assert await thread._fetch(asked_at, {SOURCE}, 1.0) == {}
    assert places.sought == []


async def test_thread_goes_back_to_where_the_fetch_began_when_the_assignment_ends_meanwhile(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=True)
    assert await thread._fetch(app.revocations, {SOURCE}, 1.0) == {}
    assert places.sought == [(SOURCE, 5)]


@pytest.mark.parametrize("revoked_during_fetch", [False, True])
async def test_thread_settles_a_partition_without_a_place_only_for_the_assignment_that_asked(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch, *, revoked_during_fetch: bool
) -> None:
    """Else it may go back to the beginning behind the seek of the next assignment's recovery."""
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=False)

    async def nowhere(*_: object, **__: object) -> None:
        app.revocations += revoked_during_fetch
        raise NoOffsetForPartitionError(SOURCE)

    monkeypatch.setattr(thread, "_fetch_records", nowhere)
    assert await thread._fetch(app.revocations, {SOURCE}, 1.0) == {}
    assert places.sought == ([] if revoked_during_fetch else [(SOURCE, "beginning")])


@pytest.mark.parametrize(
    ("last_fetched", "begin", "ends"),
    [
        pytest.param(None, 0, False, id="nothing was read"),
        pytest.param(5, 0, True, id="it begins at what was read"),
        pytest.param(5, 9, False, id="deleted unread, and no loss"),
    ],
)
async def test_worker_ends_when_what_it_has_read_was_made_anew(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch, last_fetched: int | None, begin: int, *, ends: bool
) -> None:
    """Else the ledger passes over the new records, whose offsets it knows, and commits past them."""
    monkeypatch.setattr(topics, "is_perishable", lambda _name: True)
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=False)
    places.begin = begin

    async def past_the_end(*_: object, **__: object) -> None:
        raise OffsetOutOfRangeError({SOURCE: 6})

    monkeypatch.setattr(thread, "_fetch_records", past_the_end)
    if last_fetched is not None:
        app.ledger.note_fetched((SOURCE.topic, SOURCE.partition), [last_fetched])
    with pytest.raises(ReadingEndedError) if ends else nullcontext():
        assert await thread._fetch(app.revocations, {SOURCE}, 1.0) == {}
    assert places.sought == [(SOURCE, "beginning")]


async def test_thread_says_so_when_its_consumer_fetches_no_more(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=False)
    places._fetcher.error_future.cancel()
    with pytest.raises(ReadingEndedError):
        await thread._fetch(app.revocations, {SOURCE}, 1.0)
    places._fetcher._closed = True
    assert await thread._fetch(app.revocations, {SOURCE}, 1.0), "stopped on purpose: Faust has its own word for it"


@pytest.mark.parametrize(("committed", "place"), [(None, "beginning"), (3, 3)])
async def test_records_of_a_paused_source_are_read_again_from_what_is_committed(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch, committed: int | None, place: int | str
) -> None:
    """Never from where the batch began: earlier ones may have been abandoned, and sought again already."""
    thread, places = _fetching(app, monkeypatch, revoked_during_fetch=False)
    consumer = cast("LedgerConsumer", app.consumer)
    consumer._committed_offset[SOURCE] = committed
    await consumer._read_again({SOURCE: [_message(5)]}, app.revocations)
    await consumer._read_again({SOURCE: [_message(5)]}, app.revocations - 1)
    assert places.sought == [(SOURCE, place)]
    assert thread._consumer is places


async def test_stock_recovery_takes_a_step_that_is_too_long_for_a_stop() -> None:
    """It ends without a word then, and the worker is never ready."""
    with pytest.raises(ServiceStopped):
        await _end_of_long_step(Recovery)


async def test_ordered_recovery_waits_for_a_step_when_it_takes_long() -> None:
    assert await _end_of_long_step(OrderedRecovery)


async def _end_of_long_step(kind: type[Recovery]) -> bool:
    recovery = kind(cast("Any", _QuietApp(_RecordingConsumer())), cast("Any", _NoTables()))
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, done.set)
    await recovery._wait(done.wait(), timeout=0.01)
    return done.is_set()


class _FailingPipeline:
    """As much of a pipeline as a table touches."""

    def __init__(self, failures: list[BaseException]):
        self._failures = failures

    @property
    def failure(self) -> BaseException | None:
        return self._failures[0] if self._failures else None

    def fail(self, failure: BaseException) -> None:
        self._failures.append(failure)


def _table(app: WorkerApp) -> tuple[ChangelogTable, list[BaseException]]:
    """Return a table in memory whose changelog's partition 0 was read to offset 12, and what failed its worker."""
    table = ChangelogTable(app, RowTable("tally", data_dir=None, now_ms=lambda: 0), partitions=2)
    failures: list[BaseException] = []
    app.pipeline = cast("Any", _FailingPipeline(failures))
    changelog = TP(table.changelog_topic_name, 0)
    app.changelog_ledger.note_applied(changelog, NOTHING)
    app.changelog_ledger.note_seek(changelog, 0)
    app.changelog_ledger.note_fetched(changelog, [10, 11, 12])
    return table, failures


def _row_event(table: ChangelogTable, offset: int, key: bytes | None = b"k") -> Any:
    message = SimpleNamespace(
        topic=table.changelog_topic_name,
        partition=0,
        offset=offset,
        key=key,
        value=b"%d" % offset,
        headers=[stamps.to_header(Stamp(1, offset))],
        timestamp=0.0,
    )
    return SimpleNamespace(message=message)


async def _assign(table: ChangelogTable, *partitions: int) -> None:
    await table.on_rebalance({TP(table.changelog_topic_name, each) for each in partitions}, set(), set())


async def test_table_applies_nothing_when_its_partition_went_away(app: WorkerApp) -> None:
    """Rows in memory would begin in the middle, and the next assignment would read on behind them."""
    table, failures = _table(app)
    await _assign(table, 0)
    table.apply_changelog_batch([_row_event(table, 10)])
    await _assign(table, 1)
    table.apply_changelog_batch([_row_event(table, 11)])  # it waited in a buffer
    await _assign(table, 0)
    assert table.persisted_offset(TP(table.changelog_topic_name, 0)) is None
    assert failures == []


async def test_table_fails_its_worker_when_a_record_that_was_fetched_never_came(app: WorkerApp) -> None:
    table, failures = _table(app)
    await _assign(table, 0)
    table.apply_changelog_batch([_row_event(table, 10)])
    with pytest.raises(DeliveryGapError):
        table.apply_changelog_batch([_row_event(table, 12)])
    table.apply_changelog_batch([_row_event(table, 12)])  # Faust flushes once more when it stops
    assert [type(each) for each in failures] == [DeliveryGapError]
    assert table.persisted_offset(TP(table.changelog_topic_name, 0)) == 10


async def test_table_passes_over_a_record_without_a_key(app: WorkerApp) -> None:
    table, failures = _table(app)
    await _assign(table, 0)
    for offset, key in ((10, b"k"), (11, None), (12, b"k")):
        table.apply_changelog_batch([_row_event(table, offset, key)])
    assert table.rows.partition(0).applied_offset == 12
    assert failures == []


class _Broker:
    """The consumer of a worker in recovery: past the changelog's end, and a fetch is answered when the test says so."""

    def __init__(self, table: ChangelogTable, recovery: OrderedRecovery, changelog: TP):
        self._table, self._recovery, self._changelog = table, recovery, changelog
        self.answers: list[list[int]] = []
        """Offsets that each next question for the position finds fetched; then none."""
        self.asked = 0

    def assignment(self) -> set[TP]:
        return {self._changelog}

    async def position(self, _tp: TP) -> int:
        self.asked += 1
        self.fetched(self.answers.pop(0) if self.answers else [])
        return END

    def fetched(self, offsets: list[int]) -> None:
        app = self._recovery.app
        app.changelog_ledger.note_fetched(self._changelog, offsets)
        app.fetches_ended += 1
        for offset in offsets:
            event = _row_event(self._table, offset)
            event.message.tp = self._changelog
            self._recovery.tables.changelog_queue.put_nowait_enhanced(
                event, on_pressure_high=lambda: None, on_pressure_drop=lambda: None
            )


END = 100
RECORDS = [*range(END)]


def _recovering(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> tuple[OrderedRecovery, _Broker, list[BaseException]]:
    """Return a recovery that has read nothing of `END` offsets, its broker, and what failed its worker."""
    monkeypatch.setattr(faust_recovery, "POSITION_CHECK_INTERVAL_S", 0)
    table, failures = _table(app)
    app.changelog_ledger = ChangelogLedger()
    app.tables.add(table)
    changelog = TP(table.changelog_topic_name, 0)
    recovery = OrderedRecovery(app, app.tables)
    broker = _Broker(table, recovery, changelog)
    monkeypatch.setattr(app, "_consumer", broker)
    recovery.active_tps.add(changelog)
    recovery.tp_to_table[changelog] = table
    recovery.active_highwaters[changelog] = END - 1
    recovery.active_offsets[changelog] = NOTHING
    app.changelog_ledger.note_applied(changelog, NOTHING)
    app.changelog_ledger.note_seek(changelog, 0)
    app.flow_control.resume()
    recovery._set_recovery_started()
    return recovery, broker, failures


@asynccontextmanager
async def _running(task: Any, recovery: OrderedRecovery) -> AsyncIterator[None]:
    """One of the recovery's own tasks."""
    running = asyncio.create_task(task.fun(recovery))
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("answers", [[RECORDS], [[], RECORDS], [[], [], RECORDS[:50], RECORDS[50:]]])
async def test_recovery_goes_on_when_a_fetch_is_answered_while_it_asks_for_the_position(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch, answers: list[list[int]]
) -> None:
    """The position is past the end by then, and the records are in the queue: an owner would decide without them."""
    recovery, broker, failures = _recovering(app, monkeypatch)
    (table,) = app.tables.values()
    await _assign(cast("ChangelogTable", table), 0)
    broker.answers = answers
    async with _running(OrderedRecovery._end_at_position, recovery):
        await until(lambda: broker.asked > 10 or not recovery.in_recovery, timeout_s=WAIT_S, look_again_s=0)
        assert recovery.in_recovery
        async with _running(OrderedRecovery._slurp_changelogs, recovery):
            await until(lambda: not recovery.in_recovery, timeout_s=WAIT_S, look_again_s=0)
    assert table.persisted_offset(TP(table.changelog_topic_name, 0)) == END - 1
    assert failures == []


async def test_recovery_ends_when_nothing_comes_and_the_consumer_is_past_the_end(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind the marker of a transaction."""
    recovery, broker, failures = _recovering(app, monkeypatch)
    async with _running(OrderedRecovery._end_at_position, recovery):
        await until(lambda: not recovery.in_recovery, timeout_s=WAIT_S, look_again_s=0)
    assert (broker.asked, failures) == (1 + faust_recovery.FETCHES_TO_KNOW, [])


async def test_recovery_does_not_take_the_position_of_an_assignment_that_is_over(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery, broker, _ = _recovering(app, monkeypatch)
    seen = await recovery._look_past_ends({})
    broker.fetched([])
    broker.fetched([])
    app.revocations += 1
    assert list(await recovery._look_past_ends(seen)) == list(seen)
    assert recovery.in_recovery


async def test_recovery_waits_for_its_next_assignment_when_the_consumer_has_let_go_of_a_partition_already(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance reaches the consumer's thread first; the question that came between ended the worker."""
    recovery, broker, failures = _recovering(app, monkeypatch)

    async def not_assigned(tp: TP) -> int:
        raise IllegalStateError(f"Partition {tp} is not assigned")

    monkeypatch.setattr(broker, "position", not_assigned)
    assert await recovery._look_past_ends({}) == {}
    assert (recovery.in_recovery, failures) == (True, [])


async def test_recovery_fails_its_worker_when_a_record_that_was_fetched_never_came(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for ever, and say nothing."""
    recovery, broker, failures = _recovering(app, monkeypatch)
    (changelog,) = broker.assignment()
    app.changelog_ledger.note_fetched(changelog, RECORDS)
    async with _running(OrderedRecovery._end_at_position, recovery):
        await until(lambda: bool(failures), timeout_s=WAIT_S, look_again_s=0)
    assert [type(each) for each in failures] == [DeliveryGapError]
    assert recovery.in_recovery


async def test_recovery_opens_no_lanes_when_a_record_that_it_fetched_is_not_applied(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has ended it."""
    recovery, broker, failures = _recovering(app, monkeypatch)
    app.assigned_after, app.consumer_generation_id = app.revocations, 7
    lanes: list[int] = []
    app.hooks = cast("Any", SimpleNamespace(lanes_ready=lanes.append))
    broker.fetched(RECORDS[:10])
    await recovery.on_recovery_completed(7)
    assert [type(each) for each in failures] == [DeliveryGapError]
    assert lanes == []
    assert not recovery.completed.is_set()
