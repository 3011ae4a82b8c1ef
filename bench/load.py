"""A load generator that costs little: its time is taken from the engine's on a machine of two cores.

Prebuilt HTTP/1.1 requests over kept-alive connections, each order with a sale of its own. Closed loop (a client sends
when it has its answer) for throughput, open loop (sent by the clock) for latency. Every loop is bounded in time.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

ANSWER_TIMEOUT_S = 60.0
MAX_HEAD_BYTES = 16 * 1024


@dataclass(slots=True, kw_only=True)
class Measured:
    """What one phase came to."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def per_second(self, status: int) -> float:
        """Return how many answers with this status came a second."""
        return self.statuses[status] / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies, milliseconds."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def payments(run: str, mode: str, *, origin: str = "bench") -> Iterator[bytes]:
    """Yield requests without end, each for a new order of the origin's."""
    number = 0
    while True:
        number += 1
        body = json.dumps(
            {
                "originId": origin,
                "amount": 1999,
                "currency": "USD",
                "token": "tok_visa",
                "orderId": f"{run}-{number}",
                "capture": True,
            }
        ).encode()
        head = (
            f"POST /payments?mode={mode} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {run}-{number}\r\nX-Origin-Id: {origin}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


class Connection:
    """One kept-alive connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> int:
        """Send a request, read its answer whole, and return the status."""
        self._writer.write(request)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            lowered = head.lower()
            at = lowered.index(b"content-length:") + len(b"content-length:")
            await self._reader.readexactly(int(lowered[at : lowered.index(b"\r\n", at)]))
        return int(head[9:12])

    def close(self) -> None:
        """Let go of the connection."""
        self._writer.close()


async def connect(port: int) -> Connection:
    """Return a connection to the ingress on this port."""
    return Connection(*await asyncio.open_connection("127.0.0.1", port, limit=MAX_HEAD_BYTES))


async def closed_loop(port: int, requests: Iterator[bytes], *, clients: int, seconds: float) -> Measured:
    """Keep this many requests under way for this long, then wait for the answers."""
    measured = Measured()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def client() -> None:
        connection = await connect(port)
        while loop.time() < began + seconds:
            sent = loop.time()
            measured.statuses[await connection.ask(next(requests))] += 1
            measured.latencies_s.append(loop.time() - sent)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    measured.seconds = loop.time() - began
    return measured


async def open_loop(port: int, requests: Iterator[bytes], *, per_second: float, seconds: float) -> Measured:
    """Send by the clock, whether answers have come or not; a latency counts from when the request was due."""
    measured = Measured()
    loop = asyncio.get_running_loop()
    idle: list[Connection] = []
    began = loop.time()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else await connect(port)
        measured.statuses[await connection.ask(next(requests))] += 1
        measured.latencies_s.append(loop.time() - due)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * seconds)):
            due = began + number / per_second
            await asyncio.sleep(max(0.0, due - loop.time()))
            group.create_task(one(due))
    measured.seconds = loop.time() - began
    for connection in idle:
        connection.close()
    return measured
