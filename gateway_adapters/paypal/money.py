"""PayPal's amounts: decimal texts, with as many decimals as PayPal gives a currency. Pure.

The list of currencies is `currencies.json`, which names its source. It differs from ISO 4217 in two: the forint and the
Taiwan dollar have no decimals there, and a decimal amount is refused. The engine counts in ISO's minor units.
"""

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

import orjson

from schemas.money import MAX_AMOUNT_MINOR, decimal_text, exponent_of

FILE: Final = "currencies.json"
MAX_CHARS: Final = 32
"""Longest value of an amount (its `money`)."""

_VALUE: Final = re.compile(r"([0-9]{1,20})(?:[.]([0-9]{1,10}))?")


class UnfitAmountError(ValueError):
    """An amount that cannot be said to PayPal, or cannot be read from it; the message holds no amount."""


def _read() -> Mapping[str, int]:
    said = orjson.loads(resources.files(__package__).joinpath(FILE).read_bytes())
    exponents = said["exponents"]
    if not all(isinstance(code, str) and type(decimals) is int for code, decimals in exponents.items()):
        raise ValueError(f"{FILE}: exponents must be whole numbers by currency")
    return MappingProxyType(exponents)


EXPONENTS: Final = _read()
"""Decimals by currency, of every currency that PayPal takes."""


def to_value(amount_minor: int, currency: str) -> str:
    """Return the amount as PayPal writes it: (1999, USD) is `19.99`, (50000, HUF) is `500`.

    Raises:
        UnfitAmountError: PayPal does not take the currency, or takes whole units of it alone.
    """
    if currency not in EXPONENTS:
        raise UnfitAmountError("PayPal does not take this currency")
    decimals = EXPONENTS[currency]
    kept, lost = divmod(amount_minor, 10 ** (exponent_of(currency) - decimals))
    if lost:
        raise UnfitAmountError(f"PayPal takes {decimals} decimals of {currency}")
    return decimal_text(kept, decimals)


def to_minor(value: str, currency: str) -> int:
    """Return ISO's minor units of what PayPal wrote: (`19.99`, USD) is 1999, (`500`, HUF) is 50000.

    Raises:
        UnfitAmountError: it is no amount, or not one of whole minor units.
    """
    found = _VALUE.fullmatch(value) if len(value) <= MAX_CHARS else None
    if found is None or currency not in EXPONENTS:
        raise UnfitAmountError("not an amount in a currency of PayPal's")
    whole, decimals = found.group(1), found.group(2) or ""
    exponent = exponent_of(currency)
    if decimals[exponent:].strip("0"):
        raise UnfitAmountError("an amount below the minor unit")
    minor = int(whole + decimals[:exponent].ljust(exponent, "0"))
    if minor > MAX_AMOUNT_MINOR:
        raise UnfitAmountError("an amount above all that is paid here")
    return minor
