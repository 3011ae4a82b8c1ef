"""Payments at Adyen through the whole engine: processes, log and sockets; the gateway is our simulator of it."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from streams.development.local_engine import LocalEngine
from tests.simulators.adyen import API_KEY, AdyenSimulator
from tests.simulators.adyen_post import HMAC_KEY, MERCHANT_ACCOUNT, AdyenPost
from tests.support.waiting import until_async

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

PREFIX = "PAYMENT_ENGINE_GATEWAY_ADYEN_"
WEBHOOK_LIMIT_S = 30.0
NOT_FINAL_OR_DONE = {200, 201, 202}
"""A notice may come before the waiting caller is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A merchant whose payments go to Adyen."""

    engine: LocalEngine
    simulator: AdyenSimulator

    async def post(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Idempotency-Key": key, "X-Origin-Id": "originA"}
        url = f"{self.engine.url}{path}?mode=sync"
        async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def pay(self, order: str, method: str = "8415", *, capture: bool) -> tuple[int, dict[str, Any]]:
        token = {"gateway": "adyen", "kind": "stored", "value": method, "payerReference": "shopper-17"}
        body = {"amount": 10_000, "currency": "EUR", "orderId": order, "capture": capture, "tokens": [token]}
        return await self.post("/payments", f"pay-{order}", body)

    async def payment(self, name: str) -> dict[str, Any]:
        headers = {"X-Origin-Id": "originA"}
        url = f"{self.engine.url}/payments/{name}"
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
            payment: dict[str, Any] = await response.json()
            return payment

    def becomes(self, name: str, status: str) -> Callable[[], Awaitable[bool]]:
        async def has_become() -> bool:
            return bool((await self.payment(name))["status"] == status)

        return has_become

    def effects(self, name: dict[str, Any]) -> list[tuple[str, int]]:
        operation = name["operation"]
        return self.simulator.bank.effects(f"{operation['id']}.{operation['kind']}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Shop]:
    async with AdyenSimulator(post=AdyenPost(), tells_what_it_answered=True) as simulator:
        environment = {
            "PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS": "adyen",
            f"{PREFIX}URL": simulator.url,
            f"{PREFIX}API_KEY": API_KEY,
            f"{PREFIX}MERCHANT_ACCOUNT": MERCHANT_ACCOUNT,
            f"{PREFIX}RETURN_URL": "https://shop.example/back",
            f"{PREFIX}WEBHOOK_SECRET": HMAC_KEY,
        }
        with tempfile.TemporaryDirectory(prefix="payment-engine-test-") as folder:
            async with LocalEngine(folder=Path(folder), environment=environment) as engine:
                simulator.post.target = f"{engine.url}/webhooks/adyen"
                yield Shop(engine=engine, simulator=simulator)
        assert simulator.complaints == []


async def test_capture_and_refund_are_pending_until_adyen_tells(shop: Shop) -> None:
    status, held = await shop.pay("order-1", capture=False)
    assert (status, held["status"], held["operation"]["gateway"]) == (201, "authorized", "adyen")
    name = held["id"]
    status, _ = await shop.post(f"/payments/{name}/capture", "capture-1", {"amount": 10_000})
    assert status in NOT_FINAL_OR_DONE
    await until_async(shop.becomes(name, "captured"), timeout_s=WEBHOOK_LIMIT_S)
    status, _ = await shop.post("/refunds", "refund-1", {"paymentId": name, "amount": 4_000})
    assert status in NOT_FINAL_OR_DONE
    await until_async(shop.becomes(name, "partially_refunded"), timeout_s=WEBHOOK_LIMIT_S)
    assert shop.effects(held) == [("authorize", 10_000), ("capture", 10_000), ("refund", 4_000)]


async def test_payment_is_declined_by_adyens_reason(shop: Shop) -> None:
    status, problem = await shop.pay("order-2", "declined_12", capture=True)
    assert (status, problem["operation"]["error"]["code"]) == (402, "insufficient_funds")


async def test_sale_whose_answer_was_lost_is_found_by_its_notice_and_made_once(shop: Shop) -> None:
    status, doubtful = await shop.pay("order-3", "meets_reset_after", capture=True)
    assert status in NOT_FINAL_OR_DONE
    await until_async(shop.becomes(doubtful["id"], "captured"), timeout_s=WEBHOOK_LIMIT_S)
    assert shop.effects(doubtful) == [("sale", 10_000)]


async def test_sale_that_never_arrived_is_made_by_the_same_call_once(shop: Shop) -> None:
    status, doubtful = await shop.pay("order-4", "meets_reset_before", capture=True)
    assert status in NOT_FINAL_OR_DONE
    await until_async(shop.becomes(doubtful["id"], "captured"), timeout_s=WEBHOOK_LIMIT_S)  # the first look: 5 s
    assert shop.effects(doubtful) == [("sale", 10_000)]


async def test_payment_goes_on_once_its_payer_is_back(shop: Shop) -> None:
    status, waiting = await shop.pay("order-5", "redirect_completed", capture=True)
    assert (status, waiting["operation"]["state"]) == (202, "requires_action")
    result = shop.simulator.bank.act(agreed=True)
    path = f"/payments/{waiting['id']}/complete"
    status, done = await shop.post(path, "complete-5", {"parameters": {"redirectResult": result}})
    assert (status, done["status"], done["operation"]["state"]) == (200, "captured", "succeeded")
    assert shop.effects(waiting) == [("sale", 10_000)]
    status, _ = await shop.post("/refunds", "refund-5", {"paymentId": waiting["id"], "amount": 10_000})
    assert status in NOT_FINAL_OR_DONE
    await until_async(shop.becomes(waiting["id"], "refunded"), timeout_s=WEBHOOK_LIMIT_S)


async def test_charged_back_sale_has_failed_and_the_sums_say_so(shop: Shop) -> None:
    status, sold = await shop.pay("order-6", "meets_chargeback_lost", capture=True)
    assert (status, sold["status"]) == (201, "captured")
    await until_async(shop.becomes(sold["id"], "failed"), timeout_s=WEBHOOK_LIMIT_S)
    assert shop.effects(sold) == [("sale", 10_000), ("reversal", 10_000)]
