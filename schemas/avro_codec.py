"""Records to Avro bytes in Confluent framing, and back: 0x00, four bytes of schema id (big-endian), the Avro body.

Called by `schemas.messages` only. Calls `schemas.avro_binary` for what has a packaged schema, which is nearly all there
is, and fastavro for what was written with a foreign one and must be resolved.
Source of the framing: Confluent's wire format.
"""

import io
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, cast

import fastavro
from fastavro.read import SchemaResolutionError

from schemas.avro_binary import reader_of, writer_of
from schemas.decode_errors import DecodeError, OtherReleaseError, SchemaAwaitedError, unknown_to_this_release
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, FieldShape, Record, Row, fields_of, name_of
from schemas.releases import DRAFT_IDS, FIRST_RELEASE, PACKAGED_IDS
from schemas.schema_ids import PackagedSchema, SchemaIds, WriterSchema, parse, versions_of
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


def _item_builder(shape: FieldShape, path: str) -> _Build:
    if shape.nested is not None:
        return _record_builder(shape.nested)
    return _same if shape.symbols is None else _symbol_builder(shape.symbols, path)


def _symbol_builder(symbols: type[StrEnum], path: str) -> _Build:
    members = {member.value: member for member in symbols}

    def build(symbol: str) -> StrEnum:
        member = members.get(symbol)
        if member is None:  # the default of the enumeration, which stands for what its writer alone knows
            raise OtherReleaseError(f"{path} has a symbol that is not known here")
        return member

    return build


def _field_builder(shape: FieldShape, path: str) -> _Build:
    item = _item_builder(shape, path)
    if shape.repeated:
        return lambda values: tuple(item(value) for value in values)
    return lambda value: None if value is None else item(value)


def _record_builder(cls: type) -> _Build:
    shapes = fields_of(cls)
    builders = tuple((shape.name, _field_builder(shape, f"{cls.__name__}.{shape.name}")) for shape in shapes)
    return lambda fields: cls(**{name: build(fields[name]) for name, build in builders})


_NAMES: Mapping[type, str] = {cls: name_of(cls) for cls in (*RECORD_CLASSES, *ROW_CLASSES)}
_BUILDERS: Mapping[type, _Build] = {cls: _record_builder(cls) for cls in _NAMES}
_CLASSES: Mapping[str, type] = {name: cls for cls, name in _NAMES.items()}
_Write: TypeAlias = Callable[[Any], bytes]
_Read: TypeAlias = Callable[[bytes, int], tuple[object, int]]
_WRITERS: Mapping[type, _Write] = {cls: writer_of(cls) for cls in _NAMES}
_READERS: Mapping[type, _Read] = {cls: reader_of(cls) for cls in _NAMES}


class AvroCodec:
    """Records to framed Avro and back, under one table of schema ids."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Write as this very release (`write_as` says otherwise).

        Raises: SchemaMismatchError when a record class and its newest Avro file are not the same.
        """
        self._schema_ids = schema_ids
        newest = versions_of(schema_ids.release, schema_ids.schemas)
        self._parsed = {name: parse(newest[name].text) for name in _CLASSES}
        for cls, name in _NAMES.items():
            check_shape(cls, self._parsed[name])
        self._newest = newest
        self._earlier_readers: Mapping[tuple[str, int], _Read] = {
            (schema.record, schema.version): reader_of(_CLASSES[schema.record], parse(schema.text))
            for schema in schema_ids.schemas
            if schema.version < newest[schema.record].version
        }
        self._frames: Mapping[type, bytes] = {}
        self._writers: Mapping[type, _Write] = {}
        self.write_as(schema_ids.release)

    def write_as(self, release: int) -> None:
        """Write from now on what this release wrote. Twice is safe. Raises: ValueError: it is none that is known."""
        if not FIRST_RELEASE <= release <= self._schema_ids.release:
            raise ValueError(f"release {release} is not one from {FIRST_RELEASE} to {self._schema_ids.release}")
        written = versions_of(release, self._schema_ids.schemas)
        self._frames = {_CLASSES[name]: self._frame_of(schema) for name, schema in written.items()}
        self._writers = {_CLASSES[name]: self._writer_of(schema) for name, schema in written.items()}

    def _frame_of(self, schema: PackagedSchema) -> bytes:
        return bytes([MAGIC]) + self._schema_ids.id_of(schema).to_bytes(FRAME_BYTES - 1, "big")

    def _writer_of(self, schema: PackagedSchema) -> _Write:
        cls = _CLASSES[schema.record]
        return _WRITERS[cls] if schema == self._newest[schema.record] else writer_of(cls, parse(schema.text))

    def encode(self, record: Record | Row) -> bytes:
        """Return the framed bytes of the record, as the release that is written has them.

        Raises: NotYetWritableError for what that release has no word for, and TypeError, AttributeError, KeyError,
        ValueError or OverflowError for values that are not of their declared types: defects.
        """
        cls = type(record)
        return self._frames[cls] + self._writers[cls](record)

    def decode(self, cls: type[T], value: bytes, *, ours: bool = False) -> T:
        """Return the record, resolved from the schema it was written with to the newest one.

        Args:
            cls: of the record.
            value: its bytes.
            ours: the engine alone writes there. What it writes with a schema that is not packaged here is of a later
                release, and is not read even where it can be: what that has added would be lost.

        Raises: DecodeError, and nothing else, whatever the bytes are. A SchemaAwaitedError says that it may be read in
        a moment; an OtherReleaseError, that a later release can read it.
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
            if writer.current:
                record, end = _READERS[cls](value, FRAME_BYTES)
            else:
                record, end = self._read_earlier(cls, writer, value, ours=ours)
        except _BODY_ERRORS as error:
            detail = f"the body does not fit its schema ({type(error).__name__})"
            raise DecodeError(DeadLetterReason.UNDECODABLE, detail) from None  # the cause may quote the value
        if end != len(value):
            raise DecodeError(DeadLetterReason.UNDECODABLE, "bytes follow the record")
        return cast("T", record)

    def _read_earlier(self, cls: type, writer: WriterSchema, value: bytes, *, ours: bool) -> tuple[object, int]:
        if writer.version is not None:
            read = self._earlier_readers.get((writer.record, writer.version))
            if read is not None:
                return read(value, FRAME_BYTES)
        elif ours:
            raise OtherReleaseError(f"its {cls.__name__} has a schema that no release has that is known here")
        stream = io.BytesIO(value)
        stream.seek(FRAME_BYTES)
        fields = fastavro.schemaless_reader(stream, writer.parsed, self._parsed[_NAMES[cls]])
        return _BUILDERS[cls](fields), stream.tell()

    def _unknown(self, schema_id: int) -> DecodeError:
        detail = f"nobody here knows schema id {schema_id}"
        wait = self._schema_ids.ask(schema_id)
        if wait is not None:
            return SchemaAwaitedError(detail, wait)
        if schema_id in PACKAGED_IDS or schema_id in DRAFT_IDS:
            return unknown_to_this_release(schema_id)
        return DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, detail)
