"""The OpenAPI description is true: whatever is sent to what it describes, the answers are the ones it promises.

Schemathesis makes requests that fit the description and requests that do not, for every operation, and sends them to an
ingress over a real socket. No answer may be a 5xx; status, media type, headers and body must be as described; what does not
fit must be refused, and what fits must be taken. `tests/support/ingress_thread.py` says how the ingress runs beside it.
"""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from tests.support.ingress_thread import IngressThread

MAX_EXAMPLES = 60

# A request that fits can still be refused for what the description cannot say: a declined payment (402), card-like digits
# or a sum that is too large (422).
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


@pytest.fixture(scope="module")
def described(ingress: IngressThread) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{ingress.url}/openapi.json", config=CONFIG)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=MAX_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_operation_answers_as_described_whatever_is_sent(case: schemathesis.Case) -> None:
    _agree_on_the_origin(case)
    response = case.call_and_validate()
    assert response.status_code < 500


def _agree_on_the_origin(case: schemathesis.Case) -> None:
    """Let a fitting request name one origin: that the header and the body must agree is more than a schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):
        case.body.pop("originId", None)
    if "X-Origin-Id" not in case.headers:
        case.headers["X-Origin-Id"] = "originA"
