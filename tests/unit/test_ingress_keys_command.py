"""`payment-engine keys create`, as the program that it becomes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from http_ingress.api_keys import KeyRing, MemoryKeyStore, read_key_file
from http_ingress.keys import EXIT_UNABLE, app

PEPPER = "a pepper of more than sixteen bytes"


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys"
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_FILE", str(path))
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER", PEPPER)
    return path


def test_created_key_is_shown_once_and_holds_for_its_origin(key_file: Path) -> None:
    made = CliRunner().invoke(app, ["create", "originA"])
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert key.partition("_")[2].partition("_")[2] not in key_file.read_text()
    ring = KeyRing(MemoryKeyStore(read_key_file(key_file).values()), pepper=PEPPER.encode())
    assert ring.origin_of(key) == "originA"


def test_second_key_is_added_when_there_is_one(key_file: Path) -> None:
    for origin in ("originA", "originB"):
        assert CliRunner().invoke(app, ["create", origin]).exit_code == 0
    assert {record.origin_id for record in read_key_file(key_file).values()} == {"originA", "originB"}


def test_no_key_is_made_when_the_origin_is_malformed(key_file: Path) -> None:
    refused = CliRunner().invoke(app, ["create", "with space"])
    assert refused.exit_code == EXIT_UNABLE
    assert not key_file.exists()


def test_no_key_is_made_when_the_pepper_is_missing(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER")
    refused = CliRunner().invoke(app, ["create", "originA"])
    assert refused.exit_code == EXIT_UNABLE
    assert "PEPPER" in refused.stderr
    assert not key_file.exists()
