"""CloudEvents 1.0 on Kafka: attributes to headers and back (binary mode), and the attributes of a structured event.

Called by `schemas.messages` only. Written here because the Python SDK (2.x) turns Avro bytes that happen to be UTF-8
into `str` and invents an id where one is missing; the tests use it as a judge of the header forms.
Sources: CloudEvents 1.0.2, sections "Type System" and "Context Attributes"; its Kafka protocol binding 1.0.2; its JSON
format 1.0.2; its extensions partitioning, sequence, distributed tracing and expiry time.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from schemas import rfc3339
from schemas.decode_errors import DecodeError
from schemas.quick_init import quick_init
from schemas.vocabulary import DeadLetterReason

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
RawHeaders: TypeAlias = Sequence[tuple[str, bytes]] | Sequence[tuple[str, bytes | None]]
"""As a client gives them: Kafka allows a header without a value."""

CONTENT_TYPE_HEADER = "content-type"
AVRO_CONTENT_TYPE = "application/avro"
_ONLY_AVRO: list[bytes | None] = [AVRO_CONTENT_TYPE.encode()]
STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"
SPEC_VERSION = "1.0"
PREFIX = "ce_"
EXPIRY_HEADER = "ce_expirytime"

MAX_HEADERS = 128  # ours are fewer than 20; tracing and proxies add some
MAX_ATTRIBUTE_BYTES = 2_048
MAX_INTEGER = 2**31 - 1  # CloudEvents' Integer is 32 bits, signed
MAX_SEQUENCE = 2**63 - 1  # an Avro long
SEQUENCE_DIGITS = len(str(MAX_SEQUENCE))
"""A sequence is text, and the extension asks that it order as text: so each has the digits of the longest."""

# What clients call Avro in Confluent's framing; the framing itself says what it is.
_AVRO_CONTENT_TYPES = frozenset({AVRO_CONTENT_TYPE, "application/vnd.confluent.avro", "avro/binary"})
# What no CloudEvents string may hold: control characters, surrogates, non-characters of the basic plane.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_KNOWN_HEADERS = {
    PREFIX + name: name
    for name in (
        *("specversion", "id", "source", "type", "time", "subject", "dataschema", "partitionkey", "originid"),
        *("idempotencykey", "sequence", "traceparent", "tracestate", "replypartition", "replyfinal", "expirytime"),
    )
}
"""What nearly every header is: one look-up instead of a test of its prefix, a cut and a test of the name."""

_NAME_OF = operator.itemgetter(0)
_VALUE_OF = operator.itemgetter(1)
_MAX_LAYOUTS = 256
_LAYOUTS: dict[tuple[str, ...], tuple[str, ...]] = {}
"""The names of some message's headers, in their order, to the attributes that they are: a dozen layouts in all."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The attributes of one event. Extension names are CloudEvents names: lower case letters and digits only."""

    id: str  # of a command: the command id, which is also the request id a waiting ingress knows
    source: str
    type: str
    time_ms: int | None  # when it happened; None only where a foreign producer did not say
    subject: str | None = None  # the payment id
    partitionkey: str | None = None  # the order id
    originid: str | None = None
    idempotencykey: str | None = None
    sequence: int | None = None  # of a public event: rises per order; means nothing on a command
    traceparent: str | None = None
    tracestate: str | None = None
    replypartition: int | None = None  # of a command: the partition of `payments.replies.v1` where its ingress listens
    replyfinal: int | None = None  # of a command: 1 when only its final answer is waited for, not that it was accepted
    expiry_ms: int | None = None  # of a result: appended later by the log's time, its refusal proves nothing


def to_headers(envelope: Envelope, fixed: Headers) -> Headers:
    """Return the headers of binary mode: `fixed` (specversion, content type, schema) and the envelope's attributes."""
    headers = [
        *fixed,
        ("ce_id", envelope.id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", envelope.type.encode()),
    ]
    if envelope.time_ms is not None:
        headers.append(("ce_time", rfc3339.text_of(envelope.time_ms).encode()))
    for name, text in (
        ("ce_subject", envelope.subject),
        ("ce_partitionkey", envelope.partitionkey),
        ("ce_originid", envelope.originid),
        ("ce_idempotencykey", envelope.idempotencykey),
        ("ce_traceparent", envelope.traceparent),
        ("ce_tracestate", envelope.tracestate),
    ):
        if text is not None:
            headers.append((name, text.encode()))
    if envelope.sequence is not None:
        headers.append(("ce_sequence", b"%0*d" % (SEQUENCE_DIGITS, envelope.sequence)))
    if envelope.replypartition is not None:
        headers.append(("ce_replypartition", b"%d" % envelope.replypartition))
    if envelope.replyfinal is not None:
        headers.append(("ce_replyfinal", b"%d" % envelope.replyfinal))
    if envelope.expiry_ms is not None:
        headers.append((EXPIRY_HEADER, rfc3339.text_of(envelope.expiry_ms).encode()))
    return tuple(headers)


def media_type_of(headers: RawHeaders) -> str:
    """Return the media type of the content-type header in lower case, without parameters (a charset must be UTF-8).

    `application/avro` stands for every name of it, and for no header at all. Raises: DecodeError when there is more
    than one, one that is not text, or a charset other than UTF-8.
    """
    if len(headers) > MAX_HEADERS:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"more than {MAX_HEADERS} headers")
    by_name = dict(headers)
    if len(by_name) == len(headers) and by_name.get(CONTENT_TYPE_HEADER) == _ONLY_AVRO[0]:
        return AVRO_CONTENT_TYPE  # nearly every message: one look at all names is cheaper than one at each
    found = [raw for name, raw in headers if name == CONTENT_TYPE_HEADER]
    if not found or found == _ONLY_AVRO:
        return AVRO_CONTENT_TYPE
    if len(found) != 1:
        raise DecodeError(DeadLetterReason.UNKNOWN_CONTENT_TYPE, "more than one content-type header")
    try:
        return media_type((found[0] or b"")[:MAX_ATTRIBUTE_BYTES].decode())
    except UnicodeDecodeError:
        raise DecodeError(DeadLetterReason.UNKNOWN_CONTENT_TYPE, "the content type is not UTF-8") from None


def media_type(content_type: str) -> str:
    """Return the media type in lower case, `application/avro` for each of its names.

    Raises: DecodeError for a charset other than UTF-8.
    """
    media, *parameters = content_type.split(";")
    for parameter in parameters:
        name, _, setting = parameter.partition("=")
        if name.strip().lower() == "charset" and setting.strip().strip('"').lower() not in {"utf-8", "us-ascii"}:
            raise DecodeError(DeadLetterReason.UNKNOWN_CONTENT_TYPE, "the charset is not UTF-8")
    known = media.strip().lower()
    return AVRO_CONTENT_TYPE if known in _AVRO_CONTENT_TYPES else known


def from_headers(headers: RawHeaders) -> Envelope:
    """Return the envelope of a binary mode message; headers of others are left alone.

    Raises: DecodeError for a required attribute that is missing, and for any that is malformed or there twice.
    """
    attributes = _plain_attributes(headers)
    return to_envelope(_attributes_of(headers) if attributes is None else attributes)


def _plain_attributes(headers: RawHeaders) -> Mapping[str, str] | None:
    """Return the attributes of a message like nearly every one, read together; None: it has to be looked at closely.

    Such a message has the headers of one before it, in their order, each with a short text.
    """
    names = tuple(map(_NAME_OF, headers))
    layout = _LAYOUTS.get(names)
    if layout is None:
        _learn_layout(names)
        return None
    try:
        joined = b"\0".join(map(_VALUE_OF, headers))
        texts = joined.decode().split("\0")
    except (TypeError, UnicodeDecodeError):  # one has no value, or is not UTF-8
        return None
    if len(joined) > MAX_ATTRIBUTE_BYTES or len(texts) != len(layout):
        return None
    found = dict(zip(layout, texts, strict=True))
    found.pop(CONTENT_TYPE_HEADER, None)
    return found


def _learn_layout(names: tuple[str, ...]) -> None:
    """Keep which attributes the headers of these names are, if all are known ones and none is there twice."""
    known = {*_KNOWN_HEADERS, CONTENT_TYPE_HEADER}
    if len(set(names)) == len(names) and known.issuperset(names):
        if len(_LAYOUTS) >= _MAX_LAYOUTS:
            _LAYOUTS.clear()
        _LAYOUTS[names] = tuple(_KNOWN_HEADERS.get(name, name) for name in names)


def _attributes_of(headers: RawHeaders) -> Mapping[str, str]:
    attributes: dict[str, str] = {}
    for name, raw in headers:
        attribute = _KNOWN_HEADERS.get(name)
        if attribute is None:
            if not name.startswith(PREFIX):
                continue
            attribute = checked_name(name.removeprefix(PREFIX))
        if attribute in attributes:
            raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, "an attribute is there twice")
        if raw is None or len(raw) > MAX_ATTRIBUTE_BYTES:
            problem = f"{_shown(attribute)} has no value or more than {MAX_ATTRIBUTE_BYTES} bytes"
            raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, problem)
        try:  # written out here: a call for each header would cost a third of this function
            attributes[attribute] = raw.decode()
        except UnicodeDecodeError:
            problem = f"{_shown(attribute)} is not UTF-8"
            raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, problem) from None  # the cause quotes the value
    return attributes


def checked_name(name: str) -> str:
    """Return the name if an attribute may have it. Raises: DecodeError."""
    if not _NAME.fullmatch(name):
        problem = f"{_shown(name)} has a name of other than lower case letters and digits"
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, problem)
    return name


def _shown(name: str) -> str:
    # A foreign producer also chooses the names; only what may be a word is repeated in a detail.
    return name if re.fullmatch(r"[a-z]{1,17}[0-9]{0,3}", name) else "an attribute"


def to_envelope(attributes: Mapping[str, str]) -> Envelope:
    """Return the envelope of attributes in their text form, whose names are checked. Unknown ones are left out.

    Raises: DecodeError.
    """
    try:
        version, event_id = attributes["specversion"], attributes["id"]
        source, event_type = attributes["source"], attributes["type"]
    except KeyError as missing:
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, f"{missing.args[0]} is missing") from None
    _check_texts(attributes)
    if version != SPEC_VERSION:
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, "specversion is not 1.0")
    traceparent, tracestate = _trace_of(attributes)
    return Envelope(
        id=event_id,
        source=source,
        type=event_type,
        time_ms=_time_ms("time", attributes),
        subject=attributes.get("subject"),
        partitionkey=attributes.get("partitionkey"),
        originid=attributes.get("originid"),
        idempotencykey=attributes.get("idempotencykey"),
        sequence=_sequence_of(attributes) if "sequence" in attributes else None,
        traceparent=traceparent,
        tracestate=tracestate,
        replypartition=_integer("replypartition", attributes) if "replypartition" in attributes else None,
        replyfinal=_integer("replyfinal", attributes) if "replyfinal" in attributes else None,
        expiry_ms=_time_ms("expirytime", attributes) if "expirytime" in attributes else None,
    )


def _check_texts(attributes: Mapping[str, str]) -> None:
    together = "".join(attributes.values())
    if together.isascii() and together.isprintable() and all(attributes.values()):
        return  # nearly every message: one look at all of them is cheaper than one at each
    for name, text in attributes.items():
        if not text or _FORBIDDEN.search(text):
            problem = f"{_shown(name)} is empty or holds a forbidden character"
            raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, problem)


def _sequence_of(attributes: Mapping[str, str]) -> int | None:
    # The extension allows any text that orders, and only our own events have to order by ours: a producer's word is
    # never a reason to refuse its command.
    text = attributes["sequence"]
    if not (text.isascii() and text.isdecimal()) or len(text) > SEQUENCE_DIGITS:
        return None
    number = int(text)
    return number if number <= MAX_SEQUENCE else None


def _time_ms(name: str, attributes: Mapping[str, str]) -> int | None:
    text = attributes.get(name)
    if text is None:
        return None
    try:
        return rfc3339.ms_of(text)
    except (ValueError, OverflowError):
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, f"{name} is not RFC 3339") from None


def _integer(name: str, attributes: Mapping[str, str]) -> int:
    text = attributes[name]
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_INTEGER:
        raise DecodeError(DeadLetterReason.NOT_CLOUD_EVENT, f"{name} is not an integer from 0 to {MAX_INTEGER}")
    return int(text)


def _trace_of(attributes: Mapping[str, str]) -> tuple[str | None, str | None]:
    # W3C Trace Context: who gets a malformed traceparent starts a new trace; a payment is never refused for it.
    traceparent = attributes.get("traceparent")
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return None, None
    return traceparent, attributes.get("tracestate")
