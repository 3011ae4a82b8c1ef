"""What the doctor knows of a cluster: brokers, topics, groups. Gathered by `cluster_facts`, judged by the checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.kafka_clients.backlog import Backlog


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """One topic as it is on the cluster."""

    partitions: int
    fewest_copies: int  # over its partitions
    fewest_in_sync: int
    without_leader: tuple[int, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """One consumer group."""

    state: str
    members: int
    lag: Mapping[str, int]  # topic -> records not yet committed, over its partitions
    behind_by: Mapping[str, int]  # topic -> records of the worst partition
    oldest_ms: Mapping[str, int] = field(default_factory=dict)  # topic -> when its oldest unread record was appended
    lost: tuple[Backlog, ...] = ()  # partitions of which records were deleted unread


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """The cluster as a whole."""

    cluster_id: str
    brokers: tuple[str, ...]  # host:port
    controller: bool  # whether one is known
    topics: Mapping[str, TopicState]
    broker_settings: Mapping[str, str]  # of one broker; empty: it does not tell
