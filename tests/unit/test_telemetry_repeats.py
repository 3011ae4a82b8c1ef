"""A cause that repeats itself is one line a minute, with a count; what tells of one record is never left out."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from streams.telemetry import logs
from streams.telemetry.repeats import MAX_CAUSES, QUIET_S, RepeatFilter


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(clock: Clock) -> Iterator[Callable[[], list[dict[str, object]]]]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(component="test", stream=stream)
    (handler,) = root.handlers
    handler.filters[:] = [RepeatFilter(monotonic_s=clock)]
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = before, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


Told = Callable[[], list[dict[str, object]]]


def test_library_says_a_cause_once_a_minute_with_a_count_when_it_repeats(told: Told, clock: Clock) -> None:
    library = logging.getLogger("aiokafka")
    for seconds in range(0, 150, 1):
        clock.now_s = 1_000.0 + seconds
        for node in range(3):
            library.error("Unable connect to node with id %s: %s", node, ConnectionRefusedError(111, f"port {node}"))
    lines = [str(line["event"]) for line in told()]
    assert len(lines) == 3
    assert lines[0].startswith("Unable connect to node with id 0")
    assert "repeated" not in lines[0]
    assert lines[1].endswith(f"(repeated {3 * 60 - 1} times since)")


def test_library_says_each_cause_when_they_differ(told: Told) -> None:
    library = logging.getLogger("aiokafka")
    library.error("Unable connect to node with id %s: %s", 1, ConnectionRefusedError())
    library.error("Unable connect to node with id %s: %s", 1, TimeoutError())
    library.warning("Unable connect to node with id %s: %s", 1, TimeoutError())
    logging.getLogger("faust").error("Unable connect to node with id %s: %s", 1, TimeoutError())
    library.error("Heartbeat failed: local member_id was not recognized")
    assert len(told()) == 5


def test_library_says_one_cause_once_when_only_numbers_and_later_lines_differ(told: Told) -> None:
    for number in range(5):
        logging.getLogger("asyncio").error(f"Unclosed connection <0x7f{number}> to 10.0.0.{number}\n{number}")  # noqa: G004
    assert len(told()) == 1


def test_engine_says_every_line_when_it_does_not_say_that_it_repeats(told: Told) -> None:
    for offset in range(3):
        structlog.get_logger("streams.x").warning("dead_letter", offset=offset)
    assert [line["offset"] for line in told()] == [0, 1, 2]


def test_engine_leaves_out_and_counts_when_a_line_says_that_it_repeats(told: Told, clock: Clock) -> None:
    log = structlog.get_logger("streams.x")
    for _ in range(10):
        log.warning("timer_not_appended", error="RetryableError", repeats=True)
    log.warning("timer_not_appended", error="BackpressureError", repeats=True)
    clock.now_s += QUIET_S
    log.warning("timer_not_appended", error="RetryableError", repeats=True)
    lines = told()
    assert [(line["error"], line.get("repeated")) for line in lines] == [
        ("RetryableError", None),
        ("BackpressureError", None),
        ("RetryableError", 9),
    ]
    assert [line for line in lines if "repeats" in line] == []


def test_count_ends_when_it_was_told(told: Told, clock: Clock) -> None:
    library = logging.getLogger("aiokafka")
    for _ in range(3):
        library.error("no leader")
    for _ in range(2):
        clock.now_s += QUIET_S
        library.error("no leader")
    assert [line["event"] for line in told()] == ["no leader", "no leader (repeated 2 times since)", "no leader"]


def test_percent_signs_are_shown_as_they_are_when_a_count_is_added(told: Told, clock: Clock) -> None:
    library = logging.getLogger("aiokafka")
    for _ in range(2):
        library.error("disk %s full", "90%s")
    clock.now_s += QUIET_S
    library.error("disk %s full", "90%s")
    assert told()[-1]["event"] == "disk 90%s full (repeated 1 times since)"


def test_filter_remembers_a_bounded_number_of_causes(clock: Clock) -> None:
    repeats = RepeatFilter(monotonic_s=clock)
    names = [f"cause-{'x' * number}" for number in range(180)]
    for name in names:
        for level in (logging.WARNING, logging.ERROR, logging.CRITICAL):
            assert repeats.filter(logging.LogRecord("aiokafka", level, "", 0, name, (), None))
    assert 3 * len(names) > MAX_CAUSES
    assert repeats.filter(logging.LogRecord("aiokafka", logging.WARNING, "", 0, names[0], (), None))  # forgotten
    assert not repeats.filter(logging.LogRecord("aiokafka", logging.CRITICAL, "", 0, names[-1], (), None))
