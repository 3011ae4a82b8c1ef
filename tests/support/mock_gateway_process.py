"""A Mock gateway process for tests, what its ledger says, and a receiver for its webhooks.

Synchronous to start, so that one process may serve a whole module; everything else is asynchronous.
"""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
WAIT_TIMEOUT_S = 10.0
SECRET = "whsec_test"
DELAY_MS = 50


class MockGatewayProcess:
    """`payment-engine mock-gateway` on a free loopback port. A context manager; may be killed and started again."""

    def __init__(self, ledger: Path, *arguments: str) -> None:
        self.ledger = ledger
        self.port = 0
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port it had before if it had one, and wait until it is ready."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "streams.cli", "mock-gateway"),
                *("--port", str(self.port)),
                *("--ledger", str(self.ledger)),
                *("--webhook-secret", SECRET),
                *("--delay-ms", str(DELAY_MS)),
                *self._arguments,
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # ends at the latest when the process does
        assert line.startswith("READY mock-gateway "), line
        self.port = int(line.split()[-1])

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it cleanly; return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it says where it hangs
            process.wait(STOP_TIMEOUT_S)
            raise
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def effects(self, order_id: str) -> list[tuple[str, int]]:
        """Return kind and amount of every effect on this order, straight from the ledger file."""
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        try:
            return list(
                connection.execute("SELECT kind, amount_minor FROM ledger WHERE order_id = ? ORDER BY seq", (order_id,))
            )
        finally:
            connection.close()

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Tell the witness stand something; it must agree. Returns what it answers: None for nothing."""
        async with aiohttp.ClientSession() as session, session.post(self.url + path, json=body) as response:
            assert response.ok, await response.text()
            return await response.json() if response.status == HTTPStatus.OK else None

    async def listens(self) -> bool:
        """Return whether somebody takes connections on its port now."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def get(self, path: str) -> dict[str, object]:
        """Ask the witness stand something."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            assert response.ok, await response.text()
            answer: dict[str, object] = await response.json()
            return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One webhook as it arrived, header names in lower case."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class WebhookReceiver:
    """A server that keeps what is posted to it, and may refuse the first few."""

    refusals: int = 0
    delivered: list[Delivered] = field(default_factory=list)
    attempts: int = 0
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/hook", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site.port}/hook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        self.attempts += 1
        if self.refusals > 0:
            self.refusals -= 1
            return web.Response(status=503)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.delivered.append(Delivered(headers=headers, body=await request.read()))
        return web.Response()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; fail after WAIT_TIMEOUT_S."""
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came: {what}"
        await asyncio.sleep(0.01)
