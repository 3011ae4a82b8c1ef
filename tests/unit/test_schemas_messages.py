"""Each way to be no message of ours has its reason; the fewest headers that a foreign producer needs are enough."""

import base64
import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import fastavro
import pytest

from schemas import cloud_event
from schemas.avro_codec import MAX_VALUE_BYTES
from schemas.cloud_event import MAX_ATTRIBUTE_BYTES, MAX_HEADERS, MAX_SEQUENCE, SEQUENCE_DIGITS, Envelope
from schemas.event_types import CLASSES, EVENT_TYPES, TYPES, Transition, event_type
from schemas.json_form import MAX_ITEMS
from schemas.messages import DecodeError, MessageCodec, SchemaIds
from schemas.record_shapes import RECORD_CLASSES
from schemas.records.claims import ClaimRequested
from schemas.records.commands import PaymentRequested
from schemas.records.dead_letters import DeadLetter
from schemas.records.orders import OrderRow
from schemas.records.payments import PaymentEvent
from schemas.records.timers import OpenTimer
from schemas.schema_ids import WriterSchema, newest_schemas, parse, reader_schema
from schemas.structured_event import MAX_DEPTH
from schemas.vocabulary import DeadLetterReason, OperationKind
from tests.support.golden_messages import envelope_of, example

CODEC = MessageCodec(SchemaIds.packaged())
COMMAND = PaymentRequested(
    origin_id="originA",  # type: ignore[arg-type] # what a foreign producer writes is any text
    order_id="order-1",  # type: ignore[arg-type] # as above
    idempotency_key="idem-1",  # type: ignore[arg-type] # as above
    amount_minor=1999,
    currency="USD",
    token="tok_123",
    capture=True,
)
TYPE = TYPES[PaymentRequested]
VALUE = CODEC.encode_row(COMMAND)  # type: ignore[arg-type] # the framed value alone, without an envelope
FEWEST: dict[str, bytes] = {
    "ce_specversion": b"1.0",
    "ce_id": b"command-1",
    "ce_source": b"/shop",
    "ce_type": TYPE.encode(),
    "content-type": b"application/avro",
}
STRUCTURED_HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "command-1",
    "source": "/shop",
    "type": TYPE,
    "data": dataclasses.asdict(COMMAND),
}


def refused(value: bytes | None, headers: list[tuple[str, Any]]) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(value, headers)
    return caught.value


def with_headers(**changed: bytes | None) -> list[tuple[str, bytes]]:
    headers = dict(FEWEST)
    for name, raw in changed.items():
        key = name.replace("__", "-")
        if raw is None:
            del headers[key]
        else:
            headers[key] = raw
    return list(headers.items())


def structured(**changed: object) -> bytes:
    event = EVENT | changed
    return json.dumps({name: member for name, member in event.items() if member is not ...}).encode()


def test_message_is_taken_when_it_has_only_the_fewest_headers() -> None:
    envelope, record = CODEC.decode(VALUE, list(FEWEST.items()))
    assert record == COMMAND
    assert envelope == Envelope(id="command-1", source="/shop", type=TYPE, time_ms=None)


def test_message_is_taken_when_others_added_headers_of_theirs() -> None:
    headers = [("traceparent", b"\xff\xfe"), ("x", b""), *FEWEST.items(), ("x", b"2"), ("ce_myextension", b"1")]
    assert CODEC.decode(VALUE, headers)[1] == COMMAND


def test_message_is_taken_when_the_content_type_has_parameters() -> None:
    for content_type in (b"Application/Avro", b"application/avro; charset=utf-8", b'application/avro;charset="UTF-8"'):
        assert CODEC.decode(VALUE, with_headers(content__type=content_type))[1] == COMMAND


@pytest.mark.parametrize("content_type", [None, b"application/vnd.confluent.avro", b"avro/binary", b"Avro/Binary"])
def test_message_is_taken_when_its_content_type_is_absent_or_a_clients_own_name_for_framed_avro(
    content_type: bytes | None,
) -> None:
    assert CODEC.decode(VALUE, with_headers(content__type=content_type))[1] == COMMAND


@pytest.mark.parametrize("sequence", [b"0001", b"a7", b"-1", b"1.5", b"9" * 20, b"\xd9\xa3"])
def test_sequence_of_a_command_is_ignored_whatever_it_is(sequence: bytes) -> None:
    assert CODEC.decode(VALUE, with_headers(ce_sequence=sequence))[1] == COMMAND


def test_sequences_of_events_order_as_text_as_they_do_as_numbers() -> None:
    event = example(PaymentEvent)
    numbers = [0, 1, 2, 9, 10, 11, 99, 100, 2**31, MAX_SEQUENCE]
    texts = []
    for number in numbers:
        envelope = dataclasses.replace(envelope_of(event), sequence=number)
        message = CODEC.encode(event, envelope)
        texts.append(dict(message.headers)["ce_sequence"].decode())
        assert CODEC.decode(message.value, message.headers)[0].sequence == number
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {SEQUENCE_DIGITS}


def test_sequence_of_an_event_is_read_when_it_was_written_before_sequences_were_padded() -> None:
    event = example(PaymentEvent)
    message = CODEC.encode(event, dataclasses.replace(envelope_of(event), sequence=None))
    assert CODEC.decode(message.value, [*message.headers, ("ce_sequence", b"11")])[0].sequence == 11


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ce_id": None}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_source": None}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_specversion": None}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_type": None}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_id": b""}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_id": b"a\x00b"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_source": b"\xff"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_source": "\ufffe".encode()}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_specversion": b"0.3"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_subject": b"x" * (MAX_ATTRIBUTE_BYTES + 1)}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_time": b"yesterday"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_time": b"2026-13-01T00:00:00Z"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_Extension": b"1"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_ext.ension": b"1"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_ext_ension": b"1"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_": b"1"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_replypartition": b"2147483648"}, DeadLetterReason.NOT_CLOUD_EVENT),
        ({"ce_type": b"payments.payment.requested.v2"}, DeadLetterReason.UNKNOWN_TYPE),
        ({"content__type": b"application/json"}, DeadLetterReason.UNKNOWN_CONTENT_TYPE),
        ({"content__type": b"application/avro; charset=latin1"}, DeadLetterReason.UNKNOWN_CONTENT_TYPE),
        ({"content__type": b"application/cloudevents-batch+json"}, DeadLetterReason.UNKNOWN_CONTENT_TYPE),
        ({"content__type": b"\xff"}, DeadLetterReason.UNKNOWN_CONTENT_TYPE),
        ({"ce_partitionkey": b"order-2"}, DeadLetterReason.INVALID),
        ({"ce_originid": b"originB"}, DeadLetterReason.INVALID),
        ({"ce_idempotencykey": b"idem-2"}, DeadLetterReason.INVALID),
        ({"ce_id": b"a b"}, DeadLetterReason.INVALID),
        ({"ce_id": b"x" * 129}, DeadLetterReason.INVALID),
    ],
)
def test_message_is_refused_with_its_reason_when_a_header_is_wrong(
    changed: dict[str, bytes | None], reason: DeadLetterReason
) -> None:
    assert refused(VALUE, with_headers(**changed)).reason is reason


def test_message_is_refused_when_an_attribute_has_no_value_or_is_there_twice() -> None:
    headers = [*FEWEST.items(), ("ce_subject", None)]
    assert refused(VALUE, headers).reason is DeadLetterReason.NOT_CLOUD_EVENT
    headers = [*FEWEST.items(), ("ce_id", b"command-2")]
    assert refused(VALUE, headers).reason is DeadLetterReason.NOT_CLOUD_EVENT
    headers = [*FEWEST.items(), ("content-type", b"application/avro")]
    assert refused(VALUE, headers).reason is DeadLetterReason.UNKNOWN_CONTENT_TYPE
    headers = [*with_headers(content__type=None), ("content-type", None)]
    assert refused(VALUE, headers).reason is DeadLetterReason.UNKNOWN_CONTENT_TYPE


def test_message_is_refused_when_it_has_too_many_headers() -> None:
    headers = [*FEWEST.items(), *[("x", b"")] * MAX_HEADERS]
    assert refused(VALUE, headers).reason is DeadLetterReason.TOO_LARGE


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, DeadLetterReason.UNDECODABLE),
        (b"", DeadLetterReason.UNDECODABLE),
        (b"\x00\x00", DeadLetterReason.UNDECODABLE),
        (b"\x01" + VALUE[1:], DeadLetterReason.UNDECODABLE),
        (VALUE[:-1], DeadLetterReason.UNDECODABLE),
        (VALUE + b"\x00", DeadLetterReason.UNDECODABLE),
        (VALUE[:-1] + b"\x02", DeadLetterReason.UNDECODABLE),  # a boolean that is neither
        (b"\x00\x00\x00\x00\x01" + VALUE[5:], DeadLetterReason.UNKNOWN_SCHEMA),
        (CODEC.encode_row(example(OpenTimer)), DeadLetterReason.UNKNOWN_SCHEMA),  # a schema, but not of this type
        (VALUE + bytes(MAX_VALUE_BYTES), DeadLetterReason.TOO_LARGE),
    ],
)
def test_message_is_refused_with_its_reason_when_the_value_is_wrong(
    value: bytes | None, reason: DeadLetterReason
) -> None:
    assert refused(value, list(FEWEST.items())).reason is reason


def test_detail_never_repeats_what_was_sent() -> None:
    number = "4111111111111111"
    cases = [
        refused(VALUE, with_headers(ce_time=number.encode())),
        refused(VALUE, with_headers(ce_type=number.encode())),
        refused(VALUE, [*FEWEST.items(), ("ce_" + number * 2, b"\xff")]),
        refused(structured(data=EVENT["data"] | {"amount_minor": number}), STRUCTURED_HEADERS),
        refused(structured(data=EVENT["data"] | {number: 1}), STRUCTURED_HEADERS),
    ]
    for error in cases:
        assert number not in str(error)
        assert error.__cause__ is None


def test_claims_are_keyed_otherwise_so_their_partition_key_is_not_held_to_the_order() -> None:
    record = example(ClaimRequested)
    envelope = dataclasses.replace(envelope_of(record), partitionkey="originA|idem-1")
    message = CODEC.encode(record, envelope)
    assert CODEC.decode(message.value, message.headers) == (envelope, record)


@pytest.mark.parametrize("traceparent", ["", "00-0-0-0", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff-" + "a" * 32])
def test_malformed_traceparent_starts_a_new_trace_and_refuses_nothing(traceparent: str) -> None:
    headers = [*FEWEST.items(), ("ce_traceparent", traceparent.encode() or b"x"), ("ce_tracestate", b"a=1")]
    envelope, _ = CODEC.decode(VALUE, headers)
    assert (envelope.traceparent, envelope.tracestate) == (None, None)


def test_structured_event_is_taken_with_json_data() -> None:
    value = structured(time="2026-11-22T10:15:30+01:00", sequence=3, partitionkey="order-1", subject=None)
    envelope, record = CODEC.decode(value, STRUCTURED_HEADERS)
    assert record == COMMAND
    assert envelope.sequence == 3
    assert envelope.time_ms == 1_795_338_930_000
    assert envelope.subject is None


def test_structured_event_is_taken_with_avro_data() -> None:
    encoded = base64.b64encode(VALUE).decode()
    value = structured(data=..., data_base64=encoded, datacontenttype="application/avro")
    assert CODEC.decode(value, STRUCTURED_HEADERS)[1] == COMMAND


@pytest.mark.parametrize("content_type", ["application/json", "application/vnd.shop+json; charset=utf-8", ...])
def test_structured_event_is_taken_with_json_data_in_base64(content_type: object) -> None:
    encoded = base64.b64encode(json.dumps(EVENT["data"]).encode()).decode()
    value = structured(data=..., data_base64=encoded, datacontenttype=content_type)
    assert CODEC.decode(value, STRUCTURED_HEADERS)[1] == COMMAND


@pytest.mark.parametrize("content_type", ["avro/binary", "application/vnd.confluent.avro"])
def test_structured_event_is_taken_when_its_avro_has_a_clients_own_name(content_type: str) -> None:
    encoded = base64.b64encode(VALUE).decode()
    value = structured(data=..., data_base64=encoded, datacontenttype=content_type)
    assert CODEC.decode(value, STRUCTURED_HEADERS)[1] == COMMAND


def test_structured_event_is_taken_when_a_data_member_is_null_beside_the_other() -> None:
    assert CODEC.decode(structured(data_base64=None), STRUCTURED_HEADERS)[1] == COMMAND
    value = structured(data=None, data_base64=base64.b64encode(VALUE).decode(), datacontenttype="application/avro")
    assert CODEC.decode(value, STRUCTURED_HEADERS)[1] == COMMAND


def test_structured_event_is_taken_when_it_begins_with_a_byte_order_mark() -> None:
    assert CODEC.decode(b"\xef\xbb\xbf" + structured(), STRUCTURED_HEADERS)[1] == COMMAND


def test_structured_event_may_leave_out_what_has_a_default() -> None:
    capture = {"origin_id": "o", "order_id": "order-1", "idempotency_key": "k", "payment_id": "pay_x", "final": False}
    _, record = CODEC.decode(structured(type="payments.capture.requested.v1", data=capture), STRUCTURED_HEADERS)
    assert getattr(record, "amount_minor", 0) is None


def test_structured_event_reads_bytes_lists_symbols_and_nested_records() -> None:
    letter = example(DeadLetter)
    members = dataclasses.asdict(letter) | {
        "key": base64.b64encode(letter.key or b"").decode(),
        "value": base64.b64encode(letter.value or b"").decode(),
        "headers": [{"name": letter.headers[0].name, "value": base64.b64encode(letter.headers[0].value).decode()}],
    }
    value = structured(type=TYPES[DeadLetter], data=members)
    assert CODEC.decode(value, STRUCTURED_HEADERS)[1] == letter


@pytest.mark.parametrize(
    "changed",
    [
        {"amount_minor": True},
        {"amount_minor": 1.0},
        {"amount_minor": "1"},
        {"amount_minor": 2**63},
        {"amount_minor": None},
        {"capture": 1},
        {"token": 5},
        {"token": "\ud800"},
        {"extra": 1},
        {"currency": ...},
    ],
)
def test_structured_data_is_invalid_when_a_field_is_not_of_its_avro_type(changed: dict[str, object]) -> None:
    members = {name: member for name, member in (EVENT["data"] | changed).items() if member is not ...}
    assert refused(structured(data=members), STRUCTURED_HEADERS).reason is DeadLetterReason.INVALID


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "because"},
        {"headers": {}},
        {"headers": [1]},
        {"headers": [{}] * (MAX_ITEMS + 1)},
        {"key": "not base64!"},
        {"key": "é"},
    ],
)
def test_structured_data_is_invalid_when_symbols_lists_or_bytes_are_not_what_they_must_be(
    changed: dict[str, object],
) -> None:
    members = dataclasses.asdict(example(DeadLetter)) | {"key": None, "value": None, "headers": []} | changed
    error = refused(structured(type=TYPES[DeadLetter], data=members), STRUCTURED_HEADERS)
    assert error.reason is DeadLetterReason.INVALID
    assert next(iter(changed)) in error.detail


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", DeadLetterReason.UNDECODABLE),
        (b"\xff", DeadLetterReason.UNDECODABLE),
        (b"[]", DeadLetterReason.NOT_CLOUD_EVENT),
        (b'{"id": NaN}', DeadLetterReason.UNDECODABLE),
        (b'{"id": "1", "id": "2"}', DeadLetterReason.UNDECODABLE),
        (b"[" * 100_000, DeadLetterReason.UNDECODABLE),
        (b'{"id": ' + b"9" * 5_000 + b"}", DeadLetterReason.UNDECODABLE),
        (b" " * (MAX_VALUE_BYTES + 1), DeadLetterReason.TOO_LARGE),
        (structured(data=[[]], id=...), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(x=json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)), DeadLetterReason.TOO_LARGE),
        (structured(data=...), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(data_base64="AA=="), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(id=1.5), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(id=2**64), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(id={}), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(id=7), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(source=7), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(subject=True), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(myExtension="1"), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(**{"my.extension": "1"}), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(**{"": "1"}), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(data=None), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(id="\ud800"), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(id=None), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(subject="x" * (MAX_ATTRIBUTE_BYTES + 1)), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(specversion="1.1"), DeadLetterReason.NOT_CLOUD_EVENT),
        (structured(type="x"), DeadLetterReason.UNKNOWN_TYPE),
        (structured(datacontenttype="text/xml"), DeadLetterReason.UNKNOWN_CONTENT_TYPE),
        (structured(data=..., data_base64="AA==", datacontenttype="text/xml"), DeadLetterReason.UNKNOWN_CONTENT_TYPE),
        (structured(data=..., data_base64="AA=="), DeadLetterReason.UNDECODABLE),  # of JSON, and it is none
        (structured(data=..., data_base64="eyJhIjoxLCJhIjoxfQ=="), DeadLetterReason.UNDECODABLE),  # a key twice
        (
            structured(data=..., data_base64="?", datacontenttype="application/avro"),
            DeadLetterReason.UNDECODABLE,
        ),
        (structured(data=..., data_base64=7, datacontenttype="application/avro"), DeadLetterReason.UNDECODABLE),
        (structured(data=..., data_base64="AA==", datacontenttype="application/avro"), DeadLetterReason.UNDECODABLE),
        (structured(data=7), DeadLetterReason.INVALID),
        (structured(originid="originB"), DeadLetterReason.INVALID),
    ],
)
def test_structured_event_is_refused_with_its_reason(value: bytes, reason: DeadLetterReason) -> None:
    assert refused(value, STRUCTURED_HEADERS).reason is reason


def test_structured_event_may_hold_a_boolean_extension_and_a_json_media_type_of_another_name() -> None:
    value = structured(sampled=True, other=False, datacontenttype="application/vnd.shop+json")
    assert CODEC.decode(value, STRUCTURED_HEADERS)[1] == COMMAND


# --- evolution -------------------------------------------------------------------------------------------------------


def codec_that_also_knows(
    schema_id: int, change: Callable[[dict[str, Any]], None]
) -> tuple[MessageCodec, dict[str, Any]]:
    schema = json.loads(newest_schemas()["payment_requested"].text)
    change(schema)
    parsed = parse(json.dumps(schema))
    own = SchemaIds.packaged()
    names = newest_schemas()
    known = {own.own_id(name): own.writer(own.own_id(name)) for name in names}
    writers = {key: writer for key, writer in known.items() if writer is not None}
    writers[schema_id] = WriterSchema(record="payment_requested", parsed=parsed, current=False)
    return MessageCodec(SchemaIds(own_ids={name: own.own_id(name) for name in names}, writers=writers)), parsed


def test_message_of_a_newer_writer_is_resolved_to_the_version_that_is_known_here() -> None:
    field = {"name": "descriptor", "type": ["null", "string"], "default": None}
    codec, parsed = codec_that_also_knows(77, lambda schema: schema["fields"].insert(0, field))
    stream = io.BytesIO(b"\x00\x00\x00\x00\x4d")
    stream.seek(5)
    fastavro.schemaless_writer(stream, parsed, dataclasses.asdict(COMMAND) | {"descriptor": "SHOP"})
    assert codec.decode(stream.getvalue(), list(FEWEST.items()))[1] == COMMAND
    with pytest.raises(DecodeError, match="bytes follow"):
        codec.decode(stream.getvalue() + b"\x00", list(FEWEST.items()))
    with pytest.raises(DecodeError, match="does not fit"):
        codec.decode(stream.getvalue()[:-1], list(FEWEST.items()))


def test_message_is_undecodable_when_its_writer_cannot_be_resolved() -> None:
    codec, parsed = codec_that_also_knows(77, lambda schema: schema["fields"].pop(0))  # one without a default
    stream = io.BytesIO(b"\x00\x00\x00\x00\x4d")
    stream.seek(5)
    fastavro.schemaless_writer(stream, parsed, dataclasses.asdict(COMMAND))
    with pytest.raises(DecodeError) as caught:
        codec.decode(stream.getvalue(), list(FEWEST.items()))
    assert caught.value.reason is DeadLetterReason.UNDECODABLE


def test_resolution_builds_nested_records_symbols_and_lists_as_the_fast_path_does() -> None:
    own = SchemaIds.packaged()
    own_id = own.own_id("order_row")
    names = newest_schemas()
    slow = WriterSchema(record="order_row", parsed=reader_schema("order_row"), current=False, version=1)
    codec = MessageCodec(SchemaIds(own_ids={name: own.own_id(name) for name in names}, writers={own_id: slow}))
    row = example(OrderRow)
    assert codec.decode_row(OrderRow, CODEC.encode_row(row)) == row


# --- types -----------------------------------------------------------------------------------------------------------


def test_every_record_has_its_type_and_every_type_its_record() -> None:
    assert set(TYPES) | {PaymentEvent} == set(RECORD_CLASSES)
    assert set(CLASSES) == set(TYPES.values()) | EVENT_TYPES
    assert all(CLASSES[name] is PaymentEvent for name in EVENT_TYPES)


def test_event_types_are_named_by_kind_and_transition() -> None:
    assert event_type(OperationKind.SALE, Transition.SUCCEEDED) == "payments.sale.succeeded.v1"
    assert event_type(OperationKind.AUTHORIZE, Transition.DECLINED) == "payments.authorization.declined.v1"
    assert event_type(OperationKind.REFUND, Transition.REJECTED) == "payments.operation.rejected.v1"
    assert event_type(OperationKind.AUTHORIZE, Transition.EXPIRED) == "payments.payment.expired.v1"


def test_encode_says_which_schema_the_data_has() -> None:
    headers = dict(CODEC.encode(COMMAND, Envelope(id="1", source="/x", type=TYPE, time_ms=0)).headers)
    newest = newest_schemas()["payment_requested"].version
    assert headers["ce_dataschema"] == f"urn:payment-engine:schema:payment_requested:v{newest}".encode()
    assert headers["content-type"] == b"application/avro"
    assert headers["ce_time"] == b"1970-01-01T00:00:00.000Z"


def test_encode_refuses_what_is_not_of_its_declared_type() -> None:
    for changed in ({"amount_minor": 2**63}, {"amount_minor": -(2**63) - 1}, {"token": "\ud800"}, {"token": 5}):
        with pytest.raises((ValueError, AttributeError, OverflowError)):
            CODEC.encode_row(dataclasses.replace(COMMAND, **changed))  # type: ignore[arg-type] # that is the test


def test_extension_names_are_those_that_cloud_events_allows() -> None:
    for field in dataclasses.fields(cloud_event.Envelope):
        name = field.name.removesuffix("_ms")
        assert name.isalnum()
        assert name.islower()
        assert len(name) <= 20
