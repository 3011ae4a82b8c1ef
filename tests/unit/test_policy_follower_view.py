"""What a sequence of policy records comes to: the last good one of each origin."""

import dataclasses

import pytest

from schemas.event_types import TYPES
from schemas.identifiers import GatewayName
from schemas.messages import EncodedMessage, Envelope
from schemas.records.policies import AmountLimit, OriginPolicy
from streams.kafka_clients.policy_follower import PolicyView
from tests.support.gateway_calls import CODEC, NOW_MS, message_of, request_of

POLICY = OriginPolicy(
    origin_id="originA",
    version=1,
    gateways=(GatewayName("mock"),),
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
        ({"gateways": (GatewayName("a"), GatewayName("a"))}, "repeat"),
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
