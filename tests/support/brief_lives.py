"""A worker of the orders or claims app to which a day is half a second: its rows end while a test looks on.

Run as a process, `python -m tests.support.brief_lives orders`, or with the milliseconds of a day behind it: then what
is remembered of deleted rows for a week goes after seven of those days, too. Rows are due by such days, not by minutes.
Nothing else differs from production's.
"""

import asyncio
import sys
from collections.abc import Mapping

from streams import bootstrap
from streams.agents import dues
from streams.cli.program import run_program
from streams.cli.programs import COMPONENTS
from streams.development.local_engine import LocalEngine
from streams.kafka import partition_rows

DAY_MS = 500


def lives_of(claim_days: int, order_days: int) -> Mapping[str, str]:
    """Return the variables that say how many such days keys and orders live, orders with money included."""
    return {
        "PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS": str(claim_days),
        "PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS": str(order_days),
        "PAYMENT_ENGINE_STREAM_PAID_ORDER_LIFE_DAYS": str(order_days),
    }


async def make_brief(engine: LocalEngine, *arguments: str) -> None:
    """Start the orders and claims workers of a running engine anew, with brief days."""
    workers = [each for name, each in engine.components.items() if name.startswith(("orders", "claims"))]
    await asyncio.gather(*(each.stop() for each in workers))
    for each in workers:
        each.arguments = ["-m", "tests.support.brief_lives", each.name.split("-")[0], *arguments]
    await asyncio.gather(*(each.start() for each in workers))


if __name__ == "__main__":
    bootstrap.DAY_MS = DAY_MS
    if len(sys.argv) > 2:
        bootstrap.DAY_MS = int(sys.argv[2])
        partition_rows.TOMBSTONE_KEPT_MS = 7 * bootstrap.DAY_MS
    dues.LOOK_MS = bootstrap.DAY_MS
    component = sys.argv[1]
    run_program(component, getattr(bootstrap, COMPONENTS[component][1]))
