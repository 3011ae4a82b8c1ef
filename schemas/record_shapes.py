"""The shape of every record class, read once from its type hints: what stands on the log and how each field is built.

Called by the Avro codec (to turn records into dicts and back), by the JSON form and by the tests that hold the classes
and the files of `schemas/avro/` together. Calls nothing but `typing`. Why so: reflection costs microseconds a field, so
it happens once, at import, and never while a message is handled.
"""

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Mapping
from typing import Literal, TypeAlias

from schemas.records.claims import ClaimDecided, ClaimExpiryRequested, ClaimRequested, ClaimRow
from schemas.records.commands import (
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, PaymentWaiting
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.orders import ApartRow, OrderRow
from schemas.records.payments import OperationReplied, PaymentEvent, PaymentQueried
from schemas.records.policies import OriginPolicy
from schemas.records.references import ParkedRow, ReferenceDropped, ReferenceKept, ReferenceRow
from schemas.records.timers import OpenTimer, OrderExpiryRequested, TimerFired
from schemas.records.upgrades import UpgradeFinished

Record: TypeAlias = (
    PaymentRequested
    | CaptureRequested
    | VoidRequested
    | RefundRequested
    | CompletionRequested
    | PaymentQueried
    | ClaimRequested
    | ClaimExpiryRequested
    | ClaimDecided
    | GatewayCallRequested
    | GatewayCallCompleted
    | WebhookReceived
    | ReferenceKept
    | ReferenceDropped
    | PaymentEvent
    | OperationReplied
    | TimerFired
    | OrderExpiryRequested
    | DeadLetter
    | DeadLetterHandled
    | OriginPolicy
    | DecisionMade
    | DecisionProposed
    | DecisionTried
    | PaymentWaiting
    | UpgradeFinished
)
"""What may stand on a topic as a message with an envelope."""

Row: TypeAlias = OrderRow | ApartRow | ClaimRow | OpenTimer | ReferenceRow | ParkedRow
"""What the tables keep, without an envelope."""

RECORD_CLASSES: tuple[type[Record], ...] = typing.get_args(Record)
ROW_CLASSES: tuple[type[Row], ...] = typing.get_args(Row)

Scalar: TypeAlias = Literal["string", "long", "boolean", "bytes"]
_SCALARS: Mapping[type, Scalar] = {str: "string", int: "long", bool: "boolean", bytes: "bytes"}
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """One field: exactly one of `scalar`, `symbols` and `nested` says what it, or each of its items, is."""

    name: str
    scalar: Scalar | None
    symbols: type[enum.StrEnum] | None
    nested: type | None
    nullable: bool
    repeated: bool
    optional: bool = False  # its class gives it a default, as each field that was added later has one
    default: object = None  # what it is where it is left out

    @property
    def may_be_absent(self) -> bool:
        """Whether its Avro file gives it a default, so that JSON may leave it out."""
        return self.nullable or self.repeated or self.optional


def name_of(cls: type) -> str:
    """Return the snake case name of a record class: its folder in `schemas/avro/`."""
    return _WORD_START.sub("_", cls.__name__).lower()


def fields_of(cls: type) -> tuple[FieldShape, ...]:
    """Return the fields of a record class, in order. Raises: TypeError for a type that has no place on the log."""
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass")
    hints = typing.get_type_hints(cls)
    return tuple(_shape(field, hints[field.name]) for field in dataclasses.fields(cls))


def _shape(field: "dataclasses.Field[object]", hint: object) -> FieldShape:
    name, optional = field.name, field.default is not dataclasses.MISSING
    item, nullable, repeated = hint, False, False
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:  # NewType | None is the latter
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        if len(members) != 1 or len(typing.get_args(hint)) != 2:  # noqa: PLR2004 -- the value and None, nothing else
            raise TypeError(f"{name}: only X | None has a place on the log")
        item, nullable = members[0], True
    if typing.get_origin(item) is tuple:
        if nullable or typing.get_args(item)[1:] != (Ellipsis,):
            raise TypeError(f"{name}: only tuple[X, ...] has a place on the log")
        item, repeated = typing.get_args(item)[0], True
    base = getattr(item, "__supertype__", item)  # what a NewType is at run time
    if not isinstance(base, type):
        raise TypeError(f"{name}: {hint!r} has no place on the log")
    scalar = _SCALARS.get(base)
    symbols = base if issubclass(base, enum.StrEnum) else None
    nested = base if dataclasses.is_dataclass(base) else None
    if scalar is None and symbols is None and nested is None:
        raise TypeError(f"{name}: {hint!r} has no place on the log")
    return FieldShape(
        name=name,
        scalar=scalar,
        symbols=symbols,
        nested=nested,
        nullable=nullable,
        repeated=repeated,
        optional=optional,
        default=field.default if optional else () if repeated else None,
    )
