"""The OpenAPI 3.1 document, generated from the table of routes and the pydantic models; pure but for its examples.

Served at `/openapi.json`, shown by `/docs`, fuzzed by `tests/acceptance/test_openapi_fuzzing.py`. Requests are
described as closed, since an unknown member is refused. Answers are open: a client that was generated from this
document must go on working when a member or a value is added. `assets/examples.json` holds requests and their real
answers; `tests/support/described_examples.py` records them.
"""

import json
import shlex
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from http_ingress.limits import MAX_SYNC_WAIT_S
from http_ingress.money.bodies import VISIBLE_WORDS, Part
from http_ingress.representation import payloads, problems
from http_ingress.representation.answers import JSON_TYPE
from http_ingress.representation.problems import PROBLEMS, ProblemCode
from http_ingress.routes import API_ROUTES, ApiRoute, Outcome
from schemas.identifiers import MAX_IDEMPOTENCY_KEY_CHARS, MAX_ORIGIN_ID_CHARS
from streams.topology import MERCHANTS_PORT

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
            "are problem details (RFC 9457). Bodies hold tokens, never card numbers. Answers may get more members, and "
            "enumerations of answers more values: take neither for an error.",
            "contact": {"name": "Whoever runs this engine"},
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(dev=dev),
        "components": {"schemas": _schemas(), **({} if dev else {"securitySchemes": _SECURITY_SCHEMES})},
    }
    return json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()


_SECURITY_SCHEMES: Final[Json] = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "As `payment-engine keys create` made it: `pek_…`.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key, as `Authorization: Bearer pek_…`."},
}
_PUBLIC: Final[list[Json]] = []
_TAGS: Final = {
    "Payments": "Opening, changing and reading payments.",
    "Refunds": "Giving money back.",
    "Webhooks": "For gateways.",
    "Service": "For load balancers.",
}
_TAG_OF: Final = {"payments": "Payments", "refunds": "Refunds", "webhooks": "Webhooks"}


def _paths(*, dev: bool) -> dict[str, Json]:
    paths: dict[str, Json] = {}
    for route in API_ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, dev=dev)
    return paths | _SERVICE_PATHS


def _operation(route: ApiRoute, *, dev: bool) -> Json:
    described: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "description": _with_curl(route, dev=dev),
        "tags": [_TAG_OF[route.path.split("/")[1]]],
        "parameters": _parameters(route, dev=dev),
        "responses": _responses(route, dev=dev),
    }
    described["security"] = [{"apiKey": []}, {"bearer": []}] if route.authenticated and not dev else _PUBLIC
    if route.body is not None:
        content: Json = {"schema": _reference(route.body)}
        if route.name in _examples():
            content["example"] = _examples()[route.name]["body"]
        described["requestBody"] = {"required": route.body_required, "content": {JSON_TYPE: content}}
    if route.raw_body:  # whatever media type the gateway gives it
        described["requestBody"] = {"required": True, "content": {"*/*": {"schema": {}}}}
    return described


@cache
def _examples() -> dict[str, Any]:
    """Return by operation: the path, key and body of a request, and its answers by status."""
    text = resources.files("http_ingress.description").joinpath("assets", "examples.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _with_curl(route: ApiRoute, *, dev: bool) -> str:
    example = _examples().get(route.name)
    if example is None:
        return route.description
    address = f"http://localhost:{MERCHANTS_PORT}{example['path']}"
    headers = ["X-Origin-Id: originA" if dev else "X-Api-Key: pek_…"]
    if example["key"] is not None:
        headers.append(f"Idempotency-Key: {example['key']}")
    body = []
    if example["body"] is not None:
        headers.append(f"Content-Type: {JSON_TYPE}")
        body.append(f"-d {shlex.quote(json.dumps(example['body'], separators=(',', ':')))}")
    called = f"curl -s -X {route.method} {shlex.quote(address)}"
    command = " \\\n  ".join([called, *(f"-H {shlex.quote(each)}" for each in headers), *body])
    return f"{route.description}\n\n```sh\n{command}\n```"


def _parameters(route: ApiRoute, *, dev: bool) -> list[Json]:
    parameters: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string", "minLength": 1},
            **_example_in_path(route, name),
        }
        for name, text in route.parameters.items()
    ]
    if route.authenticated:
        parameters.append(_origin_parameter(required=dev and route.body is None))
    if route.moves_money:
        parameters += _MONEY_PARAMETERS
    return parameters


def _example_in_path(route: ApiRoute, name: str) -> Json:
    example = _examples().get(route.name)
    if example is None:
        return {}
    place = route.path.split("/").index(f"{{{name}}}")
    return {"example": example["path"].partition("?")[0].split("/")[place]}


def _origin_parameter(*, required: bool) -> Json:
    return {
        "name": "X-Origin-Id",
        "in": "header",
        "required": required,
        "description": "The merchant. May be left out when the API key or the body says it. "
        f"{VISIBLE_WORDS}, at most {MAX_ORIGIN_ID_CHARS}.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ORIGIN_ID_CHARS, "pattern": _VISIBLE},
    }


_MONEY_PARAMETERS: Final[list[Json]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": "Unique to this operation within the origin, such as a UUID. "
        f"{VISIBLE_WORDS}, at most {MAX_IDEMPOTENCY_KEY_CHARS}.",
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
    shown = _examples().get(route.name, {}).get("answers", {})
    responses: Json = {
        str(status): _outcome(outcome, shown.get(str(status))) for status, outcome in sorted(route.outcomes.items())
    }
    codes = route.problems | _OF_EVERY_ROUTE
    if dev and route.authenticated:
        codes -= {ProblemCode.UNAUTHENTICATED, ProblemCode.FORBIDDEN}
    by_status: dict[int, list[ProblemCode]] = {}
    for code in ProblemCode:
        if code in codes:
            by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, found in sorted(by_status.items()):
        responses[str(status)] = _problem(status, found, shown.get(str(status)))
    return responses


def _outcome(outcome: Outcome, example: Json | None) -> Json:
    content: Json = {"schema": _reference(outcome.model)}
    if example is not None:
        content["example"] = example
    described: Json = {"description": outcome.meaning, "content": {JSON_TYPE: content}}
    if outcome.headers:
        described["headers"] = {name: _HEADERS[name] for name in outcome.headers}
    return described


def _problem(status: int, codes: Iterable[ProblemCode], example: Json | None = None) -> Json:
    codes = tuple(codes)
    kind = PROBLEMS[codes[0]]
    told = {"type": problems.type_of(codes[0]), "title": kind.title, "status": status, "code": codes[0].value}
    described: Json = {
        "description": "\n".join(f"- `{code}`: {PROBLEMS[code].title}" for code in codes),
        "content": {problems.CONTENT_TYPE: {"schema": _reference(payloads.Problem), "example": example or told}},
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
    schemas: dict[str, Any] = definitions["$defs"]
    asked = {model.__name__ for model in (*inputs, *Part.__subclasses__())}
    for name, schema in schemas.items():
        if name not in asked:
            _open(schema)
        for member in schema.get("properties", {}).values():
            member.pop("title", None)  # pydantic's, of the member's name: says nothing
            # A generator of types takes a member with a default for one that is always there; what is left out means
            # what the description says.
            member.pop("default", None)
    return schemas


def _open(schema: dict[str, Any]) -> None:
    """Let an answer's schema have more members, or more values, than are known today."""
    schema.pop("additionalProperties", None)
    if "enum" in schema:
        schema["description"] = f"{schema['description']} Open: more values may come."


def _service_path(name: str, summary: str, text: str, *, may_refuse: bool) -> Json:
    ready = Outcome(meaning=text, model=payloads.Health)
    answers: Json = {"200": _outcome(ready, {"status": "ready" if may_refuse else "alive"})}
    for code in (ProblemCode.BAD_REQUEST, ProblemCode.UNSUPPORTED_MEDIA_TYPE, ProblemCode.EXPECTATION_FAILED):
        answers[str(PROBLEMS[code].status)] = _problem(PROBLEMS[code].status, (code,))
    if may_refuse:
        not_ready = PROBLEMS[ProblemCode.NOT_READY].status
        answers[str(not_ready)] = _problem(not_ready, (ProblemCode.NOT_READY,))
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "description": text,
            "tags": ["Service"],
            "security": _PUBLIC,
            "responses": answers,
        }
    }


_SERVICE_PATHS: Final[dict[str, Json]] = {
    "/healthz": _service_path("readHealth", "Alive?", "The process lives and its event loop turns.", may_refuse=False),
    "/readyz": _service_path(
        "readReadiness", "Ready?", "This instance may be sent requests: it hears replies.", may_refuse=True
    ),
}
