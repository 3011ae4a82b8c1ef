"""What the log worker tells of itself: a metric and a line for each event; and how it learns where partitions end."""

import asyncio

import pytest
import structlog.testing
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaConnectionError

from streams.kafka_clients.log_reader import LogRecord, log_record_of
from streams.log_worker import attempts as attempts_module
from streams.log_worker import worker as worker_module
from streams.log_worker.errors import DestinationBusyError, HandlerCancelledError, RetryableRecordError
from streams.log_worker.handler import Delivery
from streams.log_worker.options import RetryLimits
from tests.support.log_under_test import InMemoryLogUnderTest
from tests.support.metric_pages import rise_of
from tests.support.told_handler import ToldHandler


async def test_worker_counts_and_logs_each_record_that_it_will_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails_once(_record: LogRecord, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise RetryableRecordError("throttled")

    monkeypatch.setattr(attempts_module, "log", structlog.get_logger())
    log, retried = InMemoryLogUnderTest(), rise_of("worker_records_retried", component="worker")
    await log.append(b"x")
    with structlog.testing.capture_logs() as logged:
        async with log.running(ToldHandler(fails_once)):
            await log.wait_for_commits({0: 1})
    assert retried() == 1
    (line,) = [each for each in logged if each["event"] == "record_retried"]
    assert (line["partition"], line["offset"], line["attempt"], line["reason"]) == (0, 0, 1, "throttled")


async def test_worker_counts_each_record_and_logs_once_when_its_destination_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both: set[object] = set()
    answers = [DestinationBusyError("quota", after_s=0.05), DestinationBusyError("quota", after_s=0.05)]

    async def busy_at_first(_record: LogRecord, _delivery: Delivery) -> None:
        both.add(asyncio.current_task())
        while len(both) < 2:  # noqa: ASYNC110 -- until both are under way; bounded by the test's own time-out
            await asyncio.sleep(0)
        if answers:
            raise answers.pop()

    monkeypatch.setattr(attempts_module, "log", structlog.get_logger())
    log, busy = InMemoryLogUnderTest(), rise_of("worker_destination_busy", component="worker")
    await log.append(b"x")
    await log.append(b"y")
    retry = RetryLimits(first_delay_s=0.05, max_delay_s=0.1)
    with structlog.testing.capture_logs() as logged:
        async with log.running(ToldHandler(busy_at_first), retry=retry):
            await log.wait_for_commits({0: 2})
    assert busy() == 2
    assert [each["event"] for each in logged].count("destination_busy") == 1


async def test_worker_ends_when_its_destination_stays_busy_and_commits_nothing() -> None:
    async def busy(_record: LogRecord, _delivery: Delivery) -> None:
        raise DestinationBusyError("quota", after_s=0.001)

    log = InMemoryLogUnderTest()
    await log.append(b"x")
    retry = RetryLimits(first_delay_s=0.001, max_delay_s=0.001, busy_limit_s=0.02)
    with pytest.raises(DestinationBusyError):
        await log.worker(ToldHandler(busy), retry=retry).run()
    assert await log.committed() == {}
    assert await log.letters() == []


async def test_worker_counts_a_poll_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_RETRY_AFTER_S", 0.001)
    log, failed = InMemoryLogUnderTest(), rise_of("worker_polls_failed", component="worker")
    await log.append(b"x")
    worker = log.worker(ToldHandler())
    worker.member.poll_failures = [KafkaConnectionError()]
    await worker.start()
    await log.wait_for_commits({0: 1})
    await worker.stop()
    assert failed() == 1


async def test_worker_asks_again_where_a_partition_ended_until_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_RETRY_AFTER_S", 0.001)
    seen: list[bool] = []

    async def look(_record: LogRecord, delivery: Delivery) -> None:
        seen.append(delivery.maybe_seen_before)

    log = InMemoryLogUnderTest()
    worker = log.worker(ToldHandler(look))
    worker.member.end_failures = [KafkaConnectionError(), KafkaConnectionError()]
    await log.append(b"before")
    await worker.start()
    await log.wait_for_commits({0: 1})
    await asyncio.wait_for(worker.member.ends_told.wait(), 5.0)
    await log.append(b"after")
    await log.wait_for_commits({0: 2})
    await worker.stop()
    assert seen == [True, False]


async def test_worker_ends_when_a_handler_is_cancelled_by_nobody_and_commits_nothing() -> None:
    async def cancelled(_record: LogRecord, _delivery: Delivery) -> None:
        raise asyncio.CancelledError  # as a client's own task that was cancelled hands it on

    log = InMemoryLogUnderTest()
    await log.append(b"x")
    worker = log.worker(ToldHandler(cancelled))
    with pytest.raises(HandlerCancelledError):  # else its partition would stand still, and nobody would know
        await asyncio.wait_for(worker.run(), 5.0)
    assert await log.committed() == {}


async def test_worker_commits_nothing_that_a_poll_brought_and_nobody_began(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(raw: ConsumerRecord) -> LogRecord:
        if raw.value == b"unreadable":
            raise ValueError("offset 0 begun after 7")  # as of a log that was cut short
        return log_record_of(raw)

    monkeypatch.setattr(worker_module, "log_record_of", read)
    monkeypatch.setattr(worker_module, "LOOK_INTERVAL_S", 0)  # it always looks between the failure and the stop
    log, handler = InMemoryLogUnderTest(), ToldHandler()
    await log.append(b"done", partition=1)
    worker = log.worker(handler)
    running = asyncio.create_task(worker.run())
    await log.wait_for_commits({1: 1})
    await log.append(b"unreadable", partition=0)
    await log.append(b"never begun", partition=1)  # behind it in the same poll
    with pytest.raises(ValueError, match="begun after"):
        await asyncio.wait_for(running, 5.0)
    assert handler.values_begun() == [b"done"]
    assert await log.committed() == {1: 1}


async def test_worker_leaves_no_task_behind_when_it_stops_before_it_knows_where_a_partition_ends() -> None:
    log = InMemoryLogUnderTest()
    worker = log.worker(ToldHandler())
    worker.member.end_failures = [
        KafkaConnectionError()
    ]  # asked as the group is joined; the next try is a second later
    await worker.start()
    await worker.stop()
    assert [each.get_coro() for each in asyncio.all_tasks() - {asyncio.current_task()}] == []
