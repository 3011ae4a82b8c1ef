"""Every peer refuses its canary, a request that it must refuse, and accepts its good twin.

A peer that answers all with yes would make every test that runs on it green. So a run in which a canary lived, or did
not run where peers are required, has failed (`tests/conftest.py`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus

import psutil
import pytest

from tests.support.peers import (
    CANARY,
    STRIPE_KEY,
    Peer,
    Prism,
    adyen_prism_or_skip,
    localstripe_or_skip,
    paypal_prism_or_skip,
    stripe_mock_or_skip,
)
from tests.support.vendor_signatures import (
    AdyenDelivery,
    AdyenReceived,
    StripeDelivery,
    StripeReceived,
    adyen_accepts,
    adyen_signatures,
    stripe_accepts,
    stripe_headers,
)

Recorder = Callable[[str, object], None]

ADYEN_PAYMENT = {
    "amount": {"currency": "EUR", "value": 1000},
    "merchantAccount": "TestMerchant",
    "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415995487234100"},
    "reference": "op_1",
    "returnUrl": "https://merchant.example/back",
}
ADYEN_HEADERS = {"Content-Type": "application/json", "X-API-Key": "key"}
PAYPAL_ORDER = {
    "intent": "AUTHORIZE",
    "purchase_units": [{"amount": {"currency_code": "EUR", "value": "10.00"}, "custom_id": "op_1"}],
}
PAYPAL_HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer t", "PayPal-Request-Id": "r1"}
# Adyen's own example of a signed item, from its documentation.
ADYEN_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
ADYEN_SIGNATURE = "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="
ADYEN_ITEM = {
    "pspReference": "7914073381342284",
    "merchantReference": "TestPayment-1407325143704",
    "merchantAccountCode": "TestMerchant",
    "amount": {"currency": "EUR", "value": 1130},
    "eventCode": "AUTHORISATION",
    "success": "true",
}


def test_stripe_mock_refuses_a_broken_amount_and_another_version(record_property: Recorder) -> None:
    peer = stripe_mock_or_skip()
    assert peer.post_form("/v1/payment_intents", amount=1000, currency="eur").status == HTTPStatus.OK
    refused = peer.post_form("/v1/payment_intents", amount=10.5, currency="eur")
    assert refused.status == HTTPStatus.BAD_REQUEST
    assert "amount" in refused.body
    headers = {"Authorization": f"Bearer {STRIPE_KEY}", "Stripe-Version": "2020-08-27"}
    assert peer.ask("GET", "/v1/payment_intents/pi_1", headers).status == HTTPStatus.BAD_REQUEST
    record_property(CANARY, "stripe-mock")


def test_localstripe_refuses_a_payment_without_amount(record_property: Recorder) -> None:
    peer = localstripe_or_skip()
    assert peer.post_form("/v1/payment_intents", amount=1000, currency="eur").status == HTTPStatus.OK
    assert peer.post_form("/v1/payment_intents", currency="eur").status == HTTPStatus.BAD_REQUEST
    record_property(CANARY, "localstripe")


def judged(prism: Prism, path: str, headers: dict[str, str], body: Mapping[str, object]) -> list[str]:
    with prism.watching() as seen:
        prism.ask("POST", path, headers, json.dumps(body))
    assert seen.requests == [f"post {path}"]
    return seen.refusals


def test_prism_refuses_an_adyen_payment_without_amount(record_property: Recorder) -> None:
    prism = adyen_prism_or_skip()
    without = {name: value for name, value in ADYEN_PAYMENT.items() if name != "amount"}
    assert judged(prism, "/payments", ADYEN_HEADERS, ADYEN_PAYMENT) == []
    assert any("'amount'" in reason for reason in judged(prism, "/payments", ADYEN_HEADERS, without))
    record_property(CANARY, "adyen-prism")


def test_prism_refuses_a_paypal_order_of_an_unknown_intent(record_property: Recorder) -> None:
    prism = paypal_prism_or_skip()
    assert judged(prism, "/v2/checkout/orders", PAYPAL_HEADERS, PAYPAL_ORDER) == []
    refused = judged(prism, "/v2/checkout/orders", PAYPAL_HEADERS, {**PAYPAL_ORDER, "intent": "HOLD"})
    assert any("intent" in reason for reason in refused)
    record_property(CANARY, "paypal-prism")


def test_stripes_package_refuses_a_tampered_and_an_old_webhook(record_property: Recorder) -> None:
    (header,) = stripe_headers([StripeDelivery(payload='{"id":"evt_1"}', secret="whsec_1", timestamp=1_700_000_000)])
    good = StripeReceived(payload='{"id":"evt_1"}', secret="whsec_1", header=header, received_at=1_700_000_100)
    tampered, foreign = replace(good, payload='{"id":"evt_2"}'), replace(good, secret="whsec_2")
    old = replace(good, received_at=1_700_000_301)
    assert stripe_accepts([good, tampered, foreign, old]) == [True, False, False, False]
    record_property(CANARY, "stripe-npm")


def test_adyens_package_refuses_a_tampered_webhook(record_property: Recorder) -> None:
    assert adyen_signatures([AdyenDelivery(signed=ADYEN_ITEM, key=ADYEN_KEY)]) == [ADYEN_SIGNATURE]
    signed = {**ADYEN_ITEM, "additionalData": {"hmacSignature": ADYEN_SIGNATURE}}
    tampered = {**signed, "amount": {"currency": "EUR", "value": 1}}
    assert adyen_accepts([AdyenReceived(item=item, key=ADYEN_KEY) for item in (signed, tampered)]) == [True, False]
    record_property(CANARY, "adyen-npm")


def test_judging_fails_when_a_request_is_refused_unknown_or_missing() -> None:
    prism = adyen_prism_or_skip()
    with prism.judging():
        prism.ask("POST", "/payments", ADYEN_HEADERS, json.dumps(ADYEN_PAYMENT))
    with pytest.raises(AssertionError, match="amount"), prism.judging():
        prism.ask("POST", "/payments", ADYEN_HEADERS, json.dumps({**ADYEN_PAYMENT, "amount": 10}))
    with pytest.raises(AssertionError, match="NO_PATH_MATCHED"), prism.judging():
        prism.ask("POST", "/nowhere", ADYEN_HEADERS, "{}")
    with pytest.raises(AssertionError, match="no request came"), prism.judging():
        pass


@pytest.mark.parametrize(
    "started", [stripe_mock_or_skip, localstripe_or_skip, adyen_prism_or_skip, paypal_prism_or_skip]
)
def test_a_peer_listens_on_loopback_alone(started: Callable[[], Peer]) -> None:
    connections = psutil.Process(started().process.pid).net_connections(kind="inet")
    listening = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
