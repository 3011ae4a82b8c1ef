"""A record that cannot be taken becomes a dead letter: whole, with where it came from and why (DESIGN.md section 1).

Called by the agents and the executor. The letter goes to `payments.dlq.v1` under the record's own key, and its offset
counts as done only when the broker has acknowledged the letter. What looks like a card number is withheld: the rule
that none is ever stored outranks the rule that nothing is lost, and the letter says so.
"""

from schemas import identifiers, topics
from schemas.card_numbers import find_card_number
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.dead_letters import DeadLetter, RawHeader
from schemas.vocabulary import DeadLetterReason
from streams.kafka.shell import InputEvent, Outgoing

MAX_DETAIL_CHARS = 500
# More than any topic of the catalogue takes, less than a letter may be: for topics that somebody has set to take more.
MAX_RAW_BYTES = 1_500_000


def dead_letter_of(event: InputEvent, *, component: str, reason: DeadLetterReason, detail: str) -> DeadLetter:
    """Return the dead letter of a record as it came; without its bytes when they hold what looks like a card number."""
    withheld = reason is DeadLetterReason.CARD_NUMBER or holds_card_number(event)
    oversized = len(event.value or b"") > MAX_RAW_BYTES
    return DeadLetter(
        reason=DeadLetterReason.CARD_NUMBER if withheld else reason,
        detail="holds what looks like a card number" if withheld else detail[:MAX_DETAIL_CHARS],
        component=component,
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        timestamp_ms=event.timestamp_ms,
        key=None if withheld else event.key,
        value=None if withheld or oversized else event.value,
        headers=() if withheld else tuple(RawHeader(name=name, value=value) for name, value in event.headers),
        withheld=withheld or oversized,
        failed_at_ms=event.timestamp_ms,
    )


def holds_card_number(event: InputEvent) -> bool:
    """Return whether any of the record's bytes, read as text, hold what looks like a card number."""
    parts = [event.key or b"", event.value or b"", *(value for _, value in event.headers)]
    # UTF-8 where it is, so that full-width digits are seen; what is not UTF-8 is replaced, never refused.
    return any(find_card_number(part.decode("utf-8", errors="replace")) is not None for part in parts)


def letter_message(codec: MessageCodec, letter: DeadLetter) -> Outgoing:
    """Return the message that carries the letter; its id is the record's position, so that a replay repeats it."""
    position = f"{letter.topic}/{letter.partition}/{letter.offset}"
    envelope = Envelope(
        id=identifiers.event_id(position, "dead"),
        source=f"payment-engine/{letter.component}",
        type=TYPES[DeadLetter],
        subject=position,
        time_ms=letter.failed_at_ms,
    )
    message = codec.encode(letter, envelope)
    return Outgoing(topic=topics.DLQ, key=letter.key, value=message.value, headers=message.headers)
