"""Processes of the engine that are killed, frozen, restarted one by one, or become more and fewer."""

import random
from functools import partial

from tests.faults.fault import Fault, FaultNotPlayedError, Site, cause_is_gone
from tests.faults.world import SESSION_TIMEOUT_S, WORKERS_EACH, World

KINDS = ("ingress", "orders", "claims", "executor", "operators")
WITHOUT_SESSION = frozenset({"ingress", "operators"})
SCALED = ("orders", "claims", "executor")
MOST_WORKERS = 3
KILLS_MAX = 3
BETWEEN_KILLS_S = (0.1, 1.5)
PAST_SESSION_S = (1.0, 4.0)
"""How long a freeze outlasts the session: the group has given the partitions away, and the owner does not know."""

BRIEF_FREEZE_S = (1.0, 5.0)
SCALED_FOR_S = (1.0, 4.0)


async def kill(world: World, chance: random.Random, *, kind: str) -> str:
    """Kill a process, perhaps again while it is coming up, each time started anew."""
    name = chance.choice(world.workers(kind))
    kills = chance.randint(1, KILLS_MAX)
    for number in range(kills):
        await world.kill(name)
        if number + 1 < kills:
            await world.pause(chance.uniform(*BETWEEN_KILLS_S))
    cause_is_gone()
    await world.running(name)
    return f"{name} killed {kills} times"


async def freeze(world: World, chance: random.Random, *, kind: str) -> str:
    """Freeze a process past its session, so that another takes over and the old owner wakes up as a zombie."""
    name = chance.choice(world.workers(kind))
    past_session = kind not in WITHOUT_SESSION
    seconds = chance.uniform(*BRIEF_FREEZE_S)
    if past_session:
        seconds = SESSION_TIMEOUT_S + chance.uniform(*PAST_SESSION_S)
    await world.freeze(name, seconds)
    return f"{name} frozen for {seconds:.1f} s"


async def roll(world: World, chance: random.Random, *, kind: str) -> str:
    """Stop the processes of a kind cleanly one after the other, the next when the last is back."""
    names = world.workers(kind)
    chance.shuffle(names)
    codes = []
    for name in names:
        codes.append(await world.terminate(name))
        cause_is_gone()
        await world.running(name)
    if any(codes):
        raise FaultNotPlayedError(f"{names} ended with {codes} when they were asked to")
    return f"{', '.join(names)} restarted, exit codes {codes}"


async def scale(world: World, chance: random.Random, *, kind: str) -> str:
    """Down to one worker, out to three, and back to what there was."""
    names = world.workers(kind)
    for name in names[1:]:
        await world.remove_worker(name)
    await world.pause(chance.uniform(*SCALED_FOR_S))
    for number in range(1, MOST_WORKERS):
        await world.add_worker(kind, number)
    await world.pause(chance.uniform(*SCALED_FOR_S))
    for number in range(WORKERS_EACH, MOST_WORKERS):
        await world.remove_worker(f"{kind}-{number}")
    return f"{kind}: 1 worker, {MOST_WORKERS}, {WORKERS_EACH} again"


FAULTS = (
    *(Fault(name=f"kill-{kind}", site=Site.WORKERS, strike=partial(kill, kind=kind)) for kind in KINDS),
    *(Fault(name=f"freeze-{kind}", site=Site.WORKERS, strike=partial(freeze, kind=kind)) for kind in KINDS),
    *(Fault(name=f"roll-{kind}", site=Site.WORKERS, strike=partial(roll, kind=kind)) for kind in KINDS),
    *(Fault(name=f"scale-{kind}", site=Site.WORKERS, strike=partial(scale, kind=kind)) for kind in SCALED),
)
