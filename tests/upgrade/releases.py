"""Source trees of other releases: the last one as the repository has it, and the next one, planted.

The last release is named by a commit in the file `last_release`. Before the first release it is moved when a schema is
changed in place: the commit must hold the same schemas. The next one is this checkout with a field more in the rows of
orders, a symbol more in an enumeration, other rules and the number of the next release: what a real one would bring.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("schemas", "gateway_adapters", "http_ingress", "streams")
"""What of a tree runs."""

DRAFTING: Final = ("tests/__init__.py", "tests/support/__init__.py", "tests/support/draft_schemas.py")
LOCK: Final = Path("schemas/avro/ids.json")
COMMAND_LIMIT_S: Final = 120


class NoSuchReleaseError(Exception):
    """The commit cannot be had: a shallow clone, or no clone at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A source tree, and how programs are run from it."""

    name: str
    tree: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which Python finds this tree, and no other: neither the installed one, nor the folder."""
        return {"PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1"}


def this_release() -> Release:
    """Return this checkout, as it is."""
    return Release(name="this", tree=ROOT)


def last_commit() -> str:
    """Return the commit of the last release."""
    return (Path(__file__).parent / "last_release").read_text().strip()


def last_release(folder: Path) -> Release:
    """Export the last release's tree. Raises: NoSuchReleaseError."""
    commit = last_commit()
    words = ["git", "archive", "--format=tar", commit, *ROOMS]
    try:
        made = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=COMMAND_LIMIT_S)
    except FileNotFoundError as missing:
        raise NoSuchReleaseError("there is no git here") from missing
    if made.returncode != 0:
        raise NoSuchReleaseError(f"git cannot tell what {commit} is: {made.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return Release(name="last", tree=folder)


def versions_in(tree: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the digest of each version of each schema, as the lock of a tree has it."""
    lock = json.loads((tree / LOCK).read_text())
    return {
        record: {version: entry["sha256"] for version, entry in versions.items()} for record, versions in lock.items()
    }


def edited_in_place(before: Release, after: Release) -> list[str]:
    """Return the versions that both have, and not the same: bytes under one schema id that mean two things."""
    now = versions_in(after.tree)
    return [
        f"{record} {version}"
        for record, versions in versions_in(before.tree).items()
        for version, digest in versions.items()
        if now.get(record, {}).get(version) != digest
    ]


def planted_next(folder: Path) -> Release:
    """Make the next release of this checkout. Raises: subprocess.CalledProcessError, AssertionError: it cannot be."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in DRAFTING:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / name
        (folder / name).write_text(source.read_text() if source.exists() else "")
    _edit(folder / "schemas/releases.py", r"^RELEASE: Final = (\d+)", lambda number: f"RELEASE: Final = {number + 1}")
    _edit(
        folder / "streams/domain/limits.py",
        r"^RULES_VERSION: Final = (\d+)",
        lambda number: f"RULES_VERSION: Final = {number + 1}",
    )
    _insert(folder / "schemas/records/orders.py", "    rules_version: int = 0", "    planted: int = 0")
    _insert(folder / "schemas/vocabulary.py", '    GATEWAY = "gateway"', '    PLANTED = "planted"')
    release = Release(name="next", tree=folder)
    _mark_released(folder)
    _run(release, "-m", "tests.support.draft_schemas", "--next")
    _run(release, "-m", "streams.cli", "schemas", "check")
    return release


def _mark_released(folder: Path) -> None:
    path = folder / LOCK
    lock = json.loads(path.read_text())
    for versions in lock.values():
        for entry in versions.values():
            entry["released"] = True
    path.write_text(json.dumps(lock))


def _edit(path: Path, pattern: str, replacement: Callable[[int], str]) -> None:
    text, count = re.subn(pattern, lambda found: replacement(int(found[1])), path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{path.name} has no line like {pattern}"
    path.write_text(text)


def _insert(path: Path, line: str, below: str) -> None:
    lines = path.read_text().splitlines()
    places = [number for number, each in enumerate(lines) if each.startswith(line)]
    assert places, f"{path.name} has no line {line}"
    lines.insert(places[-1] + 1, below)
    path.write_text("\n".join(lines) + "\n")


def _run(release: Release, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, *arguments], cwd=release.tree, env=dict(release.environment), check=True,
        capture_output=True, timeout=COMMAND_LIMIT_S,
    )  # fmt: skip
