"""Writes the Avro files of records that are not released yet, from the record classes and their comments.

A tool for whoever changes a record before its release (`python -m tests.support.draft_schemas`), and the oracle of the
test that holds classes and files together. A released file is never touched: a change to its class then needs a v2
file, drafted with `--next`. `--release` marks every version as released, and keeps the newest as the snapshot that
`schemas check` compares with; `--baseline` keeps that alone, for a change before the first release. It is no part of
the product.
"""

import argparse
import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from schemas.baseline import BASELINE_FILE
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, FieldShape, fields_of, name_of
from schemas.releases import PACKAGED_IDS, RELEASE, UNRECOGNISED
from schemas.schema_ids import packaged_schemas

AVRO_FOLDER = Path(__file__).parents[2] / "schemas" / "avro"
NAMESPACE = "payments"


def draft(cls: type) -> dict[str, Any]:
    """Return the Avro schema that the record class stands for, nested types written out where they first occur."""
    return _record(cls, set())


def _record(cls: type, named: set[str]) -> dict[str, Any]:
    named.add(cls.__name__)
    comments = _field_comments(cls)
    schema: dict[str, Any] = {"type": "record", "name": cls.__name__}
    if len(named) == 1:
        schema["namespace"] = NAMESPACE
    schema["doc"] = _summary(cls)
    schema["fields"] = [_field(shape, comments.get(shape.name), named) for shape in fields_of(cls)]
    return schema


def _field(shape: FieldShape, comment: str | None, named: set[str]) -> dict[str, Any]:
    item: Any = shape.scalar
    if shape.symbols is not None:
        item = _symbols(shape.symbols, named)
    elif shape.nested is not None:
        item = (
            NAMESPACE + "." + shape.nested.__name__ if shape.nested.__name__ in named else _record(shape.nested, named)
        )
    field: dict[str, Any] = {"name": shape.name}
    if shape.repeated:
        field |= {"type": {"type": "array", "items": item}, "default": []}
    elif shape.nullable:
        field |= {"type": ["null", item], "default": None}
    elif shape.optional:
        field |= {"type": item, "default": shape.default}
    else:
        field |= {"type": item}
    return field if comment is None else field | {"doc": comment}


def _symbols(cls: type[StrEnum], named: set[str]) -> Any:
    if cls.__name__ in named:
        return NAMESPACE + "." + cls.__name__
    named.add(cls.__name__)
    schema: dict[str, Any] = {"type": "enum", "name": cls.__name__, "doc": _summary(cls)}
    return schema | {"symbols": [UNRECOGNISED, *(member.value for member in cls)], "default": UNRECOGNISED}


def _summary(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _field_comments(cls: type) -> dict[str, str]:
    lines = inspect.getsource(cls).splitlines()
    body = ast.parse("\n".join(lines)).body[0]
    assert isinstance(body, ast.ClassDef)
    comments: dict[str, str] = {}
    for statement in body.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            _, mark, comment = lines[(statement.end_lineno or statement.lineno) - 1].partition("  # ")
            if mark:
                comments[statement.target.id] = comment.strip()
    return comments


def text_of(schema: Mapping[str, Any]) -> str:
    """Return the schema as it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _keep_baseline() -> None:
    """Take what stands now for what the last release has."""
    packaged_schemas.cache_clear()
    kept = {
        schema.record: {"version": schema.version, "schema": json.loads(schema.text)} for schema in packaged_schemas()
    }
    (AVRO_FOLDER / BASELINE_FILE).write_text(json.dumps(kept, separators=(",", ":"), ensure_ascii=False) + "\n")


def _write(*, next_version: bool, release: bool) -> None:
    lock_path = AVRO_FOLDER / "ids.json"
    lock: dict[str, dict[str, dict[str, Any]]] = json.loads(lock_path.read_text()) if lock_path.exists() else {}
    used = [entry["id"] for versions in lock.values() for entry in versions.values()]
    free = max(used, default=PACKAGED_IDS.start) + 1
    for cls in (*RECORD_CLASSES, *ROW_CLASSES):
        versions = lock.setdefault(name_of(cls), {})
        newest = len(versions)
        text = text_of(draft(cls))
        digest = hashlib.sha256(text.encode()).hexdigest()
        if newest and versions[f"v{newest}"]["sha256"] == digest:
            versions[f"v{newest}"]["released"] |= release
            continue
        if newest and versions[f"v{newest}"]["released"]:
            if not next_version:
                raise SystemExit(f"{name_of(cls)} v{newest} is released: draft a new version with --next")
            newest += 1
        newest = newest or 1
        if f"v{newest}" not in versions:
            versions[f"v{newest}"] = {"id": free, "sha256": digest, "released": release, "since": RELEASE}
            free += 1
        versions[f"v{newest}"] |= {"sha256": digest, "released": release}
        path = AVRO_FOLDER / name_of(cls) / f"v{newest}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"wrote {path.parent.name}/{path.name}\n")
    lock_path.write_text(json.dumps(lock, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--next", action="store_true", help="draft a new version where the newest one is released")
    parser.add_argument("--release", action="store_true", help="mark what is written, and what stands, as released")
    parser.add_argument("--baseline", action="store_true", help="keep what stands now as that of the last release")
    arguments = parser.parse_args()
    _write(next_version=arguments.next, release=arguments.release)
    if arguments.release or arguments.baseline:
        _keep_baseline()
