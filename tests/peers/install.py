"""Fetches the peers into the checkout, each once, from the pins of this folder.

Called by: `tests.peers`. Calls: `npm`, `go build` and `pip`; every hash is checked. What they make lands in
`.peers/` (ignored by git), in a folder that is named after the digest of its pins. So a changed pin is fetched anew,
and what is there needs no network.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REQUIRE_VARIABLE = "TESTS_REQUIRE_PEERS"
"""Set to 1 where gateways without their peers count for nothing (continuous integration)."""

TOOL_TIMEOUT_S = 280.0
"""What one tool may take. The slowest, `go build` without its cache, takes about 40 s of processor time."""

GO_OF_ITS_INSTALLER = "/usr/local/go/bin"
"""Where Go's own installer puts it; it says of itself that it leaves the PATH alone."""

_PINS: Final = Path(__file__).parent
_CACHE: Final = Path(__file__).parents[2] / ".peers"
_STRIPE_MOCK = "github.com/stripe/stripe-mock"
_SHOWN_CHARS = 600


class PeerUnavailableError(Exception):
    """A peer can not be had on this machine; the message says what is missing."""


def peers_are_required() -> bool:
    """Whether the environment says that no peer may be missing."""
    return os.environ.get(REQUIRE_VARIABLE) == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What one tool fetches: its pins, and how it fills an empty folder from them."""

    name: str
    pins: tuple[Path, ...]
    fill: Callable[[Path], None]

    @property
    def folder(self) -> Path:
        """Where it lies, or will."""
        digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in self.pins)).hexdigest()[:12]
        return _CACHE / f"{self.name}-{digest}"


def node() -> str:
    """Returns the path of `node`.

    Raises:
        PeerUnavailableError: there is none on the PATH.
    """
    return _tool("node")


def node_folder() -> Path:
    """Returns the folder that holds `node_modules`, fetched if it is not there yet.

    Raises:
        PeerUnavailableError: Node.js or npm is missing, or could not get them.
    """
    node()
    return fetched(NODE)


def paypal_documents() -> Path:
    """Returns the folder with PayPal's documents as PayPal wrote them, fetched if it is not there yet.

    Raises:
        PeerUnavailableError: npm is missing, could not get them, or got others.
    """
    return fetched(PAYPAL_DOCUMENTS) / "package" / "openapi"


def stripe_mock_program() -> Path:
    """Returns the program `stripe-mock`, built if it is not there yet.

    Raises:
        PeerUnavailableError: Go is missing, or could not build it.
    """
    return fetched(STRIPE_MOCK) / "stripe-mock"


def localstripe_python() -> Path:
    """Returns the interpreter of an environment that holds localstripe alone, fetched if it is not there yet.

    Raises:
        PeerUnavailableError: pip could not get it.
    """
    return fetched(LOCALSTRIPE) / "bin" / "python"


def fetched(kit: Kit) -> Path:
    """Returns the kit's folder, filled if it is not there yet.

    Safe to call from several processes at once: one fetches, the others wait. What failed once is not tried again by
    this process: without a network a tool takes its time to say so, and many tests ask.

    Raises:
        PeerUnavailableError: a tool is missing, or failed; the message has its last words.
    """
    folder = kit.folder
    if folder.is_dir():
        return folder
    if folder in _failed:
        raise PeerUnavailableError(_failed[folder])
    try:
        with _exclusive(kit.name):
            if not folder.is_dir():
                _fill(kit, folder)
    except PeerUnavailableError as missing:
        _failed[folder] = str(missing)
        raise
    return folder


_failed: dict[Path, str] = {}


def _fill(kit: Kit, folder: Path) -> None:
    """Fill it beside its place, so that no half of it is ever found there."""
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        filled = Path(scratch) / kit.name
        filled.mkdir()
        kit.fill(filled)
        filled.rename(folder)


def _fill_from_npm(folder: Path) -> None:
    for pin in NODE.pins:
        shutil.copy(pin, folder)
    _run([_tool("npm"), "ci"], folder)


def _fill_from_paypal(folder: Path) -> None:
    """The package alone: its dependencies are tools of its authors, of which not all can be had any more."""
    pin = json.loads((_PINS / "paypal-documents.json").read_bytes())
    _run([_tool("npm"), "pack", "--silent", "--ignore-scripts", pin["package"]], folder)
    (packed,) = folder.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if pin["integrity"] != f"sha512-{digest}":
        raise PeerUnavailableError(f"{pin['package']} has another hash than was pinned: sha512-{digest}")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")


def _fill_from_go(folder: Path) -> None:
    go = shutil.which("go") or _tool("go", GO_OF_ITS_INSTALLER)
    own = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    _run([go, "build", "-o", str(folder / "stripe-mock"), _STRIPE_MOCK], _PINS / "stripe_mock", own)


def _fill_from_pip(folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    own = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    options = ["-q", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    _run([*own, "install", *options, "-r", str(_PINS / "localstripe.txt")], folder)


NODE: Final = Kit(
    name="node",
    pins=(_PINS / "package.json", _PINS / "package-lock.json", _PINS / ".npmrc"),
    fill=_fill_from_npm,
)
STRIPE_MOCK: Final = Kit(
    name="stripe-mock",
    pins=(_PINS / "stripe_mock" / "go.mod", _PINS / "stripe_mock" / "go.sum"),
    fill=_fill_from_go,
)
LOCALSTRIPE: Final = Kit(name="localstripe", pins=(_PINS / "localstripe.txt",), fill=_fill_from_pip)
PAYPAL_DOCUMENTS: Final = Kit(name="paypal-documents", pins=(_PINS / "paypal-documents.json",), fill=_fill_from_paypal)
KITS: Final = (NODE, PAYPAL_DOCUMENTS, STRIPE_MOCK, LOCALSTRIPE)


def _tool(name: str, path: str | None = None) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise PeerUnavailableError(f"no `{name}` on the PATH")
    return found


def _run(argv: Sequence[str], folder: Path, more: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
            cwd=folder,
            env={**os.environ, **(more or {})},
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as late:
        raise PeerUnavailableError(f"{Path(argv[0]).name} did not end within {TOOL_TIMEOUT_S:.0f} s") from late
    if done.returncode != 0:
        raise PeerUnavailableError(f"{Path(argv[0]).name} failed: {(done.stdout + done.stderr)[-_SHOWN_CHARS:]}")


@contextlib.contextmanager
def _exclusive(name: str) -> Iterator[None]:
    """A lock between processes; the kernel drops it when its holder dies."""
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
