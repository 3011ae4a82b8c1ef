"""Whatever a record holds comes back; whatever else the bytes are, the answer is a DecodeError and nothing else."""

import contextlib
import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.avro_codec import FRAME_BYTES, AvroCodec
from schemas.decode_errors import DecodeError
from schemas.event_types import CLASSES
from schemas.messages import MessageCodec, SchemaIds
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, Record, Row, fields_of, name_of
from schemas.schema_ids import newest_schemas, reader_schema
from tests.support.record_strategies import messages, records

CODEC = MessageCodec(SchemaIds.packaged())
AVRO = AvroCodec(SchemaIds.packaged())  # what remembers nothing
IDS = [schema.schema_id for schema in newest_schemas().values()]
TYPES = sorted(CLASSES)
ALL_CLASSES = [*RECORD_CLASSES, *ROW_CLASSES]
# Twenty classes and five properties: few examples each, and an order row is large, so making one is slow.
each_class = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
FIELDS = ("origin_id", "order_id", "idempotency_key", "amount_minor", "currency", "token", "capture")


def as_avro(record: Any) -> dict[str, Any]:
    """The record as fastavro takes it, written apart from the codec: by the shapes alone."""
    found: dict[str, Any] = {}
    for shape in fields_of(type(record)):
        value = getattr(record, shape.name)
        if shape.nested is not None and value is not None:
            value = [as_avro(item) for item in value] if shape.repeated else as_avro(value)
        found[shape.name] = list(value) if shape.repeated else value
    return found


@pytest.mark.parametrize("cls", RECORD_CLASSES, ids=name_of)
@each_class
@given(draw=st.data())
def test_message_comes_back_as_it_was(cls: type[Record], draw: st.DataObject) -> None:
    record, envelope = draw.draw(messages(cls))
    message = CODEC.encode(record, envelope)
    assert CODEC.decode(message.value, message.headers) == (envelope, record)
    assert CODEC.encode(record, envelope) == message


@pytest.mark.parametrize("cls", ROW_CLASSES, ids=name_of)
@each_class
@given(draw=st.data())
def test_row_comes_back_as_it_was(cls: type[Row], draw: st.DataObject) -> None:
    row = draw.draw(records(cls))
    assert AVRO.decode(cls, AVRO.encode(row)) == row
    assert CODEC.decode_row(cls, CODEC.encode_row(row)) == row


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
@each_class
@given(draw=st.data())
def test_body_is_byte_for_byte_what_fastavro_writes(cls: type[Any], draw: st.DataObject) -> None:
    record = draw.draw(records(cls))
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, reader_schema(name_of(cls)), as_avro(record))
    assert AVRO.encode(record)[FRAME_BYTES:] == stream.getvalue()


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
@each_class
@given(draw=st.data())
def test_mutated_body_is_refused_or_read_as_fastavro_reads_it(cls: type[Any], draw: st.DataObject) -> None:
    value = bytearray(AVRO.encode(draw.draw(records(cls))))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(FRAME_BYTES, len(value)))
        value[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=3))
    try:
        record = AVRO.decode(cls, bytes(value))
    except DecodeError:
        return
    stream = io.BytesIO(bytes(value[FRAME_BYTES:]))
    assert fastavro.schemaless_reader(stream, reader_schema(name_of(cls)), None) == as_avro(record)
    assert stream.tell() == len(value) - FRAME_BYTES


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
@each_class
@given(draw=st.data())
def test_truncated_or_lengthened_value_is_refused(cls: type[Any], draw: st.DataObject) -> None:
    value = AVRO.encode(draw.draw(records(cls)))
    cut = draw.draw(st.integers(0, len(value) - 1))
    for wrong in (value[:cut], value + b"\x00"):
        with pytest.raises(DecodeError):
            AVRO.decode(cls, wrong)


HEADER_NAMES = st.sampled_from(
    [
        "content-type",
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_sequence",
        "ce_traceparent",
        "ce_x",
    ]
) | st.text(max_size=12)
HEADER_VALUES = st.sampled_from(
    [b"1.0", b"application/avro", b"application/cloudevents+json", b"2026-11-22T10:15:30Z", b"", None]
    + [name.encode() for name in TYPES]
) | st.binary(max_size=20)
FRAMED = st.builds(
    lambda schema_id, body: b"\x00" + schema_id.to_bytes(4, "big") + body,
    st.sampled_from(IDS) | st.integers(0, 2**32 - 1),
    st.binary(max_size=120),
)


@given(value=st.none() | st.binary(max_size=120) | FRAMED, headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES)))
def test_random_messages_raise_nothing_but_decode_errors(
    value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(value, headers)


REQUIRED = (("ce_specversion", b"1.0"), ("ce_id", b"id"), ("ce_source", b"/x"), ("content-type", b"application/avro"))


@given(value=FRAMED, name=st.sampled_from(TYPES), extra=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=3))
def test_random_bodies_under_right_headers_raise_nothing_but_decode_errors(
    value: bytes, name: str, extra: list[tuple[str, bytes | None]]
) -> None:
    with contextlib.suppress(DecodeError):
        CODEC.decode(value, [*REQUIRED, ("ce_type", name.encode()), *extra])


JSON_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON_VALUES = st.recursive(
    JSON_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
MEMBERS = st.sampled_from(
    ["specversion", "id", "source", "type", "time", "data", "data_base64", "datacontenttype", "sequence", "subject"]
) | st.text(max_size=8)


@given(
    members=st.dictionaries(MEMBERS, st.sampled_from(["1.0", *TYPES]) | JSON_VALUES, max_size=8),
    data=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(FIELDS, JSON_VALUES),
    ),
)
def test_random_structured_events_raise_nothing_but_decode_errors(
    members: dict[str, Any], data: dict[str, Any]
) -> None:
    base = {"specversion": "1.0", "id": "1", "source": "/x", "type": "payments.payment.requested.v1", "data": data}
    headers = [("content-type", b"application/cloudevents+json")]
    for event in (members, base | members):
        with contextlib.suppress(DecodeError):
            CODEC.decode(json.dumps(event).encode(), headers)


@given(text=st.text(alphabet='{}[]",:0123456789eE+-.\\ud8tfnNaI ', max_size=60))
def test_random_text_as_a_structured_event_raises_nothing_but_decode_errors(text: str) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(text.encode(), [("content-type", b"application/cloudevents+json")])
