"""The other three gateways of a fault run with `--gateways`, one of them with two accounts: processes of their own.

Started by `world` beside the Mock, and started again by its supervisor when they end. The engine reaches them through
proxies, one an account; the harness tells them directly. What the two sides of an account share is made up here.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import aiohttp
from pydantic import SecretStr

from gateway_adapters.adyen.spec import AdyenAccount
from gateway_adapters.mock.spec import MockAccount
from gateway_adapters.paypal.signature import LIVE
from gateway_adapters.paypal.spec import PayPalAccount
from gateway_adapters.spec import Accounts, AccountSettings
from gateway_adapters.stripe.spec import StripeAccount
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, GatewayName
from streams.development.local_engine import LOOPBACK, LocalEngine, free_port
from tests.faults.ingress import HOSTS_VARIABLE
from tests.faults.proxy import FaultyProxy
from tests.kafka_cluster.cluster import free_ports
from tests.simulators import adyen, paypal, stripe
from tests.simulators.adyen_post import HMAC_KEY, MERCHANT_ACCOUNT
from tests.simulators.paypal_process import WEBHOOK_ID, write_certificate
from tests.simulators.process import CONTROL
from tests.support.peer_books import PeerBook
from tests.support.second_account import SECOND
from tests.support.webhook_certificates import authority, certificate_for

CONTROL_TIMEOUT_S: Final = 10.0
PREFIX: Final = "PAYMENT_ENGINE_GATEWAY"
SECOND_SECRET_VARIABLE: Final = "SECOND_STRIPE_WEBHOOK_SECRET"
RETURN_URL: Final = "https://shop.example/back"

PAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "https://hooks.stripe.example/": "stripe",
        "https://checkoutshopper.example/": "adyen",
        "https://www.paypal.com/": "paypal",
    }
)
"""Whose pages payers act at, by how their URLs begin. The Mock's are its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One account at one gateway, and the simulator that plays it."""

    gateway: str
    account: str = DEFAULT_ACCOUNT

    @property
    def name(self) -> str:
        """Of its process, and in the names of its faults."""
        return self.gateway if self.account == DEFAULT_ACCOUNT else f"{self.gateway}-{self.account}"

    @property
    def route(self) -> str:
        """Of policies and plans."""
        return self.gateway if self.account == DEFAULT_ACCOUNT else f"{self.gateway}/{self.account}"


PEERS: Final = (
    Peer(gateway="stripe"),
    Peer(gateway="stripe", account=SECOND),
    Peer(gateway="adyen"),
    Peer(gateway="paypal"),
)


class EngineOfFour(LocalEngine):
    """The engine on one machine, whose ingress finds PayPal's certificates on loopback."""

    async def _start_ingress(self) -> None:
        await self.run("ingress", ["-m", "tests.faults.ingress"], health_port=free_port())


class Peers:
    """Their processes, proxies and books. They live in the folder of the engine."""

    def __init__(self, folder: Path, *, mock_url: str) -> None:
        """Make up what both sides know: credentials, secrets, PayPal's certificate and who vouches for it."""
        self._folder = folder
        self._engine: LocalEngine | None = None
        ports = free_ports(len(PEERS))
        self.proxies = {
            peer.name: FaultyProxy(partial(self._port, peer.name), port=port)
            for peer, port in zip(PEERS, ports, strict=True)
        }
        self._second_key, self._second_secret = secrets.token_hex(16), secrets.token_hex(16)
        root = authority("Root of the fault run")
        certificate = certificate_for(LIVE.name, under=authority("Intermediate of the fault run", under=root))
        (folder / "roots.pem").write_bytes(root.pem)
        write_certificate(certificate, folder / "paypal.pem")
        (folder / "second-stripe-key").write_text(self._second_key)
        self.accounts = self._accounts(mock_url)

    def _url(self, name: str, path: str = "") -> str:
        return f"http://{LOOPBACK}:{self.proxies[name].port}{path}"

    def _port(self, name: str) -> int:
        assert self._engine is not None
        return self._engine.components[name].port

    def _accounts(self, mock_url: str) -> Accounts:
        default, second = AccountName(DEFAULT_ACCOUNT), AccountName(SECOND)

        def at_stripe(name: str, api_key: str, secret: str) -> StripeAccount:
            return StripeAccount(
                api_key=SecretStr(api_key),
                url=self._url(name, stripe.BASE_PATH),
                webhook_secret=SecretStr(secret),
                multicapture=True,
            )

        return {
            GatewayName("mock"): {name: MockAccount(url=mock_url) for name in (default, second)},
            GatewayName("stripe"): {
                default: at_stripe("stripe", stripe.API_KEY, "whsec_first"),
                second: at_stripe(f"stripe-{SECOND}", self._second_key, self._second_secret),
            },
            GatewayName("adyen"): {
                default: AdyenAccount(
                    api_key=SecretStr(adyen.API_KEY),
                    merchant_account=MERCHANT_ACCOUNT,
                    return_url=RETURN_URL,
                    url=self._url("adyen", adyen.BASE_PATH),
                    multiple_captures=True,
                    webhook_secret=SecretStr(HMAC_KEY),
                )
            },
            GatewayName("paypal"): {
                default: PayPalAccount(
                    url=self._url("paypal"),
                    client_id=paypal.CLIENT_ID,
                    client_secret=SecretStr(paypal.CLIENT_SECRET),
                    webhook_secret=SecretStr(WEBHOOK_ID),
                    webhook_roots=str(self._folder / "roots.pem"),
                )
            },
        }

    def environment(self) -> dict[str, str]:
        """Return the variables of the engine's components; the second account is added to their accounts file."""
        said: dict[str, str] = {}
        for gateway, by_account in self.accounts.items():
            if gateway != "mock":
                said |= _variables(gateway, by_account[AccountName(DEFAULT_ACCOUNT)])
        second = self.accounts[GatewayName("stripe")][AccountName(SECOND)]
        assert isinstance(second, StripeAccount)
        with (self._folder / "accounts.toml").open("a") as file:
            file.write(
                f"\n[stripe.{SECOND}]\n"
                f'url = "{second.url}"\n'
                'api_key = { file = "second-stripe-key" }\n'
                f'webhook_secret = {{ env = "{SECOND_SECRET_VARIABLE}" }}\n'
                "multicapture = true\n"
            )
        return said | {SECOND_SECRET_VARIABLE: self._second_secret, HOSTS_VARIABLE: self._url("paypal")}

    async def start(self, engine: LocalEngine) -> None:
        """Start proxies and simulators, which tell this engine's ingress. Raises: ComponentFailedError."""
        self._engine = engine
        for proxy in self.proxies.values():
            await proxy.start()
        own = {
            "stripe": ("--webhook-secret", "whsec_first"),
            f"stripe-{SECOND}": ("--api-key", self._second_key, "--webhook-secret", self._second_secret),
            "paypal": ("--certificate", str(self._folder / "paypal.pem")),
        }
        for peer in PEERS:
            hook = f"{engine.url}/webhooks/{peer.gateway}"
            arguments = ["-m", "tests.simulators", peer.gateway, "--ledger", str(self._book(peer))]
            arguments += ["--webhook-url", hook if peer.account == DEFAULT_ACCOUNT else f"{hook}/{peer.account}"]
            await engine.run(peer.name, [*arguments, *own.get(peer.name, ())])

    async def stop(self) -> None:
        """Stop the simulators. Safe to call twice."""
        for peer in PEERS:
            if self._engine is not None and peer.name in self._engine.components:
                await self._engine.components[peer.name].stop()

    def _book(self, peer: Peer) -> Path:
        return self._folder / f"{peer.name}-ledger.sqlite"

    def books(self) -> list[PeerBook]:
        """Return what each has written down."""
        return [PeerBook(gateway=each.gateway, account=each.account, path=self._book(each)) for each in PEERS]

    async def tell(
        self, session: aiohttp.ClientSession, name: str, method: str, path: str, said: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Use a simulator's control endpoint, past its proxy; return what it answers.

        Raises: aiohttp.ClientError: it refuses, or cannot be reached.
        """
        url = f"http://{LOOPBACK}:{self._port(name)}{CONTROL}{path}"
        timeout = aiohttp.ClientTimeout(total=CONTROL_TIMEOUT_S)
        async with session.request(method, url, json=said, timeout=timeout) as answer:
            answer.raise_for_status()
            text = await answer.text()
            told: dict[str, Any] = json.loads(text) if text else {}
            return told

    def is_page(self, action_url: str) -> bool:
        """Say whether a payer acts at one of these gateways' pages."""
        return action_url.startswith(tuple(PAGES))

    async def visit(self, session: aiohttp.ClientSession, action_url: str, *, agrees: bool) -> dict[str, str]:
        """Let the payer act at this page; return what is brought back. Raises: aiohttp.ClientError.

        A reference stands at the end of the page's URL; of two accounts at a gateway one knows it.
        """
        gateway = next(name for page, name in PAGES.items() if action_url.startswith(page))
        said = {"reference": action_url.replace("=", "/").rpartition("/")[2], "agreed": agrees}
        for peer in (each for each in PEERS if each.gateway == gateway):
            try:
                told = await self.tell(session, peer.name, "POST", "/payer", said)
            except aiohttp.ClientResponseError as refused:
                if refused.status != 404:
                    raise
                continue
            brought: dict[str, str] = told["return_parameters"]
            return brought
        raise LookupError(f"nobody waits at {action_url}")


def _variables(gateway: str, account: AccountSettings) -> dict[str, str]:
    """Return the variables that set this up as the gateway's default account."""
    said = {}
    for name in account.model_fields_set:
        value = getattr(account, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        said[f"{PREFIX}_{gateway}_{name}".upper()] = text.lower() if isinstance(value, bool) else text
    return said
