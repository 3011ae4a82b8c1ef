"""The network between engine and brokers, and between executor and gateway: slow, silent, cut or lossy."""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tests.faults.fault import Fault, Site
from tests.faults.proxy import FaultyProxy
from tests.faults.world import World

HELD_S = (2.0, 8.0)
SLOW_S = (0.02, 0.25)
LOSSY = (0.005, 0.05)
CUTS_MAX = 5
BETWEEN_CUTS_S = (0.05, 1.0)

Ways = Callable[[World, random.Random], tuple[str, Sequence[FaultyProxy]]]
Trouble = Callable[[World, random.Random, Sequence[FaultyProxy]], Awaitable[str]]


def to_log(world: World, chance: random.Random) -> tuple[str, Sequence[FaultyProxy]]:
    """Return the way to one broker, or to all of them."""
    if chance.random() < 0.5:
        return "all brokers", world.broker_proxies
    return "one broker", [chance.choice(world.broker_proxies)]


def to_gateway(world: World, _: random.Random) -> tuple[str, Sequence[FaultyProxy]]:
    """Return the way to the gateway."""
    return "the gateway", [world.gateway_proxy]


async def slow(world: World, chance: random.Random, proxies: Sequence[FaultyProxy]) -> str:
    """Hold every piece of bytes back for a while."""
    delay_s = chance.uniform(*SLOW_S)
    for proxy in proxies:
        proxy.delay_s = delay_s
    await world.pause(chance.uniform(*HELD_S))
    return f"{delay_s * 1000:.0f} ms slower"


async def silent(world: World, chance: random.Random, proxies: Sequence[FaultyProxy]) -> str:
    """Forward nothing and close nothing."""
    for proxy in proxies:
        proxy.swallow()
    seconds = chance.uniform(*HELD_S)
    await world.pause(seconds)
    return f"silent for {seconds:.1f} s"


async def cut(world: World, chance: random.Random, proxies: Sequence[FaultyProxy]) -> str:
    """Reset all connections, a few times."""
    cuts = chance.randint(1, CUTS_MAX)
    ends = 0
    for _ in range(cuts):
        ends += sum(proxy.reset_all() for proxy in proxies)
        await world.pause(chance.uniform(*BETWEEN_CUTS_S))
    return f"cut {cuts} times, {ends} ends"


async def lossy(world: World, chance: random.Random, proxies: Sequence[FaultyProxy]) -> str:
    """Reset a connection now and then in the middle of what it carries."""
    share = chance.uniform(*LOSSY)
    for proxy in proxies:
        proxy.reset_chance = share
    await world.pause(chance.uniform(*HELD_S))
    return f"{share:.1%} of all pieces reset their connection"


async def _strike(world: World, chance: random.Random, *, ways: Ways, trouble: Trouble) -> str:
    named, proxies = ways(world, chance)
    try:
        return f"the way to {named}: {await trouble(world, chance, proxies)}"
    finally:
        for proxy in proxies:
            proxy.forward()


TROUBLES: tuple[tuple[str, Trouble], ...] = (("slow", slow), ("silent", silent), ("cut", cut), ("lossy", lossy))
FAULTS = tuple(
    Fault(name=f"{name}-{where}", site=Site.NETWORK, strike=partial(_strike, ways=ways, trouble=trouble))
    for where, ways in (("log", to_log), ("gateway", to_gateway))
    for name, trouble in TROUBLES
)
