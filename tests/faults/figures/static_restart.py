"""A worker is restarted, as a deployment does it: nobody else may notice, and its orders wait for seconds only.

Workers are static members (`PAYMENT_ENGINE_STREAM_INSTANCE_ID`): one that leaves by SIGTERM says no farewell, and when
it is back within its session's time-out it gets its own partitions again, without a rebalance of the group.
"""

from tests.faults.figures.failover import SERVING_TIMEOUT_S, WARM_UP_S, Kind
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage
from tests.faults.figures.steady_load import SteadyLoad

AIM_S = 5.0


async def measure(
    stage: Stage,
    report: Report,
    *,
    component: Kind,
    per_second: float,
    warm_up_s: float = WARM_UP_S,
    aim_s: float = AIM_S,
) -> None:
    """Stop one of two workers by SIGTERM under load, start it at once, and read the gap of each partition."""
    load = SteadyLoad(stage, per_second=per_second)
    partition_of = load.claim_partition if component == "claims" else load.order_partition
    restarted, other = stage.engine.components[f"{component}-1"], f"{component}-0"
    async with load.running():
        await load.flowing(partition_of, since_s=load.now() + warm_up_s, timeout_s=SERVING_TIMEOUT_S)
        assigned_before = stage.assignments(other)
        asked_s = load.now()
        code = await restarted.stop()
        ended_s = load.now()
        await restarted.start()
        back_s = load.now()
        await load.flowing(partition_of, since_s=back_s, timeout_s=SERVING_TIMEOUT_S)
    report.say(
        f"{component}-1 restarted: ended with {code} {ended_s - asked_s:.1f} s after SIGTERM,"
        f" ready {back_s - ended_s:.1f} s after that"
    )
    gaps = load.gaps(partition_of, since_s=asked_s)
    report.figure(f"{component} worker restarted: longest gap of a partition", max(gaps.values()), "s", below=aim_s)
    report.none_of(f"rebalances at {other}", ["assigned once more"] * (stage.assignments(other) - assigned_before))
    await load.nothing_lost(report)
