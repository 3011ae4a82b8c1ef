"""The simulator of Adyen as a process: what it is told it keeps, and what it tells it repeats until somebody takes it.

`python -m tests.simulators adyen`. Beside what `adyen` does it is as Adyen's pages say: webhooks come late, twice and
in any order ('Handle webhook events'), and are sent again until they are acknowledged with 2xx.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from aiohttp import web

from tests.simulators.adyen import AdyenSimulator, _Stored
from tests.simulators.adyen_ledger import Json, Payment, Word
from tests.simulators.adyen_post import AdyenPost, body_of, item_of, of_others
from tests.simulators.process import Desk, Postman, control_routes
from tests.support.gateway_under_test import Situation

REDIRECTED: Final = "X6X"
VERDICTS: Final = frozenset({"AUTHORISATION", "CAPTURE", "CANCELLATION", "REFUND"})
"""Events that say what became of an operation."""

CALLS: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.TIMEOUT_AFTER,
        Situation.RESET_BEFORE,
        Situation.RESET_AFTER,
        Situation.HTML_502_BEFORE,
        Situation.HTML_502_AFTER,
        Situation.SERVER_ERROR_AFTER,
        Situation.CUT_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.SLOW,
        Situation.WEBHOOKS_BY_REFERENCE,
    }
)
PAYMENTS: Final = (CALLS - {Situation.WEBHOOKS_BY_REFERENCE}) | {
    Situation.PENDING_THEN_SUCCEEDED,
    Situation.PENDING_THEN_FAILED,
    Situation.OUT_OF_ORDER_WEBHOOKS,
    Situation.BATCHED_WEBHOOKS,
    Situation.EARLY_WEBHOOK,
}
COMPLETIONS: Final = CALLS - {Situation.WEBHOOKS_BY_REFERENCE}
TAKEN_BACK: Final = frozenset(
    {
        Situation.LATE_FAILURE,
        Situation.DISPUTE_LOST,
        Situation.CHARGEBACK_WON,
        Situation.CHARGEBACK_LOST,
        Situation.PARTIAL_CHARGEBACK_LOST,
    }
)
"""What Adyen had said to be done, and takes back."""


def able(path: str, body: Json) -> frozenset[Situation]:
    """Return what can happen to this call."""
    if path == "/payments":
        sale = "additionalData" not in body
        return PAYMENTS | TAKEN_BACK if sale else PAYMENTS
    if path.endswith("/captures"):
        return CALLS | {Situation.LATE_FAILURE}
    return COMPLETIONS if path == "/payments/details" else CALLS


class KeptPost(AdyenPost):
    """Webhooks that the book keeps until they are taken."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.about = ""
        """The operation that is asked for now, where the words about it may name its payment instead."""

    def item(self, word: Word) -> Json:
        at_s = self._desk.clock.tick()
        if word.event in VERDICTS:
            self._desk.book.word(self.about or _op_of(word.reference), word.value if word.success else 0, at_s=at_s)
        return item_of(word, datetime.fromtimestamp(at_s, UTC).astimezone(timezone(timedelta(hours=1))))

    def send_later(self, bodies: Sequence[Sequence[Json]]) -> None:
        for items in bodies:
            self._desk.tell(body_of(items))

    def tell_in_batch(self, word: Word) -> None:
        self.send_later([[self.item(word), *of_others()]])

    async def deliver(self, items: Sequence[Json]) -> None:
        self._desk.tell(body_of(items), at_once=True)
        self._desk.book.commit()


def _op_of(reference: str) -> str:
    return reference.partition(".")[0]


class AdyenProcess(AdyenSimulator):
    """The server."""

    def __init__(self, desk: Desk, *, port: int) -> None:
        self.kept_post = KeptPost(desk)
        super().__init__(multiple_captures=True, tells_what_it_answered=True, port=port, post=self.kept_post)
        self.desk = desk
        self._key = ""
        self._reference = self._method = ""
        self._tokens: dict[str, str] = {}  # psp reference -> what the payment was opened with
        ledger = self.bank._ledger
        ledger.new_reference = lambda: f"SIM{desk.book.next_number():013d}"  # type: ignore[method-assign]  # none twice
        for payment, token in desk.book.kept().values():
            ledger.payments[payment.psp] = payment
            self._tokens[payment.psp] = token
        self._keys = {key: _Stored(*kept) for key, kept in desk.book.keys().items()}

    def control(self) -> Sequence[web.RouteDef]:
        return control_routes(self.desk, self.payer_acts)

    def postman(self, url: str) -> Postman:
        """Return who delivers its webhooks there."""
        return Postman(self.desk.book, url)

    def drawn(self, body: Json, path: str) -> Situation | None:
        return self.desk.weather.met_by_call(able(path, body))

    def begins(self, key: str, body: Json) -> None:
        self.requests.clear()
        self._met.clear()
        self._key, self._reference = key, body.get("reference", "")
        self.bank.last = None
        self.kept_post.about = _op_of(self._reference)
        self.desk.begin()
        self._method = body.get("paymentMethod", {}).get("storedPaymentMethodId", "")

    def carried_out(self, key: str, status: int, body: bytes) -> None:
        """Keep what came of the call, and what was told of it."""
        payment = self.bank.last
        if payment is not None:
            self._tokens.setdefault(payment.psp, self._method)
            self._note_effects(payment)
            self.desk.book.keep(payment.psp, (payment, self._tokens[payment.psp]))
        for each in self.complaints:
            self.desk.book.complain(each)
        self.complaints.clear()
        self.desk.book.keep_key(key, (status, body))
        self.desk.book.commit()

    def _note_effects(self, payment: Payment) -> None:
        """Write what the call has done. An authorisation is its payment's, whoever completed it."""
        opening, asked = _op_of(payment.reference), _op_of(self._reference)
        done = ""
        for kind, amount in payment.effects[payment.noted :]:
            opens = kind in {"authorize", "sale"}
            taken_back = kind in {"reversal", "restoral"}
            done = done if taken_back else kind
            self.desk.book.effect(
                kind,
                amount,
                reversed_kind=done if taken_back else None,
                currency=payment.currency,
                op_id=opening if opens else asked or opening,
                opening_op_id=opening,
                gateway_key=self._key,
                token=self._tokens[payment.psp],
            )
        payment.noted = len(payment.effects)

    def payer_acts(self, reference: str, *, agreed: bool) -> Mapping[str, str]:
        """Act as the payer who was redirected for this payment. Raises: KeyError."""
        payment = self.bank._ledger.payments[reference]
        result = f"{REDIRECTED}{reference}"
        if payment.waits_for_payer == result and not agreed:
            payment.waits_for_payer = f"{result}.refused"
            self.desk.book.keep(payment.psp, (payment, self._tokens[payment.psp]))
        return {"redirectResult": payment.waits_for_payer or result}
