"""What a group has not read yet of its topics, and what was deleted before it could: asked from outside the group.

Called before a worker joins its group (`refuse_lost_records`), by the worker's watch of the retention, and by `doctor`.
Calls `log_offsets`; blocking, so an event loop uses `to_thread`.

A broker deletes records by age, whoever has read them. A group that was down for longer than the retention finds its
committed offset below the first record that is left. Kafka's clients then go on from that record without a word, and
acknowledged commands would vanish: so no worker of ours starts before a person has looked (`--accept-loss`).
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_offsets import Place, append_times, begin_offsets, committed_offsets, end_offsets

ACCEPT_TIMEOUT_S = 60.0
"""Longest wait until the group has no member: a static one that was stopped stays for its session."""

ACCEPT_AGAIN_S = 0.5
MAX_READ = 200
"""Partitions whose next record is read for its age, those of the longest backlogs."""

MAX_NAMED = 20
"""Partitions that a message names; the counts are over all."""

_HAS_MEMBERS: Final = frozenset(
    {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION}
)

log = structlog.get_logger(__name__)


class RecordsLostError(MisconfiguredError):
    """Records were deleted before their group had read them; the message counts them by topic and partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """One partition of a group. Offsets are places, and some hold no record: counts are upper bounds."""

    topic: str
    partition: int
    committed: int | None  # the next to be read; None: the group has committed nothing here, or it has expired
    begin: int  # of the first record that is left
    end: int  # after the last

    @property
    def next_offset(self) -> int:
        """The next record that the group can still read."""
        return max(self.begin, self.committed or 0)

    @property
    def unread(self) -> int:
        """Records that wait."""
        return max(0, self.end - self.next_offset)

    @property
    def lost(self) -> int:
        """Records that were deleted unread. 0 where they mean nothing once they are old (`Topic.perishable`)."""
        if topics.is_perishable(self.topic):
            return 0
        return max(0, self.begin - (self.committed or 0))


def backlog_of(connection: KafkaConnection, group: str, names: Iterable[str]) -> tuple[Backlog, ...]:
    """Return the backlog of each partition of these topics that exists, in their order. Blocking; changes nothing.

    Raises:
        RetryableError: the cluster did not tell in time.
        MisconfiguredError: it does not let us ask.
    """
    admin = AdminClient(connection.confluent_options())
    timeout_s = connection.request_timeout_s
    try:
        known = admin.list_topics(timeout=timeout_s).topics
        places = [(name, number) for name in names if name in known for number in sorted(known[name].partitions)]
        # Beginnings first: a group that reads on between the questions must not look as if it had lost what it read.
        begins = begin_offsets(admin, places, timeout_s=timeout_s)
        committed = committed_offsets(connection, group, places, timeout_s=timeout_s)
        ends = end_offsets(admin, places, timeout_s=timeout_s)
    except KafkaException as error:
        raise _mapped(error, group) from error
    untold = [place for place in places if place not in begins or place not in ends]
    if untold:
        raise RetryableError(f"the leader of {untold[0][0]} {untold[0][1]} did not say where it begins and ends")
    return tuple(
        Backlog(topic=name, partition=number, committed=committed.get(place), begin=begins[place], end=ends[place])
        for place in places
        for name, number in (place,)
    )


def oldest_unread_ms(connection: KafkaConnection, group: str, backlog: Iterable[Backlog]) -> Mapping[str, int]:
    """Return when the oldest unread record of each topic was appended: milliseconds since 1970. Blocking.

    Without topics that are read to their end, and those whose brokers did not tell in time.
    """
    waiting = sorted((each for each in backlog if each.unread), key=lambda each: each.unread, reverse=True)
    offsets = {(each.topic, each.partition): each.next_offset for each in waiting[:MAX_READ]}
    if not offsets:
        return {}
    oldest: dict[str, int] = {}
    times = append_times(connection, group, offsets, timeout_s=connection.request_timeout_s)
    for (name, _), appended_ms in times.items():
        oldest[name] = min(appended_ms, oldest.get(name, appended_ms))
    return oldest


def refuse_lost_records(
    connection: KafkaConnection, group: str, names: Iterable[str], *, accept_loss: bool = False
) -> None:
    """Return if nothing was deleted before the group had read it, or if that is accepted. Blocking.

    Accepted, the group's commits are moved to the first records that are left, so that the next start finds nothing
    lost; each loss is logged. Safe to repeat.

    Raises:
        RecordsLostError: records were lost, and that is not accepted.
        RetryableError: the cluster did not tell in time.
        MisconfiguredError: it does not let us ask, or other members of the group still run.
    """
    lost = [each for each in backlog_of(connection, group, names) if each.lost]
    if not lost:
        return
    if not accept_loss:
        raise RecordsLostError(describe_loss(group, lost))
    _commit(connection, group, {(each.topic, each.partition): each.begin for each in lost})
    for each in lost:
        log.warning("loss_accepted", topic=each.topic, partition=each.partition, count=each.lost, offset=each.begin)


def describe_loss(group: str, lost: Sequence[Backlog]) -> str:
    """Return what was lost, and what to do, for the person who must look."""
    return (
        f"{summarize_loss(group, lost)}. They are gone from the log, acknowledged or not: ask whoever sent them, and "
        "compare with the gateways. "
        "Once a person has looked, start with --accept-loss"
    )


def summarize_loss(group: str, lost: Sequence[Backlog]) -> str:
    """Return what was lost, counted by topic and partition."""
    total = sum(each.lost for each in lost)
    named = "; ".join(_by_topic(lost[:MAX_NAMED]))
    more = f"; and {len(lost) - MAX_NAMED} partitions more" if len(lost) > MAX_NAMED else ""
    return f"up to {total} records were deleted before {group} had read them: {named}{more}"


def _by_topic(lost: Sequence[Backlog]) -> Iterator[str]:
    for name, places in groupby(lost, key=lambda each: each.topic):
        yield f"{name} " + ", ".join(
            f"partition {each.partition}: {each.lost} "
            f"(committed {'nothing' if each.committed is None else each.committed}, begins at {each.begin})"
            for each in places
        )


def _commit(connection: KafkaConnection, group: str, offsets: Mapping[Place, int]) -> None:
    """Commit for a group without members. Raises: MisconfiguredError when it has some, RetryableError."""
    wanted = [TopicPartition(*place, offset) for place, offset in offsets.items()]
    deadline = time.monotonic() + ACCEPT_TIMEOUT_S
    consumer = Consumer({**connection.confluent_options(), "group.id": group, "enable.auto.commit": False})
    try:
        while True:  # until the deadline
            error = _commit_error(consumer, wanted)
            if error is None:
                return
            if error.args[0].code() not in _HAS_MEMBERS:
                raise _mapped(error, group) from error
            if time.monotonic() > deadline:
                raise MisconfiguredError(
                    f"the group {group} still has members: stop every {group} worker, then start one with --accept-loss"
                ) from error
            time.sleep(ACCEPT_AGAIN_S)
    finally:
        consumer.close()


def _commit_error(consumer: Consumer, wanted: list[TopicPartition]) -> KafkaException | None:
    try:
        answers = consumer.commit(offsets=wanted, asynchronous=False) or ()
    except KafkaException as error:
        return error
    return next((KafkaException(each.error) for each in answers if each.error is not None), None)


def _mapped(error: KafkaException, group: str) -> RetryableError | MisconfiguredError:
    cause = error.args[0]
    if cause.code() in {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED}:
        return MisconfiguredError(f"the group {group} may not be asked: {cause.str()}")
    return RetryableError(f"the cluster does not tell what {group} has read: {cause.str()}")
