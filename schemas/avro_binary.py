"""Avro's binary encoding for the record classes themselves: no dict in between, the code put together once, at import.

Called by `schemas.avro_codec` for everything that is written, and for what was written with the newest schema. Calls
nothing. Why not fastavro here: it takes and gives dicts and validates the branches of each union, which costs several
times as much for an order row, the record that is written most. fastavro resolves older schemas, and is the judge of
this module: property tests hold their bytes equal. This one is stricter where fastavro guesses (negative lengths and
indexes, booleans other than 0 and 1, integers beyond 64 bits).

A release writes as the one before it did until its upgrade is finished (`schemas.releases`). So each function can also
be made for an earlier version of a schema. What that lacks has its default when it is read, and must have it when it is
written: a value that the earlier release could not read is refused, and never dropped.

Why code, and not a function a field that calls the next one: an order row has hundreds of values, and the calls cost
more than what was done in them.
Source: Avro 1.12, binary encoding.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

from schemas.decode_errors import OtherReleaseError
from schemas.record_shapes import FieldShape, Scalar, fields_of
from schemas.releases import UNRECOGNISED
from schemas.source_code import compiled, indented

T = TypeVar("T")
# What a record is made of is as untyped as its fields are different; `writer_of` and `reader_of` are typed.
_Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]


class NotYetWritableError(Exception):
    """A record holds what the release as which it is to be written cannot read. A defect: nobody may say it yet."""


MIN_LONG: Final = -(2**63)
MAX_LONG: Final = 2**63 - 1
_MORE: Final = 0x80
_LAST_SHIFT: Final = 63  # ten bytes hold 64 bits
_NULL, _VALUE = 0, 2  # zigzag of the branches of ["null", X]
_NONE: Final = bytes([_NULL])
_SOME: Final = bytes([_VALUE])

_MAX_KNOWN: Final = 4_096
"""Values of which the bytes are remembered, before all are forgotten: those of some hundred payments under way."""

_MAX_KNOWN_CHARS: Final = 256

_RECURRING: Final = frozenset(
    {
        *("origin_id", "order_id", "op_id", "payment_id", "command_id", "request_id", "idempotency_key", "fingerprint"),
        *("active_op_id", "queue", "holder_order_id", "holder_op_id", "opening_op_id", "traceparent", "transition"),
        *("gateway", "gateways", "account", "gateway_reference", "currency", "asked_currency", "confirmed_currency"),
    }
)
"""Texts that stand many times in a payment's rows and messages. Their bytes are remembered for a while; those of others
are not, which may be a token, or tell of a payer."""


class _KnownLongs(dict[int, bytes]):
    """The bytes of each integer: the times of one moment stand many times in a row and its messages."""

    def __missing__(self, value: int) -> bytes:
        if not MIN_LONG <= value <= MAX_LONG:
            raise OverflowError("an Avro long has 64 bits")
        rest = (value << 1) ^ (value >> 63)
        encoded = bytearray()
        while rest >= _MORE:  # at most nine times
            encoded.append((rest & 0x7F) | _MORE)
            rest >>= 7
        encoded.append(rest)
        if len(self) >= _MAX_KNOWN:
            self.clear()
        self[value] = known = bytes(encoded)
        return known


class _KnownTexts(dict[str | None, bytes]):
    """The bytes of each text that recurs; of one that may be absent, with its branch."""

    def __init__(self, *, nullable: bool) -> None:
        super().__init__()
        self._nullable = nullable
        self._forget()

    def _forget(self) -> None:
        self.clear()
        if self._nullable:
            self[None] = _NONE

    def __missing__(self, value: str) -> bytes:
        encoded = _SOME + _text(value) if self._nullable else _text(value)
        if len(value) <= _MAX_KNOWN_CHARS:
            if len(self) >= _MAX_KNOWN:
                self._forget()
            self[value] = encoded
        return encoded


_LONGS: Final = _KnownLongs()
_TEXTS: Final = _KnownTexts(nullable=False)
_TEXTS_OR_NULL: Final = _KnownTexts(nullable=True)


def _long(value: Any) -> bytes:
    return _LONGS[operator.index(value)]  # a float is equal to its integer, and no long


def _text(value: str) -> bytes:
    raw = value.encode()
    return _LONGS[len(raw)] + raw


def _bytes(value: bytes) -> bytes:
    return _LONGS[len(value)] + value


def _boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


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
    found, end = _read_bytes(raw, at)
    return found.decode(), end


def _read_boolean(raw: bytes, at: int) -> tuple[bool, int]:
    byte = raw[at]
    if byte > 1:
        raise ValueError("an Avro boolean is 0 or 1")
    return byte == 1, at + 1


_READ_SCALARS: Mapping[Scalar, _Read] = {
    "string": _read_string,
    "long": _read_long,
    "boolean": _read_boolean,
    "bytes": _read_bytes,
}


class _FewerSymbols(dict[str | None, bytes]):
    """The bytes of each symbol of a field that has fewer of them than its class: a plain one is quicker."""

    field = ""

    def __missing__(self, symbol: str | None) -> bytes:
        raise NotYetWritableError(f"{self.field}: {symbol} is not among its symbols")


def _encoded_symbols(field: "_Written") -> Mapping[str | None, bytes]:
    shape = field.shape
    head = _SOME if shape.nullable and not shape.repeated else b""
    encoded: dict[str | None, bytes] = {symbol: head + _LONGS[index] for index, symbol in enumerate(field.symbols)}
    del encoded[UNRECOGNISED]
    if head:
        encoded[None] = _NONE
    if set(encoded) >= {member.value for member in shape.symbols or ()}:
        return encoded
    fewer = _FewerSymbols(encoded)
    fewer.field = field.path
    return fewer


class _Written(NamedTuple):
    """A field of a class as some version of its schema has it."""

    shape: FieldShape
    path: str
    symbols: Sequence[str]
    nested: "_Schema | None"


class _Schema:
    """A version of a record's schema, with the named types that it holds. None: the version that the class is of."""

    def __init__(self, cls: type, parsed: Any = None, named: dict[str, Any] | None = None) -> None:
        self.cls = cls
        self._named = {} if named is None else named
        if isinstance(parsed, str):
            parsed = self._named[parsed]
        if parsed is not None:
            self._named[parsed["name"]] = parsed
        self._parsed = parsed
        shapes = {shape.name: shape for shape in fields_of(cls)}
        if parsed is None:
            self.fields = [self._written(shape, None) for shape in shapes.values()]
        else:
            self.fields = [self._written(shapes[field["name"]], field["type"]) for field in parsed["fields"]]
        told = {each.shape.name for each in self.fields}
        self.later = [shape for shape in shapes.values() if shape.name not in told]

    def _written(self, shape: FieldShape, kind: Any) -> _Written:
        if isinstance(kind, list):
            kind = kind[1]
        if isinstance(kind, dict) and kind["type"] == "array":
            kind = kind["items"]
        nested = None if shape.nested is None else _Schema(shape.nested, kind, self._named)
        return _Written(shape, f"{self.cls.__name__}.{shape.name}", self._symbols(shape, kind), nested)

    def _symbols(self, shape: FieldShape, kind: Any) -> Sequence[str]:
        if shape.symbols is None:
            return ()
        if kind is None:
            return (UNRECOGNISED, *(member.value for member in shape.symbols))
        if isinstance(kind, str):
            kind = self._named[kind]
        self._named[kind["name"]] = kind
        symbols: Sequence[str] = kind["symbols"]
        return symbols


_WRITERS: Final[Mapping[Scalar, str]] = {"string": "text", "long": "long", "boolean": "boolean", "bytes": "bytes_of"}


def _item_writer(field: _Written, known: dict[str, Any]) -> str:
    """Return the name of the function that gives the bytes of one value of the field; it is in `known` then."""
    name = field.shape.name
    if field.nested is not None:
        known[f"write_{name}"] = _writer(field.nested)
        return f"write_{name}"
    if field.shape.symbols is not None:
        known[f"symbols_{name}"] = _encoded_symbols(field)
        return f"symbols_{name}.__getitem__"
    if field.shape.scalar == "string" and name in _RECURRING:
        return "texts.__getitem__"
    return _WRITERS[cast("Scalar", field.shape.scalar)]


def _write_field(field: _Written, known: dict[str, Any]) -> str:
    """Return the expression of the field's bytes. What nearly every value is, is looked up or written out in place."""
    item, shape, given = _item_writer(field, known), field.shape, f"record.{field.shape.name}"
    if shape.repeated:
        each = f"longs[len(values)] + empty.join(map({item}, values)) + {_NONE!r}"
        return f"({each} if (values := {given}) else {_NONE!r})"
    if shape.symbols is not None:
        return f"symbols_{shape.name}[{given}]"
    if item == "texts.__getitem__":
        return f"texts_or_null[{given}]" if shape.nullable else f"texts[{given}]"
    long = "(longs[value] if {}.__class__ is int else long(value))"
    if shape.nullable:
        value = long.format("value") if shape.scalar == "long" else f"{item}(value)"
        return f"({_NONE!r} if (value := {given}) is None else {_SOME!r} + {value})"
    if shape.scalar == "boolean":
        return f"({_boolean(True)!r} if {given} else {_boolean(False)!r})"
    return long.format(f"(value := {given})") if shape.scalar == "long" else f"{item}({given})"


def _refuse_later(cls: type, shape: FieldShape, known: dict[str, Any]) -> list[str]:
    known[f"default_{shape.name}"] = shape.default
    known["NotYetWritableError"] = NotYetWritableError
    raised = f"    raise NotYetWritableError('{cls.__name__}.{shape.name} has a value, and no place yet')"
    return [f"if record.{shape.name} != default_{shape.name}:", raised]


def _symbol_reader(field: _Written) -> _Read:
    names = {} if field.shape.symbols is None else {member.value: member for member in field.shape.symbols}
    members = tuple(names.get(symbol) for symbol in field.symbols)
    path = field.path

    def read(raw: bytes, at: int) -> tuple[StrEnum, int]:
        index, at = _read_long(raw, at)
        if index <= 0:  # the first one is nobody's
            raise _no_symbol(index, path)
        member = members[index]
        if member is None:
            raise OtherReleaseError(f"{path} has a symbol that is not known here")
        return member, at

    return read


def _no_symbol(index: int, path: str) -> Exception:
    if index < 0:
        return ValueError("an index is negative")
    return OtherReleaseError(f"{path} is {UNRECOGNISED}")


def _item_reader(field: _Written) -> _Read:
    if field.nested is not None:
        return _reader(field.nested)
    if field.shape.symbols is not None:
        return _symbol_reader(field)
    return _READ_SCALARS[cast("Scalar", field.shape.scalar)]


def _list_reader(field: _Written) -> _Read:
    item = _item_reader(field)

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

    return read_list


_READ_CODE: Mapping[Scalar, tuple[str, ...]] = {
    "string": (
        "size = raw[at]",
        f"if size < {_MORE} and not size & 1 and (end := at + 1 + (size >> 1)) <= len(raw):",
        "    {0}, at = raw[at + 1 : end].decode(), end",
        "else:",
        "    {0}, at = read_{0}(raw, at)",
    ),
    "long": (
        "byte = raw[at]",
        f"if byte < {_MORE}:",
        "    {0}, at = (byte >> 1) ^ -(byte & 1), at + 1",
        "else:",
        "    {0}, at = read_{0}(raw, at)",
    ),
}
"""What nearly every value is, without a call; `{0}` is the field. A value that is more is left to the function."""


def _read_field(written: _Written, known: dict[str, Any]) -> list[str]:
    """Return the lines that read the field into a variable of its name; what they call goes to `known`."""
    shape = written.shape
    field = f"field_{shape.name}"
    known[f"read_{field}"] = _list_reader(written) if shape.repeated else _item_reader(written)
    code = None if shape.repeated or shape.scalar is None else _READ_CODE.get(shape.scalar)
    item = [line.format(field) for line in code or ("{0}, at = read_{0}(raw, at)",)]
    if shape.repeated or not shape.nullable:
        return item
    wrong = [f"elif raw[at] != {_VALUE}:", "    raise ValueError('no such branch')"]
    return [
        f"if raw[at] == {_NULL}:",
        f"    {field}, at = None, at + 1",
        *wrong,
        "else:",
        "    at += 1",
        *indented(item),
    ]


def writer_of(cls: type[T], written: Mapping[str, Any] | None = None) -> Callable[[T], bytes]:
    """Return what gives a record's Avro encoding.

    Args:
        cls: its class.
        written: an earlier version of its schema, parsed; None: the one that the class is of.

    The returned function raises TypeError, AttributeError, KeyError, ValueError or OverflowError for a record whose
    values are not of its declared types, and NotYetWritableError for one that an earlier version has no place for.
    """
    return _writer(_Schema(cls, written))


def _writer(schema: _Schema) -> Callable[[Any], bytes]:
    known: dict[str, Any] = {"longs": _LONGS, "texts": _TEXTS, "texts_or_null": _TEXTS_OR_NULL, "empty": b""}
    known |= {"long": _long, "text": _text, "bytes_of": _bytes, "boolean": _boolean}
    refusals = [line for shape in schema.later for line in _refuse_later(schema.cls, shape, known)]
    fields = "".join(f"{_write_field(field, known)}, " for field in schema.fields)
    source = "\n".join(["def write(record):", *indented([*refusals, f"return empty.join(({fields}))"])])
    write: Callable[[Any], bytes] = compiled(source, "write", known)
    return write


def reader_of(cls: type[T], written: Mapping[str, Any] | None = None) -> Callable[[bytes, int], tuple[T, int]]:
    """Return what reads a record at a position and tells the position behind it.

    Args:
        cls: its class.
        written: the earlier version of its schema, parsed, that it was written with; None: the one of the class.

    The returned function raises IndexError or ValueError for bytes that hold no such record, OtherReleaseError for a
    symbol that this release does not know, and nothing else.
    """
    return _reader(_Schema(cls, written))


def _reader(schema: _Schema) -> Callable[[bytes, int], tuple[Any, int]]:
    known: dict[str, Any] = {"cls": schema.cls}
    lines = [line for field in schema.fields for line in _read_field(field, known)]
    known |= {f"default_{shape.name}": shape.default for shape in schema.later}
    given = [f"{each.shape.name}=field_{each.shape.name}" for each in schema.fields]
    given += [f"{shape.name}=default_{shape.name}" for shape in schema.later]
    source = "\n".join(["def read(raw, at):", *indented([*lines, f"return cls({', '.join(given)}), at"])])
    read: Callable[[bytes, int], tuple[Any, int]] = compiled(source, "read", known)
    return read
