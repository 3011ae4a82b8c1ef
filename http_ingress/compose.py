"""Puts a real instance together from the settings: the only file here that names concrete parts.

Called by `http_ingress.program`. What is started in `IngressProgram.start` is stopped in reverse in `stop`.
"""

import time
from collections.abc import Callable, Mapping

from gateway_adapters.contract import CertificateFetcher
from http_ingress.access.door_keys import open_keys
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.app import build_app
from http_ingress.command_log import KafkaCommandLog
from http_ingress.ingress import Ingress, WebhookGateway
from http_ingress.replies.kafka_feed import KafkaReplyFeed
from http_ingress.replies.waiters import ReplyPump, Waiters
from http_ingress.server import HttpServer
from http_ingress.settings import IngressSettings, reply_partition_of
from schemas.identifiers import GatewayRoute
from schemas.messages import MessageCodec
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_clock import wall_clock_ms
from streams.kafka_clients.producer import LogWriter
from streams.settings import HttpSettings, Settings
from streams.telemetry import metrics


class IngressProgram:
    """One instance of the ingress and all it holds open."""

    def __init__(
        self,
        *,
        http: HttpSettings,
        ingress: Ingress,
        writer: LogWriter,
        pump: ReplyPump,
        notes: Callable[[], tuple[str, ...]],
    ) -> None:
        self.faults = ingress.not_ready
        """What keeps this instance from being ready, for a person; empty: nothing does."""
        self.notes = notes
        """What an operator should see to, though it is ready; never shown to merchants."""
        self._http = http
        self._writer = writer
        self._pump = pump
        self._server = HttpServer(ingress, build_app(ingress))

    async def start(self) -> int:
        """Connect to the log, read replies, then open HTTP. Returns the port.

        Raises:
            FeedLostError, RetryableError: The log cannot be reached.
            MisconfiguredError: The log cannot be used, or the address cannot be had.
        """
        await self._writer.start()
        await self._pump.start()
        return await self._server.start(host=self._http.host, port=self._http.port)

    async def stop(self) -> None:
        """Answer what waits, then close: HTTP, replies, the writer (which flushes). Safe to call twice."""
        await self._server.stop()
        await self._pump.stop()
        await self._writer.stop()


def compose(
    settings: Settings,
    *,
    connection: KafkaConnection,
    codec: MessageCodec,
    webhooks: Mapping[GatewayRoute, WebhookGateway],
    certificates: CertificateFetcher,
) -> IngressProgram:
    """Return an instance that is not yet started.

    Args:
        settings: The engine's settings.
        connection: How the broker is reached (`streams.bootstrap`).
        codec: The message codec, with the schema ids in force (`streams.bootstrap`).
        webhooks: The accounts at gateways whose notices are taken (`streams.bootstrap`).

        certificates: What their notices are verified with, where they sign with certificates.

    Raises:
        MisconfiguredError: There are no API keys and it is not dev mode, the key file cannot be read, or dev mode is
            on where strangers reach it or beside a key file.
    """
    http = settings.http
    own = IngressSettings(
        dev=http.dev,
        sync_timeout_s=http.sync_timeout_s,
        requests_per_second=http.requests_per_second,
        max_waiting=http.max_waiting,
        reply_partition=reply_partition_of(http.instance, settings.kafka.partitions),
    )
    waiters = Waiters(limit=own.max_waiting)
    writer = LogWriter(connection, waits_through_silence=False)  # clients can come again, with their key
    feed = KafkaReplyFeed(connection=connection, partition=own.reply_partition)
    pump = ReplyPump(feed=feed, waiters=waiters, codec=codec)
    keys = open_keys(http, prefix="PAYMENT_ENGINE_HTTP")
    store, ring = keys or (None, None)

    def faults() -> tuple[str, ...]:
        # Whether the log takes records is not asked: all instances share the broker, so taking them out of the balancer
        # would help nobody, and only a request tries the log again. A request is told 503 by itself.
        return () if pump.live else ("replies are not read",)

    def notes() -> tuple[str, ...]:
        fault = None if store is None else store.fault()
        return () if fault is None else (f"API keys are as before: {fault}",)

    metrics.watch("replies_waiting", lambda: len(waiters))
    metrics.watch("key_file_faulty", lambda: len(notes()))
    ingress = Ingress(
        settings=own,
        log=KafkaCommandLog(writer=writer, codec=codec),
        waiters=waiters,
        limiter=RateLimiter(requests_per_second=own.requests_per_second),
        keys=ring,
        webhooks=webhooks,
        certificates=certificates,
        now_ms=wall_clock_ms,
        monotonic_s=time.monotonic,
        faults=faults,
    )
    return IngressProgram(http=http, ingress=ingress, writer=writer, pump=pump, notes=notes)
