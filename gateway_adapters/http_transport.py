"""The one seam between gateways and HTTP: an aiohttp session with limits, whose exceptions never leave this module.

Every adapter sends through `HttpTransport.send`. What breaks becomes one of two errors: `NotSentError` (no byte can
have reached the gateway, so another attempt is safe) or `InDoubtError` (it may have had its effect). `FOREIGN`
names every exception class of aiohttp, and a test fails when aiohttp grows one that is not there.

Why only GET and POST: aiohttp sends a request of an 'idempotent' method again by itself when a reused connection
turns out dead (`ClientSession._retry_connection`, methods GET, HEAD, OPTIONS, TRACE, PUT, DELETE). For a GET that
is harmless; a POST it never repeats, so a reset on a stale keep-alive connection reaches us, as in doubt: from here
one cannot see whether the gateway closed the connection before or after it read the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal

import aiohttp
import orjson
from aiohttp import http_exceptions

from gateway_adapters.errors import CallFailedError, InDoubtError, NotSentError, Signal

JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Named limits of one gateway's transport."""

    connections: int = 1024  # above the executor's calls in flight, so that none waits for a connection
    keepalive_s: float = 15.0  # well below the 60 to 75 s of common servers: fewer stale connections, fewer doubts
    connect_timeout_s: float = 3.0  # waiting for a free connection, name resolution and TLS included
    read_timeout_s: float = 20.0  # between two reads
    total_timeout_s: float = 30.0  # of the whole exchange; must exceed connect_timeout_s
    body_bytes: int = 256 * 1024  # of an answer; a gateway's are a few kB

    def __post_init__(self) -> None:
        # A total time-out that strikes while connecting would look in doubt, though nothing was sent.
        if self.total_timeout_s <= self.connect_timeout_s:
            raise ValueError("total_timeout_s must exceed connect_timeout_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case; of a repeated header the last
    body: bytes

    def json_object(self) -> dict[str, object]:
        """Return the body as a JSON object.

        Raises:
            InDoubtError: it is not one: HTML from a proxy, cut, or another kind of JSON.
        """
        try:
            # orjson also refuses what other parsers let through: NaN, and half of a surrogate pair.
            parsed: object = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise InDoubtError(Signal.UNREADABLE, f"HTTP {self.status}, not JSON") from error
        if not isinstance(parsed, dict):
            raise InDoubtError(Signal.UNREADABLE, f"HTTP {self.status}, not a JSON object")
        return parsed

    def retry_after_ms(self) -> int | None:
        """Return how long `Retry-After` asks to wait, milliseconds; None when absent or unfit (RFC 9110).

        A date is taken against the answer's own `Date`: the clocks need not agree. One that has passed is 0.
        """
        value = self.headers.get("retry-after", "")
        if value.isascii() and value.isdigit():
            return int(value) * 1000 if len(value) <= MAX_RETRY_AFTER_DIGITS else None
        until_s, sent_s = _http_date_s(value), _http_date_s(self.headers.get("date", ""))
        if until_s is None or sent_s is None:
            return None
        wait_s = max(0, until_s - sent_s)
        return wait_s * 1000 if wait_s < 10**MAX_RETRY_AFTER_DIGITS else None


MAX_RETRY_AFTER_DIGITS: Final = 6
"""A `Retry-After` of more digits (above 11 days) is not taken at its word."""


def _http_date_s(value: str) -> int | None:
    """Return the seconds since the epoch of a date in a header; None when it is none."""
    try:
        return int(parsedate_to_datetime(value).replace(tzinfo=UTC).timestamp())  # HTTP's dates are all in GMT
    except (ValueError, OverflowError):
        return None


class _Verdict(Enum):
    """What an aiohttp exception says about the request."""

    NOT_SENT = Signal.NOT_SENT
    TIMEOUT = Signal.READ_TIMEOUT
    LOST = Signal.CONNECTION_LOST
    UNREADABLE = Signal.UNREADABLE


# Looked up along the class's bases, the nearest first. So a class without an entry would be treated as its base is; the
# test wants every class named all the same, so that a person has thought about each.
FOREIGN: Final[Mapping[type[BaseException], _Verdict]] = MappingProxyType(
    {
        # Before a connection stands.
        aiohttp.ClientConnectorError: _Verdict.NOT_SENT,
        aiohttp.ClientConnectorDNSError: _Verdict.NOT_SENT,
        aiohttp.ClientProxyConnectionError: _Verdict.NOT_SENT,
        aiohttp.client_exceptions.UnixClientConnectorError: _Verdict.NOT_SENT,
        aiohttp.ClientSSLError: _Verdict.NOT_SENT,
        aiohttp.ClientConnectorSSLError: _Verdict.NOT_SENT,
        aiohttp.ClientConnectorCertificateError: _Verdict.NOT_SENT,
        aiohttp.ServerFingerprintMismatch: _Verdict.NOT_SENT,
        aiohttp.ConnectionTimeoutError: _Verdict.NOT_SENT,
        aiohttp.ClientHttpProxyError: _Verdict.NOT_SENT,  # the proxy refused CONNECT
        aiohttp.InvalidURL: _Verdict.NOT_SENT,
        aiohttp.InvalidUrlClientError: _Verdict.NOT_SENT,
        aiohttp.NonHttpUrlClientError: _Verdict.NOT_SENT,
        # Once it stands: whatever breaks may have broken after the gateway read the request.
        aiohttp.ClientError: _Verdict.LOST,
        aiohttp.ClientConnectionError: _Verdict.LOST,
        aiohttp.ClientConnectionResetError: _Verdict.LOST,
        aiohttp.ClientOSError: _Verdict.LOST,
        aiohttp.ServerConnectionError: _Verdict.LOST,
        aiohttp.ServerDisconnectedError: _Verdict.LOST,
        aiohttp.client_exceptions.UploadAbortedError: _Verdict.LOST,
        OSError: _Verdict.LOST,
        aiohttp.ServerTimeoutError: _Verdict.TIMEOUT,
        aiohttp.SocketTimeoutError: _Verdict.TIMEOUT,
        TimeoutError: _Verdict.TIMEOUT,
        # An answer came, and is not one.
        aiohttp.ClientResponseError: _Verdict.UNREADABLE,
        aiohttp.ContentTypeError: _Verdict.UNREADABLE,
        aiohttp.WSServerHandshakeError: _Verdict.UNREADABLE,
        aiohttp.WSMessageTypeError: _Verdict.UNREADABLE,
        aiohttp.ClientPayloadError: _Verdict.UNREADABLE,
        aiohttp.TooManyRedirects: _Verdict.UNREADABLE,
        aiohttp.RedirectClientError: _Verdict.UNREADABLE,  # an earlier hop was sent
        aiohttp.InvalidUrlRedirectClientError: _Verdict.UNREADABLE,
        aiohttp.NonHttpUrlRedirectClientError: _Verdict.UNREADABLE,
        http_exceptions.HttpProcessingError: _Verdict.UNREADABLE,
        http_exceptions.BadHttpMessage: _Verdict.UNREADABLE,
        http_exceptions.HttpBadRequest: _Verdict.UNREADABLE,
        http_exceptions.PayloadEncodingError: _Verdict.UNREADABLE,
        http_exceptions.ContentEncodingError: _Verdict.UNREADABLE,
        http_exceptions.TransferEncodingError: _Verdict.UNREADABLE,
        http_exceptions.ContentLengthError: _Verdict.UNREADABLE,
        http_exceptions.DecompressSizeError: _Verdict.UNREADABLE,
        http_exceptions.LineTooLong: _Verdict.UNREADABLE,
        http_exceptions.InvalidHeader: _Verdict.UNREADABLE,
        http_exceptions.BadStatusLine: _Verdict.UNREADABLE,
        http_exceptions.BadHttpMethod: _Verdict.UNREADABLE,
        http_exceptions.InvalidURLError: _Verdict.UNREADABLE,
    }
)


def translated(error: BaseException) -> CallFailedError:
    """Return our error for one of aiohttp's. What is in no table is in doubt: that is the safe side."""
    verdict = next((FOREIGN[base] for base in type(error).__mro__ if base in FOREIGN), _Verdict.LOST)
    detail = type(error).__name__
    if verdict is _Verdict.NOT_SENT:
        return NotSentError(Signal.NOT_SENT, detail)
    return InDoubtError(verdict.value, detail)


class HttpTransport:
    """Sends requests to one gateway. Opens its session at the first request, inside the running event loop."""

    def __init__(self, *, base_url: str, limits: TransportLimits) -> None:
        self._base_url = base_url.rstrip("/")
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        content_type: str = JSON_TYPE,
    ) -> Answer:
        """Return the gateway's whole answer, whatever its status.

        Sends once: nothing here repeats a POST, and no redirect is followed.

        Args:
            method: GET for what changes nothing, POST for the rest.
            path: from the base URL on, percent-encoded, with its query.
            headers: of the request.
            body: of the request.
            content_type: of the body; without one it is not sent.

        Raises:
            NotSentError: the request cannot have reached the gateway.
            InDoubtError: it may have, and no whole answer came.
        """
        session = self._opened()
        sent_headers = {"Accept": JSON_TYPE, "Accept-Encoding": "identity", **headers}
        if body is not None:
            sent_headers["Content-Type"] = content_type
        try:
            async with session.request(
                method, self._base_url + path, data=body, headers=sent_headers, allow_redirects=False
            ) as response:
                content = await self._read(response)
                lowered = {name.lower(): value for name, value in response.headers.items()}
                return Answer(status=response.status, headers=lowered, body=content)
        except (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as error:
            # TimeoutError is an OSError; asyncio's is the same class since Python 3.11.
            raise translated(error) from error

    async def close(self) -> None:
        """Close the session and its connections; a later `send` opens another. Calling it twice is safe."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._limits.body_bytes:
                response.close()  # the rest is not read, so the connection cannot be used again
                raise InDoubtError(Signal.UNREADABLE, f"HTTP {response.status}, above {self._limits.body_bytes} bytes")
        return bytes(content)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._limits.connections, keepalive_timeout=self._limits.keepalive_s
                ),
                timeout=aiohttp.ClientTimeout(
                    total=self._limits.total_timeout_s,
                    connect=self._limits.connect_timeout_s,
                    sock_connect=self._limits.connect_timeout_s,
                    sock_read=self._limits.read_timeout_s,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # only settings.py reads the environment
            )
        return self._session
