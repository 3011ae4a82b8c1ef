"""PayPal's adapter before Prism, which judges each request by PayPal's own documents, token and headers included.

The documents are repaired first, or Prism would judge no body and say nothing (`tests/peers/vendor_specs.mjs`). Prism
keeps nothing, and makes up answers that break PayPal's own patterns, so its answers prove nothing here. State and keys
are the simulator's, which is our own. A completion looks at its order first, so the simulator hears it, and Prism
judges afterwards what was heard.
"""

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from gateway_adapters.errors import UnauthenticError, UnverifiableError
from gateway_adapters.paypal import wire
from gateway_adapters.paypal.client import PayPalGateway
from gateway_adapters.paypal.spec import PayPalAccount
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from tests.simulators.paypal import CLIENT_ID, CLIENT_SECRET, PayPalSimulator
from tests.simulators.paypal_bank import APPROVES
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request
from tests.support.peers import Prism, paypal_prism_or_skip
from tests.support.webhook_certificates import authority, certificate_for

TOKEN_PATH = "post /v1/oauth2/token"
ORDERS = "post /v2/checkout/orders"
OF_THE_CONNECTION = {"host", "content-length"}
AUTHORIZATION = "0VF52814937998046"
CAPTURED = "2GG279541U471931P"
BACK = CallDetails(return_url="https://shop.example/back")
HOLD = payment_request(fresh_order(), token="8kk8451t")
SALE = payment_request(fresh_order(), CallKind.SALE, token="8kk8451t")
CAPTURE = follow_up(HOLD, CallKind.CAPTURE, reference=AUTHORIZATION, amount_minor=4_000)
VOID = follow_up(HOLD, CallKind.VOID, reference=AUTHORIZATION, amount_minor=10_000)
REFUND = follow_up(SALE, CallKind.REFUND, reference=CAPTURED, amount_minor=2_500, capture_reference=CAPTURED)
CAPTURES = f"post /v2/payments/authorizations/{AUTHORIZATION}/capture"

EACH = {
    "authorize": (HOLD, ORDERS),
    "sale": (SALE, ORDERS),
    "sale by a card in the vault": (replace(SALE, details=CallDetails(token_kind="card")), ORDERS),
    "sale without the payer": (
        replace(SALE, details=CallDetails(token_kind="card", merchant_initiated=True)),
        ORDERS,
    ),
    "sale that its payer is to approve": (replace(SALE, details=replace(BACK, token_kind="approval")), ORDERS),
    "sale with a word for the statement": (replace(SALE, details=replace(BACK, statement_descriptor="SHOP 1")), ORDERS),
    "sale in a currency without decimals": (replace(SALE, currency="JPY"), ORDERS),
    "capture of a part": (CAPTURE, CAPTURES),
    "final capture": (replace(CAPTURE, final=True), CAPTURES),
    "void": (VOID, f"post /v2/payments/authorizations/{AUTHORIZATION}/void"),
    "refund": (REFUND, f"post /v2/payments/captures/{CAPTURED}/refund"),
    "inquiry about a hold": (
        inquiry_about(HOLD, own_reference=AUTHORIZATION),
        f"get /v2/payments/authorizations/{AUTHORIZATION}",
    ),
    "inquiry about a sale": (inquiry_about(SALE, own_reference=CAPTURED), f"get /v2/payments/captures/{CAPTURED}"),
    "inquiry about a refund": (
        inquiry_about(REFUND, own_reference="1JU08902781691411"),
        "get /v2/payments/refunds/1JU08902781691411",
    ),
}


def gateway_at(url: str) -> PayPalGateway:
    return PayPalGateway(PayPalAccount(url=url, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET)))


async def send(prism: Prism, request: GatewayCallRequested) -> None:
    gateway = gateway_at(prism.url)
    try:
        await gateway.call(request)
    finally:
        await gateway.close()


@pytest.mark.parametrize(("request_", "path"), EACH.values(), ids=EACH)
async def test_request_fits_paypals_own_documents(request_: GatewayCallRequested, path: str) -> None:
    prism = paypal_prism_or_skip()
    with prism.watching() as seen:
        await send(prism, request_)
    assert seen.refusals == []
    assert seen.requests == [TOKEN_PATH, path]


@pytest.mark.parametrize(("opened", "step"), [(CallKind.AUTHORIZE, "authorize"), (CallKind.SALE, "capture")])
async def test_completion_fits_paypals_own_documents(opened: CallKind, step: str) -> None:
    prism, heard = paypal_prism_or_skip(), []

    def hear(method: str, target: str, headers: Mapping[str, str], body: bytes) -> list[str]:
        heard.append((method, target, headers, body.decode()))
        return []

    certificate = certificate_for("messageverificationcerts.paypal.com", under=authority("Root of the test"))
    simulator = PayPalSimulator(judge=hear, certificate=certificate, webhook_id="W", certificate_url="https://c.test")
    await simulator.start()
    gateway = gateway_at(simulator.url)
    try:
        request = payment_request(fresh_order(), opened, token=APPROVES)
        waiting = await gateway.call(replace(request, details=replace(BACK, token_kind="approval")))
        order = waiting.gateway_reference or waiting.payment_reference
        assert order is not None
        simulator.bank.approve(order, declined=False)
        completion = follow_up(request, CallKind.COMPLETE, reference=order, amount_minor=request.amount_minor)
        assert (await gateway.call(replace(completion, order_reference=order))).outcome is Outcome.SUCCEEDED
    finally:
        await gateway.close()
        await simulator.stop()
    with prism.watching() as seen:
        for method, target, headers, body in heard:
            prism.ask(method, target, {name: headers[name] for name in headers.keys() - OF_THE_CONNECTION}, body)
    assert seen.refusals == []
    path = f"/v2/checkout/orders/{order}"
    assert seen.requests == [TOKEN_PATH, ORDERS, f"get {path}", f"post {path}/{step}"]


async def test_question_about_a_webhook_fits_paypals_own_documents() -> None:
    prism, now = paypal_prism_or_skip(), datetime.now(UTC)
    account = PayPalAccount(
        url=prism.url,
        client_id=CLIENT_ID,
        client_secret=SecretStr(CLIENT_SECRET),
        webhook_secret=SecretStr("8PT597110X687430LKGECATA"),
        webhook_check="call",
    )
    headers = {
        "paypal-transmission-id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "paypal-transmission-time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "paypal-transmission-sig": base64.b64encode(b"signature" * 28).decode(),
        "paypal-cert-url": "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77",
        "paypal-auth-algo": "SHA256withRSA",
    }
    gateway = PayPalGateway(account)
    with prism.watching() as seen:
        try:
            with contextlib.suppress(UnauthenticError, UnverifiableError):  # what it says is made up
                await gateway.verify_webhook(
                    headers, b'{"id":"WH-1"}', now_ms=int(now.timestamp() * 1000), certificates=NO_CERTIFICATES
                )
        finally:
            await gateway.close()
    assert seen.refusals == []
    assert seen.requests == [TOKEN_PATH, f"post {wire.VERIFICATION_PATH}"]


async def test_intent_that_there_is_not_is_refused_by_paypals_own_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary, on the adapter's own way: a judge that let this pass would have judged nothing."""
    prism = paypal_prism_or_skip()
    good = wire.OrderRequest.encoded
    monkeypatch.setattr(wire.OrderRequest, "encoded", lambda order: good(order).replace(b"AUTHORIZE", b"HOLD"))
    with prism.watching() as seen:
        await send(prism, HOLD)
    assert any("intent" in reason for reason in seen.refusals)
