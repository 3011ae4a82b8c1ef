"""A slow gateway holds its calls: how long do fresh payments at another one wait? And when executors come and go?

Executors in this process, on topics of their own. One gateway answers at once; the other holds every call until the
scenario is over. A request's hold is the time from its append to its call.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway_adapters.contract import CallResult
from schemas.identifiers import GatewayName, GatewayRoute
from schemas.records.gateway import GatewayCallRequested
from streams.executor.worker import GatewayExecutor
from streams.kafka_clients.log_clock import wall_clock_ms
from tests.faults.figures.report import Report
from tests.support.gateway_calls import (
    CODEC,
    GATEWAY,
    OwnTopics,
    TellableGateway,
    append_request,
    request_of,
    succeeds,
    writing,
)
from tests.support.waiting import until

SLOW = GatewayName("slow")
FEW, MANY = 0.1, 0.7
"""How much of the load is for the gateway that holds it: some calls in each partition, or more than it has slots."""

AIM_S = 1.0
LAST_CALL_TIMEOUT_S = 60.0


@dataclass(eq=False)
class _Scene:
    """What was asked for, and when it was called."""

    topics: OwnTopics
    slow_share: float
    asked_s: dict[str, float] = field(default_factory=dict)
    called_s: dict[str, float] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: GatewayCallRequested) -> CallResult:
        self.called_s.setdefault(request.order_id, time.monotonic())
        self.calls[request.gateway_key] += 1
        return await succeeds(request)

    async def hold(self, request: GatewayCallRequested) -> CallResult:
        self.calls[request.gateway_key] += 1
        await self.over.wait()
        return await succeeds(request)

    def executor(self) -> GatewayExecutor:
        gateways = {
            GatewayRoute(GATEWAY): TellableGateway(self.answer),
            GatewayRoute(SLOW): TellableGateway(self.hold),
        }
        options = self.topics.options(session_timeout_s=10.0, call_timeout_s=60.0, drain_timeout_s=65.0)
        return GatewayExecutor(self.topics.connection, CODEC, gateways, options)

    @asynccontextmanager
    async def load(self, per_second: float) -> AsyncIterator[None]:
        """Append requests by the clock while the body runs."""
        enough = asyncio.Event()
        appending = asyncio.create_task(self._append(per_second, enough))
        try:
            yield
        finally:
            enough.set()
            await appending

    async def _append(self, per_second: float, enough: asyncio.Event) -> None:
        began_s, number = time.monotonic(), 0
        async with writing(self.topics.connection) as writer, asyncio.TaskGroup() as group:
            while not enough.is_set():
                # The whole part of the share's sum steps up at each slow one, evenly spread.
                is_slow = int((number + 1) * self.slow_share) > int(number * self.slow_share)
                gateway = SLOW if is_slow else GATEWAY
                request = request_of(number, gateway=gateway, now_ms=wall_clock_ms())
                if gateway == GATEWAY:
                    self.asked_s[request.order_id] = time.monotonic()
                group.create_task(append_request(writer, self.topics.requests, request))
                number += 1
                await asyncio.sleep(max(0.0, began_s + number / per_second - time.monotonic()))  # the pace

    def holds(self, since_s: float, until_s: float) -> list[float]:
        """How long each fresh payment waited for its call, of those that were asked for in this time; seconds."""
        return sorted(
            self.called_s.get(order, float("inf")) - asked_s
            for order, asked_s in self.asked_s.items()
            if since_s <= asked_s < until_s
        )


async def measure_changes(
    bootstrap_servers: str,
    report: Report,
    *,
    per_second: float,
    seconds: float,
    partitions: int = 8,
    aim_s: float = AIM_S,
) -> None:
    """Let one executor join and another leave under load, each followed by so many seconds of it."""
    scene = _Scene(OwnTopics(bootstrap_servers=bootstrap_servers).create(partitions=partitions), FEW)
    first, second = scene.executor(), scene.executor()
    await first.start()
    async with scene.load(per_second):
        await until(lambda: len(scene.called_s) >= 2 * per_second, timeout_s=LAST_CALL_TIMEOUT_S)
        joins_s = time.monotonic()
        joining = asyncio.create_task(second.start())
        await asyncio.sleep(seconds)  # the load of this part, no condition
        leaves_s = time.monotonic()
        leaving = asyncio.create_task(first.stop())
        await asyncio.sleep(seconds)  # as above
        ended_s = time.monotonic()
    scene.over.set()
    await asyncio.gather(joining, leaving)
    await until(lambda: scene.called_s.keys() >= scene.asked_s.keys(), timeout_s=LAST_CALL_TIMEOUT_S)
    await second.stop()
    _tell(report, "an executor joins", scene.holds(joins_s, leaves_s), aim_s)
    _tell(report, "an executor leaves", scene.holds(leaves_s, ended_s), aim_s)
    report.none_of("calls made twice", [key for key, count in scene.calls.items() if count > 1])


async def measure_starvation(
    bootstrap_servers: str,
    report: Report,
    *,
    per_second: float,
    seconds: float,
    partitions: int = 8,
    aim_s: float = AIM_S,
) -> None:
    """Let one gateway hold more calls than it has slots for, and look at the payments of the other."""
    scene = _Scene(OwnTopics(bootstrap_servers=bootstrap_servers).create(partitions=partitions), MANY)
    executor = scene.executor()
    await executor.start()
    began_s = time.monotonic()
    async with scene.load(per_second):
        await asyncio.sleep(seconds)  # the load, no condition
    ended_s = time.monotonic()
    scene.over.set()
    await until(lambda: scene.called_s.keys() >= scene.asked_s.keys(), timeout_s=LAST_CALL_TIMEOUT_S)
    await executor.stop()
    _tell(report, "beside a gateway that holds its calls", scene.holds(began_s, ended_s), aim_s)


def _tell(report: Report, what: str, holds: Sequence[float], aim_s: float) -> None:
    report.say(
        f"{what}: {len(holds)} fresh payments, median hold {holds[len(holds) // 2]:.3f} s, longest {holds[-1]:.2f} s"
    )
    report.figure(f"{what}: 99 % of fresh payments are held", holds[int(len(holds) * 0.99)], "s", below=aim_s)
