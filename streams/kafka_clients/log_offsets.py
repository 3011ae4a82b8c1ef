"""Where partitions begin and end, and what a group has committed, asked from outside. By confluent-kafka.

Called by `backlog`, for `doctor` and the start of every worker, and by the tests. Two traps of librdkafka 2.16 are kept
in here. A group is asked by a consumer that never subscribes, and so never joins: the admin client can ask it too, and
takes the whole process down by SIGSEGV when the coordinator has moved meanwhile (librdkafka #5040), which is when one
asks. And for a leader that does not answer, `list_offsets` gives -1001 and no error.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import MappingProxyType
from typing import Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without saying so

from streams.kafka_clients.connection import KafkaConnection

Place = tuple[str, int]
"""Topic and partition."""

ASK_AGAIN_S = 0.1

_ONE_RECORD: Final[Mapping[str, str | int | float | bool]] = MappingProxyType(
    {
        "enable.auto.commit": False,
        "enable.partition.eof": True,  # tells that there is no record behind the offset, a transaction's marker, say
        "queued.min.messages": 1,
        "fetch.message.max.bytes": 16_384,  # a larger record comes all the same, alone
    }
)

_COORDINATOR_MOVES: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


def begin_offsets(admin: AdminClient, places: Iterable[Place], *, timeout_s: float) -> Mapping[Place, int]:
    """Return the first offset of each partition; one whose leader does not answer is left out. Blocking."""
    return _listed(admin, places, OffsetSpec.earliest(), timeout_s)  # type: ignore[no-untyped-call]  # left bare there


def end_offsets(admin: AdminClient, places: Iterable[Place], *, timeout_s: float) -> Mapping[Place, int]:
    """Return the offset after the last of each partition; one whose leader does not answer is left out. Blocking."""
    return _listed(admin, places, OffsetSpec.latest(), timeout_s)  # type: ignore[no-untyped-call]  # left bare there


def stable_ends(admin: AdminClient, places: Iterable[Place], *, timeout_s: float) -> Mapping[Place, int]:
    """Return up to where each partition may be read, before any open transaction; as `end_offsets`. Blocking."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # left bare there
    return _listed(admin, places, latest, timeout_s, isolation_level=IsolationLevel.READ_COMMITTED)


def _listed(
    admin: AdminClient, places: Iterable[Place], spec: OffsetSpec, timeout_s: float, **options: IsolationLevel
) -> Mapping[Place, int]:
    wanted = {TopicPartition(*place): spec for place in places}
    if not wanted:
        return {}
    found: dict[Place, int] = {}
    for place, answer in admin.list_offsets(wanted, request_timeout=timeout_s, **options).items():
        try:
            offset = answer.result(timeout=timeout_s).offset
        except (KafkaException, FutureTimeoutError):
            continue
        if offset >= 0:
            found[place.topic, place.partition] = offset
    return found


def committed_offsets(
    connection: KafkaConnection, group: str, places: Iterable[Place], *, timeout_s: float
) -> Mapping[Place, int]:
    """Return the offset that the group would read next; a place without a commit is left out. Blocking.

    Raises:
        KafkaException: the group's coordinator did not answer in time, or refuses for one of the places.
    """
    asked = [TopicPartition(*place) for place in places]
    deadline = time.monotonic() + timeout_s
    consumer = Consumer({**connection.confluent_options(), "group.id": group, "enable.auto.commit": False})
    try:
        answers = _answers(consumer, asked, deadline)
    finally:
        consumer.close()
    for each in answers:
        if each.error is not None:
            raise KafkaException(each.error)
    return {(each.topic, each.partition): each.offset for each in answers if each.offset >= 0}


def append_times(
    connection: KafkaConnection, group: str, offsets: Mapping[Place, int], *, timeout_s: float
) -> Mapping[Place, int]:
    """Return when the record at each offset, or the first behind it, was appended: milliseconds since 1970. Blocking.

    A place is left out where there is no such record, or where its broker did not hand it out in time. Joins and
    commits nothing; the group is named because a client of librdkafka must name one.
    """
    found: dict[Place, int] = {}
    left = {place: TopicPartition(*place, offset) for place, offset in offsets.items()}
    deadline = time.monotonic() + timeout_s
    consumer = Consumer({**connection.confluent_options(), "group.id": group, **_ONE_RECORD})
    try:
        consumer.assign(list(left.values()))
        while left and time.monotonic() < deadline:
            for message in consumer.consume(num_messages=len(left), timeout=ASK_AGAIN_S):
                place = (str(message.topic()), int(message.partition() or 0))
                error = message.error()
                if left.pop(place, None) is None:
                    continue  # a second record of a place that is known already
                consumer.incremental_unassign([TopicPartition(*place)])
                if error is None:
                    found[place] = int(message.timestamp()[1])
    except KafkaException:
        return found  # what was told so far; the rest is not known
    finally:
        consumer.close()
    return found


def _answers(consumer: Consumer, asked: list[TopicPartition], deadline: float) -> list[TopicPartition]:
    while True:  # until the deadline
        left_s = deadline - time.monotonic()
        try:
            return consumer.committed(asked, timeout=max(ASK_AGAIN_S, left_s))
        except KafkaException as error:
            if left_s <= ASK_AGAIN_S or error.args[0].code() not in _COORDINATOR_MOVES:
                raise
        time.sleep(ASK_AGAIN_S)
