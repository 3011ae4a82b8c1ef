"""Records to Avro bytes in Confluent framing, and back: 0x00, four bytes of schema id (big-endian), the Avro body.

Called by `schemas.messages` only. Calls `schemas.avro_binary` for what has the newest schema, which is nearly all there
is, and fastavro for what was written with an older or a foreign one and must be resolved.
Source of the framing: Confluent's wire format.
"""

import io
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, cast

import fastavro
from fastavro.read import SchemaResolutionError

from schemas.avro_binary import reader_of, writer_of
from schemas.decode_errors import DecodeError, SchemaAwaitedError
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, FieldShape, Record, Row, fields_of, name_of
from schemas.schema_ids import SchemaIds, WriterSchema, reader_schema
from schemas.schema_shapes import check_shape
from schemas.vocabulary import DeadLetterReason

MAGIC = 0
FRAME_BYTES = 5
MAX_VALUE_BYTES = 2_097_152  # the longest dead letter; a longer value was never ours

T = TypeVar("T")
_Build: TypeAlias = Callable[[Any], object]
"""From a value as fastavro gives it, whose type is the schema's business, to ours."""

# What fastavro raises for a body that does not fit its schema (found by fuzzing and by reading its source).
_BODY_ERRORS = (EOFError, ValueError, IndexError, OverflowError, MemoryError, SchemaResolutionError)


def _same(value: object) -> object:
    return value


def _item_builder(shape: FieldShape) -> _Build:
    if shape.nested is not None:
        return _record_builder(shape.nested)
    return _same if shape.symbols is None else _symbol_builder(shape.symbols)


def _symbol_builder(symbols: type[StrEnum]) -> _Build:
    return {member.value: member for member in symbols}.__getitem__


def _field_builder(shape: FieldShape) -> _Build:
    item = _item_builder(shape)
    if shape.repeated:
        return lambda values: tuple(item(value) for value in values)
    return lambda value: None if value is None else item(value)


def _record_builder(cls: type) -> _Build:
    builders = tuple((shape.name, _field_builder(shape)) for shape in fields_of(cls))
    return lambda fields: cls(**{name: build(fields[name]) for name, build in builders})


_NAMES: Mapping[type, str] = {cls: name_of(cls) for cls in (*RECORD_CLASSES, *ROW_CLASSES)}
_BUILDERS: Mapping[type, _Build] = {cls: _record_builder(cls) for cls in _NAMES}
_WRITERS: Mapping[type, Callable[[bytearray, Any], None]] = {cls: writer_of(cls) for cls in _NAMES}
_READERS: Mapping[type, Callable[[bytes, int], tuple[object, int]]] = {cls: reader_of(cls) for cls in _NAMES}


class AvroCodec:
    """Records to framed Avro and back, under one table of schema ids."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Raises: SchemaMismatchError when a record class and its newest Avro file are not the same."""
        self._schema_ids = schema_ids
        for cls, name in _NAMES.items():
            check_shape(cls, reader_schema(name))
        self._frames = {
            cls: bytes([MAGIC]) + schema_ids.own_id(name).to_bytes(FRAME_BYTES - 1, "big")
            for cls, name in _NAMES.items()
        }

    def encode(self, record: Record | Row) -> bytes:
        """Return the framed bytes of the record under the newest schema of its class.

        Raises: TypeError, AttributeError, KeyError, ValueError or OverflowError for values that are not of their
        declared types: a defect.
        """
        cls = type(record)
        out = bytearray(self._frames[cls])
        _WRITERS[cls](out, record)
        return bytes(out)

    def decode(self, cls: type[T], value: bytes) -> T:
        """Return the record, resolved from the schema it was written with to the newest one.

        Raises: DecodeError, and nothing else, whatever the bytes are. A SchemaAwaitedError says that it may be read in
        a moment.
        """
        if len(value) > MAX_VALUE_BYTES:
            raise DecodeError(DeadLetterReason.TOO_LARGE, f"the value has more than {MAX_VALUE_BYTES} bytes")
        if len(value) < FRAME_BYTES or value[0] != MAGIC:
            raise DecodeError(DeadLetterReason.UNDECODABLE, "the value does not begin with 0x00 and a schema id")
        schema_id = int.from_bytes(value[1:FRAME_BYTES], "big")
        writer = self._schema_ids.writer(schema_id)
        if writer is None:
            raise self._unknown(schema_id)
        if writer.record != _NAMES[cls]:
            raise DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, f"schema id {schema_id} is not one of {_NAMES[cls]}")
        try:
            record, end = _READERS[cls](value, FRAME_BYTES) if writer.current else _resolved(cls, writer, value)
        except _BODY_ERRORS as error:
            detail = f"the body does not fit its schema ({type(error).__name__})"
            raise DecodeError(DeadLetterReason.UNDECODABLE, detail) from None  # the cause may quote the value
        if end != len(value):
            raise DecodeError(DeadLetterReason.UNDECODABLE, "bytes follow the record")
        return cast("T", record)

    def _unknown(self, schema_id: int) -> DecodeError:
        detail = f"nobody here knows schema id {schema_id}"
        wait = self._schema_ids.ask(schema_id)
        return (
            DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, detail) if wait is None else SchemaAwaitedError(detail, wait)
        )


def _resolved(cls: type, writer: WriterSchema, value: bytes) -> tuple[object, int]:
    stream = io.BytesIO(value)
    stream.seek(FRAME_BYTES)
    fields = fastavro.schemaless_reader(stream, writer.parsed, reader_schema(_NAMES[cls]))
    return _BUILDERS[cls](fields), stream.tell()
