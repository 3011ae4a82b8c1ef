"""DescribeConfigs, IncrementalAlterConfigs: settings of topics, and a read-only few of the broker.

Called by `router`; which settings exist is in `topic_config`.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import partial
from typing import Final

from kio.schema.describe_configs.v4.request import DescribeConfigsRequest, DescribeConfigsResource
from kio.schema.describe_configs.v4.response import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from kio.schema.errors import ErrorCode
from kio.schema.incremental_alter_configs.v1 import request as incremental
from kio.schema.incremental_alter_configs.v1.response import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse,
)
from kio.static.primitive import i8

from streams.development.embedded_broker.limits import MAX_REQUEST_BYTES
from streams.development.embedded_broker.node import NODE_ID, Caller, Node
from streams.development.embedded_broker.topic_config import TOPIC_CONFIGS, ConfigType, InvalidConfigError, TopicConfig
from streams.development.embedded_broker.wire import NOT_THROTTLED

_TOPIC: Final = 2
_BROKER: Final = 4
_SET: Final = 0  # AlterConfigOp.OpType
_DELETE: Final = 1


class _Source(IntEnum):
    """Where a value comes from (DescribeConfigsResponse.ConfigSource)."""

    TOPIC = 1
    STATIC_BROKER = 4
    DEFAULT = 5


async def describe_configs(node: Node, request: DescribeConfigsRequest, _caller: Caller) -> DescribeConfigsResponse:
    """All asked settings of topics, with where each value comes from."""
    return DescribeConfigsResponse(
        throttle_time=NOT_THROTTLED,
        results=tuple(_describe(node, resource, request.include_synonyms) for resource in request.resources),
    )


def _describe(node: Node, resource: DescribeConfigsResource, with_synonyms: bool) -> DescribeConfigsResult:
    code, message = ErrorCode.none, None
    found: tuple[DescribeConfigsResourceResult, ...] = ()
    if resource.resource_type == _TOPIC:
        topic = node.topics.find(resource.resource_name)
        if topic is None:
            code = ErrorCode.unknown_topic_or_partition
        else:
            found = tuple(_described(topic.config, name, with_synonyms=with_synonyms) for name in sorted(TOPIC_CONFIGS))
    elif resource.resource_type == _BROKER and resource.resource_name in ("", str(NODE_ID)):
        found = tuple(_broker_setting(name, value) for name, value in sorted(_broker_settings(node).items()))
    else:
        code, message = ErrorCode.invalid_request, "the embedded broker has settings of topics and of broker 1 only"
    keys = resource.configuration_keys
    return DescribeConfigsResult(
        error_code=code,
        error_message=message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=tuple(entry for entry in found if not keys or entry.name in keys),
    )


def _described(config: TopicConfig, name: str, *, with_synonyms: bool) -> DescribeConfigsResourceResult:
    default, kind = TOPIC_CONFIGS[name]
    value = config.value_of(name)
    source = _Source.TOPIC if name in config.overrides else _Source.DEFAULT
    synonyms = [(value, _Source.TOPIC)] if source is _Source.TOPIC else []
    synonyms.append((default, _Source.DEFAULT))
    return DescribeConfigsResourceResult(
        name=name,
        value=value,
        read_only=False,
        config_source=i8(source),
        is_sensitive=False,
        synonyms=tuple(DescribeConfigsSynonym(name=name, value=text, source=i8(whence)) for text, whence in synonyms)
        if with_synonyms
        else (),
        config_type=i8(kind.value),
        documentation=None,
    )


def _broker_settings(node: Node) -> Mapping[str, str]:
    return {
        "auto.create.topics.enable": str(node.auto_create_topics).lower(),
        "default.replication.factor": "1",
        "message.max.bytes": TOPIC_CONFIGS["max.message.bytes"][0],
        "min.insync.replicas": "1",
        "socket.request.max.bytes": str(MAX_REQUEST_BYTES),
    }


def _broker_setting(name: str, value: str) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=name,
        value=value,
        read_only=True,
        config_source=i8(_Source.STATIC_BROKER),
        is_sensitive=False,
        synonyms=(),
        config_type=i8(ConfigType.STRING.value),
        documentation=None,
    )


async def incremental_alter_configs(
    node: Node, request: incremental.IncrementalAlterConfigsRequest, _caller: Caller
) -> IncrementalAlterConfigsResponse:
    """Changes single settings of a topic."""
    responses: list[AlterConfigsResourceResponse] = []
    for resource in request.resources:
        code, message = _alter(
            node,
            resource.resource_type,
            resource.resource_name,
            partial(_with_changes, changes=resource.configs),
            validate_only=request.validate_only,
        )
        responses.append(
            AlterConfigsResourceResponse(
                error_code=code,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return IncrementalAlterConfigsResponse(throttle_time=NOT_THROTTLED, responses=tuple(responses))


def _alter(
    node: Node, resource_type: int, name: str, change: Callable[[TopicConfig], TopicConfig], *, validate_only: bool
) -> tuple[ErrorCode, str | None]:
    if resource_type != _TOPIC:
        return ErrorCode.invalid_request, "the embedded broker changes settings of topics only"
    topic = node.topics.find(name)
    if topic is None:
        return ErrorCode.unknown_topic_or_partition, None
    try:
        changed = change(topic.config)
    except InvalidConfigError as error:
        return ErrorCode.invalid_config, str(error)
    if not validate_only:
        topic.config = changed
        node.upkeep_is_due.set()
    return ErrorCode.none, None


def _with_changes(config: TopicConfig, changes: tuple[incremental.AlterableConfig, ...]) -> TopicConfig:
    for change in changes:
        config = config.changed({change.name: _new_value(change)})
    return config


def _new_value(change: incremental.AlterableConfig) -> str | None:
    if change.config_operation == _DELETE:
        return None
    if change.config_operation != _SET:
        raise InvalidConfigError(
            f"the embedded broker sets and deletes, and knows no operation {change.config_operation}"
        )
    if change.value is None:
        raise InvalidConfigError(f"Null value not supported for: {change.name}")
    return change.value
