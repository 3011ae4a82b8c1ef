"""Which id stands for which version of which schema, in both directions.

Every message carries the id of its writer's schema (Confluent framing). The ids come from the packaged lock file
(`schemas/avro/ids.json`) or from a registry (`schemas.schema_registry`); both end in the same table, made before the
first message. What a registry learns later is asked for when it is first met (`schemas.late_schemas`). Called by the
Avro codec, by `schemas check` and `schemas register`.
"""

import functools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import fastavro

from schemas.releases import RELEASE

AvroSchema: TypeAlias = dict[str, Any]
"""A schema as parsed from its JSON; its inside is Avro's business, not ours."""

LOCK_FILE = "ids.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedSchema:
    """One file of `schemas/avro/` and its line of the lock file."""

    record: str  # its folder, such as `payment_requested`
    version: int
    schema_id: int
    sha256: str  # of the file's bytes, as released
    released: bool
    text: str
    since: int = 1  # the release that brought it

    @property
    def full_name(self) -> str:
        """The Avro full name, which is also the registry subject (RecordNameStrategy)."""
        parsed = json.loads(self.text)
        return f"{parsed['namespace']}.{parsed['name']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSchema:
    """What a message with some schema id was written with."""

    record: str
    parsed: AvroSchema
    current: bool  # the same schema as the newest packaged version: no resolution is needed
    version: int | None = None  # the packaged version that it is the same as; None: a stranger's, or a newer release's


@functools.cache
def packaged_schemas() -> tuple[PackagedSchema, ...]:
    """Return every packaged schema, ordered by record and version. Raises: OSError, ValueError for a broken package."""
    folder = files("schemas") / "avro"
    lock: dict[str, dict[str, dict[str, Any]]] = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
    return tuple(
        PackagedSchema(
            record=record,
            version=int(version.removeprefix("v")),
            schema_id=entry["id"],
            sha256=entry["sha256"],
            released=entry["released"],
            since=entry["since"],
            text=(folder / record / f"{version}.avsc").read_text(encoding="utf-8"),
        )
        for record, versions in sorted(lock.items())
        for version, entry in sorted(versions.items(), key=lambda item: int(item[0].removeprefix("v")))
    )


@functools.cache
def newest_schemas() -> Mapping[str, PackagedSchema]:
    """Return the newest packaged schema of each record: what this program writes, and reads into."""
    return MappingProxyType({schema.record: schema for schema in packaged_schemas()})


def versions_of(release: int, schemas: Iterable[PackagedSchema]) -> Mapping[str, PackagedSchema]:
    """Return the version of each record that this release writes. A record that a later one brought has none."""
    ordered = sorted(schemas, key=lambda each: each.version)
    return MappingProxyType({schema.record: schema for schema in ordered if schema.since <= release})


@functools.cache
def reader_schema(record: str) -> AvroSchema:
    """Return the parsed newest schema of a record. Raises: KeyError for a name that is no record of ours."""
    return parse(newest_schemas()[record].text)


def parse(text: str) -> AvroSchema:
    """Return the schema parsed by itself: a name defined in one file never leaks into another.

    Raises: ValueError (bad JSON) or fastavro.schema.SchemaParseException (bad schema).
    """
    return cast("AvroSchema", fastavro.parse_schema(json.loads(text), named_schemas={}))


Wait: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when an answer is there, or has had its time. Never raises."""
Ask: TypeAlias = Callable[[int], Wait | None]
"""Asks for a schema id that nobody knows; None: it is not asked for, now or again."""


class SchemaIds:
    """A two-way table of schema ids. What it knows never changes; it may learn more ids to read."""

    def __init__(
        self,
        *,
        own_ids: Mapping[str, int],
        writers: Mapping[int, WriterSchema],
        ask: Ask = lambda _schema_id: None,
        earlier_ids: Mapping[tuple[str, int], int] | None = None,
        schemas: Sequence[PackagedSchema] | None = None,
        release: int = RELEASE,
    ) -> None:
        """Make the table.

        Args:
            own_ids: record name -> id of its newest version.
            writers: every id that it can read. It may grow while it is used, from any thread.
            ask: called for an id that `writers` does not hold.
            earlier_ids: record name and version -> id, of the versions before the newest that may be written.
            schemas: the versions that there are; the packaged ones unless said.
            release: which one this is.
        """
        self._own_ids = dict(own_ids)
        self._earlier_ids = dict(earlier_ids or {})
        self._writers = writers
        self.ask = ask
        self.schemas = packaged_schemas() if schemas is None else schemas
        self.release = release

    @classmethod
    def packaged(cls, schemas: Sequence[PackagedSchema] | None = None, *, release: int = RELEASE) -> "SchemaIds":
        """Return the ids of the packaged lock file (or of these): the embedded default, no server needed."""
        chosen = packaged_schemas() if schemas is None else schemas
        return cls(
            own_ids={schema.record: schema.schema_id for schema in chosen},
            writers=packaged_writers(chosen),
            earlier_ids={(schema.record, schema.version): schema.schema_id for schema in chosen},
            schemas=chosen,
            release=release,
        )

    def own_id(self, record: str) -> int:
        """Return the id of a record's newest version. Raises: KeyError for no record of ours."""
        return self._own_ids[record]

    def id_of(self, schema: PackagedSchema) -> int:
        """Return the id of a packaged version. Raises: KeyError: it is not to be written."""
        newest = max(each.version for each in self.schemas if each.record == schema.record)
        if schema.version == newest:
            return self._own_ids[schema.record]
        return self._earlier_ids[schema.record, schema.version]

    def writer(self, schema_id: int) -> WriterSchema | None:
        """Return what was written under this id, or None when nobody said."""
        return self._writers.get(schema_id)


def packaged_writers(schemas: Iterable[PackagedSchema]) -> dict[int, WriterSchema]:
    """Return what each packaged id was written with, by id. Raises: ValueError for a text that is no schema."""
    known = sorted(schemas, key=lambda each: each.version)
    newest = {schema.record: schema for schema in known}
    return {
        schema.schema_id: WriterSchema(
            record=schema.record,
            parsed=parse(schema.text),
            current=schema == newest[schema.record],
            version=schema.version,
        )
        for schema in known
    }
