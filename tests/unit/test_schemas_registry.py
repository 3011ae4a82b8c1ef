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

from schemas.decode_errors import DecodeError, SchemaAwaitedError
from schemas.late_schemas import RegistrySilentError
from schemas.messages import MessageCodec, SchemaIds
from schemas.records.commands import PaymentRequested
from schemas.schema_ids import newest_schemas, packaged_schemas
from schemas.schema_registry import (
    AccessRefusedError,
    Credentials,
    IncompatibleError,
    NotARegistryError,
    RegistryClient,
    RegistryError,
    SchemaNotRegisteredError,
    connect,
    fetch,
    look_up,
    register,
)
from schemas.vocabulary import DeadLetterReason
from tests.support.golden_messages import envelope_of, example
from tests.support.http_registry import Registry, basic, served

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
    read = AvroDeserializer(registry)(message.value, CONTEXT)
    assert read == {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(COMMAND).items()
    }


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


# --- over a socket, with the serializers that direct producers use ----------------------------------------------------

HEADERS = MessageCodec(SchemaIds.packaged()).encode(COMMAND, envelope_of(COMMAND)).headers
OURS = newest_schemas()["payment_requested"].text


@pytest.fixture
def held() -> Iterator[Registry]:
    """A registry that holds what `schemas register` puts there."""
    with served(Registry()) as registry:
        register(connect(registry.url, timeout_s=5), packaged_schemas())
        yield registry


def written_by(registry: Registry, text: str, **options: object) -> bytes:
    """The command as Confluent's serializer writes it with this schema, and with its defaults but for the options."""
    serializer = AvroSerializer(SchemaRegistryClient({"url": registry.url}), text, conf=options)
    value: bytes = serializer(dataclasses.asdict(COMMAND), CONTEXT)
    return value


def strangers_schema() -> str:
    return json.dumps(json.loads(OURS) | {"namespace": "com.shop", "doc": "a command, as the shop says it"})


def test_serializer_finds_our_file_as_it_is_when_it_may_not_register(held: Registry) -> None:
    found = look_up(connect(held.url, timeout_s=5))
    strategy = {"subject.name.strategy": record_subject_name_strategy}
    value = written_by(held, OURS, **strategy, **{"auto.register.schemas": False})
    assert MessageCodec(found).decode(value, HEADERS)[1] == COMMAND


def test_registering_twice_makes_no_second_version(held: Registry) -> None:
    before = {subject: list(versions) for subject, versions in held.subjects.items()}
    register(connect(held.url, timeout_s=5), packaged_schemas())
    assert held.subjects == before


@pytest.mark.parametrize("text", [OURS, strangers_schema()])
def test_command_of_a_serializer_with_its_defaults_is_read_when_it_was_registered_before_the_start(
    held: Registry, text: str
) -> None:
    value = written_by(held, text)
    assert "payments.commands.v1-value" in held.subjects
    codec = MessageCodec(look_up(connect(held.url, timeout_s=5)))
    held.asked.clear()
    assert codec.decode(value, HEADERS)[1] == COMMAND
    assert held.asked == []


async def test_command_of_a_serializer_with_its_defaults_is_read_when_it_was_registered_after_the_start(
    held: Registry,
) -> None:
    codec = MessageCodec(look_up(connect(held.url, timeout_s=5)))
    value = written_by(held, strangers_schema())
    with pytest.raises(SchemaAwaitedError) as awaited:
        codec.decode(value, HEADERS)
    await awaited.value.wait()
    assert codec.decode(value, HEADERS)[1] == COMMAND


@pytest.mark.parametrize(
    "text", ['{"type": "record", "name": "Order", "fields": [{"name": "a", "type": "long"}]}', '"string"']
)
async def test_record_is_refused_for_good_when_the_registry_has_its_schema_and_it_is_not_ours(
    held: Registry, text: str
) -> None:
    codec = MessageCodec(look_up(connect(held.url, timeout_s=5)))
    value = b"\x00" + held.register("other-value", text).to_bytes(4, "big") + b"\x02"
    with pytest.raises(SchemaAwaitedError) as awaited:
        codec.decode(value, HEADERS)
    await awaited.value.wait()
    with pytest.raises(DecodeError) as refused:
        codec.decode(value, HEADERS)
    assert type(refused.value) is DecodeError
    assert refused.value.reason is DeadLetterReason.UNKNOWN_SCHEMA


def test_schema_of_a_strangers_subject_that_is_not_ours_keeps_nobody_from_starting(held: Registry) -> None:
    held.register("payments.commands.v1-value", "nonsense")
    held.register("payments.commands.v1-value", '{"type": "record", "name": "Order", "fields": []}')
    look_up(connect(held.url, timeout_s=5))


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        (basic("engine", "se:cret"), Credentials(user="engine", password="se:cret")),
        ("Bearer t0ken", Credentials(token="t0ken")),
    ],
)
def test_registry_is_asked_by_whom_it_was_told(held: Registry, header: str, credentials: Credentials) -> None:
    held.authorization = header
    look_up(connect(held.url, timeout_s=5, credentials=credentials))
    with pytest.raises(AccessRefusedError):
        look_up(connect(held.url, timeout_s=5))


def test_program_starts_when_it_may_not_see_what_strangers_registered(held: Registry) -> None:
    held.forbidden = "payments.commands.v1-value"
    look_up(connect(held.url, timeout_s=5))


def test_other_path_of_a_registry_is_no_registry(held: Registry) -> None:
    client = connect(f"{held.url}/apis/registry/v2", timeout_s=5)
    for ask in (lambda: look_up(client), lambda: register(client, packaged_schemas())):
        with pytest.raises(NotARegistryError):
            ask()


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
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield http
        http.shutdown()
        thread.join(timeout=10)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b'{"error_code": 40403, "message": "Schema not found"}', SchemaNotRegisteredError),
        (409, b'{"error_code": 409, "message": "incompatible"}', IncompatibleError),
        (401, b"<html>", AccessRefusedError),
        (403, b'{"error_code": 40301, "message": "no"}', AccessRefusedError),
        (404, b"<html>", NotARegistryError),
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


@pytest.mark.parametrize(
    "body", [b'"ok"', b"null", b"[]", b'{"schema": "{}", "references": ["x"]}', b'{"schema": "{}", "schemaType": []}']
)
def test_answer_about_one_id_counts_as_none_when_no_registry_gives_such_a_one(
    server: ThreadingHTTPServer, body: bytes
) -> None:
    _Answer.status, _Answer.body = 200, body
    with pytest.raises(RegistrySilentError):  # else who waits would ask again at once, and for ever
        fetch(connect(f"http://127.0.0.1:{server.server_port}", timeout_s=5), 7)


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
