"""Redriving and discarding dead letters: bounded, at a rate, audited, and safe to repeat or to lose half-way.

Called by `streams.cli.dlq`. A redrive appends the dead record's own bytes, key and headers to the topic it died on,
with headers that say where it comes from, then appends the audit record (`DeadLetterHandled`) beside the letter.
A crash between the two redrives the letter once more at the next run: at least once, which is enough, since every
input of the engine is idempotent. A letter with an audit record is left alone unless asked for
again.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Literal

from schemas import identifiers
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.topics import CATALOGUE, COMMANDS, DLQ, Cleanup
from schemas.vocabulary import DeadLetterReason
from streams.kafka_clients.dead_letters import REDRIVEN_FROM_HEADER
from streams.operator_tools.dead_letters import (
    APPENDED_AT_HEADER,
    REDRIVE_COUNT_HEADER,
    Letter,
    LetterState,
    first_appended_ms,
    redrives_of,
    whole,
)
from streams.operator_tools.errors import NotFoundError
from streams.operator_tools.log import Log, NewRecord, Position
from streams.topology import SOURCE_TOPICS

DEFAULT_LETTERS_PER_RUN = 1_000
MAX_LETTERS_PER_RUN = 100_000
"""A run is bounded, so that a mistaken filter is a small mistake."""

DEFAULT_RATE_PER_S = 100.0
MAX_RATE_PER_S = 10_000.0
BATCH_LETTERS = 50
"""Letters appended, then audited, together: what a crash half-way repeats at most."""

MAX_OPERATOR_CHARS = 128
MAX_NOTE_CHARS = 500

ORIGINAL_HEADER = "dlq_original"
"""Position at which the record died: `topic:partition:offset`."""

REDRIVEN_AT_HEADER = "dlq_redriven_at_ms"
OPERATOR_HEADER = "dlq_operator"
_OWN_HEADERS = frozenset(
    {
        REDRIVEN_FROM_HEADER,
        ORIGINAL_HEADER,
        REDRIVEN_AT_HEADER,
        OPERATOR_HEADER,
        REDRIVE_COUNT_HEADER,
        APPENDED_AT_HEADER,
    }
)
_SOURCE = "payment-engine/operator"
_LOGS = frozenset(topic.name for topic in CATALOGUE if topic.cleanup is Cleanup.DELETE)
_REDRIVABLE_TOPICS = (_LOGS | set(SOURCE_TOPICS)) - {DLQ}
"""A compacted topic that no group reads holds rows, which no letter may forge."""

Action = Literal[LetterState.REDRIVEN, LetterState.DISCARDED]


class Refusal(StrEnum):
    """Why a letter is left as it is."""

    ALREADY_HANDLED = "already_handled"
    WITHHELD = "withheld"  # the bytes were not kept, and may not be appended again
    UNKNOWN_TOPIC = "unknown_topic"  # it says it died on a topic that is not the engine's
    TOO_OLD = "too_old"  # its order may be forgotten, and would do again what was done
    OVER_LIMIT = "over_limit"  # left for the next run


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, and what it leaves."""

    chosen: tuple[Letter, ...]
    left: tuple[tuple[Letter, Refusal], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's wish about a plan's letters."""

    action: Action
    operator: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One letter that was handled."""

    letter: Letter
    appended_at: Position | None  # of a redrive: where the record stands now


def known_since_ms(now_ms: int, *, order_life_ms: int, claim_life_ms: int) -> int:
    """Return since when every command on the log is still known, by its order or because its key is free again.

    A command may repeat another for as long as its key is remembered (`claim_life_ms`). The order's row, which alone
    knows what was done, goes `order_life_ms` after it was. So what is older than their difference may be forgotten.
    """
    return now_ms - (order_life_ms - claim_life_ms)


def plan(
    letters: Sequence[Letter],
    action: Action,
    *,
    again: bool,
    since_ms: int,
    limit: int = DEFAULT_LETTERS_PER_RUN,
) -> Plan:
    """Return which letters a run handles: the oldest first, at most `limit`; and why the others are left.

    Args:
        letters: Those that are wanted.
        action: What is to become of them.
        again: Whether those that were handled before are handled once more.
        since_ms: A record that came to the log before is not redriven (`known_since_ms`).
        limit: Letters at most, 1 to MAX_LETTERS_PER_RUN.

    Raises:
        ValueError: `limit` is not between 1 and MAX_LETTERS_PER_RUN.
    """
    if not 1 <= limit <= MAX_LETTERS_PER_RUN:
        raise ValueError(f"limit must be 1 to {MAX_LETTERS_PER_RUN}")
    chosen: list[Letter] = []
    left: list[tuple[Letter, Refusal]] = []
    for letter in letters:
        refusal = _refusal(letter, action, again=again, since_ms=since_ms)
        if refusal is None and len(chosen) >= limit:
            refusal = Refusal.OVER_LIMIT
        if refusal is None:
            chosen.append(letter)
        else:
            left.append((letter, refusal))
    return Plan(chosen=tuple(chosen), left=tuple(left))


def _refusal(letter: Letter, action: Action, *, again: bool, since_ms: int) -> Refusal | None:
    if letter.handlings and not again:
        return Refusal.ALREADY_HANDLED
    if action is LetterState.DISCARDED:
        return None
    if letter.withheld and not _stands_where_it_stood(letter):
        return Refusal.WITHHELD
    if letter.topic not in _REDRIVABLE_TOPICS:
        return Refusal.UNKNOWN_TOPIC
    if letter.appended_at_ms < since_ms:
        return Refusal.TOO_OLD
    return None


def _stands_where_it_stood(letter: Letter) -> bool:
    """Return whether the bytes that the letter leaves out may be read where they came from, while retention lasts."""
    return letter.topic == COMMANDS and letter.reason is not DeadLetterReason.CARD_NUMBER


def carry_out(
    log: Log,
    codec: MessageCodec,
    chosen: Sequence[Letter],
    order: Order,
    *,
    rate_per_s: float = DEFAULT_RATE_PER_S,
    clock_ms: Callable[[], int],
    pause: Callable[[float], None],
) -> Generator[Done]:
    """Handle the letters in their order, yielding each once its audit record is acknowledged.

    Stopping half-way (an error, a kill, not iterating on) leaves every letter either handled and audited, or to be
    handled by the next run; at most one batch is redriven twice.

    Args:
        log: Where the letters are and go.
        codec: Reads letters, writes audit records.
        chosen: Of a plan.
        order: What to do, by whom, and why.
        rate_per_s: Letters a second at most, 0 < rate <= MAX_RATE_PER_S.
        clock_ms: The time, milliseconds since the epoch.
        pause: Waits that many seconds.

    Raises:
        NotFoundError: A letter, or the topic it died on, is gone.
        UnreachableError: The broker does not acknowledge.
        ValueError: The rate is out of range.
    """
    if not 0 < rate_per_s <= MAX_RATE_PER_S:
        raise ValueError(f"rate must be above 0 and at most {MAX_RATE_PER_S:.0f} a second")
    # A slow rate takes small batches, so that it is even and its progress visible.
    batch_letters = max(1, min(BATCH_LETTERS, math.floor(rate_per_s)))
    remaining = iter(chosen)
    due_ms = float(clock_ms())
    while batch := tuple(islice(remaining, batch_letters)):
        early_ms = due_ms - clock_ms()
        if early_ms > 0:
            pause(early_ms / 1000)
        yield from _handle(log, codec, batch, order, at_ms=clock_ms())
        due_ms = max(due_ms, clock_ms() - 1000 * len(batch) / rate_per_s) + 1000 * len(batch) / rate_per_s


def _handle(log: Log, codec: MessageCodec, batch: Sequence[Letter], order: Order, *, at_ms: int) -> tuple[Done, ...]:
    appended: tuple[Position | None, ...] = (None,) * len(batch)
    if order.action is LetterState.REDRIVEN:
        dead = _restored(log, whole(log, codec, {letter.position for letter in batch}))
        appended = log.append(
            [_redriven(each.position, dead[each.position], operator=order.operator, at_ms=at_ms) for each in batch]
        )
    log.append([_audit(codec, letter, order, at_ms=at_ms) for letter in batch])
    return tuple(Done(letter=letter, appended_at=position) for letter, position in zip(batch, appended, strict=True))


def _restored(log: Log, dead: Mapping[Position, DeadLetter]) -> Mapping[Position, DeadLetter]:
    """Return the letters with what was left out of a command, read from where it stands.

    Raises:
        NotFoundError: retention has deleted it.
    """
    return {
        position: replace(letter, value=_value_at(log, letter)) if letter.withheld else letter
        for position, letter in dead.items()
    }


def _value_at(log: Log, letter: DeadLetter) -> bytes | None:
    for record in log.read(letter.topic, partition=letter.partition, first_offset=letter.offset, max_records=1):
        if record.offset == letter.offset:
            return record.value
    original = f"{letter.topic}:{letter.partition}:{letter.offset}"
    raise NotFoundError(f"the letter leaves out what {original} held, and retention has deleted that: discard it")


def _redriven(position: Position, dead: DeadLetter, *, operator: str, at_ms: int) -> NewRecord:
    own = (
        (REDRIVEN_FROM_HEADER, f"{DLQ}:{position}".encode()),
        (ORIGINAL_HEADER, f"{dead.topic}:{dead.partition}:{dead.offset}".encode()),
        (REDRIVEN_AT_HEADER, str(at_ms).encode()),
        (OPERATOR_HEADER, operator.encode()),
        (REDRIVE_COUNT_HEADER, str(redrives_of(dead) + 1).encode()),
        (APPENDED_AT_HEADER, str(first_appended_ms(dead)).encode()),
    )
    kept = tuple((header.name, header.value) for header in dead.headers if header.name not in _OWN_HEADERS)
    return NewRecord(
        topic=dead.topic, key=dead.key, value=dead.value, headers=(*kept, *own), partition=_partition_for(dead)
    )


def _partition_for(dead: DeadLetter) -> int | None:
    # A keyed record goes where its key belongs, even when a foreign partitioner had put it elsewhere (`wrong_key`);
    # without a key there is no such place, and the old one is as good as any.
    return dead.partition if dead.key is None else None


def _audit(codec: MessageCodec, letter: Letter, order: Order, *, at_ms: int) -> NewRecord:
    handled = DeadLetterHandled(
        action=order.action.value,
        partition=letter.position.partition,
        offset=letter.position.offset,
        operator=order.operator[:MAX_OPERATOR_CHARS],
        note=order.note[:MAX_NOTE_CHARS],
        handled_at_ms=at_ms,
    )
    envelope = Envelope(
        id=identifiers.event_id(f"{DLQ}:{letter.position}", f"{order.action.value}:{at_ms}"),
        source=_SOURCE,
        type=TYPES[DeadLetterHandled],
        subject=f"{DLQ}:{letter.position}",
        time_ms=at_ms,
    )
    message = codec.encode(handled, envelope)
    # Beside its letter, whatever the key: one pass over a partition then knows every letter's state.
    return NewRecord(
        topic=DLQ,
        key=letter.key,
        value=message.value,
        headers=message.headers,
        partition=letter.position.partition,
    )
