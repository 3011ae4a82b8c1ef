"""Slots and breakers of gateways in the worker: a gateway that is slow or sick holds nobody up but itself."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code, Signal, error_for
from schemas.identifiers import AccountName, GatewayName, GatewayRoute
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from streams.executor.breaker import Breaker
from streams.executor.gateway_slots import GatewaySlots
from streams.executor.pace import Pace
from streams.log_worker.errors import PartitionLostError
from tests.support.executor_scene import FIRST, SECOND, Gate, Scene, started, until
from tests.support.gateway_calls import GATEWAY, TellableGateway, message_of, request_of, succeeds
from tests.support.metric_pages import rise_of, value_of

FAST = GatewayName("fast")
EU = AccountName("eu")
MOCK = GatewayRoute(GATEWAY)
FAILURES = 3


async def breaks(_: GatewayCallRequested) -> CallResult:
    return CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.SERVER_ERROR))


async def sick_scene(gateway: TellableGateway, **options: Any) -> Scene:
    """A worker whose gateway has just failed too often; its requests lie at offsets 0 to FAILURES - 1."""
    scene = Scene(gateway, breaker_failures=FAILURES, **options)
    await scene.executor.start()
    for number in range(FAILURES):
        scene.put(FIRST, number, message_of(request_of(number)))
    await scene.consumer.wait_for_commit(FIRST, FAILURES)
    return scene


@pytest.mark.parametrize("fast", [{"gateway": FAST}, {"account": EU}], ids=["gateway", "account"])
async def test_slow_gateway_does_not_hold_up_payments_of_another_not_even_in_its_partition(
    fast: dict[str, Any],
) -> None:
    gate, quick = Gate(), TellableGateway()
    others = {GatewayRoute(FAST): quick, GatewayRoute(f"{GATEWAY}/{EU}"): quick}
    async with started(Scene(TellableGateway(gate), others=others, max_calls_in_flight=4)) as scene:
        for number in range(100):
            scene.put(FIRST, number, message_of(request_of(number)))
        await gate.wait_for(4)
        scene.put(FIRST, 100, message_of(replace(request_of(100), **fast)))
        scene.put(SECOND, 0, message_of(replace(request_of(101), **fast)))
        await until(lambda: len(scene.results()) == 2)
        await scene.consumer.wait_for_commit(SECOND, 1)
        assert FIRST not in scene.consumer.committed, "nothing is committed past what is under way"
        assert value_of("executor_calls_waiting", route=GATEWAY) == 96
        assert value_of("executor_slots_taken", route=GATEWAY) == 4
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 101)
    assert scene.gateway.most_at_once == 4
    assert value_of("executor_slots_taken", route=GATEWAY) == 0


async def test_first_call_of_a_payment_that_finds_no_slot_in_time_was_not_executed_and_may_go_elsewhere() -> None:
    gate = Gate()
    turned_away = rise_of("executor_calls_turned_away", route=GATEWAY, reason=Signal.NO_SLOT)
    scene = Scene(TellableGateway(gate), max_calls_in_flight=1, slot_wait_s=0.01)
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        await gate.wait_for(1)
        scene.put(FIRST, 1, message_of(request_of(1)))
        await until(lambda: len(scene.results()) == 1)
        gate.open.set()
    (result, _) = scene.results()
    assert result.error is not None
    assert (result.outcome, result.error.code, result.error.retry) == (
        Outcome.NOT_EXECUTED,
        Code.GATEWAY_BUSY,
        RetryAdvice.OTHER_GATEWAY,
    )
    assert (scene.gateway.calls.total(), turned_away()) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"repeated": True},
        {"kind": CallKind.INQUIRE, "inquired_kind": CallKind.SALE, "token": None},
        {"kind": CallKind.REFUND, "token": None, "payment_reference": "pay"},
        {"first_requested_at_ms": 1, "call_number": 2},
    ],
    ids=["copy", "inquiry", "refund", "same attempt again"],
)
async def test_call_that_cannot_go_elsewhere_waits_for_its_slot(change: dict[str, Any]) -> None:
    gate = Gate()
    scene = Scene(TellableGateway(gate), max_calls_in_flight=1, slot_wait_s=0.001)
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        await gate.wait_for(1)
        scene.put(FIRST, 1, message_of(replace(request_of(1), **change)))
        scene.put(FIRST, 2, message_of(request_of(2)))  # comes later, waits shorter
        await until(lambda: len(scene.results()) == 1)
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 3)
    assert [each.outcome for each in scene.results()][1:] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]


async def test_what_waits_for_a_slot_is_left_to_the_next_owner_when_its_partition_goes() -> None:
    gate = Gate()
    scene = Scene(TellableGateway(gate), max_calls_in_flight=1)
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(0)))
        await gate.wait_for(1)
        scene.put(SECOND, 0, message_of(request_of(1)))
        await until(lambda: scene.executor.in_flight == 2)
        rebalance = asyncio.create_task(scene.consumer.rebalance([FIRST]))
        await until(lambda: scene.executor.in_flight == 1)
        gate.open.set()
        await rebalance
    assert scene.gateway.calls.total() == 1
    assert SECOND not in scene.consumer.committed


async def test_sick_gateway_is_not_asked_and_first_calls_go_elsewhere_at_once() -> None:
    opened = rise_of("executor_breaker_opened", route=GATEWAY)
    scene = await sick_scene(TellableGateway(breaks))
    try:
        scene.put(FIRST, FAILURES, message_of(request_of(50)))
        await scene.consumer.wait_for_commit(FIRST, FAILURES + 1)
        assert value_of("executor_breaker_open", route=GATEWAY) == 1
    finally:
        await scene.executor.stop()
    error = scene.results()[-1].error
    assert error is not None
    assert (scene.results()[-1].outcome, error.code, error.retry) == (
        Outcome.NOT_EXECUTED,
        Code.GATEWAY_CIRCUIT_OPEN,
        RetryAdvice.OTHER_GATEWAY,
    )
    assert error.retry_after_ms is not None
    assert 0 < error.retry_after_ms <= 10_000
    assert (scene.gateway.calls.total(), opened()) == (FAILURES, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"repeated": True},
        {"kind": CallKind.INQUIRE, "inquired_kind": CallKind.SALE, "token": None},
        {"first_requested_at_ms": 1, "call_number": 2},
    ],
    ids=["copy", "inquiry", "same attempt again"],
)
async def test_what_may_have_been_sent_before_stays_in_doubt_when_its_gateway_is_not_asked(
    change: dict[str, Any],
) -> None:
    scene = await sick_scene(TellableGateway(breaks))
    try:
        scene.put(FIRST, FAILURES, message_of(replace(request_of(50), **change)))
        await scene.consumer.wait_for_commit(FIRST, FAILURES + 1)
    finally:
        await scene.executor.stop()
    result = scene.results()[-1]
    assert result.error is not None
    assert (result.outcome, result.error.retry) == (Outcome.UNKNOWN, RetryAdvice.SAME_KEY_NOW)
    assert scene.gateway.calls.total() == FAILURES


async def test_request_that_lay_there_before_the_worker_stays_in_doubt_when_its_gateway_is_not_asked() -> None:
    scene = Scene(TellableGateway(breaks), breaker_failures=FAILURES)
    scene.consumer.ends[SECOND] = 1
    async with started(scene):
        for number in range(FAILURES):
            scene.put(FIRST, number, message_of(request_of(number)))
        await scene.consumer.wait_for_commit(FIRST, FAILURES)
        scene.put(SECOND, 0, message_of(request_of(50)))
        await scene.consumer.wait_for_commit(SECOND, 1)
    assert scene.results()[-1].outcome is Outcome.UNKNOWN


async def test_who_waits_for_a_slot_is_turned_away_when_the_circuit_opens() -> None:
    gate = Gate()

    async def hangs_then_breaks(request: GatewayCallRequested) -> CallResult:
        await gate(request)
        return await breaks(request)

    scene = Scene(TellableGateway(hangs_then_breaks), max_calls_in_flight=FAILURES, breaker_failures=FAILURES)
    async with started(scene):
        for number in range(50):
            scene.put(FIRST, number, message_of(request_of(number)))
        await gate.wait_for(FAILURES)
        await until(lambda: scene.executor.in_flight == 50)
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 50)
    # Each call that ends hands its slot on before the last of them opens the circuit.
    assert scene.gateway.calls.total() <= 2 * FAILURES
    assert sum(each.outcome is Outcome.NOT_EXECUTED for each in scene.results()) >= 50 - 2 * FAILURES


async def test_success_of_a_probe_brings_the_gateway_back() -> None:
    ill = True

    async def behave(request: GatewayCallRequested) -> CallResult:
        return await (breaks(request) if ill else succeeds(request))

    scene = await sick_scene(TellableGateway(behave), breaker_open_s=5.0)
    try:
        ill = False
        for number in range(4):
            scene.put(FIRST, FAILURES + number, message_of(request_of(50 + number)))
            await scene.consumer.wait_for_commit(FIRST, FAILURES + number + 1)
            scene.skipped_s = 5.0  # within the lease
    finally:
        await scene.executor.stop()
    outcomes = [each.outcome for each in scene.results()][FAILURES:]
    assert outcomes == [Outcome.NOT_EXECUTED, *[Outcome.SUCCEEDED] * 3]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def slots(clock: Clock | None = None) -> GatewaySlots:
    breaker = Breaker(failures=FAILURES, open_s=1.0)
    return GatewaySlots(MOCK, slots=1, breaker=breaker, pace=Pace(calls_per_second=None), clock_s=clock or Clock())


async def test_probe_goes_past_slots_that_do_not_come_free_and_takes_none() -> None:
    clock = Clock()
    some, failed = slots(clock), await breaks(request_of(1))
    hangs = await some.enter(0, patience_s=None)
    for _ in range(FAILURES):
        hangs.heard(failed)
    assert (await some.enter(0, patience_s=None)).turned_away is not None
    clock.now_s = 1.0
    probe = await some.enter(0, patience_s=None)
    assert probe.turned_away is None
    probe.leave()  # it was never made: the next one is the probe
    probe = await some.enter(0, patience_s=None)
    assert (await some.enter(0, patience_s=None)).turned_away is not None
    probe.heard(await succeeds(request_of(1)))
    probe.leave()
    waits = asyncio.create_task(some.enter(0, patience_s=None))
    await until(lambda: some.waiting == 1)
    hangs.leave()
    assert (await waits).turned_away is None


async def test_slot_goes_to_the_next_when_a_waiter_is_cancelled() -> None:
    some = slots()
    first = await some.enter(0, patience_s=None)
    given_up = asyncio.create_task(some.enter(0, patience_s=None))
    waiting = asyncio.create_task(some.enter(0, patience_s=None))
    await until(lambda: some.waiting == 2)
    given_up.cancel()
    await asyncio.wait([given_up])
    first.leave()
    first.leave()
    second = await waiting
    assert some.waiting == 0
    second.leave()
    (await some.enter(0, patience_s=None)).leave()


async def test_slot_is_not_lost_when_its_waiter_is_cancelled_in_the_moment_that_it_gets_it() -> None:
    some = slots()
    first = await some.enter(0, patience_s=None)
    given_up = asyncio.create_task(some.enter(0, patience_s=None))
    await until(lambda: some.waiting == 1)
    first.leave()
    given_up.cancel()
    await asyncio.wait([given_up])
    async with asyncio.timeout(1.0):
        await some.enter(0, patience_s=None)


async def test_wait_ends_when_its_partition_is_given_away_and_no_other_does() -> None:
    some = slots()
    first = await some.enter(0, patience_s=None)
    gone, stays = (asyncio.create_task(some.enter(number, patience_s=None)) for number in (1, 2))
    await until(lambda: some.waiting == 2)
    some.let_go({1})
    with pytest.raises(PartitionLostError):
        await gone
    first.leave()
    assert (await stays).turned_away is None
