"""Money: which currencies can be paid in, how many minor units they have, and amounts as text for people and gateways.

Called by `schemas.commands_validation`, by the ingress and by gateway adapters. Calls `iso4217`, which packages the
table of ISO 4217's maintenance agency: exponents are never a list of ours. Amounts are integers of minor units, never
floats. Where a gateway counts otherwise than ISO does (Adyen: CLP, CVE, ISK), its adapter says so.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import iso4217

MAX_AMOUNT_MINOR = 10**12
"""The largest amount of one operation; every sum an order can reach then stays far inside 64 bits."""


MAX_EXPONENT = 3
"""More decimals have only units of account (CLF, UYW), and the agency marks not all of them as funds."""


class UnknownCurrencyError(ValueError):
    """Not an ISO 4217 code that a payer can pay in."""


def _funds() -> frozenset[str]:
    # The package has no attribute for it, but it hands out the agency's own table, where funds are marked.
    return frozenset(
        code.strip()
        for entry in iso4217.raw_xml.iterfind("CcyTbl/CcyNtry")
        if (name := entry.find("CcyNm")) is not None
        and name.get("IsFund") == "true"
        and (code := entry.findtext("Ccy")) is not None
    )


@functools.cache
def exponents() -> Mapping[str, int]:
    """Return the decimal places of every currency that can be paid in.

    Left out are codes without minor units (gold, SDR, test codes, no currency), and funds and units of account (such as
    CLF), in which accounts are kept but nobody pays.
    """
    funds = _funds()
    return MappingProxyType(
        {
            currency.code: currency.exponent
            for currency in iso4217.Currency
            if currency.exponent is not None and currency.exponent <= MAX_EXPONENT and currency.code not in funds
        }
    )


def is_payable(currency: str) -> bool:
    """Return whether this is the code, in upper case, of a currency that can be paid in."""
    return currency in exponents()


def exponent_of(currency: str) -> int:
    """Return the decimal places of the currency, such as 2 for USD. Raises: UnknownCurrencyError."""
    try:
        return exponents()[currency]
    except KeyError:
        raise UnknownCurrencyError("not an ISO 4217 currency that can be paid in") from None


def decimal_text(amount_minor: int, exponent: int) -> str:
    """Return the amount in major units with exactly that many decimals: (1999, 2) is `19.99`, (500, 0) is `500`."""
    sign = "-" if amount_minor < 0 else ""
    whole, rest = divmod(abs(amount_minor), 10**exponent)
    return f"{sign}{whole}.{rest:0{exponent}d}" if exponent else f"{sign}{whole}"


def display(amount_minor: int, currency: str) -> str:
    """Return the amount for a person, such as `19.99 USD`. Raises: UnknownCurrencyError."""
    return f"{decimal_text(amount_minor, exponent_of(currency))} {currency}"
