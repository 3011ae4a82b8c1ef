"""Waiting for replies: what wakes a request, what does not, and what happens when the feed is lost."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from http_ingress.replies.kafka_feed import KafkaReplyFeed
from http_ingress.replies.waiters import FeedLostError, ReplyPump, TooManyWaitingError, Waiters
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId
from schemas.messages import Envelope, Headers
from schemas.records.payments import OperationReplied, OperationView
from schemas.vocabulary import Initiator, OperationKind, OperationState
from streams.kafka_clients.connection import KafkaConnection
from tests.support.ingress_under_test import CODEC
from tests.support.metric_pages import rise_of

ORIGIN = OriginId("originA")
OPERATION = OperationView(
    op_id=OpId("op_1"),
    kind=OperationKind.SALE,
    initiator=Initiator.MERCHANT,
    state=OperationState.DISPATCHED,
    idempotency_key=IdempotencyKey("k"),
    amount_minor=1,
    counted_minor=0,
    currency="USD",
    refund_id=None,
    gateway=None,
    gateway_reference=None,
    attempts=1,
    error=None,
    rejection=None,
    action_url=None,
    requested_at_ms=1,
    updated_at_ms=1,
)
ACCEPTED = OperationReplied(
    request_id="r1",
    origin_id=OriginId("o"),
    order_id=OrderId("order"),
    final=False,
    found=True,
    replayed=False,
    operation=OPERATION,
    payment=None,
    operations=(),
    replied_at_ms=1,
)
FINAL = dataclasses.replace(
    ACCEPTED, final=True, operation=dataclasses.replace(OPERATION, state=OperationState.SUCCEEDED)
)
DOUBTED = dataclasses.replace(ACCEPTED, operation=dataclasses.replace(OPERATION, state=OperationState.UNKNOWN))


async def test_waiter_is_settled_by_the_final_reply_and_not_by_the_first() -> None:
    waiters = Waiters(limit=1)
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        waiting = asyncio.create_task(waiter.settled(timeout_s=5))
        waiters.deliver(ACCEPTED)
        await asyncio.sleep(0)
        assert not waiting.done()
        waiters.deliver(FINAL)
        assert await waiting == FINAL


async def test_waiter_takes_the_first_reply_when_that_is_enough() -> None:
    waiters = Waiters(limit=1)
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        waiters.deliver(ACCEPTED)
        assert await waiter.first(timeout_s=5) == ACCEPTED


async def test_waiter_is_settled_by_doubt_because_nothing_better_comes_soon() -> None:
    waiters = Waiters(limit=1)
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        waiters.deliver(DOUBTED)
        assert await waiter.settled(timeout_s=5) == DOUBTED


async def test_waiter_keeps_the_outcome_when_a_late_acceptance_follows_it() -> None:
    waiters = Waiters(limit=1)
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        waiters.deliver(FINAL)
        waiters.deliver(ACCEPTED)
        assert await waiter.settled(timeout_s=5) == FINAL


async def test_waiter_gives_what_it_has_when_time_is_over() -> None:
    waiters = Waiters(limit=1)
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        assert await waiter.settled(timeout_s=0) is None
        waiters.deliver(ACCEPTED)
        assert await waiter.settled(timeout_s=0.01) == ACCEPTED


async def test_table_refuses_when_it_is_full_and_has_room_again_when_one_leaves() -> None:
    waiters = Waiters(limit=1)
    with waiters.expect("r1", origin=ORIGIN), pytest.raises(TooManyWaitingError):
        waiters.expect("r2", origin=ORIGIN)
    with waiters.expect("r2", origin=ORIGIN):
        assert len(waiters) == 1
    assert len(waiters) == 0


def test_origin_at_its_limit_takes_no_place_from_another() -> None:
    waiters = Waiters(limit=9)

    def places_of(name: str) -> int:
        with contextlib.suppress(TooManyWaitingError):
            for number in range(9):
                waiters.expect(f"{name}{number}", origin=OriginId(name))
        return sum(waiters.wants(f"{name}{number}") for number in range(9))

    assert [places_of(name) for name in ("a", "b", "c", "d")] == [5, 2, 1, 1]  # whoever comes finds a place
    waiters.forget("a0")
    waiters.forget("a0")
    waiters.expect("e0", origin=OriginId("e"))
    with pytest.raises(TooManyWaitingError):
        waiters.expect("a9", origin=OriginId("a"))


@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(0, 30)), max_size=200))
def test_table_counts_each_origin_rightly_whatever_comes_and_goes(steps: list[tuple[bool, str, int]]) -> None:
    waiters = Waiters(limit=10)
    waiting: dict[str, str] = {}
    for comes, name, number in steps:
        request_id = f"{name}{number}"
        if not comes:
            waiters.forget(request_id)
            waiting.pop(request_id, None)
        elif request_id not in waiting:
            held, free = sum(origin == name for origin in waiting.values()), 10 - len(waiting)
            try:
                waiters.expect(request_id, origin=OriginId(name))
            except TooManyWaitingError:
                assert held >= free
            else:
                assert held < free
                waiting[request_id] = name
        assert len(waiters) == len(waiting)


async def test_reply_is_ignored_when_nobody_waits_for_it() -> None:
    waiters = Waiters(limit=1)
    assert not waiters.deliver(FINAL)
    with waiters.expect("r1", origin=ORIGIN):
        pass  # the wait that ends here
    assert not waiters.deliver(FINAL)


async def test_release_wakes_all_who_wait_and_all_who_come_later() -> None:
    waiters = Waiters(limit=4)
    with waiters.expect("r1", origin=ORIGIN) as early:
        waiting = asyncio.create_task(early.settled(timeout_s=60))
        await asyncio.sleep(0)
        waiters.release_all()
        assert await asyncio.wait_for(waiting, 1) is None
        with waiters.expect("r2", origin=ORIGIN) as late:
            assert await asyncio.wait_for(late.settled(timeout_s=60), 1) is None


async def test_drain_ends_when_the_last_waiter_leaves() -> None:
    waiters = Waiters(limit=4)
    await asyncio.wait_for(waiters.none_left(), 1)
    with waiters.expect("r1", origin=ORIGIN):
        drained = asyncio.create_task(waiters.none_left())
        await asyncio.sleep(0)
        assert not drained.done()
    await asyncio.wait_for(drained, 1)


def encoded(reply: OperationReplied) -> tuple[bytes, Headers]:
    envelope = Envelope(id="e", source="test", type=TYPES[OperationReplied], subject=reply.request_id, time_ms=1)
    message = CODEC.encode(reply, envelope)
    return message.value, message.headers


class ScriptedFeed:
    """A feed that gives what the test says, or raises it."""

    def __init__(self, *, openings: Sequence[bool | Exception] = ()) -> None:
        self.script: asyncio.Queue[tuple[bytes | None, Headers] | Exception] = asyncio.Queue()
        self._openings = list(openings)
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        opening = self._openings.pop(0) if self._openings else True
        if isinstance(opening, Exception):
            raise opening
        if not opening:
            raise FeedLostError("no broker")
        self.opened += 1

    async def read(self) -> Sequence[tuple[bytes | None, Headers]]:
        step = await self.script.get()
        if isinstance(step, Exception):
            raise step
        return [step]

    async def close(self) -> None:
        self.closed += 1


def is_live(pump: ReplyPump) -> bool:
    return pump.live  # through a call: the type checker takes a property for a constant


def pump_of(feed: ScriptedFeed, waiters: Waiters) -> ReplyPump:
    return ReplyPump(feed=feed, waiters=waiters, codec=CODEC)


async def test_pump_delivers_what_is_waited_for_and_does_not_decode_the_rest() -> None:
    waiters = Waiters(limit=1)
    pump = pump_of(ScriptedFeed(), waiters)
    ignored, undecodable, delivered = (
        rise_of("replies_read", result=result) for result in ("ignored", "undecodable", "delivered")
    )
    value, headers = encoded(FINAL)
    pump.deliver(value, headers)
    pump.deliver(b"garbage that nobody decodes", headers)
    pump.deliver(value, ())
    assert ignored() == 3
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        pump.deliver(b"garbage", headers)
        pump.deliver(None, headers)
        assert undecodable() == 2
        pump.deliver(value, headers)
        assert await waiter.settled(timeout_s=1) == FINAL
    assert delivered() == 1


async def test_pump_opens_the_feed_again_when_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("http_ingress.replies.waiters.REPLY_FEED_BACKOFF_S", (0.001,))
    waiters = Waiters(limit=1)
    feed = ScriptedFeed(openings=[True, False, True])
    pump = pump_of(feed, waiters)
    assert not is_live(pump)
    await pump.start()
    assert is_live(pump)
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        feed.script.put_nowait(FeedLostError("gone"))
        feed.script.put_nowait(encoded(FINAL))
        assert await waiter.settled(timeout_s=5) == FINAL
    assert feed.opened == 2
    await pump.stop()
    await pump.stop()
    assert not is_live(pump)
    assert feed.closed >= 1


async def test_pump_goes_on_when_a_reply_makes_it_fail() -> None:
    waiters, feed = Waiters(limit=1), ScriptedFeed()
    pump, failed = pump_of(feed, waiters), rise_of("replies_read", result="failed")
    await pump.start()
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        feed.script.put_nowait((b"x", (("ce_subject", None),)))  # type: ignore[arg-type]  # what no feed should give
        feed.script.put_nowait(encoded(FINAL))
        assert await waiter.settled(timeout_s=5) == FINAL
    assert is_live(pump)
    assert failed() == 1
    await pump.stop()


async def test_pump_opens_the_feed_again_when_it_fails_in_a_way_that_nobody_expects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("http_ingress.replies.waiters.REPLY_FEED_BACKOFF_S", (0.001,))
    waiters = Waiters(limit=1)
    feed = ScriptedFeed(openings=[True, ValueError("a defect"), True])
    pump = pump_of(feed, waiters)
    await pump.start()
    with waiters.expect("r1", origin=ORIGIN) as waiter:
        feed.script.put_nowait(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a header's name"))
        feed.script.put_nowait(encoded(FINAL))
        assert await waiter.settled(timeout_s=5) == FINAL
    assert is_live(pump)
    assert feed.opened == 2
    await pump.stop()


class FakeReader:
    """A consumer that gives one record, or fails as it is told to."""

    def __init__(
        self, *, headers: Sequence[tuple[str, bytes | None]] = (), failure: Exception | None = None, hangs: bool = False
    ) -> None:
        self._headers = headers
        self._hangs = hangs
        self._failure = failure
        self.stopped = False

    async def start(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._hangs:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped = True

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Whatever it is: there is one record, over and over."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """As above."""

    async def getmany(self, **_: object) -> dict[TopicPartition, list[object]]:
        return {TopicPartition("t", 0): [SimpleNamespace(value=b"v", headers=self._headers)]}


def feed_on(reader: FakeReader) -> KafkaReplyFeed:
    return KafkaReplyFeed(connection=KafkaConnection(bootstrap_servers="nowhere"), partition=0, build=lambda _: reader)


async def test_feed_gives_an_empty_header_when_the_log_has_one_without_a_value() -> None:
    feed = feed_on(FakeReader(headers=[("ce_subject", None), ("ce_id", b"e")]))
    await feed.open()
    assert await feed.read() == [(b"v", (("ce_subject", b""), ("ce_id", b"e")))]


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [(KafkaConnectionError(), FeedLostError), (ValueError(), ValueError)],
)
async def test_feed_leaves_nothing_open_when_it_cannot_be_opened(failure: Exception, meaning: type[Exception]) -> None:
    reader = FakeReader(failure=failure)
    with pytest.raises(meaning):
        await feed_on(reader).open()
    assert reader.stopped


async def test_feed_leaves_nothing_open_when_its_opening_is_cancelled() -> None:
    reader = FakeReader(hangs=True)
    opening = asyncio.create_task(feed_on(reader).open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert reader.stopped


async def test_pump_does_not_start_when_the_feed_cannot_be_opened() -> None:
    pump = pump_of(ScriptedFeed(openings=[False]), Waiters(limit=1))
    with pytest.raises(FeedLostError):
        await pump.start()
    assert not is_live(pump)
