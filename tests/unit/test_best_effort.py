"""Replies: sent if it can be, dropped if it cannot, and never in anybody's way."""

import asyncio
from collections import deque
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from schemas.topics import REPLIES
from streams.kafka import best_effort
from streams.kafka.best_effort import MAX_WAITING, BestEffortSender
from streams.kafka.step import Outgoing
from tests.support.metric_pages import rise_of
from tests.support.waiting import until

WAIT_S = 5.0


class _Producer:
    """aiokafka's, as a test wants it."""

    def __init__(self) -> None:
        self.sent: list[bytes | None] = []
        self.headers: list[list[tuple[str, bytes]]] = []
        self.deliveries: list[asyncio.Future[Any]] = []
        self.hangs_at: set[int | None] = set()
        self.failures: deque[Exception] = deque()
        self.start_failures: deque[Exception] = deque()
        self.stops_for_ever = False
        self.ended: list[str] = []

    async def start(self) -> None:
        if self.start_failures:
            raise self.start_failures.popleft()

    async def stop(self) -> None:
        if self.stops_for_ever:
            await asyncio.Event().wait()
        self.ended.append("stopped")

    async def abandon(self) -> None:
        self.ended.append("abandoned")

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int | None, headers: list[Any]
    ) -> asyncio.Future[Any]:
        assert (topic, key) == (REPLIES, None)
        if self.failures:
            raise self.failures.popleft()
        if partition in self.hangs_at:
            await asyncio.Event().wait()  # no leader, and the buffer of the partition is full
        self.sent.append(value)
        self.headers.append(headers)
        self.deliveries.append(asyncio.get_running_loop().create_future())
        return self.deliveries[-1]


def reply(value: bytes, *, partition: int = 0) -> Outgoing:
    return Outgoing(topic=REPLIES, key=None, value=value, partition=partition, headers=(("ce_id", b"1"),))


async def wait_until_sent(producer: _Producer, count: int) -> None:
    await until(lambda: len(producer.sent) == count, timeout_s=WAIT_S, look_again_s=0)


async def test_replies_are_sent_in_their_order_and_what_is_under_way_at_a_stop_too() -> None:
    producer = _Producer()
    sender = BestEffortSender(lambda: producer)
    for number in range(100):
        sender.say(reply(b"%d" % number))
    await sender.stop()
    await sender.stop()
    assert producer.sent == [b"%d" % number for number in range(100)]
    assert producer.headers[0] == [("ce_id", b"1")]
    assert producer.ended == ["stopped"]


async def test_replies_to_a_partition_that_takes_none_are_dropped_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(best_effort, "LIFE_S", 0.05)
    late, full = rise_of("replies_lost", reason="TimeoutError"), rise_of("replies_lost", reason="QueueFull")
    producer = _Producer()
    producer.hangs_at.add(7)
    sender = BestEffortSender(lambda: producer)
    for _ in range(MAX_WAITING + 5):
        sender.say(reply(b"lost", partition=7))
    sender.say(reply(b"kept"))
    await wait_until_sent(producer, 1)
    assert full() == 5
    await until(lambda: late() == MAX_WAITING, timeout_s=WAIT_S, look_again_s=0)
    producer.hangs_at.clear()
    sender.say(reply(b"heard again", partition=7))
    await wait_until_sent(producer, 2)
    await sender.stop()


async def test_delivery_that_fails_is_counted_and_ends_nothing() -> None:
    lost = rise_of("replies_lost", reason="KafkaConnectionError")
    producer = _Producer()
    sender = BestEffortSender(lambda: producer)
    sender.say(reply(b"1"))
    await wait_until_sent(producer, 1)
    producer.deliveries[0].set_exception(KafkaConnectionError())
    await until(lambda: lost() == 1, timeout_s=WAIT_S, look_again_s=0)
    sender.say(reply(b"2"))
    await wait_until_sent(producer, 2)
    producer.deliveries[1].set_result(None)
    await sender.stop()
    assert lost() == 1


async def test_producer_that_could_not_start_is_made_anew_for_the_next_reply() -> None:
    first, second = _Producer(), _Producer()
    first.start_failures.append(KafkaConnectionError())
    made = deque([first, second])
    sender = BestEffortSender(made.popleft)
    sender.say(reply(b"lost"))
    sender.say(reply(b"sent"))
    await wait_until_sent(second, 1)
    await sender.stop()
    assert (first.ended, second.ended) == (["stopped"], ["stopped"])


async def test_producer_that_refuses_is_replaced_but_not_for_each_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _Producer(), _Producer()
    made = deque([first, second])
    first.failures.extend([TopicAuthorizationFailedError()] * 2)
    lost = rise_of("replies_lost", reason="TopicAuthorizationFailedError")
    sender = BestEffortSender(made.popleft)
    sender.say(reply(b"lost"))
    await until(lambda: lost() == 1, timeout_s=WAIT_S, look_again_s=0)
    assert list(made) == [second]
    monkeypatch.setattr(best_effort, "RENEW_AFTER_S", 0.0)
    sender.say(reply(b"lost"))
    sender.say(reply(b"sent"))
    await wait_until_sent(second, 1)
    await sender.stop()


async def test_stop_gives_up_a_producer_whose_broker_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_effort, "STOP_TIMEOUT_S", 0.01)
    monkeypatch.setattr(best_effort, "LINGER_S", 0.01)
    producer = _Producer()
    producer.stops_for_ever, producer.hangs_at = True, {7}
    sender = BestEffortSender(lambda: producer)
    sender.say(reply(b"1"))
    sender.say(reply(b"2", partition=7))
    await wait_until_sent(producer, 1)
    await sender.stop()
    assert producer.ended == ["abandoned"]
