"""The OpenAPI description is true: whatever is sent to what it describes, the answers are the ones it promises.

Schemathesis makes requests that fit the description and requests that do not, for every operation, and sends them to an
ingress over a real socket. No answer may be a 5xx; status, media type, headers and body must be as described; what does
not fit must be refused, and what fits must be taken.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from http_ingress.description import openapi
from tests.support.ingress_thread import IngressThread

MAX_EXAMPLES = 60

# A request that fits can still be refused for what the description cannot say: a declined payment (402), digits that
# look like a card's or a sum that is too large (422).
CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "402", "404", "409", "422"]},
            "negative_data_rejection": {"expected-statuses": ["400", "404", "405", "406", "413", "415", "422"]},
            "missing_required_header": {"expected-statuses": ["400", "406"]},
        },
    }
)


@pytest.fixture(scope="module")
def ingress() -> Iterator[IngressThread]:
    with IngressThread() as thread:
        yield thread


schema = schemathesis.openapi.from_dict(json.loads(openapi.document(version="test", dev=True)), config=CONFIG)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=MAX_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_operation_answers_as_described_whatever_is_sent(case: Case[Any], ingress: IngressThread) -> None:
    _say_what_a_schema_cannot(case)
    response = case.call_and_validate(base_url=ingress.url)
    assert response.status_code < 500


def _say_what_a_schema_cannot(case: Case[Any]) -> None:
    """Let a fitting request keep the rules that JSON Schema has no words for.

    The header and the body must name the same origin; an amount is written without a fraction, while for JSON Schema
    388.0 is an integer; texts hold no control characters, an address is one, and a gateway has one token.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):
        case.body.pop("originId", None)
        amount = case.body.get("amount")
        if isinstance(amount, float):
            case.body["amount"] = int(amount)
        _mend_texts(case.body)
    if "X-Origin-Id" not in case.headers:
        case.headers["X-Origin-Id"] = "originA"


def _mend_texts(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if isinstance(value, dict):
            _mend_texts(value)
        elif isinstance(value, str) and not value.isprintable():
            body[name] = "".join(each if each.isprintable() else "x" for each in value)
        elif isinstance(value, float):
            body[name] = int(value)
        if name == "ip" and value is not None:
            body[name] = "192.0.2.1"
        if name == "tokens" and value:
            body[name] = [{**each, "gateway": f"gateway{number}"} for number, each in enumerate(value)]
            for each in body[name]:
                if each.get("payerReference") is not None:
                    each["payerReference"] = "payer-1"
        if name == "reference" and value is not None:
            body[name] = "payer-1"
