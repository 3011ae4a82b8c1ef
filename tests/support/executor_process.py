"""An executor as a process of its own, for tests that kill, freeze and stop it.

Run as `python -m tests.support.executor_process`. Its gateway is the Mock's adapter. Prints READY once it is a member
of the group.
"""

import argparse
import asyncio
import signal
import sys

from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.mock.client import MockGateway
from gateway_adapters.mock.spec import MockAccount
from schemas.identifiers import GatewayRoute
from streams.executor.worker import GatewayExecutor
from streams.telemetry import logs
from tests.support.gateway_calls import CODEC, OwnTopics

READY = "READY executor"
CALL_TIMEOUT_S = 10.0


def arguments_for(
    topics: OwnTopics, *, mock_url: str, in_flight: int, session_timeout_s: float, instance_id: str | None
) -> list[str]:
    """The command line of such a process."""
    words = ["--bootstrap", topics.bootstrap_servers, "--requests", topics.requests, "--results", topics.results]
    words += ["--dead-letters", topics.dead_letters, "--group", topics.group, "--mock-url", mock_url]
    words += ["--in-flight", str(in_flight), "--session-timeout", str(session_timeout_s)]
    if instance_id is not None:
        words += ["--instance-id", instance_id]
    return [sys.executable, "-m", "tests.support.executor_process", *words]


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "requests", "results", "dead-letters", "group", "mock-url"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--session-timeout", type=float, required=True)
    parser.add_argument("--instance-id")
    return parser.parse_args()


async def _run(words: argparse.Namespace) -> None:
    topics = OwnTopics(
        bootstrap_servers=words.bootstrap,
        requests=words.requests,
        results=words.results,
        dead_letters=words.dead_letters,
        group=words.group,
    )
    limits = TransportLimits(connections=2 * words.in_flight, total_timeout_s=CALL_TIMEOUT_S)
    gateway = MockGateway(MockAccount(url=words.mock_url), limits)
    options = topics.options(
        max_calls_in_flight=words.in_flight,
        call_timeout_s=CALL_TIMEOUT_S,
        instance_id=words.instance_id,
        session_timeout_s=words.session_timeout,
    )
    executor = GatewayExecutor(topics.connection, CODEC, {GatewayRoute(gateway.name): gateway}, options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, executor.request_stop)
    run = asyncio.ensure_future(executor.run())
    ready = asyncio.ensure_future(executor.ready.wait())
    await asyncio.wait([run, ready], return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
    ready.cancel()
    try:
        await run
    finally:
        await gateway.close()


if __name__ == "__main__":
    logs.configure(component="executor", level="WARNING")
    asyncio.run(_run(_parsed()))
