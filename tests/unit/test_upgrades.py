"""An upgrade's way: as which release is written, who is told, and who is refused."""

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.decode_errors import OtherReleaseError
from schemas.event_types import TYPES
from schemas.messages import EncodedMessage, Envelope, MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.records.upgrades import UPGRADE_KEY, UpgradeFinished
from schemas.releases import PACKAGED_IDS, UPGRADE_IT, OutdatedError
from schemas.schema_ids import SchemaIds
from schemas.topics import UPGRADES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.topic_follower import TopicFollower
from streams.kafka_clients.upgrade_follower import UpgradeFollower, UpgradeView, write_as_finished
from streams.operator_tools.doctor.findings import Severity
from streams.operator_tools.doctor.upgrade_check import judge_log
from streams.operator_tools.log import NewRecord
from streams.operator_tools.memory_log import MemoryLog
from streams.operator_tools.upgrades import Upgrade, finish, upgrade_of, write_as_the_log_is
from tests.support.fake_log import FakeRecord
from tests.support.golden_messages import envelope_of, example
from tests.support.planted_release import EARLIER, THIS, ids_with_earlier
from tests.support.waiting import until

NOW_MS = 1_700_000_000_000


def release(number: int) -> MessageCodec:
    """A program of the release of this number, whose schemas are this program's own."""
    return MessageCodec(SchemaIds.packaged(release=number))


def finished(number: int) -> EncodedMessage:
    record = UpgradeFinished(release=number, finished_at_ms=NOW_MS)
    return release(1).encode(
        record, Envelope(id=f"r{number}", source="test", type=TYPES[UpgradeFinished], time_ms=NOW_MS)
    )


def a_log(*numbers: int) -> MemoryLog:
    log = MemoryLog({UPGRADES: 1}, clock_ms=lambda: NOW_MS)
    for message in map(finished, numbers):
        log.append([NewRecord(topic=UPGRADES, key=UPGRADE_KEY, value=message.value, headers=message.headers)])
    return log


def test_highest_release_that_was_finished_holds_whatever_came_after_it() -> None:
    view = UpgradeView(release(3))
    for number in (1, 3, 2):
        message = finished(number)
        assert view.take(UPGRADE_KEY, message.value, message.headers) is None
    now = view.current()
    assert now is not None
    assert now.release == 3


def test_view_takes_nothing_else_and_counts_it() -> None:
    view = UpgradeView(release(1))
    message = finished(1)
    policy = example(OriginPolicy)
    other = release(1).encode(policy, envelope_of(policy))
    assert view.take(b"other", message.value, message.headers) is not None
    assert view.take(UPGRADE_KEY, None, ()) is not None
    assert view.take(UPGRADE_KEY, b"garbage", message.headers) is not None
    assert view.take(UPGRADE_KEY, other.value, other.headers) == "not about an upgrade"
    assert (view.current(), view.invalid) == (None, 4)


@pytest.mark.parametrize(
    ("own", "last", "written"), [(1, None, 1), (1, 1, 1), (2, None, 1), (2, 1, 1), (2, 2, 2), (3, None, 2), (3, 2, 2)]
)
def test_program_writes_as_the_release_before_it_until_its_own_is_finished(
    own: int, last: int | None, written: int
) -> None:
    codec = release(own)
    write_as_finished(codec, None if last is None else UpgradeFinished(release=last, finished_at_ms=NOW_MS))
    assert codec.release == written


def test_program_is_refused_when_a_later_release_was_finished() -> None:
    with pytest.raises(OutdatedError, match=UPGRADE_IT):
        write_as_finished(release(1), UpgradeFinished(release=2, finished_at_ms=NOW_MS))


def test_program_is_refused_when_a_release_before_it_was_passed_over() -> None:
    with pytest.raises(MisconfiguredError, match="payment-engine upgrade finish"):
        write_as_finished(release(4), UpgradeFinished(release=2, finished_at_ms=NOW_MS))


def test_upgrade_is_finished_once_and_programs_of_the_release_before_can_read_that() -> None:
    log, codec = a_log(), MessageCodec(ids_with_earlier({"upgrade_finished": _without_time}))
    before = upgrade_of(log, codec)
    assert before == Upgrade(own_release=THIS, finished=None, written=EARLIER)
    assert before.is_open
    with pytest.raises(Exception, match="finished_at_ms has a value"):  # as it would be, were the field a later one
        finish(log, codec, now_ms=NOW_MS)
    log, codec = a_log(), release(2)
    finish(log, codec, now_ms=NOW_MS)
    finish(log, codec, now_ms=NOW_MS + 1)
    (only,) = log.read(UPGRADES)
    record = UpgradeFinished(release=2, finished_at_ms=NOW_MS)
    assert release(1).decode(only.value, only.headers)[1] == record
    assert upgrade_of(log, codec) == Upgrade(own_release=2, finished=record, written=2)
    with pytest.raises(OutdatedError):
        upgrade_of(log, release(1))


def _without_time(schema: dict[str, Any]) -> None:
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "finished_at_ms"]


def test_nothing_is_finished_when_there_is_no_release_before() -> None:
    log = a_log()
    assert not finish(log, release(1), now_ms=NOW_MS).is_open
    assert list(log.read(UPGRADES)) == []


def test_tools_write_as_the_release_before_when_the_topic_is_not_there_yet() -> None:
    codec = release(2)
    write_as_the_log_is(MemoryLog({}, clock_ms=lambda: NOW_MS), codec)
    assert codec.release == 1


@pytest.mark.parametrize(
    ("own", "last", "severity", "told"),
    [
        (1, None, Severity.OK, "written as this release"),
        (2, None, Severity.WARNING, "written as release 1"),
        (2, 2, Severity.OK, "written as this release"),
        (1, 2, Severity.FAILURE, UPGRADE_IT),
        (4, 2, Severity.FAILURE, "upgrade finish"),
    ],
)
def test_doctor_tells_how_far_an_upgrade_is(own: int, last: int | None, severity: Severity, told: str) -> None:
    (found,) = judge_log(a_log() if last is None else a_log(last), release(own))
    assert found.severity is severity
    assert told in found.finding
    assert (found.fix == "") is (severity is Severity.OK)


class _Reader:
    """A consumer of a topic of one partition, to which a test appends."""

    def __init__(self, topic: str, *messages: EncodedMessage) -> None:
        self._topic = topic
        self.records: list[FakeRecord] = []
        self._more = asyncio.Event()
        self._at = 0
        self._client = self
        for message in messages:
            self.append(message)

    def append(self, message: EncodedMessage) -> None:
        record = FakeRecord(
            topic=self._topic, partition=0, offset=len(self.records), timestamp=NOW_MS, key=UPGRADE_KEY,
            value=message.value, headers=message.headers,
        )  # fmt: skip
        self.records.append(record)
        self._more.set()

    async def fetch_all_metadata(self) -> "_Reader":
        return self

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned = partitions

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self.records))

    def seek(self, _partition: TopicPartition, offset: int) -> None:
        self._at = offset

    async def position(self, _partition: TopicPartition) -> int:
        return self._at

    async def getmany(self, **_limits: int) -> dict[TopicPartition, list[FakeRecord]]:
        while self._at >= len(self.records):
            self._more.clear()
            await self._more.wait()
        found, self._at = self.records[self._at :], len(self.records)
        return {self._assigned[0]: found}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


NOWHERE = KafkaConnection(bootstrap_servers="nowhere")


async def test_running_program_follows_when_the_upgrade_is_finished() -> None:
    reader, codec = _Reader(UPGRADES), release(2)
    follower = UpgradeFollower(NOWHERE, codec, build=lambda _connection: reader)
    await follower.start()
    assert codec.release == 1
    reader.append(finished(2))
    await until(lambda: codec.release == 2, timeout_s=5)
    await follower.stop()


async def test_running_program_ends_when_the_upgrade_to_a_later_release_is_finished() -> None:
    reader, codec = _Reader(UPGRADES), release(1)
    follower = UpgradeFollower(NOWHERE, codec, build=lambda _connection: reader)
    await follower.start()
    reader.append(finished(2))
    with pytest.raises(OutdatedError, match=UPGRADE_IT):
        await asyncio.wait_for(follower.watch(), 5)
    await follower.stop()


async def test_program_does_not_start_when_the_upgrade_to_a_later_release_was_finished() -> None:
    follower = UpgradeFollower(NOWHERE, release(1), build=lambda _connection: _Reader(UPGRADES, finished(2)))
    with pytest.raises(OutdatedError):
        await follower.start()


class _Refusing:
    """A view of records that a later release has written."""

    invalid = 0

    def current(self) -> None:
        return None

    def take(self, _key: bytes | None, _value: bytes | None, _headers: tuple[tuple[str, bytes], ...]) -> str | None:
        raise OtherReleaseError(f"schema id {PACKAGED_IDS.stop - 1}")


async def test_follower_of_any_topic_ends_with_the_place_of_what_a_later_release_wrote() -> None:
    reader = _Reader("policies.v1")
    follower: TopicFollower[None] = TopicFollower(
        NOWHERE, _Refusing(), topic="policies.v1", build=lambda _connection: reader
    )
    await follower.start()
    reader.append(dataclasses.replace(finished(1), value=b"x"))
    with pytest.raises(OutdatedError, match=r"policies\.v1, partition 0, offset 0"):
        await asyncio.wait_for(follower.watch(), 5)
    await follower.stop()


def test_planted_release_differs_in_what_it_says_it_does() -> None:
    schemas = ids_with_earlier({"upgrade_finished": _without_time}).schemas
    names = [
        [field["name"] for field in json.loads(each.text)["fields"]]
        for each in schemas
        if each.record == "upgrade_finished"
    ]
    assert names == [["release"], ["release", "finished_at_ms"]]
