"""What the executor cannot take becomes a dead letter: whole, with where it came from and why.

Called by `handling`. Pure. What looks like a card number is withheld: the rule that none is ever kept outranks the
rule that nothing is lost, and the letter says so. Orders write no such thing; whoever else may append here might.
"""

from typing import Protocol

from schemas import identifiers
from schemas.card_numbers import find_card_number
from schemas.event_types import TYPES
from schemas.messages import Envelope
from schemas.records.dead_letters import DeadLetter, RawHeader
from schemas.vocabulary import DeadLetterReason

COMPONENT = "executor"
SOURCE = "payment-engine/executor"
MAX_DETAIL_CHARS = 500
CARD_DETAIL = "holds what looks like a card number"
MAX_RAW_BYTES = 1_500_000
"""More than any topic of the catalogue takes, less than a letter may be: for topics set to take more."""


class RawRecord(Protocol):
    """A record as aiokafka gives it."""

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
    def timestamp(self) -> int:
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


def dead_letter_of(record: RawRecord, reason: DeadLetterReason, detail: str, *, failed_at_ms: int) -> DeadLetter:
    """Return the letter of a record; what it may not or cannot hold is left out, and it says so."""
    if holds_card_number(record):
        return _letter(
            record, DeadLetterReason.CARD_NUMBER, CARD_DETAIL, failed_at_ms, key=None, value=None, headers=()
        )
    oversized = len(record.value or b"") > MAX_RAW_BYTES
    value = None if oversized else record.value
    return _letter(
        record, reason, detail, failed_at_ms, key=record.key, value=value, headers=_headers(record), withheld=oversized
    )


def holds_card_number(record: RawRecord) -> bool:
    """Return whether any of the record's bytes, read as text, hold what looks like a card number."""
    parts = [record.key or b"", record.value or b"", *(header.value for header in _headers(record))]
    # UTF-8 where it is, so that full-width digits are seen; what is not UTF-8 is replaced, never refused.
    return any(find_card_number(part.decode("utf-8", errors="replace")) is not None for part in parts)


def _headers(record: RawRecord) -> tuple[RawHeader, ...]:
    return tuple(RawHeader(name=name, value=bytes(value or b"")) for name, value in record.headers)


def _letter(
    record: RawRecord,
    reason: DeadLetterReason,
    detail: str,
    failed_at_ms: int,
    *,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[RawHeader, ...],
    withheld: bool = True,
) -> DeadLetter:
    return DeadLetter(
        reason=reason,
        detail=detail[:MAX_DETAIL_CHARS],
        component=COMPONENT,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=key,
        value=value,
        headers=headers,
        withheld=withheld,
        failed_at_ms=failed_at_ms,
    )


def letter_envelope(letter: DeadLetter) -> Envelope:
    """Return the letter's envelope; its id is the record's position, so that a replay repeats it."""
    position = f"{letter.topic}/{letter.partition}/{letter.offset}"
    return Envelope(
        id=identifiers.event_id(position, "dead"),
        source=SOURCE,
        type=TYPES[DeadLetter],
        subject=position,
        time_ms=letter.failed_at_ms,
    )
