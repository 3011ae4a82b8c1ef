"""A consumer whose task of fetching has ended is replaced: replies and policies are heard again.

aiokafka's consumer returns nothing for ever then, and says nothing: an ingress that heard no reply called itself ready.
The same for a consumer that fails in a way nobody expects: who follows must not end silently.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from http_ingress.replies.kafka_feed import KafkaReplyFeed
from http_ingress.replies.waiters import FeedLostError, ReplyPump, Waiters
from schemas import topics
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.policy_follower import PolicyFollower, PolicyView
from streams.kafka_clients.policy_writer import set_policy
from tests.support.embedded_process import embedded_broker_process
from tests.support.gateway_calls import CODEC, NOW_MS, WISH
from tests.support.kafka_topics import COMPACTED, create_topics, unique
from tests.support.waiting import until

LIMIT_S = 20.0


@pytest.fixture(scope="module")
def connection() -> Iterator[KafkaConnection]:
    with embedded_broker_process() as address:
        create_topics(address, [topics.REPLIES], partitions=1)
        yield KafkaConnection(bootstrap_servers=address)


async def _end_fetching(consumer: Any) -> None:
    """What an unexpected error of any kind does to aiokafka's consumer."""
    task = consumer._fetcher.error_future
    task.cancel()
    await asyncio.wait([task])


async def test_feed_is_lost_when_its_consumer_fetches_no_more(connection: KafkaConnection) -> None:
    feed = KafkaReplyFeed(connection=connection, partition=0)
    await feed.open()
    try:
        await _end_fetching(feed._consumer)
        with pytest.raises(FeedLostError):
            await feed.read()
    finally:
        await feed.close()


async def test_pump_opens_another_feed_when_the_first_one_fetches_no_more(connection: KafkaConnection) -> None:
    feed = KafkaReplyFeed(connection=connection, partition=0)
    pump = ReplyPump(feed=feed, waiters=Waiters(limit=1), codec=CODEC)
    await pump.start()
    try:
        first = feed._consumer
        await _end_fetching(first)
        await until(lambda: pump.live and feed._consumer not in {None, first}, timeout_s=LIMIT_S)
    finally:
        await pump.stop()


async def test_policies_are_followed_on_when_the_first_consumer_fetches_no_more(connection: KafkaConnection) -> None:
    async with _following(connection) as (follower, topic):
        await _end_fetching(follower._consumer)
        await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
        await until(lambda: "originA" in follower.current(), timeout_s=LIMIT_S)


@asynccontextmanager
async def _following(
    connection: KafkaConnection, on_change: Callable[[], None] | None = None
) -> AsyncIterator[tuple[PolicyFollower, str]]:
    topic = unique("policies")
    create_topics(connection.bootstrap_servers, [topic], partitions=1, config=COMPACTED)
    follower = PolicyFollower(connection, CODEC, topic=topic, on_change=on_change)
    await follower.start()
    try:
        yield follower, topic
    finally:
        await follower.stop()


async def _fail(*_: object, **__: object) -> None:
    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "the name of a header")


async def test_policies_are_followed_on_when_reading_fails_in_a_way_that_nobody_expects(
    connection: KafkaConnection,
) -> None:
    async with _following(connection) as (follower, topic):
        follower._consumer.getmany = _fail
        await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
        await until(lambda: "originA" in follower.current(), timeout_s=LIMIT_S)


async def test_policies_are_followed_on_when_who_is_told_of_them_fails(connection: KafkaConnection) -> None:
    told: list[int] = []

    def on_change() -> None:
        told.append(1)
        if len(told) == 1:
            raise ValueError

    async with _following(connection, on_change) as (follower, topic):
        await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
        await until(lambda: bool(told), timeout_s=LIMIT_S)
        second = await set_policy(connection, CODEC, WISH, now_ms=NOW_MS + 1, topic=topic)
        await until(lambda: follower.current() == {"originA": second}, timeout_s=LIMIT_S)


async def test_policies_are_followed_on_when_the_reading_of_one_fails(
    connection: KafkaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = PolicyView.take
    failures = [ValueError()]

    def taken(view: PolicyView, *record: Any) -> str | None:
        if failures:
            raise failures.pop()
        return take(view, *record)

    monkeypatch.setattr(PolicyView, "take", taken)
    async with _following(connection) as (follower, topic):
        await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
        await until(lambda: follower.invalid == 1, timeout_s=LIMIT_S)
        assert not follower.current()
        second = await set_policy(connection, CODEC, WISH, now_ms=NOW_MS + 1, topic=topic)
        await until(lambda: follower.current() == {"originA": second}, timeout_s=LIMIT_S)
