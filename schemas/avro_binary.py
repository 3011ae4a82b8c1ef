"""Avro's binary encoding for the record classes themselves: no dict in between, the steps put together once, at import.

Called by `schemas.avro_codec` for everything that is written, and for what was written with the newest schema. Calls
nothing. Why not fastavro here: it takes and gives dicts and validates the branches of each union, which costs several
times as much for an order row, the record that is written most. fastavro resolves older schemas, and is the judge of
this module: property tests hold their bytes equal. This one is stricter where fastavro guesses (negative lengths and
indexes, booleans other than 0 and 1, integers beyond 64 bits).
Source: Avro 1.12, binary encoding.
"""

import operator
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar, cast

from schemas.record_shapes import FieldShape, Scalar, fields_of

T = TypeVar("T")
# The steps of a record are as untyped as the record's fields are different; `writer_of` and `reader_of` are typed.
_Write: TypeAlias = Callable[[bytearray, Any], None]
_Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]

MIN_LONG: Final = -(2**63)
MAX_LONG: Final = 2**63 - 1
_ONE_BYTE: Final = 64  # zigzag doubles: what is below this takes one byte
_MORE: Final = 0x80
_LAST_SHIFT: Final = 63  # ten bytes hold 64 bits
_NULL, _VALUE = 0, 2  # zigzag of the branches of ["null", X]


def _write_long(out: bytearray, value: int) -> None:
    if 0 <= value < _ONE_BYTE:
        out.append(value << 1)
        return
    if not MIN_LONG <= value <= MAX_LONG:
        raise OverflowError("an Avro long has 64 bits")
    rest = (value << 1) ^ (value >> 63)
    while rest >= _MORE:  # at most nine times
        out.append((rest & 0x7F) | _MORE)
        rest >>= 7
    out.append(rest)


def _write_string(out: bytearray, value: str) -> None:
    raw = value.encode()
    size = len(raw)
    if size < _ONE_BYTE:
        out.append(size << 1)
    else:
        _write_long(out, size)
    out += raw


def _write_bytes(out: bytearray, value: bytes) -> None:
    _write_long(out, len(value))
    out += value


def _write_boolean(out: bytearray, value: bool) -> None:
    out.append(1 if value else 0)


def _read_long(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    at += 1
    if byte < _MORE:
        return (byte >> 1) ^ -(byte & 1), at
    number, shift = byte & 0x7F, 7
    while shift <= _LAST_SHIFT:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < _MORE:
            if number >> 64:
                break
            return (number >> 1) ^ -(number & 1), at
        shift += 7
    raise ValueError("an Avro long has 64 bits")


def _read_bytes(raw: bytes, at: int) -> tuple[bytes, int]:
    size, at = _read_long(raw, at)
    end = at + size
    if size < 0 or end > len(raw):
        raise ValueError("a length points outside the record")
    return raw[at:end], end


def _read_string(raw: bytes, at: int) -> tuple[str, int]:
    size = raw[at]
    if size < _MORE and not size & 1:  # as nearly always: up to 63 bytes
        end = at + 1 + (size >> 1)
        if end <= len(raw):
            return raw[at + 1 : end].decode(), end
    found, end = _read_bytes(raw, at)
    return found.decode(), end


def _read_boolean(raw: bytes, at: int) -> tuple[bool, int]:
    byte = raw[at]
    if byte > 1:
        raise ValueError("an Avro boolean is 0 or 1")
    return byte == 1, at + 1


_WRITE_SCALARS: Mapping[Scalar, _Write] = {
    "string": _write_string,
    "long": _write_long,
    "boolean": _write_boolean,
    "bytes": _write_bytes,
}
_READ_SCALARS: Mapping[Scalar, _Read] = {
    "string": _read_string,
    "long": _read_long,
    "boolean": _read_boolean,
    "bytes": _read_bytes,
}


def _symbol_writer(symbols: type[StrEnum]) -> _Write:
    encoded: dict[str, bytes] = {}
    for index, member in enumerate(symbols):
        out = bytearray()
        _write_long(out, index)
        encoded[member.value] = bytes(out)

    def write(out: bytearray, value: StrEnum) -> None:
        out += encoded[value]

    return write


def _symbol_reader(symbols: type[StrEnum]) -> _Read:
    members = tuple(symbols)

    def read(raw: bytes, at: int) -> tuple[StrEnum, int]:
        index, at = _read_long(raw, at)
        if index < 0:
            raise ValueError("an index is negative")
        return members[index], at

    return read


def _item_writer(shape: FieldShape) -> _Write:
    if shape.nested is not None:
        return writer_of(shape.nested)
    if shape.symbols is not None:
        return _symbol_writer(shape.symbols)
    return _WRITE_SCALARS[cast("Scalar", shape.scalar)]


def _item_reader(shape: FieldShape) -> _Read:
    if shape.nested is not None:
        return reader_of(shape.nested)
    if shape.symbols is not None:
        return _symbol_reader(shape.symbols)
    return _READ_SCALARS[cast("Scalar", shape.scalar)]


def _field_writer(shape: FieldShape) -> _Write:
    item = _item_writer(shape)

    def write_list(out: bytearray, values: tuple[object, ...]) -> None:
        if values:
            _write_long(out, len(values))
            for value in values:
                item(out, value)
        out.append(0)

    def write_nullable(out: bytearray, value: object) -> None:
        if value is None:
            out.append(_NULL)
        else:
            out.append(_VALUE)
            item(out, value)

    if shape.repeated:
        return write_list
    return write_nullable if shape.nullable else item


def _field_reader(shape: FieldShape) -> _Read:
    item = _item_reader(shape)

    def read_list(raw: bytes, at: int) -> tuple[tuple[object, ...], int]:
        values: list[object] = []
        while count := (block := _read_long(raw, at))[0]:  # each item takes a byte or more, so the bytes are the limit
            at = block[1]
            if count < 0:  # the writer then also says how long the block is, for who would skip it
                count, at = -count, _read_long(raw, at)[1]
            if count > len(raw) - at:
                raise ValueError("a list is longer than the record")
            for _ in range(count):
                value, at = item(raw, at)
                values.append(value)
        return tuple(values), block[1]

    def read_nullable(raw: bytes, at: int) -> tuple[object, int]:
        branch = raw[at]
        if branch == _NULL:
            return None, at + 1
        if branch != _VALUE:
            raise ValueError("no such branch")
        return item(raw, at + 1)

    if shape.repeated:
        return read_list
    return read_nullable if shape.nullable else item


def writer_of(cls: type[T]) -> Callable[[bytearray, T], None]:
    """Return what appends a record's Avro encoding to a buffer.

    The returned function raises TypeError, AttributeError, KeyError, ValueError or OverflowError for a record whose
    values are not of its declared types.
    """
    shapes = fields_of(cls)
    values_of: Callable[[T], tuple[object, ...]] = operator.attrgetter(*(shape.name for shape in shapes))
    writers = tuple(_field_writer(shape) for shape in shapes)

    def write(out: bytearray, record: T) -> None:
        for write_field, value in zip(writers, values_of(record), strict=True):
            write_field(out, value)

    return write


def reader_of(cls: type[T]) -> Callable[[bytes, int], tuple[T, int]]:
    """Return what reads a record at a position and tells the position behind it.

    The returned function raises IndexError or ValueError, and nothing else, for bytes that hold no such record.
    """
    readers = tuple((shape.name, _field_reader(shape)) for shape in fields_of(cls))

    def read(raw: bytes, at: int) -> tuple[T, int]:
        fields: dict[str, object] = {}
        for name, read_field in readers:
            fields[name], at = read_field(raw, at)
        return cls(**fields), at

    return read
