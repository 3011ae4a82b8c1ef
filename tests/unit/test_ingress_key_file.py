"""The key file while the ingress runs: what holds when it changes, breaks, or is written anew."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing

from http_ingress.access import api_keys
from http_ingress.access.api_keys import (
    ApiKey,
    FileKeyStore,
    KeyKind,
    KeyRecord,
    KeyRing,
    MemoryKeyStore,
    append_record,
    create_key,
    create_operator_key,
    read_key_file,
)
from http_ingress.limits import KEY_FILE_CHECK_INTERVAL_S
from schemas.identifiers import OperatorName, OriginId
from schemas.misconfigured import MisconfiguredError

PEPPER = b"a pepper of more than sixteen bytes"
ORIGIN = OriginId("originA")
BEGAN_MS = 1_000_000_000_000
"""Long ago: a file that a test does not date is from the future, so never fresh."""


class Clock:
    """Both clocks of a key store; they stand still until the test moves them."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return BEGAN_MS + round(self.now_s * 1000)

    def pass_interval(self) -> None:
        self.now_s += KEY_FILE_CHECK_INTERVAL_S


def new_key() -> tuple[ApiKey, KeyRecord]:
    return create_key(ORIGIN, pepper=PEPPER, now_ms=1)


def follow(path: Path, clock: Clock) -> tuple[FileKeyStore, KeyRing]:
    store = FileKeyStore(path, monotonic=clock, now_ms=clock.now_ms)
    return store, KeyRing(store, pepper=PEPPER)


def test_key_file_is_followed_when_a_key_is_added_or_revoked(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys", Clock()
    first, first_record = new_key()
    second, second_record = new_key()
    append_record(path, first_record)
    store, ring = follow(path, clock)
    append_record(path, second_record)
    assert ring.origin_of(second) is None  # within the interval
    clock.pass_interval()
    assert [ring.origin_of(key) for key in (first, second)] == [ORIGIN, ORIGIN]
    path.unlink()
    append_record(path, second_record)
    clock.pass_interval()
    assert [ring.origin_of(key) for key in (first, second)] == [None, ORIGIN]
    assert store.fault() is None


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("not a record\n"), Path.unlink])
def test_last_good_keys_hold_and_an_operator_is_told_once_when_the_key_file_is_spoilt(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    path, clock = tmp_path / "keys", Clock()
    key, record = new_key()
    append_record(path, record)
    store, ring = follow(path, clock)
    with structlog.testing.capture_logs() as logged:
        spoil(path)
        for _ in range(3):
            clock.pass_interval()
            assert ring.origin_of(key) == ORIGIN
        assert "key file" in (store.fault() or "")
        path.unlink(missing_ok=True)
        append_record(path, record)
        clock.pass_interval()
        assert store.fault() is None  # looked for without a request
    assert [(each["log_level"], each["event"]) for each in logged] == [
        ("error", "key_file_not_followed"),
        ("info", "key_file_followed_again"),
    ]


@pytest.mark.parametrize("content", ["", "\n"])
def test_every_key_is_revoked_when_the_key_file_stays_without_one_and_not_while_it_is_written_anew(
    tmp_path: Path, content: str
) -> None:
    path, clock = tmp_path / "keys", Clock()
    key, record = new_key()
    append_record(path, record)
    store, ring = follow(path, clock)
    clock.pass_interval()
    path.write_text(content)
    os.utime(path, ns=(0, clock.now_ms() * 1_000_000))
    assert ring.origin_of(key) == ORIGIN
    assert store.fault() is not None
    clock.pass_interval()
    assert ring.origin_of(key) is None
    assert store.fault() is None


def test_every_key_is_revoked_at_once_when_the_empty_key_file_is_dated_by_a_clock_ahead(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys", Clock()
    key, record = new_key()
    append_record(path, record)
    _, ring = follow(path, clock)
    clock.pass_interval()
    path.write_text("")  # years ahead of the clock
    assert ring.origin_of(key) is None


def test_last_good_keys_hold_when_the_key_file_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "keys", Clock()
    key, record = new_key()
    append_record(path, record)
    store, ring = follow(path, clock)

    def read(path: Path) -> dict[str, KeyRecord]:
        append_record(path, record)
        return {}

    monkeypatch.setattr(api_keys, "read_key_file", read)
    append_record(path, record)
    clock.pass_interval()
    assert ring.origin_of(key) == ORIGIN
    assert "being written" in (store.fault() or "")


@pytest.mark.parametrize(
    "line", ["{}", "[]", "null", "[" * 100_000, '{"key_id":1,"origin_id":"o","digest":"x","created_at_ms":1}', "\udcff"]
)
def test_key_file_refuses_to_start_when_a_line_is_no_record(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(MisconfiguredError, match="key file"):
        read_key_file(path)
    with pytest.raises(MisconfiguredError, match="key file"):
        follow(tmp_path / "missing", Clock())


def test_key_opens_no_other_origin_when_its_line_is_changed() -> None:
    """Whoever may write the file, and has one merchant's key, would otherwise be any merchant."""
    key, record = new_key()
    moved = dataclasses.replace(record, owner="originB")
    assert KeyRing(MemoryKeyStore([record]), pepper=PEPPER).origin_of(key) == ORIGIN
    assert KeyRing(MemoryKeyStore([moved]), pepper=PEPPER).origin_of(key) is None


def test_key_of_one_kind_opens_nothing_at_the_other_port_when_one_file_holds_both(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    merchants, merchant = new_key()
    operators, operator = create_operator_key(OperatorName("anna"), pepper=PEPPER, now_ms=1)
    for record in (merchant, operator):
        append_record(path, record)
    _, ring = follow(path, Clock())
    assert (ring.origin_of(merchants), ring.operator_of(merchants)) == (ORIGIN, None)
    assert (ring.origin_of(operators), ring.operator_of(operators)) == (None, "anna")
    disguised = operators.replace("pok_", "pek_"), merchants.replace("pek_", "pok_")
    assert [ring.origin_of(disguised[0]), ring.operator_of(disguised[1])] == [None, None]


def test_key_becomes_no_operators_when_the_kind_of_its_line_is_changed() -> None:
    """Whoever may write the file, and has a merchant's key, would otherwise decide about money."""
    key, record = new_key()
    promoted = dataclasses.replace(record, kind=KeyKind.OPERATOR)
    ring = KeyRing(MemoryKeyStore([promoted]), pepper=PEPPER)
    assert ring.operator_of(key.replace("pek_", "pok_")) is None
    assert ring.origin_of(key) is None


def test_line_that_names_two_owners_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    line = json.loads(new_key()[1].line()) | {"operator": "anna"}
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(MisconfiguredError, match="line 1"):
        read_key_file(path)


def test_line_of_version_1_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    _, record = new_key()
    append_record(path, record)
    old = {name: value for name, value in json.loads(record.line()).items() if name != "version"}
    with path.open("a") as lines:
        lines.write(json.dumps(old) + "\n")
    with pytest.raises(MisconfiguredError, match=r"line 2 .* version 1, .*`payment-engine keys create`"):
        read_key_file(path)


def test_line_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    append_record(path, dataclasses.replace(new_key()[1], version=3))
    with pytest.raises(MisconfiguredError, match=r"line 1 .* version 2"):
        read_key_file(path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_key_file_that_others_may_write_is_refused_at_a_start_and_not_followed_later(tmp_path: Path, mode: int) -> None:
    path, clock = tmp_path / "keys", Clock()
    key, record = new_key()
    append_record(path, record)
    store, ring = follow(path, clock)
    path.chmod(mode)
    with pytest.raises(MisconfiguredError, match=r"written by others .*chmod"):
        follow(path, Clock())
    with pytest.raises(MisconfiguredError, match="written by others"):
        append_record(path, new_key()[1])
    clock.pass_interval()
    assert ring.origin_of(key) == ORIGIN
    assert "written by others" in (store.fault() or "")
    path.chmod(0o644)
    clock.pass_interval()
    assert store.fault() is None


def test_key_file_that_others_may_read_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    append_record(path, new_key()[1])
    path.chmod(0o444)
    assert len(read_key_file(path)) == 1
