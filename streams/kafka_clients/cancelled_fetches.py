"""A consumer that closes cancels its own fetches, and nobody else.

Installed by `connection`, before any aiokafka client is built. A fetch that has failed waits before it says so
(`retry_backoff_ms`). When aiokafka's consumer is stopped in that moment, it cancels the wait and hands the cancellation
out (fetcher.py, `close`; aiokafka #647): whoever stops it looks cancelled, the rest of that stop is not done, and a
program that was asked to end while its brokers restart ends with a traceback. Written against aiokafka 0.14.0.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.consumer.fetcher import Fetcher

_MARK = "_keeps_its_cancellations"


def install() -> None:
    """Wrap how aiokafka's fetcher closes. Safe to call twice."""
    if not hasattr(Fetcher.close, _MARK):
        Fetcher.close = _keeping_cancellations(Fetcher.close)


def _keeping_cancellations(close: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(close)
    async def end_fetches_and_close(fetcher: Any) -> None:
        # The task that begins fetches first, else it would begin others meanwhile.
        await _ended([fetcher._fetch_task])  # noqa: SLF001 -- there is no public way
        await _ended(fetcher._pending_tasks)  # noqa: SLF001 -- as above
        fetcher._pending_tasks.clear()  # noqa: SLF001 -- each would be awaited again, and say that it was cancelled
        await close(fetcher)

    setattr(end_fetches_and_close, _MARK, True)
    return end_fetches_and_close


async def _ended(tasks: Any) -> None:
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)  # hands out no result of theirs, and is cancelled only with its caller
