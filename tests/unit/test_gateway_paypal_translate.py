"""What PayPal's answers mean, and what its requests hold: pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code
from gateway_adapters.http_transport import Answer
from gateway_adapters.paypal import requests, translate
from gateway_adapters.paypal.requests import UnsendableError
from gateway_adapters.paypal.wire import WireError
from schemas.identifiers import OpId
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, DeclineClass, Outcome, RetryAdvice
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request

Json = dict[str, Any]
OP = OpId("op_1")


def request(kind: CallKind = CallKind.AUTHORIZE, **changes: Any) -> GatewayCallRequested:
    return replace(payment_request(fresh_order(), kind, token="vault-1", gateway="paypal"), op_id=OP, **changes)


def later(kind: CallKind, **changes: Any) -> GatewayCallRequested:
    made = follow_up(request(), kind, reference="AUTH", amount_minor=10_000)
    return replace(made, **{"op_id": OP} | changes)


def made(**changes: Any) -> Json:
    return {
        "id": "MADE",
        "status": "COMPLETED",
        "amount": {"currency_code": "USD", "value": "100.00"},
        "create_time": "2026-12-01T15:00:00Z",
        "update_time": "2026-12-01T15:00:00Z",
    } | changes


def order(*, status: str = "COMPLETED", intent: str = "AUTHORIZE", **payments: list[Json]) -> Json:
    unit: Json = {"custom_id": "authorize:op_1", "payments": payments}
    return {"id": "ORDER", "status": status, "intent": intent, "purchase_units": [unit]}


def answer(body: object, status: int = 201, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status=status, headers=headers or {}, body=orjson.dumps(body))


def refusal(issue: str, status: int = 422, **more: Any) -> Answer:
    return answer({"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": issue}], **more}, status)


# Requests


def sent(call: GatewayCallRequested) -> Json:
    body: Json = orjson.loads(requests.order_request(call).encoded())
    return body


def test_order_holds_what_is_needed_and_nothing_more() -> None:
    assert sent(request()) == {
        "intent": "AUTHORIZE",
        "purchase_units": [
            {
                "amount": {"currency_code": "USD", "value": "100.00"},
                "custom_id": "authorize:op_1",
                "invoice_id": "authorize:op_1",
            }
        ],
        "payment_source": {"paypal": {"vault_id": "vault-1"}},
    }
    assert sent(request(CallKind.SALE))["intent"] == "CAPTURE"


def test_order_holds_what_the_command_says_besides() -> None:
    details = CallDetails(
        token_kind="card",
        return_url="https://shop.example/back",
        statement_descriptor="A VERY LONG DESCRIPTOR OF A SHOP",
        merchant_initiated=True,
        metadata=(NamedText(name="campaign", value="secret"),),
    )
    said = sent(request(details=details))
    assert said["purchase_units"][0]["soft_descriptor"] == "A VERY LONG DESCRIPTOR"
    assert said["payment_source"] == {
        "card": {
            "vault_id": "vault-1",
            "experience_context": {
                "return_url": "https://shop.example/back",
                "cancel_url": "https://shop.example/back",
            },
            "stored_credential": {
                "payment_initiator": "MERCHANT",
                "payment_type": "UNSCHEDULED",
                "usage": "SUBSEQUENT",
            },
        }
    }
    assert "secret" not in repr(said)


def test_wallet_without_its_payer_is_said_in_the_wallets_words() -> None:
    said = sent(request(details=CallDetails(merchant_initiated=True)))
    credential = {"payment_initiator": "MERCHANT", "usage": "SUBSEQUENT"}
    assert said["payment_source"] == {"paypal": {"vault_id": "vault-1", "stored_credential": credential}}


def test_approval_sends_no_token_and_needs_a_way_back() -> None:
    details = CallDetails(token_kind="approval", return_url="https://shop.example/back")
    context = {"return_url": "https://shop.example/back", "cancel_url": "https://shop.example/back"}
    assert sent(request(details=details))["payment_source"] == {"paypal": {"experience_context": context}}
    with pytest.raises(UnsendableError, match="return URL"):
        requests.order_request(request(details=CallDetails(token_kind="approval")))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"details": CallDetails(token_kind="cheque")}, "tokens of the kinds approval, card, paypal"),
        ({"token": "t" * 256}, "vault_id"),
        ({"currency": "HUF", "amount_minor": 10_001}, "0 decimals of HUF"),
        ({"currency": "INR"}, "does not take this currency"),
    ],
)
def test_payment_that_paypal_cannot_take_is_not_sent(changes: Json, why: str) -> None:
    with pytest.raises(UnsendableError, match=why) as raised:
        requests.order_request(request(**changes))
    assert "tttt" not in str(raised.value)


def test_final_capture_says_so_and_another_does_not() -> None:
    body = orjson.loads(requests.capture_request(later(CallKind.CAPTURE)).encoded())
    assert body == {"amount": {"currency_code": "USD", "value": "100.00"}, "invoice_id": "capture:op_1"}
    final = orjson.loads(requests.capture_request(later(CallKind.CAPTURE, final=True)).encoded())
    assert final == {**body, "final_capture": True}


def test_refund_carries_our_reference_twice() -> None:
    body = orjson.loads(requests.refund_request(later(CallKind.REFUND)).encoded())
    assert (body["custom_id"], body["invoice_id"]) == ("refund:op_1", "refund:op_1")


def test_key_that_paypal_does_not_take_is_not_sent() -> None:
    assert requests.request_id(request(gateway_key="k" * 108)) == "k" * 108
    with pytest.raises(UnsendableError, match="108"):
        requests.request_id(request(gateway_key="k" * 109))


@pytest.mark.parametrize(
    ("call", "order_id"),
    [
        (later(CallKind.COMPLETE, order_reference="ORDER", payment_reference=None), "ORDER"),
        (later(CallKind.COMPLETE, payment_reference="ORDER"), "ORDER"),
        (
            later(
                CallKind.COMPLETE,
                order_reference="ORDER",
                details=CallDetails(return_parameters=(NamedText(name="token", value="ORDER"),)),
            ),
            "ORDER",
        ),
    ],
)
def test_completion_goes_on_with_the_order_that_is_known(call: GatewayCallRequested, order_id: str) -> None:
    assert requests.order_to_complete(call) == order_id


def test_completion_of_another_order_or_of_none_is_not_sent() -> None:
    other = CallDetails(return_parameters=(NamedText(name="token", value="OTHER"),))
    for call in (
        later(CallKind.COMPLETE, order_reference="ORDER", details=other),
        later(CallKind.COMPLETE, payment_reference=None),
    ):
        with pytest.raises(UnsendableError):
            requests.order_to_complete(call)


# Answers


def opened(body: object, status: int = 201) -> CallResult:
    return translate.from_order(request(), answer(body, status), CallKind.AUTHORIZE)


def test_hold_is_told_with_its_own_id_and_its_orders() -> None:
    result = opened(order(authorizations=[made(id="AUTH", status="CREATED", custom_id="authorize:op_1")]))
    assert (result.outcome, result.error, result.replayed) == (Outcome.SUCCEEDED, None, False)
    assert (result.gateway_reference, result.payment_reference) == ("AUTH", "ORDER")
    assert (result.confirmed_amount_minor, result.confirmed_currency) == (10_000, "USD")
    assert result.occurred_at_ms == 1_796_137_200_000


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("CREATED", Outcome.SUCCEEDED),
        ("CAPTURED", Outcome.SUCCEEDED),
        ("PARTIALLY_CAPTURED", Outcome.SUCCEEDED),
        ("VOIDED", Outcome.SUCCEEDED),
        ("PENDING", Outcome.PENDING),
        ("DENIED", Outcome.DECLINED),
        ("AWAITING_THE_MOON", Outcome.PENDING),
    ],
)
def test_each_status_of_an_authorization_has_its_meaning(status: str, outcome: Outcome) -> None:
    assert opened(order(authorizations=[made(status=status)])).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("COMPLETED", Outcome.SUCCEEDED),
        ("PARTIALLY_REFUNDED", Outcome.SUCCEEDED),
        ("REFUNDED", Outcome.SUCCEEDED),
        ("PENDING", Outcome.PENDING),
        ("DECLINED", Outcome.DECLINED),
        ("FAILED", Outcome.DECLINED),
        ("AWAITING_THE_MOON", Outcome.PENDING),
    ],
)
def test_each_status_of_a_capture_has_its_meaning(status: str, outcome: Outcome) -> None:
    assert translate.from_made(later(CallKind.CAPTURE), answer(made(status=status))).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        ("COMPLETED", Outcome.SUCCEEDED, None),
        ("PENDING", Outcome.PENDING, None),
        ("FAILED", Outcome.DECLINED, Code.UNKNOWN),
        ("CANCELLED", Outcome.DECLINED, Code.CANCELLED),
        ("AWAITING_THE_MOON", Outcome.PENDING, Code.UNKNOWN_STATUS),
    ],
)
def test_each_status_of_a_refund_has_its_meaning(status: str, outcome: Outcome, code: Code | None) -> None:
    result = translate.from_made(later(CallKind.REFUND, capture_reference="CAP"), answer(made(status=status)))
    assert (result.outcome, None if result.error is None else result.error.code) == (outcome, code)
    assert result.payment_reference == "CAP"


def test_processors_code_says_why_before_paypals_reason_does() -> None:
    processor = {"response_code": "5120", "payment_advice_code": "02"}
    reason = {"status_details": {"reason": "CHARGEBACK"}}
    for body, code, kept, advice in (
        (made(status="DECLINED", processor_response=processor, **reason), Code.INSUFFICIENT_FUNDS, "5120", "02"),
        (made(status="DECLINED", **reason), Code.FAILED_LATE, "CHARGEBACK", None),
        (made(status="DECLINED"), Code.UNKNOWN, "DECLINED", None),
        (made(status="DECLINED", processor_response={"response_code": "ZZZZ"}), Code.UNKNOWN, "ZZZZ", None),
    ):
        error = translate.from_made(later(CallKind.CAPTURE), answer(body)).error
        assert error is not None
        assert (error.code, error.gateway_code, error.advice) == (code, kept, advice)
        assert (error.decline_class is DeclineClass.UNKNOWN) == (code is Code.UNKNOWN)


def test_hold_that_was_voided_at_its_end_ran_out() -> None:
    ended = "2026-12-30T15:00:00Z"
    result = opened(order(authorizations=[made(status="VOIDED", expiration_time=ended, update_time=ended)]))
    assert result.outcome is Outcome.EXPIRED
    assert result.occurred_at_ms == translate.to_ms(ended)


@pytest.mark.parametrize(
    ("status", "link"), [("PAYER_ACTION_REQUIRED", "payer-action"), ("CREATED", "approve"), ("APPROVED", "self")]
)
def test_order_that_waits_for_its_payer_is_known_by_its_own_id_alone(status: str, link: str) -> None:
    result = opened(order(status=status) | {"links": [{"rel": link, "href": "https://www.paypal.com/x"}]}, 200)
    assert (result.outcome, result.gateway_reference) == (Outcome.REQUIRES_ACTION, None)
    assert result.payment_reference == "ORDER"
    assert result.action_url == (None if link == "self" else "https://www.paypal.com/x")
    assert not result.replayed  # PayPal answers 200 to the first of these, too


def test_order_that_was_voided_is_cancelled_and_one_of_an_unknown_status_pends() -> None:
    voided, strange = opened(order(status="VOIDED")), opened(order(status="MOONLIT"))
    assert voided.error is not None
    assert strange.error is not None
    assert (voided.outcome, voided.error.code) == (Outcome.DECLINED, Code.CANCELLED)
    assert (strange.outcome, strange.error.code) == (Outcome.PENDING, Code.UNKNOWN_STATUS)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"id": "ORDER", "status": "COMPLETED", "purchase_units": []},
        {"id": "ORDER", "status": "COMPLETED", "purchase_units": [{}, {}]},
        order(authorizations=[made(amount={"currency_code": "USD", "value": "1.001"})]),
        order(authorizations=[made(create_time="yesterday")]),
        order(authorizations=[made(create_time="2026-12-01T15:00:00")]),
        order(authorizations=[made(custom_id="authorize:op_2")]),
        order(authorizations=[made(custom_id="sale:op_1")]),
        order(status="PAYER_ACTION_REQUIRED") | {"purchase_units": [{"custom_id": "authorize:op_2"}]},
    ],
)
def test_answer_that_is_not_about_this_call_or_not_as_described_is_in_doubt(body: object) -> None:
    result = opened(body)
    assert result.error is not None
    assert (result.outcome, result.error.code) == (Outcome.UNKNOWN, Code.UNREADABLE_ANSWER)


def test_html_with_a_good_status_is_no_success() -> None:
    page = Answer(status=200, headers={}, body=b"<html>OK</html>")
    for result in (
        translate.from_order(request(), page, CallKind.AUTHORIZE),
        translate.from_made(later(CallKind.CAPTURE), page),
        translate.from_void(later(CallKind.VOID), page),
        translate.from_inquiry(inquiry_about(request(), own_reference="AUTH"), page),
    ):
        assert result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("said", "outcome", "code", "retry"),
    [
        (refusal("INSTRUMENT_DECLINED"), Outcome.DECLINED, Code.CARD_DECLINED, RetryAdvice.NEVER),
        (refusal("CARD_EXPIRED"), Outcome.DECLINED, Code.EXPIRED_CARD, RetryAdvice.AFTER_FIX),
        (refusal("MAX_CAPTURE_AMOUNT_EXCEEDED"), Outcome.NOT_EXECUTED, Code.NOTHING_LEFT, RetryAdvice.NEVER),
        (refusal("AUTHORIZATION_EXPIRED"), Outcome.NOT_EXECUTED, Code.AUTHORIZATION_EXPIRED, RetryAdvice.NEVER),
        (refusal("AUTHORIZATION_VOIDED"), Outcome.NOT_EXECUTED, Code.CANCELLED, RetryAdvice.NEVER),
        (refusal("AUTHORIZATION_ALREADY_CAPTURED"), Outcome.NOT_EXECUTED, Code.NOTHING_LEFT, RetryAdvice.NEVER),
        (refusal("CAPTURE_FULLY_REFUNDED"), Outcome.NOT_EXECUTED, Code.NOTHING_LEFT, RetryAdvice.NEVER),
        (refusal("REFUND_AMOUNT_EXCEEDED"), Outcome.NOT_EXECUTED, Code.NOTHING_LEFT, RetryAdvice.NEVER),
        (refusal("REFUND_TIME_LIMIT_EXCEEDED"), Outcome.NOT_EXECUTED, Code.NOT_PERMITTED, RetryAdvice.NEVER),
        (refusal("TRANSACTION_DISPUTED"), Outcome.NOT_EXECUTED, Code.NOT_YET, RetryAdvice.AFTER_FIX),
        (refusal("PAYER_CANNOT_PAY"), Outcome.DECLINED, Code.CARD_DECLINED, RetryAdvice.NEVER),
        (refusal("CONSENT_NEEDED", 403), Outcome.DECLINED, Code.AUTHENTICATION_REQUIRED, RetryAdvice.AFTER_SCA),
        (
            refusal("PERMISSION_DENIED", 403),
            Outcome.NOT_EXECUTED,
            Code.GATEWAY_REFUSED_CREDENTIALS,
            RetryAdvice.OTHER_GATEWAY,
        ),
        (
            refusal("PAYEE_ACCOUNT_RESTRICTED"),
            Outcome.NOT_EXECUTED,
            Code.GATEWAY_REFUSED_CREDENTIALS,
            RetryAdvice.OTHER_GATEWAY,
        ),
        (refusal("ORDER_COMPLETED_OR_VOIDED"), Outcome.UNKNOWN, Code.CALL_IN_PROGRESS, RetryAdvice.SAME_KEY_NOW),
        (refusal("MISSING_REQUIRED_PARAMETER", 400), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST, RetryAdvice.NEVER),
        (refusal("INVALID_RESOURCE_ID", 404), Outcome.NOT_EXECUTED, Code.INVALID_REQUEST, RetryAdvice.NEVER),
        (refusal("ORDER_NOT_APPROVED"), Outcome.NOT_EXECUTED, Code.AUTHENTICATION_REQUIRED, RetryAdvice.AFTER_SCA),
        (refusal("DUPLICATE_INVOICE_ID"), Outcome.UNKNOWN, Code.GATEWAY_KEY_MISMATCH, RetryAdvice.NEVER),
        (answer({"name": "DUPLICATE_REQUEST_ID"}, 400), Outcome.UNKNOWN, Code.GATEWAY_KEY_MISMATCH, RetryAdvice.NEVER),
        (
            refusal("PREVIOUS_REQUEST_IN_PROGRESS", 409),
            Outcome.UNKNOWN,
            Code.CALL_IN_PROGRESS,
            RetryAdvice.SAME_KEY_NOW,
        ),
        (refusal("ORDER_COMPLETION_IN_PROGRESS"), Outcome.UNKNOWN, Code.CALL_IN_PROGRESS, RetryAdvice.SAME_KEY_NOW),
        (refusal("ORDER_EXPIRED"), Outcome.DECLINED, Code.ACTION_EXPIRED, RetryAdvice.AFTER_SCA),
        (answer({}, 401), Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS, RetryAdvice.OTHER_GATEWAY),
        (answer({}, 403), Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS, RetryAdvice.OTHER_GATEWAY),
        (answer({}, 429), Outcome.NOT_EXECUTED, Code.RATE_LIMITED, RetryAdvice.NEW_KEY_LATER),
        (answer({}, 500), Outcome.UNKNOWN, Code.GATEWAY_FAILED, RetryAdvice.SAME_KEY_NOW),
        (answer({}, 503), Outcome.UNKNOWN, Code.GATEWAY_FAILED, RetryAdvice.SAME_KEY_NOW),
        (answer({}, 307), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer({}, 422), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer([], 422), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
        (answer({"details": 7}, 400), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER, RetryAdvice.SAME_KEY_NOW),
    ],
)
def test_each_refusal_has_its_outcome(said: Answer, outcome: Outcome, code: Code, retry: RetryAdvice) -> None:
    for result in (
        translate.from_order(request(), said, CallKind.AUTHORIZE),
        translate.from_made(later(CallKind.CAPTURE), said),
        translate.from_void(later(CallKind.VOID), said),
    ):
        assert result.error is not None
        assert (result.outcome, result.error.code, result.error.retry) == (outcome, code, retry)


def test_pause_that_paypal_asks_for_is_told() -> None:
    result = translate.from_made(later(CallKind.CAPTURE), answer({"name": "X"}, 429, {"retry-after": "7"}))
    assert result.error is not None
    assert (result.error.retry_after_ms, result.error.gateway_code) == (7_000, "X")


def test_payer_is_sent_on_where_a_completion_needs_one_more_act() -> None:
    links = [{"rel": "payer-action", "href": "https://www.paypal.com/again"}]
    completion = later(CallKind.COMPLETE, order_reference="ORDER")
    again = translate.from_order(completion, refusal("PAYER_ACTION_REQUIRED", links=links), CallKind.AUTHORIZE)
    assert (again.outcome, again.payment_reference) == (Outcome.REQUIRES_ACTION, "ORDER")
    assert again.action_url == "https://www.paypal.com/again"
    for said in (
        translate.from_order(completion, refusal("PAYER_ACTION_REQUIRED"), CallKind.AUTHORIZE),
        translate.from_order(request(), refusal("PAYER_ACTION_REQUIRED", links=links), CallKind.AUTHORIZE),
    ):
        assert said.error is not None
        assert (said.outcome, said.error.code) == (Outcome.DECLINED, Code.AUTHENTICATION_REQUIRED)


def test_completion_is_about_its_payments_operation() -> None:
    completion = later(CallKind.COMPLETE, order_reference="ORDER", op_id=OpId("op_2"))
    body = order(authorizations=[made(status="CREATED", custom_id="authorize:op_1")])
    result = translate.from_order(completion, answer(body), CallKind.AUTHORIZE)
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "shown",
    [
        answer(order(intent="DREAM"), 200),
        answer(order() | {"id": "OTHER"}, 200),
        answer(order(), 404),
        answer([], 200),
        answer({}, 200),
    ],
)
def test_step_is_not_sent_when_its_order_is_not_shown(shown: Answer) -> None:
    assert translate.order_in(answer(order(), 200), "ORDER") is not None
    assert translate.order_in(shown, "ORDER") is None
    completion = later(CallKind.COMPLETE, order_reference="ORDER")
    assert translate.unlooked(completion, shown).outcome is Outcome.NOT_EXECUTED


@pytest.mark.parametrize("at", [0, 1])
def test_order_whose_second_capture_succeeded_was_not_declined(at: int) -> None:
    captures = [made(id="NO", status="DECLINED")]
    captures.insert(at, made(id="YES"))
    body = order(intent="CAPTURE", captures=captures)
    result = translate.from_order(later(CallKind.COMPLETE, order_reference="ORDER"), answer(body), CallKind.SALE)
    assert (result.outcome, result.gateway_reference) == (Outcome.SUCCEEDED, "YES")


@pytest.mark.parametrize("issue", ["ORDER_ALREADY_CAPTURED", "ORDER_ALREADY_AUTHORIZED"])
def test_completion_of_an_order_that_another_has_completed_is_in_doubt(issue: str) -> None:
    result = translate.from_order(later(CallKind.COMPLETE, order_reference="ORDER"), refusal(issue), CallKind.SALE)
    assert result.outcome is Outcome.UNKNOWN


# Voids


@pytest.mark.parametrize(
    "said", [Answer(status=204, headers={}, body=b""), answer(made(id="AUTH", status="VOIDED"), 200)]
)
def test_void_is_told_under_the_authorizations_id(said: Answer) -> None:
    result = translate.from_void(later(CallKind.VOID), said)
    assert (result.outcome, result.gateway_reference) == (Outcome.SUCCEEDED, "AUTH")


def test_void_that_was_sent_before_has_succeeded_when_the_hold_is_voided() -> None:
    said = refusal("PREVIOUSLY_VOIDED")
    assert translate.from_void(later(CallKind.VOID), said).outcome is Outcome.NOT_EXECUTED
    for changes in ({"call_number": 2}, {"repeated": True}):
        result = translate.from_void(later(CallKind.VOID, **changes), said)
        assert (result.outcome, result.gateway_reference) == (Outcome.SUCCEEDED, "AUTH")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (made(id="AUTH", status="CREATED"), Outcome.PENDING),
        (made(id="OTHER", status="VOIDED"), Outcome.UNKNOWN),
        ({}, Outcome.UNKNOWN),
    ],
)
def test_void_is_not_taken_for_done_by_another_answer(body: Json, outcome: Outcome) -> None:
    assert translate.from_void(later(CallKind.VOID), answer(body, 200)).outcome is outcome


# Inquiries


def inquired(kind: CallKind, body: object, status: int = 200) -> CallResult:
    call = request(kind) if kind in (CallKind.AUTHORIZE, CallKind.SALE) else later(kind)
    return translate.from_inquiry(inquiry_about(call, own_reference="MADE"), answer(body, status))


@pytest.mark.parametrize(
    ("kind", "body", "outcome"),
    [
        (CallKind.AUTHORIZE, made(status="CREATED"), Outcome.SUCCEEDED),
        (CallKind.SALE, made(), Outcome.SUCCEEDED),
        (CallKind.CAPTURE, made(status="PENDING"), Outcome.PENDING),
        (CallKind.REFUND, made(status="FAILED"), Outcome.DECLINED),
        (CallKind.VOID, made(status="VOIDED"), Outcome.SUCCEEDED),
        (CallKind.VOID, made(status="CREATED"), Outcome.UNKNOWN),
        (CallKind.COMPLETE, order(authorizations=[made(status="CREATED")]), Outcome.SUCCEEDED),
        (CallKind.COMPLETE, order(status="APPROVED"), Outcome.REQUIRES_ACTION),
        (CallKind.COMPLETE, order(status="APPROVED", intent="DREAM"), Outcome.UNKNOWN),
        (CallKind.CAPTURE, made(id="OTHER"), Outcome.UNKNOWN),
    ],
)
def test_inquiry_tells_what_became_of_the_operation(kind: CallKind, body: Json, outcome: Outcome) -> None:
    result = inquired(kind, body)
    assert (result.outcome, result.replayed) == (outcome, False)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 307])
def test_inquiry_that_is_refused_says_nothing(status: int) -> None:
    result = inquired(CallKind.SALE, {"name": "X", "details": [{"issue": "INSTRUMENT_DECLINED"}]}, status)
    assert result.outcome is Outcome.UNKNOWN


# Confidences


def test_nothing_of_the_payer_and_no_token_is_kept() -> None:
    body = order(authorizations=[made(status="CREATED", note="vault-1", processor_response={"response_code": "0000"})])
    body |= {"payer": {"email_address": "a@example.com"}, "links": [{"rel": "self", "href": "https://x.example"}]}
    body["purchase_units"][0] |= {"custom_id": "authorize:op_1", "shipping": {"name": "A. Payer"}}
    kept = opened(body).raw
    assert kept is not None
    for secret in ("a@example.com", "x.example", "A. Payer", "vault-1", "note"):
        assert secret not in kept
    for member in ("ORDER", "COMPLETED", "100.00", "0000", "authorize:op_1"):
        assert member in kept


@pytest.mark.parametrize("time", ["2018-08-15T14:30:10-07:00", "2018-08-15T21:30:10Z", "2018-08-15T21:30:10.000Z"])
def test_times_are_read_in_any_zone(time: str) -> None:
    assert translate.to_ms(time) == 1_534_368_610_000


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(WireError):
        translate.to_ms("2018-08-15T21:30:10")
