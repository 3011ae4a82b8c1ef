"""Bad days of Stripe, Adyen and PayPal, and of who calls them: the faults of a run with four gateways.

Each gateway meets each of them: time-outs before and after the effect, connections that break, a proxy's page, a 500,
one that is kept under its key (Stripe alone keeps any), 429, 401, half an answer, outcomes that are told later, and
webhooks that come late, twice, in any order. Its process is killed, and the way to it is slow, silent, cut or lossy.
What its vendor does not do it does not meet: `able` in each simulator's process.
"""

import random
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from gateway_adapters.mock.courses import Scenario
from tests.faults.fault import Fault, Site, cause_is_gone
from tests.faults.kinds import gateway, workers
from tests.faults.kinds.network import TROUBLES, Trouble
from tests.faults.peers import PEERS
from tests.faults.world import World
from tests.simulators import adyen_process, paypal_process, stripe_process
from tests.support.gateway_under_test import Situation

HELD_S: Final = (1.5, 4.0)
SHARE: Final = (0.3, 0.9)
LATE_S: Final = (4.0, 12.0)
GONE_FOR_S: Final = (0.2, 3.0)

ABLE: Final = {
    "stripe": stripe_process.PAYMENTS | stripe_process.LOOKS | stripe_process.DISPUTED,
    "adyen": adyen_process.PAYMENTS | adyen_process.CALLS | adyen_process.TAKEN_BACK,
    "paypal": paypal_process.SALES | paypal_process.LOOKS | paypal_process.REFUNDS,
}
"""What a simulator may be told to do to calls."""

POSTS: Final[dict[str, dict[str, Any]]] = {
    "late": {"delay_s": LATE_S},
    "twice": {"twice": 1.0},
    "shuffled": {"shuffled": True, "twice": 0.3},
}
"""How webhooks may come."""


async def misbehave(world: World, chance: random.Random, *, name: str, situation: Situation) -> str:
    """Let a share of the calls to an account meet the situation for a while."""
    share, seconds = chance.uniform(*SHARE), chance.uniform(*HELD_S)
    rule = {"situation": situation.value, "probability": share, "seed": chance.randrange(2**31)}
    await world.tell_peer(name, "POST", "/rules", rule)
    try:
        await world.pause(seconds)
    finally:
        await world.tell_peer(name, "DELETE", "")
    return f"{name}: {situation} for {share:.0%} of its calls, {seconds:.1f} s"


async def post(world: World, chance: random.Random, *, name: str, how: str) -> str:
    """Let an account's webhooks come so for a while."""
    seconds = chance.uniform(*HELD_S)
    await world.tell_peer(name, "POST", "/post", POSTS[how])
    try:
        await world.pause(seconds)
    finally:
        await world.tell_peer(name, "DELETE", "")
    return f"{name}: webhooks come {how}, {seconds:.1f} s"


async def kill(world: World, chance: random.Random, *, name: str) -> str:
    """Kill a simulator in the middle of its calls; it goes on where it was."""
    seconds = chance.uniform(*GONE_FOR_S)
    async with world.held_down(name):
        await world.kill(name)
        await world.pause(seconds)
    cause_is_gone()
    await world.running(name)
    return f"{name} gone for {seconds:.1f} s"


async def hinder(world: World, chance: random.Random, *, name: str, trouble: Trouble) -> str:
    """Let the network on the way to an account misbehave."""
    proxy = world.peer_proxies[name]
    try:
        return f"the way to {name}: {await trouble(world, chance, [proxy])}"
    finally:
        proxy.forward()


def _of_peer(name: str, gateway_name: str) -> Iterable[Fault]:
    for situation in sorted(ABLE[gateway_name]):
        strike = partial(misbehave, name=name, situation=situation)
        yield Fault(name=f"{name}-{situation}", site=Site.GATEWAY, strike=strike)
    for how in POSTS:
        yield Fault(name=f"{name}-webhooks-{how}", site=Site.GATEWAY, strike=partial(post, name=name, how=how))
    yield Fault(name=f"kill-{name}", site=Site.GATEWAY, strike=partial(kill, name=name))
    for kind, trouble in TROUBLES:
        yield Fault(name=f"{kind}-{name}", site=Site.NETWORK, strike=partial(hinder, name=name, trouble=trouble))


AT_PEERS: Final = tuple(fault for peer in PEERS for fault in _of_peer(peer.name, peer.gateway))
"""All that can happen at the three."""

EACH_ONCE: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE.value,
        Situation.TIMEOUT_AFTER.value,
        Situation.HTML_502_AFTER.value,
        Situation.SERVER_ERROR_AFTER.value,
        Situation.STORED_500_AFTER.value,
        Situation.STORED_500_BEFORE.value,
        Situation.CUT_AFTER.value,
        Situation.RATE_LIMITED.value,
        "webhooks-late",
        "webhooks-twice",
    }
)
"""What each gateway has to meet in a run with four of them, so far as it can."""


async def tell_late(world: World, chance: random.Random) -> str:
    """Let the Mock answer a share of all calls by a notice alone, which comes late."""
    share, seconds = chance.uniform(*SHARE), chance.uniform(*HELD_S)
    delay_ms = round(1000 * chance.uniform(*LATE_S))
    rule = {
        "scenario": Scenario.PENDING_THEN_SUCCEEDED.value,
        "probability": share,
        "times": None,
        "seed": chance.randrange(2**31),
        "delay_ms": delay_ms,
    }
    await world.tell_gateway("POST", "/scenarios", rule)
    try:
        await world.pause(seconds)
    finally:
        await world.tell_gateway("DELETE", "/scenarios")
    return f"notices of {share:.0%} of all calls come {delay_ms} ms later, {seconds:.1f} s"


LATE_AT_MOCK: Final = Fault(name="gateway-webhooks-late", site=Site.GATEWAY, strike=tell_late)
AT_MOCK: Final = (
    *(
        fault
        for fault in gateway.FAULTS
        if fault.name.removeprefix("gateway-") in EACH_ONCE | {Situation.DUPLICATE_WEBHOOKS.value}
    ),
    LATE_AT_MOCK,
)
"""The same at the Mock."""

OF_FOUR_ALONE: Final = (*AT_PEERS, LATE_AT_MOCK)
"""What only a run with four gateways can play."""

EXECUTORS: Final = tuple(fault for fault in workers.FAULTS if fault.name.endswith("-executor"))
OTHERS: Final = tuple(fault for fault in workers.FAULTS if fault.name in {"kill-orders", "kill-claims", "kill-ingress"})

TAKEN_BACK: Final = frozenset(
    {
        "stripe-chargeback_won",
        "stripe-second-chargeback_lost",
        "adyen-late_failure",
        "adyen-chargeback_lost",
        "paypal-late_failure",
    }
)
"""Each vendor's way of taking back what it had said to be done."""

OF_FOUR: Final = (
    *(each for each in AT_PEERS if each.name in TAKEN_BACK),
    *(each for each in AT_PEERS if each.name.partition("-")[2].removeprefix("second-") in EACH_ONCE),
    *AT_MOCK,
    *(each for each in AT_PEERS if each.name.startswith("kill-") and "second" not in each.name),
    *EXECUTORS,
    *(fault for fault in EXECUTORS if fault.name.startswith("kill")),
    *OTHERS,
)
"""The bag of a run with four gateways: each gateway's own bad days once, its executor killed twice."""
