"""All orders workers are gone: the ingress still takes commands, and all of them complete once a worker is back.

What is promised of `mode=async` is a 202 once the command is durable and its claim granted; with nobody there to grant
it, the ingress says 202 after `ASYNC_WAIT_S`, since nothing but time can be won by waiting longer.
"""

import asyncio

from http_ingress.limits import ASYNC_WAIT_S
from tests.faults.figures.failover import SERVING_TIMEOUT_S
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage
from tests.faults.figures.steady_load import SteadyLoad

ACCEPTED = 202
AIM_S = ASYNC_WAIT_S + 1.0


async def measure(stage: Stage, report: Report, *, seconds: float, per_second: float, aim_s: float = AIM_S) -> None:
    """Kill every orders worker, ask for payments meanwhile, start the workers, and wait for all payments."""
    workers = [each for name, each in stage.engine.components.items() if name.startswith("orders")]
    load = SteadyLoad(stage, per_second=per_second, mode="async")
    await asyncio.gather(*(each.kill() for each in workers))
    async with load.running():
        await asyncio.sleep(seconds)  # the length of the outage is what is asked for, no condition
        asked_meanwhile = list(load.history.requests)
        started_s = load.now()
        await asyncio.gather(*(each.start() for each in workers))
        served = await load.flowing(load.order_partition, since_s=started_s, timeout_s=SERVING_TIMEOUT_S)
        report.figure("workers started: every partition served again after", max(served.values()), "s")
    first = [each.answers[0] for each in asked_meanwhile]
    report.say(f"asked while no orders worker ran for {seconds:g} s: {len(first)} payments, mode=async")
    report.none_of("answers other than 202 meanwhile", [each.status for each in first if each.status != ACCEPTED])
    report.figure("slowest 202", max(each.seconds for each in first), "s", below=aim_s)
    report.figure("quickest 202", min(each.seconds for each in first), "s")
    await load.nothing_lost(report)
