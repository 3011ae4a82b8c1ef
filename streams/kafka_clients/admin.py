"""The catalogue of topics against a broker: what is there, what should be, and making it so.

Called by `payment-engine topics plan|apply`, `doctor` and the tests. Calls confluent-kafka's admin client, which alters
single configs (aiokafka's replaces all of them). Synchronous: the command line is, and an event loop uses `to_thread`.

It creates and it alters retention, cleanup and replicas that must have a write. It never deletes, never shrinks, and
never touches a partition count: that would move keys to other partitions under a running system.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ re-exports without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from schemas.misconfigured import MisconfiguredError
from schemas.topics import CATALOGUE, TIMESTAMP_TYPE, PartitionRule, Topic
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RetryableError
from streams.settings import KafkaSettings

ADMIN_TIMEOUT_S = 30.0
"""Longest wait for one administrative request."""

VISIBLE_TIMEOUT_S = 30.0
"""Longest wait until every broker's metadata shows the topics just made, with leaders."""

POLL_INTERVAL_S = 0.05

KEEP_ALL = -1
"""Kafka's own word for no limit, of `retention.ms` and `retention.bytes`."""

_HOPELESS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_VERSION,
    }
)


log = structlog.get_logger(__name__)


class Action(StrEnum):
    """What `apply` does about a row."""

    NONE = "none"  # as wanted
    CREATE = "create"
    ALTER = "alter"
    REFUSE = "refuse"  # differs in what is never changed under a running system; a person must decide


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """One aspect of one topic: what the catalogue wants, what the broker has."""

    topic: str
    aspect: str  # topic, partitions, replication.factor, or the name of a config
    wanted: str
    actual: str  # empty: not there
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSizes:
    """What the catalogue leaves to the installation."""

    partitions: int
    replication_factor: int = 1
    min_insync_replicas: int = 1


def sizes_of(settings: KafkaSettings) -> TopicSizes:
    """Return what these settings say of every topic."""
    return TopicSizes(
        partitions=settings.partitions,
        replication_factor=settings.replication_factor,
        min_insync_replicas=settings.min_insync_replicas,
    )


class TopicAdmin:
    """Compares the catalogue with a broker and applies it. Calling anything twice is safe."""

    def __init__(
        self, connection: KafkaConnection, sizes: TopicSizes, *, catalogue: Sequence[Topic] = CATALOGUE
    ) -> None:
        self._admin = AdminClient(connection.confluent_options())
        self._sizes = sizes
        self._catalogue = catalogue

    def plan(self, *, configs_may_be_hidden: bool = False) -> tuple[TopicRow, ...]:
        """Return one row for each topic that is missing or as wanted, and one for each aspect that differs.

        Args:
            configs_may_be_hidden: without the right to look at configs, compare what metadata tells, and log it.

        Raises:
            RetryableError: the broker does not answer.
            MisconfiguredError: it will not let us look.
        """
        known = self._known()
        there = [entry.name for entry in self._catalogue if entry.name in known]
        configs: Mapping[str, Mapping[str, str]] = {}
        try:
            configs = self._configs(there)
        except MisconfiguredError as error:
            if not configs_may_be_hidden:
                raise
            log.warning("topic_configs_hidden", error=str(error))
        rows: list[TopicRow] = []
        for entry in self._catalogue:
            if entry.name not in known:
                rows.append(self._missing(entry))
            else:
                rows += self._compared(entry, known[entry.name], configs.get(entry.name))
        return tuple(rows)

    def apply(self) -> tuple[TopicRow, ...]:
        """Create what is missing, alter configs that differ, and return the rows of the plan that it carried out.

        Rows with `Action.REFUSE` are left alone: the caller says so and fails. Returns once the broker shows all
        topics as wanted.

        Raises:
            RetryableError: the broker does not answer; what was done stays done.
            MisconfiguredError: it refused.
        """
        rows = self.plan()
        by_name = {entry.name: entry for entry in self._catalogue}
        self._create([by_name[row.topic] for row in rows if row.action is Action.CREATE])
        self._alter([row for row in rows if row.action is Action.ALTER])
        self._wait_until_visible()
        return rows

    def partitions_of(self, entry: Topic) -> int:
        """Return how many partitions the topic should have."""
        return 1 if entry.partition_rule is PartitionRule.SINGLE else self._sizes.partitions

    def _known(self) -> Mapping[str, Any]:
        try:
            topics: Mapping[str, Any] = self._admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics
        except KafkaException as error:
            raise _mapped(error) from error
        return {name: found for name, found in topics.items() if found.error is None}

    def _configs(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        answers = self._admin.describe_configs(resources, request_timeout=ADMIN_TIMEOUT_S)
        found = _results((resource.name, future) for resource, future in answers.items())
        return {name: {entry.name: entry.value or "" for entry in each.values()} for name, each in found.items()}

    def _missing(self, entry: Topic) -> TopicRow:
        wanted = f"{self.partitions_of(entry)} partitions, {self._sizes.replication_factor} replicas, {entry.cleanup}"
        return TopicRow(topic=entry.name, aspect="topic", wanted=wanted, actual="", action=Action.CREATE)

    def _compared(self, entry: Topic, found: Any, configs: Mapping[str, str] | None) -> list[TopicRow]:
        partitions = len(found.partitions)
        replicas = min((len(each.replicas) for each in found.partitions.values()), default=0)
        fixed = (
            ("partitions", self.partitions_of(entry), partitions),
            ("replication.factor", self._sizes.replication_factor, replicas),
        )
        rows = [
            TopicRow(topic=entry.name, aspect=aspect, wanted=str(want), actual=str(has), action=Action.REFUSE)
            for aspect, want, has in fixed
            if want != has
        ]
        rows += [
            TopicRow(topic=entry.name, aspect=name, wanted=wanted, actual=configs.get(name, ""), action=Action.ALTER)
            for name, wanted in (self._wanted_configs(entry) if configs is not None else {}).items()
            if configs is not None and configs.get(name) != wanted
        ]
        as_wanted = f"{partitions} partitions, {replicas} replicas, {entry.cleanup}"
        return rows or [
            TopicRow(topic=entry.name, aspect="topic", wanted=as_wanted, actual=as_wanted, action=Action.NONE)
        ]

    def _wanted_configs(self, entry: Topic) -> Mapping[str, str]:
        configs = {
            "cleanup.policy": entry.cleanup.value,
            "min.insync.replicas": str(self._sizes.min_insync_replicas),
            "max.message.bytes": str(entry.max_record_bytes),
            "message.timestamp.type": TIMESTAMP_TYPE,
        }
        # Written out, since brokers' defaults may be others. Nothing is deleted by size: on a busy day that would be
        # what nobody has read. Of a table nothing is deleted by age either, should its cleanup.policy ever be changed.
        configs["retention.ms"] = str(KEEP_ALL if entry.retention_ms is None else entry.retention_ms)
        configs["retention.bytes"] = str(KEEP_ALL)
        configs["segment.ms"] = str(entry.segment_ms)
        if entry.public:
            configs["compression.type"] = "uncompressed"
        if entry.min_compaction_lag_ms is not None:
            configs["min.compaction.lag.ms"] = str(entry.min_compaction_lag_ms)
        return configs

    def _create(self, entries: Sequence[Topic]) -> None:
        if not entries:
            return
        wanted = [
            NewTopic(
                entry.name,
                num_partitions=self.partitions_of(entry),
                replication_factor=self._sizes.replication_factor,
                config=dict(self._wanted_configs(entry)),
            )
            for entry in entries
        ]
        answers = self._admin.create_topics(wanted, request_timeout=ADMIN_TIMEOUT_S)
        # Somebody else may apply the same catalogue at the same time.
        _results(answers.items(), harmless=KafkaError.TOPIC_ALREADY_EXISTS)

    def _alter(self, rows: Sequence[TopicRow]) -> None:
        if not rows:
            return
        changes: dict[str, list[ConfigEntry]] = {}
        for row in rows:
            entry = ConfigEntry(row.aspect, row.wanted, incremental_operation=AlterConfigOpType.SET)
            changes.setdefault(row.topic, []).append(entry)
        resources = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in changes.items()
        ]
        answers = self._admin.incremental_alter_configs(resources, request_timeout=ADMIN_TIMEOUT_S)
        _results((resource.name, future) for resource, future in answers.items())

    def _wait_until_visible(self) -> None:
        deadline_s = time.monotonic() + VISIBLE_TIMEOUT_S
        cause: RetryableError | None = None
        while time.monotonic() < deadline_s:
            try:
                if self._is_visible():
                    return
            except RetryableError as error:
                cause = error  # the broker that was asked now has not heard of a topic that another one has made
            time.sleep(POLL_INTERVAL_S)
        raise RetryableError(f"topics were made or altered but did not show in time{f': {cause}' if cause else ''}")

    def _is_visible(self) -> bool:
        """A broker shows a new topic, its leaders and an altered config each a moment after it has agreed to it."""
        names = {entry.name for entry in self._catalogue}
        if not names <= {name for name, found in self._known().items() if _has_leaders(found)}:
            return False
        return not any(row.action in {Action.CREATE, Action.ALTER} for row in self.plan())


def _has_leaders(found: Any) -> bool:
    return bool(found.partitions) and all(each.leader >= 0 for each in found.partitions.values())


def _results(answers: Iterable[tuple[str, Any]], *, harmless: int | None = None) -> dict[str, Any]:
    """Wait for every answer. Raises: RetryableError, MisconfiguredError: for the first that failed."""
    found: dict[str, Any] = {}
    for name, future in answers:
        try:
            found[name] = future.result(timeout=ADMIN_TIMEOUT_S)
        except TimeoutError as error:
            raise RetryableError(f"{name}: no answer in {ADMIN_TIMEOUT_S:.0f} s") from error
        except KafkaException as error:
            if error.args[0].code() != harmless:
                raise _mapped(error, name) from error
    return found


def _mapped(error: KafkaException, name: str = "") -> RetryableError | MisconfiguredError:
    cause = error.args[0]
    text = f"{name}: {cause.str()}" if name else str(cause.str())
    return MisconfiguredError(text) if cause.code() in _HOPELESS else RetryableError(text)
