"""`payment-engine dev`: the whole engine for one person on one machine, on the embedded broker with the Mock gateway.

Called by the CLI (`make run`). It starts a `LocalEngine`, says when it is ready and what to try, starts a component
again that has crashed (a bounded number of times), and stops everything on Ctrl-C. Nothing outlives it: the broker
keeps its log in memory, so tables and ledger go to a temporary folder unless a folder is asked for.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from schemas.misconfigured import MisconfiguredError
from streams.development.local_engine import Component, ComponentFailedError, LocalEngine, port_is_free

MAX_RESTARTS = 20
WATCH_INTERVAL_S = 0.5

TRY_IT = """
Payment Engine Lite is ready: {url}   (docs: {url}/docs)
The desk, where operators decide: {desk}
For `payment-engine policy set` and its like: export PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS={broker}
For development only: the embedded broker is in memory and is not Kafka, the Mock gateway moves no money.
Logs, tables and the Mock's ledger: {folder}
Metrics, and with /readyz what keeps a component from serving:
{metrics}

Try:
  curl -s -X POST '{url}/payments?mode=sync' -H 'Content-Type: application/json' \\
    -H 'Idempotency-Key: idem-123' -H 'X-Origin-Id: originA' \\
    -d '{{"originId":"originA","amount":1999,"currency":"USD","token":"tok_123","orderId":"order-1","capture":true}}'

Ctrl-C stops everything.
"""


async def serve_dev(
    stopping: asyncio.Event, *, port: int, folder: Path | None = None, say: Callable[[str], None] | None = None
) -> None:
    """Run until the event is set.

    Raises:
        MisconfiguredError: the port is taken.
        ComponentFailedError: a component did not start, or crashed too often.
    """
    if port and not port_is_free(port):
        raise MisconfiguredError(f"port {port} is taken: set another, as in `make run PORT=8081`")
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="payment-engine-")))
        folder.mkdir(parents=True, exist_ok=True)
        await _serve(stopping, port, folder, say or _print)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _serve(stopping: asyncio.Event, port: int, folder: Path, say: Callable[[str], None]) -> None:
    engine = LocalEngine(folder=folder, http_port=port, desk=True)
    try:
        if await _unless_stopped(engine.start(), stopping):
            url = f"http://localhost:{engine.http_port}"
            broker, desk = engine.bootstrap_servers, engine.desk_url
            say(TRY_IT.format(url=url, folder=folder, metrics=_metrics_of(engine), desk=desk, broker=broker))
            await _watch(engine, stopping, say)
            say("stopping …")
    finally:
        await engine.stop()


def _metrics_of(engine: LocalEngine) -> str:
    served = [each for each in engine.components.values() if each.health_port]
    return "\n".join(f"  {each.name:12} http://localhost:{each.health_port}/metrics" for each in served)


async def _unless_stopped(start: Coroutine[Any, Any, None], stopping: asyncio.Event) -> bool:
    """Await the start, unless a stop is asked for first. Returns whether it was started. Raises: what it raised."""
    starting = asyncio.ensure_future(start)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def _watch(engine: LocalEngine, stopping: asyncio.Event, say: Callable[[str], None]) -> None:
    restarts = 0
    while not stopping.is_set():
        for component in [each for each in engine.components.values() if not each.running]:
            restarts += 1
            _give_up_past_limit(component, restarts)
            say(f"{component.name} has ended; starting it again (its log: {component.log_path})")
            await engine.restart(component.name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_INTERVAL_S):
                await stopping.wait()


def _give_up_past_limit(component: Component, restarts: int) -> None:
    if component.name == "broker":
        raise ComponentFailedError(f"the embedded broker has ended, and with it the log\n{component.log_tail()}")
    if restarts > MAX_RESTARTS:
        raise ComponentFailedError(f"{component.name} keeps ending\n{component.log_tail()}")
