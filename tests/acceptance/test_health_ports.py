"""What the health ports of the engine's own processes say through a bad day: alive all along, ready when they serve."""

import asyncio
import contextlib
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from streams import topology
from streams.cli.exits import ExitCode
from streams.development.local_engine import LOOPBACK, Component, ComponentFailedError, LocalEngine, free_port
from tests.support.waiting import until_async

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
SESSION_S = 4.0
COMPONENTS = ("orders-0", "claims-0", "executor-0", "ingress")
ENVIRONMENT = {
    "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": str(SESSION_S),
    "PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S": "0.5",
    "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": str(SESSION_S),
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one health port says."""

    alive: bool
    faults: tuple[str, ...]  # of `/readyz`; empty: ready


async def asked(http: aiohttp.ClientSession, component: Component) -> Said:
    base = f"http://{LOOPBACK}:{component.health_port}"
    async with http.get(f"{base}/healthz") as health:
        alive = health.status == 200
    async with http.get(f"{base}/readyz") as readiness:
        said = await readiness.json()
        assert (readiness.status == 200) == (said["faults"] == [])
        return Said(alive=alive, faults=tuple(said["faults"]))


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as http:
        yield http


async def test_components_stay_alive_and_are_not_ready_while_their_broker_stands_still(tmp_path: Path) -> None:
    async with LocalEngine(folder=tmp_path, environment=ENVIRONMENT) as engine, asking() as http:
        seen: Mapping[str, Said] = {}

        async def look() -> Mapping[str, Said]:
            nonlocal seen
            seen = {name: await asked(http, engine.components[name]) for name in COMPONENTS}
            assert all(said.alive for said in seen.values())
            return seen

        async def all_ready() -> bool:
            return not any(said.faults for said in (await look()).values())

        async def workers_say_why_not() -> bool:
            workers = [said for name, said in (await look()).items() if name != "ingress"]
            return all(said.faults == ("its group does not answer",) for said in workers)

        await until_async(all_ready, timeout_s=WAIT_S)
        engine.components["broker"].send(signal.SIGSTOP)
        try:
            await until_async(workers_say_why_not, timeout_s=WAIT_S)
        finally:
            engine.components["broker"].send(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            await until_async(all_ready, timeout_s=WAIT_S)
        assert await all_ready(), seen


def process_of(name: str, folder: Path, **variables: str) -> Component:
    """The component as a process, not started."""
    return Component(
        name=name,
        arguments=["-m", "streams.cli", name],
        environment={f"PAYMENT_ENGINE_{variable}": value for variable, value in variables.items()},
        log_path=folder / f"{name}.log",
    )


@pytest.mark.parametrize("name", topology.COMPONENTS)
async def test_component_is_alive_and_says_that_it_waits_when_there_is_no_broker(name: str, tmp_path: Path) -> None:
    port = free_port()
    component = process_of(
        name,
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=f"{LOOPBACK}:{free_port()}",
        HEALTH_PORT=str(port),
        HTTP_DEV="true",
        HTTP_PORT="0",
        OPERATORS_DEV="true",
        OPERATORS_PORT="0",
        GATEWAY_MOCK_URL="http://127.0.0.1:8090",  # without any the executor does not start
    )
    component.health_port = port
    starting = asyncio.create_task(component.start())
    async with asking() as http:

        async def says_that_it_waits() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectorError):  # the port is not open yet
                said = await asked(http, component)
                return said.alive and any("no broker answers" in fault for fault in said.faults)
            return False

        try:
            await until_async(says_that_it_waits, timeout_s=WAIT_S)
            assert component.running
            component.send(signal.SIGTERM)
            with pytest.raises(ComponentFailedError, match="ended with 0 before it was ready"):
                await asyncio.wait_for(starting, WAIT_S)
        finally:
            starting.cancel()
            await component.kill()


@pytest.mark.parametrize("name", topology.COMPONENTS)
async def test_component_refuses_to_start_when_its_health_port_is_taken(name: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        component = process_of(name, tmp_path, HEALTH_PORT=str(port), HTTP_DEV="true", OPERATORS_DEV="true")
        with pytest.raises(ComponentFailedError, match=rf"PAYMENT_ENGINE_HEALTH_PORT: 127\.0\.0\.1:{port}"):
            await component.start()
        assert component.process is not None
        assert component.process.returncode == ExitCode.MISCONFIGURED
        assert "Traceback" not in component.log_tail()


async def test_engine_of_one_command_shows_where_each_component_tells_what_it_counts() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "dev", "--port", "0", stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    shown = b""
    try:
        async with asyncio.timeout(WAIT_S):
            while b"Ctrl-C stops everything" not in shown:
                line = await process.stdout.readline()
                assert line, shown.decode()
                shown += line
        pages = dict(re.findall(r"^ +(\S+) +(http://localhost:\d+/metrics)$", shown.decode(), flags=re.MULTILINE))
        assert set(pages) == {*COMPONENTS, "operators"}
        async with asking() as http:
            for page in pages.values():
                async with http.get(page) as answer:
                    assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
