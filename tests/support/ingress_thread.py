"""An ingress on the engine in memory, on an event loop of its own thread: for test tools that are not asynchronous."""

import asyncio
import threading
from types import TracebackType
from typing import Self

from tests.support.ingress_under_test import running_ingress

START_TIMEOUT_S = 20.0


class IngressThread:
    """Runs an ingress in dev mode while the `with` block lasts."""

    def __init__(self) -> None:
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="ingress under test")

    def __enter__(self) -> Self:
        """Start, and wait until it serves."""
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT_S), "the ingress did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait until it has."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with running_ingress() as running:
            self.url = running.url
            self._ready.set()
            await self._stop.wait()
