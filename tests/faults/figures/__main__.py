"""`python -m tests.faults.figures NAME`: plays one scenario on a Kafka of its own and prints its figures.

Exit code 1 when an aim was missed or anything was lost. Figures depend on the machine, so it is printed with them.
"""

import argparse
import asyncio
import os
import platform
import sys
import warnings
from collections.abc import Awaitable, Callable

from tests.faults.figures import cold_recovery
from tests.faults.figures.report import Report
from tests.faults.figures.stage import PARTITIONS, a_cluster, engine_on

Play = Callable[[argparse.Namespace, Report], Awaitable[None]]


async def play_cold_recovery(chosen: argparse.Namespace, report: Report) -> None:
    """One orders worker with an empty disk and a full changelog."""
    with a_cluster() as kafka:
        async with engine_on(kafka, session_timeout_s=chosen.session) as stage:
            await cold_recovery.measure(stage, report, rows=chosen.rows)


def main() -> int:
    """Play what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.figures", description=__doc__)
    names = parser.add_subparsers(required=True, metavar="NAME")
    add = _Scenarios(names)
    cold = add("cold-recovery", play_cold_recovery)
    cold.add_argument("--rows", type=int, default=1_000_000, help="orders on the changelog (default: %(default)s)")
    chosen = parser.parse_args()
    report = Report()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report.say(f"machine: {machine}; {PARTITIONS} partitions, session time-out {chosen.session:g} s")
    asyncio.run(chosen.play(chosen, report))
    return report.exit_code


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
