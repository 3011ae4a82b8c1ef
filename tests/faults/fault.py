"""What a fault is: something that strikes the world, holds, heals, and says what it did."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.world import World

Strike = Callable[["World", random.Random], Awaitable[str]]
"""Strikes, holds and heals; returns one line that says what it did. Chance decides the details, so a seed repeats them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of bad luck. `name` is how reports and `--only` call it."""

    name: str
    strike: Strike
