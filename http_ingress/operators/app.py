"""The aiohttp application of the desk: its routes, and who may use them. Built by `program` and by the tests.

Errors, limits of a connection, logs and counts are the ingress's own (`http_ingress.app`, `http_ingress.server`).
"""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler

from http_ingress.app import expect, outermost, request_id_of, respond
from http_ingress.description import pages
from http_ingress.door import card_guard, request_headers
from http_ingress.door.callers import CHALLENGE, presented_key
from http_ingress.door.tracing import request_span
from http_ingress.limits import MAX_BODY_BYTES, RETRY_AFTER_DRAIN_S
from http_ingress.operators.desk import Desk
from http_ingress.operators.endpoints import Visit, approve, decide, list_pending
from http_ingress.representation.answers import JSON_TYPE, Answer
from http_ingress.representation.problems import CONTENT_TYPE, ProblemCode, ProblemError, retry_later
from schemas import identifiers
from schemas.card_disguises import hides_card_number
from schemas.identifiers import InvalidIdentifierError, OperatorName, OriginId

Handler = Callable[[Visit], Awaitable[Answer]]

OPERATOR_HEADER: Final = "X-Operator"
ROUTES: Final[tuple[tuple[str, str, str, Handler], ...]] = (
    ("POST", "/decisions", "decide", decide),
    ("GET", "/proposals", "listProposals", list_pending),
    ("POST", "/proposals/{decisionId}/approval", "approveProposal", approve),
)
"""Method, path, name, handler."""


def build_desk(desk: Desk) -> web.Application:
    """Return the application, not yet served."""
    app = web.Application(middlewares=[outermost(desk.monotonic_s)], client_max_size=MAX_BODY_BYTES)
    for method, path, name, handler in ROUTES:
        app.router.add_route(method, path, _endpoint(desk, name, handler), name=name, expect_handler=expect)

    async def healthz(request: web.Request) -> web.StreamResponse:
        return respond(request, await pages.health(desk))

    async def readyz(request: web.Request) -> web.StreamResponse:
        return respond(request, await pages.readiness(desk))

    app.router.add_get("/healthz", healthz, expect_handler=expect)
    app.router.add_get("/readyz", readyz, expect_handler=expect)
    return app


def _endpoint(desk: Desk, name: str, handler: Handler) -> HttpHandler:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        if desk.stopping.begun:
            raise retry_later(ProblemCode.SHUTTING_DOWN, after_s=RETRY_AFTER_DRAIN_S)
        if not request_headers.accepts(request.headers, (JSON_TYPE, CONTENT_TYPE)):
            raise ProblemError(ProblemCode.NOT_ACCEPTABLE, f"answers are {JSON_TYPE} or {CONTENT_TYPE}")
        operator = _operator_of(request, desk)
        wait_s = desk.limiter.take(OriginId(operator), now_s=desk.monotonic_s())
        if wait_s:
            raise retry_later(ProblemCode.RATE_LIMITED, after_s=wait_s)
        with request_span(request, name) as trace:
            visit = Visit(request=request, desk=desk, operator=operator, request_id=request_id_of(request), trace=trace)
            return respond(request, await handler(visit))

    return endpoint


def _operator_of(request: web.Request, desk: Desk) -> OperatorName:
    """Return whose key this is; in dev mode, who the request says it is. Raises: ProblemError (401, 400, 422)."""
    if desk.keys is None:
        return _operator_said(request)
    key = presented_key(request)
    operator = None if key is None else desk.keys.operator_of(key)
    if operator is None:
        detail = "send an operator's key as X-Api-Key, or Authorization: Bearer; a merchant's does not hold here"
        raise ProblemError(ProblemCode.UNAUTHENTICATED, detail, headers=CHALLENGE)
    return operator


def _operator_said(request: web.Request) -> OperatorName:
    said = request.headers.getall(OPERATOR_HEADER, [])
    if len(said) != 1:
        raise ProblemError(ProblemCode.UNAUTHENTICATED, f"development mode: send one {OPERATOR_HEADER}, who decides")
    try:
        operator = identifiers.operator_name(said[0])
    except InvalidIdentifierError as error:
        raise ProblemError(ProblemCode.INVALID_PARAMETER, f"{OPERATOR_HEADER}: {error}") from None
    if hides_card_number(operator):
        raise card_guard.refusal()
    return operator
