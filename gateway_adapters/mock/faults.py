"""How the server misbehaves on the socket: silence, resets, a proxy's page. Each returns in bounded time."""

import asyncio
import socket
import struct
from typing import Final

from aiohttp import web

MAX_SILENCE_S: Final = 120.0
DISCONNECT_CHECK_S: Final = 0.1

HTML: Final = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def bad_gateway() -> web.Response:
    """Return the page a proxy shows when what is behind it does not answer."""
    return web.Response(status=502, text=HTML, content_type="text/html")


def reset(request: web.Request) -> web.Response:
    """Break the connection with a TCP reset; the response that is returned can reach nobody."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # Lingering for zero seconds makes close() send RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)


async def silence(request: web.Request, stopping: asyncio.Event) -> web.Response:
    """Answer nothing until the caller hangs up, the server stops or MAX_SILENCE_S are over; then close."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + MAX_SILENCE_S
    while loop.time() < until_s and not stopping.is_set():
        if request.transport is None or request.transport.is_closing():
            break
        try:
            # aiohttp tells a handler nothing when its caller goes away, so it looks.
            async with asyncio.timeout(DISCONNECT_CHECK_S):
                await stopping.wait()
        except TimeoutError:
            continue
    return reset(request)


def cut(body: bytes) -> web.Response:
    """Return 200 with half of the body, as valid HTTP."""
    return web.Response(status=200, body=body[: len(body) // 2], content_type="application/json")
