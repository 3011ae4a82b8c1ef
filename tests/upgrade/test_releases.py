"""What the play of an upgrade stands on: a release that can be had, and versions that nobody has edited since."""

import json
from pathlib import Path

import pytest

from schemas.schema_ids import packaged_schemas
from tests.upgrade import releases
from tests.upgrade.releases import (
    NoSuchReleaseError,
    Release,
    edited_in_place,
    last_release,
    planted_next,
    this_release,
)

NOWHERE = "0" * 40


def test_release_that_a_clone_does_not_hold_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "last_commit", lambda: NOWHERE)
    with pytest.raises(NoSuchReleaseError, match=NOWHERE):
        last_release(tmp_path)


def test_release_is_told_as_missing_when_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoSuchReleaseError):
        last_release(tmp_path)


def test_next_release_adds_versions_and_edits_none(tmp_path: Path) -> None:
    following = planted_next(tmp_path / "next")
    assert edited_in_place(this_release(), following) == []
    now = releases.versions_in(following.tree)
    before = releases.versions_in(this_release().tree)
    added = {record for record, versions in now.items() if len(versions) == len(before[record]) + 1}
    holding = {schema.record for schema in packaged_schemas() if '"name": "Initiator"' in schema.text}
    assert added == {"order_row"} | holding


def test_version_that_was_edited_in_place_is_found(tmp_path: Path) -> None:
    lock = json.loads((this_release().tree / releases.LOCK).read_text())
    lock["open_timer"]["v1"]["sha256"] = "another"
    (tmp_path / releases.LOCK).parent.mkdir(parents=True)
    (tmp_path / releases.LOCK).write_text(json.dumps(lock))
    assert edited_in_place(this_release(), Release(name="edited", tree=tmp_path)) == ["open_timer v1"]
