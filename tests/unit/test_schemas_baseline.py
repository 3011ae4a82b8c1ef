"""`schemas check` against the last release: what its workers could not live with beside this release's is refused."""

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.baseline import Kept, last_release
from schemas.releases import UNRECOGNISED
from schemas.schema_ids import PackagedSchema, packaged_schemas, parse
from streams.cli.exits import ExitCode
from streams.operator_tools import schema_files
from streams.operator_tools.schema_files import faults
from tests.support.command_line import run_command
from tests.support.draft_schemas import AVRO_FOLDER

Schema = dict[str, Any]
Edit = Callable[[Schema], None]

BEFORE: Schema = {
    "type": "record",
    "name": "payments.R",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "state", "type": {
            "type": "enum", "name": "State", "symbols": [UNRECOGNISED, "open", "done"], "default": UNRECOGNISED}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "parts", "type": {"type": "array", "items": {
            "type": "record", "name": "Part", "fields": [{"name": "size", "type": "long", "default": 0}]}},
         "default": []},
    ],
}  # fmt: skip


def version(number: int, schema: Schema) -> PackagedSchema:
    return PackagedSchema(
        record="r", version=number, schema_id=number, sha256="", released=False, text=json.dumps(schema), since=number
    )


def edited(edit: Edit) -> Schema:
    changed = copy.deepcopy(BEFORE)
    edit(changed)
    return changed


def problems(*schemas: PackagedSchema) -> list[str]:
    kept = {"r": Kept(version=1, parsed=parse(json.dumps(BEFORE)))}
    return [f"v{fault.version} {fault.problem}" for fault in faults(schemas, kept=kept)]


def field(schema: Schema, name: str) -> Schema:
    found: Schema = next(each for each in schema["fields"] if each["name"] == name)
    return found


def state(schema: Schema) -> Schema:
    found: Schema = field(schema, "state")["type"]
    return found


def part(schema: Schema) -> Schema:
    found: Schema = field(schema, "parts")["type"]["items"]
    return found


ADDED = {"name": "added", "type": "long", "default": 0}
ALLOWED: list[tuple[str, Edit]] = [
    ("a field with a default", lambda schema: schema["fields"].append(ADDED)),
    ("a field of a part with a default", lambda schema: part(schema)["fields"].append(ADDED)),
    ("a symbol at the end", lambda schema: state(schema)["symbols"].append("later")),
    ("a comment", lambda schema: schema.update(doc="for a person")),
]
REFUSED: list[tuple[str, Edit, str]] = [
    ("an enumeration without its default", lambda schema: state(schema).pop("default"), "which stops a reader"),
    ("another default of one", lambda schema: state(schema).update(default="open"), "which stops a reader"),
    ("a symbol gone", lambda schema: state(schema)["symbols"].remove("done"), "has done, and it is gone"),
    ("a default changed", lambda schema: part(schema)["fields"][0].update(default=1), "its default was changed"),
    ("a default gone", lambda schema: field(schema, "note").pop("default"), "its default was changed"),
    ("a field without a default", lambda schema: schema["fields"].append({"name": "a", "type": "long"}), "a default"),
    ("a field gone", lambda schema: schema["fields"].remove(field(schema, "note")), "needs this field"),
    ("a part gone", lambda schema: schema["fields"].remove(field(schema, "parts")), "payments.Part: the last release"),
    ("a type changed", lambda schema: field(schema, "id").update(type=["null", "string"]), "its type was changed"),
]


@pytest.mark.parametrize(("what", "edit"), ALLOWED, ids=[each[0] for each in ALLOWED])
def test_next_version_may_add(what: str, edit: Edit) -> None:
    assert problems(version(1, BEFORE), version(2, edited(edit))) == []


@pytest.mark.parametrize(("what", "edit", "told"), REFUSED, ids=[each[0] for each in REFUSED])
def test_next_version_may_not_take_away(what: str, edit: Edit, told: str) -> None:
    found = [each for each in problems(version(1, BEFORE), version(2, edited(edit))) if told in each]
    assert [each[:3] for each in found] == ["v2 "]


@pytest.mark.parametrize("edit", [each[1] for each in ALLOWED[:3]], ids=[each[0] for each in ALLOWED[:3]])
def test_version_of_the_last_release_is_never_edited_not_even_by_what_a_next_one_may_add(edit: Edit) -> None:
    (found,) = problems(version(1, edited(edit)))
    assert "write a new version beside it" in found


def test_record_of_the_last_release_stays() -> None:
    assert problems() == ["v1 the last release writes it, and it is gone"]


def test_snapshot_is_what_the_package_had_at_the_last_release() -> None:
    """When this fails before the first release: `python -m tests.support.draft_schemas --baseline`.

    Then name the commit that holds it in tests/upgrade/last_release. After the release: write a new version.
    """
    assert faults() == ()
    assert last_release().keys() <= {schema.record for schema in packaged_schemas()}
    assert (AVRO_FOLDER / "baseline.json").stat().st_size < 200_000


def test_command_tells_what_would_break_and_ends_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = next(each for each in packaged_schemas() if each.record == "open_timer")
    changed = json.loads(schema.text)
    kind = next(each for each in changed["fields"] if each["name"] == "kind")
    kind["type"]["symbols"].remove("retry")
    text = json.dumps(changed)
    broken = [dataclasses.replace(each, text=text) if each == schema else each for each in packaged_schemas()]
    monkeypatch.setattr(schema_files, "packaged_schemas", lambda: broken)
    done = run_command("schemas", "check")
    assert done.exit_code == ExitCode.FAILED
    assert "open_timer v1: the last release has it otherwise" in done.output
    assert "the last release has retry, and it is gone" in done.output
