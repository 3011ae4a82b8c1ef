"""The time by the log: a clock that is behind is put right by what brokers have dated, one that is ahead is not."""

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka_clients.log_clock import WINDOW_S, LogClock

START_MS = 1_000_000_000
HOUR_MS = 3_600_000


class Machine:
    """A machine whose clock is off by so much."""

    def __init__(self, *, off_ms: int = 0) -> None:
        self.off_ms = off_ms
        self.up_s = 50.0
        self.clock = LogClock(wall_ms=lambda: self.true_ms + self.off_ms, monotonic_s=lambda: self.up_s)

    @property
    def true_ms(self) -> int:
        return START_MS + int(self.up_s * 1000)


def test_clock_is_the_machines_own_until_a_record_is_seen() -> None:
    assert Machine(off_ms=-HOUR_MS).clock.now_ms() == START_MS + 50_000 - HOUR_MS


def test_clock_that_is_behind_goes_by_the_newest_record_and_runs_on() -> None:
    machine = Machine(off_ms=-HOUR_MS)
    machine.clock.saw(machine.true_ms - 40)
    machine.clock.saw(machine.true_ms - 9_000)  # of a backlog
    machine.up_s += 30.0
    assert machine.clock.now_ms() == machine.true_ms - 40


def test_clock_that_is_ahead_stays_ahead() -> None:
    machine = Machine(off_ms=HOUR_MS)
    machine.clock.saw(machine.true_ms)
    assert machine.clock.now_ms() == machine.true_ms + HOUR_MS


def test_broker_whose_clock_was_wrong_is_forgotten() -> None:
    machine = Machine()
    machine.clock.saw(machine.true_ms + 200 * 24 * HOUR_MS)
    for _ in range(3):
        machine.up_s += WINDOW_S
        machine.clock.saw(machine.true_ms)
    assert machine.clock.now_ms() == machine.true_ms


def test_what_was_seen_counts_however_long_nothing_is_seen() -> None:
    machine = Machine(off_ms=-HOUR_MS)
    machine.clock.saw(machine.true_ms)
    machine.up_s += 10 * WINDOW_S
    assert machine.clock.now_ms() == machine.true_ms


@given(
    off_ms=st.integers(-10 * HOUR_MS, 10 * HOUR_MS),
    steps=st.lists(st.tuples(st.floats(0.0, 2 * WINDOW_S), st.integers(0, 5_000)), max_size=20),
)
def test_clock_is_never_behind_the_last_record_and_never_ahead_of_both_clocks(
    off_ms: int, steps: list[tuple[float, int]]
) -> None:
    """Records come late by up to five seconds."""
    machine = Machine(off_ms=off_ms)
    for pause_s, late_ms in steps:
        machine.up_s += pause_s
        machine.clock.saw(machine.true_ms - late_ms)
        now_ms = machine.clock.now_ms()
        assert now_ms >= machine.true_ms - late_ms - 1
        assert now_ms <= max(machine.true_ms, machine.true_ms + off_ms) + 1
