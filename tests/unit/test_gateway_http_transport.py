import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions

from gateway_adapters.errors import CallFailedError, InDoubtError, NotSentError, Signal
from gateway_adapters.http_transport import FOREIGN, FORM_TYPE, Answer, HttpTransport, TransportLimits, translated

QUICK = TransportLimits(connect_timeout_s=0.3, read_timeout_s=0.3, total_timeout_s=1.0, body_bytes=1000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """A TCP server that keeps the heads of what it read, and answers by a script: connection number, request number."""

    def __init__(self, script: Callable[[int, int], Awaitable[bytes | None]]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            number = 0
            while head := await reader.readuntil(b"\r\n\r\n"):
                number += 1
                self.requests.append(head)
                length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
                await reader.readexactly(length)
                answer = await self._script(connection, number)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller hung up, as these tests make it
        finally:
            writer.close()


@asynccontextmanager
async def peer(script: Callable[[int, int], Awaitable[bytes | None]]) -> AsyncIterator[Peer]:
    spoken = Peer(script)
    server = await asyncio.start_server(spoken.serve, "127.0.0.1", 0)
    spoken.port = server.sockets[0].getsockname()[1]
    try:
        yield spoken
    finally:
        server.close()


@asynccontextmanager
async def transport_to(port: int, limits: TransportLimits = QUICK) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(base_url=f"http://127.0.0.1:{port}", limits=limits)
    try:
        yield transport
    finally:
        await transport.close()


async def answers(payload: bytes | None) -> bytes | None:
    return payload


def foreign_classes() -> set[type[BaseException]]:
    return {
        each
        for module in (client_exceptions, http_exceptions)
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Exception) and each.__module__.startswith("aiohttp.")
    }


def test_every_exception_of_aiohttp_is_mapped_by_name() -> None:
    missing = sorted(each.__name__ for each in foreign_classes() - FOREIGN.keys())
    assert not missing, f"aiohttp has grown {missing}: decide for each whether the request may have been sent"


def test_nothing_is_mapped_that_aiohttp_no_longer_has() -> None:
    assert FOREIGN.keys() - foreign_classes() == {OSError, TimeoutError}


def test_not_sent_is_only_said_of_what_happens_before_a_connection_stands() -> None:
    said = {each for each in FOREIGN if isinstance(translated(each.__new__(each)), NotSentError)}
    connecting = {each for each in foreign_classes() if issubclass(each, aiohttp.ClientConnectorError)}
    assert said - connecting == {
        aiohttp.ConnectionTimeoutError,
        aiohttp.ServerFingerprintMismatch,
        aiohttp.ClientHttpProxyError,
        aiohttp.InvalidURL,
        aiohttp.InvalidUrlClientError,
        aiohttp.NonHttpUrlClientError,
    }


def test_exception_in_no_table_is_in_doubt() -> None:
    class NewlyGrownError(Exception):
        pass  # a type and no more

    assert isinstance(translated(NewlyGrownError()), InDoubtError)


async def failure_of(transport: HttpTransport) -> CallFailedError:
    with pytest.raises(CallFailedError) as raised:
        await transport.send("POST", "/payments", headers={}, body=b"{}")
    return raised.value


async def test_refused_connection_is_not_sent() -> None:
    async with peer(lambda *_: answers(OK)) as closed:
        port = closed.port
    async with transport_to(port) as transport:
        assert isinstance(await failure_of(transport), NotSentError)


async def test_unresolvable_name_is_not_sent() -> None:
    transport = HttpTransport(base_url="http://no-such-host.invalid", limits=QUICK)
    assert isinstance(await failure_of(transport), NotSentError)
    await transport.close()


async def test_waiting_in_vain_for_a_free_connection_is_not_sent() -> None:
    arrived = asyncio.Event()

    async def hang(_: int, __: int) -> bytes | None:
        arrived.set()
        await asyncio.Event().wait()
        return None

    limits = TransportLimits(connections=1, connect_timeout_s=0.1, read_timeout_s=2.0, total_timeout_s=3.0)
    async with peer(hang) as slow, transport_to(slow.port, limits) as transport:
        first = asyncio.create_task(failure_of(transport))
        await arrived.wait()
        assert isinstance(await failure_of(transport), NotSentError)
        first.cancel()
        await asyncio.wait([first])
        assert len(slow.requests) == 1


@pytest.mark.parametrize(
    ("answer", "signal"),
    [
        (None, Signal.CONNECTION_LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", Signal.READ_TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", Signal.UNREADABLE),
        (b"not http at all\r\n\r\n", Signal.UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n", Signal.UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, Signal.UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nxxxx", Signal.UNREADABLE),
    ],
    ids=["closed", "stalled", "bad chunk", "no http", "bad header", "too large", "bad gzip"],
)
async def test_broken_answer_is_in_doubt_and_the_post_is_sent_once(answer: bytes | None, signal: Signal) -> None:
    async with peer(lambda *_: answers(answer)) as broken, transport_to(broken.port) as transport:
        error = await failure_of(transport)
        assert isinstance(error, InDoubtError)
        assert error.signal is signal
        assert len(broken.requests) == 1


async def test_post_is_not_sent_again_when_a_reused_connection_turns_out_dead() -> None:
    """The gateway reads the second request on the kept connection, and closes it without a word."""

    async def script(_: int, number: int) -> bytes | None:
        return OK if number == 1 else None

    async with peer(script) as dying, transport_to(dying.port) as transport:
        await transport.send("POST", "/payments", headers={}, body=b"{}")
        error = await failure_of(transport)
        assert isinstance(error, InDoubtError)
        assert (dying.connections, len(dying.requests)) == (1, 2)


async def test_read_timeout_is_in_doubt() -> None:
    async def hang(_: int, __: int) -> bytes | None:
        await asyncio.Event().wait()
        return None

    async with peer(hang) as slow, transport_to(slow.port) as transport:
        assert (await failure_of(transport)).signal is Signal.READ_TIMEOUT


async def test_redirect_is_an_answer_and_not_followed() -> None:
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with peer(lambda *_: answers(moved)) as moving, transport_to(moving.port) as transport:
        assert (await transport.send("POST", "/payments", headers={}, body=b"{}")).status == 307
        assert len(moving.requests) == 1


@pytest.mark.parametrize("slash", ["", "/"])
async def test_path_of_the_base_url_stands_before_that_of_the_request(slash: str) -> None:
    async with peer(lambda *_: answers(OK)) as there:
        base_url = f"http://127.0.0.1:{there.port}/proxied/v1%2F2{slash}"
        transport = HttpTransport(base_url=base_url, limits=QUICK)
        await transport.send("GET", "/payments/a%20b?key=1", headers={})
        await transport.close()
    assert there.requests[0].startswith(b"GET /proxied/v1%2F2/payments/a%20b?key=1 HTTP/1.1")


async def test_body_is_json_unless_another_type_is_said_and_no_type_goes_without_a_body() -> None:
    async with peer(lambda *_: answers(OK)) as listening, transport_to(listening.port) as transport:
        await transport.send("POST", "/json", headers={}, body=b"{}")
        await transport.send("POST", "/form", headers={}, body=b"a=1", content_type=FORM_TYPE)
        await transport.send("GET", "/none", headers={}, content_type=FORM_TYPE)
    types = [[x for x in head.split(b"\r\n") if x.startswith(b"Content-Type")] for head in listening.requests]
    assert types == [[b"Content-Type: application/json"], [b"Content-Type: application/x-www-form-urlencoded"], []]


async def test_transport_opens_again_after_it_was_closed() -> None:
    async with peer(lambda *_: answers(OK)) as there, transport_to(there.port) as transport:
        for _ in range(2):
            assert (await transport.send("GET", "/", headers={})).json_object() == {}
            await transport.close()


@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b"[]", b'"text"', b"\xff", b"[" * 100_000, b'{"cut": ', b'{"a": NaN}']
)
def test_body_that_is_no_json_object_is_in_doubt(body: bytes) -> None:
    with pytest.raises(InDoubtError):
        Answer(status=200, headers={}, body=body).json_object()


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("7", 7_000),
        ("0", 0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("9999999", None),
        ("٣", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_taken_in_whole_seconds_only(value: str, expected_ms: int | None) -> None:
    assert Answer(status=429, headers={"retry-after": value}, body=b"").retry_after_ms() == expected_ms


SENT = "Tue, 01 Dec 2026 11:00:00 GMT"


@pytest.mark.parametrize(
    ("retry_after", "date", "expected_ms"),
    [
        ("Tue, 01 Dec 2026 11:00:07 GMT", SENT, 7_000),
        ("Tuesday, 01-Dec-26 11:00:07 GMT", SENT, 7_000),  # the obsolete forms that a recipient must take
        ("Tue Dec  1 11:00:07 2026", SENT, 7_000),
        ("Tue, 01 Dec 2026 10:59:00 GMT", SENT, 0),
        ("Tue, 01 Dec 2026 11:00:07 GMT", "", None),
        ("Tue, 01 Dec 2026 11:00:07 GMT", "soon", None),
        ("Mon, 01 Feb 2027 11:00:00 GMT", SENT, None),
        ("Tue, 99 Dec 2026 11:00:07 GMT", SENT, None),
        ("Tue, 01 Dec 99999999999 11:00:07 GMT", SENT, None),
    ],
)
def test_dated_retry_after_is_taken_against_the_gateways_own_clock(
    retry_after: str, date: str, expected_ms: int | None
) -> None:
    answer = Answer(status=429, headers={"retry-after": retry_after, "date": date}, body=b"")
    assert answer.retry_after_ms() == expected_ms


def test_limits_refuse_a_total_timeout_that_could_strike_while_connecting() -> None:
    with pytest.raises(ValueError, match="total_timeout_s"):
        TransportLimits(connect_timeout_s=5.0, total_timeout_s=5.0)
