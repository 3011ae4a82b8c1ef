"""Reads a JSON body so strictly that no two readers can understand it differently.

Called by the handlers before anything else looks at a body. Refused are: bytes that are not UTF-8, duplicate keys
(the first and the last win in different parsers: RFC 8259 section 4), NaN and Infinity, numbers that are not integers
(an amount is an integer of minor units), integers beyond any use, lone surrogates, and deep nesting. Pure.
"""

import json
from typing import NoReturn

from http_ingress.limits import MAX_JSON_DEPTH, MAX_JSON_INTEGER_DIGITS

JsonValue = str | int | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


class BadJsonError(ValueError):
    """The body is not JSON as this engine takes it. The message never holds a part of the body."""


def parse_object(raw: bytes) -> dict[str, JsonValue]:
    """Return the one JSON object that the bytes hold. Raises: BadJsonError."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJsonError("the body is not UTF-8") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_refuse_fraction,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise BadJsonError(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadJsonError(f"the body is nested deeper than {MAX_JSON_DEPTH} levels") from None
    _check(value, depth=1)
    if not isinstance(value, dict):
        raise BadJsonError("the body is not a JSON object")
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadJsonError("the body has a key twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_JSON_INTEGER_DIGITS:
        raise BadJsonError(f"the body has a number of more than {MAX_JSON_INTEGER_DIGITS} digits")
    return int(digits)


def _refuse_fraction(_: str) -> NoReturn:
    raise BadJsonError("the body has a number that is not an integer; amounts are integers of minor units")


def _refuse_constant(_: str) -> NoReturn:
    raise BadJsonError("the body has NaN or Infinity, which JSON does not know")


def _check(value: JsonValue, *, depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise BadJsonError(f"the body is nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth=depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, depth=depth + 1)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadJsonError("the body has a lone surrogate, which is not a character") from None
