"""Schema ids from a registry: confluent-kafka's own in-memory one, and one over a socket that misbehaves.

Its serializer and deserializer also judge our framing from outside.
"""

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, cast

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.messages import MessageCodec, SchemaIds
from schemas.records.commands import PaymentRequested
from schemas.schema_ids import newest_schemas, packaged_schemas
from schemas.schema_registry import (
    RegistryClient,
    RegistryError,
    SchemaNotRegisteredError,
    connect,
    look_up,
    register,
)
from tests.support.golden_messages import envelope_of, example

TIMEOUT_S = 0.3
COMMAND = example(PaymentRequested)
SUBJECT = "payments.PaymentRequested"
CONTEXT = SerializationContext("payments.commands.v1", MessageField.VALUE)


@pytest.fixture
def registry() -> SchemaRegistryClient:
    client: SchemaRegistryClient = SchemaRegistryClient.new_client({"url": "mock://tests"})
    return client


def as_ours(client: object) -> RegistryClient:
    # The in-memory client has no compatibility levels: it takes every version.
    if not hasattr(client, "levels"):
        levels: dict[str, str] = {}
        vars(client)["levels"] = levels
        vars(client)["set_compatibility"] = levels.__setitem__
    return cast("RegistryClient", client)


def test_ids_are_looked_up_after_they_were_registered(registry: SchemaRegistryClient) -> None:
    client = as_ours(registry)
    ids = register(client, packaged_schemas())
    assert set(ids) == {schema.full_name for schema in newest_schemas().values()}
    assert set(vars(registry)["levels"].values()) == {"FULL_TRANSITIVE"}
    found = look_up(client)
    for record, schema in newest_schemas().items():
        assert found.own_id(record) == ids[schema.full_name]
    assert register(client, packaged_schemas()) == ids


def test_messages_of_a_log_that_began_without_a_registry_stay_readable(registry: SchemaRegistryClient) -> None:
    client = as_ours(registry)
    register(client, packaged_schemas())
    before, after = MessageCodec(SchemaIds.packaged()), MessageCodec(look_up(client))
    old = before.encode(COMMAND, envelope_of(COMMAND))
    new = after.encode(COMMAND, envelope_of(COMMAND))
    assert old.value[:5] != new.value[:5]
    assert after.decode(old.value, old.headers) == after.decode(new.value, new.headers)


def test_messages_of_a_newer_program_are_read_when_its_schema_is_in_the_registry(
    registry: SchemaRegistryClient,
) -> None:
    client = as_ours(registry)
    register(client, packaged_schemas())
    newer = json.loads(newest_schemas()["payment_requested"].text)
    newer["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
    serializer = AvroSerializer(
        registry, json.dumps(newer), conf={"subject.name.strategy": record_subject_name_strategy}
    )
    value = serializer(dataclasses.asdict(COMMAND) | {"note": "new"}, CONTEXT)
    headers = MessageCodec(SchemaIds.packaged()).encode(COMMAND, envelope_of(COMMAND)).headers
    assert MessageCodec(look_up(client)).decode(value, headers)[1] == COMMAND


def test_confluents_deserializer_reads_what_we_write(registry: SchemaRegistryClient) -> None:
    client = as_ours(registry)
    register(client, packaged_schemas())
    message = MessageCodec(look_up(client)).encode(COMMAND, envelope_of(COMMAND))
    assert AvroDeserializer(registry)(message.value, CONTEXT) == dataclasses.asdict(COMMAND)


def test_we_read_what_confluents_serializer_writes(registry: SchemaRegistryClient) -> None:
    client = as_ours(registry)
    register(client, packaged_schemas())
    serializer = AvroSerializer(
        registry,
        newest_schemas()["payment_requested"].text,
        conf={
            "subject.name.strategy": record_subject_name_strategy,
            "auto.register.schemas": False,
            "use.latest.version": True,
        },
    )
    codec = MessageCodec(look_up(client))
    ours = codec.encode(COMMAND, envelope_of(COMMAND))
    theirs = serializer(dataclasses.asdict(COMMAND), CONTEXT)
    assert theirs == ours.value
    assert codec.decode(theirs, ours.headers)[1] == COMMAND


def test_program_does_not_start_when_a_schema_it_writes_is_not_registered(registry: SchemaRegistryClient) -> None:
    with pytest.raises(SchemaNotRegisteredError, match="look up payments"):
        look_up(as_ours(registry))


class _Answer(BaseHTTPRequestHandler):
    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""

    def _answer(self) -> None:
        self.send_response(type(self).status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(type(self).body)))
        self.end_headers()
        self.wfile.write(type(self).body)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 -- the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the standard library's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield http
        http.shutdown()
        thread.join(timeout=10)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b'{"error_code": 40403, "message": "Schema not found"}', SchemaNotRegisteredError),
        (409, b'{"error_code": 409, "message": "incompatible"}', RegistryError),
        (401, b"<html>", RegistryError),
        (200, b"<html>", RegistryError),
        (200, b"{}", RegistryError),
        (200, b"[]", RegistryError),
        (200, b'{"id": "x", "subject": "s", "version": 1, "schema": "{}"}', RegistryError),
    ],
)
def test_every_wrong_answer_is_one_error(
    server: ThreadingHTTPServer, status: int, body: bytes, error: type[RegistryError]
) -> None:
    _Answer.status, _Answer.body = status, body
    client = connect(f"http://127.0.0.1:{server.server_port}", timeout_s=5)
    with pytest.raises(error):
        look_up(client)
    with pytest.raises(RegistryError):
        register(client, packaged_schemas())


def test_registry_that_is_not_there_or_never_answers_is_one_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryError):
            look_up(connect(address, timeout_s=TIMEOUT_S))
    with pytest.raises(RegistryError):
        look_up(connect(address, timeout_s=TIMEOUT_S))


def test_schema_that_is_no_schema_of_ours_is_one_error(registry: SchemaRegistryClient) -> None:
    client = as_ours(registry)
    register(client, packaged_schemas())
    registry.register_schema(SUBJECT, Schema('{"type": "nonsense"}', "AVRO"))
    with pytest.raises(RegistryError):
        look_up(client)
