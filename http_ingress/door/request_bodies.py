"""Reads a request's body off the connection, within its limits of size and time."""

import asyncio
import re
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from http_ingress.limits import BODY_READ_TIMEOUT_S, MAX_BODY_BYTES, MAX_JSON_DEPTH
from http_ingress.representation.problems import ProblemCode, ProblemError
from schemas import strict_json
from schemas.strict_json import BadJsonError, JsonValue

_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})
_CHARSET: Final = re.compile(r";[ \t]*charset\*?(?:=\"?([^;\" \t]*))?")


async def read_raw(request: web.Request, *, max_bytes: int) -> bytes:
    """Return the bytes as they came, at most `max_bytes`. Raises: ProblemError (400 for broken framing, 408, 413)."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_READ_TIMEOUT_S):
            return await _read_at_most(request, max_bytes)
    except TimeoutError:
        raise ProblemError(ProblemCode.REQUEST_TIMEOUT) from None
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
        # Chunks that are none, or a client that went away: nobody may be there to read this, and it is no defect.
        raise ProblemError(ProblemCode.BAD_REQUEST, "the body is not framed as its headers say") from None


async def _read_at_most(request: web.Request, max_bytes: int) -> bytes:
    # `Request.read` knows one limit for the whole application.
    body = bytearray()
    while part := await request.content.readany():  # ends with the body, within BODY_READ_TIMEOUT_S
        body += part
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(ProblemCode.TOO_LARGE, f"at most {max_bytes} bytes")


async def read_object(
    request: web.Request, *, may_be_empty: bool, max_bytes: int = MAX_BODY_BYTES
) -> dict[str, JsonValue]:
    """Return the JSON object in the body, not yet guarded; an empty one for no body, if that is allowed.

    Raises:
        ProblemError: 400, 408, 413 or 415.
    """
    raw = await read_raw(request, max_bytes=max_bytes)
    if not raw and may_be_empty:
        return {}
    if not _is_json(request.headers.get("Content-Type", "")):
        raise ProblemError(ProblemCode.UNSUPPORTED_MEDIA_TYPE, "send application/json in UTF-8")
    try:
        return parse_object(raw)
    except BadJsonError as error:
        raise ProblemError(ProblemCode.BAD_JSON, f"the body cannot be read: {error}") from None


def parse_object(raw: bytes) -> dict[str, JsonValue]:
    """Return the one JSON object that the bytes hold: integers alone, no lone surrogates. Raises: BadJsonError."""
    value = strict_json.parse(raw, max_depth=MAX_JSON_DEPTH)
    if not isinstance(value, dict):
        raise BadJsonError("not a JSON object")
    return value


def _is_json(content_type: str) -> bool:
    """Return whether a body of this type is read; parameters but the charset mean nothing (RFC 8259 section 11)."""
    # Not by aiohttp, which asks the standard library's reader of mail: 8 KiB cost it 600 ms, and some of it breaks it.
    folded = content_type.lower()
    named = folded.partition(";")[0].strip(" \t")
    return named == "application/json" and all(charset in _CHARSETS for charset in _CHARSET.findall(folded))
