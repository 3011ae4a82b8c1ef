"""The pipeline carries due times: beside the row on the changelog, and into the index once it is acknowledged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from streams.kafka import dues, stamps
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.partition_rows import ChangelogRecord, StoredRow
from streams.kafka.pipeline import Acknowledged, Pipeline
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import NEVER, Due, Headers, InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.kafka_clients.lease import Lease
from tests.support.waiting import until

NOW_MS = 1_800_000_000_000
WAIT_S = 5.0
TABLES = ("due", "plain")


class _Taken(NamedTuple):
    offset: int
    timestamp: int


@dataclass
class _Bench:
    pipeline: Pipeline
    tables: dict[str, RowTable]
    sent: list[tuple[str, Headers, asyncio.Future[Acknowledged]]]
    writes: list[RowWrite]
    ledger: OffsetLedger[tuple[str, int]]
    taken: int = 0

    async def write(self, *writes: RowWrite) -> None:
        """Let the next input write these; nothing is acknowledged yet."""
        self.writes[:] = writes
        offset, self.taken = self.taken, self.taken + 1
        self.ledger.note_fetched(("in", 0), [offset])
        await self.pipeline.take(
            InputEvent(
                topic="in",
                partition=0,
                offset=offset,
                timestamp_ms=NOW_MS,
                key=b"k",
                value=b"",
                headers=(),
                possible_replay=False,
            )
        )

    async def acknowledge(self) -> None:
        for number, (_, _, future) in enumerate(self.sent):
            if not future.done():
                future.set_result(_Taken(number, NOW_MS))
        await until(lambda: self.pipeline.in_flight == 0, timeout_s=WAIT_S, look_again_s=0)

    def due(self, now_ms: int) -> list[tuple[bytes, Due]]:
        return [(each.key, each.due) for each in self.tables["due"].due_rows(0, now_ms, 10)]


def _say_nothing(_message: Outgoing) -> None:
    """Nobody waits for a reply here."""


@pytest.fixture
async def bench() -> AsyncIterator[_Bench]:
    sent: list[tuple[str, Headers, asyncio.Future[Acknowledged]]] = []
    writes: list[RowWrite] = []

    async def send(
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        partition: int | None,
        headers: Headers,
    ) -> asyncio.Future[Acknowledged]:
        sent.append((topic, headers, asyncio.get_running_loop().create_future()))
        return sent[-1][2]

    def handle(_event: InputEvent, _read: RowReader) -> Step:
        return Step(rows=tuple(writes), speak=())

    tables = {name: RowTable(name, data_dir=None, now_ms=lambda: NOW_MS, has_dues=name == "due") for name in TABLES}
    ledger: OffsetLedger[tuple[str, int]] = OffsetLedger()
    failures: list[BaseException] = []
    pipeline = Pipeline(
        tables=tables,
        changelogs={name: f"{name}-changelog" for name in TABLES},
        handler=handle,
        ledger=ledger,
        lease=Lease(session_timeout_s=60.0),
        send=send,
        say=_say_nothing,
        on_failure=failures.append,
        max_inputs_in_flight=16,
        drain_timeout_s=WAIT_S,
        ack_timeout_s=WAIT_S,
    )
    pipeline.open_lanes({0: 3})
    yield _Bench(pipeline, tables, sent, writes, ledger)
    pipeline.close_lanes()
    assert not failures


async def test_row_tells_when_it_is_due_and_is_due_once_it_is_acknowledged(bench: _Bench) -> None:
    due = Due(NOW_MS + 1, b"note")
    await bench.write(RowWrite(table="due", key=b"k", value=b"x", due=due))
    assert dues.from_headers(bench.sent[0][1]) == due
    assert bench.due(NOW_MS + 1) == []
    await bench.acknowledge()
    assert bench.due(NOW_MS + 1) == [(b"k", due)]


async def test_row_moves_when_a_later_write_overtakes_the_acknowledgement_of_the_first(bench: _Bench) -> None:
    """The second write was decided while the first was on its way: it replaces what was not here yet."""
    await bench.write(RowWrite(table="due", key=b"k", value=b"x", due=Due(NOW_MS + 1)))
    await bench.write(RowWrite(table="due", key=b"k", value=None))
    await bench.write(RowWrite(table="due", key=b"k", value=b"y", due=Due(NOW_MS + 5)))
    await bench.acknowledge()
    assert bench.due(NOW_MS + 100) == [(b"k", Due(NOW_MS + 5))]
    assert len(bench.tables["due"].partition(0).due(b"", 10)) == 1


async def test_no_due_time_goes_with_a_deleted_row_or_with_a_table_that_has_none(bench: _Bench) -> None:
    await bench.write(
        RowWrite(table="due", key=b"k", value=None), RowWrite(table="plain", key=b"k", value=b"x", due=Due(1))
    )
    names = [[name for name, _ in headers] for _, headers, _ in bench.sent]
    assert names == [[stamps.HEADER], [stamps.HEADER]]
    await bench.acknowledge()


async def test_row_that_need_not_be_looked_at_says_so(bench: _Bench) -> None:
    """Else a recovery would take it for one of an earlier version, and have it looked at."""
    await bench.write(RowWrite(table="due", key=b"k", value=b"x"))
    assert dues.from_headers(bench.sent[0][1]) == NEVER
    await bench.acknowledge()


async def test_row_that_is_written_again_after_a_regress_keeps_its_due_time(bench: _Bench) -> None:
    due = Due(NOW_MS + 1, b"note")
    new, late = StoredRow(Stamp(2, 5), b"new", NOW_MS, due), StoredRow(Stamp(1, 9), b"late", NOW_MS, Due(7))
    bench.tables["due"].merge(0, [ChangelogRecord(b"k", new, 0), ChangelogRecord(b"k", late, 1)])
    rewriting = asyncio.create_task(bench.pipeline.rewrite_regressed())
    await until(lambda: bool(bench.sent), timeout_s=WAIT_S, look_again_s=0)
    assert dues.from_headers(bench.sent[0][1]) == due
    await bench.acknowledge()
    await rewriting
