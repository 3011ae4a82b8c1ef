"""Card numbers that are written so that `schemas.card_numbers` does not see them. Pure.

Called for the few short values that are kept: the fields of a command, the ids and headers that travel with it; and for
what is about to become a dead letter. Not for whole bodies, since this costs more than one pass.

The rule, for each text, beside the plain one:

* %-encoded once or twice, base64 or base64url of text, hexadecimal of ASCII: what is decoded is judged plainly.
* Anything may stand between the groups, letters too, when the groups are a card's usual ones: fours, 4-6-5 or 4-6-4,
  with gaps of at most eight characters; or three and more groups of one size, with gaps that are all the same.
* Split over two fields of a payment: a token of 4 to 11 digits and nothing else, before or after another field that is
  digits alone. No gateway gives such tokens; two other fields that are numbers are let through, as many orders are.

What nobody can tell from an id is not found: digits reversed, shifted or enciphered, a number in another base, uneven
groups among letters. `python -m bench.false_alarms` measures how many true ids of each shape the rule refuses.
"""

import base64
import json
import math
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Final

from schemas.card_numbers import (
    MAX_DIGITS,
    MAX_SECRET_KEY_CHARS,
    MIN_DIGITS,
    TooMuchToCheckError,
    find_card_number,
    has_digits_of_a_card,
    holds_card_number,
    is_secret_key,
    without_machine_ids,
)

MAX_SPREAD_CHARS: Final = 512
"""The longest text in which groups among letters are looked for: a longer one is no single value."""
MAX_GAP_CHARS: Final = 8
MAX_SPREAD_GROUPS: Final = 64
MIN_PART_DIGITS: Final = 4
MAX_JSON_NODES: Final = 50_000
"""Of a dead letter's value; nobody waits for it."""
MAX_READ_CHARS: Final = 256 * 1024
"""The longest text that disguises are looked for in, four times the largest record of ours."""
MAX_NAMES: Final = 10_000
"""Names, and large numbers of Avro, that are looked at: with more of them nobody can say what they are."""
WORDS_OF_A_NAME: Final = 3

_FEWEST_GROUPS: Final = 3
_GAP: Final = rf"\D{{1,{MAX_GAP_CHARS}}}"


def _same_sized(size: int, gap: int) -> str:
    """Return the pattern of the fewest groups of this size that hold a number, `gap` the number of the first gap."""
    more = max(_FEWEST_GROUPS, math.ceil(MIN_DIGITS / size)) - 2
    return rf"\d{{{size}}}({_GAP})\d{{{size}}}(?:\{gap}\d{{{size}}}){{{more}}}"


# A quick look, in one pass, whether the groups could be a card's; `_spread` then judges each window of them.
_SPREAD: Final = re.compile(
    rf"(?<!\d)(?:\d{{4}}{_GAP}(?:\d{{4}}{_GAP}\d{{4}}|\d{{6}}{_GAP}\d{{4}})|"
    + "|".join(_same_sized(size, gap) for gap, size in enumerate((1, 2, 3, 5, 6), start=1))
    + ")",
    re.ASCII,
)
_GROUP: Final = re.compile(r"\d+", re.ASCII)
_OTHER_LAYOUTS: Final = ((4, 6, 4), (4, 6, 5))

_HEX: Final = re.compile(r"(?:3[0-9]|2[0dDeE]|5[fF]){12,}")  # digits, and the space, dash, dot and line between them
# Three digits in base64 are four of these characters, at any offset of the text; a card number has three digits in a
# row at each of the three alignments of its bytes, with or without something between its groups of four.
_DIGIT_TRIO: Final = re.compile(r"[MNO][DTjz][AEIMQUYcgk][wxyz0-5]")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_TO_STANDARD: Final = str.maketrans("-_", "+/")
_PLAIN_BYTES: Final = bytes(range(128)) + b"|" * 128  # what is no ASCII ends a run of digits

# A part of each name of `card_numbers`' secrets: a quick look.
_SECRET_STEMS: Final = ("cvv", "cvc", "cvn", "csc", "cav", "secur", "verif", "valid", "track", "mag", "pin")
_NAME: Final = re.compile(r"(?<![\w.\- ])([\w.\- ]{3,})\\?[\"']?\s{0,8}[:=>]")
_AVRO_FRAME: Final = b"\x00\x00"  # Confluent's framing: a zero, and a schema id of four bytes, counted up from 1
_LONG: Final = re.compile(rb"[\x80-\xff]{5,9}[\x00-\x7f]")  # an Avro long as large as a card number


def hides_card_number(text: str) -> bool:
    """Return whether a text that is kept holds a card number, plainly or in one of this module's disguises."""
    # Most values end after two looks in C: this is asked of every command.
    if has_digits_of_a_card(text) and _stands_plainly_or_spread(without_machine_ids(text)):
        return True
    return any(holds_card_number(read) for read in _readings(text))


def _stands_plainly_or_spread(text: str) -> bool:
    if not has_digits_of_a_card(text):
        return False
    spread = len(text) <= MAX_SPREAD_CHARS and _SPREAD.search(text) is not None
    return holds_card_number(text) or (spread and any(map(holds_card_number, _spread(text))))


def _readings(text: str) -> Iterator[str]:
    """Yield what the text says when it is read in each of the ways that a number could be hidden in."""
    if "%" in text:
        once = urllib.parse.unquote(text)
        yield once
        yield urllib.parse.unquote(once)
    if _DIGIT_TRIO.search(text):
        yield from _decoded(text)
    for found in _HEX.finditer(text):
        yield bytes.fromhex(found[0]).decode("ascii")


def _decoded(text: str) -> Iterator[str]:
    for run in _BASE64.finditer(text):
        for offset in {found.start() % 4 for found in _DIGIT_TRIO.finditer(run[0])}:
            encoded = run[0][offset:].translate(_TO_STANDARD)
            whole = encoded[: len(encoded) - (len(encoded) % 4 == 1)]
            raw = base64.b64decode(whole + "=" * (-len(whole) % 4))
            yield raw.translate(_PLAIN_BYTES).decode("ascii")


def _spread(text: str) -> Iterator[str]:
    """Yield the digits of each window of neighbouring groups whose sizes and gaps are a card's usual ones."""
    groups = [found.span() for found in _GROUP.finditer(text)][:MAX_SPREAD_GROUPS]
    sizes = [end - start for start, end in groups]
    gaps = [text[end:start] for (_, end), (start, _) in pairwise(groups)]
    ends = [0, *accumulate(sizes)]
    digits = "".join(text[start:end] for start, end in groups)
    for first, size in enumerate(sizes):
        same_size = same_gap = True  # of all groups so far, and of all gaps
        for last in range(first + 1, min(first + MAX_DIGITS, len(groups))):
            held = ends[last + 1] - ends[first]
            if held > MAX_DIGITS or len(gaps[last - 1]) > MAX_GAP_CHARS:
                break
            same_gap = same_gap and gaps[last - 1] == gaps[first]
            even = same_size and sizes[last] <= size and (size == MIN_PART_DIGITS or same_gap)
            usual = even or tuple(sizes[first : last + 1]) in _OTHER_LAYOUTS
            if usual and held >= MIN_DIGITS and last - first + 1 >= _FEWEST_GROUPS:
                yield digits[ends[first] : ends[last + 1]]
            same_size = same_size and sizes[last] == size


def is_split_over(token: str, others: Iterable[str]) -> bool:
    """Return whether a token of digits alone makes up a card number with another field of its payment."""
    if not (token.isdecimal() and MIN_PART_DIGITS <= len(token) < MIN_DIGITS):
        return False
    digits = (other.replace("-", "") for other in others)
    parts = [other for other in digits if other.isdecimal() and len(other) >= MIN_PART_DIGITS]
    return any(holds_card_number(token + part) or holds_card_number(part + token) for part in parts)


def without_card_number(traceparent: str | None) -> str | None:
    """Return the trace context, or None when one of its ids is digits alone and a card number: a new trace starts."""
    ids = (part.lstrip("0") for part in traceparent.split("-")) if traceparent is not None else ()
    return None if any(part.isdecimal() and holds_card_number(part) for part in ids) else traceparent


def holds_card_data(raw: bytes) -> bool:
    """Return whether bytes of any kind (text, JSON, a form, XML, Avro) hold a card number or name a card's secret.

    Judged are the text and each value of it that is JSON, the names of members, fields and elements, and numbers as
    Avro writes them. Bytes of which nobody can say it hold one, too.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.translate(_PLAIN_BYTES).decode("ascii")
    found = hides_card_number(text) if len(text) <= MAX_READ_CHARS else holds_card_number(text)
    return found or _names_secret(text) or _json_holds(text) or _avro_holds(raw)


def _names_secret(text: str) -> bool:
    folded = text.casefold()
    if not any(stem in folded for stem in _SECRET_STEMS):
        return False
    for number, found in enumerate(_NAME.finditer(text)):
        words = found[1][-MAX_SECRET_KEY_CHARS:].rsplit(maxsplit=WORDS_OF_A_NAME)
        names = (" ".join(words[first:]) for first in range(len(words)))
        if number >= MAX_NAMES or any(map(is_secret_key, names)):
            return True
    return False


def _json_holds(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return False
    try:
        return find_card_number(json.loads(text), max_nodes=MAX_JSON_NODES) is not None
    except TooMuchToCheckError:
        return True
    except (ValueError, RecursionError):
        return False  # no JSON: judged as text


def _avro_holds(raw: bytes) -> bool:
    if not raw.startswith(_AVRO_FRAME):
        return False  # among other bytes chance would find one
    for number, found in enumerate(_LONG.findall(raw)):
        if number >= MAX_NAMES:
            return True
        try:
            found.decode("utf-8")  # a foreign alphabet
        except UnicodeDecodeError:
            zigzag = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(found))
            if holds_card_number(str((zigzag >> 1) ^ -(zigzag & 1)).lstrip("-")):
                return True
    return False
