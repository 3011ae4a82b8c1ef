"""What only a gateway may know, through the whole engine: it reaches the gateway, and stands in its command alone."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from schemas import topics
from schemas.messages import MessageCodec
from schemas.records.commands import PaymentRequested
from schemas.schema_ids import SchemaIds
from streams.development.local_engine import LocalEngine
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import LogRecord, read_log
from streams.kafka_clients.producer import LogWriter
from tests.support.exhibits import read_ledger
from tests.support.waiting import until_async

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

CODEC = MessageCodec(SchemaIds.packaged())
SECRETS = (
    "anna@example.com",
    "203.0.113.9",
    "2001:db8::77",
    "Mozilla/5.0 of Anna",
    "tok_stored_by_mock",
    "shopper-17",
)
SECRETS_OF_RETURN: list[str] = []
"""What the payer brought back in this module's run."""
APPEND_TIMEOUT_S = 10.0
PAYMENT: dict[str, Any] = {
    "amount": 1999,
    "currency": "USD",
    "orderId": "order-1",
    "tokens": [
        {"gateway": "elsewhere", "kind": "vault", "value": "vault-7"},
        {"gateway": "mock", "kind": "stored", "value": "tok_stored_by_mock", "payerReference": "shopper-17"},
    ],
    "payer": {
        "email": "anna@example.com",
        "ip": "203.0.113.9",
        "browser": {"userAgent": "Mozilla/5.0 of Anna", "screenWidth": 1920},
    },
    "returnUrl": "https://shop.example/back",
    "metadata": {"cart": "17"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[LocalEngine]:
    with tempfile.TemporaryDirectory(prefix="payment-engine-test-") as folder:
        async with LocalEngine(folder=Path(folder)) as started:
            yield started


async def pay(engine: LocalEngine, body: dict[str, Any], *, key: str) -> tuple[int, dict[str, Any]]:
    sent = {"Idempotency-Key": key, "X-Origin-Id": "originA"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{engine.url}/payments?mode=sync", json=body, headers=sent) as response,
    ):
        return response.status, await response.json(content_type=None)


async def records_of(engine: LocalEngine, topic: str) -> list[LogRecord]:
    connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
    return [record async for record in read_log(connection, topic)]


def bytes_of(record: LogRecord) -> bytes:
    return b"|".join([record.key or b"", record.value or b"", *(value for _, value in record.headers)])


async def test_gateway_gets_its_own_token_and_a_retry_from_elsewhere_is_the_same_payment(engine: LocalEngine) -> None:
    status, first = await pay(engine, PAYMENT, key="k-1")
    assert (status, first["status"], first["operation"]["gateway"]) == (201, "captured", "mock")
    again = {**PAYMENT, "payer": {"email": "anna@example.com", "ip": "2001:db8::77"}}
    status, replayed = await pay(engine, again, key="k-1")
    assert (status, replayed["operation"]) == (201, first["operation"])
    assert {entry.token for entry in read_ledger(engine.ledger_path)} == {"tok_stored_by_mock"}


async def test_payment_is_declined_by_the_token_of_the_gateway_that_it_went_to(engine: LocalEngine) -> None:
    tokens = [{"gateway": "mock", "kind": "stored", "value": "tok_chargeDeclinedInsufficientFunds"}]
    status, problem = await pay(engine, {**PAYMENT, "orderId": "order-2", "tokens": tokens}, key="k-2")
    assert (status, problem["operation"]["error"]["code"]) == (402, "insufficient_funds")


async def test_payment_is_refused_when_it_has_no_token_for_any_gateway_of_its_policy(engine: LocalEngine) -> None:
    status, problem = await pay(engine, {**PAYMENT, "orderId": "order-3", "tokens": PAYMENT["tokens"][:1]}, key="k-3")
    assert (status, problem["code"]) == (422, "no_gateway")


async def test_payment_brings_a_single_token_and_tells_of_its_payer(engine: LocalEngine) -> None:
    body = {name: value for name, value in PAYMENT.items() if name != "tokens"}
    status, answer = await pay(engine, {**body, "orderId": "order-4", "token": "tok_visa"}, key="k-4")
    assert (status, answer["status"]) == (201, "captured")


async def test_payment_goes_on_with_what_its_payer_brought_back(engine: LocalEngine) -> None:
    tokens = [{"gateway": "mock", "kind": "stored", "value": "tok_mock_completion_required"}]
    status, waiting = await pay(engine, {**PAYMENT, "orderId": "order-5", "tokens": tokens}, key="k-5")
    assert (status, waiting["operation"]["state"]) == (202, "requires_action")
    async with aiohttp.ClientSession() as payer:
        action = f"{waiting['operation']['actionUrl']}/complete"
        async with payer.post(action, headers={"Accept": "text/html"}, allow_redirects=False) as sent_back:
            address = URL(sent_back.headers["Location"])
    assert (address.host, address.path) == ("shop.example", "/back")
    brought_back = {"parameters": dict(address.query)}
    sent = {"Idempotency-Key": "k-6", "X-Origin-Id": "originA"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{engine.url}/payments/{waiting['id']}/complete", json=brought_back, headers=sent) as response,
    ):
        answer = await response.json()
    assert (response.status, answer["status"], answer["operation"]["state"]) == (200, "captured", "succeeded")
    SECRETS_OF_RETURN.extend(address.query.values())


async def test_what_only_the_gateway_may_know_stands_in_the_command_alone(engine: LocalEngine) -> None:
    told = next(
        record
        for record in await records_of(engine, topics.COMMANDS)
        if isinstance(CODEC.decode(record.value, record.headers)[1], PaymentRequested)
    )
    writer = LogWriter(KafkaConnection(bootstrap_servers=engine.bootstrap_servers))
    await writer.start()
    try:  # the same command under a key that is not its order's: a dead letter
        await writer.append(
            topics.COMMANDS, key=b"another", value=told.value, headers=told.headers, timeout_s=APPEND_TIMEOUT_S
        )
        await until_async(lambda: _has_letter(engine), timeout_s=30)
    finally:
        await writer.stop()
    found: dict[str, set[str]] = {}
    for topic in topics.CATALOGUE:
        for record in await records_of(engine, topic.name):
            for secret in (*SECRETS, *SECRETS_OF_RETURN):
                if secret.encode() in bytes_of(record):
                    found.setdefault(topic.name, set()).add(secret)
    assert found == {topics.COMMANDS: {*SECRETS, *SECRETS_OF_RETURN}}
    logs = list(engine.folder.rglob("*.log"))
    assert logs
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [secret for secret in SECRETS if secret in text], path.name


async def _has_letter(engine: LocalEngine) -> bool:
    return bool(await records_of(engine, topics.DLQ))
