import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.contract import (
    MAX_RAW_CHARS,
    MAX_RAW_ITEMS,
    MAX_RAW_VALUE_CHARS,
    WINDOW_MARGIN_MS,
    CallResult,
    allow_list,
    check_request,
    completed,
    kept_of,
    weakened_for_resend,
    window_open,
)
from gateway_adapters.errors import InvariantViolatedError, Signal, error_for
from gateway_adapters.mock.client import MockGateway
from gateway_adapters.mock.spec import CAPABILITIES, MockAccount
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request

REFUSED = CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.NOT_SENT))


def test_completed_record_is_the_requests_identity_and_the_results_content() -> None:
    request = payment_request(fresh_order())
    result = CallResult(
        outcome=Outcome.SUCCEEDED,
        gateway_reference="ref",
        confirmed_amount_minor=5,
        raw="{}",
        occurred_at_ms=6,
        case_reference="case",
    )
    record = completed(request, result, completed_at_ms=7)
    assert (record.op_id, record.attempt, record.kind) == (request.op_id, request.attempt, request.kind)
    assert (record.outcome, record.gateway_reference, record.confirmed_amount_minor) == (Outcome.SUCCEEDED, "ref", 5)
    assert (record.occurred_at_ms, record.case_reference, record.completed_at_ms) == (6, "case", 7)


def test_refused_resend_proves_nothing_about_the_first_sending() -> None:
    weakened = weakened_for_resend(payment_request(fresh_order()), REFUSED)
    assert weakened == replace(REFUSED, outcome=Outcome.UNKNOWN)


@pytest.mark.parametrize(
    "result",
    [
        CallResult(outcome=Outcome.SUCCEEDED),
        CallResult(outcome=Outcome.DECLINED),
        replace(REFUSED, replayed=True),  # the gateway's word about the key itself
    ],
)
def test_resend_keeps_what_the_gateway_said_about_the_key(result: CallResult) -> None:
    assert weakened_for_resend(payment_request(fresh_order()), result) == result


def test_inquiry_is_never_weakened() -> None:
    assert weakened_for_resend(inquiry_about(payment_request(fresh_order())), REFUSED) == REFUSED


def test_key_window_closes_a_margin_early() -> None:
    request = payment_request(fresh_order())
    able = replace(CAPABILITIES, key_window_ms={CallKind.AUTHORIZE: 10 * WINDOW_MARGIN_MS})
    last_ms = request.first_requested_at_ms + 9 * WINDOW_MARGIN_MS - 1
    assert window_open(able, request, now_ms=last_ms)
    assert not window_open(able, request, now_ms=last_ms + 1)


def test_key_window_without_end_stays_open_and_an_absent_one_is_closed() -> None:
    request = payment_request(fresh_order())
    assert window_open(CAPABILITIES, request, now_ms=10**15)
    assert not window_open(replace(CAPABILITIES, key_window_ms={}), request, now_ms=request.first_requested_at_ms)


def test_capabilities_support_a_kind_in_a_currency() -> None:
    able = replace(CAPABILITIES, operations=frozenset({CallKind.SALE}), currencies=frozenset({"EUR"}))
    assert able.supports(CallKind.SALE, "EUR")
    assert able.supports(CallKind.SALE, None)
    assert not able.supports(CallKind.SALE, "USD")
    assert not able.supports(CallKind.VOID, "EUR")


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"token": None}, "token"),
        ({"gateway_key": ""}, "gateway_key"),
        ({"amount_minor": 0}, "amount_minor"),
        ({"kind": CallKind.CAPTURE, "token": None}, "payment_reference"),
        ({"kind": CallKind.COMPLETE, "token": None}, "payment_reference"),
        ({"kind": CallKind.COMPLETE, "token": None, "details": CallDetails()}, "payment_reference"),
        ({"kind": CallKind.CAPTURE, "token": None, "order_reference": "order"}, "payment_reference"),
        ({"kind": CallKind.INQUIRE}, "inquired_kind"),
    ],
)
def test_request_is_refused_when_its_kind_needs_more(change: dict[str, object], missing: str) -> None:
    request = replace(payment_request(fresh_order()), **change)  # type: ignore[arg-type] # one of the cases above
    with pytest.raises(InvariantViolatedError, match=missing):
        check_request(request)


@pytest.mark.parametrize(
    "told",
    [
        {"payment_reference": "ref"},
        {"order_reference": "order"},
        {"details": CallDetails(return_parameters=(NamedText(name="redirectResult", value="X6X!Y"),))},
    ],
)
def test_completion_needs_one_thing_that_tells_its_payment(told: dict[str, object]) -> None:
    check_request(replace(payment_request(fresh_order(), CallKind.COMPLETE), token=None, **told))  # type: ignore[arg-type]


async def test_void_of_what_the_gateway_has_not_named_is_not_sent_where_it_knows_nothing_by_our_reference() -> None:
    gateway = MockGateway(MockAccount(url="http://127.0.0.1:9"))
    unnamed = follow_up(payment_request(fresh_order()), CallKind.VOID, reference=None, amount_minor=10_000)
    result = await gateway.call(unnamed)
    assert (result.outcome, result.error) == (Outcome.NOT_EXECUTED, error_for(Signal.UNSUPPORTED))
    await gateway.close()


def test_void_needs_no_amount() -> None:
    check_request(follow_up(payment_request(fresh_order()), CallKind.VOID, reference="ref", amount_minor=0))


SECRET = "tok_very_secret"
LISTED = allow_list("id", "items.id", "items.status.code", "note")


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b"", "(0 bytes that are no JSON object)"),
        (b"<html>Ada Lovelace", "(18 bytes that are no JSON object)"),
        (b'["Ada"]', "(7 bytes that are no JSON object)"),
        (b"\xff\xfe", "(2 bytes that are no JSON object)"),
        (b'{"id": 5, "email": "ada@example.com"}', '{"id":5}'),
        (b'{"id": {"email": "ada@example.com"}}', '{"id":{}}'),  # a listed member that has become an object
        (b'{"items": [{"id": "a", "name": "Ada"}, "Ada", {"status": {"code": 1, "text": "Ada"}}]}', None),
        (b'{"note": "paid with tok_very_secret"}', '{"note":"paid with [redacted]"}'),
        (b'{"note": null, "id": true}', '{"id":true,"note":null}'),
    ],
)
def test_nothing_is_kept_of_an_answer_but_what_is_listed(answer: bytes, kept: str | None) -> None:
    found = kept_of(answer, LISTED, secrets=["", SECRET])
    assert "Ada" not in found
    assert "example.com" not in found
    if kept is not None:
        assert found == kept


def test_each_listed_member_is_kept_however_deep_it_stands() -> None:
    deep = allow_list("a.b.c.d", "a.b.c.e", "a.b.f", "a.g")
    answer = {"a": {"b": {"c": {"d": 1, "e": 2, "x": 3}, "f": 4, "x": 5}, "g": 6, "x": 7}}
    kept = json.loads(kept_of(json.dumps(answer).encode(), deep, secrets=()))
    assert kept == {"a": {"b": {"c": {"d": 1, "e": 2}, "f": 4}, "g": 6}}


def test_what_is_kept_of_an_answer_is_cut_and_leaves_no_half_of_a_secret_at_the_cut() -> None:
    items = [{"id": "x" * MAX_RAW_VALUE_CHARS} for _ in range(MAX_RAW_ITEMS - 1)]
    for padding in range(MAX_RAW_VALUE_CHARS):
        answer = json.dumps(
            {"items": [*items, {"id": "y" * padding + SECRET}, {"id": SECRET}], "note": SECRET}
        ).encode()
        found = kept_of(answer, LISTED, secrets=[SECRET])
        assert len(found) <= MAX_RAW_CHARS
        assert "tok" not in found


@given(
    st.recursive(
        st.none() | st.integers(-9, 9) | st.text(), lambda below: st.lists(below) | st.dictionaries(st.text(), below)
    )
)
def test_any_answer_leaves_text_of_bounded_length(answer: object) -> None:
    assert len(kept_of(json.dumps(answer).encode(), LISTED, secrets=[SECRET])) <= MAX_RAW_CHARS


class WithoutRefunds(MockGateway):
    """A gateway that can be asked for nothing but authorizations."""

    @property
    def capabilities(self):  # type: ignore[no-untyped-def] # the base's type
        return replace(CAPABILITIES, operations=frozenset({CallKind.AUTHORIZE}))


async def test_unsupported_operation_is_not_sent_and_an_unsupported_inquiry_proves_nothing() -> None:
    gateway = WithoutRefunds(MockAccount(url="http://127.0.0.1:1"))
    first = payment_request(fresh_order())
    refund = follow_up(first, CallKind.REFUND, reference="ref", amount_minor=1)
    result, inquired = await asyncio.gather(gateway.call(refund), gateway.call(inquiry_about(first)))
    assert (result.outcome, inquired.outcome) == (Outcome.NOT_EXECUTED, Outcome.UNKNOWN)
    assert result.error == error_for(Signal.UNSUPPORTED)
