"""A fleet whose programs are of two releases: two of each kind, replaced one by one, and load on them meanwhile.

A worker of the new release is started first and the old one stopped then: the group hands partitions over within a
second. An ingress is stopped and started again on its own port, while clients reach the other one.
"""

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from streams.development.local_engine import LOOPBACK, Component, LocalEngine, free_port
from tests.support.waiting import until
from tests.support.workload import Client, Habits, History, Request, Shopper
from tests.upgrade.releases import COMMAND_LIMIT_S, Release

PARTITIONS: Final = 4
SESSION_TIMEOUT_S: Final = 10.0
WORKERS: Final = ("claims", "orders", "executor")
PLACES: Final = (0, 1)
SHOPPERS: Final = 6
ANSWERS_LIMIT_S: Final = 60.0
ORIGINS: Final = ("originA", "originB")
ENVIRONMENT: Mapping[str, str] = {
    "PAYMENT_ENGINE_KAFKA_PARTITIONS": str(PARTITIONS),
    "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
    "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
    "PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S": "0.5",
    "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "INFO",
}
HABITS: Final = Habits(tries=400, retry_delay_s=0.1, race=0.05, tells=0.1, looks=0.1)
"""Of merchants who do not give up, and reach the other ingress at their next try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """How long a client waited for the last word about one wish, tries included."""

    sent_s: float
    seconds: float


class TimedClient(Client):
    """A client that notes how long it waits."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], history: History) -> None:
        super().__init__(session, urls, history, HABITS)
        self.waited: list[Waited] = []

    async def pursue(self, request: Request, *, asynchronous_first: bool = False, to_payer: bool = False) -> None:
        """Ask until there is a final answer, and note how long that took."""
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        await super().pursue(request, asynchronous_first=asynchronous_first, to_payer=to_payer)
        self.waited.append(Waited(sent_s=sent_s, seconds=loop.time() - sent_s))


class Fleet:
    """Two programs of each kind on one log. `running` starts them."""

    def __init__(self, engine: LocalEngine, session: aiohttp.ClientSession, second_port: int) -> None:
        self.engine = engine
        self.run = f"u{uuid.uuid4().hex[:8]}"
        self.history = History()
        self._second_port = second_port
        self._session = session
        self._started = 0
        self._workers: dict[tuple[str, int], str] = {}
        self.client = TimedClient(session, [engine.url, f"http://{LOOPBACK}:{second_port}"], self.history)

    async def start(self, release: Release) -> None:
        """Start every program of this release; the engine itself has started one ingress and the gateway."""
        extra = {"PAYMENT_ENGINE_HTTP_PORT": str(self._second_port), "PAYMENT_ENGINE_HTTP_INSTANCE": "1"}
        await self.engine.run("ingress-1", ["-m", "streams.cli", "ingress"], {**extra, **release.environment})
        await asyncio.gather(*(self._start_worker(kind, place, release) for kind in WORKERS for place in PLACES))

    async def _start_worker(self, kind: str, place: int, release: Release) -> None:
        # No static member: one that ends for good must leave its group at once, and not when its session is over.
        self._started += 1
        label = f"{kind}-{place}-{release.name}-{self._started}"
        extra = {} if kind == "executor" else {"PAYMENT_ENGINE_STREAM_STATE_DIR": str(self.engine.folder / label)}
        await self.engine.run(label, ["-m", "streams.cli", kind], {**extra, **release.environment})
        self._workers[kind, place] = label

    async def replace_worker(self, kind: str, place: int, release: Release) -> None:
        """Put a worker of this release in the place of one, which then ends in order."""
        before = self._workers[kind, place]
        await self._start_worker(kind, place, release)
        code = await self.engine.components[before].stop()
        assert code == 0, f"{before} ended with {code}\n{self.engine.components[before].log_tail()}"
        del self.engine.components[before]

    async def kill_worker(self, kind: str, place: int, release: Release) -> None:
        """Kill a worker, and start one of this release in its place."""
        before = self._workers[kind, place]
        await self.engine.components.pop(before).kill()
        await self._start_worker(kind, place, release)

    async def replace_ingress(self, name: str, release: Release) -> None:
        """Stop an ingress in order and start it on its port as one of this release."""
        component = self.engine.components[name]
        assert await component.stop() == 0, component.log_tail()
        component.environment = {**component.environment, **release.environment}
        await component.start()

    async def roll(self, release: Release) -> None:
        """Replace every program by one of this release, one after the other: those of one place, then the others."""
        for place, ingress in zip(PLACES, ("ingress", "ingress-1"), strict=True):
            for kind in WORKERS:
                await self.replace_worker(kind, place, release)
            await self.replace_ingress(ingress, release)

    @contextlib.asynccontextmanager
    async def load(self, *, seed: int) -> AsyncIterator[None]:
        """Let clients shop while the body runs, and wait for what they have begun."""
        stopping = asyncio.Event()
        number = len(self.history.requests)

        async def shop(shopper: Shopper) -> None:
            while not stopping.is_set():
                await shopper.one_order()

        async with asyncio.TaskGroup() as group:
            for each in range(SHOPPERS):
                shopper = Shopper(
                    self.client, seed=seed * 1000 + each, run=self.run, name=f"c{number}-{each}", origins=ORIGINS,
                    habits=HABITS,
                )  # fmt: skip
                group.create_task(shop(shopper))
            try:
                yield
            finally:
                stopping.set()

    async def start_one_more(self, kind: str, release: Release) -> Component:
        """Start a worker beside those that there are. Raises: ComponentFailedError."""
        await self._start_worker(kind, len(self._workers), release)
        return self.engine.components[list(self._workers.values())[-1]]

    async def command(self, release: Release, *words: str) -> str:
        """Run a command of this release; return what it prints, once it has ended with 0."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", *words,
            env={**os.environ, **self.engine.environment(), **release.environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, errors = await asyncio.wait_for(process.communicate(), COMMAND_LIMIT_S)
        assert process.returncode == 0, errors.decode()
        return told.decode()

    async def answered(self, more: int) -> None:
        """Return once so many more wishes were answered. Raises: TimeoutError."""
        enough = len(self.client.waited) + more
        await until(lambda: len(self.client.waited) >= enough, timeout_s=ANSWERS_LIMIT_S)

    def unanswered(self) -> list[str]:
        """Return the wishes whose clients gave up."""
        return [f"{each.path} of {each.order_id}" for each in self.history.requests if not each.done]


def p99_s(waited: Sequence[Waited]) -> float:
    """Return how long all but a hundredth of the clients waited at most, seconds."""
    ordered = sorted(each.seconds for each in waited)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


@contextlib.asynccontextmanager
async def running(bootstrap_servers: str, release: Release, folder: Path) -> AsyncIterator[Fleet]:
    """Yield a fleet of this release that serves; afterwards everything has ended."""
    engine = LocalEngine(
        folder=folder,
        bootstrap_servers=bootstrap_servers,
        environment={**ENVIRONMENT, **release.environment},
        orders_workers=0,
        claims_workers=0,
        executors=0,
        mock_arguments=("--delay-ms", "300"),
    )
    async with engine, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        fleet = Fleet(engine, session, free_port())
        await fleet.start(release)
        yield fleet
