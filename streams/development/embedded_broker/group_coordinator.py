"""All consumer groups and their committed offsets.

Called by `group_apis`, `offset_apis` and `group_admin_apis`; holds one `Group` a name. The checks that come before
a group's own state machine are here: names, time-out ranges, limits, and who may commit.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from kio.schema.errors import ErrorCode

from streams.development.embedded_broker.group import Group
from streams.development.embedded_broker.group_member import (
    NO_GENERATION,
    GroupState,
    JoinAsk,
    JoinOutcome,
    Schedule,
    SyncOutcome,
)
from streams.development.embedded_broker.limits import (
    MAX_GROUPS,
    MAX_OFFSET_METADATA_BYTES,
    MAX_REBALANCE_TIMEOUT_S,
    MAX_SESSION_TIMEOUT_S,
    MIN_SESSION_TIMEOUT_S,
    PARKED_SLACK_S,
)

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedOffset:
    """The next offset a group wants to read of a partition, and the client's own note with it."""

    offset: int
    metadata: str
    leader_epoch: int


class GroupCoordinator:
    """The coordinator of every group, since there is one node."""

    def __init__(self, *, schedule: Schedule, initial_delay_s: float) -> None:
        self._groups: dict[str, Group] = {}
        self._offsets: dict[str, dict[TopicPartition, CommittedOffset]] = {}
        self._schedule = schedule
        self._initial_delay_s = initial_delay_s

    def __iter__(self) -> Iterator[Group]:
        return iter(tuple(self._groups.values()))

    def find(self, name: str) -> Group | None:
        """The group of that name, if it has members or offsets."""
        return self._groups.get(name)

    async def join(self, name: str, ask: JoinAsk) -> JoinOutcome:
        """Joins, waiting for the other members where the protocol wants it."""
        refusal = _join_range_error(name, ask)
        if refusal is not None:
            return JoinOutcome(error=refusal, member_id=ask.member_id)
        group = self._groups.get(name)
        if group is None:
            if ask.member_id:
                return JoinOutcome(error=ErrorCode.unknown_member_id, member_id=ask.member_id)
            group = self._new_group(name)
            if group is None:
                return JoinOutcome(error=ErrorCode.group_max_size_reached)
        answer = group.join(ask)
        if isinstance(answer, JoinOutcome):
            return answer
        try:
            async with asyncio.timeout(MAX_REBALANCE_TIMEOUT_S + PARKED_SLACK_S):
                return await answer
        except TimeoutError:
            return JoinOutcome(error=ErrorCode.rebalance_in_progress, member_id=ask.member_id)

    async def sync(
        self, name: str, member_id: str, instance_id: str | None, generation: int, assignments: dict[str, bytes]
    ) -> SyncOutcome:
        """The member's assignment, waiting for the leader's SyncGroup where needed."""
        group = self._groups.get(name)
        if group is None:
            return SyncOutcome(error=ErrorCode.unknown_member_id)
        answer = group.sync(member_id, instance_id, generation, assignments)
        if isinstance(answer, SyncOutcome):
            return answer
        try:
            async with asyncio.timeout(MAX_REBALANCE_TIMEOUT_S + PARKED_SLACK_S):
                return await answer
        except TimeoutError:
            return SyncOutcome(error=ErrorCode.rebalance_in_progress)

    def heartbeat(self, name: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Keeps the member's session alive."""
        group = self._groups.get(name)
        return ErrorCode.unknown_member_id if group is None else group.heartbeat(member_id, instance_id, generation)

    def leave(self, name: str, member_id: str, instance_id: str | None) -> ErrorCode:
        """Takes a member out."""
        group = self._groups.get(name)
        return ErrorCode.unknown_member_id if group is None else group.leave(member_id, instance_id)

    def commit_error(self, name: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Whether that member may commit now; a client outside of the protocol may, while the group has no members."""
        if not name:
            return ErrorCode.invalid_group_id
        group = self._groups.get(name)
        if group is None or group.state is GroupState.EMPTY:
            return ErrorCode.none if generation == NO_GENERATION else ErrorCode.unknown_member_id
        refusal = group.membership_error(member_id, instance_id, generation)
        if refusal is not None:
            return refusal
        group.touch(group.members[member_id])
        is_completing = group.state is GroupState.COMPLETING_REBALANCE
        return ErrorCode.rebalance_in_progress if is_completing else ErrorCode.none

    def commit(self, name: str, partition: TopicPartition, committed: CommittedOffset) -> ErrorCode:
        """Stores one offset; whether the member may is asked before, by `commit_error`."""
        if len(committed.metadata.encode()) > MAX_OFFSET_METADATA_BYTES:
            return ErrorCode.offset_metadata_too_large
        if name not in self._groups and self._new_group(name) is None:
            return ErrorCode.group_max_size_reached
        self._offsets.setdefault(name, {})[partition] = committed
        return ErrorCode.none

    def committed(self, name: str) -> dict[TopicPartition, CommittedOffset]:
        """All offsets of a group; empty if there are none."""
        return self._offsets.get(name, {})

    def delete(self, name: str) -> ErrorCode:
        """Removes a group without members, with its offsets."""
        group = self._groups.get(name)
        if group is None:
            return ErrorCode.group_id_not_found
        if group.state is not GroupState.EMPTY:
            return ErrorCode.non_empty_group
        self._drop(group)
        return ErrorCode.none

    def forget_topic(self, topic: str) -> None:
        """Removes the offsets of a topic that was deleted."""
        for offsets in self._offsets.values():
            for partition in [partition for partition in offsets if partition[0] == topic]:
                del offsets[partition]

    def drop_unused(self) -> None:
        """Removes groups that have neither members nor offsets, so that short-lived group names do not pile up."""
        for group in self:
            if group.state is GroupState.EMPTY and not group.has_pending_members and not self._offsets.get(group.name):
                self._drop(group)

    def close(self) -> None:
        """Stops every timer and answers whoever waits."""
        for group in self:
            group.close()

    def _new_group(self, name: str) -> Group | None:
        if len(self._groups) >= MAX_GROUPS:
            self.drop_unused()
        if len(self._groups) >= MAX_GROUPS:
            return None
        group = self._groups[name] = Group(name, schedule=self._schedule, initial_delay_s=self._initial_delay_s)
        return group

    def _drop(self, group: Group) -> None:
        group.close()
        del self._groups[group.name]
        self._offsets.pop(group.name, None)


def _join_range_error(name: str, ask: JoinAsk) -> ErrorCode | None:
    if not name:
        return ErrorCode.invalid_group_id
    if not MIN_SESSION_TIMEOUT_S <= ask.session_timeout_s <= MAX_SESSION_TIMEOUT_S:
        return ErrorCode.invalid_session_timeout
    if not 0 < ask.rebalance_timeout_s <= MAX_REBALANCE_TIMEOUT_S:
        return ErrorCode.invalid_session_timeout
    return None
