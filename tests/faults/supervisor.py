"""Starts again what has ended, as Kubernetes, Compose or systemd would, and counts how often.

Used by `world` (a component may be held down, or ended on purpose) and by the figures.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from streams.development.local_engine import READY_TIMEOUT_S, Component, ComponentFailedError, LocalEngine

LOOK_EVERY_S = 0.2
STARTS_MAX = 5_000
"""Starts of components in one run; more is a worker that never stays up."""


class Supervisor:
    """Watches every component of one engine, those that are added later too."""

    def __init__(
        self, engine: LocalEngine, *, back_off_s: float = 0.0, ready_timeout_s: float = READY_TIMEOUT_S
    ) -> None:
        """Watch nobody yet.

        Args:
            engine: whose components.
            back_off_s: between the end of a component and its next start, seconds.
            ready_timeout_s: how long a start may take before it is ended and tried again, seconds.
        """
        self.ended: Counter[str] = Counter()
        """How often each component ended unasked for, attempts to start included."""
        self.last_words: dict[str, str] = {}
        """The end of a component's log at its last end of that kind."""
        self._engine = engine
        self._back_off_s = back_off_s
        self._ready_timeout_s = ready_timeout_s
        self._held: set[str] = set()
        self._meant: set[tuple[str, int]] = set()
        self._starts: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch while the body runs. Raises: ComponentFailedError, when components keep ending."""
        watch = asyncio.create_task(self._watch(), name="supervisor")
        try:
            yield
            if watch.done():
                watch.result()
        finally:
            tasks = [watch, *self._starts.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while self.ended.total() < STARTS_MAX:
            for name, component in list(self._engine.components.items()):
                if not component.running and name not in self._held and not self._is_starting(name):
                    self._starts[name] = asyncio.create_task(self._start_again(component))
            await asyncio.sleep(LOOK_EVERY_S)  # a process sets no event of ours
        raise ComponentFailedError(f"components keep ending: {self.ended}")

    def _is_starting(self, name: str) -> bool:
        starting = self._starts.get(name)
        return starting is not None and not starting.done()

    async def _start_again(self, component: Component) -> None:
        if component.process is not None and (component.name, component.process.pid) not in self._meant:
            self.ended[component.name] += 1
            self.last_words[component.name] = component.log_tail()
        await asyncio.sleep(self._back_off_s)  # as a real supervisor waits
        with contextlib.suppress(ComponentFailedError):  # tried again, as a supervisor does
            await component.start(ready_timeout_s=self._ready_timeout_s)

    def mean_to_end(self, component: Component) -> None:
        """Say that the process is about to be ended on purpose: it is started again, and not counted."""
        if component.process is not None:
            self._meant.add((component.name, component.process.pid))

    @contextlib.asynccontextmanager
    async def held_down(self, name: str) -> AsyncIterator[None]:
        """Start this one not again for so long; one that is starting is ready, or has ended, when this begins."""
        self._held.add(name)
        starting = self._starts.get(name)
        if starting is not None:
            await asyncio.wait({starting})
        try:
            yield
        finally:
            self._held.discard(name)

    def is_held_down(self, name: str) -> bool:
        """Whether nobody starts this one now."""
        return name in self._held

    def is_up(self, name: str) -> bool:
        """Whether a component is ready, as far as one knows without asking it."""
        return self._engine.components[name].running and not self._is_starting(name)
