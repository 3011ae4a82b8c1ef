"""Serves the application: the socket, the limits of connections, and the orderly stop.

Called by the programs of the ingress and of the desk, and by the tests in the same way. The order of a start: replies
are read before HTTP opens, so that the first command can be answered. The order of a stop: no new requests, those that
wait get DRAIN_TIMEOUT_S for their answers, the rest is told 202 (their commands are durable), then all is closed.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

from http_ingress.app import SAFE_HEADERS
from http_ingress.ingress import Stopping
from http_ingress.limits import (
    DRAIN_TIMEOUT_S,
    KEEP_ALIVE_TIMEOUT_S,
    LINGERING_BYTES,
    LINGERING_TIME_S,
    MAX_BACKLOG,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_REQUEST_LINE_BYTES,
    READ_BUFFER_BYTES,
    RELEASED_ANSWER_TIMEOUT_S,
)
from http_ingress.replies.waiters import Waiters
from http_ingress.representation.answers import of_error
from http_ingress.representation.problems import ProblemCode, ProblemError
from schemas.misconfigured import MisconfiguredError
from streams.telemetry.health import AnyHostRunner

_log = structlog.get_logger(__name__)
_BAD_REQUEST: Final = 400
_CONTINUE: Final = "100-continue"
_Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Connection(RequestHandler):
    """aiohttp's connection, with problems where it answers by itself: bytes that are not a request.

    What still comes of a body that was refused unread is thrown away unparsed, up to LINGERING_TIME_S and
    LINGERING_BYTES: parsing it (a chunk for every byte, say) would cost a stranger nothing and everybody else the
    loop's time.
    """

    __slots__ = ("_discarded_bytes", "_discards")

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self._discards = False
        self._discarded_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if not self._discards:
            super().data_received(data)
            return
        self._discarded_bytes += len(data)
        if self._discarded_bytes > LINGERING_BYTES:
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer. After it nothing is parsed if the connection is to be closed and the body was not read."""
        sent = await super().finish_response(request, resp, start_time)
        self._discards = resp.keep_alive is False and not request.content.is_eof()
        return sent

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- aiohttp's text quotes what came: not passed on
    ) -> web.StreamResponse:
        """Return the problem, and close the connection: where its next request starts is unknown."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; no other can be sent")
        code = ProblemCode.BAD_REQUEST if status == _BAD_REQUEST else ProblemCode.INTERNAL
        _log.info("request_malformed", http_status=status, error_type=type(exc).__name__)
        response = _problem_response(ProblemError(code))
        response.force_close()
        return response


def _problem_response(problem: ProblemError) -> web.Response:
    answer = of_error(problem)
    headers = {**SAFE_HEADERS, **answer.headers, "Content-Type": answer.content_type}
    return web.Response(status=answer.status, body=answer.encoded(), headers=headers)


def _refusing_expectations(handle: _Handle) -> _Handle:
    """Return the handler of all requests, with a 417 for an expectation that nobody here can meet.

    aiohttp gives one of its own on a path that is none of ours, which quotes what was sent.
    """

    async def handled(request: web.BaseRequest) -> web.StreamResponse:
        expectation = request.headers.get("Expect", _CONTINUE)
        if request.version >= HttpVersion11 and expectation.lower() != _CONTINUE:
            return _problem_response(ProblemError(ProblemCode.EXPECTATION_FAILED))
        return await handle(request)

    return handled


class _Connections(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(AnyHostRunner):
    """aiohttp's runner, making our connections; `test_http_protocol.py` fails when aiohttp changes here."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        made.__class__ = _Connections
        made.request_handler = _refusing_expectations(made.request_handler)
        return made


def reserve_address(host: str, port: int, *, group: str = "HTTP") -> socket.socket:
    """Return a socket that holds this address and does not listen yet; close it. Port 0 takes a free one.

    Args:
        host: the address.
        port: its port.
        group: of the settings that say them, for the error.

    Raises:
        MisconfiguredError: The address cannot be had: taken, not of this machine, or no address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is too long
        raise MisconfiguredError(f"PAYMENT_ENGINE_{group}_HOST: is no address ({error})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise MisconfiguredError(
            f"PAYMENT_ENGINE_{group}_HOST and PAYMENT_ENGINE_{group}_PORT: {host}:{port} cannot be had "
            f"({error.strerror})"
        ) from error
    return listener


class Served(Protocol):
    """Whose requests are served: what an orderly stop needs of it."""

    @property
    def waiters(self) -> Waiters:
        """Its requests that wait for replies."""
        ...

    @property
    def stopping(self) -> Stopping:
        """Where it is told to stop."""
        ...


class HttpServer:
    """One instance, serving."""

    def __init__(self, served: Served, app: web.Application) -> None:
        """Serve `app`, which works with the parts of `served`. Nothing is opened yet."""
        self._served = served
        self._runner = _Runner(
            app,
            access_log=None,  # the outermost middleware logs
            keepalive_timeout=KEEP_ALIVE_TIMEOUT_S,
            lingering_time=LINGERING_TIME_S,
            max_line_size=MAX_REQUEST_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # by default aiohttp inflates a body before anybody asked who sends it
            shutdown_timeout=RELEASED_ANSWER_TIMEOUT_S,
        )
        self._sites: list[web.BaseSite] = []

    async def start(self, *, host: str, port: int, group: str = "HTTP") -> int:
        """Listen. Returns the port. Raises: MisconfiguredError when the address cannot be had (`reserve_address`)."""
        await self._runner.setup()
        listener = reserve_address(host, port, group=group)
        site = web.SockSite(self._runner, listener, backlog=MAX_BACKLOG)
        await site.start()
        self._sites.append(site)
        bound: int = listener.getsockname()[1]
        return bound

    async def stop(self, *, drain_timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Refuse new requests, let those that wait be answered, release the rest with a 202, close. Idempotent."""
        self._served.stopping.begun = True
        for site in self._sites:
            await site.stop()
        self._sites.clear()
        if not await self._drained(drain_timeout_s):
            _log.warning("drain_ended", abandoned=len(self._served.waiters))
        self._served.waiters.release_all()
        await self._runner.cleanup()

    async def _drained(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._served.waiters.none_left()
        except TimeoutError:
            return False
        return True
