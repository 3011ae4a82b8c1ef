"""The event loop, the signals, the logs and the READY line of every program. Called by `program` and `programs`.

Apart from `program`, since a gateway's own server, the embedded broker, `dev` and `demo` need no more than this, and
would wait for the imports of the rest.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from streams.cli.collector import spare_what_stands

if TYPE_CHECKING:
    from streams.settings import TelemetrySettings

Answer = TypeVar("Answer")


def run_until_told(main: Callable[[asyncio.Event], Coroutine[Any, Any, Answer]]) -> Answer:
    """Run it on an event loop of the engine's choice and return its answer; SIGTERM and SIGINT set its event."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_told_to_stop(main))


async def _told_to_stop(main: Callable[[asyncio.Event], Coroutine[Any, Any, Answer]]) -> Answer:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return await main(stopping)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


def set_up_logs(component: str, telemetry: "TelemetrySettings | None" = None) -> None:
    """Let a program log as its settings say; without any, as an operator's tool does, which answers on its own."""
    from streams.telemetry import logs

    if telemetry is None:
        logs.configure(component=component, level="ERROR", form="console")
    else:
        logs.configure(component=component, level=telemetry.log_level, form=telemetry.log_format)


def announce(component: str, port: int) -> None:
    """Say on standard output that the program serves: whoever started it waits for this line. Port 0: it has none.

    What the start has made stays: from now on the garbage collector leaves it alone.
    """
    spare_what_stands()
    sys.stdout.write(f"READY {component} {port}\n" if port else f"READY {component}\n")
    sys.stdout.flush()
