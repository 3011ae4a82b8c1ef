"""`python -m streams.development.embedded_broker`: the embedded broker as a process of its own.

Started by `make run` and by tests that kill clients. Prints `READY <port>` on its own line once it listens; SIGINT
and SIGTERM end it.
"""

import argparse
import asyncio
import logging
import signal
import sys
from typing import Final

from streams.development.embedded_broker.broker import EmbeddedBroker, NotLoopbackError

_NOTICE: Final = "embedded broker: development only, keeps nothing, is not Kafka"
_USAGE_ERROR: Final = 2
_START_FAILED: Final = 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m streams.development.embedded_broker", description=_NOTICE)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes any free port")
    parser.add_argument("--partitions", type=int, default=8, help="of a topic created without a count (default 8)")
    parser.add_argument("--auto-create-topics", action="store_true", help="create topics when they are first asked for")
    return parser.parse_args(arguments)


async def _serve(options: argparse.Namespace) -> int:
    try:
        broker = EmbeddedBroker(
            host=options.host,
            port=options.port,
            default_partitions=options.partitions,
            auto_create_topics=options.auto_create_topics,
        )
    except NotLoopbackError as error:
        sys.stderr.write(f"{error}\n")
        return _USAGE_ERROR
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop_signal, stopped.set)
    try:
        address = await broker.start()
    except OSError as error:
        sys.stderr.write(f"the embedded broker cannot listen on {options.host}:{options.port}: {error}\n")
        return _START_FAILED
    sys.stderr.write(f"{_NOTICE}; listening on {address}\n")
    sys.stdout.write(f"READY {address.rpartition(':')[2]}\n")
    sys.stdout.flush()
    await stopped.wait()
    await broker.stop()
    return 0


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the process's exit code."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        import uvloop
    except ImportError:  # not on Windows and PyPy, where asyncio's own loop does
        return asyncio.run(_serve(options))
    return uvloop.run(_serve(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
