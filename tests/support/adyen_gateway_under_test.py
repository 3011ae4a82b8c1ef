"""Adyen in the gateway contract suite: its peer is a simulator of our own, behind Adyen's own document.

It runs in the test's event loop, a fresh one for each test, and is spoken to over a socket.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from gateway_adapters.adyen.client import AdyenGateway
from gateway_adapters.adyen.references import reference_of
from gateway_adapters.adyen.spec import AdyenAccount
from gateway_adapters.contract import Gateway
from gateway_adapters.errors import Code
from gateway_adapters.http_transport import TransportLimits
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind
from tests.simulators.adyen import API_KEY, AdyenSimulator
from tests.simulators.adyen_post import HMAC_KEY, MERCHANT_ACCOUNT, AdyenPost
from tests.support.gateway_under_test import GatewayUnderTest, Opener, Situation
from tests.support.mock_gateway_process import Delivered, WebhookReceiver, until

READ_TIMEOUT_S = 1.0
CLOSED_S = 0.5
NO_INQUIRY = "Adyen has no inquiry: the same call with its key is the question"
KEEPS_NO_FAILURES = "no page of Adyen's says that it keeps a 5xx under a key"


def account_of(simulator: AdyenSimulator, **changes: object) -> AdyenAccount:
    """Return an account at the simulator."""
    fields: dict[str, object] = {
        "api_key": SecretStr(API_KEY),
        "merchant_account": MERCHANT_ACCOUNT,
        "return_url": "https://shop.example/back",
        "url": simulator.url,
        "webhook_secret": SecretStr(HMAC_KEY),
        **changes,
    }
    return AdyenAccount.model_validate(fields)


def limits() -> TransportLimits:
    """Return time-outs that a test can wait for."""
    return TransportLimits(connect_timeout_s=2.0, read_timeout_s=READ_TIMEOUT_S, total_timeout_s=4.0)


class AdyenUnderTest(GatewayUnderTest):
    """Fulfils `GatewayUnderTest` with the simulator."""

    tells_later = frozenset({CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND})
    marks_replays = False
    compares_bodies = False  # no page of Adyen's says so
    signs_time = False
    names_orders = False
    details = CallDetails(payer_reference="shopper-17")
    action_token = "redirect"
    completion_token = "redirect_completed"
    cannot: Mapping[Situation, str] = MappingProxyType(
        {
            Situation.NOT_FOUND_YET: NO_INQUIRY,
            Situation.STORED_500_BEFORE: KEEPS_NO_FAILURES,
            Situation.STORED_500_AFTER: KEEPS_NO_FAILURES,
        }
    )
    decline_tokens: Mapping[Code, str] = MappingProxyType(
        {
            Code.DO_NOT_HONOR: "declined_2",
            Code.PROCESSING_ERROR: "declined_4",
            Code.LOST_OR_STOLEN: "declined_5",
            Code.EXPIRED_CARD: "declined_6",
            Code.CARD_DECLINED: "declined_7",
            Code.INVALID_ACCOUNT: "declined_8",
            Code.ISSUER_UNAVAILABLE: "declined_9",
            Code.NOT_SUPPORTED: "declined_10",
            Code.AUTHENTICATION_REQUIRED: "declined_11",
            Code.INSUFFICIENT_FUNDS: "declined_12",
            Code.FRAUDULENT: "declined_20",
            Code.INCORRECT_CVC: "declined_24",
            Code.REVOKED: "declined_26",
            Code.LIMIT_EXCEEDED: "declined_28",
            Code.PIN_REQUIRED: "declined_33",
            Code.UNKNOWN: "declined_99",
        }
    )

    def __init__(self, simulator: AdyenSimulator, receiver: WebhookReceiver) -> None:
        self._simulator = simulator
        self._receiver = receiver
        self.gateway: Gateway = AdyenGateway(account_of(simulator), limits())

    async def provoke(self, situation: Situation, request: GatewayCallRequested) -> None:
        if situation is Situation.REFUSED:
            await self._simulator.stop_listening()
            return
        self._simulator.provoke(situation, reference_of(request.op_id, request.kind))

    async def come_back(self, reference: str, *, agreed: bool) -> tuple[NamedText, ...]:
        result = self._simulator.bank.act(agreed=agreed)
        return (NamedText(name="redirectResult", value=result),)

    async def complete_action(self, reference: str) -> None:
        self._simulator.bank.settle_redirect()

    async def listening_again(self) -> None:
        await self._simulator.listen()

    def effects(self, request: GatewayCallRequested) -> list[tuple[str, int]]:
        return self._simulator.effects(reference_of(request.op_id, request.kind))

    async def webhooks(self, count: int) -> list[Delivered]:
        await until(lambda: len(self._receiver.delivered) >= count, f"{count} webhooks")
        return self._receiver.delivered

    def tampered(self, body: bytes) -> bytes:
        return body.replace(b'"value": 10000', b'"value": 10001')

    def unsigned(self, body: bytes) -> bytes:
        return body.replace(b"hmacSignature", b"anotherMember")


@contextmanager
def started(folder: Path) -> Iterator[Opener]:
    """Return what opens an adapter on a simulator of its own."""

    @asynccontextmanager
    async def opener() -> AsyncIterator[GatewayUnderTest]:
        async with WebhookReceiver() as receiver, AdyenSimulator(post=AdyenPost(target=receiver.url)) as simulator:
            under_test = AdyenUnderTest(simulator, receiver)
            try:
                yield under_test
            finally:
                await under_test.gateway.close()
                await asyncio.sleep(0)  # aiohttp lets its connections go in the next round
            assert simulator.complaints == []

    yield opener
