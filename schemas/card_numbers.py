"""The guard against card data: does anything in this JSON look like a card number, or name a card's secret?

Called by the ingress on every body and by the orders agent for direct producers, before anything is logged or appended.
Calls nothing. A card number is 12 to 19 digits that pass Luhn's check and begin as an issuer's do (IIN), whatever
stands between the digits, however they are spelled, in keys, strings and numbers, at any depth. What it finds is told
by its path and never by its value.
Source: ISO/IEC 7812-1 (Luhn, IIN); the ranges are those that the schemes publish. PCI DSS 3.3 names the secrets.
"""

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

MAX_NODES: Final = 50_000
"""Values and items looked at; a body of 64 KiB has fewer."""
MAX_PATH_PARTS: Final = 16
MAX_PATH_PART_CHARS: Final = 40
MIN_DIGITS: Final = 12
MAX_DIGITS: Final = 19
MAX_GROUPS: Final = 5_000
"""Groups of digits with nothing but separators between them; nothing of ours has a dozen."""
_PREFIX_DIGITS: Final = 4
_LEAST: Final = 10 ** (MIN_DIGITS - 1)
_BEYOND: Final = 10**MAX_DIGITS
_DOUBLED: Final = {
    str(digit): sum(divmod(digit * 2, 10)) for digit in range(10)
}  # Luhn: the digits of the double, added

_Lengths: TypeAlias = frozenset[int]


def _lengths(*lengths: int) -> _Lengths:
    return frozenset(lengths)


_16_TO_19 = _lengths(16, 17, 18, 19)
# First digits, from and to, and how long such numbers are. UATP (1…, 15 digits) is left out: times look like that.
_ISSUERS: Final[tuple[tuple[str, str, _Lengths], ...]] = (
    ("0604", "0604", _lengths(*range(12, 20))),  # Maestro
    ("2200", "2205", _16_TO_19),  # Mir, Borica
    ("2221", "2720", _lengths(16)),  # Mastercard
    ("30", "30", _lengths(14, 16, 19)),  # Diners Club
    ("31", "31", _lengths(19)),  # T-Union
    ("34", "34", _lengths(15)),  # American Express
    ("3528", "3589", _16_TO_19),  # JCB, RuPay, LankaPay
    ("36", "36", _lengths(14, 16, 19)),  # Diners Club
    ("37", "37", _lengths(15)),  # American Express
    ("38", "39", _lengths(14, 16, 19)),  # Diners Club
    ("4", "4", _lengths(13, 16, 18, 19)),  # Visa, Elo, Dankort
    ("5018", "5018", _lengths(*range(12, 20))),  # Maestro
    ("5020", "5020", _lengths(*range(12, 20))),
    ("5038", "5038", _lengths(*range(12, 20))),
    ("50", "50", _16_TO_19),  # Maestro, Verve, Elo, RuPay, Dankort
    ("51", "55", _lengths(16)),  # Mastercard
    ("56", "58", _16_TO_19),  # Maestro, Bankcard, UzCard
    ("5893", "5893", _lengths(*range(12, 20))),  # Maestro
    ("60", "60", _16_TO_19),  # Discover, RuPay, Hipercard
    ("62", "62", _16_TO_19),  # UnionPay
    ("6304", "6304", _lengths(*range(12, 20))),  # Maestro
    ("63", "63", _16_TO_19),  # Maestro, InterPayment, InstaPayment, Elo
    ("644", "659", _16_TO_19),  # Discover, Troy, Verve, RuPay
    ("6759", "6763", _lengths(*range(12, 20))),  # Maestro
    ("67", "67", _16_TO_19),  # Maestro
    ("81", "82", _16_TO_19),  # UnionPay, RuPay
    ("8600", "8600", _lengths(16)),  # UzCard
    ("9704", "9704", _16_TO_19),  # Napas
    ("9792", "9792", _lengths(16)),  # Troy
    ("9860", "9860", _lengths(16)),  # Humo
)

_SECRET_KEYS: Final = frozenset(
    [
        *("cvv", "cvv2", "cvvcode", "cvvnumber", "cardcvv", "cvc", "cvc2", "cvccode", "cvcnumber", "cardcvc"),
        *("cvn", "cvn2", "cardcvn", "csc", "cardcsc", "cav2", "securitycode", "cardsecuritycode"),
        *("cardverificationvalue", "cardverificationcode", "cardverificationnumber", "cardvalidationcode"),
        *("track", "tracks", "track1", "track2", "track3", "trackone", "tracktwo", "trackdata"),
        *("track1data", "track2data", "track3data", "cardtrack", "cardtrack1", "cardtrack2"),
        *("magstripe", "magstripedata", "magneticstripe", "pinblock"),
    ]
)

# Between two digits of one number there may be up to three of these: spaces and controls, dashes, dots and other marks,
# and what is not seen at all (soft hyphens, joiners, marks of direction).
_SEPARATOR: Final = (
    r"[\s\x00-\x1f\-._/,:;'*#~+=\u00ad\u00b7\u034f\u180e\u2010-\u2015\u2022\u2027\u2212\u2219\u22c5"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_RUN: Final = re.compile(rf"\d(?:{_SEPARATOR}{{0,3}}\d){{{MIN_DIGITS - 1},}}")
_GROUP: Final = re.compile(r"\d+")
# Ids that machines make (UUIDs, digests): a run of digits inside one is chance. Each needs a letter, so that one of
# digits alone is still read.
_MACHINE_ID: Final = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9-]{0,128}[a-fA-F])"
    r"(?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32,128})(?![0-9A-Za-z])"
)


class TooMuchToCheckError(ValueError):
    """More than MAX_NODES keys, values and items: refuse it, since it cannot be called free of card data."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands; rendered only when something is found, so that depth costs nothing."""

    parent: "_Place | None"
    part: str

    def path(self) -> str:
        parts: list[str] = []
        place: _Place | None = self
        while place is not None and len(parts) < MAX_PATH_PARTS:
            parts.append(place.part[:MAX_PATH_PART_CHARS])
            place = place.parent
        return "".join(reversed(parts))


def find_card_number(value: object) -> str | None:
    """Return the path of the first thing that looks like card data (`$.card.number`, `$.cvv`), or None.

    `value` is parsed JSON, or a record of this package. A key that is itself a card number is shown as `<key>`.

    Raises: TooMuchToCheckError.
    """
    waiting: list[tuple[_Place, object]] = [(_Place(None, "$"), value)]
    for _ in range(MAX_NODES):
        if not waiting:
            return None
        place, node = waiting.pop()
        if _is_card_number(node):
            return place.path()
        for part, child, key in _children(node):
            below = _Place(place, part)
            if key is not None and _is_secret_key(key):
                return below.path()
            if key is not None and holds_card_number(key):
                return _Place(place, ".<key>").path()
            waiting.append((below, child))
    raise TooMuchToCheckError(f"more than {MAX_NODES} values")


def _children(node: object) -> Iterator[tuple[str, object, str | None]]:
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield f".{key}", child, str(key)
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield f"[{index}]", child, None
    elif dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            yield f".{field.name}", getattr(node, field.name), None


def _is_card_number(node: object) -> bool:
    if isinstance(node, str):
        return holds_card_number(node)
    if isinstance(node, bytes):
        return holds_card_number(node.decode("utf-8", errors="replace"))
    if isinstance(node, float):  # never ours, but JSON may say 4111111111111111.0 or 4.1e15
        return math.isfinite(node) and holds_card_number(str(int(node)))
    return isinstance(node, int) and not isinstance(node, bool) and _is_number_like(node)


def _is_number_like(number: int) -> bool:
    # Python refuses to print integers of thousands of digits, and no card number is that long.
    return _LEAST <= abs(number) < _BEYOND and holds_card_number(str(abs(number)))


def _is_secret_key(key: str) -> bool:
    folded = unicodedata.normalize("NFKC", key).casefold()
    return "".join(letter for letter in folded if letter.isalnum()) in _SECRET_KEYS


def holds_card_number(text: str) -> bool:
    """Return whether a card number stands somewhere in the text, alone or with separators between its digits.

    Also true for more than MAX_GROUPS groups of digits in a row, since nobody then can say that it holds none.
    """
    if len(text) < MIN_DIGITS:
        return False
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)  # full-width, superscript and circled digits become plain ones
    return any(_has_card(_GROUP.findall(run)) for run in _RUN.findall(_MACHINE_ID.sub("|", text)))


def _has_card(groups: list[str]) -> bool:
    """Whether some neighbouring groups of digits make up a card number: never a part of a group.

    So `12 4111 1111 1111 1111` is found and a run of 30 digits is not searched, where chance alone would find one.
    """
    if len(groups) > MAX_GROUPS:
        return True
    for first in range(len(groups)):
        digits = ""
        for group in groups[first : first + MAX_DIGITS]:
            digits += group
            if len(digits) > MAX_DIGITS:
                break
            if len(digits) >= MIN_DIGITS and _is_card(_ascii_digits(digits)):
                return True
    return False


def _ascii_digits(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _is_card(digits: str) -> bool:
    return len(digits) in _lengths_of(digits[:_PREFIX_DIGITS]) and _passes_luhn(digits)


@functools.lru_cache(maxsize=10**_PREFIX_DIGITS)
def _lengths_of(prefix: str) -> _Lengths:
    """Return how long the numbers are that begin with these digits."""
    return frozenset().union(*(lengths for first, last, lengths in _ISSUERS if first <= prefix[: len(first)] <= last))


def _passes_luhn(digits: str) -> bool:
    total = sum(map(int, digits[-1::-2])) + sum(map(_DOUBLED.__getitem__, digits[-2::-2]))
    return total % 10 == 0
