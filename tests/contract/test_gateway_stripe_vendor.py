"""Webhooks signed by Stripe's own npm package, and what its own check says of what the adapter takes."""

import json
import time

import pytest
from pydantic import SecretStr

from gateway_adapters.errors import UnauthenticError
from gateway_adapters.stripe.client import StripeGateway
from gateway_adapters.stripe.signature import HEADER, TOLERANCE_S, sign
from gateway_adapters.stripe.spec import StripeAccount
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.vendor_signatures import StripeDelivery, StripeReceived, stripe_accepts, stripe_headers

OLD, NEW = "whsec_of_yesterday", "whsec_of_today"
PAYLOAD = json.dumps({"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "note": "ü 🙂"})
AT_S = int(time.time())
GATEWAY = StripeGateway(StripeAccount(api_key=SecretStr("sk_test_1"), webhook_secret=SecretStr(f"{OLD},{NEW}")))


async def accepts(header: str, body: bytes, *, now_s: int = AT_S) -> bool:
    try:
        await GATEWAY.verify_webhook({HEADER: header}, body, now_ms=now_s * 1000, certificates=NO_CERTIFICATES)
    except UnauthenticError:
        return False
    return True


async def test_delivery_that_stripes_package_signed_is_authentic_and_no_altered_one_is() -> None:
    deliveries = [
        StripeDelivery(payload=PAYLOAD, secret=secret, timestamp=AT_S) for secret in (OLD, NEW, "whsec_other")
    ]
    old, new, other = stripe_headers(deliveries)
    body = PAYLOAD.encode()
    assert await accepts(old, body)
    assert await accepts(new, body)
    assert await accepts(f"{other},{new.partition(',')[2]}", body)
    assert not await accepts(other, body)
    for altered in (body.replace(b"evt_1", b"evt_2"), body[:-1], body + b"\n", b""):
        assert not await accepts(new, altered)
    for cut in (new[:-1], new.partition(",")[0], new.replace("v1=", "v0=")):
        assert not await accepts(cut, body)


@pytest.mark.parametrize(("away_s", "good"), [(0, True), (TOLERANCE_S, True), (TOLERANCE_S + 1, False)])
async def test_replayed_delivery_is_refused_once_it_is_old_and_one_from_the_future_as_well(
    away_s: int, good: bool
) -> None:
    (header,) = stripe_headers([StripeDelivery(payload=PAYLOAD, secret=NEW, timestamp=AT_S)])
    assert await accepts(header, PAYLOAD.encode(), now_s=AT_S + away_s) is good
    assert await accepts(header, PAYLOAD.encode(), now_s=AT_S - away_s) is good


def test_what_the_simulator_signs_stripes_package_accepts() -> None:
    headers = [sign(PAYLOAD.encode(), secret=secret, at_s=AT_S) for secret in (NEW, OLD)]
    received = [StripeReceived(payload=PAYLOAD, secret=NEW, header=each, received_at=AT_S) for each in headers]
    assert stripe_accepts(received) == [True, False]
