"""Each rule of a command's values is refused by name, and never with the value."""

import dataclasses
import json
import random
import string
from typing import Any

import pytest
from hypothesis import given

from schemas import identifiers
from schemas.commands_validation import (
    MAX_COMMAND_BYTES,
    MAX_TOKEN_VALUE_CHARS,
    MAX_TOKENS,
    CardDataError,
    InvalidCommandError,
    validate,
)
from schemas.identifiers import GatewayName, IdempotencyKey, OpId, OrderId, OriginId, payment_id, refund_id
from schemas.money import MAX_AMOUNT_MINOR
from schemas.records.commands import (
    BrowserFacts,
    CaptureRequested,
    Command,
    CompletionRequested,
    NamedText,
    Payer,
    PaymentRequested,
    PaymentToken,
    RefundRequested,
    VoidRequested,
)
from tests.support.record_strategies import commands

ORDER = OrderId("order-1")
PAYMENT = PaymentRequested(
    origin_id=OriginId("originA"),
    order_id=ORDER,
    idempotency_key=IdempotencyKey("idem-1"),
    amount_minor=1999,
    currency="USD",
    token="tok_123",
    capture=True,
)
_IDENTITY: dict[str, Any] = {
    "origin_id": OriginId("originA"),
    "order_id": ORDER,
    "idempotency_key": IdempotencyKey("idem-2"),
    "payment_id": payment_id(ORDER, OpId("op_1")),
}
CAPTURE = CaptureRequested(**_IDENTITY, amount_minor=None, currency=None, final=True)
REFUND = RefundRequested(**_IDENTITY, amount_minor=5, currency="USD")
VOID = VoidRequested(**_IDENTITY)


@given(command=commands())
def test_command_is_taken_when_it_keeps_the_rules(command: Command) -> None:
    validate(command)


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (PAYMENT, {"amount_minor": 0}),
        (PAYMENT, {"amount_minor": -1}),
        (PAYMENT, {"amount_minor": MAX_AMOUNT_MINOR + 1}),
        (PAYMENT, {"currency": "XXX"}),
        (PAYMENT, {"currency": "usd"}),
        (PAYMENT, {"token": ""}),
        (PAYMENT, {"token": "a b"}),
        (PAYMENT, {"token": "x" * (identifiers.MAX_TOKEN_CHARS + 1)}),
        (PAYMENT, {"token": "4111-1111-1111-1111"}),
        (PAYMENT, {"origin_id": "4111111111111111"}),
        (PAYMENT, {"order_id": "order-4111111111111111"}),
        (VOID, {"idempotency_key": "4111.1111.1111.1111"}),
        (PAYMENT, {"token": "NDExMTExMTExMTExMTExMQ"}),
        (PAYMENT, {"order_id": "4111a1111b1111c1111"}),
        (CAPTURE, {"idempotency_key": "34313131313131313131313131313131"}),
        (PAYMENT, {"origin_id": ""}),
        (PAYMENT, {"origin_id": "a|b"}),
        (PAYMENT, {"order_id": "é"}),
        (PAYMENT, {"order_id": "x" * (identifiers.MAX_ORDER_ID_CHARS + 1)}),
        (PAYMENT, {"idempotency_key": "a\nb"}),
        (CAPTURE, {"amount_minor": 0}),
        (CAPTURE, {"currency": "XAU"}),
        (CAPTURE, {"payment_id": "pay_nonsense"}),
        (CAPTURE, {"payment_id": payment_id(OrderId("order-2"), OpId("op_1"))}),
        (CAPTURE, {"payment_id": refund_id(ORDER, OpId("op_1"))}),
        (REFUND, {"amount_minor": MAX_AMOUNT_MINOR + 1}),
        (REFUND, {"payment_id": ""}),
        (VOID, {"payment_id": payment_id(OrderId("order-2"), OpId("op_1"))}),
        (VOID, {"idempotency_key": ""}),
    ],
)
def test_command_is_refused_by_the_name_of_its_field(command: Command, changed: dict[str, Any]) -> None:
    ((field, value),) = changed.items()
    with pytest.raises(InvalidCommandError) as caught:
        validate(dataclasses.replace(command, **changed))
    assert caught.value.field == field
    assert not str(value) or str(value) not in caught.value.message or isinstance(value, int)


def test_card_data_is_told_apart_from_other_faults() -> None:
    split = dataclasses.replace(PAYMENT, order_id=OrderId("11111111"), token="41111111")
    for command in (split, dataclasses.replace(PAYMENT, token="4111(1111)1111(1111)")):
        with pytest.raises(CardDataError) as caught:
            validate(command)
        assert caught.value.field == "token"


def test_payment_that_exists_stays_within_reach_when_its_order_only_hides_a_number() -> None:
    order = OrderId("4111a1111b1111c1111")  # let in before disguises were looked for
    validate(dataclasses.replace(VOID, order_id=order, payment_id=payment_id(order, OpId("op_1"))))


TOKEN = PaymentToken(gateway=GatewayName("mock"), kind="stored", value="tok_1", payer_reference="shopper-1")
TOKENS = dataclasses.replace(PAYMENT, token=None, tokens=(TOKEN,))
CARD = "4111 1111 1111 1111"
HIDDEN_CARD = "NDExMTExMTExMTExMTExMQ"
USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.6 Mobile/15E148 Safari/604.1"
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; SM-G991B Build/UP1A.231005.007) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.7444.102 Mobile Safari/537.36"
    ),
)


def with_token(**changed: Any) -> PaymentRequested:
    return dataclasses.replace(TOKENS, tokens=(dataclasses.replace(TOKEN, **changed),))


def with_payer(**said: Any) -> PaymentRequested:
    return dataclasses.replace(PAYMENT, payer=Payer(**said))


def with_browser(**said: Any) -> PaymentRequested:
    return with_payer(browser=BrowserFacts(**said))


def with_metadata(*entries: tuple[str, str]) -> PaymentRequested:
    return dataclasses.replace(PAYMENT, metadata=tuple(NamedText(name=name, value=value) for name, value in entries))


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (dataclasses.replace(PAYMENT, token=None), "token"),
        (dataclasses.replace(PAYMENT, tokens=(TOKEN,)), "token"),
        (dataclasses.replace(TOKENS, tokens=(TOKEN, dataclasses.replace(TOKEN, value="tok_2"))), "tokens"),
        (
            dataclasses.replace(
                TOKENS,
                tokens=tuple(
                    dataclasses.replace(TOKEN, gateway=GatewayName(f"g{number}")) for number in range(MAX_TOKENS + 1)
                ),
            ),
            "tokens",
        ),
        (with_token(gateway=""), "tokens.0.gateway"),
        (with_token(kind="two words"), "tokens.0.kind"),
        (with_token(value=""), "tokens.0.value"),
        (with_token(value="x" * (MAX_TOKEN_VALUE_CHARS + 1)), "tokens.0.value"),
        (with_token(payer_reference="x" * 257), "tokens.0.payer_reference"),
        (with_payer(email="anna"), "payer.email"),
        (with_payer(email="a@" + "x" * 253), "payer.email"),
        (with_payer(reference="c 17"), "payer.reference"),
        (with_payer(ip="203.0.113.256"), "payer.ip"),
        (with_browser(user_agent="x" * 2_049), "payer.browser.user_agent"),
        (with_browser(language=""), "payer.browser.language"),
        (with_browser(accept_header="text/html\n"), "payer.browser.accept_header"),
        (with_browser(color_depth_bits=0), "payer.browser.color_depth_bits"),
        (with_browser(screen_width_px=1_000_000), "payer.browser.screen_width_px"),
        (with_browser(time_zone_offset_min=841), "payer.browser.time_zone_offset_min"),
        (dataclasses.replace(PAYMENT, return_url="/back"), "return_url"),
        (dataclasses.replace(PAYMENT, return_url="javascript:alert(1)"), "return_url"),
        (dataclasses.replace(PAYMENT, return_url="https://shop.example/" + "x" * 2_048), "return_url"),
        (dataclasses.replace(PAYMENT, statement_descriptor="x" * 23), "statement_descriptor"),
        (dataclasses.replace(PAYMENT, statement_descriptor="4711"), "statement_descriptor"),
        (dataclasses.replace(PAYMENT, statement_descriptor="SHOP*17"), "statement_descriptor"),
        (dataclasses.replace(PAYMENT, statement_descriptor="Käse"), "statement_descriptor"),
        (with_metadata(*((f"n{number}", "") for number in range(21))), "metadata"),
        (with_metadata(("x" * 41, "")), "metadata"),
        (with_metadata(("cart", "x" * 201)), "metadata"),
        (with_metadata(("cart", "1"), ("cart", "2")), "metadata"),
        (with_metadata(("", "1")), "metadata"),
        (with_metadata(("cart", "a\nb")), "metadata"),
    ],
)
def test_payment_is_refused_by_the_path_of_what_it_says_beside_its_amount(command: Command, field: str) -> None:
    with pytest.raises(InvalidCommandError) as caught:
        validate(command)
    assert (caught.value.field, isinstance(caught.value, CardDataError)) == (field, False)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (with_token(value=HIDDEN_CARD), "tokens.0.value"),
        (dataclasses.replace(with_token(value="41111111"), order_id=OrderId("11111111")), "tokens.0.value"),
        (with_token(payer_reference="4111111111111111"), "tokens.0.payer_reference"),
        (with_token(kind="4111111111111111"), "tokens.0.kind"),
        (with_token(gateway="4111111111111111"), "tokens.0.gateway"),
        (with_payer(email="4111111111111111@example.com"), "payer.email"),
        (with_payer(reference=HIDDEN_CARD), "payer.reference"),
        (with_payer(ip="4111:1111:1111:1111::"), "payer.ip"),
        (with_browser(user_agent=CARD), "payer.browser.user_agent"),
        (with_browser(accept_header=CARD), "payer.browser.accept_header"),
        (with_browser(language=CARD), "payer.browser.language"),
        (dataclasses.replace(PAYMENT, return_url="https://shop.example/?c=4111111111111111"), "return_url"),
        (dataclasses.replace(PAYMENT, statement_descriptor="A4111111111111111"), "statement_descriptor"),
        (with_metadata(("cart", CARD)), "metadata"),
        (with_metadata(("4111111111111111", "17")), "metadata"),
        (with_metadata(("cvv", "123")), "metadata"),
    ],
)
def test_card_data_is_found_wherever_a_payment_may_say_something(command: Command, field: str) -> None:
    with pytest.raises(CardDataError) as caught:
        validate(command)
    assert caught.value.field == field


def test_payment_is_refused_when_all_its_texts_together_are_too_long() -> None:
    tokens = tuple(
        dataclasses.replace(TOKEN, gateway=GatewayName(gateway), value="x" * (MAX_COMMAND_BYTES // 2))
        for gateway in ("mock", "other")
    )
    validate(dataclasses.replace(TOKENS, tokens=tokens[:1]))
    with pytest.raises(InvalidCommandError) as caught:
        validate(dataclasses.replace(TOKENS, tokens=tokens))
    assert caught.value.field == "tokens"


@pytest.mark.parametrize("user_agent", USER_AGENTS)
def test_payment_is_taken_with_all_that_it_may_say(user_agent: str) -> None:
    browser = BrowserFacts(
        accept_header="text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        color_depth_bits=24,
        java_enabled=False,
        language="de-AT",
        screen_height_px=1_080,
        screen_width_px=1_920,
        time_zone_offset_min=-60,
        user_agent=user_agent,
    )
    validate(
        dataclasses.replace(
            TOKENS,
            payer=Payer(email="anna@example.com", reference="c-17", ip="2001:db8::1", browser=browser),
            return_url="shop-app://back",
            statement_descriptor="SHOP 17",
            metadata=(NamedText(name="cart", value=""), NamedText(name="note", value="für Anna")),
            merchant_initiated=True,
            allow_partial=True,
        )
    )


def test_encrypted_card_fields_of_the_largest_size_are_taken() -> None:
    chance = random.Random(17)
    letters = string.ascii_letters + string.digits + "+/"
    fields = {
        name: "".join(chance.choices(letters, k=15_000))
        for name in ("encryptedCardNumber", "encryptedExpiryMonth", "encryptedExpiryYear", "encryptedSecurityCode")
    }
    validate(with_token(kind="encrypted", value=json.dumps(fields, separators=(",", ":"))))


COMPLETION = CompletionRequested(
    **_IDENTITY, parameters=(NamedText(name="redirectResult", value="Ab+/" * 4_000), NamedText(name="MD", value=""))
)


def test_completion_is_taken_with_what_the_payer_came_back_with_or_without() -> None:
    validate(COMPLETION)
    validate(dataclasses.replace(COMPLETION, parameters=()))


@pytest.mark.parametrize(
    ("changed", "field", "card_data"),
    [
        ({"payment_id": payment_id(OrderId("order-2"), OpId("op_1"))}, "payment_id", False),
        ({"parameters": tuple(NamedText(name=f"n{n}", value="") for n in range(21))}, "parameters", False),
        ({"parameters": (NamedText(name="x" * 65, value=""),)}, "parameters", False),
        ({"parameters": (NamedText(name="x", value="x" * 32_001),)}, "parameters", False),
        ({"parameters": (NamedText(name="x", value="1"), NamedText(name="x", value="2"))}, "parameters", False),
        ({"parameters": tuple(NamedText(name=f"n{n}", value="x" * 32_000) for n in range(4))}, "parameters", False),
        ({"parameters": (NamedText(name="x", value=CARD),)}, "parameters", True),
        ({"parameters": (NamedText(name="cvc", value="123"),)}, "parameters", True),
    ],
)
def test_completion_is_refused_by_the_name_of_its_field(
    changed: dict[str, Any], field: str, *, card_data: bool
) -> None:
    with pytest.raises(InvalidCommandError) as caught:
        validate(dataclasses.replace(COMPLETION, **changed))
    assert (caught.value.field, isinstance(caught.value, CardDataError)) == (field, card_data)
