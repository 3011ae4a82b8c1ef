"""How fast an account is called: its own rate, and the pause that its gateway asks for."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code, Signal, error_for
from gateway_adapters.registry import GATEWAYS, call_rates_of
from schemas.identifiers import AccountName, GatewayRoute
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.executor.breaker import Breaker
from streams.executor.gateway_slots import GatewaySlots
from streams.executor.options import ExecutorOptions
from streams.executor.pace import DEFAULT_CLOSED_S, MAX_CLOSED_S, Pace
from tests.support.executor_scene import FIRST, Scene, started, until
from tests.support.gateway_calls import GATEWAY, TellableGateway, message_of, request_of, succeeds
from tests.support.metric_pages import rise_of

MOCK = GatewayRoute(GATEWAY)


@given(
    rate=st.floats(0.1, 500),
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_more_calls_are_let_through_than_the_rate_and_one_seconds_worth_whatever_the_time_between(
    rate: float, pauses: list[float]
) -> None:
    pace, now_s, let_through = Pace(calls_per_second=rate), 100.0, 0
    for pause in pauses:
        now_s += pause
        wait_s = pace.take(now_s)
        let_through += wait_s == 0
        assert wait_s <= 1 / rate + 1e-6
        assert let_through <= (now_s - 100.0) * rate + max(1.0, rate) + 1e-6


@given(rate=st.floats(0.1, 500), used=st.integers(0, 600))
def test_call_is_let_through_once_it_has_waited_as_long_as_it_was_told(rate: float, used: int) -> None:
    pace = Pace(calls_per_second=rate)
    for _ in range(used):
        pace.take(5.0)
    wait_s = pace.take(5.0)
    if wait_s > 0:
        assert pace.take(5.0 + wait_s * 1.000001 + 1e-9) == 0


def test_every_call_is_let_through_when_there_is_no_rate_but_for_what_the_gateway_asks() -> None:
    pace = Pace(calls_per_second=None)
    assert [pace.take(1.0) for _ in range(1_000)] == [0.0] * 1_000
    pace.close(1.0, for_s=5.0)
    assert (pace.take(1.0), pace.take(5.0), pace.take(6.0)) == (5.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("asked_s", "closed_s"), [(None, DEFAULT_CLOSED_S), (0.0, DEFAULT_CLOSED_S), (7.0, 7.0), (3_600.0, MAX_CLOSED_S)]
)
def test_gate_is_closed_as_long_as_the_gateway_asks_within_limits(asked_s: float | None, closed_s: float) -> None:
    pace = Pace(calls_per_second=None)
    pace.close(10.0, for_s=asked_s)
    assert pace.closed_s(10.0) == closed_s
    pace.close(10.0, for_s=1.0)
    assert pace.closed_s(10.0) == closed_s, "it never opens sooner"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def slots(clock: Clock, pace: Pace, *, at_once: int = 10) -> GatewaySlots:
    return GatewaySlots(MOCK, slots=at_once, breaker=Breaker(failures=3, open_s=1.0), pace=pace, clock_s=clock)


async def test_calls_beyond_the_rate_wait_in_order_and_are_let_in_as_time_passes() -> None:
    clock, throttled = Clock(), rise_of("executor_calls_throttled", route=MOCK)
    some = slots(clock, Pace(calls_per_second=100.0))
    for _ in range(100):
        (await some.enter(0, patience_s=None)).leave()
    waiting = [asyncio.create_task(some.enter(0, patience_s=None)) for _ in range(3)]
    await until(lambda: some.waiting == 3)
    assert throttled() == 1
    clock.now_s = 0.0201
    await until(lambda: [each.done() for each in waiting] == [True, True, False])
    clock.now_s = 0.0301
    await asyncio.gather(*waiting)


async def test_call_that_can_go_elsewhere_does_so_at_once_when_the_gateway_asks_for_a_longer_pause() -> None:
    clock = Clock()
    some = slots(clock, Pace(calls_per_second=None))
    refused = error_for(Signal.RATE_LIMITED, retry_after_ms=30_000)
    with await some.enter(0, patience_s=None) as entry:
        entry.heard(CallResult(outcome=Outcome.NOT_EXECUTED, error=refused))
    turned = await some.enter(0, patience_s=10.0)
    assert turned.turned_away is not None
    assert turned.turned_away.code == Code.GATEWAY_BUSY
    stays = asyncio.create_task(some.enter(0, patience_s=None))
    await until(lambda: some.waiting == 1)
    stays.cancel()


async def test_call_waits_for_a_slot_though_the_pace_would_allow_it() -> None:
    clock = Clock()
    some = slots(clock, Pace(calls_per_second=100.0), at_once=1)
    first = await some.enter(0, patience_s=None)
    second = asyncio.create_task(some.enter(0, patience_s=None))
    await until(lambda: some.waiting == 1)
    first.leave()
    (await second).leave()


async def test_executor_makes_no_call_while_the_gateway_wants_none_and_all_of_them_after() -> None:
    answers = [CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.RATE_LIMITED, retry_after_ms=1_000))]

    async def behave(request: GatewayCallRequested) -> CallResult:
        return answers.pop() if answers else await succeeds(request)

    scene = Scene(TellableGateway(behave))
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        await until(lambda: len(scene.results()) == 1)
        refund = replace(request_of(1), kind=CallKind.REFUND, token=None, payment_reference="pay")
        scene.put(FIRST, 1, message_of(refund))
        await until(lambda: scene.executor.in_flight == 1)
        assert scene.gateway.calls.total() == 1
        scene.skipped_s += 1.0
        await scene.consumer.wait_for_commit(FIRST, 2)
    assert [each.outcome for each in scene.results()] == [Outcome.NOT_EXECUTED, Outcome.SUCCEEDED]


def test_rate_is_a_setting_of_each_account() -> None:
    (gateway,) = (name for name in GATEWAYS if name == GATEWAY)
    settings = GATEWAYS[gateway].settings
    accounts = {
        gateway: {
            AccountName("default"): settings.model_validate({"url": "http://h", "calls_per_second": "2.5"}),
            AccountName("eu"): settings.model_validate({"url": "http://h"}),
        }
    }
    assert call_rates_of(accounts) == {MOCK: 2.5}
    with pytest.raises(ValueError, match="calls_per_second"):
        ExecutorOptions(calls_per_second={MOCK: 0})
