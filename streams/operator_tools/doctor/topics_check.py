"""Are the topics there, and as the catalogue has them? Called by `examination`; pure."""

from collections.abc import Iterator, Mapping

from schemas.topics import CATALOGUE, TIMESTAMP_TYPE, Cleanup, PartitionRule, Topic
from streams.kafka_clients.admin import KEEP_ALL
from streams.operator_tools.doctor.cluster import ClusterState, TopicState
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.settings import KafkaSettings

_APPLY = "`payment-engine topics plan` shows it, `payment-engine topics apply` mends it."


def judge(cluster: ClusterState, settings: KafkaSettings) -> Iterator[Finding]:
    """Yield what is wrong with the topics; one `ok` when nothing is."""
    missing = [topic.name for topic in CATALOGUE if topic.name not in cluster.topics]
    found: list[Finding] = []
    if missing:
        found.append(
            failure(
                Subject.TOPICS,
                f"missing: {', '.join(missing)}",
                why="Nothing creates a topic at run time: a component that needs one does not start, or cannot write.",
                fix=_APPLY,
            )
        )
    for topic in CATALOGUE:
        state = cluster.topics.get(topic.name)
        if state is not None:
            found += _judge_one(topic, state, settings)
    yield from found or [ok(Subject.TOPICS, f"all {len(CATALOGUE)} topics are as the catalogue has them")]


def kept_ms(cluster: ClusterState) -> Mapping[str, int]:
    """Return how long each topic keeps its records, as the cluster says, else the catalogue; without for ever."""
    kept = {
        topic.name: int(cluster.topics[topic.name].settings.get("retention.ms", topic.retention_ms or KEEP_ALL))
        for topic in CATALOGUE
        if topic.name in cluster.topics and topic.cleanup is Cleanup.DELETE
    }
    return {name: each for name, each in kept.items() if each != KEEP_ALL}


def _judge_one(topic: Topic, state: TopicState, settings: KafkaSettings) -> Iterator[Finding]:
    yield from _partitions(topic, state, settings)
    yield from _copies(topic, state, settings)
    yield from _cleanup(topic, state.settings)
    yield from _dates(topic, state.settings)
    in_sync = state.settings.get("min.insync.replicas", "")
    if in_sync.isdigit() and int(in_sync) != settings.min_insync_replicas:
        yield warning(
            Subject.TOPICS,
            f"{topic.name}: min.insync.replicas is {in_sync}, not {settings.min_insync_replicas}",
            why="It decides how many copies a write has before it counts as safe.",
            fix=_APPLY,
        )


def _partitions(topic: Topic, state: TopicState, settings: KafkaSettings) -> Iterator[Finding]:
    wanted = 1 if topic.partition_rule is PartitionRule.SINGLE else settings.partitions
    if state.partitions != wanted:
        yield failure(
            Subject.TOPICS,
            f"{topic.name} has {state.partitions} partitions, not {wanted}",
            why="One order's records meet in one partition number across topics; with another count its rows, "
            "verdicts and results end at different workers.",
            fix="If no payment was made yet, delete the topic and run `payment-engine topics apply`. Else set "
            "PAYMENT_ENGINE_KAFKA_PARTITIONS to what the topics have: the count never changes under a system.",
        )


def _copies(topic: Topic, state: TopicState, settings: KafkaSettings) -> Iterator[Finding]:
    if state.without_leader:
        yield failure(
            Subject.TOPICS,
            f"{topic.name}: partitions without a leader: {', '.join(map(str, state.without_leader))}",
            why="Payments of the orders in them do not move.",
            fix="Bring the brokers that hold their copies back.",
        )
    elif state.fewest_in_sync < min(settings.min_insync_replicas, state.fewest_copies):
        yield failure(
            Subject.TOPICS,
            f"{topic.name}: {state.fewest_in_sync} copies in sync, {settings.min_insync_replicas} are needed",
            why="Every write with acks=all is refused until the copies have caught up.",
            fix="Bring the missing brokers back, or wait until they have caught up.",
        )
    elif state.fewest_in_sync < state.fewest_copies:
        yield warning(
            Subject.TOPICS,
            f"{topic.name}: {state.fewest_in_sync} of {state.fewest_copies} copies in sync",
            why="The next broker lost may stop writes.",
            fix="Bring the missing broker back, or wait until it has caught up.",
        )
    if state.fewest_copies != settings.replication_factor:
        yield warning(
            Subject.TOPICS,
            f"{topic.name} has {state.fewest_copies} copies, not {settings.replication_factor}",
            why="The number of copies is how many brokers may be lost.",
            fix="Move the partitions with kafka-reassign-partitions.sh, or correct "
            "PAYMENT_ENGINE_KAFKA_REPLICATION_FACTOR.",
        )


def _cleanup(topic: Topic, told: Mapping[str, str]) -> Iterator[Finding]:
    policy = told.get("cleanup.policy")
    if policy is not None and policy != topic.cleanup.value:
        why = (
            "A table is recovered from it: a record deleted by age is an order or a claim forgotten."
            if topic.cleanup is Cleanup.COMPACT
            else "Compaction keeps one record a key: the history of an order is lost."
        )
        yield failure(
            Subject.TOPICS, f"{topic.name}: cleanup.policy is {policy}, not {topic.cleanup.value}", why=why, fix=_APPLY
        )
        return
    size = told.get("retention.bytes", str(KEEP_ALL))
    if size != str(KEEP_ALL):
        yield warning(
            Subject.TOPICS,
            f"{topic.name} keeps {size} bytes of each partition",
            why="On a busy day that is less than its retention, and records are deleted that nobody has read.",
            fix=_APPLY,
        )
    kept = told.get("retention.ms")
    if topic.retention_ms is not None and kept is not None and 0 <= int(kept) < topic.retention_ms:
        yield warning(
            Subject.TOPICS,
            f"{topic.name} keeps {int(kept) // 3_600_000} h, not {topic.retention_ms // 3_600_000} h",
            why="Whoever is down or behind for longer misses records.",
            fix=_APPLY,
        )


def _dates(topic: Topic, told: Mapping[str, str]) -> Iterator[Finding]:
    """Who dates the records. Brokers that do not tell are passed over."""
    who = told.get("message.timestamp.type")
    if who is not None and who != TIMESTAMP_TYPE:
        yield failure(
            Subject.TOPICS,
            f"{topic.name}: message.timestamp.type is {who}, not {TIMESTAMP_TYPE}",
            why="Decisions take their time from the records: by producers' clocks, one that is wrong could free "
            "idempotency keys, or take an old gateway key for young.",
            fix=_APPLY,
        )
