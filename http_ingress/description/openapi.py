"""The OpenAPI 3.1 document, generated from the table of routes and the pydantic models. Pure.

Served at `/openapi.json`, shown by `/docs`, fuzzed by `tests/acceptance/test_openapi_fuzzing.py`.
"""

import json
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from http_ingress.limits import MAX_SYNC_WAIT_S
from http_ingress.representation import payloads, problems
from http_ingress.representation.answers import JSON_TYPE
from http_ingress.representation.problems import PROBLEMS, ProblemCode
from http_ingress.routes import API_ROUTES, ApiRoute, Outcome
from schemas.identifiers import MAX_IDEMPOTENCY_KEY_CHARS, MAX_ORIGIN_ID_CHARS

Json = dict[str, object]

_VISIBLE: Final = "^[!-{}-~]+$"
_HEADERS: Final[dict[str, Json]] = {
    "Location": {"description": "Where to read the outcome.", "schema": {"type": "string", "format": "uri-reference"}},
    "Idempotent-Replayed": {
        "description": "`true` when the operation was known before this request.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {"description": "What of `Prefer` was followed.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
}
_RETRY_STATUSES: Final = frozenset({429, 502, 503})


def document(*, version: str, dev: bool) -> bytes:
    """Return the document as JSON. `dev`: there are no API keys."""
    described: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Payment Engine Lite",
            "version": version,
            "description": "Payments, captures, voids and refunds. Amounts are integers of minor units. Every POST "
            "takes an `Idempotency-Key`: send the same request again until it is answered, and it happens once. Errors "
            "are problem details (RFC 9457). Bodies hold tokens, never card numbers.",
        },
        "servers": [{"url": "/"}],
        "paths": _paths(dev=dev),
        "components": {"schemas": _schemas(), **({} if dev else {"securitySchemes": _SECURITY_SCHEMES})},
    }
    return json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()


_SECURITY_SCHEMES: Final[Json] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def _paths(*, dev: bool) -> Json:
    paths: dict[str, Json] = {}
    for route in API_ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, dev=dev)
    return dict(paths)


def _operation(route: ApiRoute, *, dev: bool) -> Json:
    described: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "description": route.description,
        "parameters": _parameters(route, dev=dev),
        "responses": _responses(route, dev=dev),
    }
    if route.authenticated and not dev:
        described["security"] = [{"apiKey": []}, {"bearer": []}]
    if route.body is not None:
        described["requestBody"] = {
            "required": route.body_required,
            "content": {JSON_TYPE: {"schema": _reference(route.body)}},
        }
    if route.raw_body:
        described["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    return described


def _parameters(route: ApiRoute, *, dev: bool) -> list[Json]:
    parameters: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string", "minLength": 1},
        }
        for name, text in route.parameters.items()
    ]
    if route.authenticated:
        parameters.append(_origin_parameter(required=dev and route.body is None))
    if route.moves_money:
        parameters += _MONEY_PARAMETERS
    return parameters


def _origin_parameter(*, required: bool) -> Json:
    return {
        "name": "X-Origin-Id",
        "in": "header",
        "required": required,
        "description": "The merchant. May be left out when the API key or the body says it.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ORIGIN_ID_CHARS, "pattern": _VISIBLE},
    }


_MONEY_PARAMETERS: Final[list[Json]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": "Unique to this operation within the origin, such as a UUID.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_CHARS, "pattern": _VISIBLE},
    },
    {
        "name": "mode",
        "in": "query",
        "required": False,
        "description": "sync: the outcome. async: 202 once accepted. Without it: `Prefer: respond-async`, else sync.",
        "schema": {"type": "string", "enum": ["sync", "async"]},
    },
    {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": f"`wait=N`: longest wait in seconds, up to {MAX_SYNC_WAIT_S}. `respond-async`: as `mode=async`.",
        "schema": {"type": "string"},
        "example": "wait=5",
    },
]


_OF_EVERY_ROUTE: Final = frozenset(
    {
        ProblemCode.BAD_REQUEST,
        ProblemCode.INVALID_PARAMETER,  # a header that is repeated
        ProblemCode.UNSUPPORTED_MEDIA_TYPE,  # a content coding
        ProblemCode.EXPECTATION_FAILED,
        ProblemCode.INTERNAL,
    }
)


def _responses(route: ApiRoute, *, dev: bool) -> Json:
    responses: Json = {str(status): _outcome(outcome) for status, outcome in sorted(route.outcomes.items())}
    codes = route.problems | _OF_EVERY_ROUTE
    if dev and route.authenticated:
        codes -= {ProblemCode.UNAUTHENTICATED, ProblemCode.FORBIDDEN}
    by_status: dict[int, list[ProblemCode]] = {}
    for code in ProblemCode:
        if code in codes:
            by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, found in sorted(by_status.items()):
        responses[str(status)] = _problem(status, found)
    return responses


def _outcome(outcome: Outcome) -> Json:
    described: Json = {
        "description": outcome.meaning,
        "content": {JSON_TYPE: {"schema": _reference(outcome.model)}},
    }
    if outcome.headers:
        described["headers"] = {name: _HEADERS[name] for name in outcome.headers}
    return described


def _problem(status: int, codes: Iterable[ProblemCode]) -> Json:
    described: Json = {
        "description": "\n".join(f"- `{code}`: {PROBLEMS[code].title}" for code in codes),
        "content": {problems.CONTENT_TYPE: {"schema": _reference(payloads.Problem)}},
    }
    if status in _RETRY_STATUSES:
        described["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    if status == PROBLEMS[ProblemCode.UNAUTHENTICATED].status:
        described["headers"] = {"WWW-Authenticate": _HEADERS["WWW-Authenticate"]}
    return described


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _schemas() -> Json:
    bodies = {route.body for route in API_ROUTES if route.body is not None}
    answers = {outcome.model for route in API_ROUTES for outcome in route.outcomes.values()} | {payloads.Problem}
    named = sorted(bodies, key=lambda model: model.__name__), sorted(answers, key=lambda model: model.__name__)
    inputs, outputs = named
    _, definitions = models_json_schema(
        [*((model, "validation") for model in inputs), *((model, "serialization") for model in outputs)],
        ref_template="#/components/schemas/{model}",
    )
    schemas: Json = definitions["$defs"]
    return schemas
