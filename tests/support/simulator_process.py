"""A simulator of Stripe, Adyen or PayPal as a process, for tests of it, and an adapter that is set up for it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from gateway_adapters.adyen.client import AdyenGateway
from gateway_adapters.adyen.spec import AdyenAccount
from gateway_adapters.contract import CertificateFetcher, Gateway
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.paypal.client import PayPalGateway
from gateway_adapters.paypal.signature import LIVE
from gateway_adapters.paypal.spec import PayPalAccount
from gateway_adapters.stripe.client import StripeGateway
from gateway_adapters.stripe.spec import StripeAccount
from schemas.records.gateway import CallDetails, GatewayCallRequested
from tests.simulators import adyen, paypal, stripe
from tests.simulators.adyen_post import HMAC_KEY, MERCHANT_ACCOUNT
from tests.simulators.paypal_process import CERTIFICATE_PATH, WEBHOOK_ID, write_certificate
from tests.simulators.process import CONTROL
from tests.simulators.stripe_events import SECRET
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.peer_books import PeerBook
from tests.support.webhook_certificates import authority, certificate_for

STOP_TIMEOUT_S = 10.0
LIMITS = TransportLimits(connect_timeout_s=2.0, read_timeout_s=1.0, total_timeout_s=4.0)
TOKENS: Mapping[str, str] = {"stripe": "pm_card_visa", "adyen": "8415", "paypal": "vault-1"}
DETAILS: Mapping[str, CallDetails] = {"adyen": CallDetails(payer_reference="shopper-17")}


@dataclass(slots=True, kw_only=True)
class SimulatorProcess:
    """One process. It may be killed and started again."""

    name: str
    folder: Path
    webhook_url: str | None = None
    port: int = 0
    _process: "subprocess.Popen[str] | None" = None

    @property
    def book(self) -> PeerBook:
        """What it has written down."""
        return PeerBook(gateway=self.name, path=self.folder / f"{self.name}.sqlite")

    async def start(self) -> None:
        """Start it, on the port that it had before if it had one, and wait until it is ready."""
        await asyncio.to_thread(self.run)

    def run(self) -> None:
        """As `start`, for who has no event loop."""
        if self.name == "paypal" and not (self.folder / "paypal.pem").exists():
            root = authority("Root of the test")
            (self.folder / "roots.pem").write_bytes(root.pem)
            write_certificate(certificate_for(LIVE.name, under=root), self.folder / "paypal.pem")
        arguments = ["--port", str(self.port), "--ledger", str(self.folder / f"{self.name}.sqlite")]
        arguments += [] if self.webhook_url is None else ["--webhook-url", self.webhook_url]
        arguments += ["--certificate", str(self.folder / "paypal.pem")] if self.name == "paypal" else []
        command = [sys.executable, "-m", "tests.simulators", self.name, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # ends at the latest when the process does
        assert line.startswith(f"READY {self.name} "), line
        self.port = int(line.split()[-1])

    def kill(self) -> None:
        """End it as a crash would."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()

    async def tell(self, method: str, path: str, said: Mapping[str, object] | None = None) -> Any:
        """Use its control endpoint; return what it answers, None for nothing."""
        url = f"http://127.0.0.1:{self.port}{CONTROL}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, json=said) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.status == 200 else None

    def gateway(self) -> Gateway:
        """Return an adapter for it."""
        url = f"http://127.0.0.1:{self.port}"
        match self.name:
            case "stripe":
                return StripeGateway(
                    StripeAccount(
                        api_key=SecretStr(stripe.API_KEY),
                        url=f"{url}{stripe.BASE_PATH}",
                        webhook_secret=SecretStr(SECRET),
                        multicapture=True,
                    ),
                    LIMITS,
                )
            case "adyen":
                return AdyenGateway(
                    AdyenAccount(
                        api_key=SecretStr(adyen.API_KEY),
                        merchant_account=MERCHANT_ACCOUNT,
                        return_url="https://shop.example/back",
                        url=f"{url}{adyen.BASE_PATH}",
                        webhook_secret=SecretStr(HMAC_KEY),
                        multiple_captures=True,
                    ),
                    LIMITS,
                )
            case _:
                return PayPalGateway(
                    PayPalAccount(
                        url=url,
                        client_id=paypal.CLIENT_ID,
                        client_secret=SecretStr(paypal.CLIENT_SECRET),
                        webhook_secret=SecretStr(WEBHOOK_ID),
                        webhook_roots=str(self.folder / "roots.pem"),
                    ),
                    LIMITS,
                )

    def certificates(self) -> CertificateFetcher:
        """Return where its webhooks' certificates are fetched."""
        return Fetched(self.port) if self.name == "paypal" else NO_CERTIFICATES

    def fit(self, request: GatewayCallRequested) -> GatewayCallRequested:
        """Return the payment request with what this gateway needs."""
        return replace(request, token=TOKENS[self.name], details=DETAILS.get(self.name))


@dataclass(frozen=True, slots=True)
class Fetched(CertificateFetcher):
    """Fetches what stands at PayPal's path from the process."""

    port: int

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{CERTIFICATE_PATH}") as answer,
        ):
            return await answer.read()


@asynccontextmanager
async def simulator(name: str, folder: Path, *, webhook_url: str | None = None) -> AsyncIterator[SimulatorProcess]:
    """Run a simulator of this name until the block ends."""
    process = SimulatorProcess(name=name, folder=folder, webhook_url=webhook_url)
    await process.start()
    try:
        yield process
    finally:
        process.end()
