"""Certificates of webhooks, fetched from a server over a socket: from whom, how often, how much, and what is kept."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway_adapters import certificates
from gateway_adapters.certificates import (
    ABSENT_S,
    KEPT_S,
    MAX_AT_ONCE,
    MAX_BYTES,
    MAX_KEPT,
    MAX_URL_CHARS,
    HttpsCertificates,
)
from gateway_adapters.errors import UnauthenticError, UnverifiableError
from gateway_adapters.http_transport import HttpTransport, TransportLimits
from tests.support.waiting import until

HOST = "api.gateway.example"
HOSTS = frozenset({HOST})
PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
URL = f"https://{HOST}/certs/CERT-1"


@dataclass
class Peer:
    """The gateway's host, and what it was asked for."""

    answers: dict[str, web.Response | bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    now_s: float = 1_000.0
    opened: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        await self.gate.wait()
        found = self.answers.get(request.path, PEM)
        if isinstance(found, bytes):
            return web.Response(body=found)
        return web.Response(status=found.status, headers=found.headers, body=found.body)


@asynccontextmanager
async def serving(peer: Peer, *, timeout_s: float = 5.0) -> AsyncIterator[HttpsCertificates]:
    application = web.Application()
    application.router.add_get("/{path:.*}", peer.answer)
    peer.gate.set()
    async with TestServer(application) as server:

        def opened(host: str) -> HttpTransport:
            peer.opened.append(host)
            limits = TransportLimits(connect_timeout_s=timeout_s / 2, total_timeout_s=timeout_s, body_bytes=MAX_BYTES)
            return HttpTransport(base_url=str(server.make_url("")), limits=limits)

        fetcher = HttpsCertificates(monotonic_s=lambda: peer.now_s, open_transport=opened)
        try:
            yield fetcher
        finally:
            await fetcher.close()


async def test_certificate_is_fetched_once_and_kept_for_an_hour() -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        assert [await fetcher.fetch(URL, hosts=HOSTS) for _ in range(3)] == [PEM] * 3
        peer.now_s += KEPT_S - 1
        await fetcher.fetch(URL, hosts=HOSTS)
        assert peer.asked == {"/certs/CERT-1": 1}
        peer.now_s += 2
        await fetcher.fetch(URL, hosts=HOSTS)
        assert peer.asked == {"/certs/CERT-1": 2}
    assert peer.opened == [HOST]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "certs/CERT-1",
        f"http://{HOST}/certs/CERT-1",
        f"https://{HOST}.evil.example/c",
        "https://evil.example/c",
        f"https://evil.example/{HOST}/c",
        f"https://{HOST}@evil.example/c",
        f"https://user@{HOST}/c",
        f"https://{HOST}:444/c",
        f"https://{HOST}:99999/c",
        f"https://{HOST}./c",
        f"https://{HOST}",
        f"https://{HOST}/c?next=https://evil.example",
        f"https://{HOST}/c#evil",
        f"https://{HOST}\\@evil.example/c",
        f"https://{HOST}/c d",
        f"https://{HOST}/c\n",
        f"https://{HOST}/ö",
        "https://[::1/c",
        "https://127.0.0.1/c",
        f"https://{HOST}/" + "c" * MAX_URL_CHARS,
    ],
)
async def test_nothing_is_fetched_from_elsewhere_than_the_gateways_own_hosts(url: str) -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        with pytest.raises(UnauthenticError):
            await fetcher.fetch(url, hosts=HOSTS)
    assert (peer.opened, peer.asked) == ([], {})


@pytest.mark.parametrize("url", [f"https://{HOST}:443/c", f"HTTPS://{HOST.upper()}/c"])
async def test_other_spelling_of_the_same_place_is_fetched(url: str) -> None:
    async with serving(Peer()) as fetcher:
        assert await fetcher.fetch(url, hosts=HOSTS) == PEM


async def test_other_spellings_of_one_place_are_fetched_and_kept_once() -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        for url in (URL, f"HTTPS://{HOST.upper()}/certs/CERT-1", f"https://{HOST}:443/certs/CERT-1"):
            assert await fetcher.fetch(url, hosts=HOSTS) == PEM
    assert peer.asked == {"/certs/CERT-1": 1}


async def test_webhook_is_forged_when_nothing_stands_at_its_url_and_that_is_remembered_for_a_minute() -> None:
    peer = Peer(answers={"/certs/CERT-1": web.Response(status=404)})
    async with serving(peer) as fetcher:
        for _ in range(3):
            with pytest.raises(UnauthenticError):
                await fetcher.fetch(URL, hosts=HOSTS)
        assert peer.asked == {"/certs/CERT-1": 1}
        peer.now_s += ABSENT_S + 1
        peer.answers.clear()
        assert await fetcher.fetch(URL, hosts=HOSTS) == PEM


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "https://evil.example/c"}),
        b"x" * (MAX_BYTES + 1),
        b"<html>The proxy is being mended</html>",
        b"",
    ],
)
async def test_webhook_is_asked_for_again_when_its_certificate_cannot_be_had_now(answer: web.Response | bytes) -> None:
    peer = Peer(answers={"/certs/CERT-1": answer})
    async with serving(peer) as fetcher:
        with pytest.raises(UnverifiableError):
            await fetcher.fetch(URL, hosts=HOSTS)
        peer.answers.clear()
        assert await fetcher.fetch(URL, hosts=HOSTS) == PEM  # nothing of the failure is kept


async def test_webhook_is_asked_for_again_when_the_host_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "TIMEOUT_S", 0.05)
    peer = Peer()
    async with serving(peer) as fetcher:
        peer.gate.clear()
        with pytest.raises(UnverifiableError):
            await fetcher.fetch(URL, hosts=HOSTS)
        peer.gate.set()


async def test_one_fetch_serves_all_that_wait_and_one_more_url_than_may_be_fetched_at_once_is_put_off() -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        peer.gate.clear()
        urls = [f"https://{HOST}/{number}" for number in range(MAX_AT_ONCE)]
        waiting = [asyncio.ensure_future(fetcher.fetch(url, hosts=HOSTS)) for url in urls * 3]
        await until(lambda: len(peer.asked) == MAX_AT_ONCE, timeout_s=5.0)
        with pytest.raises(UnverifiableError):
            await fetcher.fetch(URL, hosts=HOSTS)
        waiting[0].cancel()  # whoever gives up takes the certificate from nobody else
        peer.gate.set()
        assert set(await asyncio.gather(*waiting[1:])) == {PEM}
        assert set(peer.asked.values()) == {1}


async def test_flood_of_forged_urls_pushes_no_certificate_out() -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        await fetcher.fetch(URL, hosts=HOSTS)
        for number in range(MAX_KEPT + 10):
            peer.answers[f"/{number}"] = web.Response(status=404)
            with pytest.raises(UnauthenticError):
                await fetcher.fetch(f"https://{HOST}/{number}", hosts=HOSTS)
        await fetcher.fetch(URL, hosts=HOSTS)
        assert peer.asked["/certs/CERT-1"] == 1


async def test_no_more_certificates_are_kept_than_the_limit() -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        for number in range(MAX_KEPT + 1):
            await fetcher.fetch(f"https://{HOST}/{number}", hosts=HOSTS)
        await fetcher.fetch(f"https://{HOST}/{MAX_KEPT}", hosts=HOSTS)
        await fetcher.fetch(f"https://{HOST}/0", hosts=HOSTS)
    assert (peer.asked["/0"], peer.asked[f"/{MAX_KEPT}"]) == (2, 1)


async def test_close_ends_what_is_under_way_and_is_safe_twice() -> None:
    peer = Peer()
    async with serving(peer) as fetcher:
        peer.gate.clear()
        waiting = asyncio.ensure_future(fetcher.fetch(URL, hosts=HOSTS))
        await until(lambda: peer.asked.total() == 1, timeout_s=5.0)
        await fetcher.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        peer.gate.set()
        await fetcher.close()
