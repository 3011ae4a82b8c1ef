"""Reads the tail of one partition of the results: what the executor's memory is made of at each assignment.

Used by the worker as the `ReadPast` of its `past_results.Memory`. Calls aiokafka, without a group: no offset is moved.
Nothing is decoded: the id of a result, in its header, tells which call it answers.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.messages import EncodedMessage
from schemas.misconfigured import MisconfiguredError
from streams.executor.past_results import PastResult, PastResults
from streams.kafka_clients.aiokafka_fences.fenced_consumer import log_ends
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import SHORT_FETCH_WAIT_MS, build_reader, partitions_of
from streams.kafka_clients.errors import classify

log = structlog.get_logger(__name__)

MAX_RECORDS = 20_000
"""Most results that are read of one partition; older ones are left out, and the memory knows."""

NOTHING_IS_CERTAIN_MS = 2**63 - 1
"""Since never: any result may be missing, so whatever is asked again is inquired about."""

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0
POLL_TIMEOUT_MS = 200
POLL_MAX_RECORDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One read that somebody waits for."""

    source: TopicPartition
    since_ms: int
    from_offset: int
    max_records: int
    answer: "asyncio.Future[PastResults]"


@dataclass(slots=True, kw_only=True)
class _Span:
    """What there is to read of one partition: offsets, and whether that is all that was asked for."""

    begin: int
    end: int
    log_end: int
    whole: bool
    results: deque[PastResult] = field(default_factory=deque)
    first_ms: int = 0


class ResultsTail:
    """Reads from one broker over one connection. What is asked for meanwhile is read together the next time.

    Why so: at a rebalance the first payments of each partition wait for it, and a broker answers a connection's
    requests one after the other.
    """

    def __init__(self, connection: KafkaConnection, *, results_topic: str, requests_topic: str) -> None:
        """Open nothing before it is needed."""
        self._connection = connection
        self._results_topic = results_topic
        self._requests_topic = requests_topic
        self._consumer: Any = None
        self._questions: deque[_Question] = deque()  # bounded by whoever asks: `past_results.MAX_LOADS_AT_ONCE`
        self._answering: asyncio.Task[None] | None = None

    async def read(
        self, partition: int, since_ms: int, *, from_offset: int = 0, max_records: int = MAX_RECORDS
    ) -> PastResults:
        """Return the results of this partition from this time on, up to where the log ends now.

        With `from_offset` from there on, whatever the time. What stands behind somebody's open transaction cannot be
        read yet. The memory says then that it is not whole.

        Raises:
            MisconfiguredError: the topics of requests and results differ in their number of partitions.
            RetryableError: the broker did not answer in time.
        """
        loop = asyncio.get_running_loop()
        question = _Question(
            source=TopicPartition(self._results_topic, partition),
            since_ms=since_ms,
            from_offset=from_offset,
            max_records=max_records,
            answer=loop.create_future(),
        )
        self._questions.append(question)
        if self._answering is None or self._answering.done():
            self._answering = loop.create_task(self._answer_all())
        return await question.answer

    async def close(self) -> None:
        """Let go of the connection. Calling it twice is safe."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])
        for question in self._questions:
            question.answer.cancel()
        await self._disconnect()

    async def _answer_all(self) -> None:
        while self._questions:
            batch = self._next_batch()
            try:
                spans = await self._answered(batch)
            except asyncio.CancelledError:
                for question in batch:
                    question.answer.cancel()
                raise
            except Exception as error:  # noqa: BLE001 -- whoever asked must hear of it, whatever it is
                await self._disconnect()
                for question in batch:
                    if not question.answer.done():
                        question.answer.set_exception(_as_ours(error))
                continue
            for question in batch:
                if not question.answer.done():
                    question.answer.set_result(_past_of(question, spans[question.source]))

    def _next_batch(self) -> list[_Question]:
        """Take the first question of each partition."""
        batch: dict[TopicPartition, _Question] = {}
        for question in self._questions:
            batch.setdefault(question.source, question)
        taken = list(batch.values())
        self._questions = deque(each for each in self._questions if all(each is not one for one in taken))
        return taken

    async def _answered(self, batch: Sequence[_Question]) -> dict[TopicPartition, _Span]:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            consumer = await self._connected()
            spans = await _spans(consumer, batch)
        async with asyncio.timeout(READ_TIMEOUT_S):
            await _fill(consumer, spans)
        return spans

    async def _connected(self) -> Any:
        if self._consumer is None:
            self._consumer = build_reader(self._connection, fetch_max_wait_ms=SHORT_FETCH_WAIT_MS)
            await self._consumer.start()
            await self._check_partitions(self._consumer)
        return self._consumer

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_TIMEOUT_S)

    async def _check_partitions(self, consumer: Any) -> None:
        results = await partitions_of(consumer, self._results_topic)
        if results != await partitions_of(consumer, self._requests_topic):
            raise MisconfiguredError(
                f"{self._results_topic} must have as many partitions as {self._requests_topic}: "
                "the executor looks for an answer in the partition of its request"
            )


async def _spans(consumer: Any, batch: Sequence[_Question]) -> dict[TopicPartition, _Span]:
    """Return what there is to read of each partition."""
    sources = [question.source for question in batch]
    # Asked before the readable ends, so that an append in between is not taken for a transaction.
    all_ends = await log_ends(consumer, sources)
    ends = await consumer.end_offsets(sources)
    times = {question.source: max(question.since_ms, 0) for question in batch if not question.from_offset}
    found = await consumer.offsets_for_times(times) if times else {}
    spans = {}
    for question in batch:
        source, end = question.source, ends[question.source]
        begin = question.from_offset
        if not begin:
            begin = end if found[source] is None else found[source].offset
        cut = max(begin, end - question.max_records)
        spans[source] = _Span(begin=cut, end=end, log_end=all_ends[source], whole=cut == begin)
    return spans


async def _fill(consumer: Any, spans: Mapping[TopicPartition, _Span]) -> None:
    """Read each span, and stop where it ends: else the consumer would go on fetching, and hold up the next question."""
    reading = {source: span for source, span in spans.items() if span.begin < span.end}
    if reading:
        consumer.assign(list(reading))
    for source, span in reading.items():  # before it begins to fetch from somewhere else
        consumer.seek(source, span.begin)
    while reading:  # bounded by the caller's time-out
        batches = await consumer.getmany(*reading, timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_MAX_RECORDS)
        for source, records in batches.items():
            _keep(reading[source], records)
        for source, span in list(reading.items()):
            if await consumer.position(source) >= span.end:
                consumer.pause(source)
                del reading[source]


def _keep(span: _Span, records: Sequence[Any]) -> None:
    for record in records:
        span.first_ms = span.first_ms or record.timestamp
        if record.value is not None and record.offset < span.end:
            span.results.append(_past_result(record))


def _past_of(question: _Question, span: _Span) -> PastResults:
    partition, since_ms = question.source.partition, question.since_ms
    if span.end < span.log_end:
        records = span.log_end - span.end
        log.warning("memory_behind_open_transaction", partition=partition, offset=span.end, records=records)
        known_from_ms = NOTHING_IS_CERTAIN_MS
    elif span.whole:
        known_from_ms = 0 if span.begin == 0 else since_ms
    else:
        known_from_ms = max(since_ms, span.first_ms + 1)  # results of the same millisecond may be missing
        log.warning("memory_incomplete", partition=partition, wanted_from_ms=since_ms, known_from_ms=known_from_ms)
    return PastResults(since_ms=known_from_ms, results=span.results, end=span.end)


def _as_ours(error: Exception) -> Exception:
    return classify(error) if isinstance(error, KafkaError | TimeoutError | OSError) else error


def _past_result(record: Any) -> PastResult:
    headers = tuple((name, bytes(value or b"")) for name, value in record.headers)
    return PastResult(timestamp_ms=record.timestamp, message=EncodedMessage(value=record.value, headers=headers))
