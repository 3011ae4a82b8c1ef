"""OffsetCommit and OffsetFetch: where a group stands.

Called by `router`; the offsets live in `group_coordinator`.
"""

from typing import Final

from kio.schema.errors import ErrorCode
from kio.schema.offset_commit.v8.request import OffsetCommitRequest, OffsetCommitRequestPartition
from kio.schema.offset_commit.v8.response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from kio.schema.offset_fetch.v7.request import OffsetFetchRequest
from kio.schema.offset_fetch.v7.response import (
    OffsetFetchResponse,
    OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
)
from kio.schema.types import TopicName
from kio.static.primitive import i32, i64

from streams.development.embedded_broker.group_coordinator import CommittedOffset
from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.wire import NOT_THROTTLED

NOTHING_COMMITTED: Final = CommittedOffset(offset=-1, metadata="", leader_epoch=-1)


async def offset_commit(node: Node, request: OffsetCommitRequest, _caller: Caller) -> OffsetCommitResponse:
    """Stores the offsets if the member may commit; every partition has its own answer."""
    refusal = node.groups.commit_error(
        request.group_id, request.member_id, request.group_instance_id, request.generation_id_or_member_epoch
    )
    return OffsetCommitResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            OffsetCommitResponseTopic(
                name=entry.name,
                partitions=tuple(
                    OffsetCommitResponsePartition(
                        partition_index=part.partition_index,
                        error_code=refusal
                        if refusal is not ErrorCode.none
                        else _store(node, request.group_id, entry.name, part),
                    )
                    for part in entry.partitions
                ),
            )
            for entry in request.topics
        ),
    )


def _store(node: Node, group: str, topic: str, part: OffsetCommitRequestPartition) -> ErrorCode:
    if node.topics.log(topic, part.partition_index) is None:
        return ErrorCode.unknown_topic_or_partition
    committed = CommittedOffset(
        offset=part.committed_offset,
        metadata=part.committed_metadata or "",
        leader_epoch=part.committed_leader_epoch,
    )
    return node.groups.commit(group, (topic, part.partition_index), committed)


async def offset_fetch(node: Node, request: OffsetFetchRequest, _caller: Caller) -> OffsetFetchResponse:
    """The committed offsets of the asked partitions, or of all that have one; -1 where there is none."""
    committed = node.groups.committed(request.group_id)
    if request.topics is None:
        asked: dict[str, list[int]] = {}
        for topic, partition in committed:
            asked.setdefault(topic, []).append(partition)
    else:
        asked = {entry.name: [int(index) for index in entry.partition_indexes] for entry in request.topics}
    return OffsetFetchResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            OffsetFetchResponseTopic(
                name=TopicName(topic),
                partitions=tuple(
                    committed_partition(partition, committed.get((topic, partition), NOTHING_COMMITTED), ErrorCode.none)
                    for partition in partitions
                ),
            )
            for topic, partitions in asked.items()
        ),
    )


def committed_partition(partition: int, committed: CommittedOffset, code: ErrorCode) -> OffsetFetchResponsePartition:
    """One partition's part of the answer."""
    return OffsetFetchResponsePartition(
        partition_index=i32(partition),
        committed_offset=i64(committed.offset),
        committed_leader_epoch=i32(committed.leader_epoch),
        metadata=committed.metadata,
        error_code=code,
    )
