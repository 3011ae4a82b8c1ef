"""The embedded broker as a program: `payment-engine broker`, for `make run` and for tests that kill clients.

Runs inside the shell of all programs (`streams.cli`).
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

from schemas.misconfigured import MisconfiguredError
from streams.addresses import MAX_PORT
from streams.development.embedded_broker.broker import EmbeddedBroker, NotLoopbackError

_NOTICE: Final = "embedded broker: development only, keeps nothing, is not Kafka"


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options in these command line arguments. Raises: SystemExit, with a usage line, on a bad one."""
    parser = argparse.ArgumentParser(prog="payment-engine broker", description=_NOTICE)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes any free port")
    parser.add_argument("--partitions", type=int, default=8, help="of a topic created without a count (default 8)")
    parser.add_argument("--auto-create-topics", action="store_true", help="create topics when they are first asked for")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.port <= MAX_PORT:
        parser.error(f"argument --port: must be 0 to {MAX_PORT}")  # uvloop would listen on what is left of it
    return chosen


async def serve(options: argparse.Namespace, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
    """Serve until the event is set. `ready` is told the port once it listens.

    Raises:
        MisconfiguredError: the address is not of this machine alone, or cannot be had.
    """
    try:
        broker = EmbeddedBroker(
            host=options.host,
            port=options.port,
            default_partitions=options.partitions,
            auto_create_topics=options.auto_create_topics,
        )
        address = await broker.start()
    except NotLoopbackError as error:
        raise MisconfiguredError(f"--host {options.host}: {error}") from error
    except (OSError, OverflowError) as error:
        raise MisconfiguredError(
            f"the embedded broker cannot listen on {options.host}:{options.port}: {error}"
        ) from error
    sys.stderr.write(f"{_NOTICE}; listening on {address}\n")
    ready(int(address.rpartition(":")[2]))
    try:
        await stopping.wait()
    finally:
        await broker.stop()
