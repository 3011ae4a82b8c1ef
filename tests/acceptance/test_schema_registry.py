"""The engine with a schema registry, and a producer that knows nothing of ours but the names of the fields."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas import schema_registry, topics
from schemas.messages import MessageCodec
from schemas.schema_ids import packaged_schemas
from streams.development.local_engine import LocalEngine
from tests.support.foreign_client import HeaderList, Sent, event_of, not_running, send_all
from tests.support.http_registry import Registry, served

pytestmark = pytest.mark.slow

ENVIRONMENT = {"PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING"}
FIELDS = ("origin_id", "order_id", "idempotency_key", "currency", "token")
SCHEMA = {
    "type": "record",
    "name": "PaymentRequested",
    "namespace": "com.shop",
    "fields": [
        *({"name": name, "type": "string"} for name in FIELDS),
        {"name": "amount_minor", "type": "int"},
        {"name": "capture", "type": "boolean"},
        {"name": "basket", "type": {"type": "array", "items": "string"}},
    ],
}
HEADERS: HeaderList = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"command-1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"payments.payment.requested.v1"),
]


async def test_payment_succeeds_when_its_schema_was_registered_after_the_engine_had_started(tmp_path: Path) -> None:
    order = f"registered-late-{uuid.uuid4()}"
    command = {
        "origin_id": "originA",
        "order_id": order,
        "idempotency_key": order,
        "currency": "USD",
        "token": "tok_1",
        "amount_minor": 1_999,
        "capture": True,
        "basket": ["a book"],
    }
    with served(Registry()) as registry:
        client = schema_registry.connect(registry.url, timeout_s=5)
        schema_registry.register(client, packaged_schemas())
        environment = {**ENVIRONMENT, "PAYMENT_ENGINE_REGISTRY_URL": registry.url}
        async with LocalEngine(folder=tmp_path, environment=environment) as engine:
            serialize = AvroSerializer(SchemaRegistryClient({"url": registry.url}), json.dumps(SCHEMA))
            context = SerializationContext(topics.COMMANDS, MessageField.VALUE)
            value = await asyncio.to_thread(serialize, command, context)
            sent = Sent(topic=topics.COMMANDS, key=order.encode(), value=value, headers=HEADERS)
            await asyncio.to_thread(send_all, engine, [sent])

            codec = MessageCodec(schema_registry.look_up(client))
            event = await event_of(engine, order, "payments.sale.succeeded.v1", codec=codec)

            assert event.operation.amount_minor == 1_999
            assert not_running(engine) == []
