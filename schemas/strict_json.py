"""Reads JSON so strictly that no two readers can understand it differently.

Called by the ingress for request bodies, and by `schemas.structured_event` for what direct producers write. Refused
are: bytes that are not UTF-8, a key twice in one object (the first and the last win in different parsers, as RFC 8259
warns), NaN and Infinity, integers beyond any use, and deep nesting. Fractions and lone surrogates are taken for a
caller that refuses them itself, with the name of their field. Pure; calls nothing.
"""

import json
from typing import Final, NoReturn, TypeAlias

JsonValue: TypeAlias = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None

MAX_INTEGER_DIGITS: Final = 32
"""Reading a number costs time that grows with the square of its digits; an amount has 13 at most."""


class BadJsonError(ValueError):
    """This is not JSON as this engine takes it. The message says why, and never holds a part of what was read."""


class TooDeepError(BadJsonError):
    """It is JSON, and nests deeper than the caller takes."""


def parse(raw: bytes, *, max_depth: int, fractions: bool = False, lone_surrogates: bool = False) -> JsonValue:
    """Return the value that the bytes hold.

    Args:
        raw: the bytes as they came. The caller limits their number: the time that this takes grows with it.
        max_depth: of nested lists and objects; what stands inside the innermost counts as a level.
        fractions: whether numbers that are not integers are taken, as floats.
        lone_surrogates: whether strings are taken that JSON can spell and UTF-8 cannot.

    Raises:
        TooDeepError: it nests deeper than `max_depth`.
        BadJsonError: for any other fault.
    """
    try:
        value: JsonValue = _DECODERS[fractions].decode(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadJsonError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadJsonError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadJsonError(f"nested deeper than {max_depth} levels") from None
    _check(value, max_depth, 1, lone_surrogates=lone_surrogates)
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadJsonError("a key is there twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise BadJsonError(f"a number has more than {MAX_INTEGER_DIGITS} digits")
    return int(digits)


def _refuse_fraction(_digits: str) -> NoReturn:
    raise BadJsonError("a number is not an integer; amounts are integers of minor units")


def _refuse_constant(_name: str) -> NoReturn:
    raise BadJsonError("NaN and Infinity are not JSON")


# Made once: making one costs more than reading a small body with it.
_DECODERS: Final = {
    fractions: json.JSONDecoder(
        object_pairs_hook=_object,
        parse_float=float if fractions else _refuse_fraction,
        parse_int=_integer,
        parse_constant=_refuse_constant,
    )
    for fractions in (False, True)
}


def _check(value: JsonValue, max_depth: int, depth: int, *, lone_surrogates: bool) -> None:
    if depth > max_depth:
        raise TooDeepError(f"nested deeper than {max_depth} levels")
    if isinstance(value, str):
        if not lone_surrogates:
            _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, max_depth, depth + 1, lone_surrogates=lone_surrogates)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not lone_surrogates:
                _check_text(key)
            _check(item, max_depth, depth + 1, lone_surrogates=lone_surrogates)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadJsonError("a lone surrogate is not a character") from None
