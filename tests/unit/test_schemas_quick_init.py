"""A record with the quick `__init__` is what the standard decorator made of it: frozen, checked, equal, well copied."""

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.cloud_event import Envelope
from schemas.quick_init import copier_of, quick_init, replace
from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES
from tests.support.golden_messages import example

CLASSES: tuple[type[Any], ...] = (*RECORD_CLASSES, *ROW_CLASSES)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    name: str
    size: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    name: str
    size: int = 3


def values_of(record: Any) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_record_is_of_its_class_and_frozen_when_it_was_made(cls: type[Any]) -> None:
    record = example(cls)
    name = dataclasses.fields(cls)[0].name
    assert type(record) is cls
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(record, name)
    assert cls(**values_of(record)) == record
    assert hash(cls(**values_of(record))) == hash(record)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_copy_is_what_the_standard_function_makes_for_every_field(cls: type[Any]) -> None:
    record = example(cls)
    for field in dataclasses.fields(cls):
        changed = replace(record, **{field.name: None})
        assert type(changed) is cls
        assert changed == dataclasses.replace(record, **{field.name: None})
    assert record == example(cls)
    with pytest.raises(TypeError):
        replace(record, nobody=1)


def test_signature_and_refusals_are_those_of_the_standard_decorator() -> None:
    assert str(inspect.signature(Quick)) == str(inspect.signature(Standard))
    assert inspect.get_annotations(Quick.__init__) == inspect.get_annotations(Standard.__init__)
    for wrong in ({}, {"name": "a", "other": 1}):
        with pytest.raises(TypeError):
            Quick(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Quick("a")  # type: ignore[call-arg]
    assert Quick(name="a") == Quick(name="a", size=3)


def test_record_comes_back_when_it_is_copied_or_pickled() -> None:
    envelope = Envelope(id="1", source="s", type="t", time_ms=None)
    assert copy.deepcopy(envelope) == envelope
    assert pickle.loads(pickle.dumps(envelope)) == envelope


def test_class_is_refused_when_it_is_not_a_plain_frozen_record() -> None:
    @dataclass(slots=True, kw_only=True)
    class Thawed:
        name: str

    @dataclass(frozen=True, slots=True)
    class Positional:
        name: str

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Checked:
        name: str

        def __post_init__(self) -> None:
            """Would not be called."""

    class Nothing:
        pass  # a class that is no dataclass

    for cls in (Thawed, Positional, Checked, Nothing):
        with pytest.raises(TypeError):
            quick_init(cls)
        with pytest.raises(TypeError):
            copier_of(cls)
