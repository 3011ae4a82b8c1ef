"""Half of the load that saturates the engine, for half an hour: does any process keep growing?

The memory of each process is sampled by the clock; after a warm-up the slope of the line through its samples is what
is judged (least squares). Kafka's JVM and this load generator are reported and not judged.
"""

import asyncio
import os
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.load import Connection, Measured, closed_loop, connect, payments
from bench.processes import usage_of
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage
from tests.faults.figures.steady_load import CREATED

AIM_MIB_PER_MIN = 1.0
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


async def measure(stage: Stage, report: Report, *, minutes: float, warm_up_min: float, rate: float | None) -> None:
    """Load and sample; `rate` in payments a second, None measures the saturated one and takes half."""
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
        samples.append(Sample(minutes=(loop.time() - began) / 60, rss_mib=rss_mib))
        await asyncio.wait({load}, timeout=SAMPLE_EVERY_S)
    return samples


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
