"""Payments at Stripe through the whole engine: processes, log and sockets; the gateway is our simulator of it.

It tells of everything that happens, as a real endpoint is told, so that each answer's word comes twice.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from streams.development.local_engine import LocalEngine
from tests.simulators.stripe import API_KEY, StripeSimulator, running
from tests.simulators.stripe_events import SECRET
from tests.support.gateway_under_test import Situation
from tests.support.waiting import until_async

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

PREFIX = "PAYMENT_ENGINE_GATEWAY_STRIPE_"
LIMIT_S = 90.0
"""What a search did not find is made again at the second look, 35 s after the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A merchant whose payments go to Stripe."""

    engine: LocalEngine
    simulator: StripeSimulator

    async def post(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Idempotency-Key": key, "X-Origin-Id": "originA"}
        url = f"{self.engine.url}{path}?mode=sync"
        async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def pay(self, order: str, token: str = "pm_card_visa", *, capture: bool) -> tuple[int, dict[str, Any]]:
        body = {"amount": 10_000, "currency": "USD", "orderId": order, "capture": capture, "token": token}
        return await self.post("/payments", f"pay-{order}", {**body, "returnUrl": "https://shop.example/back"})

    async def payment(self, name: str) -> dict[str, Any]:
        url = f"{self.engine.url}/payments/{name}"
        async with aiohttp.ClientSession() as http, http.get(url, headers={"X-Origin-Id": "originA"}) as response:
            payment: dict[str, Any] = await response.json()
            return payment

    def becomes(self, name: str, **expected: object) -> Callable[[], Awaitable[bool]]:
        async def has_become() -> bool:
            payment = await self.payment(name)
            return {member: payment[member] for member in expected} == expected

        return has_become

    async def settle(self, name: str, **expected: object) -> None:
        await until_async(self.becomes(name, **expected), timeout_s=LIMIT_S)
        assert "review" not in (await self.payment(name))["overlays"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Shop]:
    async with running(announces=True) as simulator:
        environment = {
            "PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS": "stripe",
            f"{PREFIX}URL": simulator.url,
            f"{PREFIX}API_KEY": API_KEY,
            f"{PREFIX}WEBHOOK_SECRET": SECRET,
            f"{PREFIX}MULTICAPTURE": "true",
        }
        with tempfile.TemporaryDirectory(prefix="payment-engine-test-") as folder:
            async with LocalEngine(folder=Path(folder), environment=environment) as engine:
                simulator.events.tell(f"{engine.url}/webhooks/stripe")
                yield Shop(engine=engine, simulator=simulator)
        assert simulator.events.refused == []


async def test_hold_is_captured_twice_and_refunded(shop: Shop) -> None:
    status, held = await shop.pay("order-1", capture=False)
    assert (status, held["status"], held["operation"]["gateway"]) == (201, "authorized", "stripe")
    name = held["id"]
    for number, amount in enumerate((4_000, 6_000)):
        status, _ = await shop.post(f"/payments/{name}/capture", f"capture-1-{number}", {"amount": amount})
        assert status == 200
    status, _ = await shop.post("/refunds", "refund-1", {"paymentId": name, "amount": 2_500})
    assert status == 201
    await shop.settle(name, status="partially_refunded", capturedAmount=10_000, refundedAmount=2_500)
    assert shop.simulator.bank.effects("order-1") == [
        ("authorize", 10_000),
        ("capture", 4_000),
        ("capture", 6_000),
        ("refund", 2_500),
    ]


async def test_hold_is_voided_once_though_its_event_names_no_operation(shop: Shop) -> None:
    _, held = await shop.pay("order-2", capture=False)
    status, _ = await shop.post(f"/payments/{held['id']}/void", "void-2", {})
    assert status == 200
    await until_async(shop.simulator.events.all_told, timeout_s=LIMIT_S)
    await shop.settle(held["id"], status="voided", releasedAmount=10_000)


async def test_payment_is_declined_by_stripes_code(shop: Shop) -> None:
    status, problem = await shop.pay("order-3", "pm_card_chargeDeclinedInsufficientFunds", capture=True)
    assert (status, problem["operation"]["error"]["code"]) == (402, "insufficient_funds")


async def test_payment_goes_on_once_its_payer_has_agreed(shop: Shop) -> None:
    status, waiting = await shop.pay("order-4", "pm_card_authenticationRequired", capture=True)
    assert (status, waiting["operation"]["state"]) == (202, "requires_action")
    assert waiting["operation"]["actionUrl"]
    await shop.simulator.payer_agrees(waiting["operation"]["gatewayReference"])
    await shop.settle(waiting["id"], status="captured", capturedAmount=10_000)


@pytest.mark.parametrize("situation", [Situation.RESET_BEFORE, Situation.RESET_AFTER, Situation.STORED_500_AFTER])
async def test_sale_whose_answer_was_lost_is_made_once(shop: Shop, situation: Situation) -> None:
    order = f"order-5-{situation}"
    shop.simulator.provoke(situation, order, "sale")
    _, doubtful = await shop.pay(order, capture=True)
    await shop.settle(doubtful["id"], status="captured", capturedAmount=10_000)
    assert shop.simulator.bank.effects(order) == [("sale", 10_000)]


@pytest.mark.parametrize(
    ("situation", "captured", "disputed"),
    [(Situation.DISPUTE_OPENED, 10_000, 10_000), (Situation.PARTIAL_CHARGEBACK_LOST, 7_000, 0)],
)
async def test_dispute_that_names_the_payment_alone_reaches_its_order(
    shop: Shop, situation: Situation, captured: int, disputed: int
) -> None:
    order = f"order-6-{situation}"
    shop.simulator.provoke(situation, order, "sale")
    _, paid = await shop.pay(order, capture=True)
    await shop.settle(paid["id"], capturedAmount=captured, disputedAmount=disputed)


async def test_refund_at_stripes_own_desk_counts(shop: Shop) -> None:
    shop.simulator.provoke(Situation.PARTIAL_DESK_REFUND, "order-7", "sale")
    _, paid = await shop.pay("order-7", capture=True)
    await shop.settle(paid["id"], status="partially_refunded", refundedAmount=3_000)


async def test_refund_that_fails_late_is_taken_back(shop: Shop) -> None:
    _, paid = await shop.pay("order-8", capture=True)
    await shop.post("/refunds", "refund-8", {"paymentId": paid["id"], "amount": 2_500})
    await shop.settle(paid["id"], refundedAmount=2_500)
    (refund,) = [each for each in shop.simulator.bank.refunds.values() if each["metadata"].get("order_id") == "order-8"]
    refund |= {"status": "failed", "failure_reason": "lost_or_stolen_card"}
    await shop.simulator.events.send(shop.simulator.events.event("refund.failed", refund))
    await shop.settle(paid["id"], status="captured", refundedAmount=0)


async def test_cancellation_at_stripes_own_desk_releases_the_hold(shop: Shop) -> None:
    _, held = await shop.pay("order-9", capture=False)
    payment = shop.simulator.bank.payments[held["operation"]["gatewayReference"]]
    shop.simulator.bank.cancel(payment)
    await shop.simulator.events.send(shop.simulator.events.event("payment_intent.canceled", payment))
    await shop.settle(held["id"], status="voided", releasedAmount=10_000)
