"""The Mock gateway as a process: `python -m gateway_adapters.mock --port 0 --ledger mock.sqlite [--webhook-url …]`.

Prints `READY mock-gateway <port>` on its own line once it listens. SIGTERM and SIGINT stop it cleanly; kill -9 loses
nothing that was answered. Listens on the loopback address unless told otherwise: it has no authentication.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from gateway_adapters.mock import latency
from gateway_adapters.mock.control import Control
from gateway_adapters.mock.listener import SHUTDOWN_TIMEOUT_S, Listener
from gateway_adapters.mock.server import DEFAULT_DELAY_MS, Server, ServerSettings
from gateway_adapters.mock.wire import MAX_BODY_BYTES


async def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, in the main thread's event loop.

    Raises:
        OSError: the port is taken.
        sqlite3.Error: the ledger cannot be opened.
    """
    server = Server(settings)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    listener = Listener(runner, host=settings.host, port=settings.port)
    server.add_routes(app)
    Control(server, listener).add_routes(app)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stopping.set)
    try:
        await runner.setup()
        await listener.open()
        server.action_base = f"{settings.public_url or f'http://{settings.host}:{listener.port}'}/actions"
        server.clockwork.start()
        sys.stdout.write(f"READY mock-gateway {listener.port}\n")
        sys.stdout.flush()
        await server.stopping.wait()
    finally:
        server.stopping.set()
        await listener.stop()
        await server.clockwork.stop()
        await runner.cleanup()
        await server.storage.close()


def parsed(arguments: Sequence[str]) -> ServerSettings:
    """Return the settings in these command line arguments. Raises: SystemExit, with a usage line, on a bad one."""
    parser = argparse.ArgumentParser(prog="mock-gateway", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 (default): a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--public-url", default=None, help="what payers reach it by (default: by host and port)")
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file; made when absent, else continued")
    parser.add_argument("--webhook-url", default=None, help="where notices are posted (default: nowhere)")
    parser.add_argument("--webhook-secret", default=ServerSettings.__dataclass_fields__["webhook_secret"].default)
    parser.add_argument(
        "--latency", type=latency.parse, default=latency.Fixed(ms=0), help="fixed:MS, lognormal:P50:P99"
    )
    parser.add_argument("--delay-ms", type=int, default=DEFAULT_DELAY_MS, help="until what is pending is decided")
    parser.add_argument("--announce-all", action="store_true", help="send notices about what was final at once, too")
    parser.add_argument("--seed", type=int, default=0, help="of the latencies")
    chosen = parser.parse_args(arguments)
    return ServerSettings(
        ledger=chosen.ledger,
        host=chosen.host,
        port=chosen.port,
        public_url=chosen.public_url,
        webhook_url=chosen.webhook_url,
        webhook_secret=chosen.webhook_secret,
        latency=chosen.latency,
        delay_ms=chosen.delay_ms,
        announce_all=chosen.announce_all,
        seed=chosen.seed,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the process."""
    asyncio.run(serve(parsed(sys.argv[1:] if arguments is None else arguments)))


if __name__ == "__main__":
    main()
