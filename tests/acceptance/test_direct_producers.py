"""Any Kafka client may append a command: the docs' own code, structured JSON, and what a wrong producer is told."""

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import aiohttp
import pytest

from schemas import topics
from schemas.vocabulary import DeadLetterReason, OperationState
from streams.development.local_engine import LocalEngine
from tests.support.foreign_client import COMPRESSIONS, Graveyard, HeaderList, Sent, event_of, not_running, send_all

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SCRIPT_LIMIT_S = 120.0
PARTITIONS = 8  # the default of PAYMENT_ENGINE_KAFKA_PARTITIONS
STRUCTURED: HeaderList = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def producing_page() -> str:
    return (ROOT / "docs/producing.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", producing_page(), flags=re.DOTALL)


def structured_command(order: str, **changes: object) -> Sent:
    """The docs' JSON event for another order."""
    event = json.loads(blocks("json")[0])
    event["id"] = str(uuid.uuid4())
    event["data"] |= {"order_id": order, "idempotency_key": f"{order}-key", **changes}
    return Sent(topic=topics.COMMANDS, key=order.encode(), value=json.dumps(event).encode(), headers=STRUCTURED)


def new_order() -> str:
    return f"direct-{uuid.uuid4()}"


async def test_docs_code_pays_and_reads_the_events_when_it_is_run_as_it_stands(engine: LocalEngine) -> None:
    script = "\n".join(blocks("python"))
    assert not re.search(r"^\s*(?:from|import) (?:schemas|streams|http_ingress|gateway_adapters)", script, re.MULTILINE)
    script = script.replace("localhost:9092", engine.bootstrap_servers).replace("shop-ledger", f"shop-{uuid.uuid4()}")

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SCRIPT_LIMIT_S,
    )

    assert done.returncode == 0, done.stderr
    promised = re.findall(r"`(payments\.\S+ \w+ \d+)`", producing_page())
    assert len(promised) == 2
    assert done.stdout.splitlines() == promised


async def test_payment_succeeds_when_the_command_is_a_structured_json_event(engine: LocalEngine) -> None:
    order = new_order()

    await asyncio.to_thread(send_all, engine, [structured_command(order)])

    event = await event_of(engine, order, "payments.sale.succeeded.v1")
    assert event.payment is not None
    assert event.payment.captured_minor == 1999
    assert event.operation.state is OperationState.SUCCEEDED
    async with aiohttp.ClientSession() as session:
        url = f"{engine.url}/payments/{event.payment_id}"
        async with session.get(url, headers={"X-Origin-Id": "originA"}) as response:
            assert response.status == 200
            assert (await response.json())["status"] == "captured"


@pytest.mark.parametrize("codec", COMPRESSIONS)
async def test_payments_succeed_when_their_commands_are_compressed(engine: LocalEngine, codec: str) -> None:
    orders = [new_order() for _ in range(20)]

    await asyncio.to_thread(send_all, engine, map(structured_command, orders), codec=codec)

    for order in orders:
        await event_of(engine, order, "payments.sale.succeeded.v1")
    assert not_running(engine) == []


async def test_command_is_a_dead_letter_when_its_key_or_its_partition_is_not_its_orders(engine: LocalEngine) -> None:
    order = new_order()
    right = structured_command(order)
    place = topics.partition_of(order.encode(), PARTITIONS)
    wrong_key = Sent(topic=right.topic, key=b"another-order", value=right.value, headers=right.headers)
    no_key = Sent(topic=right.topic, key=None, value=right.value, headers=right.headers)
    wrong_partition = Sent(
        topic=right.topic,
        key=right.key,
        value=right.value,
        headers=right.headers,
        partition=(place + 1) % PARTITIONS,
    )
    graveyard = await Graveyard.open(engine)

    placed = await asyncio.to_thread(send_all, engine, [wrong_key, no_key, wrong_partition])

    letters = {each.origin: each.letter for each in await graveyard.when_all_there(placed)}
    assert {letters[origin].reason for origin in placed} == {DeadLetterReason.WRONG_KEY}
    assert {letters[origin].value for origin in placed} == {right.value}


async def test_command_is_served_and_what_cannot_be_read_is_a_dead_letter_when_a_headers_name_is_not_utf_8(
    engine: LocalEngine,
) -> None:
    odd: HeaderList = [("Größe".encode("latin-1"), b"42")]
    command = structured_command(new_order())
    place = topics.partition_of(command.key or b"", PARTITIONS)
    unreadable = Sent(topic=topics.COMMANDS, key=command.key, value=b"\xff", headers=odd, partition=place)
    graveyard = await Graveyard.open(engine)

    placed = await asyncio.to_thread(send_all, engine, [unreadable])
    await asyncio.to_thread(send_all, engine, [dataclasses.replace(command, headers=[*STRUCTURED, *odd])])

    (letter,) = [each.letter for each in await graveyard.when_all_there(placed) if each.origin in placed]
    assert (letter.key, letter.value) == (command.key, b"\xff")
    assert [(header.name, header.value) for header in letter.headers] == [(r"Gr\xf6\xdfe", b"42")]
    await event_of(engine, (command.key or b"").decode(), "payments.sale.succeeded.v1")
    assert not_running(engine) == []


async def test_record_is_a_dead_letter_without_its_bytes_when_no_letter_could_hold_them(engine: LocalEngine) -> None:
    command = structured_command(new_order())
    place = topics.partition_of(command.key or b"", PARTITIONS)
    long_key = Sent(topic=topics.COMMANDS, key=b"k" * 1_040_000, value=b"{}", headers=STRUCTURED, partition=place)
    much: HeaderList = [(f"n{number}", b"x" * 100_000) for number in range(30)]
    # Not on the commands: there the broker itself refuses it (tests/integration/test_topics_apply.py).
    inflated = Sent(topic=topics.VERDICTS, key=command.key, value=b"{}", headers=[*STRUCTURED, *much], partition=place)
    graveyard = await Graveyard.open(engine)

    placed = {
        **await asyncio.to_thread(send_all, engine, [long_key]),
        **await asyncio.to_thread(send_all, engine, [inflated], codec="gzip"),
    }
    await asyncio.to_thread(send_all, engine, [command])

    letters = [each.letter for each in await graveyard.when_all_there(placed) if each.origin in placed]
    assert [(each.withheld, each.key, each.value, each.headers) for each in letters] == [(True, None, None, ())] * 2
    await event_of(engine, (command.key or b"").decode(), "payments.sale.succeeded.v1")
    assert not_running(engine) == []


async def test_commands_are_dead_letters_where_the_default_partitioner_of_librdkafka_misplaces_them(
    engine: LocalEngine,
) -> None:
    commands = [structured_command(new_order()) for _ in range(24)]
    graveyard = await Graveyard.open(engine)

    placed = await asyncio.to_thread(send_all, engine, commands, partitioner="consistent_random")

    misplaced = {
        origin: sent for origin, sent in placed.items() if topics.partition_of(sent.key or b"", PARTITIONS) != origin[1]
    }
    assert misplaced, "by chance both partitioners agreed on all of them"
    letters = {each.origin: each.letter for each in await graveyard.when_all_there(misplaced)}
    assert {letters[origin].reason for origin in misplaced} == {DeadLetterReason.WRONG_KEY}
    for sent in (placed[origin] for origin in placed if origin not in misplaced):
        await event_of(engine, (sent.key or b"").decode(), "payments.sale.succeeded.v1")


async def test_command_is_a_dead_letter_when_a_value_breaks_a_rule(engine: LocalEngine) -> None:
    broken = [
        structured_command(new_order(), amount_minor=0),
        structured_command(new_order(), amount_minor=19.99),
        structured_command(new_order(), amount_minor=True),
        structured_command(new_order(), currency="usd"),
        structured_command(new_order(), token=""),
        structured_command(new_order(), surprise=1),
    ]
    graveyard = await Graveyard.open(engine)

    placed = await asyncio.to_thread(send_all, engine, broken)

    letters = {each.origin: each.letter for each in await graveyard.when_all_there(placed)}
    assert {letters[origin].reason for origin in placed} == {DeadLetterReason.INVALID}
