"""What nobody can read, on every topic that the engine reads: noise, schema ids nobody knows, nothing at all."""

import random
import struct
from functools import partial

from schemas import topics
from schemas.cloud_event import MAX_INTEGER
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OrderId, OriginId
from schemas.messages import Envelope
from schemas.records.commands import PaymentRequested
from tests.faults.fault import Fault, Site
from tests.faults.world import PARTITIONS, Poisoned, World
from tests.support.foreign_client import CODEC, HeaderList, Sent

RECORDS_MAX = 24
NOISE_BYTES_MAX = 400
UNKNOWN_SCHEMA_IDS = (1_000_000, 2**31 - 1)

BURIED = (
    topics.COMMANDS, topics.QUERIES, topics.CLAIMS, topics.VERDICTS, topics.GATEWAY_REQUESTS, topics.GATEWAY_RESULTS,
    topics.WEBHOOKS, topics.REFERENCES, topics.DECISIONS, topics.TIMERS,
)  # fmt: skip
"""Where each becomes a dead letter."""

BY_ORDER = frozenset(
    {
        topics.COMMANDS,
        topics.VERDICTS,
        topics.GATEWAY_REQUESTS,
        topics.GATEWAY_RESULTS,
        topics.WEBHOOKS,
        topics.DECISIONS,
        topics.TIMERS,
    }
)
"""Where the key is an order's."""

LIVE_ORDERS = 50
"""Of the last requests: their orders may still have something under way."""

CHANGELOGS = (
    topics.ORDERS_CHANGELOG, topics.TIMERS_CHANGELOG, topics.REFERENCES_CHANGELOG, topics.PARKED_CHANGELOG,
    topics.CLAIMS_CHANGELOG,
)  # fmt: skip

COMPACTED = (topics.POLICIES, topics.REFERENCES, *CHANGELOGS)
"""Where the broker itself refuses a record without a key."""

PASSED_OVER = (topics.REPLIES, topics.POLICIES, *CHANGELOGS)
"""Where nobody is owed anything: passed over, and logged."""


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randint(1, NOISE_BYTES_MAX))


def _keys(world: World, chance: random.Random, topic: str) -> list[bytes | None]:
    """Return what the record may stand under: nobody's key, or that of an order that is being paid."""
    keys: list[bytes | None] = [_noise(chance), f"poison-{chance.getrandbits(32):x}".encode()]
    if topic not in COMPACTED:
        keys.append(None)
    if topic in BY_ORDER and world.history.requests:
        keys.append(chance.choice(world.history.requests[-LIVE_ORDERS:]).order_id.encode())
    return keys


def _record(world: World, chance: random.Random, topic: str) -> tuple[Sent, str]:
    partition = 0 if topic == topics.POLICIES else chance.randrange(PARTITIONS)
    key = chance.choice(_keys(world, chance, topic))
    if topic in BY_ORDER and key is not None:
        partition = topics.partition_of(key, PARTITIONS)  # an order's own queue has to get past it
    headers: HeaderList = [("content-type", b"application/avro"), ("ce_specversion", b"1.0"), ("ce_source", b"poison")]
    whats = ["noise", "unknown schema", "no headers", "odd headers", "odd header names"]
    if topic != topics.REFERENCES:  # there it is a tombstone, which compaction wants
        whats.append("no value")
    what = chance.choice(whats)
    value: bytes | None = _noise(chance)
    if what == "unknown schema":
        headers += [("ce_id", b"poison"), ("ce_type", b"payments.payment.requested.v1")]
        value = b"\x00" + struct.pack(">i", chance.randint(*UNKNOWN_SCHEMA_IDS)) + _noise(chance)
    elif what == "no headers":
        headers = []
    elif what == "no value":
        value = None
    elif what == "odd headers":
        headers = [(chance.choice(["ce_id", "ce_type", "ce_subject", "traceparent"]), _noise(chance)) for _ in range(3)]
    elif what == "odd header names":
        headers += [(b"\xff" + _noise(chance), _noise(chance)) for _ in range(3)]  # no UTF-8 begins so
    return Sent(topic=topic, key=key, value=value, headers=headers, partition=partition), what


def _unanswerable(chance: random.Random) -> tuple[Sent, str]:
    """Return a payment that could be made, whose answer is wanted on a partition that is not there."""
    command = PaymentRequested(
        origin_id=OriginId("poison"),
        order_id=OrderId(f"poison-{chance.getrandbits(32):x}"),
        idempotency_key=IdempotencyKey(f"poison-{chance.getrandbits(32):x}"),
        amount_minor=1,
        currency="USD",
        token="tok_visa",
        capture=True,
    )
    envelope = Envelope(
        id=f"poison-{chance.getrandbits(32):x}",
        source="poison",
        type=TYPES[PaymentRequested],
        time_ms=0,
        replypartition=chance.choice([PARTITIONS, 9_999, MAX_INTEGER]),
    )
    message = CODEC.encode(command, envelope)
    key = command.order_id.encode()
    return Sent(topic=topics.COMMANDS, key=key, value=message.value, headers=[*message.headers]), "nowhere to answer"


async def poison(world: World, chance: random.Random, *, topic: str) -> str:
    """Append a handful of unreadable records to the topic's partitions."""
    records = [_record(world, chance, topic) for _ in range(chance.randint(1, RECORDS_MAX))]
    if topic == topics.COMMANDS:
        records.append(_unanswerable(chance))
    whats = {id(sent): what for sent, what in records}
    placed = await world.append([sent for sent, _ in records])
    if topic in BURIED:
        world.poison += [Poisoned(origin=origin, what=whats[id(sent)]) for origin, sent in placed.items()]
    return f"{len(placed)} unreadable records on {topic}"


FAULTS = tuple(
    Fault(name=f"poison-{topic}", site=Site.LOG, strike=partial(poison, topic=topic))
    for topic in (*BURIED, *PASSED_OVER)
)
