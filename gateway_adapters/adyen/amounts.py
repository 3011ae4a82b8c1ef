"""Amounts as Adyen counts them: minor units, with other decimals than ISO 4217 has in a few currencies. Pure.

Called by `translate` and `webhooks`. Which currencies those are, and how many decimals they have at Adyen, stands in
`exponents.json`, with its source. In all others Adyen counts as ISO does.
"""

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

import orjson

from schemas.money import UnknownCurrencyError, exponent_of


class InexactAmountError(ValueError):
    """An amount that the other side's minor units cannot say, such as 0.50 where there are no decimals."""


def _exponents() -> Mapping[str, int]:
    said = orjson.loads(resources.files("gateway_adapters.adyen").joinpath("exponents.json").read_bytes())
    return MappingProxyType({str(currency): int(exponent) for currency, exponent in said["exponents"].items()})


EXPONENTS: Final = _exponents()
"""Decimals at Adyen, of the currencies where ISO 4217 has another number of them."""


def to_adyen(amount_minor: int, currency: str) -> int:
    """Return the value that Adyen is told for this amount of ISO minor units.

    Raises:
        InexactAmountError: Adyen has fewer decimals, and the amount needs them.
    """
    if currency not in EXPONENTS:
        return amount_minor
    return _scaled(amount_minor, EXPONENTS[currency] - exponent_of(currency))


def from_adyen(value: int, currency: str) -> int:
    """Return the ISO minor units of a value that Adyen tells.

    Raises:
        InexactAmountError: Adyen has more decimals, and the value needs them; or it is in no currency of ISO's.
    """
    if currency not in EXPONENTS:
        return value
    try:
        return _scaled(value, exponent_of(currency) - EXPONENTS[currency])
    except UnknownCurrencyError as error:  # a currency that ISO has withdrawn
        raise InexactAmountError("not an ISO 4217 currency any more") from error


def _scaled(amount: int, decimals: int) -> int:
    more: int = 10 ** max(0, decimals)
    less: int = 10 ** max(0, -decimals)
    scaled, rest = divmod(amount * more, less)
    if rest:
        raise InexactAmountError("the amount needs decimals that the other side does not have")
    return scaled
