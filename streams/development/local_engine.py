"""The whole engine on one machine, each component its own process, as in production.

For whom: `payment-engine dev` and `demo`, the integration and fault tests, and the bench. It starts the components in
the order in which they need each other, waits until each says that it is ready, and stops them in reverse. It
names processes, not modules of other rooms: what runs is what `payment-engine <component>` runs anywhere else.

A component says it is ready by a line `READY <component> <port or 0>` on its standard output; its log goes to standard
error, which is kept in a file of the engine's folder.
"""

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
READY_WORD = "READY"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
KILL_TIMEOUT_S = 10.0
MAX_READY_LINE_BYTES = 64 * 1024
LOG_TAIL_BYTES = 4_000
SERVER_PORTS = range(16_384, 32_768)
"""Below those that Linux gives to outgoing connections (`net.ipv4.ip_local_port_range`), above most servers' own."""

PORT_TRIES = 100
_PR_SET_PDEATHSIG = 1


class ComponentFailedError(Exception):
    """A component ended, or did not become ready in time; the message holds the end of its log."""


def free_port() -> int:
    """Return a port that was free a moment ago. Another program may take it: whoever binds it must say so.

    Not one that the kernel chooses: it gives the same ones to outgoing connections. A component that is killed and
    started again, as fault tests do hundreds of times, would at times find its port taken by a client of the broker.

    Raises: ComponentFailedError: none of `PORT_TRIES` was free.
    """
    for _ in range(PORT_TRIES):
        port = secrets.choice(SERVER_PORTS)
        if port_is_free(port):
            return port
    raise ComponentFailedError(
        f"no free port in {PORT_TRIES} tries from {SERVER_PORTS.start} to {SERVER_PORTS.stop - 1}"
    )


def port_is_free(port: int) -> bool:
    """Return whether nobody listens on this port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    # Linux only, like the engine's embedded profile: a killed parent must not leave components behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(slots=True, kw_only=True)
class Component:
    """One process of the engine."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    health_port: int = 0
    """Where it serves its health and what it counts; 0: nowhere."""
    process: asyncio.subprocess.Process | None = None
    port: int = 0
    _drain: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The process id. Raises: RuntimeError when it was not started."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    async def start(self, *, ready_timeout_s: float = READY_TIMEOUT_S) -> None:
        """Start the process and wait until it is ready. Raises: ComponentFailedError."""
        with self.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.arguments,
                env={**os.environ, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops the components in order
                preexec_fn=_die_with_parent,
                limit=MAX_READY_LINE_BYTES,
            )
        self.process = process
        try:
            async with asyncio.timeout(ready_timeout_s):
                self.port = await self._ready(process)
        except TimeoutError:
            await self.kill()
            raise ComponentFailedError(
                f"{self.name} was not ready after {ready_timeout_s} s\n{self.log_tail()}"
            ) from None
        self._drain = asyncio.create_task(self._discard(process))

    async def _ready(self, process: asyncio.subprocess.Process) -> int:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            words = line.decode(errors="replace").split()
            if words and words[0] == READY_WORD:
                port = words[-1].rpartition("=")[2]
                return int(port) if port.isdigit() else 0
        code = await process.wait()
        raise ComponentFailedError(f"{self.name} ended with {code} before it was ready\n{self.log_tail()}")

    async def _discard(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while await process.stdout.read(MAX_READY_LINE_BYTES):
            pass  # nothing is expected after READY; an unread pipe would block the component one day

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self.running:
            os.kill(self.pid, number)

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End the process cleanly (SIGTERM), or by force past the time-out. Returns its exit code."""
        self.send(signal.SIGTERM)
        return await self._ended(timeout_s)

    async def kill(self) -> int:
        """End the process as a crash would (SIGKILL). Returns its exit code."""
        self.send(signal.SIGKILL)
        return await self._ended(KILL_TIMEOUT_S)

    async def _ended(self, timeout_s: float) -> int:
        if self.process is None:
            return 0
        try:
            async with asyncio.timeout(timeout_s):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            code = await self.process.wait()
        if self._drain is not None:
            self._drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._drain
            self._drain = None
        return code

    def log_tail(self) -> str:
        """Return the end of the component's log."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


class LocalEngine:
    """The components of one engine. `async with` starts and stops them all."""

    def __init__(
        self,
        *,
        folder: Path,
        bootstrap_servers: str | None = None,
        http_port: int = 0,
        environment: Mapping[str, str] | None = None,
        orders_workers: int = 1,
        claims_workers: int = 1,
        executors: int = 1,
        mock_arguments: Sequence[str] = (),
        desk: bool = False,
    ) -> None:
        """Describe an engine that is not yet started.

        Args:
            folder: Where logs, tables and the Mock's ledger go. Must exist.
            bootstrap_servers: A broker that runs already; None starts the embedded one.
            http_port: Port of the ingress; 0 takes a free one.
            environment: Further variables for every component (`PAYMENT_ENGINE_…`).
            orders_workers: Processes of the orders app.
            claims_workers: Processes of the claims app.
            executors: Processes of the gateway executor.
            mock_arguments: Further arguments of the Mock gateway, such as `--latency fixed:500`.
            desk: Whether operators can decide: one process more.
        """
        self.folder = folder
        self.http_port = http_port or free_port()
        self._bootstrap_servers = bootstrap_servers
        self._environment = dict(environment or {})
        self._counts = {"orders": orders_workers, "claims": claims_workers, "executor": executors}
        self._mock_arguments = tuple(mock_arguments)
        self._desk_port = free_port() if desk else None
        self.components: dict[str, Component] = {}

    @property
    def url(self) -> str:
        """The base URL of the ingress."""
        return f"http://{LOOPBACK}:{self.http_port}"

    @property
    def desk_url(self) -> str | None:
        """The base URL of the operators' desk; None: there is none."""
        return None if self._desk_port is None else f"http://{LOOPBACK}:{self._desk_port}"

    @property
    def ledger_path(self) -> Path:
        """The Mock gateway's own record of what was really charged."""
        return self.folder / "mock-ledger.sqlite"

    @property
    def bootstrap_servers(self) -> str:
        """The broker that the engine runs on."""
        assert self._bootstrap_servers is not None, "the engine was not started"
        return self._bootstrap_servers

    async def __aenter__(self) -> Self:
        """Start everything; on a failure, stop what was started."""
        try:
            await self.start()
        except BaseException:  # cancellation too: raised on, only no process may be left behind
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        await self.stop()

    async def start(self) -> None:
        """Start the components in the order in which they need each other. Raises: ComponentFailedError."""
        if self._bootstrap_servers is None:
            broker = await self.run("broker", _cli("broker", "--port", "0"))
            self._bootstrap_servers = f"{LOOPBACK}:{broker.port}"
        await asyncio.gather(self._apply_topics(), self._start_mock_gateway())
        workers = [name for name, count in self._counts.items() for _ in range(count)]
        numbered = [(name, workers[:place].count(name)) for place, name in enumerate(workers)]
        await asyncio.gather(
            *(self.start_worker(name, number) for name, number in numbered), self._start_ingress(), self._start_desk()
        )

    async def _apply_topics(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *_cli("topics", "apply", "--yes"),
            env={**os.environ, **self.environment()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        async with asyncio.timeout(READY_TIMEOUT_S):
            printed, _ = await process.communicate()
        if process.returncode != 0:
            raise ComponentFailedError(f"topics apply ended with {process.returncode}\n{printed.decode()}")

    async def _start_mock_gateway(self) -> None:
        mock = await self.run(
            "mock-gateway",
            [
                *_cli("mock-gateway"),
                *("--port", "0"),
                *("--ledger", str(self.ledger_path)),
                *("--webhook-url", f"{self.url}/webhooks/mock"),
                *self._mock_arguments,
            ],
        )
        self._environment.setdefault("PAYMENT_ENGINE_GATEWAY_MOCK_URL", f"http://{LOOPBACK}:{mock.port}")

    async def start_worker(self, name: str, number: int) -> Component:
        """Start one process of `orders`, `claims` or `executor`."""
        label = f"{name}-{number}"
        extra: dict[str, str] = {}
        if name == "executor":
            extra["PAYMENT_ENGINE_EXECUTOR_INSTANCE_ID"] = label
        else:
            extra["PAYMENT_ENGINE_STREAM_INSTANCE_ID"] = label
            extra["PAYMENT_ENGINE_STREAM_STATE_DIR"] = str(self.folder / label)
        return await self.run(label, _cli(name), extra, health_port=free_port())

    async def _start_ingress(self) -> None:
        await self.run("ingress", _cli("ingress"), health_port=free_port())

    async def _start_desk(self) -> None:
        if self._desk_port is None:
            return
        extra = {
            "PAYMENT_ENGINE_OPERATORS_HOST": LOOPBACK,
            "PAYMENT_ENGINE_OPERATORS_PORT": str(self._desk_port),
            "PAYMENT_ENGINE_OPERATORS_DEV": "true",
        }
        await self.run("operators", _cli("operators"), extra, health_port=free_port())

    def environment(self) -> dict[str, str]:
        """Return the variables that every component is given."""
        fixed = {
            "PAYMENT_ENGINE_HTTP_HOST": LOOPBACK,
            "PAYMENT_ENGINE_HTTP_PORT": str(self.http_port),
            "PAYMENT_ENGINE_HTTP_DEV": "true",
        }
        if self._bootstrap_servers is not None:
            fixed["PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS"] = self._bootstrap_servers
        return fixed | self._environment

    async def run(
        self,
        name: str,
        arguments: Sequence[str],
        extra: Mapping[str, str] | None = None,
        *,
        health_port: int = 0,
    ) -> Component:
        """Start a component under this name and wait until it is ready. Raises: ComponentFailedError."""
        own = {"PAYMENT_ENGINE_HEALTH_PORT": str(health_port)} | dict(extra or {})
        component = Component(
            name=name,
            arguments=arguments,
            environment=self.environment() | own,
            log_path=self.folder / f"{name}.log",
            health_port=health_port,
        )
        self.components[name] = component
        await component.start()
        return component

    async def restart(self, name: str) -> Component:
        """Start a component that has ended once more, as it was. Raises: ComponentFailedError."""
        component = self.components[name]
        await component.start()
        return component

    async def stop(self) -> None:
        """Stop the components: first who takes requests, last the broker. Safe to call twice."""
        by_need = [("ingress", "operators"), ("orders", "claims", "executor"), ("mock-gateway",), ("broker",)]
        for names in by_need:
            chosen = [each for label, each in self.components.items() if label.startswith(names) and each.running]
            await asyncio.gather(*(each.stop() for each in chosen))


def _cli(*words: str) -> list[str]:
    return ["-m", "streams.cli", *words]
