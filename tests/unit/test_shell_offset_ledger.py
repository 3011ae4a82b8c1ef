"""The ledger never lets a commit pass an input that is not done, in whatever order inputs end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.errors import DeliveryGapError
from streams.kafka.offset_ledger import OffsetLedger


@given(
    offsets=st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(sorted),
    chance=st.randoms(use_true_random=False),
)
def test_ledger_commits_the_done_prefix_when_inputs_end_in_any_order(offsets: list[int], chance: object) -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_fetched("p", offsets)
    for offset in offsets:
        assert ledger.note_arrival("p", offset)
    order = list(offsets)
    chance.shuffle(order)  # type: ignore[attr-defined]  # Hypothesis hands over a random.Random
    done: set[int] = set()
    for offset in order:
        ledger.note_done("p", offset)
        done.add(offset)
        prefix = [each for index, each in enumerate(offsets) if set(offsets[: index + 1]) <= done]
        assert ledger.committable("p") == (prefix[-1] + 1 if prefix else None)


def test_ledger_notices_when_a_fetched_record_never_arrives() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_fetched("p", [5, 6, 7])
    assert ledger.note_arrival("p", 5)
    with pytest.raises(DeliveryGapError, match="offset 7 arrived, expected 6"):
        ledger.note_arrival("p", 7)


def test_ledger_takes_a_hole_in_the_log_for_no_gap_when_the_record_was_never_fetched() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_fetched("p", [5, 9])  # 6 to 8: a transaction's marker, or compacted away
    assert ledger.note_arrival("p", 5)
    assert ledger.note_arrival("p", 9)


def test_ledger_passes_over_a_record_when_it_arrives_twice() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_fetched("p", [5, 6])
    assert ledger.note_arrival("p", 5)
    ledger.note_fetched("p", [5, 6])
    assert not ledger.note_arrival("p", 5)
    assert ledger.note_arrival("p", 6)


def test_ledger_starts_anew_when_a_partition_is_reset() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_fetched("p", [5, 6])
    assert ledger.note_arrival("p", 5)
    ledger.reset(["p"])
    ledger.note_done("p", 5)  # an ack that comes late is nobody's
    assert ledger.committable("p") is None
    ledger.note_fetched("p", [5])
    assert ledger.note_arrival("p", 5)


def test_ledger_commits_past_markers_when_everything_before_them_is_done() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_fetched("p", [5, 6])
    ledger.note_read_to("p", 9)  # 7 and 8 are no records
    assert ledger.committable("p") is None
    assert ledger.note_arrival("p", 5)
    assert ledger.note_arrival("p", 6)
    ledger.note_done("p", 5)
    assert ledger.committable("p") == 6
    ledger.note_done("p", 6)
    assert ledger.committable("p") == 9
    ledger.note_fetched("p", [9])
    assert ledger.committable("p") == 7  # what is committed already stays: no commit goes back


def test_ledger_commits_where_it_has_read_to_when_there_was_no_record_at_all() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.note_read_to("p", 0)
    assert ledger.committable("p") is None
    ledger.note_read_to("p", 4)
    assert ledger.committable("p") == 4


def test_input_is_done_when_it_and_all_before_it_are() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    assert not ledger.is_done("p", 5)
    ledger.note_fetched("p", [5, 6])
    assert not ledger.is_done("p", 5)
    ledger.note_arrival("p", 5)
    ledger.note_arrival("p", 6)
    ledger.note_done("p", 6)
    assert not ledger.is_done("p", 6)
    ledger.note_done("p", 5)
    assert ledger.is_done("p", 5)
    assert ledger.is_done("p", 6)
    assert not ledger.is_done("p", 7)
    ledger.reset(["p"])
    assert not ledger.is_done("p", 5)
