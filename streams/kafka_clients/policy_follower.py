"""The policies that hold now: a live view of the compacted topic `policies.v1`.

Called by the orders workers (route plans) and `policy show`. Follows by `topic_follower`.

A policy takes effect as soon as its record arrives, in the middle of a running system. Safe,
because a claim pins the plan that it was made under. The last record in log order wins, not the highest version: a
follower that starts later sees only what compaction has left, and must come to the same view as one that saw
everything.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import structlog

from gateway_adapters import policy as rules
from schemas.decode_errors import OtherReleaseError, SchemaAwaitedError
from schemas.messages import DecodeError, MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.topics import POLICIES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader
from streams.kafka_clients.topic_follower import TopicFollower
from streams.telemetry import metrics

log = structlog.get_logger(__name__)


class PolicyView:
    """What a sequence of policy records comes to. Pure; the follower feeds it."""

    def __init__(self, codec: MessageCodec) -> None:
        self._codec = codec
        self._policies: Mapping[str, OriginPolicy] = MappingProxyType({})
        self.invalid = 0

    def current(self) -> Mapping[str, OriginPolicy]:
        """Return the policies by origin id, `*` for all others: an immutable snapshot."""
        return self._policies

    def take(self, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> str | None:
        """Take one record. Returns None, or why it was not taken: the origin's last good policy stays then.

        Raises: SchemaAwaitedError: a registry is being asked for its schema; nothing was taken. OtherReleaseError: a
        later release has set it.
        """
        origin_id = (key or b"").decode("utf-8", errors="replace")
        if value is None:
            self._replace({name: each for name, each in self._policies.items() if name != origin_id})
            return None
        try:
            _, record = self._codec.decode(value, headers, ours=True)
        except (SchemaAwaitedError, OtherReleaseError):
            raise
        except DecodeError as error:
            return self._refused(str(error))
        if not isinstance(record, OriginPolicy):
            return self._refused("not a policy")
        if record.origin_id != origin_id:
            return self._refused("the key is not the policy's origin")
        try:
            rules.validate(record)
        except MisconfiguredError as error:
            return self._refused(str(error))
        self._replace({**self._policies, origin_id: record})
        return None

    def _refused(self, why: str) -> str:
        self.invalid += 1
        return why

    def _replace(self, policies: Mapping[str, OriginPolicy]) -> None:
        self._policies = MappingProxyType(dict(policies))


class PolicyFollower(TopicFollower[Mapping[str, OriginPolicy]]):
    """Follows `policies.v1` until it is stopped. `current` is by origin id; an immutable snapshot."""

    def __init__(
        self,
        connection: KafkaConnection,
        codec: MessageCodec,
        *,
        topic: str = POLICIES,
        build: Callable[[KafkaConnection], Any] = build_reader,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`on_change` is called on the event loop after each change of the view."""

        def changed() -> None:
            log.info("policies_changed", count=len(self.current()))
            if on_change is not None:
                on_change()

        super().__init__(connection, PolicyView(codec), topic=topic, build=build, on_change=changed)

    async def start(self) -> None:
        """Read the topic to its end, then follow it in the background. Raises: as `TopicFollower.start`."""
        await super().start()
        metrics.watch("policies_known", lambda: len(self.current()))

    def refused(self, record: Any, reason: str) -> None:
        """Count and say that a policy was not taken."""
        metrics.count("policies_invalid")
        log.error("policy_refused", offset=record.offset, partition=record.partition, reason=reason)
