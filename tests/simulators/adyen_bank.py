"""What a request comes to at the Adyen simulator, and what it tells of it later: its rules, without a socket.

Called by `adyen` for each request that fits the document. Changes the ledger, and hands words to the post.
"""

from collections.abc import Iterable
from typing import Final

from tests.simulators.adyen_ledger import Json, Ledger, Payment, Word, of_payment, of_payments_part
from tests.simulators.adyen_post import MERCHANT_ACCOUNT, AdyenPost
from tests.support.gateway_under_test import Situation

Answer = tuple[int, Json]
REDIRECT_URL: Final = "https://checkoutshopper.example/redirect"
PART_PERCENT: Final = 30
SECOND_PART_PERCENT: Final = 20
APPROVED_PERCENT: Final = 60
REFUSALS: Final = {"12": "Not enough balance", "2": "Refused"}
DISPUTES: Final = {
    Situation.DISPUTE_OPENED: ("NOTIFICATION_OF_CHARGEBACK",),
    Situation.DISPUTE_WON: ("NOTIFICATION_OF_CHARGEBACK", "ISSUER_RESPONSE_TIMEFRAME_EXPIRED"),
    Situation.DISPUTE_LOST: ("NOTIFICATION_OF_CHARGEBACK", "SECOND_CHARGEBACK"),
    Situation.PARTIAL_DISPUTE_LOST: ("NOTIFICATION_OF_CHARGEBACK", "SECOND_CHARGEBACK"),
    Situation.CHARGEBACK_WON: ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK", "CHARGEBACK_REVERSED"),
    Situation.CHARGEBACK_LOST: ("CHARGEBACK", "NOTIFICATION_OF_CHARGEBACK", "DISPUTE_DEFENSE_PERIOD_ENDED"),
    Situation.PARTIAL_CHARGEBACK_LOST: ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK", "SECOND_CHARGEBACK"),
    Situation.PARTIAL_CHARGEBACK_WON: ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK", "CHARGEBACK_REVERSED"),
    Situation.PARTIAL_REVERSAL: ("CHARGEBACK",),
}
PARTIAL: Final = frozenset(
    {
        Situation.PARTIAL_DISPUTE_LOST,
        Situation.PARTIAL_CHARGEBACK_LOST,
        Situation.PARTIAL_CHARGEBACK_WON,
        Situation.PARTIAL_REVERSAL,
    }
)
TAKING: Final = frozenset({"CHARGEBACK", "SECOND_CHARGEBACK"})
PENDING: Final = frozenset(
    {
        Situation.PENDING_THEN_SUCCEEDED,
        Situation.PENDING_THEN_FAILED,
        Situation.DUPLICATE_WEBHOOKS,
        Situation.OUT_OF_ORDER_WEBHOOKS,
        Situation.BATCHED_WEBHOOKS,
    }
)


class RefusedError(Exception):
    """A ServiceError."""

    def __init__(self, status: int, code: str, *, kind: str = "validation", **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.kind, self.headers = status, code, kind, headers


class AdyenBank:
    """One merchant account and its payments."""

    def __init__(
        self, post: AdyenPost, *, multiple_captures: bool, tells_what_it_answered: bool, names_the_payment: bool
    ) -> None:
        self._post = post
        self._ledger = Ledger(multiple_captures=multiple_captures)
        self._told_twice = tells_what_it_answered
        self._names_the_payment = names_the_payment
        self.calls_off_what_waits = False  # a cancel by reference also of what nobody has paid yet
        self._redirects: list[str] = []
        self.early: list[Json] = []  # what is told before the answer
        self.last: Payment | None = None  # that the last call was about

    def effects(self, reference: str) -> list[tuple[str, int]]:
        """Return kind and amount of what really happened to the payment of this reference."""
        payment = self._ledger.of_reference(reference)
        return [] if payment is None else list(payment.effects)

    def act(self, *, agreed: bool) -> str:
        """Act as the payer who was redirected last; return the redirect result to come back with."""
        result = self._redirects.pop()
        payment = self._ledger.waiting_for(result)
        assert payment is not None
        if not agreed:
            payment.waits_for_payer = f"{result}.refused"
        return payment.waits_for_payer or ""

    def settle_redirect(self) -> None:
        """Act as the payer who was redirected last, of a payment that Adyen goes on with by itself."""
        payment = self._ledger.waiting_for(self._redirects.pop())
        assert payment is not None
        payment.authorise(payment.asked)
        off = payment.called_off
        self._post.tell_later(
            [of_payment(payment, "AUTHORISATION", success=not off, reason="Cancelled" if off else "")]
        )

    def pay(self, body: Json, situation: Situation | None) -> Answer:
        """Return what a request for a payment comes to."""
        payment = self.last = self._ledger.open(body)
        method = body["paymentMethod"].get("storedPaymentMethodId", "")
        answer: Json = {
            "pspReference": payment.psp,
            "merchantReference": payment.reference,
            "amount": {"currency": payment.currency, "value": payment.asked},
        }
        refused = method.startswith("declined_") or situation is Situation.REFUSED_THEN_SUCCEEDED
        if refused:
            code = method.removeprefix("declined_") if method.startswith("declined_") else "2"
            answer |= {"resultCode": "Refused", "refusalReasonCode": code, "refusalReason": REFUSALS.get(code, "No")}
            words = [of_payment(payment, "AUTHORISATION", success=False, reason=answer["refusalReason"])]
            self._post.tell_later(words if self._told_twice else [])
            if situation is Situation.REFUSED_THEN_SUCCEEDED:
                payment.authorise(payment.asked)
                self._post.tell_later([of_payment(payment, "AUTHORISATION")])
            return 200, answer
        if method.startswith("redirect") or situation is Situation.ACTION_EXPIRED:
            payment.waits_for_payer = f"X6X{payment.psp}"
            self._redirects.append(payment.waits_for_payer)
            if situation is Situation.ACTION_EXPIRED:
                payment.waits_for_payer = None
                self._post.tell_later([of_payment(payment, "OFFER_CLOSED")])
            action = {"type": "redirect", "method": "GET", "url": f"{REDIRECT_URL}/{payment.psp}"}
            # As Adyen's examples show: the payment is not named before the payer has acted.
            return 200, {"resultCode": "RedirectShopper", "action": {**action, "paymentMethodType": "scheme"}}
        if situation in PENDING:
            self._settle_pending(payment, situation)
            return 200, answer | {"resultCode": "Received"}
        self._authorise(payment, situation, answer)
        return 200, answer

    def _authorise(self, payment: Payment, situation: Situation | None, answer: Json) -> None:
        value = payment.asked
        answer["resultCode"] = "Authorised"
        match situation:
            case Situation.AMOUNT_MISMATCH:
                value -= 1
            case Situation.PARTIAL_APPROVAL:
                value = value * APPROVED_PERCENT // 100
                answer["resultCode"] = "PartiallyAuthorised"
            case Situation.UNKNOWN_STATUS:
                answer["resultCode"] = "SettlingElsewhere"
        payment.authorise(value)
        answer["amount"]["value"] = value
        told = [of_payment(payment, "AUTHORISATION")]
        if situation is Situation.EARLY_WEBHOOK:
            self.early = [self._post.item(each) for each in told]
            return
        self._post.tell_later((told if self._told_twice else []) + self._what_follows(payment, situation))

    def _settle_pending(self, payment: Payment, situation: Situation | None) -> None:
        if situation is Situation.PENDING_THEN_FAILED:
            self._post.tell_later([of_payment(payment, "AUTHORISATION", success=False, reason="Not enough balance")])
            return
        payment.authorise(payment.asked)
        done = of_payment(payment, "AUTHORISATION")
        match situation:
            case Situation.DUPLICATE_WEBHOOKS:
                self._post.send_later([[item] for item in [self._post.item(done)] * 2])
            case Situation.OUT_OF_ORDER_WEBHOOKS:
                older = self._post.item(of_payment(payment, "PENDING"))
                self._post.send_later([[self._post.item(done)], [older]])
            case Situation.BATCHED_WEBHOOKS:
                self._post.tell_in_batch(done)
            case _:
                self._post.tell_later([done])

    def _what_follows(self, payment: Payment, situation: Situation | None) -> list[Word]:
        """Return what comes later of a payment that was authorised."""
        value = payment.captured or payment.authorised
        if situation in DISPUTES:
            part = value * PART_PERCENT // 100 if situation in PARTIAL else value
            return self._dispute(payment, DISPUTES[situation], part)
        match situation:
            case Situation.TWO_REVERSALS:
                second = value * SECOND_PART_PERCENT // 100
                first = self._dispute(payment, ("CHARGEBACK",), value * PART_PERCENT // 100)
                return first + self._dispute(payment, ("CHARGEBACK",), second)
            case Situation.LATE_FAILURE | Situation.RECAPTURED:
                return self._failed_capture(payment, self._ledger.new_reference(), value, payment.reference, situation)
            case Situation.HOLD_EXPIRED:
                payment.released = True
                return [of_payment(payment, "EXPIRE")]
            case Situation.DESK_REFUND | Situation.PARTIAL_DESK_REFUND:
                part = value * PART_PERCENT // 100 if situation is Situation.PARTIAL_DESK_REFUND else value
                assert self._ledger.refund(payment, part) is None
                return [of_payments_part(payment, "REFUND", self._ledger.new_reference(), part)]
            case _:
                return []

    def _dispute(self, payment: Payment, events: Iterable[str], value: int) -> list[Word]:
        case, taken = self._ledger.new_reference(), False
        for event in events:
            if event in TAKING and not taken:
                taken = True
                payment.effects.append(("reversal", value))
            if event == "CHARGEBACK_REVERSED":
                payment.effects.append(("restoral", value))
        return [of_payments_part(payment, event, case, value) for event in events]

    def _failed_capture(
        self, payment: Payment, psp: str, value: int, reference: str, situation: Situation
    ) -> list[Word]:
        payment.effects.append(("reversal", value))
        words = [of_payments_part(payment, "CAPTURE_FAILED", psp, value, reference=reference, reason="Capture Failed")]
        if situation is Situation.RECAPTURED:
            payment.effects.append(("restoral", value))
            again = of_payments_part(
                payment, "CAPTURE", psp, value, reference=reference, reason="Transaction Recaptured"
            )
            words.append(again)
        return words

    def complete(self, body: Json, situation: Situation | None) -> tuple[int, Json]:
        result = body["details"].get("redirectResult", "")
        payment = self.last = self._ledger.waiting_for(result)
        if payment is None:
            raise RefusedError(422, "14_0408")
        answer: Json = {
            "pspReference": payment.psp,
            "merchantReference": payment.reference,
            "amount": {"currency": payment.currency, "value": payment.asked},
        }
        if result.endswith(".refused"):
            payment.waits_for_payer = None
            return 200, answer | {
                "resultCode": "Refused",
                "refusalReasonCode": "11",
                "refusalReason": "3D Not Authenticated",
            }
        payment.authorise(payment.asked)
        if payment.called_off:
            return 200, answer | {"resultCode": "Cancelled"}
        if self._told_twice:
            self._post.tell_later([of_payment(payment, "AUTHORISATION")])
        return 200, answer | {"resultCode": "Authorised"}

    def cancel_unnamed(self, body: Json, situation: Situation | None) -> Answer:
        """Return what a cancel by the merchant's own reference comes to: that it was received, whatever it names."""
        payment = self._ledger.of_reference(body["paymentReference"])
        why = self._ledger.cancel_unnamed(payment, calls_off=self.calls_off_what_waits)
        own = self._ledger.new_reference()
        by_payment = self._names_the_payment or situation is Situation.WEBHOOKS_BY_REFERENCE
        word = Word(
            event="TECHNICAL_CANCEL",
            success=why is None,
            value=0 if payment is None else payment.asked,
            currency="EUR" if payment is None else payment.currency,
            psp=own,
            # Adyen names the payment that it has found.
            original=payment.psp if payment is not None and payment.authorised else None,
            reference=body["paymentReference"] if by_payment else body["reference"],
            reason=why or "",
        )
        self._post.tell_later([word])
        return 201, {
            "merchantAccount": MERCHANT_ACCOUNT,
            "paymentReference": body["paymentReference"],
            "pspReference": own,
            "reference": body["reference"],
            "status": "received",
        }

    def modify(self, psp: str, resource: str, body: Json, situation: Situation | None) -> Answer:
        """Return what a capture, cancel or refund comes to: that it was received."""
        payment = self.last = self._ledger.payments.get(psp)
        if payment is None:
            raise RefusedError(422, "167")
        own = self._ledger.new_reference()
        value = body["amount"]["value"] if "amount" in body else payment.authorised - payment.captured
        match resource:
            case "captures":
                event, why = "CAPTURE", self._ledger.capture(payment, value)
            case "cancels":
                event, why = "CANCELLATION", self._ledger.cancel(payment)
            case _:
                event, why = "REFUND", self._ledger.refund(payment, value)
        by_payment = self._names_the_payment or situation is Situation.WEBHOOKS_BY_REFERENCE
        reference = payment.reference if by_payment else body["reference"]
        words = [
            of_payments_part(payment, event, own, value, success=why is None, reason=why or "", reference=reference)
        ]
        if why is None and situation in {Situation.LATE_FAILURE, Situation.RECAPTURED}:
            words += self._failed_capture(payment, own, value, reference, situation)
        self._post.tell_later(words)
        said: Json = {
            "merchantAccount": MERCHANT_ACCOUNT,
            "paymentPspReference": psp,
            "pspReference": own,
            "reference": body["reference"],
            "status": "received",
        }
        return 201, said | ({"amount": body["amount"]} if "amount" in body else {})
