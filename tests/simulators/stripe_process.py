"""The simulator of Stripe as a process: what it is told it keeps, and what it tells it repeats until somebody takes it.

`python -m tests.simulators stripe`. Beside what `stripe` does it is as Stripe's pages say: a payment is found by a
search only some time after it was made ("searchable in less than a minute", /api/payment_intents/search), events come
late, twice and in any order (/webhooks, 'best practices'), and an object's times are whole seconds of one clock.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from gateway_adapters.stripe.signature import sign
from tests.simulators.process import Desk, Postman, control_routes
from tests.simulators.stripe import Stored, StripeSimulator
from tests.simulators.stripe_bank import Bank, Json, RefusedError
from tests.simulators.stripe_events import CASES, Events, Later
from tests.support.gateway_under_test import Situation

NOT_SEARCHED_S: Final = 8.0
"""How young a payment is that no search finds."""

CALLS: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.TIMEOUT_AFTER,
        Situation.RESET_BEFORE,
        Situation.RESET_AFTER,
        Situation.HTML_502_BEFORE,
        Situation.HTML_502_AFTER,
        Situation.SERVER_ERROR_AFTER,
        Situation.STORED_500_BEFORE,
        Situation.STORED_500_AFTER,
        Situation.CUT_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.SLOW,
    }
)
"""What can happen to any call that has an effect."""

LOOKS: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.RESET_BEFORE,
        Situation.HTML_502_BEFORE,
        Situation.CUT_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.NOT_FOUND_YET,
    }
)
PAYMENTS: Final = CALLS | {
    Situation.PENDING_THEN_SUCCEEDED,
    Situation.PENDING_THEN_FAILED,
    Situation.OUT_OF_ORDER_WEBHOOKS,
    Situation.EARLY_WEBHOOK,
}


DISPUTED: Final = frozenset(
    {
        Situation.DISPUTE_LOST,
        Situation.CHARGEBACK_WON,
        Situation.CHARGEBACK_LOST,
        Situation.PARTIAL_CHARGEBACK_LOST,
    }
)
"""Of a sale: money that Stripe takes back, and may give back again."""


def able(kind: str) -> frozenset[Situation]:
    """Return what can happen to a call of this kind."""
    match kind:
        case "inquire":
            return LOOKS
        case "sale":
            return PAYMENTS | DISPUTED
        case "authorize":
            return PAYMENTS
        case _:
            return CALLS


class KeptBank(Bank):
    """A bank whose numbers and times no restart repeats, and which writes its effects into the book."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.key = ""
        self.touched: dict[str, Json] = {}
        for payment, charge, refunds in desk.book.kept().values():
            self.payments[payment["id"]] = payment
            self.charges |= {each["id"]: each for each in charge}
            self.refunds |= {each["id"]: each for each in refunds}

    def tick(self) -> int:
        return self.desk.clock.tick()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_sim{self.desk.book.next_number():08d}"

    def create(self, given: Json, *, status: str | None = None, received: int | None = None) -> Json:
        known = len(self.payments)
        try:
            return super().create(given, status=status, received=received)
        finally:
            if len(self.payments) > known:
                newest = next(reversed(self.payments.values()))
                self.touched[newest["id"]] = newest

    def with_key(self, key: str) -> list[Json]:
        """Leave out what is too young to be found."""
        return [each for each in super().with_key(key) if each["created"] <= time.time() - NOT_SEARCHED_S]

    def keep_touched(self) -> None:
        """Have the book keep what the call has changed."""
        for name, payment in self.touched.items():
            charge = [self.charges[payment["latest_charge"]]] if payment["latest_charge"] else []
            self.desk.book.keep(name, (payment, charge, self.of_payment(payment)))
        self.touched.clear()

    def disputed(self, payment: Json, kind: str, amount: int) -> None:
        """Note what a dispute takes from a sale, or gives back."""
        metadata = payment["metadata"]
        self.desk.book.effect(
            kind,
            amount,
            reversed_kind="sale",
            currency=payment["currency"],
            op_id=metadata.get("op_id", ""),
            opening_op_id=metadata.get("op_id", ""),
            gateway_key=metadata.get("gateway_key", ""),
            token=payment["payment_method"],
        )

    def _happened(self, payment: Json, kind: str, amount: int) -> None:
        metadata = payment["metadata"]
        opening = metadata.get("op_id", "")
        opens = kind in {"authorize", "sale"}
        key = metadata.get("gateway_key", "") if opens else self.key
        self.desk.book.effect(
            kind,
            amount,
            currency=payment["currency"],
            op_id=opening if opens else key.rpartition("-")[0],
            opening_op_id=opening,
            gateway_key=key,
            token=payment["payment_method"],
        )


class KeptEvents(Events):
    """Events that the book keeps until they are taken."""

    def __init__(self, bank: KeptBank, *, secret: str) -> None:
        super().__init__(bank, hook_url=None, secret=secret)
        self._desk = bank.desk
        self._kept_bank = bank

    async def send(self, event: bytes) -> None:
        self._desk.tell(event)

    async def comes_early(self, payment: Json, *, at_s: int) -> None:
        self._desk.tell(self.event("payment_intent.succeeded", payment, at_s=at_s), at_once=True)

    async def _is_disputed(self, payment: Json, *, case: Situation) -> None:
        """Tell of it, and note what is taken back by it: when the money is withdrawn, or else with a loss."""
        await super()._is_disputed(payment, case=case)
        share, said = CASES[case]
        amount = round(payment["amount"] * share)
        withdrawn = "funds_withdrawn" in said
        if withdrawn or "lost" in said:
            self._kept_bank.disputed(payment, "reversal", amount)
        if withdrawn and "won" in said:
            self._kept_bank.disputed(payment, "restoral", amount)

    def signed(self, body: bytes) -> Mapping[str, str]:
        """Return the signature of one try: Stripe signs each anew."""
        return {"Stripe-Signature": sign(body, secret=self.secret, at_s=int(time.time()))}


class StripeProcess(StripeSimulator):
    """The server."""

    def __init__(self, desk: Desk, *, port: int, api_key: str, webhook_secret: str) -> None:
        self.kept_bank = KeptBank(desk)
        self.kept_events = KeptEvents(self.kept_bank, secret=webhook_secret)
        super().__init__(bank=self.kept_bank, events=self.kept_events, announces=True, api_key=api_key, port=port)
        self.desk = desk
        self._keys = {
            key: Stored(asked=asked, status=status, body=body)
            for key, (asked, status, body) in desk.book.keys().items()
        }

    def control(self) -> Sequence[web.RouteDef]:
        return control_routes(self.desk, self.payer_acts)

    def postman(self, url: str) -> Postman:
        """Return who delivers its events there."""
        return Postman(self.desk.book, url, sign=self.kept_events.signed)

    def drawn(self, kind: str) -> Situation | None:
        return self.desk.weather.met_by_call(able(kind))

    def begins(self, key: str) -> None:
        self.requests.clear()
        self.kept_bank.key = key
        self.desk.begin()

    async def carried_out(self, key: str, stored: Stored, later: Later | None) -> Later | None:
        """Let what follows happen now, to be told later; keep all of it, and then let the call be answered."""
        if later is not None:
            await later()
        self.kept_bank.keep_touched()
        if b'"parameter_unknown"' in stored.body:
            self.desk.book.complain(stored.body.decode())
        self.desk.book.keep_key(key, (stored.asked, stored.status, stored.body))
        self.desk.book.commit()
        return None

    def _payment_of(self, path: str, given: Json) -> Json | None:
        payment = super()._payment_of(path, given)
        if payment is not None:
            self.kept_bank.touched[payment["id"]] = payment
        return payment

    def payer_acts(self, reference: str, *, agreed: bool) -> Mapping[str, str]:
        """Act as the payer at the page of a payment intent: Stripe goes on with it by itself. Raises: KeyError."""
        reference, _, op_id = reference.partition("_for_")
        payment = self.kept_bank.payments[reference]
        if payment["metadata"].get("op_id") != op_id:
            raise KeyError(op_id)
        if payment["status"] == "requires_action":
            if agreed:
                self.kept_bank.approve(payment)
                held = payment["capture_method"] == "manual"
                kind = f"payment_intent.{'amount_capturable_updated' if held else 'succeeded'}"
            else:
                kind = "payment_intent.payment_failed"
                try:
                    self.kept_bank.decline(payment, "authentication_required")
                except RefusedError:
                    payment["next_action"] = None
            self.desk.tell(self.kept_events.event(kind, payment))
            self.kept_bank.touched[reference] = payment
            self.kept_bank.keep_touched()
        return {"payment_intent": reference}
