"""Takes card data out of bytes that must be kept: a gateway's authentic notice. Pure.

Called by the webhook route. Of a card number all digits but the last four become nines, which no issuer's numbers begin
with, and the value of a member or field that is named like a card's secret becomes `***`: what was JSON or a form stays
one. Plain numbers in ASCII alone are looked for (`schemas.card_numbers`): a gateway does not disguise them.
"""

import re
from collections.abc import Callable
from typing import Final

from schemas.card_numbers import MAX_SECRET_KEY_CHARS, card_number_runs, is_secret_key

SHOWN_DIGITS: Final = 4  # PCI DSS 3.4.1: the last four may be shown

_DIGIT: Final = re.compile(rb"[0-9]")
_MEMBER: Final = re.compile(
    rb'("((?:[^"\\]|\\.){2,%d})"\s{0,8}:\s{0,8})("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*)' % MAX_SECRET_KEY_CHARS
)
_FIELD: Final = re.compile(rb"((?:^|&)([A-Za-z0-9_.%%-]{2,%d})=)([^&]*)" % MAX_SECRET_KEY_CHARS)


def mask_card_data(raw: bytes) -> bytes:
    """Return the bytes with card numbers and card secrets masked; the same bytes when there are none. Twice is safe."""
    masked = bytearray(raw)
    for start, end in card_number_runs(raw):
        digits = [found.start() for found in _DIGIT.finditer(raw, start, end)]
        for place in digits[:-SHOWN_DIGITS]:
            masked[place] = ord("9")
    return _FIELD.sub(_masking(b"***"), _MEMBER.sub(_masking(b'"***"'), bytes(masked)))


def _masking(mask: bytes) -> Callable[[re.Match[bytes]], bytes]:
    def masked(found: re.Match[bytes]) -> bytes:
        secret = is_secret_key(found[2].decode("utf-8", errors="replace"))
        return found[1] + mask if secret else found[0]

    return masked
