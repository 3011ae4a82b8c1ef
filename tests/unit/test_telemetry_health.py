"""A component's own port, over a socket: alive while its loop turns, ready when it says so, and what it counts."""

import asyncio
import gzip
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from schemas.misconfigured import MisconfiguredError
from streams.telemetry import metrics
from streams.telemetry.health import PAGE_LIFE_S, HealthServer, Readiness

HOST = "127.0.0.1"
TIMEOUT_S = 5.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def served(
    *, faults: list[str] | None = None, notes: list[str] | None = None, clock: Clock | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    server = HealthServer(
        host=HOST,
        port=0,
        faults=lambda: tuple(faults or ()),
        notes=lambda: tuple(notes or ()),
        monotonic_s=clock or Clock(),
    )
    port = await server.start()
    try:
        async with aiohttp.ClientSession(
            f"http://{HOST}:{port}", timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        ) as http:
            yield http
    finally:
        await server.stop()


async def test_health_port_says_why_a_component_is_not_ready_and_that_it_lives_all_the_same() -> None:
    faults = ["waiting for a broker"]
    async with served(faults=faults) as http:
        for _ in range(2):
            async with http.get("/healthz") as alive:
                assert (alive.status, await alive.json()) == (200, {"status": "alive"})
        async with http.get("/readyz") as waiting:
            assert waiting.status == 503
            assert await waiting.json() == {"status": "not ready", "faults": ["waiting for a broker"], "notes": []}
        faults.clear()
        async with http.get("/readyz") as ready:
            assert (ready.status, await ready.json()) == (200, {"status": "ready", "faults": [], "notes": []})


async def test_health_port_shows_notes_of_a_component_that_is_ready() -> None:
    async with served(notes=["API keys are as before: line 3 is malformed"]) as http, http.get("/readyz") as ready:
        assert (ready.status, (await ready.json())["notes"]) == (200, ["API keys are as before: line 3 is malformed"])


async def test_health_port_shows_what_the_process_counts() -> None:
    metrics.count("timers_fired", 3, kind="health_port_test")
    async with served() as http, http.get("/metrics") as page:
        assert page.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'payment_engine_timers_fired_total{kind="health_port_test"} 3.0' in await page.text()


async def test_health_port_renders_its_page_no_more_often_however_many_scrape_it() -> None:
    clock = Clock()
    async with served(clock=clock) as http:

        async def shown() -> str:
            async with http.get("/metrics") as page:
                return await page.text()

        before = await shown()
        metrics.count("timers_fired", kind="page_life_test")
        assert await shown() == before
        clock.now_s += PAGE_LIFE_S
        assert 'kind="page_life_test"' in await shown()


async def test_health_port_answers_nothing_else_and_unpacks_no_body() -> None:
    async with served() as http:
        async with http.get("/") as other:
            assert other.status == 404
        packed = gzip.compress(bytes(1024))
        async with http.post("/healthz", data=packed, headers={"Content-Encoding": "gzip"}) as posted:
            assert posted.status == 405


async def test_health_port_falls_silent_when_the_loop_of_its_component_hangs() -> None:
    """Liveness is the loop's: a component that hangs in one call must be found dead by who probes it."""
    hung, let_go = threading.Event(), threading.Event()
    server = HealthServer(host=HOST, port=0, faults=tuple)
    port = await server.start()
    url = f"http://{HOST}:{port}/healthz"

    def probe(timeout_s: float) -> int:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            status: int = answer.status
            return status

    def probe_while_hung() -> BaseException | None:
        hung.wait(TIMEOUT_S)
        try:
            probe(0.2)
        except (TimeoutError, urllib.error.URLError) as silent:
            return silent
        finally:
            let_go.set()
        return None

    try:
        assert await asyncio.to_thread(probe, TIMEOUT_S) == 200
        asked = asyncio.get_running_loop().run_in_executor(None, probe_while_hung)
        hung.set()
        let_go.wait(TIMEOUT_S)  # the loop does nothing else meanwhile
        assert await asked is not None
        assert await asyncio.to_thread(probe, TIMEOUT_S) == 200
    finally:
        await server.stop()


async def test_health_port_that_is_taken_is_refused_by_name() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        server = HealthServer(host=HOST, port=port, faults=tuple)
        with pytest.raises(MisconfiguredError, match=rf"PAYMENT_ENGINE_HEALTH_PORT: 127\.0\.0\.1:{port} cannot be had"):
            await server.start()
        await server.stop()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "." * 300, "192.0.2.1"])
async def test_health_address_that_is_not_ours_is_refused_by_name(host: str) -> None:
    server = HealthServer(host=host, port=0, faults=tuple)
    with pytest.raises(MisconfiguredError, match="PAYMENT_ENGINE_HEALTH_HOST"):
        await server.start()
    await server.stop()


async def test_health_port_is_free_again_once_it_has_stopped() -> None:
    first = HealthServer(host=HOST, port=0, faults=tuple)
    port = await first.start()
    await first.stop()
    await first.stop()
    second = HealthServer(host=HOST, port=port, faults=tuple)
    assert await second.start() == port
    await second.stop()


def test_readiness_is_what_was_said_last() -> None:
    readiness = Readiness("starting")
    assert (readiness.faults(), readiness.notes()) == (("starting",), ())
    readiness.wait_for("waiting for a broker")
    assert readiness.faults() == ("waiting for a broker",)
    readiness.follow(tuple, notes=lambda: ("line 3",))
    assert (readiness.faults(), readiness.notes()) == ((), ("line 3",))
    readiness.wait_for("stopping")
    assert (readiness.faults(), readiness.notes()) == (("stopping",), ())


async def test_target_with_a_host_that_nobody_can_read_is_answered_and_its_connection_closed() -> None:
    async with served() as http:
        assert http._base_url is not None
        reader, writer = await asyncio.open_connection(HOST, http._base_url.port)
        writer.write(b"GET http://xn--a/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), TIMEOUT_S)  # to the end: the server closes
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 404 ")
