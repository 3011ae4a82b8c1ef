"""What Faust (orders and claims workers) may rely on, on both brokers: tables that recover, partitions that move."""

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # documented, not in its __all__

from tests.support.faust_counter import PARTITIONS, topics_of

LIMIT_S = 60.0
POLL_S = 0.2
FEED_EVERY_S = 1.0
STOP_LIMIT_S = 20.0
KEYS = [f"order-{n}" for n in range(12)]


class Counters:
    """Workers of one application, what they are fed and what they answered."""

    def __init__(self, address: str, log_folder: Path) -> None:
        self._address = address
        self._log_folder = log_folder
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self.app_id = f"counter-{uuid.uuid4().hex[:10]}"
        self.input, self.output, changelog = topics_of(self.app_id)
        config = {changelog: {"cleanup.policy": "compact"}}
        names = (self.input, self.output, changelog)
        topics = [NewTopic(name, PARTITIONS, 1, config=config.get(name, {})) for name in names]
        admin = AdminClient({"bootstrap.servers": address})
        for created in admin.create_topics(topics).values():
            created.result(LIMIT_S)
        self._producer = Producer({"bootstrap.servers": address, "partitioner": "murmur2_random"})
        self._consumer = Consumer({"bootstrap.servers": address, "group.id": f"{self.app_id}-test"})
        self._consumer.assign([TopicPartition(self.output, n, OFFSET_BEGINNING) for n in range(PARTITIONS)])
        self.highest: dict[str, int] = {}
        self.answered_by: dict[str, str] = {}
        self.first_answer: dict[tuple[str, str], int] = {}

    def start(self, instance: str) -> None:
        with (self._log_folder / f"{instance}-{uuid.uuid4().hex[:6]}.log").open("wb") as log:
            self._workers[instance] = subprocess.Popen(
                [sys.executable, "-m", "tests.support.faust_counter", self._address, self.app_id, instance],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )

    def stop(self, instance: str) -> None:
        worker = self._workers.pop(instance)
        worker.terminate()
        worker.wait(STOP_LIMIT_S)

    def kill(self, instance: str) -> None:
        worker = self._workers.pop(instance)
        worker.kill()
        worker.wait(STOP_LIMIT_S)

    def close(self) -> None:
        for instance in list(self._workers):
            self.kill(instance)
        self._consumer.close()

    def feed(self, rounds: int) -> None:
        """`rounds` events for each key."""
        for _ in range(rounds):
            for key in KEYS:
                self._producer.produce(self.input, b"1", key.encode())
        assert self._producer.flush(LIMIT_S) == 0

    def read_until(self, condition: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < ends, f"{what}: not within {LIMIT_S} s; {self.highest} {self._tails()}"
            message = self._consumer.poll(POLL_S)
            value = None if message is None or message.error() else message.value()
            if value is not None:
                counted, _, instance = value.decode().partition(" ")
                key, _, count = counted.partition("=")
                self.highest[key] = max(self.highest.get(key, 0), int(count))
                self.answered_by[key] = instance
                self.first_answer.setdefault((instance, key), int(count))

    def feed_until(self, condition: Callable[[], bool], what: str) -> None:
        """Feeds a round a second until it is so."""
        feed_at = time.monotonic()

        def fed_and_so() -> bool:
            nonlocal feed_at
            if time.monotonic() >= feed_at:
                self.feed(1)
                feed_at = time.monotonic() + FEED_EVERY_S
            return condition()

        self.read_until(fed_and_so, what)

    def have_counted(self, count: int) -> bool:
        return all(self.highest.get(key, 0) >= count for key in KEYS)

    def _tails(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in self._log_folder.glob("*.log"))


@pytest.fixture
def counters(broker_address: str, tmp_path: Path) -> Iterator[Counters]:
    with contextlib.closing(Counters(broker_address, tmp_path)) as running:
        yield running


# Faust as it comes may lose or repeat an event around a restart (streams/kafka has the overrides, with tests of their
# own). That is not the broker's contract. The broker's is: partitions and committed offsets come back, and so does
# every acknowledged row. A table that was not read back would answer with a count of 1 again.


@pytest.mark.slow
def test_faust_table_goes_on_where_it_was_when_the_worker_restarts(counters: Counters) -> None:
    counters.start("first")
    counters.feed_until(lambda: counters.have_counted(3), "the first worker counts")
    counters.stop("first")
    before = dict(counters.highest)
    counters.start("second")
    counters.feed_until(lambda: set(counters.answered_by.values()) == {"second"}, "the second worker counts on")
    assert all(counters.first_answer["second", key] > 1 for key in KEYS)
    assert all(counters.highest[key] > before[key] for key in KEYS)


@pytest.mark.slow
def test_faust_worker_takes_over_after_the_session_time_out_when_its_peer_is_killed(counters: Counters) -> None:
    counters.start("survivor")
    counters.feed_until(lambda: counters.have_counted(1), "one worker counts")
    counters.start("victim")
    counters.feed_until(lambda: set(counters.answered_by.values()) == {"survivor", "victim"}, "both workers answer")
    victims = [key for key, instance in counters.answered_by.items() if instance == "victim"]
    counters.kill("victim")
    counters.feed_until(lambda: set(counters.answered_by.values()) == {"survivor"}, "the survivor answers for all")
    assert victims
    assert all(counters.first_answer["victim", key] > 1 for key in victims)
    assert all(counters.highest[key] > counters.first_answer["victim", key] for key in victims)
