"""What an account at Adyen is set up with, and the data files of its amounts and declines."""

from collections.abc import Mapping

import pytest
from pydantic import SecretStr, ValidationError

from gateway_adapters.adyen.amounts import EXPONENTS, InexactAmountError, from_adyen, to_adyen
from gateway_adapters.adyen.references import named_by, reference_of
from gateway_adapters.adyen.spec import CAPABILITIES, SPEC, AdyenAccount
from gateway_adapters.adyen.translate import DECLINES
from gateway_adapters.adyen.wire import MAX_KEY_CHARS, MAX_REFERENCE_CHARS
from schemas.identifiers import OpId, gateway_key
from schemas.money import exponent_of, exponents
from schemas.vocabulary import CallKind

KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
NEEDED: Mapping[str, object] = {
    "api_key": SecretStr("AQE…"),
    "merchant_account": "ShopCOM",
    "return_url": "https://shop.example/back",
}


def account(**fields: object) -> AdyenAccount:
    return AdyenAccount.model_validate({**NEEDED, **fields})


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://checkout-test.adyen.com/v71"),
        (
            {"live_prefix": "1797a841fbb37ca7-ShopCOM"},
            "https://1797a841fbb37ca7-ShopCOM-checkout-live.adyenpayments.com/checkout/v71",
        ),
        ({"url": "http://127.0.0.1:4010/behind/a/path/"}, "http://127.0.0.1:4010/behind/a/path"),
    ],
)
def test_address_is_the_test_systems_or_the_companys_live_one_or_the_one_that_is_set(
    fields: dict[str, object], url: str
) -> None:
    assert account(**fields).base_url() == url


def test_account_is_live_by_its_prefix_and_its_own_url_does_not_tell() -> None:
    assert [account(**fields).is_live() for fields in ({}, {"live_prefix": "a"}, {"url": "https://proxy.example"})] == [
        False,
        True,
        None,
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"live_prefix": "a", "url": "https://proxy.example"}, "beside the live prefix"),
        ({"live_prefix": "https://x.example/"}, "prefix alone"),
        ({"webhook_secret": SecretStr("not hexadecimal")}, "no spaces"),
        ({"webhook_secret": SecretStr("whsec")}, "hexadecimal"),
        ({"webhook_secret": SecretStr(f"{KEY},{KEY[:-1]}")}, "hexadecimal"),
        ({"webhook_secret": SecretStr("ab")}, "hexadecimal"),
        ({"merchant_account": "Shop:COM"}, "merchant account"),
        ({"merchant_account": ""}, "merchant account"),
        ({"return_url": "shop.example"}, "http"),
        ({"notices_name_orders": True}, "name no order"),
    ],
)
def test_setting_that_cannot_work_is_refused_with_the_reason(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as refused:
        account(**fields)
    assert KEY not in str(refused.value)


def test_several_keys_are_good_at_once() -> None:
    assert account(webhook_secret=SecretStr(f"{KEY},{KEY.lower()}")).webhook_secrets() == (KEY, KEY.lower())


def test_account_captures_once_unless_adyen_has_enabled_more() -> None:
    assert not account().narrowed(CAPABILITIES).multiple_capture
    assert account(multiple_captures=True).narrowed(CAPABILITIES).multiple_capture
    assert not account(multiple_captures=True, lacks="multiple_capture").narrowed(CAPABILITIES).multiple_capture


def test_nobody_can_be_asked_and_a_key_is_honoured_for_a_week() -> None:
    can = account().narrowed(SPEC.capabilities)
    assert not can.can_be_asked("EUR", reference_known=True)
    assert set(can.key_window_ms) == set(CallKind) - {CallKind.INQUIRE}
    assert set(can.key_window_ms.values()) == {604_800_000}


def test_key_and_references_fit() -> None:
    op = OpId("op_" + "x" * 32)
    assert len(gateway_key(op, 999)) <= MAX_KEY_CHARS
    for kind in (CallKind.AUTHORIZE, CallKind.SALE, CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND):
        reference = reference_of(op, kind)
        assert len(reference) <= MAX_REFERENCE_CHARS
        assert ":" not in reference
        named = named_by(reference)
        assert named is not None
        assert (named.op_id, named.kind) == (op, kind)


@pytest.mark.parametrize(
    "text", [None, "", "op_1", "op_1.complete", "op_1.inquire", "op:1.sale", "cart.17", "op_1.sale "]
)
def test_reference_of_others_is_not_ours(text: str | None) -> None:
    assert named_by(text) is None


# Data files


def test_exponents_are_of_currencies_that_iso_counts_otherwise() -> None:
    for currency, exponent in EXPONENTS.items():
        assert exponents()[currency] != exponent
    # https://docs.adyen.com/development-resources/currency-codes: "For CLP, CVE, IDR, and ISK the standard has a
    # different number of decimals than shown in our currency codes table".
    assert set(EXPONENTS) == {"CLP", "CVE", "IDR", "ISK"}


@pytest.mark.parametrize(
    ("currency", "minor", "value"),
    [
        ("EUR", 1999, 1999),
        ("JPY", 500, 500),
        ("BHD", 10_000, 10_000),
        ("ISK", 500, 50_000),
        ("CLP", 1_990, 199_000),
        ("IDR", 1_500_000, 15_000),
        ("CVE", 100, 1),
    ],
)
def test_amount_is_told_in_adyens_own_minor_units_and_read_back(currency: str, minor: int, value: int) -> None:
    assert to_adyen(minor, currency) == value
    assert from_adyen(value, currency) == minor
    assert minor * 10 ** EXPONENTS.get(currency, exponent_of(currency)) == value * 10 ** exponent_of(currency)


@pytest.mark.parametrize(("currency", "minor"), [("IDR", 150), ("CVE", 1)])
def test_amount_with_decimals_that_adyen_does_not_have_is_not_rounded(currency: str, minor: int) -> None:
    with pytest.raises(InexactAmountError):
        to_adyen(minor, currency)


@pytest.mark.parametrize("currency", ["ISK", "CLP"])
def test_value_with_decimals_that_iso_does_not_have_is_not_rounded(currency: str) -> None:
    with pytest.raises(InexactAmountError):
        from_adyen(150, currency)


REFUSAL_REASONS = (
    "2 Refused|3 Referral|4 Acquirer Error|5 Blocked Card|6 Expired Card|7 Invalid Amount|8 Invalid Card Number|"
    "9 Issuer Unavailable|10 Not supported|11 3D Not Authenticated|12 Not enough balance|14 Acquirer Fraud|"
    "15 Cancelled|16 Shopper Cancelled|17 Invalid Pin|18 Pin tries exceeded|19 Pin validation not possible|20 FRAUD|"
    "21 Not Submitted|22 FRAUD-CANCELLED|23 Transaction Not Permitted|24 CVC Declined|25 Restricted Card|"
    "26 Revocation Of Auth|27 Declined Non Generic|28 Withdrawal amount exceeded|29 Withdrawal count exceeded|"
    "31 Issuer Suspected Fraud|32 AVS Declined|33 Card requires online pin|34 No checking account available on Card|"
    "35 No savings account available on Card|36 Mobile pin required|37 Contactless fallback|"
    "38 Authentication required|39 RReq not received from DS|40 Current AID is in Penalty Box.|"
    "41 CVM Required Restart Payment|42 3DS Authentication Error|43 Online PIN required|44 Try another interface|"
    "45 Chip downgrade mode|46 Transaction blocked by Adyen to prevent excessive retry fees"
)
"""https://docs.adyen.com/development-resources/refusal-reasons; without 13, pending, and 30, approved in part."""


def test_decline_codes_are_those_of_adyens_page_by_number_and_by_name() -> None:
    numbers, names = zip(*(each.split(" ", 1) for each in REFUSAL_REASONS.split("|")), strict=True)
    assert len(numbers) == 43
    assert set(DECLINES.codes) == {*numbers, *names}
    for number, name in zip(numbers, names, strict=True):  # an answer gives the number, a webhook the name
        assert DECLINES.codes[number] is DECLINES.codes[name]
