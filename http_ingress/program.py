"""The ingress as a program: `payment-engine ingress`.

Runs inside the shell of all programs (`streams.cli.program`), which finds `IngressRun` by this module's name, since
`streams` never imports `http_ingress`. Calls `compose` with what `streams` composes for every program.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway_adapters.certificates import HttpsCertificates
from http_ingress.compose import compose
from http_ingress.server import reserve_address
from schemas.messages import MessageCodec
from streams import bootstrap
from streams.account_secrets import LiveGateways
from streams.kafka_clients.connection import connection_of
from streams.settings import Settings, accounts_with_webhook_secrets, load
from streams.topology import INGRESS

_log = structlog.get_logger(__name__)


class IngressRun:
    """One run of an instance. Satisfies `streams.cli.program.Program`."""

    def __init__(self, settings: Settings, codec: MessageCodec) -> None:
        """Put it together. Raises: MisconfiguredError: keys, pepper, address or a gateway's settings are wrong."""
        self._dev = settings.http.dev
        reserve_address(settings.http.host, settings.http.port).close()  # now, since a broker may be minutes away
        accounts = accounts_with_webhook_secrets(settings)
        self._gateways = LiveGateways(bootstrap.gateways_of(settings, accounts))
        self._secrets = bootstrap.secrets_watch_of(
            settings, accounts, self._gateways, read=lambda: accounts_with_webhook_secrets(load())
        )
        self._certificates = HttpsCertificates(monotonic_s=time.monotonic)
        self._instance = compose(
            settings,
            connection=connection_of(settings.kafka, client_id=INGRESS.client_id),
            codec=codec,
            webhooks=self._gateways,
            certificates=self._certificates,
        )

    def faults(self) -> tuple[str, ...]:
        """Return why a request would not be answered now."""
        return self._instance.faults()

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know although it serves."""
        return (*self._instance.notes(), *self._secrets.notes())

    async def run(self, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serve until told to stop, then answer what waits. Raises: MisconfiguredError, LogError."""
        watching = [asyncio.create_task(job()) for job in self._secrets.jobs]
        try:
            port = await self._instance.start()
            if self._dev:
                _log.warning("dev_mode", reason="no API keys: anybody may act for any origin")
            ready(port)
            await stopping.wait()
        finally:
            await self._instance.stop()
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self._certificates.close()
            await self._gateways.close()
