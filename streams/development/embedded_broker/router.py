"""Which function answers which API: the table of contents of the broker.

Called by `connection`. A new API needs a line in `apis.SERVED`, a handler, and a line here.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from kio.schema.errors import ErrorCode
from kio.static.protocol import ResponsePayload

from streams.development.embedded_broker import (
    cluster_apis,
    config_apis,
    fetch_api,
    group_admin_apis,
    group_apis,
    log_apis,
    offset_apis,
    produce_api,
    topic_apis,
)
from streams.development.embedded_broker.apis import SERVED, ApiKey
from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.wire import Request

# Each handler names the one payload type it takes; `wire` guarantees that it gets it, since both follow from the API.
_Handler = Callable[[Node, Any, Caller], Awaitable[ResponsePayload | None]]

_HANDLERS: Final[Mapping[ApiKey, _Handler]] = MappingProxyType(
    {
        ApiKey.PRODUCE: produce_api.produce,
        ApiKey.FETCH: fetch_api.fetch,
        ApiKey.LIST_OFFSETS: log_apis.list_offsets,
        ApiKey.METADATA: cluster_apis.metadata,
        ApiKey.OFFSET_COMMIT: offset_apis.offset_commit,
        ApiKey.OFFSET_FETCH: offset_apis.offset_fetch,
        ApiKey.FIND_COORDINATOR: cluster_apis.find_coordinator,
        ApiKey.JOIN_GROUP: group_apis.join_group,
        ApiKey.HEARTBEAT: group_apis.heartbeat,
        ApiKey.LEAVE_GROUP: group_apis.leave_group,
        ApiKey.SYNC_GROUP: group_apis.sync_group,
        ApiKey.DESCRIBE_GROUPS: group_admin_apis.describe_groups,
        ApiKey.LIST_GROUPS: group_admin_apis.list_groups,
        ApiKey.API_VERSIONS: cluster_apis.api_versions,
        ApiKey.CREATE_TOPICS: topic_apis.create_topics,
        ApiKey.DELETE_TOPICS: topic_apis.delete_topics,
        ApiKey.DELETE_RECORDS: log_apis.delete_records,
        ApiKey.INIT_PRODUCER_ID: log_apis.init_producer_id,
        ApiKey.DESCRIBE_CONFIGS: config_apis.describe_configs,
        ApiKey.CREATE_PARTITIONS: topic_apis.create_partitions,
        ApiKey.DELETE_GROUPS: group_admin_apis.delete_groups,
        ApiKey.INCREMENTAL_ALTER_CONFIGS: config_apis.incremental_alter_configs,
        ApiKey.DESCRIBE_CLUSTER: cluster_apis.describe_cluster,
    }
)


async def answer(node: Node, request: Request, client_host: str) -> ResponsePayload | None:
    """Applies a request; None when its sender wants no answer."""
    if request.version not in SERVED[request.api]:
        return cluster_apis.served(ErrorCode.unsupported_version)  # only ApiVersions gets here, see `wire`
    caller = Caller(client_id=request.client_id, host=client_host, version=request.version)
    return await _HANDLERS[request.api](node, request.payload, caller)
