"""A gateway that has a bad day: the Mock's scenarios, switched on for a share of all calls and off again."""

import random
from functools import partial
from typing import Any

from gateway_adapters.mock.courses import Manner, Scenario
from tests.faults.fault import Fault, Site
from tests.faults.world import World

HELD_S = (1.5, 4.0)
SHARE = (0.3, 0.9)
SLOW_MS = (200, 2500)

NOT_PLAYED = frozenset(
    {
        # Asked for by token: the checker excuses those alone whose books nobody can compare.
        Scenario.REFUSED_THEN_SUCCEEDED,
        Scenario.COMPLETION_REQUIRED,  # asked for by token: other clients know no payer, and would wait for an hour
    }
)

SCENARIOS = tuple(scenario.value for scenario in Scenario if scenario not in NOT_PLAYED)
"""What the Mock plays."""

MANNERS = tuple(manner.value for manner in Manner)
MANNERED = 0.3
"""Share of the scenarios whose notices come in a manner of their own as well."""


async def misbehave(world: World, chance: random.Random, *, scenario: str) -> str:
    """Let a share of all calls meet the scenario for a while."""
    share = chance.uniform(*SHARE)
    rule: dict[str, Any] = {
        "scenario": scenario,
        "probability": share,
        "times": None,
        "seed": chance.randrange(2**31),
    }
    if chance.random() < MANNERED:
        rule["notices"] = chance.sample(MANNERS, chance.randint(1, 2))
    if scenario == "slow":
        rule["delay_ms"] = chance.randint(*SLOW_MS)
    seconds = chance.uniform(*HELD_S)
    await world.tell_gateway("POST", "/scenarios", rule)
    try:
        await world.pause(seconds)
    finally:
        await world.tell_gateway("DELETE", "/scenarios")
    told = "".join(f", told {manner}" for manner in rule.get("notices", ()))
    return f"{scenario} for {share:.0%} of all calls, {seconds:.1f} s{told}"


FAULTS = tuple(
    Fault(name=f"gateway-{scenario}", site=Site.GATEWAY, strike=partial(misbehave, scenario=scenario))
    for scenario in SCENARIOS
)
