"""Every verdict of the compatibility check is held against fastavro reading what the other version wrote."""

import copy
import io
import json
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from fastavro.utils import generate_many
from hypothesis import event, given, settings
from hypothesis import strategies as st

from schemas.compatibility import MAX_DEPTH, Incompatibility, check_all, problems
from schemas.schema_ids import PackagedSchema, newest_schemas, parse

Schema = dict[str, Any]
DATA_PER_PAIR = 30
NEW_FIELD = {"name": "new", "type": "long"}
UNREADABLE = (
    SchemaResolutionError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
)

PRIMITIVES = st.sampled_from(["int", "long", "float", "double", "string", "bytes", "boolean", "null"])
ENUMS = st.builds(
    lambda symbols, default: (
        {"type": "enum", "name": "E", "symbols": sorted(symbols)} | ({"default": min(symbols)} if default else {})
    ),
    st.sets(st.sampled_from("ABCD"), min_size=1),
    st.booleans(),
)
FIXED = st.builds(lambda size: {"type": "fixed", "name": "F", "size": size}, st.integers(1, 3))
LEAVES = PRIMITIVES | ENUMS | FIXED


def _union(branches: list[Any]) -> list[Any]:
    kinds = [branch if isinstance(branch, str) else branch["type"] for branch in branches]
    return [branch for at, branch in enumerate(branches) if kinds.index(kinds[at]) == at]


TYPES = (
    LEAVES
    | st.builds(lambda items: {"type": "array", "items": items}, LEAVES)
    | st.builds(lambda values: {"type": "map", "values": values}, PRIMITIVES)
    | st.lists(LEAVES, min_size=1, max_size=3).map(_union)
)


@st.composite
def record_schemas(draw: st.DrawFn) -> Schema:
    fields = []
    named: set[str] = set()
    for name in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4)):
        kind = draw(TYPES)
        if _names(kind) & named:
            continue  # a schema may define a name once
        named |= _names(kind)
        field: Schema = {"name": name, "type": kind}
        if kind in ("long", "int") and draw(st.booleans()):
            field["default"] = 7
        if isinstance(kind, list) and kind[0] == "null" and draw(st.booleans()):
            field["default"] = None
        fields.append(field)
    return {"type": "record", "name": draw(st.sampled_from(["ns.R", "ns.R", "R", "ns.S"])), "fields": fields}


def _names(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*(_names(branch) for branch in schema))
    if isinstance(schema, dict):
        inner = _names(schema.get("items")) | _names(schema.get("values"))
        return inner | ({schema["name"]} if "name" in schema else set())
    return set()


def reads(reader: Schema, writer: Schema, data: list[Any]) -> bool:
    for datum in data:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, writer, datum)
        stream.seek(0)
        try:
            fastavro.schemaless_reader(stream, writer, reader)
        except UNREADABLE:
            return False
    return True


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """Two schemas that differ in a field or two, so that about half of the pairs are compatible."""
    first = draw(record_schemas())
    second = copy.deepcopy(first)
    if first["fields"]:
        field = draw(st.sampled_from(second["fields"]))
        names = set().union(*(_names(other["type"]) for other in second["fields"] if other is not field))
        kind = draw(TYPES)
        if not _names(kind) & names:
            field["type"] = kind
            field.pop("default", None)
    if draw(st.booleans()):
        second["fields"].append(draw(st.sampled_from([NEW_FIELD, NEW_FIELD | {"default": 1}])))
    return (first, second) if draw(st.booleans()) else (second, first)


@settings(max_examples=300)
@given(pair=neighbours())
def test_reader_reads_whatever_was_written_when_the_check_has_no_objection(pair: tuple[Schema, Schema]) -> None:
    reader, writer = (parse(json.dumps(schema)) for schema in pair)
    found = problems(reader, writer)
    event("compatible" if not found else "incompatible")
    if not found:
        assert reads(reader, writer, list(generate_many(writer, DATA_PER_PAIR)))


def base() -> Schema:
    return {
        "type": "record",
        "name": "payments.R",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "count", "type": "long"},
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["a", "b"]}},
            {"name": "open", "type": {"type": "enum", "name": "O", "symbols": ["a", "b"], "default": "a"}},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "inner", "type": {"type": "record", "name": "I", "fields": [{"name": "x", "type": "long"}]}},
            {"name": "list", "type": {"type": "array", "items": "I"}},
            {"name": "hash", "type": {"type": "fixed", "name": "H", "size": 4}},
            {"name": "next", "type": ["null", "R"], "default": None},
        ],
    }


def _field(schema: Schema, name: str) -> Schema:
    found: Schema = next(field for field in schema["fields"] if field["name"] == name)
    return found


def _add(field: Schema) -> Callable[[Schema], None]:
    return lambda schema: schema["fields"].append(field)


def _drop(name: str) -> Callable[[Schema], None]:
    return lambda schema: schema["fields"].remove(_field(schema, name))


def _retype(name: str, kind: Any) -> Callable[[Schema], None]:
    return lambda schema: _field(schema, name).update(type=kind)


def _symbols(name: str, symbols: list[str]) -> Callable[[Schema], None]:
    return lambda schema: _field(schema, name)["type"].update(symbols=symbols)


def _required(name: str) -> Callable[[Schema], None]:
    def edit(schema: Schema) -> None:
        _field(schema, name).pop("default")
        _field(schema, name)["type"] = "string"

    return edit


# What was changed, whether the new version reads the old one's records, and whether the old reads the new one's.
EDITS: list[tuple[str, Callable[[Schema], None], bool, bool]] = [
    ("nothing", lambda schema: schema.update(), True, True),
    ("order", lambda schema: schema["fields"].insert(0, schema["fields"].pop(1)), True, True),
    ("documentation", lambda schema: schema.update(doc="x"), True, True),
    ("new field", _add(NEW_FIELD), False, True),
    ("new field with default", _add(NEW_FIELD | {"default": 0}), True, True),
    ("field dropped", _drop("id"), True, False),
    ("optional field dropped", _drop("note"), True, True),
    ("long to double", _retype("count", "double"), True, False),
    ("long to int", _retype("count", "int"), False, True),
    ("long to string", _retype("count", "string"), False, False),
    ("string to bytes", _retype("id", "bytes"), True, False),
    ("made optional", _retype("id", ["null", "string"]), True, False),
    ("made required", _required("note"), False, True),
    ("wider union", _retype("note", ["null", "string", "long"]), True, False),
    ("new symbol", _symbols("kind", ["a", "b", "c"]), True, False),
    ("new symbol where there is a default", _symbols("open", ["a", "b", "c"]), True, True),
    ("symbol dropped", _symbols("kind", ["a"]), False, True),
    ("symbols reordered", _symbols("kind", ["b", "a"]), True, True),
    ("inner field", lambda schema: _field(schema, "inner")["type"]["fields"].append(NEW_FIELD), False, True),
    ("other size", lambda schema: _field(schema, "hash")["type"].update(size=5), False, False),
    ("renamed with alias", lambda schema: _field(schema, "id").update(name="ident", aliases=["id"]), True, False),
    ("other name", lambda schema: _field(schema, "hash")["type"].update(name="G"), False, False),
    ("list to map", _retype("list", {"type": "map", "values": "I"}), False, False),
]


@pytest.mark.parametrize(("what", "edit", "new_reads_old", "old_reads_new"), EDITS, ids=[edit[0] for edit in EDITS])
def test_verdict_is_the_one_of_the_specification(
    what: str, edit: Callable[[Schema], None], new_reads_old: bool, old_reads_new: bool
) -> None:
    changed = copy.deepcopy(base())
    edit(changed)
    old, new = parse(json.dumps(base())), parse(json.dumps(changed))
    assert (not problems(new, old)) is new_reads_old
    assert (not problems(old, new)) is old_reads_new
    for reader, writer, verdict in ((new, old, new_reads_old), (old, new, old_reads_new)):
        written = list(generate_many(writer, DATA_PER_PAIR))
        assert reads(reader, writer, written) is verdict


def test_problem_names_the_place() -> None:
    changed = base()
    _field(changed, "inner")["type"]["fields"][0]["type"] = "string"
    assert problems(parse(json.dumps(changed)), parse(json.dumps(base()))) == (
        "$.inner.x: long cannot be read as string",
        "$.list[].x: long cannot be read as string",
    )


@pytest.mark.parametrize("record", sorted(newest_schemas()))
def test_version_with_one_more_optional_field_is_full_transitive(record: str) -> None:
    first = newest_schemas()[record]
    changed = json.loads(first.text)
    changed["fields"].append({"name": "added", "type": ["null", "string"], "default": None})
    second = _packaged(record, first.version + 1, changed)
    del changed["fields"][-1]["default"]
    third = _packaged(record, first.version + 2, changed)
    assert check_all([first, second]) == ()
    parsed = [parse(version.text) for version in (first, second)]
    for reader, writer in (parsed, parsed[::-1]):
        assert reads(reader, writer, list(generate_many(writer, 3)))
    found = check_all([first, second, third])
    problem = "$.added: the writer has no such field, and there is no default"
    assert found == (
        Incompatibility(record=record, reader_version=third.version, writer_version=first.version, problem=problem),
    )


def _packaged(record: str, version: int, schema: Schema) -> PackagedSchema:
    text = json.dumps(schema)
    return PackagedSchema(record=record, version=version, schema_id=version, sha256="", released=True, text=text)


def test_schema_is_refused_when_it_nests_deeper_than_anybody_writes() -> None:
    deep: Any = "long"
    for _ in range(MAX_DEPTH + 1):
        deep = {"type": "array", "items": deep}
    schema = parse(json.dumps({"type": "record", "name": "R", "fields": [{"name": "a", "type": deep}]}))
    with pytest.raises(ValueError, match="deeper"):
        problems(schema, schema)
