"""A stranger's schema is read from when our newest one reads all that it writes, and when reading it is safe."""

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import pytest

from schemas.avro_codec import AvroCodec
from schemas.foreign_schemas import MAX_DEPTH, MAX_SCHEMA_CHARS, UnreadableSchemaError, writer_of
from schemas.records.commands import PaymentRequested
from schemas.schema_ids import SchemaIds, WriterSchema, newest_schemas, packaged_schemas
from tests.support.golden_messages import example

OURS: dict[str, Any] = json.loads(newest_schemas()["payment_requested"].text)
COMMAND = example(PaymentRequested)
FOREIGN_ID = 77


def changed(**members: object) -> str:
    return json.dumps(OURS | members)


def with_type(field: str, avro_type: object) -> str:
    return changed(fields=[each | {"type": avro_type} if each["name"] == field else each for each in OURS["fields"]])


def with_more(avro_type: object) -> str:
    return changed(fields=[*OURS["fields"], {"name": "more", "type": avro_type}])


def read_back(text: str, fields: Mapping[str, Any]) -> PaymentRequested:
    """What our codec reads of a record that a stranger wrote with this schema."""
    raw = io.BytesIO()
    raw.write(b"\x00" + FOREIGN_ID.to_bytes(4, "big"))
    fastavro.schemaless_writer(raw, fastavro.parse_schema(json.loads(text), named_schemas={}), dict(fields))
    packaged = SchemaIds.packaged()
    own_ids = {record: packaged.own_id(record) for record in newest_schemas()}
    codec = AvroCodec(SchemaIds(own_ids=own_ids, writers={FOREIGN_ID: writer_of(text)}))
    return codec.decode(PaymentRequested, raw.getvalue())


@pytest.mark.parametrize("schema", packaged_schemas(), ids=lambda schema: f"{schema.record}-v{schema.version}")
def test_packaged_schema_is_recognised_when_a_stranger_registers_it(schema: Any) -> None:
    found = writer_of(schema.text)
    assert found.record == schema.record
    assert found.current == (schema == newest_schemas()[schema.record])


@pytest.mark.parametrize(
    "text",
    [
        changed(doc="ours, in other words"),
        changed(namespace="com.shop"),
        with_type("amount_minor", "int"),
        with_more(["null", "string"]),
        with_more({"type": "map", "values": "null"}),
        with_more(
            {
                "type": "array",
                "items": {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}]},
            }
        ),
        with_more({"type": "fixed", "name": "Tag", "size": 0}),
    ],
)
def test_record_of_a_strangers_schema_is_read_when_ours_reads_all_that_it_writes(text: str) -> None:
    more: dict[str, Any] = {"more": None}
    added = json.loads(text)["fields"][-1]
    if isinstance(added["type"], dict) and added["name"] == "more":
        more = {"more": {"map": {"a": None}, "array": [{"sku": "x"}], "fixed": b""}[added["type"]["type"]]}
    command = dataclasses.replace(COMMAND, amount_minor=1_999)
    assert read_back(text, dataclasses.asdict(command) | more) == command


def test_number_stays_a_number_when_a_strangers_schema_calls_it_a_date() -> None:
    text = with_type("amount_minor", {"type": "long", "logicalType": "timestamp-millis"})
    assert type(read_back(text, dataclasses.asdict(COMMAND)).amount_minor) is int


NESTED: object = "string"
for _ in range(MAX_DEPTH):
    NESTED = {"type": "array", "items": NESTED}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an Avro schema"),
        ("5", "not an Avro schema"),
        ("null", "not an Avro schema"),
        ('"string"', "no record of ours"),
        ("[]", "no record of ours"),
        ('{"type": "nonsense"}', "not an Avro schema"),
        ('{"type": "record", "name": "PaymentRequested"}', "no bytes"),
        ('{"type": "record", "fields": []}', "not an Avro schema"),
        ("[" * 10_000, "not an Avro schema"),
        (changed(doc="x" * MAX_SCHEMA_CHARS), "longer"),
        (changed(name="Order"), "no record of ours"),
        (changed(fields=[field for field in OURS["fields"] if field["name"] != "capture"]), "capture"),
        (with_type("currency", "bytes"), "currency"),
        (with_type("amount_minor", ["null", "long"]), "amount_minor"),
        (changed(fields=[]), "no bytes"),
        (with_more({"type": "array", "items": "null"}), "no bytes"),
        (with_more({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}), "no bytes"),
        (with_more({"type": "array", "items": {"type": "record", "name": "R", "fields": []}}), "no bytes"),
        (
            with_more({"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}),
            "inside itself",
        ),
        (with_more(NESTED), "nested deeper"),
    ],
)
def test_schema_is_not_read_from_when_it_is_none_or_not_ours_or_not_safe(text: str, why: str) -> None:
    with pytest.raises(UnreadableSchemaError, match=why):
        writer_of(text)


def test_writer_of_a_foreign_schema_is_none_of_the_newest() -> None:
    found = writer_of(with_more("string"))
    assert isinstance(found, WriterSchema)
    assert (found.record, found.current) == ("payment_requested", False)
