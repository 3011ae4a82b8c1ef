"""Redriving: the record as it was, once, at a rate, bounded; and what a crash half-way costs."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from schemas.records.commands import Payer
from schemas.topics import COMMANDS, DLQ, ORDERS_CHANGELOG, partition_of
from schemas.vocabulary import DeadLetterReason
from streams.operator_tools.dead_letters import LetterFilter, LetterState, find
from streams.operator_tools.errors import NotFoundError, UnreachableError
from streams.operator_tools.log import LogRecord, NewRecord, Position
from streams.operator_tools.memory_log import MemoryLog
from streams.operator_tools.redrive import BATCH_LETTERS, Done, Order, Refusal, carry_out, known_since_ms, plan
from tests.support.operator_log import CODEC, PARTITIONS, Ticking, bury, dead_letter, memory_log, payment_requested, put

SINCE_MS = 1_699_999_990_000
REDRIVE = Order(action=LetterState.REDRIVEN, operator="ann", note="fixed")


def _redrive(log: MemoryLog, *, again: bool = False, limit: int = 1_000, rate_per_s: float = 1_000) -> list[Done]:
    letters = find(log, CODEC, LetterFilter()).letters
    chosen = plan(letters, LetterState.REDRIVEN, again=again, since_ms=0, limit=limit).chosen
    return list(carry_out(log, CODEC, chosen, REDRIVE, rate_per_s=rate_per_s, clock_ms=Ticking(), pause=lambda _: None))


def _commands(log: MemoryLog) -> list[LogRecord]:
    return list(log.read(COMMANDS))


def test_redrive_appends_bytes_key_and_headers_as_they_were_when_a_letter_is_open() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=42))
    (done,) = _redrive(log)
    (record,) = _commands(log)
    assert done.appended_at == Position(record.partition, record.offset)
    assert (record.key, record.value) == (b"order-1", b"\x00garbage")
    assert record.headers[:2] == (("ce_originid", b"m1"), ("x-custom", b"\xff\x00"))
    assert record.partition == partition_of(b"order-1", PARTITIONS)


def test_redriven_record_says_where_it_came_from_when_it_is_read() -> None:
    log = memory_log()
    letter = bury(log, dead_letter(offset=42))
    _redrive(log)
    headers = dict(_commands(log)[0].headers)
    assert headers["dlq_from"] == f"{DLQ}:{letter}".encode()
    assert headers["dlq_original"] == f"{COMMANDS}:1:42".encode()
    assert headers["dlq_operator"] == b"ann"
    assert headers["dlq_redrive"] == b"1"


def test_redriven_record_counts_on_when_it_dies_and_is_redriven_again() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=42, headers=(("dlq_redrive", b"1"), ("dlq_from", b"old"))))
    _redrive(log)
    headers = _commands(log)[0].headers
    assert [value for name, value in headers if name == "dlq_redrive"] == [b"2"]
    assert [value for name, value in headers if name == "dlq_from"] != [b"old"]


def test_redrive_keeps_the_old_partition_when_the_record_had_no_key() -> None:
    log = memory_log()
    bury(log, dead_letter(key=None))
    _redrive(log)
    assert [record.partition for record in _commands(log)] == [1]


def test_redrive_leaves_handled_letters_alone_when_it_is_repeated() -> None:
    log = memory_log()
    bury(log, dead_letter())
    assert len(_redrive(log)) == 1
    assert _redrive(log) == []
    assert len(_redrive(log, again=True)) == 1
    assert len(_commands(log)) == 2


def test_redrive_keeps_the_order_of_one_key_when_there_are_many_letters() -> None:
    log = memory_log()
    for offset in range(3 * BATCH_LETTERS):
        bury(log, dead_letter(offset=offset, value=b"%d" % offset))
    _redrive(log)
    assert [record.value for record in _commands(log)] == [b"%d" % offset for offset in range(3 * BATCH_LETTERS)]


def test_plan_leaves_withheld_and_foreign_letters_and_says_why_when_they_are_to_be_redriven() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=1, value=None, withheld=True, reason=DeadLetterReason.CARD_NUMBER))
    bury(log, dead_letter(offset=2, topic="somebody.elses.topic"))
    bury(log, dead_letter(offset=3, topic=DLQ))
    bury(log, dead_letter(offset=4))
    bury(log, dead_letter(offset=5))
    bury(log, dead_letter(offset=6, topic=ORDERS_CHANGELOG))  # nobody reads it as input: a row would be forged
    planned = plan(find(log, CODEC, LetterFilter()).letters, LetterState.REDRIVEN, again=False, since_ms=0, limit=1)
    assert [letter.original.offset for letter in planned.chosen] == [4]
    assert {letter.original.offset: why for letter, why in planned.left} == {
        1: Refusal.WITHHELD,
        2: Refusal.UNKNOWN_TOPIC,
        3: Refusal.UNKNOWN_TOPIC,
        5: Refusal.OVER_LIMIT,
        6: Refusal.UNKNOWN_TOPIC,
    }


def test_redrive_reads_a_command_where_it_stood_when_the_letter_leaves_out_what_it_tells_of_the_payer() -> None:
    log = memory_log()
    telling = replace(payment_requested(), payer=Payer(email="anna@example.com"))
    stood = put(log, COMMANDS, telling, key=b"order-1")
    (original,) = _commands(log)
    letter = dead_letter(offset=stood.offset, value=None, withheld=True, reason=DeadLetterReason.HANDLER_FAILED)
    bury(log, replace(letter, partition=stood.partition))
    (done,) = _redrive(log)
    *_, redriven = _commands(log)
    assert done.appended_at == Position(redriven.partition, redriven.offset)
    assert (redriven.key, redriven.value) == (original.key, original.value)


def test_redrive_says_that_a_command_is_gone_when_retention_has_deleted_what_the_letter_leaves_out() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=42, value=None, withheld=True, reason=DeadLetterReason.HANDLER_FAILED))
    with pytest.raises(NotFoundError, match="retention has deleted"):
        _redrive(log)
    assert _commands(log) == []


def test_plan_leaves_a_letter_whose_order_may_be_forgotten_when_it_is_to_be_redriven() -> None:
    log = memory_log()
    bury(log, dead_letter(offset=1, timestamp_ms=SINCE_MS - 1))
    bury(log, dead_letter(offset=2, timestamp_ms=SINCE_MS))
    letters = find(log, CODEC, LetterFilter()).letters
    planned = plan(letters, LetterState.REDRIVEN, again=False, since_ms=SINCE_MS)
    assert [letter.original.offset for letter in planned.chosen] == [2]
    assert [(letter.original.offset, why) for letter, why in planned.left] == [(1, Refusal.TOO_OLD)]
    assert len(plan(letters, LetterState.REDRIVEN, again=True, since_ms=SINCE_MS).chosen) == 1
    assert len(plan(letters, LetterState.DISCARDED, again=False, since_ms=SINCE_MS).chosen) == 2


def test_letter_is_as_old_as_the_record_was_at_first_when_it_was_redriven_and_died_again() -> None:
    log = memory_log()
    bury(log, dead_letter(timestamp_ms=SINCE_MS - 1))
    _redrive(log)
    (redriven,) = _commands(log)
    bury(log, dead_letter(offset=redriven.offset, headers=tuple(redriven.headers), timestamp_ms=SINCE_MS + 1))
    *_, again = find(log, CODEC, LetterFilter()).letters
    assert again.redrives == 1
    assert again.appended_at_ms == SINCE_MS - 1


@pytest.mark.parametrize("said", [b"-1", b"soon", b"9" * 40, b"1700000000001", "²".encode()])
def test_letter_is_as_old_as_its_record_when_a_stranger_says_that_it_is_younger(said: bytes) -> None:
    log = memory_log()
    bury(log, dead_letter(timestamp_ms=SINCE_MS, headers=(("dlq_appended_at_ms", said),)))
    (letter,) = find(log, CODEC, LetterFilter()).letters
    assert letter.appended_at_ms == SINCE_MS


def test_what_was_repeated_on_the_last_day_of_its_key_is_known_for_as_long_as_it_may_be_redriven() -> None:
    settled_ms, claim_life_ms, order_life_ms = 1_000, 30, 80
    repeated_ms = settled_ms + claim_life_ms
    forgotten_ms = settled_ms + order_life_ms
    lives = {"order_life_ms": order_life_ms, "claim_life_ms": claim_life_ms}
    assert repeated_ms >= known_since_ms(forgotten_ms, **lives)
    assert repeated_ms < known_since_ms(forgotten_ms + 1, **lives)


def test_plan_lets_withheld_letters_be_discarded_when_asked() -> None:
    log = memory_log()
    bury(log, dead_letter(value=None, withheld=True))
    planned = plan(find(log, CODEC, LetterFilter()).letters, LetterState.DISCARDED, again=False, since_ms=0)
    assert len(planned.chosen) == 1


def test_discard_appends_only_the_audit_record_when_carried_out() -> None:
    log = memory_log()
    letter = bury(log, dead_letter())
    chosen = find(log, CODEC, LetterFilter()).letters
    order = Order(action=LetterState.DISCARDED, operator="ann", note="spam")
    list(carry_out(log, CODEC, chosen, order, clock_ms=Ticking(), pause=lambda _: None))
    assert _commands(log) == []
    audit = list(log.read(DLQ, partition=letter.partition))[-1]
    assert audit.partition == letter.partition


class _FailingLog(MemoryLog):
    """Takes a number of appends, then none."""

    appends_left = 0

    def append(self, records: Sequence[NewRecord]) -> tuple[Position, ...]:
        if self.appends_left == 0:
            raise UnreachableError("gone")
        self.appends_left -= 1
        return super().append(records)


@pytest.mark.parametrize("appends", range(6))
def test_redrive_loses_nothing_and_repeats_one_batch_at_most_when_it_dies_anywhere(appends: int) -> None:
    log = _FailingLog({COMMANDS: PARTITIONS, DLQ: PARTITIONS}, clock_ms=Ticking())
    log.appends_left = 1_000
    values = [b"%d" % number for number in range(2 * BATCH_LETTERS + 1)]
    for offset, value in enumerate(values):
        bury(log, dead_letter(offset=offset, value=value))
    log.appends_left = appends
    try:
        _redrive(log)
    except UnreachableError:
        log.appends_left = 1_000
        _redrive(log)
    redriven = [record.value for record in _commands(log)]
    assert set(redriven) == set(values)
    assert len(redriven) - len(values) <= BATCH_LETTERS
    states = {letter.state for letter in find(log, CODEC, LetterFilter()).letters}
    assert states == {LetterState.REDRIVEN}


def test_carry_out_keeps_to_the_rate_when_there_are_more_letters_than_a_second_takes() -> None:
    log = memory_log()
    for offset in range(25):
        bury(log, dead_letter(offset=offset))
    now_ms = 0.0

    def pause(wait_s: float) -> None:
        nonlocal now_ms
        now_ms += wait_s * 1000

    chosen = find(log, CODEC, LetterFilter()).letters
    steps = carry_out(log, CODEC, chosen, REDRIVE, rate_per_s=10, clock_ms=lambda: round(now_ms), pause=pause)
    assert len(list(steps)) == 25
    assert now_ms == pytest.approx(2000)


@pytest.mark.parametrize("rate_per_s", [0, -1, 10_001])
def test_carry_out_refuses_a_rate_when_it_is_out_of_range(rate_per_s: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        next(carry_out(memory_log(), CODEC, (), REDRIVE, rate_per_s=rate_per_s, clock_ms=Ticking(), pause=print))


@pytest.mark.parametrize("limit", [0, 100_001])
def test_plan_refuses_a_limit_when_it_is_out_of_range(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        plan((), LetterState.REDRIVEN, again=False, since_ms=0, limit=limit)
