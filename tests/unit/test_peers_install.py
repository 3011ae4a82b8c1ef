"""The peers are fetched once, whole or not at all, and only what was pinned."""

from pathlib import Path

import pytest

from tests.peers import install
from tests.peers.install import Kit, PeerUnavailableError, fetched


@pytest.fixture
def pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(install, "_CACHE", tmp_path / "cache")
    pin = tmp_path / "pin"
    pin.write_text("one 1.0")
    return pin


def test_kit_is_fetched_once_until_its_pin_changes(pin: Path) -> None:
    fills: list[Path] = []

    def fill(folder: Path) -> None:
        fills.append(folder)
        (folder / "program").write_text(pin.read_text())

    kit = Kit(name="one", pins=(pin,), fill=fill)
    folder = fetched(kit)
    assert fetched(kit) == folder
    assert len(fills) == 1
    pin.write_text("one 1.1")
    assert (fetched(kit) / "program").read_text() == "one 1.1"
    assert (folder / "program").read_text() == "one 1.0"
    assert len(fills) == 2


def test_kit_that_failed_is_not_tried_again_and_leaves_nothing(pin: Path) -> None:
    tries: list[Path] = []

    def fill(folder: Path) -> None:
        tries.append(folder)
        (folder / "half").touch()
        raise PeerUnavailableError("no network")

    kit = Kit(name="one", pins=(pin,), fill=fill)
    for _ in range(2):
        with pytest.raises(PeerUnavailableError, match="no network"):
            fetched(kit)
    assert len(tries) == 1
    assert not kit.folder.exists()
    assert not tries[0].exists()


def test_tool_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailableError, match="sh failed: no such host"):
        install._run(["/bin/sh", "-c", "echo no such host >&2; exit 3"], tmp_path)


def test_package_with_another_hash_than_was_pinned_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_tool", lambda name: name)
    monkeypatch.setattr(install, "_run", lambda *_: (tmp_path / "p.tgz").write_bytes(b"somebody else's"))
    with pytest.raises(PeerUnavailableError, match="has another hash than was pinned"):
        install._fill_from_paypal(tmp_path)


def test_program_that_is_not_on_the_path_is_named() -> None:
    with pytest.raises(PeerUnavailableError, match="no `no-such-tool` on the PATH"):
        install._tool("no-such-tool")
