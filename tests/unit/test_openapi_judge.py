"""Our own judge by an OpenAPI document refuses what Prism refuses, and lets through what Prism lets through."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.peers import ADYEN_DOCUMENT, PAYPAL_DOCUMENT
from tests.support.openapi_judge import RequestJudge, judge_of

HEADERS: Mapping[str, str] = {"Content-Type": "application/json", "X-Key": "k", "Request-Id": "r1"}
PAYMENT: dict[str, object] = {"amount": {"value": "10.00"}, "intent": "CAPTURE"}


def document(version: str) -> dict[str, Any]:
    return {
        "openapi": version,
        "security": [{"key": []}, {"token": []}],
        "paths": {
            "/payments": {
                "post": {
                    "parameters": [{"$ref": "#/components/parameters/request_id"}],
                    "requestBody": {"$ref": "#/components/requestBodies/payment"},
                }
            },
            "/payments/{id}": {
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"maxLength": 4}}],
                "get": {"parameters": [{"name": "page", "in": "query", "schema": {"type": "integer"}}]},
            },
            "/payments/last": {"get": {"security": []}},
            "/token": {
                "post": {
                    "security": [{"login": []}],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/x-www-form-urlencoded": {
                                "schema": {"required": ["grant"], "properties": {"grant": {"enum": ["client"]}}}
                            }
                        },
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
                "token": {"type": "oauth2", "flows": {}},
                "login": {"type": "http", "scheme": "basic"},
            },
            "parameters": {
                "request_id": {
                    "name": "Request-Id",
                    "in": "header",
                    "required": True,
                    "schema": {"type": "string", "maxLength": 8},
                }
            },
            "requestBodies": {
                "payment": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/payment"}}},
                }
            },
            "schemas": {
                "payment": {
                    "type": "object",
                    "required": ["id", "amount"],
                    "properties": {
                        "id": {"type": "string", "readOnly": True},
                        "amount": {"$ref": "#/components/schemas/amount"},
                        "intent": {"type": "string", "enum": ["CAPTURE", "AUTHORIZE"]},
                        "note": {"type": "string", "nullable": True},
                        "nullable": {"type": "boolean"},
                    },
                },
                "amount": {
                    "type": "object",
                    "required": ["value"],
                    "properties": {"value": {"type": "string", "pattern": "^[0-9]+[.][0-9]{2}$"}},
                },
            },
        },
    }


@pytest.fixture(params=["3.0.3", "3.1.0"])
def judge(request: pytest.FixtureRequest) -> RequestJudge:
    return RequestJudge(document(request.param))


def posted(judge: RequestJudge, *, headers: Mapping[str, str] = HEADERS, **changed: Any) -> list[str]:
    body = {name: value for name, value in {**PAYMENT, **changed}.items() if value is not ...}
    return judge.refusals("POST", "/payments", headers, json.dumps(body).encode())


def test_a_request_fits_when_it_has_all_that_is_required(judge: RequestJudge) -> None:
    assert posted(judge) == []
    assert posted(judge, unknown="let through", nullable=True) == []
    assert posted(judge, headers={name.upper(): value for name, value in HEADERS.items()}) == []
    assert judge.refusals("get", "/payments/p1?page=2", {"x-key": "k"}) == []


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"amount": ...}, "body"),
        ({"amount": {"value": 10}}, "body/amount/value"),
        ({"amount": {"value": "10"}}, "body/amount/value"),
        ({"intent": "HOLD"}, "body/intent"),
    ],
)
def test_a_body_is_refused_with_its_place_when_it_breaks_its_schema(
    judge: RequestJudge, changed: dict[str, Any], place: str
) -> None:
    (refusal,) = posted(judge, **changed)
    assert refusal.startswith(f"{place}: ")


def test_null_is_let_through_when_an_old_document_calls_it_nullable() -> None:
    judge = RequestJudge(document("3.0.3"))
    assert posted(judge, note=None) == []
    assert len(posted(judge, intent=None)) >= 1


@pytest.mark.parametrize("lost", ["Request-Id", "X-Key", "Content-Type"])
def test_a_request_is_refused_when_it_lacks_a_header(judge: RequestJudge, lost: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != lost}
    assert len(posted(judge, headers=headers)) == 1


def test_a_header_is_refused_when_it_breaks_its_schema(judge: RequestJudge) -> None:
    (refusal,) = posted(judge, headers={**HEADERS, "Request-Id": "too-long-by-far"})
    assert refusal.startswith("header Request-Id: ")


def test_credentials_are_enough_when_one_way_of_several_is_shown(judge: RequestJudge) -> None:
    bare = {"Content-Type": "application/json", "Request-Id": "r1"}
    assert posted(judge, headers={**bare, "Authorization": "Bearer t"}) == []
    assert posted(judge, headers={**bare, "Authorization": "Basic t"}) == ["no credentials of key or token"]
    assert judge.refusals("GET", "/payments/last", {}) == []


def test_parameters_of_path_and_query_are_refused_when_they_break_their_schemas(judge: RequestJudge) -> None:
    assert [each.partition(":")[0] for each in judge.refusals("GET", "/payments/abcde?page=x", {"X-Key": "k"})] == [
        "path id",
        "query page",
    ]


@pytest.mark.parametrize(("method", "path"), [("POST", "/nowhere"), ("PUT", "/payments"), ("GET", "/payments/")])
def test_a_request_is_refused_when_the_document_has_no_such_path(judge: RequestJudge, method: str, path: str) -> None:
    assert judge.refusals(method, path, HEADERS) == [f"the document has no {method} {path}"]


def test_a_form_is_read_as_one_and_an_absent_or_broken_body_is_refused(judge: RequestJudge) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "Authorization": "Basic eDp5"}
    assert judge.refusals("POST", "/token", form, b"grant=client") == []
    assert len(judge.refusals("POST", "/token", form, b"grant=password")) == 1
    assert judge.refusals("POST", "/token", form) == ["the body is missing"]
    (refusal,) = judge.refusals("POST", "/payments", HEADERS, b'{"amount": ')
    assert refusal.startswith("the body can not be read: ")


def test_the_vendors_documents_are_read_and_refuse_what_prism_refuses() -> None:
    """The same canaries as in `tests/contract/test_peers_canaries.py`."""
    adyen, paypal = judge_of(ADYEN_DOCUMENT), judge_of(PAYPAL_DOCUMENT)
    key = {"Content-Type": "application/json", "X-API-Key": "key"}
    assert 'body: "amount" is a required property' in adyen.refusals("POST", "/payments", key, b"{}")
    token = {"Content-Type": "application/json", "Authorization": "Bearer t", "PayPal-Request-Id": "r1"}
    order = {"intent": "HOLD", "purchase_units": [{"amount": {"currency_code": "EUR", "value": "10.00"}}]}
    (refusal,) = paypal.refusals("POST", "/v2/checkout/orders", token, json.dumps(order).encode())
    assert refusal.startswith("body/intent: ")
    order["intent"] = "CAPTURE"
    assert paypal.refusals("POST", "/v2/checkout/orders", token, json.dumps(order).encode()) == []
