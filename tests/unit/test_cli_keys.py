"""`payment-engine keys create`, as the program that it becomes: a key shown once, and only its hash kept."""

import stat
from pathlib import Path

import pytest

from http_ingress.access.api_keys import FileKeyStore, KeyRing
from http_ingress.keys import EXIT_MISCONFIGURED, main

PEPPER = "a-pepper-of-enough-bytes"


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER", PEPPER)
    return tmp_path / "keys.jsonl"


def test_create_prints_a_key_that_opens_the_origin_when_file_and_pepper_are_set(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "m1", "--file", str(key_file)]) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    ring = KeyRing(FileKeyStore(key_file, monotonic=lambda: 0.0, now_ms=lambda: 0), pepper=PEPPER.encode())
    assert ring.origin_of(key) == "m1"
    assert key.rpartition("_")[2] not in key_file.read_text() + printed.err
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_create_adds_to_the_configured_file_when_none_is_named(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_FILE", str(key_file))
    assert [main(["create", origin]) for origin in ("m1", "m2")] == [0, 0]
    assert len(key_file.read_text().splitlines()) == 2


def test_create_says_what_is_missing_when_there_is_no_file(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "m1"]) == EXIT_MISCONFIGURED
    assert "PAYMENT_ENGINE_HTTP_KEYS_FILE" in capsys.readouterr().err


def test_create_proposes_a_pepper_when_there_is_none(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER")
    assert main(["create", "m1", "--file", str(key_file)]) == EXIT_MISCONFIGURED
    assert "PAYMENT_ENGINE_HTTP_KEYS_PEPPER" in capsys.readouterr().err
    assert not key_file.exists()


@pytest.mark.parametrize(("origin", "pepper"), [("m|1", PEPPER), ("m1", "short")])
def test_create_writes_nothing_when_origin_or_pepper_is_wrong(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, origin: str, pepper: str
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER", pepper)
    assert main(["create", origin, "--file", str(key_file)]) == EXIT_MISCONFIGURED
    assert not key_file.exists()
