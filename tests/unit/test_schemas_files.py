"""The Avro files, their lock and the record classes hold together."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.compatibility import check_all
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, fields_of, name_of
from schemas.records.commands import PaymentRequested, VoidRequested
from schemas.records.timers import OpenTimer
from schemas.releases import PACKAGED_IDS
from schemas.schema_ids import SchemaIds, newest_schemas, packaged_schemas, parse, reader_schema
from schemas.schema_shapes import SchemaMismatchError, check_shape
from tests.support.draft_schemas import AVRO_FOLDER, draft, text_of
from tests.support.golden_messages import GOLDEN_FOLDER, golden_of

ALL_CLASSES = (*RECORD_CLASSES, *ROW_CLASSES)


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
def test_newest_file_is_the_class_with_its_names_order_types_and_docs(cls: type) -> None:
    newest = newest_schemas()[name_of(cls)]
    assert newest.text == text_of(draft(cls)), "run: python -m tests.support.draft_schemas"
    check_shape(cls, reader_schema(name_of(cls)))


@pytest.mark.parametrize("schema", packaged_schemas(), ids=lambda schema: f"{schema.record}-v{schema.version}")
def test_file_is_byte_for_byte_what_the_lock_says(schema: Any) -> None:
    raw = (AVRO_FOLDER / schema.record / f"v{schema.version}.avsc").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == schema.sha256, "a released schema never changes: write a new version"


def test_lock_and_folder_name_the_same_files() -> None:
    on_disk = {(path.parent.name, path.stem) for path in AVRO_FOLDER.glob("*/*.avsc")}
    assert on_disk == {(schema.record, f"v{schema.version}") for schema in packaged_schemas()}
    assert {schema.record for schema in packaged_schemas()} == {name_of(cls) for cls in ALL_CLASSES}


def test_packaged_ids_are_unique_and_lie_where_no_registry_counts_to() -> None:
    ids = [schema.schema_id for schema in packaged_schemas()]
    assert len(set(ids)) == len(ids)
    assert all(schema_id in PACKAGED_IDS for schema_id in ids)


def test_versions_of_each_record_are_numbered_without_a_gap() -> None:
    for record in newest_schemas():
        versions = [schema.version for schema in packaged_schemas() if schema.record == record]
        assert versions == list(range(1, len(versions) + 1))


def test_every_packaged_version_reads_every_other() -> None:
    assert check_all(packaged_schemas()) == ()


def test_full_name_is_the_registry_subject() -> None:
    assert newest_schemas()["payment_requested"].full_name == "payments.PaymentRequested"


def test_schema_ids_know_nothing_they_were_not_told() -> None:
    ids = SchemaIds.packaged()
    assert ids.writer(7) is None
    with pytest.raises(KeyError):
        ids.own_id("nobody")


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
def test_bytes_and_headers_are_those_of_the_golden_file(cls: type[Any]) -> None:
    golden = json.loads((GOLDEN_FOLDER / f"{name_of(cls)}.json").read_text())
    assert golden_of(cls) == golden, "the wire has changed; if it is meant: python -m tests.support.golden_messages"


def _without_field(schema: dict[str, Any]) -> None:
    del schema["fields"][0]


def _other_type(schema: dict[str, Any]) -> None:
    schema["fields"][0]["type"] = "long"


def _other_order(schema: dict[str, Any]) -> None:
    schema["fields"].reverse()


def _other_name(schema: dict[str, Any]) -> None:
    schema["name"] = "payments.Somebody"


def _other_symbols(schema: dict[str, Any]) -> None:
    next(field for field in schema["fields"] if field["name"] == "kind")["type"]["symbols"].reverse()


def _not_nullable(schema: dict[str, Any]) -> None:
    next(field for field in schema["fields"] if field["name"] == "op_id")["type"] = "string"


@pytest.mark.parametrize(
    "change", [_without_field, _other_type, _other_order, _other_name, _other_symbols, _not_nullable]
)
def test_check_of_shapes_refuses_when_class_and_file_differ(change: Callable[[dict[str, Any]], None]) -> None:
    schema = json.loads(json.dumps(parse(newest_schemas()["open_timer"].text)))
    change(schema)
    with pytest.raises(SchemaMismatchError):
        check_shape(OpenTimer, schema)


def test_check_of_shapes_refuses_when_the_record_is_another() -> None:
    with pytest.raises(SchemaMismatchError):
        check_shape(PaymentRequested, reader_schema(name_of(VoidRequested)))


def test_shapes_refuse_types_that_have_no_place_on_the_log() -> None:
    @dataclasses.dataclass
    class Floating:
        amount: float

    @dataclasses.dataclass
    class Either:
        amount: int | str

    @dataclasses.dataclass
    class Pair:
        amounts: tuple[int, int]

    @dataclasses.dataclass
    class Listed:
        amounts: list[int]

    for cls in (Floating, Either, Pair, Listed, int):
        with pytest.raises(TypeError):
            fields_of(cls)
