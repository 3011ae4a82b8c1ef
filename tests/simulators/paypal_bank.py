"""The books of the simulator of PayPal, and what PayPal does with them: pure but for its clock and its webhooks."""

import asyncio
import re
import urllib.parse
from collections.abc import Callable
from datetime import timedelta

from tests.simulators.paypal_disputes import PayPalDisputes
from tests.simulators.paypal_events import PayPalEvents
from tests.simulators.paypal_objects import (
    Json,
    Made,
    Order,
    RefusedError,
    made_json,
    minor_of,
    order_json,
    unprocessable,
)
from tests.support.gateway_under_test import Situation

APPROVES = "approval"
"""A token whose payer has to agree. Others say what becomes of them: `declined_5120`, `issue_CARD_EXPIRED`."""
NEEDS_PAYER = "needs_payer"
"""A method in the vault whose payer has to act once more, as for 3-D Secure."""


class PayPalBank:
    """Orders, and what was made for them."""

    def __init__(self, events: PayPalEvents) -> None:
        self.events = events
        self.disputes = PayPalDisputes(events)
        self.tells_all = False  # as PayPal does; else what was armed is told, and what nobody here asked for
        self.orders: dict[str, Order] = {}
        self.made: dict[str, Made] = {}

    def order_of(self, reference: str) -> Order | None:
        """Return the order that carries the reference, or that something made for it does."""
        for order in self.orders.values():
            if order.reference == reference:
                return order
        return next((made.order for made in self.made.values() if reference in {made.reference, made.custom}), None)

    def approve(self, order_id: str, *, declined: bool = False) -> None:
        """Act as the payer, who agrees; perhaps with a method that will be declined."""
        order = self.orders[order_id]
        order.status = "APPROVED"
        if declined:
            order.token = "issue_INSTRUMENT_DECLINED"
        if self.tells_all:
            self.events.tell("CHECKOUT.ORDER.APPROVED", "checkout-order", order_json(order))

    def shown(self, path: str) -> Json:
        name = urllib.parse.unquote(path.rsplit("/", maxsplit=1)[-1])
        if "/checkout/orders/" in path and name in self.orders:
            return order_json(self.orders[name])
        if name not in self.made:
            raise RefusedError(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        return made_json(self.made[name])

    def carried_out(self, path: str, said: Json, situation: Situation | None) -> Callable[[], Json]:
        steps: dict[str, Callable[[str, Json, Situation | None], Callable[[], Json]]] = {
            r"/v2/checkout/orders()": lambda _, s, met: self._order(s, met),
            r"/v2/checkout/orders/([^/]+)/(?:authorize|capture)": lambda name, _, met: self._completed(name, path, met),
            r"/v2/payments/authorizations/([^/]+)/capture": self._captured,
            r"/v2/payments/authorizations/([^/]+)/void": lambda name, *_: self._voided(name),
            r"/v2/payments/captures/([^/]+)/refund": lambda name, s, _: self._refunded(name, s),
        }
        for pattern, step in steps.items():
            found = re.fullmatch(pattern, path)
            if found is not None:
                return step(urllib.parse.unquote(found.group(1)), said, situation)
        raise RefusedError(404, "RESOURCE_NOT_FOUND")

    # What PayPal does

    def _order(self, said: Json, situation: Situation | None) -> Callable[[], Json]:
        (unit,) = said["purchase_units"]
        ((_, method),) = said["payment_source"].items()
        minor, currency = minor_of(unit["amount"])
        if any(each.reference == unit["invoice_id"] and each.effects for each in self.orders.values()):
            raise unprocessable("DUPLICATE_INVOICE_ID")
        order = Order(
            id=self.events.new_id("O"),
            intent=said["intent"],
            status="CREATED",
            amount_minor=minor,
            currency=currency,
            reference=unit["custom_id"],
            token=method.get("vault_id"),
            situation=situation,
        )
        self.orders[order.id] = order
        if order.token in {None, APPROVES, NEEDS_PAYER} or situation is Situation.ACTION_EXPIRED:
            order.status = "PAYER_ACTION_REQUIRED"
            if situation is Situation.ACTION_EXPIRED:
                self._later_do(lambda: self._lapse(order))
        else:
            self._open(order, situation)
        return lambda: order_json(order)

    def _completed(self, order_id: str, path: str, situation: Situation | None) -> Callable[[], Json]:
        order = self.orders.get(order_id)
        if order is None:
            raise RefusedError(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        wanted = "AUTHORIZE" if path.endswith("/authorize") else "CAPTURE"
        if order.intent != wanted:
            raise unprocessable("ACTION_DOES_NOT_MATCH_INTENT")
        if order.status == "COMPLETED":
            raise unprocessable("ORDER_ALREADY_AUTHORIZED" if wanted == "AUTHORIZE" else "ORDER_ALREADY_CAPTURED")
        if order.status != "APPROVED":
            raise unprocessable("ORDER_NOT_APPROVED")
        self._open(order, situation)
        return lambda: order_json(order)

    def _open(self, order: Order, situation: Situation | None) -> None:
        """Authorize or capture all of the order, or decline it."""
        refusal = re.fullmatch(r"(declined|issue)_(\w+)", order.token or "")
        if refusal is not None and refusal.group(1) == "issue":
            raise unprocessable(refusal.group(2))
        sale = order.intent == "CAPTURE"
        made = self._make(order, order.amount_minor, order.reference, order.reference)
        (order.captures if sale else order.authorizations).append(made)
        order.status, made.status = "COMPLETED", "COMPLETED" if sale else "CREATED"
        if not sale:
            made.expires = made.created + timedelta(days=29)
        if refusal is not None:
            made.status, made.response_code = ("DECLINED" if sale else "DENIED"), refusal.group(2)
            return
        if situation is Situation.AMOUNT_MISMATCH:
            made.amount_minor -= 1
        if situation is Situation.UNKNOWN_STATUS:
            made.status = "AWAITING_THE_MOON"
            return
        if situation in {Situation.PENDING_THEN_SUCCEEDED, Situation.PENDING_THEN_FAILED}:
            made.status = "PENDING"
            self._later_do(lambda: self._decide(made, situation))
            return
        order.effects.append(("sale" if sale else "authorize", made.amount_minor))
        self._follow(made, situation)

    def _captured(self, authorization_id: str, said: Json, situation: Situation | None) -> Callable[[], Json]:
        held = self._authorization(authorization_id)
        minor, currency = minor_of(said["amount"])
        if held.voided:
            raise unprocessable("AUTHORIZATION_VOIDED")
        if held.final or held.taken_minor >= held.amount_minor:
            raise unprocessable("AUTHORIZATION_ALREADY_CAPTURED")
        if currency != held.currency:
            raise unprocessable("AUTH_CAPTURE_CURRENCY_MISMATCH")
        if held.taken_minor + minor > held.amount_minor:
            raise unprocessable("MAX_CAPTURE_AMOUNT_EXCEEDED")
        held.taken_minor += minor
        held.final = bool(said.get("final_capture"))
        whole = held.final or held.taken_minor == held.amount_minor
        held.status, held.updated = "CAPTURED" if whole else "PARTIALLY_CAPTURED", self.events.now()
        made = self._make(held.order, minor, said.get("invoice_id") or held.reference, held.custom, parent=held)
        made.status, made.final = "COMPLETED", held.final
        held.order.captures.append(made)
        held.order.effects.append(("capture", minor))
        self._follow(made, situation)
        return lambda: made_json(made)

    def _voided(self, authorization_id: str) -> Callable[[], Json]:
        held = self._authorization(authorization_id)
        if held.voided:
            raise unprocessable("PREVIOUSLY_VOIDED")
        if held.final or held.taken_minor == held.amount_minor:
            raise unprocessable("PREVIOUSLY_CAPTURED")
        held.voided, held.status, held.updated = True, "VOIDED", self.events.now()
        held.order.effects.append(("void", held.amount_minor - held.taken_minor))
        if self.tells_all:
            self.events.tell("PAYMENT.AUTHORIZATION.VOIDED", "authorization", made_json(held))
        return lambda: made_json(held)

    def _refunded(self, capture_id: str, said: Json) -> Callable[[], Json]:
        taken = self.made.get(capture_id)
        if taken is None or taken not in taken.order.captures:
            raise RefusedError(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        minor, currency = minor_of(said["amount"])
        if currency != taken.currency:
            raise unprocessable("REFUND_CAPTURE_CURRENCY_MISMATCH")
        if minor < taken.amount_minor and self.disputes.is_disputed(taken):
            raise unprocessable("TRANSACTION_DISPUTED")  # it tells this of parts alone
        made = self._refund(taken, minor, said.get("invoice_id"), said.get("custom_id"))
        if self.tells_all:
            self.events.tell("PAYMENT.CAPTURE.REFUNDED", "refund", made_json(made))
        return lambda: made_json(made)

    def _refund(self, taken: Made, minor: int, reference: str | None, custom: str | None) -> Made:
        gone_minor = taken.taken_minor + taken.gone_minor
        if gone_minor >= taken.amount_minor:
            raise unprocessable("CAPTURE_FULLY_REFUNDED")
        if gone_minor + minor > taken.amount_minor:
            raise unprocessable("REFUND_AMOUNT_EXCEEDED")
        taken.taken_minor += minor
        taken.status = "REFUNDED" if taken.taken_minor == taken.amount_minor else "PARTIALLY_REFUNDED"
        made = self._make(taken.order, minor, reference or taken.reference, custom or taken.custom, parent=taken)
        made.status = "COMPLETED"
        taken.updated = made.created
        taken.order.effects.append(("refund", minor))
        return made

    def fail_refund(self, refund_id: str) -> None:
        """Let a refund fail that was carried out: the money has come back to the merchant."""
        made = self.made[refund_id]
        made.status, made.updated = "FAILED", self.events.now()
        made.order.effects.append(("reversal", made.amount_minor))
        self.events.tell("PAYMENT.REFUND.FAILED", "refund", made_json(made))

    def refund_at_desk(self, taken: Made, minor: int) -> None:
        made = self._refund(taken, minor, None, None)
        self.events.tell("PAYMENT.CAPTURE.REFUNDED", "refund", made_json(made))

    def _authorization(self, name: str) -> Made:
        held = self.made.get(name)
        if held is None or held not in held.order.authorizations:
            raise RefusedError(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        return held

    # What comes later

    def _follow(self, made: Made, situation: Situation | None) -> None:
        """Tell what a test has armed, and nothing else: a test counts webhooks."""
        reversals = {
            Situation.LATE_FAILURE: made.amount_minor,
            Situation.PARTIAL_REVERSAL: made.amount_minor * 3 // 10,
        }
        disputes = {
            Situation.DISPUTE_OPENED: ("o", 10),
            Situation.DISPUTE_WON: ("ow", 10),
            Situation.DISPUTE_LOST: ("ol", 10),
            Situation.PARTIAL_DISPUTE_LOST: ("ol", 3),
            Situation.CHARGEBACK_WON: ("orw", 10),
            Situation.CHARGEBACK_LOST: ("rol", 10),
            Situation.PARTIAL_CHARGEBACK_LOST: ("orl", 3),
            Situation.PARTIAL_CHARGEBACK_WON: ("orw", 3),
        }
        refunds = {
            Situation.DESK_REFUND: made.amount_minor,
            Situation.PARTIAL_DESK_REFUND: made.amount_minor * 3 // 10,
        }
        if situation in reversals:
            self._later_do(lambda: self.disputes.reverse(made, reversals[situation]))
        elif situation is Situation.TWO_REVERSALS:
            self._later_do(lambda: self._reverse_twice(made))
        elif situation in disputes:
            words, tenths = disputes[situation]
            self._later_do(lambda: self._play_dispute(made, words, made.amount_minor * tenths // 10))
        elif situation in refunds:
            self._later_do(lambda: self.refund_at_desk(made, refunds[situation]))
        elif situation is Situation.HOLD_EXPIRED:
            self._later_do(lambda: self._run_out(made))
        elif situation in {Situation.DUPLICATE_WEBHOOKS, Situation.EARLY_WEBHOOK, Situation.WEBHOOKS_BY_REFERENCE}:
            shown = made_json(made)
            if situation is Situation.WEBHOOKS_BY_REFERENCE:
                shown = {name: value for name, value in shown.items() if name not in {"custom_id", "invoice_id"}}
            copies = 2 if situation is Situation.DUPLICATE_WEBHOOKS else 1
            self.events.tell("PAYMENT.CAPTURE.COMPLETED", "capture", shown, copies=copies)
        elif situation is Situation.OUT_OF_ORDER_WEBHOOKS:
            pending = {**made_json(made), "status": "PENDING"}
            early = self.events.event("PAYMENT.CAPTURE.PENDING", "capture", pending)
            made.updated = self.events.now()
            self.events.post(self.events.event("PAYMENT.CAPTURE.COMPLETED", "capture", made_json(made)))
            self.events.post(early)
        elif situation is None and self.tells_all:
            hold = made in made.order.authorizations
            event_type = "PAYMENT.AUTHORIZATION.CREATED" if hold else "PAYMENT.CAPTURE.COMPLETED"
            self.events.tell(event_type, "authorization" if hold else "capture", made_json(made))

    def _decide(self, made: Made, situation: Situation) -> None:
        made.updated = self.events.now()
        if situation is Situation.PENDING_THEN_FAILED:
            made.status, made.response_code = "DECLINED", "5120"
            self.events.tell("PAYMENT.CAPTURE.DENIED", "capture", made_json(made))
            return
        made.status = "COMPLETED"
        made.order.effects.append(("sale", made.amount_minor))
        self.events.tell("PAYMENT.CAPTURE.COMPLETED", "capture", made_json(made))

    def _play_dispute(self, made: Made, words: str, minor: int) -> None:
        """Opened, won or lost by the seller; reversed in between, by this dispute."""
        dispute = None
        for word in words:
            if word == "r":
                self.disputes.reverse(made, minor, by=dispute)
            elif word == "o":
                dispute = self.disputes.open(made, minor)
                dispute.taken_minor = made.gone_minor  # a bank may take it before it says why
            elif dispute is not None and word == "w":
                self.disputes.win(dispute)
            elif dispute is not None:
                self.disputes.lose(dispute)

    def _reverse_twice(self, made: Made) -> None:
        self.disputes.reverse(made, made.amount_minor * 3 // 10)
        self.disputes.reverse(made, made.amount_minor * 2 // 10)

    def _run_out(self, held: Made) -> None:
        held.expires = held.updated = self.events.now()
        held.voided, held.status = True, "VOIDED"
        self.events.tell("PAYMENT.AUTHORIZATION.VOIDED", "authorization", made_json(held))

    def _lapse(self, order: Order) -> None:
        order.status = "VOIDED"
        unit = {"custom_id": order.reference, "invoice_id": order.reference}
        resource = {"order_id": order.id, "purchase_units": [unit]}
        self.events.tell("CHECKOUT.PAYMENT-APPROVAL.REVERSED", "payment-approval", resource)

    def _later_do(self, happen: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(0.02, happen)

    # What it keeps

    def _make(
        self, order: Order, minor: int, reference: str | None, custom: str | None, *, parent: Made | None = None
    ) -> Made:
        now = self.events.now()
        made = Made(
            id=self.events.new_id("M"),
            status="",
            amount_minor=minor,
            currency=order.currency,
            order=order,
            reference=reference,
            custom=custom,
            created=now,
            updated=now,
            parent=parent,
        )
        self.made[made.id] = made
        return made
