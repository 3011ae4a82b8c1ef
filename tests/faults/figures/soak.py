"""Half of the load that saturates the engine, for half an hour: does any process keep growing, or any table?

The memory of each process is sampled by the clock, the rows of each table, and the disk that a worker's tables take;
after a warm-up the slope of the line through the samples is what is judged (least squares). Kafka's JVM and this load
generator are reported and not judged. Tables are judged where lives are brief: with production's they only grow in so
short a time. The broker's disk is neither: what it keeps, it keeps for days.
"""

import asyncio
import os
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from bench.load import Connection, Measured, closed_loop, connect, payments
from bench.processes import usage_of
from streams.topology import COMPONENTS
from tests.faults.figures.own_tables import size_mib
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage
from tests.faults.figures.steady_load import CREATED
from tests.support.brief_lives import lives_of, make_brief
from tests.support.metric_pages import value_in

AIM_MIB_PER_MIN = 1.0
AIM_ROWS_PER_MIN = 0.02
"""Of a table's rows: a table that loses nothing grows by more than that in any hour here."""

AIM_DISK_PER_MIN = 0.02
"""Of the disk that a worker's tables take: RocksDB's merges of files make it go up and down."""

CLAIM_DAYS, ORDER_DAYS = 30, 62
"""As many brief days as production's defaults have for keys; and as few as orders may have then."""

SAMPLE_EVERY_S = 5.0
SATURATION_WARM_UP_S = 30.0
SATURATION_S = 20.0
CLIENTS = 64
IDLE_MAX_S = 30.0
"""Below the ingress's keep-alive of 75 s."""

NOT_JUDGED = frozenset({"kafka", "load generator"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Resident memory of every process at one moment."""

    minutes: float  # since the load began
    rss_mib: Mapping[str, float]
    rows: Mapping[str, float]  # by table
    disk_mib: Mapping[str, float]  # by worker that keeps tables


async def measure(
    stage: Stage,
    report: Report,
    *,
    minutes: float,
    warm_up_min: float,
    rate: float | None,
    key_life_min: float | None = None,
) -> None:
    """Load and sample.

    Args:
        stage: the engine; with brief lives it has to run with `environment_of`.
        report: is told the figures.
        minutes: of the load, the warm-up included.
        warm_up_min: minutes that are not judged; with brief lives they should be longer than an order's.
        rate: payments a second; None measures the saturated rate and takes half.
        key_life_min: minutes that a key lives, and half of what an order does; None: production's days.
    """
    if key_life_min is not None:
        await make_brief(stage.engine, str(round(key_life_min * 60_000 / CLAIM_DAYS)))
        report.say(f"keys live for {key_life_min:g} minutes, orders for {key_life_min * ORDER_DAYS / CLAIM_DAYS:.1f}")
    port = stage.engine.http_port
    if rate is None:
        await closed_loop(port, payments("soak-warm", "sync"), clients=CLIENTS, seconds=SATURATION_WARM_UP_S)
        saturated = await closed_loop(port, payments("soak-full", "sync"), clients=CLIENTS, seconds=SATURATION_S)
        rate = saturated.per_second(CREATED) / 2
        report.say(f"saturated: {saturated.per_second(CREATED):.0f} payments/s")
    report.say(f"load: {rate:.0f} payments/s for {minutes:g} minutes, of which {warm_up_min:g} are warm-up")
    load = asyncio.create_task(_paced(port, per_second=rate, seconds=60 * minutes))
    samples = await _sample_until(stage, load)
    _judge(report, samples, await load, warm_up_min=warm_up_min)
    judged = [each for each in samples if each.minutes >= warm_up_min]
    _judge_tables(report, judged, brief=key_life_min is not None)


def environment_of(key_life_min: float | None) -> Mapping[str, str]:
    """Return the variables of an engine for a soak."""
    quiet = {"PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING"}
    return quiet if key_life_min is None else {**quiet, **lives_of(CLAIM_DAYS, ORDER_DAYS)}


async def _paced(port: int, *, per_second: float, seconds: float) -> Measured:
    """As `bench.load.open_loop`, but for hours: a connection that was idle for long may be closed by the ingress."""
    measured = Measured()
    loop = asyncio.get_running_loop()
    requests = payments("soak", "sync")
    idle: deque[tuple[float, Connection]] = deque()  # the longest idle first
    began = loop.time()

    async def one(due: float) -> None:
        connection = idle.pop()[1] if idle else await connect(port)
        measured.statuses[await connection.ask(next(requests))] += 1
        measured.latencies_s.append(loop.time() - due)
        idle.append((loop.time(), connection))

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * seconds)):
            due = began + number / per_second
            await asyncio.sleep(max(0.0, due - loop.time()))  # the pace of the load
            while idle and idle[0][0] < loop.time() - IDLE_MAX_S:
                idle.popleft()[1].close()
            group.create_task(one(due))
    measured.seconds = loop.time() - began
    for _, connection in idle:
        connection.close()
    return measured


async def _sample_until(stage: Stage, load: asyncio.Task[Measured]) -> list[Sample]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    pids = {name: each.pid for name, each in stage.engine.components.items()}
    pids |= {"kafka": stage.kafka.nodes[0].process.pid, "load generator": os.getpid()}
    samples: list[Sample] = []
    while not load.done():
        usages = usage_of(pids)
        rss_mib = {name: usage.rss_mib for name, usage in usages.items()}
        rows, disk_mib = await _tables_of(stage)
        samples.append(Sample(minutes=(loop.time() - began) / 60, rss_mib=rss_mib, rows=rows, disk_mib=disk_mib))
        await asyncio.wait({load}, timeout=SAMPLE_EVERY_S)
    return samples


async def _tables_of(stage: Stage) -> tuple[dict[str, float], dict[str, float]]:
    """Return the rows of each table, of all workers together, and the MiB on disk of each worker's tables."""
    rows: dict[str, float] = {}
    disk_mib: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        for name, component in stage.engine.components.items():
            tables = COMPONENTS[name.split("-")[0]].tables if name.startswith(("orders", "claims")) else ()
            if not tables:
                continue
            async with session.get(f"http://127.0.0.1:{component.health_port}/metrics") as answer:
                page = await answer.text()
            for table in tables:
                rows[table] = rows.get(table, 0) + value_in(page, "table_rows", table=table)
            disk_mib[name] = await asyncio.to_thread(size_mib, stage.engine.folder / name)
    return rows, disk_mib


def _judge_tables(report: Report, samples: Sequence[Sample], *, brief: bool) -> None:
    of_rows = {f"rows of {table}": [each.rows[table] for each in samples] for table in samples[0].rows}
    of_disk = {f"disk of {name}, MiB": [each.disk_mib[name] for each in samples] for name in samples[0].disk_mib}
    for found, aim in ((of_rows, AIM_ROWS_PER_MIN), (of_disk, AIM_DISK_PER_MIN)):
        for what, values in found.items():
            mean = statistics.fmean(values)
            slope = statistics.linear_regression([each.minutes for each in samples], values).slope
            report.figure(
                f"{what}: {values[0]:.0f} after the warm-up, {values[-1]:.0f} at the end; slope, of the mean",
                100 * slope / mean if mean else 0.0,
                "%/min",
                below=100 * aim if brief else None,
            )


def _judge(report: Report, samples: Sequence[Sample], load: Measured, *, warm_up_min: float) -> None:
    judged = [each for each in samples if each.minutes >= warm_up_min]
    for name in samples[0].rss_mib:
        slope = slope_mib_per_min(judged, name)
        first, last = judged[0].rss_mib[name], judged[-1].rss_mib[name]
        report.figure(
            f"{name}: {first:.0f} MiB after the warm-up, {last:.0f} at the end; slope",
            slope,
            "MiB/min",
            below=None if name in NOT_JUDGED else AIM_MIB_PER_MIN,
        )
    p50, p99 = load.percentile_ms(50), load.percentile_ms(99)
    report.say(f"payments: {load.statuses[CREATED]}; p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    report.none_of("other answers", [f"{status}: {n}x" for status, n in load.statuses.items() if status != CREATED])


def slope_mib_per_min(samples: Sequence[Sample], name: str) -> float:
    """The slope of the line through the samples of one process, by least squares."""
    minutes = [each.minutes for each in samples]
    return statistics.linear_regression(minutes, [each.rss_mib[name] for each in samples]).slope
