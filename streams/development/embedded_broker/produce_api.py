"""Produce: check the batches, make room, append, wake the readers.

Called by `router` for every ProduceRequest.
"""

from datetime import UTC, datetime
from typing import Final, cast

from kio.schema.errors import ErrorCode
from kio.schema.produce.v8.request import ProduceRequest
from kio.schema.produce.v8.response import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from kio.static.primitive import TZAware, i32, i64

from streams.development.embedded_broker.node import Caller, Node
from streams.development.embedded_broker.partition_log import NO_OFFSET, PartitionLog
from streams.development.embedded_broker.producer_state import OutOfOrderSequenceError, StaleProducerEpochError
from streams.development.embedded_broker.record_batch import (
    BatchHeader,
    CorruptBatchError,
    UnsupportedBatchError,
    UnsupportedCodecError,
    record_section,
    spans,
    split_batches,
    stamped,
)
from streams.development.embedded_broker.topic_store import MemoryFullError, Topic, is_dirty

_VALID_ACKS: Final = (-1, 0, 1)
_NO_ANSWER_WANTED: Final = 0
_MS_PER_S: Final = 1000
_US_PER_MS: Final = 1000


class _RefusedError(Exception):
    """A batch that is not stored, with Kafka's code for it."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


async def produce(node: Node, request: ProduceRequest, _caller: Caller) -> ProduceResponse | None:
    """Appends all batches; None when the producer wants no answer (acks=0)."""
    acks_are_valid = request.acks in _VALID_ACKS
    responses = tuple(
        TopicProduceResponse(
            name=entry.name,
            partition_responses=tuple(
                _append(node, entry.name, part.index, part.records or b"")
                if acks_are_valid
                else _refusal(part.index, ErrorCode.invalid_required_acks, "acks must be -1, 0 or 1")
                for part in entry.partition_data
            ),
        )
        for entry in request.topic_data
    )
    return None if request.acks == _NO_ANSWER_WANTED else ProduceResponse(responses=responses)


def refused(request: ProduceRequest, code: ErrorCode) -> ProduceResponse:
    """The answer that refuses every partition, for the fault switches."""
    return ProduceResponse(
        responses=tuple(
            TopicProduceResponse(
                name=entry.name,
                partition_responses=tuple(
                    _refusal(part.index, code, "a fault on request") for part in entry.partition_data
                ),
            )
            for entry in request.topic_data
        )
    )


def _refusal(partition: int, code: ErrorCode, message: str | None) -> PartitionProduceResponse:
    return PartitionProduceResponse(
        index=i32(partition), error_code=code, base_offset=i64(NO_OFFSET), record_errors=(), error_message=message
    )


def _append(node: Node, name: str, partition: int, records: bytes) -> PartitionProduceResponse:
    topic, log = node.topics.find(name), node.topics.log(name, partition)
    if topic is None or log is None:
        return _refusal(partition, ErrorCode.unknown_topic_or_partition, None)
    now_ms = node.now_ms()  # read once: what is acknowledged is the time that the records bear
    try:
        base_offset = _append_batches(node, topic, log, records, now_ms)
    except _RefusedError as refusal:
        return _refusal(partition, refusal.code, str(refusal))
    log.wake_waiters()
    if topic.config.compacts and is_dirty(topic, log):
        node.upkeep_is_due.set()
    return PartitionProduceResponse(
        index=i32(partition),
        error_code=ErrorCode.none,
        base_offset=i64(base_offset),
        log_append_time=_moment(now_ms) if topic.config.stamps else None,  # None: the producer's own time was kept
        log_start_offset=i64(log.start_offset),
        record_errors=(),
    )


def _moment(time_ms: int) -> TZAware:
    seconds, milliseconds = divmod(time_ms, _MS_PER_S)
    moment = datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=milliseconds * _US_PER_MS)
    return cast("TZAware", moment)  # kio's type refuses milliseconds, its writer keeps them


def _append_batches(node: Node, topic: Topic, log: PartitionLog, records: bytes, now_ms: int) -> int:
    """Appends all batches of one partition and returns the first offset.

    Clients send one batch a partition (format v2 demands it); should one send more, those before a refused one stay.
    """
    first_offset = NO_OFFSET
    try:
        for header, batch in split_batches(records):
            _check_for_topic(topic, header, batch)
            node.topics.make_room(topic, log, len(batch), now_ms)
            offset = log.append(*stamped(batch, header, now_ms)) if topic.config.stamps else log.append(header, batch)
            first_offset = offset if first_offset == NO_OFFSET else first_offset
    except CorruptBatchError as error:
        raise _RefusedError(ErrorCode.corrupt_message, str(error)) from error
    except UnsupportedBatchError as error:
        raise _RefusedError(ErrorCode.unsupported_for_message_format, str(error)) from error
    except UnsupportedCodecError as error:
        raise _RefusedError(ErrorCode.unsupported_compression_type, str(error)) from error
    except OutOfOrderSequenceError as error:
        raise _RefusedError(ErrorCode.out_of_order_sequence_number, str(error)) from error
    except StaleProducerEpochError as error:
        raise _RefusedError(ErrorCode.invalid_producer_epoch, str(error)) from error
    except MemoryFullError as error:
        # Not retriable on purpose: a producer that retries for two minutes against a full memory hides the reason.
        raise _RefusedError(ErrorCode.policy_violation, str(error)) from error
    return first_offset


def _check_for_topic(topic: Topic, header: BatchHeader, batch: bytes) -> None:
    if len(batch) > topic.config.max_message_bytes:
        limit = topic.config.max_message_bytes
        raise _RefusedError(ErrorCode.message_too_large, f"{len(batch)} bytes are above max.message.bytes={limit}")
    if not topic.config.compacts:
        return
    # A record without a key cannot be compacted; Kafka refuses it too (LogValidator).
    if any(span.key is None for span in spans(record_section(batch, header), header)):
        raise _RefusedError(ErrorCode.invalid_record, f"{topic.name} is compacted, so every record needs a key")
