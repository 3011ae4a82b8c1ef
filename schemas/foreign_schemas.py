"""Which of our records a stranger's Avro schema writes, and whether what it writes may be read.

Called by `schemas.schema_registry` for every schema that a registry holds and this package does not. Calls
`schemas.compatibility`. Pure. A producer with Confluent's defaults registers a schema of its own, under
`<topic>-value`; it is taken when our newest schema reads all that it writes.

What is refused beside that protects the reader: a type inside itself lets a few bytes nest without end, and items that
take no bytes let a few bytes stand for more of them than anyone can count. Logical types are forgotten, since fastavro
would make dates and decimals of what we take for numbers.
Source: Avro 1.12, "Schema Resolution" and "Logical Types".
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from fastavro.schema import SchemaParseException, to_parsing_canonical_form

from schemas.compatibility import problems
from schemas.schema_ids import AvroSchema, WriterSchema, newest_schemas, packaged_schemas, parse, reader_schema

MAX_SCHEMA_CHARS: Final = 65_536
"""Of one schema's text; our longest has some 10,000."""
MAX_DEPTH: Final = 32
"""Of nested types; ours have four levels."""

_Schema: TypeAlias = Any
"""A schema's inside: a name, a list (union) or an object."""

# What fastavro raises for JSON that is no schema (found by reading its source), and JSON itself.
_PARSE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RecursionError, SchemaParseException)


class UnreadableSchemaError(ValueError):
    """A schema that is not read from, and why."""


def writer_of(text: str) -> WriterSchema:
    """Return how records that were written with this schema are read.

    Raises: UnreadableSchemaError: it is none, it is not one of a record of ours, or it cannot be read from safely.
    """
    if len(text) > MAX_SCHEMA_CHARS:
        raise UnreadableSchemaError(f"longer than {MAX_SCHEMA_CHARS} characters")
    try:
        parsed = _Reading().plain(parse(text), 0)
    except _PARSE_ERRORS as error:
        if isinstance(error, UnreadableSchemaError):
            raise
        raise UnreadableSchemaError(f"not an Avro schema ({type(error).__name__})") from None
    record = _record_of(parsed)
    reader = reader_schema(record)
    found = problems(reader, parsed)
    if found:
        raise UnreadableSchemaError(found[0])
    version = _packaged_version(record, parsed)
    current = version == newest_schemas()[record].version
    return WriterSchema(record=record, parsed=parsed, current=current, version=version)


def _packaged_version(record: str, parsed: AvroSchema) -> int | None:
    """Return the packaged version of the record that the schema is, by its canonical form; None: it is none."""
    form = to_parsing_canonical_form(parsed)
    versions = (schema for schema in reversed(packaged_schemas()) if schema.record == record)
    same = (each.version for each in versions if to_parsing_canonical_form(parse(each.text)) == form)
    return next(same, None)


def _record_of(schema: _Schema) -> str:
    if isinstance(schema, dict) and schema.get("type") == "record":
        short = schema["name"].rpartition(".")[2]
        for record, ours in newest_schemas().items():
            if ours.full_name.rpartition(".")[2] == short:
                return record
    raise UnreadableSchemaError("its name is that of no record of ours")


class _Reading:
    """One walk through a parsed schema: its copy without logical types, and the fewest bytes of each named type."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._fewest: dict[str, int] = {}

    def plain(self, schema: _Schema, depth: int) -> AvroSchema:
        """Return the schema without logical types. Raises: UnreadableSchemaError."""
        return self._plain(schema, depth)[0]  # type: ignore[no-any-return]  # a record's schema is an object

    def _plain(self, schema: _Schema, depth: int) -> tuple[_Schema, int]:
        if depth > MAX_DEPTH:
            raise UnreadableSchemaError(f"nested deeper than {MAX_DEPTH}")
        if isinstance(schema, str):
            return schema, self._fewest_bytes(schema)
        if isinstance(schema, list):
            return [self._plain(branch, depth + 1)[0] for branch in schema], 1  # the branch's index
        kept = {name: part for name, part in schema.items() if name not in {"logicalType", "precision", "scale"}}
        kind = kept["type"]
        if kind in {"record", "error"}:
            return self._record(kept, depth)
        if kind in {"array", "map"}:
            part = "items" if kind == "array" else "values"
            kept[part], fewest = self._plain(kept[part], depth + 1)
            if not fewest and kind == "array":
                raise UnreadableSchemaError("items of an array take no bytes")
            return kept, 1
        if kind in {"enum", "fixed"}:
            self._fewest[kept["name"]] = fewest = 1 if kind == "enum" else int(kept["size"])
            return kept, fewest
        inner, fewest = self._plain(kind, depth + 1)
        return {**kept, "type": inner}, fewest

    def _record(self, kept: dict[str, _Schema], depth: int) -> tuple[_Schema, int]:
        name = kept["name"]
        self._open.add(name)
        fields, fewest = [], 0
        for field in kept["fields"]:
            inner, least = self._plain(field["type"], depth + 1)
            fields.append({**field, "type": inner})
            fewest += least
        self._open.discard(name)
        if not fewest:
            raise UnreadableSchemaError(f"a record takes no bytes: {name}"[:100])
        self._fewest[name] = fewest
        return {**kept, "fields": fields}, fewest

    def _fewest_bytes(self, name: str) -> int:
        if name in self._open:
            raise UnreadableSchemaError("a type inside itself")
        return self._fewest[name] if name in self._fewest else _PRIMITIVES[name]


_PRIMITIVES: Final[Mapping[str, int]] = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}
"""The fewest bytes of a value."""
