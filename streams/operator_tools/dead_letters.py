"""Reading `payments.dlq.v1`: which dead letters there are, which were handled, and which of them are wanted.

Called by `streams.cli.dlq` and by `redrive`. A dead letter and the audit records about it (`DeadLetterHandled`) stand
in the same partition, the audit after the letter, so that one pass tells the state of each. A component that crashed
between its letter and its commit writes the letter twice: copies are one letter here, known by the position and time of
the record that died.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from schemas.messages import DecodeError, MessageCodec
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.topics import DLQ
from schemas.vocabulary import DeadLetterReason
from streams.operator_tools.errors import NotFoundError, RefusedError
from streams.operator_tools.log import Log, LogRecord, Position

MAX_LETTERS_HELD = 200_000
"""Letters that one look may hold in memory (about 1 kB each, raw bytes left out); more: narrow with `since`."""

MAX_HANDLINGS_HELD = 20
"""Audit records kept of one letter: the newest."""

REDRIVE_COUNT_HEADER = "dlq_redrive"
"""How many times the record was redriven, on the redriven record."""

MAX_COUNT_DIGITS = 9
"""A longer count is not ours."""

MAX_TIME_DIGITS = 14
"""A longer time, in milliseconds, is not ours."""

APPENDED_AT_HEADER = "dlq_appended_at_ms"
"""When the record was appended for the first time, on the redriven record: its own date is that of the redrive."""

_ORIGIN_HEADER = "ce_originid"
_ORIGIN_ATTRIBUTE = "originid"


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


_ACTIONS = frozenset({LetterState.REDRIVEN.value, LetterState.DISCARDED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter without its raw bytes, and what became of it."""

    position: Position  # on the dead letter topic, of the first copy
    dead_at_ms: int  # when it came to the dead letter topic
    reason: DeadLetterReason
    detail: str
    component: str
    topic: str  # of the record that died, like the next three
    original: Position
    appended_at_ms: int  # by the log's time; of a record that was redriven before: when it came for the first time
    key: bytes | None
    origin_id: str | None  # None: the record does not say
    value_bytes: int
    withheld: bool
    redrives: int  # how often the record had been redriven before it died this time
    copies: frozenset[Position]  # where the same letter stands on the topic, the first included
    handlings: tuple[DeadLetterHandled, ...]  # oldest first, about any of the copies

    @property
    def state(self) -> LetterState:
        """What the last audit record says of it."""
        return LetterState(self.handlings[-1].action) if self.handlings else LetterState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are wanted; an empty field wants all."""

    reasons: frozenset[DeadLetterReason] = frozenset()
    states: frozenset[LetterState] = frozenset()
    positions: frozenset[Position] = frozenset()
    topic: str | None = None
    component: str | None = None
    key: bytes | None = None
    origin_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def wants(self, letter: Letter) -> bool:
        """Return whether the letter passes every field."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.states or letter.state in self.states)
            and (not self.positions or bool(self.positions & letter.copies))
            and self.topic in {None, letter.topic}
            and self.component in {None, letter.component}
            and self.key in {None, letter.key}
            and self.origin_id in {None, letter.origin_id}
            and (self.since_ms is None or letter.dead_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.dead_at_ms < self.until_ms)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """What one look found."""

    letters: tuple[Letter, ...]  # by time, then position
    unreadable: int  # records on the topic that are no dead letter and no audit record


_Identity = tuple[str, int, int, int]


@dataclass(slots=True)
class _Sight:
    """What has been seen so far of one look."""

    first_copies: dict[_Identity, Letter] = field(default_factory=dict)
    copies: dict[_Identity, frozenset[Position]] = field(default_factory=dict)
    identity_at: dict[Position, _Identity] = field(default_factory=dict)
    handlings: dict[_Identity, tuple[DeadLetterHandled, ...]] = field(default_factory=dict)
    unreadable: int = 0

    def see(self, record: LogRecord, codec: MessageCodec) -> None:
        """Take one record of the dead letter topic into account."""
        match _decoded(record, codec):
            case DeadLetter() as letter:
                self._see_letter(record, letter)
            case DeadLetterHandled() as handled:
                identity = self.identity_at.get(Position(handled.partition, handled.offset))
                # An identity may be missing: the letter lies before the look's start, or is deleted by age.
                if identity is not None and handled.action in _ACTIONS:
                    kept = self.handlings.get(identity, ())
                    self.handlings[identity] = (*kept, handled)[-MAX_HANDLINGS_HELD:]
            case None:
                self.unreadable += 1

    def _see_letter(self, record: LogRecord, letter: DeadLetter) -> None:
        identity = (letter.topic, letter.partition, letter.offset, letter.timestamp_ms)
        position = Position(record.partition, record.offset)
        self.identity_at[position] = identity
        self.copies[identity] = self.copies.get(identity, frozenset()) | {position}
        if identity not in self.first_copies:
            self.first_copies[identity] = _summary(record, letter)
        if len(self.identity_at) > MAX_LETTERS_HELD:
            raise RefusedError(f"more than {MAX_LETTERS_HELD} dead letters: narrow the look with --since")

    def letters(self) -> Iterator[Letter]:
        """Yield each letter once, with all that was done about any of its copies."""
        for identity, letter in self.first_copies.items():
            yield replace(letter, copies=self.copies[identity], handlings=self.handlings.get(identity, ()))


def find(log: Log, codec: MessageCodec, wanted: LetterFilter) -> Letters:
    """Return the wanted letters. Reads the topic from `wanted.since_ms` to its end as it is now; changes nothing.

    Raises:
        NotFoundError: The dead letter topic does not exist.
        RefusedError: There are more than `MAX_LETTERS_HELD`.
        UnreachableError: The broker does not answer.
    """
    sight = _Sight()
    # A position may be older than the time asked for elsewhere; both filters hold, so the later start is right.
    for record in log.read(DLQ, since_ms=wanted.since_ms):
        sight.see(record, codec)
    chosen = sorted(
        (letter for letter in sight.letters() if wanted.wants(letter)),
        key=lambda each: (each.dead_at_ms, each.position),
    )
    return Letters(letters=tuple(chosen), unreadable=sight.unreadable)


def whole(log: Log, codec: MessageCodec, positions: Collection[Position]) -> Mapping[Position, DeadLetter]:
    """Return the dead letters at these positions, raw bytes included.

    Reads each partition once, from the first position asked of it to the last.

    Raises:
        NotFoundError: No dead letter stands at one of them (any more).
        UnreachableError: The broker does not answer.
    """
    partitions = log.partitions_of(DLQ)
    found: dict[Position, DeadLetter] = {}
    for partition in sorted({position.partition for position in positions if position.partition < partitions}):
        offsets = [position.offset for position in positions if position.partition == partition]
        first, last = min(offsets), max(offsets)
        for record in log.read(DLQ, partition=partition, first_offset=first, max_records=last - first + 1):
            position = Position(partition, record.offset)
            letter = _decoded(record, codec) if position in positions else None
            if isinstance(letter, DeadLetter):
                found[position] = letter
    for position in positions:
        if position not in found:
            raise NotFoundError(f"no dead letter at {position} of {DLQ}")
    return found


def _decoded(record: LogRecord, codec: MessageCodec) -> DeadLetter | DeadLetterHandled | None:
    try:
        _, decoded = codec.decode(record.value, record.headers)
    except DecodeError:
        return None
    return decoded if isinstance(decoded, DeadLetter | DeadLetterHandled) else None


def _summary(record: LogRecord, letter: DeadLetter) -> Letter:
    return Letter(
        position=Position(record.partition, record.offset),
        dead_at_ms=record.timestamp_ms,
        reason=letter.reason,
        detail=letter.detail,
        component=letter.component,
        topic=letter.topic,
        original=Position(letter.partition, letter.offset),
        appended_at_ms=first_appended_ms(letter),
        key=letter.key,
        origin_id=origin_of(letter),
        value_bytes=len(letter.value or b""),
        withheld=letter.withheld,
        redrives=redrives_of(letter),
        copies=frozenset(),
        handlings=(),
    )


def origin_of(letter: DeadLetter) -> str | None:
    """Return the origin that the dead record names, by its header or, in structured mode, by its JSON attribute."""
    named = _header(letter, _ORIGIN_HEADER)
    if named is not None:
        return named.decode("utf-8", errors="replace")
    if not (letter.value or b"").lstrip().startswith(b"{"):
        return None
    try:
        attributes = json.loads(letter.value or b"")
    except (ValueError, RecursionError):
        return None  # not JSON after all: that is why it died
    named_in_body = attributes.get(_ORIGIN_ATTRIBUTE) if isinstance(attributes, dict) else None
    return named_in_body if isinstance(named_in_body, str) else None


def redrives_of(letter: DeadLetter) -> int:
    """Return how often the dead record had been redriven; a foreign or malformed count is 0."""
    count = _header(letter, REDRIVE_COUNT_HEADER) or b"0"
    return int(count) if count.isdigit() and len(count) <= MAX_COUNT_DIGITS else 0


def first_appended_ms(letter: DeadLetter) -> int:
    """Return when the record that died came to the log, before any redrive. A stranger can make it older only."""
    said = _header(letter, APPENDED_AT_HEADER) or b""
    if said.isdigit() and len(said) <= MAX_TIME_DIGITS:
        return min(int(said), letter.timestamp_ms)
    return letter.timestamp_ms


def _header(letter: DeadLetter, name: str) -> bytes | None:
    return next((header.value for header in letter.headers if header.name.lower() == name), None)
