"""PayPal's codes of refusals, held to the lists in PayPal's own document."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from gateway_adapters.errors import ALARMS, Code
from gateway_adapters.paypal.issues import ISSUES, Sort, sorted_issue
from gateway_adapters.paypal.notices import SELLER_KEPT, SELLER_LOST
from gateway_adapters.paypal.translate import ACTS_AGAIN, ALREADY_VOIDED, DECLINES, STATUSES
from schemas.vocabulary import CallKind, DeclineClass
from tests.peers import PAYPAL_DOCUMENT

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    found: Json = json.loads(PAYPAL_DOCUMENT.read_bytes())
    return found


@pytest.fixture(scope="module")
def schemas(document: Json) -> Json:
    found: Json = document["components"]["schemas"]
    return found


def listed(schemas: Json, schema: str, member: str) -> set[str]:
    """Return the values of a member, in each of the documents that have the schema."""
    values: set[str] = set()
    for name, found in schemas.items():
        if name.partition("_")[2] == schema and member in found.get("properties", {}):
            values |= set(found["properties"][member].get("enum", ()))
    return values


def issues_in(document: Json, node: object, seen: set[str]) -> Iterator[str]:
    """Yield every issue that is named here, or where this refers to."""
    if isinstance(node, list):
        for each in node:
            yield from issues_in(document, each, seen)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            found: Any = document
            for name in reference.removeprefix("#/").split("/"):
                found = found[name]
            yield from issues_in(document, found, seen)
        issue = node.get("issue")
        if isinstance(issue, dict):
            yield from issue.get("enum", ())
        for each in node.values():
            yield from issues_in(document, each, seen)


CALLS: Final = (
    ("post", "/v2/checkout/orders"),
    ("get", "/v2/checkout/orders/{id}"),
    ("post", "/v2/checkout/orders/{id}/authorize"),
    ("post", "/v2/checkout/orders/{id}/capture"),
    ("get", "/v2/payments/authorizations/{authorization_id}"),
    ("post", "/v2/payments/authorizations/{authorization_id}/capture"),
    ("post", "/v2/payments/authorizations/{authorization_id}/void"),
    ("get", "/v2/payments/captures/{capture_id}"),
    ("post", "/v2/payments/captures/{capture_id}/refund"),
    ("get", "/v2/payments/refunds/{refund_id}"),
)
"""What the adapter calls of what PayPal's document lists issues for."""


def test_codes_are_those_of_paypals_document_and_no_others(document: Json, schemas: Json) -> None:
    processors = listed(schemas, "processor_response", "response_code")
    reasons = listed(schemas, "capture_status_details", "reason")
    assert (len(processors), len(reasons)) == (154, 11)
    issues = set(DECLINES.codes) - processors - reasons
    assert processors | reasons <= set(DECLINES.codes)
    assert issues <= set(issues_in(document, document, set()))
    assert DECLINES.version == "1.0.0"


def test_every_issue_of_the_calls_that_are_made_is_sorted_and_no_other_is(document: Json) -> None:
    listed_issues = {
        issue for method, path in CALLS for issue in issues_in(document, document["paths"][path][method], set())
    }
    assert len(listed_issues) == 184
    # The one that the document does not list is the name of an error, for a request id that was used before.
    assert set(ISSUES) == listed_issues | {"DUPLICATE_REQUEST_ID"}


def test_refusal_has_a_word_of_the_engines_and_alarms_nobody() -> None:
    refusals = {issue for issue, sort in ISSUES.items() if sort in {Sort.DECLINED, Sort.NOT_DONE}}
    assert len(refusals) == 59
    assert refusals <= set(DECLINES.codes)
    assert not {DECLINES.codes[issue] for issue in refusals} & ALARMS
    assert {ALREADY_VOIDED, *ACTS_AGAIN} <= refusals


def test_refusal_of_what_stands_at_paypal_is_known_by_its_reason() -> None:
    for issue in (issue for issue, sort in ISSUES.items() if sort is Sort.NOT_DONE):
        assert DECLINES.codes[issue] is not Code.UNKNOWN


@pytest.mark.parametrize(
    ("issues", "sort", "issue"),
    [
        (["CARD_EXPIRED"], Sort.DECLINED, "CARD_EXPIRED"),
        (["MISSING_REQUIRED_PARAMETER", "CARD_EXPIRED", "UNPROCESSABLE_ENTITY"], Sort.DECLINED, "CARD_EXPIRED"),
        (["REFUND_AMOUNT_EXCEEDED", "DUPLICATE_INVOICE_ID"], Sort.IN_DOUBT, "DUPLICATE_INVOICE_ID"),
        (["DUPLICATE_REQUEST_ID"], Sort.IN_DOUBT, "DUPLICATE_REQUEST_ID"),
        (["A_NEW_WORD", "UNPROCESSABLE_ENTITY"], Sort.OURS, "A_NEW_WORD"),
    ],
)
def test_of_several_issues_the_one_closest_to_money_counts(issues: list[str], sort: Sort, issue: str) -> None:
    assert sorted_issue(issues) == (sort, issue)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (CallKind.AUTHORIZE, "authorization_status"),
        (CallKind.CAPTURE, "capture_status"),
        (CallKind.REFUND, "refund_status"),
    ],
)
def test_each_status_of_what_is_made_has_a_meaning(schemas: Json, kind: CallKind, schema: str) -> None:
    assert listed(schemas, schema, "status") == set(STATUSES[kind])


def test_ends_of_disputes_are_of_one_kind_alone() -> None:
    assert not SELLER_LOST & SELLER_KEPT


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("0500", Code.DO_NOT_HONOR),
        ("5120", Code.INSUFFICIENT_FUNDS),
        ("5400", Code.EXPIRED_CARD),
        ("5650", Code.AUTHENTICATION_REQUIRED),
        ("9520", Code.LOST_OR_STOLEN),
        ("INSTRUMENT_DECLINED", Code.CARD_DECLINED),
        ("CARD_EXPIRED", Code.EXPIRED_CARD),
    ],
)
def test_code_means_what_paypal_says(code: str, meant: Code) -> None:
    assert DECLINES.decline_of(code).code == meant


def test_code_that_nobody_knows_is_kept_and_means_nothing() -> None:
    error = DECLINES.decline_of("9999")
    assert (error.code, error.gateway_code, error.decline_class) == (Code.UNKNOWN, "9999", DeclineClass.UNKNOWN)
