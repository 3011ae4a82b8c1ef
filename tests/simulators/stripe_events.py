"""The events of the Stripe simulator: what happens to a payment after its answer, told by signed webhooks.

Ours, as all of the simulator is (see `stripe_bank`). Stripe's pages say what the events hold; that localstripe's are
verified and read too, its own test shows.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import aiohttp
import orjson

from gateway_adapters.stripe.signature import sign
from tests.simulators.stripe_bank import VERSION, Bank, Json, RefusedError, shown
from tests.support.gateway_under_test import Situation

Later = Callable[[], Awaitable[None]]
Course = Callable[[Json], Awaitable[None]]

SECRET: Final = "whsec_simulated"
CASES: Final = {
    Situation.DISPUTE_OPENED: (1.0, ("created",)),
    Situation.DISPUTE_WON: (1.0, ("created", "won")),
    Situation.DISPUTE_LOST: (1.0, ("created", "lost")),
    Situation.PARTIAL_DISPUTE_LOST: (0.3, ("created", "lost")),
    Situation.CHARGEBACK_WON: (1.0, ("created", "funds_withdrawn", "won")),
    Situation.CHARGEBACK_LOST: (1.0, ("funds_withdrawn", "created", "lost")),
    Situation.PARTIAL_CHARGEBACK_LOST: (0.3, ("created", "funds_withdrawn", "lost")),
    Situation.PARTIAL_CHARGEBACK_WON: (0.3, ("created", "funds_withdrawn", "won")),
}
"""What share of a payment is disputed, and what its events say."""

ENDS: Final = frozenset({"won", "lost", "prevented"})
"""The words that close a dispute."""


class Events:
    """Makes events and delivers them."""

    def __init__(self, bank: Bank, *, hook_url: str | None, secret: str = SECRET) -> None:
        """`hook_url`: where events go; None: nowhere. `secret`: they are signed with."""
        self.secret = secret
        self._bank = bank
        self._hook_url = hook_url
        self.refused: list[tuple[int, bytes]] = []  # events that the endpoint did not take, with its answer
        self._under_way = 0
        self._courses: Mapping[Situation, Course] = {
            Situation.PENDING_THEN_SUCCEEDED: self.succeeds,
            Situation.PENDING_THEN_FAILED: self._fails,
            Situation.DUPLICATE_WEBHOOKS: partial(self.succeeds, times=2),
            Situation.OUT_OF_ORDER_WEBHOOKS: self._comes_in_disorder,
            Situation.HOLD_EXPIRED: partial(self._runs_out, reason="automatic"),
            Situation.ACTION_EXPIRED: partial(self._runs_out, reason="expired"),
            Situation.DESK_REFUND: partial(self._is_refunded, share=1.0),
            Situation.PARTIAL_DESK_REFUND: partial(self._is_refunded, share=0.3),
            **{case: partial(self._is_disputed, case=case) for case in CASES},
        }

    def tell(self, hook_url: str) -> None:
        """Send events there from now on."""
        self._hook_url = hook_url

    async def all_told(self) -> bool:
        """Return whether no event is on its way."""
        return self._under_way == 0

    def course(self, payment: Json, situation: Situation | None) -> Later | None:
        """Return what happens to the payment after its answer; None: nothing."""
        course = None if situation is None else self._courses.get(situation)
        return None if course is None else partial(course, payment)

    async def succeeds(self, payment: Json, *, times: int = 1) -> None:
        """Approve what was not approved yet, and tell so."""
        if payment["status"] not in {"succeeded", "requires_capture"}:
            self._bank.approve(payment)
        event = self.event("payment_intent.succeeded", payment)
        for _ in range(times):
            await self.send(event)

    async def comes_early(self, payment: Json, *, at_s: int) -> None:
        """Tell of a success before its answer."""
        await self.send(self.event("payment_intent.succeeded", payment, at_s=at_s))

    def event(self, kind: str, told: Json, *, at_s: int | None = None, **previous: object) -> bytes:
        """Return an event about the object as it stands now."""
        return orjson.dumps(
            {
                "id": self._bank.new_id("evt"),
                "object": "event",
                "api_version": VERSION,
                "created": self._bank.tick() if at_s is None else at_s,
                "data": {"object": shown(told), **({"previous_attributes": previous} if previous else {})},
                "livemode": False,
                "type": kind,
            }
        )

    async def send(self, event: bytes) -> None:
        """Sign and deliver an event."""
        if self._hook_url is None:
            return
        now_s = int(self._bank.real_time_s())
        headers = {"Stripe-Signature": sign(event, secret=self.secret, at_s=now_s), "Content-Type": "application/json"}
        self._under_way += 1
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(self._hook_url, data=event, headers=headers) as response,
            ):
                if not response.ok:
                    self.refused.append((response.status, event))
        finally:
            self._under_way -= 1

    async def _fails(self, payment: Json) -> None:
        with contextlib.suppress(RefusedError):
            self._bank.decline(payment, "generic_decline")
        await self.send(self.event("payment_intent.payment_failed", payment))

    async def _runs_out(self, payment: Json, *, reason: str) -> None:
        self._bank.cancel(payment, reason=reason)
        await self.send(self.event("payment_intent.canceled", payment))

    async def _is_refunded(self, payment: Json, *, share: float) -> None:
        refund = self._bank.refund(payment, round(payment["amount"] * share), {})
        await self.send(self.event("refund.created", refund))

    async def _comes_in_disorder(self, payment: Json) -> None:
        earlier = self.event("payment_intent.processing", {**payment, "status": "processing"})
        await self.send(self.event("payment_intent.succeeded", payment))
        await self.send(earlier)

    async def _is_disputed(self, payment: Json, *, case: Situation) -> None:
        share, said = CASES[case]
        await self.disputes(payment, said, share=share)

    async def disputes(
        self, payment: Json, said: Sequence[str], *, share: float = 1.0, case_type: str = "chargeback"
    ) -> None:
        """Tell of a dispute, by these words in turn: of an event, or of the status that it is closed with."""
        moved: list[Json] = []
        dispute: Json = {
            "id": self._bank.new_id("du"),
            "object": "dispute",
            "amount": round(payment["amount"] * share),
            "balance_transactions": moved,
            "charge": payment["latest_charge"],
            "currency": payment["currency"],
            "metadata": {},
            "payment_intent": payment["id"],
            "payment_method_details": {"type": "card", "card": {"brand": "visa", "case_type": case_type}},
            "status": "needs_response",
        }
        for word in said:
            ends = word in ENDS
            if ends:
                dispute["status"] = word
            if word == "funds_withdrawn":
                moved.append(self._movement(-dispute["amount"], dispute["currency"]))
            await self.send(self.event(f"charge.dispute.{'closed' if ends else word}", dispute))

    def _movement(self, amount: int, currency: str) -> Json:
        return {
            "id": self._bank.new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "currency": currency,
            "type": "adjustment",
        }
