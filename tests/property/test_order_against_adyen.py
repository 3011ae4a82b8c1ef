"""The engine's books equal those of our simulator of Adyen, whatever is lost and however its notices come.

An order, the adapter's pure half, and the simulator's bank behind it, without sockets. Answers are lost, before or
after the call had its effect; nobody can be asked, so the same call is made again. Notices come late, twice and in any
order, and give back our reference or the payment's. When all of them have come, both have the same sums, to the cent.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_adapters.adyen.spec import CAPABILITIES
from gateway_adapters.adyen.translate import Merchant, call_of, from_answer
from gateway_adapters.adyen.webhooks import notices_of
from gateway_adapters.contract import CallResult, completed
from gateway_adapters.errors import Signal, error_for
from gateway_adapters.http_transport import Answer
from gateway_adapters.notices import address_of
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayName, GatewayRoute
from schemas.records.commands import Command
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, Overlay, PaymentStatus
from streams.domain.inputs import NoticeReceived
from streams.domain.limits import DEFAULT_RULES
from streams.domain.references import known_by
from streams.domain.sums import standing_of
from tests.simulators.adyen_bank import AdyenBank, RefusedError
from tests.simulators.adyen_ledger import Json
from tests.simulators.adyen_post import AdyenPost, body_of
from tests.support import order_desk
from tests.support.gateway_under_test import Situation
from tests.support.order_desk import ORDER, ORIGIN, Desk, plan

ADYEN = GatewayName("adyen")
MAX_ROUNDS = 60
MAX_STEPS = 10
MERCHANT = Merchant(account="SimulatedMerchant", return_url="https://shop.example/back")
RULES = replace(
    DEFAULT_RULES,
    key_windows_ms={ADYEN: CAPABILITIES.key_window_ms},
    capabilities={GatewayRoute(ADYEN): CAPABILITIES},
)
OF_SALES = [
    Situation.PENDING_THEN_SUCCEEDED,
    Situation.PENDING_THEN_FAILED,
    Situation.DUPLICATE_WEBHOOKS,
    Situation.LATE_FAILURE,
    Situation.RECAPTURED,
    Situation.PARTIAL_REVERSAL,
    Situation.TWO_REVERSALS,
    Situation.DESK_REFUND,
    Situation.PARTIAL_DESK_REFUND,
    Situation.DISPUTE_WON,
    Situation.CHARGEBACK_WON,
    Situation.CHARGEBACK_LOST,
    Situation.PARTIAL_CHARGEBACK_WON,
    Situation.PARTIAL_CHARGEBACK_LOST,
]
OF_CAPTURES = [Situation.LATE_FAILURE, Situation.RECAPTURED, Situation.WEBHOOKS_BY_REFERENCE]


class Pigeonholes(AdyenPost):
    """Keeps what it should deliver."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bytes] = []

    def send_later(self, bodies: Sequence[Sequence[Json]]) -> None:
        self.waiting += [body_of(items) for items in bodies]


@dataclass
class Life:
    """An order and the bank behind it."""

    data: st.DataObject
    post: Pigeonholes = field(default_factory=Pigeonholes)
    desk: Desk = field(default_factory=lambda: Desk(plan=plan("adyen", "adyen"), rules=RULES))
    stored: dict[str, tuple[int, Json]] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    calm: bool = False  # nothing is lost any more, and nothing new befalls

    def __post_init__(self) -> None:
        self.bank = AdyenBank(
            self.post,
            multiple_captures=True,
            tells_what_it_answered=True,
            names_the_payment=self.data.draw(st.booleans(), label="notices name the payment"),
        )

    def settle(self) -> None:
        while self.desk.claims or self.desk.requests:  # ends: each call is answered once
            if self.desk.claims:
                self.desk.grant()
                continue
            request = self.desk.requests.popleft()
            self.desk.result(completed(request, self._called(request), completed_at_ms=self.desk.now_ms))

    def _called(self, request: GatewayCallRequested) -> CallResult:
        lost = None if self.calm else self.data.draw(st.sampled_from([None, None, "before", "after"]), label="lost")
        if lost == "before":
            return CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.CONNECTION_LOST))
        status, body = self._answered(request)
        if lost == "after":
            return CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.READ_TIMEOUT))
        return from_answer(request, Answer(status=status, headers={}, body=json.dumps(body).encode()))

    def _answered(self, request: GatewayCallRequested) -> tuple[int, Json]:
        if request.gateway_key not in self.stored:
            call = call_of(request, MERCHANT)
            body = json.loads(call.body)
            try:
                if request.kind in {CallKind.AUTHORIZE, CallKind.SALE}:
                    answered = self.bank.pay(body, self._befalls(request))
                elif call.path == "/cancels":
                    answered = self.bank.cancel_unnamed(body, None)
                else:
                    _, _, psp, resource = call.path.split("/")
                    answered = self.bank.modify(psp, resource, body, self._befalls(request))
            except RefusedError as refusal:
                answered = refusal.status, {"errorCode": refusal.code}
            self.stored[request.gateway_key] = answered
        return self.stored[request.gateway_key]

    def _befalls(self, request: GatewayCallRequested) -> Situation | None:
        choices = {CallKind.SALE: OF_SALES, CallKind.CAPTURE: OF_CAPTURES}.get(request.kind, [])
        return None if self.calm else self.data.draw(st.sampled_from([None, *choices]), label="befalls")

    def command(self, number: int) -> Command:
        key, amount = f"k{number}", self.data.draw(st.integers(1, 10_000), label="amount")
        if self.desk.row is None or not self.desk.row.payments:
            opens = self.data.draw(st.sampled_from([order_desk.sale, order_desk.authorize]))
            return opens(key=key)
        payment = self.desk.payment.payment_id
        match self.data.draw(st.sampled_from(["capture", "void", "refund"]), label="asked for"):
            case "capture":
                return order_desk.capture(payment, amount, key=key)
            case "void":
                return order_desk.void(payment, key=key)
            case _:
                return order_desk.refund(payment, amount, key=key)

    def hear_some(self) -> None:
        for _ in range(self.data.draw(st.integers(0, len(self.post.waiting)), label="notices")):
            body = self.post.waiting.pop(self.data.draw(st.integers(0, len(self.post.waiting) - 1)))
            if not self.is_known(body):
                self.post.waiting.append(body)
                continue
            for _ in range(self.data.draw(st.integers(1, 2), label="times")):
                self.hear(body)

    def is_known(self, body: bytes) -> bool:
        """Return whether the references index knows whose this is: else it is parked."""
        assert self.desk.row is not None
        known = {each.reference for each in known_by(self.desk.row, {ADYEN: CAPABILITIES})}
        return all(address_of(notice, CAPABILITIES).reference in known for notice in notices_of({}, body))

    def hear(self, body: bytes) -> None:
        for notice in notices_of({}, body):
            found = replace(notice, origin_id=ORIGIN, order_id=ORDER)
            self.desk.take(
                NoticeReceived(notice=found, now_ms=self.desk.now_ms, possible_replay=False, account=DEFAULT_ACCOUNT)
            )
        self.settle()

    def come_to_rest(self) -> None:
        self.calm = True
        for _ in range(MAX_ROUNDS):
            self.hear_all()
            due = [op_id for op_id in self.desk.timers if op_id is not None]
            if not due:
                return
            self.desk.fire(due[0])
            self.settle()

    def hear_all(self) -> None:
        while known := [body for body in self.post.waiting if self.is_known(body)]:  # ends: nothing new befalls
            self.post.waiting.remove(known[0])
            self.hear(known[0])

    def at_adyen(self) -> tuple[int, int]:
        """Return what was captured, and what was refunded, by the bank's own books."""
        assert self.desk.row is not None
        opening = self.desk.operations[0]
        made = self.bank.effects(f"{opening.op_id}.{opening.kind.value}")
        signs = {"sale": 1, "capture": 1, "reversal": -1, "restoral": 1}
        captured = sum(signs.get(kind, 0) * amount for kind, amount in made)
        return captured, sum(amount for kind, amount in made if kind == "refund")

    def held_at_adyen(self) -> int:
        """Return what is held there still, by the bank's own books."""
        opening = self.desk.operations[0]
        made = self.bank.effects(f"{opening.op_id}.{opening.kind.value}")
        signs = {"authorize": 1, "void": -1, "capture": -1}
        return sum(signs.get(kind, 0) * amount for kind, amount in made)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_money_of_a_payer_who_acts_late_is_held_or_taken_without_a_person_being_asked(data: st.DataObject) -> None:
    life = Life(data)
    life.bank.calls_off_what_waits = data.draw(st.booleans(), label="calls off what waits")
    opens = data.draw(st.sampled_from([order_desk.sale, order_desk.authorize]))
    life.calm = True
    life.desk.send(opens(token="redirect"))
    life.settle()
    acts_after = data.draw(st.integers(0, 12), label="acts after so many steps")
    life.calm = False
    for step in range(MAX_STEPS):
        if step == acts_after:
            life.bank.settle_redirect()
        life.hear_some()
        waking = [op_id for op_id in life.desk.timers if op_id is not None]
        passes = data.draw(st.booleans(), label="time passes")
        if waking and passes:
            life.desk.fire(data.draw(st.sampled_from(waking)))
        if step == acts_after and data.draw(st.booleans(), label="merchant cancels"):
            life.desk.send(order_desk.void(life.desk.payment.payment_id, key="cancel"))
        life.settle()
    if acts_after >= MAX_STEPS:
        life.bank.settle_redirect()
    life.come_to_rest()
    asks = Overlay.REVIEW in standing_of(life.desk.payment, life.desk.operations, ()).overlays
    captured, _ = life.at_adyen()
    assert asks or life.desk.sums.captured == captured
    stands = life.desk.view.status is PaymentStatus.AUTHORIZED
    held = life.held_at_adyen() > 0
    assert stands or not held, "what the merchant does not know to be held is let go"
    assert asks or held is stands


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_order_has_the_sums_that_adyen_has_once_all_is_heard(data: st.DataObject) -> None:
    life = Life(data)
    for number in range(data.draw(st.integers(1, 4), label="commands")):
        life.desk.send(life.command(number))
        life.settle()
        life.desk.now_ms += 1_000
        life.hear_some()
    life.come_to_rest()
    assert life.post.waiting == []
    assert (life.desk.sums.captured, life.desk.sums.refunded) == life.at_adyen()
