"""ListOffsets, DeleteRecords and InitProducerId: the rarer questions about logs.

Called by `router`.
"""

from typing import Final

from kio.schema.delete_records.v2.request import DeleteRecordsPartition, DeleteRecordsRequest
from kio.schema.delete_records.v2.response import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from kio.schema.errors import ErrorCode
from kio.schema.init_producer_id.v4.request import InitProducerIdRequest
from kio.schema.init_producer_id.v4.response import InitProducerIdResponse
from kio.schema.list_offsets.v7.request import ListOffsetsPartition, ListOffsetsRequest
from kio.schema.list_offsets.v7.response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from kio.schema.types import ProducerId
from kio.static.primitive import i16, i32, i64

from streams.development.embedded_broker.node import LEADER_EPOCH, Caller, Node
from streams.development.embedded_broker.partition_log import FoundOffset, OffsetOutOfRangeError, PartitionLog
from streams.development.embedded_broker.producer_state import NO_PRODUCER_ID
from streams.development.embedded_broker.record_batch import CorruptBatchError
from streams.development.embedded_broker.wire import NOT_THROTTLED

_LATEST: Final = -1
_EARLIEST: Final = -2
_MAX_TIMESTAMP: Final = -3
_NO_TIMESTAMP: Final = -1
_TO_THE_END: Final = -1
_HIGHEST_EPOCH: Final = 2**15 - 2


async def list_offsets(node: Node, request: ListOffsetsRequest, _caller: Caller) -> ListOffsetsResponse:
    """Start, end, or the first offset at or after a time, of each partition."""
    return ListOffsetsResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            ListOffsetsTopicResponse(
                name=entry.name,
                partitions=tuple(_found_offset(node, entry.name, part) for part in entry.partitions),
            )
            for entry in request.topics
        ),
    )


def _found_offset(node: Node, topic: str, part: ListOffsetsPartition) -> ListOffsetsPartitionResponse:
    log = node.topics.log(topic, part.partition_index)
    if log is None:
        return ListOffsetsPartitionResponse(
            partition_index=part.partition_index, error_code=ErrorCode.unknown_topic_or_partition
        )
    try:
        found = _find(log, part.timestamp)
    except CorruptBatchError:
        return ListOffsetsPartitionResponse(partition_index=part.partition_index, error_code=ErrorCode.corrupt_message)
    if found is None:
        return ListOffsetsPartitionResponse(
            partition_index=part.partition_index, error_code=ErrorCode.unsupported_version
        )
    return ListOffsetsPartitionResponse(
        partition_index=part.partition_index,
        error_code=ErrorCode.none,
        timestamp=i64(found.timestamp_ms),
        offset=i64(found.offset),
        leader_epoch=i32(LEADER_EPOCH),
    )


def _find(log: PartitionLog, timestamp: int) -> FoundOffset | None:
    if timestamp == _LATEST:
        return FoundOffset(log.end_offset, _NO_TIMESTAMP)
    if timestamp == _EARLIEST:
        return FoundOffset(log.start_offset, _NO_TIMESTAMP)
    if timestamp == _MAX_TIMESTAMP:
        return log.latest_timestamp()
    return log.first_at_or_after(timestamp) if timestamp >= 0 else None


async def delete_records(node: Node, request: DeleteRecordsRequest, _caller: Caller) -> DeleteRecordsResponse:
    """Moves the start of logs forward; -1 means to the end."""
    return DeleteRecordsResponse(
        throttle_time=NOT_THROTTLED,
        topics=tuple(
            DeleteRecordsTopicResult(
                name=entry.name, partitions=tuple(_cut(node, entry.name, part) for part in entry.partitions)
            )
            for entry in request.topics
        ),
    )


def _cut(node: Node, topic: str, part: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
    found, log = node.topics.find(topic), node.topics.log(topic, part.partition_index)
    low_watermark, code = -1, ErrorCode.none
    if found is None or log is None:
        code = ErrorCode.unknown_topic_or_partition
    elif not found.config.deletes:
        code = ErrorCode.policy_violation  # as Kafka: a compacted-only topic's records are not deleted by offset
    else:
        try:
            log.cut_before(log.end_offset if part.offset == _TO_THE_END else part.offset)
            low_watermark = log.start_offset
        except OffsetOutOfRangeError:
            code = ErrorCode.offset_out_of_range
    return DeleteRecordsPartitionResult(
        partition_index=part.partition_index, low_watermark=i64(low_watermark), error_code=code
    )


async def init_producer_id(node: Node, request: InitProducerIdRequest, _caller: Caller) -> InitProducerIdResponse:
    """A producer id for idempotence, or the next epoch of one; none for a transactional id."""
    if request.transactional_id is not None:
        # All clients take this code as final. Others, such as "coordinator not available", they retry for ever.
        return _no_producer_id(ErrorCode.transactional_id_authorization_failed)
    if request.producer_id != NO_PRODUCER_ID and request.producer_epoch < _HIGHEST_EPOCH:
        return InitProducerIdResponse(
            throttle_time=NOT_THROTTLED,
            error_code=ErrorCode.none,
            producer_id=request.producer_id,
            producer_epoch=i16(request.producer_epoch + 1),
        )
    producer_id, node.next_producer_id = node.next_producer_id, node.next_producer_id + 1
    return InitProducerIdResponse(
        throttle_time=NOT_THROTTLED,
        error_code=ErrorCode.none,
        producer_id=ProducerId(producer_id),
        producer_epoch=i16(0),
    )


def _no_producer_id(code: ErrorCode) -> InitProducerIdResponse:
    return InitProducerIdResponse(throttle_time=NOT_THROTTLED, error_code=code, producer_epoch=i16(-1))
