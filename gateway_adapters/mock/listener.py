"""The Mock's open port, which can be closed for a while: the only way to be refused is that nobody listens."""

import asyncio
from typing import Final

from aiohttp import web

SHUTDOWN_TIMEOUT_S: Final = 2.0
BACKLOG: Final = 2048
MAX_CLOSED_MS: Final = 600_000


class Listener:
    """One port on one address. The port stays the same over a closure."""

    def __init__(self, runner: web.AppRunner, *, host: str, port: int) -> None:
        self._runner = runner
        self._host = host
        self.port = port
        self._site: web.TCPSite | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen. Raises: OSError when the port is taken."""
        self._site = web.TCPSite(self._runner, self._host, self.port, backlog=BACKLOG, reuse_address=True)
        await self._site.start()
        self.port = self._site.port

    def close_for(self, duration_ms: int) -> None:
        """Refuse connections for so long, beginning now; connections that wait for a request are closed too."""
        if self._reopening is None or self._reopening.done():
            self._reopening = asyncio.get_running_loop().create_task(self._closed_for(duration_ms))

    async def stop(self) -> None:
        """Cancel a closure and stop listening."""
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.wait([self._reopening])
        await self._close()

    async def _closed_for(self, duration_ms: int) -> None:
        await self._close()
        await asyncio.sleep(duration_ms / 1000)
        await self.open()

    async def _close(self) -> None:
        site, self._site = self._site, None
        if site is None:
            return
        await site.stop()
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()  # closes what is idle; a request under way is still answered, and then closed
