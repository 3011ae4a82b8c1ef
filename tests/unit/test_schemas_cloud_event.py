"""Our header forms against the CloudEvents SDK as a judge, and the times against the standard library."""

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary, to_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas import cloud_event, rfc3339
from schemas.cloud_event import MAX_ATTRIBUTE_BYTES, Envelope, RawHeaders, from_headers, media_type_of
from schemas.decode_errors import DecodeError
from schemas.messages import MessageCodec, SchemaIds
from schemas.records.commands import PaymentRequested
from schemas.records.payments import PaymentEvent
from schemas.structured_event import read_event
from tests.support.golden_messages import envelope_of, example
from tests.support.record_strategies import times_ms

RESERVED = {"id", "source", "type", "specversion", "time", "expirytime", "data"}
CODEC = MessageCodec(SchemaIds.packaged())


class _AsItIs(JSONFormat):
    """Binary data untouched: the SDK's JSON format would decode Avro bytes that happen to be UTF-8."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body

    def write_data(self, data: Any, datacontenttype: str | None) -> bytes:
        assert isinstance(data, bytes)
        return data


def test_sdk_reads_the_same_attributes_out_of_our_headers() -> None:
    record = example(PaymentEvent)
    envelope = envelope_of(record)
    message = CODEC.encode(record, envelope)
    event = from_binary(KafkaMessage(headers=dict(message.headers), key=None, value=message.value), _AsItIs())
    assert (event.get_id(), event.get_source(), event.get_type()) == (envelope.id, envelope.source, envelope.type)
    assert event.get_subject() == envelope.subject
    assert event.get_specversion() == "1.0"
    assert event.get_datacontenttype() == "application/avro"
    time = event.get_time()
    assert time is not None
    assert (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == envelope.time_ms
    for name in ("partitionkey", "originid", "idempotencykey", "traceparent", "tracestate"):
        assert event.get_extension(name) == getattr(envelope, name)
    assert event.get_extension("replypartition") == str(envelope.replypartition)
    assert event.get_extension("sequence") == f"{envelope.sequence:019}"
    assert event.get_data() == message.value


def _sdk_event(data: object, content_type: str) -> CloudEvent:
    attributes = {
        "id": "command-1",
        "source": "/shop",
        "type": "payments.payment.requested.v1",
        "specversion": "1.0",
        "time": datetime(2026, 11, 22, 10, 15, 30, 250_000, tzinfo=UTC),
        "subject": "pay_1",
        "datacontenttype": content_type,
        "sequence": "4",
    }
    return CloudEvent(attributes, data)  # type: ignore[arg-type] # the SDK's own union of data


def test_binary_message_that_the_sdk_wrote_is_taken() -> None:
    command = example(PaymentRequested)
    value = CODEC.encode(command, envelope_of(command)).value
    written = to_binary(_sdk_event(value, "application/avro"), _AsItIs())
    envelope, record = CODEC.decode(written.value, list(written.headers.items()))
    assert record == command
    expected = Envelope(
        id="command-1",
        source="/shop",
        type="payments.payment.requested.v1",
        time_ms=rfc3339.ms_of("2026-11-22T10:15:30.250Z"),
        subject="pay_1",
        sequence=4,
    )
    assert envelope == expected


def test_structured_message_that_the_sdk_wrote_is_taken() -> None:
    fields = {
        "origin_id": "o",
        "order_id": "order-1",
        "idempotency_key": "k",
        "amount_minor": 5,
        "currency": "EUR",
        "token": "tok_1",
        "capture": False,
    }
    written = to_structured(_sdk_event(fields, "application/json"), JSONFormat())
    envelope, record = CODEC.decode(written.value, list(written.headers.items()))
    assert isinstance(record, PaymentRequested)
    assert record.amount_minor == 5
    assert envelope.sequence == 4


@given(st.text("abyz019AZ._-é", max_size=8).filter(lambda name: name not in RESERVED))
def test_name_of_an_extension_is_taken_exactly_when_the_sdk_takes_it(name: str) -> None:
    attributes = {"id": "command-1", "source": "/shop", "type": "t", "specversion": "1.0", name: "1"}
    headers = [(f"ce_{attribute}", text.encode()) for attribute, text in attributes.items()]
    try:
        CloudEvent(dict(attributes), None)
    except CloudEventValidationError:
        with pytest.raises(DecodeError):
            from_headers(headers)
    else:
        assert from_headers(headers).id == "command-1"


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion", "subject"])
def test_attribute_that_must_be_text_is_refused_as_the_sdk_refuses_it_when_it_is_a_number(name: str) -> None:
    attributes: dict[str, Any] = {"id": "command-1", "source": "/shop", "type": "t", "specversion": "1.0", name: 7}
    with pytest.raises(CloudEventValidationError):
        CloudEvent(dict(attributes), None)
    with pytest.raises(DecodeError):
        read_event(json.dumps({**attributes, "data": {}}).encode())


@given(times_ms)
def test_time_comes_back_as_it_was(time_ms: int) -> None:
    text = rfc3339.text_of(time_ms)
    assert rfc3339.ms_of(text) == time_ms
    assert (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == time_ms


@given(st.datetimes(timezones=st.timezones()))
def test_time_is_read_as_the_standard_library_reads_it_when_it_has_an_offset(moment: datetime) -> None:
    offset = moment.utcoffset()
    if offset is None or offset % timedelta(minutes=1):
        return  # RFC 3339 knows no seconds in an offset
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert rfc3339.ms_of(moment.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2026-11-22t10:15:30z", "2026-11-22T10:15:30.000Z"),
        ("2026-11-22T10:15:30.1Z", "2026-11-22T10:15:30.100Z"),
        ("2026-11-22T10:15:30.123456789Z", "2026-11-22T10:15:30.123Z"),
        ("2026-11-22T10:15:30-05:30", "2026-11-22T15:45:30.000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_time_may_be_spelled_in_every_way_of_the_rfc(text: str, same_as: str) -> None:
    assert rfc3339.text_of(rfc3339.ms_of(text)) == same_as


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-11-22", "2026-11-22T10:15:30", "2026-11-22 10:15:30Z", "2026-11-22T24:00:00Z"),
        *("2026-02-30T10:15:30Z", "2026-11-22T10:15:61Z", "2026-11-22T10:15:30+24:00", "2026-11-22T10:15:30+01:60"),
        *("2026-11-22T10:15:30.+12Z", "2026-11-22T10:15:30.1 2Z", "2026-11-22T10:15:30.²²²Z", "٢٠٢٦-11-22T10:15:30Z"),
        *("0000-01-01T00:00:00Z", "2026-11-22T10:15:30." + "1" * 60 + "Z", "20261122T101530Z"),
    ],
)
def test_time_is_refused_when_it_is_not_rfc_3339(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the message is the standard library's in some of these
        rfc3339.ms_of(text)


def test_time_outside_the_calendar_cannot_be_written() -> None:
    with pytest.raises(OverflowError):
        rfc3339.text_of(10**18)


_REQUIRED = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/s"), ("ce_type", b"t"))
_VALUES = st.sampled_from(
    [
        *(
            None,
            b"",
            b"1",
            b"0",
            b"\0",
            b"1\x001",
            b"\xff",
            "\u00e9".encode(),
            b"2026-11-22T10:15:30Z",
            b"application/avro",
        ),
        *(b"x" * MAX_ATTRIBUTE_BYTES, b"x" * (MAX_ATTRIBUTE_BYTES + 1), b"x" * (MAX_ATTRIBUTE_BYTES // 2)),
    ]
)
_NAMES = st.sampled_from(
    [
        *("content-type", "ce_id", "ce_time", "ce_subject", "ce_sequence", "ce_replypartition", "ce_replyfinal"),
        *("ce_expirytime", "ce_traceparent", "ce_tracestate", "ce_foreign", "other", "ce_"),
    ]
)


def _outcome(headers: RawHeaders) -> object:
    try:
        return media_type_of(headers), from_headers(headers)
    except DecodeError as error:
        return error.reason, error.detail


@given(
    required=st.sets(st.sampled_from(_REQUIRED), min_size=3).map(sorted),
    others=st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
)
def test_headers_say_the_same_when_others_with_their_names_came_before(
    required: list[tuple[str, bytes]], others: list[tuple[str, bytes | None]]
) -> None:
    headers = [*required, *others]
    cloud_event._LAYOUTS.clear()
    closely = _outcome(headers)
    from_headers([*_REQUIRED])

    assert _outcome(headers) == closely


def test_layouts_of_headers_are_forgotten_when_there_are_too_many() -> None:
    cloud_event._LAYOUTS.clear()
    headers = [*_REQUIRED, ("ce_subject", b"1"), ("ce_originid", b"1")]
    for number, ordered in enumerate(permutations(headers)):  # 720
        assert from_headers(ordered).subject == "1"
        assert len(cloud_event._LAYOUTS) == number % cloud_event._MAX_LAYOUTS + 1
