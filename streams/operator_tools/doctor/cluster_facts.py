"""Asks a cluster for its brokers, topics and consumer groups. Called by `examination`; calls confluent-kafka's admin.

Every question has a time-out. What a broker will not tell (no authorization, an API it lacks) is left out, and the
checks say less; a cluster that does not describe itself at all is `UnreachableError`.
"""

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ re-exports without saying so
    AdminClient,
    ConfigResource,
    ConsumerGroupDescription,
    PartitionMetadata,
    ResourceType,
)

from schemas.misconfigured import MisconfiguredError
from schemas.topics import CATALOGUE
from streams.kafka_clients.backlog import Backlog, backlog_of, oldest_unread_ms
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_offsets import stable_ends
from streams.kafka_clients.log_reader import has_record
from streams.operator_tools.doctor.cluster import ClusterState, GroupState, TopicState
from streams.operator_tools.errors import UnreachableError

TIMEOUT_S = 10.0
MAX_TAIL_RECORDS = 50
"""Of a partition that is looked into: a transaction leaves one marker in each partition, besides what it aborted."""

MAX_TAILS_READ = 24
"""Partitions of a group that are looked into: each costs a tenth of a second."""


def gather_cluster(connection: KafkaConnection) -> ClusterState:
    """Return the state of the cluster and of the catalogue's topics. Raises: UnreachableError."""
    admin = AdminClient(connection.confluent_options())
    try:
        metadata = admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise UnreachableError(f"the broker does not describe its cluster: {error.args[0].str()}") from error
    topics = {topic.name: metadata.topics.get(topic.name) for topic in CATALOGUE}
    there = {name: topic for name, topic in topics.items() if topic is not None and topic.error is None}
    told = _settings_of(admin, [ConfigResource(ResourceType.TOPIC, name) for name in there])
    # One broker only: a request about a broker goes to that broker, and one is enough to see how the cluster is set.
    first_broker = [ConfigResource(ResourceType.BROKER, str(number)) for number in list(metadata.brokers)[:1]]
    return ClusterState(
        cluster_id=str(metadata.cluster_id),
        brokers=tuple(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()),
        controller=metadata.controller_id >= 0,
        topics={name: _topic_state(topic.partitions, told.get(name, {})) for name, topic in there.items()},
        broker_settings=next(iter(_settings_of(admin, first_broker).values()), {}),
    )


def _topic_state(partitions: Mapping[int, PartitionMetadata], told: Mapping[str, str]) -> TopicState:
    return TopicState(
        partitions=len(partitions),
        fewest_copies=min((len(each.replicas) for each in partitions.values()), default=0),
        fewest_in_sync=min((len(each.isrs) for each in partitions.values()), default=0),
        without_leader=tuple(sorted(number for number, each in partitions.items() if each.leader < 0)),
        settings=told,
    )


def _settings_of(admin: AdminClient, resources: Sequence[ConfigResource]) -> Mapping[str, Mapping[str, str]]:
    if not resources:
        return {}
    answers = admin.describe_configs(list(resources), request_timeout=TIMEOUT_S)
    found = _answered((resource.name, answer) for resource, answer in answers.items())
    return {
        name: {entry.name: entry.value for entry in entries.values() if entry.value is not None}
        for name, entries in found.items()
    }


def gather_groups(
    connection: KafkaConnection, cluster: ClusterState, groups: Mapping[str, Sequence[str]]
) -> Mapping[str, GroupState]:
    """Return the state of these groups (name -> topics it reads).

    A group that is not there has no members; one that the cluster would not tell about is left out.
    """
    admin = AdminClient(connection.confluent_options())
    described = _answered(admin.describe_consumer_groups(list(groups), request_timeout=TIMEOUT_S).items())
    told: dict[str, GroupState] = {}
    for name, group in described.items():
        try:
            told[name] = _group_state(connection, group, [each for each in groups[name] if each in cluster.topics])
        except (RetryableError, MisconfiguredError):
            continue  # what has no known end is not therefore read to its end
    return told


def _group_state(connection: KafkaConnection, group: ConsumerGroupDescription, topics: Iterable[str]) -> GroupState:
    backlog = without_markers(connection, backlog_of(connection, group.group_id, topics))
    lag: dict[str, int] = {}
    worst: dict[str, int] = {}
    for each in backlog:
        lag[each.topic] = lag.get(each.topic, 0) + each.unread
        worst[each.topic] = max(worst.get(each.topic, 0), each.unread)
    state = group.state
    return GroupState(
        state=state.name if isinstance(state, ConsumerGroupState) else str(state),
        members=len(group.members),
        lag=lag,
        behind_by=worst,
        oldest_ms=oldest_unread_ms(connection, group.group_id, backlog),
        lost=tuple(each for each in backlog if each.lost),
    )


def without_markers(connection: KafkaConnection, backlog: Iterable[Backlog]) -> tuple[Backlog, ...]:
    """Take a partition for read to its end when nothing but transactions' markers and aborted records is left of it.

    A worker that runs commits past them; one that is down, or was stopped before it could, does not. A few short tails
    are read to know; a long one is lag whatever is in it. Raises: RetryableError, MisconfiguredError.
    """
    found = {(each.topic, each.partition): each for each in backlog}
    short = [place for place, each in found.items() if 0 < each.unread <= MAX_TAIL_RECORDS][:MAX_TAILS_READ]
    readable = stable_ends(AdminClient(connection.confluent_options()), short, timeout_s=TIMEOUT_S)
    for place in short:
        each = found[place]
        if readable.get(place, 0) < each.end:
            continue  # what an open transaction holds up is yet to be read
        if not asyncio.run(has_record(connection, *place, from_offset=each.next_offset)):
            found[place] = dataclasses.replace(each, end=each.next_offset)
    return tuple(found.values())


def _answered(answers: Iterable[tuple[Any, "Future[Any]"]]) -> dict[Any, Any]:
    """Return what was answered in time; what was refused is left out (the admin's own types are not generic)."""
    found: dict[Any, Any] = {}
    for asked, answer in answers:
        try:
            found[asked] = answer.result(timeout=TIMEOUT_S)
        except (KafkaException, FutureTimeoutError):
            continue
    return found
