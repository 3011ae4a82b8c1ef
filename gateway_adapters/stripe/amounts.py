"""How Stripe counts money, where that differs from ISO 4217: `currencies.json`, Stripe's own lists. Pure.

The engine counts in ISO's minor units. Stripe counts Malagasy ariary in whole ones, which ISO does not, and Icelandic
crowns and Ugandan shillings in hundredths, which there are none of. Of currencies with three decimals it takes
multiples of ten alone (https://docs.stripe.com/currencies).
"""

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

import orjson

from schemas.money import UnknownCurrencyError, exponent_of

MOST_DECIMALS: Final = 2
"""Of an amount that Stripe takes, whatever the currency has."""

DEFAULT_EXPONENT: Final = 2
_POWERS: Final = (1, 10, 100, 1_000)


def _read_exponents() -> Mapping[str, int]:
    lists = orjson.loads(resources.files("gateway_adapters.stripe").joinpath("currencies.json").read_bytes())
    return MappingProxyType(
        dict.fromkeys(lists["zero_decimal"], 0)
        | dict.fromkeys(lists["zero_decimal_counted_in_hundredths"], 2)
        | dict.fromkeys(lists["three_decimal"], 3)
    )


EXPONENTS: Final = _read_exponents()
"""Decimal places by which Stripe counts a currency; those that are absent have `DEFAULT_EXPONENT`."""


class UncountableError(ValueError):
    """An amount that Stripe has no number for; the message names the currency, not the amount."""


def to_stripe(amount_minor: int, currency: str) -> int:
    """Return the amount, in ISO's minor units, as Stripe counts it.

    Raises:
        UncountableError: Stripe takes no such fraction, or nobody knows the currency.
    """
    iso, stripe = _exponents_of(currency)
    if amount_minor % _POWERS[max(0, iso - min(stripe, MOST_DECIMALS))]:
        raise UncountableError(f"{currency} has no such fraction at Stripe")
    return amount_minor * _POWERS[stripe] // _POWERS[iso]


def from_stripe(amount: int, currency: str) -> int:
    """Return an amount of Stripe's in ISO's minor units.

    Raises:
        UncountableError: ISO has no such fraction, or nobody knows the currency.
    """
    iso, stripe = _exponents_of(currency)
    minor, rest = divmod(amount * _POWERS[iso], _POWERS[stripe])
    if rest:
        raise UncountableError(f"{currency} has no such fraction")
    return minor


def _exponents_of(currency: str) -> tuple[int, int]:
    """Return ISO's decimal places and Stripe's. Raises: UncountableError."""
    try:
        iso = exponent_of(currency)
    except UnknownCurrencyError as error:
        raise UncountableError(f"{currency} is unknown") from error
    if currency not in EXPONENTS and iso != DEFAULT_EXPONENT:
        raise UncountableError(f"how Stripe counts {currency} is not known")  # a guess would be tenfold wrong
    return iso, EXPONENTS.get(currency, DEFAULT_EXPONENT)
