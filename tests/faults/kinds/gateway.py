"""A gateway that has a bad day: the Mock's scenarios, switched on for a share of all calls and off again."""

import random
from functools import partial
from typing import Any

from tests.faults.fault import Fault, Site
from tests.faults.world import World

HELD_S = (1.5, 4.0)
SHARE = (0.3, 0.9)
SLOW_MS = (200, 2500)

SCENARIOS = (
    "timeout_before", "timeout_after", "reset_before", "reset_after", "html_502_before", "html_502_after",
    "server_error_after", "cut_after", "rate_limited", "unknown_status", "not_found_yet", "slow",
    "pending_then_succeeded", "pending_then_failed", "duplicate_webhooks", "out_of_order_webhooks",
    "late_failure", "amount_mismatch",
)  # fmt: skip
"""All but `unauthorized`, which is a wrong setting and not a fault."""


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
