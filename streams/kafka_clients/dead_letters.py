"""A record that cannot be taken becomes a dead letter: whole, with where it came from and why.

Called by the agents and the log worker. Pure. The letter goes to `payments.dlq.v1` under the record's own key, and its
offset counts as done only when the broker has acknowledged the letter. What looks like a card number is withheld: the
rule that none is ever stored outranks the rule that nothing is lost, and the letter says so.
"""

from typing import Protocol

from schemas import identifiers, topics
from schemas.card_disguises import holds_card_data
from schemas.card_numbers import is_secret_key
from schemas.event_types import TYPES
from schemas.messages import DecodeError, EncodedMessage, Envelope, MessageCodec
from schemas.records.commands import Command, is_for_its_gateway_alone
from schemas.records.dead_letters import DeadLetter, RawHeader
from schemas.vocabulary import DeadLetterReason

REDRIVEN_FROM_HEADER = "dlq_from"
"""On a redriven record: where its dead letter stands, `payments.dlq.v1:partition:offset`."""

MAX_DETAIL_CHARS = 500
CARD_DETAIL = "holds what looks like card data"
# More than any topic of the catalogue takes, less than a letter may be. A record can be larger all the same: a topic
# takes what is compressed by its compressed size, the key is in the letter and is the letter's own key too, and a name
# that is not UTF-8 is written out with escapes of four bytes.
MAX_RAW_BYTES = 1_500_000
_PRIVATE_MEMBERS = (b'"payer"', b'"tokens"', b'"parameters"')
HEADER_OVERHEAD_BYTES = 10  # the two lengths of a header in the letter, at most


class RawRecord(Protocol):
    """A record as it stands on the log: an `InputEvent` of the agents and a `LogRecord` both are one."""

    @property
    def topic(self) -> str:
        """Where it stands."""
        ...

    @property
    def partition(self) -> int:
        """Where it stands."""
        ...

    @property
    def offset(self) -> int:
        """Where it stands."""
        ...

    @property
    def timestamp_ms(self) -> int:
        """When it was appended, milliseconds since the epoch."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its value."""
        ...

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """Its headers."""
        ...


def dead_letter_of(
    record: RawRecord, *, component: str, reason: DeadLetterReason, detail: str, private: bool = False
) -> DeadLetter:
    """Return the dead letter of a record as it came; without its bytes when they hold card data.

    Of a `private` record (`is_private`) the value is left out: it stands where it stood, and can be redriven from there
    until retention deletes it. Of a record that no letter could hold the value is left out, and the key and headers too
    where they alone are too large. `failed_at_ms` is the record's own time: a replay repeats the letter to the byte.
    """
    withheld = reason is DeadLetterReason.CARD_NUMBER or has_card_data(record)
    beside_value = _bytes_beside_value(record)
    oversized = beside_value + len(record.value or b"") > MAX_RAW_BYTES
    bare = withheld or beside_value > MAX_RAW_BYTES
    return DeadLetter(
        reason=DeadLetterReason.CARD_NUMBER if withheld else reason,
        detail=CARD_DETAIL if withheld else detail[:MAX_DETAIL_CHARS],
        component=component,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        key=None if bare else record.key,
        value=None if withheld or oversized or private else record.value,
        headers=() if bare else tuple(RawHeader(name=name, value=value) for name, value in record.headers),
        withheld=withheld or oversized or private,
        failed_at_ms=record.timestamp_ms,
    )


def is_private(record: RawRecord, codec: MessageCodec) -> bool:
    """Return whether a command tells what may stand in it alone: of the payer, tokens for gateways, a payer's return.

    Of one that cannot be decoded only the names of JSON members can say so.
    """
    if record.topic != topics.COMMANDS or record.value is None:
        return False
    try:
        _, command = codec.decode(record.value, record.headers)
    except DecodeError:
        return any(name in record.value for name in _PRIVATE_MEMBERS)
    return isinstance(command, Command) and is_for_its_gateway_alone(command)


def _bytes_beside_value(record: RawRecord) -> int:
    headers = sum(len(name.encode()) + len(value) + HEADER_OVERHEAD_BYTES for name, value in record.headers)
    return 2 * len(record.key or b"") + headers


def has_card_data(record: RawRecord) -> bool:
    """Return whether a key, a value or a header of the record holds what looks like card data, or is named like it."""
    parts = [record.key or b"", record.value or b"", *(value for _, value in record.headers)]
    names = [name for name, _ in record.headers]
    return any(map(is_secret_key, names)) or any(map(holds_card_data, [*parts, *(name.encode() for name in names)]))


def letter_message(codec: MessageCodec, letter: DeadLetter) -> EncodedMessage:
    """Return the message that carries the letter; its id is the record's position, so that a replay repeats it."""
    position = f"{letter.topic}/{letter.partition}/{letter.offset}"
    envelope = Envelope(
        id=identifiers.event_id(position, "dead"),
        source=f"payment-engine/{letter.component}",
        type=TYPES[DeadLetter],
        subject=position,
        time_ms=letter.failed_at_ms,
    )
    return codec.encode(letter, envelope)
