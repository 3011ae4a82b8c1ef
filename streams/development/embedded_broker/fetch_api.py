"""Fetch: read what is there, else wait for it (long poll).

Called by `router` for every FetchRequest. Fetch sessions (KIP-227) are declined by session id 0, so every request names
all its partitions; with the few partitions of a laptop that costs little.
"""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from kio.schema.errors import ErrorCode
from kio.schema.fetch.v11.request import FetchPartition, FetchRequest
from kio.schema.fetch.v11.response import FetchableTopicResponse, FetchResponse, PartitionData
from kio.static.primitive import Records, i64

from streams.development.embedded_broker.limits import MAX_FETCH_BYTES, MAX_FETCH_ROUNDS, MAX_FETCH_WAIT_S
from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.partition_log import NO_OFFSET, OffsetOutOfRangeError, PartitionLog
from streams.development.embedded_broker.wire import NOT_THROTTLED


class _Round(NamedTuple):
    """One look at all partitions."""

    answer: FetchResponse
    size_bytes: int
    has_error: bool


async def fetch(node: Node, request: FetchRequest, _caller: Caller) -> FetchResponse:
    """Returns as soon as `min_bytes` are there, or an error is, or `max_wait` is over."""
    found = _look(node, request)
    wait_s = min(request.max_wait.total_seconds(), MAX_FETCH_WAIT_S)
    if found.size_bytes >= request.min_bytes or found.has_error or wait_s <= 0:
        return found.answer
    logs = [
        log
        for entry in request.topics
        for part in entry.partitions
        if (log := node.topics.log(entry.topic, part.partition)) is not None
    ]
    return await _wait_and_look(node, request, logs, wait_s)


async def _wait_and_look(
    node: Node, request: FetchRequest, logs: Iterable[PartitionLog], wait_s: float
) -> FetchResponse:
    changed = asyncio.Event()
    for log in logs:
        log.waiters.add(changed)
    try:
        async with asyncio.timeout(wait_s):
            for _ in range(MAX_FETCH_ROUNDS):
                await changed.wait()
                changed.clear()
                found = _look(node, request)
                if found.size_bytes >= request.min_bytes or found.has_error:
                    return found.answer
    except TimeoutError:
        pass  # the wait is over: what is there now is the answer
    finally:
        for log in logs:
            log.waiters.discard(changed)
    return _look(node, request).answer


def refused(request: FetchRequest, code: ErrorCode) -> FetchResponse:
    """The answer that refuses every partition, for the fault switches."""
    return _answer(
        FetchableTopicResponse(topic=entry.topic, partitions=tuple(_failed(part, code) for part in entry.partitions))
        for entry in request.topics
    )


def _answer(topics: Iterable[FetchableTopicResponse]) -> FetchResponse:
    return FetchResponse(throttle_time=NOT_THROTTLED, error_code=ErrorCode.none, responses=tuple(topics))


def _look(node: Node, request: FetchRequest) -> _Round:
    left_bytes = min(request.max_bytes, MAX_FETCH_BYTES)
    size_bytes, has_error = 0, False
    topics: list[FetchableTopicResponse] = []
    for entry in request.topics:
        partitions: list[PartitionData] = []
        for part in entry.partitions:
            read = _read(node, entry.topic, part, left_bytes, is_first=size_bytes == 0)
            has_error = has_error or read.error_code is not ErrorCode.none
            read_bytes = len(read.records or b"")
            size_bytes += read_bytes
            left_bytes -= read_bytes
            partitions.append(read)
        topics.append(FetchableTopicResponse(topic=entry.topic, partitions=tuple(partitions)))
    return _Round(_answer(topics), size_bytes, has_error)


def _read(node: Node, topic: str, part: FetchPartition, left_bytes: int, *, is_first: bool) -> PartitionData:
    log = node.topics.log(topic, part.partition)
    if log is None:
        return _failed(part, ErrorCode.unknown_topic_or_partition)
    limit = min(part.partition_max_bytes, left_bytes)
    try:
        batches = log.read(part.fetch_offset, limit, at_least_one=is_first)
    except OffsetOutOfRangeError:
        return _read_of(part, ErrorCode.offset_out_of_range, log.end_offset, log.start_offset)
    return _read_of(part, ErrorCode.none, log.end_offset, log.start_offset, b"".join(batches))


def _failed(part: FetchPartition, code: ErrorCode) -> PartitionData:
    return _read_of(part, code, NO_OFFSET, NO_OFFSET)


def _read_of(
    part: FetchPartition, code: ErrorCode, end_offset: int, start_offset: int, records: bytes = b""
) -> PartitionData:
    """What was read of one partition. Without transactions the last stable offset is the end, and none is aborted."""
    return PartitionData(
        partition_index=part.partition,
        error_code=code,
        high_watermark=i64(end_offset),
        last_stable_offset=i64(end_offset),
        log_start_offset=i64(start_offset),
        aborted_transactions=(),
        records=Records(records),
    )
