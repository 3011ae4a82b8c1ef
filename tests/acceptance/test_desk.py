"""A person's decision on Apache Kafka: by the command line, through the desk, to the payment's sums and its events.

The desk dies in between, and the gateway has a later word.
"""

import asyncio
import contextlib
import uuid
from typing import Any

import aiohttp
import pytest
from typer.testing import Result

from schemas import topics
from schemas.decode_errors import DecodeError
from schemas.records.decisions import DecisionMade
from schemas.records.payments import PaymentEvent
from streams.cli.exits import ExitCode
from streams.development.local_engine import LOOPBACK, LocalEngine
from tests.support.command_line import json_of, run_command
from tests.support.foreign_client import CODEC
from tests.support.kafka_topics import read_to_end
from tests.support.waiting import until_async

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ORIGIN = "originA"
WAIT_S = 60.0
LOOK_AGAIN_S = 0.2
AMOUNT = 1999


class Counter:
    """Where a merchant pays, an operator decides, and the gateway has words."""

    def __init__(self, engine: LocalEngine, http: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.http = http
        self.order = f"t{uuid.uuid4().hex[:12]}"

    async def pay(self) -> tuple[str, str]:
        """Ask for a payment that its gateway lets wait for ten minutes; return its id and its operation's."""
        mock_url = f"http://{LOOPBACK}:{self.engine.components['mock-gateway'].port}"
        rule = {"scenario": "pending_then_failed", "order_id": self.order, "delay_ms": 600_000}
        async with self.http.post(f"{mock_url}/scenarios", json=rule) as answer:
            assert answer.status in {200, 201}, await answer.text()
        body = {"originId": ORIGIN, "orderId": self.order, "amount": AMOUNT, "currency": "USD", "token": "tok_1"}
        headers = {"Idempotency-Key": self.order}
        async with self.http.post(
            f"{self.engine.url}/payments?mode=sync", json={**body, "capture": True}, headers=headers
        ) as answer:
            told = await answer.json()
        return str(told["id"]), str(told["operation"]["id"])

    async def fail(self, reference: str) -> None:
        """Let the gateway say now that the payment, which it knows by this reference, failed."""
        mock_url = f"http://{LOOPBACK}:{self.engine.components['mock-gateway'].port}"
        async with self.http.post(f"{mock_url}/operations/{reference}/words", json={"word": "failed"}) as answer:
            assert answer.status == 200, await answer.text()

    async def references(self, operation: str) -> list[str]:
        """Return what the gateway knows the operation by, as long as it waits for a last word."""
        listed = json_of(await self.run("list", "--pending", "-o", "json"))
        return [each["gateway_reference"] for each in listed if each["op_id"] == operation]

    async def shown(self, payment: str) -> dict[str, Any]:
        async with self.http.get(f"{self.engine.url}/payments/{payment}", headers={"X-Origin-Id": ORIGIN}) as answer:
            return dict(await answer.json())

    async def run(self, *words: str) -> Result:
        environment = {**self.engine.environment(), "PAYMENT_ENGINE_OPERATORS_URL": self.engine.desk_url or ""}
        return await asyncio.to_thread(run_command, "payments", *words, environment=environment)

    async def records(self, topic: str) -> list[Any]:
        """What the topic holds about the order."""
        decoded = []
        for each in await read_to_end(self.engine.bootstrap_servers, topic):
            with contextlib.suppress(DecodeError):  # what other tests have thrown at the same broker
                if each.value is not None and each.key == self.order.encode():
                    decoded.append(CODEC.decode(each.value, each.headers)[1])
        return decoded


@pytest.mark.timeout(240)
async def test_decision_counts_once_though_its_desk_dies_and_a_later_word_of_the_gateway_beats_it(
    engine: LocalEngine,
) -> None:
    async with aiohttp.ClientSession() as http:
        counter = Counter(engine, http)
        payment, operation = await counter.pay()

        async def waits() -> bool:
            return bool(await counter.references(operation))

        await until_async(waits, timeout_s=WAIT_S, look_again_s=LOOK_AGAIN_S)
        (reference,) = await counter.references(operation)
        words = ["decide", payment, "--operation", operation, "--outcome", "succeeded", "--why", "in the report"]
        words += ["--as", "anna", "--idempotency-key", f"k-{counter.order}"]

        tried = await counter.run(*words, "--dry-run")
        assert tried.exit_code == 0, tried.output
        assert (await counter.shown(payment))["capturedAmount"] == 0
        assert await counter.records(topics.DECISIONS) == []

        await engine.components["operators"].kill()
        refused = await counter.run(*words)
        assert refused.exit_code == ExitCode.UNREACHABLE
        assert f"--idempotency-key k-{counter.order}" in refused.output
        await engine.restart("operators")

        for _ in range(2):  # the second time it is the same decision
            decided = await counter.run(*words)
            assert decided.exit_code == 0, decided.output
        assert (await counter.shown(payment))["capturedAmount"] == AMOUNT

        await counter.fail(reference)

        async def is_taken_back() -> bool:
            return bool((await counter.shown(payment))["capturedAmount"] == 0)

        await until_async(is_taken_back, timeout_s=WAIT_S, look_again_s=LOOK_AGAIN_S)
        made = [each for each in await counter.records(topics.DECISIONS) if isinstance(each, DecisionMade)]
        assert {each.decided_by for each in made} == {"anna"}
        assert len({each.decision_id for each in made}) == 1
        events = [each for each in await counter.records(topics.EVENTS) if isinstance(each, PaymentEvent)]
        told = [
            (each.decision.decided_by, each.operation.counted_minor) for each in events if each.decision is not None
        ]
        assert told == [("anna", AMOUNT)]
        assert not await waits()
