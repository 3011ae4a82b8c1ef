"""By key: whatever ends when, and however, a key's records follow each other and nothing unfinished is committed."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.vocabulary import DeadLetterReason
from streams.kafka_clients.log_reader import LogRecord
from streams.log_worker.errors import RejectedRecordError, RetryableRecordError
from streams.log_worker.handler import Delivery, RecordHandler
from streams.log_worker.options import Ordering
from tests.support.log_under_test import InMemoryLogUnderTest
from tests.support.waiting import until

LIMIT_S = 20.0
Place = tuple[int, int]

taken, retried, refused = "taken", "retried", "refused"
records = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([b"a", b"b", b"c", None]), st.booleans()), min_size=1, max_size=25
)
"""Partition, key, and whether a hole in the offsets follows."""
ends = st.lists(st.tuples(st.integers(0, 1_000), st.sampled_from([taken, taken, retried, refused])), max_size=60)
"""Which of those under way ends next, and how; when none is left, the first one is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A record in the handler's hands, until the test says how it ends."""

    record: LogRecord
    end: asyncio.Future[str]


class PickedHandler(RecordHandler):
    """Ends records in the order, and in the way, that the test picks."""

    def __init__(self) -> None:
        self.waiting: dict[Place, Waiting] = {}
        self.done: list[LogRecord] = []
        self.changed = asyncio.Event()
        self.holds = True

    async def handle(self, record: LogRecord, delivery: Delivery) -> None:
        if not self.holds:
            return
        place = (record.partition, record.offset)
        self.waiting[place] = Waiting(record=record, end=asyncio.get_running_loop().create_future())
        self.changed.set()
        end = await self.waiting[place].end
        del self.waiting[place]
        self.changed.set()
        if end is retried and delivery.attempt < 3:
            raise RetryableRecordError("not now")
        self.done.append(record)
        if end is refused:
            raise RejectedRecordError(DeadLetterReason.INVALID, "no")

    def let_go(self) -> None:
        """Hold nothing any more: where something is held, the test has failed."""
        self.holds = False
        for each in self.waiting.values():
            each.end.cancel()

    def check(self) -> None:
        """At most one record of a key is under way."""
        keys = [(each.record.partition, each.record.key) for each in self.waiting.values() if each.record.key]
        assert len(keys) == len(set(keys))


async def play(
    appended: list[tuple[int, bytes | None, bool]], picks: list[tuple[int, str]], *, max_records: int
) -> None:
    log, handler = InMemoryLogUnderTest(), PickedHandler()
    for number, (partition, key, hole) in enumerate(appended):
        await log.append(b"%d" % number, key=key, partition=partition, hole=hole)
    offsets: dict[int, list[int]] = defaultdict(list)
    for record in log.log.records(log.topic):
        offsets[record.partition].append(record.offset)
    left = list(picks)
    running = log.running(handler, ordering=Ordering.BY_KEY, max_records=max_records)
    async with running as worker, asyncio.timeout(LIMIT_S):
        try:
            while len(handler.done) < len(appended):
                assert worker.in_flight <= max_records
                await end_one(handler, left)
                handler.check()
                await check_commits(log, handler, offsets)
        finally:
            handler.let_go()
        await until(
            lambda: all(
                log.log.committed(log.group).get(TopicPartition(log.topic, each), 0) > found[-1]
                for each, found in offsets.items()
            ),
            timeout_s=LIMIT_S,
            look_again_s=0.001,
        )
    check_order(handler.done)


async def end_one(handler: PickedHandler, left: list[tuple[int, str]]) -> None:
    """End the next record that the picks name, once one is under way."""
    while not handler.waiting:
        handler.changed.clear()
        await handler.changed.wait()
    index, end = left.pop(0) if left else (0, taken)
    picked = list(handler.waiting.values())[index % len(handler.waiting)]
    picked.end.set_result(end)
    while picked in handler.waiting.values():  # noqa: ASYNC110 -- bounded by LIMIT_S
        await asyncio.sleep(0)  # the handler's own next step


async def check_commits(log: InMemoryLogUnderTest, handler: PickedHandler, offsets: dict[int, list[int]]) -> None:
    done = {(each.partition, each.offset) for each in handler.done}
    for partition, committed in (await log.committed()).items():
        assert all((partition, offset) in done for offset in offsets[partition] if offset < committed)


def check_order(done: list[LogRecord]) -> None:
    of_key: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for each in done:
        if each.key is not None:
            of_key[each.partition, each.key].append(each.offset)
    assert all(found == sorted(found) for found in of_key.values())


@settings(max_examples=150, deadline=None)
@given(appended=records, picks=ends, max_records=st.integers(1, 12))
def test_log_worker_keeps_the_order_of_each_key_and_commits_nothing_unfinished_whatever_ends_when(
    appended: list[tuple[int, bytes | None, bool]], picks: list[tuple[int, str]], max_records: int
) -> None:
    asyncio.run(play(appended, picks, max_records=max_records))
