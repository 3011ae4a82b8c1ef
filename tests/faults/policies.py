"""Policies that are swapped while money moves over four gateways.

Called by `run` with `--gateways`. Each generation sends payments another way: by weight, by amount, with and without a
move after a decline, in a dry run, to one account or to the other. The next one is put in force every few seconds, for
one origin after the other. `tests.support.route_checks` says whether a payment went as its pinned plan says.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final

from schemas.identifiers import GatewayRoute
from schemas.messages import MessageCodec
from schemas.records.policies import OriginPolicy, RoutingRule, WeightedRoute
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import DeclineClass
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.policy_writer import set_policy
from tests.support.second_account import SECOND

SWAPS: Final = 50
BETWEEN_SWAPS_S: Final = 4.0
"""At most; in a short run less, so that money moves under each of them."""

AGAIN_S: Final = 0.5
ACTION_LIFE_MS: Final = 60_000
"""As long as a page is kept at least: no payment waits longer than the run."""

MOCK, MOCK_SECOND = GatewayRoute("mock"), GatewayRoute(f"mock/{SECOND}")
STRIPE, STRIPE_SECOND = GatewayRoute("stripe"), GatewayRoute(f"stripe/{SECOND}")
ADYEN, PAYPAL = GatewayRoute("adyen"), GatewayRoute("paypal")
ROUTES: Final = (MOCK, MOCK_SECOND, STRIPE, STRIPE_SECOND, ADYEN, PAYPAL)
HALF: Final = 50_000
"""Of the amounts of the workload, minor units."""


def _rule(*routes: tuple[GatewayRoute, int], most: int | None = None) -> RoutingRule:
    return RoutingRule(
        currencies=("USD",),
        min_amount_minor=None,
        max_amount_minor=most,
        token_kinds=(),
        payer_countries=(),
        routes=tuple(WeightedRoute(gateway=route, weight=weight) for route, weight in routes),
    )


def _policy(*gateways: GatewayRoute, rules: tuple[RoutingRule, ...] = (), **fields: object) -> OriginPolicy:
    policy = OriginPolicy(
        origin_id="*",
        version=1,
        gateways=gateways,
        fallback=True,
        max_attempts=4,
        limits=(),
        updated_at_ms=0,
        rules=rules,
        action_life_ms=ACTION_LIFE_MS,
    )
    return dataclasses.replace(policy, **fields)  # type: ignore[arg-type]  # each names a field


ALIKE: Final = _rule((MOCK, 1), (STRIPE, 1), (ADYEN, 1), (PAYPAL, 1), (MOCK_SECOND, 0), (STRIPE_SECOND, 0))
SOFT_AND_HARD: Final = (DeclineClass.SOFT, DeclineClass.HARD)

GENERATIONS: Final[Sequence[OriginPolicy]] = (
    _policy(MOCK, rules=(ALIKE,)),
    _policy(STRIPE, ADYEN, PAYPAL, MOCK, fallback_classes=SOFT_AND_HARD),
    _policy(
        ADYEN,
        rules=(_rule((PAYPAL, 3), (STRIPE_SECOND, 1), most=HALF), _rule((ADYEN, 2), (STRIPE, 1), (MOCK, 1))),
        fallback_classes=(DeclineClass.SOFT,),
    ),
    _policy(PAYPAL, fallback=False),
    _policy(STRIPE_SECOND, STRIPE, MOCK_SECOND, fallback_classes=SOFT_AND_HARD),
    _policy(ADYEN, PAYPAL, STRIPE, rules=(_rule((MOCK, 1), (MOCK_SECOND, 1)),), dry_run=True),
    _policy(ADYEN, STRIPE_SECOND, rules=(_rule((STRIPE, 1), (STRIPE_SECOND, 1), (ADYEN, 0)),)),
    _policy(MOCK_SECOND, PAYPAL, ADYEN, STRIPE, fallback_classes=(DeclineClass.HARD,)),
    _policy(ADYEN, fallback=False),
)
"""One after the other, again and again. Three origins and nine of them: each origin sees each."""


def generation(number: int, origins: Sequence[str]) -> OriginPolicy:
    """Return the policy that the swap of this number puts in force.

    The origins take turns, and each begins elsewhere: no two are in the same generation.
    """
    place, turn = number % len(origins), number // len(origins)
    apart = len(GENERATIONS) // len(origins)
    return dataclasses.replace(GENERATIONS[(turn + place * apart) % len(GENERATIONS)], origin_id=origins[place])


class Swapper:
    """Puts one generation after the other in force."""

    def __init__(self, bootstrap_servers: str, origins: Sequence[str], *, run_s: float) -> None:
        """`run_s`: about how long money moves."""
        self._pause_s = min(BETWEEN_SWAPS_S, run_s / SWAPS)
        self._connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
        self._codec = MessageCodec(SchemaIds.packaged())
        self._origins = origins
        self._next = itertools.count()
        self.swaps = 0

    def has_swapped(self) -> bool:
        """Return whether it was often enough."""
        return self.swaps >= SWAPS

    async def begin(self) -> None:
        """Give each origin its first policy."""
        for _ in self._origins:
            await self.swap()
        self.swaps = 0

    async def run(self, *, until: Callable[[], bool]) -> None:
        """Swap until `until` says so, at least `SWAPS` times."""
        while not (self.has_swapped() and until()):
            await asyncio.sleep(self._pause_s)  # a generation is in force for so long
            await self.swap()

    async def swap(self) -> None:
        """Put the next one in force for the next origin; brokers that are gone are waited for."""
        wish = generation(next(self._next), self._origins)
        swapped = False
        while not swapped:
            with contextlib.suppress(LogError):
                await set_policy(self._connection, self._codec, wish, now_ms=time.time_ns() // 1_000_000)
                swapped = True
            if not swapped:
                await asyncio.sleep(AGAIN_S)
        self.swaps += 1
