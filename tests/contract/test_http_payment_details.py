"""What a payment may say beside its amount, from the body to the command on the log."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.records.commands import BrowserFacts, NamedText, Payer, PaymentRequested, PaymentToken
from tests.support.ingress_under_test import Running, running_ingress

PROBLEM = "application/problem+json"
BROWSER: dict[str, Any] = {
    "acceptHeader": "text/html",
    "colorDepth": 24,
    "javaEnabled": False,
    "language": "de-AT",
    "screenHeight": 1080,
    "screenWidth": 1920,
    "timeZoneOffset": -60,
    "userAgent": "Mozilla/5.0",
}
FULL: dict[str, Any] = {
    "amount": 1999,
    "currency": "USD",
    "orderId": "order-1",
    "capture": False,
    "tokens": [
        {"gateway": "mock", "kind": "stored", "value": "tok_1", "payerReference": "shopper-1"},
        {"gateway": "other/eu", "kind": "vault", "value": "v-7"},
    ],
    "allowPartial": True,
    "merchantInitiated": True,
    "returnUrl": "https://shop.example/back",
    "payer": {
        "email": "anna@example.com",
        "reference": "c-17",
        "ip": "203.0.113.9",
        "browser": BROWSER,
        "country": "DE",
    },
    "statementDescriptor": "SHOP 17",
    "metadata": {"cart": "17", "note": "für Anna"},
}


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_ingress() as started:
        yield started


async def pay(running: Running, body: dict[str, Any], *, key: str = "idem-1") -> tuple[int, dict[str, Any]]:
    sent = {"Idempotency-Key": key, "X-Origin-Id": "originA"}
    async with running.http.post("/payments", json=body, headers=sent) as response:
        return response.status, await response.json(content_type=None)


def changed(path: str, value: object) -> dict[str, Any]:
    """The full body with the member at this path changed."""
    body = copy.deepcopy(FULL)
    *parents, last = path.split("/")
    at: Any = body
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    at[last] = value
    return body


async def test_payment_becomes_a_command_with_all_that_its_body_says(running: Running) -> None:
    status, _ = await pay(running, FULL)
    assert status == 201
    ((command, _),) = running.engine.appended
    assert isinstance(command, PaymentRequested)
    assert (command.token, command.capture) == (None, False)
    assert command.tokens == (
        PaymentToken(gateway="mock", kind="stored", value="tok_1", payer_reference="shopper-1"),  # type: ignore[arg-type]
        PaymentToken(gateway="other/eu", kind="vault", value="v-7"),  # type: ignore[arg-type]
    )
    assert command.payer == Payer(
        email="anna@example.com",
        reference="c-17",
        ip="203.0.113.9",
        country="DE",
        browser=BrowserFacts(
            accept_header="text/html",
            color_depth_bits=24,
            java_enabled=False,
            language="de-AT",
            screen_height_px=1080,
            screen_width_px=1920,
            time_zone_offset_min=-60,
            user_agent="Mozilla/5.0",
        ),
    )
    assert (command.allow_partial, command.merchant_initiated) == (True, True)
    assert (command.return_url, command.statement_descriptor) == ("https://shop.example/back", "SHOP 17")
    assert command.metadata == (NamedText(name="cart", value="17"), NamedText(name="note", value="für Anna"))


async def test_answer_tells_nothing_of_the_payer(running: Running) -> None:
    _, answer = await pay(running, FULL)
    assert "anna" not in str(answer)
    assert "203.0.113.9" not in str(answer)


async def test_retry_is_the_same_payment_when_address_and_browser_differ_and_the_map_is_turned(
    running: Running,
) -> None:
    status, first = await pay(running, FULL)
    again = changed("payer/ip", "2001:db8::1")
    again["payer"]["browser"] = {"userAgent": "Firefox"}
    again["metadata"] = dict(reversed(again["metadata"].items()))
    again["tokens"] = again["tokens"][::-1]
    assert await pay(running, again) == (status, first)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("payer/email", "berta@example.com"),
        ("payer/country", "AT"),
        ("metadata/cart", "18"),
        ("tokens/0/value", "tok_2"),
        ("returnUrl", "https://shop.example/other"),
        ("allowPartial", False),
        ("merchantInitiated", False),
        ("statementDescriptor", "SHOP 18"),
    ],
)
async def test_key_is_reused_when_anything_else_differs(running: Running, path: str, value: object) -> None:
    await pay(running, FULL)
    status, problem = await pay(running, changed(path, value))
    assert (status, problem["code"]) == (409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("token", "tok_1", "#/token"),
        ("tokens", [], "#/tokens"),
        ("tokens", None, "#/token"),
        ("tokens/0/value", "a b", "#/tokens/0/value"),
        ("tokens/0/kind", 7, "#/tokens/0/kind"),
        ("tokens/1/gateway", "mock", "#/tokens"),
        ("tokens/1/secret", "x", "#/tokens/1/secret"),
        ("payer/email", "anna", "#/payer/email"),
        ("payer/ip", "nowhere", "#/payer/ip"),
        ("payer/name", "Anna", "#/payer/name"),
        ("payer/country", "de", "#/payer/country"),
        ("payer/country", "DEU", "#/payer/country"),
        ("payer/browser/colorDepth", 99, "#/payer/browser/colorDepth"),
        ("payer/browser/userAgent", "a\tb", "#/payer/browser/userAgent"),
        ("returnUrl", "/back", "#/returnUrl"),
        ("statementDescriptor", "17", "#/statementDescriptor"),
        ("metadata", {f"n{number}": "" for number in range(21)}, "#/metadata"),
        ("metadata/cart", 17, "#/metadata/cart"),
        ("allowPartial", "yes", "#/allowPartial"),
    ],
)
async def test_body_is_refused_with_a_pointer_to_its_fault(
    running: Running, path: str, value: object, pointer: str
) -> None:
    status, problem = await pay(running, changed(path, value))
    assert (status, problem["code"]) == (400, "invalid_body")
    assert pointer in [fault["pointer"] for fault in problem["errors"]]
    assert not running.engine.appended


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tokens/0/value", "4111111111111111"),
        ("tokens/0/value", "NDExMTExMTExMTExMTExMQ"),
        ("tokens/0/payerReference", "4111-1111-1111-1111"),
        ("payer/email", "4111111111111111@example.com"),
        ("payer/reference", "NDExMTExMTExMTExMTExMQ"),
        ("payer/ip", "4111:1111:1111:1111::"),
        ("payer/browser/userAgent", "4111a1111b1111c1111"),
        ("returnUrl", "https://shop.example/%34111111111111111"),
        ("statementDescriptor", "A 4111111111111111"),
        ("metadata/note", "4111 1111 1111 1111"),
        ("metadata/cvv", "123"),
        ("metadata/4111111111111111", "x"),
    ],
)
async def test_card_data_is_refused_wherever_it_stands_and_never_told(
    running: Running, path: str, value: object
) -> None:
    status, problem = await pay(running, changed(path, value))
    assert (status, problem["code"]) == (422, "card_number")
    assert "4111" not in str(problem)
    assert not running.engine.appended


async def test_encrypted_card_fields_of_the_largest_size_are_taken(running: Running) -> None:
    status, _ = await pay(running, changed("tokens/0/value", "adyenjs_" + "Ab+/" * 15_000))
    assert status == 201
