import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code, InDoubtError, NotSentError, Signal, UntranslatableError
from gateway_adapters.http_transport import Answer
from gateway_adapters.mock import translate, wire
from gateway_adapters.mock.wire import Metadata, Operation, WireError
from schemas.identifiers import OrderId
from schemas.records.commands import BrowserFacts, NamedText, Payer
from schemas.records.gateway import CallDetails
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_requests import follow_up, inquiry_about, payment_request

REQUEST = payment_request(OrderId("order-1"), CallKind.SALE)
INQUIRY = inquiry_about(REQUEST)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def operation(**changes: object) -> dict[str, object]:
    told = Operation(
        id="mpay_1",
        kind="sale",
        status="succeeded",
        payment="mpay_1",
        amount=10_000,
        counted=10_000,
        currency="USD",
        gateway_key=REQUEST.gateway_key,
        action_url=None,
        failure=None,
        metadata=Metadata(origin_id="originA", order_id="order-1", op_id=REQUEST.op_id),
        created_ms=1,
        updated_ms=2,
    )
    return {**wire.operation_json(told), **changes}


def event(told: object, **changes: object) -> dict[str, object]:
    return {"id": "evt_1", "type": "operation.updated", "created_ms": 5, "operation": told, **changes}


def answer(status: int, body: object = None, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, headers=headers, body=raw)


DETAILS = CallDetails(
    token_kind="stored",
    payer_reference="shopper-1",
    payer=Payer(email="anna@example.com", browser=BrowserFacts(screen_width_px=1920, java_enabled=False)),
    return_url="https://shop.example/back",
    statement_descriptor="SHOP 17",
    metadata=(NamedText(name="cart", value="17"),),
    merchant_initiated=True,
    allow_partial=True,
)


def test_call_says_what_was_given_besides_and_nothing_else() -> None:
    plain = wire.encode_call(translate.to_call(REQUEST))
    assert wire.encode_call(translate.to_call(replace(REQUEST, details=CallDetails()))) == plain
    told = json.loads(wire.encode_call(translate.to_call(replace(REQUEST, details=DETAILS))))
    assert {name: value for name, value in told.items() if name not in json.loads(plain)} == {
        "token_kind": "stored",
        "customer": "shopper-1",
        "shopper": {"email": "anna@example.com", "browser": {"java_enabled": False, "screen_width_px": 1920}},
        "return_url": "https://shop.example/back",
        "statement_descriptor": "SHOP 17",
        "merchant_metadata": {"cart": "17"},
        "off_session": True,
        "allow_partial": True,
    }


@pytest.mark.parametrize("member", [{"nickname": "x"}, {"return_url": 7}, {"off_session": "yes"}, {"shopper": []}])
def test_call_is_refused_when_it_holds_what_the_mock_does_not_know(member: dict[str, object]) -> None:
    body = json.dumps({**json.loads(wire.encode_call(translate.to_call(REQUEST))), **member}).encode()
    with pytest.raises(WireError):
        wire.decode_call(body, kind=CallKind.AUTHORIZE, gateway_key="k", payment=None)


def test_call_survives_the_wire() -> None:
    for request in (
        REQUEST,
        replace(REQUEST, details=DETAILS),
        replace(REQUEST, token="x" * 64_000),
        payment_request(OrderId("order-1")),
        follow_up(REQUEST, CallKind.CAPTURE, reference="mpay_1", amount_minor=5, final=True),
        follow_up(REQUEST, CallKind.REFUND, reference="mpay_1", amount_minor=5),
        follow_up(REQUEST, CallKind.VOID, reference="mpay_1", amount_minor=5),
    ):
        call = translate.to_call(request)
        kind = CallKind.AUTHORIZE if request.kind is CallKind.SALE else request.kind
        raw = wire.encode_call(call)
        assert wire.decode_call(raw, kind=kind, gateway_key=call.gateway_key, payment=call.payment) == call


def test_server_error_that_is_kept_under_the_key_is_not_to_be_asked_for_again() -> None:
    kept = translate.from_answer(REQUEST, answer(500, b"", **{"idempotent-replayed": "true"}))
    assert (kept.outcome, kept.replayed) == (Outcome.UNKNOWN, True)
    assert kept.error is not None
    assert (kept.error.code, kept.error.retry) == (Code.GATEWAY_FAILED, RetryAdvice.NEVER)


def test_result_says_when_it_came_about_by_the_gateways_clock() -> None:
    assert translate.from_answer(REQUEST, answer(200, operation(updated_ms=77))).occurred_at_ms == 77
    assert (
        translate.from_inquiry(INQUIRY, answer(200, {"found": True, **operation(updated_ms=78)})).occurred_at_ms == 78
    )
    assert translate.from_answer(REQUEST, answer(500, b"")).occurred_at_ms is None


def test_path_is_quoted_so_that_a_reference_cannot_lead_elsewhere() -> None:
    request = follow_up(REQUEST, CallKind.CAPTURE, reference="../x?y=1#z", amount_minor=5)
    assert translate.posted_path(translate.to_call(request)) == "/payments/..%2Fx%3Fy%3D1%23z/captures"


@pytest.mark.parametrize(
    ("status", "body", "outcome", "code"),
    [
        (200, operation(), Outcome.SUCCEEDED, None),
        (200, operation(status="pending"), Outcome.PENDING, None),
        (200, operation(status="requires_action"), Outcome.REQUIRES_ACTION, None),
        (200, operation(status="brand_new"), Outcome.PENDING, Code.UNKNOWN_STATUS),
        (200, operation(status="reversed"), Outcome.REVERSED, Code.FAILED_LATE),
        (200, operation(status="expired"), Outcome.EXPIRED, Code.AUTHORIZATION_EXPIRED),
        (200, operation(status="failed"), Outcome.DECLINED, Code.UNKNOWN),
        (200, operation(status="failed", failure={"code": "cancelled"}), Outcome.DECLINED, Code.CANCELLED),
        (200, operation(status="failed", failure={"code": "action_expired"}), Outcome.DECLINED, Code.ACTION_EXPIRED),
        (200, operation(metadata=None), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (200, operation(counted=-1), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (402, operation(status="declined", failure={"code": "brand_new"}), Outcome.DECLINED, Code.UNKNOWN),
        (402, operation(status="declined", failure={"code": "lost_card"}), Outcome.DECLINED, Code.LOST_OR_STOLEN),
        (200, operation(metadata={"op_id": "x", "order_id": "y", "origin_id": "z"}), Outcome.UNKNOWN, None),
        (200, operation(amount="10000"), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (200, operation(amount=100.0), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (200, operation(amount=True), Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (200, b"<html>", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (204, b"", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (302, b"", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (400, {"error": {"code": "amount_exceeds_captured"}}, Outcome.NOT_EXECUTED, Code.INVALID_REQUEST),
        (404, {"error": {"code": "not_found"}}, Outcome.NOT_EXECUTED, Code.INVALID_REQUEST),
        (404, b"<html>a proxy's page</html>", Outcome.UNKNOWN, Code.UNREADABLE_ANSWER),
        (409, {"error": {"code": "idempotency_key_in_progress"}}, Outcome.UNKNOWN, Code.CALL_IN_PROGRESS),
        (409, {"error": {"code": "idempotency_key_reused"}}, Outcome.UNKNOWN, Code.GATEWAY_KEY_MISMATCH),
        (401, b"", Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS),
        (403, b"", Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS),
        (429, b"", Outcome.NOT_EXECUTED, Code.RATE_LIMITED),
        (500, b"", Outcome.UNKNOWN, Code.GATEWAY_FAILED),
        (599, operation(), Outcome.UNKNOWN, Code.GATEWAY_FAILED),
    ],
)
def test_answer_means(status: int, body: object, outcome: Outcome, code: Code | None) -> None:
    result = translate.from_answer(REQUEST, answer(status, body))
    assert result.outcome is outcome
    assert code is None or (result.error is not None and result.error.code == code)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"found": True, **operation()}, Outcome.SUCCEEDED),
        (200, {"found": False, "authoritative": True}, Outcome.NOT_EXECUTED),
        (200, {"found": False, "authoritative": False}, Outcome.UNKNOWN),
        (200, {"found": False}, Outcome.UNKNOWN),
        (200, {"found": False, "authoritative": "true"}, Outcome.UNKNOWN),
        (200, {"found": True, "status": "processing"}, Outcome.UNKNOWN),
        (200, {}, Outcome.UNKNOWN),
        (400, {"error": {"code": "invalid_request"}}, Outcome.UNKNOWN),
        (401, b"", Outcome.UNKNOWN),
        (404, b"", Outcome.UNKNOWN),
        (429, b"", Outcome.UNKNOWN),
        (500, b"", Outcome.UNKNOWN),
    ],
)
def test_inquiry_means(status: int, body: object, outcome: Outcome) -> None:
    assert translate.from_inquiry(INQUIRY, answer(status, body)).outcome is outcome


@given(status=st.integers(100, 599), body=JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_no_answer_makes_a_translation_raise_or_succeed_by_chance(status: int, body: bytes) -> None:
    for result in (
        translate.from_answer(REQUEST, Answer(status=status, headers={}, body=body)),
        translate.from_inquiry(INQUIRY, Answer(status=status, headers={}, body=body)),
    ):
        assert result.outcome in {Outcome.UNKNOWN, Outcome.NOT_EXECUTED}


@given(body=JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_no_webhook_makes_a_translation_raise_anything_but_untranslatable(body: bytes) -> None:
    with pytest.raises(UntranslatableError):
        translate.notices_of(body)


def test_notice_of_an_operation_kind_nobody_knows_is_still_told() -> None:
    (notice,) = translate.notices_of(json.dumps(event(operation(kind="payout", status="brand_new"))).encode())
    assert (notice.kind, notice.outcome, notice.notice_id) == (None, Outcome.PENDING, "evt_1")


def test_notice_about_a_case_says_its_amount_and_reference_and_not_what_the_operation_counts_for() -> None:
    told = operation(status="succeeded", counted=7_000, updated_ms=6)
    body = event(told, type="operation.reversed", case={"id": "mcase_1", "amount": 3_000})
    (notice,) = translate.notices_of(json.dumps(body).encode())
    assert (notice.outcome, notice.confirmed_amount_minor) == (Outcome.REVERSED, 3_000)
    assert (notice.case_reference, notice.occurred_at_ms) == ("mcase_1", 5)


def test_inquiry_about_what_was_taken_back_names_the_same_case_as_the_notice() -> None:
    told = operation(status="reversed", case={"id": "mcase_1", "amount": 7_000}, updated_ms=9)
    found = translate.from_inquiry(INQUIRY, answer(200, {"found": True, **told}))
    assert (found.outcome, found.confirmed_amount_minor) == (Outcome.REVERSED, 7_000)
    assert (found.case_reference, found.occurred_at_ms) == ("mcase_1", 9)


def test_case_without_its_reference_cannot_be_read() -> None:
    with pytest.raises(UntranslatableError, match="case"):
        translate.notices_of(json.dumps(event(operation(), type="dispute.opened")).encode())


def test_notice_of_what_we_do_not_know_or_that_is_of_another_system_says_nothing() -> None:
    for item in (
        event(operation(), type="payout.paid"),
        {"id": "evt_1", "type": "report.available", "created_ms": 1},
        event(operation(metadata={"invoice": "INV-1"})),
    ):
        assert translate.notices_of(json.dumps(item).encode()) == ()


def test_batch_says_what_each_of_its_events_says_in_their_order() -> None:
    items = [event(operation(), id="evt_1"), event(operation(metadata=None), id="evt_2")]
    items.insert(1, {"id": "evt_3", "type": "report.available", "created_ms": 1})
    notices = translate.notices_of(json.dumps({"object": "batch", "events": items}).encode())
    assert [(notice.notice_id, notice.order_id) for notice in notices] == [("evt_1", "order-1"), ("evt_2", None)]


@pytest.mark.parametrize(
    "events", [None, {}, [1], [event(operation(amount="1"))], [event(operation(), type="payout.paid")] * 257]
)
def test_batch_that_cannot_be_read_whole_is_untranslatable(events: object) -> None:
    with pytest.raises(UntranslatableError):
        translate.notices_of(json.dumps({"object": "batch", "events": events}).encode())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotSentError(Signal.NOT_SENT, "X"), Outcome.NOT_EXECUTED),
        (InDoubtError(Signal.READ_TIMEOUT, "X"), Outcome.UNKNOWN),
    ],
)
def test_broken_exchange_means_by_the_table_for_a_call_and_nothing_for_an_inquiry(
    error: NotSentError | InDoubtError, outcome: Outcome
) -> None:
    assert translate.from_failure(REQUEST, error).outcome is outcome
    assert translate.from_failure(INQUIRY, error).outcome is Outcome.UNKNOWN


def test_token_is_cut_out_of_the_raw_answer() -> None:
    echoed = answer(400, {"error": {"code": f"invalid_{REQUEST.token}", "message": f"no such token: {REQUEST.token}"}})
    result = translate.from_answer(REQUEST, echoed)
    assert isinstance(result, CallResult)
    assert result.raw == '{"error":{"code":"invalid_[redacted]"}}'


def test_raw_answer_holds_what_is_listed_and_nothing_of_the_payer() -> None:
    told = {"payer": {"name": "Ada Lovelace", "email": "ada@example.com"}, "receipt_email": "ada@example.com"}
    result = translate.from_answer(REQUEST, answer(400, {"error": {"code": "no", "name": "Ada"}, **told}))
    assert result.raw == '{"error":{"code":"no"}}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"amount": 1, "currency": "USD", "token": "t", "metadata": {}}',
        b'{"amount": 0, "currency": "USD", "token": "t"}',
        b'{"amount": 1, "currency": "USD", "metadata": {"origin_id": "o", "order_id": "o", "op_id": "o"}}',
        b'{"amount": 1, "capture": 1}',
    ],
)
def test_request_body_is_refused_with_its_field(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_call(body, kind=CallKind.AUTHORIZE, gateway_key="k", payment=None)
