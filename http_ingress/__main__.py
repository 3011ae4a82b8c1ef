"""`python -m http_ingress`: one instance of the ingress, until SIGTERM or SIGINT.

Prints `READY ingress <port>` once it serves. A setting that is wrong, or a broker that cannot be reached, ends it with
code 2 and one line that says why; what supervises it starts it again.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Final

import structlog

from http_ingress.compose import compose
from http_ingress.replies.waiters import FeedLostError
from schemas.misconfigured import MisconfiguredError
from streams import bootstrap, settings
from streams.kafka_clients.connection import connection_of
from streams.kafka_clients.errors import LogError
from streams.settings import Settings
from streams.telemetry import logs
from streams.telemetry.health import Readiness
from streams.topology import INGRESS

EXIT_UNABLE: Final = 2
_log = structlog.get_logger(__name__)


async def serve(loaded: Settings, readiness: Readiness) -> None:
    """Run one instance until a signal. Raises: MisconfiguredError, LogError, FeedLostError, OSError."""
    accounts = settings.accounts_with_webhook_secrets(loaded)
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    codec = await asyncio.to_thread(bootstrap.codec_of, loaded)
    gateways = bootstrap.gateways_of(loaded, accounts)
    program = compose(
        loaded,
        connection=connection_of(loaded.kafka, client_id=INGRESS.client_id),
        codec=codec,
        webhooks=gateways,
    )
    try:
        port = await program.start()
        readiness.follow(program.faults, notes=program.notes)
        if loaded.http.dev:
            _log.warning("dev_mode", reason="no API keys: anybody may act for any origin")
        _log.info("ready", host=loaded.http.host, port=port)
        sys.stdout.write(f"READY {INGRESS.name} {port}\n")
        sys.stdout.flush()
        await told_to_stop.wait()
    finally:
        await program.stop()
        for gateway in gateways.values():
            await gateway.close()


async def _run(loaded: Settings) -> None:
    async with bootstrap.health_served(loaded, INGRESS) as readiness:
        await serve(loaded, readiness)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def main() -> int:
    """Run the program. Returns the exit code."""
    argparse.ArgumentParser(
        prog="payment-engine ingress",
        description="One instance of the HTTP ingress. Its settings are PAYMENT_ENGINE_HTTP_… in the environment.",
    ).parse_args()
    try:
        loaded = settings.load()
        logs.configure(component=INGRESS.name, level=loaded.telemetry.log_level, form=loaded.telemetry.log_format)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(loaded))
    except (MisconfiguredError, LogError, FeedLostError, OSError) as error:
        sys.stderr.write(f"{INGRESS.name} cannot start: {error}\n")
        return EXIT_UNABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
