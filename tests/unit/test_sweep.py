"""Rows past their life: the sweep asks, the agents decide by the log's time, and the key is free again afterwards."""

import asyncio
from dataclasses import replace

import pytest

from gateway_adapters.mock.spec import CAPABILITIES
from schemas import topics
from schemas.identifiers import IdempotencyKey, OrderId
from schemas.records.claims import ClaimExpiryRequested
from schemas.records.timers import OrderExpiryRequested
from schemas.vocabulary import OperationState
from streams.agents import sweep
from streams.agents.dues import LOOK_MS
from streams.agents.sweep import Sweeper, due_orders, old_claims, overdue_webhooks
from streams.domain.limits import CLAIM_LIFE_MS, DEFAULT_RULES, PAID_LIFE_MS
from streams.kafka_clients.errors import RetryableError
from streams.topology import CLAIMS_TABLE as CLAIMS
from streams.topology import ORDERS_TABLE as ORDERS
from streams.topology import PARKED_TABLE as PARKED
from streams.topology import REFERENCES_TABLE as REFERENCES
from tests.support.fake_log import FakeWriter
from tests.support.kept_tables import AGAIN_MS
from tests.support.metric_pages import rise_of
from tests.support.order_desk import MOCK, UNKNOWN, sale
from tests.support.staged_run import StagedRun

LONG_MS = PAID_LIFE_MS + CLAIM_LIFE_MS
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about what is asked, not how fast."""
    monkeypatch.setattr(sweep, "ROWS_A_SECOND", 1_000_000)
    monkeypatch.setattr(sweep, "REQUESTS_A_SECOND", 1_000_000)
    monkeypatch.setattr(sweep, "CPU_SHARE", 1_000.0)


class Swept:
    """A run whose tables are swept, by a machine whose clock is off by so much."""

    def __init__(self, run: StagedRun, *, off_ms: int = 0) -> None:
        self.run = run
        self.writer = FakeWriter()
        self.off_ms = off_ms
        asks = {
            ORDERS: due_orders(run.codec, {MOCK: CAPABILITIES}),
            CLAIMS: old_claims(run.codec),
            PARKED: overdue_webhooks(run.codec),
        }
        self.sweeper = Sweeper(run.due_tables, asks, log_writer=self.writer, now_ms=lambda: run.now_ms + self.off_ms)

    async def sweep(self) -> int:
        """Sweep, let the agents act on what it asks, and return of how many rows it asked."""
        self.writer.broker_ms = self.run.now_ms
        asked = await self.sweeper.sweep()
        for topic, key, value, headers in self.writer.appended:
            self.run.append(topic, key, value, headers)
        self.writer.appended.clear()
        self.run.settle()
        return asked

    def asked(self) -> list[object]:
        """Return the requests that are on the log."""
        found = [*self.run.log[topics.TIMERS], *self.run.log[topics.CLAIMS]]
        decoded = [self.run.codec.decode(record.value, record.headers)[1] for record in found]
        return [each for each in decoded if isinstance(each, OrderExpiryRequested | ClaimExpiryRequested)]


def _many(run: StagedRun, count: int) -> None:
    for number in range(count):
        key = IdempotencyKey(f"key-{number}")
        run.send(replace(sale(5_000), order_id=OrderId(f"order-{number}"), idempotency_key=key))


async def test_order_and_claim_go_when_their_lives_are_over_and_another_order_may_use_the_key() -> None:
    counted = rise_of("rows_due")
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += LONG_MS
    assert await Swept(run).sweep() == 2
    assert counted() == 2
    assert run.rows(ORDERS) == run.rows(CLAIMS) == {}
    op_id = run.send(replace(sale(7_000), order_id=OrderId("order-9")))
    assert run.state_of(op_id) is OperationState.SUCCEEDED


async def test_references_leave_the_index_and_their_topic_with_their_order() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    assert list(run.rows(REFERENCES)) == [b"mock|default|ref"]
    run.now_ms += LONG_MS
    await Swept(run).sweep()
    assert run.rows(REFERENCES) == {}
    last = run.log[topics.REFERENCES][-1]
    assert (last.key, last.value) == (b"mock|default|ref", None)


async def test_references_are_dropped_again_when_the_worker_died_before_it_said_so() -> None:
    """The replay of the order's end finds no row any more: what leaves the index stands in the request."""
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += LONG_MS
    await Swept(run).sweep()
    said = len(run.log[topics.REFERENCES])
    end = run.log[topics.TIMERS][-1]
    run.append(end.topic, end.key, end.value, end.headers)
    run.settle()
    assert run.rows(ORDERS) == {}
    assert [record.value is None for record in run.log[topics.REFERENCES][said:]] == [False, True]


async def test_reference_stays_when_its_order_may_not_end_yet() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    await Swept(run, off_ms=LONG_MS).sweep()  # by a clock that is far ahead
    assert list(run.rows(REFERENCES)) == [b"mock|default|ref"]
    assert [record.value is None for record in run.log[topics.REFERENCES]] == [False]


async def test_nothing_is_asked_to_go_before_its_time() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += CLAIM_LIFE_MS // 2
    assert await Swept(run).sweep() == 0


async def test_row_is_asked_to_go_within_a_minute_of_its_time() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    assert await Swept(run).sweep() == 1
    assert run.rows(CLAIMS) == {}


@pytest.mark.parametrize("table", [ORDERS, CLAIMS])
async def test_row_stays_when_the_clock_of_its_sweep_is_far_ahead(table: str) -> None:
    """Else one machine with a wrong clock would let a key be used twice."""
    run = StagedRun()
    run.send(sale(5_000))
    before = run.rows(table)
    assert await Swept(run, off_ms=LONG_MS).sweep() > 0
    assert run.rows(table) == before
    rival = run.send(replace(sale(5_000), order_id=OrderId("order-9")))
    assert run.state_of(rival) is OperationState.CONFLICT


async def test_sweep_whose_clock_is_far_ahead_asks_early_once_and_then_when_it_is_time() -> None:
    """Else each of its rows would be asked for, and refused, for as long as the clock is wrong."""
    run = StagedRun()
    _many(run, 3)
    swept = Swept(run, off_ms=LONG_MS)
    early = await swept.sweep()
    assert 0 < early <= 6
    assert await swept.sweep() == 0
    run.now_ms += LONG_MS
    assert await swept.sweep() == 6
    assert run.rows(ORDERS) == run.rows(CLAIMS) == {}


async def test_order_stays_however_old_when_an_operation_is_open() -> None:
    run = StagedRun()
    run.send(sale(5_000), UNKNOWN)
    run.now_ms += LONG_MS
    await Swept(run).sweep()
    assert len(run.rows(ORDERS)) == 1


async def test_order_whose_life_was_made_longer_since_is_asked_about_at_its_new_end() -> None:
    """What a row said when it was written is a hint: the rules of now decide, and the row is written with its time."""
    run = StagedRun()
    run.send(sale(5_000))
    run.live_by(replace(DEFAULT_RULES, paid_life_ms=2 * PAID_LIFE_MS, claim_life_ms=2 * CLAIM_LIFE_MS))
    swept = Swept(run)
    run.now_ms += PAID_LIFE_MS + LOOK_MS
    assert await swept.sweep() == 2
    assert await swept.sweep() == 0
    assert len(run.rows(ORDERS)) == 1
    assert len(run.rows(CLAIMS)) == 0
    run.now_ms += PAID_LIFE_MS
    assert await swept.sweep() == 1
    assert run.rows(ORDERS) == run.rows(REFERENCES) == {}


async def test_row_that_does_not_say_when_it_is_due_is_looked_at_at_once_and_says_so_then() -> None:
    """An earlier version has written it."""
    run = StagedRun()
    run.send(sale(5_000))
    run.due_tables.forget_dues()
    swept = Swept(run)
    assert await swept.sweep() == 2
    run.now_ms += AGAIN_MS
    assert await swept.sweep() == 0
    assert len(run.rows(ORDERS)) == len(run.rows(CLAIMS)) == 1
    run.now_ms += LONG_MS
    assert await swept.sweep() == 2
    assert run.rows(ORDERS) == run.rows(CLAIMS) == run.rows(REFERENCES) == {}


@pytest.mark.parametrize("topic", [topics.CLAIMS, topics.VERDICTS, topics.GATEWAY_REQUESTS, topics.GATEWAY_RESULTS])
async def test_order_moves_on_when_a_record_inside_has_died(topic: str) -> None:
    """Nobody else would ever say it again: not a timer, nor the client, who has its answer of an operation in doubt."""
    run = StagedRun()
    run.dies_once = topic
    op_id = run.send(sale(5_000))
    assert run.state_of(op_id) in {OperationState.CLAIMING, OperationState.DISPATCHED}
    swept = Swept(run)
    assert await swept.sweep() == 0
    run.now_ms += DEFAULT_RULES.drive_again_ms + LOOK_MS
    assert await swept.sweep() == 1
    assert run.state_of(op_id) is OperationState.SUCCEEDED
    assert len(run.ledger) == 1
    run.now_ms += DEFAULT_RULES.drive_again_ms + LOOK_MS
    assert await swept.sweep() == 0


async def test_order_is_driven_once_more_when_what_it_said_again_has_died_too() -> None:
    run = StagedRun()
    run.dies_once = topics.GATEWAY_REQUESTS
    op_id = run.send(sale(5_000))
    swept = Swept(run)
    run.now_ms += DEFAULT_RULES.drive_again_ms + LOOK_MS
    run.dies_once = topics.GATEWAY_REQUESTS
    assert await swept.sweep() == 1
    run.now_ms += AGAIN_MS
    assert await swept.sweep() == 1
    assert run.state_of(op_id) is OperationState.SUCCEEDED


async def test_many_rows_share_a_request_and_the_next_waits_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "ROWS_AT_ONCE", 4)
    run = StagedRun()
    _many(run, 9)
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    swept = Swept(run)
    run.due_tables.is_done = False
    assert await swept.sweep() == 4
    assert await swept.sweep() == 0
    assert len(run.rows(CLAIMS)) == 5
    run.due_tables.is_done = True
    assert await swept.sweep() == 5
    assert run.rows(CLAIMS) == {}
    assert [len(each.claims) for each in swept.asked() if isinstance(each, ClaimExpiryRequested)] == [4, 4, 1]


async def test_what_was_asked_in_another_assignment_holds_up_nothing() -> None:
    """The partition went away and came back: what was done of it meanwhile is known to nobody here."""
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    swept = Swept(run)
    run.due_tables.is_done = False
    assert await swept.sweep() == 1
    run.send(replace(sale(5_000), order_id=OrderId("order-9"), idempotency_key=IdempotencyKey("key-9")))
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    assert await swept.sweep() == 0
    run.due_tables.owned = frozenset({0, 1}) - {1}
    assert await swept.sweep() == 1
    assert run.rows(CLAIMS) == {}


async def test_sweep_looks_again_soon_while_its_requests_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 32 rows of a partition a second a worker of a few partitions would not keep up."""
    monkeypatch.setattr(sweep, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(sweep, "LOOK_S", 0.0)
    run = StagedRun()
    _many(run, 9)
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    swept = Swept(run)
    run.due_tables.is_done = False
    swept.writer.broker_ms = run.now_ms
    task = asyncio.create_task(swept.sweeper.run())
    await swept.writer.wait_for(1)
    monkeypatch.setattr(sweep, "LOOK_S", 1e9)
    run.due_tables.is_done = True
    await swept.writer.wait_for(3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_request_that_is_never_done_holds_up_its_partition_for_a_while_and_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(sweep, "DONE_WITHIN_S", -1.0)  # it is over at once
    run = StagedRun()
    _many(run, 5)
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    swept = Swept(run)
    run.due_tables.is_done = False
    swept.writer.broker_ms = run.now_ms
    assert await swept.sweeper.sweep() == 5
    swept.writer.appended.clear()  # deleted before anybody read them
    run.now_ms += AGAIN_MS
    assert await swept.sweep() == 5
    assert run.rows(CLAIMS) == {}


async def test_sweep_rests_as_its_rate_and_its_share_of_the_cpu_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(sweep, "ROWS_A_SECOND", 100)
    monkeypatch.setattr(sweep, "CPU_SHARE", 0.02)
    monkeypatch.setattr("streams.agents.sweep.asyncio.sleep", rest)
    run = StagedRun()
    _many(run, 10)
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    swept = Swept(run)
    ticks = iter(0.005 * n for n in range(1_000))  # each look takes 5 ms
    swept.sweeper._cpu_s = lambda: next(ticks)
    assert await swept.sweep() == 10
    looks = 6  # of three tables: one of them finds something, and none of the next three does
    assert sum(rests) >= 0.9 * looks * 0.005 / 0.02
    assert max(rests) >= 10 / 100


async def test_sweep_leaves_the_rest_to_the_next_when_the_broker_is_gone() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += CLAIM_LIFE_MS + LOOK_MS
    swept = Swept(run)
    swept.writer.failures.append(RetryableError("gone"))
    with pytest.raises(RetryableError):
        await swept.sweep()
    assert await swept.sweep() == 1
