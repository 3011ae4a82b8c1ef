"""The AsyncAPI 3.0 document of the topics, generated from the catalogue, the topology and the Avro schemas. Pure.

Printed by `payment-engine topics describe -o asyncapi`, served by the ingress at `/asyncapi.json` and shown at
`/docs/topics`. `tests/contract/test_published_documents.py` holds it to AsyncAPI's own JSON schema and to the code.
Sources: AsyncAPI 3.0.0; its Kafka bindings 0.5.0; CloudEvents' Kafka protocol binding 1.0.2, "Binary Content Mode".
"""

import json
from typing import Final

from schemas.cloud_event import AVRO_CONTENT_TYPE, SEQUENCE_DIGITS, SPEC_VERSION
from schemas.event_types import EVENT_TYPES, TYPES
from schemas.record_shapes import Record, Row, name_of
from schemas.records.payments import PaymentEvent
from schemas.schema_ids import newest_schemas
from schemas.topics import CATALOGUE, EVENTS, HOUR_MS, Cleanup, PartitionRule, Topic
from streams.topology import COMPONENTS, Component

Json = dict[str, object]

VERSION: Final = "3.0.0"
AVRO_FORMAT: Final = "application/vnd.apache.avro;version=1.9.0"
BINDINGS: Final = "0.5.0"
CLOUD_EVENT: Final = "cloudEvent"
_KEEPS_ALL: Final = -1
_PARTITIONS: Final = {
    PartitionRule.MURMUR2: "The partition is murmur2 of the key, as Java's clients have it by default.",
    PartitionRule.EXPLICIT: "The producer names the partition.",
    PartitionRule.SINGLE: "There is one partition, which everybody reads whole.",
}


def document(*, version: str) -> Json:
    """Return the document: every topic with its messages, and what each component sends and receives."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Payment Engine Lite: topics",
            "version": version,
            "description": "The log that the engine is. Strangers append commands and read events; all else is the "
            "engine's own and may change with a version. Messages are CloudEvents in binary mode, with Avro in "
            "Confluent's framing: a zero, the schema's id in four bytes, the record. Schemas grow compatibly, so a "
            "reader must take new fields and new symbols.",
            "contact": {"name": "Whoever runs this engine"},
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": AVRO_CONTENT_TYPE,
        "channels": {topic.name: _channel(topic) for topic in CATALOGUE},
        "operations": _operations(),
        "components": {
            "messages": {record.__name__: _message(record, topic) for topic in CATALOGUE for record in topic.records},
            "messageTraits": {CLOUD_EVENT: {"headers": _ATTRIBUTES}},
        },
    }


def _channel(topic: Topic) -> Json:
    hours = None if topic.retention_ms is None else topic.retention_ms // HOUR_MS
    retention = "compacted: the last of each key is kept for ever" if hours is None else f"kept {hours} h"
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}. {_PARTITIONS[topic.partition_rule]} Records are {retention}.",
        "messages": {record.__name__: {"$ref": _message_place(record)} for record in topic.records},
        "tags": [{"name": _audience(topic)}],
        "bindings": {
            "kafka": {
                "topicConfiguration": {
                    "cleanup.policy": [topic.cleanup.value],
                    "retention.ms": _KEEPS_ALL if topic.cleanup is Cleanup.COMPACT else topic.retention_ms,
                    "max.message.bytes": topic.max_record_bytes,
                },
                "bindingVersion": BINDINGS,
            }
        },
    }


def _audience(topic: Topic) -> str:
    if topic.public:
        return "for producers"
    return "for consumers" if topic.name == EVENTS else "the engine's own"


def _operations() -> Json:
    found: Json = {}
    for component in COMPONENTS.values():
        for name in component.reads:
            found[f"{component.name}.receives.{name}"] = _operation(component, "receive", name)
        for name in (*component.writes, *component.changelogs):
            found[f"{component.name}.sends.{name}"] = _operation(component, "send", name)
    return found


def _operation(component: Component, action: str, topic: str) -> Json:
    described: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic}"},
        "summary": f"{component.name} {component.does}",
    }
    if action == "receive" and topic in component.source_topics:
        group = {"type": "string", "enum": [component.group]}
        described["bindings"] = {"kafka": {"groupId": group, "bindingVersion": BINDINGS}}
    return described


def _message_place(record: type[Record | Row]) -> str:
    return f"#/components/messages/{record.__name__}"


def _message(record: type[Record | Row], topic: Topic) -> Json:
    schema = json.loads(newest_schemas()[name_of(record)].text)
    described: Json = {
        "name": schema["name"],
        "title": schema["name"],
        "summary": schema["doc"],
        "contentType": AVRO_CONTENT_TYPE,
        "payload": {"schemaFormat": AVRO_FORMAT, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": topic.key},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "RecordNameStrategy",
                "bindingVersion": BINDINGS,
            }
        },
    }
    types = _types_of(record)
    if types:  # a row of a table has no envelope
        described["traits"] = [{"$ref": f"#/components/messageTraits/{CLOUD_EVENT}"}]
        described["headers"] = {"type": "object", "properties": {"ce_type": {"type": "string", "enum": types}}}
    return described


def _types_of(record: type[Record | Row]) -> list[str]:
    if record is PaymentEvent:
        return sorted(EVENT_TYPES)
    return [name for known, name in TYPES.items() if known is record]


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


_ATTRIBUTES: Final[Json] = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
    "properties": {
        "content-type": {"type": "string", "enum": [AVRO_CONTENT_TYPE]},
        "ce_specversion": {"type": "string", "enum": [SPEC_VERSION]},
        "ce_id": _text("The same for the same event, however often it is written."),
        "ce_source": _text("Who wrote it."),
        "ce_type": _text("What it is; public, and never reused for another meaning."),
        "ce_dataschema": _text("The Avro schema: its record and version."),
        "ce_time": {**_text("When it happened."), "format": "date-time"},
        "ce_subject": _text("The payment's id."),
        "ce_partitionkey": _text("The order's id."),
        "ce_originid": _text("The merchant."),
        "ce_idempotencykey": _text("Of the operation."),
        "ce_sequence": _text(f"Of an event: rises within its order; {SEQUENCE_DIGITS} digits, so it orders as text."),
        "ce_traceparent": _text("W3C trace context."),
        "ce_tracestate": _text("W3C trace context."),
        "ce_replypartition": _text("Of a command: the partition of replies where somebody waits."),
        "ce_replyfinal": _text("Of a command: `1` when its final answer alone is waited for."),
        "ce_expirytime": {**_text("Of a result: appended later, its refusal proves nothing."), "format": "date-time"},
    },
}
