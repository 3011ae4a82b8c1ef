"""Our own judge by a vendor's document, which the simulators stand behind, is no kinder than Prism, and no harsher.

The same requests go to both, good ones and ones that are spoilt in one place each.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.peers import ADYEN_DOCUMENT, PAYPAL_DOCUMENT
from tests.support.openapi_judge import judge_of
from tests.support.peers import Prism, adyen_prism_or_skip, paypal_prism_or_skip

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    method: str = "POST"
    target: str
    headers: Mapping[str, str]
    body: str = ""

    def without(self, *headers: str) -> "Sent":
        return replace(self, headers={name: self.headers[name] for name in self.headers if name not in headers})

    def with_body(self, body: object) -> "Sent":
        return replace(self, body=json.dumps(body))


KEY = {**JSON, "X-API-Key": "key", "Idempotency-Key": "k-1"}
AMOUNT = {"currency": "EUR", "value": 1000}
PAID: dict[str, object] = {
    "amount": AMOUNT,
    "merchantAccount": "M",
    "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415"},
    "reference": "r",
    "returnUrl": "https://shop.example/back",
}
PAYMENT = Sent(target="/payments", headers=KEY, body=json.dumps(PAID))
CAPTURE = Sent(target="/payments/P1/captures", headers=KEY, body=json.dumps({"amount": AMOUNT, "merchantAccount": "M"}))
ADYEN = {
    "payment": PAYMENT,
    "payment with an unknown member": PAYMENT.with_body({**PAID, "surprise": 1}),
    "payment without amount": PAYMENT.with_body({name: PAID[name] for name in PAID if name != "amount"}),
    "payment of a text": PAYMENT.with_body({**PAID, "amount": {"currency": "EUR", "value": "1000"}}),
    "payment of a fraction": PAYMENT.with_body({**PAID, "amount": {"currency": "EUR", "value": 10.5}}),
    "payment in a long currency": PAYMENT.with_body({**PAID, "amount": {"currency": "EURO", "value": 1}}),
    "payment of a short shopper": PAYMENT.with_body({**PAID, "shopperReference": "ab"}),
    "payment by an unknown interaction": PAYMENT.with_body({**PAID, "shopperInteraction": "Telepathy"}),
    "payment that is a list": PAYMENT.with_body([]),
    "payment of nobody": PAYMENT.without("X-API-Key"),
    "payment without a body": replace(PAYMENT, body=""),
    "capture": CAPTURE,
    "capture without account": CAPTURE.with_body({"amount": AMOUNT}),
    "another path": replace(PAYMENT, target="/nowhere"),
}

TOKEN = {**JSON, "Authorization": "Bearer t", "PayPal-Request-Id": "r-1"}
UNIT = {"amount": {"currency_code": "EUR", "value": "10.00"}, "custom_id": "op_1"}
ORDERED: dict[str, object] = {"intent": "CAPTURE", "purchase_units": [UNIT]}
ORDER = Sent(target="/v2/checkout/orders", headers=TOKEN, body=json.dumps(ORDERED))
VOID = Sent(target="/v2/payments/authorizations/A1/void", headers=TOKEN)
LOGIN = Sent(
    target="/v1/oauth2/token",
    headers={"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic eDp5"},
    body="grant_type=client_credentials",
)
PAYPAL = {
    "order": ORDER,
    "order of an unknown intent": ORDER.with_body({**ORDERED, "intent": "HOLD"}),
    "order without units": ORDER.with_body({"intent": "CAPTURE"}),
    "order with no unit": ORDER.with_body({**ORDERED, "purchase_units": []}),
    "order of a number": ORDER.with_body(
        {**ORDERED, "purchase_units": [{"amount": {"currency_code": "EUR", "value": 10}}]}
    ),
    "order of no decimal": ORDER.with_body(
        {**ORDERED, "purchase_units": [{"amount": {"currency_code": "EUR", "value": "ten"}}]}
    ),
    "order with a long id": ORDER.with_body({**ORDERED, "purchase_units": [{**UNIT, "custom_id": "x" * 300}]}),
    "order that wants all told": replace(ORDER, headers={**TOKEN, "Prefer": "return=representation"}),
    "order with a long request id": replace(ORDER, headers={**TOKEN, "PayPal-Request-Id": "x" * 200}),
    "order without a token": ORDER.without("Authorization"),
    "order by name and password": replace(ORDER, headers={**TOKEN, "Authorization": "Basic eDp5"}),
    "void": VOID,
    "void that wants all told": replace(VOID, headers={**TOKEN, "Prefer": "return=representation"}),
    "void without a type": VOID.without("Content-Type"),
    "look": Sent(method="GET", target="/v2/payments/captures/C1", headers={"Authorization": "Bearer t"}),
    "look without a token": Sent(method="GET", target="/v2/payments/captures/C1", headers={}),
    "login": LOGIN,
    "login by password": replace(LOGIN, body="grant_type=password"),
    "another method": replace(VOID, method="PUT"),
}
EACH = [
    *(pytest.param(adyen_prism_or_skip, ADYEN_DOCUMENT, sent, id=f"adyen: {name}") for name, sent in ADYEN.items()),
    *(pytest.param(paypal_prism_or_skip, PAYPAL_DOCUMENT, sent, id=f"paypal: {name}") for name, sent in PAYPAL.items()),
]


@pytest.mark.parametrize(("prism_or_skip", "document", "sent"), EACH)
def test_our_judge_and_prism_agree(prism_or_skip: Callable[[], Prism], document: Path, sent: Sent) -> None:
    prism = prism_or_skip()
    with prism.watching() as seen:
        prism.ask(sent.method, sent.target, sent.headers, sent.body)
    ours = judge_of(document).refusals(sent.method, sent.target, sent.headers, sent.body.encode())
    assert bool(ours) == bool(seen.refusals), (ours, seen.refusals)
