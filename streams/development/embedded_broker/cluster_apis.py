"""ApiVersions, Metadata, FindCoordinator, DescribeCluster: who is here and what can be asked of whom.

Called by `router`. With one node every answer names this node.
"""

import logging
from typing import Final

from kio.schema.api_versions.v3.request import ApiVersionsRequest
from kio.schema.api_versions.v3.response import ApiVersion, ApiVersionsResponse
from kio.schema.describe_cluster.v1.request import DescribeClusterRequest
from kio.schema.describe_cluster.v1.response import DescribeClusterBroker, DescribeClusterResponse
from kio.schema.errors import ErrorCode
from kio.schema.find_coordinator.v3.request import FindCoordinatorRequest
from kio.schema.find_coordinator.v3.response import FindCoordinatorResponse
from kio.schema.metadata.v8.request import MetadataRequest
from kio.schema.metadata.v8.response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from kio.schema.types import BrokerId, TopicName
from kio.static.primitive import i16, i32

from streams.development.embedded_broker.apis import SERVED
from streams.development.embedded_broker.node import CLUSTER_ID, LEADER_EPOCH, NODE_ID, Caller, Node
from streams.development.embedded_broker.topic_config import InvalidConfigError
from streams.development.embedded_broker.topic_store import InvalidPartitionCountError, InvalidTopicNameError, Topic
from streams.development.embedded_broker.wire import NOT_THROTTLED

NO_TRANSACTIONS: Final = "the embedded broker has no transactions; use Apache Kafka, or leave transactional.id away"

_GROUP_COORDINATOR: Final = 0
_THIS_NODE: Final = BrokerId(NODE_ID)

_log = logging.getLogger(__name__)


async def api_versions(_node: Node, _request: ApiVersionsRequest, _caller: Caller) -> ApiVersionsResponse:
    """What is served (`apis.SERVED`), and so also what is not."""
    return served(ErrorCode.none)


def served(code: ErrorCode) -> ApiVersionsResponse:
    """The table of APIs; with UNSUPPORTED_VERSION it answers a version of ApiVersions that we do not know (KIP-511)."""
    return ApiVersionsResponse(
        error_code=code,
        api_keys=tuple(
            ApiVersion(
                api_key=i16(api.value),
                min_version=i16(versions.advertised_lowest),
                max_version=i16(versions.highest),
            )
            for api, versions in SERVED.items()
        ),
        throttle_time=NOT_THROTTLED,
    )


async def metadata(node: Node, request: MetadataRequest, _caller: Caller) -> MetadataResponse:
    """This node, and the asked topics with their partitions; all topics when none is named."""
    if request.topics is None:
        topics = tuple(_described(topic) for topic in node.topics)
    else:
        may_create = request.allow_auto_topic_creation and node.auto_create_topics
        topics = tuple(_find_or_create(node, entry.name, may_create=may_create) for entry in request.topics)
    return MetadataResponse(
        throttle_time=NOT_THROTTLED,
        brokers=(MetadataResponseBroker(node_id=_THIS_NODE, host=node.host, port=i32(node.port)),),
        cluster_id=CLUSTER_ID,
        controller_id=_THIS_NODE,
        topics=topics,
    )


def _find_or_create(node: Node, name: str, *, may_create: bool) -> MetadataResponseTopic:
    topic = node.topics.find(name)
    if topic is not None:
        return _described(topic)
    if not may_create:
        return _missing(name, ErrorCode.unknown_topic_or_partition)
    try:
        return _described(node.topics.create(name, None, {}))
    except InvalidTopicNameError:
        return _missing(name, ErrorCode.invalid_topic_exception)
    except (InvalidPartitionCountError, InvalidConfigError):
        return _missing(name, ErrorCode.policy_violation)


def _missing(name: str, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=code, name=TopicName(name), partitions=())


def _described(topic: Topic) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=ErrorCode.none,
        name=TopicName(topic.name),
        partitions=tuple(
            MetadataResponsePartition(
                error_code=ErrorCode.none,
                partition_index=i32(index),
                leader_id=_THIS_NODE,
                leader_epoch=i32(LEADER_EPOCH),
                replica_nodes=(_THIS_NODE,),
                isr_nodes=(_THIS_NODE,),
            )
            for index in range(len(topic.logs))
        ),
    )


async def find_coordinator(node: Node, request: FindCoordinatorRequest, _caller: Caller) -> FindCoordinatorResponse:
    """This node for every group; a final refusal for transactions, which are not served.

    librdkafka shows the message; aiokafka shows the code's own words alone, an authorization that failed. So the broker
    says it, too.
    """
    if request.key_type == _GROUP_COORDINATOR:
        return coordinator(node, ErrorCode.none, None)
    _log.warning("refusing a transactional producer: %s", NO_TRANSACTIONS)
    # All clients take this code as final. Others, such as "coordinator not available", they retry for ever.
    return coordinator(node, ErrorCode.transactional_id_authorization_failed, NO_TRANSACTIONS)


def coordinator(node: Node, code: ErrorCode, message: str | None) -> FindCoordinatorResponse:
    """The answer to FindCoordinator."""
    return FindCoordinatorResponse(
        throttle_time=NOT_THROTTLED,
        error_code=code,
        error_message=message,
        node_id=_THIS_NODE,
        host=node.host,
        port=i32(node.port),
    )


async def describe_cluster(node: Node, _request: DescribeClusterRequest, _caller: Caller) -> DescribeClusterResponse:
    """A cluster of one."""
    return DescribeClusterResponse(
        throttle_time=NOT_THROTTLED,
        error_code=ErrorCode.none,
        cluster_id=CLUSTER_ID,
        controller_id=_THIS_NODE,
        brokers=(DescribeClusterBroker(broker_id=_THIS_NODE, host=node.host, port=i32(node.port)),),
    )
