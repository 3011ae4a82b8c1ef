"""`make faults`: the long run. `python -m tests.faults --operations 3000 --faults 20 --seed 7 --only kill-orders`."""

import argparse
import asyncio
import sys
from pathlib import Path

from tests.faults.kinds import FAULTS
from tests.faults.kinds.peers import OF_FOUR, OF_FOUR_ALONE
from tests.faults.run import Plan, run, summary
from tests.support.checker import MAX_SHOWN

OPERATIONS = 100_000
STRIKES = 300


def main() -> int:
    """Run, print the verdict; returns the exit code: 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="at least so many (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=STRIKES, help="how many strike (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of workload and faults (default: %(default)s)")
    parser.add_argument("--only", default="", help="kinds of faults, or what their names begin with, with commas")
    parser.add_argument("--overlap", type=float, default=0.25, help="share of faults that come with another")
    parser.add_argument("--folder", type=Path, default=None, help="keeps logs, history and verdict here")
    parser.add_argument("--gateways", action="store_true", help="all four gateways, each with faults of its own")
    parser.add_argument("--list", action="store_true", help="the kinds of faults")
    chosen = parser.parse_args()
    there_are = (*FAULTS, *OF_FOUR_ALONE) if chosen.gateways else FAULTS
    kinds_of_run = OF_FOUR if chosen.gateways and not chosen.only else there_are
    if chosen.list:
        for fault in there_are:
            print(f"{fault.name:36} {fault.missing() or ''}")
        return 0
    wanted = tuple(name for name in chosen.only.split(",") if name) or ("",)
    named = [fault for fault in kinds_of_run if fault.name.startswith(wanted)]
    for fault in named:
        if (missing := fault.missing()) is not None:
            print(f"not drawn: {fault.name}: {missing}")
    kinds = [fault for fault in named if fault.missing() is None]
    if not kinds:
        parser.error(f"no fault is called {chosen.only}")
    plan = Plan(
        operations=chosen.operations,
        faults=chosen.faults,
        kinds=kinds,
        seed=chosen.seed,
        overlap=chosen.overlap,
        folder=chosen.folder,
        gateways=chosen.gateways,
    )
    verdict = asyncio.run(run(plan, tell=lambda line: print(line, flush=True)))
    print(summary(verdict))
    for violation in verdict.violations[:MAX_SHOWN]:
        print(f"VIOLATION: {violation}")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
