"""Adyen's adapter before Prism, which judges each request by Adyen's own document of Checkout v71.

Prism keeps nothing and says 'Authorised' to whatever fits, so its answers prove nothing here. What the document cannot
judge, as the length of a reference, a state or a key, is held by unit tests and by the simulator of our own.
"""

import json
from dataclasses import replace

import pytest
from pydantic import SecretStr

from gateway_adapters.adyen import wire
from gateway_adapters.adyen.client import AdyenGateway
from gateway_adapters.adyen.spec import AdyenAccount
from schemas.records.commands import BrowserFacts, NamedText, Payer
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind
from tests.support.gateway_requests import follow_up, fresh_order, payment_request
from tests.support.peers import Prism, adyen_prism_or_skip

REFERENCE = "8815991553460000"
PAYER = Payer(
    email="payer@shop.example",
    reference="shopper-17",
    ip="192.0.2.7",
    browser=BrowserFacts(
        accept_header="text/html",
        color_depth_bits=24,
        java_enabled=False,
        language="en-GB",
        screen_height_px=1080,
        screen_width_px=1920,
        time_zone_offset_min=-60,
        user_agent="Mozilla/5.0",
    ),
)
STORED = CallDetails(payer_reference="shopper-17")
EVERYTHING = CallDetails(
    payer=PAYER,
    payer_reference="shopper-17",
    return_url="https://shop.example/back?order=1",
    statement_descriptor="SHOP 1",
    metadata=(NamedText(name="cart", value="7"),),
)
ENCRYPTED = json.dumps(
    {
        "type": "scheme",
        "encryptedCardNumber": "adyenjs_0_1_25$number",
        "encryptedExpiryMonth": "adyenjs_0_1_25$month",
        "encryptedExpiryYear": "adyenjs_0_1_25$year",
        "encryptedSecurityCode": "adyenjs_0_1_25$code",
    }
)
HOLD = replace(payment_request(fresh_order(), token="8415995487234100"), details=STORED)
SALE = replace(payment_request(fresh_order(), CallKind.SALE, token="8415995487234100"), details=STORED)
CAPTURE = follow_up(HOLD, CallKind.CAPTURE, reference=REFERENCE, amount_minor=4_000)
COMPLETION = follow_up(HOLD, CallKind.COMPLETE, reference=REFERENCE, amount_minor=10_000)
CAME_BACK = CallDetails(return_parameters=(NamedText(name="redirectResult", value="X6XtfGC3!Y"),))

PAYMENTS = {
    "authorize": HOLD,
    "sale": SALE,
    "sale with all that can be said": replace(SALE, details=EVERYTHING),
    "sale without the payer": replace(SALE, details=replace(STORED, merchant_initiated=True)),
    "sale by what the payer's browser made": replace(
        SALE, token=ENCRYPTED, details=replace(EVERYTHING, token_kind="payment_method")
    ),
    "sale in a currency without decimals": replace(SALE, currency="JPY"),
}
MODIFICATIONS = {
    "capture of a part": (CAPTURE, "captures"),
    "final capture": (replace(CAPTURE, final=True), "captures"),
    "void": (follow_up(HOLD, CallKind.VOID, reference=REFERENCE, amount_minor=10_000), "cancels"),
    "refund": (follow_up(SALE, CallKind.REFUND, reference=REFERENCE, amount_minor=2_500), "refunds"),
}
EACH = {
    **{name: (request, "post /payments") for name, request in PAYMENTS.items()},
    **{name: (request, f"post /payments/{REFERENCE}/{path}") for name, (request, path) in MODIFICATIONS.items()},
    "void by our reference": (
        follow_up(HOLD, CallKind.VOID, reference=None, amount_minor=10_000),
        "post /cancels",
    ),
    "completion": (replace(COMPLETION, details=CAME_BACK), "post /payments/details"),
}


async def send(prism: Prism, request: GatewayCallRequested) -> None:
    account = AdyenAccount(
        api_key=SecretStr("key"),
        merchant_account="TestMerchant",
        return_url="https://shop.example/back",
        url=prism.url,
    )
    gateway = AdyenGateway(account)
    try:
        await gateway.call(request)
    finally:
        await gateway.close()


@pytest.mark.parametrize(("request_", "path"), EACH.values(), ids=EACH)
async def test_request_fits_adyens_own_document(request_: GatewayCallRequested, path: str) -> None:
    prism = adyen_prism_or_skip()
    with prism.watching() as seen:
        await send(prism, request_)
    assert seen.refusals == []
    assert seen.requests == [path]


async def test_amount_that_is_no_integer_is_refused_by_adyens_own_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary, on the adapter's own way: a judge that let this pass would have judged nothing."""
    prism = adyen_prism_or_skip()
    monkeypatch.setattr(wire.PaymentRequest, "encoded", lambda _: b'{"amount": {"currency": "EUR", "value": 10.5}}')
    with prism.watching() as seen:
        await send(prism, HOLD)
    assert any("amount" in reason for reason in seen.refusals)
