"""Reads the tail of one partition of the results: what the executor's memory is made of at each assignment.

Used by the worker as the `ReadPast` of its `past_results.Memory`. Calls aiokafka, without a group: no offset is moved.
Nothing is decoded: the id of a result, in its header, tells which call it answers.
"""

import asyncio
from collections import deque
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


class ResultsTail:
    """Reads from one broker, one partition at a time, over one connection: payments wait for it at a rebalance."""

    def __init__(self, connection: KafkaConnection, *, results_topic: str, requests_topic: str) -> None:
        """Open nothing before it is needed."""
        self._connection = connection
        self._results_topic = results_topic
        self._requests_topic = requests_topic
        self._one_read = asyncio.Lock()
        self._consumer: Any = None

    async def read(self, partition: int, since_ms: int, *, max_records: int = MAX_RECORDS) -> PastResults:
        """Return the results of this partition from this time on, up to where the log ends now.

        What stands behind somebody's open transaction cannot be read yet. The memory says then that it is not whole.

        Raises:
            MisconfiguredError: the topics of requests and results differ in their number of partitions.
            RetryableError: the broker did not answer in time.
        """
        source = TopicPartition(self._results_topic, partition)
        async with self._one_read:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    consumer = await self._connected()
                    consumer.assign([source])
                    # Asked before the readable end, so that an append in between is not taken for a transaction.
                    log_end = (await log_ends(consumer, [source]))[source]
                    begin, end, whole = await _bounds(consumer, source, since_ms, max_records)
                async with asyncio.timeout(READ_TIMEOUT_S):
                    results, first_ms = await _read(consumer, source, begin, end)
                consumer.pause(source)  # else it would go on fetching, and hold up what is asked for next
            except BaseException as error:  # cancellation too: another read must not find this one's position
                await self._disconnect()
                if isinstance(error, KafkaError | TimeoutError | OSError):
                    raise classify(error) from error
                raise
        if end < log_end:
            log.warning("memory_behind_open_transaction", partition=partition, offset=end, records=log_end - end)
            return PastResults(since_ms=NOTHING_IS_CERTAIN_MS, results=results)
        if whole:
            return PastResults(since_ms=0 if begin == 0 else since_ms, results=results)
        known_from_ms = first_ms + 1  # results of the same millisecond may be missing
        log.warning("memory_incomplete", partition=partition, wanted_from_ms=since_ms, known_from_ms=known_from_ms)
        return PastResults(since_ms=max(since_ms, known_from_ms), results=results)

    async def close(self) -> None:
        """Let go of the connection. Calling it twice is safe."""
        async with self._one_read:
            await self._disconnect()

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


async def _bounds(consumer: Any, source: TopicPartition, since_ms: int, max_records: int) -> tuple[int, int, bool]:
    """Return where to begin, where to end, and whether that is all since then."""
    end = (await consumer.end_offsets([source]))[source]
    found = (await consumer.offsets_for_times({source: max(since_ms, 0)}))[source]
    begin = end if found is None else found.offset
    cut = max(begin, end - max_records)
    return cut, end, cut == begin


async def _read(consumer: Any, source: TopicPartition, begin: int, end: int) -> tuple[deque[PastResult], int]:
    """Return the results between two offsets, and when the first of them was appended."""
    results: deque[PastResult] = deque()
    first_ms = 0
    if begin >= end:
        return results, first_ms
    consumer.seek(source, begin)
    while await consumer.position(source) < end:  # bounded by the caller's time-out
        batches = await consumer.getmany(source, timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_MAX_RECORDS)
        for record in batches.get(source, ()):
            first_ms = first_ms or record.timestamp
            if record.value is not None and record.offset < end:
                results.append(_past_result(record))
    return results, first_ms


def _past_result(record: Any) -> PastResult:
    headers = tuple((name, bytes(value or b"")) for name, value in record.headers)
    return PastResult(timestamp_ms=record.timestamp, message=EncodedMessage(value=record.value, headers=headers))
