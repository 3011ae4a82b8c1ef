"""Whether two Avro schemas can read each other's records, and whether every version of ours can: `schemas check`.

Called by the command line and by a test. Calls nothing. fastavro resolves schemas but does not check them, so the rules
stand here, few as they are; property tests hold every verdict against fastavro reading what each version wrote.
FULL_TRANSITIVE: each version reads, and is read by, every other version of its record.
Source: Avro 1.12, "Schema Resolution"; Confluent's names of compatibility levels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, TypeAlias

from schemas.schema_ids import AvroSchema, PackagedSchema, parse

MAX_DEPTH: Final = 64
"""Of nested types; ours have four levels."""

_Schema: TypeAlias = Any
"""A schema's inside: a name, a list (union) or an object."""
_Names: TypeAlias = dict[str, AvroSchema]

_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})
# What a reader's primitive type also reads, besides itself. Avro lets a string read bytes too, but not all bytes are
# UTF-8, so some record would not be readable.
_PROMOTED: Final[Mapping[str, frozenset[str]]] = {
    "long": frozenset({"int"}),
    "float": frozenset({"int", "long"}),
    "double": frozenset({"int", "long", "float"}),
    "bytes": frozenset({"string"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Incompatibility:
    """Why one version of a record cannot read another."""

    record: str
    reader_version: int
    writer_version: int
    problem: str  # the path in the schema, and what is wrong there


def check_all(schemas: Iterable[PackagedSchema]) -> tuple[Incompatibility, ...]:
    """Return why the versions of each record are not FULL_TRANSITIVE; nothing means that they are."""
    by_record: dict[str, list[PackagedSchema]] = {}
    for schema in schemas:
        by_record.setdefault(schema.record, []).append(schema)
    return tuple(
        Incompatibility(record=record, reader_version=reader.version, writer_version=writer.version, problem=problem)
        for record, versions in by_record.items()
        for pair in combinations(versions, 2)
        for reader, writer in (pair, pair[::-1])
        for problem in problems(parse(reader.text), parse(writer.text))
    )


def problems(reader: AvroSchema, writer: AvroSchema) -> tuple[str, ...]:
    """Return why the reader's schema cannot read some record of the writer's; nothing means that it reads them all.

    Both are parsed schemas (full names). Raises: ValueError for schemas nested deeper than MAX_DEPTH.
    """
    check = _Check(_names_of(reader), _names_of(writer))
    return tuple(check.compare(reader, writer, "$", 0))


def _names_of(schema: _Schema) -> _Names:
    found: _Names = {}
    waiting: list[_Schema] = [schema]
    while waiting:  # ends: a schema is a tree, and a name in it is a string
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if node["type"] in _NAMED:
                found[node["name"]] = node
            waiting += [field["type"] for field in node.get("fields", ())]
            waiting += [node[part] for part in ("items", "values", "type") if not isinstance(node.get(part, ""), str)]
    return found


class _Check:
    """One comparison of two schemas: their names, and the pairs of records that are being compared already."""

    def __init__(self, reader_names: _Names, writer_names: _Names) -> None:
        self._reader_names = reader_names
        self._writer_names = writer_names
        self._open: set[tuple[str, str]] = set()

    def compare(self, reader: _Schema, writer: _Schema, path: str, depth: int) -> Sequence[str]:
        """Return why this reader's type cannot read some value of this writer's, each with its path; none: it can."""
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        reader = _written_out(reader, self._reader_names)
        writer = _written_out(writer, self._writer_names)
        if isinstance(writer, list):  # whatever branch was written must be readable
            return [found for branch in writer for found in self.compare(reader, branch, path, depth + 1)]
        if isinstance(reader, list):
            if any(not self.compare(branch, writer, path, depth + 1) for branch in reader):
                return []
            return [f"{path}: no branch of the reader's union reads {_kind(writer)}"]
        return self._compare_kinds(reader, writer, path, depth)

    def _compare_kinds(self, reader: _Schema, writer: _Schema, path: str, depth: int) -> Sequence[str]:
        read, written = _kind(reader), _kind(writer)
        if read != written:
            return [] if written in _PROMOTED.get(read, ()) else [f"{path}: {written} cannot be read as {read}"]
        if read in _NAMED:
            return self._compare_named(reader, writer, path, depth)
        if read in {"array", "map"}:
            part = "items" if read == "array" else "values"
            return self.compare(reader[part], writer[part], f"{path}[]", depth + 1)
        return []

    def _compare_named(self, reader: AvroSchema, writer: AvroSchema, path: str, depth: int) -> Sequence[str]:
        if not _same_name(reader, writer):
            return [f"{path}: another name"]
        if reader["type"] == "enum":
            return _compare_symbols(reader, writer, path)
        if reader["type"] == "fixed":
            return [] if reader["size"] == writer["size"] else [f"{path}: another size"]
        return self._compare_records(reader, writer, path, depth)

    def _compare_records(self, reader: AvroSchema, writer: AvroSchema, path: str, depth: int) -> Sequence[str]:
        pair = (reader["name"], writer["name"])
        if pair in self._open:
            return []  # a type inside itself: it is being compared already
        self._open.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        found: list[str] = []
        for field in reader["fields"]:
            names = [field["name"], *field.get("aliases", ())]
            match = next((written[name] for name in names if name in written), None)
            below = f"{path}.{field['name']}"
            if match is not None:
                found += self.compare(field["type"], match["type"], below, depth + 1)
            elif "default" not in field:
                found.append(f"{below}: the writer has no such field, and there is no default")
        self._open.discard(pair)
        return found


def _written_out(schema: _Schema, names: _Names) -> _Schema:
    return names.get(schema, schema) if isinstance(schema, str) else schema


def _kind(schema: _Schema) -> str:
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _same_name(reader: AvroSchema, writer: AvroSchema) -> bool:
    names = [reader["name"], *reader.get("aliases", ())]
    return _unqualified(writer["name"]) in {_unqualified(name) for name in names}


def _unqualified(name: str) -> str:
    return name.rpartition(".")[2]


def _compare_symbols(reader: AvroSchema, writer: AvroSchema, path: str) -> Sequence[str]:
    unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if not unknown or reader.get("default") in reader["symbols"]:
        return []
    return [f"{path}: the reader does not know {', '.join(unknown)}, and has no default"]
