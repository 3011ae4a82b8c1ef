"""The nemesis: draws faults, lets them strike, and asks each time how long the engine took to serve again.

Called by `tests.faults.run`. Kinds are drawn from a bag that is emptied before it is filled again, so that each comes
equally often; now and then two of different sites strike at once. Everything follows from the seed but the timing.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.faults.fault import Fault, played
from tests.faults.world import World

BREATHER_S = (0.2, 1.5)
"""Between the recovery from a fault and the next."""

STRIKE_LIMIT_S = 400.0
"""Longest that one fault may take to strike, hold and heal."""

SERVES_LIMIT_S = 120.0
"""Where the nemesis stops waiting for the engine to serve again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """One fault that was. Times are from when its cause was gone; None: not within the limit.

    `recovered_s`: until every partition of orders and of claims served a payment through every ingress. `drained_s`:
    until every consumer had committed what stood on the log by then.
    """

    names: tuple[str, ...]
    said: str
    took_s: float
    recovered_s: float | None
    drained_s: float | None
    failed: bool = False
    """Whether the fault itself could not be played as it should."""


class Nemesis:
    """Strikes `count` faults, one or two at a time."""

    def __init__(
        self,
        world: World,
        faults: Sequence[Fault],
        *,
        seed: int,
        count: int,
        overlap: float,
        tell: Callable[[Struck], None] = lambda _: None,
    ) -> None:
        """`overlap`: how likely two strike at once, 0 to 1; `tell` is called after each strike."""
        self._world = world
        self._faults = list(faults)
        self._chance = random.Random(seed)
        self._left = count
        self._overlap = overlap
        self._tell = tell
        self._bag: list[Fault] = []
        self.struck: list[Struck] = []

    async def run(self) -> None:
        """Strike until the count is reached."""
        while self._left > 0:
            chosen = self._draw()
            self._left -= len(chosen)
            await self._world.pause(self._chance.uniform(*BREATHER_S))
            self.struck.append(await self._strike(chosen))
            self._tell(self.struck[-1])

    def _draw(self) -> list[Fault]:
        chosen = [self._next(lambda _: True)]
        if self._left > 1 and self._chance.random() < self._overlap:
            site = chosen[0].site
            second = self._next(lambda fault: fault.site is not site)
            if second is not chosen[0]:
                chosen.append(second)
        return chosen

    def _next(self, fits: Callable[[Fault], bool]) -> Fault:
        """Take a fitting kind out of the bag, refilled when none is left; with one kind alone, that one."""
        fitting = [fault for fault in self._bag if fits(fault)]
        if not fitting:
            self._bag += self._faults
            fitting = [fault for fault in self._bag if fits(fault)] or self._bag
        chosen = self._chance.choice(fitting)
        self._bag.remove(chosen)
        return chosen

    async def _strike(self, chosen: Sequence[Fault]) -> Struck:
        loop = asyncio.get_running_loop()
        began = loop.time()
        # One stream of chance each: what one draws must not depend on how fast the other is.
        chances = [random.Random(self._chance.getrandbits(64)) for _ in chosen]
        failed: str | None = None
        strikes: list[tuple[str, float]] = []
        try:
            async with asyncio.timeout(STRIKE_LIMIT_S):
                pairs = zip(chosen, chances, strict=True)
                strikes = await asyncio.gather(*(played(fault, self._world, chance) for fault, chance in pairs))
        except Exception as defect:  # noqa: BLE001 -- a fault that fails must not lose the history of a long run
            failed = repr(defect)
        took_s = loop.time() - began
        over_s = max((over_s for _, over_s in strikes), default=loop.time())
        recovered_s = await self._until(self._world.serves, over_s)
        drained_s = await self._until(self._world.consumers_catch_up, over_s)
        return Struck(
            names=tuple(fault.name for fault in chosen),
            said=failed or "; ".join(said for said, _ in strikes),
            took_s=took_s,
            recovered_s=recovered_s,
            drained_s=drained_s,
            failed=failed is not None,
        )

    async def _until(self, holds: Callable[[], Awaitable[None]], over_s: float) -> float | None:
        """Return how long after the cause was gone this held; None: not within the limit."""
        try:
            async with asyncio.timeout(SERVES_LIMIT_S):
                await holds()
        except TimeoutError:
            return None
        return asyncio.get_running_loop().time() - over_s
