"""The policies that hold now: a live view of the compacted topic `policies.v1`.

Called by the orders workers (route plans) and `policy show`. Calls aiokafka without a group: everyone reads everything.

A policy takes effect as soon as its record arrives, in the middle of a running system. Safe,
because a claim pins the plan that it was made under. The last record in log order wins, not the highest version: a
follower that starts later sees only what compaction has left, and must come to the same view as one that saw
everything.

Following ends with `stop` and not before, whatever it meets: orders would be routed by old policies for ever, and
nobody would know. What it does not expect it logs as an error, and reads all again with another consumer.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from gateway_adapters import policy as rules
from schemas.decode_errors import SchemaAwaitedError
from schemas.messages import DecodeError, MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.topics import POLICIES
from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadingEndedError
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader, partitions_of
from streams.kafka_clients.errors import classify
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 30.0
"""Longest wait at a start until the topic is read to its end."""

POLL_TIMEOUT_MS = 500
POLL_MAX_RECORDS = 500
RETRY_AFTER_S = 1.0
CLOSE_TIMEOUT_S = 5.0


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

        Raises: SchemaAwaitedError: a registry is being asked for its schema; nothing was taken.
        """
        origin_id = (key or b"").decode("utf-8", errors="replace")
        if value is None:
            self._replace({name: each for name, each in self._policies.items() if name != origin_id})
            return None
        try:
            _, record = self._codec.decode(value, headers)
        except SchemaAwaitedError:
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


class PolicyFollower:
    """Follows `policies.v1` until it is stopped."""

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
        self._connection = connection
        self._topic = topic
        self._build = build
        self._on_change = on_change
        self._view = PolicyView(codec)
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    @property
    def invalid(self) -> int:
        """How many records could not be taken so far."""
        return self._view.invalid

    def current(self) -> Mapping[str, OriginPolicy]:
        """Return the policies that hold now, by origin id; an immutable snapshot. Empty before `start` returned."""
        return self._view.current()

    async def start(self) -> None:
        """Read the topic to its end, then follow it in the background.

        Raises:
            MisconfiguredError: there is no such topic.
            RetryableError: the broker did not answer in time.
        """
        try:
            await self._open()
        except (KafkaError, TimeoutError, OSError) as error:
            raise classify(error) from error
        metrics.watch("policies_known", lambda: len(self._view.current()))
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self.ready.set()

    async def stop(self) -> None:
        """Stop following; the last view stays. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._close()

    async def _open(self) -> None:
        """Read all there is with a new consumer; none is left when that fails."""
        self._consumer = self._build(self._connection)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._consumer.start()
                await self._read_to_end()
        except Exception:  # raised on, whatever it is; only the half-open consumer must not leak
            await self._close()
            raise

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_TIMEOUT_S)

    async def _read_to_end(self) -> None:
        wanted = [TopicPartition(self._topic, each) for each in await partitions_of(self._consumer, self._topic)]
        self._consumer.assign(wanted)
        first = await self._consumer.beginning_offsets(wanted)
        ends = await self._consumer.end_offsets(wanted)
        for each in wanted:
            self._consumer.seek(each, first[each])
        open_ends = {each for each in wanted if first[each] < ends[each]}
        while open_ends:  # bounded by the caller's time-out
            await self._take_some()
            open_ends = {each for each in open_ends if await self._consumer.position(each) < ends[each]}

    async def _follow(self) -> None:
        while True:  # ends by cancellation
            try:
                if self._consumer is None:
                    await self._open()  # reads all of it again: the last record in log order still wins
                await self._take_some()
            except (KafkaError, TimeoutError, OSError, MisconfiguredError) as error:
                log.warning("policies_not_read", error=type(error).__name__, repeats=True)
                if isinstance(error, ReadingEndedError):
                    await self._close()
                await asyncio.sleep(RETRY_AFTER_S)
            except Exception:  # whatever it is, the follower must not end: nobody looks after it
                log.exception("policies_not_read")
                await self._close()
                await asyncio.sleep(RETRY_AFTER_S)

    async def _take_some(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_MAX_RECORDS)
        before = self._view.current()
        for records in batches.values():
            for record in records:
                await self._take(record)
        if self._view.current() is not before:
            log.info("policies_changed", count=len(self._view.current()))
            if self._on_change is not None:
                self._on_change()

    async def _take(self, record: Any) -> None:
        try:
            refused = await self._taken(record)
        except Exception as error:  # a defect in reading one policy must not cost those after it
            self._view.invalid += 1
            refused = f"not read: {type(error).__name__}"
            log.exception("policy_failed", offset=record.offset, partition=record.partition)
        if refused is not None:
            metrics.count("policies_invalid")
            log.error("policy_refused", offset=record.offset, partition=record.partition, reason=refused)

    async def _taken(self, record: Any) -> str | None:
        headers = tuple(record.headers)
        try:
            return self._view.take(record.key, record.value, headers)
        except SchemaAwaitedError as awaited:  # a newer program's: it would be lost until the next start
            await awaited.wait()
            return self._view.take(record.key, record.value, headers)
