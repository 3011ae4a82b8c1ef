"""Webhooks signed by Adyen's own npm package, and what its own check says of what our simulator signs."""

from typing import Any

import pytest
from pydantic import SecretStr

from gateway_adapters.adyen.client import AdyenGateway
from gateway_adapters.adyen.signature import HEADER, ITEM_MEMBER
from gateway_adapters.adyen.spec import AdyenAccount
from gateway_adapters.errors import UnauthenticError
from tests.simulators.adyen_post import body_of, signed
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.vendor_signatures import AdyenDelivery, AdyenReceived, adyen_accepts, adyen_signatures

OLD, NEW, OTHER = "5A" * 32, "6B" * 32, "7C" * 32
GATEWAY = AdyenGateway(
    AdyenAccount(
        api_key=SecretStr("AQE"),
        merchant_account="ShopCOM",
        return_url="https://shop.example/back",
        webhook_secret=SecretStr(f"{OLD},{NEW}"),
    )
)
ITEM: dict[str, Any] = {
    "pspReference": "QFQTPCQ8HXSKGK82",
    "originalReference": "9913140798220028",
    "merchantAccountCode": "ShopCOM",
    "merchantReference": "op_1.capture",
    "amount": {"currency": "EUR", "value": 1_000},
    "eventCode": "CAPTURE",
    "eventDate": "2026-12-01T10:00:00+01:00",
    "success": "true",
    "reason": "",
}
ITEMS = [
    ITEM,
    {name: value for name, value in ITEM.items() if name != "originalReference"},
    {**ITEM, "merchantReference": "ü 🙂 \\slashes: /and\\ colons:"},
    {**ITEM, "amount": {"currency": "ISK", "value": 0}, "success": "false"},
]


async def accepts(body: bytes, **headers: str) -> bool:
    try:
        await GATEWAY.verify_webhook(headers, body, now_ms=0, certificates=NO_CERTIFICATES)
    except UnauthenticError:
        return False
    return True


def with_mac(item: dict[str, Any], mac: str) -> dict[str, Any]:
    return {**item, "additionalData": {ITEM_MEMBER: mac}}


async def test_items_that_adyens_package_signed_are_authentic_and_no_altered_one_is() -> None:
    keys = (OLD, NEW, OTHER)
    macs = adyen_signatures([AdyenDelivery(signed=item, key=key) for item in ITEMS for key in keys])
    for number, item in enumerate(ITEMS):
        old, new, other = macs[number * len(keys) :][: len(keys)]
        assert await accepts(body_of([with_mac(item, old), with_mac(item, new)]))
        assert not await accepts(body_of([with_mac(item, old), with_mac(item, other)]))
        for altered in (
            {**item, "pspReference": "QFQTPCQ8HXSKGK83"},
            {**item, "amount": {**item["amount"], "value": 1_001}},
            {**item, "success": "true" if item["success"] == "false" else "false"},
        ):
            assert not await accepts(body_of([with_mac(altered, new)]))
        for cut in (new[:-1], new[1:], f"{new}=", ""):
            assert not await accepts(body_of([with_mac(item, cut)]))


async def test_body_that_adyens_package_signed_as_a_whole_is_authentic_and_no_altered_one_is() -> None:
    payload = '{"type":"merchant.updated","note":"ü 🙂"}'
    new, other = adyen_signatures([AdyenDelivery(signed=payload, key=key) for key in (NEW, OTHER)])
    body = payload.encode()
    assert await accepts(body, **{HEADER: new})
    assert not await accepts(body, **{HEADER: other})
    for altered in (body[:-1], body + b"\n", body.replace(b"updated", b"deleted"), b""):
        assert not await accepts(altered, **{HEADER: new})
    assert not await accepts(body)


def test_what_the_simulator_signs_adyens_package_accepts() -> None:
    received = [AdyenReceived(item=signed(item, secret=key), key=NEW) for item in ITEMS for key in (NEW, OTHER)]
    assert adyen_accepts(received) == [True, False] * len(ITEMS)


@pytest.mark.parametrize("later_s", [0, 30 * 24 * 3_600])
async def test_item_is_authentic_whenever_it_comes_since_adyen_signs_no_time(later_s: int) -> None:
    body = body_of([signed(ITEM, secret=NEW)])
    await GATEWAY.verify_webhook({}, body, now_ms=later_s * 1_000, certificates=NO_CERTIFICATES)
