"""A TCP proxy that misbehaves on request: what stands between the engine and its brokers, and its gateway.

Used by `world`, switched by `kinds.network`. It copies bytes and knows no protocol. Loopback only.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0
RST_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER for zero seconds: close() sends RST instead of FIN."""


class FaultyProxy:
    """Forwards `port` to wherever `target` says now. All switches act on open connections, too."""

    def __init__(self, target: Callable[[], int], *, port: int, seed: int = 0) -> None:
        """`target` returns the loopback port that is forwarded to; `port` is listened on from `start` on."""
        self._target = target
        self.port = port
        self.delay_s = 0.0
        """How long each piece of bytes is held back, each direction."""
        self.reset_chance = 0.0
        """How likely each piece of bytes resets its connection instead of being forwarded, 0 to 1."""
        self._chance = random.Random(seed)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. Raises: OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, limit=CHUNK_BYTES)

    async def stop(self) -> None:
        """Refuse new connections and reset the open ones. Safe to call twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._open.set()
        self.reset_all()
        if self._links:
            await asyncio.wait(tuple(self._links), timeout=STOP_TIMEOUT_S)

    def swallow(self) -> None:
        """Forward nothing more, and close nothing: a network that has gone silent."""
        self._open.clear()

    def forward(self) -> None:
        """Forward again, what was held back included; no delay, no resets."""
        self.delay_s = 0.0
        self.reset_chance = 0.0
        self._open.set()

    def reset_all(self) -> int:
        """Reset every open connection; returns how many ends."""
        count = len(self._writers)
        for writer in tuple(self._writers):
            _reset(writer)
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self._writers.add(writer)
        try:
            await self._open.wait()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target(), limit=CHUNK_BYTES)
        except (OSError, TimeoutError):
            _reset(writer)
        else:
            self._writers.add(far_writer)
            try:
                await self._link(reader, writer, far_reader, far_writer)
            finally:
                self._writers.discard(far_writer)
        finally:
            self._writers.discard(writer)
            self._links.discard(link)

    async def _link(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        ways = {
            asyncio.ensure_future(self._copy(reader, far_writer)),
            asyncio.ensure_future(self._copy(far_reader, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (writer, far_writer):
                with contextlib.suppress(OSError, RuntimeError):
                    each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until either end closes: every connection is bounded by its client's own time-outs."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)  # the fault itself
                await self._open.wait()
                if self.reset_chance and self._chance.random() < self.reset_chance:
                    _reset(writer)
                    return
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    raw = transport.get_extra_info("socket")
    if raw is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    transport.abort()
