"""Messages on the log: a record and its envelope to bytes and headers, and back. The one door that every room uses.

Called by the ingress, the agents, the executor, the CLI and the tests. Calls `avro_codec` (the value), `cloud_event`
and `structured_event` (the attributes), `json_form` (JSON data) and `event_types` (type to record).
Why one door: a record that came through it is complete, of a known type, and does not contradict its own envelope.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from schemas import identifiers
from schemas.avro_codec import AvroCodec
from schemas.cloud_event import (
    AVRO_CONTENT_TYPE,
    CONTENT_TYPE_HEADER,
    SPEC_VERSION,
    STRUCTURED_CONTENT_TYPE,
    Envelope,
    Headers,
    RawHeaders,
    from_headers,
    media_type_of,
    to_headers,
)
from schemas.decode_errors import DecodeError, OtherReleaseError
from schemas.event_types import CLASSES
from schemas.json_form import read_record
from schemas.quick_init import quick_init
from schemas.record_shapes import RECORD_CLASSES, Record, Row, fields_of, name_of
from schemas.records.claims import ClaimRequested
from schemas.records.commands import (
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.row_cache import RowCache
from schemas.schema_ids import PackagedSchema, SchemaIds, versions_of
from schemas.structured_event import read_event
from schemas.vocabulary import DeadLetterReason

__all__ = [
    "DecodeError",
    "EncodedMessage",
    "Envelope",
    "Headers",
    "MessageCodec",
    "OtherReleaseError",
    "Record",
    "Row",
    "SchemaIds",
]

R = TypeVar("R", bound=Row)

_COMMANDS = (PaymentRequested, CaptureRequested, VoidRequested, RefundRequested, CompletionRequested)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedMessage:
    """What a producer sends."""

    value: bytes
    headers: Headers


def _fixed_headers(written: PackagedSchema) -> Headers:
    # An absolute URI, as the attribute asks; it names the version, and the id in the value names its schema.
    schema = f"urn:payment-engine:schema:{written.record}:v{written.version}"
    return (
        ("ce_specversion", SPEC_VERSION.encode()),
        (CONTENT_TYPE_HEADER, AVRO_CONTENT_TYPE.encode()),
        ("ce_dataschema", schema.encode()),
    )


# What an extension attribute repeats of the body. Claims have another key than their order (DESIGN.md, "Topics").
_REPEATED: tuple[tuple[str, str], ...] = (
    ("originid", "origin_id"),
    ("idempotencykey", "idempotency_key"),
    ("partitionkey", "order_id"),
)


def _repeats_of(cls: type[Record]) -> tuple[tuple[str, str], ...]:
    names = {shape.name for shape in fields_of(cls)}
    return tuple(
        (attribute, field)
        for attribute, field in _REPEATED
        if field in names and not (attribute == "partitionkey" and cls is ClaimRequested)
    )


_REPEATS: Mapping[type[Record], tuple[tuple[str, str], ...]] = {cls: _repeats_of(cls) for cls in RECORD_CLASSES}


class MessageCodec:
    """Encodes and decodes every message and every table row. Share one: all it remembers is the last rows."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Write as this very release, until `write_as` says otherwise."""
        self._schema_ids = schema_ids
        self._avro = AvroCodec(schema_ids)
        self._rows = RowCache()
        self._fixed = self._fixed_of(schema_ids.release)
        self.own_release = schema_ids.release
        """Which one this program is of."""
        self.release = schema_ids.release
        """As which release it writes."""

    def _fixed_of(self, release: int) -> Mapping[type[Record], Headers]:
        written = versions_of(release, self._schema_ids.schemas)
        return {cls: _fixed_headers(written[name_of(cls)]) for cls in RECORD_CLASSES if name_of(cls) in written}

    def write_as(self, release: int) -> None:
        """Write from now on as this release wrote. What is read stays. Twice is safe. Raises: ValueError."""
        self._avro.write_as(release)
        self._fixed = self._fixed_of(release)
        self.release = release

    def encode(self, record: Record, envelope: Envelope) -> EncodedMessage:
        """Return the message in binary mode; equal input gives equal bytes and headers.

        Raises: TypeError, ValueError or OverflowError for values that are not of their declared types: a defect.
        """
        return EncodedMessage(value=self._avro.encode(record), headers=to_headers(envelope, self._fixed[type(record)]))

    def decode(self, value: bytes | None, headers: RawHeaders, *, ours: bool = False) -> tuple[Envelope, Record]:
        """Return what a message in binary or structured mode says, written with any schema version known.

        Args:
            value: of the message.
            headers: of the message.
            ours: the engine alone writes there, so that a schema which is not packaged here is of a later release.

        Raises: DecodeError, and nothing else, whatever the bytes are. An OtherReleaseError of what is ours stops its
        reader: nobody may guess.
        """
        media_type = media_type_of(headers)
        if media_type not in {AVRO_CONTENT_TYPE, STRUCTURED_CONTENT_TYPE}:
            raise DecodeError(DeadLetterReason.UNKNOWN_CONTENT_TYPE, "neither application/avro nor a JSON event")
        if value is None:
            raise DecodeError(DeadLetterReason.UNDECODABLE, "the message has no value")
        if media_type == AVRO_CONTENT_TYPE:
            envelope = from_headers(headers)
            record: Record = self._avro.decode(_class_of(envelope), value, ours=ours)
        else:
            envelope, record = self._decode_structured(value, ours=ours)
        _check_agreement(envelope, record)
        return envelope, record

    def _decode_structured(self, value: bytes, *, ours: bool) -> tuple[Envelope, Record]:
        event = read_event(value)
        cls = _class_of(event.envelope)
        if event.framed_avro is not None:
            return event.envelope, self._avro.decode(cls, event.framed_avro, ours=ours)
        return event.envelope, read_record(cls, event.parsed_json)

    def encode_row(self, row: Row, *, replaced: bytes | None = None) -> bytes:
        """Return the framed Avro of a table row; equal rows give equal bytes. Raises: as `AvroCodec.encode`.

        `replaced`: the bytes of the row that it takes the place of. They can be read still, if more slowly.
        """
        value = self._avro.encode(row)
        if replaced is not None:
            self._rows.forget(replaced)
        self._rows.put(value, row)
        return value

    def decode_row(self, cls: type[R], value: bytes) -> R:
        """Return the row of that class, written with any schema version of this release or one before it.

        Raises: DecodeError; an OtherReleaseError when a later release has written it, which stops its reader.
        """
        known = self._rows.get(value)
        if isinstance(known, cls):
            return known
        row = self._avro.decode(cls, value, ours=True)
        self._rows.put(value, row)
        return row


def _class_of(envelope: Envelope) -> type[Record]:
    cls = CLASSES.get(envelope.type)
    if cls is None:
        raise DecodeError(DeadLetterReason.UNKNOWN_TYPE, "no record of ours has this type")
    return cls


def _check_agreement(envelope: Envelope, record: Record) -> None:
    for attribute, field in _REPEATS[type(record)]:
        said = getattr(envelope, attribute)
        if said is not None and said != (meant := getattr(record, field)) and meant is not None:
            raise DecodeError(DeadLetterReason.INVALID, f"{attribute} contradicts {field}")
    if isinstance(record, _COMMANDS):
        try:
            identifiers.command_id(envelope.id)
        except identifiers.InvalidIdentifierError as error:
            raise DecodeError(DeadLetterReason.INVALID, str(error)) from None
