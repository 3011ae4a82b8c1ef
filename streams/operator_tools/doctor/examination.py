"""The whole examination, in the order in which one thing needs another. Called by `streams.cli.doctor`.

A check whose ground is missing (no broker, no topic) is left out: its cause has been said already.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.schema_ids import SchemaIds
from schemas.topics import CATALOGUE
from streams.operator_tools import reachability
from streams.operator_tools.doctor import (
    broker_check,
    clock_check,
    clock_probe,
    cluster_facts,
    partitioner_check,
    registry_check,
    settings_check,
    topics_check,
    transactions_check,
    upgrade_check,
    workers_check,
)
from streams.operator_tools.doctor.cluster import ClusterState
from streams.operator_tools.doctor.findings import Finding, Subject, failure
from streams.operator_tools.errors import OperationError
from streams.operator_tools.kafka_log import KafkaLog, operator_connection
from streams.operator_tools.schema_files import ids_of
from streams.settings import Settings
from streams.topology import GROUPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the operator allows."""

    probe_clock: bool  # write one record to a topic of its own


def examine(settings: Settings, wish: Wish, *, clock_ms: Callable[[], int]) -> Iterator[Finding]:
    """Yield the findings as they are made. Never raises for what it examines: that becomes a finding."""
    yield from settings_check.judge(settings)
    yield from partitioner_check.judge_computed(partitioner_check.installed_partitioners())
    yield from registry_check.examine(settings.registry)
    try:
        answers = reachability.ask_all(settings.kafka)
        yield from broker_check.judge_answers(answers)
        if all(answer.fault for answer in answers):
            return
        yield from _cluster(settings, wish, clock_ms)
    except OperationError as error:
        yield failure(
            Subject.BROKER,
            str(error),
            why="The examination ends here; what comes after was not looked at.",
            fix="Mend what is named above first, then run `payment-engine doctor` again.",
        )


def _cluster(settings: Settings, wish: Wish, clock_ms: Callable[[], int]) -> Iterator[Finding]:
    connection = operator_connection(settings.kafka)
    cluster = cluster_facts.gather_cluster(connection)
    yield from broker_check.judge_cluster(cluster, settings.kafka)
    yield from topics_check.judge(cluster, settings.kafka)
    yield from transactions_check.judge(transactions_check.find_waits(connection, cluster))
    if wish.probe_clock:
        yield clock_probe.probe_clock(connection, clock_ms=clock_ms)
    if _has_all_topics(cluster):
        with KafkaLog(connection) as log:
            yield from partitioner_check.judge_log(log)
            yield from upgrade_check.judge_log(log, MessageCodec(_ids(settings)))
            if not wish.probe_clock:
                yield from clock_check.judge_log(log, now_ms=clock_ms())
        groups = cluster_facts.gather_groups(connection, cluster, GROUPS)
        yield from workers_check.judge(groups, kept_ms=topics_check.kept_ms(cluster), now_ms=clock_ms())


def _ids(settings: Settings) -> SchemaIds:
    try:
        return ids_of(settings.registry)
    except (OperationError, MisconfiguredError):  # said already
        return SchemaIds.packaged()


def _has_all_topics(cluster: ClusterState) -> bool:
    return all(topic.name in cluster.topics for topic in CATALOGUE)
