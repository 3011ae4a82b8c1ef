"""The promise on a real Apache Kafka: each command one outcome, ledger and engine agree, whatever dies."""

import asyncio
import random
import uuid

import aiohttp
import pytest

from streams.development.local_engine import LocalEngine
from tests.support.checker import MAX_SHOWN, violations
from tests.support.evidence import EvidenceGatherer
from tests.support.workload import Client, History, run_workload

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

OPERATIONS = 10_000
CLIENTS = 50
KILL_OPERATIONS = 1_000
KILL_CLIENTS = 20
KILLS_EACH = 3
RACES = 200
RACES_AT_ONCE = 20


def new_run() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.mark.timeout(900)
async def test_every_command_has_one_outcome_when_fifty_clients_mix_ten_thousand_operations(
    engine: LocalEngine,
) -> None:
    run = new_run()

    history = await run_workload(engine.url, seed=1, clients=CLIENTS, operations=OPERATIONS, run=run)

    evidence = await EvidenceGatherer(engine, run=run).when_settled(history)
    assert len(history.requests) >= OPERATIONS
    assert violations(evidence)[:MAX_SHOWN] == []
    assert {each.last.status for each in history.requests} >= {200, 201, 402, 409, 422}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["orders-0", "claims-0", "executor-0"])
async def test_nothing_is_lost_or_done_twice_when_a_worker_is_killed(engine: LocalEngine, victim: str) -> None:
    run = new_run()
    chance = random.Random(run)
    load = asyncio.create_task(
        run_workload(engine.url, seed=2, clients=KILL_CLIENTS, operations=KILL_OPERATIONS, run=run)
    )
    kills = 0
    while kills < KILLS_EACH and not load.done():
        await asyncio.wait({load}, timeout=chance.uniform(0.5, 2.0))  # in the middle of the load, never at its edges
        await engine.components[victim].kill()
        await engine.restart(victim)
        kills += 1

    history = await load

    evidence = await EvidenceGatherer(engine, run=run).when_settled(history)
    assert kills == KILLS_EACH
    assert violations(evidence)[:MAX_SHOWN] == []


@pytest.mark.timeout(600)
async def test_exactly_one_of_two_refunds_succeeds_when_they_race_for_the_same_capture(engine: LocalEngine) -> None:
    run = new_run()
    history = History()
    async with aiohttp.ClientSession() as session:
        client = Client(session, engine.url, history)
        gate = asyncio.Semaphore(RACES_AT_ONCE)

        async def race(number: int) -> list[int]:
            async with gate:
                order = f"{run}-{number}"
                body = {
                    "originId": "originA", "orderId": order, "amount": 10_000, "currency": "USD", "token": "tok_visa",
                    "capture": True,
                }  # fmt: skip
                paid = await client.ask(
                    origin_id="originA", order_id=order, key=f"{order}-p", path="/payments?mode=sync", body=body
                )
                refund = {"paymentId": paid.last.body["id"], "amount": 6_000}
                both = await asyncio.gather(
                    *(
                        client.ask(
                            origin_id="originA",
                            order_id=order,
                            key=f"{order}-r{side}",
                            path="/refunds?mode=sync",
                            body=refund,
                        )
                        for side in range(2)
                    )
                )
                return sorted(each.last.status for each in both)

        outcomes = await asyncio.gather(*(race(number) for number in range(RACES)))

    evidence = await EvidenceGatherer(engine, run=run).when_settled(history)
    assert [each for each in outcomes if each != [201, 422]] == []
    assert violations(evidence)[:MAX_SHOWN] == []
