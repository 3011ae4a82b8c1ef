"""A worker dies for good: how long until every partition serves payments again, by a worker with a warm standby.

The killed worker is a static member that never comes back, so the group learns of its end by its session's time-out and
by nothing else; the aim is that time-out and three seconds.
"""

from typing import Literal

from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage
from tests.faults.figures.steady_load import SteadyLoad

Kind = Literal["orders", "claims", "executor"]

BEYOND_SESSION_S = 3.0
SERVING_TIMEOUT_S = 60.0
WARM_UP_S = 5.0


async def measure(stage: Stage, report: Report, *, component: Kind, per_second: float) -> None:
    """Kill one of two workers under load, wait for every partition, and start it again for whoever comes next."""
    load = SteadyLoad(stage, per_second=per_second)
    partition_of = load.claim_partition if component == "claims" else load.order_partition
    victim = stage.engine.components[f"{component}-1"]
    async with load.running():
        await load.flowing(partition_of, since_s=load.now() + WARM_UP_S, timeout_s=SERVING_TIMEOUT_S)
        killed_s = load.now()
        await victim.kill()
        served = await load.flowing(partition_of, since_s=killed_s, timeout_s=SERVING_TIMEOUT_S)
        report.say(f"{component}-1 killed; first answer of each partition after, s: {_rounded(served)}")
        report.figure(
            f"{component} worker killed: every partition served again after",
            max(served.values()),
            "s",
            below=stage.session_timeout_s + BEYOND_SESSION_S,
        )
        await victim.start()
    await load.nothing_lost(report)


def _rounded(seconds: dict[int, float]) -> str:
    return ", ".join(f"{number}: {each:.1f}" for number, each in sorted(seconds.items()))
