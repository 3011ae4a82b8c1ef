"""A component's own port: `/healthz`, `/readyz` and `/metrics`, for Kubernetes and Prometheus, never for merchants.

Started by each program before it waits for anything, on the component's own event loop, and stopped last. So
`/healthz` answers for as long as that loop turns, whatever Kafka does, and falls silent when it hangs. What keeps a
component from being ready it says itself, by the functions it gives.

The names of the paths are Kubernetes'. The server takes no bodies and holds little: it is asked a few times a minute.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from yarl import URL

from schemas.misconfigured import MisconfiguredError

MAX_BACKLOG: Final = 16
"""Connections that may wait to be accepted: a few probes and scrapers."""

KEEP_ALIVE_S: Final = 30.0
"""How long an idle connection is kept; Prometheus comes back every 15 s by default."""

SHUTDOWN_TIMEOUT_S: Final = 1.0
"""Longest wait at a stop for an answer under way, which takes milliseconds."""

PAGE_LIFE_S: Final = 0.5
"""How long a rendered page is shown again: it costs some 5 ms of the loop, which no number of scrapers multiplies."""

_JSON: Final = "application/json"
_UNAVAILABLE: Final = 503
_NOWHERE: Final = URL("/")  # where no page of ours is

_Make = Callable[..., web.BaseRequest]


class AnyHostRunner(web.AppRunner):
    """aiohttp's runner, for a target whose host nobody can read (bad IDNA): it is a path that is not there.

    aiohttp lets the error end its task without an answer, and the connection then stays open for ever.
    `test_http_protocol.py` fails when aiohttp changes here.
    """

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        made.request_factory = _reading_any_host(made.request_factory)
        return made


def _reading_any_host(make: _Make) -> _Make:
    def made(message: RawRequestMessage, *positional: Any) -> web.BaseRequest:
        try:
            return make(message, *positional)
        except ValueError:
            return make(message._replace(url=_NOWHERE, should_close=True), *positional)

    return made


class Readiness:
    """What keeps a program from being ready, from its start to its end: what was said last holds."""

    def __init__(self, fault: str) -> None:
        self.wait_for(fault)

    def wait_for(self, fault: str) -> None:
        """Say that the program is not ready, and why."""
        self.follow(lambda: (fault,))

    def follow(self, faults: Callable[[], tuple[str, ...]], *, notes: Callable[[], tuple[str, ...]] = tuple) -> None:
        """Ask these from now on, whenever somebody wants to know: `HealthServer` says what they return."""
        self._faults, self._notes = faults, notes

    def faults(self) -> tuple[str, ...]:
        """Return what keeps the program from being ready, for a person; empty: nothing does."""
        return self._faults()

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should see to, though the program is ready."""
        return self._notes()


class HealthServer:
    """Serves one process's health. Lives on one event loop; start it once."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        faults: Callable[[], tuple[str, ...]],
        notes: Callable[[], tuple[str, ...]] = tuple,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a server that is not started.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            faults: What keeps the component from being ready, for a person; empty: ready. Quick, and never raises.
            notes: What an operator should see to, though it is ready; empty: nothing. As `faults`.
            monotonic_s: Monotonic seconds.
        """
        self._host = host
        self._port = port
        self._faults = faults
        self._notes = notes
        self._monotonic_s = monotonic_s
        self._render: Callable[[], tuple[bytes, str]] = lambda: (b"", "")
        self._page = self._render()
        self._rendered_at_s: float | None = None
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        app.router.add_get("/metrics", self._metrics)
        self._runner = AnyHostRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            auto_decompress=False,  # nobody reads a body here; unpacking one would cost the loop
        )

    async def start(self) -> int:
        """Listen, and begin to keep what this process counts. Returns the port.

        Raises: MisconfiguredError: the address cannot be had. Nothing is left open then.
        """
        from streams.telemetry import exporter  # the SDK: not for a program whose port is switched off

        exporter.install()
        self._render = exporter.page
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=MAX_BACKLOG).start()
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            await self._runner.cleanup()
            raise MisconfiguredError(
                f"PAYMENT_ENGINE_HEALTH_HOST and PAYMENT_ENGINE_HEALTH_PORT: {self._host}:{self._port} cannot be had "
                f"({_reason(error)}); another port is needed where one is taken, and port 0 serves none"
            ) from error
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close the port. Safe to call twice, and without a start."""
        await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def _readiness(self, _: web.Request) -> web.Response:
        faults = self._faults()
        said = {"status": "not ready" if faults else "ready", "faults": faults, "notes": self._notes()}
        return _json(said, status=_UNAVAILABLE if faults else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        now_s = self._monotonic_s()
        if self._rendered_at_s is None or now_s - self._rendered_at_s >= PAGE_LIFE_S:
            self._page, self._rendered_at_s = self._render(), now_s
        body, content_type = self._page
        return web.Response(body=body, headers={"Content-Type": content_type})


def _reason(error: OSError | UnicodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not a host's name"


def _json(said: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(said), content_type=_JSON, headers={"Cache-Control": "no-store"}
    )
