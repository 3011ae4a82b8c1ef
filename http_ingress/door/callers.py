"""Who calls, and for which origin.

Called by the endpoints before a body is read. In dev mode there are no keys, and the origin is what the request says.
"""

from dataclasses import dataclass

from aiohttp import web

from http_ingress.door import card_guard, request_headers
from http_ingress.ingress import Ingress
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError, retry_later
from schemas import identifiers
from schemas.identifiers import InvalidIdentifierError, OriginId

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="payment-engine"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What is known of the caller before its body is read."""

    key_origin: OriginId | None  # None in dev mode
    header_origin: OriginId | None

    @property
    def named_origin(self) -> OriginId | None:
        """Whose rate this request counts for, when that is known before the body is read."""
        return self.key_origin or self.header_origin

    def origin(self, body_origin: str | None = None) -> OriginId:
        """Return the origin that the key, the header and the body agree on.

        Raises:
            ProblemError: 400 when the header and the body disagree, or nothing names an origin; 403 when one of them
                is not the key's.
        """
        said = _body_origin(body_origin)
        if said is not None and self.header_origin is not None and said != self.header_origin:
            raise ProblemError(ProblemCode.ORIGIN_MISMATCH, "originId and X-Origin-Id must agree")
        named = said or self.header_origin
        if self.key_origin is not None:
            if named is not None and named != self.key_origin:
                raise ProblemError(ProblemCode.FORBIDDEN, "the API key is not that origin's")
            return self.key_origin
        if named is None:
            raise ProblemError(ProblemCode.ORIGIN_MISSING, "send X-Origin-Id, or originId in the body")
        return named


def _body_origin(value: str | None) -> OriginId | None:
    if value is None:
        return None
    try:
        return identifiers.origin_id(value)
    except InvalidIdentifierError as error:
        fault = FieldFault(pointer="#/originId", detail=str(error))
        raise ProblemError(ProblemCode.INVALID_BODY, faults=(fault,)) from None


def caller_of(request: web.Request, ingress: Ingress) -> Caller:
    """Return the authenticated caller. Raises: ProblemError (401, 400 for a malformed header, 422 for card data)."""
    key_origin = _authenticated(request, ingress)
    header_origin = request_headers.origin_header(request.headers)
    if header_origin is not None:
        card_guard.check_origin(header_origin)
    return Caller(key_origin=key_origin, header_origin=header_origin)


def _authenticated(request: web.Request, ingress: Ingress) -> OriginId | None:
    if ingress.keys is None:
        return None
    key = presented_key(request)
    if key is None:
        raise ProblemError(ProblemCode.UNAUTHENTICATED, "send X-Api-Key, or Authorization: Bearer", headers=CHALLENGE)
    origin = ingress.keys.origin_of(key)
    if origin is None:
        raise ProblemError(ProblemCode.UNAUTHENTICATED, "the API key does not hold", headers=CHALLENGE)
    return origin


def presented_key(request: web.Request) -> str | None:
    """Return the key that the request shows; None when it shows none, or more than one."""
    presented = list(request.headers.getall("X-Api-Key", []))
    for credentials in request.headers.getall("Authorization", []):
        scheme, _, key = credentials.partition(" ")
        if scheme.lower() == "bearer":
            presented.append(key.strip())
    return presented[0] if len(presented) == 1 else None  # two keys: nobody can say which one counts


def limit_rate(origin: OriginId, ingress: Ingress) -> None:
    """Count one request of the origin. Raises: ProblemError (429) with the seconds to wait."""
    wait_s = ingress.limiter.take(origin, now_s=ingress.monotonic_s())
    if wait_s:
        raise retry_later(ProblemCode.RATE_LIMITED, after_s=wait_s)
