"""Waiting for a condition, with a limit: what tests do instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable

LOOK_AGAIN_S = 0.02


async def until(condition: Callable[[], bool], *, timeout_s: float, look_again_s: float = LOOK_AGAIN_S) -> None:
    """Returns when the condition holds. Raises: TimeoutError when it does not in time."""

    async def look() -> bool:
        return condition()

    await until_async(look, timeout_s=timeout_s, look_again_s=look_again_s)


async def until_async(
    condition: Callable[[], Awaitable[bool]], *, timeout_s: float, look_again_s: float = LOOK_AGAIN_S
) -> None:
    """Returns when the awaited condition holds. Raises: TimeoutError when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 -- other processes and libraries set no event of ours
            await asyncio.sleep(look_again_s)
