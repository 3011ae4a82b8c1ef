"""Which id stands for which version of which schema, in both directions.

Every message carries the id of its writer's schema (Confluent framing). The ids come from the packaged lock file
(`schemas/avro/ids.json`) or from a registry (`schemas.schema_registry`); both end in the same table, made before the
first message. What a registry learns later is asked for when it is first met (`schemas.late_schemas`). Called by the
Avro codec, by `schemas check` and `schemas register`.
"""

import functools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import fastavro

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
            text=(folder / record / f"{version}.avsc").read_text(encoding="utf-8"),
        )
        for record, versions in sorted(lock.items())
        for version, entry in sorted(versions.items(), key=lambda item: int(item[0].removeprefix("v")))
    )


@functools.cache
def newest_schemas() -> Mapping[str, PackagedSchema]:
    """Return the newest packaged schema of each record: what this program writes, and reads into."""
    return MappingProxyType({schema.record: schema for schema in packaged_schemas()})


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
        self, *, own_ids: Mapping[str, int], writers: Mapping[int, WriterSchema], ask: Ask = lambda _schema_id: None
    ) -> None:
        """Make the table.

        Args:
            own_ids: record name -> id that this program writes.
            writers: every id that it can read. It may grow while it is used, from any thread.
            ask: called for an id that `writers` does not hold.
        """
        self._own_ids = dict(own_ids)
        self._writers = writers
        self.ask = ask

    @classmethod
    def packaged(cls) -> "SchemaIds":
        """Return the ids of the packaged lock file: the embedded default, no server needed."""
        newest = newest_schemas()
        return cls(
            own_ids={record: schema.schema_id for record, schema in newest.items()},
            writers=packaged_writers(packaged_schemas()),
        )

    def own_id(self, record: str) -> int:
        """Return the id that this program writes for a record. Raises: KeyError for no record of ours."""
        return self._own_ids[record]

    def writer(self, schema_id: int) -> WriterSchema | None:
        """Return what was written under this id, or None when nobody said."""
        return self._writers.get(schema_id)


def packaged_writers(schemas: Iterable[PackagedSchema]) -> dict[int, WriterSchema]:
    """Return what each packaged id was written with, by id. Raises: ValueError for a text that is no schema."""
    newest = newest_schemas()
    return {
        schema.schema_id: WriterSchema(
            record=schema.record, parsed=parse(schema.text), current=schema == newest[schema.record]
        )
        for schema in schemas
    }
