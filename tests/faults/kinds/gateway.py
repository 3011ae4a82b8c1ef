"""A gateway that has a bad day: the Mock's scenarios, switched on for a share of all calls and off again."""

import random
from functools import partial
from typing import Any

from gateway_adapters.mock.courses import Scenario
from tests.faults.fault import Fault, Site
from tests.faults.world import World

HELD_S = (1.5, 4.0)
SHARE = (0.3, 0.9)
SLOW_MS = (200, 2500)

NOT_PLAYED_YET = frozenset(
    {
        Scenario.STORED_500_BEFORE,
        Scenario.STORED_500_AFTER,
        Scenario.PARTIAL_APPROVAL,
        Scenario.REFUSED_THEN_SUCCEEDED,
        Scenario.ACTION_EXPIRED,
        Scenario.COMPLETION_REQUIRED,
        Scenario.PARTIAL_REVERSAL,
        Scenario.TWO_REVERSALS,
        Scenario.RECAPTURED,
        Scenario.HOLD_EXPIRED,
        Scenario.DESK_REFUND,
        Scenario.PARTIAL_DESK_REFUND,
        Scenario.DISPUTE_OPENED,
        Scenario.DISPUTE_WON,
        Scenario.DISPUTE_LOST,
        Scenario.PARTIAL_DISPUTE_LOST,
        Scenario.CHARGEBACK_WON,
        Scenario.CHARGEBACK_LOST,
        Scenario.PARTIAL_CHARGEBACK_WON,
        Scenario.PARTIAL_CHARGEBACK_LOST,
        Scenario.EARLY_WEBHOOK,
        Scenario.WEBHOOKS_BY_REFERENCE,
        Scenario.BATCHED_WEBHOOKS,
        Scenario.STRANGERS_WEBHOOK,
    }
)
"""What the Mock can say and the order does not weigh yet."""

SCENARIOS = tuple(scenario.value for scenario in Scenario if scenario not in NOT_PLAYED_YET)
"""What the Mock plays."""


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
