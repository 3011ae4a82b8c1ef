"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup: from the wire to the group's state machine and back.

Called by `router`; the rules are in `group` and `group_coordinator`.
"""

from typing import Final

from kio.schema.errors import ErrorCode
from kio.schema.heartbeat.v4.request import HeartbeatRequest
from kio.schema.heartbeat.v4.response import HeartbeatResponse
from kio.schema.join_group.v8.request import JoinGroupRequest
from kio.schema.join_group.v8.response import JoinGroupResponse, JoinGroupResponseMember
from kio.schema.leave_group.v5.request import LeaveGroupRequest
from kio.schema.leave_group.v5.response import LeaveGroupResponse, MemberResponse
from kio.schema.sync_group.v5.request import SyncGroupRequest
from kio.schema.sync_group.v5.response import SyncGroupResponse
from kio.static.primitive import i32

from streams.development.embedded_broker.group_member import JoinAsk, JoinOutcome, SyncOutcome
from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.wire import NOT_THROTTLED

_MEMBER_ID_REQUIRED_SINCE: Final = 4  # KIP-394
_LEAVE_LISTS_MEMBERS_SINCE: Final = 3


async def join_group(node: Node, request: JoinGroupRequest, caller: Caller) -> JoinGroupResponse:
    """Joins; the answer may take as long as the slowest member's rebalance time-out."""
    session_timeout_s = request.session_timeout.total_seconds()
    rebalance_timeout_s = request.rebalance_timeout.total_seconds()
    outcome = await node.groups.join(
        request.group_id,
        JoinAsk(
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            client_id=caller.client_id,
            client_host=caller.host,
            session_timeout_s=session_timeout_s,
            # Version 0 has no rebalance time-out, which then is the session's.
            rebalance_timeout_s=rebalance_timeout_s if rebalance_timeout_s >= 0 else session_timeout_s,
            protocol_type=request.protocol_type,
            protocols=tuple((protocol.name, protocol.metadata) for protocol in request.protocols),
            may_require_member_id=caller.version >= _MEMBER_ID_REQUIRED_SINCE,
        ),
    )
    return joined(outcome)


def joined(outcome: JoinOutcome) -> JoinGroupResponse:
    """The answer to JoinGroup."""
    return JoinGroupResponse(
        throttle_time=NOT_THROTTLED,
        error_code=outcome.error,
        generation_id=i32(outcome.generation),
        protocol_type=outcome.protocol_type,
        protocol_name=outcome.protocol,
        leader=outcome.leader_id,
        member_id=outcome.member_id,
        members=tuple(
            JoinGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.instance_id, metadata=member.subscription
            )
            for member in outcome.members
        ),
    )


async def sync_group(node: Node, request: SyncGroupRequest, _caller: Caller) -> SyncGroupResponse:
    """The member's assignment, once the leader has sent it."""
    outcome = await node.groups.sync(
        request.group_id,
        request.member_id,
        request.group_instance_id,
        request.generation_id,
        {entry.member_id: entry.assignment for entry in request.assignments},
    )
    return synced(outcome, request.protocol_type, request.protocol_name)


def synced(outcome: SyncOutcome, protocol_type: str | None, protocol: str | None) -> SyncGroupResponse:
    """The answer to SyncGroup; the protocol is echoed, as the member knows it from its join."""
    return SyncGroupResponse(
        throttle_time=NOT_THROTTLED,
        error_code=outcome.error,
        protocol_type=protocol_type,
        protocol_name=protocol,
        assignment=outcome.assignment,
    )


async def heartbeat(node: Node, request: HeartbeatRequest, _caller: Caller) -> HeartbeatResponse:
    """Keeps the session alive."""
    code = node.groups.heartbeat(request.group_id, request.member_id, request.group_instance_id, request.generation_id)
    return HeartbeatResponse(throttle_time=NOT_THROTTLED, error_code=code)


async def leave_group(node: Node, request: LeaveGroupRequest, caller: Caller) -> LeaveGroupResponse:
    """Takes members out; up to version 2 there is one, and its error is the answer's."""
    members = tuple(
        MemberResponse(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            error_code=node.groups.leave(request.group_id, member.member_id, member.group_instance_id),
        )
        for member in request.members
    )
    is_single = caller.version < _LEAVE_LISTS_MEMBERS_SINCE
    code = members[0].error_code if is_single and members else ErrorCode.none
    return LeaveGroupResponse(throttle_time=NOT_THROTTLED, error_code=code, members=members)
