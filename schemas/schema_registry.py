"""Schema ids from a Confluent-compatible registry: `schemas register` writes them, every program reads them at start.

Called by the operators' tools and the programs when a registry is configured. Calls confluent-kafka's client, which
blocks: so nearly all is asked before the first message, and what comes later on a thread (`schemas.late_schemas`).
Our subjects are record names (RecordNameStrategy: `payments.PaymentRequested`), since a topic holds several records.
Direct producers with Confluent's defaults write under `<topic>-value`; what of it can be read safely is. Packaged ids
stay readable, so a log that began without a registry goes on.

```
RegistryError                 it did not answer as it must; it may in a moment
├── SchemaNotRegisteredError    it does not know a schema that this program writes: run `schemas register`
├── IncompatibleError           it refuses a version, by its rules of compatibility
├── AccessRefusedError          user, password or token are wrong
└── NotARegistryError           something else answers there: the address is wrong
```
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from confluent_kafka.schema_registry import RegisteredSchema, Schema, SchemaRegistryClient

# The client takes one of two HTTP libraries; only its own choice has the errors that it lets through.
from confluent_kafka.schema_registry.common._httpx_compat import httpx
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro.schema import SchemaParseException

from schemas import topics
from schemas.foreign_schemas import UnreadableSchemaError, writer_of
from schemas.late_schemas import LateSchemas, RegistrySilentError
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
MAX_TOLD_CHARS: Final = 300
"""Of what a registry says, in a message for a person."""
MISSING_CODES: Final = range(40_400, 40_500)
"""The registry's own codes for what it does not hold. Any other 404 is of a server that is no registry."""
FOREIGN_SUBJECTS: Final = (f"{topics.COMMANDS}-value",)
"""Where serializers register by default (TopicNameStrategy), for the topics that strangers write."""


class RegistryError(Exception):
    """The registry did not answer as it must: not reachable, not a registry, or it refused."""


class SchemaNotRegisteredError(RegistryError):
    """A schema that this program writes is not in the registry: run `schemas register` first."""


class IncompatibleError(RegistryError):
    """The registry refuses a version of a schema by its rules of compatibility."""


class AccessRefusedError(RegistryError):
    """The registry refuses whom it was told is asking."""


class NotARegistryError(RegistryError):
    """What answers at the address is no schema registry, or not one at this path."""


class RegistryClient(Protocol):
    """The part of confluent-kafka's client that is used."""

    def register_schema(self, subject_name: str, schema: Schema, normalize_schemas: bool = False) -> int:
        """Return the id of the schema, new or as it was: twice is safe."""
        ...

    def lookup_schema(self, subject_name: str, schema: Schema, normalize_schemas: bool = False) -> RegisteredSchema:
        """Return what stands in the registry for exactly this schema."""
        ...

    def get_versions(self, subject_name: str) -> list[int]:
        """Return the numbers of a subject's versions, oldest first."""
        ...

    def get_schema(self, schema_id: int) -> Schema:
        """Return the schema of an id, whatever its subjects are."""
        ...

    def get_version(self, subject_name: str, version: int) -> RegisteredSchema:
        """Return one version of a subject."""
        ...

    def set_compatibility(self, subject_name: str | None = None, level: str | None = None) -> object:
        """Set what the registry holds a subject's next versions to. Twice is safe."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who asks the registry: a user with a password, or a bearer of a token."""

    user: str | None = None
    password: str | None = None
    token: str | None = None


NOBODY: Final = Credentials()


def connect(
    url: str, *, timeout_s: float, credentials: Credentials = NOBODY, ca_file: str | None = None
) -> RegistryClient:
    """Return a client for the registry at that address; nothing is sent yet.

    Args:
        url: of the registry, with the path of its Confluent API where it has one.
        timeout_s: for each request.
        credentials: who asks.
        ca_file: certificates of the authorities that its own may be signed by, PEM; None: the system's.

    Raises:
        ValueError: the address is none.
        OSError: the file cannot be read, or holds no certificates.
    """
    options: dict[str, Any] = {"url": url, "timeout": timeout_s, "max.retries": MAX_RETRIES}
    if ca_file is not None:
        options["ssl.ca.location"] = ca_file
    if credentials.user is not None:
        options["basic.auth.user.info"] = f"{credentials.user}:{credentials.password or ''}"
    if credentials.token is not None:
        options |= {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": credentials.token,
            "bearer.auth.logical.cluster": "",  # Confluent Cloud's; the client insists on it
        }
    client: RegistryClient = SchemaRegistryClient(options)
    return client


@contextmanager
def _one_error(what: str, *, missing: type[RegistryError] = RegistryError) -> Iterator[None]:
    try:
        yield
    except SchemaRegistryError as error:
        raise _of_status(what, error, missing) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise NotARegistryError(f"{what}: this is no address of one") from error
    except httpx.HTTPError as error:
        raise RegistryError(f"{what}: {type(error).__name__}: {error}"[:MAX_TOLD_CHARS]) from error
    except (ValueError, TypeError, AttributeError, SchemaParseException) as error:
        # What answers is no registry, or holds something else under our subject.
        raise RegistryError(f"{what}: {type(error).__name__}") from error


def _of_status(what: str, error: SchemaRegistryError, missing: type[RegistryError]) -> RegistryError:
    status, code = error.http_status_code, error.error_code
    if status == HTTPStatus.NOT_FOUND and code not in MISSING_CODES:
        return NotARegistryError(f"{what}: HTTP {status}, but not as a schema registry says it")
    detail = f"{what}: HTTP {status}, {error.error_message}"[:MAX_TOLD_CHARS]
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return AccessRefusedError(detail)
    if status == HTTPStatus.CONFLICT:
        return IncompatibleError(detail)
    return missing(detail) if status == HTTPStatus.NOT_FOUND else RegistryError(detail)


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
            ids[subject] = _checked_id(client.register_schema(subject, _sent(schema), normalize_schemas=True))
    return ids


def _sent(schema: PackagedSchema) -> Schema:
    # Without its last newline, which is how Confluent's serializers send it: some registries compare texts.
    return Schema(schema.text.strip(), SCHEMA_TYPE)


def look_up(client: RegistryClient) -> SchemaIds:
    """Return the registry's ids of what this program writes, and every version in it that it may have to read.

    An id that is registered later is asked for in the background when a record first names it.

    Raises: SchemaNotRegisteredError, RegistryError.
    """
    own_ids: dict[str, int] = {}
    writers: dict[int, WriterSchema] = packaged_writers(packaged_schemas())
    for record, schema in newest_schemas().items():
        subject = schema.full_name
        with _one_error(f"look up {subject}", missing=SchemaNotRegisteredError):
            own_ids[record] = _id_of(client.lookup_schema(subject, _sent(schema), normalize_schemas=True))
            writers |= _versions_of(client, subject, ours=True)
        writers[own_ids[record]] = WriterSchema(
            record=record, parsed=parse(schema.text), current=True, version=schema.version
        )
    earlier_ids = _ids_of_earlier(client)
    for subject in FOREIGN_SUBJECTS:
        absent = suppress(SchemaNotRegisteredError, AccessRefusedError)  # the engine needs none of theirs to start
        with absent, _one_error(f"look up {subject}", missing=SchemaNotRegisteredError):
            writers = _versions_of(client, subject, ours=False) | writers
    ask = LateSchemas(writers, lambda id_: fetch(client, id_)).ask
    return SchemaIds(own_ids=own_ids, writers=writers, ask=ask, earlier_ids=earlier_ids)


def _ids_of_earlier(client: RegistryClient) -> Mapping[tuple[str, int], int]:
    """Return the ids of what the release before this one wrote, which is written until an upgrade is finished."""
    found: dict[tuple[str, int], int] = {}
    for schema in packaged_schemas():
        if schema != newest_schemas()[schema.record]:
            with _one_error(f"look up {schema.full_name} v{schema.version}", missing=SchemaNotRegisteredError):
                registered = client.lookup_schema(schema.full_name, _sent(schema), normalize_schemas=True)
                found[schema.record, schema.version] = _id_of(registered)
    return found


def _versions_of(client: RegistryClient, subject: str, *, ours: bool) -> dict[int, WriterSchema]:
    writers: dict[int, WriterSchema] = {}
    for version in client.get_versions(subject)[-MAX_VERSIONS:]:
        registered = client.get_version(subject, version)
        if ours:
            parse(registered.schema.schema_str or "")  # under our subjects stands nothing but schemas
        with suppress(UnreadableSchemaError):  # its records are dead letters, as those of any unknown schema
            writers[_id_of(registered)] = _writer(registered.schema)
    return writers


def fetch(client: RegistryClient, schema_id: int) -> WriterSchema | None:
    """Return what the id was written with; None: the registry does not know it, or it cannot be read from safely.

    Raises: RegistrySilentError: the registry did not answer as it must.
    """
    try:
        with _one_error(f"schema {schema_id}", missing=SchemaNotRegisteredError):
            schema = client.get_schema(schema_id)
    except SchemaNotRegisteredError:
        return None
    except RegistryError as error:
        raise RegistrySilentError(str(error)) from error
    try:
        return _writer(schema)
    except UnreadableSchemaError:
        return None


def _id_of(registered: RegisteredSchema) -> int:
    return _checked_id(registered.schema_id)


def _checked_id(schema_id: object) -> int:
    # The client hands on whatever JSON says.
    if not isinstance(schema_id, int):
        raise TypeError("an answer without an id")
    return schema_id


def _writer(schema: Schema) -> WriterSchema:
    if not isinstance(schema.schema_str, str):
        raise UnreadableSchemaError("an answer without a schema")
    if schema.schema_type not in {None, SCHEMA_TYPE} or schema.references:
        raise UnreadableSchemaError("not Avro, or in several parts")
    return writer_of(schema.schema_str)
