"""A worker that takes over a million open timers: how long it holds its event loop in one piece.

The timers come from the changelog, by the batches of a catch-up; then the clock looks for those that are due, and the
partitions go away again. All is production's but the log: nothing is sent.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from schemas.identifiers import OpId, OrderId
from schemas.messages import MessageCodec
from schemas.records.timers import OpenTimer
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import TimerKind
from streams.agents.dues import due_of_timer
from streams.agents.timers import TimerClock, timer_key
from streams.kafka.changelog_catch_up import BATCH_RECORDS
from streams.kafka.partition_rows import ChangelogRecord, StoredRow
from streams.kafka.stamps import Stamp
from streams.kafka_clients.log_clock import LogClock
from streams.topology import TIMERS_TABLE
from tests.faults.figures.own_tables import KeptRequests, OwnTables
from tests.faults.figures.report import Report
from tests.support.order_desk import ORIGIN

HOUR_MS: Final = 3_600_000
AIM_MS: Final = 50.0
TEXT: Final = "order-00000000"

T = TypeVar("T")


class _Blocks:
    """How long the event loop would have been held by each step: of this thread's CPU, and by the clock."""

    def __init__(self) -> None:
        self.longest_cpu_s = 0.0
        self.longest_s = 0.0
        self.cpu_s = 0.0

    def timed(self, step: Callable[[], T]) -> T:
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        result = step()
        self.add(time.perf_counter() - began_s, time.thread_time() - cpu_s)
        return result

    def add(self, seconds: float, cpu_s: float) -> None:
        self.longest_s = max(self.longest_s, seconds)
        self.longest_cpu_s = max(self.longest_cpu_s, cpu_s)
        self.cpu_s += cpu_s


async def measure(report: Report, folder: Path, *, timers: int, partitions: int, strict: bool = True) -> None:
    """Recover the timers, look for due ones, and give the partitions away."""
    now_ms = time.time_ns() // 1_000_000
    tables = OwnTables(TIMERS_TABLE, folder=folder, partitions=partitions, now_ms=lambda: now_ms)
    codec, coming, looking, going = MessageCodec(SchemaIds.packaged()), _Blocks(), _Blocks(), _Blocks()
    table = tables.tables[TIMERS_TABLE]
    for number in range(partitions):
        coming.timed(partial(table.partition, number))
        for batch in _batches(codec, number, timers // partitions, now_ms):
            coming.timed(partial(table.merge, number, batch))
    clock = TimerClock(tables, codec=codec, log_writer=KeptRequests(lambda: now_ms), clock=LogClock())
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    await clock.fire_due()
    looking.add(time.perf_counter() - began_s, time.thread_time() - cpu_s)
    began_s = time.thread_time()
    await clock.fire_due()
    again_s = time.thread_time() - began_s
    for number in range(partitions):
        going.timed(partial(table.keep_only, range(number + 1, partitions)))
    report.say(f"{timers:,} open timers in {partitions} partitions")
    for what, blocks in (("recovered", coming), ("looked through for the first time", looking), ("let go", going)):
        report.figure(
            f"{what}: {blocks.cpu_s:.2f} s of CPU, of which in one piece",
            1000 * blocks.longest_cpu_s,
            "ms",
            below=AIM_MS if strict else None,
        )
        report.figure("    by the clock, others on the machine and the disk included", 1000 * blocks.longest_s, "ms")
    report.figure("each later look, five a second: CPU", 1000 * again_s, "ms")


def _batches(codec: MessageCodec, number: int, timers: int, now_ms: int) -> Iterator[list[ChangelogRecord]]:
    template = OpenTimer(
        origin_id=ORIGIN,
        order_id=OrderId(TEXT),
        op_id=OpId("op_" + "0" * 32),
        kind=TimerKind.RECONCILE,
        number=1,
        due_at_ms=now_ms + HOUR_MS,
    )
    key, value, due = timer_key(template), codec.encode_row(template), due_of_timer(template)
    row = StoredRow(Stamp(1, 1), value, now_ms, due)
    for first in range(0, timers, BATCH_RECORDS):
        texts = [
            f"order-{number:02d}{count % 1_000_000:06d}".encode()
            for count in range(first, min(first + BATCH_RECORDS, timers))
        ]
        yield [
            ChangelogRecord(
                key.replace(TEXT.encode(), text),
                row._replace(
                    value=value.replace(TEXT.encode(), text), due=due._replace(at_ms=due.at_ms + first + count)
                ),
                first + count,
            )
            for count, text in enumerate(texts)
        ]
