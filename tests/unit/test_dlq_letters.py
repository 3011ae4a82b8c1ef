"""What the dead letter topic tells: each letter once, with its state, and only those that are wanted."""

import pytest

from schemas.topics import DLQ
from schemas.vocabulary import DeadLetterReason
from streams.operator_tools.dead_letters import Letter, LetterFilter, LetterState, find, whole
from streams.operator_tools.errors import NotFoundError
from streams.operator_tools.log import NewRecord, Position
from streams.operator_tools.memory_log import MemoryLog
from streams.operator_tools.redrive import Order, carry_out
from tests.support.operator_log import CODEC, Ticking, bury, dead_letter, memory_log

ALL = LetterFilter()


def _found(log: MemoryLog, wanted: LetterFilter = ALL) -> tuple[Letter, ...]:
    return find(log, CODEC, wanted).letters


def _handle(log: MemoryLog, letters: tuple[Letter, ...], action: LetterState) -> None:
    assert action is not LetterState.OPEN
    order = Order(action=action, operator="ann", note="because")
    list(carry_out(log, CODEC, letters, order, clock_ms=Ticking(), pause=lambda _: None))


def test_find_returns_open_letters_with_where_they_died_when_none_was_handled() -> None:
    log = memory_log()
    position = bury(log, dead_letter(offset=7))
    (letter,) = _found(log)
    assert letter.state is LetterState.OPEN
    assert letter.position == position
    assert letter.original == Position(1, 7)
    assert letter.origin_id == "m1"
    assert letter.value_bytes == 8


def test_find_counts_a_letter_once_when_a_crash_wrote_it_twice() -> None:
    log = memory_log()
    first, second = bury(log, dead_letter(offset=7)), bury(log, dead_letter(offset=7))
    (letter,) = _found(log)
    assert letter.position == first
    assert letter.copies == {first, second}


def test_find_shows_a_letter_as_handled_when_only_its_copy_was() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=7))
    _handle(log, _found(log), LetterState.DISCARDED)
    bury(log, dead_letter(offset=7))
    (letter,) = _found(log)
    assert letter.state is LetterState.DISCARDED
    assert (letter.handlings[0].operator, letter.handlings[0].note) == ("ann", "because")


@pytest.mark.parametrize(
    ("wanted", "offsets"),
    [
        (LetterFilter(reasons=frozenset({DeadLetterReason.INVALID})), {1}),
        (LetterFilter(topic="payments.queries.v1"), {2}),
        (LetterFilter(key=b"order-3"), {3}),
        (LetterFilter(origin_id="m4"), {4}),
        (LetterFilter(component="claims"), set()),
        (LetterFilter(states=frozenset({LetterState.REDRIVEN})), set()),
        (LetterFilter(), {0, 1, 2, 3, 4}),
    ],
)
def test_find_returns_only_wanted_letters_when_a_filter_is_given(wanted: LetterFilter, offsets: set[int]) -> None:
    log = memory_log()
    bury(log, dead_letter(offset=0))
    bury(log, dead_letter(offset=1, reason=DeadLetterReason.INVALID))
    bury(log, dead_letter(offset=2, topic="payments.queries.v1"))
    bury(log, dead_letter(offset=3, key=b"order-3"))
    bury(log, dead_letter(offset=4, origin="m4"))
    assert {letter.original.offset for letter in _found(log, wanted)} == offsets


def test_find_respects_times_when_they_are_given() -> None:
    clock = Ticking()
    log = memory_log(clock)
    bury(log, dead_letter(offset=0))
    since_ms = clock.now_ms + 1
    bury(log, dead_letter(offset=1))
    until_ms = clock.now_ms + 1
    bury(log, dead_letter(offset=2))
    found = _found(log, LetterFilter(since_ms=since_ms, until_ms=until_ms))
    assert [letter.original.offset for letter in found] == [1]


def test_find_reads_the_origin_from_the_body_when_the_record_was_structured_json() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=0, origin=None, value=b'{"originid": "m9", "type": "nope"}'))
    bury(log, dead_letter(offset=1, origin=None, value=b"{not json", key=b"a"))
    bury(log, dead_letter(offset=2, origin=None, value=b"[" * 100_000, key=b"b"))
    assert [letter.origin_id for letter in _found(log)] == ["m9", None, None]


def test_find_passes_over_foreign_records_when_somebody_wrote_to_the_topic() -> None:
    log = memory_log()
    log.append([NewRecord(topic=DLQ, key=b"k", value=b"what?", headers=())])
    bury(log, dead_letter())
    found = find(log, CODEC, ALL)
    assert (len(found.letters), found.unreadable) == (1, 1)


def test_whole_returns_the_raw_bytes_when_the_letter_stands_there() -> None:
    log = memory_log()
    positions = {bury(log, dead_letter(offset=number, value=bytes([number]))) for number in range(3)}
    assert {letter.value for letter in whole(log, CODEC, positions).values()} == {b"\x00", b"\x01", b"\x02"}


@pytest.mark.parametrize("position", [Position(0, 99), Position(99, 0)])
def test_whole_says_not_found_when_no_letter_stands_there(position: Position) -> None:
    with pytest.raises(NotFoundError, match=str(position)):
        whole(memory_log(), CODEC, {position})
