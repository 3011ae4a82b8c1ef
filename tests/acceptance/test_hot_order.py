"""An order that is given back in many parts, on a real Apache Kafka, while its worker is killed: nothing is lost."""

import asyncio
import uuid

import aiohttp
import pytest

from streams.development.local_engine import LocalEngine
from tests.support.checker import MAX_SHOWN, violations
from tests.support.evidence import EvidenceGatherer
from tests.support.workload import Client, History, Request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

REFUNDS = 60
AT_ONCE = 4
KILLED_AFTER = (20, 40)
ORIGIN = "originA"


@pytest.mark.timeout(300)
async def test_refunds_that_left_their_orders_row_are_known_when_the_worker_is_killed_between(
    engine: LocalEngine,
) -> None:
    run, history = f"t{uuid.uuid4().hex[:8]}", History()
    order = f"{run}-hot"
    async with aiohttp.ClientSession() as session:
        client = Client(session, engine.url, history)
        body = {
            "originId": ORIGIN, "orderId": order, "amount": 100_000, "currency": "USD", "token": "tok_visa",
            "capture": True,
        }  # fmt: skip
        paid = await client.ask(
            origin_id=ORIGIN, order_id=order, key=f"{order}-p", path="/payments?mode=sync", body=body
        )
        payment = str(paid.last.body["id"])

        async def give_back(number: int) -> Request:
            wish = {"paymentId": payment, "amount": 100 + number}
            key = f"{order}-r{number}"
            return await client.ask(origin_id=ORIGIN, order_id=order, key=key, path="/refunds?mode=sync", body=wish)

        told: dict[int, str] = {}
        for first in range(0, REFUNDS, AT_ONCE):
            if first in KILLED_AFTER:
                await engine.components["orders-0"].kill()
                await engine.restart("orders-0")
            some = range(first, first + AT_ONCE)
            for number, request in zip(some, await asyncio.gather(*map(give_back, some)), strict=True):
                assert request.last.status == 201, request.last
                told[number] = str(request.last.body["id"])
        again = await asyncio.gather(*map(give_back, range(REFUNDS)))
        await client.look(payment, origin_id=ORIGIN, told=frozenset())

    assert {number: str(each.last.body["id"]) for number, each in enumerate(again)} == told
    assert all(each.last.replayed for each in again)
    evidence = await EvidenceGatherer(engine, run=run).when_settled(history)
    assert violations(evidence)[:MAX_SHOWN] == []
    assert evidence.operations_apart > REFUNDS // 2
    (look,) = history.looks
    assert look.body["refundedAmount"] == sum(100 + number for number in range(REFUNDS))
