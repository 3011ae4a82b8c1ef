"""Policies through the log: set, followed within a second, and told apart from what cannot be followed."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RejectedError, RetryableError
from streams.kafka_clients.log_reader import ReadFrom, read_log
from streams.kafka_clients.policy_follower import PolicyFollower
from streams.kafka_clients.policy_writer import delete_policy, set_policy
from tests.support.embedded_process import embedded_broker_process
from tests.support.gateway_calls import CODEC, NOW_MS, WISH, writing
from tests.support.kafka_topics import COMPACTED, create_topics, unique

LIMIT_S = 20.0


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def connection(request: pytest.FixtureRequest) -> Iterator[KafkaConnection]:
    """The embedded broker, then Apache Kafka."""
    if request.param == "kafka":
        yield KafkaConnection(bootstrap_servers=str(request.getfixturevalue("kafka").bootstrap_servers))
        return
    with embedded_broker_process() as address:
        yield KafkaConnection(bootstrap_servers=address)


@pytest.fixture
def topic(connection: KafkaConnection) -> str:
    name = unique("policies")
    create_topics(connection.bootstrap_servers, [name], partitions=1, config=COMPACTED)
    return name


@asynccontextmanager
async def following(
    connection: KafkaConnection, topic: str, on_change: Callable[[], None] | None = None
) -> AsyncIterator[PolicyFollower]:
    follower = PolicyFollower(connection, CODEC, topic=topic, on_change=on_change)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


async def test_follower_knows_every_policy_before_it_is_ready(connection: KafkaConnection, topic: str) -> None:
    for number in range(3):
        wish = dataclasses.replace(WISH, origin_id=f"origin{number}")
        await set_policy(connection, CODEC, wish, now_ms=NOW_MS, topic=topic)
    async with following(connection, topic) as follower:
        assert follower.ready.is_set()
        assert set(follower.current()) == {"origin0", "origin1", "origin2"}


async def test_follower_has_a_changed_policy_within_a_second(connection: KafkaConnection, topic: str) -> None:
    changed = asyncio.Event()
    async with following(connection, topic, changed.set) as follower:
        assert not follower.current()
        first = await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
        async with asyncio.timeout(1.0):
            await changed.wait()
        changed.clear()
        wish = dataclasses.replace(WISH, fallback=False)
        second = await set_policy(connection, CODEC, wish, now_ms=NOW_MS + 5, topic=topic)
        async with asyncio.timeout(1.0):
            await changed.wait()
        assert follower.current() == {"originA": second}
    assert (first.version, second.version, second.updated_at_ms) == (1, 2, NOW_MS + 5)


async def test_follower_keeps_the_last_good_policy_when_a_bad_record_comes(
    connection: KafkaConnection, topic: str
) -> None:
    good = await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
    async with following(connection, topic) as follower, writing(connection) as writer:
        await writer.append(topic, key=b"originA", value=b"{}")
        await wait_until(lambda: follower.invalid == 1)
        assert follower.current() == {"originA": good}
        await writer.append(topic, key=b"originA", value=None)
        await wait_until(lambda: not follower.current())


async def test_follower_forgets_a_deleted_policy_and_a_second_deletion_writes_nothing(
    connection: KafkaConnection, topic: str
) -> None:
    await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
    async with following(connection, topic) as follower:
        assert await delete_policy(connection, CODEC, WISH.origin_id, topic=topic)
        await wait_until(lambda: not follower.current())
    assert not await delete_policy(connection, CODEC, WISH.origin_id, topic=topic)
    assert [record.value is None async for record in read_log(connection, topic)] == [False, True]
    again = await set_policy(connection, CODEC, WISH, now_ms=NOW_MS, topic=topic)
    assert again.version == 1


async def test_policy_is_refused_and_not_written_when_it_cannot_be_followed(
    connection: KafkaConnection, topic: str
) -> None:
    with pytest.raises(RejectedError, match="max_attempts"):
        await set_policy(connection, CODEC, dataclasses.replace(WISH, max_attempts=99), now_ms=NOW_MS, topic=topic)
    assert not [record async for record in read_log(connection, topic)]


async def test_follower_refuses_to_start_when_there_is_no_topic(connection: KafkaConnection) -> None:
    with pytest.raises(MisconfiguredError, match="topics apply"):
        await PolicyFollower(connection, CODEC, topic=unique("nowhere")).start()


async def test_follower_refuses_to_start_when_there_is_no_broker() -> None:
    with pytest.raises(RetryableError):
        await PolicyFollower(KafkaConnection(bootstrap_servers="127.0.0.1:1"), CODEC).start()


async def test_reader_gives_only_what_was_asked_for(connection: KafkaConnection) -> None:
    topic = unique("read")
    create_topics(connection.bootstrap_servers, [topic], partitions=3)
    async with writing(connection) as writer:
        placed = [await writer.append(topic, key=f"k{n % 5}".encode(), value=b"%d" % n) for n in range(20)]

    async def values(**how: object) -> list[int]:
        found = [record async for record in read_log(connection, topic, **how)]  # type: ignore[arg-type]  # real names
        return [int(record.value or b"") for record in found]

    assert sorted(await values()) == list(range(20))
    assert await values(key=b"k2") == [2, 7, 12, 17]
    home = placed[2].partition
    assert sorted(await values(partition=home)) == [n for n in range(20) if placed[n].partition == home]
    assert await values(key=b"k2", start=ReadFrom(offsets={home: placed[12].offset})) == [12, 17]
    assert 17 in await values(start=ReadFrom(timestamp_ms=placed[17].timestamp_ms))
    assert await values(start=ReadFrom(timestamp_ms=placed[19].timestamp_ms + 60_000)) == []
    assert len(await values(max_records=4)) == 4
    with pytest.raises(MisconfiguredError, match="no partition 9"):
        await values(partition=9)
