"""The desk as a program: `payment-engine operators`. The only file here that names concrete parts.

Runs inside the shell of all programs (`streams.cli.program`), which finds `OperatorsRun` by this module's name. What is
started is stopped in reverse: no new requests, answers for those that wait, replies, the writer.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from http_ingress.access.door_keys import open_keys
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.operators.app import build_desk
from http_ingress.operators.decision_log import KafkaDecisionLog, reading_from
from http_ingress.operators.desk import Desk, DeskRules
from http_ingress.replies.kafka_feed import KafkaReplyFeed
from http_ingress.replies.waiters import ReplyPump, Waiters
from http_ingress.server import HttpServer, reserve_address
from http_ingress.settings import reply_partition_of
from schemas.messages import MessageCodec
from streams.kafka_clients.connection import connection_of
from streams.kafka_clients.log_clock import wall_clock_ms
from streams.kafka_clients.producer import LogWriter
from streams.settings import Settings
from streams.telemetry import metrics
from streams.topology import OPERATORS

HOUR_MS = 3_600_000
MAX_WAITING = 200
"""Requests that wait for a reply at once: people type them."""

REQUESTS_PER_SECOND = 20
"""Of one operator."""

GROUP = "OPERATORS"
_log = structlog.get_logger(__name__)


class OperatorsRun:
    """One run of the desk. Satisfies `streams.cli.program.Program`."""

    def __init__(self, settings: Settings, codec: MessageCodec) -> None:
        """Put it together. Raises: MisconfiguredError: keys, pepper or address are wrong."""
        self._settings = own = settings.operators
        keys = open_keys(
            own,
            prefix="PAYMENT_ENGINE_OPERATORS",
            advice="; `payment-engine keys create --operator NAME` makes one",
        )
        self._store = None if keys is None else keys[0]
        reserve_address(own.host, own.port, group=GROUP).close()  # now, since a broker may be minutes away
        connection = connection_of(settings.kafka, client_id=OPERATORS.client_id)
        self._writer = LogWriter(connection, waits_through_silence=False)
        partition = reply_partition_of(own.instance, settings.kafka.partitions)
        waiters = Waiters(limit=MAX_WAITING)
        self._pump = ReplyPump(
            feed=KafkaReplyFeed(connection=connection, partition=partition), waiters=waiters, codec=codec
        )
        self._desk = Desk(
            rules=DeskRules(
                dev=own.dev,
                four_eyes=own.four_eyes,
                proposal_life_ms=own.proposal_life_h * HOUR_MS,
                reply_partition=partition,
            ),
            log=KafkaDecisionLog(writer=self._writer, codec=codec, read_since=reading_from(connection)),
            waiters=waiters,
            limiter=RateLimiter(requests_per_second=REQUESTS_PER_SECOND),
            keys=None if keys is None else keys[1],
            now_ms=wall_clock_ms,
            monotonic_s=time.monotonic,
            faults=lambda: () if self._pump.live else ("replies are not read",),
        )
        self._server = HttpServer(self._desk, build_desk(self._desk))
        metrics.watch("replies_waiting", lambda: len(waiters))
        metrics.watch("key_file_faulty", lambda: len(self.notes()))

    def faults(self) -> tuple[str, ...]:
        """Return why a request would not be answered now."""
        return self._desk.not_ready()

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know although it serves."""
        fault = None if self._store is None else self._store.fault()
        return () if fault is None else (f"operators' keys are as before: {fault}",)

    async def run(self, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serve until told to stop, then answer what waits. Raises: MisconfiguredError, LogError."""
        try:
            await self._writer.start()
            await self._pump.start()
            port = await self._server.start(host=self._settings.host, port=self._settings.port, group=GROUP)
            if self._settings.dev:
                _log.warning("dev_mode", reason="no operators' keys: anybody may decide in anybody's name")
            ready(port)
            await stopping.wait()
        finally:
            await self._server.stop()
            await self._pump.stop()
            await self._writer.stop()
