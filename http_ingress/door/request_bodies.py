"""Reads a request's body off the connection, within its limits of size and time."""

import asyncio

from aiohttp import web

from http_ingress.door import card_guard
from http_ingress.limits import BODY_READ_TIMEOUT_S, MAX_BODY_BYTES, MAX_JSON_DEPTH
from http_ingress.representation.problems import ProblemCode, ProblemError
from schemas import strict_json
from schemas.strict_json import BadJsonError, JsonValue

_TOO_LARGE = f"at most {MAX_BODY_BYTES} bytes"
_CHARSETS = frozenset({None, "utf-8", "utf8", "us-ascii"})


async def read_raw(request: web.Request) -> bytes:
    """Return the bytes as they came. Raises: ProblemError (413, 415 for a content coding, 408)."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProblemError(ProblemCode.UNSUPPORTED_MEDIA_TYPE, "content codings are not taken")
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise ProblemError(ProblemCode.TOO_LARGE, _TOO_LARGE)
    try:
        async with asyncio.timeout(BODY_READ_TIMEOUT_S):
            raw: bytes = await request.read()
    except TimeoutError:
        raise ProblemError(ProblemCode.REQUEST_TIMEOUT) from None
    except web.HTTPRequestEntityTooLarge:
        raise ProblemError(ProblemCode.TOO_LARGE, _TOO_LARGE) from None
    return raw


async def read_object(request: web.Request, *, may_be_empty: bool) -> dict[str, JsonValue]:
    """Return the JSON object in the body, free of card data; an empty one for no body, if that is allowed.

    Raises:
        ProblemError: 400, 408, 413, 415 or 422.
    """
    raw = await read_raw(request)
    if not raw and may_be_empty:
        return {}
    if request.content_type != "application/json" or _charset(request) not in _CHARSETS:
        raise ProblemError(ProblemCode.UNSUPPORTED_MEDIA_TYPE, "send application/json in UTF-8")
    try:
        members = parse_object(raw)
    except BadJsonError as error:
        raise ProblemError(ProblemCode.BAD_JSON, f"the body cannot be read: {error}") from None
    card_guard.check_body(members)
    return members


def parse_object(raw: bytes) -> dict[str, JsonValue]:
    """Return the one JSON object that the bytes hold: integers alone, no lone surrogates. Raises: BadJsonError."""
    value = strict_json.parse(raw, max_depth=MAX_JSON_DEPTH)
    if not isinstance(value, dict):
        raise BadJsonError("not a JSON object")
    return value


def _charset(request: web.Request) -> str | None:
    return request.charset.lower() if request.charset is not None else None
