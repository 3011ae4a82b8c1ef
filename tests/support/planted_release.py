"""A release before this one, planted: one record class and schema as they are, and the schema that came before them.

Used by the tests of upgrades within a process. The release is made backwards: the newest schema is this program's own,
so that its code is what runs, and the earlier one lacks a field and a symbol of it.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.schema_ids import PackagedSchema, SchemaIds, newest_schemas, packaged_schemas

EARLIER = 1
THIS = 2

Change = Callable[[dict[str, Any]], None]


def schemas_with_earlier(changes: Mapping[str, Change]) -> Sequence[PackagedSchema]:
    """Return the packaged schemas as those of release 2, and of these records a version of release 1."""
    planted: list[PackagedSchema] = []
    highest = max(schema.schema_id for schema in packaged_schemas())
    for place, newest in enumerate(newest_schemas().values(), start=1):
        if newest.record not in changes:
            planted.append(newest)
            continue
        schema = json.loads(newest.text)
        changes[newest.record](schema)
        earlier = dataclasses.replace(newest, text=json.dumps(schema), since=EARLIER)
        later = dataclasses.replace(
            newest, version=newest.version + 1, schema_id=highest + place, since=THIS, released=False
        )
        planted += [earlier, later]
    return planted


def ids_with_earlier(changes: Mapping[str, Change]) -> SchemaIds:
    """Return the ids of release 2, which knows what release 1 wrote."""
    return SchemaIds.packaged(schemas_with_earlier(changes), release=THIS)


def ids_of_earlier(changes: Mapping[str, Change]) -> SchemaIds:
    """Return the ids of a reader that knows release 1 alone. Its classes are of release 2: it can only read."""
    schemas = [schema for schema in schemas_with_earlier(changes) if schema.since == EARLIER]
    return SchemaIds.packaged(schemas, release=EARLIER)
