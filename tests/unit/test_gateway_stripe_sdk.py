"""The seam to Stripe's library: which exceptions it has, what goes over the wire, and that it is sent once."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import stripe
from aiohttp import web
from pydantic import SecretStr

from gateway_adapters.errors import Code, InDoubtError, NotSentError, UnauthenticError
from gateway_adapters.stripe import sdk
from gateway_adapters.stripe.client import StripeGateway
from gateway_adapters.stripe.sdk import FOREIGN, Verdict, verdict_on
from gateway_adapters.stripe.signature import HEADER, sign
from gateway_adapters.stripe.spec import SPEC, StripeAccount
from schemas.misconfigured import MisconfiguredError
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.gateway_requests import fresh_order, payment_request

PATH = "/below/a/path"


def foreign_classes() -> set[type[BaseException]]:
    """Every exception class of the library, found by importing all that may define one."""
    found: set[type[BaseException]] = set()
    for module in pkgutil.iter_modules(stripe.__path__):
        if "error" in module.name:
            importlib.import_module(f"stripe.{module.name}")
    todo: list[type[BaseException]] = [stripe.StripeError]
    while todo:
        each = todo.pop()
        found.add(each)
        todo += [below for below in each.__subclasses__() if below.__module__.startswith("stripe")]
    return found


def test_every_exception_of_the_library_is_mapped_by_name() -> None:
    missing = sorted(each.__name__ for each in foreign_classes() - FOREIGN.keys())
    assert not missing, f"Stripe's library has grown {missing}: decide for each what it says about the request"
    assert len(foreign_classes()) >= 30


def test_nothing_is_mapped_that_the_library_no_longer_has() -> None:
    assert FOREIGN.keys() <= foreign_classes()


def test_exception_in_no_table_is_in_doubt() -> None:
    class NewlyGrownError(Exception):
        pass  # a type and no more

    assert verdict_on(NewlyGrownError()) is Verdict.IN_DOUBT


@dataclass
class Peer:
    """An HTTP server that keeps what came and answers alike."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    came: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.came.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        return web.Response(status=self.status, body=self.body, content_type="application/json", headers=self.headers)


@asynccontextmanager
async def serving(status: int, body: bytes, **headers: str) -> AsyncIterator[tuple[Peer, StripeGateway]]:
    peer = Peer(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", peer.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site.port}{PATH}"
    gateway = StripeGateway(StripeAccount(api_key=SecretStr("sk_test_key"), url=url))
    try:
        yield peer, gateway
    finally:
        await gateway.close()
        await runner.cleanup()


def sale() -> GatewayCallRequested:
    return payment_request(fresh_order(), CallKind.SALE, token="pm_secret_1")


async def test_request_is_a_form_with_version_key_and_credential_and_tells_nothing_of_this_host() -> None:
    request = sale()
    async with serving(200, b"{}") as (peer, gateway):
        await gateway.call(request)
        await gateway.call(request)
    (method, path, headers, body), again = peer.came
    assert (method, path) == ("POST", f"{PATH}/v1/payment_intents")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Stripe-Version"] == "2026-08-26.dahlia"
    assert headers["Idempotency-Key"] == request.gateway_key
    assert headers["Authorization"] == "Bearer sk_test_key"
    assert b"amount=10000&currency=usd&confirm=true" in body
    assert again[3] == body
    told = {name.lower() for _, _, headers, _ in peer.came for name in headers}
    assert told.isdisjoint({"x-stripe-client-user-agent", "x-stripe-client-telemetry"})


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_call_is_sent_once_whatever_stripe_advises(status: int) -> None:
    async with serving(status, b'{"error": {"type": "api_error"}}', Stripe_Should_Retry="true") as (peer, gateway):
        await gateway.call(sale())
    assert len(peer.came) == 1


async def test_redirect_is_not_followed() -> None:
    async with serving(307, b"", Location=f"http://127.0.0.1:9{PATH}") as (peer, gateway):
        result = await gateway.call(sale())
    assert len(peer.came) == 1
    assert result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"<html>", b'{"error": []}', b'{"error": "invalid_grant"}', b"\xff", b'{"id": "pi_1"}'],
)
@pytest.mark.parametrize("status", [200, 400, 402, 404, 409, 500])
async def test_answer_of_another_shape_leaves_the_call_in_doubt_and_raises_nothing(status: int, body: bytes) -> None:
    async with serving(status, body) as (_, gateway):
        result = await gateway.call(sale())
    assert result.outcome is Outcome.UNKNOWN
    assert result.error is not None
    assert result.error.code in {Code.UNREADABLE_ANSWER, Code.GATEWAY_FAILED}
    assert "pm_secret_1" not in repr(result)


async def test_answer_that_is_nested_too_deep_for_the_library_raises_nothing() -> None:
    async with serving(200, b'{"a":' * 900 + b"1" + b"}" * 900) as (_, gateway):
        result = await gateway.call(sale())
    assert result.outcome is Outcome.UNKNOWN


async def raising(error: Callable[[], Exception]) -> object:
    raise error()


async def test_refusal_of_the_library_itself_is_not_sent() -> None:
    with pytest.raises(NotSentError, match="AuthenticationError"):
        await sdk.answer_to(lambda: raising(stripe.AuthenticationError))


async def test_library_that_asks_nothing_is_in_doubt() -> None:
    async def nothing() -> None:
        return None

    with pytest.raises(InDoubtError, match="asked nothing"):
        await sdk.answer_to(nothing)


def test_account_with_a_library_that_would_log_what_it_sends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk.LIBRARY_LOG, "STRIPE_LOG", "debug")
    with pytest.raises(MisconfiguredError, match="STRIPE_LOG"):
        StripeGateway(StripeAccount(api_key=SecretStr("sk_test_key")))


def test_account_without_the_library_is_refused_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gateway_adapters.http_transport import TransportLimits

    monkeypatch.setitem(__import__("sys").modules, "stripe", None)
    with pytest.raises(MisconfiguredError, match=r"pip install 'payment-engine-lite\[stripe\]'"):
        SPEC.factory(StripeAccount(api_key=SecretStr("sk_test_key")), TransportLimits())


@pytest.mark.parametrize(
    ("key", "live", "good"),
    [
        ("sk_test_1", False, True),
        ("sk_test_1", True, False),
        ("rk_live_1", True, True),
        ("rk_live_1", False, False),
        ("sk_1", True, True),
        ("sk_test_1", None, True),
    ],
)
async def test_event_of_the_other_mode_is_not_authentic(key: str, live: bool | None, good: bool) -> None:
    gateway = StripeGateway(StripeAccount(api_key=SecretStr(key), webhook_secret=SecretStr("whsec_1")))
    body = b"not JSON" if live is None else b'{"livemode": %s}' % str(live).lower().encode()
    headers = {HEADER: sign(body, secret="whsec_1", at_s=1_800_000_000)}

    async def verified() -> bool:
        try:
            await gateway.verify_webhook(headers, body, now_ms=1_800_000_000_000, certificates=NO_CERTIFICATES)
        except UnauthenticError:
            return False
        return True

    assert await verified() is good
