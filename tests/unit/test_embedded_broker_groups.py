"""The embedded broker's groups: sessions, rebalances, static members, commits. The clock is the test's own."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from kio.schema.errors import ErrorCode

from streams.development.embedded_broker.group_coordinator import CommittedOffset, GroupCoordinator
from streams.development.embedded_broker.group_member import GroupState, JoinAsk, JoinOutcome, SyncOutcome
from streams.development.embedded_broker.limits import (
    MAX_GROUP_MEMBERS,
    MAX_OFFSET_METADATA_BYTES,
    MAX_SESSION_TIMEOUT_S,
)

GROUP = "g"
SESSION_S = 10.0
REBALANCE_S = 60.0
INITIAL_DELAY_S = 3.0
A_MOMENT_S = 0.001


@dataclass(slots=True)
class FakeTimer:
    call: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass(slots=True)
class FakeClock:
    """A clock that moves only when told to."""

    now_s: float = 0.0
    _due: list[tuple[float, int, FakeTimer]] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(call)
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._count), timer))
        return timer

    async def pass_by(self, seconds: float) -> None:
        await settle()  # who was asked before the time passes has asked by then
        ends_s = self.now_s + seconds
        while self._due and self._due[0][0] <= ends_s:
            self.now_s, _, timer = heapq.heappop(self._due)
            if not timer.is_cancelled:
                timer.call()
            await settle()
        self.now_s = ends_s
        await settle()


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


class Groups:
    """A coordinator with the test's clock, and short words for what members do."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.coordinator = GroupCoordinator(schedule=self.clock.call_later, initial_delay_s=INITIAL_DELAY_S)

    def join(
        self,
        member_id: str = "",
        *,
        instance: str | None = None,
        subscription: bytes = b"s",
        session_s: float = SESSION_S,
        protocols: tuple[str, ...] = ("range",),
        requires_id: bool = False,
    ) -> "asyncio.Task[JoinOutcome]":
        ask = JoinAsk(
            member_id=member_id,
            instance_id=instance,
            client_id="client",
            client_host="127.0.0.1",
            session_timeout_s=session_s,
            rebalance_timeout_s=REBALANCE_S,
            protocol_type="consumer",
            protocols=tuple((name, subscription) for name in protocols),
            may_require_member_id=requires_id,
        )
        return asyncio.create_task(self.coordinator.join(GROUP, ask))

    def sync(
        self, joined: JoinOutcome, assignments: dict[str, bytes] | None = None, instance: str | None = None
    ) -> "asyncio.Task[SyncOutcome]":
        return asyncio.create_task(
            self.coordinator.sync(GROUP, joined.member_id, instance, joined.generation, assignments or {})
        )

    def heartbeat(self, joined: JoinOutcome, instance: str | None = None) -> ErrorCode:
        return self.coordinator.heartbeat(GROUP, joined.member_id, instance, joined.generation)

    @property
    def state(self) -> GroupState:
        group = self.coordinator.find(GROUP)
        assert group is not None
        return group.state

    async def stable(self, *instances: str | None) -> list[JoinOutcome]:
        """A stable group of that many members, the leader first; each is assigned its own id."""
        joins = [self.join(instance=instance) for instance in instances]
        await self.clock.pass_by(INITIAL_DELAY_S)
        joined = [await join for join in joins]
        await self.settle_assignments(joined, list(instances))
        return joined

    async def settle_assignments(self, joined: list[JoinOutcome], instances: list[str | None]) -> None:
        assignments = {outcome.member_id: outcome.member_id.encode() for outcome in joined}
        syncs = [
            self.sync(outcome, assignments if outcome.member_id == outcome.leader_id else None, instance)
            for outcome, instance in zip(joined, instances, strict=True)
        ]
        for outcome, sync in zip(joined, syncs, strict=True):
            assert (await sync).assignment == outcome.member_id.encode()


@pytest.fixture
async def groups() -> Groups:
    return Groups()


# ---- joining


async def test_members_share_one_generation_when_they_join_within_the_initial_delay(groups: Groups) -> None:
    leader, follower = await groups.stable(None, None)
    assert leader.generation == follower.generation == 1
    assert leader.leader_id == follower.leader_id == leader.member_id
    assert {member.member_id for member in leader.members} == {leader.member_id, follower.member_id}
    assert follower.members == ()
    assert groups.state is GroupState.STABLE


async def test_newcomer_gets_an_id_first_when_the_protocol_asks_for_it(groups: Groups) -> None:
    first = await groups.join(requires_id=True)
    assert (first.error, first.member_id != "") == (ErrorCode.member_id_required, True)
    again = groups.join(first.member_id, requires_id=True)
    await groups.clock.pass_by(INITIAL_DELAY_S)
    assert (await again).member_id == first.member_id


async def test_join_is_refused_when_the_member_id_is_unknown(groups: Groups) -> None:
    assert (await groups.join("nobody")).error is ErrorCode.unknown_member_id
    await groups.stable(None)
    assert (await groups.join("nobody")).error is ErrorCode.unknown_member_id


@pytest.mark.parametrize("session_s", [0.0, MAX_SESSION_TIMEOUT_S + 1])
async def test_join_is_refused_when_the_session_time_out_is_out_of_range(groups: Groups, session_s: float) -> None:
    assert (await groups.join(session_s=session_s)).error is ErrorCode.invalid_session_timeout


async def test_join_is_refused_when_no_assignor_is_shared(groups: Groups) -> None:
    await groups.stable(None)
    assert (await groups.join(protocols=("other",))).error is ErrorCode.inconsistent_group_protocol
    assert (await groups.join(protocols=())).error is ErrorCode.inconsistent_group_protocol


async def test_join_is_refused_when_the_group_is_full(groups: Groups) -> None:
    joins = [groups.join() for _ in range(MAX_GROUP_MEMBERS)]
    await settle()
    assert (await groups.join()).error is ErrorCode.group_max_size_reached
    groups.coordinator.close()
    await asyncio.gather(*joins)


async def test_rebalance_picks_the_assignor_that_most_members_put_first(groups: Groups) -> None:
    joins = [groups.join(protocols=names) for names in (("a", "b", "x"), ("b", "a"), ("b", "a"))]
    await groups.clock.pass_by(INITIAL_DELAY_S)
    assert {(await join).protocol for join in joins} == {"b"}


# ---- sessions


async def test_member_is_removed_exactly_when_its_session_time_out_is_over(groups: Groups) -> None:
    leader, follower = await groups.stable(None, None)
    await groups.clock.pass_by(SESSION_S - A_MOMENT_S)
    assert groups.heartbeat(leader) is ErrorCode.none  # the leader lives on, the follower is silent
    assert groups.state is GroupState.STABLE
    await groups.clock.pass_by(2 * A_MOMENT_S)
    assert groups.heartbeat(leader) is ErrorCode.rebalance_in_progress
    assert groups.heartbeat(follower) is ErrorCode.unknown_member_id
    alone = await groups.join(leader.member_id)
    assert (alone.generation, len(alone.members)) == (2, 1)


async def test_group_is_empty_when_its_only_member_falls_silent(groups: Groups) -> None:
    (member,) = await groups.stable(None)
    await groups.clock.pass_by(SESSION_S)
    assert groups.state is GroupState.EMPTY
    assert groups.heartbeat(member) is ErrorCode.unknown_member_id


async def test_waiting_member_is_not_removed_by_its_session_time_out(groups: Groups) -> None:
    leader, follower = await groups.stable(None, None)
    rejoining = groups.join(leader.member_id, subscription=b"changed")
    for _ in range(5):
        await groups.clock.pass_by(SESSION_S - A_MOMENT_S)
        assert groups.heartbeat(follower) is ErrorCode.rebalance_in_progress
    assert not rejoining.done()
    await groups.join(follower.member_id)
    assert (await rejoining).generation == 2


async def test_rebalance_goes_on_without_a_member_when_it_does_not_rejoin_in_time(groups: Groups) -> None:
    leader, follower = await groups.stable(None, None)
    rejoining = groups.join(leader.member_id)
    waited_s = 0.0
    while waited_s < REBALANCE_S:
        await groups.clock.pass_by(SESSION_S / 2)
        groups.heartbeat(follower)  # alive, but never joins
        waited_s += SESSION_S / 2
    assert len((await rejoining).members) == 1
    assert groups.heartbeat(follower) is ErrorCode.unknown_member_id


async def test_rebalance_starts_over_when_the_leader_dies_before_it_has_assigned(groups: Groups) -> None:
    joins = [groups.join(), groups.join()]
    await groups.clock.pass_by(INITIAL_DELAY_S)
    leader, follower = [await join for join in joins]
    waiting = groups.sync(follower)
    await groups.clock.pass_by(SESSION_S)
    assert (await waiting).error is ErrorCode.rebalance_in_progress
    assert groups.heartbeat(leader) is ErrorCode.unknown_member_id
    assert (await groups.join(follower.member_id)).leader_id == follower.member_id


async def test_rebalance_drops_a_leader_that_heartbeats_and_never_assigns(groups: Groups) -> None:
    joins = [groups.join(), groups.join()]
    await groups.clock.pass_by(INITIAL_DELAY_S)
    leader, follower = [await join for join in joins]
    waiting = groups.sync(follower)
    waited_s = 0.0
    while waited_s < REBALANCE_S:
        await groups.clock.pass_by(SESSION_S / 2)
        groups.heartbeat(leader)
        waited_s += SESSION_S / 2
    assert (await waiting).error is ErrorCode.rebalance_in_progress
    assert groups.heartbeat(leader) is ErrorCode.unknown_member_id


# ---- leaving


async def test_rest_of_the_group_rebalances_when_a_member_leaves(groups: Groups) -> None:
    leader, follower = await groups.stable(None, None)
    assert groups.coordinator.leave(GROUP, leader.member_id, None) is ErrorCode.none
    assert groups.coordinator.leave(GROUP, leader.member_id, None) is ErrorCode.unknown_member_id
    assert groups.heartbeat(follower) is ErrorCode.rebalance_in_progress
    assert (await groups.join(follower.member_id)).leader_id == follower.member_id


# ---- static members


async def test_static_member_takes_its_place_again_without_a_rebalance_when_the_group_is_stable(groups: Groups) -> None:
    leader, follower = await groups.stable("a", "b")
    back = await groups.join(instance="b")
    assert (back.error, back.generation) == (ErrorCode.none, leader.generation)
    assert back.member_id != follower.member_id
    assert (await groups.sync(back, instance="b")).assignment == follower.member_id.encode()
    assert groups.heartbeat(leader, "a") is ErrorCode.none


async def test_static_leader_is_not_told_to_assign_again_when_it_comes_back(groups: Groups) -> None:
    leader, _ = await groups.stable("a", "b")
    back = await groups.join(instance="a")
    assert back.generation == leader.generation
    assert back.leader_id != back.member_id
    assert back.members == ()
    assert (await groups.sync(back, instance="a")).assignment == leader.member_id.encode()


async def test_static_members_former_process_is_fenced_when_its_instance_has_come_back(groups: Groups) -> None:
    _, former = await groups.stable("a", "b")
    await groups.join(instance="b")
    assert groups.heartbeat(former, "b") is ErrorCode.fenced_instance_id
    assert (await groups.join(former.member_id, instance="b")).error is ErrorCode.fenced_instance_id
    assert (await groups.sync(former, instance="b")).error is ErrorCode.fenced_instance_id
    assert groups.coordinator.leave(GROUP, former.member_id, "b") is ErrorCode.fenced_instance_id
    commit = groups.coordinator.commit_error(GROUP, former.member_id, "b", former.generation)
    assert commit is ErrorCode.fenced_instance_id


async def test_static_member_is_fenced_while_it_waits_when_its_instance_joins_anew(groups: Groups) -> None:
    leader, follower = await groups.stable("a", "b")
    waiting = groups.join(follower.member_id, instance="b", subscription=b"changed")
    await settle()
    anew = groups.join(instance="b")
    assert (await waiting).error is ErrorCode.fenced_instance_id
    await groups.join(leader.member_id, instance="a")
    assert (await anew).generation == 2


async def test_static_member_stays_through_a_rebalance_and_goes_with_its_session(groups: Groups) -> None:
    leader, absent = await groups.stable("a", "b")
    rejoining = groups.join(leader.member_id, instance="a")
    waited_s = 0.0
    while waited_s < REBALANCE_S:
        await groups.clock.pass_by(SESSION_S / 2)
        groups.heartbeat(absent, "b")
        waited_s += SESSION_S / 2
    assert len((await rejoining).members) == 2  # absent and alive: its partitions wait for it
    await groups.clock.pass_by(SESSION_S)
    assert groups.heartbeat(absent, "b") is ErrorCode.unknown_member_id


async def test_static_member_can_be_removed_by_its_instance_id_alone(groups: Groups) -> None:
    leader, _ = await groups.stable("a", "b")
    assert groups.coordinator.leave(GROUP, "", "b") is ErrorCode.none
    assert groups.coordinator.leave(GROUP, "", "b") is ErrorCode.unknown_member_id
    assert groups.heartbeat(leader, "a") is ErrorCode.rebalance_in_progress


# ---- offsets


OFFSET = CommittedOffset(offset=5, metadata="", leader_epoch=-1)


async def test_commit_is_allowed_to_the_present_generation_only(groups: Groups) -> None:
    (member,) = await groups.stable(None)
    allowed = groups.coordinator.commit_error
    assert allowed(GROUP, member.member_id, None, member.generation) is ErrorCode.none
    assert allowed(GROUP, member.member_id, None, member.generation - 1) is ErrorCode.illegal_generation
    assert allowed(GROUP, "nobody", None, member.generation) is ErrorCode.unknown_member_id
    assert allowed(GROUP, "", None, -1) is ErrorCode.unknown_member_id


async def test_commit_is_refused_while_the_members_have_no_assignment(groups: Groups) -> None:
    join = groups.join()
    await groups.clock.pass_by(INITIAL_DELAY_S)
    member = await join
    refusal = groups.coordinator.commit_error(GROUP, member.member_id, None, member.generation)
    assert refusal is ErrorCode.rebalance_in_progress


async def test_commit_is_allowed_to_anybody_when_the_group_has_no_members(groups: Groups) -> None:
    assert groups.coordinator.commit_error(GROUP, "", None, -1) is ErrorCode.none
    assert groups.coordinator.commit(GROUP, ("t", 0), OFFSET) is ErrorCode.none
    assert groups.coordinator.committed(GROUP) == {("t", 0): OFFSET}


async def test_commit_is_refused_when_its_metadata_is_too_long(groups: Groups) -> None:
    note = CommittedOffset(offset=1, metadata="x" * (MAX_OFFSET_METADATA_BYTES + 1), leader_epoch=-1)
    assert groups.coordinator.commit(GROUP, ("t", 0), note) is ErrorCode.offset_metadata_too_large


async def test_group_goes_away_when_it_has_neither_members_nor_offsets(groups: Groups) -> None:
    (member,) = await groups.stable(None)
    groups.coordinator.drop_unused()
    assert groups.coordinator.find(GROUP) is not None
    groups.coordinator.commit(GROUP, ("t", 0), OFFSET)
    assert groups.coordinator.delete(GROUP) is ErrorCode.non_empty_group
    groups.coordinator.leave(GROUP, member.member_id, None)
    groups.coordinator.drop_unused()
    assert groups.coordinator.find(GROUP) is not None
    groups.coordinator.forget_topic("t")
    groups.coordinator.drop_unused()
    assert groups.coordinator.find(GROUP) is None
    assert groups.coordinator.delete(GROUP) is ErrorCode.group_id_not_found
