"""A topic's settings: which exist, their defaults, and what this broker obeys.

Called by `topic_store` (retention, compaction, size limits) and `config_apis`. Names, types and defaults are Apache
Kafka 4's (https://kafka.apache.org/documentation/#topicconfigs), so that a wrong name or value is refused here as
it is there. Obeyed: cleanup.policy, retention.ms, retention.bytes, max.message.bytes, delete.retention.ms,
min.cleanable.dirty.ratio, message.timestamp.type. The others are stored and shown, and change nothing: there is one
node, no disk and no segment.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class InvalidConfigError(Exception):
    """A setting that does not exist, or a value it cannot have (Kafka's INVALID_CONFIG)."""


class ConfigType(Enum):
    """The type codes of DescribeConfigs (DescribeConfigsResponse.ConfigType)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


_DAY_MS: Final = 24 * 3600 * 1000
_LONG_MAX: Final = str(2**63 - 1)

TOPIC_CONFIGS: Final[Mapping[str, tuple[str, ConfigType]]] = MappingProxyType(
    {
        "cleanup.policy": ("delete", ConfigType.LIST),
        "compression.type": ("producer", ConfigType.STRING),
        "delete.retention.ms": (str(_DAY_MS), ConfigType.LONG),
        "file.delete.delay.ms": ("60000", ConfigType.LONG),
        "flush.messages": (_LONG_MAX, ConfigType.LONG),
        "flush.ms": (_LONG_MAX, ConfigType.LONG),
        "follower.replication.throttled.replicas": ("", ConfigType.LIST),
        "index.interval.bytes": ("4096", ConfigType.INT),
        "leader.replication.throttled.replicas": ("", ConfigType.LIST),
        "local.retention.bytes": ("-2", ConfigType.LONG),
        "local.retention.ms": ("-2", ConfigType.LONG),
        "max.compaction.lag.ms": (_LONG_MAX, ConfigType.LONG),
        "max.message.bytes": ("1048588", ConfigType.INT),
        "message.timestamp.after.max.ms": ("3600000", ConfigType.LONG),
        "message.timestamp.before.max.ms": (_LONG_MAX, ConfigType.LONG),
        "message.timestamp.type": ("CreateTime", ConfigType.STRING),
        "min.cleanable.dirty.ratio": ("0.5", ConfigType.DOUBLE),
        "min.compaction.lag.ms": ("0", ConfigType.LONG),
        "min.insync.replicas": ("1", ConfigType.INT),
        "preallocate": ("false", ConfigType.BOOLEAN),
        "remote.storage.enable": ("false", ConfigType.BOOLEAN),
        "retention.bytes": ("-1", ConfigType.LONG),
        "retention.ms": (str(7 * _DAY_MS), ConfigType.LONG),
        "segment.bytes": ("1073741824", ConfigType.INT),
        "segment.index.bytes": ("10485760", ConfigType.INT),
        "segment.jitter.ms": ("0", ConfigType.LONG),
        "segment.ms": (str(7 * _DAY_MS), ConfigType.LONG),
        "unclean.leader.election.enable": ("false", ConfigType.BOOLEAN),
    }
)
_CLEANUP_POLICIES: Final = frozenset({"compact", "delete"})
_TIMESTAMP_TYPES: Final = ("CreateTime", "LogAppendTime")
_BOOLEANS: Final = ("false", "true")
_UNLIMITED: Final = -1


class TopicConfig:
    """The settings of one topic; immutable, a change makes a new one."""

    __slots__ = (
        "cleanup",
        "delete_retention_ms",
        "max_message_bytes",
        "min_dirty_ratio",
        "overrides",
        "retention_bytes",
        "retention_ms",
        "stamps",
    )

    def __init__(self, overrides: Mapping[str, str]) -> None:
        """Checks every override.

        Raises:
            InvalidConfigError: with the name and the value that is wrong.
        """
        for name, value in overrides.items():
            _check(name, value)
        self.overrides: Mapping[str, str] = MappingProxyType(dict(overrides))
        self.cleanup = _cleanup(self.value_of("cleanup.policy"))
        self.retention_ms = _limit(self.value_of("retention.ms"))
        self.retention_bytes = _limit(self.value_of("retention.bytes"))
        self.delete_retention_ms = int(self.value_of("delete.retention.ms"))
        self.max_message_bytes = int(self.value_of("max.message.bytes"))
        self.min_dirty_ratio = float(self.value_of("min.cleanable.dirty.ratio"))
        self.stamps = _stamps(self.value_of("message.timestamp.type"))
        """Whether records get the broker's time instead of their producer's."""

    @property
    def compacts(self) -> bool:
        """Whether only the last record of a key is kept."""
        return "compact" in self.cleanup

    @property
    def deletes(self) -> bool:
        """Whether old records go away by time and size."""
        return "delete" in self.cleanup

    def value_of(self, name: str) -> str:
        """The override, else Kafka's default."""
        return self.overrides.get(name, TOPIC_CONFIGS[name][0])

    def changed(self, changes: Mapping[str, str | None]) -> "TopicConfig":
        """These settings with some of them set, or taken back (None) to their default.

        Raises:
            InvalidConfigError: as for the constructor; also for taking back an unknown name.
        """
        merged = dict(self.overrides)
        for name, value in changes.items():
            if name not in TOPIC_CONFIGS:
                raise InvalidConfigError(f"Unknown topic config name: {name}")
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        return TopicConfig(merged)


def _check(name: str, value: str) -> None:
    if name not in TOPIC_CONFIGS:
        raise InvalidConfigError(f"Unknown topic config name: {name}")
    kind = TOPIC_CONFIGS[name][1]
    try:
        if kind in (ConfigType.INT, ConfigType.LONG):
            int(value)
        elif kind is ConfigType.DOUBLE:
            float(value)
        elif kind is ConfigType.BOOLEAN:
            _BOOLEANS.index(value)
    except ValueError as error:
        raise InvalidConfigError(f"Invalid value {value} for configuration {name}") from error


def _cleanup(value: str) -> frozenset[str]:
    policies = frozenset(part.strip() for part in value.split(",") if part.strip())
    if not policies <= _CLEANUP_POLICIES:
        raise InvalidConfigError(
            f"Invalid value {value} for configuration cleanup.policy: String must be one of: compact, delete"
        )
    return policies


def _stamps(value: str) -> bool:
    if value not in _TIMESTAMP_TYPES:
        raise InvalidConfigError(
            f"Invalid value {value} for configuration message.timestamp.type: String must be one of: CreateTime,"
            " LogAppendTime"
        )
    return value == _TIMESTAMP_TYPES[1]


def _limit(value: str) -> int | None:
    number = int(value)
    return None if number <= _UNLIMITED else number
