"""Reading, explaining and changing the per-origin routing policies on `policies.v1`.

Called by `streams.cli.policy`. A change is one record on a compacted topic; running workers follow it by themselves,
and claims that were made keep the plan they were made under.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from gateway_adapters import policy as rules
from gateway_adapters.contract import Capabilities
from gateway_adapters.registry import GATEWAYS
from gateway_adapters.routing import Routed, routed
from schemas.card_disguises import hides_card_number
from schemas.identifiers import GatewayRoute, OriginId
from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.commands import PaymentRequested
from schemas.records.policies import OriginPolicy, WeightedRoute
from schemas.topics import POLICIES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.policy_follower import PolicyView
from streams.kafka_clients.policy_writer import delete_policy, set_policy
from streams.operator_tools.errors import NotFoundError, RefusedError, UnreachableError
from streams.operator_tools.log import Log

FOLLOWED_WITHIN_S = 1
"""Running workers long-poll the topic: they see a change at once, and at the latest within this (issue 2, item 5)."""


def known_policies(log: Log, codec: MessageCodec) -> Mapping[str, OriginPolicy]:
    """Return the policies that hold, by origin id (`*`: all others). Raises: as `Log.read`."""
    view = PolicyView(codec)
    for record in log.read(POLICIES):
        view.take(record.key, record.value, record.headers)
    return view.current()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Where a payment would go, and by which policy."""

    policy: OriginPolicy
    routed: Routed
    shares: tuple[WeightedRoute, ...]  # of the rule that fits, in a dry run too: who goes first, and how often


def policy_held(
    known: Mapping[str, OriginPolicy], origin: OriginId, configured: tuple[GatewayRoute, ...]
) -> OriginPolicy:
    """Return the policy that holds for the origin; `configured`: the gateways of an origin that none speaks of."""
    return rules.policy_for({rules.ANY_ORIGIN: rules.default_policy(configured), **known}, origin)


def explain(
    policy: OriginPolicy, payment: PaymentRequested, *, capabilities: Mapping[GatewayRoute, Capabilities]
) -> Explained:
    """Return where the payment would go under this policy, and why; `capabilities`: of each account that is set up."""
    found = routed(policy, payment, capabilities)
    course = found.shadow or found.course
    weighted = () if course.rule is None else policy.rules[course.rule - 1].routes
    return Explained(
        policy=policy, routed=found, shares=tuple(each for each in weighted if each.gateway in course.routes)
    )


def check(wish: OriginPolicy) -> None:
    """Return if the policy can work with the gateways of this version. Raises: RefusedError naming what cannot."""
    if hides_card_number(wish.origin_id):
        raise RefusedError("the origin looks like a card number, which nothing here takes")
    try:
        rules.validate(wish, known=frozenset(GATEWAYS))
    except MisconfiguredError as error:
        raise RefusedError(str(error)) from error


def change(connection: KafkaConnection, codec: MessageCodec, wish: OriginPolicy, *, now_ms: int) -> OriginPolicy:
    """Put the policy in force and return it with its new version: the current one's plus one.

    Raises:
        RefusedError: It cannot work.
        UnreachableError: The broker did not take it, or not provably; `policy show` tells.
    """
    check(wish)
    try:
        return asyncio.run(set_policy(connection, codec, wish, now_ms=now_ms))
    except LogError as error:
        raise UnreachableError(f"the policy was not provably written, see `policy show`: {error}") from error


def forget(connection: KafkaConnection, codec: MessageCodec, origin_id: str) -> None:
    """Take an origin's policy out of force, by a tombstone; its next one begins at version 1 again.

    Raises:
        NotFoundError: It has none. So the second time says that there is nothing left to do.
        UnreachableError: The broker did not take it, or not provably; `policy show` tells.
    """
    try:
        deleted = asyncio.run(delete_policy(connection, codec, origin_id))
    except LogError as error:
        raise UnreachableError(f"the policy was not provably deleted, see `policy show`: {error}") from error
    if not deleted:
        raise NotFoundError(f"{origin_id} has no policy of its own")
