"""The payments of the Adyen simulator, and what becomes of them: a ledger in memory, without sockets or clocks.

Called by `adyen`, which asks it what a request comes to and delivers the items that it tells. It knows only what
Adyen's pages say: a payment is answered at once, a modification is only received, and its outcome is told by an item.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

INSUFFICIENT: Final = "Insufficient balance on payment"
NOT_CAPTURED: Final = "Transaction hasn't been captured, refund not possible"
NOT_AUTHORISED: Final = "No authorised payment found"
NOT_CANCELLABLE: Final = "Transaction can't be cancelled"


@dataclass(slots=True, kw_only=True)
class Payment:
    """One payment, in Adyen's minor units."""

    psp: str
    reference: str
    currency: str
    authorised: int = 0  # 0 until it is
    at_once: bool = False  # captured together with the authorisation
    waits_for_payer: str | None = None  # the redirect result that completes it
    called_off: bool = False  # cancelled while it waited
    captured: int = 0
    captures: int = 0
    refunded: int = 0
    released: bool = False  # cancelled, expired, or let go by a capture
    effects: list[tuple[str, int]] = field(default_factory=list)
    noted: int = 0  # how many of them the book of a process has (`adyen_process`)
    asked: int = 0

    def authorise(self, value: int) -> None:
        """Hold so much, and capture it if it is a sale; nothing of what was called off."""
        if self.called_off:
            self.waits_for_payer = None
            return
        self.authorised = value
        self.waits_for_payer = None
        if self.at_once:
            self.captured, self.captures, self.released = value, 1, True
        self.effects.append(("sale" if self.at_once else "authorize", value))


class Ledger:
    """All payments of one merchant account."""

    def __init__(self, *, multiple_captures: bool) -> None:
        self._multiple_captures = multiple_captures
        self._numbers = itertools.count(1)
        self.payments: dict[str, Payment] = {}

    def new_reference(self) -> str:
        """Return another pspReference: 16 characters, as Adyen's are."""
        return f"SIM{next(self._numbers):013d}"

    def open(self, body: Mapping[str, Any]) -> Payment:
        """Return a payment for this request; nothing is held yet."""
        manual = body.get("additionalData", {}).get("manualCapture") == "true"
        payment = Payment(
            psp=self.new_reference(),
            reference=body["reference"],
            currency=body["amount"]["currency"],
            asked=body["amount"]["value"],
            at_once=not manual and body.get("captureDelayHours", 0) == 0,
        )
        self.payments[payment.psp] = payment
        return payment

    def of_reference(self, reference: str) -> Payment | None:
        """Return the payment that was asked for under this reference of the merchant's."""
        return next((each for each in self.payments.values() if each.reference == reference), None)

    def waiting_for(self, redirect_result: str) -> Payment | None:
        """Return the payment that this redirect result completes."""
        return next((each for each in self.payments.values() if each.waits_for_payer == redirect_result), None)

    def capture(self, payment: Payment, value: int) -> str | None:
        """Capture so much; return why not."""
        if value > payment.authorised - payment.captured or payment.released:
            return INSUFFICIENT
        payment.captured += value
        payment.captures += 1
        payment.released = not self._multiple_captures or payment.captured == payment.authorised
        payment.effects.append(("capture", value))
        return None

    def cancel(self, payment: Payment) -> str | None:
        """Release what is held; return why not."""
        if payment.released or not payment.authorised:
            return NOT_CANCELLABLE
        payment.released = True
        payment.effects.append(("void", payment.authorised - payment.captured))
        return None

    def cancel_unnamed(self, payment: Payment | None, *, calls_off: bool) -> str | None:
        """Release what is held of a payment that its merchant names by its own reference; return why not.

        `calls_off`: also one that waits for its payer. Adyen's pages do not say what becomes of such a one.
        """
        if payment is not None and payment.authorised:
            return self.cancel(payment)
        if payment is None or not calls_off:
            return NOT_AUTHORISED
        payment.called_off = True
        return None

    def refund(self, payment: Payment, value: int) -> str | None:
        """Give so much back; return why not."""
        if not payment.captured:
            return NOT_CAPTURED
        if value > payment.captured - payment.refunded:
            return INSUFFICIENT
        payment.refunded += value
        payment.effects.append(("refund", value))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One thing that the simulator will tell by webhook."""

    event: str
    success: bool = True
    value: int
    currency: str
    psp: str
    original: str | None = None
    reference: str
    reason: str = ""


def of_payment(payment: Payment, event: str, *, success: bool = True, reason: str = "") -> Word:
    """Return a word about the payment itself."""
    told = payment.authorised or payment.asked
    return Word(
        event=event,
        success=success,
        value=told,
        currency=payment.currency,
        psp=payment.psp,
        reference=payment.reference,
        reason=reason,
    )


def of_payments_part(payment: Payment, event: str, psp: str, value: int, **more: Any) -> Word:
    """Return a word about something that happened to the payment, under a reference of its own."""
    said: dict[str, Any] = {"reference": payment.reference, **more}
    return Word(event=event, value=value, currency=payment.currency, psp=psp, original=payment.psp, **said)
