"""One consumer group: membership, sessions, rebalances (Kafka's classic group protocol).

Called by `group_coordinator`; it calls nobody but the members' waiting futures. Time arrives as `Schedule`, so that the
session time-outs can be tested with a clock of the test's own. The rules are those of Kafka's GroupCoordinator:

    Empty ──join──► PreparingRebalance ──all joined, or time-out──► CompletingRebalance ──leader syncs──► Stable
      ▲                    ▲   ▲                                          │                              │
      └── last one leaves ─┘   └─────────── join, leave, session time-out, sync time-out ────────────────┘

A static member (KIP-345) that comes back under its `group.instance.id` takes its old place, without a rebalance
when the group is stable; whoever still uses its former member id is fenced.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from kio.schema.errors import ErrorCode

from streams.development.embedded_broker.group_member import (
    GroupState,
    JoinAsk,
    JoinedMember,
    JoinOutcome,
    Member,
    Schedule,
    SyncOutcome,
    Timer,
)
from streams.development.embedded_broker.limits import MAX_GROUP_MEMBERS

_NO_PROTOCOL: Final = ""


class Group:
    """The state of one group. Every public method is safe to call in every state; errors come back as Kafka's codes."""

    def __init__(self, name: str, *, schedule: Schedule, initial_delay_s: float) -> None:
        self.name = name
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol = _NO_PROTOCOL
        self.leader_id = ""
        self.members: dict[str, Member] = {}
        self._static_ids: dict[str, str] = {}  # instance id -> member id
        self._pending: dict[str, Timer] = {}  # ids given out with MEMBER_ID_REQUIRED, not come back yet
        self._rebalance_timer: Timer | None = None
        self._in_initial_delay = False
        self._schedule = schedule
        self._initial_delay_s = initial_delay_s

    @property
    def has_pending_members(self) -> bool:
        """Whether ids were given out whose owners have not come back yet."""
        return bool(self._pending)

    # ---- joining

    def join(self, ask: JoinAsk) -> JoinOutcome | asyncio.Future[JoinOutcome]:
        """The answer, or a future of it when the member has to wait for the others."""
        refusal = self._join_refusal(ask)
        if refusal is not None:
            return JoinOutcome(error=refusal, member_id=ask.member_id)
        if ask.instance_id is not None and not ask.member_id:
            former = self._static_ids.get(ask.instance_id)
            return self._add(ask) if former is None else self._take_over(self.members[former], ask)
        if not ask.member_id:
            return self._require_member_id(ask) if ask.may_require_member_id else self._add(ask)
        if ask.member_id in self._pending:
            self._pending.pop(ask.member_id).cancel()
            return self._add(ask)
        return self._rejoin(self.members[ask.member_id], ask)

    def _join_refusal(self, ask: JoinAsk) -> ErrorCode | None:
        if not ask.protocol_type or not ask.protocols:
            return ErrorCode.inconsistent_group_protocol
        if self.members and (ask.protocol_type != self.protocol_type or not self._shares_protocol(ask)):
            return ErrorCode.inconsistent_group_protocol
        is_known = ask.member_id in self.members or ask.member_id in self._pending
        if not is_known and len(self.members) + len(self._pending) >= MAX_GROUP_MEMBERS:
            return ErrorCode.group_max_size_reached
        if not ask.member_id:
            return None
        if ask.member_id in self._pending and ask.instance_id is None:
            return None
        return self.identity_error(ask.member_id, ask.instance_id)

    def _shares_protocol(self, ask: JoinAsk) -> bool:
        others = [member for member in self.members.values() if member.member_id != ask.member_id]
        return any(all(name in dict(other.protocols) for other in others) for name, _ in ask.protocols)

    def identity_error(self, member_id: str, instance_id: str | None) -> ErrorCode | None:
        """UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID when the static identity now belongs to another member id."""
        if instance_id is not None:
            holder = self._static_ids.get(instance_id)
            if holder is None:
                return ErrorCode.unknown_member_id
            return None if holder == member_id else ErrorCode.fenced_instance_id
        return None if member_id in self.members else ErrorCode.unknown_member_id

    def _require_member_id(self, ask: JoinAsk) -> JoinOutcome:
        member_id = _new_member_id(ask)
        self._pending[member_id] = self._schedule(ask.session_timeout_s, lambda: self._forget_pending(member_id))
        return JoinOutcome(error=ErrorCode.member_id_required, member_id=member_id)

    def _forget_pending(self, member_id: str) -> None:
        if self._pending.pop(member_id, None) is not None:
            self._complete_if_all_joined()

    def _add(self, ask: JoinAsk) -> asyncio.Future[JoinOutcome]:
        member = Member(
            member_id=ask.member_id or _new_member_id(ask),
            instance_id=ask.instance_id,
            client_id=ask.client_id,
            client_host=ask.client_host,
            session_timeout_s=ask.session_timeout_s,
            rebalance_timeout_s=ask.rebalance_timeout_s,
            protocols=ask.protocols,
        )
        self.protocol_type = ask.protocol_type
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self._static_ids[member.instance_id] = member.member_id
        return self._park_join(member)

    def _rejoin(self, member: Member, ask: JoinAsk) -> JoinOutcome | asyncio.Future[JoinOutcome]:
        is_changed = member.protocols != ask.protocols
        self._update(member, ask)
        is_leader = member.member_id == self.leader_id
        if self.state is GroupState.STABLE and not is_leader and not is_changed:
            return self._current(member, leader_id=self.leader_id, with_members=False)
        if self.state is GroupState.COMPLETING_REBALANCE and not is_changed:
            # It lost our answer; the generation stands.
            return self._current(member, leader_id=self.leader_id, with_members=is_leader)
        return self._park_join(member)

    def _take_over(self, former: Member, ask: JoinAsk) -> JoinOutcome | asyncio.Future[JoinOutcome]:
        """A static member's new process takes the place of its old one."""
        former_leader_id = self.leader_id
        old_id, new_id = former.member_id, _new_member_id(ask)
        former.answer_join(JoinOutcome(error=ErrorCode.fenced_instance_id, member_id=old_id))
        former.answer_sync(SyncOutcome(error=ErrorCode.fenced_instance_id))
        former.member_id = new_id
        self.members = {member.member_id: member for member in self.members.values()}  # same place, new id
        self._static_ids[former.instance_id or ""] = new_id
        if self.leader_id == old_id:
            self.leader_id = new_id
        self._update(former, ask)
        if self.state is GroupState.STABLE and self._select_protocol() == self.protocol:
            # The former leader's id tells a static leader that it need not assign again (GroupCoordinator does the
            # same).
            return self._current(former, leader_id=former_leader_id, with_members=False)
        return self._park_join(former)

    def _update(self, member: Member, ask: JoinAsk) -> None:
        member.protocols = ask.protocols
        member.client_id, member.client_host = ask.client_id, ask.client_host
        member.session_timeout_s, member.rebalance_timeout_s = ask.session_timeout_s, ask.rebalance_timeout_s
        self.touch(member)

    def _current(self, member: Member, *, leader_id: str, with_members: bool) -> JoinOutcome:
        return JoinOutcome(
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader_id=leader_id,
            members=self._as_seen_by_leader() if with_members else (),
        )

    def _as_seen_by_leader(self) -> tuple[JoinedMember, ...]:
        return tuple(
            JoinedMember(
                member_id=member.member_id,
                instance_id=member.instance_id,
                subscription=member.subscription_for(self.protocol),
            )
            for member in self.members.values()
        )

    def _park_join(self, member: Member) -> asyncio.Future[JoinOutcome]:
        answer: asyncio.Future[JoinOutcome] = asyncio.get_running_loop().create_future()
        member.answer_join(JoinOutcome(error=ErrorCode.unknown_member_id, member_id=member.member_id))
        member.join = answer
        self.touch(member)
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_if_all_joined()
        else:
            self._prepare_rebalance()
        return answer

    # ---- rebalancing

    def _prepare_rebalance(self) -> None:
        is_first = self.state is GroupState.EMPTY
        for member in self.members.values():
            if member.sync is not None:
                # It waited for us: its session starts now, or it would end in the instant in which we answer.
                member.answer_sync(SyncOutcome(error=ErrorCode.rebalance_in_progress))
                self.touch(member)
        self.state = GroupState.PREPARING_REBALANCE
        self._in_initial_delay = is_first
        timeout_s = self._initial_delay_s if is_first else self._rebalance_timeout_s
        self._restart_rebalance_timer(timeout_s)
        self._complete_if_all_joined()

    @property
    def _rebalance_timeout_s(self) -> float:
        return max(member.rebalance_timeout_s for member in self.members.values())

    def _restart_rebalance_timer(self, timeout_s: float) -> None:
        self._stop_rebalance_timer()
        self._rebalance_timer = self._schedule(timeout_s, self._on_rebalance_timeout)

    def _stop_rebalance_timer(self) -> None:
        if self._rebalance_timer is not None:
            self._rebalance_timer.cancel()
            self._rebalance_timer = None

    def _complete_if_all_joined(self) -> None:
        if self.state is not GroupState.PREPARING_REBALANCE or self._in_initial_delay or self._pending:
            return
        if self.members and all(member.join is not None for member in self.members.values()):
            self._complete_join()

    def _on_rebalance_timeout(self) -> None:
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_join()
        elif self.state is GroupState.COMPLETING_REBALANCE:
            for member in [member for member in self.members.values() if not member.has_synced and member.sync is None]:
                self.remove(member)

    def _complete_join(self) -> None:
        """The joining phase ends: the absent are out (static ones stay), the leader gets everybody's subscription."""
        self._in_initial_delay = False
        for member in [member for member in self.members.values() if member.join is None and not member.is_static]:
            self._forget(member)
        if not self.members:
            self._become_empty()
            return
        joined = [member for member in self.members.values() if member.join is not None]
        if not joined:
            self._restart_rebalance_timer(self._rebalance_timeout_s)  # only absent static members: wait for one
            return
        if self.leader_id not in {member.member_id for member in joined}:
            self.leader_id = joined[0].member_id
        self.generation += 1
        self.protocol = self._select_protocol()
        self.state = GroupState.COMPLETING_REBALANCE
        self._restart_rebalance_timer(self._rebalance_timeout_s)
        for member in self.members.values():
            member.assignment, member.has_synced = b"", False
            self.touch(member)
            is_leader = member.member_id == self.leader_id
            member.answer_join(self._current(member, leader_id=self.leader_id, with_members=is_leader))

    def _select_protocol(self) -> str:
        """The assignor that all support and most put first."""
        members = list(self.members.values())
        common = [name for name, _ in members[0].protocols if all(name in dict(member.protocols) for member in members)]
        votes = Counter(next(name for name, _ in member.protocols if name in common) for member in members if common)
        return max(common, key=lambda name: votes[name], default=_NO_PROTOCOL)

    def _become_empty(self) -> None:
        self._stop_rebalance_timer()
        self.state = GroupState.EMPTY
        self.generation += 1
        self.protocol = _NO_PROTOCOL
        self.leader_id = ""
        self._in_initial_delay = False

    # ---- syncing

    def sync(
        self, member_id: str, instance_id: str | None, generation: int, assignments: Mapping[str, bytes]
    ) -> SyncOutcome | asyncio.Future[SyncOutcome]:
        """The member's assignment, or a future of it while the leader has not sent it."""
        refusal = self.membership_error(member_id, instance_id, generation)
        if refusal is not None:
            return SyncOutcome(error=refusal)
        member = self.members[member_id]
        self.touch(member)
        if self.state is GroupState.PREPARING_REBALANCE:
            return SyncOutcome(error=ErrorCode.rebalance_in_progress)
        member.has_synced = True
        if self.state is GroupState.STABLE:
            return SyncOutcome(assignment=member.assignment)
        if member_id != self.leader_id:
            member.answer_sync(SyncOutcome(error=ErrorCode.rebalance_in_progress))
            member.sync = asyncio.get_running_loop().create_future()
            return member.sync
        self.state = GroupState.STABLE
        self._stop_rebalance_timer()
        for other in self.members.values():
            other.assignment = assignments.get(other.member_id, b"")
            other.answer_sync(SyncOutcome(assignment=other.assignment))
            self.touch(other)
        return SyncOutcome(assignment=member.assignment)

    def membership_error(self, member_id: str, instance_id: str | None, generation: int) -> ErrorCode | None:
        """Why that member may not speak for that generation, or None if it may."""
        identity = self.identity_error(member_id, instance_id)
        if identity is not None:
            return identity
        return None if generation == self.generation else ErrorCode.illegal_generation

    # ---- staying and leaving

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Keeps the session alive; REBALANCE_IN_PROGRESS tells the member to join again."""
        refusal = self.membership_error(member_id, instance_id, generation)
        if refusal is not None:
            return refusal
        self.touch(self.members[member_id])
        is_preparing = self.state is GroupState.PREPARING_REBALANCE
        return ErrorCode.rebalance_in_progress if is_preparing else ErrorCode.none

    def touch(self, member: Member) -> None:
        """Starts the member's session time-out anew."""
        member.stop_session()
        member.session = self._schedule(member.session_timeout_s, lambda: self._on_session_timeout(member))

    def _on_session_timeout(self, member: Member) -> None:
        if member.join is not None or member.sync is not None:
            self.touch(member)  # it waits for us, so its silence is ours
        else:
            self.remove(member)

    def leave(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Takes the member out; a static one may be named by its instance id alone, as an administrator does."""
        if instance_id is not None and not member_id:
            member_id = self._static_ids.get(instance_id, "")
        if instance_id is None and member_id in self._pending:
            self._pending.pop(member_id).cancel()
            self._complete_if_all_joined()
            return ErrorCode.none
        refusal = self.identity_error(member_id, instance_id)
        if refusal is not None:
            return refusal
        self.remove(self.members[member_id])
        return ErrorCode.none

    def remove(self, member: Member) -> None:
        """Takes a member out and rebalances the rest."""
        self._forget(member)
        if self.state is GroupState.PREPARING_REBALANCE:
            if self.members:
                self._complete_if_all_joined()
            elif not self._pending:
                self._become_empty()
        elif not self.members:
            self._become_empty()
        elif self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self._prepare_rebalance()

    def _forget(self, member: Member) -> None:
        self.members.pop(member.member_id, None)
        if member.instance_id is not None:
            self._static_ids.pop(member.instance_id, None)
        if self.leader_id == member.member_id:
            self.leader_id = ""
        member.stop_session()
        member.answer_join(JoinOutcome(error=ErrorCode.unknown_member_id, member_id=member.member_id))
        member.answer_sync(SyncOutcome(error=ErrorCode.unknown_member_id))

    def close(self) -> None:
        """Stops all timers and answers whoever waits; for the end of the broker or of the group."""
        self._stop_rebalance_timer()
        for timer in self._pending.values():
            timer.cancel()
        self._pending.clear()
        members: Sequence[Member] = list(self.members.values())
        for member in members:
            self._forget(member)


def _new_member_id(ask: JoinAsk) -> str:
    """Kafka's form: the instance id or the client id, then a random part."""
    return f"{ask.instance_id or ask.client_id or 'member'}-{uuid.uuid4()}"
