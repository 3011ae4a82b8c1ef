"""What aiokafka's consumer knows and keeps to itself, and a poll that says when it has ended.

Called by `consumer`, `log_worker`, `executor` and the fences of Faust, whose consumer is aiokafka's, too. Calls private
names of aiokafka 0.14.0: each function tells which, and why nothing public would do.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import SyncGroupRequest

from streams.kafka_clients import lease


class ReadingEndedError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """The consumer reads no more, and will not begin again: another must take its place."""


class MembershipEndedError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """The consumer takes part in its group no more, or not before it is asked why: another must take its place."""


class FencedConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's own returns nothing for ever when its task of fetching has failed; this one says so.

    And a poll of aiokafka's own that failed or was cancelled counts as under way for ever, so that `max_poll_interval`
    is never enforced again (consumer/subscription_state.py, `fetch_context`). For one poll at a time.
    """

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next records. Raises: ReadingEndedError, and what aiokafka's own raises."""
        check_reading(self)
        polls = self._subscription
        try:
            records: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=max_records
            )
        except BaseException:  # cancellation too: raised on, only the poll must not count as under way
            polls._fetch_count, polls._last_fetch_ended = 0, time.monotonic()  # noqa: SLF001 -- as aiokafka should
            raise
        return records


def check_reading(consumer: Any) -> None:
    """Return if the started consumer still fetches, or was stopped on purpose. Raises: ReadingEndedError."""
    fetcher = consumer._fetcher  # noqa: SLF001 -- there is no public way to tell
    if fetcher.error_future.done() and not fetcher._closed:  # noqa: SLF001 -- as above
        raise ReadingEndedError("the consumer fetches no more")


def check_membership(consumer: Any) -> None:
    """Return if the consumer does its part in its group, is not started yet, or was stopped on purpose.

    For whoever does not fetch by aiokafka's own `getmany`, which asks the same and hands the reason out: the task of
    coordination waits for that, after any error that it does not know, and joins no group meanwhile. Safe to call from
    another thread than the consumer's.

    Raises: MembershipEndedError.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 -- there is no public way to tell
    if coordinator is None:
        return
    task = coordinator._coordination_task  # noqa: SLF001 -- as above
    reason = coordinator._pending_exception  # noqa: SLF001 -- as above
    if task.done():
        reason = "it was cancelled" if task.cancelled() else task.exception()
    elif reason is None:
        return
    if not consumer._closed:  # noqa: SLF001 -- as above; looked at last, since a stop sets it first
        raise MembershipEndedError(f"the consumer is no member of its group any more: {reason!r}")


def watch_heartbeats(consumer: Any, answered: Callable[[float], None]) -> None:
    """Call `answered` for each heartbeat of a started group member that the group accepted, with when it was sent.

    On the clock of `lease`. aiokafka knows when that was, and keeps it to itself: a worker that was frozen has to know.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 -- there is no public way to tell
    beat = coordinator._do_heartbeat  # noqa: SLF001

    async def watched() -> bool:
        sent_s = lease.now_s()
        accepted = bool(await beat())
        if accepted:
            answered(sent_s)
        return accepted

    coordinator._do_heartbeat = watched  # noqa: SLF001


def watch_joins(consumer: Any) -> Callable[[], float | None]:
    """Return what tells when a started group member last asked for its assignment; None: not since this call.

    On the clock of `lease`. A worker that was frozen between the group's answer and its own next step would otherwise
    take an assignment for fresh that was given away long ago.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 -- there is no public way to tell
    send = coordinator._send_req  # noqa: SLF001
    asked_at_s: float | None = None

    async def watched(request: Any) -> Any:
        nonlocal asked_at_s
        if isinstance(request, SyncGroupRequest):
            asked_at_s = lease.now_s()
        return await send(request)

    coordinator._send_req = watched  # noqa: SLF001
    return lambda: asked_at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlace:
    """How far a partition is read, as of the last fetch. Offsets."""

    position: int
    """Next to be read: all records below were handed out, and what else is below is no record (markers, aborted)."""
    stable_end: int
    """The last stable offset: what stands from here on is, or waits behind, an open transaction."""
    log_end: int
    """The high watermark."""

    @property
    def waits(self) -> bool:
        """Whether there is more, and nothing of it may be read before a transaction ends."""
        return self.stable_end <= self.position < self.log_end


def read_places(consumer: Any) -> dict[TopicPartition, ReadPlace]:
    """Return how far each assigned partition is read; without those that were not fetched from yet.

    Call it on the consumer's own loop, where no fetch or seek comes between.
    """
    subscription = consumer._subscription.subscription  # noqa: SLF001 -- `position` alone is public, and may wait
    if subscription is None or subscription.assignment is None:
        return {}
    assignment = subscription.assignment
    states = {each: assignment.state_value(each) for each in assignment.tps}
    return {
        each: ReadPlace(position=state.position, stable_end=state.lso, log_end=state.highwater)
        for each, state in states.items()
        if state is not None and state.has_valid_position and state.lso is not None and state.highwater is not None
    }


async def log_ends(consumer: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return where each partition ends, open transactions included: aiokafka's `end_offsets` stops before them.

    For whoever must not take what it cannot see yet for not being there. Raises: KafkaError.
    """
    # A copy shares all but this one field, and is asked nothing else; there is no public way.
    fetcher = copy.copy(consumer._fetcher)  # noqa: SLF001
    fetcher._isolation_level = READ_UNCOMMITTED  # noqa: SLF001
    ends: dict[TopicPartition, int] = await fetcher.end_offsets(partitions, consumer._request_timeout_ms)  # noqa: SLF001
    return ends


async def committed_notes(consumer: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, str]:
    """Return what stands beside a group's committed offsets: aiokafka's `committed` keeps it to itself.

    Raises: KafkaError.
    """
    fetch = consumer._coordinator.fetch_committed_offsets  # noqa: SLF001 -- there is no public way
    return {each: committed.metadata for each, committed in (await fetch(partitions)).items()}


def group_of(consumer: Any) -> str:
    """Return the group's id."""
    group: str = consumer._group_id  # noqa: SLF001 -- nothing public tells it
    return group


async def ask_partitions(consumer: Any, topic: str) -> set[int] | None:
    """Return the topic's partitions as the broker has them now; None: there is no such topic. Raises: KafkaError."""
    # aiokafka's public look-ups know only the topics that a consumer subscribed to.
    cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001
    known: set[int] | None = cluster.partitions_for_topic(topic)
    return known
