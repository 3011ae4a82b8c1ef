"""The answer that refuses a request with a given error code, for the fault switches.

Called by `connection` when `Effect.ERROR` strikes: the request is then not applied at all. Served for the APIs
whose errors clients act upon; `faults` may be armed for others with delays, drops and disconnects only.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from kio.schema.create_topics.v6.request import CreateTopicsRequest
from kio.schema.create_topics.v6.response import CreatableTopicResult, CreateTopicsResponse
from kio.schema.errors import ErrorCode
from kio.schema.heartbeat.v4.response import HeartbeatResponse
from kio.schema.init_producer_id.v4.response import InitProducerIdResponse
from kio.schema.list_offsets.v7.request import ListOffsetsRequest
from kio.schema.list_offsets.v7.response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from kio.schema.metadata.v8.request import MetadataRequest
from kio.schema.metadata.v8.response import MetadataResponse, MetadataResponseBroker, MetadataResponseTopic
from kio.schema.offset_commit.v8.request import OffsetCommitRequest
from kio.schema.offset_commit.v8.response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from kio.schema.offset_fetch.v7.request import OffsetFetchRequest
from kio.schema.offset_fetch.v7.response import OffsetFetchResponse, OffsetFetchResponseTopic
from kio.schema.types import BrokerId
from kio.static.primitive import i16, i32
from kio.static.protocol import ResponsePayload

from streams.development.embedded_broker import cluster_apis, fetch_api, group_apis, produce_api
from streams.development.embedded_broker.apis import ApiKey
from streams.development.embedded_broker.group_member import JoinOutcome, SyncOutcome
from streams.development.embedded_broker.node import NODE_ID, Node
from streams.development.embedded_broker.offset_apis import NOTHING_COMMITTED, committed_partition
from streams.development.embedded_broker.wire import NOT_THROTTLED, Request


def refusal(node: Node, request: Request, code: ErrorCode) -> ResponsePayload:
    """The answer to `request` that says `code` wherever the answer has room for it.

    Raises:
        KeyError: for an API that is not in `REFUSABLE`; `faults` refuses to arm such a fault.
    """
    return _REFUSALS[request.api](node, request.payload, code)


def _list_offsets(_node: Node, request: ListOffsetsRequest, code: ErrorCode) -> ResponsePayload:
    return ListOffsetsResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            ListOffsetsTopicResponse(
                name=entry.name,
                partitions=tuple(
                    ListOffsetsPartitionResponse(partition_index=part.partition_index, error_code=code)
                    for part in entry.partitions
                ),
            )
            for entry in request.topics
        ),
    )


def _metadata(node: Node, request: MetadataRequest, code: ErrorCode) -> ResponsePayload:
    return MetadataResponse(
        throttle_time=NOT_THROTTLED,
        brokers=(MetadataResponseBroker(node_id=BrokerId(NODE_ID), host=node.host, port=i32(node.port)),),
        topics=tuple(
            MetadataResponseTopic(error_code=code, name=entry.name, partitions=()) for entry in request.topics or ()
        ),
    )


def _offset_commit(_node: Node, request: OffsetCommitRequest, code: ErrorCode) -> ResponsePayload:
    return OffsetCommitResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            OffsetCommitResponseTopic(
                name=entry.name,
                partitions=tuple(
                    OffsetCommitResponsePartition(partition_index=part.partition_index, error_code=code)
                    for part in entry.partitions
                ),
            )
            for entry in request.topics
        ),
    )


def _offset_fetch(_node: Node, request: OffsetFetchRequest, code: ErrorCode) -> ResponsePayload:
    return OffsetFetchResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            OffsetFetchResponseTopic(
                name=entry.name,
                partitions=tuple(
                    committed_partition(index, NOTHING_COMMITTED, code) for index in entry.partition_indexes
                ),
            )
            for entry in request.topics or ()
        ),
        error_code=code,
    )


def _create_topics(_node: Node, request: CreateTopicsRequest, code: ErrorCode) -> ResponsePayload:
    return CreateTopicsResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            CreatableTopicResult(name=topic.name, error_code=code, error_message="a fault on request", configs=None)
            for topic in request.topics
        ),
    )


# The payload's type follows from the API; each function names the one it takes.
_REFUSALS: Final[Mapping[ApiKey, Callable[[Node, Any, ErrorCode], ResponsePayload]]] = MappingProxyType(
    {
        ApiKey.PRODUCE: lambda _node, request, code: produce_api.refused(request, code),
        ApiKey.FETCH: lambda _node, request, code: fetch_api.refused(request, code),
        ApiKey.LIST_OFFSETS: _list_offsets,
        ApiKey.METADATA: _metadata,
        ApiKey.OFFSET_COMMIT: _offset_commit,
        ApiKey.OFFSET_FETCH: _offset_fetch,
        ApiKey.FIND_COORDINATOR: lambda node, _request, code: cluster_apis.coordinator(node, code, None),
        ApiKey.JOIN_GROUP: lambda _node, request, code: group_apis.joined(
            JoinOutcome(error=code, member_id=request.member_id)
        ),
        ApiKey.SYNC_GROUP: lambda _node, _request, code: group_apis.synced(SyncOutcome(error=code), None, None),
        ApiKey.HEARTBEAT: lambda _node, _request, code: HeartbeatResponse(throttle_time=NOT_THROTTLED, error_code=code),
        ApiKey.INIT_PRODUCER_ID: lambda _node, _request, code: InitProducerIdResponse(
            throttle_time=NOT_THROTTLED, error_code=code, producer_epoch=i16(-1)
        ),
        ApiKey.CREATE_TOPICS: _create_topics,
    }
)
REFUSABLE: Final = frozenset(_REFUSALS)
