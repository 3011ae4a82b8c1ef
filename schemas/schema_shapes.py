"""The check that a record class and its Avro file say the same, so that bytes never mean something else than the file.

Called once by the Avro codec when a program starts, and by the tests. A class may be changed in one commit and its file
forgotten; then no program with that commit starts.
"""

from typing import Any

from schemas.record_shapes import FieldShape, fields_of
from schemas.releases import UNRECOGNISED
from schemas.schema_ids import AvroSchema


class SchemaMismatchError(Exception):
    """A record class and its newest Avro file differ: run `python -m tests.support.draft_schemas`. A defect of ours."""


def check_shape(cls: type, schema: AvroSchema) -> None:
    """Return if the class has the schema's fields, in its order and of its types. Raises: SchemaMismatchError."""
    _check_record(cls, schema, {})


def _check_record(cls: type, schema: Any, named: dict[str, Any]) -> None:  # a schema's inside is untyped JSON
    written = named.get(schema, schema) if isinstance(schema, str) else schema
    if not isinstance(written, dict) or written["type"] != "record" or _short(written["name"]) != cls.__name__:
        raise SchemaMismatchError(f"{cls.__name__} is not the record of its schema")
    if written is not schema:
        return  # a name that stands for what was checked where it was written out
    named[written["name"]] = written
    shapes = fields_of(cls)
    if [field["name"] for field in written["fields"]] != [shape.name for shape in shapes]:
        raise SchemaMismatchError(f"{cls.__name__} and its schema have different fields: draft its schema again")
    for shape, field in zip(shapes, written["fields"], strict=True):
        _check_field(f"{cls.__name__}.{shape.name}", shape, field["type"], named)


def _check_field(path: str, shape: FieldShape, schema: Any, named: dict[str, Any]) -> None:
    item = schema
    if shape.repeated:
        item = schema.get("items") if isinstance(schema, dict) and schema["type"] == "array" else None
    elif shape.nullable:
        item = schema[1] if isinstance(schema, list) and len(schema) == 2 and schema[0] == "null" else None  # noqa: PLR2004 -- ["null", X]
    if shape.nested is not None and item is not None:
        _check_record(shape.nested, item, named)
    elif shape.symbols is not None and item is not None:
        _check_symbols(path, shape, item, named)
    elif (item["type"] if isinstance(item, dict) else item) != shape.scalar:
        raise SchemaMismatchError(f"{path} has another type in its schema")


def _check_symbols(path: str, shape: FieldShape, schema: Any, named: dict[str, Any]) -> None:
    written = named.get(schema, schema) if isinstance(schema, str) else schema
    symbols = [UNRECOGNISED, *(member.value for member in shape.symbols or ())]
    if not isinstance(written, dict) or written.get("symbols") != symbols:
        raise SchemaMismatchError(f"{path} has other symbols in its schema")
    named[written["name"]] = written


def _short(full_name: str) -> str:
    return full_name.rpartition(".")[2]
