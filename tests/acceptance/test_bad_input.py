"""Bad input on the log of a real Apache Kafka loses nothing, stops nothing, and keeps no card number."""

import asyncio
import json
import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest

from schemas import topics
from schemas.event_types import TYPES
from schemas.messages import Envelope
from schemas.record_shapes import RECORD_CLASSES
from schemas.records.commands import PaymentRequested
from schemas.vocabulary import DeadLetterReason
from streams.development.local_engine import LocalEngine
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import read_log
from tests.support.foreign_client import (
    CODEC,
    COMPRESSIONS,
    Buried,
    Graveyard,
    HeaderList,
    Origin,
    Sent,
    not_running,
    send_all,
)
from tests.support.golden_messages import envelope_of, example
from tests.support.operator_log import payment_requested
from tests.support.raw_header_names import read_as
from tests.support.workload import Client, History

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

SEED = 20_261_122
STRINGS = 10_000
MAX_LIKE_A_CARD = 5
"""Of `STRINGS`, by chance: another word in the catalogue draws all strings anew."""
CHUNK = 500
PAYMENTS = 50
MAX_BYTES = 2_000
EACH_TOPIC = 25
READ_BY_THE_ENGINE = (
    topics.VERDICTS,
    topics.GATEWAY_RESULTS,
    topics.WEBHOOKS,
    topics.TIMERS,
    topics.QUERIES,
    topics.CLAIMS,
    topics.GATEWAY_REQUESTS,
)
SCHEMA_IDS = json.loads((Path(__file__).parents[2] / "schemas/avro/ids.json").read_text())


def _envelope_headers(chance: random.Random, event_type: str) -> HeaderList:
    return [
        ("content-type", b"application/avro"),
        ("ce_specversion", b"1.0"),
        ("ce_id", uuid.UUID(int=chance.getrandbits(128)).hex.encode()),
        ("ce_source", b"fuzz"),
        ("ce_type", event_type.encode()),
    ]


def _random_headers(chance: random.Random) -> HeaderList:
    known = ["content-type", "ce_type", "ce_id", "ce_specversion", "dlq_redrive", "traceparent"]
    names: list[str | bytes] = [*known, "", "x", "héader", "héader".encode("latin-1")]
    return [
        (chance.choice(names), chance.choice([None, b"", chance.randbytes(chance.randrange(40))]))
        for _ in range(chance.randrange(8))
    ]


def _framed(chance: random.Random, body: bytes) -> bytes:
    known = [entry["v1"]["id"] for entry in SCHEMA_IDS.values()]
    schema_id = chance.choice([*known, chance.getrandbits(32)])
    return b"\x00" + int(schema_id).to_bytes(4, "big") + body


def _junk(chance: random.Random, topic: str) -> Sent:
    """Some bytes that are no message of ours, more or less alike one."""
    value: bytes | None = chance.randbytes(chance.randrange(MAX_BYTES))
    assert value is not None
    key = chance.choice(
        [None, b"", chance.randbytes(chance.randrange(1, 40)), f"order-{chance.randrange(1_000)}".encode()]
    )
    headers = _random_headers(chance)
    match chance.randrange(7):
        case 0:
            headers = []
        case 1:
            headers = _envelope_headers(chance, chance.choice([*TYPES.values()]))
        case 2:
            headers = _envelope_headers(chance, chance.choice([*TYPES.values()]))
            value = _framed(chance, value)
        case 3:
            headers = [*_envelope_headers(chance, "payments.payment.requested.v1"), *headers]
            value = _framed(chance, value[: chance.randrange(30)])
        case 4:
            headers = [("content-type", b"application/cloudevents+json")]
            value = chance.choice([b"[" * 5_000, b'{"specversion":"1.0"}', b'"text"', b"{}", b"\xff", value])
        case 5:
            value = chance.choice([None, b""])
        case _:
            pass  # random headers stay
    at_ms = chance.choice([None, None, 1, 86_400_000])  # a sender's clock may say 1970
    return Sent(topic=topic, key=key, value=value, headers=headers, timestamp_ms=at_ms)


def _raw(sent: Sent, *, inflated: bool = False) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """What a letter must hold; in a letter a header without a value is an empty one, and names are text.

    `inflated`: the broker has taken the record out of a compressed batch, and put U+FFFD into names that are no text.
    """
    return sent.key, sent.value, [(_named(name, inflated=inflated), value or b"") for name, value in sent.headers]


def _named(name: str | bytes, *, inflated: bool) -> str:
    return name.decode("utf-8", "replace") if inflated and isinstance(name, bytes) else read_as(name)


def _held(buried: Buried) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    letter = buried.letter
    return letter.key, letter.value, [(header.name, header.value) for header in letter.headers]


async def _pay(engine: LocalEngine, count: int, *, run: str) -> list[int]:
    """Pay that many orders one after the other; returns the statuses."""
    statuses = []
    async with aiohttp.ClientSession() as session:
        client = Client(session, engine.url, History())
        for number in range(count):
            order = f"{run}-{number}"
            body = {
                "originId": "originA", "orderId": order, "amount": 1999, "currency": "USD", "token": "tok_visa",
                "capture": True,
            }  # fmt: skip
            asked = await client.ask(
                origin_id="originA", order_id=order, key=f"{order}-k", path="/payments?mode=sync", body=body
            )
            statuses.append(asked.last.status)
    return statuses


def _chunks(chance: random.Random) -> Iterator[list[Sent]]:
    for _ in range(STRINGS // CHUNK):
        yield [_junk(chance, topics.COMMANDS) for _ in range(CHUNK)]


@pytest.mark.timeout(600)
async def test_ten_thousand_random_strings_are_all_dead_letters_when_they_flood_the_commands(
    engine: LocalEngine,
) -> None:
    graveyard = await Graveyard.open(engine)
    payments = asyncio.create_task(_pay(engine, PAYMENTS, run=f"flood-{uuid.uuid4()}"))
    sent: dict[Origin, Sent] = {}
    for chunk, codec in zip(_chunks(random.Random(SEED)), cycle(COMPRESSIONS), strict=False):
        sent |= await asyncio.to_thread(send_all, engine, chunk, codec=codec)
    statuses = await payments

    buried = await graveyard.when_all_there(sent)

    assert len(sent) == STRINGS
    assert statuses == [201] * PAYMENTS
    copies = defaultdict(list)
    for each in buried:
        copies[each.origin].append(each)
    assert copies.keys() == sent.keys()
    like_a_card = {origin for origin, found in copies.items() if found[0].letter.reason is DeadLetterReason.CARD_NUMBER}
    assert len(like_a_card) <= MAX_LIKE_A_CARD  # a few random bytes are; they are withheld
    for origin, found in copies.items():
        assert len({each.envelope.id for each in found}) == 1  # a repeat after a rebalance is the same letter
        for each in [] if origin in like_a_card else found:
            assert _held(each) in (_raw(sent[origin]), _raw(sent[origin], inflated=True))
        assert found[0].letter.withheld is (origin in like_a_card)
    assert len({found[0].envelope.id for found in copies.values()}) == STRINGS
    reasons = {each.letter.reason for each in buried}
    assert DeadLetterReason.HANDLER_FAILED not in reasons
    assert reasons >= {
        DeadLetterReason.UNKNOWN_CONTENT_TYPE,
        DeadLetterReason.UNKNOWN_SCHEMA,
        DeadLetterReason.UNDECODABLE,
        DeadLetterReason.NOT_CLOUD_EVENT,
    }
    assert not_running(engine) == []


def _poison_for(chance: random.Random, topic: str) -> Sequence[Sent]:
    """Junk, and a command that is right in itself but does not belong there."""
    command = payment_requested("order-1", key=str(uuid.uuid4()))
    message = CODEC.encode(command, Envelope(id="c-1", source="test", type=TYPES[PaymentRequested], time_ms=1))
    stray = Sent(topic=topic, key=b"order-1", value=message.value, headers=[*message.headers])
    return [*(_junk(chance, topic) for _ in range(EACH_TOPIC)), stray]


@pytest.mark.timeout(300)
async def test_verdict_and_result_are_dead_letters_when_who_may_only_append_commands_forges_them(
    engine: LocalEngine,
) -> None:
    not_commands = [each for each in RECORD_CLASSES if each not in topics.topic(topics.COMMANDS).records]
    messages = [CODEC.encode(record, envelope_of(record)) for record in map(example, not_commands)]
    forged = [
        Sent(topic=topics.COMMANDS, key="order_id-é".encode(), value=message.value, headers=[*message.headers])
        for message in messages
    ]
    graveyard = await Graveyard.open(engine)

    sent = await asyncio.to_thread(send_all, engine, forged)

    letters = [each.letter for each in await graveyard.when_all_there(sent) if each.origin in sent]
    assert len(not_commands) > 5
    assert [each.reason for each in letters] == [DeadLetterReason.UNKNOWN_TYPE] * len(forged)


@pytest.mark.timeout(300)
async def test_poison_is_a_dead_letter_and_payments_go_on_when_it_stands_on_any_topic_that_the_engine_reads(
    engine: LocalEngine,
) -> None:
    chance = random.Random(SEED + 1)
    poison = [record for topic in READ_BY_THE_ENGINE for record in _poison_for(chance, topic)]
    graveyard = await Graveyard.open(engine)

    sent = await asyncio.to_thread(send_all, engine, poison)

    buried = {each.origin: each for each in await graveyard.when_all_there(sent)}
    assert {origin for origin in sent if _held(buried[origin]) != _raw(sent[origin])} == set()
    assert {each.letter.topic for each in buried.values()} == set(READ_BY_THE_ENGINE)
    assert DeadLetterReason.HANDLER_FAILED not in {each.letter.reason for each in buried.values()}
    assert await _pay(engine, 1, run=f"after-{uuid.uuid4()}") == [201]
    assert not_running(engine) == []


def _card_number(chance: random.Random) -> str:
    """A number that no other test uses: Visa's first digit, and Luhn's check at the end."""
    digits = [4, *(chance.randrange(10) for _ in range(14))]
    doubled = [digit * 2 - 9 * (digit > 4) if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    return "".join(map(str, [*digits, -sum(doubled) % 10]))


async def test_nothing_of_a_card_number_is_kept_when_a_direct_command_holds_one(engine: LocalEngine) -> None:
    number = _card_number(random.Random(uuid.uuid4().int))
    spaced = " ".join(number[place : place + 4] for place in range(0, 16, 4))
    headers: HeaderList = [("content-type", b"application/cloudevents+json")]
    commands: list[Sent] = []
    for place, spelled in (
        ("token", number),
        ("token", spaced),
        ("order_id", number),
        ("origin_id", number),
        ("idempotency_key", number),
        ("id", number),
    ):
        parts = {"origin_id": "originA", "order_id": f"card-{uuid.uuid4()}", "idempotency_key": str(uuid.uuid4())}
        content = {**parts, "amount_minor": 1999, "currency": "USD", "token": "tok_1", "capture": True}
        event = {
            "specversion": "1.0", "id": "c-1", "source": "test", "type": TYPES[PaymentRequested], "data": content,
        }  # fmt: skip
        (content if place in content else event)[place] = spelled
        value = json.dumps(event).encode()
        commands.append(
            Sent(topic=topics.COMMANDS, key=str(content["order_id"]).encode(), value=value, headers=[*headers])
        )
    commands.append(Sent(topic=topics.COMMANDS, key=b"k", value=f"card={number}".encode(), headers=[]))
    commands.append(Sent(topic=topics.COMMANDS, key=b"k", value=b"junk", headers=[("x-card", number.encode())]))
    graveyard = await Graveyard.open(engine)

    sent = await asyncio.to_thread(send_all, engine, commands)

    letters = [each.letter for each in await graveyard.when_all_there(sent) if each.origin in sent]
    assert {each.reason for each in letters} == {DeadLetterReason.CARD_NUMBER}
    assert all(each.withheld for each in letters)
    assert {(each.key, each.value, each.headers) for each in letters} == {(None, None, ())}
    needles = [number.encode(), spaced.encode()]
    assert await _topics_that_hold(engine, needles) == {topics.COMMANDS}  # where its own sender put it
    assert [path for path in _files_of(engine) if any(needle in path.read_bytes() for needle in needles)] == []


async def _topics_that_hold(engine: LocalEngine, needles: Sequence[bytes]) -> set[str]:
    connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
    holding = set()
    for topic in topics.CATALOGUE:
        async for record in read_log(connection, topic.name):
            parts = [record.key or b"", record.value or b"", *(value or b"" for _, value in record.headers)]
            if any(needle in part for needle in needles for part in parts):
                holding.add(topic.name)
    return holding


def _files_of(engine: LocalEngine) -> list[Path]:
    """The logs, tables and ledger of the engine."""
    return [path for path in engine.folder.rglob("*") if path.is_file()]
