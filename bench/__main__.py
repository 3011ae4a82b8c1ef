"""`make bench`: payments a second, latency, CPU and memory, from one run on a real Apache Kafka of one node.

Phases, each on fresh orders: closed loop at saturation and open loop at 50/s with a Mock that answers at once; then a
closed loop with a Mock that takes 500 ms. Figures depend on the machine, so they are printed with it; compare only what
one run printed.
"""

import argparse
import asyncio
import os
import platform
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.load import Measured, closed_loop, open_loop, payments
from bench.processes import Usage, cpu_ms_each, usage_of
from streams.development.local_engine import LocalEngine
from tests.kafka_cluster import KafkaCluster

# The broker compiles its own code for half a minute, on the same two cores: until then it measures the compiler.
WARM_UP_S = 30.0
CLIENTS = 64
SLOW_CLIENTS = 480
LATENCY_RATE = 50.0
CREATED = 201
ACCEPTED = 202
# Few partitions, as one worker of each kind on two cores would be given: aiokafka names every partition in every fetch.
PARTITIONS = 4
ENVIRONMENT = {
    "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
    "PAYMENT_ENGINE_KAFKA_PARTITIONS": str(PARTITIONS),
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
}


def main() -> None:
    """Run every phase and print the figures."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each phase (default: %(default)s)")
    parser.add_argument("--only", choices=["fast", "slow"], default=None, help="only one gateway latency")
    chosen = parser.parse_args()
    python = f"Python {platform.python_version()} {build_of_python()}"
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, {python}; {PARTITIONS} partitions")
    with KafkaCluster(brokers=1) as kafka:
        if chosen.only != "slow":
            asyncio.run(fast_gateway(kafka, seconds=chosen.seconds))
        if chosen.only != "fast":
            asyncio.run(slow_gateway(kafka, seconds=chosen.seconds))


def build_of_python() -> str:
    """Return how this Python was compiled, for a person: with profile-guided optimisation it is a quarter faster."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "built with optimisation"
    return "built WITHOUT optimisation (--enable-optimizations gives 23 to 43 % more payments)"


async def fast_gateway(kafka: KafkaCluster, *, seconds: float) -> None:
    """A Mock that answers at once: throughput at saturation, then latency at a modest rate."""
    with tempfile.TemporaryDirectory(prefix="payment-engine-bench-") as folder:
        async with engine_on(kafka, folder, ()) as engine:
            await closed_loop(engine.http_port, payments("warm", "sync"), clients=CLIENTS, seconds=WARM_UP_S)
            before = usage_of(pids_of(engine, kafka))
            measured = await closed_loop(engine.http_port, payments("sync", "sync"), clients=CLIENTS, seconds=seconds)
            after = usage_of(pids_of(engine, kafka))
            print(f"\nMock at 0 ms, {CLIENTS} clients, sync: {completed(measured)}")
            print_usage(before, after, count=measured.statuses[CREATED])
            accepted = await closed_loop(
                engine.http_port, payments("async", "async"), clients=CLIENTS, seconds=seconds / 2
            )
            print(f"\nMock at 0 ms, {CLIENTS} clients, async: {accepted.per_second(ACCEPTED):.0f} accepted/s"
                  f" (other answers: {others(accepted, ACCEPTED)})")  # fmt: skip
            paced = await open_loop(
                engine.http_port, payments("paced", "sync"), per_second=LATENCY_RATE, seconds=seconds
            )
            print(f"\nMock at 0 ms, {LATENCY_RATE:.0f}/s, sync: p50 {paced.percentile_ms(50):.1f} ms,"
                  f" p99 {paced.percentile_ms(99):.1f} ms (other answers: {others(paced, CREATED)})")  # fmt: skip


async def slow_gateway(kafka: KafkaCluster, *, seconds: float) -> None:
    """A Mock that takes half a second: slow calls must not queue behind each other."""
    with tempfile.TemporaryDirectory(prefix="payment-engine-bench-") as folder:
        async with engine_on(kafka, folder, ("--latency", "fixed:500")) as engine:
            await closed_loop(engine.http_port, payments("slowwarm", "sync"), clients=SLOW_CLIENTS, seconds=WARM_UP_S)
            measured = await closed_loop(
                engine.http_port, payments("slow", "sync"), clients=SLOW_CLIENTS, seconds=seconds
            )
            print(f"\nMock at 500 ms, {SLOW_CLIENTS} clients, sync: {completed(measured)}")


def engine_on(kafka: KafkaCluster, folder: str, mock_arguments: Sequence[str]) -> LocalEngine:
    """Return an engine of one process a component on this broker."""
    return LocalEngine(
        folder=Path(folder),
        bootstrap_servers=kafka.bootstrap_servers,
        environment=ENVIRONMENT,
        mock_arguments=mock_arguments,
    )


def pids_of(engine: LocalEngine, kafka: KafkaCluster) -> dict[str, int]:
    """Return every process that takes part, the load generator included."""
    parts = {name: component.pid for name, component in engine.components.items()}
    return {**parts, "kafka": kafka.nodes[0].process.pid, "load generator": os.getpid()}


def completed(measured: Measured) -> str:
    """Return a phase's throughput and latency as a line."""
    return (
        f"{measured.per_second(CREATED):.0f} completed/s, p50 {measured.percentile_ms(50):.1f} ms,"
        f" p99 {measured.percentile_ms(99):.1f} ms (other answers: {others(measured, CREATED)})"
    )


def others(measured: Measured, expected: int) -> dict[int, int]:
    """Return how many answers had another status than the expected one."""
    return {status: count for status, count in measured.statuses.items() if status != expected}


def print_usage(before: dict[str, Usage], after: dict[str, Usage], *, count: int) -> None:
    """Print what each process spent on a payment, and its memory."""
    spent = cpu_ms_each(before, after, count=count)
    for name, milliseconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {name:16} {milliseconds:6.2f} CPU ms a payment, {after[name].rss_mib:6.0f} MiB")
    print(f"  {'together':16} {sum(spent.values()):6.2f} CPU ms a payment")


main()
