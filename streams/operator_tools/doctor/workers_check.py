"""Do the workers run, and do they keep up? Called by `examination`; pure."""

from collections.abc import Iterator, Mapping

from schemas.topics import DAY_MS, HOUR_MS, is_perishable
from streams.kafka_clients.backlog import summarize_loss
from streams.operator_tools.doctor.cluster import GroupState
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.topology import GROUPS

WARN_LAG_RECORDS = 10_000
"""About ten seconds of one worker at full speed."""


WARN_RETENTION_USED = 0.5
FAIL_RETENTION_USED = 0.8
"""Shares of a topic's retention that its oldest unread record has waited; at 1 it is deleted."""


def judge(groups: Mapping[str, GroupState], *, kept_ms: Mapping[str, int], now_ms: int) -> Iterator[Finding]:
    """Yield the state of each group of the engine.

    Args:
        groups: by name; one that the cluster did not tell about is not in it.
        kept_ms: how long each topic keeps its records, milliseconds; without those that keep them for ever.
        now_ms: this machine's time, milliseconds since 1970.
    """
    for name in GROUPS:
        state = groups.get(name)
        if state is None:
            yield _untold(name)
            continue
        if state.lost:
            yield _lost(name, state)
        yield from _old(name, state, kept_ms, now_ms)
        yield _present(name, state, now_ms) if state.members else _absent(name)


def _lost(name: str, group: GroupState) -> Finding:
    return failure(
        Subject.WORKERS,
        summarize_loss(name, group.lost),
        why="They may have been acknowledged, and are gone from the log: nobody will carry them out. A worker of the "
        "group refuses to start.",
        fix="Ask whoever sent them, and compare with the gateways. Once a person has looked, start one worker, once, "
        f"by `payment-engine {name} --accept-loss`.",
    )


def _old(name: str, group: GroupState, kept_ms: Mapping[str, int], now_ms: int) -> Iterator[Finding]:
    for topic, appended_ms in group.oldest_ms.items():
        kept, age = kept_ms.get(topic), max(0, now_ms - appended_ms)
        if kept is None or is_perishable(topic) or age < WARN_RETENTION_USED * kept:
            continue
        say = failure if age >= FAIL_RETENTION_USED * kept else warning
        yield say(
            Subject.WORKERS,
            f"{name}: the oldest unread record of {topic} is {_span(age)} old, and the topic keeps {_span(kept)}",
            why="What is not read by then is deleted.",
            fix=f"Start more {name} workers. If that takes longer than what is left, raise retention.ms of {topic} "
            "first; `payment-engine topics apply` sets it back.",
        )


def _span(duration_ms: int) -> str:
    for unit_ms, unit in ((DAY_MS, "d"), (HOUR_MS, "h"), (60_000, "min")):
        if duration_ms >= unit_ms:
            return f"{duration_ms / unit_ms:.1f} {unit}"
    return f"{duration_ms / 1000:.1f} s"


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


def _present(name: str, group: GroupState, now_ms: int) -> Finding:
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
    oldest_ms = min(group.oldest_ms.values(), default=None)
    oldest = "" if oldest_ms is None else f", the oldest {_span(max(0, now_ms - oldest_ms))} old"
    return ok(Subject.WORKERS, f"{name}: {group.members} worker(s), {total} records behind{oldest}")
