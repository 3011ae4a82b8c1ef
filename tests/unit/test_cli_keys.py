"""`payment-engine keys create`: a key shown once, and only its hash kept."""

import stat
from pathlib import Path

import pytest

from http_ingress.access.api_keys import FileKeyStore, KeyRing
from streams.cli.exits import ExitCode
from tests.support.command_line import run_command

PEPPER = "a-pepper-of-enough-bytes"


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER", PEPPER)
    return tmp_path / "keys.jsonl"


def test_create_prints_a_key_that_opens_the_origin_when_file_and_pepper_are_set(
    key_file: Path,
) -> None:
    printed = run_command("keys", "create", "m1", "--file", str(key_file))
    assert printed.exit_code == ExitCode.OK
    key = printed.stdout.strip()
    ring = KeyRing(FileKeyStore(key_file, monotonic=lambda: 0.0, now_ms=lambda: 0), pepper=PEPPER.encode())
    assert ring.origin_of(key) == "m1"
    assert key.rpartition("_")[2] not in key_file.read_text() + printed.stderr
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_create_adds_to_the_configured_file_when_none_is_named(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_FILE", str(key_file))
    assert [run_command("keys", "create", origin).exit_code for origin in ("m1", "m2")] == [ExitCode.OK] * 2
    assert len(key_file.read_text().splitlines()) == 2


@pytest.mark.usefixtures("key_file")
def test_create_says_what_is_missing_when_there_is_no_file() -> None:
    refused = run_command("keys", "create", "m1")
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_HTTP_KEYS_FILE" in refused.stderr


def test_create_proposes_a_pepper_when_there_is_none(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER")
    refused = run_command("keys", "create", "m1", "--file", str(key_file))
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_HTTP_KEYS_PEPPER" in refused.stderr
    assert not key_file.exists()


@pytest.mark.parametrize(
    ("origin", "pepper"),
    [("m|1", PEPPER), ("m1", "short"), ("4242424242424242", PEPPER), ("m-4242-4242-4242-4242", PEPPER)],
)
def test_create_writes_nothing_when_origin_or_pepper_is_wrong(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, origin: str, pepper: str
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_KEYS_PEPPER", pepper)
    refused = run_command("keys", "create", origin, "--file", str(key_file))
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert "4242" not in refused.output
    assert not key_file.exists()


def test_create_makes_an_operators_key_when_an_operator_is_named(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER", PEPPER)
    monkeypatch.setenv("PAYMENT_ENGINE_OPERATORS_KEYS_FILE", str(key_file))
    printed = run_command("keys", "create", "--operator", "anna")
    assert printed.exit_code == ExitCode.OK
    key = printed.stdout.strip()
    ring = KeyRing(FileKeyStore(key_file, monotonic=lambda: 0.0, now_ms=lambda: 0), pepper=PEPPER.encode())
    assert (ring.operator_of(key), ring.origin_of(key)) == ("anna", None)


def test_create_refuses_when_both_or_neither_owner_is_named(key_file: Path) -> None:
    for owner in (("m1", "--operator", "anna"), ()):
        refused = run_command("keys", "create", *owner, "--file", str(key_file))
        assert refused.exit_code == ExitCode.USAGE
    assert not key_file.exists()


@pytest.mark.parametrize("name", ["an na", "a|b", "4242424242424242", ""])
def test_create_writes_nothing_when_the_operators_name_is_wrong(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER", PEPPER)
    refused = run_command("keys", "create", "--operator", name, "--file", str(key_file))
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert "4242" not in refused.output
    assert not key_file.exists()


@pytest.mark.parametrize(("pepper", "file"), [("", True), ("short", True), (PEPPER, False)])
def test_create_names_the_operators_variable_when_one_is_missing_or_unfit(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, pepper: str, *, file: bool
) -> None:
    if pepper:
        monkeypatch.setenv("PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER", pepper)
    chosen = ("--file", str(key_file)) if file else ()
    refused = run_command("keys", "create", "--operator", "anna", *chosen)
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_OPERATORS_KEYS_" in refused.stderr
    assert not key_file.exists()
