"""Records to Avro bytes in Confluent framing, and back: 0x00, four bytes of schema id (big-endian), the Avro body.

Called by `schemas.messages` only. Calls fastavro, which speaks Avro, and `schemas.record_shapes`, which tells how a
record class is built. The steps of each class are put together once, at import; per message there is no reflection.
Source of the framing: Confluent's wire format; of the body: Avro 1.12, binary encoding.
"""

import io
import operator
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, cast

import fastavro
from fastavro.read import SchemaResolutionError

from schemas.decode_errors import DecodeError
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, FieldShape, Record, Row, fields_of, name_of
from schemas.schema_ids import SchemaIds, reader_schema
from schemas.vocabulary import DeadLetterReason

MAGIC = 0
FRAME_BYTES = 5
MAX_VALUE_BYTES = 1_048_576  # what Kafka takes by default; a longer value was never ours

AvroDict: TypeAlias = dict[str, Any]
"""A record as fastavro takes and gives it: values are what the schema says, which the type checker cannot know."""
_Convert: TypeAlias = Callable[[Any], Any]
T = TypeVar("T")

NAMESPACE = "payments"
# What fastavro raises for a body that does not fit its schema (found by fuzzing and by reading its source).
_BODY_ERRORS = (EOFError, ValueError, IndexError, OverflowError, MemoryError, SchemaResolutionError)


def _identity(value: object) -> object:
    return value


def _to_avro_item(shape: FieldShape) -> _Convert:
    # A StrEnum is a str: fastavro takes it as it is.
    return _identity if shape.nested is None else _dict_maker(shape.nested)


def _from_avro_item(shape: FieldShape) -> _Convert:
    if shape.symbols is not None:
        return _symbol_reader(shape.symbols)
    return _identity if shape.nested is None else _record_maker(shape.nested)


def _symbol_reader(symbols: type[StrEnum]) -> Callable[[str], StrEnum]:
    # A dict is four times as fast as calling the enumeration.
    return {member.value: member for member in symbols}.__getitem__


def _to_avro_field(shape: FieldShape) -> _Convert:
    item = _to_avro_item(shape)
    if item is _identity or not (shape.repeated or shape.nullable):
        return item
    if shape.repeated:
        return lambda values: [item(value) for value in values]
    # Naming the branch spares fastavro from validating the nested record against each branch of the union.
    branch = f"{NAMESPACE}.{cast('type', shape.nested).__name__}"
    return lambda value: None if value is None else (branch, item(value))


def _from_avro_field(shape: FieldShape) -> _Convert:
    item = _from_avro_item(shape)
    if shape.repeated:
        return tuple if item is _identity else lambda values: tuple([item(value) for value in values])
    if shape.nullable and item is not _identity:
        return lambda value: None if value is None else item(value)
    return item


def _dict_maker(cls: type) -> Callable[[object], AvroDict]:
    shapes = fields_of(cls)
    names = tuple(shape.name for shape in shapes)
    values_of: Callable[[object], tuple[object, ...]] = operator.attrgetter(
        *names
    )  # a tuple: each has two fields or more
    steps = tuple((shape.name, step) for shape in shapes if (step := _to_avro_field(shape)) is not _identity)

    def to_dict(record: object) -> AvroDict:
        fields = dict(zip(names, values_of(record), strict=True))
        for name, step in steps:
            fields[name] = step(fields[name])
        return fields

    return to_dict


def _record_maker(cls: type[T]) -> Callable[[AvroDict], T]:
    steps = tuple((shape.name, step) for shape in fields_of(cls) if (step := _from_avro_field(shape)) is not _identity)

    def from_dict(fields: AvroDict) -> T:
        for name, step in steps:
            fields[name] = step(fields[name])
        return cls(**fields)

    return from_dict


_NAMES: Mapping[type, str] = {cls: name_of(cls) for cls in (*RECORD_CLASSES, *ROW_CLASSES)}
_TO_DICT: Mapping[type, Callable[[object], AvroDict]] = {cls: _dict_maker(cls) for cls in _NAMES}
_FROM_DICT: Mapping[type, Callable[[AvroDict], object]] = {cls: _record_maker(cls) for cls in _NAMES}


def to_avro_dict(record: Record | Row) -> AvroDict:
    """Return the record as fastavro takes it."""
    return _TO_DICT[type(record)](record)


def from_avro_dict(cls: type[T], fields: AvroDict) -> T:
    """Return the record; `fields` is used up. Raises: KeyError, TypeError when they do not fit the newest schema."""
    return cast("T", _FROM_DICT[cls](fields))


class AvroCodec:
    """Records to framed Avro and back, under one table of schema ids."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        self._schema_ids = schema_ids
        self._frames = {
            cls: bytes([MAGIC]) + schema_ids.own_id(name).to_bytes(FRAME_BYTES - 1, "big")
            for cls, name in _NAMES.items()
        }
        self._readers = {cls: reader_schema(name) for cls, name in _NAMES.items()}

    def encode(self, record: Record | Row) -> bytes:
        """Return the framed bytes of the record under the newest schema of its class.

        Raises: TypeError, ValueError or OverflowError for values that are not of their declared types: a defect.
        """
        cls = type(record)
        stream = io.BytesIO()
        stream.write(self._frames[cls])
        fastavro.schemaless_writer(stream, self._readers[cls], _TO_DICT[cls](record))
        return stream.getvalue()

    def decode(self, cls: type[T], value: bytes) -> T:
        """Return the record, resolved from the schema it was written with to the newest one.

        Raises: DecodeError, and nothing else, whatever the bytes are.
        """
        if len(value) > MAX_VALUE_BYTES:
            raise DecodeError(DeadLetterReason.TOO_LARGE, f"the value has more than {MAX_VALUE_BYTES} bytes")
        if len(value) < FRAME_BYTES or value[0] != MAGIC:
            raise DecodeError(DeadLetterReason.UNDECODABLE, "the value does not begin with 0x00 and a schema id")
        schema_id = int.from_bytes(value[1:FRAME_BYTES], "big")
        writer = self._schema_ids.writer(schema_id)
        if writer is None:
            raise DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, f"nobody here knows schema id {schema_id}")
        if writer.record != _NAMES[cls]:
            raise DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, f"schema id {schema_id} is not one of {_NAMES[cls]}")
        stream = io.BytesIO(value)
        stream.seek(FRAME_BYTES)
        try:
            fields = fastavro.schemaless_reader(stream, writer.parsed, None if writer.current else self._readers[cls])
        except _BODY_ERRORS as error:
            detail = f"the body does not fit its schema ({type(error).__name__})"
            raise DecodeError(DeadLetterReason.UNDECODABLE, detail) from None  # the cause may quote the value
        if stream.tell() != len(value):
            raise DecodeError(DeadLetterReason.UNDECODABLE, "bytes follow the record")
        return cast("T", _FROM_DICT[cls](cast("AvroDict", fields)))
