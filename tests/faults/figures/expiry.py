"""What a row costs at its end, in tables of millions: to find it and ask for it, and to decide about it.

A worker's tables on disk are filled with finished sales, or their keys, of which the oldest have come to the end of
their life. The sweep finds those and asks for them; the agent, in the pipeline, lets them go. Only the log is a
stand-in: a record's way to the broker and back is not in the figures, of which there is one for a row that ends, and
one for each request about thirty-two of them.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

from gateway_adapters.mock.spec import CAPABILITIES, SPEC
from schemas.identifiers import IdempotencyKey, OrderId
from schemas.messages import MessageCodec
from schemas.records.claims import ClaimRow
from schemas.records.orders import OrderRow
from schemas.schema_ids import SchemaIds
from schemas.topics import partition_of
from streams.agents.claims import ClaimsAgent
from streams.agents.dues import LOOK_MS, due_of_claim, due_of_order
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.agents.shell import AgentShell
from streams.agents.sweep import CPU_SHARE, ROWS_A_SECOND, Ask, Sweeper, due_orders, old_claims
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.step import Handler, InputEvent
from streams.topology import CLAIMS, CLAIMS_TABLE, ORDERS, ORDERS_TABLE
from tests.faults.figures.own_tables import Filled, KeptRequests, OwnTables, pipeline_of, size_mib
from tests.faults.figures.report import Report
from tests.support.order_desk import MOCK, ORIGIN, sale
from tests.support.staged_run import StagedRun

Table = Literal["orders", "claims"]

PARTITIONS: Final = 8
SLOTS: Final = 1_000
"""Different due times of the rows that stay: they are as far apart as their lives are long."""

PLACEHOLDER: Final = "order-0123456789abcdef"
AIM_SHARE: Final = 0.02
AIM_RATE: Final = 1_000
AIM_WORKERS: Final = 2.0
"""An orders worker takes some 1.3 ms of a core for a payment: a thousand a second need two."""

DAYS: Final = 180
"""As long as a finished order stays in the table by default: from then on as many rows leave as come."""

PEAK: Final = 1.8
"""The busiest minute of a day has so many times the payments of an average one."""

MINUTES_OF_DAY: Final = 24 * 60
AIM_LATE_H: Final = 24.0
"""A line that is gone within a day does not grow from day to day."""

CODEC: Final = MessageCodec(SchemaIds.packaged())


async def measure(report: Report, folder: Path, *, table: Table, rows: int, due: int, strict: bool = True) -> None:
    """Fill the table, let so many rows of it come due, and let them go."""
    now_ms = time.time_ns() // 1_000_000
    tables = OwnTables(
        *(ORDERS.tables if table == "orders" else CLAIMS.tables),
        folder=folder,
        partitions=PARTITIONS,
        now_ms=lambda: now_ms,
    )
    name = ORDERS_TABLE if table == "orders" else CLAIMS_TABLE
    began_s = time.perf_counter()
    for number in range(PARTITIONS):
        tables.fill(name, number, _rows(table, number, now_ms, rows=rows // PARTITIONS, due=due // PARTITIONS))
    report.say(
        f"{rows:,} rows of {table}, {size_mib(folder):,.0f} MiB, filled in {time.perf_counter() - began_s:.0f} s"
    )
    requests = await _ask(report, tables, name, _ask_of(table), now_ms, due=due, strict=strict)
    await _decide(report, tables, table, requests, due=due)
    left = tables.tables[name].live_count()
    report.none_of("rows that should have gone", range(left - (rows - due)))
    tables.close()


async def _ask(
    report: Report, tables: OwnTables, name: str, ask: Ask, now_ms: int, *, due: int, strict: bool
) -> Sequence[InputEvent]:
    writer = KeptRequests(lambda: now_ms)
    sweeper = Sweeper(tables, {name: ask}, log_writer=writer, now_ms=lambda: now_ms)
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    asked = await sweeper.sweep()
    took_s, used_s = time.perf_counter() - began_s, time.thread_time() - cpu_s
    report.figure(
        f"asked for: {asked:,} of {due:,}, in {len(writer.kept):,} requests; CPU", used_s / asked * 1e6, "µs a row"
    )
    report.figure(
        "share of a core while it asks", 100 * used_s / took_s, "%", below=100 * AIM_SHARE if strict else None
    )
    most = min(ROWS_A_SECOND, CPU_SHARE * asked / used_s)
    report.figure("rows a second that a worker asks for at most", most, "/s")
    report.figure(
        "workers that 1,000 payments a second need for it", AIM_RATE / most, "", below=AIM_WORKERS if strict else None
    )
    late_s = longest_wait_s(DAYS, rows_a_second=AIM_RATE, asked_a_second=AIM_WORKERS * most)
    report.figure(
        f"{DAYS} days of 1,000 payments a second by day and night: a row that is due waits at most",
        late_s / 3_600,
        "h",
        below=AIM_LATE_H if strict else None,
    )
    return writer.kept


def longest_wait_s(days: int, *, rows_a_second: float, asked_a_second: float) -> float:
    """Return how long the last row in the line waits at worst, seconds, if so many a second come due on average.

    Rows come due as their payments came: by a wave each day, with PEAK times as many at its top. What cannot be asked
    for at once waits its turn. A simulation by the minute, of quantities; no row is kept.
    """
    waiting, longest = 0.0, 0.0
    for minute in range(days * MINUTES_OF_DAY):
        wave = math.sin(2 * math.pi * minute / MINUTES_OF_DAY)
        come = 60 * rows_a_second * (1 + (PEAK - 1) * wave)
        waiting = max(waiting + come - 60 * asked_a_second, 0.0)
        longest = max(longest, waiting)
    return longest / asked_a_second


async def _decide(report: Report, tables: OwnTables, table: Table, requests: Sequence[InputEvent], *, due: int) -> None:
    longest_s = 0.0
    async with pipeline_of(tables, table, _handler_of(table)) as take:
        cpu_s = time.thread_time()
        for request in requests:
            began_s = time.perf_counter()
            await take(request)
            longest_s = max(longest_s, time.perf_counter() - began_s)
        used_s = time.thread_time() - cpu_s
    report.figure("let go: CPU of the agent and the pipeline", used_s / due * 1e6, "µs a row")
    report.figure("longest time for one request", 1000 * longest_s, "ms")


def _ask_of(table: Table) -> Ask:
    return due_orders(CODEC, {MOCK: CAPABILITIES}) if table == "orders" else old_claims(CODEC)


def _handler_of(table: Table) -> Handler:
    if table == "claims":
        return AgentShell(
            ClaimsAgent(CODEC, partitions=PARTITIONS, rules=DEFAULT_RULES).take, codec=CODEC, component="claims"
        ).handle
    agent = OrdersAgent(
        CODEC,
        partitions=PARTITIONS,
        policies=dict,
        gateways={SPEC.name: SPEC},
        capabilities={},
        parking=Parking(),
        rules=DEFAULT_RULES,
    )
    return AgentShell(agent.take, codec=CODEC, component="orders", accepted=agent.accepted).handle


def _rows(table: Table, number: int, now_ms: int, *, rows: int, due: int) -> Iterator[Filled]:
    """The rows of one partition: those that are due first, then the others, by the slots of their times."""
    life_ms = DEFAULT_RULES.paid_life_ms if table == "orders" else DEFAULT_RULES.claim_life_ms
    slots = _slots(table, now_ms, [slot * life_ms // SLOTS for slot in range(SLOTS + 1)])
    for count, text in enumerate(_texts_of(table, number, rows, here=due)):
        template = slots[0] if count < due else slots[1 + count % SLOTS]
        yield template._replace(
            key=template.key.replace(PLACEHOLDER.encode(), text),
            value=template.value.replace(PLACEHOLDER.encode(), text),
        )


def _texts_of(table: Table, number: int, rows: int, *, here: int) -> Iterator[bytes]:
    """Order ids, or keys, scattered as merchants' are; so many belong in this partition: those are looked at."""
    found, tried = 0, 0
    prefix = b"" if table == "orders" else f"{ORIGIN}|".encode()
    while found < rows:
        text = b"order-" + blake2b(b"%d-%d" % (number, tried), digest_size=8).hexdigest().encode()
        tried += 1
        if found >= here or partition_of(prefix + text, PARTITIONS) == number:
            found += 1
            yield text


def _slots(table: Table, now_ms: int, later_ms: Sequence[int]) -> list[Filled]:
    """Rows whose lives end so long after now; at 0 it is over."""
    run = StagedRun()
    run.send(replace(sale(5_000), order_id=OrderId(PLACEHOLDER), idempotency_key=IdempotencyKey(PLACEHOLDER)))
    over_ms = now_ms - 2 * LOOK_MS
    if table == "claims":
        ((key, stored),) = run.rows(CLAIMS_TABLE).items()
        claim, made_ms = CODEC.decode_row(ClaimRow, stored), over_ms - DEFAULT_RULES.claim_life_ms
        claims = [replace(claim, claimed_at_ms=made_ms + later) for later in later_ms]
        return [Filled(key, CODEC.encode_row(each), due_of_claim(each, DEFAULT_RULES)) for each in claims]
    ((key, stored),) = run.rows(ORDERS_TABLE).items()
    order, changed_ms = CODEC.decode_row(OrderRow, stored), over_ms - DEFAULT_RULES.paid_life_ms
    orders = [replace(order, updated_at_ms=changed_ms + later) for later in later_ms]
    return [
        Filled(key, CODEC.encode_row(each), due_of_order(each, DEFAULT_RULES, {MOCK: CAPABILITIES})) for each in orders
    ]
