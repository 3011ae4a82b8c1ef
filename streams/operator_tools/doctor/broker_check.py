"""Is the broker there, does it speak what the engine needs, and is it safe to keep payments on?

Called by `examination`. Pure: `reachability` asked the addresses, `cluster_facts` the cluster.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from streams.operator_tools.doctor.cluster import ClusterState
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.operator_tools.reachability import Answer
from streams.settings import KafkaSettings

PRODUCTION_BROKERS = 3

# What the engine's clients call, and the version from which it has what they need (https://kafka.apache.org/protocol).
NEEDED_APIS: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        0: ("Produce", 3),  # record batches with headers: CloudEvents needs them
        1: ("Fetch", 4),
        2: ("ListOffsets", 1),  # by time
        3: ("Metadata", 0),
        8: ("OffsetCommit", 2),
        9: ("OffsetFetch", 1),
        10: ("FindCoordinator", 0),
        11: ("JoinGroup", 5),  # static membership (KIP-345): a restart is no rebalance
        12: ("Heartbeat", 0),
        13: ("LeaveGroup", 0),
        14: ("SyncGroup", 0),
        19: ("CreateTopics", 2),
        22: ("InitProducerId", 0),  # idempotent producers
        32: ("DescribeConfigs", 1),
    }
)
MIN_MESSAGE_BYTES = 1_000_000
"""An order row with 500 operations, or a dead letter with a raw record, comes near it."""


def judge_answers(answers: Sequence[Answer]) -> Iterator[Finding]:
    """Yield what the bootstrap addresses said."""
    for answer in answers:
        if answer.fault is not None:
            one_of_several = any(other.fault is None for other in answers)
            say = warning if one_of_several else failure
            yield say(
                Subject.BROKER,
                f"{answer.address}: {answer.fault}",
                why="A client that starts while the others are down finds no cluster."
                if one_of_several
                else "Nothing of the engine works without its log.",
                fix="Start the broker, or correct PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS and _SECURITY_PROTOCOL. "
                "For a try without any broker: `payment-engine dev`.",
            )
            continue
        missing = tuple(_missing(answer.apis))
        if missing:
            yield failure(
                Subject.BROKER,
                f"{answer.address} does not speak {', '.join(missing)}",
                why="Clients of the engine use them; something will not start, or a guarantee does not hold.",
                fix="Use Apache Kafka 2.5 or newer, 4.x for choice.",
            )
        else:
            yield ok(
                Subject.BROKER, f"{answer.address} answers and speaks all that is needed ({len(answer.apis)} APIs)"
            )


def _missing(apis: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    for key, (name, needed) in NEEDED_APIS.items():
        _, highest = apis.get(key, (0, -1))
        if highest < needed:
            yield f"{name} version {needed}" if key in apis else name


def judge_cluster(cluster: ClusterState, settings: KafkaSettings) -> Iterator[Finding]:
    """Yield what the cluster says of itself."""
    count = len(cluster.brokers)
    yield ok(Subject.BROKER, f"cluster {cluster.cluster_id} of {count} broker{'s' if count != 1 else ''}")
    if not cluster.controller:
        yield failure(
            Subject.BROKER,
            "the cluster has no controller",
            why="Topics cannot be made, and a failed broker's partitions get no new leader.",
            fix="See the controllers' logs: the quorum has no majority.",
        )
    if count < settings.replication_factor:
        yield failure(
            Subject.BROKER,
            f"{count} brokers, but replication_factor is {settings.replication_factor}",
            why="Topics with that many copies cannot be made.",
            fix="Start the missing brokers, or lower PAYMENT_ENGINE_KAFKA_REPLICATION_FACTOR.",
        )
    if count < PRODUCTION_BROKERS:
        yield warning(
            Subject.BROKER,
            f"{count} broker{'s' if count != 1 else ''}: for development only",
            why="Losing a disk loses payments, and a restart stops the engine.",
            fix="In production run three brokers or more, replication 3, min ISR 2.",
        )
    yield from _broker_settings(cluster.broker_settings)


def _broker_settings(told: Mapping[str, str]) -> Iterator[Finding]:
    if told.get("auto.create.topics.enable") == "true":
        yield warning(
            Subject.BROKER,
            "auto.create.topics.enable is on",
            why="A misspelt topic name makes a topic with the broker's defaults, where records wait unseen.",
            fix="Set auto.create.topics.enable=false on the brokers.",
        )
    if told.get("unclean.leader.election.enable") == "true":
        yield failure(
            Subject.BROKER,
            "unclean.leader.election.enable is on",
            why="A broker that lags may become leader, and acknowledged payments vanish.",
            fix="Set unclean.leader.election.enable=false on the brokers.",
        )
    largest = told.get("message.max.bytes", "")
    if largest.isdigit() and int(largest) < MIN_MESSAGE_BYTES:
        yield failure(
            Subject.BROKER,
            f"message.max.bytes is {largest}",
            why="An order with many operations, or a dead letter, does not fit, and its worker stops.",
            fix=f"Set message.max.bytes to {MIN_MESSAGE_BYTES} or more.",
        )
