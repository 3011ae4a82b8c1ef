"""A structured CloudEvent (`application/cloudevents+json`) taken apart: its attributes, and its data.

Called by `schemas.messages` for foreign producers that cannot write headers; the engine itself writes binary mode only.
Source: CloudEvents JSON format 1.0.2.
"""

import base64
import binascii
import codecs
from dataclasses import dataclass

from schemas import strict_json
from schemas.avro_codec import MAX_VALUE_BYTES
from schemas.cloud_event import AVRO_CONTENT_TYPE, MAX_ATTRIBUTE_BYTES, Envelope, checked_name, media_type, to_envelope
from schemas.decode_errors import DecodeError
from schemas.strict_json import BadJsonError, JsonValue, TooDeepError
from schemas.vocabulary import DeadLetterReason

JSON_CONTENT_TYPE = "application/json"
MAX_DEPTH = 32  # of nested lists and objects; ours has 4

_DATA_MEMBERS = frozenset({"data", "data_base64"})
_TEXT_ATTRIBUTES = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"}
)
"""CloudEvents' own attributes: all are of a type that JSON spells as a string. An extension may be a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredEvent:
    """What a structured event holds: exactly one of `framed_avro` and `parsed_json` is its data."""

    envelope: Envelope
    framed_avro: bytes | None
    parsed_json: object


def read_event(value: bytes) -> StructuredEvent:
    """Return the event. Raises: DecodeError for whatever is not one."""
    parsed = _parse(value, "the event")
    if not isinstance(parsed, dict):
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, "the event is not an object")
    members = {name: member for name, member in parsed.items() if member is not None}  # the JSON format: null is absent
    attributes = {
        checked_name(name): _attribute_text(name, member)
        for name, member in members.items()
        if name not in _DATA_MEMBERS
    }
    envelope = to_envelope(attributes)
    if len(_DATA_MEMBERS & members.keys()) != 1:
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, "exactly one of data and data_base64 is needed")
    content_type = media_type(attributes.get("datacontenttype", JSON_CONTENT_TYPE))
    is_json = content_type == JSON_CONTENT_TYPE or content_type.endswith("+json")
    if "data" in members:
        if not is_json:
            raise DecodeError(DeadLetterReason.UNKNOWN_CONTENT_TYPE, "data is JSON, datacontenttype says otherwise")
        return StructuredEvent(envelope=envelope, framed_avro=None, parsed_json=members["data"])
    if not is_json and content_type != AVRO_CONTENT_TYPE:
        raise DecodeError(DeadLetterReason.UNKNOWN_CONTENT_TYPE, "data_base64 must be of JSON or application/avro")
    data = _decoded(members["data_base64"])
    if is_json:
        return StructuredEvent(envelope=envelope, framed_avro=None, parsed_json=_parse(data, "data_base64"))
    return StructuredEvent(envelope=envelope, framed_avro=data, parsed_json=None)


def _parse(raw: bytes, what: str) -> JsonValue:
    if len(raw) > MAX_VALUE_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"{what} has more than {MAX_VALUE_BYTES} bytes")
    try:
        # Fractions and surrogates are refused below, with the name of their field. RFC 8259 lets a reader take a BOM.
        return strict_json.parse(
            raw.removeprefix(codecs.BOM_UTF8), max_depth=MAX_DEPTH, fractions=True, lone_surrogates=True
        )
    except TooDeepError:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"{what} nests deeper than {MAX_DEPTH}") from None
    except BadJsonError as error:
        raise DecodeError(DeadLetterReason.UNDECODABLE, f"{what} cannot be read: {error}") from None


def _attribute_text(name: str, member: object) -> str:
    if name in _TEXT_ATTRIBUTES and not isinstance(member, str):
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, f"{name} is not a string")
    if isinstance(member, bool):
        return "true" if member else "false"
    if isinstance(member, str):
        if len(member) > MAX_ATTRIBUTE_BYTES:
            raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, "an attribute is too long")
        return member
    if isinstance(member, int) and abs(member) < 2**63:
        return str(member)
    raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, "an attribute is not a string, an integer or a boolean")


def _decoded(member: object) -> bytes:
    try:
        return base64.b64decode(member if isinstance(member, str) else b"!", validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(DeadLetterReason.UNDECODABLE, "data_base64 is not base64") from None
