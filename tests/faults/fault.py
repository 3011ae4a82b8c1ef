"""What a fault is: something that strikes the world, holds, heals, and says what it did."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.world import World

Strike = Callable[["World", random.Random], Awaitable[str]]
"""Strikes, holds and heals; returns one line that says what it did. Chance decides the details: a seed repeats them."""


class Site(Enum):
    """What a fault touches. Two faults at once are of different sites, so that each can heal what it broke."""

    WORKERS = "workers"
    BROKERS = "brokers"
    NETWORK = "network"
    GATEWAY = "gateway"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of bad luck. `name` is how reports and `--only` call it."""

    name: str
    site: Site
    strike: Strike
    missing: Callable[[], str | None] = lambda: None
    """What this machine lacks for it, for the report; None: nothing."""


class FaultNotPlayedError(Exception):
    """A fault had no effect, or another than it was meant to have: it proves nothing, and is told as a violation."""


@dataclass(slots=True)
class _Course:
    """Of one strike: when its cause was gone, by the event loop's clock."""

    over_s: float | None = None


_course: ContextVar[_Course] = ContextVar("course")


def cause_is_gone() -> None:
    """Say within a strike that from now on the engine has to recover by itself; said again, the last time counts.

    The wait until a component is up again is not part of the fault but of the recovery from it.
    """
    _course.get().over_s = asyncio.get_running_loop().time()


async def played(fault: Fault, world: "World", chance: random.Random) -> tuple[str, float]:
    """Let the fault strike; return what it did, and since when its cause is gone. Call it in a task of its own."""
    course = _Course()
    _course.set(course)
    said = await fault.strike(world, chance)
    return said, asyncio.get_running_loop().time() if course.over_s is None else course.over_s
