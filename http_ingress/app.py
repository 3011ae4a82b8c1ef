"""The aiohttp application: the table of routes on a router, and the one place where errors become problems.

Built by `http_ingress.server` and by the tests, with an `Ingress` that holds everything with I/O. Every answer of
every path goes through `outermost`: it gives each request its id, turns what was raised into a problem, counts and
logs. A log line has the route's template, never the path, the query, a header or a body.
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Final
from uuid import uuid4

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler as HttpHandler
from aiohttp.typedefs import Middleware

from http_ingress.command_log import LogUnavailableError
from http_ingress.description import openapi, pages
from http_ingress.door import request_headers
from http_ingress.door.callers import Caller, caller_of, limit_rate
from http_ingress.door.tracing import request_span
from http_ingress.ingress import Ingress
from http_ingress.limits import MAX_BODY_BYTES, MAX_WEBHOOK_BYTES, RETRY_AFTER_DRAIN_S
from http_ingress.money.endpoints import Call
from http_ingress.representation.answers import JSON_TYPE, Answer, of_error
from http_ingress.representation.problems import CONTENT_TYPE, ProblemCode, ProblemError, retry_later
from http_ingress.routes import API_ROUTES, ApiRoute
from schemas.identifiers import CommandId
from streams.operator_tools import asyncapi
from streams.telemetry import metrics

_DISTRIBUTION: Final = "payment-engine-lite"
_REQUEST_ID: Final = web.RequestKey("request_id", str)
_PROBLEM: Final = web.RequestKey("problem", str)
SAFE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Server": "payment-engine",
}
NOTHING_WRITTEN: Final = "Nothing was written. Send the same request again."
MAY_BE_WRITTEN: Final = (
    "The record was sent but not acknowledged: it may have been written. Send the same request again, with the same "
    "idempotency key: it happens once."
)
_HTTP_PROBLEMS: Final = {
    400: ProblemCode.BAD_REQUEST,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.TOO_LARGE,
    415: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    417: ProblemCode.EXPECTATION_FAILED,
}
_SERVER_ERRORS: Final = 500
_MS_PER_S: Final = 1000
_KEPT_HEADERS: Final = ("Allow",)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_CALLER: Final = Caller(key_origin=None, header_origin=None)
_log = structlog.get_logger(__name__)


def build_app(ingress: Ingress) -> web.Application:
    """Return the application, not yet served."""
    app = web.Application(middlewares=[outermost(ingress.monotonic_s)], client_max_size=MAX_WEBHOOK_BYTES)
    for route in API_ROUTES:
        app.router.add_route(
            route.method, route.path, _endpoint(route, ingress), name=route.name, expect_handler=expect
        )
    _add_service_pages(app, ingress)
    return app


def _add_service_pages(app: web.Application, ingress: Ingress) -> None:
    described = openapi.document(version=version(_DISTRIBUTION), dev=ingress.settings.dev)
    topics_described = json.dumps(asyncapi.document(version=version(_DISTRIBUTION)), ensure_ascii=False).encode()

    async def healthz(request: web.Request) -> web.StreamResponse:
        return respond(request, await pages.health(ingress))

    async def readyz(request: web.Request) -> web.StreamResponse:
        return respond(request, await pages.readiness(ingress))

    async def description(_: web.Request) -> web.StreamResponse:
        return pages.description_page(described)

    async def description_of_topics(_: web.Request) -> web.StreamResponse:
        return pages.description_page(topics_described)

    async def topics(_: web.Request) -> web.StreamResponse:
        return pages.asset_page("topics.html")

    async def docs(_: web.Request) -> web.StreamResponse:
        return pages.asset_page("docs.html")

    async def asset(request: web.Request) -> web.StreamResponse:
        name = request.match_info["asset"]
        if name not in pages.ASSETS:
            raise ProblemError(ProblemCode.NOT_FOUND)
        return pages.asset_page(name)

    handlers: dict[str, HttpHandler] = {
        "/healthz": healthz,
        "/readyz": readyz,
        "/openapi.json": description,
        "/asyncapi.json": description_of_topics,
        "/docs": docs,
        "/docs/topics": topics,
        "/docs/{asset}": asset,
    }
    for path, handler in handlers.items():
        app.router.add_get(path, handler, expect_handler=expect)


def _endpoint(route: ApiRoute, ingress: Ingress) -> HttpHandler:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        if ingress.stopping.begun:
            raise retry_later(ProblemCode.SHUTTING_DOWN, after_s=RETRY_AFTER_DRAIN_S)
        if route.authenticated and not request_headers.accepts(request.headers, (JSON_TYPE, CONTENT_TYPE)):
            raise ProblemError(ProblemCode.NOT_ACCEPTABLE, f"answers are {JSON_TYPE} or {CONTENT_TYPE}")
        caller = caller_of(request, ingress) if route.authenticated else _NO_CALLER
        if caller.named_origin is not None:
            limit_rate(caller.named_origin, ingress)  # before anything that costs more: the body, its guard, the log
        with request_span(request, route.name) as trace:
            call = Call(
                request=request,
                ingress=ingress,
                caller=caller,
                request_id=request_id_of(request),
                trace=trace,
            )
            return respond(request, await route.handler(call))

    return endpoint


def request_id_of(request: web.Request) -> CommandId:
    """Return the id that `outermost` gave this request: also the id of what it appends."""
    return CommandId(request[_REQUEST_ID])


async def expect(request: web.Request) -> None:
    """Ask for a body that waits to be asked for, unless the request will be refused whatever it holds."""
    # aiohttp calls this outside of the middlewares. What is expected but `100-continue` the server has refused before.
    if request.version < HttpVersion11:
        return  # RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored
    try:
        request_headers.refuse_misleading(request.headers)
    except ProblemError:
        return  # the middleware answers the same, and the body need not come
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


def respond(request: web.Request, answer: Answer) -> web.Response:
    """Return the answer as aiohttp sends it."""
    code = getattr(answer.body, "code", None)
    if code is not None:
        request[_PROBLEM] = code
    return web.Response(
        status=answer.status,
        body=answer.encoded(),
        headers={**answer.headers, "Content-Type": answer.content_type},
    )


def outermost(monotonic_s: Callable[[], float]) -> Middleware:
    """Return what every answer of an application goes through: ids, problems, counts, logs, safe headers."""

    @web.middleware
    async def through(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        started_s = monotonic_s()
        request_id = request[_REQUEST_ID] = uuid4().hex  # also the command id, so that a log line finds its command
        response = await _answered(request, handler)
        for name, value in SAFE_HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = request_id
        if _has_much_to_come(request):
            response.force_close()
        _account(request, response.status, monotonic_s() - started_s)
        return response

    return through


def _has_much_to_come(request: web.Request) -> bool:
    """Whether so much of the body is unread that the next request on this connection is not worth waiting for."""
    if request.content.is_eof():
        return False
    return request.content_length is None or request.content_length > MAX_BODY_BYTES


async def _answered(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
    try:
        request_headers.refuse_misleading(request.headers)
        return await handler(request)
    except ProblemError as error:
        return respond(request, of_error(error))
    except LogUnavailableError as error:
        _log.warning("log_unavailable", request_id=request[_REQUEST_ID], reason=str(error))
        detail = MAY_BE_WRITTEN if error.may_be_written else NOTHING_WRITTEN
        problem = retry_later(ProblemCode.LOG_UNAVAILABLE, after_s=error.retry_after_s, detail=detail)
        return respond(request, of_error(problem))
    except web.HTTPException as error:
        return respond(request, of_error(_of_http(error)))
    except Exception:  # noqa: BLE001 -- the shell of all requests: a defect is one 500, logged, not a lost connection
        _log.exception("request_failed", request_id=request[_REQUEST_ID], route=_route_of(request))
        return respond(request, of_error(ProblemError(ProblemCode.INTERNAL)))


def _of_http(error: web.HTTPException) -> ProblemError:
    code = _HTTP_PROBLEMS.get(
        error.status, ProblemCode.BAD_REQUEST if error.status < _SERVER_ERRORS else ProblemCode.INTERNAL
    )
    kept = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    return ProblemError(code, headers=kept)


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _account(request: web.Request, status: int, duration_s: float) -> None:
    route = _route_of(request)
    method = request.method if request.method in _METHODS else "other"
    code = request.get(_PROBLEM)
    metrics.count("http_requests", route=route, method=method, status=str(status))
    metrics.observe("http_request_ms", duration_s * _MS_PER_S, route=route)
    if code is not None:
        metrics.count("http_problems", code=code)
    # A line for each payment would cost more than its validation, and its facts are on the log; so what went well is
    # told at DEBUG, and counted above in any case.
    say = _log.debug if code is None else _log.info
    say(
        "request",
        route=route,
        method=method,
        http_status=status,
        duration_ms=round(duration_s * _MS_PER_S, 1),
        request_id=request[_REQUEST_ID],
        code=code,
    )
