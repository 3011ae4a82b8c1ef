"""PayPal in the gateway contract suite. Its peer is a simulator of our own, behind PayPal's own document."""

import functools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from gateway_adapters.contract import CertificateFetcher
from gateway_adapters.errors import Code, UnauthenticError
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.paypal.client import PayPalGateway
from gateway_adapters.paypal.references import reference_of
from gateway_adapters.paypal.signature import LIVE
from gateway_adapters.paypal.spec import PayPalAccount
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind
from tests.peers import PAYPAL_DOCUMENT
from tests.simulators.paypal import CLIENT_ID, CLIENT_SECRET, PayPalSimulator
from tests.simulators.paypal_bank import APPROVES
from tests.support.gateway_under_test import GatewayUnderTest, Opener, Situation
from tests.support.mock_gateway_process import Delivered, WebhookReceiver, until
from tests.support.openapi_judge import RequestJudge, judge_of
from tests.support.webhook_certificates import SigningCertificate, authority, certificate_for

READ_TIMEOUT_S = 1.0
WEBHOOK_ID = "8PT597110X687430LKGECATA"
CERTIFICATE_URL = "https://api.paypal.com/v1/notifications/certs/CERT-1"


class KnownCertificate(CertificateFetcher):
    """Fetches the one certificate that stands at PayPal's."""

    def __init__(self, certificate: SigningCertificate) -> None:
        self._certificate = certificate

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        if url != CERTIFICATE_URL or hosts != LIVE.hosts:
            raise UnauthenticError("nothing stands there")
        return self._certificate.pem


class PayPalUnderTest(GatewayUnderTest):
    """Fulfils `GatewayUnderTest` with the simulator."""

    signs_time = False  # only in days: a delivery is repeated for three under its first signature
    names_orders = False
    tells_reversals = False
    names_cases = False
    details = CallDetails(return_url="https://shop.example/back")
    action_token: str | None = None
    completion_token: str | None = APPROVES
    cannot: Mapping[Situation, str] = MappingProxyType(
        {
            Situation.STORED_500_BEFORE: "PayPal keeps no failure under a request id",
            Situation.STORED_500_AFTER: "PayPal keeps no failure under a request id",
            Situation.BATCHED_WEBHOOKS: "a webhook of PayPal's holds one event",
            Situation.PARTIAL_APPROVAL: "PayPal approves all or nothing",
            Situation.REFUSED_THEN_SUCCEEDED: "what PayPal has declined stays so",
            Situation.RECAPTURED: "PayPal tells of no second capture",
        }
    )
    decline_tokens: Mapping[Code, str] = MappingProxyType(
        {
            Code.INSUFFICIENT_FUNDS: "declined_5120",
            Code.CARD_DECLINED: "issue_INSTRUMENT_DECLINED",
            Code.EXPIRED_CARD: "declined_5400",
            Code.INCORRECT_CVC: "declined_5110",
            Code.PROCESSING_ERROR: "declined_8000",
            Code.FRAUDULENT: "declined_9500",
            Code.LOST_OR_STOLEN: "declined_9520",
            Code.LIMIT_EXCEEDED: "declined_5710",
            Code.DO_NOT_HONOR: "declined_0500",
            Code.INVALID_ACCOUNT: "declined_1330",
            Code.AUTHENTICATION_REQUIRED: "declined_5650",
            Code.ISSUER_UNAVAILABLE: "declined_5920",
            Code.NOT_SUPPORTED: "declined_5700",
            Code.REVOKED: "declined_PPTR",
            Code.PIN_REQUIRED: "declined_0890",
            Code.DUPLICATE: "declined_5200",
            Code.UNKNOWN: "declined_9999",
        }
    )

    def __init__(self, simulator: PayPalSimulator, receiver: WebhookReceiver, roots: Path) -> None:
        self._simulator = simulator
        self._receiver = receiver
        self.certificates = KnownCertificate(simulator.events.certificate)
        self.gateway = PayPalGateway(
            PayPalAccount(
                url=simulator.url,
                client_id=CLIENT_ID,
                client_secret=SecretStr(CLIENT_SECRET),
                webhook_secret=SecretStr(WEBHOOK_ID),
                webhook_roots=str(roots),
            ),
            TransportLimits(connect_timeout_s=2.0, read_timeout_s=READ_TIMEOUT_S, total_timeout_s=4.0),
        )

    async def provoke(self, situation: Situation, request: GatewayCallRequested) -> None:
        if situation is Situation.REFUSED:
            await self._simulator.close_listener()
            return
        self._simulator.arm(situation, _named_by(request))

    async def come_back(self, reference: str, *, agreed: bool) -> tuple[NamedText, ...]:
        # A payer who leaves has said nothing, and may still agree: what is declined is the method of one who does.
        self._simulator.bank.approve(reference, declined=not agreed)
        return NamedText(name="token", value=reference), NamedText(name="PayerID", value="QYR5Z8XDVJNXQ")

    async def complete_action(self, reference: str) -> None:
        raise NotImplementedError  # PayPal completes nothing by itself: there is no `action_token`

    async def listening_again(self) -> None:
        await self._simulator.listen()

    def effects(self, request: GatewayCallRequested) -> list[tuple[str, int]]:
        order = self._simulator.bank.order_of(reference_of(request.kind, request.op_id))
        return [] if order is None else order.effects

    async def webhooks(self, count: int) -> list[Delivered]:
        await until(lambda: len(self._receiver.delivered) >= count, f"{count} webhooks")
        return self._receiver.delivered

    def tampered(self, body: bytes) -> bytes:
        return body.replace(b'"100.00"', b'"100.01"')


def _named_by(request: GatewayCallRequested) -> str:
    """Return what the call carries, or names at PayPal."""
    match request.kind:
        case CallKind.INQUIRE:
            return request.own_reference or ""
        case CallKind.VOID | CallKind.COMPLETE:
            return request.payment_reference or ""
        case _:
            return reference_of(request.kind, request.op_id)


@functools.cache
def _judge() -> RequestJudge:
    """Return the judge by PayPal's document, with all compiled that is judged here: the first time takes a while."""
    judge = judge_of(PAYPAL_DOCUMENT)
    for path in (
        "/v1/oauth2/token",
        "/v2/checkout/orders",
        *(f"/v2/checkout/orders/ORDER/{step}" for step in ("authorize", "capture")),
        *(f"/v2/payments/authorizations/AUTH/{step}" for step in ("capture", "void")),
        "/v2/payments/captures/CAP/refund",
    ):
        form = "application/x-www-form-urlencoded" if "oauth2" in path else "application/json"
        headers = {"content-type": form, "prefer": "return=minimal", "paypal-request-id": "1"}
        judge.refusals("POST", path, headers, b"{}")
    return judge


@asynccontextmanager
async def simulated(certificate: SigningCertificate) -> AsyncIterator[PayPalSimulator]:
    """A simulator that runs, behind PayPal's own document."""
    simulator = PayPalSimulator(
        judge=_judge().refusals, certificate=certificate, webhook_id=WEBHOOK_ID, certificate_url=CERTIFICATE_URL
    )
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


@contextmanager
def started(folder: Path) -> Iterator[Opener]:
    """Make an authority and PayPal's certificate; each adapter that is opened gets a simulator of its own."""
    root = authority("Root of the test")
    certificate = certificate_for(LIVE.name, under=authority("Intermediate of the test", under=root))
    roots = folder / "roots.pem"
    roots.write_bytes(root.pem)

    @asynccontextmanager
    async def opener() -> AsyncIterator[GatewayUnderTest]:
        async with simulated(certificate) as simulator, WebhookReceiver() as receiver:
            simulator.events.webhook_url = receiver.url
            under_test = PayPalUnderTest(simulator, receiver, roots)
            try:
                yield under_test
            finally:
                await under_test.gateway.close()

    yield opener
