"""What the last release needs of the schemas: no change may break its workers, which run beside this release's.

Called by `payment-engine schemas check` and by the tests. Pure but for the snapshot, `schemas/avro/baseline.json`: the
newest version of each record as the last release has it. `schemas.compatibility` proves that every version reads every
other. That is less than what two releases side by side need: a value that resolves to a default is lost, and a symbol
that an old reader takes for another one is a wrong decision about money.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, TypeAlias

from schemas.releases import UNRECOGNISED
from schemas.schema_ids import AvroSchema, PackagedSchema, parse

BASELINE_FILE: Final = "baseline.json"
_ABSENT: Final = object()
_Schema: TypeAlias = Any
"""A schema's inside: a name, a list (union) or an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """What the last release could not live with."""

    record: str
    version: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A record's newest version in the last release."""

    version: int
    parsed: AvroSchema


@functools.cache
def last_release() -> Mapping[str, Kept]:
    """Return what the snapshot holds, by record. Raises: OSError, ValueError for a broken package."""
    text = (files("schemas") / "avro" / BASELINE_FILE).read_text(encoding="utf-8")
    return {name: Kept(version=each["version"], parsed=_parsed(each)) for name, each in json.loads(text).items()}


def _parsed(entry: Mapping[str, Any]) -> AvroSchema:
    return parse(json.dumps(entry["schema"]))


def breaches(schemas: Iterable[PackagedSchema], kept: Mapping[str, Kept]) -> Iterator[Breach]:
    """Yield what of these schemas would break the release whose schemas are `kept`, and enumerations that stop nobody.

    Args:
        schemas: every version that there is now.
        kept: of the last release, by record.
    """
    versions: dict[str, dict[int, PackagedSchema]] = {}
    for schema in schemas:
        versions.setdefault(schema.record, {})[schema.version] = schema
        for problem in _silent_enumerations(parse(schema.text)):
            yield Breach(record=schema.record, version=schema.version, problem=problem)
    for record, before in kept.items():
        yield from _of_record(record, before, versions.get(record, {}))


def _of_record(record: str, before: Kept, versions: Mapping[int, PackagedSchema]) -> Iterator[Breach]:
    same = versions.get(before.version)
    if same is None:
        problem = "the last release writes it, and it is gone"
        yield Breach(record=record, version=before.version, problem=problem)
        return
    edited = _wire_of(parse(same.text)) != _wire_of(before.parsed)
    if edited:
        problem = "the last release has it otherwise: undo the change, and write a new version beside it"
        yield Breach(record=record, version=before.version, problem=problem)
    newest = versions[max(versions)]
    if edited or newest.version != before.version:
        for problem in _Comparison(before.parsed, parse(newest.text)).problems():
            yield Breach(record=record, version=newest.version, problem=problem)


def _wire_of(schema: _Schema) -> _Schema:
    """Return the schema without what is for people."""
    if isinstance(schema, list):
        return [_wire_of(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _wire_of(part) for name, part in schema.items() if name != "doc" and not name.startswith("__")}


def _silent_enumerations(schema: _Schema) -> Iterator[str]:
    for each in _named(schema).values():
        if each["type"] == "enum" and not (each.get("default") == UNRECOGNISED == each["symbols"][0]):
            yield f"{each['name']}: its first symbol and its default must be {UNRECOGNISED}, which stops a reader"


def _named(schema: _Schema) -> dict[str, AvroSchema]:
    found: dict[str, AvroSchema] = {}
    waiting: list[_Schema] = [schema]
    while waiting:  # ends: a schema is a tree
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if "name" in node and node["type"] in {"record", "enum", "fixed"}:
                found[node["name"]] = node
            waiting += [field["type"] for field in node.get("fields", ())]
            waiting += [node[part] for part in ("items", "values") if part in node]
    return found


class _Comparison:
    """What a later version of a schema takes away from an earlier one."""

    def __init__(self, before: AvroSchema, after: AvroSchema) -> None:
        self._before, self._after = before, after
        self._before_names, self._after_names = _named(before), _named(after)

    def problems(self) -> Iterator[str]:
        for name, before in self._before_names.items():
            after = self._after_names.get(name)
            if after is None or after["type"] != before["type"]:
                yield f"{name}: the last release has it, and it is gone"
            elif before["type"] == "enum":
                yield from _of_enumeration(before, after)
            elif before["type"] == "record":
                yield from self._of_fields(before, after)

    def _of_fields(self, before: AvroSchema, after: AvroSchema) -> Iterator[str]:
        now = {field["name"]: field for field in after["fields"]}
        known = {field["name"] for field in before["fields"]}
        for field in before["fields"]:
            path = f"{before['name']}.{field['name']}"
            if field["name"] not in now:
                yield f"{path}: the last release needs this field, and it is gone"
                continue
            later = now[field["name"]]
            if field.get("default", _ABSENT) != later.get("default", _ABSENT):
                yield f"{path}: its default was changed"
            if _shape_of(field["type"]) != _shape_of(later["type"]):
                yield f"{path}: its type was changed"
        for name, field in now.items():
            if name not in known and "default" not in field:
                yield f"{before['name']}.{name}: a field that was added needs a default"


def _shape_of(kind: _Schema) -> _Schema:
    """Return a type with the types inside it by their names alone: these are compared by themselves."""
    if isinstance(kind, list):
        return [_shape_of(branch) for branch in kind]
    if not isinstance(kind, dict):
        return kind
    if "name" in kind:
        return kind["name"]
    return {name: _shape_of(part) for name, part in kind.items() if name in {"type", "items", "values"}}


def _of_enumeration(before: AvroSchema, after: AvroSchema) -> Iterator[str]:
    gone = [symbol for symbol in before["symbols"] if symbol not in after["symbols"]]
    if gone:
        yield f"{before['name']}: the last release has {', '.join(gone)}, and it is gone"
    if before.get("default") != after.get("default"):
        yield f"{before['name']}: its default was changed"
