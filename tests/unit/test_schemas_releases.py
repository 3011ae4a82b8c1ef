"""What a release writes and reads of another one: a planted release before this one lacks a field and a symbol."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import fastavro
import pytest

from schemas.avro_binary import NotYetWritableError
from schemas.avro_codec import FRAME_BYTES
from schemas.decode_errors import DecodeError, OtherReleaseError
from schemas.messages import MessageCodec, SchemaIds
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, name_of
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.policies import OriginPolicy
from schemas.records.timers import OpenTimer
from schemas.releases import (
    DRAFT_IDS,
    FIRST_RELEASE,
    PACKAGED_IDS,
    RELEASE,
    UNRECOGNISED,
    UPGRADE_IT,
    release_to_write,
)
from schemas.schema_ids import PackagedSchema, WriterSchema, packaged_schemas, parse
from schemas.vocabulary import DeadLetterReason, Outcome, TimerKind
from tests.support.golden_messages import envelope_of, example
from tests.support.planted_release import EARLIER, THIS, Change, ids_of_earlier, ids_with_earlier

POLICY = dataclasses.replace(example(OriginPolicy), action_life_ms=None)
TIMER = dataclasses.replace(example(OpenTimer), kind=TimerKind.RETRY)
LATER_KIND = list(TimerKind)[-1]


def without_life(schema: dict[str, Any]) -> None:
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "action_life_ms"]


def without_last_kind(schema: dict[str, Any]) -> None:
    next(field for field in schema["fields"] if field["name"] == "kind")["type"]["symbols"].pop()


CHANGES: Mapping[str, Change] = {"origin_policy": without_life, "open_timer": without_last_kind}


@pytest.fixture
def upgraded() -> MessageCodec:
    """A program of release 2 that writes as release 1 did: its upgrade is not finished."""
    codec = MessageCodec(ids_with_earlier(CHANGES))
    codec.write_as(EARLIER)
    return codec


@pytest.fixture
def finished() -> MessageCodec:
    """A program of release 2 that writes as itself."""
    return MessageCodec(ids_with_earlier(CHANGES))


@pytest.fixture
def older() -> MessageCodec:
    """Its codec knows the schemas of release 1 alone. The record classes are those of release 2."""
    known = ids_with_earlier(CHANGES)
    writers: dict[int, WriterSchema] = {}
    for schema in ids_of_earlier(CHANGES).schemas:
        writer = known.writer(schema.schema_id)
        assert writer is not None
        writers[schema.schema_id] = writer
    own_ids = {schema.record: schema.schema_id for schema in known.schemas}
    return MessageCodec(SchemaIds(own_ids=own_ids, writers=writers, schemas=known.schemas, release=THIS,
                                  earlier_ids={(s.record, s.version): s.schema_id for s in known.schemas}))  # fmt: skip


def test_release_writes_as_the_one_before_until_the_upgrade_is_finished(
    upgraded: MessageCodec, finished: MessageCodec, older: MessageCodec
) -> None:
    for codec in (older, upgraded, finished):
        assert codec.decode_row(OpenTimer, upgraded.encode_row(TIMER)) == TIMER
    with pytest.raises(OtherReleaseError, match=UPGRADE_IT):
        older.decode_row(OpenTimer, finished.encode_row(TIMER))
    assert upgraded.decode_row(OpenTimer, finished.encode_row(TIMER)) == TIMER


def test_message_names_the_version_that_is_written(upgraded: MessageCodec, finished: MessageCodec) -> None:
    said = [dict(codec.encode(POLICY, envelope_of(POLICY)).headers)["ce_dataschema"] for codec in (upgraded, finished)]
    assert said == [f"urn:payment-engine:schema:origin_policy:v{version}".encode() for version in (1, 2)]


def test_codec_writes_as_it_is_told_while_it_runs(upgraded: MessageCodec, finished: MessageCodec) -> None:
    upgraded.write_as(THIS)
    assert upgraded.release == THIS
    assert upgraded.encode(POLICY, envelope_of(POLICY)) == finished.encode(POLICY, envelope_of(POLICY))
    upgraded.write_as(EARLIER)
    assert upgraded.encode(POLICY, envelope_of(POLICY)) != finished.encode(POLICY, envelope_of(POLICY))
    for unknown in (FIRST_RELEASE - 1, THIS + 1):
        with pytest.raises(ValueError, match="is not one from"):
            upgraded.write_as(unknown)


def test_field_is_refused_and_not_dropped_when_the_release_before_has_no_place_for_it(upgraded: MessageCodec) -> None:
    with pytest.raises(NotYetWritableError, match="action_life_ms"):
        upgraded.encode(dataclasses.replace(POLICY, action_life_ms=60_000), envelope_of(POLICY))


def test_symbol_is_refused_when_the_release_before_has_none_for_it(upgraded: MessageCodec) -> None:
    with pytest.raises(NotYetWritableError, match=r"OpenTimer\.kind"):
        upgraded.encode_row(dataclasses.replace(TIMER, kind=LATER_KIND))


def test_field_that_is_not_there_yet_has_its_default_when_it_is_read(
    upgraded: MessageCodec, finished: MessageCodec
) -> None:
    message = upgraded.encode(POLICY, envelope_of(POLICY))
    assert finished.decode(message.value, message.headers)[1] == POLICY


def test_earlier_version_is_read_as_fastavro_resolves_it(upgraded: MessageCodec, finished: MessageCodec) -> None:
    versions = [each for each in ids_with_earlier(CHANGES).schemas if each.record == "origin_policy"]
    earlier, newest = (parse(each.text) for each in sorted(versions, key=lambda each: each.since))
    old, new = (
        io.BytesIO(codec.encode(POLICY, envelope_of(POLICY)).value[FRAME_BYTES:]) for codec in (upgraded, finished)
    )
    assert fastavro.schemaless_reader(old, earlier, newest) == fastavro.schemaless_reader(new, newest, newest)


def _with_writer(schema_id: int, record: str, parsed: dict[str, Any]) -> MessageCodec:
    packaged = SchemaIds.packaged()
    writers = {schema.schema_id: packaged.writer(schema.schema_id) for schema in packaged_schemas()}
    known = {each: writer for each, writer in writers.items() if writer is not None}
    known[schema_id] = WriterSchema(record=record, parsed=parsed, current=False)
    own_ids = {schema.record: schema.schema_id for schema in packaged_schemas()}
    return MessageCodec(SchemaIds(own_ids=own_ids, writers=known))


def _schema_of(record: str) -> dict[str, Any]:
    found: PackagedSchema = next(each for each in packaged_schemas() if each.record == record)
    return parse(found.text)


def _framed(schema_id: int, parsed: dict[str, Any], fields: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed, fields)
    return b"\x00" + schema_id.to_bytes(4, "big") + stream.getvalue()


def test_symbol_of_a_later_release_is_named_and_taken_for_none_of_ours() -> None:
    """As a registry has it: the schema that wrote it is there, and its new symbol has no place in ours."""
    result = example(GatewayCallCompleted)
    parsed = _schema_of("gateway_call_completed")
    outcome = next(field for field in parsed["fields"] if field["name"] == "outcome")["type"]
    outcome["symbols"] = [*outcome["symbols"], "half_done"]
    fields = dataclasses.asdict(result) | {"outcome": "half_done"}
    headers = MessageCodec(SchemaIds.packaged()).encode(result, envelope_of(result)).headers
    codec = _with_writer(77, "gateway_call_completed", parsed)
    with pytest.raises(OtherReleaseError, match=rf"GatewayCallCompleted\.outcome.*{UPGRADE_IT}") as caught:
        codec.decode(_framed(77, parsed, fields), headers)
    assert caught.value.reason is DeadLetterReason.UNKNOWN_SCHEMA
    assert UNRECOGNISED not in set(Outcome)


def test_bytes_of_the_symbol_that_nobody_writes_are_named_too() -> None:
    codec = MessageCodec(SchemaIds.packaged())
    parsed = _schema_of("open_timer")
    schema_id = next(each.schema_id for each in packaged_schemas() if each.record == "open_timer")
    value = _framed(schema_id, parsed, dataclasses.asdict(TIMER) | {"kind": UNRECOGNISED})
    with pytest.raises(OtherReleaseError, match=r"OpenTimer\.kind"):
        codec.decode_row(OpenTimer, value)


def test_what_a_later_release_adds_is_not_lost_where_the_engine_alone_writes() -> None:
    """A stranger's fields are passed over. Those of a later release mean something."""
    parsed = _schema_of("open_timer")
    parsed["fields"].append({"name": "added", "type": "long", "default": 0})
    value = _framed(77, parsed, dataclasses.asdict(TIMER) | {"added": 7})
    with pytest.raises(OtherReleaseError, match=UPGRADE_IT):
        _with_writer(77, "open_timer", parsed).decode_row(OpenTimer, value)
    schema = _schema_of("origin_policy")
    schema["fields"].append({"name": "added", "type": "long", "default": 0})
    fields = dataclasses.asdict(POLICY) | {"added": 7}
    headers = MessageCodec(SchemaIds.packaged()).encode(POLICY, envelope_of(POLICY)).headers
    codec = _with_writer(77, "origin_policy", schema)
    assert codec.decode(_framed(77, schema, fields), headers)[1] == POLICY
    with pytest.raises(OtherReleaseError):
        codec.decode(_framed(77, schema, fields), headers, ours=True)


@pytest.mark.parametrize(
    ("schema_id", "told"), [(PACKAGED_IDS.stop - 1, UPGRADE_IT), (DRAFT_IDS.start + 1, "before the first release")]
)
def test_schema_id_of_the_engine_that_is_not_packaged_here_is_of_another_release(schema_id: int, told: str) -> None:
    with pytest.raises(OtherReleaseError, match=told):
        MessageCodec(SchemaIds.packaged()).decode_row(OpenTimer, b"\x00" + schema_id.to_bytes(4, "big"))


def test_schema_id_of_nobody_is_none_of_another_release() -> None:
    with pytest.raises(DecodeError) as caught:
        MessageCodec(SchemaIds.packaged()).decode_row(OpenTimer, b"\x00\x00\x00\x00\x07")
    assert not isinstance(caught.value, OtherReleaseError)


@pytest.mark.parametrize("cls", [*RECORD_CLASSES, *ROW_CLASSES], ids=name_of)
def test_every_enumeration_has_the_default_that_stops_its_reader(cls: type) -> None:
    for enumeration in _enumerations(_schema_of(name_of(cls))):
        assert enumeration["default"] == enumeration["symbols"][0] == UNRECOGNISED, enumeration["name"]


def _enumerations(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for branch in schema for found in _enumerations(branch)]
    if not isinstance(schema, dict):
        return []
    below = [schema.get("items"), schema.get("type"), *(field["type"] for field in schema.get("fields", ()))]
    return ([schema] if schema["type"] == "enum" else []) + [found for each in below for found in _enumerations(each)]


def test_release_to_write_follows_what_was_finished_and_is_never_more_than_one_behind() -> None:
    before = max(FIRST_RELEASE, RELEASE - 1)
    assert [release_to_write(each) for each in (None, FIRST_RELEASE, RELEASE, RELEASE + 1)] == [
        before,
        before,
        RELEASE,
        RELEASE,
    ]
