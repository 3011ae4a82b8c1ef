"""A worker's tables on disk and its pipeline without a broker: what the figures of expiry and of timers measure.

Everything is production's (rows, index, agents, pipeline, sweep); only the log is a stand-in that acknowledges at once,
so that what is measured is the worker's own CPU.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from schemas.topics import changelog_topic
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.partition_rows import StoredRow
from streams.kafka.pipeline import Acknowledged, Pipeline
from streams.kafka.row_tables import RowTable
from streams.kafka.stamps import Stamp
from streams.kafka.step import Due, DueRow, Handler, Headers, InputEvent, Outgoing
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.lease import Lease
from streams.kafka_clients.producer import AppendedRecord, LogWriter

FILLED_AT_ONCE = 2_000


def size_mib(folder: Path) -> float:
    """What is in a folder, while its files may come and go."""
    found = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += file.stat().st_size if file.is_file() else 0
    return found / 2**20


class Filled(NamedTuple):
    """One row to begin with."""

    key: bytes
    value: bytes
    due: Due


class _Taken(NamedTuple):
    offset: int
    timestamp: int


class OwnTables:
    """The tables of one owner, and what asks them for what is due."""

    def __init__(self, *names: str, folder: Path, partitions: int, now_ms: Callable[[], int]) -> None:
        self.tables = {name: RowTable(name, data_dir=folder, now_ms=now_ms, has_dues=True) for name in names}
        self.owned = frozenset(range(partitions))
        self._now_ms = now_ms

    def fill(self, table: str, number: int, rows: Iterable[Filled]) -> int:
        """Keep these; returns how many there were."""
        here, count = self.tables[table].partition(number), 0
        while step := list(itertools.islice(rows, FILLED_AT_ONCE)):
            count += len(step)
            stored = {each.key: StoredRow(Stamp(1, 1), each.value, self._now_ms(), each.due) for each in step}
            here.put(stored, count - 1, before=dict.fromkeys(stored))
        return count

    def due_rows(self, table: str, number: int, now_ms: int, limit: int) -> list[DueRow]:
        """See `streams.kafka.worker.Worker`."""
        return self.tables[table].due_rows(number, now_ms, limit)

    def pass_over_due(self, table: str, due: DueRow) -> None:
        """See `streams.kafka.worker.Worker`."""
        self.tables[table].pass_over(due)

    def row(self, table: str, number: int, key: bytes) -> bytes | None:
        """See `streams.kafka.worker.Worker`."""
        row = self.tables[table].partition(number).get(key)
        return None if row is None else row.value

    def has_done(self, topic: str, number: int, offset: int) -> bool:
        """See `streams.kafka.worker.Worker`."""
        return True

    def close(self) -> None:
        for table in self.tables.values():
            table.keep_only(())


class KeptRequests(LogWriter):
    """Keeps what is appended, dated by the clock of the scene."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(KafkaConnection(bootstrap_servers="nowhere"))
        self._now_ms = now_ms
        self.kept: list[InputEvent] = []

    async def append(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timeout_s: float = 0.0,
    ) -> AppendedRecord:
        """Keep it as the input that it will be."""
        number, offset, now_ms = partition or 0, len(self.kept), self._now_ms()
        event = InputEvent(
            topic=topic,
            partition=number,
            offset=offset,
            timestamp_ms=now_ms,
            key=key,
            value=value,
            headers=tuple(headers),
            possible_replay=False,
        )
        self.kept.append(event)
        return AppendedRecord(topic=topic, partition=number, offset=offset, timestamp_ms=now_ms)


def _say_nothing(_message: Outgoing) -> None:
    """Nobody waits for a reply here."""


@asynccontextmanager
async def pipeline_of(
    tables: OwnTables, app: str, handler: Handler
) -> AsyncIterator[Callable[[InputEvent], Awaitable[None]]]:
    """Yields what takes an input and returns when it is done."""
    offsets: dict[tuple[str, int], int] = {}
    loop = asyncio.get_running_loop()
    failures: list[BaseException] = []
    ledger: OffsetLedger[tuple[str, int]] = OffsetLedger()

    async def send(
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        partition: int | None,
        headers: Headers,
    ) -> asyncio.Future[Acknowledged]:
        place = (topic, partition or 0)
        offsets[place] = offset = offsets.get(place, -1) + 1
        taken: asyncio.Future[Acknowledged] = loop.create_future()
        taken.set_result(_Taken(offset, time.time_ns() // 1_000_000))
        return taken

    pipeline = Pipeline(
        tables=tables.tables,
        changelogs={name: changelog_topic(app, name) for name in tables.tables},
        handler=handler,
        ledger=ledger,
        lease=Lease(session_timeout_s=3_600.0),
        send=send,
        say=_say_nothing,
        on_failure=failures.append,
        max_inputs_in_flight=64,
        drain_timeout_s=60.0,
        ack_timeout_s=60.0,
    )
    pipeline.open_lanes(dict.fromkeys(tables.owned, 2))

    async def take(event: InputEvent) -> None:
        ledger.note_fetched((event.topic, event.partition), [event.offset])
        await pipeline.take(event)
        await pipeline.drain()
        if failures:
            raise failures[0]

    try:
        yield take
    finally:
        pipeline.close_lanes()
