"""The ledger of changelog records: what may be applied, whatever holes the log has, and what shows a dropped record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.changelog_ledger import NOTHING, ChangelogLedger
from streams.kafka.errors import DeliveryGapError

P = "changelog-0"


def reading(*offsets: int, applied: int = NOTHING) -> ChangelogLedger[str]:
    ledger = ChangelogLedger[str]()
    ledger.note_applied(P, applied)
    ledger.note_seek(P, applied + 1)
    ledger.note_fetched(P, offsets)
    return ledger


def test_records_are_applied_when_none_is_missing_whatever_holes_the_log_has() -> None:
    ledger = reading(12, 13, 17, applied=9)
    for offset in (12, 13, 17):
        ledger.apply(P, offset, own=NOTHING)


def test_record_is_refused_when_one_fetched_before_it_was_dropped() -> None:
    ledger = reading(10, 11, 12, applied=9)
    ledger.apply(P, 10, own=10)
    with pytest.raises(DeliveryGapError, match="offset 11 came before"):
        ledger.apply(P, 12, own=10)


def test_record_is_refused_when_the_first_one_was_dropped() -> None:
    with pytest.raises(DeliveryGapError):
        reading(10, 11, applied=9).apply(P, 11, own=9)


def test_record_is_refused_when_nobody_fetched_it() -> None:
    """As after rows were thrown away: what waits in a queue from before does not stand behind them."""
    ledger = reading(10, 11, applied=9)
    ledger.keep_only(())
    ledger.note_applied(P, NOTHING)
    ledger.note_seek(P, 0)
    with pytest.raises(DeliveryGapError, match="not fetched"):
        ledger.apply(P, 10, own=NOTHING)


def test_records_from_before_a_seek_are_applied_when_they_stand_behind_the_rows() -> None:
    ledger = reading(10, 11, 12, applied=9)
    ledger.apply(P, 10, own=10)
    ledger.note_applied(P, 10)  # the next assignment; 11 and 12 wait in the queue, and are fetched again
    ledger.note_seek(P, 11)
    ledger.note_fetched(P, [11])
    for offset in (11, 12, 11):
        ledger.apply(P, offset, own=10)
    ledger.note_fetched(P, [12, 13])
    for offset in (12, 13):
        ledger.apply(P, offset, own=12)


def test_records_are_applied_when_compaction_took_one_between_two_readings() -> None:
    ledger = reading(10, 11, 12, applied=9)
    ledger.note_applied(P, 9)
    ledger.note_seek(P, 10)
    ledger.note_fetched(P, [10, 12])
    for offset in (10, 12):
        ledger.apply(P, offset, own=9)


def test_records_are_applied_when_what_lay_before_them_is_no_longer_in_the_log() -> None:
    ledger = reading(500, 501, applied=498)  # the rows stand at 9; the log begins at 499
    for offset in (500, 501):
        ledger.apply(P, offset, own=9)


def test_owner_raises_the_rows_past_what_was_fetched() -> None:
    ledger = reading(10, 11, applied=9)
    ledger.apply(P, 11, own=40)  # known already
    ledger.note_fetched(P, [12])
    ledger.apply(P, 12, own=40)


def test_ledger_says_when_a_fetched_record_is_not_applied() -> None:
    ledger = reading(10, 12, 17, applied=9)
    ledger.apply(P, 10, own=9)
    assert [ledger.lacks(P, end, own=10) for end in (10, 11, 12, 17, 40)] == [False, False, True, True, True]
    ledger.apply(P, 12, own=10)
    assert [ledger.lacks(P, end, own=12) for end in (16, 17)] == [False, True]
    assert not ledger.lacks(P, 40, own=17), "the rows were raised past it"


def test_ledger_lacks_nothing_that_was_fetched_before_a_seek() -> None:
    """It may have been compacted away since, and is not to come again."""
    ledger = reading(10, 11, 12, applied=9)
    ledger.apply(P, 10, own=9)
    ledger.note_seek(P, 11)
    assert not ledger.lacks(P, 12, own=10)
    ledger.note_fetched(P, [12])
    assert ledger.lacks(P, 12, own=10)


def test_ledger_knows_the_last_record_that_was_fetched() -> None:
    assert reading(10, 12, applied=9).last_fetched(P) == 12
    assert reading(applied=9).last_fetched(P) == 9
    assert reading().last_fetched("another") == NOTHING
    assert not reading().lacks("another", 40, own=NOTHING)


@given(
    offsets=st.sets(st.integers(0, 60), min_size=1, max_size=30).map(sorted),
    dropped=st.sets(st.integers(0, 29), max_size=5),
    batch=st.integers(1, 7),
)
def test_first_record_behind_a_dropped_one_is_refused(offsets: list[int], dropped: set[int], batch: int) -> None:
    ledger = reading()
    for begin in range(0, len(offsets), batch):
        ledger.note_fetched(P, offsets[begin : begin + batch])
    came = [offset for n, offset in enumerate(offsets) if n not in dropped]
    first = next((n for n in range(len(offsets)) if n in dropped), len(offsets))
    applied = NOTHING
    for offset in came:
        if offset < (offsets[first] if first < len(offsets) else 99):
            ledger.apply(P, offset, own=applied)
            applied = offset
        else:
            with pytest.raises(DeliveryGapError):
                ledger.apply(P, offset, own=applied)
            break
