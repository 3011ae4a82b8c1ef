"""What is sent to Adyen for each request, and what its answers mean."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.adyen import translate
from gateway_adapters.adyen.translate import IncompleteError, Merchant, call_of, from_answer
from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code, InDoubtError, NotSentError, Signal
from gateway_adapters.http_transport import Answer
from schemas.identifiers import OrderId
from schemas.records.commands import BrowserFacts, NamedText, Payer
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_requests import follow_up, inquiry_about, payment_request

MERCHANT = Merchant(account="ShopCOM", return_url="https://shop.example/back")
SALE = payment_request(OrderId("order-1"), CallKind.SALE, token="8415")
HOLD = payment_request(OrderId("order-1"), CallKind.AUTHORIZE, token="8415")
CAPTURE = follow_up(HOLD, CallKind.CAPTURE, reference="PSP/1", amount_minor=4_000)
VOID = follow_up(HOLD, CallKind.VOID, reference="PSP1", amount_minor=10_000)
REFUND = follow_up(HOLD, CallKind.REFUND, reference="PSP1", amount_minor=2_000)
BROWSER = BrowserFacts(
    accept_header="text/html",
    color_depth_bits=24,
    language="de-DE",
    screen_height_px=900,
    screen_width_px=1_600,
    time_zone_offset_min=-60,
    user_agent="Mozilla/5.0",
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def sent(request: GatewayCallRequested, **details: Any) -> dict[str, Any]:
    told = replace(request, details=CallDetails(**details)) if details else request
    body: dict[str, Any] = json.loads(call_of(told, MERCHANT).body)
    return body


def completion(**parameters: str) -> GatewayCallRequested:
    request = follow_up(HOLD, CallKind.COMPLETE, reference=None, amount_minor=10_000)
    came_back = tuple(NamedText(name=name, value=value) for name, value in parameters.items())
    return replace(request, details=CallDetails(return_parameters=came_back))


def answer(status: int, body: object = None, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=raw)


def paid(request: GatewayCallRequested = SALE, **changes: object) -> dict[str, object]:
    return {
        "pspReference": "PSP1",
        "resultCode": "Authorised",
        "merchantReference": f"{request.op_id}.{request.kind}",
        "amount": {"currency": "USD", "value": 10_000},
        **changes,
    }


def received(request: GatewayCallRequested, **changes: object) -> dict[str, object]:
    return {
        "merchantAccount": "ShopCOM",
        "paymentPspReference": request.payment_reference,
        "pspReference": "MOD1",
        "reference": f"{request.op_id}.{request.kind}",
        "status": "received",
        **changes,
    }


def error(code: str, kind: str = "validation") -> dict[str, object]:
    return {"status": 422, "errorCode": code, "message": "Required field 'x' is not provided.", "errorType": kind}


# Requests


def test_payment_says_what_it_needs_and_nothing_else() -> None:
    assert call_of(SALE, MERCHANT).path == "/payments"
    assert sent(SALE) == {
        "amount": {"currency": "USD", "value": 10_000},
        "merchantAccount": "ShopCOM",
        "reference": f"{SALE.op_id}.sale",
        "returnUrl": "https://shop.example/back",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415"},
        "shopperInteraction": "ContAuth",
        "recurringProcessingModel": "CardOnFile",
        "captureDelayHours": 0,
    }


def test_hold_says_that_it_is_captured_by_hand_whatever_the_account_does() -> None:
    body = sent(HOLD)
    assert body["additionalData"] == {"manualCapture": "true"}
    assert "captureDelayHours" not in body


def test_payment_says_what_was_given_besides() -> None:
    payer = Payer(email="anna@example.com", reference="customer-1", ip="192.0.2.1", country="DE", browser=BROWSER)
    body = sent(
        SALE,
        payer=payer,
        return_url="https://shop.example/other",
        statement_descriptor="SHOP 17",
        metadata=(NamedText(name="cart", value="17"),),
        merchant_initiated=True,
    )
    assert {name: value for name, value in body.items() if name not in sent(SALE)} == {
        "shopperReference": "customer-1",
        "shopperEmail": "anna@example.com",
        "shopperIP": "192.0.2.1",
        "countryCode": "DE",
        "browserInfo": {
            "acceptHeader": "text/html",
            "colorDepth": 24,
            "javaEnabled": False,
            "language": "de-DE",
            "screenHeight": 900,
            "screenWidth": 1_600,
            "timeZoneOffset": -60,
            "userAgent": "Mozilla/5.0",
        },
        "shopperStatement": "SHOP 17",
        "metadata": {"cart": "17"},
    }
    assert body["returnUrl"] == "https://shop.example/other"
    assert body["recurringProcessingModel"] == "UnscheduledCardOnFile"


def test_tokens_own_payer_is_the_shopper() -> None:
    assert (
        sent(SALE, payer_reference="shopper-1", payer=Payer(reference="customer-1"))["shopperReference"] == "shopper-1"
    )


@pytest.mark.parametrize("lacking", ["accept_header", "color_depth_bits", "language", "screen_height_px", "user_agent"])
def test_browser_of_which_not_all_is_known_is_not_said(lacking: str) -> None:
    assert "browserInfo" not in sent(SALE, payer=Payer(browser=replace(BROWSER, **{lacking: None})))


def test_payment_method_that_the_payers_browser_made_is_handed_on() -> None:
    made = {"type": "scheme", "encryptedCardNumber": "adyenjs_0_1_25$x", "encryptedSecurityCode": "adyenjs_0_1_25$y"}
    request = replace(SALE, token=json.dumps(made, separators=(",", ":")))
    body = sent(request, token_kind="payment_method")
    assert body["paymentMethod"] == made
    assert body["shopperInteraction"] == "Ecommerce"
    assert "recurringProcessingModel" not in body


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("8415", "something"),
        ("8415", "payment_method"),
        ("[]", "payment_method"),
        ('{"encryptedCardNumber":"x"}', "payment_method"),
        ('{"type":"scheme","number":"4111111111111111"}', "payment_method"),
        ('{"type":"scheme","cvc":"737"}', "payment_method"),
        ('{"type":"scheme","details":{}}', "payment_method"),
    ],
)
def test_token_that_adyen_could_not_use_or_that_is_card_data_is_not_sent(token: str, kind: str) -> None:
    request = replace(SALE, token=token, details=CallDetails(token_kind=kind))
    with pytest.raises(IncompleteError) as refused:
        call_of(request, MERCHANT)
    assert "4111" not in str(refused.value)
    result = translate.not_sent(refused.value)
    assert (result.outcome, result.error and result.error.code) == (Outcome.NOT_EXECUTED, Code.INVALID_REQUEST)


def test_amount_is_told_as_adyen_counts_it_or_not_at_all() -> None:
    assert sent(replace(SALE, currency="ISK", amount_minor=500))["amount"] == {"currency": "ISK", "value": 50_000}
    with pytest.raises(IncompleteError, match="decimals"):
        call_of(replace(SALE, currency="IDR", amount_minor=150), MERCHANT)


@pytest.mark.parametrize(("name", "value"), [("n" * 21, "17"), ("cart", "v" * 81)])
def test_metadata_that_adyen_does_not_take_is_not_sent(name: str, value: str) -> None:
    with pytest.raises(IncompleteError, match="metadata"):
        sent(SALE, metadata=(NamedText(name=name, value=value),))


def test_key_that_adyen_does_not_take_is_not_sent() -> None:
    with pytest.raises(IncompleteError, match="64"):
        call_of(replace(SALE, gateway_key="k" * 65), MERCHANT)


@pytest.mark.parametrize(
    ("request_", "path", "body"),
    [
        (CAPTURE, "/payments/PSP%2F1/captures", {"amount": {"currency": "USD", "value": 4_000}}),
        (VOID, "/payments/PSP1/cancels", {}),
        (REFUND, "/payments/PSP1/refunds", {"amount": {"currency": "USD", "value": 2_000}}),
    ],
)
def test_modification_names_its_payment_in_the_path_and_itself_in_the_body(
    request_: GatewayCallRequested, path: str, body: dict[str, object]
) -> None:
    assert call_of(request_, MERCHANT).path == path
    named = {"merchantAccount": "ShopCOM", "reference": f"{request_.op_id}.{request_.kind}"}
    assert sent(request_) == body | named


def test_completion_says_what_adyen_gave_the_payer_and_nothing_of_the_merchants() -> None:
    request = completion(redirectResult="X6X!Y", cart="17", paymentData="Ab02")
    assert call_of(request, MERCHANT).path == "/payments/details"
    assert json.loads(call_of(request, MERCHANT).body) == {
        "details": {"redirectResult": "X6X!Y"},
        "paymentData": "Ab02",
    }
    with pytest.raises(IncompleteError, match="redirectResult"):
        call_of(completion(cart="17"), MERCHANT)


def test_same_request_is_the_same_bytes() -> None:
    again = replace(SALE, call_number=7, requested_at_ms=9_999, repeated=True)
    assert call_of(SALE, MERCHANT) == call_of(again, MERCHANT)


def test_inquiry_is_never_sent() -> None:
    with pytest.raises(IncompleteError):
        call_of(inquiry_about(SALE), MERCHANT)


# Answers


@pytest.mark.parametrize(
    ("changes", "outcome", "code"),
    [
        ({}, Outcome.SUCCEEDED, None),
        ({"resultCode": "PartiallyAuthorised"}, Outcome.SUCCEEDED, None),
        ({"resultCode": "PartiallyAuthorised", "amount": None}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        ({"resultCode": "Received"}, Outcome.PENDING, None),
        ({"resultCode": "Pending"}, Outcome.PENDING, None),
        ({"resultCode": "BrandNew"}, Outcome.PENDING, Code.UNKNOWN_STATUS),
        ({"resultCode": "Refused", "refusalReasonCode": "12"}, Outcome.DECLINED, Code.INSUFFICIENT_FUNDS),
        ({"resultCode": "Refused", "refusalReason": "CVC Declined"}, Outcome.DECLINED, Code.INCORRECT_CVC),
        ({"resultCode": "Refused", "refusalReasonCode": "4711"}, Outcome.DECLINED, Code.UNKNOWN),
        ({"resultCode": "Refused"}, Outcome.DECLINED, Code.UNKNOWN),
        ({"resultCode": "Cancelled"}, Outcome.DECLINED, Code.CANCELLED),
        ({"resultCode": "Cancelled", "refusalReasonCode": "22"}, Outcome.DECLINED, Code.FRAUDULENT),
        ({"resultCode": "Error", "refusalReasonCode": "4"}, Outcome.DECLINED, Code.PROCESSING_ERROR),
        ({"merchantReference": "op_other.sale"}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        ({"merchantReference": None}, Outcome.SUCCEEDED, None),
        ({"amount": {"currency": "USD", "value": "10000"}}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        ({"amount": {"currency": "ISK", "value": 150}}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        ({"resultCode": 7}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
    ],
)
def test_answer_to_a_payment_means(changes: dict[str, object], outcome: Outcome, code: Code | None) -> None:
    result = from_answer(SALE, answer(200, paid(SALE, **changes)))
    assert (result.outcome, None if result.error is None else result.error.code) == (outcome, code)
    assert not result.replayed


def test_success_confirms_what_adyen_says_in_our_minor_units() -> None:
    result = from_answer(SALE, answer(200, paid(amount={"currency": "ISK", "value": 50_000})))
    assert (result.confirmed_amount_minor, result.confirmed_currency) == (500, "ISK")
    assert (result.gateway_reference, result.payment_reference) == ("PSP1", "PSP1")
    assert from_answer(SALE, answer(200, paid(amount=None))).confirmed_amount_minor is None


def test_refusal_keeps_adyens_code_and_the_networks_advice() -> None:
    body = paid(resultCode="Refused", refusalReasonCode="2", additionalData={"merchantAdviceCode": "03 : Do not try"})
    result = from_answer(SALE, answer(200, body))
    assert result.error is not None
    assert (result.error.gateway_code, result.error.advice) == ("2", "03 : Do not try")


def test_payment_that_waits_for_its_payer_is_not_named_yet() -> None:
    action = {"type": "redirect", "method": "GET", "url": "https://test.adyen.com/hpp"}
    result = from_answer(SALE, answer(200, paid(resultCode="RedirectShopper", action=action)))
    assert (result.outcome, result.action_url) == (Outcome.REQUIRES_ACTION, "https://test.adyen.com/hpp")
    assert (result.gateway_reference, result.payment_reference) == (None, None)


def test_completion_tells_what_became_of_the_payment() -> None:
    request = completion(redirectResult="X6X")
    result = from_answer(request, answer(200, paid(HOLD)))
    assert (result.outcome, result.gateway_reference) == (Outcome.SUCCEEDED, "PSP1")


@pytest.mark.parametrize("request_", [CAPTURE, VOID, REFUND], ids=lambda request: request.kind)
@pytest.mark.parametrize(
    ("changes", "outcome", "code"),
    [
        ({}, Outcome.PENDING, None),
        ({"status": "done"}, Outcome.PENDING, Code.UNKNOWN_STATUS),
        ({"paymentPspReference": "PSP9"}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        ({"reference": "op_other.capture"}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        ({"pspReference": None}, Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
    ],
)
def test_modification_is_received_and_no_more(
    request_: GatewayCallRequested, changes: dict[str, object], outcome: Outcome, code: Code | None
) -> None:
    result = from_answer(request_, answer(201, received(request_, **changes)))
    assert (result.outcome, None if result.error is None else result.error.code) == (outcome, code)
    if outcome is Outcome.PENDING:
        assert (result.gateway_reference, result.payment_reference) == ("MOD1", request_.payment_reference)
        assert result.confirmed_amount_minor is None


@pytest.mark.parametrize(
    ("answered", "outcome", "code", "retry"),
    [
        (answer(422, error("702")), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST, RetryAdvice.NEVER),
        (answer(400, error("702")), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST, RetryAdvice.NEVER),
        (answer(404, error("702")), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST, RetryAdvice.NEVER),
        (answer(422, error("702"), transient_error="true"), Outcome.UNKNOWN, Code.GATEWAY_FAILED, None),
        (answer(422, error("704"), transient_error="true"), Outcome.UNKNOWN, Code.CALL_IN_PROGRESS, None),
        (answer(409, error("704")), Outcome.UNKNOWN, Code.CALL_IN_PROGRESS, None),
        (answer(409, error("702")), Outcome.UNKNOWN, Code.CALL_IN_PROGRESS, None),
        (answer(401, error("000")), Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS, RetryAdvice.OTHER_GATEWAY),
        (answer(403, b"<html>"), Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS, RetryAdvice.OTHER_GATEWAY),
        (answer(429, b""), Outcome.NOT_EXECUTED, Code.RATE_LIMITED, RetryAdvice.NEW_KEY_LATER),
        (answer(503, error("703")), Outcome.UNKNOWN, Code.GATEWAY_FAILED, RetryAdvice.SAME_KEY_NOW),
        (answer(502, b"<html>"), Outcome.UNKNOWN, Code.GATEWAY_FAILED, RetryAdvice.SAME_KEY_NOW),
        (answer(422, {"message": "a proxy's"}), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer(422, b"<html>"), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer(200, b"<html>"), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer(200, []), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer(302, b""), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
    ],
)
def test_answer_that_is_no_success_means(
    answered: Answer, outcome: Outcome, code: Code, retry: RetryAdvice | None
) -> None:
    for request in (SALE, CAPTURE):
        result = from_answer(request, answered)
        assert result.error is not None
        assert (result.outcome, result.error.code) == (outcome, code)
        assert retry in {None, result.error.retry}


def test_error_keeps_adyens_code_and_the_pause_it_asks_for() -> None:
    result = from_answer(SALE, answer(429, error("100"), retry_after="7"))
    assert result.error is not None
    assert (result.error.gateway_code, result.error.retry_after_ms) == ("100", 7_000)


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (NotSentError(Signal.NOT_SENT, "ClientConnectorError"), Outcome.NOT_EXECUTED),
        (InDoubtError(Signal.READ_TIMEOUT, "SocketTimeoutError"), Outcome.UNKNOWN),
    ],
)
def test_exchange_that_broke_means_what_the_table_says(failure: NotSentError | InDoubtError, outcome: Outcome) -> None:
    assert translate.from_failure(failure).outcome is outcome


def test_nothing_of_the_payer_or_the_card_is_kept_of_an_answer() -> None:
    told = {"cardHolderName": "Anna Example", "cardSummary": "1111", "shopperEmail": "anna@example.com"}
    body = paid(additionalData={**told, "refusalReasonRaw": "05 : Do not honor"}, shopperName="Anna", token="8415")
    kept = from_answer(SALE, answer(200, body)).raw or ""
    assert "PSP1" in kept
    assert "05 : Do not honor" in kept
    assert not [each for each in ("Anna", "1111", "anna@", "8415") if each in kept]
    repeated = from_answer(SALE, answer(422, {**error("8415"), "message": "tok 8415"})).raw or ""
    assert "8415" not in repeated


@given(status=st.sampled_from([200, 201, 400, 401, 404, 409, 422, 429, 500, 503]), body=JSON_VALUES | st.binary())
def test_no_answer_raises_or_succeeds_unless_adyen_says_authorised(status: int, body: object) -> None:
    for request in (SALE, CAPTURE, completion(redirectResult="X")):
        result: CallResult = from_answer(request, answer(status, body))
        assert result.outcome is not Outcome.SUCCEEDED


@given(changes=st.dictionaries(st.sampled_from(sorted(paid())), JSON_VALUES, min_size=1))
def test_answer_with_a_field_of_any_kind_never_raises(changes: dict[str, object]) -> None:
    from_answer(SALE, answer(200, paid(SALE, **changes)))


@pytest.mark.parametrize(
    "named",
    [
        {"merchantReference": "op_another.sale"},
        {"merchantReference": f"{HOLD.op_id}.refund"},
        {"merchantReference": "not ours"},
        {"merchantReference": None},
    ],
)
def test_completion_of_another_payment_is_unreadable_though_it_succeeded(named: dict[str, object]) -> None:
    result = translate.from_answer(completion(redirectResult="r"), answer(200, paid(HOLD) | named))
    assert (result.outcome, result.gateway_reference) == (Outcome.UNKNOWN, None)
    assert result.error is not None
    assert result.error.code == Code.UNREADABLE_ANSWER


def test_completion_is_of_the_payment_that_was_opened() -> None:
    request = completion(redirectResult="r")
    assert translate.from_answer(request, answer(200, paid(HOLD))).outcome is Outcome.SUCCEEDED
    refused = {"resultCode": "Refused", "refusalReasonCode": "2", "merchantReference": None}
    assert translate.from_answer(request, answer(200, paid(HOLD) | refused)).outcome is Outcome.DECLINED
