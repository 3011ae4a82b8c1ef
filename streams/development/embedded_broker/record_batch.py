"""Kafka's record batch, format v2: read the header, walk the records, cut a batch down to some of its records.

Called by `partition_log` (append, offset for a time) and `compaction`. The broker stores batches as the bytes the
producer sent; only the base offset is set, which the checksum does not cover. Nothing is re-encoded, so headers,
keys and idempotence fields come out as they went in. Layout: https://kafka.apache.org/documentation/#recordbatch
and #record.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from streams.development.embedded_broker.limits import MAX_INFLATED_BATCH_BYTES

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_OFFSET_AND_LENGTH: Final = struct.Struct(">qi")
_BASE_OFFSET_LENGTH_EPOCH: Final = struct.Struct(">qii")
_AFTER_CRC: Final = struct.Struct(">hiqqqhii")
_MAGIC_AND_CRC: Final = struct.Struct(">bI")
_MAGIC: Final = 2
_CRC_COVERS_FROM: Final = 21
_LENGTH_COVERS_FROM: Final = 12
_MAGIC_AT: Final = 16
_RECORDS_AT: Final = _HEADER.size
_CODEC_MASK: Final = 0x07
_GZIP: Final = 1
_LAST_CODEC: Final = 4
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL_OR_CONTROL: Final = 0x30
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_LEADER_EPOCH: Final = 0
_MAX_VARINT_SHIFT: Final = 63


class CorruptBatchError(Exception):
    """The bytes are no valid record batch (Kafka's CORRUPT_MESSAGE)."""


class UnsupportedBatchError(Exception):
    """A valid batch of a kind that this broker does not take (an old format, a transaction)."""


class UnsupportedCodecError(Exception):
    """A batch that is compressed as nobody could read it here (Kafka's UNSUPPORTED_COMPRESSION_TYPE)."""


class BatchHeader(NamedTuple):
    """The fixed part of a batch. A NamedTuple, not a dataclass: one is made for every batch (0.3 us against 2)."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def codec(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & _CODEC_MASK


class RecordSpan(NamedTuple):
    """Where one record lies inside the (inflated) record section, and what upkeep has to know of it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    is_tombstone: bool
    start: int
    end: int


def split_batches(records: bytes) -> Iterator[tuple[BatchHeader, bytes]]:
    """Each batch of a produce request's record section, checked.

    Raises:
        CorruptBatchError: sizes, counts or the checksum do not hold.
        UnsupportedBatchError: a format before v2, or a transactional or control batch.
        UnsupportedCodecError: a codec that Kafka does not have.
    """
    at, total = 0, len(records)
    if total == 0:
        raise CorruptBatchError("an empty record set")
    while at < total:
        if total - at < _RECORDS_AT:
            raise CorruptBatchError("the record set ends inside a batch header")
        length = _OFFSET_AND_LENGTH.unpack_from(records, at)[1]
        end = at + _LENGTH_COVERS_FROM + length
        if records[at + _MAGIC_AT] != _MAGIC:
            raise UnsupportedBatchError("only record batches of format v2 are taken")
        if length < _RECORDS_AT - _LENGTH_COVERS_FROM or end > total:
            raise CorruptBatchError(f"a batch of {length} bytes does not fit into its record set")
        batch = records if at == 0 and end == total else records[at:end]
        yield _checked_header(batch), batch
        at = end


def _checked_header(batch: bytes) -> BatchHeader:
    header = BatchHeader._make(_HEADER.unpack_from(batch, 0))
    if crc32c(memoryview(batch)[_CRC_COVERS_FROM:]) != header.crc:
        raise CorruptBatchError("checksum mismatch")
    if header.attributes & _TRANSACTIONAL_OR_CONTROL:
        raise UnsupportedBatchError("transactions are not supported by the embedded broker")
    if header.codec > _LAST_CODEC:
        raise UnsupportedCodecError(f"there is no compression codec {header.codec}")
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        raise CorruptBatchError(f"{header.record_count} records but a last offset delta of {header.last_offset_delta}")
    return header


def header_of(batch: bytes) -> BatchHeader:
    """The header of a batch that was checked when it was appended."""
    return BatchHeader._make(_HEADER.unpack_from(batch, 0))


def with_base_offset(batch: bytes, base_offset: int) -> bytes:
    """The same batch at another offset; both fields that change lie before the checksum's range."""
    length = _OFFSET_AND_LENGTH.unpack_from(batch, 0)[1]
    return _BASE_OFFSET_LENGTH_EPOCH.pack(base_offset, length, _LEADER_EPOCH) + batch[_MAGIC_AT:]


def stamped(batch: bytes, header: BatchHeader, now_ms: int) -> tuple[BatchHeader, bytes]:
    """The same batch with the broker's time for all its records (`message.timestamp.type=LogAppendTime`)."""
    header = header._replace(attributes=header.attributes | _LOG_APPEND_TIME, max_timestamp_ms=now_ms)
    covered = _after_crc(header, header.record_count) + batch[_RECORDS_AT:]
    header = header._replace(crc=crc32c(covered))
    return header, batch[:_MAGIC_AT] + _MAGIC_AND_CRC.pack(_MAGIC, header.crc) + covered


def can_read_records(header: BatchHeader) -> bool:
    """Whether `spans` can look inside: uncompressed or gzip.

    Batches of the other codecs are stored and returned as they are. To look inside takes a decompressor that stops at
    a limit, and nobody needs it: compaction alone must know every key, and what is compacted is the engine's own.
    """
    return header.codec in (0, _GZIP)


def record_section(batch: bytes, header: BatchHeader) -> bytes:
    """The batch's records, inflated.

    Raises:
        CorruptBatchError: the section does not inflate, or to more than `MAX_INFLATED_BATCH_BYTES`.
        UnsupportedCodecError: a codec for which `can_read_records` is false.
    """
    section = batch[_RECORDS_AT:]
    if header.codec == 0:
        return section
    if header.codec != _GZIP:
        raise UnsupportedCodecError("the embedded broker compacts what is not compressed, or by gzip")
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        inflated = inflater.decompress(section, MAX_INFLATED_BATCH_BYTES)
    except zlib.error as error:
        raise CorruptBatchError(f"gzip: {error}") from error
    if inflater.unconsumed_tail:
        raise CorruptBatchError("the batch inflates beyond the limit")
    return inflated


def spans(section: bytes, header: BatchHeader) -> list[RecordSpan]:
    """Every record of an inflated record section, with absolute offset and time.

    Raises:
        CorruptBatchError: a length or a varint leads out of the section.
    """
    found: list[RecordSpan] = []
    at = 0
    by_broker = bool(header.attributes & _LOG_APPEND_TIME)
    try:
        # A batch that was compacted has fewer records than offsets, so the count bounds the loop, not the delta.
        for _ in range(header.record_count):
            start = at
            length, at = _varint(section, at)
            end = at + length
            timestamp_delta, at = _varint(section, at + 1)  # one byte of attributes, unused by Kafka
            offset_delta, at = _varint(section, at)
            key_length, at = _varint(section, at)
            key = None if key_length < 0 else section[at : at + key_length]
            value_length, at = _varint(section, at + max(key_length, 0))
            if length < 0 or end > len(section) or at + max(value_length, 0) > end:
                raise CorruptBatchError("a record leads out of its batch")
            found.append(
                RecordSpan(
                    header.base_offset + offset_delta,
                    header.max_timestamp_ms if by_broker else header.base_timestamp_ms + timestamp_delta,
                    key,
                    value_length < 0,
                    start,
                    end,
                )
            )
            at = end
    except IndexError as error:
        raise CorruptBatchError("a record ends outside its batch") from error
    return found


def rebuild(header: BatchHeader, section: bytes, kept: Iterable[RecordSpan]) -> bytes:
    """The batch with only the `kept` records, uncompressed, at the same base offset.

    The last offset delta stays, as Kafka's cleaner leaves it, so that the batch still covers its range of offsets.
    """
    kept_spans = tuple(kept)
    records = b"".join(section[span.start : span.end] for span in kept_spans)
    header = header._replace(attributes=header.attributes & ~_CODEC_MASK)
    covered = _after_crc(header, len(kept_spans)) + records
    length = _CRC_COVERS_FROM - _LENGTH_COVERS_FROM + len(covered)
    prefix = _BASE_OFFSET_LENGTH_EPOCH.pack(header.base_offset, length, _LEADER_EPOCH)
    return prefix + _MAGIC_AND_CRC.pack(_MAGIC, crc32c(covered)) + covered


def _after_crc(header: BatchHeader, record_count: int) -> bytes:
    return _AFTER_CRC.pack(
        header.attributes,
        header.last_offset_delta,
        header.base_timestamp_ms,
        header.max_timestamp_ms,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        record_count,
    )


def _varint(section: bytes, at: int) -> tuple[int, int]:
    """A zig-zag varint and the index after it. IndexError past the end."""
    byte = section[at]
    at += 1
    if byte < 0x80:  # noqa: PLR2004  the continuation bit; nearly every length and delta fits into one byte
        return (byte >> 1) ^ -(byte & 1), at
    value, shift = byte & 0x7F, 7
    while byte & 0x80:
        if shift > _MAX_VARINT_SHIFT:
            raise CorruptBatchError("a varint of more than ten bytes")
        byte = section[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    return (value >> 1) ^ -(value & 1), at
