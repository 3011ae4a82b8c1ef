"""A gateway that has a bad day: the Mock's scenarios, switched on for a share of all calls and off again."""

import random
from functools import partial
from typing import Any

from gateway_adapters.mock.scenarios import Scenario
from tests.faults.fault import Fault, Site
from tests.faults.world import World

HELD_S = (1.5, 4.0)
SHARE = (0.3, 0.9)
SLOW_MS = (200, 2500)

SCENARIOS = tuple(scenario.value for scenario in Scenario)
"""All that the Mock can play."""


async def misbehave(world: World, chance: random.Random, *, scenario: str) -> str:
    """Let a share of all calls meet the scenario for a while."""
    share = chance.uniform(*SHARE)
    rule: dict[str, Any] = {
        "scenario": scenario,
        "probability": share,
        "times": None,
        "seed": chance.randrange(2**31),
    }
    if scenario == "slow":
        rule["delay_ms"] = chance.randint(*SLOW_MS)
    seconds = chance.uniform(*HELD_S)
    await world.tell_gateway("POST", "/scenarios", rule)
    try:
        await world.pause(seconds)
    finally:
        await world.tell_gateway("DELETE", "/scenarios")
    return f"{scenario} for {share:.0%} of all calls, {seconds:.1f} s"


FAULTS = tuple(
    Fault(name=f"gateway-{scenario}", site=Site.GATEWAY, strike=partial(misbehave, scenario=scenario))
    for scenario in SCENARIOS
)
