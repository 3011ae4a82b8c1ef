"""One fixed record of every class, and the bytes it had when its golden file was written.

`python -m tests.support.golden_messages` writes the files anew. Do that only for a change of the wire that is meant: a
released record never changes its bytes.
"""

import json
import sys
from pathlib import Path
from typing import Any, TypeVar, cast

from schemas.cloud_event import Envelope
from schemas.event_types import TYPES
from schemas.messages import MessageCodec, SchemaIds
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES, FieldShape, Record, Row, fields_of, name_of

GOLDEN_FOLDER = Path(__file__).parents[1] / "unit" / "golden"
T = TypeVar("T")

_LONG = 1_763_850_000_123
_SCALARS: dict[str, Any] = {"long": _LONG, "boolean": True, "bytes": b"\x00\xff"}


def example(cls: type[T]) -> T:
    """Return the fixed record of the class: each field has a value, lists have one item."""
    return cls(**{shape.name: _value(shape) for shape in fields_of(cls)})


def _value(shape: FieldShape) -> object:
    item: object
    if shape.nested is not None:
        item = example(shape.nested)
    elif shape.symbols is not None:
        item = list(shape.symbols)[-1]
    else:
        item = _SCALARS.get(str(shape.scalar), f"{shape.name}-é")
    return (item,) if shape.repeated else item


def envelope_of(record: Record) -> Envelope:
    """Return the fixed envelope of the fixed record."""
    return Envelope(
        id="0b1f1f0e-3c55-4a0e-8f0a-5f0d8c9f3a10",
        source="/tests/golden",
        type=TYPES.get(type(record), "payments.sale.succeeded.v1"),
        time_ms=_LONG,
        subject="pay_1",
        partitionkey=getattr(record, "order_id", "order-1"),
        originid=getattr(record, "origin_id", "origin-1"),
        idempotencykey=getattr(record, "idempotency_key", "key-1"),
        sequence=7,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="vendor=1",
        replypartition=3,
    )


def golden_of(cls: type[Record | Row]) -> dict[str, Any]:
    """Return what the golden file of the class holds: the value in hex, and the headers of a message."""
    codec = MessageCodec(SchemaIds.packaged())
    record = example(cls)
    if cls in ROW_CLASSES:
        return {"value": codec.encode_row(cast("Row", record)).hex()}
    message = codec.encode(cast("Record", record), envelope_of(cast("Record", record)))
    return {"value": message.value.hex(), "headers": [[name, raw.decode()] for name, raw in message.headers]}


if __name__ == "__main__":
    for written in (*RECORD_CLASSES, *ROW_CLASSES):
        text = json.dumps(golden_of(written), indent=2, ensure_ascii=False) + "\n"
        (GOLDEN_FOLDER / f"{name_of(written)}.json").write_text(text)
    sys.stdout.write(f"wrote {len(RECORD_CLASSES) + len(ROW_CLASSES)} files\n")
