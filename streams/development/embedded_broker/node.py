"""The state that all API handlers share: one broker node.

Built by `broker.EmbeddedBroker`, passed as first argument to every handler in the `*_api(s)` modules.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from streams.development.embedded_broker.group_coordinator import GroupCoordinator
from streams.development.embedded_broker.topic_store import TopicStore

NODE_ID: Final = 1
LEADER_EPOCH: Final = 0
CLUSTER_ID: Final = "embedded-broker-not-kafka"


@dataclass(slots=True, kw_only=True)
class Node:
    """One broker: its topics, its groups, where it listens, and its clock."""

    topics: TopicStore
    groups: GroupCoordinator
    now_ms: Callable[[], int]  # wall clock, milliseconds since 1970
    auto_create_topics: bool
    host: str
    port: int = 0  # known once it listens
    next_producer_id: int = 1
    upkeep_is_due: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request, and in which version of its API."""

    client_id: str
    host: str
    version: int
