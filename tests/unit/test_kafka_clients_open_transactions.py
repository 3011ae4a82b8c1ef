"""A partition that waits for somebody's transaction is named once it has waited for longer than transactions do."""

from collections.abc import Callable, Iterator

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadPlace
from streams.kafka_clients.open_transactions import WAIT_TO_NAME_S, OpenTransactions
from tests.support.metric_pages import page, value_of

HERE = TopicPartition("commands", 3)
THERE = TopicPartition("commands", 4)
WAITING = ReadPlace(position=7, stable_end=7, log_end=20)
BEHIND = ReadPlace(position=6, stable_end=7, log_end=20)
AT_THE_END = ReadPlace(position=20, stable_end=20, log_end=20)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """Return what tells what is logged so far: event and partition, in order."""
    with capture_logs() as entries:
        yield lambda: [f"{each['event']} {each['partition']}" for each in entries]


def test_partition_is_named_once_when_it_waits_for_long_and_again_when_that_ends(said: Callable[[], list[str]]) -> None:
    page()  # counted from here on
    clock = Clock()
    transactions = OpenTransactions(clock_s=clock)
    transactions.look({HERE: WAITING, THERE: AT_THE_END})
    assert said() == []
    for _ in range(3):
        clock.now_s += WAIT_TO_NAME_S
        transactions.look({HERE: WAITING, THERE: BEHIND})
    assert value_of("open_transaction_wait_ms", topic="commands", partition="3") == 3 * WAIT_TO_NAME_S * 1000
    assert said() == ["waits_for_open_transaction 3"]
    transactions.look({HERE: AT_THE_END})
    assert said() == ["waits_for_open_transaction 3", "open_transaction_ended 3"]
    assert value_of("open_transaction_wait_ms", topic="commands", partition="3") == 0


def test_partition_is_not_named_when_one_short_transaction_follows_another(said: Callable[[], list[str]]) -> None:
    clock = Clock()
    transactions = OpenTransactions(clock_s=clock)
    for offset in range(5):
        transactions.look({HERE: ReadPlace(position=offset, stable_end=offset, log_end=50)})
        clock.now_s += WAIT_TO_NAME_S - 0.5
    assert said() == []


def test_partition_is_forgotten_when_it_goes_away(said: Callable[[], list[str]]) -> None:
    clock = Clock()
    transactions = OpenTransactions(clock_s=clock)
    transactions.look({HERE: WAITING})
    clock.now_s += WAIT_TO_NAME_S
    transactions.look({HERE: WAITING})
    transactions.look({})
    assert said()[-1] == "open_transaction_ended 3"


@pytest.mark.parametrize(("place", "waits"), [(WAITING, True), (BEHIND, False), (AT_THE_END, False)])
def test_place_waits_when_it_stands_at_the_stable_end_and_the_log_goes_on(place: ReadPlace, waits: bool) -> None:
    assert place.waits is waits
