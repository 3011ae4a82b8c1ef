"""What a sequence of policy records comes to: the last good one of each origin."""

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from schemas.event_types import TYPES
from schemas.identifiers import GatewayRoute
from schemas.messages import EncodedMessage, Envelope, MessageCodec
from schemas.records.policies import AmountLimit, OriginPolicy
from schemas.schema_ids import SchemaIds, Wait, newest_schemas, packaged_schemas, packaged_writers
from schemas.topics import POLICIES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.policy_follower import PolicyFollower, PolicyView
from tests.support.fake_log import FakeRecord
from tests.support.gateway_calls import CODEC, NOW_MS, message_of, request_of

POLICY = OriginPolicy(
    origin_id="originA",
    version=1,
    gateways=(GatewayRoute("mock"),),
    fallback=True,
    max_attempts=3,
    limits=(AmountLimit(currency="USD", max_amount_minor=5_000),),
    updated_at_ms=NOW_MS,
)


def message(policy: OriginPolicy) -> EncodedMessage:
    return CODEC.encode(policy, Envelope(id="p", source="test", type=TYPES[OriginPolicy], time_ms=NOW_MS))


def taken(view: PolicyView, policy: OriginPolicy, *, key: bytes | None = None) -> str | None:
    encoded = message(policy)
    return view.take(policy.origin_id.encode() if key is None else key, encoded.value, encoded.headers)


def test_view_holds_the_last_policy_when_several_come() -> None:
    view = PolicyView(CODEC)
    assert taken(view, POLICY) is None
    second = dataclasses.replace(POLICY, version=2, fallback=False)
    assert taken(view, second) is None
    assert view.current() == {"originA": second}


def test_view_follows_the_log_and_not_the_version_when_two_writers_raced() -> None:
    view = PolicyView(CODEC)
    taken(view, dataclasses.replace(POLICY, version=9))
    taken(view, POLICY)
    assert view.current()["originA"].version == 1  # a follower that started later would see only this one


def test_view_is_a_snapshot_when_it_changes_later() -> None:
    view = PolicyView(CODEC)
    before = view.current()
    taken(view, POLICY)
    assert not before


def test_view_forgets_a_policy_when_a_tombstone_comes() -> None:
    view = PolicyView(CODEC)
    taken(view, POLICY)
    assert view.take(b"originA", None, ()) is None
    assert not view.current()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": -1}, "version"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"gateways": (GatewayRoute("a"), GatewayRoute("a"))}, "repeat"),
        ({"limits": (AmountLimit(currency="USD", max_amount_minor=0),)}, "positive"),
        (
            {
                "limits": (
                    AmountLimit(currency="USD", max_amount_minor=1),
                    AmountLimit(currency="USD", max_amount_minor=2),
                )
            },
            "repeat a currency",
        ),
    ],
)
def test_view_keeps_the_last_good_policy_and_counts_when_a_policy_cannot_be_followed(
    change: dict[str, object], why: str
) -> None:
    view = PolicyView(CODEC)
    taken(view, POLICY)
    refused = taken(view, dataclasses.replace(POLICY, **change))  # type: ignore[arg-type]  # each names real fields
    assert refused is not None
    assert why in refused
    assert (view.current(), view.invalid) == ({"originA": POLICY}, 1)


def test_view_refuses_a_record_when_it_is_no_policy_or_another_origins() -> None:
    view = PolicyView(CODEC)
    request = message_of(request_of(1))
    assert view.take(b"originA", b"garbage", ()) is not None
    assert view.take(b"originA", request.value, request.headers) == "not a policy"
    assert taken(view, POLICY, key=b"originB") is not None
    assert (dict(view.current()), view.invalid) == ({}, 3)


def test_view_refuses_a_policy_when_it_names_no_origin() -> None:
    refused = taken(PolicyView(CODEC), dataclasses.replace(POLICY, origin_id=""), key=b"")
    assert refused is not None
    assert "origin_id" in refused


class _OnePolicyReader:
    """A consumer of a topic with one record, which it hands out once."""

    def __init__(self, message: EncodedMessage) -> None:
        self._record = FakeRecord(
            topic=POLICIES,
            partition=0,
            offset=0,
            timestamp=NOW_MS,
            key=POLICY.origin_id.encode(),
            value=message.value,
            headers=message.headers,
        )
        self._read = 0
        self._client = self

    async def fetch_all_metadata(self) -> "_OnePolicyReader":
        return self

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned = partitions

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 1)

    def seek(self, _partition: TopicPartition, offset: int) -> None:
        self._read = offset

    async def position(self, _partition: TopicPartition) -> int:
        return self._read

    async def getmany(self, **_limits: int) -> dict[TopicPartition, list[FakeRecord]]:
        if self._read:
            await asyncio.Event().wait()  # until the follower is stopped
        self._read = 1
        return {self._assigned[0]: [self._record]}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def test_follower_waits_for_the_schema_of_a_policy_that_a_newer_program_wrote() -> None:
    packaged = SchemaIds.packaged()
    own_ids = {record: packaged.own_id(record) for record in newest_schemas()}
    writers = packaged_writers(packaged_schemas())
    late = writers.pop(own_ids["origin_policy"])

    def ask(schema_id: int) -> Wait:
        async def wait() -> None:
            writers[schema_id] = late

        return wait

    codec = MessageCodec(SchemaIds(own_ids=own_ids, writers=writers, ask=ask))
    connection = KafkaConnection(bootstrap_servers="nowhere")
    follower = PolicyFollower(connection, codec, build=lambda _connection: _OnePolicyReader(message(POLICY)))
    await follower.start()
    assert follower.current() == {"originA": POLICY}
    assert follower.invalid == 0
    await follower.stop()
