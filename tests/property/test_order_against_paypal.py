"""What disputes and reversals leave of a payment at PayPal, however their webhooks come.

An order's sale, the adapter's pure half, and the simulator's disputes, without sockets. PayPal names no dispute in a
reversal, and none in a refund that closes one. So the engine cannot always know what is left. It must never count money
that may be gone, and where it counts another sum than PayPal's a person has to have been asked.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_adapters.paypal.notices import PayPalTranslator
from gateway_adapters.paypal.references import reference_of
from gateway_adapters.paypal.spec import CAPABILITIES
from gateway_adapters.paypal.translate import NAME, to_ms
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayRoute
from schemas.vocabulary import CallKind, DecisionRefusal, Verdict
from streams.domain.inputs import NoticeReceived
from streams.domain.limits import DEFAULT_RULES
from tests.simulators.paypal_bank import PayPalBank
from tests.simulators.paypal_disputes import Dispute
from tests.simulators.paypal_events import PayPalEvents
from tests.simulators.paypal_objects import Made, Order, made_json, time_text
from tests.support.order_desk import ORDER, ORIGIN, Desk, Said, plan, sale
from tests.support.webhook_certificates import authority, certificate_for

RULES = replace(
    DEFAULT_RULES,
    key_windows_ms={NAME: CAPABILITIES.key_window_ms},
    capabilities={GatewayRoute(NAME): CAPABILITIES},
)
TAKEN_MINOR = 10_000
MAX_THINGS = 6
CERTIFICATE = certificate_for("messageverificationcerts.paypal.com", under=authority("Root of the test"))


class Pigeonholes(PayPalEvents):
    """Keeps what it should deliver."""

    def __init__(self) -> None:
        super().__init__(certificate=CERTIFICATE, webhook_id="W", certificate_url="https://c.test")
        self.waiting: list[bytes] = []

    def post(self, body: bytes) -> None:
        self.waiting.append(body)


@dataclass
class Life:
    """A sale that was carried out, and what befalls it at PayPal."""

    post: Pigeonholes = field(default_factory=Pigeonholes)
    desk: Desk = field(default_factory=lambda: Desk(plan=plan(NAME), rules=RULES))

    def __post_init__(self) -> None:
        self.bank = PayPalBank(self.post)
        op_id = self.desk.send(sale(TAKEN_MINOR))
        self.desk.grant()
        reference = reference_of(CallKind.SALE, op_id)
        order = Order("O", "CAPTURE", "COMPLETED", TAKEN_MINOR, "USD", reference, "vault-1")
        now = self.post.now()
        self.made = Made("CAP", "COMPLETED", TAKEN_MINOR, "USD", order, reference, reference, created=now, updated=now)
        order.captures.append(self.made)
        self.bank.made["CAP"] = self.made
        self.desk.call(Said(reference="CAP", confirmed_minor=TAKEN_MINOR, confirmed_currency="USD"))

    @property
    def left_minor(self) -> int:
        return self.made.amount_minor - self.made.gone_minor - self.made.taken_minor

    @property
    def open_disputes(self) -> list[Dispute]:
        return [each for each in self.bank.disputes.all if each.is_open]

    def happen(self, thing: str, dispute: Dispute | None, minor: int) -> None:
        """Let this happen, if it can."""
        disputes = self.bank.disputes
        match thing, dispute:
            case "open", _ if minor > 0:
                disputes.open(self.made, minor)
            case "reverse", _:
                disputes.reverse(self.made, minor)
            case "refund", _:
                self.bank.refund_at_desk(self.made, minor)
            case "reverse for it", Dispute() if _may_take(dispute, self.left_minor):
                disputes.reverse(self.made, dispute.amount_minor, by=dispute)
            case "update", Dispute():
                disputes.update(dispute)
            case "win", Dispute():
                disputes.win(dispute)
            case "lose", Dispute():
                disputes.lose(dispute, min(dispute.amount_minor, self.left_minor + dispute.taken_minor))
            case "lose in part", Dispute():
                disputes.lose(
                    dispute, min(dispute.amount_minor, self.left_minor + dispute.taken_minor) // 2 // 100 * 100
                )
            case "lose by refund", Dispute() if _may_take(dispute, self.left_minor):
                self.bank.refund_at_desk(self.made, dispute.amount_minor)
                disputes.lose(dispute, dispute.amount_minor)
                self.made.gone_minor -= dispute.amount_minor  # the refund is what it has cost

    def tell_success_again(self) -> None:
        shown = made_json(replace(self.made, status="COMPLETED", updated=self.made.created))
        self.post.waiting.append(self.post.event("PAYMENT.CAPTURE.COMPLETED", "capture", shown))

    def deliver(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            for notice in PayPalTranslator().parse_webhook({}, body):
                self.desk.now_ms = max(self.desk.now_ms + 1, to_ms(time_text(self.post.now())))
                self.desk.take(
                    NoticeReceived(
                        notice=replace(notice, origin_id=ORIGIN, order_id=ORDER),
                        now_ms=self.desk.now_ms,
                        possible_replay=False,
                        account=DEFAULT_ACCOUNT,
                    )
                )

    @property
    def counted_minor(self) -> int:
        return self.desk.view.captured_minor - self.desk.view.refunded_minor


def _may_take(dispute: Dispute, left_minor: int) -> bool:
    return dispute.taken_minor == 0 and dispute.amount_minor <= left_minor


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_money_that_may_be_gone_is_not_counted_and_a_person_is_asked_where_it_cannot_be_told(
    data: st.DataObject,
) -> None:
    life = Life()
    for _ in range(data.draw(st.integers(0, MAX_THINGS), label="things")):
        befall(life, data)
    if data.draw(st.booleans(), label="success told late"):
        life.tell_success_again()
    waiting = life.post.waiting
    again = data.draw(st.lists(st.sampled_from(waiting), max_size=3), label="again") if waiting else []
    life.deliver(data.draw(st.permutations([*waiting, *again]), label="order of arrival"))
    assert life.counted_minor <= life.left_minor
    assert life.counted_minor == life.left_minor or life.desk.payment.review


def befall(life: Life, data: st.DataObject) -> None:
    """Let one thing happen that can."""
    disputes, left_minor = life.open_disputes, life.left_minor
    things = ["open", "reverse", "refund"] if left_minor > 0 else []
    things += ["win", "lose", "lose in part", "lose by refund", "update"] if disputes else []
    things += ["reverse for it"] if any(_may_take(each, left_minor) for each in disputes) else []
    if things:
        thing = data.draw(st.sampled_from(things), label="thing")
        dispute = data.draw(st.sampled_from(disputes), label="dispute") if disputes else None
        minor = data.draw(st.sampled_from(sorted({left_minor, min(3_000, left_minor)})), label="minor")
        life.happen(thing, dispute, minor)


@pytest.mark.parametrize(
    ("things", "left_minor", "counted_minor", "asked"),
    [
        (["open", "win"], 10_000, 10_000, False),
        (["open", "lose"], 7_000, 7_000, False),
        (["reverse", "reverse"], 4_000, 4_000, False),
        (["open", "win", "reverse"], 7_000, 7_000, True),  # it may have come back with the dispute
        (["open", "lose", "open", "win"], 7_000, 7_000, False),
        (["open", "lose", "open", "lose"], 4_000, 4_000, False),
        (["open", "reverse for it", "lose"], 7_000, 4_000, True),  # it may be the same money
        (["open", "reverse for it", "win"], 10_000, 7_000, True),
        (["open", "lose by refund"], 7_000, 4_000, True),
        (["open", "refund", "win"], 7_000, 7_000, False),
    ],
)
def test_story_comes_to_the_same_in_every_order_of_arrival(
    things: list[str], left_minor: int, counted_minor: int, asked: bool
) -> None:
    for order in itertools.permutations(range(len(told(things).post.waiting))):
        life = told(things)
        life.deliver([life.post.waiting[at] for at in (*order, *order)])
        assert (life.left_minor, life.counted_minor) == (left_minor, counted_minor)
        assert life.desk.payment.review is asked


def told(things: list[str]) -> Life:
    life = Life()
    for thing in things:
        life.happen(thing, next(iter(life.open_disputes), None), 3_000)
    return life


@pytest.mark.parametrize("amount_minor", [3_999, 4_000, 10_001])
def test_person_says_how_much_is_left_of_what_may_have_been_taken_twice_and_nothing_beyond(amount_minor: int) -> None:
    life = told(["open", "reverse for it", "lose"])
    life.deliver(life.post.waiting)
    op_id = life.desk.payment.op_id
    assert life.desk.decide(op_id, Verdict.SUCCEEDED, amount_minor) is DecisionRefusal.AMOUNT_OUT_OF_RANGE
    assert life.desk.decide(op_id, Verdict.SUCCEEDED, 7_000, name="d2") is None
    assert life.desk.decide(op_id, Verdict.CLOSE_REVIEW, name="d3") is None
    life.deliver(life.post.waiting)  # what is told again changes nothing, and nobody is asked again
    assert (life.counted_minor, life.desk.payment.review) == (7_000, False)
    assert life.desk.decide(op_id, Verdict.SUCCEEDED, 8_000, name="d4") is DecisionRefusal.NOT_OPEN


def test_person_brings_back_all_of_what_was_taken_twice_whole() -> None:
    life = Life()
    life.happen("open", None, TAKEN_MINOR)
    life.happen("reverse for it", life.open_disputes[0], TAKEN_MINOR)
    life.happen("win", life.open_disputes[0], TAKEN_MINOR)
    life.deliver(life.post.waiting)
    assert (life.counted_minor, life.desk.payment.review) == (0, True)
    assert life.desk.decide(life.desk.payment.op_id, Verdict.SUCCEEDED) is None
    assert life.counted_minor == TAKEN_MINOR


def test_what_can_be_told_a_person_does_not_raise() -> None:
    life = told(["open", "lose"])
    life.deliver(life.post.waiting)
    assert life.desk.decide(life.desk.payment.op_id, Verdict.SUCCEEDED, 8_000) is DecisionRefusal.NOT_OPEN
