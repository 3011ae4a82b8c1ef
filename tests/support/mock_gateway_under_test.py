"""The Mock in the gateway contract suite. Its peer can provoke everything."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from gateway_adapters.contract import Gateway
from gateway_adapters.errors import Code
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.mock.client import MockGateway
from gateway_adapters.mock.spec import MockAccount
from schemas.records.commands import NamedText
from schemas.records.gateway import GatewayCallRequested
from tests.support.gateway_under_test import GatewayUnderTest, Opener, Situation
from tests.support.mock_gateway_process import SECRET, Delivered, MockGatewayProcess, WebhookReceiver, until

READ_TIMEOUT_S = 1.0
SLOW_MS = 200
CLOSED_MS = 700


class MockUnderTest(GatewayUnderTest):
    """Fulfils `GatewayUnderTest` with a Mock server process."""

    cannot: Mapping[Situation, str] = MappingProxyType({})
    action_token: str | None = "pm_card_authenticationRequired"
    completion_token: str | None = "tok_mock_completion_required"
    decline_tokens: Mapping[Code, str] = MappingProxyType(
        {
            Code.CARD_DECLINED: "tok_chargeDeclined",
            Code.INSUFFICIENT_FUNDS: "tok_chargeDeclinedInsufficientFunds",
            Code.EXPIRED_CARD: "tok_chargeDeclinedExpiredCard",
            Code.INCORRECT_CVC: "tok_chargeDeclinedIncorrectCvc",
            Code.PROCESSING_ERROR: "tok_chargeDeclinedProcessingError",
            Code.FRAUDULENT: "tok_chargeDeclinedFraudulent",
            Code.LOST_OR_STOLEN: "tok_chargeDeclinedLostCard",
            Code.LIMIT_EXCEEDED: "tok_chargeDeclinedVelocityLimitExceeded",
            Code.DO_NOT_HONOR: "tok_mock_declined_do_not_honor",
            Code.INVALID_ACCOUNT: "tok_mock_declined_invalid_account",
            Code.AUTHENTICATION_REQUIRED: "tok_mock_declined_authentication_required",
        }
    )

    def __init__(self, process: MockGatewayProcess, receiver: WebhookReceiver) -> None:
        self._process = process
        self._receiver = receiver
        limits = TransportLimits(connect_timeout_s=2.0, read_timeout_s=READ_TIMEOUT_S, total_timeout_s=4.0)
        self.gateway: Gateway = MockGateway(MockAccount(url=process.url, webhook_secret=SecretStr(SECRET)), limits)

    async def provoke(self, situation: Situation, request: GatewayCallRequested) -> None:
        if situation is Situation.REFUSED:
            await self._process.post("/listener/close", {"for_ms": CLOSED_MS})
            while await self._process.listens():  # bounded by the test's own time-out
                continue
            return
        body: dict[str, object] = {
            "scenario": situation.value,
            "order_id": request.order_id,
            "kind": request.kind.value,
        }
        if situation is Situation.SLOW:
            body["delay_ms"] = SLOW_MS
        if situation is Situation.RATE_LIMITED:
            body["retry_after_s"] = 7
        await self._process.post("/scenarios", body)

    async def come_back(self, reference: str, *, agreed: bool) -> tuple[NamedText, ...]:
        said = "" if agreed else "?result=failed"
        answered = await self._process.post(f"/actions/{reference}/complete{said}", {})
        return tuple(NamedText(name=name, value=value) for name, value in answered["return_parameters"].items())

    async def complete_action(self, reference: str) -> None:
        await self._process.post(f"/actions/{reference}/complete", {})

    async def listening_again(self) -> None:
        while not await self._process.listens():  # bounded by the test's own time-out
            continue

    def effects(self, request: GatewayCallRequested) -> list[tuple[str, int]]:
        return self._process.effects(request.order_id)

    async def webhooks(self, count: int) -> list[Delivered]:
        await until(lambda: len(self._receiver.delivered) >= count, f"{count} webhooks")
        return self._receiver.delivered


@contextmanager
def started(folder: Path) -> Iterator[Opener]:
    """Run a Mock server; each adapter that is opened is told of webhooks by a receiver of its own."""
    with MockGatewayProcess(folder / "ledger.sqlite") as process:

        @asynccontextmanager
        async def opener() -> AsyncIterator[GatewayUnderTest]:
            async with WebhookReceiver() as receiver:
                await process.post("/webhooks/target", {"url": receiver.url})
                under_test = MockUnderTest(process, receiver)
                try:
                    yield under_test
                finally:
                    await under_test.gateway.close()

        yield opener
