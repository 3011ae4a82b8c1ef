"""Do the workers run, and do they keep up? Called by `examination`; pure."""

from collections.abc import Iterator, Mapping

from streams.operator_tools.doctor.cluster import GroupState
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.topology import GROUPS

WARN_LAG_RECORDS = 10_000
"""About ten seconds of one worker at full speed."""


def judge(groups: Mapping[str, GroupState]) -> Iterator[Finding]:
    """Yield the state of each group of the engine."""
    for name in GROUPS:
        state = groups.get(name)
        if state is None:
            yield _untold(name)
        else:
            yield _present(name, state) if state.members else _absent(name)


def _untold(name: str) -> Finding:
    return warning(
        Subject.WORKERS,
        f"{name}: the cluster does not tell about this group",
        why="Nobody knows whether a worker runs: the group's coordinator did not answer, or this user may not ask.",
        fix="Ask again in a minute; if it stays, allow this user to describe the group and look at the brokers.",
    )


def _absent(name: str) -> Finding:
    return warning(
        Subject.WORKERS,
        f"no {name} worker runs",
        why="Accepted payments wait on the log until one does.",
        fix=f"Start `payment-engine {name}`.",
    )


def _present(name: str, group: GroupState) -> Finding:
    total = sum(group.lag.values())
    if total > WARN_LAG_RECORDS:
        worst = max(group.lag, key=lambda topic: group.lag[topic])
        return warning(
            Subject.WORKERS,
            f"{name}: {total} records behind, most on {worst} ({group.lag[worst]}), with {group.members} worker(s)",
            why="New payments wait behind them.",
            fix="Start more workers, up to one a partition; if one partition is far behind the others "
            f"({group.behind_by[worst]} on {worst}), see that worker's log.",
        )
    if group.state.upper() not in {"STABLE", "UNKNOWN"}:
        return failure(
            Subject.WORKERS,
            f"{name}: the group is in state {group.state} with {group.members} worker(s)",
            why="During a rebalance nobody reads; a group that never settles is a worker that dies again and again.",
            fix="Ask again in a minute; if it stays, see the workers' logs.",
        )
    return ok(Subject.WORKERS, f"{name}: {group.members} worker(s), {total} records behind")
