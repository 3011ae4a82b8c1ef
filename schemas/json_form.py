"""Records from the JSON of a structured event: every value is held to its Avro type before it becomes one of ours.

Called by `schemas.messages` for `application/cloudevents+json`. JSON knows less than Avro, so this is where `true` is
not an amount, 1.0 is not an integer, and a field nobody knows is a mistake and not noise. Byte fields are base64, as
the JSON format of CloudEvents has it for binary data. Errors name the path, never the value.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias, TypeVar, cast

from schemas.decode_errors import DecodeError
from schemas.record_shapes import RECORD_CLASSES, FieldShape, Scalar, fields_of
from schemas.vocabulary import DeadLetterReason

MAX_ITEMS = 1_000  # of one list; the longest that is ours holds an order's 500 operations
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1

_Read: TypeAlias = Callable[[object, str], object]
T = TypeVar("T")


def _invalid(path: str, problem: str) -> DecodeError:
    return DecodeError(DeadLetterReason.INVALID, f"{path} {problem}")


def _read_string(value: object, path: str) -> object:
    if not isinstance(value, str):
        raise _invalid(path, "is not a string")
    try:
        value.encode()  # JSON can spell lone surrogates, which no UTF-8 has
    except UnicodeEncodeError:
        raise _invalid(path, "is not Unicode text") from None
    return value


def _read_long(value: object, path: str) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not MIN_LONG <= value <= MAX_LONG:
        raise _invalid(path, "is not an integer of 64 bits")
    return value


def _read_boolean(value: object, path: str) -> object:
    if not isinstance(value, bool):
        raise _invalid(path, "is not true or false")
    return value


def _read_bytes(value: object, path: str) -> object:
    try:
        return base64.b64decode(cast("str", _read_string(value, path)), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(path, "is not base64") from None


_SCALARS: Mapping[Scalar, _Read] = {
    "string": _read_string,
    "long": _read_long,
    "boolean": _read_boolean,
    "bytes": _read_bytes,
}


def _symbol_reader(symbols: type[StrEnum]) -> _Read:
    members = {member.value: member for member in symbols}

    def read(value: object, path: str) -> object:
        if not isinstance(value, str) or value not in members:
            raise _invalid(path, f"is not a {symbols.__name__}")
        return members[value]

    return read


def _item_reader(shape: FieldShape) -> _Read:
    if shape.nested is not None:
        return _record_reader(shape.nested)
    if shape.symbols is not None:
        return _symbol_reader(shape.symbols)
    return _SCALARS[cast("Scalar", shape.scalar)]


def _field_reader(shape: FieldShape) -> _Read:
    item = _item_reader(shape)

    def read_list(value: object, path: str) -> object:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise _invalid(path, f"is not a list of at most {MAX_ITEMS}")
        return tuple(item(entry, f"{path}[{index}]") for index, entry in enumerate(value))

    def read_nullable(value: object, path: str) -> object:
        return None if value is None else item(value, path)

    if shape.repeated:
        return read_list
    return read_nullable if shape.nullable else item


def _record_reader(cls: type) -> _Read:
    readers = {shape.name: _field_reader(shape) for shape in fields_of(cls)}
    # What the Avro file gives as the field's default: JSON may leave it out.
    defaults = {shape.name: shape.default for shape in fields_of(cls) if shape.may_be_absent}

    def read(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise _invalid(path, "is not an object")
        if not value.keys() <= readers.keys():
            raise _invalid(path, "has a field that nobody knows")
        fields = dict(defaults)
        for name, read_field in readers.items():
            if name in value:
                fields[name] = read_field(value[name], f"{path}.{name}")
            elif name not in defaults:
                raise _invalid(f"{path}.{name}", "is missing")
        return cls(**fields)

    return read


_READERS: Mapping[type, _Read] = {cls: _record_reader(cls) for cls in RECORD_CLASSES}


def read_record(cls: type[T], parsed: object) -> T:
    """Return the record that the parsed JSON stands for. Raises: DecodeError(INVALID) with the first fault's path."""
    return cast("T", _READERS[cls](parsed, "data"))
