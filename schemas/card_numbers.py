"""The guard against card data: does anything in this JSON look like a card number, or name a card's secret?

Called by the ingress on every body and by the orders agent for direct producers, before anything is logged or appended.
Calls nothing. What it finds is told by its path and never by its value.

The rule: neighbouring groups of digits, each taken whole, with nothing but marks and spaces between them, make 12 to 19
digits that begin as an issuer's do (IIN), have a length that this issuer gives, and pass Luhn's check. Digits of every
script count, in keys, strings and numbers, at any depth. A run of more digits than a card has is not searched, and what
stands inside a UUID or a digest is let through: chance alone would find a number in one of a hundred. What hides a
number from this rule is the business of `schemas.card_disguises`.

The work grows with the length and with nothing else: a text in which more numbers could stand than anybody writes is
taken for one that holds a card number.
Source: ISO/IEC 7812-1 (Luhn, IIN); the ranges are those that the schemes publish. PCI DSS 3.3 names the secrets.
"""

import dataclasses
import functools
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

MAX_NODES: Final = 1_000
"""Keys, values and items looked at by default: no body or record of ours has a hundred."""
MAX_PATH_PARTS: Final = 16
MAX_PATH_PART_CHARS: Final = 40
MAX_SECRET_KEY_CHARS: Final = 64
"""The longest name of a secret is below 30 characters; a longer key names none."""
MIN_DIGITS: Final = 12
MAX_DIGITS: Final = 19
MAX_GROUPS: Final = 500
"""Groups of digits looked at in a text; nothing of ours has a dozen."""
MAX_CANDIDATES: Final = 128
"""Numbers in a text that begin as an issuer's do and are as long; nothing of ours has three."""
MAX_MACHINE_IDS: Final = 128
"""Runs of hexadecimal digits of which it is asked whether they are an id."""
MAX_WORD_CHARS: Final = 128
"""The longest id of a machine's."""
CHARS_PER_GROUP: Final = 64
CHARS_PER_CANDIDATE: Final = 256
"""A long text may have more, one for so many characters, so that a large dead letter is not withheld for its size."""
_SHORTEST: Final = MIN_DIGITS // 2  # characters: one circled sign may be two digits
_PREFIX_DIGITS: Final = 4
_LEAST: Final = 10 ** (MIN_DIGITS - 1)
_BEYOND: Final = 10**MAX_DIGITS

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

# Between two groups of one number: spaces and controls, dashes, dots, brackets and other marks, and what is not seen at
# all (soft hyphens, joiners, marks of direction). Not quotation marks and bars: they end a value in JSON and in keys.
_MARKS: Final = " \t\n\r\x0b\x0c-._/,:;'*#~+=()[]{}<>!?@&$\\^`" + "".join(map(chr, range(0x20))) + "\x7f"
_WIDE_MARKS: Final = (
    r"\s\x80-\xa0\u00ad\u00b7\u034f\u180e\u2010-\u2015\u2022\u2027\u2212\u2219\u22c5"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\uff08\uff09\uff0c\uff0d\uff0e\uff0f\uff3f\ufe63"
)
# Superscript, subscript, circled, bracketed and dotted digits, which NFKC turns into plain ones.
_WIDE_DIGITS: Final = (
    r"\d\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089\u2460-\u249b\u24ea\u3251-\u325f\u32b1-\u32bf"
)
_MARK, _OTHER = b" |"
_NO_DIGITS: Final = bytes(code for code in range(256) if chr(code) not in "0123456789")
_CLASSES: Final = bytes(
    code if chr(code) in "0123456789" else _MARK if chr(code) in _MARKS else _OTHER for code in range(256)
)
_RUN: Final = re.compile(rb"(?<![0-9 ])[0-9 ]{%d,}" % MIN_DIGITS)
_WIDE: Final = _WIDE_DIGITS + _WIDE_MARKS + re.escape(_MARKS)
_WIDE_RUN: Final = re.compile(rf"(?<![{_WIDE}])[{_WIDE}]{{{_SHORTEST},}}")
_WIDE_GROUP: Final = re.compile(r"\d+")
# The value of each digit, and what Luhn adds for it when it is doubled: the digits of the double.
_ONCE: Final = bytes(max(0, code - ord("0")) % 10 for code in range(256))
_TWICE: Final = bytes(sum(divmod(value * 2, 10)) for value in _ONCE)
# Ids that machines make (UUIDs, digests): a run of digits inside one is chance. Each needs a letter, so that one of
# digits alone is still read.
_HEXADECIMAL: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f-]{32,}(?![0-9A-Za-z])")
_UUID_CHARS: Final = 36
_WORD: Final = re.compile(rb"[0-9A-Za-z-]{1,%d}" % MAX_WORD_CHARS)
_WORD_END: Final = re.compile(rb"[0-9A-Za-z-]+\Z")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{32,128}")


class TooMuchToCheckError(ValueError):
    """More keys, values and items than are looked at: refuse it, since it cannot be called free of card data."""


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


@dataclasses.dataclass(slots=True)
class _Budget:
    """What is left of the work that one text is worth."""

    groups: int
    candidates: int


def find_card_number(value: object, *, max_nodes: int = MAX_NODES) -> str | None:
    """Return the path of the first thing that looks like card data (`$.card.number`, `$.cvv`), or None.

    `value` is parsed JSON, or a record of this package. A key that is itself a card number is shown as `<key>`.

    Raises: TooMuchToCheckError: it has more than `max_nodes` keys, values and items.
    """
    texts: list[str] = []
    places: list[_Place] = []
    secret = _collect(value, texts, places, max_nodes)
    # All at once, which costs a tenth of one at a time; the bar between them ends a run of digits.
    if not texts or not holds_card_number(joined := "|".join(texts)):
        return secret
    budget = _budget_of(joined)
    held = (place for text, place in zip(texts, places, strict=True) if _holds(text, budget))
    return next(held, places[-1]).path()


def _collect(value: object, texts: list[str], places: list[_Place], max_nodes: int) -> str | None:
    """Gather what could hold a number, and where it stands; return the path of a key that names a secret."""
    secret: str | None = None
    waiting: list[tuple[_Place, object]] = [(_Place(None, "$"), value)]
    left = max_nodes - 1
    while waiting:  # bounded by max_nodes
        place, node = waiting.pop()
        text = _text_of(node)
        if text is not None:
            if len(text) >= _SHORTEST:
                texts.append(text)
                places.append(place)
            continue
        for part, child, key in _children(node):
            left -= 1
            if left < 0:
                raise TooMuchToCheckError(f"more than {max_nodes} values")
            below = _Place(place, part)
            waiting.append((below, child))
            if key is not None:
                secret = below.path() if is_secret_key(key) else secret
                if len(key) >= _SHORTEST:
                    texts.append(key)
                    places.append(_Place(place, ".<key>"))
    return secret


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


def _text_of(node: object) -> str | None:
    """Return a value's characters if it is no container; none for what is too short to hold a number."""
    if isinstance(node, str):
        return node
    if isinstance(node, bytes):
        return node.decode("utf-8", errors="replace")
    if isinstance(node, bool) or node is None:
        return ""
    if isinstance(node, float):  # never ours, but JSON may say 4111111111111111.0 or 4.1e15
        return _text_of(int(node)) if math.isfinite(node) else ""
    if isinstance(node, int):
        # Python refuses to print integers of thousands of digits, and no card number is that long.
        return str(abs(node)) if _LEAST <= abs(node) < _BEYOND else ""
    return None


def is_secret_key(key: str) -> bool:
    """Return whether a member of this name holds a card's secret: its code, its tracks, its PIN block."""
    return len(key) <= MAX_SECRET_KEY_CHARS and _is_secret_name(key)


@functools.lru_cache(maxsize=1024)
def _is_secret_name(key: str) -> bool:
    folded = unicodedata.normalize("NFKC", key).casefold()
    return "".join(letter for letter in folded if letter.isalnum()) in _SECRET_KEYS


def holds_card_number(text: str) -> bool:
    """Return whether a card number stands somewhere in the text, alone or with marks between its groups of digits.

    Also true for more than MAX_GROUPS groups, or MAX_CANDIDATES numbers that could be cards, since nobody then can say
    that it holds none; a long text may have more.
    """
    return len(text) >= _SHORTEST and _holds(text, _budget_of(text))


def card_number_runs(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each run of digits and marks begins and ends in which a card number stands, ASCII digits alone."""
    budget = _budget_of(raw)
    for run in _RUN.finditer(raw.translate(_CLASSES)):
        start, end = run.span()
        if _has_card(run[0].split(), budget):
            # The machine's id, if any, that the run is a part of.
            before, after = _WORD_END.search(raw, max(0, start - MAX_WORD_CHARS), start), _WORD.match(raw, end)
            word = raw[before.start() if before else start : after.end() if after else end]
            if holds_card_number(word.decode("ascii", errors="replace")):
                yield start, end


def _holds(text: str, budget: _Budget) -> bool:
    if not _has_card_somewhere(text, budget):
        return False
    # Only now, since hardly any text comes so far: is it chance, inside an id that a machine made?
    masked = without_machine_ids(text)
    return masked == text or _has_card_somewhere(masked, _budget_of(text))


def without_machine_ids(text: str) -> str:
    """Return the text with a bar in place of each UUID and digest that has a letter."""
    return _HEXADECIMAL.sub(_without_id, text, max(MAX_MACHINE_IDS, len(text) // CHARS_PER_CANDIDATE))


def _without_id(found: re.Match[str]) -> str:
    """Return the run of hexadecimal digits and dashes without the id that it is, or that stands at one of its ends."""
    run = found[0].strip("-")
    first, _, rest = run.partition("-")
    before, _, last = run.rpartition("-")
    for form, machine_id, others in (
        (_DIGEST, first, rest),
        (_DIGEST, last, before),
        (_UUID, run[:_UUID_CHARS], run[_UUID_CHARS:]),
        (_UUID, run[-_UUID_CHARS:], run[:-_UUID_CHARS]),
    ):
        if form.fullmatch(machine_id) and not machine_id.replace("-", "").isdecimal():
            return f"|{others}|"
    return found[0]


def _budget_of(text: str | bytes) -> _Budget:
    length = len(text)
    return _Budget(max(MAX_GROUPS, length // CHARS_PER_GROUP), max(MAX_CANDIDATES, length // CHARS_PER_CANDIDATE))


def _has_card_somewhere(text: str, budget: _Budget) -> bool:
    if not has_digits_of_a_card(text):
        return False
    runs = _runs(text.encode("ascii"), budget) if text.isascii() else _wide_runs(text, budget)
    return any(_has_card(groups, budget) for groups in runs)


def has_digits_of_a_card(text: str) -> bool:
    """Return whether the text has as many digits as the shortest number, wherever they stand: a quick look."""
    return not text.isascii() or len(text.encode("ascii").translate(None, _NO_DIGITS)) >= MIN_DIGITS


def _runs(text: bytes, budget: _Budget) -> Iterator[Sequence[bytes]]:
    for run in _RUN.findall(text.translate(_CLASSES)):
        yield run.split(None, budget.groups + 1)


def _wide_runs(text: str, budget: _Budget) -> Iterator[Sequence[bytes]]:
    for run in _WIDE_RUN.findall(text):
        plain = unicodedata.normalize("NFKC", run)
        if plain.isascii():
            yield from _runs(plain.encode("ascii"), budget)
        else:
            found = itertools.islice(_WIDE_GROUP.finditer(plain), budget.groups + 2)
            yield [_ascii_digits(group[0]) for group in found]


def _ascii_digits(digits: str) -> bytes:
    # `int` reads the digits of every script. What is longer than a number is only ever counted.
    plain = digits if digits.isascii() or len(digits) > MAX_DIGITS else str(int(digits)).zfill(len(digits))
    return plain.encode("ascii", errors="replace")


def _has_card(groups: Sequence[bytes], budget: _Budget) -> bool:
    """Whether some neighbouring groups of digits make up a card number: never a part of a group.

    So `12 4111 1111 1111 1111` is found and a run of 30 digits is not searched, where chance alone would find one.
    """
    budget.groups -= len(groups)
    if budget.groups < 0:
        return True
    digits = b"".join(groups)
    if len(groups) == 1:
        return len(digits) in _lengths_of(digits[:_PREFIX_DIGITS]) and _passes_luhn(digits)
    if len(digits) < MIN_DIGITS:
        return False
    ends = list(itertools.accumulate(map(len, groups)))
    known = frozenset(ends)
    for start in (0, *ends[:-1]):
        for length in _lengths_of(digits[start : start + _PREFIX_DIGITS]):
            end = start + length
            if end in known:
                budget.candidates -= 1
                if budget.candidates < 0 or _passes_luhn(digits[start:end]):
                    return True
    return False


@functools.lru_cache(maxsize=2 * 10**_PREFIX_DIGITS)
def _lengths_of(prefix: bytes) -> _Lengths:
    """Return how long the numbers are that begin with these digits."""
    text = prefix.decode("ascii")
    return frozenset().union(*(lengths for first, last, lengths in _ISSUERS if first <= text[: len(first)] <= last))


def _passes_luhn(digits: bytes) -> bool:
    odd = len(digits) % 2  # every second digit from the right is doubled, the last one is not
    return (sum(digits[odd::2].translate(_TWICE)) + sum(digits[1 - odd :: 2].translate(_ONCE))) % 10 == 0
