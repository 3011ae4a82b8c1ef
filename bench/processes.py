"""What each process of the engine used: CPU time between two looks, and memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds since the process began, and resident memory now."""

    cpu_s: float
    rss_mib: float


def usage_of(pids: Mapping[str, int]) -> dict[str, Usage]:
    """Return the usage of each process by its name."""
    usages = {}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        times = process.cpu_times()
        usages[name] = Usage(cpu_s=times.user + times.system, rss_mib=process.memory_info().rss / MIB)
    return usages


def cpu_ms_each(before: Mapping[str, Usage], after: Mapping[str, Usage], *, count: int) -> dict[str, float]:
    """Return the CPU milliseconds that each process spent on one of `count` payments."""
    return {name: 1000 * (after[name].cpu_s - before[name].cpu_s) / max(count, 1) for name in after}
