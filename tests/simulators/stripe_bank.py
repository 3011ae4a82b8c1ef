"""The money of the Stripe simulator: payments, refunds, disputes, and a ledger of what really happened. No sockets.

It is ours, written after Stripe's pages, and proves nothing about Stripe: what judges the adapter's requests is
stripe-mock, with Stripe's own document. It is here because neither stripe-mock nor localstripe keeps idempotency keys,
declines, multicapture or lost answers. Objects are JSON, as Stripe shows them; amounts are as Stripe counts them.
"""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

VERSION = "2026-08-26.dahlia"

DECLINED = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedLostCard": "lost_card",
    "pm_card_chargeDeclinedStolenCard": "stolen_card",
    "pm_card_chargeDeclinedExpiredCard": "expired_card",
    "pm_card_chargeDeclinedIncorrectCvc": "incorrect_cvc",
    "pm_card_chargeDeclinedProcessingError": "processing_error",
    "pm_card_chargeDeclinedFraudulent": "fraudulent",
    "pm_card_chargeDeclinedVelocityLimitExceeded": "card_velocity_exceeded",
}
"""Stripe's own test payment methods (https://docs.stripe.com/testing). `pm_declined_<code>` is the simulator's."""

OWN_DECLINE = "pm_declined_"
PAYER_ACTS = "pm_card_authenticationRequired"


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, *, kind: str = "invalid_request_error", **more: object) -> None:
        super().__init__(code)
        self.status = status
        self.body: Json = {"error": {"type": kind, "code": code, "message": f"Simulated: {code}.", **more}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One thing that really happened."""

    order_id: str
    kind: str
    amount: int


@dataclass(slots=True)
class Bank:
    """All that one account holds."""

    payments: dict[str, Json] = field(default_factory=dict)
    charges: dict[str, Json] = field(default_factory=dict)
    refunds: dict[str, Json] = field(default_factory=dict)
    ledger: list[Effect] = field(default_factory=list)
    multicapture: bool = True
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _now_s: int = field(default_factory=lambda: int(time.time()))

    def real_time_s(self) -> float:
        """Return the time that deliveries are signed with."""
        return time.time()

    def tick(self) -> int:
        """Return a time, seconds since the epoch, at which nothing else happens."""
        self._now_s += 1
        return self._now_s

    def new_id(self, prefix: str) -> str:
        """Return an id that nothing else has."""
        return f"{prefix}_sim{next(self._numbers):08d}"

    def effects(self, order_id: str) -> list[tuple[str, int]]:
        """Return kind and amount of what happened to an order."""
        return [(each.kind, each.amount) for each in self.ledger if each.order_id == order_id]

    def create(self, given: Json, *, status: str | None = None, received: int | None = None) -> Json:
        """Create a payment and confirm it. Raises: RefusedError, with the payment, when the card is declined."""
        amount = whole(given, "amount")
        manual = given.get("capture_method") == "manual"
        method = given.get("payment_method") or given.get("confirmation_token", "")
        payment: Json = {
            "id": self.new_id("pi"),
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_received": 0,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "manual" if manual else "automatic_async",
            "client_secret": "pi_secret_of_the_payer",
            "created": self.tick(),
            "currency": given["currency"],
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": dict(given.get("metadata", {})),
            "next_action": None,
            "payment_method": method,
            "receipt_email": "payer@example.com",
            "status": "requires_confirmation",
        }
        asked = given.get("payment_method_options", {}).get("card", {}).get("request_multicapture")
        payment["_multicapture"] = self.multicapture and asked == "if_available"
        self.payments[str(payment["id"])] = payment
        if status is not None:
            payment["status"] = status
        elif method == PAYER_ACTS:
            payment |= {"status": "requires_action", "next_action": _next_action(given, payment)}
        elif method in DECLINED or method.startswith(OWN_DECLINE):
            self.decline(payment, DECLINED.get(method, method.removeprefix(OWN_DECLINE)))
        else:
            self.approve(payment, received=received)
        return payment

    def decline(self, payment: Json, code: str) -> None:
        """Refuse the payment's attempt. Raises: RefusedError: the answer to whoever made it."""
        told = {"type": "card_error", "code": "card_declined", "decline_code": code, "advice_code": "try_again_later"}
        payment |= {"status": "requires_payment_method", "last_payment_error": told}
        raise RefusedError(
            402, "card_declined", kind="card_error", decline_code=code, advice_code="try_again_later",
            payment_intent=shown(payment),
        )  # fmt: skip

    def approve(self, payment: Json, *, received: int | None = None) -> None:
        """Approve the payment's attempt: it is held, or taken."""
        amount = payment["amount"] if received is None else received
        charge: Json = {
            "id": self.new_id("ch"),
            "object": "charge",
            "status": "succeeded",
            "created": self.tick(),
            "amount": amount,
            "billing_details": {"name": "A Payer", "email": "payer@example.com"},
        }
        self.charges[charge["id"]] = charge
        payment |= {"latest_charge": charge["id"], "next_action": None, "last_payment_error": None}
        if payment["capture_method"] == "manual":
            payment |= {"status": "requires_capture", "amount_capturable": amount}
            self._happened(payment, "authorize", amount)
        else:
            payment |= {"status": "succeeded", "amount_received": amount}
            self._happened(payment, "sale", amount)

    def capture(self, payment: Json, given: Json) -> Json:
        """Take some of what is held. Raises: RefusedError."""
        if payment["status"] != "requires_capture":
            raise RefusedError(400, "payment_intent_unexpected_state")
        held = payment["amount_capturable"]
        amount = whole(given, "amount_to_capture") if "amount_to_capture" in given else held
        if amount > held:
            raise RefusedError(400, "amount_too_large", param="amount_to_capture")
        final = given.get("final_capture", "true") == "true"
        if not final and not payment["_multicapture"]:
            raise RefusedError(400, "payment_intent_invalid_parameter", param="final_capture")
        payment["metadata"] |= given.get("metadata", {})
        payment["amount_received"] += amount
        rest = 0 if final else held - amount
        payment |= {"amount_capturable": rest, "status": "requires_capture" if rest else "succeeded"}
        self._happened(payment, "capture", amount)
        if final and held > amount:
            self._release(payment, held - amount)
        return payment

    def cancel(self, payment: Json, *, reason: str | None = None) -> Json:
        """Let go of what is held, or waits for its payer. Raises: RefusedError."""
        if payment["status"] not in {"requires_capture", "requires_action", "requires_payment_method", "processing"}:
            raise RefusedError(400, "payment_intent_unexpected_state")
        held = payment["amount_capturable"]
        released = held or payment["amount"]
        payment |= {
            "status": "canceled",
            "amount_capturable": 0,
            "canceled_at": self.tick(),
            "cancellation_reason": reason,
            "next_action": None,
        }
        if reason is None:
            self._happened(payment, "void", released)
        if held:
            self._release(payment, held, reason=None if reason is None else "expired_uncaptured_charge")
        return payment

    def refund(self, payment: Json, amount: int, metadata: Json, *, status: str = "succeeded") -> Json:
        """Give some of what was taken back. Raises: RefusedError."""
        given = [each for each in self.of_payment(payment) if each["balance_transaction"] is not None]
        left = payment["amount_received"] - sum(each["amount"] for each in given if each["status"] != "failed")
        if not 0 < amount <= left:
            raise RefusedError(400, "charge_already_refunded" if left == 0 else "refund_amount_too_large")
        refund = self._new_refund(payment, amount, metadata, status=status, balance_transaction=self.new_id("txn"))
        self._happened(payment, "refund", amount)
        return refund

    def of_payment(self, payment: Json) -> list[Json]:
        """Return the payment's refunds, oldest first, those by which a hold was let go among them."""
        return [each for each in self.refunds.values() if each["payment_intent"] == payment["id"]]

    def _release(self, payment: Json, amount: int, *, reason: str | None = None) -> None:
        """Let go of what was held, as Stripe does it: by a refund that moves nothing."""
        self._new_refund(payment, amount, {}, status="succeeded", balance_transaction=None, reason=reason)

    def _new_refund(self, payment: Json, amount: int, metadata: Json, *, status: str, **more: object) -> Json:
        refund: Json = {
            "id": self.new_id("re"),
            "object": "refund",
            "amount": amount,
            "charge": payment["latest_charge"],
            "created": self.tick(),
            "currency": payment["currency"],
            "failure_reason": None,
            "metadata": dict(metadata),
            "payment_intent": payment["id"],
            "reason": None,
            "status": status,
            **more,
        }
        self.refunds[refund["id"]] = refund
        return refund

    def with_key(self, key: str) -> list[Json]:
        """Return the payments whose metadata has this key of an attempt."""
        return [each for each in self.payments.values() if each["metadata"].get("gateway_key") == key]

    def told(self, payment: Json, *, expand: bool) -> Json:
        """Return the payment as Stripe shows it, its charge in full if that was asked for."""
        seen = shown(payment)
        if expand and payment["latest_charge"] is not None:
            seen["latest_charge"] = self.charges[payment["latest_charge"]]
        return seen

    def _happened(self, payment: Json, kind: str, amount: int) -> None:
        order_id = payment["metadata"].get("order_id", "")
        self.ledger.append(Effect(order_id=order_id, kind=kind, amount=amount))


def shown(payment: Json) -> Json:
    """Return the object without what the simulator alone knows of it."""
    return {name: value for name, value in payment.items() if not name.startswith("_")}


def whole(given: Json, name: str) -> int:
    """Return a parameter that must be a positive integer. Raises: RefusedError."""
    value = given.get(name, "")
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or int(value) < 1:
        raise RefusedError(400, "parameter_invalid_integer", param=name)
    return int(value)


def _next_action(given: Json, payment: Json) -> Json:
    if "return_url" not in given:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    name = f"{payment['id']}_for_{payment['metadata'].get('op_id', '')}"  # another account may number alike
    page = {"return_url": given["return_url"], "url": f"https://hooks.stripe.example/3d_secure/{name}"}
    return {"type": "redirect_to_url", "redirect_to_url": page}
