"""Reading and changing the per-origin routing policies on `policies.v1`.

Called by `streams.cli.policy`. A change is one record on a compacted topic; running workers follow it by themselves,
and claims that were made keep the plan they were made under.
"""

import asyncio
from collections.abc import Mapping

from gateway_adapters import policy as rules
from gateway_adapters.registry import GATEWAYS
from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.topics import POLICIES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import LogError
from streams.kafka_clients.policy_follower import PolicyView
from streams.kafka_clients.policy_writer import set_policy
from streams.operator_tools.errors import RefusedError, UnreachableError
from streams.operator_tools.log import Log

FOLLOWED_WITHIN_S = 1
"""Running workers long-poll the topic: they see a change at once, and at the latest within this (issue 2, item 5)."""


def known_policies(log: Log, codec: MessageCodec) -> Mapping[str, OriginPolicy]:
    """Return the policies that hold, by origin id (`*`: all others). Raises: as `Log.read`."""
    view = PolicyView(codec)
    for record in log.read(POLICIES):
        view.take(record.key, record.value, record.headers)
    return view.current()


def check(wish: OriginPolicy) -> None:
    """Return if the policy can work with the gateways of this version. Raises: RefusedError naming what cannot."""
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
