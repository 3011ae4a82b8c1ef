"""What PayPal's webhooks say: whose money, which object, and what is nobody's business here."""

from typing import Any

import orjson
import pytest

from gateway_adapters.contract import GatewayNotice
from gateway_adapters.errors import Code, UntranslatableError
from gateway_adapters.notices import Address, address_of
from gateway_adapters.paypal.notices import EVENT_TYPES, SELLER_KEPT, SELLER_LOST, PayPalTranslator
from gateway_adapters.paypal.spec import CAPABILITIES
from gateway_adapters.paypal.translate import to_ms
from schemas.vocabulary import CallKind, Outcome

Json = dict[str, Any]
TOLD_AT = "2026-12-01T15:00:09.780Z"
MADE_AT = "2026-12-01T15:00:00Z"
CHANGED_AT = "2026-12-01T15:00:07Z"


def told(event_type: str, resource: Json, **changes: Any) -> GatewayNotice:
    (notice,) = notices(event_type, resource, **changes)
    return notice


def notices(told_as: str, resource: object, **changes: Any) -> tuple[GatewayNotice, ...]:
    event = {"id": "WH-1", "create_time": TOLD_AT, "event_type": told_as, "resource": resource} | changes
    return PayPalTranslator().parse_webhook({}, orjson.dumps(event))


def made(reference: str | None, *, up: str = "/v2/checkout/orders/ORDER", **changes: Any) -> Json:
    return (
        {
            "id": "MADE",
            "status": "COMPLETED",
            "amount": {"currency_code": "USD", "value": "100.00"},
            "create_time": MADE_AT,
            "update_time": CHANGED_AT,
            "links": [
                {"rel": "self", "href": "https://api.paypal.com/v2/payments/captures/MADE"},
                {"rel": "up", "href": f"https://api.paypal.com{up}"},
            ],
        }
        | ({} if reference is None else {"custom_id": reference, "invoice_id": reference})
        | changes
    )


HELD_UP = "/v2/payments/authorizations/AUTH"
TAKEN_UP = "/v2/payments/captures/CAP"


def whose(notice: GatewayNotice) -> tuple[CallKind | None, str | None, str | None, str | None]:
    return notice.kind, notice.op_id, notice.gateway_reference, notice.payment_reference


def test_hold_is_its_authorizes() -> None:
    notice = told("PAYMENT.AUTHORIZATION.CREATED", made("authorize:op_1", status="CREATED"))
    assert whose(notice) == (CallKind.AUTHORIZE, "op_1", "MADE", "ORDER")
    assert (notice.outcome, notice.confirmed_amount_minor, notice.confirmed_currency) == (
        Outcome.SUCCEEDED,
        10_000,
        "USD",
    )
    assert (notice.notice_id, notice.occurred_at_ms) == ("WH-1", to_ms(CHANGED_AT))
    assert address_of(notice, CAPABILITIES) == Address(reference="op_1")


def test_hold_that_is_let_go_is_a_void_of_the_authorization_whoever_did_it() -> None:
    resource = made("authorize:op_1", status="VOIDED", expiration_time="2026-12-30T15:00:00Z")
    notice = told("PAYMENT.AUTHORIZATION.VOIDED", resource)
    assert whose(notice) == (CallKind.VOID, None, "MADE", "MADE")
    assert (notice.outcome, notice.confirmed_amount_minor) == (Outcome.SUCCEEDED, None)
    assert address_of(notice, CAPABILITIES) == Address(reference="MADE")


def test_hold_that_is_let_go_at_its_end_ran_out() -> None:
    resource = made("authorize:op_1", status="VOIDED", expiration_time=CHANGED_AT)
    notice = told("PAYMENT.AUTHORIZATION.VOIDED", resource)
    assert (whose(notice)[:3], notice.outcome) == ((CallKind.AUTHORIZE, "op_1", "MADE"), Outcome.EXPIRED)


@pytest.mark.parametrize(
    ("reference", "up", "expected", "address"),
    [
        ("sale:op_1", "/v2/checkout/orders/ORDER", (CallKind.SALE, "op_1", "MADE", "ORDER"), "op_1"),
        ("capture:op_2", HELD_UP, (CallKind.CAPTURE, "op_2", "MADE", "AUTH"), "AUTH"),
        ("authorize:op_1", HELD_UP, (CallKind.CAPTURE, None, "MADE", "AUTH"), "AUTH"),  # at PayPal's own desk
        (None, HELD_UP, (CallKind.CAPTURE, None, "MADE", "AUTH"), "AUTH"),
        (None, "/v2/checkout/orders/ORDER", (CallKind.SALE, None, "MADE", None), "MADE"),
    ],
)
def test_capture_is_its_captures_or_sales(
    reference: str | None, up: str, expected: tuple[object, ...], address: str
) -> None:
    for event_type, outcome in (
        ("PAYMENT.CAPTURE.COMPLETED", Outcome.SUCCEEDED),
        ("PAYMENT.CAPTURE.PENDING", Outcome.PENDING),
        ("PAYMENT.CAPTURE.DENIED", Outcome.DECLINED),
        ("PAYMENT.CAPTURE.DECLINED", Outcome.DECLINED),
    ):
        status = {Outcome.SUCCEEDED: "COMPLETED", Outcome.PENDING: "PENDING", Outcome.DECLINED: "DECLINED"}[outcome]
        notice = told(event_type, made(reference, up=up, status=status))
        assert (whose(notice), notice.outcome) == (expected, outcome)
        assert address_of(notice, CAPABILITIES) == Address(reference=address)


@pytest.mark.parametrize("status", ["PARTIALLY_REFUNDED", "REFUNDED"])
def test_success_of_a_capture_is_no_later_than_what_was_taken_back_of_it(status: str) -> None:
    notice = told("PAYMENT.CAPTURE.COMPLETED", made("sale:op_1", status=status))
    assert (notice.outcome, notice.occurred_at_ms) == (Outcome.SUCCEEDED, to_ms(MADE_AT))


def test_related_ids_are_listened_to_before_links_are() -> None:
    related = {"related_ids": {"order_id": "ORDER-2", "authorization_id": "AUTH-2"}}
    notice = told("PAYMENT.CAPTURE.COMPLETED", made("capture:op_2", up=HELD_UP, supplementary_data=related))
    assert notice.payment_reference == "AUTH-2"


def test_denied_capture_says_why() -> None:
    resource = made("sale:op_1", status="DECLINED", processor_response={"response_code": "5120"})
    notice = told("PAYMENT.CAPTURE.DENIED", resource)
    assert notice.error is not None
    assert notice.error.code == Code.INSUFFICIENT_FUNDS


@pytest.mark.parametrize(
    ("reference", "op_id"),
    [("refund:op_3", "op_3"), ("sale:op_1", None), ("capture:op_2", None), ("mine", None), (None, None)],
)
def test_refund_is_ours_or_was_made_at_paypals_own_desk(reference: str | None, op_id: str | None) -> None:
    notice = told("PAYMENT.CAPTURE.REFUNDED", made(reference, up=TAKEN_UP))
    assert whose(notice) == (CallKind.REFUND, op_id, "MADE", "CAP")
    assert notice.outcome is Outcome.SUCCEEDED
    assert address_of(notice, CAPABILITIES) == Address(reference="CAP")


@pytest.mark.parametrize(
    ("event_type", "status", "outcome"),
    [
        ("PAYMENT.REFUND.PENDING", "PENDING", Outcome.PENDING),
        ("PAYMENT.CAPTURE.REFUNDED", "CANCELLED", Outcome.DECLINED),
    ],
)
def test_refund_that_has_not_come_to_money_is_told(event_type: str, status: str, outcome: Outcome) -> None:
    assert told(event_type, made("refund:op_3", up=TAKEN_UP, status=status)).outcome is outcome


def test_refund_that_fails_is_taken_back_whether_or_not_it_had_counted() -> None:
    notice = told("PAYMENT.REFUND.FAILED", made("refund:op_3", up=TAKEN_UP, status="FAILED"))
    assert (whose(notice), notice.outcome) == ((CallKind.REFUND, "op_3", "MADE", "CAP"), Outcome.REVERSED)
    assert (notice.case_reference, notice.confirmed_amount_minor) == ("MADE", 10_000)
    assert notice.occurred_at_ms == to_ms(TOLD_AT)


@pytest.mark.parametrize(
    ("resource", "expected", "case", "address"),
    [
        (made("sale:op_1", up=TAKEN_UP), (CallKind.SALE, "op_1", "CAP", None), "MADE", "op_1"),
        (made("capture:op_2", up=TAKEN_UP), (CallKind.CAPTURE, "op_2", "CAP", None), "MADE", "CAP"),
        (made(None, up=TAKEN_UP), (None, None, "CAP", None), "MADE", "CAP"),
        # The capture itself: no other id tells this reversal from another.
        (made("capture:op_2", up=HELD_UP), (CallKind.CAPTURE, "op_2", "MADE", None), "WH-1", "MADE"),
    ],
)
def test_reversal_takes_from_its_capture_as_a_case_of_its_own(
    resource: Json, expected: tuple[object, ...], case: str, address: str
) -> None:
    notice = told("PAYMENT.CAPTURE.REVERSED", resource)
    assert (whose(notice), notice.outcome) == (expected, Outcome.REVERSED)
    assert (notice.case_reference, notice.occurred_at_ms) == (case, to_ms(TOLD_AT))
    assert notice.error is not None
    assert notice.error.code == Code.FAILED_LATE
    assert address_of(notice, CAPABILITIES) == Address(reference=address)


def dispute(outcome_code: str | None = None, **transaction: str) -> Json:
    resource: Json = {
        "dispute_id": "PP-D-1",
        "status": "OPEN",
        "dispute_amount": {"currency_code": "USD", "value": "30.00"},
        "disputed_transactions": [{"seller_transaction_id": "CAP", **transaction}],
    }
    return resource if outcome_code is None else resource | {"dispute_outcome": {"outcome_code": outcome_code}}


@pytest.mark.parametrize("event_type", ["CUSTOMER.DISPUTE.CREATED", "CUSTOMER.DISPUTE.UPDATED"])
def test_dispute_is_about_the_capture_that_it_names(event_type: str) -> None:
    notice = told(event_type, dispute())
    assert (whose(notice), notice.outcome) == ((None, None, "CAP", None), Outcome.DISPUTE_OPENED)
    assert (notice.confirmed_amount_minor, notice.case_reference) == (3_000, "PP-D-1")
    assert address_of(notice, CAPABILITIES) == Address(reference="CAP")
    named = told(event_type, dispute(invoice_number="sale:op_1"))
    assert whose(named) == (CallKind.SALE, "op_1", "CAP", None)
    assert whose(told(event_type, dispute(custom="authorize:op_1"))) == (None, None, "CAP", None)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        *((code, Outcome.DISPUTE_LOST) for code in sorted(SELLER_LOST)),
        *((code, Outcome.DISPUTE_WON) for code in sorted(SELLER_KEPT)),
        ("SETTLED_BY_DICE", Outcome.DISPUTE_OPENED),
        (None, Outcome.DISPUTE_OPENED),
    ],
)
def test_dispute_ends_as_its_outcome_says_and_stays_open_by_one_that_nobody_knows(
    code: str | None, outcome: Outcome
) -> None:
    assert told("CUSTOMER.DISPUTE.RESOLVED", dispute(code)).outcome is outcome


def test_dispute_that_is_lost_in_part_takes_that_part() -> None:
    resource = dispute() | {
        "status": "RESOLVED",
        "dispute_outcome": {
            "outcome_code": "RESOLVED_BUYER_FAVOUR",
            "amount_refunded": {"currency_code": "USD", "value": "10.00"},
        },
    }
    notice = told("CUSTOMER.DISPUTE.RESOLVED", resource)
    assert (notice.outcome, notice.confirmed_amount_minor) == (Outcome.DISPUTE_LOST, 1_000)


def test_dispute_that_has_ended_is_not_opened_again_by_an_update() -> None:
    ended = dispute("RESOLVED_BUYER_FAVOUR") | {"status": "RESOLVED"}
    assert told("CUSTOMER.DISPUTE.UPDATED", ended).outcome is Outcome.DISPUTE_LOST
    appealed = dispute("RESOLVED_BUYER_FAVOUR") | {"status": "UNDER_REVIEW"}
    assert told("CUSTOMER.DISPUTE.UPDATED", appealed).outcome is Outcome.DISPUTE_OPENED


def test_each_dispute_and_each_reversal_of_one_capture_is_a_case_of_its_own() -> None:
    first = told("CUSTOMER.DISPUTE.RESOLVED", dispute("RESOLVED_BUYER_FAVOUR"))
    second = told("CUSTOMER.DISPUTE.CREATED", dispute() | {"dispute_id": "PP-D-2"})
    reversal = told("PAYMENT.CAPTURE.REVERSED", made("sale:op_1", up=TAKEN_UP))
    another = told("PAYMENT.CAPTURE.REVERSED", made("sale:op_1", up=TAKEN_UP, id="MADE-2"))
    assert len({each.case_reference for each in (first, second, reversal, another)}) == 4
    assert {each.gateway_reference for each in (first, second, reversal, another)} == {"CAP"}


def test_approval_lets_the_payment_wait_for_us() -> None:
    unit = {"custom_id": "authorize:op_1"}
    resource = {"id": "ORDER", "status": "APPROVED", "intent": "AUTHORIZE", "purchase_units": [unit]}
    notice = told("CHECKOUT.ORDER.APPROVED", resource)
    assert (whose(notice), notice.outcome) == ((CallKind.AUTHORIZE, "op_1", None, "ORDER"), Outcome.REQUIRES_ACTION)
    assert notices("CHECKOUT.ORDER.APPROVED", resource | {"purchase_units": [{"custom_id": "theirs"}]}) == ()


def test_approval_that_was_not_used_in_time_ends_the_payment() -> None:
    resource = {"order_id": "ORDER", "purchase_units": [{"custom_id": "sale:op_1"}]}
    notice = told("CHECKOUT.PAYMENT-APPROVAL.REVERSED", resource)
    assert (whose(notice), notice.outcome) == ((CallKind.SALE, "op_1", None, "ORDER"), Outcome.DECLINED)
    assert notice.error is not None
    assert notice.error.code == Code.ACTION_EXPIRED
    assert notices("CHECKOUT.PAYMENT-APPROVAL.REVERSED", {"order_id": "ORDER"}) == ()


@pytest.mark.parametrize(
    "event_type", ["BILLING.SUBSCRIPTION.CREATED", "INVOICING.INVOICE.PAID", "CHECKOUT.ORDER.COMPLETED", "NEW.WORD"]
)
def test_event_about_anything_else_says_nothing(event_type: str) -> None:
    assert notices(event_type, {"whatever": 1}) == ()


@pytest.mark.parametrize(
    "event_type",
    [
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.AUTHORIZATION.VOIDED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.PENDING",
        "PAYMENT.CAPTURE.DENIED",
    ],
)
def test_payment_of_another_system_on_the_account_says_nothing(event_type: str) -> None:
    for reference in ("SHOP-ORDER-1", "sale:with space"):
        assert notices(event_type, made(reference)) == ()
    assert notices(event_type, made(None)) != ()


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
@pytest.mark.parametrize("resource", [{}, {"id": "X"}, [], None, "x", {"disputed_transactions": [{}, {}]}])
def test_event_that_is_not_as_described_is_untranslatable(event_type: str, resource: object) -> None:
    with pytest.raises(UntranslatableError):
        notices(event_type, resource)


@pytest.mark.parametrize(
    "changes", [{"id": ""}, {"create_time": None}, {"event_type": 7}, {"create_time": "yesterday"}]
)
def test_event_without_what_every_event_has_is_untranslatable(changes: Json) -> None:
    with pytest.raises(UntranslatableError):
        notices("CUSTOMER.DISPUTE.CREATED", dispute(), **changes)


@pytest.mark.parametrize("transactions", [[], [{}], [{"seller_transaction_id": "A"}, {"seller_transaction_id": "B"}]])
def test_dispute_about_no_capture_or_about_several_is_for_a_person(transactions: list[Json]) -> None:
    with pytest.raises(UntranslatableError):
        notices("CUSTOMER.DISPUTE.CREATED", dispute() | {"disputed_transactions": transactions})


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff"])
def test_body_that_is_not_json_is_untranslatable(body: bytes) -> None:
    with pytest.raises(UntranslatableError):
        PayPalTranslator().parse_webhook({}, body)
