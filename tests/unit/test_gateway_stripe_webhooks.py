"""What Stripe's events mean: each type that says something, and those that say nothing."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway_adapters.contract import GatewayNotice
from gateway_adapters.errors import Code, UntranslatableError
from gateway_adapters.notices import split
from gateway_adapters.stripe.spec import CAPABILITIES
from gateway_adapters.stripe.webhooks import READERS, StripeTranslator
from schemas.vocabulary import CallKind, Outcome

OURS = {"op_id": "op_1", "order_id": "order-1", "origin_id": "originA", "gateway_key": "op_1:1"}
CREATED_S = 1_800_000_100


def payment(**changes: object) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 10_000,
        "amount_capturable": 0,
        "amount_received": 10_000,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "created": 1_800_000_000,
        "currency": "usd",
        "last_payment_error": None,
        "latest_charge": "ch_1",
        "metadata": OURS,
        "next_action": None,
        "status": "succeeded",
        **changes,
    }


def refund(**changes: object) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 2_500,
        "charge": "ch_1",
        "created": 1_800_000_050,
        "currency": "usd",
        "failure_reason": None,
        "metadata": {},
        "payment_intent": "pi_1",
        "status": "succeeded",
        **changes,
    }


def dispute(**changes: object) -> dict[str, Any]:
    return {
        "id": "du_1",
        "object": "dispute",
        "amount": 3_000,
        "charge": "ch_1",
        "currency": "usd",
        "metadata": {},
        "payment_intent": "pi_1",
        "status": "needs_response",
        **changes,
    }


def notices_of(kind: str, told: object, *, previous: object = None) -> tuple[GatewayNotice, ...]:
    data = {"object": told} | ({} if previous is None else {"previous_attributes": previous})
    event = {"id": "evt_1", "object": "event", "created": CREATED_S, "type": kind, "data": data}
    return StripeTranslator().parse_webhook({}, orjson.dumps(event))


def notice_of(kind: str, told: object, *, previous: object = None) -> GatewayNotice:
    (notice,) = notices_of(kind, told, previous=previous)
    return notice


DECLINED = {"code": "card_declined", "decline_code": "insufficient_funds", "type": "card_error"}
HELD = {"capture_method": "manual", "amount_received": 0}


@pytest.mark.parametrize(
    ("kind", "told", "about", "outcome", "code"),
    [
        ("succeeded", payment(), CallKind.SALE, Outcome.SUCCEEDED, None),
        ("processing", payment(status="processing"), CallKind.SALE, Outcome.PENDING, None),
        (
            "amount_capturable_updated",
            payment(**HELD, status="requires_capture", amount_capturable=10_000),
            CallKind.AUTHORIZE,
            Outcome.SUCCEEDED,
            None,
        ),
        (
            "payment_failed",
            payment(status="requires_payment_method", last_payment_error=DECLINED),
            CallKind.SALE,
            Outcome.DECLINED,
            Code.INSUFFICIENT_FUNDS,
        ),
        (
            "canceled",
            payment(**HELD, status="canceled", latest_charge=None),
            CallKind.AUTHORIZE,
            Outcome.DECLINED,
            Code.CANCELLED,
        ),
        (
            "canceled",
            payment(status="canceled", latest_charge=None, cancellation_reason="expired"),
            CallKind.SALE,
            Outcome.DECLINED,
            Code.ACTION_EXPIRED,
        ),
        (
            "canceled",
            payment(**HELD, status="canceled", cancellation_reason="automatic"),
            CallKind.AUTHORIZE,
            Outcome.EXPIRED,
            Code.AUTHORIZATION_EXPIRED,
        ),
        ("succeeded", payment(status="brand_new"), CallKind.SALE, Outcome.PENDING, Code.UNKNOWN_STATUS),
    ],
)
def test_event_about_a_payment_tells_what_became_of_it(
    kind: str, told: object, about: CallKind, outcome: Outcome, code: Code | None
) -> None:
    notice = notice_of(f"payment_intent.{kind}", told)
    assert (notice.kind, notice.outcome) == (about, outcome)
    assert (None if notice.error is None else notice.error.code) == code
    assert (notice.origin_id, notice.order_id, notice.op_id) == ("originA", "order-1", "op_1")
    assert (notice.gateway_reference, notice.payment_reference) == ("pi_1", "pi_1")
    assert (notice.confirmed_amount_minor, notice.confirmed_currency) == (10_000, "USD")
    assert (notice.notice_id, notice.occurred_at_ms) == ("evt_1", CREATED_S * 1000)


def test_event_about_captures_tells_of_each_with_the_time_of_its_own_request() -> None:
    """A later event holds the notes of earlier captures again: said with its own time, each stays the same word."""
    metadata = OURS | {"cap_op_2": "4000 1800000001000", "cap_op_3": "6000 1800000002000"}
    first, second = notices_of("payment_intent.succeeded", payment(capture_method="manual", metadata=metadata))
    assert {(each.kind, each.outcome) for each in (first, second)} == {(CallKind.CAPTURE, Outcome.SUCCEEDED)}
    assert [(each.op_id, each.confirmed_amount_minor) for each in (first, second)] == [("op_2", 4_000), ("op_3", 6_000)]
    assert [each.occurred_at_ms for each in (first, second)] == [1_800_000_001_000, 1_800_000_002_000]
    assert (first.gateway_reference, first.payment_reference) == ("ch_1", "pi_1")
    assert first.notice_id != second.notice_id


def test_event_about_the_only_capture_confirms_what_stripe_took() -> None:
    metadata = OURS | {"cap_op_2": "4000 1800000001000"}
    told = payment(capture_method="manual", metadata=metadata, amount_received=3_999)
    assert notice_of("payment_intent.succeeded", told).confirmed_amount_minor == 3_999


def test_part_that_was_captured_is_told_while_the_rest_is_held() -> None:
    told = payment(
        capture_method="manual",
        status="requires_capture",
        amount_capturable=6_000,
        amount_received=4_000,
        metadata=OURS | {"cap_op_2": "4000 1000"},
    )
    notice = notice_of("payment_intent.amount_capturable_updated", told)
    assert (notice.kind, notice.op_id, notice.confirmed_amount_minor) == (CallKind.CAPTURE, "op_2", 4_000)


def test_capture_and_void_at_stripes_own_desk_are_told_without_an_operation() -> None:
    captured = notice_of("payment_intent.succeeded", payment(capture_method="manual"))
    assert (captured.kind, captured.op_id, captured.gateway_reference) == (CallKind.CAPTURE, None, "ch_1")
    voided = notice_of("payment_intent.canceled", payment(**HELD, status="canceled"))
    assert (voided.kind, voided.op_id, voided.outcome) == (CallKind.VOID, None, Outcome.SUCCEEDED)
    assert (voided.order_id, voided.payment_reference) == ("order-1", "pi_1")


@pytest.mark.parametrize("kind", ["refund.created", "refund.updated", "charge.refund.updated"])
def test_refund_of_ours_is_told_with_its_operation(kind: str) -> None:
    notice = notice_of(kind, refund(metadata=OURS))
    assert (notice.kind, notice.outcome, notice.op_id) == (CallKind.REFUND, Outcome.SUCCEEDED, "op_1")
    assert (notice.gateway_reference, notice.payment_reference) == ("re_1", "pi_1")


def test_refund_at_stripes_own_desk_names_the_payment_alone() -> None:
    notice = notice_of("refund.created", refund())
    assert (notice.origin_id, notice.order_id, notice.op_id) == (None, None, None)
    assert (notice.gateway_reference, notice.payment_reference) == ("re_1", "pi_1")
    assert [each.reference for each in split((notice,), CAPABILITIES).addresses] == ["pi_1"]


def test_refund_that_moved_nothing_gives_nothing_back() -> None:
    """Stripe makes one of what it lets go, after a capture of a part and after a cancellation."""
    assert notices_of("refund.created", refund(balance_transaction=None)) == ()
    assert notice_of("refund.created", refund(balance_transaction="txn_1")).outcome is Outcome.SUCCEEDED
    waiting = refund(balance_transaction=None, status="pending")
    assert notice_of("refund.created", waiting).outcome is Outcome.PENDING


def test_refund_that_fails_is_taken_back_if_it_had_counted_and_a_refusal_if_not() -> None:
    failed = refund(metadata=OURS, status="failed", failure_reason="lost_or_stolen_card")
    late = notice_of("refund.failed", failed)
    assert (late.outcome, late.case_reference, late.confirmed_amount_minor) == (Outcome.REVERSED, "re_1", 2_500)
    assert late.error is not None
    assert late.error.code == Code.FAILED_LATE
    never = notice_of("refund.updated", failed, previous={"status": "pending"})
    assert (never.outcome, never.case_reference) == (Outcome.DECLINED, None)
    assert never.error is not None
    assert never.error.code == Code.LOST_OR_STOLEN


def test_refund_that_is_cancelled_is_taken_back_if_it_had_counted_and_a_refusal_if_not() -> None:
    cancelled = refund(metadata=OURS, status="canceled", failure_reason="merchant_request")
    late = notice_of("refund.updated", cancelled, previous={"status": "succeeded"})
    assert (late.outcome, late.case_reference, late.confirmed_amount_minor) == (Outcome.REVERSED, "re_1", 2_500)
    never = notice_of("refund.updated", cancelled, previous={"status": "requires_action"})
    assert (never.outcome, never.case_reference) == (Outcome.DECLINED, None)


def test_hold_that_stripe_lets_go_by_a_refund_gives_nothing_back() -> None:
    assert notices_of("refund.created", refund(reason="expired_uncaptured_charge")) == ()
    assert notice_of("refund.created", refund(reason="requested_by_customer")).outcome is Outcome.SUCCEEDED


def test_debit_that_is_cancelled_under_way_was_never_held() -> None:
    notice = notice_of("payment_intent.canceled", payment(status="canceled", amount_received=0))
    assert (notice.kind, notice.op_id, notice.outcome) == (CallKind.SALE, "op_1", Outcome.DECLINED)


def test_event_of_a_connected_account_says_nothing() -> None:
    data = {"object": payment()}
    event = {"id": "evt_1", "object": "event", "created": CREATED_S, "type": "payment_intent.succeeded", "data": data}
    assert StripeTranslator().parse_webhook({}, orjson.dumps(event | {"account": "acct_2"})) == ()


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("created", "needs_response", Outcome.DISPUTE_OPENED),
        ("created", "warning_needs_response", Outcome.DISPUTE_OPENED),
        ("funds_withdrawn", "needs_response", Outcome.REVERSED),
        ("closed", "won", Outcome.DISPUTE_WON),
        ("closed", "lost", Outcome.DISPUTE_LOST),
        ("closed", "warning_closed", Outcome.DISPUTE_WON),
    ],
)
def test_dispute_is_told_under_its_own_id_and_by_the_payment_alone(kind: str, status: str, outcome: Outcome) -> None:
    notice = notice_of(f"charge.dispute.{kind}", dispute(status=status))
    assert (notice.outcome, notice.case_reference, notice.confirmed_amount_minor) == (outcome, "du_1", 3_000)
    assert (notice.kind, notice.op_id, notice.gateway_reference) == (None, None, "pi_1")
    assert (notice.error is not None) is (outcome is Outcome.REVERSED)


def moved(*amounts: int, currency: str = "usd") -> list[dict[str, Any]]:
    """Return a dispute's balance transactions: below 0 what was withdrawn, above what came back."""
    return [{"id": "txn_1", "object": "balance_transaction", "amount": each, "currency": currency} for each in amounts]


def of_type(case_type: str) -> dict[str, Any]:
    return {"type": "card", "card": {"brand": "visa", "case_type": case_type, "network": "visa"}}


@pytest.mark.parametrize(
    ("status", "told", "outcome", "amount_minor"),
    [
        # No chargeback follows: a resolution has given the money back to the payer, a block has not.
        ("prevented", {"balance_transactions": moved(-3_000)}, Outcome.DISPUTE_LOST, 3_000),
        ("prevented", {"balance_transactions": moved(-3_000, 3_000)}, Outcome.DISPUTE_WON, 3_000),
        ("prevented", {"balance_transactions": moved(-3_000, 1_000)}, Outcome.DISPUTE_LOST, 2_000),
        ("prevented", {"balance_transactions": moved(-2_700, currency="eur")}, Outcome.DISPUTE_LOST, 3_000),
        ("prevented", {"balance_transactions": moved(-2_700, 2_690, currency="eur")}, Outcome.DISPUTE_WON, 3_000),
        ("prevented", {"balance_transactions": []}, Outcome.DISPUTE_WON, 3_000),
        (
            "prevented",
            {"balance_transactions": [], "payment_method_details": of_type("resolution")},
            Outcome.DISPUTE_LOST,
            3_000,
        ),
        ("prevented", {"payment_method_details": of_type("resolution")}, Outcome.DISPUTE_LOST, 3_000),
        ("prevented", {"payment_method_details": of_type("block")}, Outcome.DISPUTE_WON, 3_000),
        (
            "prevented",
            {"balance_transactions": moved(-3_000), "payment_method_details": of_type("block")},
            Outcome.DISPUTE_LOST,
            3_000,
        ),
        # Of a payment that was refunded in part Stripe gives that part back.
        ("lost", {"balance_transactions": moved(-3_000, 1_000)}, Outcome.DISPUTE_LOST, 2_000),
        ("lost", {"balance_transactions": moved(-3_000, 3_000)}, Outcome.DISPUTE_WON, 3_000),
        ("lost", {"balance_transactions": moved(-2_700, 900, currency="eur")}, Outcome.DISPUTE_LOST, 3_000),
        ("lost", {"balance_transactions": []}, Outcome.DISPUTE_LOST, 3_000),
        # What was won comes back after the verdict: that it is not there yet says nothing.
        ("won", {"balance_transactions": moved(-3_000)}, Outcome.DISPUTE_WON, 3_000),
    ],
)
def test_end_of_a_dispute_is_what_its_balance_transactions_say_of_the_money(
    status: str, told: dict[str, Any], outcome: Outcome, amount_minor: int
) -> None:
    notice = notice_of("charge.dispute.closed", dispute(status=status, **told))
    assert (notice.outcome, notice.confirmed_amount_minor) == (outcome, amount_minor)
    assert (notice.confirmed_currency, notice.case_reference) == ("USD", "du_1")


def test_prevented_dispute_that_says_nothing_of_its_money_is_not_guessed_at() -> None:
    with pytest.raises(UntranslatableError, match="balance_transactions"):
        notices_of("charge.dispute.closed", dispute(status="prevented"))


@pytest.mark.parametrize(
    ("status", "outcome"), [("prevented", Outcome.DISPUTE_LOST), ("needs_response", Outcome.DISPUTE_OPENED)]
)
def test_dispute_that_begins_with_its_end_is_not_left_open(status: str, outcome: Outcome) -> None:
    told = dispute(status=status, balance_transactions=moved(-3_000))
    assert notice_of("charge.dispute.created", told).outcome is outcome


@pytest.mark.parametrize(
    ("status", "amount_minor"), [("lost", 2_000), ("prevented", 2_000), ("won", None), ("under_review", None)]
)
def test_money_that_comes_back_after_a_lost_dispute_counts_again(status: str, amount_minor: int | None) -> None:
    told = dispute(status=status, balance_transactions=moved(-3_000, 1_000))
    said = notices_of("charge.dispute.funds_reinstated", told)
    assert [each.confirmed_amount_minor for each in said] == ([] if amount_minor is None else [amount_minor])


@pytest.mark.parametrize(
    "transactions", ["txn_1", [{"amount": "-3000", "currency": "usd"}], [{"amount": -3_000}], moved(-1) * 101]
)
def test_balance_transactions_of_another_shape_are_not_read(transactions: object) -> None:
    with pytest.raises(UntranslatableError):
        notices_of("charge.dispute.closed", dispute(status="lost", balance_transactions=transactions))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("invoiceitem.created", {}),
        ("payment_intent.created", payment()),
        ("payment_intent.requires_action", payment(status="requires_action")),
        ("payment_intent.succeeded", payment(metadata={"cart": "7"})),  # another system's, at the same account
        ("payment_intent.succeeded", payment(status="requires_action")),
        ("refund.created", refund(payment_intent=None)),
        ("charge.dispute.created", dispute(payment_intent=None)),
        ("charge.dispute.closed", dispute(status="brand_new")),
        ("charge.dispute.funds_reinstated", dispute(status="won")),  # follows from the verdict
        ("charge.refunded", {}),
        ("charge.captured", {}),
    ],
)
def test_event_that_is_about_nothing_of_ours_says_nothing(kind: str, told: object) -> None:
    assert notices_of(kind, told) == ()


def test_event_of_the_newer_kind_says_nothing() -> None:
    thin = {
        "id": "evt_1",
        "object": "v2.core.event",
        "type": "v1.billing.meter.no_meter_found",
        "created": "2026-12-01",
    }
    assert StripeTranslator().parse_webhook({}, orjson.dumps(thin)) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"id": "evt_1"}',
        b'{"type": "payment_intent.succeeded"}',
        b'{"id": "evt_1", "type": "payment_intent.succeeded", "created": 1}',
        b'{"id": "evt_1", "type": "payment_intent.succeeded", "created": 1, "data": {"object": {"object": "charge"}}}',
        b'{"id": "evt_1", "type": "refund.created", "created": "now", "data": {"object": {}}}',
        b'{"id": "%s", "type": "refund.created"}' % (b"x" * 300),
    ],
)
def test_event_that_cannot_be_read_is_untranslatable(body: bytes) -> None:
    with pytest.raises(UntranslatableError, match="stripe webhook"):
        StripeTranslator().parse_webhook({}, body)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_amount_that_iso_cannot_say_is_untranslatable(kind: str) -> None:
    told = {"payment_intent": payment, "refund": refund, "charge": dispute}[kind.partition(".")[0]]
    if kind == "charge.refund.updated":
        told = refund
    with pytest.raises(UntranslatableError):
        notices_of(kind, told(currency="isk", amount=550, amount_received=550, status="lost"))


def test_events_recorded_of_localstripe_are_read() -> None:
    """Of API version 2017-08-15, in which localstripe speaks: what is needed stands there too."""
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "stripe.json").read_text())
    told = [StripeTranslator().parse_webhook({}, each["payload"].encode()) for each in vectors]
    assert told[0] == ()
    for (notice,) in told[1:]:
        assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.SUCCEEDED, CallKind.SALE, "op_1")
        assert notice.confirmed_currency == "EUR"
