"""The references index on Apache Kafka: what is parked outlives its worker, and is released after the restart."""

import asyncio
import contextlib
import shutil
import uuid
from typing import Any

import aiohttp
import pytest

from schemas import topics
from schemas.decode_errors import DecodeError
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayName, reference_key
from schemas.records.gateway import WebhookReceived
from schemas.records.references import ReferenceKept
from streams.development.local_engine import LOOPBACK, LocalEngine
from tests.support.foreign_client import CODEC
from tests.support.kafka_topics import read_to_end
from tests.support.metric_pages import value_in
from tests.support.waiting import until_async

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

MOCK = GatewayName("mock")
WAIT_S = 60.0
LOOK_AGAIN_S = 0.2


class Peer:
    """The engine and its Mock, over HTTP."""

    def __init__(self, engine: LocalEngine, http: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.http = http
        self.mock_url = f"http://{LOOPBACK}:{engine.components['mock-gateway'].port}"

    async def pay(self, order: str, token: str) -> None:
        headers = {"Idempotency-Key": order}
        body = {"originId": "originA", "orderId": order, "amount": 1999, "currency": "USD", "token": token}
        async with self.http.post(
            f"{self.engine.url}/payments?mode=async", json={**body, "capture": True}, headers=headers
        ) as answer:
            assert answer.status == 202, await answer.text()

    async def executed(self, order: str) -> str:
        """Return the gateway's id of the order's payment, once it is made there."""
        found: list[dict[str, Any]] = []

        async def is_made() -> bool:
            async with self.http.get(f"{self.mock_url}/ledger", params={"order_id": order}) as answer:
                found[:] = (await answer.json())["entries"]
            return bool(found)

        await until_async(is_made, timeout_s=WAIT_S, look_again_s=LOOK_AGAIN_S)
        return str(found[0]["operation_id"])

    async def say(self, reference: str, word: str) -> None:
        """Let this happen to the operation, told by the gateway's own references alone."""
        async with self.http.post(
            f"{self.mock_url}/operations/{reference}/words", json={"word": word, "notices": ["by_reference"]}
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def awaited(self, count: int) -> None:
        """Return once the orders worker says that webhooks wait for so many references."""

        async def is_so() -> bool:
            port = self.engine.components["orders-0"].health_port
            try:
                async with self.http.get(f"http://{LOOPBACK}:{port}/metrics") as page:
                    return value_in(await page.text(), "references_awaited") == count
            except aiohttp.ClientError:
                return False

        await until_async(is_so, timeout_s=WAIT_S, look_again_s=LOOK_AGAIN_S)

    async def records(self, topic: str) -> list[tuple[bytes, Any]]:
        found = await read_to_end(self.engine.bootstrap_servers, topic)
        decoded: list[tuple[bytes, Any]] = []
        for each in found:
            with contextlib.suppress(DecodeError):  # what other tests have thrown at the same broker
                if each.value is not None:
                    decoded.append((each.key, CODEC.decode(each.value, each.headers)[1]))
        return decoded


@pytest.mark.timeout(240)
async def test_notice_that_came_before_its_reference_is_released_when_that_comes_after_a_crash(
    engine: LocalEngine,
) -> None:
    order = f"t{uuid.uuid4().hex[:12]}"
    async with aiohttp.ClientSession() as http:
        peer = Peer(engine, http)
        await peer.awaited(0)
        await peer.pay(order, "tok_mock_timeout_after")
        reference = await peer.executed(order)  # the answer is lost: an inquiry will bring the reference to light
        await peer.say(reference, "reversed")
        await peer.awaited(1)

        await engine.components["orders-0"].kill()
        await asyncio.to_thread(shutil.rmtree, engine.folder / "orders-0")  # its tables come from their changelogs
        await engine.restart("orders-0")

        await peer.awaited(1)  # the table is back
        await peer.awaited(0)
        key = reference_key(MOCK, DEFAULT_ACCOUNT, reference)
        kept = [record for at, record in await peer.records(topics.REFERENCES) if at == key]
        assert kept
        assert {(each.order_id, each.reference) for each in kept if isinstance(each, ReferenceKept)} == {
            (order, reference)
        }

        async def is_told() -> bool:
            said = [record for at, record in await peer.records(topics.WEBHOOKS) if at == order.encode()]
            return any(isinstance(each, WebhookReceived) and each.gateway_reference == reference for each in said)

        await until_async(is_told, timeout_s=WAIT_S, look_again_s=LOOK_AGAIN_S)
        letters = await peer.records(topics.DLQ)
        assert not any(order in str(letter) or reference in str(letter) for _, letter in letters)
