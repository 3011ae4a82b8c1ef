"""What a fault is: something that strikes the world, holds, heals, and says what it did."""

import random
from collections.abc import Awaitable, Callable
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
