"""Rows past their life: the sweep asks, the agents decide by the log's time, and the key is free again afterwards."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway_adapters.mock.spec import CAPABILITIES
from schemas import topics
from schemas.identifiers import IdempotencyKey, OrderId
from schemas.vocabulary import OperationState
from streams.agents import sweep
from streams.agents.sweep import Ask, Sweeper, old_claims, overdue_orders, overdue_webhooks
from streams.domain.limits import CLAIM_LIFE_MS, DEFAULT_RULES, PAID_LIFE_MS
from streams.kafka.step import TableRow
from streams.kafka_clients.errors import RetryableError
from streams.topology import CLAIMS_TABLE as CLAIMS
from streams.topology import ORDERS_TABLE as ORDERS
from streams.topology import PARKED_TABLE as PARKED
from streams.topology import REFERENCES_TABLE as REFERENCES
from tests.support.fake_log import FakeWriter
from tests.support.order_desk import MOCK, UNKNOWN, sale
from tests.support.staged_run import StagedRun

LONG_MS = PAID_LIFE_MS + CLAIM_LIFE_MS


async def swept(run: StagedRun, table: str, *, clock_ms: int, writer: FakeWriter | None = None) -> int:
    """Sweep a table by this clock, let the agents act on what it asks; return how much that was."""
    asks: dict[str, Ask] = {
        ORDERS: overdue_orders(run.codec, DEFAULT_RULES, {MOCK: CAPABILITIES}),
        CLAIMS: old_claims(run.codec, DEFAULT_RULES),
        PARKED: overdue_webhooks(run.codec),
    }
    fake = writer or FakeWriter()

    def rows() -> Iterator[TableRow]:
        return iter([TableRow(table, 0, key, value) for key, value in run.rows(table).items()])

    sweeper = Sweeper(rows, asks[table], codec=run.codec, log_writer=fake, now_ms=lambda: clock_ms, interval_s=0.0)
    asked = await sweeper.sweep()
    for topic, key, value, headers in fake.appended:
        run.append(topic, key, value, headers)
    run.settle()
    return asked


async def test_order_and_claim_go_when_their_lives_are_over_and_another_order_may_use_the_key() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += LONG_MS
    assert await swept(run, ORDERS, clock_ms=run.now_ms) == 1
    assert await swept(run, CLAIMS, clock_ms=run.now_ms) == 1
    assert run.rows(ORDERS) == run.rows(CLAIMS) == {}
    op_id = run.send(replace(sale(7_000), order_id=OrderId("order-9")))
    assert run.state_of(op_id) is OperationState.SUCCEEDED


async def test_references_leave_the_index_and_their_topic_with_their_order() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    assert list(run.rows(REFERENCES)) == [b"mock|default|ref"]
    run.now_ms += LONG_MS
    await swept(run, ORDERS, clock_ms=run.now_ms)
    assert run.rows(REFERENCES) == {}
    last = run.log[topics.REFERENCES][-1]
    assert (last.key, last.value) == (b"mock|default|ref", None)


async def test_references_are_dropped_again_when_the_worker_died_before_it_said_so() -> None:
    """The replay of the order's end finds no row any more: what leaves the index stands in the request."""
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += LONG_MS
    await swept(run, ORDERS, clock_ms=run.now_ms)
    said = len(run.log[topics.REFERENCES])
    end = run.log[topics.TIMERS][-1]
    run.append(end.topic, end.key, end.value, end.headers)
    run.settle()
    assert run.rows(ORDERS) == {}
    assert [record.value is None for record in run.log[topics.REFERENCES][said:]] == [False, True]


async def test_reference_stays_when_its_order_may_not_end_yet() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    await swept(run, ORDERS, clock_ms=run.now_ms + LONG_MS)  # by a clock that is far ahead
    assert list(run.rows(REFERENCES)) == [b"mock|default|ref"]
    assert [record.value is None for record in run.log[topics.REFERENCES]] == [False]


async def test_nothing_is_asked_to_go_before_its_time() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    asked = [await swept(run, table, clock_ms=run.now_ms + CLAIM_LIFE_MS // 2) for table in (ORDERS, CLAIMS)]
    assert asked == [0, 0]


@pytest.mark.parametrize("table", [ORDERS, CLAIMS])
async def test_row_stays_when_the_clock_of_its_sweep_is_far_ahead(table: str) -> None:
    """Else one machine with a wrong clock would let a key be used twice."""
    run = StagedRun()
    run.send(sale(5_000))
    before = run.rows(table)
    assert await swept(run, table, clock_ms=run.now_ms + LONG_MS) == 1
    assert run.rows(table) == before
    rival = run.send(replace(sale(5_000), order_id=OrderId("order-9")))
    assert run.state_of(rival) is OperationState.CONFLICT


async def test_order_stays_however_old_when_an_operation_is_open() -> None:
    run = StagedRun()
    run.send(sale(5_000), UNKNOWN)
    assert await swept(run, ORDERS, clock_ms=run.now_ms + LONG_MS) == 0


@pytest.mark.parametrize("topic", [topics.CLAIMS, topics.VERDICTS, topics.GATEWAY_REQUESTS, topics.GATEWAY_RESULTS])
async def test_order_moves_on_when_a_record_inside_has_died(topic: str) -> None:
    """Nobody else would ever say it again: not a timer, nor the client, who has its answer of an operation in doubt."""
    run = StagedRun()
    run.dies_once = topic
    op_id = run.send(sale(5_000))
    assert run.state_of(op_id) in {OperationState.CLAIMING, OperationState.DISPATCHED}
    assert await swept(run, ORDERS, clock_ms=run.now_ms) == 0
    run.now_ms += DEFAULT_RULES.drive_again_ms
    assert await swept(run, ORDERS, clock_ms=run.now_ms) == 1
    assert run.state_of(op_id) is OperationState.SUCCEEDED
    assert len(run.ledger) == 1
    run.now_ms += DEFAULT_RULES.drive_again_ms
    assert await swept(run, ORDERS, clock_ms=run.now_ms) == 0


async def test_sweep_asks_for_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MAX_REQUESTS", 3)
    monkeypatch.setattr(sweep, "ROWS_AT_ONCE", 2)
    run = StagedRun()
    for number in range(9):
        key = IdempotencyKey(f"key-{number}")
        run.send(replace(sale(5_000), order_id=OrderId(f"order-{number}"), idempotency_key=key))
    run.now_ms += LONG_MS
    assert await swept(run, CLAIMS, clock_ms=run.now_ms) == 4  # a batch is finished
    assert len(run.rows(CLAIMS)) == 5


async def test_sweep_leaves_the_rest_to_the_next_when_the_broker_is_gone() -> None:
    run = StagedRun()
    run.send(sale(5_000))
    run.now_ms += LONG_MS
    writer = FakeWriter()
    writer.failures.append(RetryableError("gone"))
    with pytest.raises(RetryableError):
        await swept(run, CLAIMS, clock_ms=run.now_ms, writer=writer)
    assert await swept(run, CLAIMS, clock_ms=run.now_ms, writer=writer) == 1
