"""Which Kafka APIs the embedded broker speaks, and in which versions.

This table is the broker's whole promise: ApiVersions sends it to every client, and what is not in it is not there
(transactions, ACLs, quotas, the consumer protocol of KIP-848, share groups, fetch by topic id). Read by `wire` to pick
a codec and by `cluster_apis` to answer ApiVersions.

The maximum of each API is the last version whose fields are a superset of all earlier ones, so that handlers see one
shape only (see `wire`); the minimum is what `kio` (generated from Kafka 4's message definitions) can still read.
"""

from dataclasses import dataclass
from enum import IntEnum, unique
from types import MappingProxyType
from typing import Final


@unique
class ApiKey(IntEnum):
    """Kafka's API keys, as far as this broker knows them (https://kafka.apache.org/protocol#protocol_api_keys)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    DESCRIBE_CONFIGS = 32
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    INCREMENTAL_ALTER_CONFIGS = 44
    DESCRIBE_CLUSTER = 60


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions `lowest` to `highest`, both served; `advertised_lowest` is what ApiVersions says."""

    lowest: int
    highest: int
    advertised_lowest: int

    def __contains__(self, version: int) -> bool:
        return self.lowest <= version <= self.highest


def _served(lowest: int, highest: int, *, advertised_lowest: int | None = None) -> VersionRange:
    return VersionRange(lowest, highest, lowest if advertised_lowest is None else advertised_lowest)


SERVED: Final = MappingProxyType(
    {
        # Kafka 4 advertises Produce from 0 and serves it from 3 as well: older librdkafka reads the minimum as "may I
        # compress?" (KAFKA-18659).
        ApiKey.PRODUCE: _served(3, 8, advertised_lowest=0),
        ApiKey.FETCH: _served(4, 11),
        ApiKey.LIST_OFFSETS: _served(1, 7),
        # Not 9: there librdkafka asks for all topics by bytes that the definition does not allow and kio does not read.
        ApiKey.METADATA: _served(0, 8),
        ApiKey.OFFSET_COMMIT: _served(2, 8),
        ApiKey.OFFSET_FETCH: _served(1, 7),
        ApiKey.FIND_COORDINATOR: _served(0, 3),
        ApiKey.JOIN_GROUP: _served(0, 8),
        ApiKey.HEARTBEAT: _served(0, 4),
        ApiKey.LEAVE_GROUP: _served(0, 5),
        ApiKey.SYNC_GROUP: _served(0, 5),
        ApiKey.DESCRIBE_GROUPS: _served(0, 5),
        ApiKey.LIST_GROUPS: _served(0, 4),
        ApiKey.API_VERSIONS: _served(0, 3),
        ApiKey.CREATE_TOPICS: _served(2, 6),
        ApiKey.DELETE_TOPICS: _served(1, 5),
        ApiKey.DELETE_RECORDS: _served(0, 2),
        ApiKey.INIT_PRODUCER_ID: _served(0, 4),
        ApiKey.DESCRIBE_CONFIGS: _served(1, 4),
        ApiKey.CREATE_PARTITIONS: _served(0, 3),
        ApiKey.DELETE_GROUPS: _served(0, 2),
        ApiKey.INCREMENTAL_ALTER_CONFIGS: _served(0, 1),
        ApiKey.DESCRIBE_CLUSTER: _served(0, 1),
    }
)
