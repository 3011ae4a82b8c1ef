"""How many calls one gateway account may have under way, and whether it is asked at all.

Used by `handling`, one `GatewaySlots` for each gateway and account, right before a call. Why: with one pool for all,
the gateway that takes thirty seconds has the whole pool after a while, and payments at the others wait for it.

* A call takes a slot. One that finds none waits, in the order of arrival, and nobody else waits for it: it holds only
  its room in the worker (`ExecutorOptions.max_requests_in_flight`), and its own offset.
* A payment's first call, which can go elsewhere, waits for so long and is turned away then. All others wait until there
  is a slot: an answer that nobody got would be doubt of our own making. A revoke ends each wait at once.
* An account may have a rate (`pace`), and a gateway that asks for fewer calls closes it for a while. A call that finds
  it used up, or closed, waits among those that wait for a slot, in the same order and as long.
* A gateway that is sick (`breaker`) is not asked. Whoever waits is turned away at once, then whoever comes, but for one
  probe at a time, which needs no slot: all may be taken by calls that do not end.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from enum import Enum
from types import TracebackType
from typing import Final, Self

import structlog

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code, Signal, error_for
from schemas.identifiers import GatewayRoute
from schemas.records.gateway import OperationError
from streams.executor.breaker import Breaker, Change, Permit, Verdict, verdict_of
from streams.executor.pace import Pace
from streams.log_worker.errors import PartitionLostError
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

SHORTEST_WAIT_S: Final = 0.001
"""Before the pace is looked at again: a clock that ticks between two looks must not make a loop of it."""


class _Woken(Enum):
    """Why a wait for a slot has ended."""

    SLOT = "slot"
    TOO_LONG = "too_long"
    CIRCUIT = "circuit"


_Waiter = asyncio.Future[_Woken]


class Entry:
    """One call's stay. Tell it what the gateway says (`heard`), and leave it when the call has ended."""

    def __init__(
        self, slots: "GatewaySlots | None", permit: Permit | None, *, turned_away: OperationError | None = None
    ) -> None:
        """Made by `GatewaySlots`; without one it stands for a call that takes no slot."""
        self._slots = slots
        self._permit = permit
        self.turned_away = turned_away
        """Why no call may be made; None: it may."""

    def heard(self, result: CallResult) -> None:
        """Say what the gateway has answered, or that it did not."""
        if self._slots is not None and self._permit is not None:
            self._slots.note(self._permit, verdict_of(result))
            error = result.error
            if error is not None and error.code == Code.RATE_LIMITED:
                self._slots.slow_down(error.retry_after_ms)

    def leave(self) -> None:
        """Give the slot back. Calling it twice is safe."""
        permit, self._permit = self._permit, None
        if self._slots is not None and permit is not None:
            self._slots.left(permit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class GatewaySlots:
    """The slots, the pace and the breaker of one gateway account. Lives on one event loop."""

    def __init__(
        self, route: GatewayRoute, *, slots: int, breaker: Breaker, pace: Pace, clock_s: Callable[[], float]
    ) -> None:
        """Make it empty. `slots`: calls under way at once, beside one probe; the clock is monotonic, seconds."""
        self._slots = slots
        self._breaker = breaker
        self._pace = pace
        self._look_again: asyncio.TimerHandle | None = None  # while a slot is free and the pace is not
        self._clock_s = clock_s
        self._taken = 0
        self._waiting: OrderedDict[_Waiter, int] = OrderedDict()  # with their partitions; bounded by the worker's room
        self._route = route
        metrics.watch("executor_slots_taken", lambda: self._taken, route=route)
        metrics.watch("executor_calls_waiting", lambda: len(self._waiting), route=route)
        metrics.watch("executor_breaker_open", lambda: int(self._breaker.is_open), route=route)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    async def enter(self, partition: int, *, patience_s: float | None) -> Entry:
        """Return once the call may be made, or is turned away.

        Args:
            partition: of its request.
            patience_s: longest wait for a slot, seconds; None: until there is one, since each call under way ends, and
                each pause too.

        Raises: PartitionLostError: the partition was given away while it waited.
        """
        while True:  # ends: only a circuit that opens and closes while it waits makes it begin anew
            permit = self._breaker.admit(self._clock_s())
            if permit is None:
                return self._turned_away(Signal.CIRCUIT_OPEN)
            if permit.is_probe:
                return Entry(self, permit)
            if not self._waiting and self._let_in():
                return Entry(self, permit)
            if patience_s is not None and self._pace.closed_s(self._clock_s()) > patience_s:
                return self._turned_away(Signal.NO_SLOT)
            woken = await self._wait(partition, patience_s)
            if woken is not _Woken.SLOT:
                return self._turned_away(Signal.CIRCUIT_OPEN if woken is _Woken.CIRCUIT else Signal.NO_SLOT)
            if self._breaker.is_good(permit):
                return Entry(self, permit)
            self._give_back()

    def let_go(self, partitions: Collection[int]) -> None:
        """End the wait of whoever waits for a partition that is given away: the next owner makes the call."""
        for waiter in [waiter for waiter, partition in self._waiting.items() if partition in partitions]:
            del self._waiting[waiter]
            waiter.set_exception(PartitionLostError())

    async def _wait(self, partition: int, patience_s: float | None) -> _Woken:
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._waiting[waiter] = partition
        alarm = None if patience_s is None else loop.call_later(patience_s, self._wake, waiter, _Woken.TOO_LONG)
        try:
            return await waiter
        except asyncio.CancelledError:
            if self._waiting.pop(waiter, None) is None and not waiter.cancelled() and _has_slot(waiter):
                self._give_back()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def _wake(self, waiter: _Waiter, why: _Woken) -> None:
        if self._waiting.pop(waiter, None) is not None:
            waiter.set_result(why)

    def _let_in(self) -> bool:
        """Take a slot for whoever is next, if there is one and the pace allows it; else see that it is looked again."""
        if self._taken >= self._slots:
            return False
        wait_s = self._pace.take(self._clock_s())
        if wait_s > 0:
            if self._look_again is None:
                metrics.count("executor_calls_throttled", route=self._route)
                again_s = max(wait_s, SHORTEST_WAIT_S)
                self._look_again = asyncio.get_running_loop().call_later(again_s, self._look)
            return False
        self._taken += 1
        return True

    def _look(self) -> None:
        self._look_again = None
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        while self._waiting and self._let_in():  # bounded by who waits
            self._wake(next(iter(self._waiting)), _Woken.SLOT)

    def _give_back(self) -> None:
        self._taken -= 1
        self._admit_waiting()

    def slow_down(self, retry_after_ms: int | None) -> None:
        """Make no call for as long as the gateway asks: it takes fewer than it was given."""
        self._pace.close(self._clock_s(), for_s=None if retry_after_ms is None else retry_after_ms / 1000)
        log.warning("gateway_asks_for_fewer_calls", route=self._route, repeats=True)

    def _turned_away(self, signal: Signal) -> Entry:
        metrics.count("executor_calls_turned_away", reason=signal, route=self._route)
        after_ms = round(self._breaker.retry_after_s(self._clock_s()) * 1000)
        return Entry(self, None, turned_away=error_for(signal, retry_after_ms=after_ms or None))

    def note(self, permit: Permit, verdict: Verdict) -> None:
        """Take in what a call says about the gateway."""
        change = self._breaker.heard(permit, verdict, self._clock_s())
        if change is Change.OPENED:
            metrics.count("executor_breaker_opened", route=self._route)
            log.error("gateway_circuit_opened", count=len(self._waiting), route=self._route)
            for waiter in list(self._waiting):
                self._wake(waiter, _Woken.CIRCUIT)
        elif change is Change.CLOSED:
            log.warning("gateway_circuit_closed", route=self._route)

    def left(self, permit: Permit) -> None:
        """Take back what a call held, once for each."""
        if permit.is_probe:
            self._breaker.heard(permit, Verdict.NOTHING, self._clock_s())  # nothing, if it was heard of already
        else:
            self._give_back()


def _has_slot(waiter: _Waiter) -> bool:
    return waiter.done() and waiter.exception() is None and waiter.result() is _Woken.SLOT
