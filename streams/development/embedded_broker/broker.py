"""The embedded broker: starts it, stops it, keeps it tidy.

Called by `make run`'s process, the demo, the quick tests, and `python -m streams.development.embedded_broker`.
It speaks enough of Kafka's protocol for aiokafka, librdkafka and Faust. It is for development: one node, memory only,
loopback only, no security. It keeps nothing over a restart and is not Kafka; the same client contract suite runs on
both (tests/contract).
"""

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from streams.development.embedded_broker.connection import Connection
from streams.development.embedded_broker.faults import Faults
from streams.development.embedded_broker.group_coordinator import GroupCoordinator
from streams.development.embedded_broker.limits import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    STOP_TIMEOUT_S,
    UPKEEP_INTERVAL_S,
    UPKEEP_SLICE_S,
)
from streams.development.embedded_broker.node import Node
from streams.development.embedded_broker.topic_store import MemoryLimits, TopicStore

_log = logging.getLogger(__name__)
_LOCALHOST: Final = "127.0.0.1"
_MS_PER_S: Final = 1000
_DEFAULT_PARTITIONS: Final = 8
_INITIAL_REBALANCE_DELAY_S: Final = 0.05  # group.initial.rebalance.delay.ms is 3 s there: a laptop need not wait


class NotLoopbackError(ValueError):
    """The broker was told to listen where others could reach it; it has no security, so it refuses."""


class EmbeddedBroker:
    """One in-memory broker on one loopback port.

        async with EmbeddedBroker() as broker:
            producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    Not thread-safe: everything happens on the event loop that started it.
    """

    def __init__(
        self,
        *,
        host: str = _LOCALHOST,
        port: int = 0,
        default_partitions: int = _DEFAULT_PARTITIONS,
        auto_create_topics: bool = False,
        initial_rebalance_delay_s: float = _INITIAL_REBALANCE_DELAY_S,
        memory: MemoryLimits | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """Prepares a broker; nothing listens yet.

        Args:
            host: a loopback address.
            port: 0 for any free one.
            default_partitions: for topics created without a count.
            auto_create_topics: create a topic when metadata of it is asked for (Kafka's auto.create.topics.enable).
            initial_rebalance_delay_s: how long an empty group waits for more members.
            memory: what the logs may take.
            now_ms: the wall clock, for retention; a test may bring its own.

        Raises:
            NotLoopbackError: `host` is not a loopback address.
        """
        self._host = _loopback(host)
        self._asked_port = port
        self._memory = memory or MemoryLimits()
        self._default_partitions = default_partitions
        self._auto_create_topics = auto_create_topics
        self._initial_rebalance_delay_s = initial_rebalance_delay_s
        self._now_ms = now_ms or _wall_clock_ms
        self.faults = Faults()
        self._node: Node | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, once started.

        Raises:
            RuntimeError: not started.
        """
        if self._node is None:
            raise RuntimeError("the embedded broker is not running")
        return f"[{self._host}]:{self._node.port}" if ":" in self._host else f"{self._host}:{self._node.port}"

    @property
    def stored_bytes(self) -> int:
        """The memory that all records take now."""
        return 0 if self._node is None else self._node.topics.size_bytes

    async def start(self) -> str:
        """Listens, and returns the bootstrap address.

        Raises:
            RuntimeError: started already.
            OSError: the port is taken.
        """
        if self._node is not None:
            raise RuntimeError("the embedded broker is running already")
        loop = asyncio.get_running_loop()
        node = Node(
            topics=TopicStore(default_partitions=self._default_partitions, memory=self._memory),
            groups=GroupCoordinator(schedule=loop.call_later, initial_delay_s=self._initial_rebalance_delay_s),
            now_ms=self._now_ms,
            auto_create_topics=self._auto_create_topics,
            host=self._host,
        )
        self._server = await asyncio.start_server(
            self._accept, self._host, self._asked_port, limit=MAX_REQUEST_BYTES, backlog=MAX_CONNECTIONS
        )
        node.port = self._server.sockets[0].getsockname()[1]
        self._node = node
        self._upkeep = asyncio.create_task(self._keep_up(node), name="embedded-broker-upkeep")
        return self.bootstrap_servers

    async def stop(self) -> None:
        """Closes all connections and forgets everything; no matter if it runs."""
        node, self._node = self._node, None
        if node is None or self._server is None or self._upkeep is None:
            return
        self._server.close()
        tasks = [self._upkeep, *self._connections]
        for task in tasks:
            task.cancel()
        node.groups.close()
        await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await self._server.wait_closed()
        self._server = None
        self._upkeep = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._node is None or task is None or len(self._connections) >= MAX_CONNECTIONS:
            _log.warning("refusing a connection: stopping, or %s are open", MAX_CONNECTIONS)
            writer.close()
            return
        self._connections.add(task)
        try:
            # Cancelled only by `stop`; the streams' own callback would log the cancellation as an error.
            with contextlib.suppress(asyncio.CancelledError):
                await Connection(self._node, self.faults, reader, writer).serve()
        finally:
            self._connections.discard(task)

    async def _keep_up(self, node: Node) -> None:
        """Retention and compaction, every few seconds and when a topic has grown dirty."""
        while True:  # ends by `stop`'s cancellation
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPKEEP_INTERVAL_S):
                    await node.upkeep_is_due.wait()
            node.upkeep_is_due.clear()
            await self.keep_up_once(node)

    async def keep_up_once(self, node: Node | None = None) -> None:
        """One round of upkeep, in slices, so that clients do not notice; tests call it instead of waiting."""
        node = node or self._node
        if node is None:
            return
        now_ms = node.now_ms()
        node.topics.expire(now_ms)
        node.groups.drop_unused()
        slice_ends = time.monotonic() + UPKEEP_SLICE_S
        for _ in node.topics.compactions(now_ms):
            if time.monotonic() >= slice_ends:
                await asyncio.sleep(0)
                slice_ends = time.monotonic() + UPKEEP_SLICE_S


def _loopback(host: str) -> str:
    address = _LOCALHOST if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise NotLoopbackError(
            f"the embedded broker listens on loopback only (127.0.0.1, ::1 or localhost), not on {host!r}: "
            "it has no security, keeps nothing, and is not Kafka. Use Apache Kafka for anything that others reach."
        )
    return address


def _wall_clock_ms() -> int:
    return int(time.time() * _MS_PER_S)
