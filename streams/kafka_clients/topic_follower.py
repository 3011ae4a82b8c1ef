"""Follows a compacted topic of one partition for as long as a program runs: what its records come to holds now.

Used for policies (`policy_follower`) and for upgrades (`upgrade_follower`). Calls aiokafka without a group: everyone
reads everything. What the records come to is a view's to say, which is pure.

Following ends with `stop` and not before, whatever it meets: a program would go by old records for ever, and nobody
would know. What it does not expect it logs as an error, and reads all again with another consumer. Only what a later
release has written ends it: `watch` raises that, and the program ends with it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.decode_errors import OtherReleaseError, SchemaAwaitedError
from schemas.misconfigured import MisconfiguredError
from schemas.releases import OutdatedError, place_of
from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadingEndedError
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader, partitions_of
from streams.kafka_clients.errors import classify

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 30.0
"""Longest wait at a start until the topic is read to its end."""

POLL_TIMEOUT_MS = 500
POLL_MAX_RECORDS = 500
RETRY_AFTER_S = 1.0
CLOSE_TIMEOUT_S = 5.0

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class View(Protocol[T_co]):
    """What a sequence of records comes to."""

    invalid: int

    def current(self) -> T_co:
        """Return what holds now; another object after each change."""
        ...

    def take(self, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> str | None:
        """Take one record. Returns None, or why it was not taken. Raises: SchemaAwaitedError, OtherReleaseError."""
        ...


class TopicFollower(Generic[T]):
    """Follows one topic until it is stopped."""

    def __init__(
        self,
        connection: KafkaConnection,
        view: View[T],
        *,
        topic: str,
        build: Callable[[KafkaConnection], Any] = build_reader,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`on_change` is called on the event loop after each change of the view."""
        self._connection = connection
        self._topic = topic
        self._build = build
        self._on_change = on_change
        self._view = view
        self._outdated: OutdatedError | None = None
        self._ended = asyncio.Event()
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    @property
    def invalid(self) -> int:
        """How many records could not be taken so far."""
        return self._view.invalid

    def current(self) -> T:
        """Return what holds now. As nothing had been read before `start` returned."""
        return self._view.current()

    async def watch(self) -> None:
        """Wait for ever, or until a record comes that a later release has written. Raises: OutdatedError."""
        await self._ended.wait()
        assert self._outdated is not None, "nothing else ends it"
        raise self._outdated

    async def start(self) -> None:
        """Read the topic to its end, then follow it in the background.

        Raises:
            MisconfiguredError: there is no such topic.
            RetryableError: the broker did not answer in time.
            OutdatedError: a later release wrote there.
        """
        try:
            await self._open()
        except (KafkaError, TimeoutError, OSError) as error:
            raise classify(error) from error
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
                log.warning("topic_not_followed", topic=self._topic, error=type(error).__name__, repeats=True)
                if isinstance(error, ReadingEndedError):
                    await self._close()
                await asyncio.sleep(RETRY_AFTER_S)
            except OutdatedError as outdated:
                self._outdated = outdated
                self._ended.set()
                return
            except Exception:  # whatever it is, the follower must not end: nobody looks after it
                log.exception("topic_not_followed", topic=self._topic)
                await self._close()
                await asyncio.sleep(RETRY_AFTER_S)

    async def _take_some(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_MAX_RECORDS)
        before = self._view.current()
        for records in batches.values():
            for record in records:
                await self._take(record)
        if self._view.current() is not before and self._on_change is not None:
            self._on_change()

    async def _take(self, record: Any) -> None:
        try:
            refused = await self._taken(record)
        except OtherReleaseError as newer:
            raise OutdatedError(place_of(record.topic, record.partition, record.offset), newer.detail) from newer
        except Exception as error:  # a defect in reading one record must not cost those after it
            self._view.invalid += 1
            refused = f"not read: {type(error).__name__}"
            log.exception("record_failed", topic=self._topic, offset=record.offset, partition=record.partition)
        if refused is not None:
            self.refused(record, refused)

    def refused(self, record: Any, reason: str) -> None:
        """Say that a record was not taken."""
        log.error("record_refused", topic=self._topic, offset=record.offset, partition=record.partition, reason=reason)

    async def _taken(self, record: Any) -> str | None:
        headers = tuple(record.headers)
        try:
            return self._view.take(record.key, record.value, headers)
        except SchemaAwaitedError as awaited:  # a newer program's: it would be lost until the next start
            await awaited.wait()
            return self._view.take(record.key, record.value, headers)
