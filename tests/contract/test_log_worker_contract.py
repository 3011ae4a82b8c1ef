"""What every user of the log worker may rely on, in memory and on Apache Kafka."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.vocabulary import DeadLetterReason
from streams.kafka_clients.errors import RejectedError, RetryableError
from streams.kafka_clients.log_reader import LogRecord
from streams.log_worker import worker as worker_module
from streams.log_worker.errors import DestinationBusyError, RejectedRecordError, RetryableRecordError
from streams.log_worker.handler import Delivery
from streams.log_worker.options import Ordering, RetryLimits
from tests.support.log_under_test import PARTITIONS, BrokerLogUnderTest, InMemoryLogUnderTest, LogUnderTest
from tests.support.told_handler import ToldHandler, takes_it

pytestmark = pytest.mark.slow


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[LogUnderTest]:
    if request.param == "memory":
        yield InMemoryLogUnderTest()
        return
    found = BrokerLogUnderTest(str(request.getfixturevalue("kafka").bootstrap_servers))
    try:
        yield found
    finally:
        await found.close()


class Held:
    """A behaviour that holds some records until they are let go."""

    def __init__(self, *values: bytes) -> None:
        self.values = set(values)
        self.open = asyncio.Event()

    async def __call__(self, record: LogRecord, _delivery: Delivery) -> None:
        if not self.values or record.value in self.values:
            await self.open.wait()


def value(number: int) -> bytes:
    return b"record-%d" % number


async def fill(log: LogUnderTest, count: int, *, partitions: int = PARTITIONS, key: bytes | None = None) -> list[bytes]:
    """Append that many records, in turn to each partition; returns their values."""
    for number in range(count):
        await log.append(value(number), key=key or b"key-%d" % number, partition=number % partitions)
    return [value(number) for number in range(count)]


async def test_worker_handles_and_commits_every_record_though_offsets_have_holes(log: LogUnderTest) -> None:
    handler = ToldHandler()
    for number in range(6):
        await log.append(value(number), hole=True)
    await log.append(value(6), hole=True)
    async with log.running(handler):
        await handler.wait_until(lambda: len(handler.done) == 7)
        await log.wait_for_commits({0: 14})  # past the last hole, too: lag ends at zero
    assert [each.offset for each in handler.done] == [0, 2, 4, 6, 8, 10, 12]
    assert await log.letters() == []


async def test_worker_commits_nothing_past_a_record_that_is_not_done(log: LogUnderTest) -> None:
    held = Held(value(2))
    handler = ToldHandler(held)
    await fill(log, 8, partitions=1)
    async with log.running(handler):
        await handler.wait_until(lambda: len(handler.done) == 7)
        await log.wait_for_commits({0: 2})
        held.open.set()
        await log.wait_for_commits({0: 8})


async def test_crash_repeats_nothing_that_was_committed_and_loses_nothing(log: LogUnderTest) -> None:
    held = Held(value(9), value(30))
    first, second = ToldHandler(held), ToldHandler()
    values = await fill(log, 60)
    async with log.running(first, max_records=8, drain_timeout_s=0.05, handle_timeout_s=0.04) as crashed:
        await first.wait_until(lambda: len(first.done) >= 20)
        crashed.member.cut_off()
    committed = await log.committed()
    async with log.running(second):
        await second.wait_until(lambda: set(first.values_done()) | set(second.values_done()) == set(values))
    assert all(each.offset >= committed.get(each.partition, 0) for each in second.begun)
    for number in range(PARTITIONS):
        begun = [each.offset for each in second.begun if each.partition == number]
        assert not begun or min(begun) == committed.get(number, 0)  # all the same where nothing was left to do


async def test_revoke_drains_commits_and_lets_go(log: LogUnderTest) -> None:
    async def takes_a_moment(_record: LogRecord, _delivery: Delivery) -> None:
        await asyncio.sleep(0.02)  # how long a record takes, no condition: some are under way at the revoke

    first, second = ToldHandler(takes_a_moment), ToldHandler(takes_a_moment)
    values, enough = list[bytes](), asyncio.Event()

    async def go_on_appending() -> None:
        while not enough.is_set():
            await log.append(value(len(values)), partition=len(values) % PARTITIONS)
            values.append(value(len(values)))
            await asyncio.sleep(0.002)  # the pace of the load, no condition

    async with log.running(first, max_records=8):
        appending = asyncio.create_task(go_on_appending())
        await first.wait_until(lambda: len(first.done) >= 16)
        async with log.running(second, max_records=8):  # the first one has records under way when it is asked
            await second.wait_until(lambda: len(second.done) >= 8)
        before = len(first.done)
        await first.wait_until(lambda: len(first.done) >= before + 8)
        enough.set()
        await appending
        await first.wait_until(lambda: len(first.done) + len(second.done) >= len(values))
    assert Counter([*first.values_done(), *second.values_done()]) == Counter(values)
    # Each once: what was under way was done and committed at each revoke, and the rest not begun.
    await log.wait_for_commits({number: len(values[number::PARTITIONS]) for number in range(PARTITIONS)})


async def test_revoke_hands_over_what_is_under_way_and_the_next_owner_knows_it(log: LogUnderTest) -> None:
    gate, left = asyncio.Event(), set[int]()

    async def begins_and_hangs(_record: LogRecord, delivery: Delivery) -> None:
        delivery.begins()
        await gate.wait()

    async def notes_what_was_left(record: LogRecord, delivery: Delivery) -> None:
        if delivery.left_until_ms() and record.offset == 0:
            left.add(record.partition)
        while delivery.left_until_ms() and record.offset == 1:  # until it is known that this one is new
            await delivery.lease.changed()

    first, second = ToldHandler(begins_and_hangs), ToldHandler(notes_what_was_left)
    for number in range(PARTITIONS):
        await log.append(value(number), partition=number)
    async with log.running(first, hand_over_s=60.0):
        await first.wait_until(lambda: len(first.begun) == PARTITIONS)
        first.behave = takes_it
        async with log.running(second, hand_over_s=60.0):
            for number in range(PARTITIONS):
                await log.append(value(PARTITIONS + number), partition=number)
            await second.wait_until(lambda: len(second.done) == PARTITIONS)  # half of them are its own
            assert not gate.is_set(), "nobody waited for what is under way"
            await log.wait_for_commits(dict.fromkeys(range(PARTITIONS), 2))
            assert left == {record.partition for record in second.done}
            gate.set()


async def test_frozen_member_begins_nothing_before_its_lease_holds(log: LogUnderTest) -> None:
    handler = ToldHandler()
    async with log.running(handler) as worker:
        worker.member.skipped_s = 3_600.0
        await log.append(value(0))
        while not worker.in_flight:  # noqa: ASYNC110 -- bounded by the test's own time-out
            await asyncio.sleep(0.01)  # between two looks; the worker sets no event for it
        await worker._lease.changed()  # a heartbeat that was sent before it was frozen, as far as it can tell
        assert handler.begun == []
        worker.member.skipped_s = 0.0
        await log.wait_for_commits({0: 1})
    assert handler.values_done() == [value(0)]


async def test_records_of_a_key_follow_each_other_and_other_keys_flow(log: LogUnderTest) -> None:
    held = Held(b"a-0")
    handler = ToldHandler(held)
    for number in range(4):
        await log.append(b"a-%d" % number, key=b"a")
        await log.append(b"b-%d" % number, key=b"b")
    async with log.running(handler, ordering=Ordering.BY_KEY):
        await handler.wait_until(lambda: len(handler.done) == 4)
        assert handler.values_done() == [b"b-0", b"b-1", b"b-2", b"b-3"]
        held.open.set()
        await handler.wait_until(lambda: len(handler.done) == 8)
    assert handler.values_done()[4:] == [b"a-0", b"a-1", b"a-2", b"a-3"]
    assert handler.most_of_a_key == 1


async def test_worker_takes_no_more_than_its_bounds_in_records_and_bytes(log: LogUnderTest) -> None:
    held = Held()
    handler = ToldHandler(held)
    for number in range(40):
        await log.append(value(number).ljust(10_000, b"."), key=b"k", partition=number % PARTITIONS)
    bounds = {"max_records": 12, "max_bytes": 100_000, "max_record_bytes": 20_000}
    most_bytes = most_records = 0
    async with log.running(handler, **bounds) as worker:
        await handler.wait_until(lambda: handler.under_way >= 8)

        async def watch(_record: LogRecord, _delivery: Delivery) -> None:
            nonlocal most_bytes, most_records
            most_bytes, most_records = max(most_bytes, worker.bytes_in_flight), max(most_records, worker.in_flight)
            await asyncio.sleep(0)  # one turn of the loop: others are under way meanwhile

        assert worker.bytes_in_flight <= 100_000
        handler.behave = watch
        held.open.set()
        await handler.wait_until(lambda: len(handler.done) == 40)
    assert 0 < most_bytes <= 100_000
    assert most_records <= 10  # by bytes: twelve would be too many


async def test_partition_at_its_own_bound_is_paused_and_the_others_flow(log: LogUnderTest) -> None:
    held = Held(value(0))
    handler = ToldHandler(held)
    for number in range(20):
        await log.append(value(number), key=b"k")
    await log.append(b"other", key=b"o", partition=1)
    async with log.running(handler, ordering=Ordering.BY_KEY, max_records_per_partition=5) as worker:
        await handler.wait_until(lambda: b"other" in handler.values_done())
        assert worker.in_flight <= 5 + 1
        held.open.set()
        await log.wait_for_commits({0: 20, 1: 1})


async def test_poison_record_becomes_a_dead_letter_and_its_neighbours_flow_on(log: LogUnderTest) -> None:
    async def refuses_one(record: LogRecord, _delivery: Delivery) -> None:
        if record.value == value(1):
            raise RejectedRecordError(DeadLetterReason.TOO_LARGE, "larger than the destination takes")

    handler = ToldHandler(refuses_one)
    await fill(log, 5, partitions=1, key=b"same")
    async with log.running(handler, ordering=Ordering.BY_KEY):
        await log.wait_for_commits({0: 5})
    (letter,) = await log.letters()
    assert (letter.reason, letter.detail) == (DeadLetterReason.TOO_LARGE, "larger than the destination takes")
    assert (letter.value, letter.key, letter.offset, letter.component) == (value(1), b"same", 1, "worker")
    assert handler.values_done() == [value(0), value(2), value(3), value(4)]


async def test_failed_dead_letter_write_stops_the_partition_and_loses_nothing(log: LogUnderTest) -> None:
    async def refuses_one(record: LogRecord, _delivery: Delivery) -> None:
        if record.value == value(1):
            raise RejectedRecordError(DeadLetterReason.INVALID, "no")

    handler = ToldHandler(refuses_one)
    await fill(log, 3, partitions=1, key=b"same")
    failing = log.worker(handler, ordering=Ordering.BY_KEY)
    failing.append_failures.append(RejectedError("the dead letters' topic takes nothing"))
    with pytest.raises(RejectedError):
        await failing.run()
    assert await log.committed() == {0: 1}
    assert handler.values_done() == [value(0)]  # what comes after it, by key, was not begun
    async with log.running(handler, ordering=Ordering.BY_KEY):
        await log.wait_for_commits({0: 3})
    assert [letter.value for letter in await log.letters()] == [value(1)]
    assert handler.values_done() == [value(0), value(2)]


async def test_record_is_tried_again_and_its_key_waits_when_it_cannot_be_handled_now(log: LogUnderTest) -> None:
    async def fails_twice(record: LogRecord, delivery: Delivery) -> None:
        if record.value == b"a-0" and delivery.attempt < 3:
            raise RetryableRecordError("throttled", after_s=0.001)

    handler = ToldHandler(fails_twice)
    for text in (b"a-0", b"a-1"):
        await log.append(text, key=b"a")
    async with log.running(handler, ordering=Ordering.BY_KEY):
        await log.wait_for_commits({0: 2})
    assert handler.values_begun() == [b"a-0", b"a-0", b"a-0", b"a-1"]
    assert await log.letters() == []


async def test_record_that_nobody_takes_becomes_a_dead_letter_after_its_last_attempt(log: LogUnderTest) -> None:
    async def never(record: LogRecord, _delivery: Delivery) -> None:
        if record.value == value(0):
            raise RetryableRecordError("throttled")

    handler = ToldHandler(never)
    await fill(log, 2, partitions=1)
    async with log.running(handler):
        await log.wait_for_commits({0: 2})
    (letter,) = await log.letters()
    assert (letter.reason, letter.detail) == (DeadLetterReason.HANDLER_FAILED, "given up after 3 attempts: throttled")
    assert handler.values_begun().count(value(0)) == 3


async def test_intake_is_paused_while_the_destination_is_busy_and_goes_on_by_itself(log: LogUnderTest) -> None:
    is_busy = True

    async def busy(_record: LogRecord, _delivery: Delivery) -> None:
        if is_busy:
            raise DestinationBusyError("quota", after_s=0.05)

    handler = ToldHandler(busy)
    values = await fill(log, 30, partitions=1)
    retry = RetryLimits(max_attempts=1, first_delay_s=0.05, max_delay_s=0.2, busy_limit_s=30.0)
    async with log.running(handler, max_records=4, retry=retry):
        await handler.wait_until(lambda: len(handler.begun) >= 12)
        assert set(handler.values_begun()) <= set(values[:4])  # the same again and again, and no attempt was counted
        is_busy = False
        await log.wait_for_commits({0: 30})
    assert await log.letters() == []


async def test_worker_ends_and_begins_nothing_more_of_a_key_when_its_handler_has_a_defect(log: LogUnderTest) -> None:
    async def breaks(record: LogRecord, _delivery: Delivery) -> None:
        if record.value == value(1):
            raise ZeroDivisionError

    handler = ToldHandler(breaks)
    await fill(log, 3, partitions=1, key=b"same")
    with pytest.raises(ZeroDivisionError):
        await log.worker(handler, ordering=Ordering.BY_KEY).run()
    assert handler.values_begun() == [value(0), value(1)]
    assert await log.committed() == {0: 1}


async def test_poll_is_tried_again_when_it_fails_for_a_moment(
    log: LogUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "POLL_RETRY_AFTER_S", 0.001)
    handler = ToldHandler()
    await fill(log, 4)
    worker = log.worker(handler)
    worker.member.poll_failures = [KafkaConnectionError() for _ in range(worker_module.MAX_POLL_FAILURES - 1)]
    await worker.start()
    try:
        await log.wait_for_commits(dict.fromkeys(range(PARTITIONS), 1))
    finally:
        await worker.stop()


async def test_worker_ends_when_polls_go_on_failing(log: LogUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_RETRY_AFTER_S", 0.001)
    worker = log.worker(ToldHandler())
    worker.member.poll_failures = [KafkaConnectionError() for _ in range(worker_module.MAX_POLL_FAILURES)]
    with pytest.raises(RetryableError):
        await worker.run()


async def test_slow_handler_is_cancelled_and_the_record_tried_again(log: LogUnderTest) -> None:
    async def hangs_once(_record: LogRecord, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            await asyncio.Event().wait()

    handler = ToldHandler(hangs_once)
    await log.append(value(0))
    async with log.running(handler, handle_timeout_s=0.05):
        await log.wait_for_commits({0: 1})
    assert len(handler.begun) == 2


async def test_record_that_waits_to_be_tried_again_is_let_go_at_once_when_its_partition_goes(log: LogUnderTest) -> None:
    async def not_now(_record: LogRecord, _delivery: Delivery) -> None:
        raise RetryableRecordError("away")

    first, second = ToldHandler(not_now), ToldHandler()
    retry = RetryLimits(max_attempts=3, first_delay_s=300.0, max_delay_s=300.0)
    await log.append(value(0))
    worker = log.worker(first, retry=retry)
    await worker.start()
    await first.wait_until(lambda: len(first.begun) == 1)
    await asyncio.wait_for(worker.stop(), 4.0)  # sooner than its drain would end
    assert await log.committed() == {}
    async with log.running(second):
        await log.wait_for_commits({0: 1})
    assert second.values_done() == [value(0)]
