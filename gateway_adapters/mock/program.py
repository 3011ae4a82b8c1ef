"""The Mock gateway as a program: `payment-engine mock-gateway --port 0 --ledger mock.sqlite [--webhook-url …]`.

Runs inside the shell of all programs (`streams.cli`), which finds it by this module's name. kill -9 loses nothing that
was answered. Listens on the loopback address unless told otherwise: it has no authentication.
"""

import argparse
import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway_adapters.mock import accounts, latency
from gateway_adapters.mock.control import Control
from gateway_adapters.mock.listener import SHUTDOWN_TIMEOUT_S, Listener
from gateway_adapters.mock.server import DEFAULT_DELAY_MS, Server, ServerSettings
from gateway_adapters.mock.wire import MAX_BODY_BYTES
from schemas.misconfigured import MisconfiguredError

MAX_PORT: Final = 65_535


async def serve(settings: ServerSettings, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
    """Serve until the event is set. `ready` is told the port once it listens.

    Raises:
        MisconfiguredError: the address cannot be had, the ledger cannot be opened, or accounts contradict each other.
    """
    try:
        server = Server(settings, stopping)
    except ValueError as error:
        raise MisconfiguredError(f"--accounts: {error}") from error
    except sqlite3.Error as error:
        raise MisconfiguredError(f"--ledger {settings.ledger}: {error}") from error
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    listener = Listener(runner, host=settings.host, port=settings.port)
    server.add_routes(app)
    Control(server, listener).add_routes(app)
    try:
        await runner.setup()
        await _open(listener, settings)
        server.action_base = f"{settings.public_url or f'http://{settings.host}:{listener.port}'}/actions"
        server.clockwork.start()
        ready(listener.port)
        await stopping.wait()
    finally:
        stopping.set()
        await listener.stop()
        await server.clockwork.stop()
        await runner.cleanup()
        await server.storage.close()


async def _open(listener: Listener, settings: ServerSettings) -> None:
    try:
        await listener.open()
    except OSError as error:
        raise MisconfiguredError(f"--host {settings.host} --port {settings.port}: {error.strerror or error}") from error


def parsed(arguments: Sequence[str]) -> ServerSettings:
    """Return the settings in these command line arguments. Raises: SystemExit, with a usage line, on a bad one."""
    parser = argparse.ArgumentParser(prog="payment-engine mock-gateway", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 (default): a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--public-url", default=None, help="what payers reach it by (default: by host and port)")
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file; made when absent, else continued")
    parser.add_argument("--webhook-url", default=None, help="where notices are posted (default: nowhere)")
    parser.add_argument("--webhook-secret", default=ServerSettings.__dataclass_fields__["webhook_secret"].default)
    parser.add_argument(
        "--accounts",
        type=Path,
        default=None,
        help="JSON file: a list of {name, api_key, webhook_url, webhook_secret} (default: one account, open to all)",
    )
    parser.add_argument(
        "--latency", type=latency.parse, default=latency.Fixed(ms=0), help="fixed:MS, lognormal:P50:P99"
    )
    parser.add_argument("--delay-ms", type=int, default=DEFAULT_DELAY_MS, help="until what is pending is decided")
    parser.add_argument("--announce-all", action="store_true", help="send notices about what was final at once, too")
    parser.add_argument("--seed", type=int, default=0, help="of the latencies")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.port <= MAX_PORT:
        parser.error(f"argument --port: must be 0 to {MAX_PORT}")  # uvloop would listen on what is left of it
    try:
        served = () if chosen.accounts is None else accounts.read(chosen.accounts)
    except ValueError as error:
        parser.error(f"argument --accounts: {error}")
    return ServerSettings(
        ledger=chosen.ledger,
        host=chosen.host,
        port=chosen.port,
        public_url=chosen.public_url,
        webhook_url=chosen.webhook_url,
        webhook_secret=chosen.webhook_secret,
        accounts=served,
        latency=chosen.latency,
        delay_ms=chosen.delay_ms,
        announce_all=chosen.announce_all,
        seed=chosen.seed,
    )
