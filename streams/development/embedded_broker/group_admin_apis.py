"""ListGroups, DescribeGroups, DeleteGroups: groups as an administrator sees them.

Called by `router`.
"""

from typing import Final

from kio.schema.delete_groups.v2.request import DeleteGroupsRequest
from kio.schema.delete_groups.v2.response import DeletableGroupResult, DeleteGroupsResponse
from kio.schema.describe_groups.v5.request import DescribeGroupsRequest
from kio.schema.describe_groups.v5.response import DescribedGroup, DescribedGroupMember, DescribeGroupsResponse
from kio.schema.errors import ErrorCode
from kio.schema.list_groups.v4.request import ListGroupsRequest
from kio.schema.list_groups.v4.response import ListedGroup, ListGroupsResponse
from kio.schema.types import GroupId

from streams.development.embedded_broker.group import Group
from streams.development.embedded_broker.group_member import GroupState, Member
from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.wire import NOT_THROTTLED

_DEAD: Final = "Dead"  # Kafka's name for a group that is not there


async def list_groups(node: Node, request: ListGroupsRequest, _caller: Caller) -> ListGroupsResponse:
    """All groups, or those in the asked states."""
    return ListGroupsResponse(
        throttle_time=NOT_THROTTLED,
        error_code=ErrorCode.none,
        groups=tuple(
            ListedGroup(group_id=GroupId(group.name), protocol_type=group.protocol_type, group_state=group.state.value)
            for group in node.groups
            if not request.states_filter or group.state.value in request.states_filter
        ),
    )


async def describe_groups(node: Node, request: DescribeGroupsRequest, _caller: Caller) -> DescribeGroupsResponse:
    """State, members and assignments; an unknown group is "Dead", as in Kafka up to version 5."""
    return DescribeGroupsResponse(
        throttle_time=NOT_THROTTLED,
        groups=tuple(_described(name, node.groups.find(name)) for name in request.groups),
    )


def _described(name: GroupId, group: Group | None) -> DescribedGroup:
    if group is None:
        return DescribedGroup(
            error_code=ErrorCode.none, group_id=name, group_state=_DEAD, protocol_type="", protocol_data="", members=()
        )
    return DescribedGroup(
        error_code=ErrorCode.none,
        group_id=name,
        group_state=group.state.value,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol if group.state is GroupState.STABLE else "",
        members=tuple(_described_member(group, member) for member in group.members.values()),
    )


def _described_member(group: Group, member: Member) -> DescribedGroupMember:
    is_stable = group.state is GroupState.STABLE
    return DescribedGroupMember(
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=f"/{member.client_host}",
        member_metadata=member.subscription_for(group.protocol) if is_stable else b"",
        member_assignment=member.assignment if is_stable else b"",
    )


async def delete_groups(node: Node, request: DeleteGroupsRequest, _caller: Caller) -> DeleteGroupsResponse:
    """Removes groups that have no members, with their offsets."""
    return DeleteGroupsResponse(
        throttle_time=NOT_THROTTLED,
        results=tuple(
            DeletableGroupResult(group_id=name, error_code=node.groups.delete(name)) for name in request.groups_names
        ),
    )
