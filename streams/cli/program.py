"""The one shell that every program of the engine runs in.

Called by `programs` with what composes a component: `streams.bootstrap`, the ingress, a gateway's server, the embedded
broker. It owns what all have in common, so that it stands once: settings, logs, the event loop, signals, the health
port, the codec, the wait for a broker, the topics, `READY <component> [<port>]` on standard output. `exits` turns what
comes out of it into an exit code.

The order of a start puts first what an operator has to mend, and last what time mends: settings, the health port, the
component's own judgement of its settings (`compose`), the registry, a broker that answers, topics, the release that the
log is written as, the component.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol, TypeVar

import structlog

from schemas.messages import MessageCodec
from schemas.schema_ids import SchemaIds
from streams.cli.loop import announce, run_until_told, set_up_logs
from streams.kafka_clients.admin import sizes_of
from streams.kafka_clients.connection import connection_of
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.start_check import check_start
from streams.kafka_clients.upgrade_follower import UpgradeFollower
from streams.operator_tools.reachability import wait_for_broker
from streams.operator_tools.schema_files import wait_for_ids
from streams.settings import Settings, load
from streams.telemetry.health import HealthServer, Readiness
from streams.topology import COMPONENTS, Component

CHECK_AGAIN_S = 2.0
"""Between two looks at a cluster that does not tell whether a component may start."""

Answer = TypeVar("Answer")
Ready = Callable[[int], None]
"""Called once when the program serves, with its port; 0: it serves none."""


log = structlog.get_logger(__name__)


class Program(Protocol):
    """A component that is put together, and not started."""

    def faults(self) -> tuple[str, ...]:
        """Return why it is not ready to serve now; nothing: it is. Quick, and never raises."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know although it serves. Quick, and never raises."""
        ...

    async def run(self, stopping: asyncio.Event, ready: Ready) -> None:
        """Serve until the event is set, then stop in order. Raises: what ended it."""
        ...


Compose = Callable[[Settings, MessageCodec], Program]
"""Puts a component together, judges its settings, opens nothing; safe to call twice. Raises: MisconfiguredError."""


def run_program(component: str, compose: Compose, *, accept_loss: bool = False) -> None:
    """Run a component of `topology.COMPONENTS` in this process until SIGTERM, SIGINT or a failure.

    Args:
        component: its name.
        compose: puts it together.
        accept_loss: a person has looked at what was deleted unread of its topics; go on from what is left.

    Raises:
        MisconfiguredError: a setting, a right or a topic is wrong; nothing was started.
        RecordsLostError: records were deleted before its group had read them, and that is not accepted.
        UnreachableError: no broker answers in time, or the registry does not.
        Exception: what ended the component.
    """
    settings = load()
    set_up_logs(component, settings.telemetry)
    life = _Life(COMPONENTS[component], settings, compose, accept_loss=accept_loss)
    run_until_told(life.run)


class _Life:
    """One run of a component, from its settings to its end."""

    def __init__(self, component: Component, settings: Settings, compose: Compose, *, accept_loss: bool) -> None:
        self._component = component
        self._settings = settings
        self._compose = compose
        self._accept_loss = accept_loss
        self._connection = connection_of(settings.kafka, client_id=component.client_id)
        self._readiness = Readiness("starting")

    async def run(self, stopping: asyncio.Event) -> None:
        """Live until told to stop; the component's own port says meanwhile what it waits for."""
        async with self._health_served():
            prepared = await self._prepare(stopping)
            if prepared is not None and not stopping.is_set():
                await self._serve(*prepared, stopping)
            self._readiness.wait_for("stopping")

    async def _serve(self, program: Program, codec: MessageCodec, stopping: asyncio.Event) -> None:
        """Run the component, which writes as the log is written. Raises: what ended it; OutdatedError."""
        upgrades = UpgradeFollower(self._connection, codec)
        await upgrades.start()
        watch = asyncio.create_task(upgrades.watch())
        watch.add_done_callback(lambda ended: None if ended.cancelled() else stopping.set())
        try:
            self._readiness.follow(program.faults, notes=program.notes)
            await program.run(stopping, self._announce)
        finally:
            watch.cancel()
            (ended,) = await asyncio.gather(watch, return_exceptions=True)
            await upgrades.stop()
        if isinstance(ended, Exception):
            raise ended

    @contextlib.asynccontextmanager
    async def _health_served(self) -> AsyncIterator[None]:
        """Serve the health port while the body runs, unless it is switched off. Raises: MisconfiguredError."""
        chosen = self._settings.health
        port = self._component.health_port if chosen.port is None else chosen.port
        if port == 0:
            yield
            return
        readiness = self._readiness
        server = HealthServer(host=chosen.host, port=port, faults=readiness.faults, notes=readiness.notes)
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    async def _prepare(self, stopping: asyncio.Event) -> tuple[Program, MessageCodec] | None:
        """Return the component, put together, once a broker and its topics are there; None when told to stop.

        With it what it reads and writes with.
        """
        settings = self._settings
        if settings.registry.url is not None:  # which may be minutes away: what is wrong here is said before that
            self._compose(settings, MessageCodec(SchemaIds.packaged()))
        self._readiness.wait_for("waiting for the registry")
        ids = await _answer_or_stop(lambda: wait_for_ids(settings.registry, say=self._tell), stopping)
        if ids is None:
            return None
        codec = MessageCodec(ids)
        program = self._compose(settings, codec)
        self._readiness.wait_for("waiting for a broker")
        await _answer_or_stop(self._wait_until_the_cluster_lets_start, stopping)
        return program, codec

    def _wait_until_the_cluster_lets_start(self) -> None:
        """Return when a broker answers and the start checks pass; blocking. Raises: as `check_start`."""
        kafka = self._settings.kafka
        give_up_s = time.monotonic() + kafka.start_wait_s
        wait_for_broker(kafka, say=self._tell)
        self._readiness.wait_for("looking at its topics")
        while True:  # until give_up_s
            try:
                return check_start(self._connection, self._component, sizes_of(kafka), accept_loss=self._accept_loss)
            except RetryableError as error:
                if time.monotonic() > give_up_s:
                    raise
                self._tell(f"the cluster does not tell whether this may start ({error}); asking again")
            time.sleep(CHECK_AGAIN_S)

    def _announce(self, port: int) -> None:
        log.info("ready", component=self._component.name, port=port)
        announce(self._component.name, port)

    def _tell(self, what: str) -> None:
        self._readiness.wait_for(what)
        sys.stderr.write(f"{what}\n")


async def _answer_or_stop(question: Callable[[], Answer], stopping: asyncio.Event) -> Answer | None:
    """Return what a blocking question answers, or None once the program is told to stop. Raises: what it raises.

    The thread is one that the process does not wait for at its end, unlike those of `asyncio.to_thread`: a question may
    take minutes.
    """
    answer: Future[Answer] = Future()

    def ask() -> None:
        with contextlib.suppress(InvalidStateError):  # given up
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001 -- raised on where it is awaited
                answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    asked = asyncio.wrap_future(answer)
    stop = asyncio.ensure_future(stopping.wait())
    either: list[asyncio.Future[Any]] = [asked, stop]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return asked.result() if asked.done() else None
    finally:
        stop.cancel()
        asked.cancel()
