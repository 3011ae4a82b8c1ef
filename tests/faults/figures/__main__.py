"""`python -m tests.faults.figures NAME`: plays one scenario on a Kafka of its own and prints its figures.

Exit code 1 when an aim was missed or anything was lost. Figures depend on the machine, so it is printed with them.
"""

import argparse
import asyncio
import logging
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from tests.faults.figures import (
    broker_gone,
    cold_recovery,
    executor_holds,
    expiry,
    failover,
    orders_gone,
    soak,
    static_restart,
    timers,
)
from tests.faults.figures.report import Report
from tests.faults.figures.stage import PARTITIONS, a_cluster, engine_on

Play = Callable[[argparse.Namespace, Report], Awaitable[None]]


async def play_failover(chosen: argparse.Namespace, report: Report) -> None:
    """One of two workers is killed for good; the other has warm standbys."""
    with a_cluster() as kafka:
        for component in chosen.component or ("orders", "claims"):
            async with engine_on(
                kafka, session_timeout_s=chosen.session, orders_workers=2, claims_workers=2, executors=2,
                standby_replicas=1,
            ) as stage:  # fmt: skip
                await failover.measure(stage, report, component=component, per_second=chosen.rate)


async def play_static_restart(chosen: argparse.Namespace, report: Report) -> None:
    """One of two workers is restarted by SIGTERM, within its session."""
    with a_cluster() as kafka:
        async with engine_on(
            kafka, session_timeout_s=chosen.session, orders_workers=2, claims_workers=2, executors=2
        ) as stage:
            for component in chosen.component or ("orders", "claims", "executor"):
                await static_restart.measure(stage, report, component=component, per_second=chosen.rate)


async def play_broker_gone(chosen: argparse.Namespace, report: Report) -> None:
    """The only broker is killed and comes back on its data."""
    with a_cluster() as kafka:
        async with engine_on(kafka, session_timeout_s=chosen.session) as stage:
            await broker_gone.measure(stage, report, seconds=chosen.seconds, per_second=chosen.rate)


async def play_orders_gone(chosen: argparse.Namespace, report: Report) -> None:
    """All orders workers are killed and come back."""
    with a_cluster() as kafka:
        async with engine_on(kafka, session_timeout_s=chosen.session, orders_workers=2) as stage:
            await orders_gone.measure(stage, report, seconds=chosen.seconds, per_second=chosen.rate)


async def play_executor_join(chosen: argparse.Namespace, report: Report) -> None:
    """An executor joins and another leaves, while a slow gateway holds calls."""
    _quiet()
    with a_cluster() as kafka:
        await executor_holds.measure_changes(
            str(kafka.bootstrap_servers), report, per_second=chosen.rate, seconds=chosen.seconds
        )


async def play_slow_gateway(chosen: argparse.Namespace, report: Report) -> None:
    """One gateway holds all of its calls; what of the payments at another?"""
    _quiet()
    with a_cluster() as kafka:
        await executor_holds.measure_starvation(
            str(kafka.bootstrap_servers), report, per_second=chosen.rate, seconds=chosen.seconds
        )


def _quiet() -> None:
    """Let executors in this process say no more than errors: each logs every call."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


async def play_soak(chosen: argparse.Namespace, report: Report) -> None:
    """Half of the saturated load for a long time: does memory grow, or a table?"""
    with a_cluster() as kafka:
        environment = soak.environment_of(chosen.key_life)
        async with engine_on(kafka, session_timeout_s=chosen.session, environment=environment) as stage:
            await soak.measure(
                stage,
                report,
                minutes=chosen.minutes,
                warm_up_min=chosen.warm_up,
                rate=chosen.rate,
                key_life_min=chosen.key_life,
            )


async def play_cold_recovery(chosen: argparse.Namespace, report: Report) -> None:
    """One orders worker with an empty disk and a full changelog."""
    with a_cluster() as kafka:
        async with engine_on(kafka, session_timeout_s=chosen.session) as stage:
            await cold_recovery.measure(stage, report, rows=chosen.rows)


async def play_expiry(chosen: argparse.Namespace, report: Report) -> None:
    """Rows at the end of their lives, in tables of millions; no broker."""
    for table in chosen.table or ("orders", "claims"):
        with tempfile.TemporaryDirectory(prefix="payment-engine-figures-") as folder:
            await expiry.measure(report, Path(folder), table=table, rows=chosen.rows, due=chosen.due)


async def play_timers(chosen: argparse.Namespace, report: Report) -> None:
    """Open timers come with their partitions and go with them; no broker."""
    with tempfile.TemporaryDirectory(prefix="payment-engine-figures-") as folder:
        await timers.measure(report, Path(folder), timers=chosen.timers, partitions=chosen.partitions)


def main() -> int:
    """Play what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.figures", description=__doc__)
    names = parser.add_subparsers(required=True, metavar="NAME")
    add = _Scenarios(names)
    cold = add("cold-recovery", play_cold_recovery)
    cold.add_argument("--rows", type=int, default=1_000_000, help="orders on the changelog (default: %(default)s)")
    for name, play, session_s in (("failover", play_failover, 6.0), ("static-restart", play_static_restart, 10.0)):
        killed = add(name, play, session_s=session_s)
        killed.add_argument("--component", action="append", choices=["orders", "claims", "executor"], help="only these")
        _rate(killed, 40.0)
    for name, play in (("broker-gone", play_broker_gone), ("orders-gone", play_orders_gone)):
        gone = add(name, play)
        gone.add_argument("--seconds", type=float, default=60.0, help="length of the outage (default: %(default)s)")
        _rate(gone, 5.0)
    for name, held, seconds, rate in (
        ("executor-join", play_executor_join, 15.0, 50.0),
        ("slow-gateway", play_slow_gateway, 40.0, 150.0),
    ):
        holds = add(name, held)
        holds.add_argument("--seconds", type=float, default=seconds, help="of load, a part (default: %(default)s)")
        _rate(holds, rate)
    long = add("soak", play_soak)
    long.add_argument("--minutes", type=float, default=30.0, help="(default: %(default)s)")
    long.add_argument("--warm-up", type=float, default=15.0, help="minutes that are not judged (default: %(default)s)")
    long.add_argument(
        "--key-life", type=float, default=None, help="minutes that a key lives, half of an order's (default: days)"
    )
    _rate(long, None)
    ends = add("expiry", play_expiry)
    ends.add_argument("--rows", type=int, default=10_000_000, help="rows of the table (default: %(default)s)")
    ends.add_argument("--due", type=int, default=50_000, help="of which have come to their end (default: %(default)s)")
    ends.add_argument("--table", action="append", choices=["orders", "claims"], help="only these")
    moved = add("timers", play_timers)
    moved.add_argument("--timers", type=int, default=1_000_000, help="open ones (default: %(default)s)")
    moved.add_argument("--partitions", type=int, default=8, help="that hold them (default: %(default)s)")
    chosen = parser.parse_args()
    report = Report()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report.say(f"machine: {machine}; {PARTITIONS} partitions, session time-out {chosen.session:g} s")
    asyncio.run(chosen.play(chosen, report))
    return report.exit_code


def _rate(parser: argparse.ArgumentParser, default: float | None) -> None:
    shown = "half of what saturates the engine, measured first" if default is None else f"{default:g}"
    parser.add_argument("--rate", type=float, default=default, help=f"payments a second (default: {shown})")


class _Scenarios:
    """Adds scenarios to the command line, each with what all of them know."""

    def __init__(self, names: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        self._names = names

    def __call__(self, name: str, play: Play, *, session_s: float = 10.0) -> argparse.ArgumentParser:
        parser = self._names.add_parser(name, help=(play.__doc__ or "").strip())
        parser.set_defaults(play=play)
        parser.add_argument(
            "--session", type=float, default=session_s, help="session time-out of workers, s (default: %(default)s)"
        )
        return parser


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())
