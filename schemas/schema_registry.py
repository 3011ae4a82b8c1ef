"""Schema ids from a Confluent-compatible registry: `schemas register` writes them, every program reads them at start.

Called by the composition root and the command line when a registry is configured. Calls confluent-kafka's client, which
blocks: so all is asked before the first message, and no message ever waits for it. Subjects are record names
(RecordNameStrategy: `payments.PaymentRequested`), since a topic holds several records. Packaged ids stay readable, so a
log that began without a registry goes on.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from confluent_kafka.schema_registry import RegisteredSchema, Schema, SchemaRegistryClient

# The client takes one of two HTTP libraries; only its own choice has the errors that it lets through.
from confluent_kafka.schema_registry.common._httpx_compat import httpx
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro.schema import SchemaParseException

from schemas.schema_ids import (
    PackagedSchema,
    SchemaIds,
    WriterSchema,
    newest_schemas,
    packaged_schemas,
    packaged_writers,
    parse,
)

COMPATIBILITY: Final = "FULL_TRANSITIVE"
SCHEMA_TYPE: Final = "AVRO"
MAX_VERSIONS: Final = 200
"""Versions of one subject that are looked at, newest last; ours have a handful."""
MAX_RETRIES: Final = 2
NOT_FOUND: Final = 404


class RegistryError(Exception):
    """The registry did not answer as it must: not reachable, not a registry, or it refused."""


class SchemaNotRegisteredError(RegistryError):
    """A schema that this program writes is not in the registry: run `schemas register` first."""


class RegistryClient(Protocol):
    """The part of confluent-kafka's client that is used."""

    def register_schema(self, subject_name: str, schema: Schema) -> int:
        """Return the id of the schema, new or as it was."""
        ...

    def lookup_schema(self, subject_name: str, schema: Schema) -> RegisteredSchema:
        """Return what stands in the registry for exactly this schema."""
        ...

    def get_versions(self, subject_name: str) -> list[int]:
        """Return the versions of a subject."""
        ...

    def get_version(self, subject_name: str, version: int) -> RegisteredSchema:
        """Return one version of a subject."""
        ...

    def set_compatibility(self, subject_name: str | None = None, level: str | None = None) -> object:
        """Set what the registry holds a subject's next versions to."""
        ...


def connect(url: str, *, timeout_s: float) -> RegistryClient:
    """Return a client for the registry at that address; nothing is sent yet. The time-out is for each request."""
    client: RegistryClient = SchemaRegistryClient({"url": url, "timeout": timeout_s, "max.retries": MAX_RETRIES})
    return client


@contextmanager
def _one_error(what: str) -> Iterator[None]:
    try:
        yield
    except SchemaRegistryError as error:
        detail = f"{what}: HTTP {error.http_status_code}, {error.error_message}"
        raise (SchemaNotRegisteredError if error.http_status_code == NOT_FOUND else RegistryError)(detail) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError, SchemaParseException) as error:
        # The last three: what answers is no registry, or holds something else under our subject.
        raise RegistryError(f"{what}: {type(error).__name__}") from error


def register(client: RegistryClient, schemas: Iterable[PackagedSchema]) -> dict[str, int]:
    """Register the schemas, oldest version first, and return subject -> id of the last. Doing it twice changes nothing.

    Raises: RegistryError, also when the registry finds a version incompatible.
    """
    ids: dict[str, int] = {}
    for schema in schemas:
        subject = schema.full_name
        with _one_error(f"register {subject} v{schema.version}"):
            if subject not in ids:
                client.set_compatibility(subject, COMPATIBILITY)
            ids[subject] = _checked_id(client.register_schema(subject, Schema(schema.text, SCHEMA_TYPE)))
    return ids


def look_up(client: RegistryClient) -> SchemaIds:
    """Return the registry's ids of what this program writes, and every version in it that it may have to read.

    Raises: SchemaNotRegisteredError, RegistryError.
    """
    own_ids: dict[str, int] = {}
    writers: dict[int, WriterSchema] = packaged_writers(packaged_schemas())
    for record, schema in newest_schemas().items():
        subject = schema.full_name
        with _one_error(f"look up {subject}"):
            own_ids[record] = _id_of(client.lookup_schema(subject, Schema(schema.text, SCHEMA_TYPE)))
            for version in client.get_versions(subject)[-MAX_VERSIONS:]:
                registered = client.get_version(subject, version)
                writers[_id_of(registered)] = _writer(record, registered)
        writers[own_ids[record]] = WriterSchema(record=record, parsed=parse(schema.text), current=True)
    return SchemaIds(own_ids=own_ids, writers=writers)


def _id_of(registered: RegisteredSchema) -> int:
    return _checked_id(registered.schema_id)


def _checked_id(schema_id: object) -> int:
    # The client hands on whatever JSON says.
    if not isinstance(schema_id, int):
        raise TypeError("an answer without an id")
    return schema_id


def _writer(record: str, registered: RegisteredSchema) -> WriterSchema:
    if registered.schema.schema_str is None:
        raise TypeError("an answer without a schema")
    return WriterSchema(record=record, parsed=parse(registered.schema.schema_str), current=False)
