"""The executor's memory of results: what it keeps, what it forgets and knows that it forgot; and the lease."""

import dataclasses
import tracemalloc

from gateway_adapters.contract import CallResult, completed
from schemas.event_types import TYPES
from schemas.messages import Envelope
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.executor.past_results import CLOCK_SKEW_MS, Answers, PastResult, PastResults, result_id
from streams.kafka_clients.lease import Lease
from tests.support.gateway_calls import CODEC, NOW_MS, request_of

NOTHING = PastResults(since_ms=0, results=())


def past_result(request: GatewayCallRequested, *, timestamp_ms: int = NOW_MS) -> PastResult:
    result = completed(request, CallResult(outcome=Outcome.NOT_EXECUTED), completed_at_ms=timestamp_ms)
    envelope = Envelope(
        id=result_id(request), source="payment-engine/executor", type=TYPES[GatewayCallCompleted], time_ms=timestamp_ms
    )
    return PastResult(timestamp_ms=timestamp_ms, message=CODEC.encode(result, envelope))


def test_answers_give_the_message_as_it_was_when_the_call_is_the_same() -> None:
    kept = past_result(request_of(1))
    answers = Answers(PastResults(since_ms=0, results=[kept]))
    assert answers.to(dataclasses.replace(request_of(1), repeated=True)) == kept.message


def test_answers_give_nothing_when_anything_of_the_call_differs() -> None:
    request = request_of(1)
    answers = Answers(PastResults(since_ms=0, results=[past_result(request)]))
    others = [
        request_of(2),
        dataclasses.replace(request, kind=CallKind.INQUIRE, inquired_kind=CallKind.SALE),
        dataclasses.replace(request, attempt=2),
        dataclasses.replace(request, call_number=2),
    ]
    assert [answers.to(other) for other in others] == [None] * 4


def test_answers_cover_a_request_when_it_is_later_than_where_they_begin_by_the_clocks_skew() -> None:
    answers = Answers(PastResults(since_ms=NOW_MS - CLOCK_SKEW_MS, results=()))
    assert answers.covers(request_of(1))
    assert not answers.covers(request_of(1, now_ms=NOW_MS - 1))
    assert Answers(NOTHING).covers(request_of(1, now_ms=0))


def test_answers_know_what_they_forgot_when_they_are_full() -> None:
    first, second = past_result(request_of(1)), past_result(request_of(2), timestamp_ms=NOW_MS + 5)
    answers = Answers(NOTHING, max_bytes=len(second.message.value))  # room for one, as there always is
    answers.remember(first)
    answers.remember(first)
    assert (answers.to(request_of(1)), len(answers)) == (first.message, 1)
    answers.remember(second)
    assert (answers.to(request_of(1)), answers.to(request_of(2))) == (None, second.message)
    assert not answers.covers(request_of(1, now_ms=NOW_MS + CLOCK_SKEW_MS))
    assert answers.covers(request_of(1, now_ms=NOW_MS + CLOCK_SKEW_MS + 1))


def test_answers_take_no_more_memory_than_they_may_when_results_are_small() -> None:
    """The bound is on what Python holds, of which the values are a tenth."""
    most = 1_000_000
    tracemalloc.start()
    try:
        answers = Answers(NOTHING, max_bytes=most)
        for number in range(3_000):
            answers.remember(past_result(request_of(number)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 100 < len(answers) < 3_000
    assert held < 1.5 * most


def test_answers_pass_over_a_record_when_it_has_no_id() -> None:
    kept = past_result(request_of(1))
    stranger = dataclasses.replace(kept, message=dataclasses.replace(kept.message, headers=()))
    assert len(Answers(PastResults(since_ms=0, results=[stranger]))) == 0


def test_lease_holds_one_session_from_when_the_group_was_asked_when_it_is_renewed() -> None:
    now_s = [100.0]
    lease = Lease(session_timeout_s=10.0, clock_s=lambda: now_s[0])
    now_s[0] = 109.0
    assert lease.holds()
    lease.renewed(105.0)
    lease.renewed(101.0)  # an older word takes nothing back
    now_s[0] = 114.9
    assert lease.holds()
    now_s[0] = 115.0
    assert not lease.holds()
    lease.renewed()
    assert lease.holds()
