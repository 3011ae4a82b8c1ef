"""A consumer whose task of fetching has ended is replaced: replies and policies are heard again.

aiokafka's consumer returns nothing for ever then, and says nothing: an ingress that heard no reply called itself ready.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from http_ingress.kafka_replies import KafkaReplyFeed
from http_ingress.metrics import IngressMetrics
from http_ingress.replies import FeedLostError, ReplyPump, Waiters
from schemas import topics
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.policy_follower import PolicyFollower
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
    pump = ReplyPump(feed=feed, waiters=Waiters(limit=1), codec=CODEC, metrics=IngressMetrics())
    await pump.start()
    try:
        first = feed._consumer
        await _end_fetching(first)
        await until(lambda: pump.live and feed._consumer not in {None, first}, timeout_s=LIMIT_S)
    finally:
        await pump.stop()


async def test_policies_are_followed_on_when_the_first_consumer_fetches_no_more(connection: KafkaConnection) -> None:
    topic = unique("policies")
    create_topics(connection.bootstrap_servers, [topic], partitions=1, config=COMPACTED)
    follower = PolicyFollower(connection, CODEC, topic=topic)
    await follower.start()
    try:
        await _end_fetching(follower._consumer)
        await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
        await until(lambda: "originA" in follower.current(), timeout_s=LIMIT_S)
    finally:
        await follower.stop()
