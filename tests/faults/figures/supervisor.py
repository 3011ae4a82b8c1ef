"""Starts again what has ended, as Kubernetes, systemd or `payment-engine dev` would, and counts how often."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.local_engine import Component, ComponentFailedError, LocalEngine

RESTART_AFTER_S = 1.0
READY_TIMEOUT_S = 300.0
"""A supervisor does not end what is still starting; a component must give up by itself."""

RESTARTS_MAX = 500


class Supervisor:
    """Watches the workers and the ingress of one engine."""

    def __init__(self, engine: LocalEngine) -> None:
        self.ended: Counter[str] = Counter()
        """How often each component ended by itself, attempts to start included."""
        self._components = [each for name, each in engine.components.items() if name != "mock-gateway"]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch while the body runs."""
        watches = [asyncio.create_task(self._watch(each)) for each in self._components]
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, component: Component) -> None:
        while self.ended[component.name] < RESTARTS_MAX:
            assert component.process is not None
            await component.process.wait()
            self.ended[component.name] += 1
            await asyncio.sleep(RESTART_AFTER_S)  # a supervisor's back-off
            try:
                await component.start(ready_timeout_s=READY_TIMEOUT_S)
            except ComponentFailedError:
                continue
