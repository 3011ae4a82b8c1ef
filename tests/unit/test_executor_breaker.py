"""The breaker of one gateway account: opens when the gateway is sick, and comes back by probes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import DECLINES, Code, Signal, decline_for, error_for
from schemas.vocabulary import Outcome
from streams.executor.breaker import LOOKED_AT_PER_FAILURE, REMEMBERED_S, Breaker, Change, Verdict, verdict_of

FAILURES = 3
OPEN_S = 10.0
NOW_S = 1000.0


def breaker() -> Breaker:
    return Breaker(failures=FAILURES, open_s=OPEN_S)


def told(one: Breaker, verdict: Verdict, *, at_s: float = NOW_S) -> Change:
    """Let a call through and say what it came to."""
    permit = one.admit(at_s)
    assert permit is not None
    return one.heard(permit, verdict, at_s)


def opened() -> Breaker:
    one = breaker()
    assert [told(one, Verdict.SICK) for _ in range(FAILURES)][-1] is Change.OPENED
    return one


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (CallResult(outcome=Outcome.SUCCEEDED), Verdict.WELL),
        *[
            (CallResult(outcome=Outcome.DECLINED, error=decline_for(c, gateway_code=None)), Verdict.WELL)
            for c in DECLINES
        ],
        (CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.NOT_SENT)), Verdict.SICK),
        (CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.READ_TIMEOUT)), Verdict.SICK),
        (CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.CONNECTION_LOST)), Verdict.SICK),
        (CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.SERVER_ERROR)), Verdict.SICK),
        (CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.KEPT_ERROR)), Verdict.NOTHING),
        (CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.UNREADABLE)), Verdict.NOTHING),
        (CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.IN_PROGRESS)), Verdict.WELL),
        (CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.RATE_LIMITED)), Verdict.WELL),
        (CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.UNAUTHORIZED)), Verdict.WELL),
        (CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.UNSUPPORTED)), Verdict.NOTHING),
        (CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.INQUIRY_FOUND_NOTHING)), Verdict.WELL),
    ],
)
def test_only_what_says_that_the_gateway_is_sick_counts_against_it(result: CallResult, verdict: Verdict) -> None:
    assert verdict_of(result) is verdict


def test_breaker_opens_at_so_many_failures_of_the_last_calls_and_not_before() -> None:
    one = breaker()
    for _ in range(FAILURES - 1):
        assert told(one, Verdict.SICK) is Change.NONE
        assert told(one, Verdict.WELL) is Change.NONE
    assert told(one, Verdict.SICK) is Change.OPENED
    assert one.admit(NOW_S) is None
    assert one.retry_after_s(NOW_S + 4.0) == OPEN_S - 4.0


def test_failures_among_enough_successes_do_not_open_it() -> None:
    one = breaker()
    for _ in range(100):
        assert told(one, Verdict.SICK) is Change.NONE
        for _ in range(LOOKED_AT_PER_FAILURE):
            told(one, Verdict.WELL)
    assert not one.is_open


def test_failures_of_long_ago_do_not_count() -> None:
    one = breaker()
    for minute in range(10):
        assert told(one, Verdict.SICK, at_s=NOW_S + minute * REMEMBERED_S) is Change.NONE


def test_what_was_under_way_when_it_opened_is_not_heard_any_more() -> None:
    one = breaker()
    before = one.admit(NOW_S)
    assert before is not None
    for _ in range(FAILURES):
        told(one, Verdict.SICK)
    assert not one.is_good(before)
    assert one.heard(before, Verdict.WELL, NOW_S) is Change.NONE
    assert one.is_open


def test_one_probe_at_a_time_is_let_through_and_its_success_closes_it() -> None:
    one = opened()
    assert one.admit(NOW_S + OPEN_S - 0.1) is None
    probe = one.admit(NOW_S + OPEN_S)
    assert probe is not None
    assert probe.is_probe
    assert one.admit(NOW_S + OPEN_S) is None
    assert one.heard(probe, Verdict.WELL, NOW_S + OPEN_S) is Change.CLOSED
    assert told(one, Verdict.SICK) is Change.NONE, "the failures of before are forgotten"


def test_failed_probe_keeps_it_open_for_as_long_again() -> None:
    one = opened()
    probe = one.admit(NOW_S + OPEN_S)
    assert probe is not None
    assert one.heard(probe, Verdict.SICK, NOW_S + 3 * OPEN_S) is Change.NONE
    assert one.retry_after_s(NOW_S + 3 * OPEN_S) == OPEN_S


def test_probe_that_says_nothing_makes_room_for_the_next() -> None:
    one = opened()
    probe = one.admit(NOW_S + OPEN_S)
    assert probe is not None
    assert one.heard(probe, Verdict.NOTHING, NOW_S + OPEN_S) is Change.NONE
    following = one.admit(NOW_S + OPEN_S)
    assert following is not None
    assert one.heard(probe, Verdict.WELL, NOW_S + OPEN_S) is Change.NONE, "the first one was heard of already"
    assert one.heard(following, Verdict.WELL, NOW_S + OPEN_S) is Change.CLOSED


@given(st.lists(st.tuples(st.sampled_from(["admit", *Verdict]), st.floats(0.0, 7.0)), max_size=200))
def test_breaker_lets_one_probe_through_at_a_time_and_never_stays_open_for_good(
    steps: list[tuple[str | Verdict, float]],
) -> None:
    one, now_s, out = breaker(), NOW_S, []
    for step, pause_s in steps:
        now_s += pause_s
        if step == "admit":
            permit = one.admit(now_s)
            assert permit is not None or one.is_open
            out += [] if permit is None else [permit]
        elif out:
            one.heard(out.pop(), Verdict(step), now_s)
        assert sum(one.is_good(each) and each.is_probe for each in out) <= 1
    for permit in out:
        one.heard(permit, Verdict.NOTHING, now_s)
    assert one.admit(now_s + OPEN_S) is not None


def test_codes_that_count_are_those_of_the_table() -> None:
    sick = {s for s in Signal if verdict_of(CallResult(outcome=Outcome.UNKNOWN, error=error_for(s))) is Verdict.SICK}
    assert sick == {Signal.NOT_SENT, Signal.READ_TIMEOUT, Signal.CONNECTION_LOST, Signal.SERVER_ERROR}
    assert Code.GATEWAY_CIRCUIT_OPEN not in {error_for(each).code for each in sick}, "the breaker never feeds itself"
