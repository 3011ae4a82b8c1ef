"""Does a partition wait behind somebody's open transaction? Called by `examination`.

Every consumer of ours reads committed, so an open transaction holds its partitions up from its first record on. One
that lives for milliseconds is no finding: what is named was open at two looks, `LOOK_AGAIN_S` apart.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient

from schemas.topics import CATALOGUE
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_offsets import Place, end_offsets, stable_ends
from streams.operator_tools.doctor.cluster import ClusterState
from streams.operator_tools.doctor.findings import Finding, Subject, ok, warning

LOOK_AGAIN_S = 3.0
TIMEOUT_S = 10.0
MAX_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A partition that cannot be read to its end."""

    place: Place
    first: int  # offset of the first record that may not be read yet
    end: int  # offset after the last one


def find_waits(connection: KafkaConnection, cluster: ClusterState) -> tuple[Wait, ...]:
    """Return the partitions of the catalogue's topics that waited at both looks. Blocking; one look when none waits."""
    admin = AdminClient(connection.confluent_options())
    places = [
        (topic.name, number)
        for topic in CATALOGUE
        if topic.name in cluster.topics
        for number in range(cluster.topics[topic.name].partitions)
    ]
    before = _look(admin, places)
    if not before:
        return ()
    time.sleep(LOOK_AGAIN_S)
    return tuple(wait for place, wait in _look(admin, list(before)).items() if wait.first == before[place].first)


def _look(admin: AdminClient, places: list[Place]) -> Mapping[Place, Wait]:
    # Ends first: what is appended in between must not look as if it waited.
    ends = end_offsets(admin, places, timeout_s=TIMEOUT_S)
    stable = stable_ends(admin, places, timeout_s=TIMEOUT_S)
    return {
        place: Wait(place=place, first=stable[place], end=end)
        for place, end in ends.items()
        if place in stable and stable[place] < end
    }


def judge(waits: tuple[Wait, ...]) -> Iterator[Finding]:
    """Yield what waits, by place."""
    if not waits:
        yield ok(Subject.TOPICS, "no partition waits behind an open transaction")
        return
    named = "; ".join(
        f"{each.place[0]} partition {each.place[1]} from offset {each.first} on (up to {each.end - each.first} records)"
        for each in waits[:MAX_NAMED]
    )
    more = f"; and {len(waits) - MAX_NAMED} more" if len(waits) > MAX_NAMED else ""
    topic, partition = waits[0].place
    yield warning(
        Subject.TOPICS,
        f"{len(waits)} partition(s) wait behind an open transaction: {named}{more}",
        why="A producer has begun a transaction there and not ended it; what it and others appended since is not read.",
        fix="End it at its producer, or wait: the broker ends it after its transaction.timeout.ms (at most "
        "transaction.max.timeout.ms). `kafka-transactions.sh describe-producers --topic "
        f"{topic} --partition {partition}` names the producer; `kafka-transactions.sh abort` ends a hanging one.",
    )
