"""PayPal's codes of refusals, held to the lists in PayPal's own document."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_adapters.errors import Code
from gateway_adapters.paypal.notices import SELLER_KEPT, SELLER_LOST
from gateway_adapters.paypal.translate import (
    ACTS_AGAIN,
    ALREADY_VOIDED,
    DECLINES,
    KEY_TAKEN,
    NOT_APPROVED,
    STATUSES,
    UNDER_WAY,
)
from schemas.vocabulary import CallKind, DeclineClass
from tests.peers import PAYPAL_DOCUMENT

Json = dict[str, Any]


@pytest.fixture(scope="module")
def schemas() -> Json:
    document: Json = json.loads(PAYPAL_DOCUMENT.read_bytes())
    found: Json = document["components"]["schemas"]
    return found


def listed(schemas: Json, schema: str, member: str) -> set[str]:
    """Return the values of a member, in each of the documents that have the schema."""
    values: set[str] = set()
    for name, found in schemas.items():
        if name.partition("_")[2] == schema and member in found.get("properties", {}):
            values |= set(found["properties"][member].get("enum", ()))
    return values


def issues_in(node: object) -> Iterator[str]:
    """Yield every issue that the documents name."""
    if isinstance(node, list):
        for each in node:
            yield from issues_in(each)
    elif isinstance(node, dict):
        issue = node.get("issue")
        if isinstance(issue, dict):
            yield from issue.get("enum", ())
        for each in node.values():
            yield from issues_in(each)


def test_codes_are_those_of_paypals_document_and_no_others(schemas: Json) -> None:
    processors = listed(schemas, "processor_response", "response_code")
    reasons = listed(schemas, "capture_status_details", "reason")
    assert (len(processors), len(reasons)) == (154, 11)
    issues = set(DECLINES.codes) - processors - reasons
    assert processors | reasons <= set(DECLINES.codes)
    assert issues <= set(issues_in(schemas))
    assert DECLINES.version == "1.0.0"


def test_issues_that_are_told_apart_are_in_paypals_document(schemas: Json) -> None:
    known = set(issues_in(schemas))
    # The first is the name of an error, and no issue; the document has no word on a request id that is used again.
    assert {ALREADY_VOIDED, NOT_APPROVED, *ACTS_AGAIN, *KEY_TAKEN, *UNDER_WAY} - known == {"DUPLICATE_REQUEST_ID"}


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
