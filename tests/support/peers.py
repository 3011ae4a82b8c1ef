"""The gateways' peers that nobody here wrote, as processes on loopback: each is started once for a whole session.

Called by: fixtures, and whoever runs a peer in the gateway contract suite. Calls: `tests.peers`, which fetches them.
A test that needs one is skipped where it can not be had, with the reason, and fails where `TESTS_REQUIRE_PEERS` is 1.

A peer that answers has not yet judged. So each has a canary, a request that it must refuse
(`tests/contract/test_peers_canaries.py`). The body of Prism's refusals is an unrelated example: its verdict stands in
its log alone, which `Prism.judging` reads.
"""

import contextlib
import functools
import http.client
import itertools
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import pytest

from tests.kafka_cluster.processes import ChildProcess
from tests.peers import (
    ADYEN_DOCUMENT,
    PAYPAL_DOCUMENT,
    REQUIRE_VARIABLE,
    PeerUnavailableError,
    localstripe_python,
    node,
    node_folder,
    peers_are_required,
    stripe_mock_program,
)

NAMES: Final = ("stripe-mock", "localstripe", "adyen-prism", "paypal-prism", "stripe-npm", "adyen-npm")
"""Each has a canary; the last two sign and check webhooks (`tests.support.vendor_signatures`)."""

CANARY = "canary"
"""The property by which a test tells that a peer has refused what it must (`record_property`)."""

START_TIMEOUT_S = 120.0
"""Prism takes 3 to 16 s to read its document on a busy machine."""

ANSWER_TIMEOUT_S = 30.0
"""How long a peer may take over an answer, and Prism to log what it has answered."""

LOOK_AGAIN_S = 0.02
STRIPE_KEY = "sk_test_12345"
"""Any key of this form will do."""

_READY_STRIPE_MOCK = re.compile(r"Listening for HTTP at address: (127\.0\.0\.1:\d+)")
_READY_LOCALSTRIPE = re.compile(r"READY (127\.0\.0\.1:\d+)")
_READY_PRISM = re.compile(r"Prism is listening on http://(127\.0\.0\.1:\d+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RECEIVED = re.compile(r"\[HTTP SERVER\] (?P<request>\S+ \S+) .*Request received")
_REFUSED = re.compile(r"Violation: request|Request terminated with error")

LOCALSTRIPE_ON_LOOPBACK = """
import socket
from aiohttp import web
from localstripe.server import app
listener = socket.create_server(("127.0.0.1", 0))
print("READY 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
web.run_app(app, sock=listener, print=None)
"""
"""Its own command takes all interfaces of the machine, and can not be told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a peer said to one request."""

    status: int
    body: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One that runs, and answers at `url`. Other tests use it too: give what you make names of your own."""

    process: ChildProcess
    url: str

    def said(self) -> str:
        """Everything that it has written, without colours."""
        return _written(self.process)

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: str = "") -> Answer:
        """Send a request; returns what is answered."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWER_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(status=response.status, body=response.read().decode())

    def post_form(self, path: str, **form: object) -> Answer:
        """Post a form as a merchant of Stripe's, with a test key."""
        headers = {"Authorization": f"Bearer {STRIPE_KEY}", "Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, headers, urlencode(form))


class LocalStripe(Peer):
    """Keeps payments, and delivers webhooks: once each, a second later."""

    def deliver_to(self, url: str, secret: str) -> None:
        """Let its webhooks from now on go there alone, signed with that."""
        answer = self.post_form("/_config/webhooks/tests", url=url, secret=secret)
        assert answer.status == http.HTTPStatus.OK, f"localstripe takes no webhook: {answer}"


@dataclass(slots=True)
class Seen:
    """What Prism logged while a block ran; filled when the block ends."""

    requests: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


class Prism(Peer):
    """Answers by a vendor's document, and judges every request by it. It keeps nothing."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[Seen]:
        """Tell afterwards which requests came while the block ran, and why some were refused."""
        before = self._fenced()
        seen = Seen()
        yield seen
        after = self._fenced()
        for line in self.said()[before:after].splitlines():
            received = _RECEIVED.search(line)
            if _FENCE in line:
                continue
            if received:
                seen.requests.append(received["request"])
            elif _REFUSED.search(line):
                seen.refusals.append(line.strip())

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """Fail when a request of the block does not fit the document, or when none came."""
        with self.watching() as seen:
            yield
        assert not seen.refusals, "Prism refuses:\n" + "\n".join(seen.refusals)
        assert seen.requests, "Prism has judged nothing: no request came"

    def _fenced(self) -> int:
        """Return how long the log is once everything that was answered until now stands in it."""
        path = f"{_FENCE}{next(_fences)}"
        self.ask("GET", path, {})  # whose own line comes after all of those
        logged = re.compile(rf"{path}\b.*\n")
        return _until(lambda: logged.search(self.said()), self.process, ANSWER_TIMEOUT_S).end()


_FENCE = "/fence-"
_fences = itertools.count(1)
_Started = TypeVar("_Started", bound=Peer)


def stripe_mock_or_skip() -> Peer:
    """Return the one that judges each request by Stripe's own document, its version included, and keeps nothing."""
    with or_skip():
        return _stripe_mock()


def localstripe_or_skip() -> LocalStripe:
    """Return the one that keeps payments much as Stripe would, and delivers signed webhooks."""
    with or_skip():
        return localstripe()


def adyen_prism_or_skip() -> Prism:
    """Return the judge by Adyen's document of Checkout v71."""
    with or_skip():
        return _prism(ADYEN_DOCUMENT)


def paypal_prism_or_skip() -> Prism:
    """Return the judge by PayPal's documents."""
    with or_skip():
        return _prism(PAYPAL_DOCUMENT)


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Without its peer a test is skipped with the reason, or fails where none may be missing."""
    try:
        yield
    except PeerUnavailableError as missing:
        if peers_are_required():
            pytest.fail(f"{REQUIRE_VARIABLE}=1, but: {missing}", pytrace=False)
        pytest.skip(f"no peer: {missing}")


def stop_all() -> None:
    """End every peer that was started. Safe to call twice."""
    for start in (_stripe_mock, localstripe, _prism):
        start.cache_clear()
    while _running:
        process = _running.pop()
        process.stop()
        shutil.rmtree(process.log_path.parent)


_running: list[ChildProcess] = []


@functools.cache
def _stripe_mock() -> Peer:
    # Without an address of its own the HTTPS listener would take all interfaces.
    addresses = ("-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
    return _started(Peer, [str(stripe_mock_program()), *addresses, "-strict-version-check"], _READY_STRIPE_MOCK)


@functools.cache
def localstripe() -> LocalStripe:
    """Return it without a test around. Raises: PeerUnavailableError."""
    return _started(LocalStripe, [str(localstripe_python()), "-c", LOCALSTRIPE_ON_LOOPBACK], _READY_LOCALSTRIPE)


@functools.cache
def _prism(document: Path) -> Prism:
    program = node_folder() / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    return _started(Prism, [node(), str(program), "mock", "-h", "127.0.0.1", "-p", "0", str(document)], _READY_PRISM)


def _started(kind: type[_Started], argv: Sequence[str], ready: re.Pattern[str]) -> _Started:
    """Start it, and wait until it says at which address it listens."""
    folder = Path(tempfile.mkdtemp(prefix="peer-"))
    process = ChildProcess(argv, log_path=folder / "log", cwd=folder)
    process.start()
    _running.append(process)
    said = _until(lambda: ready.search(_written(process)), process, START_TIMEOUT_S)
    return kind(process=process, url=f"http://{said[1]}")


def _written(process: ChildProcess) -> str:
    return _COLOURS.sub("", process.log_path.read_text(errors="replace"))


def _until(found: Callable[[], re.Match[str] | None], process: ChildProcess, limit_s: float) -> re.Match[str]:
    """Return what is found once it is there.

    Raises:
        RuntimeError: The process ended before, or the limit has passed; the message has its last words.
    """
    deadline_s = time.monotonic() + limit_s
    while True:
        match = found()
        if match is not None:
            return match
        if not process.is_running() or time.monotonic() > deadline_s:
            raise RuntimeError(f"a peer ended, or was silent for {limit_s:.0f} s:\n{process.log_tail()}")
        time.sleep(LOOK_AGAIN_S)  # another process sets no event of ours
