"""The pure parts of the ingress: headers, keys, rates, the status table and answers."""

import json
from dataclasses import replace

import pytest
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from http_ingress.access.api_keys import KeyRing, MemoryKeyStore, create_key
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.command_log import KafkaCommandLog, LogUnavailableError, command_envelope, destination_of
from http_ingress.door import request_headers
from http_ingress.door.callers import Caller
from http_ingress.door.request_headers import Mode
from http_ingress.limits import ASYNC_WAIT_S, MAX_ORIGINS_TRACKED, MAX_SYNC_WAIT_S
from http_ingress.representation import answers, payloads
from http_ingress.representation.answers import wish_of
from http_ingress.representation.problems import PROBLEMS, REJECTION_PROBLEMS, STATE_PROBLEMS, ProblemCode, ProblemError
from http_ingress.settings import reply_partition_of
from schemas import topics
from schemas.identifiers import CommandId, GatewayName, IdempotencyKey, OrderId, OriginId
from schemas.messages import Envelope, Headers
from schemas.misconfigured import MisconfiguredError
from schemas.records.commands import PaymentRequested
from schemas.records.gateway import WebhookReceived
from schemas.vocabulary import OperationState, Rejection
from streams.kafka_clients.errors import BackpressureError, RetryableError, UnconfirmedError
from tests.support.ingress_under_test import CODEC

PEPPER = b"a pepper of more than sixteen bytes"
ORIGIN = OriginId("originA")
PAYMENT = PaymentRequested(
    origin_id=ORIGIN,
    order_id=OrderId("order-1"),
    idempotency_key=IdempotencyKey("k"),
    amount_minor=1,
    currency="USD",
    token="tok_1",
    capture=True,
)


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


# The status table.


def test_every_problem_has_a_status_and_a_title() -> None:
    assert set(PROBLEMS) == set(ProblemCode)
    assert all(400 <= kind.status < 600 and kind.title for kind in PROBLEMS.values())


def test_every_rejection_and_every_refused_state_is_a_problem() -> None:
    assert set(REJECTION_PROBLEMS) == set(Rejection)
    assert {PROBLEMS[code].status for code in REJECTION_PROBLEMS.values()} == {404, 409, 422}
    open_or_done = {
        OperationState.SUCCEEDED,
        OperationState.PENDING,
        OperationState.REQUIRES_ACTION,
        OperationState.UNKNOWN,
        OperationState.MANUAL_REVIEW,
    }
    assert set(STATE_PROBLEMS) | answers.UNDER_WAY | open_or_done == set(OperationState)


def test_location_is_known_before_anything_is_written() -> None:
    wish = wish_of(PAYMENT)
    assert wish.location == f"/payments/{wish.target_id}"
    answer = answers.accepted(wish, None)
    assert answer.status == 202
    assert json.loads(answer.encoded())["state"] == "accepted"


def test_time_is_exact_to_the_millisecond() -> None:
    assert payloads.time_of(1_764_000_000_999).isoformat(timespec="milliseconds") == "2025-11-24T16:00:00.999+00:00"


# Headers.


@pytest.mark.parametrize(
    ("query", "prefer", "mode", "timeout_s", "applied"),
    [
        ("", [], Mode.SYNC, 10.0, None),
        ("async", [], Mode.ASYNC, ASYNC_WAIT_S, None),
        ("", ["respond-async"], Mode.ASYNC, ASYNC_WAIT_S, "respond-async"),
        ("", ["Respond-Async; x=1, WAIT=5"], Mode.ASYNC, 5, "respond-async, wait=5"),
        ("sync", ["respond-async"], Mode.SYNC, 10.0, None),
        ("", ["wait=3", "wait=9"], Mode.SYNC, 3, "wait=3"),
        ("", ['wait="4"'], Mode.SYNC, 4, "wait=4"),
        ("", ["wait=999999"], Mode.SYNC, MAX_SYNC_WAIT_S, f"wait={MAX_SYNC_WAIT_S}"),
        ("", ["wait=-1, wait=x, wait, wait=1.5, return=minimal"], Mode.SYNC, 10.0, None),
    ],
)
def test_preferences_decide_how_to_wait(
    query: str, prefer: list[str], mode: Mode, timeout_s: float, applied: str | None
) -> None:
    asked = MultiDict({"mode": query}) if query else MultiDict[str]()
    waiting = request_headers.waiting(asked, headers(*(("Prefer", line) for line in prefer)), default_timeout_s=10.0)
    assert (waiting.mode, waiting.timeout_s, waiting.applied) == (mode, timeout_s, applied)


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([PARENT], PARENT),
        (["cc" + PARENT[2:] + "-more"], PARENT),
        ([PARENT + "-more"], None),
        (["ff" + PARENT[2:]], None),
        ([PARENT.upper()], None),
        (["00-" + "0" * 32 + "-b7ad6b7169203331-01"], None),
        (["00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01"], None),
        ([PARENT, PARENT], None),
        ([], None),
    ],
)
def test_trace_context_is_carried_on_only_when_it_is_well_formed(sent: list[str], kept: str | None) -> None:
    assert request_headers.traceparent(headers(*(("traceparent", line) for line in sent))) == kept


def test_trace_state_is_dropped_when_it_is_too_long_or_not_text() -> None:
    assert request_headers.tracestate(headers(("tracestate", "a=1"), ("tracestate", "b=2"))) == "a=1,b=2"
    assert request_headers.tracestate(headers(("tracestate", "a=" + "1" * 600))) is None
    assert request_headers.tracestate(headers(("tracestate", "a=\u00e9"))) is None
    assert request_headers.tracestate(headers()) is None


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        ([], True),
        (["*/*"], True),
        (["application/*"], True),
        (["text/html, application/json;q=0.1"], True),
        (["application/problem+json"], True),
        (["text/html"], False),
        (["application/json;q=0"], False),
        (["application/json;q=0.000, text/*"], False),
    ],
)
def test_accept_is_matched_by_range_and_weight(accept: list[str], taken: bool) -> None:
    found = headers(*(("Accept", line) for line in accept))
    assert request_headers.accepts(found, ("application/json", "application/problem+json")) is taken


def test_origin_must_be_named_by_somebody_and_by_all_alike() -> None:
    nobody = Caller(key_origin=None, header_origin=None)
    with pytest.raises(ProblemError) as missing:
        nobody.origin()
    assert missing.value.code is ProblemCode.ORIGIN_MISSING
    assert nobody.origin("originB") == "originB"
    with pytest.raises(ProblemError) as malformed:
        nobody.origin("with space")
    assert malformed.value.code is ProblemCode.INVALID_BODY
    with pytest.raises(ProblemError) as foreign:
        Caller(key_origin=ORIGIN, header_origin=None).origin("originB")
    assert foreign.value.status == 403


@pytest.mark.parametrize(("instance", "partition"), [(0, 0), (7, 7), (8, 0), (19, 3)])
def test_instances_share_partitions_when_there_are_more_of_them(instance: int, partition: int) -> None:
    assert reply_partition_of(instance, 8) == partition


# Keys.


def test_key_holds_for_its_origin_and_no_altered_one_does() -> None:
    key, record = create_key(ORIGIN, pepper=PEPPER, now_ms=1)
    ring = KeyRing(MemoryKeyStore([record]), pepper=PEPPER)
    assert ring.origin_of(key) == ORIGIN
    secret = key.rpartition("_")[2]
    assert secret not in json.dumps(record.digest)
    for altered in (key[:-1], key + "A", key.replace("pek_", "xxx_"), key[:4] + "0" * 16 + key[20:], ""):
        assert ring.origin_of(altered) is None
    assert KeyRing(MemoryKeyStore([record]), pepper=PEPPER + b"!").origin_of(key) is None


def test_keys_differ_when_two_are_made() -> None:
    first, _ = create_key(ORIGIN, pepper=PEPPER, now_ms=1)
    second, _ = create_key(ORIGIN, pepper=PEPPER, now_ms=1)
    assert first != second


def test_short_pepper_is_refused() -> None:
    with pytest.raises(MisconfiguredError, match="pepper"):
        create_key(ORIGIN, pepper=b"short", now_ms=1)
    with pytest.raises(MisconfiguredError, match="pepper"):
        KeyRing(MemoryKeyStore([]), pepper=b"short")


# Rates.


def test_bucket_gives_a_burst_then_its_rate() -> None:
    limiter = RateLimiter(requests_per_second=10)
    assert [limiter.take(ORIGIN, now_s=0.0) for _ in range(20)] == [0] * 20
    assert limiter.take(ORIGIN, now_s=0.0) == 1
    assert limiter.take(ORIGIN, now_s=0.1) == 0
    assert limiter.take(ORIGIN, now_s=0.1) == 1
    assert limiter.take(ORIGIN, now_s=0.05) == 1  # a clock that steps back gives nothing


def test_limiter_forgets_the_longest_unseen_origin_when_there_are_too_many() -> None:
    limiter = RateLimiter(requests_per_second=1)
    for number in range(MAX_ORIGINS_TRACKED + 1):
        limiter.take(OriginId(f"o{number}"), now_s=0.0)
    assert len(limiter._buckets) == MAX_ORIGINS_TRACKED
    assert OriginId("o0") not in limiter._buckets


# The log.


class ScriptedWriter:
    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.appended: list[tuple[str, bytes | None, Headers]] = []

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, timeout_s: float
    ) -> object:
        if self.failure is not None:
            raise self.failure
        self.appended.append((topic, key, headers))
        return None


def envelope() -> Envelope:
    return command_envelope(
        PAYMENT, CommandId("c1"), reply_partition=3, final_only=True, now_ms=1, traceparent=PARENT, tracestate=None
    )


async def test_command_goes_to_its_order_with_the_place_of_its_reply() -> None:
    writer = ScriptedWriter()
    log = KafkaCommandLog(writer=writer, codec=CODEC)
    await log.append(PAYMENT, envelope())
    ((topic, key, sent),) = writer.appended
    assert (topic, key) == (topics.COMMANDS, b"order-1")
    assert dict(sent)["ce_replypartition"] == b"3"
    assert dict(sent)["ce_replyfinal"] == b"1"
    assert dict(sent)["ce_id"] == b"c1"
    assert dict(sent)["ce_traceparent"] == PARENT.encode()


@pytest.mark.parametrize(
    ("failure", "retry_after_s", "may_be_written"),
    [
        (BackpressureError("full", retry_after_s=0.3), 1, False),
        (UnconfirmedError("silence"), 1, True),
        (RetryableError("no leader"), 1, True),
        (MisconfiguredError("no permission"), 2, True),
    ],
)
async def test_append_is_unavailable_when_the_writer_cannot_write(
    failure: Exception, retry_after_s: int, may_be_written: bool
) -> None:
    log = KafkaCommandLog(writer=ScriptedWriter(failure), codec=CODEC)
    with pytest.raises(LogUnavailableError) as unavailable:
        await log.append(PAYMENT, envelope())
    assert unavailable.value.retry_after_s == retry_after_s
    assert unavailable.value.may_be_written == may_be_written


def test_webhook_is_keyed_by_its_order_else_by_what_it_is_about() -> None:
    def webhook(order: str | None, reference: str | None) -> WebhookReceived:
        return WebhookReceived(
            gateway=GatewayName("mock"),
            origin_id=None,
            order_id=OrderId(order) if order else None,
            gateway_reference=reference,
            headers=(),
            body=b"",
            received_at_ms=1,
        )

    assert destination_of(webhook("o", "r")) == (topics.WEBHOOKS, b"o")
    assert destination_of(webhook(None, "r")) == (topics.WEBHOOKS, b"mock|default|r")
    nobodys = destination_of(webhook(None, None))
    assert nobodys[1].startswith(b"mock|default|")
    assert nobodys == destination_of(webhook(None, None)) != destination_of(replace(webhook(None, None), body=b"2"))
