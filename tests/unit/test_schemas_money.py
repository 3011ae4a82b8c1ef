# ruff: noqa: RUF001 -- letters that only look like ours are what is tested
"""Currencies come from the agency's table; amounts are written without a float."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import UnknownCurrencyError, decimal_text, display, exponent_of, exponents, is_payable


@pytest.mark.parametrize(("currency", "exponent"), [("USD", 2), ("JPY", 0), ("KWD", 3), ("EUR", 2), ("ISK", 0)])
def test_exponent_is_the_one_of_iso_4217(currency: str, exponent: int) -> None:
    assert exponent_of(currency) == exponent
    assert is_payable(currency)


@pytest.mark.parametrize(
    "currency", ["XXX", "XTS", "XAU", "XDR", "CLF", "BOV", "USN", "CHE", "UYW", "usd", "US", "", "ABC", "ＵＳＤ"]
)
def test_currency_is_refused_when_nobody_pays_in_it(currency: str) -> None:
    assert not is_payable(currency)
    with pytest.raises(UnknownCurrencyError):
        exponent_of(currency)


def test_currencies_are_many_and_their_exponents_small() -> None:
    assert len(exponents()) > 140
    assert set(exponents().values()) == {0, 2, 3}


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [(1999, "USD", "19.99 USD"), (5, "USD", "0.05 USD"), (500, "JPY", "500 JPY"), (-1, "KWD", "-0.001 KWD")],
)
def test_amount_is_shown_with_its_decimals(amount_minor: int, currency: str, shown: str) -> None:
    assert display(amount_minor, currency) == shown


@given(amount_minor=st.integers(-(10**15), 10**15), exponent=st.integers(0, 4))
def test_decimal_text_is_exact(amount_minor: int, exponent: int) -> None:
    assert Decimal(decimal_text(amount_minor, exponent)) == Decimal(amount_minor).scaleb(-exponent)
