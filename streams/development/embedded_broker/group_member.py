"""The words of the group protocol: a member, what it asks, what it is answered.

Used by `group` (the state machine), `group_coordinator` (all groups) and `group_apis` (the wire). Nothing here acts.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from kio.schema.errors import ErrorCode

NO_GENERATION = -1


class GroupState(Enum):
    """Kafka's names, as DescribeGroups shows them (classic group protocol)."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"


class Timer(Protocol):
    """What `Schedule` gives back."""

    def cancel(self) -> None:
        """Makes the call not happen, if it has not."""


Schedule = Callable[[float, Callable[[], None]], Timer]
"""Calls a function after so many seconds: the event loop's `call_later`, or a test's own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAsk:
    """A JoinGroup request."""

    member_id: str  # empty for a newcomer
    instance_id: str | None  # set for a static member
    client_id: str
    client_host: str
    session_timeout_s: float
    rebalance_timeout_s: float
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]  # (name, subscription), best first
    may_require_member_id: bool  # JoinGroup v4 and later: a dynamic newcomer first gets an id and comes back with it


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedMember:
    """A member as the leader sees it."""

    member_id: str
    instance_id: str | None
    subscription: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOutcome:
    """A JoinGroup response."""

    error: ErrorCode = ErrorCode.none
    member_id: str = ""
    generation: int = NO_GENERATION
    protocol_type: str = ""
    protocol: str = ""
    leader_id: str = ""
    members: tuple[JoinedMember, ...] = ()  # for the leader only


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """A SyncGroup response."""

    error: ErrorCode = ErrorCode.none
    assignment: bytes = b""


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One member. `join` and `sync` hold the answer it waits for, if it waits."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_s: float
    rebalance_timeout_s: float
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes = b""
    has_synced: bool = False
    join: asyncio.Future[JoinOutcome] | None = None
    sync: asyncio.Future[SyncOutcome] | None = None
    session: Timer | None = field(default=None, repr=False)

    @property
    def is_static(self) -> bool:
        """Whether it has a `group.instance.id` (KIP-345)."""
        return self.instance_id is not None

    def subscription_for(self, protocol: str) -> bytes:
        """Its metadata under that assignor, empty if it does not support it."""
        return dict(self.protocols).get(protocol, b"")

    def answer_join(self, outcome: JoinOutcome) -> None:
        """Answers a parked JoinGroup, if there is one."""
        waiting, self.join = self.join, None
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def answer_sync(self, outcome: SyncOutcome) -> None:
        """Answers a parked SyncGroup, if there is one."""
        waiting, self.sync = self.sync, None
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def stop_session(self) -> None:
        """Its session time-out no longer fires."""
        if self.session is not None:
            self.session.cancel()
            self.session = None
