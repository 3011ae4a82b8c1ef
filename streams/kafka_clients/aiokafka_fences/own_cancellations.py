"""A consumer that closes cancels its own tasks, and nobody else.

Installed before any aiokafka client is built. aiokafka awaits each task that it has cancelled, and
some hand their cancellation out: a fetch that failed and waits before it says so (`retry_backoff_ms`), and any task
that has not begun yet, as those of a consumer that is stopped right after its start (aiokafka #647). Whoever stops the
consumer looks cancelled then, and the rest of that stop is not done: sockets stay open, and a program that was asked to
end while its brokers restart ends with a traceback. Written against aiokafka 0.14.0.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator, NoGroupCoordinator

Ending = Callable[..., Awaitable[None]]

_MARK = "_keeps_its_cancellations"
_TASKS_OF_A_MEMBER = {
    "_stop_heartbeat_task": "_heartbeat_task",
    "_stop_commit_offsets_refresh_task": "_commit_refresh_task",
}
"""What of aiokafka's ends a task -> where that stands."""


def install() -> None:
    """Wrap how aiokafka's consumer ends its tasks. Safe to call twice."""
    if hasattr(Fetcher.close, _MARK):
        return
    Fetcher.close = _fetches_first(Fetcher.close)
    NoGroupCoordinator.close = _ended_without_group
    for stop, task in _TASKS_OF_A_MEMBER.items():
        setattr(GroupCoordinator, stop, _task_first(getattr(GroupCoordinator, stop), task))


def _fetches_first(close: Ending) -> Ending:
    @functools.wraps(close)
    async def end_fetches_and_close(fetcher: Any) -> None:
        # The task that begins fetches first, else it would begin others meanwhile.
        await _ended([fetcher._fetch_task])  # noqa: SLF001 -- there is no public way
        await _ended(fetcher._pending_tasks)  # noqa: SLF001 -- as above
        fetcher._pending_tasks.clear()  # noqa: SLF001 -- each would be awaited again, and say that it was cancelled
        await close(fetcher)

    setattr(end_fetches_and_close, _MARK, True)
    return end_fetches_and_close


async def _ended_without_group(coordinator: Any) -> None:
    await _ended([coordinator._reset_committed_task])  # noqa: SLF001 -- as above
    coordinator._reset_committed_task = None  # noqa: SLF001 -- as aiokafka's own


def _task_first(stop: Ending, task: str) -> Ending:
    @functools.wraps(stop)
    async def end_and_stop(coordinator: Any) -> None:
        await _ended([getattr(coordinator, task)])
        await stop(coordinator)

    return end_and_stop


async def _ended(tasks: Iterable[Any]) -> None:
    """Cancel and wait. What is done already keeps what it has to say, for aiokafka to hear."""
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)  # hands out no result of theirs, and is cancelled only with its caller
