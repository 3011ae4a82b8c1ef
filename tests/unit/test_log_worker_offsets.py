"""The rule of commits: the lowest record that is not done, whatever order the others are done in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.log_worker.offsets import PartitionOffsets


def test_offsets_has_nothing_to_commit_when_nothing_is_done() -> None:
    partition = PartitionOffsets()
    assert partition.staged() is None
    partition.begin(7)
    assert partition.staged() is None


def test_offsets_commits_up_to_the_lowest_in_flight_when_later_ones_are_done() -> None:
    partition = PartitionOffsets()
    for offset in (10, 11, 12):
        partition.begin(offset)
    partition.complete(12)
    partition.complete(11)
    assert partition.staged() is None
    partition.complete(10)
    assert partition.staged() == 13


def test_offsets_says_nothing_new_when_the_same_offset_was_committed() -> None:
    partition = PartitionOffsets()
    partition.begin(3)
    partition.complete(3)
    partition.committed(4)
    assert partition.staged() is None


def test_offsets_commits_past_what_is_no_record_when_nothing_below_it_is_unfinished() -> None:
    partition = PartitionOffsets()
    partition.read_to(5)
    assert partition.staged() is None  # nothing was taken: who stands where, the group knows
    partition.begin(3)
    partition.read_to(6)
    assert partition.staged() is None
    partition.complete(3)
    assert partition.staged() == 6
    partition.read_to(4)
    assert partition.staged() == 6


def test_offsets_refuses_an_offset_when_it_goes_back() -> None:
    partition = PartitionOffsets()
    partition.begin(5)
    with pytest.raises(ValueError, match="offset 5 begun after 5"):
        partition.begin(5)


@given(
    gaps=st.lists(st.integers(1, 4), min_size=1, max_size=60),
    choices=st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), max_size=200),
    limit=st.integers(1, 16),
)
def test_offsets_never_commits_past_what_is_not_done_and_repeats_at_most_what_was_in_flight(
    gaps: list[int], choices: list[tuple[bool, int]], limit: int
) -> None:
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    partition, begun, done, committed = PartitionOffsets(), 0, set[int](), offsets[0]
    for begins, pick in choices:
        in_flight = [offset for offset in offsets[:begun] if offset not in done]
        if begins and begun < len(offsets) and len(in_flight) < limit:
            partition.begin(offsets[begun])
            begun += 1
        elif in_flight:
            finished = in_flight[pick % len(in_flight)]
            partition.complete(finished)
            done.add(finished)
        left = [offset for offset in offsets[:begun] if offset not in done]
        offset = partition.staged()
        if offset is not None:
            assert offset > committed  # a commit never goes back
            committed = offset
            partition.committed(offset)
        assert all(each in done for each in offsets[:begun] if each < committed)  # nothing not done is passed
        lowest = left[0] if left else None
        assert lowest is None or committed <= lowest
        if not left and begun:
            assert committed == max(offsets[0], offsets[begun - 1] + 1)  # nothing done is held back without need
        assert len(partition) == len(left) <= limit
