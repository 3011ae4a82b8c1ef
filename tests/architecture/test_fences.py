"""Private names of Faust and aiokafka are touched in one folder for each, and each fence there says what it is for."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka import faust_fences
from streams.kafka_clients import aiokafka_fences

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "gateway_adapters", "streams", "http_ingress", "bench")
FENCES = ("streams/kafka/faust_fences/", "streams/kafka_clients/aiokafka_fences/")
LIBRARIES = {"aiokafka", "faust", "mode"}
INNARDS = ("aiokafka.conn", "aiokafka.consumer", "aiokafka.producer", "aiokafka.protocol", "aiokafka.record")
"""Modules that aiokafka's documentation does not tell of, though their names have no underscore."""

BASES = {"KafkaError", "ConsumerRebalanceListener"}
"""What is there to be derived from."""


def findings(source: str) -> list[str]:
    """Return what a module outside the fences may not do, as `line: what`."""
    tree = ast.parse(source)
    imported = {name: module for node in ast.walk(tree) for name, module in _imports(node)}
    if not any(_is_foreign(module) for module in imported.values()):
        return []
    own = set(_defined(tree))
    faults = ((node, what) for node in ast.walk(tree) for what in _faults(node, imported, own))
    found = [(getattr(node, "lineno", 0), what) for node, what in faults]
    return [f"{line}: {what}" for line, what in sorted(found)]


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom):
        yield from ((each.asname or each.name, f"{node.module}.{each.name}") for each in node.names)
    elif isinstance(node, ast.Import):
        yield from ((each.asname or each.name.partition(".")[0], each.name) for each in node.names)


def _is_foreign(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")  # what ends so too is Python's own


def _defined(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that are the module's own: its functions, classes, fields and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _faults(node: ast.AST, imported: dict[str, str], own: set[str]) -> Iterator[str]:
    for _, module in _imports(node):
        if _is_foreign(module) and (module.startswith(INNARDS) or any(map(_is_private, module.split(".")))):
            yield f"imports {module}"
    if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
        yield f"touches {node.attr}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
        name = node.args[1]
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and _is_private(name.value):
            yield f"touches {name.value}"
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            root = ast.unparse(base).partition("[")[0]
            foreign = imported.get(root.partition(".")[0], "")
            if _is_foreign(foreign) and root.rpartition(".")[2] not in BASES:
                yield f"derives from {root}"


def test_private_names_of_the_libraries_are_touched_in_the_fences_alone() -> None:
    looked_at, found = 0, []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith(FENCES):
                looked_at += 1
                found += [f"{name}:{each}" for each in findings(path.read_text())]
    assert looked_at > 200
    assert found == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import aiokafka\naiokafka.AIOKafkaConsumer()._client", "2: touches _client"),
        ("from aiokafka import X\ndef f(consumer):\n    return consumer._fetcher.error", "3: touches _fetcher"),
        ("from aiokafka import X\nsetattr(X, '_client', 1)", "2: touches _client"),
        ("from faust import App\nclass Mine(App):\n    pass", "2: derives from App"),
        ("import faust\nclass Mine(faust.App):\n    pass", "2: derives from faust.App"),
        ("from aiokafka.consumer.fetcher import Fetcher", "1: imports aiokafka.consumer.fetcher.Fetcher"),
        ("from mode.utils import _private", "1: imports mode.utils._private"),
    ],
)
def test_a_private_touch_is_found(source: str, fault: str) -> None:
    assert findings(source) == [fault]


@pytest.mark.parametrize(
    "source",
    [
        "from aiokafka.errors import KafkaError\nclass Mine(KafkaError):\n    pass",
        "from aiokafka import X\nclass A:\n    def f(self):\n        self._x = X()\n        self._x.stop()",
        "class A:\n    pass\nA()._whatever",
    ],
    ids=["derives from what is there for it", "its own name", "knows no library"],
)
def test_what_is_public_or_its_own_is_left_alone(source: str) -> None:
    assert findings(source) == []


@pytest.mark.parametrize("folder", [faust_fences, aiokafka_fences])
def test_every_row_of_the_table_names_what_stands_in_the_folder(folder: types.ModuleType) -> None:
    names = [fence.name for fence in folder.FENCES]
    assert len(set(names)) == len(names)
    for fence in folder.FENCES:
        module, *path = fence.name.split(".")
        here: object = importlib.import_module(f"{folder.__name__}.{module}")
        for each in path:
            here = here.__dict__[each]  # its own, not one that it inherits
        assert fence.breaks
        assert not fence.upstream or fence.upstream.startswith("#")
    modules = {path.stem for path in Path(str(folder.__file__)).parent.glob("*.py")} - {
        "__init__",
        "fence",
        "engine_app",
    }
    assert {name.partition(".")[0] for name in names} == modules


@pytest.mark.parametrize(("folder", "library"), [(faust_fences, "faust-streaming"), (aiokafka_fences, "aiokafka")])
def test_the_fences_were_looked_at_for_the_version_that_is_installed(folder: types.ModuleType, library: str) -> None:
    assert importlib.metadata.version(library) == folder.WRITTEN_AGAINST


def test_every_override_of_faust_has_its_row() -> None:
    """A method of ours that Faust has too is an override: a new one needs its reason, and a test."""
    told = {fence.name for fence in faust_fences.FENCES}
    overriding = []
    for module_name in ("recovery", "tables", "transport", "worker_app"):
        module = importlib.import_module(f"{faust_fences.__name__}.{module_name}")
        for kind in vars(module).values():
            if not isinstance(kind, type) or kind.__module__ != module.__name__:
                continue
            foreign = [base for base in kind.__mro__ if _is_foreign(base.__module__)]
            for name in vars(kind):
                overrides = inspect.isroutine(vars(kind)[name]) or isinstance(vars(kind)[name], property)
                if overrides and not name.startswith("__") and any(name in vars(base) for base in foreign):
                    overriding.append(f"{module_name}.{kind.__name__}.{name}")
    assert len(overriding) > 30
    assert [name for name in overriding if name not in told] == []


def test_every_fault_of_faust_that_a_fence_names_is_told_on_its_page() -> None:
    page = (ROOT / "docs/FAUST.md").read_text()
    told = re.findall(r"^(\d+)\. ", page, flags=re.MULTILINE)
    named = {
        number
        for folder in (faust_fences, aiokafka_fences)
        for fence in folder.FENCES
        for number in fence.faust_md.split(", ")
        if number
    }
    assert len(set(told)) == len(told)
    assert len(named) > 10
    assert named <= set(told)


def test_every_name_of_a_fence_that_the_page_of_faust_gives_is_in_a_table() -> None:
    page = (ROOT / "docs/FAUST.md").read_text()
    classes = {name.split(".")[1] for name in (each.name for each in faust_fences.FENCES) if name.count(".") > 1}
    given = re.findall(rf"`((?:{'|'.join(sorted(classes))})\.\w+)`", page)
    names = {each.name.partition(".")[2] for each in faust_fences.FENCES}
    assert len(given) > 5
    assert [name for name in given if name not in names] == []
