"""The rule of commits: the lowest record that is not done, whatever order the others are done in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.executor.offset_tracker import OffsetTracker


def test_tracker_has_nothing_to_commit_when_nothing_is_done() -> None:
    tracker = OffsetTracker()
    assert tracker.committable() is None
    tracker.begin(7)
    assert tracker.committable() is None


def test_tracker_commits_up_to_the_lowest_in_flight_when_later_ones_are_done() -> None:
    tracker = OffsetTracker()
    for offset in (10, 11, 12):
        tracker.begin(offset)
    tracker.complete(12)
    tracker.complete(11)
    assert tracker.committable() is None
    tracker.complete(10)
    assert tracker.committable() == 13


def test_tracker_says_nothing_new_when_the_same_offset_was_committed() -> None:
    tracker = OffsetTracker()
    tracker.begin(3)
    tracker.complete(3)
    tracker.committed(4)
    assert tracker.committable() is None


def test_tracker_refuses_an_offset_when_it_goes_back() -> None:
    tracker = OffsetTracker()
    tracker.begin(5)
    with pytest.raises(ValueError, match="offset 5 begun after 5"):
        tracker.begin(5)


@given(
    gaps=st.lists(st.integers(1, 4), min_size=1, max_size=60),
    choices=st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), max_size=200),
    limit=st.integers(1, 16),
)
def test_tracker_never_commits_past_what_is_not_done_and_repeats_at_most_what_was_in_flight(
    gaps: list[int], choices: list[tuple[bool, int]], limit: int
) -> None:
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    tracker, begun, done, committed = OffsetTracker(), 0, set[int](), offsets[0]
    for begins, pick in choices:
        in_flight = [offset for offset in offsets[:begun] if offset not in done]
        if begins and begun < len(offsets) and len(in_flight) < limit:
            tracker.begin(offsets[begun])
            begun += 1
        elif in_flight:
            finished = in_flight[pick % len(in_flight)]
            tracker.complete(finished)
            done.add(finished)
        left = [offset for offset in offsets[:begun] if offset not in done]
        offset = tracker.committable()
        if offset is not None:
            assert offset > committed  # a commit never goes back
            committed = offset
            tracker.committed(offset)
        assert all(each in done for each in offsets[:begun] if each < committed)  # nothing not done is passed
        lowest = left[0] if left else None
        assert lowest is None or committed <= lowest
        if not left and begun:
            assert committed == max(offsets[0], offsets[begun - 1] + 1)  # nothing done is held back without need
        assert len(tracker) == len(left) <= limit
