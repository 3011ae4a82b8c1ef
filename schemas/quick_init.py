"""Frozen records that are made and copied at a third of the standard price.

Called by the modules of the records (`quick_init`, above `dataclass`) and by the domain (`replace`). A
frozen dataclass sets each field by a call of `object.__setattr__`, which was the largest single cost of the orders
worker: a payment makes and copies some hundred records, of up to 33 fields.

How: a record is filled while it is of a sibling class with the same slots that is not frozen, where setting a field is
one instruction, and then becomes what it is. Nobody else sees it before: it is frozen when `__init__` returns. What a
record is (fields, equality, hash, representation, signature) stays what the standard decorator made of it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.source_code import compiled

T = TypeVar("T")


def quick_init(cls: type[T]) -> type[T]:
    """Return the class with a quicker `__init__`, which takes and refuses what it took and refused before.

    Raises:
        TypeError: not a frozen, slotted dataclass of keyword-only fields without factories and `__post_init__`.
    """
    names = _field_names(cls)
    parameters, defaults = [], {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # `_field_names` has seen that it is a dataclass
        if field.default is dataclasses.MISSING:
            parameters.append(field.name)
        else:
            parameters.append(f"{field.name}=default_{field.name}")
            defaults[f"default_{field.name}"] = field.default
    source = "\n".join(
        [
            f"def __init__(self, *, {', '.join(parameters)}):",
            "    set_field(self, '__class__', being_made)",
            *(f"    self.{name} = {name}" for name in names),
            "    self.__class__ = made",
        ]
    )
    known = {"set_field": object.__setattr__, "being_made": _being_made(cls), "made": cls, **defaults}
    made: Any = compiled(source, "__init__", known)
    standard: Any = cls.__init__
    made.__qualname__, made.__module__ = standard.__qualname__, standard.__module__
    made.__annotations__ = standard.__annotations__
    cls.__init__ = made  # type: ignore[method-assign]
    return cls


def copier_of(cls: type[T]) -> Callable[[T, Mapping[str, object]], T]:
    """Return what copies a record of this class with some fields changed.

    The returned function raises TypeError for a field that the class does not have.
    """
    names = _field_names(cls)
    source = "\n".join(
        [
            "def copy(record, changes):",
            "    copied = new(being_made)",
            *(f"    copied.{name} = record.{name}" for name in names),
            "    try:",
            "        for name, value in changes.items():",
            "            change(copied, name, value)",
            "    except AttributeError:",
            "        raise TypeError(f'{made.__name__} has no field {name}') from None",
            "    copied.__class__ = made",
            "    return copied",
        ]
    )
    known = {"new": object.__new__, "being_made": _being_made(cls), "made": cls, "change": setattr}
    copy: Callable[[T, Mapping[str, object]], T] = compiled(source, "copy", known)
    return copy


def _field_names(cls: type) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass")
    fields = dataclasses.fields(cls)
    names = tuple(field.name for field in fields)
    parameters: Any = getattr(cls, "__dataclass_params__")  # noqa: B009 -- the type checker does not know it
    plain = all(field.kw_only and field.init and field.default_factory is dataclasses.MISSING for field in fields)
    slots = getattr(cls, "__slots__", None)
    if not parameters.frozen or slots != names or not plain or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} is not a frozen, slotted dataclass of plain keyword-only fields")
    return names


def _being_made(cls: type) -> type:
    return type(f"{cls.__name__}BeingMade", (), {"__slots__": _field_names(cls)})


# Type checkers see the standard function, and so check each field's name and type.
if TYPE_CHECKING:
    from dataclasses import replace
else:
    _COPIERS = {}

    def replace(row, /, **changes):
        """Return a copy of the record with these fields changed, as `dataclasses.replace` does, at a tenth of its cost.

        Called wherever the domain changes a row, some ten times a decision: with the standard function that was half of
        the CPU time of the state machine. Raises: TypeError for a field that it does not have.
        """
        cls = type(row)
        copier = _COPIERS.get(cls)
        if copier is None:
            copier = _COPIERS[cls] = copier_of(cls)
        return copier(row, changes)


__all__ = ["copier_of", "quick_init", "replace"]
