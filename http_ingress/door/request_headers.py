"""Reads the request headers and query parameters that this API gives a meaning to. Pure.

Sources: `Prefer` RFC 7240, `Accept` RFC 9110 section 12.5.1, `traceparent` W3C Trace Context section 3.2.2,
`Idempotency-Key` the IETF draft httpapi-idempotency-key-header.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from multidict import CIMultiDictProxy, MultiMapping

from http_ingress.limits import ASYNC_WAIT_S, MAX_LIST_CHARS, MAX_SYNC_WAIT_S, MAX_TRACESTATE_CHARS
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError
from schemas import identifiers
from schemas.card_disguises import hides_card_number, without_card_number
from schemas.identifiers import IdempotencyKey, InvalidIdentifierError, OriginId

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
ORIGIN_ID: Final = "X-Origin-Id"

_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?:;.*)?", re.IGNORECASE)
_RESPOND_ASYNC = re.compile(r"\s*respond-async\s*(?:;.*)?", re.IGNORECASE)
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_NOTHING = re.compile(r"0(?:\.0{0,3})?")


# Given twice, nobody can say which one counts. `Content-Length`, `Content-Type`, `Host` and `Transfer-Encoding` are
# refused by the parser already. `Accept`, `Prefer` and `tracestate` are lists, which may be split over lines; two of
# `traceparent` start a new trace (W3C Trace Context section 3.2). No other header means anything here.
_SINGLE: Final = ("Content-Encoding", IDEMPOTENCY_KEY, ORIGIN_ID, "X-Api-Key", "Authorization", "Expect")


def refuse_misleading(headers: CIMultiDictProxy[str]) -> None:
    """Return unless two readers could take the request for two things. Called for every path, before anything is read.

    Raises:
        ProblemError: 400, a header that may be given once is repeated; 415, the body is compressed: it is never
            inflated, since a few bytes of it can cost any amount of time.
    """
    coding = headers.get("Content-Encoding")
    if len({name.lower() for name in headers}) < len(headers):
        for name in _SINGLE:
            if len(headers.getall(name, ())) > 1:
                raise _invalid(name, "must be given once")
    if coding is not None and coding.lower() != "identity":
        raise ProblemError(ProblemCode.UNSUPPORTED_MEDIA_TYPE, "content codings are not taken")


def named(headers: CIMultiDictProxy[str], names: frozenset[str]) -> dict[str, str]:
    """Return the headers of these names (lower case). Raises: ProblemError (400) when one of them is repeated."""
    for name in names:
        if len(headers.getall(name, ())) > 1:
            raise _invalid(name, "must be given once")
    return {name: headers[name] for name in names if name in headers}


class Mode(StrEnum):
    """Whether the answer is the outcome, or that the operation was taken."""

    SYNC = "sync"
    ASYNC = "async"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How a client wants to be answered."""

    mode: Mode
    timeout_s: float
    applied: str | None  # for `Preference-Applied`


def waiting(query: MultiMapping[str], headers: CIMultiDictProxy[str], *, default_timeout_s: float) -> Waiting:
    """Return how to answer: `?mode=` decides, else `Prefer: respond-async`, else sync.

    `Prefer: wait=N` sets the longest wait in seconds, up to MAX_SYNC_WAIT_S; without it an async request waits
    `ASYNC_WAIT_S` for its claim. A preference that is malformed is ignored,
    as RFC 7240 says.

    Raises:
        ProblemError: 400, a query parameter is unknown, given twice, or has no such value.
    """
    asked = _mode(query)
    wants_async, wait_s = _preferences(headers)
    mode = asked or (Mode.ASYNC if wants_async else Mode.SYNC)
    applied = []
    if asked is None and wants_async:
        applied.append("respond-async")
    timeout_s = default_timeout_s if mode is Mode.SYNC else min(default_timeout_s, ASYNC_WAIT_S)
    if wait_s is not None:
        timeout_s = min(wait_s, MAX_SYNC_WAIT_S)
        applied.append(f"wait={timeout_s}")
    return Waiting(mode=mode, timeout_s=timeout_s, applied=", ".join(applied) or None)


def _mode(query: MultiMapping[str]) -> Mode | None:
    refuse_unknown_parameters(query, known=frozenset({"mode"}))
    values = query.getall("mode", [])
    if not values:
        return None
    if len(values) > 1 or values[0] not in Mode.__members__.values():
        raise _invalid("mode", "must be given once, as sync or async")
    return Mode(values[0])


def refuse_unknown_parameters(query: MultiMapping[str], *, known: frozenset[str] = frozenset()) -> None:
    """Refuse query parameters that mean nothing: `?mod=async` must not pay synchronously. Raises: ProblemError."""
    if any(name not in known for name in query):
        expected = ", ".join(sorted(known)) or "none"
        raise ProblemError(ProblemCode.INVALID_PARAMETER, f"unknown query parameter; known here: {expected}")


def _preferences(headers: CIMultiDictProxy[str]) -> tuple[bool, int | None]:
    wants_async, wait_s = False, None
    for preference in _listed(headers, "Prefer"):
        if _RESPOND_ASYNC.fullmatch(preference):
            wants_async = True
        elif wait_s is None and (match := _WAIT.fullmatch(preference)):
            wait_s = int(match[1])  # the first one counts (RFC 7240 section 2)
    return wants_async, wait_s


def _listed(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """Return the members of a list, which may stand in several lines; none of one that is longer than anybody's."""
    lines = headers.getall(name, ())
    return [part for line in lines for part in line.split(",")] if sum(map(len, lines)) <= MAX_LIST_CHARS else []


def idempotency_key(headers: CIMultiDictProxy[str]) -> IdempotencyKey:
    """Return the key. Raises: ProblemError (400) when it is missing or malformed."""
    value = headers.get(IDEMPOTENCY_KEY, "")
    if not value.strip():
        raise ProblemError(
            ProblemCode.MISSING_IDEMPOTENCY_KEY, "send a key that is unique to this operation, such as a UUID"
        )
    try:
        return identifiers.idempotency_key(value)
    except InvalidIdentifierError as error:
        raise _invalid(IDEMPOTENCY_KEY, str(error)) from None


def origin_header(headers: CIMultiDictProxy[str]) -> OriginId | None:
    """Return the origin that `X-Origin-Id` names. Raises: ProblemError (400) when malformed."""
    value = headers.get(ORIGIN_ID)
    if value is None:
        return None
    try:
        return identifiers.origin_id(value)
    except InvalidIdentifierError as error:
        raise _invalid(ORIGIN_ID, str(error)) from None


def _invalid(name: str, detail: str) -> ProblemError:
    return ProblemError(ProblemCode.INVALID_PARAMETER, faults=(FieldFault(pointer=name, detail=detail),))


def accepts(headers: CIMultiDictProxy[str], media_types: tuple[str, ...]) -> bool:
    """Whether the client takes one of these media types. No `Accept` takes all; a malformed weight counts as 1.

    One that is longer than MAX_LIST_CHARS is disregarded, as RFC 9110 section 12.5.1 allows.
    """
    ranges = [part.strip() for part in _listed(headers, "Accept") if part.strip()]
    return not ranges or any(_matches(part, media_type) for part in ranges for media_type in media_types)


def _matches(media_range: str, media_type: str) -> bool:
    name, *parameters = (part.strip() for part in media_range.lower().split(";"))
    weights = [match[1] for part in parameters if (match := _QUALITY.fullmatch(part))]
    if any(_NOTHING.fullmatch(weight) for weight in weights):
        return False
    major = media_type.partition("/")[0]
    return name in ("*/*", f"{major}/*", media_type)


def traceparent(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the caller's trace context, or None when there is none or it is malformed: a new trace starts then."""
    values = headers.getall("traceparent", [])
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    if not match[2].strip("0") or not match[3].strip("0"):
        return None
    return without_card_number(f"00-{match[2]}-{match[3]}-{match[4]}")  # of a later version, what version 00 knows


def tracestate(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the vendors' part of the trace context, unless it is too long to carry on or holds a card number.

    It may be left out at any time (W3C Trace Context section 3.3.1.3), so no request is refused for it.
    """
    joined = ",".join(headers.getall("tracestate", []))
    carried = 0 < len(joined) <= MAX_TRACESTATE_CHARS and joined.isascii() and joined.isprintable()
    return joined if carried and not hides_card_number(joined) else None
