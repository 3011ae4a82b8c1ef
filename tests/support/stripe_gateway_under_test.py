"""Stripe in the gateway contract suite. Its peer is a simulator of our own: see `tests/simulators/stripe`."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from gateway_adapters.errors import Code
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.stripe.client import StripeGateway
from gateway_adapters.stripe.spec import StripeAccount
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from tests.simulators.stripe import API_KEY, StripeSimulator, running
from tests.simulators.stripe_events import SECRET
from tests.support.gateway_under_test import GatewayUnderTest, Opener, Situation
from tests.support.mock_gateway_process import Delivered, WebhookReceiver, until

READ_TIMEOUT_S = 1.0

_ONLY_DISPUTES = "Stripe takes money back by disputes, and by refunds that fail: it has no other reversal"


class StripeUnderTest(GatewayUnderTest):
    """Fulfils `GatewayUnderTest` with the simulator."""

    cannot: Mapping[Situation, str] = MappingProxyType(
        {
            Situation.LATE_FAILURE: _ONLY_DISPUTES,
            Situation.PARTIAL_REVERSAL: _ONLY_DISPUTES,
            Situation.TWO_REVERSALS: _ONLY_DISPUTES,
            Situation.RECAPTURED: _ONLY_DISPUTES,
            Situation.WEBHOOKS_BY_REFERENCE: "Stripe gives our metadata back in every event about what we asked for",
            Situation.BATCHED_WEBHOOKS: "Stripe sends one event at a time",
            Situation.PARTIAL_APPROVAL: "the adapter asks for no partial authorizations",
        }
    )
    token = "pm_card_visa"
    action_token: str | None = "pm_card_authenticationRequired"
    completion_token: str | None = None  # Stripe completes by itself once the payer has agreed
    details: CallDetails | None = CallDetails(return_url="https://shop.example/back")
    decline_tokens: Mapping[Code, str] = MappingProxyType(
        {
            Code.CARD_DECLINED: "pm_card_chargeDeclined",
            Code.INSUFFICIENT_FUNDS: "pm_card_chargeDeclinedInsufficientFunds",
            Code.EXPIRED_CARD: "pm_card_chargeDeclinedExpiredCard",
            Code.INCORRECT_CVC: "pm_card_chargeDeclinedIncorrectCvc",
            Code.PROCESSING_ERROR: "pm_card_chargeDeclinedProcessingError",
            Code.FRAUDULENT: "pm_card_chargeDeclinedFraudulent",
            Code.LOST_OR_STOLEN: "pm_card_chargeDeclinedLostCard",
            Code.LIMIT_EXCEEDED: "pm_card_chargeDeclinedVelocityLimitExceeded",
            Code.DO_NOT_HONOR: "pm_declined_do_not_honor",
            Code.INVALID_ACCOUNT: "pm_declined_invalid_account",
            Code.AUTHENTICATION_REQUIRED: "pm_declined_authentication_required",
            Code.ISSUER_UNAVAILABLE: "pm_declined_issuer_not_available",
            Code.NOT_SUPPORTED: "pm_declined_card_not_supported",
            Code.REVOKED: "pm_declined_revocation_of_authorization",
            Code.PIN_REQUIRED: "pm_declined_offline_pin_required",
            Code.DUPLICATE: "pm_declined_duplicate_transaction",
            Code.UNKNOWN: "pm_declined_brand_new_code",
        }
    )

    def __init__(self, simulator: StripeSimulator, receiver: WebhookReceiver) -> None:
        self._simulator = simulator
        self._receiver = receiver
        limits = TransportLimits(connect_timeout_s=2.0, read_timeout_s=READ_TIMEOUT_S, total_timeout_s=4.0)
        account = StripeAccount(
            api_key=SecretStr(API_KEY), url=simulator.url, webhook_secret=SecretStr(SECRET), multicapture=True
        )
        self.gateway = StripeGateway(account, limits)

    async def provoke(self, situation: Situation, request: GatewayCallRequested) -> None:
        if situation is Situation.REFUSED:
            await self._simulator.refuse()
        else:
            self._simulator.provoke(situation, request.order_id, request.kind.value)

    async def come_back(self, reference: str, *, agreed: bool) -> tuple[NamedText, ...]:
        raise NotImplementedError  # there is no token that needs a completion

    async def complete_action(self, reference: str) -> None:
        await self._simulator.payer_agrees(reference)

    async def listening_again(self) -> None:
        await self._simulator.listen()

    def effects(self, request: GatewayCallRequested) -> list[tuple[str, int]]:
        return self._simulator.bank.effects(request.order_id)

    async def webhooks(self, count: int) -> list[Delivered]:
        await until(lambda: len(self._receiver.delivered) >= count, f"{count} webhooks")
        return self._receiver.delivered


@contextmanager
def started(folder: Path) -> Iterator[Opener]:
    """Run a simulator for each adapter that is opened; it tells a receiver of its own."""
    del folder  # it keeps its ledger in memory

    @asynccontextmanager
    async def opener() -> AsyncIterator[GatewayUnderTest]:
        async with WebhookReceiver() as receiver, running(hook_url=receiver.url) as simulator:
            under_test = StripeUnderTest(simulator, receiver)
            try:
                yield under_test
            finally:
                await under_test.gateway.close()

    yield opener
