"""The note that an owner leaves beside its commit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.log_worker.hand_over import MAX_NOTE_CHARS, HandOver, hand_over_of, together
from streams.log_worker.options import LogWorkerOptions, Ordering
from streams.log_worker.owned_partitions import OwnedPartition

OFFSETS = st.integers(0, 2**63 - 1)
HAND_OVERS = st.builds(
    HandOver,
    until_ms=st.integers(0, 10**15 - 1),
    taken_to=OFFSETS,
    under_way=st.none() | st.frozensets(OFFSETS, min_size=1, max_size=400),
)


@given(HAND_OVERS)
def test_note_says_what_is_under_way_or_more(left: HandOver) -> None:
    note = left.note()
    assert len(note) <= MAX_NOTE_CHARS
    read = hand_over_of(note)
    assert read is not None
    assert (read.until_ms, read.taken_to) == (left.until_ms, left.taken_to)
    assert read.under_way in (left.under_way, None)


def test_note_names_every_call_of_full_slots_that_lie_close_together() -> None:
    left = HandOver(until_ms=10**12, taken_to=2_000_000, under_way=frozenset(range(1_000_000, 1_001_024, 2)))
    assert hand_over_of(left.note()) == left


@pytest.mark.parametrize(
    "note", ["", "metadata", "v1 until=1 taken=2", "v2 until=1 taken=2 under=all", "v1 until=1 taken=2 under=3+"]
)
def test_note_of_somebody_else_says_nothing(note: str) -> None:
    assert hand_over_of(note) is None


@given(HAND_OVERS | st.none(), HAND_OVERS | st.none(), OFFSETS)
def test_what_two_owners_left_concerns_what_either_left(
    one: HandOver | None, other: HandOver | None, offset: int
) -> None:
    both = together(one, other)
    for each in (one, other):
        if each is not None:
            assert both is not None
            assert both.until_ms >= each.until_ms
            assert both.concerns(offset) or not each.concerns(offset)
    assert (both is None) is (one is None and other is None)


def test_partition_that_is_handed_over_is_committed_with_its_note_though_nothing_new_is_done() -> None:
    owned = OwnedPartition()
    for offset in (5, 6, 7):
        owned.offsets.begin(offset)
    owned.begun.update({5, 7})
    assert owned.to_commit(now_ms=0) is None
    owned.hand_over(until_ms=100)
    commit = owned.to_commit(now_ms=0)
    assert commit is not None
    assert commit[0] == 5
    assert hand_over_of(commit[1]) == HandOver(until_ms=100, taken_to=8, under_way=frozenset({5, 7}))


def test_partition_with_nothing_under_way_leaves_no_note() -> None:
    owned = OwnedPartition()
    owned.offsets.begin(5)
    owned.offsets.complete(5)
    owned.hand_over(until_ms=100)
    assert owned.to_commit(now_ms=0) == (6, "")


def test_what_was_inherited_is_passed_on_until_it_is_over() -> None:
    left = HandOver(until_ms=100, taken_to=9, under_way=frozenset({7}))
    owned = OwnedPartition(inherited=left)
    owned.offsets.begin(5)
    owned.offsets.complete(5)
    assert owned.to_commit(now_ms=99) == (6, left.note())
    assert owned.to_commit(now_ms=100) == (6, "")


def test_options_refuse_to_hand_over_what_is_kept_in_order() -> None:
    with pytest.raises(ValueError, match="needs a drain"):
        LogWorkerOptions(component="c", group="g", topics=("t",), ordering=Ordering.BY_KEY, hand_over_s=1.0)
    with pytest.raises(ValueError, match="hand_over_s must be above 0"):
        LogWorkerOptions(component="c", group="g", topics=("t",), hand_over_s=0.0)
