"""What the executor cannot take becomes a dead letter: whole, with where it came from and why.

Called by `handling`. Pure. Its input is written by the orders agent alone, which lets no card number through.
"""

from typing import Protocol

from schemas import identifiers
from schemas.event_types import TYPES
from schemas.messages import Envelope
from schemas.records.dead_letters import DeadLetter, RawHeader
from schemas.vocabulary import DeadLetterReason

COMPONENT = "executor"
SOURCE = "payment-engine/executor"
MAX_DETAIL_CHARS = 500
MAX_RAW_BYTES = 900_000
"""What the raw value may take of a letter, so that the letter itself stays below the broker's record limit."""


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
    """Return the letter of a record; a value too large for a letter is left out, and the letter says so."""
    oversized = len(record.value or b"") > MAX_RAW_BYTES
    return DeadLetter(
        reason=reason,
        detail=detail[:MAX_DETAIL_CHARS],
        component=COMPONENT,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=None if oversized else record.value,
        headers=tuple(RawHeader(name=name, value=bytes(value or b"")) for name, value in record.headers),
        withheld=oversized,
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
