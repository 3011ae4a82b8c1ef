"""The one shell that every program of the engine runs in.

Called by `programs` with what composes a component: `streams.bootstrap`, the ingress, the Mock gateway, the embedded
broker. It owns what all have in common, so that it stands once: settings, logs, the event loop, signals, the codec, the
wait for a broker, the topics, `READY <component> [<port>]` on standard output. `exits` turns what comes out of it into
an exit code.

The order of a start puts first what an operator has to mend, and last what time mends: settings, registry, the
component's own judgement of its settings (`compose`), a broker that answers, its topics, the component.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol, TypeVar

from schemas.messages import MessageCodec
from schemas.topics import topic
from streams.cli.loop import announce, run_until_told
from streams.kafka.topic_check import check_topics
from streams.kafka_clients.connection import connection_of
from streams.operator_tools.reachability import wait_for_broker
from streams.operator_tools.schema_files import ids_of
from streams.settings import Settings, load
from streams.telemetry import logs
from streams.topology import COMPONENTS, Component

Answer = TypeVar("Answer")
Ready = Callable[[int], None]
"""Called once when the program serves, with its port; 0: it serves none."""


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
"""Puts a component together, judges its settings, opens nothing. Raises: MisconfiguredError."""


def run_program(component: str, compose: Compose) -> None:
    """Run a component of `topology.COMPONENTS` in this process until SIGTERM, SIGINT or a failure.

    Raises:
        MisconfiguredError: a setting, a right or a topic is wrong; nothing was started.
        UnreachableError: no broker answers in time, or the registry does not.
        Exception: what ended the component.
    """
    settings = load()
    logs.configure(component=component, level=settings.telemetry.log_level, form=settings.telemetry.log_format)
    run_until_told(lambda stopping: _Life(COMPONENTS[component], settings, stopping).run(compose))


class _Life:
    """One run of a component, from its settings to its end."""

    def __init__(self, component: Component, settings: Settings, stopping: asyncio.Event) -> None:
        self._component = component
        self._settings = settings
        self._stopping = stopping
        self._waits_for: str | None = "it starts"
        self._program: Program | None = None

    def faults(self) -> tuple[str, ...]:
        """Return why the component is not ready."""
        if self._stopping.is_set():
            return ("it stops",)
        if self._waits_for is not None:
            return (self._waits_for,)
        return () if self._program is None else self._program.faults()

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know of the component."""
        return () if self._program is None else self._program.notes()

    async def run(self, compose: Compose) -> None:
        """Live; return when told to stop."""
        self._waits_for = "it waits for the registry"
        ids = await _answer_or_stop(lambda: ids_of(self._settings.registry), self._stopping)
        if ids is None:
            return
        self._program = compose(self._settings, MessageCodec(ids))
        self._waits_for = "it waits for a broker"
        await _answer_or_stop(lambda: wait_for_broker(self._settings.kafka, say=self._tell), self._stopping)
        if self._stopping.is_set():
            return
        self._waits_for = "it looks at its topics"
        await self._check_topics()
        self._waits_for = None
        await self._program.run(self._stopping, lambda port: announce(self._component.name, port))

    def _tell(self, what: str) -> None:
        self._waits_for = what
        sys.stderr.write(f"{what}\n")

    async def _check_topics(self) -> None:
        kafka, component = self._settings.kafka, self._component
        options = connection_of(kafka, client_id=component.client_id).aiokafka_options()
        await check_topics(
            bootstrap_servers=str(options.pop("bootstrap_servers")),
            partitions=kafka.partitions,
            topics=[name for name in (*component.reads, *component.writes) if topic(name).co_partitioned],
            security=options,
            wants_leaders=False,  # a partition without a leader is the brokers' matter, and the others can be served
        )


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
