"""CreateTopics, DeleteTopics, CreatePartitions.

Called by `router`; the work is done by `topic_store`.
"""

from typing import Final

from kio.schema.create_partitions.v3.request import CreatePartitionsRequest, CreatePartitionsTopic
from kio.schema.create_partitions.v3.response import CreatePartitionsResponse, CreatePartitionsTopicResult
from kio.schema.create_topics.v6.request import CreatableTopic, CreateTopicsRequest
from kio.schema.create_topics.v6.response import CreatableTopicResult, CreateTopicsResponse
from kio.schema.delete_topics.v5.request import DeleteTopicsRequest
from kio.schema.delete_topics.v5.response import DeletableTopicResult, DeleteTopicsResponse
from kio.schema.errors import ErrorCode
from kio.schema.types import TopicName
from kio.static.primitive import i16, i32

from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.topic_config import InvalidConfigError
from streams.development.embedded_broker.topic_store import (
    InvalidPartitionCountError,
    InvalidTopicNameError,
    TopicExistsError,
    UnknownTopicError,
)
from streams.development.embedded_broker.wire import NOT_THROTTLED

_BROKER_DEFAULT: Final = -1
_REPLICATION_FACTORS: Final = (_BROKER_DEFAULT, 1)


async def create_topics(node: Node, request: CreateTopicsRequest, _caller: Caller) -> CreateTopicsResponse:
    """Creates each topic, or says why not."""
    return CreateTopicsResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(_create(node, topic, validate_only=request.validate_only) for topic in request.topics),
    )


def _create(node: Node, asked: CreatableTopic, *, validate_only: bool) -> CreatableTopicResult:
    if asked.replication_factor not in _REPLICATION_FACTORS:
        message = f"Replication factor: {asked.replication_factor} larger than available brokers: 1."
        return _not_created(asked.name, ErrorCode.invalid_replication_factor, message)
    partitions: int | None = len(asked.assignments) or asked.num_partitions
    if partitions == _BROKER_DEFAULT:
        partitions = None
    config = {entry.name: entry.value for entry in asked.configs if entry.value is not None}
    try:
        make = node.topics.check_new if validate_only else node.topics.create
        topic = make(asked.name, partitions, config)
    except TopicExistsError as error:
        return _not_created(asked.name, ErrorCode.topic_already_exists, str(error))
    except InvalidTopicNameError as error:
        return _not_created(asked.name, ErrorCode.invalid_topic_exception, str(error))
    except InvalidPartitionCountError as error:
        return _not_created(asked.name, ErrorCode.invalid_partitions, str(error))
    except InvalidConfigError as error:
        return _not_created(asked.name, ErrorCode.invalid_config, str(error))
    return CreatableTopicResult(
        name=TopicName(topic.name),
        error_code=ErrorCode.none,
        error_message=None,
        num_partitions=i32(len(topic.logs)),
        replication_factor=i16(1),
        configs=(),
    )


def _not_created(name: str, code: ErrorCode, message: str) -> CreatableTopicResult:
    return CreatableTopicResult(name=TopicName(name), error_code=code, error_message=message, configs=None)


async def delete_topics(node: Node, request: DeleteTopicsRequest, _caller: Caller) -> DeleteTopicsResponse:
    """Deletes topics with their records and their groups' offsets."""
    results: list[DeletableTopicResult] = []
    for name in request.topic_names:
        code = ErrorCode.none
        try:
            node.topics.delete(name)
            node.groups.forget_topic(name)
        except UnknownTopicError:
            code = ErrorCode.unknown_topic_or_partition
        results.append(DeletableTopicResult(name=name, error_code=code))
    return DeleteTopicsResponse(throttle_time=NOT_THROTTLED, responses=tuple(results))


async def create_partitions(node: Node, request: CreatePartitionsRequest, _caller: Caller) -> CreatePartitionsResponse:
    """Raises partition counts."""
    return CreatePartitionsResponse(
        throttle_time=NOT_THROTTLED,
        results=tuple(_grow(node, topic, validate_only=request.validate_only) for topic in request.topics),
    )


def _grow(node: Node, asked: CreatePartitionsTopic, *, validate_only: bool) -> CreatePartitionsTopicResult:
    code, message = ErrorCode.none, None
    try:
        node.topics.grow(asked.name, asked.count, validate_only=validate_only)
    except UnknownTopicError:
        code, message = ErrorCode.unknown_topic_or_partition, "This server does not host this topic-partition."
    except InvalidPartitionCountError as error:
        code, message = ErrorCode.invalid_partitions, str(error)
    return CreatePartitionsTopicResult(name=asked.name, error_code=code, error_message=message)
