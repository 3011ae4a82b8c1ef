"""Fetches the certificates that some gateways sign their webhooks with, from those gateways' own hosts alone.

Handed by the ingress to `Gateway.verify_webhook`. The URL stands in the webhook's own headers, so a stranger may have
written it: nothing is fetched but by https from a host that the adapter names, no redirect is followed, and what is
kept, how long, how much and how much at once is bounded. A certificate proves nothing by having been fetched: the
adapter checks its chain and its name (PayPal, 'Integrate webhooks', 'Verify the signature offline').

What a gateway has answered is remembered: a certificate for an hour, that there is none at a URL for a minute. So a
flood of forged webhooks costs the gateway a few requests, and cannot push out what is kept of real ones.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

from gateway_adapters.contract import CertificateFetcher
from gateway_adapters.errors import CallFailedError, UnauthenticError, UnverifiableError
from gateway_adapters.http_transport import HttpTransport, TransportLimits

MAX_URL_CHARS: Final = 512
PEM_MARKER: Final = b"-----BEGIN CERTIFICATE-----"
MAX_BYTES: Final = 64 * 1024
"""Of an answer: a chain of four certificates takes a tenth."""
MAX_KEPT: Final = 64
"""Certificates kept, and as many URLs at which there is none; the oldest gives way."""
MAX_AT_ONCE: Final = 4
"""Fetches under way; a webhook that would need one more is asked for again."""
KEPT_S: Final = 3600.0
ABSENT_S: Final = 60.0
TIMEOUT_S: Final = 5.0
"""Of a whole fetch: a gateway waits for its acknowledgement meanwhile, PayPal for 30 s."""

_LIMITS: Final = TransportLimits(
    connections=MAX_AT_ONCE,
    connect_timeout_s=TIMEOUT_S / 2,
    read_timeout_s=TIMEOUT_S,
    total_timeout_s=TIMEOUT_S,
    body_bytes=MAX_BYTES,
)
Kept = TypeVar("Kept")

_OK: Final = 200
_ABSENT: Final = frozenset({404, 410})
_HTTPS_PORT: Final = 443


def https_transport(host: str) -> HttpTransport:
    """Return how the host is reached. Nothing is connected to yet."""
    return HttpTransport(base_url=f"https://{host}", limits=_LIMITS)


class HttpsCertificates(CertificateFetcher):
    """Fetches and keeps. One for an instance of the ingress; safe for any number of webhooks at once."""

    def __init__(
        self, *, monotonic_s: Callable[[], float], open_transport: Callable[[str], HttpTransport] = https_transport
    ) -> None:
        """`monotonic_s`: a clock that never goes back, seconds. `open_transport`: how a host is reached."""
        self._monotonic_s = monotonic_s
        self._open_transport = open_transport
        self._transports: dict[str, HttpTransport] = {}  # as many as adapters name hosts
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._absent: OrderedDict[str, float] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        """Return what stands at the URL, perhaps as it was up to an hour ago.

        Raises:
            UnauthenticError: the URL is not https at one of the hosts, or nothing stands there.
            UnverifiableError: it cannot be had now.
        """
        host, path = _parts(url, hosts)
        url = f"https://{host}{path}"  # other spellings of one place would each be fetched and kept
        now_s = self._monotonic_s()
        until_s, kept = self._kept.get(url, (0.0, b""))
        if now_s < until_s:
            return kept
        if now_s < self._absent.get(url, 0.0):
            raise UnauthenticError("there is no such certificate")
        fetching = self._under_way.get(url)
        if fetching is None:
            if len(self._under_way) >= MAX_AT_ONCE:
                raise UnverifiableError(f"{MAX_AT_ONCE} certificates are being fetched")
            fetching = asyncio.get_running_loop().create_task(self._fetched(url, host, path))
            self._under_way[url] = fetching
            fetching.add_done_callback(lambda ended: self._ended(url, ended))
        return await asyncio.shield(fetching)  # one webhook's end must not end the fetch for the others

    async def close(self) -> None:
        """End what is under way and let go of connections. Calling it twice is safe."""
        for fetching in list(self._under_way.values()):
            fetching.cancel()
        for transport in self._transports.values():
            await transport.close()

    async def _fetched(self, url: str, host: str, path: str) -> bytes:
        transport = self._transports.get(host)
        if transport is None:
            transport = self._transports[host] = self._open_transport(host)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await transport.send("GET", path, headers={"Accept": "*/*"})
        except (CallFailedError, TimeoutError) as error:
            raise UnverifiableError(f"the certificate could not be fetched ({type(error).__name__})") from error
        if answer.status in _ABSENT:
            _keep(self._absent, url, self._monotonic_s() + ABSENT_S)
            raise UnauthenticError("there is no such certificate")
        if answer.status != _OK:
            raise UnverifiableError(f"the certificate could not be fetched (HTTP {answer.status})")
        if PEM_MARKER not in answer.body:  # a page of a proxy's, say, which must not stand for the certificate
            raise UnverifiableError("no certificate stands in what was fetched")
        _keep(self._kept, url, (self._monotonic_s() + KEPT_S, answer.body))
        return answer.body

    def _ended(self, url: str, ended: asyncio.Task[bytes]) -> None:
        self._under_way.pop(url, None)
        if not ended.cancelled():
            ended.exception()  # whoever waits raises it; when nobody waits any more, asyncio would complain


def _keep(kept: OrderedDict[str, Kept], url: str, value: Kept) -> None:
    kept[url] = value
    kept.move_to_end(url)
    while len(kept) > MAX_KEPT:
        kept.popitem(last=False)


def _parts(url: str, hosts: frozenset[str]) -> tuple[str, str]:
    """Return the host and the path. Raises: UnauthenticError: the URL is not https at one of the hosts."""
    refusal = UnauthenticError("the certificate's URL is not one of the gateway's own")
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise refusal
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refusal from None
    host = parts.hostname or ""
    # The spelling itself is compared: `user@host`, `host:444` and `host.` are other places.
    own = host in hosts and parts.netloc.lower() in {host, f"{host}:{_HTTPS_PORT}"} and port in {None, _HTTPS_PORT}
    if parts.scheme != "https" or not own or "?" in url or "#" in url or not parts.path.startswith("/"):
        raise refusal
    return host, parts.path
