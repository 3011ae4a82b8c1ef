"""What Adyen's notices say, item by item, and whom they are about."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.adyen import signature
from gateway_adapters.adyen.spec import CAPABILITIES
from gateway_adapters.adyen.webhooks import DISPUTES, notices_of
from gateway_adapters.contract import GatewayNotice
from gateway_adapters.errors import Code, UntranslatableError
from gateway_adapters.notices import NOBODY, Address, address_of, split
from schemas.vocabulary import CallKind, Outcome
from tests.simulators.adyen_post import body_of, of_others

AT = "2026-12-01T10:00:00+01:00"
AT_MS = 1_796_115_600_000
JSON_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.lists(st.integers(), max_size=2)


def item(event: str, **changes: Any) -> dict[str, Any]:
    return {
        "pspReference": "PSP1",
        "merchantAccountCode": "ShopCOM",
        "merchantReference": "op_1.sale",
        "amount": {"currency": "USD", "value": 10_000},
        "eventCode": event,
        "success": "true",
        "eventDate": AT,
        "reason": "",
        **changes,
    }


def about(event: str, **changes: Any) -> dict[str, Any]:
    """An item about something that happened to the payment PSP1, under a reference of its own."""
    return item(event, **{"pspReference": "MOD1", "originalReference": "PSP1", **changes})


def said(one: dict[str, Any]) -> GatewayNotice:
    (notice,) = notices_of({}, body_of([one]))
    return notice


def refused(**changes: Any) -> dict[str, Any]:
    return {"success": "false", "reason": "Not enough balance", **changes}


@pytest.mark.parametrize(
    ("told", "outcome", "code"),
    [
        (item("AUTHORISATION"), Outcome.SUCCEEDED, None),
        (item("AUTHORISATION", **refused()), Outcome.DECLINED, Code.INSUFFICIENT_FUNDS),
        (item("AUTHORISATION", **refused(reason="Nobody knows")), Outcome.DECLINED, Code.UNKNOWN),
        (item("AUTHORISATION", **refused(reason=None)), Outcome.DECLINED, Code.UNKNOWN),
        (item("PENDING"), Outcome.PENDING, None),
        (item("OFFER_CLOSED"), Outcome.DECLINED, Code.ACTION_EXPIRED),
        (item("EXPIRE"), Outcome.EXPIRED, Code.AUTHORIZATION_EXPIRED),
        (about("EXPIRE"), Outcome.EXPIRED, Code.AUTHORIZATION_EXPIRED),
    ],
)
@pytest.mark.parametrize("kind", [CallKind.SALE, CallKind.AUTHORIZE])
def test_notice_about_a_payment_names_its_operation_and_its_kind(
    told: dict[str, Any], outcome: Outcome, code: Code | None, kind: CallKind
) -> None:
    notice = said({**told, "merchantReference": f"op_1.{kind}"})
    assert (notice.outcome, notice.error and notice.error.code) == (outcome, code)
    assert (notice.op_id, notice.kind) == ("op_1", kind)
    assert (notice.gateway_reference, notice.payment_reference) == ("PSP1", "PSP1")
    assert (notice.origin_id, notice.order_id, notice.occurred_at_ms) == (None, None, AT_MS)
    # A hold that runs out is told with the amount that it once had.
    assert notice.confirmed_amount_minor == (None if outcome is Outcome.EXPIRED else 10_000)


def test_chargeback_that_no_notification_came_before_opens_its_dispute() -> None:
    notice = said(about("DISPUTE_OPENED_WITH_CHARGEBACK", pspReference="CASE1"))
    assert (notice.outcome, notice.case_reference) == (Outcome.DISPUTE_OPENED, "CASE1")
    assert (notice.payment_reference, notice.confirmed_amount_minor) == ("PSP1", 10_000)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("CAPTURE", CallKind.CAPTURE),
        ("CANCELLATION", CallKind.VOID),
        ("REFUND", CallKind.REFUND),
    ],
)
@pytest.mark.parametrize(
    ("reference", "ours"),
    [("op_2.{kind}", True), ("op_1.authorize", False), ("typed at Adyen's page", False), (None, False), ("", False)],
)
def test_outcome_of_a_modification_is_its_own_by_its_reference_or_by_ours(
    event: str, kind: CallKind, reference: str | None, ours: bool
) -> None:
    named = None if reference is None else reference.format(kind=kind)
    notice = said(about(event, merchantReference=named))
    assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.SUCCEEDED, kind, "op_2" if ours else None)
    assert (notice.gateway_reference, notice.payment_reference) == ("MOD1", "PSP1")
    assert (notice.confirmed_amount_minor, notice.confirmed_currency) == (10_000, "USD")
    why = said(about(event, merchantReference=named, success="false", reason="Insufficient balance on payment"))
    assert (why.outcome, why.error and why.error.gateway_code) == (Outcome.DECLINED, "Insufficient balance on payment")
    indexed = ours and kind is CallKind.VOID  # with its intent: Adyen may have named no payment before
    assert address_of(notice, CAPABILITIES) == Address(reference="op_2" if indexed else "PSP1")


@pytest.mark.parametrize("original", ["PSP1", None])
@pytest.mark.parametrize(
    ("reference", "op_id", "payment"),
    [("op_2.void", "op_2", None), ("op_1.authorize", None, "op_1"), ("op_1.sale", None, "op_1")],
)
def test_verdict_on_a_void_by_our_reference_is_found_by_what_it_gives_back_of_ours(
    reference: str, op_id: str | None, payment: str | None, original: str | None
) -> None:
    told = about("TECHNICAL_CANCEL", merchantReference=reference, originalReference=original)
    notice = said(told)
    assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.SUCCEEDED, CallKind.VOID, op_id)
    assert (notice.gateway_reference, notice.payment_reference) == ("MOD1", payment or original)
    assert address_of(notice, CAPABILITIES) == Address(reference=op_id or payment)
    why = said({**told, "success": "false", "reason": "No authorised payment found"})
    assert (why.outcome, why.error and why.error.gateway_code) == (Outcome.DECLINED, "No authorised payment found")


def test_cancel_by_reference_that_names_nothing_of_ours_is_about_its_payment_or_nobody() -> None:
    assert address_of(said(about("TECHNICAL_CANCEL", merchantReference="cart-7")), CAPABILITIES) == Address(
        reference="PSP1"
    )
    of_nobody = said(about("TECHNICAL_CANCEL", merchantReference="cart-7", originalReference=None))
    assert address_of(of_nobody, CAPABILITIES) == NOBODY


@pytest.mark.parametrize(("action", "kind"), [("cancel", CallKind.VOID), ("refund", CallKind.REFUND)])
def test_reversal_made_on_adyens_own_page_is_what_adyen_made_of_it(action: str, kind: CallKind) -> None:
    notice = said(about("CANCEL_OR_REFUND", additionalData={"modification.action": action}))
    assert (notice.kind, notice.op_id, notice.gateway_reference) == (kind, None, "MOD1")


@pytest.mark.parametrize("unsaid", [{}, {"modification.action": "another"}, {"modification.action": ["refund"]}, None])
def test_reversal_of_which_nothing_says_what_it_was_is_about_its_payment_and_no_operation(unsaid: object) -> None:
    notice = said(about("CANCEL_OR_REFUND", additionalData=unsaid))
    assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.REVERSED, None, None)
    assert address_of(notice, CAPABILITIES) == Address(reference="PSP1")
    assert address_of(said(about("CANCEL_OR_REFUND", additionalData=unsaid, success="false")), CAPABILITIES) == NOBODY


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("CAPTURE_FAILED", CallKind.CAPTURE),
        ("REFUND_FAILED", CallKind.REFUND),
        ("REFUNDED_REVERSED", CallKind.REFUND),
    ],
)
def test_late_failure_takes_back_what_it_names_under_one_case_however_it_is_told(event: str, kind: CallKind) -> None:
    notice = said(about(event, merchantReference=f"op_2.{kind}"))
    assert (notice.outcome, notice.kind, notice.op_id) == (Outcome.REVERSED, kind, "op_2")
    assert notice.confirmed_amount_minor == 10_000
    again = said(about(event, merchantReference="op_1.authorize", eventDate="2026-12-02T10:00:00+01:00"))
    assert notice.case_reference == again.case_reference
    assert (again.op_id, again.gateway_reference) == (None, "MOD1")


@pytest.mark.parametrize(
    ("event", "success", "outcome"),
    [
        ("CAPTURE_FAILED", "true", Outcome.REVERSED),
        ("CAPTURE", "false", Outcome.REVERSED),
        ("CAPTURE", "true", Outcome.SUCCEEDED),  # 'Transaction Recaptured', or an account that tells of each
    ],
)
def test_capture_that_adyen_makes_of_a_sale_is_told_of_the_sale(event: str, success: str, outcome: Outcome) -> None:
    notice = said(about(event, success=success, reason="Transaction Recaptured"))
    assert (notice.outcome, notice.op_id, notice.kind) == (outcome, "op_1", CallKind.SALE)
    assert (notice.gateway_reference, notice.payment_reference) == ("PSP1", "PSP1")


@pytest.mark.parametrize("event", sorted(DISPUTES))
def test_dispute_is_about_its_payment_under_its_own_reference(event: str) -> None:
    notice = said(about(event, merchantReference="op_1.authorize", pspReference="CASE1"))
    assert (notice.op_id, notice.gateway_reference, notice.case_reference) == ("op_1", "PSP1", "CASE1")
    assert notice.kind is None  # the money is in the captures of the hold
    assert (notice.outcome, notice.confirmed_amount_minor) == (DISPUTES[event], 10_000)
    assert said(about(event, pspReference="CASE1")).kind is CallKind.SALE


@pytest.mark.parametrize("reference", ["op_2.capture", "typed by somebody", "", None])
def test_dispute_that_does_not_name_our_payment_is_about_adyens(reference: str | None) -> None:
    notice = said(about("CHARGEBACK", pspReference="CASE1", merchantReference=reference))
    assert (notice.op_id, notice.kind, notice.gateway_reference) == (None, None, "PSP1")
    assert address_of(notice, CAPABILITIES) == Address(reference="PSP1")


@pytest.mark.parametrize(
    ("ours", "addresses"),
    [
        ({}, 1),
        ({"merchant_account": "ShopCOM"}, 1),
        ({"merchant_account": "AnotherCOM"}, 0),
        ({"live": False}, 1),
        ({"live": True}, 0),
    ],
)
def test_items_of_another_account_or_system_are_about_nobody(ours: dict[str, Any], addresses: int) -> None:
    parts = split(notices_of({}, body_of([about("CHARGEBACK")]), **ours), CAPABILITIES)
    assert (len(parts.addresses), parts.ignored) == (addresses, 1 - addresses)


def test_dispute_of_an_account_that_does_not_name_the_payment_has_no_case() -> None:
    notice = said(item("CHARGEBACK_REVERSED"))
    assert (notice.outcome, notice.gateway_reference, notice.case_reference) == (Outcome.DISPUTE_WON, "PSP1", None)


@pytest.mark.parametrize(
    "told",
    [
        item("REPORT_AVAILABLE", merchantReference=""),
        item("AUTHORISATION", merchantReference="cart-17"),
        item("AUTHORISATION", merchantReference=None),
        item("CHARGEBACK", merchantReference="cart-17"),
        item("RECURRING_CONTRACT"),
        item("CAPTURE"),  # of no payment
        item("BRAND_NEW"),
        item("AUTHORISATION", merchantReference="op_1.capture"),
        # What holds a colon is signed, and could have been signed for other values.
        item("AUTHORISATION", merchantReference=":op_1.sale"),
        about("CAPTURE", merchantReference="op_2.capture", merchantAccountCode="Shop:COM"),
        about("CAPTURE", pspReference="MOD1:x"),
        about("CHARGEBACK", originalReference="PSP1:"),
    ],
    ids=lambda told: f"{told['eventCode']}-{told['merchantReference']}",
)
def test_item_that_is_not_ours_or_says_nothing_to_us_is_about_nobody(told: dict[str, Any]) -> None:
    notice = said(told)
    assert address_of(notice, CAPABILITIES) == NOBODY
    assert (notice.op_id, notice.gateway_reference, notice.payment_reference) == (None, None, None)


def test_batch_is_split_by_whom_its_items_are_about() -> None:
    items = [item("AUTHORISATION"), about("REFUND", merchantReference="op_3.refund"), *of_others()]
    parts = split(notices_of({}, body_of(items)), CAPABILITIES)
    # A payment's notice may come before the answer that names it: it is found by our reference.
    assert parts.addresses == (Address(reference="op_1"), Address(reference="PSP1"))
    assert parts.ignored == len(of_others())


def test_notice_delivered_again_is_the_same_and_others_are_not() -> None:
    first = said(about("CAPTURE"))
    assert said(about("CAPTURE")) == first
    later = said(about("CAPTURE", eventDate="2026-12-03T10:00:00+01:00", reason="Transaction Recaptured"))
    failed = said(about("CAPTURE_FAILED"))
    assert len({first.notice_id, later.notice_id, failed.notice_id}) == 3


@pytest.mark.parametrize(
    ("date", "at_ms"),
    [(AT, AT_MS), ("2026-12-01T09:00:00Z", AT_MS), ("2026-12-01T10:00:00.250+01:00", AT_MS + 250)],
)
def test_time_is_adyens_own_with_its_offset(date: str, at_ms: int) -> None:
    assert said(item("AUTHORISATION", eventDate=date)).occurred_at_ms == at_ms


@pytest.mark.parametrize("date", [None, "", "2026-12-01", "2026-12-01T10:00:00", "yesterday"])
def test_item_about_ours_without_a_time_is_untranslatable(date: str | None) -> None:
    with pytest.raises(UntranslatableError, match="eventDate"):
        said(item("AUTHORISATION", eventDate=date))


def test_value_that_iso_cannot_say_is_untranslatable() -> None:
    with pytest.raises(UntranslatableError):
        said(item("AUTHORISATION", amount={"currency": "ISK", "value": 150}))
    assert said(item("AUTHORISATION", amount={"currency": "ISK", "value": 15_000})).confirmed_amount_minor == 150


def test_webhook_of_another_kind_that_is_signed_as_a_whole_says_nothing() -> None:
    body = json.dumps({"type": "merchant.updated", "data": {}}).encode()
    assert notices_of({signature.HEADER: "…"}, body) == ()
    with pytest.raises(UntranslatableError):
        notices_of({}, body)


@given(changes=st.dictionaries(st.sampled_from(sorted(about("CAPTURE"))), JSON_VALUES, min_size=1))
def test_item_with_a_field_of_any_kind_is_a_notice_or_untranslatable(changes: dict[str, object]) -> None:
    with suppress(UntranslatableError):
        assert said({**about("CAPTURE"), **changes}).gateway == "adyen"
