"""The catalogue of topics: name, key, records, cleanup, retention and partition rule (DESIGN.md, "Topics").

Called by `topics plan|apply`, by every producer and consumer for their names, and, for `partition_of`, by whoever must
know a partition before the broker says it. Nothing creates a topic at run time, so what is not here does not exist.
"""

import functools
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.record_shapes import Record, Row
from schemas.records.claims import ClaimDecided, ClaimExpiryRequested, ClaimRequested, ClaimRow
from schemas.records.commands import (
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, PaymentWaiting
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.orders import ApartRow, OrderRow
from schemas.records.payments import OperationReplied, PaymentEvent, PaymentQueried
from schemas.records.policies import OriginPolicy
from schemas.records.references import ParkedRow, ReferenceDropped, ReferenceKept, ReferenceRow
from schemas.records.timers import OpenTimer, OrderExpiryRequested, TimerFired
from schemas.records.upgrades import UpgradeFinished

COMMANDS: Final = "payments.commands.v1"
QUERIES: Final = "payments.queries.v1"
CLAIMS: Final = "idempotency.claims.v1"
VERDICTS: Final = "idempotency.verdicts.v1"
GATEWAY_REQUESTS: Final = "gateway.requests.v1"
GATEWAY_RESULTS: Final = "gateway.results.v1"
WEBHOOKS: Final = "gateway.webhooks.v1"
REFERENCES: Final = "gateway.references.v1"
EVENTS: Final = "payments.events.v1"
TIMERS: Final = "payments.timers.v1"
REPLIES: Final = "payments.replies.v1"
DLQ: Final = "payments.dlq.v1"
POLICIES: Final = "policies.v1"
UPGRADES: Final = "upgrades.v1"
DECISIONS: Final = "decisions.v1"
WAITING: Final = "payments.waiting.v1"


def changelog_topic(app_id: str, table: str) -> str:
    """Return the name of the changelog of an app's table. It is Faust's own rule, which is not asked of us."""
    return f"{app_id}-{table}-changelog"


ORDERS_CHANGELOG: Final = changelog_topic("orders", "orders")
OPERATIONS_CHANGELOG: Final = changelog_topic("orders", "operations")
TIMERS_CHANGELOG: Final = changelog_topic("orders", "timers")
REFERENCES_CHANGELOG: Final = changelog_topic("orders", "references")
PARKED_CHANGELOG: Final = changelog_topic("orders", "parked")
CLAIMS_CHANGELOG: Final = changelog_topic("claims", "claims")

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
MIN_SEGMENT_MS: Final = 600_000
"""Shorter ones would be a file every few minutes in each partition."""

MAX_RECORD_BYTES: Final = 1_048_588
"""Kafka's own default of `max.message.bytes`."""

MAX_LETTER_BYTES: Final = 2_000_000
"""Largest dead letter that is written, key and headers included. It holds a whole record of another topic, and must fit
however large that was; its topic takes a little more."""


TIMESTAMP_TYPE: Final = "LogAppendTime"
"""Of every topic: the broker stamps what it appends. Decisions take their time from these stamps, so a producer whose
clock is wrong neither opens a gateway's key window again nor is refused (Kafka refuses what is dated an hour ahead)."""


class Cleanup(StrEnum):
    """What the broker does with old records; never both: Faust's recovery stalls on that (its issue 176)."""

    DELETE = "delete"
    COMPACT = "compact"


class PartitionRule(StrEnum):
    """How a record's partition is chosen."""

    MURMUR2 = "murmur2"  # of the key, as Java's clients do
    EXPLICIT = "explicit"  # the producer names it: a waiting ingress instance, or a changelog's source partition
    SINGLE = "single"  # one partition, read whole by everyone


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic."""

    name: str
    key: str  # what the key is, for a person
    records: tuple[type[Record | Row], ...]
    cleanup: Cleanup
    retention_ms: int | None  # None: compacted, kept for ever
    partition_rule: PartitionRule
    max_record_bytes: int = MAX_RECORD_BYTES
    perishable: bool = False
    """Whether a record means nothing once it is older than the retention: whoever waits for it has gone. What is
    deleted unread of such a topic is no loss."""
    min_compaction_lag_ms: int | None = None  # no record is compacted away before
    public: bool = False
    """Whether strangers append to it. The broker keeps their records uncompressed, and so refuses what is larger than
    `max_record_bytes` once inflated: a few kilobytes of zstd can hold more than a worker's memory."""

    @property
    def segment_ms(self) -> int:
        """How soon the broker begins a new segment: it deletes and compacts whole ones, and never the newest.

        A seventh of the retention, so that nothing is kept much longer than that; at least ten minutes, at most a day.
        """
        if self.retention_ms is None:
            return DAY_MS
        return min(max(self.retention_ms // 7, MIN_SEGMENT_MS), DAY_MS)

    @property
    def co_partitioned(self) -> bool:
        """Whether it must have the partition count that all its like have, for ever."""
        return self.partition_rule is not PartitionRule.SINGLE


def _log(name: str, key: str, retention_ms: int, *records: type[Record]) -> Topic:
    rule = PartitionRule.MURMUR2
    return Topic(
        name=name, key=key, records=records, cleanup=Cleanup.DELETE, retention_ms=retention_ms, partition_rule=rule
    )


def _changelog(name: str, key: str, row: type[Row]) -> Topic:
    rule = PartitionRule.EXPLICIT
    # A frozen owner that wakes up writes behind its successor, and compaction keeps the last record of a key, not the
    # one of the highest stamp: so none goes before a recovery has had a day to write the right one again.
    return Topic(
        name=name,
        key=key,
        records=(row,),
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        partition_rule=rule,
        min_compaction_lag_ms=DAY_MS,
    )


CATALOGUE: tuple[Topic, ...] = (
    Topic(
        name=COMMANDS,
        key="orderId",
        records=(PaymentRequested, CaptureRequested, VoidRequested, RefundRequested, CompletionRequested),
        cleanup=Cleanup.DELETE,
        retention_ms=7 * DAY_MS,
        partition_rule=PartitionRule.MURMUR2,
        public=True,
    ),
    Topic(
        name=QUERIES,
        key="orderId",
        records=(PaymentQueried, DecisionTried),
        cleanup=Cleanup.DELETE,
        retention_ms=HOUR_MS,
        partition_rule=PartitionRule.MURMUR2,
        perishable=True,
    ),
    _log(CLAIMS, "originId|idempotencyKey", 7 * DAY_MS, ClaimRequested, ClaimExpiryRequested),
    _log(VERDICTS, "orderId", 7 * DAY_MS, ClaimDecided),
    _log(GATEWAY_REQUESTS, "orderId", 7 * DAY_MS, GatewayCallRequested),
    _log(GATEWAY_RESULTS, "orderId", 7 * DAY_MS, GatewayCallCompleted),
    _log(WEBHOOKS, "orderId, else gateway|account|reference", 30 * DAY_MS, WebhookReceived),
    Topic(
        name=REFERENCES,
        key="gateway|account|reference",
        records=(ReferenceKept, ReferenceDropped),
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        partition_rule=PartitionRule.MURMUR2,
        min_compaction_lag_ms=DAY_MS,  # two orders that say they are known by one reference are both heard
    ),
    _log(EVENTS, "orderId", 30 * DAY_MS, PaymentEvent),
    _log(TIMERS, "orderId", 7 * DAY_MS, TimerFired, OrderExpiryRequested),
    _log(DECISIONS, "orderId", 30 * DAY_MS, DecisionProposed, DecisionMade),
    Topic(
        name=WAITING,
        key="originId|orderId|opId",
        records=(PaymentWaiting,),
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        partition_rule=PartitionRule.MURMUR2,
    ),
    Topic(
        name=REPLIES,
        key="none",
        records=(OperationReplied,),
        cleanup=Cleanup.DELETE,
        retention_ms=HOUR_MS,
        partition_rule=PartitionRule.EXPLICIT,
        perishable=True,
    ),
    Topic(
        name=DLQ,
        key="the key it came with",
        records=(DeadLetter, DeadLetterHandled),
        cleanup=Cleanup.DELETE,
        retention_ms=30 * DAY_MS,
        partition_rule=PartitionRule.MURMUR2,
        max_record_bytes=2 * MAX_RECORD_BYTES,
    ),
    Topic(
        name=POLICIES,
        key="originId or *",
        records=(OriginPolicy,),
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        partition_rule=PartitionRule.SINGLE,
    ),
    Topic(
        name=UPGRADES,
        key="release",
        records=(UpgradeFinished,),
        cleanup=Cleanup.COMPACT,
        retention_ms=None,
        partition_rule=PartitionRule.SINGLE,
    ),
    _changelog(ORDERS_CHANGELOG, "originId|orderId", OrderRow),
    _changelog(OPERATIONS_CHANGELOG, "originId|orderId|life|name", ApartRow),
    _changelog(TIMERS_CHANGELOG, "originId|orderId|opId", OpenTimer),
    _changelog(REFERENCES_CHANGELOG, "gateway|account|reference", ReferenceRow),
    _changelog(PARKED_CHANGELOG, "gateway|account|reference", ParkedRow),
    _changelog(CLAIMS_CHANGELOG, "originId|idempotencyKey", ClaimRow),
)
"""Every topic there is, in the order of a payment's life."""


def topic(name: str) -> Topic:
    """Return the topic of that name. Raises: KeyError: the engine has none of that name."""
    return _BY_NAME[name]


def is_perishable(name: str) -> bool:
    """Return whether what is deleted unread of this topic is no loss; False of a topic that is not ours."""
    return name in _BY_NAME and _BY_NAME[name].perishable


_BY_NAME = {entry.name: entry for entry in CATALOGUE}


_SEED = 0x9747B28C
_M = 0x5BD1E995
_R = 24
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Java's default partitioner gives a key: murmur2, made positive, modulo.

    librdkafka's own default is another (CRC32), which is why every producer here sets `murmur2_random`.
    Source: org.apache.kafka.common.utils.Utils.murmur2.
    """
    digest = _known_murmur2(key) if len(key) <= _MAX_KNOWN_KEY_BYTES else _murmur2(key)
    return (digest & _POSITIVE) % partitions


def _murmur2(key: bytes) -> int:
    length = len(key)
    digest = (_SEED ^ length) & _MASK
    whole = length & ~3
    for four in struct.unpack_from(f"<{whole // 4}I", key):
        word = four * _M & _MASK
        word = (word ^ (word >> _R)) * _M & _MASK
        digest = (digest * _M & _MASK) ^ word
    if whole != length:
        digest = (digest ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    digest = (digest ^ (digest >> 13)) * _M & _MASK
    return digest ^ (digest >> 15)


# An order's inputs follow each other, and each asks where its key belongs. A stranger's key may be of any length.
_MAX_KNOWN_KEYS = 4_096
_MAX_KNOWN_KEY_BYTES = 512
_known_murmur2 = functools.lru_cache(maxsize=_MAX_KNOWN_KEYS)(_murmur2)
