"""aiokafka's own coordinator of a group: what makes it stop without a word, and that we notice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import LeaveGroupRequest

from streams.kafka.faust_fences.worker_app import MAX_POLL_INTERVAL_S
from streams.kafka_clients.aiokafka_fences.fenced_consumer import MembershipEndedError, check_membership
from tests.support.waiting import until

WAIT_S = 5.0


class _Cluster:
    """One topic, one partition."""

    def add_listener(self, _listener: object) -> None:
        """It never changes."""

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}


class _Client:
    """As much of aiokafka's client as a member touches that never gets to the broker."""

    cluster = _Cluster()

    def set_topics(self, _topics: object) -> asyncio.Future[bool]:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done


class _Member:
    """A consumer as far as its membership goes: the coordinator is aiokafka's, the broker is not there."""

    def __init__(self, **options: Any) -> None:
        self.subscription = SubscriptionState()
        self._coordinator: Any = GroupCoordinator(
            _Client(), self.subscription, group_id="g", enable_auto_commit=False, **options
        )
        self._coordinator.ensure_coordinator_known = self._known
        self._coordinator._do_heartbeat = self._beat
        self._coordinator._send_req = self._send
        self.beats = 0
        self.join_count = 0
        self.sent: list[object] = []
        self._closed = False

    @property
    def coordinator(self) -> Any:
        return self._coordinator

    async def _known(self) -> None:
        self._coordinator.coordinator_id = 1

    async def _beat(self) -> bool:
        self.beats += 1
        return True

    async def _send(self, request: object) -> None:
        self.sent.append(request)

    async def joins(self, _subscription: object) -> bool:
        """Be given nothing, as a member that is one too many."""
        self.join_count += 1
        coordinator = self._coordinator
        coordinator.generation, coordinator.member_id = self.join_count, "m"
        coordinator._rejoin_needed_fut = asyncio.get_running_loop().create_future()
        self.subscription.assign_from_subscribed([])
        return True

    def joins_by(self, join: Callable[[object], Awaitable[bool]]) -> None:
        self._coordinator._do_rejoin_group = join
        self.subscription.register_fetch_waiters(set())
        self.subscription.subscribe({"t"})

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(self._coordinator.close(), return_exceptions=True)


@pytest.fixture
async def member() -> AsyncIterator[_Member]:
    made = _Member()
    yield made
    await made.close()


async def _refused(_subscription: object) -> bool:
    raise KafkaError("a code that aiokafka does not know")


async def _defect(_subscription: object) -> bool:
    raise AssertionError("of an assignor")


async def test_member_that_waits_to_be_asked_is_noticed(member: _Member) -> None:
    """It has no heartbeat and does not try again before somebody asks; whoever polls by aiokafka's `getmany` does."""
    check_membership(member)
    member.joins_by(_refused)
    await until(lambda: member.coordinator._pending_exception is not None, timeout_s=WAIT_S, look_again_s=0)
    with pytest.raises(MembershipEndedError, match="does not know"):
        check_membership(member)
    with pytest.raises(KafkaError):
        member.coordinator.check_errors()


async def test_member_whose_task_has_ended_is_noticed(member: _Member) -> None:
    member.joins_by(_defect)
    await until(member.coordinator._coordination_task.done, timeout_s=WAIT_S, look_again_s=0)
    with pytest.raises(MembershipEndedError, match="of an assignor"):
        check_membership(member)
    with pytest.raises(KafkaError):
        member.coordinator.check_errors()


async def test_member_that_was_stopped_on_purpose_is_none_that_failed(member: _Member) -> None:
    await member.close()
    assert member.coordinator._coordination_task.done()
    check_membership(member)


async def test_member_that_is_not_started_yet_is_none_that_failed() -> None:
    check_membership(SimpleNamespace(_coordinator=None))


async def test_member_that_fetches_nothing_leaves_its_group_and_joins_no_more_after_the_interval() -> None:
    """What `MAX_POLL_INTERVAL_S` is against: with no partition there is nothing to fetch."""
    member = _Member(max_poll_interval_ms=30, heartbeat_interval_ms=1, retry_backoff_ms=1)
    member.joins_by(member.joins)
    await until(lambda: bool(member.sent), timeout_s=WAIT_S, look_again_s=0)
    assert [type(each) for each in member.sent] == [LeaveGroupRequest]
    await until(lambda: member.coordinator._performed_join_prepare, timeout_s=WAIT_S, look_again_s=0)
    assert (member.join_count, member.coordinator.generation) == (1, OffsetCommitRequest.DEFAULT_GENERATION_ID)
    await member.close()


async def test_member_that_fetches_nothing_stays_when_the_interval_is_that_of_a_worker() -> None:
    member = _Member(max_poll_interval_ms=int(MAX_POLL_INTERVAL_S * 1000), heartbeat_interval_ms=1)
    member.joins_by(member.joins)
    await until(lambda: member.beats > 30, timeout_s=WAIT_S, look_again_s=0)
    assert member.sent == []
    await member.close()
