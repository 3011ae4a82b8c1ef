"""Stripe's own lists, as they are kept here: decline codes against the pinned list, currencies against ISO 4217."""

import json
from pathlib import Path

import pytest

from gateway_adapters.errors import Code
from gateway_adapters.stripe.amounts import EXPONENTS, UncountableError, from_stripe, to_stripe
from gateway_adapters.stripe.translate import DECLINES
from schemas.money import exponents

PINNED = json.loads((Path(__file__).parents[1] / "vectors" / "stripe_decline_codes.json").read_text())


def test_decline_codes_are_those_of_the_pinned_list() -> None:
    assert set(DECLINES.codes) == set(PINNED["codes"])
    assert len(DECLINES.codes) == 47
    assert DECLINES.version.removeprefix("stripe-go ") in PINNED["source"]
    assert DECLINES.source.startswith("https://")


def test_no_listed_code_is_unknown_and_no_other_is_guessed_at() -> None:
    assert Code.UNKNOWN not in DECLINES.codes.values()
    assert DECLINES.decline_of("brand_new").code == Code.UNKNOWN


def test_currencies_that_stripe_counts_otherwise_than_iso_are_those_known() -> None:
    """What is not listed has two decimals at Stripe. Each difference from ISO's table is one that its page explains."""
    differing = {code: exponent for code, exponent in EXPONENTS.items() if exponents().get(code) != exponent}
    assert differing == {"MGA": 0, "ISK": 2, "UGX": 2}
    assert {code: exponents()[code] for code in differing} == {"MGA": 2, "ISK": 0, "UGX": 0}
    assert EXPONENTS.keys() <= exponents().keys()


def test_currency_of_other_decimals_that_stripe_does_not_list_is_refused_rather_than_guessed_at() -> None:
    unlisted = {code for code, exponent in exponents().items() if exponent != 2 and code not in EXPONENTS}
    assert unlisted == {"IQD", "LYD"}
    for code in unlisted:
        with pytest.raises(UncountableError, match=code):
            to_stripe(1_000, code)


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [
        (1_999, "USD", 1_999),
        (500, "JPY", 500),
        (5, "ISK", 500),
        (5, "UGX", 500),
        (500, "MGA", 5),
        (12_340, "KWD", 12_340),
        (1_000, "HUF", 1_000),
    ],
)
def test_amount_is_counted_as_stripe_counts_and_back(minor: int, currency: str, amount: int) -> None:
    assert to_stripe(minor, currency) == amount
    assert from_stripe(amount, currency) == minor


@pytest.mark.parametrize(("minor", "currency"), [(12_345, "KWD"), (501, "MGA"), (1, "XXX")])
def test_fraction_that_stripe_does_not_take_is_refused(minor: int, currency: str) -> None:
    with pytest.raises(UncountableError, match=currency):
        to_stripe(minor, currency)


@pytest.mark.parametrize(("amount", "currency"), [(550, "ISK"), (1, "XXX")])
def test_fraction_that_iso_does_not_have_is_refused(amount: int, currency: str) -> None:
    with pytest.raises(UncountableError, match=currency):
        from_stripe(amount, currency)
