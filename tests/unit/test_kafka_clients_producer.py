"""The log writer, on a producer that settles records when the test says so."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients import producer as producer_module
from streams.kafka_clients.circuit import FAILURES_TO_OPEN, OPEN_S, CircuitState
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import BackpressureError, RejectedError, RetryableError, UnconfirmedError
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from tests.support.metric_pages import rise_of
from tests.support.waiting import until

TIMEOUT_S = 5.0
LONG_S = 60.0
CONNECTION = KafkaConnection(bootstrap_servers="nowhere", request_timeout_s=0.2)


@dataclass
class Metadata:
    partition: int
    offset: int
    timestamp: int


class FakeProducer:
    """Keeps deliveries until the test settles them; or settles them at once, with `answer`."""

    def __init__(self, answer: Callable[[], Metadata | Exception] | None = None) -> None:
        self.answer = answer
        self.deliveries: list[asyncio.Future[Any]] = []
        self.sent = asyncio.Event()
        self.stopped = asyncio.Event()
        self.abandoned = asyncio.Event()
        self.starting = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.start_error: Exception | None = None

    async def start(self) -> None:
        self.starting.set()
        await self.may_start.wait()
        if self.start_error is not None:
            raise self.start_error

    async def stop(self) -> None:
        await self.may_stop.wait()
        self.stopped.set()

    async def abandon(self) -> None:
        self.abandoned.set()

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1}

    async def send(self, topic: str, **_: object) -> asyncio.Future[Any]:
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.deliveries.append(delivery)
        self.sent.set()
        if self.answer is not None:
            asyncio.get_running_loop().call_soon(settle, delivery, self.answer())
        return delivery


def settle(delivery: asyncio.Future[Any], answer: Metadata | Exception) -> None:
    if isinstance(answer, Exception):
        delivery.set_exception(answer)
    else:
        delivery.set_result(answer)


def written() -> Metadata:
    return Metadata(partition=1, offset=42, timestamp=7)


@asynccontextmanager
async def writing(
    *producers: FakeProducer,
    max_in_flight: int = 100,
    waits_through_silence: bool = True,
    clock_s: Callable[[], float] = time.monotonic,
) -> AsyncIterator[LogWriter]:
    left = list(producers)
    writer = LogWriter(
        CONNECTION,
        max_in_flight=max_in_flight,
        waits_through_silence=waits_through_silence,
        build=lambda _: left.pop(0),
        clock_s=clock_s,
    )
    try:
        yield writer
    finally:
        await writer.stop()


async def append(writer: LogWriter, *, timeout_s: float = 0.05, partition: int | None = None) -> AppendedRecord:
    return await writer.append("t", key=b"k", value=b"v", timeout_s=timeout_s, partition=partition)


async def append_later(writer: LogWriter, fake: FakeProducer) -> AppendedRecord:
    """An append that the producer settles by itself."""
    fake.answer = written
    return await append(writer, timeout_s=5.0)


async def test_append_says_where_the_record_stands_when_it_is_acknowledged() -> None:
    async with writing(FakeProducer(written)) as writer:
        assert await append(writer) == AppendedRecord(topic="t", partition=1, offset=42, timestamp_ms=7)
        assert writer.in_flight == 0


async def test_append_is_unconfirmed_and_still_counts_when_nobody_acknowledges_in_time() -> None:
    fake = FakeProducer()
    async with writing(fake) as writer:
        with pytest.raises(UnconfirmedError):
            await append(writer)
        assert writer.in_flight == 1  # it may yet be written, and it takes memory until then
        settle(fake.deliveries[0], written())
        await asyncio.sleep(0)
        assert writer.in_flight == 0


async def test_append_still_counts_when_its_caller_was_cancelled() -> None:
    fake = FakeProducer()
    async with writing(fake) as writer:
        caller = asyncio.ensure_future(append(writer, timeout_s=5.0))
        await fake.sent.wait()
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert writer.in_flight == 1
        settle(fake.deliveries[0], KafkaConnectionError())
        await asyncio.sleep(0)
        assert writer.in_flight == 0


async def test_append_is_refused_at_once_when_too_many_are_under_way() -> None:
    async with writing(FakeProducer(), max_in_flight=1) as writer:
        with pytest.raises(UnconfirmedError):
            await append(writer)
        with pytest.raises(BackpressureError) as refused:
            await append(writer)
        assert refused.value.retry_after_s > 0


async def test_append_fails_at_once_when_the_log_did_not_answer_several_times() -> None:
    fake = FakeProducer()
    async with writing(fake) as writer:
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(UnconfirmedError):
                await append(writer, timeout_s=0.01)
        assert writer.state is CircuitState.OPEN
        with pytest.raises(BackpressureError, match="does not answer"):
            await append(writer)
        assert len(fake.deliveries) == FAILURES_TO_OPEN  # nothing more was sent
        settle(fake.deliveries[0], written())  # the broker is back
        await asyncio.sleep(0)
        assert (await append_later(writer, fake)).offset == 42


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_append_fails_at_once_when_the_log_has_been_silent_although_nobodys_time_is_over() -> None:
    fake, clock = FakeProducer(), Clock()
    async with writing(fake, clock_s=clock) as writer:
        waiting = asyncio.ensure_future(append(writer, timeout_s=5.0))
        await fake.sent.wait()
        clock.now_s += producer_module.SILENCE_S + 0.1
        with pytest.raises(BackpressureError, match="does not answer"):
            await append(writer)
        assert len(fake.deliveries) == 1  # nothing more was sent, and nothing more is kept in memory
        settle(fake.deliveries[0], written())  # the broker is back
        await waiting
        assert (await append_later(writer, fake)).offset == 42


async def test_append_waits_for_a_slow_record_when_the_log_answers_others() -> None:
    fake, clock = FakeProducer(), Clock()
    async with writing(fake, clock_s=clock) as writer:
        slow = asyncio.ensure_future(append(writer, timeout_s=5.0))
        await fake.sent.wait()
        for _ in range(3):
            clock.now_s += producer_module.SILENCE_S * 0.9
            assert (await append_later(writer, fake)).offset == 42
        settle(fake.deliveries[0], written())
        assert (await slow).offset == 42


async def test_append_that_waits_ends_when_the_log_goes_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked before the log was known to be gone waits no longer than who asks afterwards is told so."""
    monkeypatch.setattr(producer_module, "SILENCE_S", 0.05)
    async with writing(FakeProducer(), waits_through_silence=False) as writer, asyncio.timeout(TIMEOUT_S):
        with pytest.raises(UnconfirmedError, match="silent"):
            await writer.append("t", key=b"k", value=b"v", timeout_s=LONG_S)
        assert writer.state is CircuitState.OPEN


async def test_append_waits_through_silence_when_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "SILENCE_S", 0.01)
    producer = FakeProducer()
    async with writing(producer) as writer, asyncio.timeout(TIMEOUT_S):
        with pytest.raises(UnconfirmedError, match="in time"):
            await writer.append("t", key=b"k", value=b"v", timeout_s=10 * producer_module.SILENCE_S)


async def test_probe_waits_for_its_answer_although_the_log_was_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "SILENCE_S", 0.05)
    producer, clock = FakeProducer(), Clock()
    async with writing(producer, waits_through_silence=False, clock_s=clock) as writer, asyncio.timeout(TIMEOUT_S):
        lost = asyncio.create_task(writer.append("t", key=b"k", value=b"v", timeout_s=LONG_S))
        await producer.sent.wait()
        clock.now_s += OPEN_S
        with pytest.raises(BackpressureError):
            await writer.append("t", key=b"k", value=b"v")
        with pytest.raises(UnconfirmedError):
            await lost
        clock.now_s += OPEN_S
        producer.sent.clear()
        probe = asyncio.create_task(writer.append("t", key=b"k", value=b"v"))
        await producer.sent.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not probe.done()
        settle(producer.deliveries[-1], written())
        assert (await probe).offset == 42


async def test_append_waits_on_when_the_log_answers_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "SILENCE_S", 0.05)
    producer = FakeProducer()
    async with writing(producer, waits_through_silence=False) as writer, asyncio.timeout(TIMEOUT_S):
        waiting = asyncio.create_task(writer.append("t", key=b"k", value=b"v", timeout_s=LONG_S))
        await producer.sent.wait()
        producer.answer = written
        began_s = time.monotonic()
        while time.monotonic() - began_s < 4 * producer_module.SILENCE_S:
            await writer.append("t", key=b"k", value=b"v")
        assert not waiting.done()
        settle(producer.deliveries[0], written())
        assert (await waiting).offset == 42


async def test_append_waits_only_a_moment_when_it_is_the_probe_of_a_silent_log() -> None:
    fake, clock = FakeProducer(), Clock()
    async with writing(fake, clock_s=clock) as writer:
        waiting = asyncio.ensure_future(append(writer, timeout_s=5.0))
        await fake.sent.wait()
        clock.now_s += producer_module.SILENCE_S + 0.1
        with pytest.raises(BackpressureError):
            await append(writer)
        clock.now_s += OPEN_S
        began_s = time.monotonic()
        with pytest.raises(UnconfirmedError):
            await append(writer, timeout_s=5.0)
        assert time.monotonic() - began_s < 2.0
        assert len(fake.deliveries) == 2
        for delivery in fake.deliveries:
            settle(delivery, written())
        await waiting


@pytest.mark.parametrize(
    ("foreign", "meaning"),
    [(MessageSizeTooLargeError(), RejectedError), (TopicAuthorizationFailedError(), MisconfiguredError)],
)
async def test_append_keeps_its_producer_when_only_this_record_was_refused(
    foreign: Exception, meaning: type[Exception]
) -> None:
    fake = FakeProducer(lambda: foreign)
    async with writing(fake) as writer:
        for _ in range(FAILURES_TO_OPEN + 1):
            with pytest.raises(meaning):
                await append(writer)
        assert writer.state is CircuitState.CLOSED
        assert not fake.stopped.is_set()


async def test_append_goes_on_with_a_fresh_producer_when_the_old_one_lost_its_sequence() -> None:
    broken, fresh = FakeProducer(OutOfOrderSequenceNumber), FakeProducer(written)
    renewed = rise_of("log_producer_renewed")
    async with writing(broken, fresh) as writer:
        with pytest.raises(RetryableError):
            await append(writer)
        assert (await append(writer)).offset == 42
        await asyncio.wait_for(broken.stopped.wait(), 5.0)
    assert renewed() == 1


async def test_append_names_the_partition_when_the_topic_does_not_have_it() -> None:
    async with writing(FakeProducer(written)) as writer:
        assert (await append(writer, partition=1)).partition == 1
        with pytest.raises(RejectedError, match="no partition 9"):
            await append(writer, partition=9)
        assert writer.in_flight == 0


async def test_append_is_retryable_and_certainly_not_written_when_the_broker_cannot_be_reached() -> None:
    away, back = FakeProducer(), FakeProducer(written)
    away.start_error = KafkaConnectionError()
    async with writing(away, back) as writer:
        with pytest.raises(RetryableError) as refused:
            await append(writer)
        assert not isinstance(refused.value, UnconfirmedError)
        assert (await append(writer)).offset == 42


async def test_start_says_so_when_the_broker_cannot_be_reached() -> None:
    away = FakeProducer()
    away.start_error = KafkaConnectionError()
    async with writing(away) as writer:
        with pytest.raises(RetryableError):
            await writer.start()


async def test_stop_ends_by_force_when_the_producer_cannot_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "STOP_TIMEOUT_S", 0.02)
    fake = FakeProducer(written)
    fake.may_stop.clear()
    async with writing(fake) as writer:
        await append(writer)
        await asyncio.wait_for(writer.stop(), 5.0)
        assert fake.abandoned.is_set()
        with pytest.raises(BackpressureError, match="stopped"):
            await append(writer)


async def replaced_while_it_owes(
    writer: LogWriter, broken: FakeProducer, *, records: int
) -> list[asyncio.Task[AppendedRecord]]:
    """Appends that the producer never settles, and one by which it is replaced."""
    broken.may_stop.clear()
    waiting = [asyncio.create_task(append(writer, timeout_s=LONG_S)) for _ in range(records)]
    await until(lambda: len(broken.deliveries) == records, timeout_s=TIMEOUT_S, look_again_s=0.001)
    broken.answer = OutOfOrderSequenceNumber
    with pytest.raises(RetryableError):
        await append(writer, timeout_s=LONG_S)
    return waiting


async def test_append_is_unconfirmed_when_its_producer_was_replaced_and_could_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer_module, "STOP_TIMEOUT_S", 0.02)
    broken = FakeProducer()
    async with writing(broken, FakeProducer(written)) as writer, asyncio.timeout(TIMEOUT_S):
        waiting = await replaced_while_it_owes(writer, broken, records=FAILURES_TO_OPEN + 1)
        await broken.abandoned.wait()
        for each in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(each, UnconfirmedError)  # never that nothing was written: the broker may have them
        assert writer.in_flight == 0
        assert writer.state is CircuitState.CLOSED  # what an old producer leaves says nothing of the log
        assert (await append(writer)).offset == 42


async def test_append_is_unconfirmed_when_the_writer_stops_and_its_producer_cannot_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer_module, "STOP_TIMEOUT_S", 0.02)
    fake = FakeProducer()
    fake.may_stop.clear()
    async with writing(fake) as writer, asyncio.timeout(TIMEOUT_S):
        waiting = asyncio.create_task(append(writer, timeout_s=LONG_S))
        await fake.sent.wait()
        await writer.stop()
        with pytest.raises(UnconfirmedError):
            await waiting
        assert writer.in_flight == 0


async def test_append_is_let_through_after_a_quiet_time_when_only_a_replaced_producer_owes_an_answer() -> None:
    broken, fresh, clock = FakeProducer(), FakeProducer(written), Clock()
    async with writing(broken, fresh, clock_s=clock) as writer, asyncio.timeout(TIMEOUT_S):
        (waiting,) = await replaced_while_it_owes(writer, broken, records=1)
        for _ in range(3):
            assert (await append(writer)).offset == 42
            clock.now_s += producer_module.SILENCE_S + 1.0
        assert writer.in_flight == 1  # it ends some time, well or by force
        settle(broken.deliveries[0], written())
        assert (await waiting).offset == 42
        broken.may_stop.set()


async def test_append_fails_at_once_when_the_log_is_silent_towards_an_old_producer_and_a_new_one() -> None:
    broken, fresh, clock = FakeProducer(), FakeProducer(), Clock()
    async with writing(broken, fresh, clock_s=clock) as writer, asyncio.timeout(TIMEOUT_S):
        (waiting,) = await replaced_while_it_owes(writer, broken, records=1)
        clock.now_s += producer_module.SILENCE_S + 0.1
        with pytest.raises(BackpressureError, match="does not answer"):
            await append(writer)
        settle(broken.deliveries[0], written())
        assert (await waiting).offset == 42
        broken.may_stop.set()


async def test_stop_leaves_no_producer_open_when_an_append_is_connecting() -> None:
    fake = FakeProducer(written)
    fake.may_start.clear()
    async with writing(fake) as writer, asyncio.timeout(TIMEOUT_S):
        connecting = asyncio.create_task(append(writer, timeout_s=LONG_S))
        queued = asyncio.create_task(append(writer, timeout_s=LONG_S))
        await fake.starting.wait()
        stopping = asyncio.create_task(writer.stop())
        await asyncio.sleep(0)
        fake.may_start.set()
        await stopping
        assert fake.stopped.is_set()
        for each in (connecting, queued):
            with pytest.raises(BackpressureError, match="stopped"):  # nothing was sent
                await each
        assert not fake.deliveries
        assert writer.in_flight == 0


async def test_stop_ends_in_time_when_an_append_cannot_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "STOP_TIMEOUT_S", 0.02)
    fake = FakeProducer(written)
    fake.may_start.clear()
    async with writing(fake) as writer, asyncio.timeout(TIMEOUT_S):
        connecting = asyncio.create_task(append(writer, timeout_s=LONG_S))
        await fake.starting.wait()
        await writer.stop()
        fake.may_start.set()
        with pytest.raises(BackpressureError, match="stopped"):
            await connecting
        await fake.stopped.wait()
