"""One ingress over a real socket, on the engine in memory: what the contract and acceptance tests talk to."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from gateway_adapters.contract import CertificateFetcher
from http_ingress.access.api_keys import KeyRing
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.app import build_app
from http_ingress.ingress import Ingress, WebhookGateway
from http_ingress.replies.waiters import ReplyPump, Waiters
from http_ingress.server import HttpServer
from http_ingress.settings import IngressSettings
from schemas.identifiers import GatewayRoute
from schemas.messages import MessageCodec, SchemaIds
from tests.support.fake_engine import NOW_MS, FakeEngine
from tests.support.gateway_calls import NO_CERTIFICATES

CODEC = MessageCodec(SchemaIds.packaged())


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running ingress, its engine, and a client of it."""

    ingress: Ingress
    engine: FakeEngine
    server: HttpServer
    http: aiohttp.ClientSession
    url: str
    port: int


def build_ingress(
    engine: FakeEngine,
    *,
    settings: IngressSettings | None = None,
    keys: KeyRing | None = None,
    webhooks: Mapping[GatewayRoute, WebhookGateway] | None = None,
    certificates: CertificateFetcher = NO_CERTIFICATES,
) -> tuple[Ingress, ReplyPump]:
    """Return an ingress on the engine, and the pump of its replies."""
    chosen = settings or IngressSettings(dev=keys is None, sync_timeout_s=2.0, requests_per_second=100_000)
    waiters = Waiters(limit=chosen.max_waiting)
    pump = ReplyPump(feed=engine, waiters=waiters, codec=engine.codec)
    ingress = Ingress(
        settings=chosen,
        log=engine,
        waiters=waiters,
        limiter=RateLimiter(requests_per_second=chosen.requests_per_second),
        keys=keys,
        webhooks=webhooks or {},
        certificates=certificates,
        now_ms=lambda: NOW_MS,
        monotonic_s=time.monotonic,
        faults=lambda: () if pump.live else ("replies are not read",),
    )
    return ingress, pump


@asynccontextmanager
async def running_ingress(
    *,
    settings: IngressSettings | None = None,
    keys: KeyRing | None = None,
    webhooks: Mapping[GatewayRoute, WebhookGateway] | None = None,
    certificates: CertificateFetcher = NO_CERTIFICATES,
) -> AsyncIterator[Running]:
    """Serve an ingress on a free loopback port until the block ends."""
    engine = FakeEngine(CODEC)
    ingress, pump = build_ingress(engine, settings=settings, keys=keys, webhooks=webhooks, certificates=certificates)
    server = HttpServer(ingress, build_app(ingress))
    await pump.start()
    try:
        port = await server.start(host="127.0.0.1", port=0)
        url = f"http://127.0.0.1:{port}"
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(base_url=url, timeout=timeout) as http:
            yield Running(ingress=ingress, engine=engine, server=server, http=http, url=url, port=port)
    finally:
        await server.stop(drain_timeout_s=0.2)
        await pump.stop()
