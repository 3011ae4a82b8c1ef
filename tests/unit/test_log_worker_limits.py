"""The log worker's limits: how long it waits, how much it takes, and what it refuses to be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka_clients.log_reader import LogRecord
from streams.log_worker.attempts import delay_s
from streams.log_worker.options import LogWorkerOptions, Ordering, RetryLimits
from streams.log_worker.room import HEADER_OVERHEAD_BYTES, MAX_POLL_RECORDS, Room, size_of
from tests.support.told_handler import options_of

LIMITS = RetryLimits(first_delay_s=0.5, max_delay_s=30.0)


@pytest.mark.parametrize(
    ("attempt", "after_s", "chance", "wanted_s"),
    [
        (1, None, 0.0, 0.5),
        (1, None, 1.0, 0.25),
        (3, None, 0.0, 2.0),
        (9, None, 0.0, 30.0),
        (10_000, None, 0.0, 30.0),
        (1, 10.0, 0.0, 10.0),
        (1, 10.0, 1.0, 12.5),
        (1, 3_600.0, 0.0, 30.0),
    ],
)
def test_delay_doubles_with_jitter_and_is_never_sooner_than_asked_nor_longer_than_its_limit(
    attempt: int, after_s: float | None, chance: float, wanted_s: float
) -> None:
    assert delay_s(LIMITS, attempt, after_s=after_s, chance=lambda: chance) == wanted_s


def room_of(*, max_records: int = 10, max_bytes: int | None = None, max_record_bytes: int = 100) -> Room:
    return Room(
        max_records=max_records, max_bytes=max_bytes, max_record_bytes=max_record_bytes, clock_s=lambda: now_s[0]
    )


now_s = [0.0]


def test_room_is_bounded_by_records_and_by_what_one_poll_may_bring() -> None:
    room = room_of(max_records=MAX_POLL_RECORDS + 10)
    assert room.free() == MAX_POLL_RECORDS
    for _ in range(MAX_POLL_RECORDS + 9):
        room.take(0)
    assert room.free() == 1
    room.take(0)
    assert room.free() == 0


@given(
    sizes=st.lists(st.integers(0, 100), max_size=200),
    max_bytes=st.integers(100, 2_000),
    max_records=st.integers(1, 50),
)
def test_room_never_holds_more_bytes_than_its_bound_when_it_is_asked_before_each_poll(
    sizes: list[int], max_bytes: int, max_records: int
) -> None:
    room, left = room_of(max_records=max_records, max_bytes=max_bytes), list(sizes)
    while left and (free := room.free()):
        for _ in range(min(free, len(left))):
            room.take(left.pop())
        assert room.bytes <= max_bytes
        assert room.records <= max_records


def test_room_takes_a_record_larger_than_promised_alone_when_nothing_else_is_under_way() -> None:
    room = room_of(max_bytes=100)
    assert room.free() == 1
    room.take(5_000)
    assert room.free() == 0
    room.give_back(5_000)
    assert (room.free(), room.bytes, room.records) == (1, 0, 0)


def test_room_lets_nothing_in_while_it_is_closed() -> None:
    room = room_of()
    assert room.close(5.0)
    assert not room.close(1.0)  # it was closed already, and for longer
    assert (room.free(), room.closed_for_s()) == (0, 5.0)
    now_s[0] += 5.0
    assert (room.free(), room.closed_for_s()) == (10, 0.0)


def test_size_of_a_record_is_its_key_value_and_headers_with_what_python_adds() -> None:
    record = LogRecord(
        topic="t", partition=0, offset=0, timestamp_ms=0, key=b"key", value=b"value", headers=(("name", b"12"),)
    )
    assert size_of(record) == 3 + 5 + 4 + 2 + HEADER_OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"topics": ()}, "topics"),
        ({"max_records": 0}, "max_records"),
        ({"max_record_bytes": 0}, "max_record_bytes"),
        ({"max_bytes": 10, "max_record_bytes": 11}, "max_bytes"),
        ({"max_records_per_partition": 0}, "max_records_per_partition"),
        ({"commit_interval_s": 0.0}, "above 0"),
        ({"ordering": Ordering.BY_KEY, "handle_timeout_s": None}, "handle_timeout_s"),
        ({"ordering": Ordering.BY_KEY, "handle_timeout_s": 5.0, "drain_timeout_s": 5.0}, "handle_timeout_s"),
    ],
)
def test_options_refuse_a_value_when_nothing_could_work_with_it(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        options_of(topic="t", group="g", letters="l", **wrong)


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"first_delay_s": 0.0}, {"busy_limit_s": -1.0}])
def test_retry_limits_refuse_a_value_when_nothing_could_work_with_it(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryLimits(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_group_waits_for_a_poll_as_long_as_one_record_may_take() -> None:
    """A worker whose room is full polls no more; the group must not take that for its end."""
    options = LogWorkerOptions(component="c", group="g", topics=("t",))
    retry = options.retry
    assert options.handle_timeout_s is not None
    assert (
        options.max_poll_interval_s
        > retry.max_attempts * (options.handle_timeout_s + retry.max_delay_s)
        + retry.busy_limit_s
        + options.drain_timeout_s
    )
