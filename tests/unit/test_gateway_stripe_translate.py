"""What Stripe's answers mean, and what is asked of it: without a socket."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code, NotSentError, Signal
from gateway_adapters.http_transport import Answer
from gateway_adapters.stripe import requests, translate
from gateway_adapters.stripe.wire import Failure
from schemas.identifiers import OrderId
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_requests import follow_up, inquiry_about, payment_request

SALE = payment_request(OrderId("order-1"), CallKind.SALE, token="pm_secret_1")
HOLD = payment_request(OrderId("order-1"), token="pm_secret_1")
CAPTURE = follow_up(HOLD, CallKind.CAPTURE, reference="pi_1", amount_minor=4_000)
VOID = follow_up(HOLD, CallKind.VOID, reference="pi_1", amount_minor=10_000)
REFUND = follow_up(SALE, CallKind.REFUND, reference="pi_1", amount_minor=2_500)
COMPLETION = follow_up(HOLD, CallKind.COMPLETE, reference="pi_1", amount_minor=10_000)


def payment(of: GatewayCallRequested = SALE, **changes: object) -> dict[str, Any]:
    manual = of.kind is not CallKind.SALE
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 10_000,
        "amount_capturable": 0,
        "amount_received": 10_000,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "manual" if manual else "automatic_async",
        "client_secret": "pi_1_secret_of_the_payer",
        "created": 1_800_000_000,
        "currency": "usd",
        "last_payment_error": None,
        "latest_charge": {
            "id": "ch_1",
            "object": "charge",
            "status": "succeeded",
            "created": 1_800_000_007,
            "billing_details": {"name": "A Payer"},
        },
        "livemode": False,
        "metadata": {"op_id": of.op_id, "order_id": of.order_id, "origin_id": of.origin_id},
        "next_action": None,
        "payment_method": "pm_secret_1",
        "status": "succeeded",
        **changes,
    }


def refund(**changes: object) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 2_500,
        "charge": "ch_1",
        "created": 1_800_000_009,
        "currency": "usd",
        "failure_reason": None,
        "metadata": {"op_id": REFUND.op_id},
        "payment_intent": "pi_1",
        "status": "succeeded",
        **changes,
    }


def answered(
    request: GatewayCallRequested, body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> CallResult:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return translate.from_answer(request, Answer(status=status, headers=headers or {}, body=raw))


def code_of(result: CallResult) -> str | None:
    return None if result.error is None else result.error.code


FAILED = {"type": "card_error", "code": "card_declined", "decline_code": "lost_card", "advice_code": "do_not_try_again"}
HELD = {"status": "requires_capture", "amount_capturable": 10_000, "amount_received": 0}


@pytest.mark.parametrize(
    ("request_", "body", "outcome", "code"),
    [
        (SALE, payment(), Outcome.SUCCEEDED, None),
        (SALE, payment(status="processing"), Outcome.PENDING, None),
        (SALE, payment(status="requires_action"), Outcome.REQUIRES_ACTION, None),
        (SALE, payment(status="brand_new"), Outcome.PENDING, Code.UNKNOWN_STATUS),
        (SALE, payment(status="requires_capture"), Outcome.PENDING, Code.UNKNOWN_STATUS),  # nobody asked for a hold
        (SALE, payment(status="requires_payment_method"), Outcome.PENDING, Code.UNKNOWN_STATUS),
        (
            SALE,
            payment(status="requires_payment_method", last_payment_error=FAILED),
            Outcome.DECLINED,
            Code.LOST_OR_STOLEN,
        ),
        (SALE, payment(status="canceled", latest_charge=None), Outcome.DECLINED, Code.CANCELLED),
        (
            SALE,
            payment(status="canceled", latest_charge=None, cancellation_reason="expired"),
            Outcome.DECLINED,
            Code.ACTION_EXPIRED,
        ),
        (HOLD, payment(HOLD, **HELD), Outcome.SUCCEEDED, None),
        (HOLD, payment(HOLD, status="canceled", amount_received=0), Outcome.SUCCEEDED, None),  # and voided since
        (
            HOLD,
            payment(HOLD, status="canceled", amount_received=0, cancellation_reason="automatic"),
            Outcome.EXPIRED,
            Code.AUTHORIZATION_EXPIRED,
        ),
        (SALE, payment(metadata={}), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, payment(metadata={"op_id": "op_of_another"}), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, payment(object="charge"), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, payment(amount=100.0), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, payment(amount_received=-1), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, payment(currency="xxx"), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, payment(metadata={"op_id": 7}), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, [], Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (SALE, b"<html>", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (CAPTURE, payment(HOLD, amount_received=4_000), Outcome.SUCCEEDED, None),
        (CAPTURE, payment(HOLD, status="processing"), Outcome.PENDING, None),
        (CAPTURE, payment(HOLD, status="brand_new"), Outcome.PENDING, Code.UNKNOWN_STATUS),
        (CAPTURE, payment(HOLD, id="pi_2"), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (VOID, payment(HOLD, status="canceled"), Outcome.SUCCEEDED, None),
        (VOID, payment(HOLD, status="succeeded", canceled_at=1_800_000_009), Outcome.SUCCEEDED, None),
        (VOID, payment(HOLD, **HELD), Outcome.PENDING, Code.UNKNOWN_STATUS),
        (REFUND, refund(), Outcome.SUCCEEDED, None),
        (REFUND, refund(status="pending"), Outcome.PENDING, None),
        (REFUND, refund(status="requires_action"), Outcome.PENDING, None),
        (REFUND, refund(status="failed", failure_reason="declined"), Outcome.DECLINED, Code.CARD_DECLINED),
        (REFUND, refund(status="failed", failure_reason="brand_new"), Outcome.DECLINED, Code.UNKNOWN),
        (REFUND, refund(status="canceled"), Outcome.DECLINED, Code.CANCELLED),
        (REFUND, refund(status="brand_new"), Outcome.PENDING, Code.UNKNOWN_STATUS),
        (REFUND, refund(metadata={}), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (COMPLETION, payment(HOLD, **HELD), Outcome.SUCCEEDED, None),
        (COMPLETION, payment(HOLD, status="requires_action", latest_charge=None), Outcome.REQUIRES_ACTION, None),
    ],
)
def test_answer_with_an_object_means_what_its_status_says(
    request_: GatewayCallRequested, body: object, outcome: Outcome, code: Code | None
) -> None:
    result = answered(request_, body)
    assert (result.outcome, code_of(result)) == (outcome, code)


def error(code: str | None = None, kind: str = "invalid_request_error", **more: object) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, "message": "for a person: pm_secret_1", **more}}


@pytest.mark.parametrize(
    ("status", "body", "outcome", "code"),
    [
        (400, error("parameter_unknown"), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST),
        (404, error("resource_missing"), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST),
        (400, error(kind="idempotency_error"), Outcome.UNKNOWN, Code.GATEWAY_KEY_MISMATCH),
        (409, error("idempotency_key_in_use", "idempotency_error"), Outcome.UNKNOWN, Code.CALL_IN_PROGRESS),
        (401, error(), Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS),
        (403, error(), Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS),
        (429, error("lock_timeout"), Outcome.NOT_EXECUTED, Code.RATE_LIMITED),
        (424, error(), Outcome.UNKNOWN, Code.GATEWAY_FAILED),
        (500, error(kind="api_error"), Outcome.UNKNOWN, Code.GATEWAY_FAILED),
        (502, b"<html>", Outcome.UNKNOWN, Code.GATEWAY_FAILED),
        (302, b"", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (400, b"<html>", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (400, {"error": []}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (402, error("card_declined", "card_error", decline_code="fraudulent"), Outcome.DECLINED, Code.FRAUDULENT),
        (402, error("expired_card", "card_error"), Outcome.DECLINED, Code.EXPIRED_CARD),
        (402, error("card_declined", "card_error", decline_code="brand_new"), Outcome.DECLINED, Code.UNKNOWN),
        (402, error("brand_new", "card_error"), Outcome.DECLINED, Code.UNKNOWN),
        (402, error(), Outcome.DECLINED, Code.UNKNOWN),
        (
            402,
            error("payment_intent_authentication_failure"),
            Outcome.DECLINED,
            Code.AUTHENTICATION_REQUIRED,
        ),
    ],
)
def test_answer_without_an_object_means_what_its_error_says(
    status: int, body: object, outcome: Outcome, code: Code
) -> None:
    result = answered(SALE, body, status=status)
    assert (result.outcome, code_of(result)) == (outcome, code)
    # Of an inquiry none of this says anything about the operation.
    assert answered(inquiry_about(SALE), body, status=status).outcome is Outcome.UNKNOWN


def test_decline_keeps_the_codes_as_they_came_and_names_its_payment() -> None:
    told = payment(status="requires_payment_method", last_payment_error=FAILED, latest_charge=None)
    result = answered(SALE, {"error": {**FAILED, "payment_intent": told}}, status=402)
    assert result.error is not None
    assert (result.error.gateway_code, result.error.advice) == ("lost_card", "do_not_try_again")
    assert (result.gateway_reference, result.occurred_at_ms) == ("pi_1", 1_800_000_000_000)


@pytest.mark.parametrize("status", ["succeeded", "requires_capture", "processing"])
def test_refusal_of_a_payment_that_was_approved_is_in_doubt(status: str) -> None:
    told = payment(status=status)
    assert answered(SALE, {"error": {**FAILED, "payment_intent": told}}, status=402).outcome is Outcome.UNKNOWN


def test_server_error_that_is_replayed_is_kept_and_brings_nothing_when_it_is_asked_for_again() -> None:
    result = answered(SALE, error(kind="api_error"), status=500, headers={"idempotent-replayed": "true"})
    assert result.replayed
    assert result.error is not None
    assert (result.outcome, result.error.retry) == (Outcome.UNKNOWN, RetryAdvice.NEVER)


def test_throttled_call_says_how_long_to_wait() -> None:
    result = answered(SALE, error(), status=429, headers={"retry-after": "7"})
    assert result.error is not None
    assert result.error.retry_after_ms == 7_000


def test_answer_of_an_old_version_holds_or_took_the_whole_amount() -> None:
    old = {name: value for name, value in payment(HOLD).items() if name not in {"amount_capturable", "amount_received"}}
    assert answered(HOLD, old | {"status": "requires_capture"}).confirmed_amount_minor == 10_000
    assert answered(HOLD, old).confirmed_amount_minor == 10_000


def test_success_is_as_old_as_its_charge_and_confirms_what_came() -> None:
    result = answered(SALE, payment(amount_received=9_999))
    assert (result.confirmed_amount_minor, result.confirmed_currency) == (9_999, "USD")
    assert (result.gateway_reference, result.occurred_at_ms) == ("pi_1", 1_800_000_007_000)
    assert not result.replayed


def test_capture_and_refund_of_a_currency_without_decimals_are_counted_as_they_are() -> None:
    assert answered(SALE, payment(currency="jpy")).confirmed_amount_minor == 10_000
    assert answered(SALE, payment(currency="isk")).confirmed_amount_minor == 100


@pytest.mark.parametrize(
    ("action", "url"),
    [
        (
            {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/3ds"}},
            "https://bank.example/3ds",
        ),
        ({"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}, None),
        (
            {"type": "boleto_display_details", "boleto_display_details": {"hosted_voucher_url": "https://v.example"}},
            "https://v.example",
        ),
        ({"type": "brand_new"}, None),
        ({"type": "redirect_to_url", "redirect_to_url": {"url": "http://bank.example/3ds"}}, None),
        ({"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/" + "x" * 5_000}}, None),
    ],
)
def test_action_names_where_the_payer_goes(action: object, url: str | None) -> None:
    assert answered(SALE, payment(status="requires_action", next_action=action)).action_url == url


def test_inquiry_finds_a_capture_by_what_it_left_in_its_payment() -> None:
    note = {requests.capture_name(CAPTURE.op_id): "4000 1000"}
    other = {requests.capture_name("op_of_another"): "1000 1000"}
    told = payment(HOLD, amount_received=5_000, metadata=note | other)
    found = answered(inquiry_about(CAPTURE), told)
    assert (found.outcome, found.confirmed_amount_minor) == (Outcome.SUCCEEDED, 4_000)
    missing = answered(inquiry_about(CAPTURE), payment(HOLD, **HELD, metadata=other))
    assert (missing.outcome, code_of(missing)) == (Outcome.NOT_EXECUTED, Code.NOT_FOUND_AT_GATEWAY)


def test_note_of_a_capture_alone_is_no_proof_that_it_took_anything() -> None:
    note = {requests.capture_name(CAPTURE.op_id): "4000 1000"}
    other = {requests.capture_name("op_of_another"): "1000 1000"}
    for told in (
        payment(HOLD, **HELD, metadata=note),
        payment(HOLD, status="canceled", amount_received=0, metadata=note),
        payment(HOLD, amount_received=1_000, metadata=note | other),
    ):
        assert answered(inquiry_about(CAPTURE), told).outcome is Outcome.UNKNOWN


def test_inquiry_finds_no_void_where_the_hold_still_stands() -> None:
    assert answered(inquiry_about(VOID), payment(HOLD, **HELD)).outcome is Outcome.NOT_EXECUTED
    assert answered(inquiry_about(VOID), payment(HOLD, status="canceled")).outcome is Outcome.SUCCEEDED


def test_raw_answer_holds_codes_and_references_and_nothing_of_the_payer() -> None:
    result = answered(SALE, payment())
    assert result.raw is not None
    assert "pi_1" in result.raw
    for secret in ("pm_secret_1", "client_secret", "A Payer", "of_the_payer"):
        assert secret not in result.raw
    refused = answered(SALE, error("parameter_unknown", param="amount"), status=400)
    assert refused.raw is not None
    assert "pm_secret_1" not in refused.raw
    assert "parameter_unknown" in refused.raw


def test_decline_without_any_code_is_unknown() -> None:
    assert translate.decline_of(None).code == Code.UNKNOWN
    assert translate.decline_of(Failure(code=None, decline_code=None, advice=None)).code == Code.UNKNOWN


# What is asked


def test_payment_says_no_more_than_is_needed() -> None:
    assert requests.creation(SALE, multicapture=False) == {
        "amount": 10_000,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_secret_1",
        "payment_method_types": ["card"],
        "metadata": {
            "origin_id": SALE.origin_id,
            "order_id": SALE.order_id,
            "op_id": SALE.op_id,
            "gateway_key": SALE.gateway_key,
        },
        "expand": ["latest_charge"],
    }


def test_hold_is_captured_by_hand_and_several_times_only_where_the_account_may() -> None:
    assert "payment_method_options" not in requests.creation(HOLD, multicapture=False)
    params = requests.creation(HOLD, multicapture=True)
    assert params["capture_method"] == "manual"
    assert params["payment_method_options"] == {"card": {"request_multicapture": "if_available"}}


def test_what_is_given_besides_is_said_in_stripes_words() -> None:
    details = CallDetails(
        payer_reference="cus_1",
        return_url="https://shop.example/back",
        statement_descriptor="SHOP 1",
        metadata=(NamedText(name="cart", value="7"), NamedText(name="op_id", value="forged")),
        merchant_initiated=True,
    )
    params = requests.creation(replace(SALE, details=details), multicapture=False)
    assert (params["customer"], params["return_url"]) == ("cus_1", "https://shop.example/back")
    assert (params["statement_descriptor_suffix"], params["off_session"]) == ("SHOP 1", True)
    assert params["metadata"] == {
        "cart": "7",
        "origin_id": SALE.origin_id,
        "order_id": SALE.order_id,
        "op_id": SALE.op_id,
        "gateway_key": SALE.gateway_key,
    }


def test_confirmation_token_is_sent_as_one() -> None:
    params = requests.creation(replace(SALE, token="ctoken_1"), multicapture=False)
    assert params["confirmation_token"] == "ctoken_1"
    assert "payment_method" not in params


def test_kind_of_token_is_the_kind_of_payment_method() -> None:
    details = CallDetails(token_kind="sepa_debit", statement_descriptor="SHOP 1")
    params = requests.creation(replace(SALE, details=details), multicapture=True)
    assert (params["payment_method_types"], params["statement_descriptor"]) == (["sepa_debit"], "SHOP 1")


@pytest.mark.parametrize(
    ("multicapture", "final", "said"), [(True, False, False), (True, True, None), (False, False, None)]
)
def test_capture_keeps_the_rest_held_only_where_the_account_may(
    multicapture: bool, final: bool, said: bool | None
) -> None:
    params = requests.capture(replace(CAPTURE, final=final), multicapture=multicapture)
    assert params.get("final_capture") is said
    assert params["metadata"] == {f"cap_{CAPTURE.op_id}": "4000 1000"}


def test_name_of_a_captures_note_fits_stripes_forty_characters() -> None:
    assert len(requests.capture_name("x" * 35)) <= 40


def test_merchants_metadata_is_no_note_of_a_capture() -> None:
    assert requests.capture_notes({"cap_size": "L", "cart": "4000 1000", "cap_": "4000 1000"}) == []


def test_search_names_the_key_of_the_attempt_in_double_quotes() -> None:
    assert requests.search(replace(SALE, gateway_key='a"b')) == 'metadata["gateway_key"]:"a\\"b"'


def test_broken_exchange_says_nothing_about_what_an_inquiry_asked_for() -> None:
    broken = NotSentError(Signal.NOT_SENT, "ClientConnectorError")
    assert translate.from_failure(SALE, broken).outcome is Outcome.NOT_EXECUTED
    assert translate.from_failure(inquiry_about(SALE), broken).outcome is Outcome.UNKNOWN
