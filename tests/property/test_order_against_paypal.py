"""What disputes and reversals leave of a payment at PayPal, however their webhooks come.

An order's sale, the adapter's pure half, and the simulator's disputes, without sockets. PayPal names no dispute in a
reversal, and none in a refund that closes one. So the engine cannot always know what is left: it must never count money
that may be gone.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.paypal.notices import PayPalTranslator
from gateway_adapters.paypal.references import reference_of
from gateway_adapters.paypal.spec import CAPABILITIES
from gateway_adapters.paypal.translate import NAME, to_ms
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayRoute
from schemas.vocabulary import CallKind
from streams.domain.inputs import NoticeReceived
from streams.domain.limits import DEFAULT_RULES
from tests.simulators.paypal_bank import PayPalBank
from tests.simulators.paypal_disputes import Dispute
from tests.simulators.paypal_events import PayPalEvents
from tests.simulators.paypal_objects import Json, Made, Order, made_json, time_text
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

    data: st.DataObject
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

    def befall(self) -> None:
        """Let one thing happen that can."""
        open_ones = [each for each in self.bank.disputes.all if each.is_open]
        things = ["open", "reverse", "refund"] if self.left_minor > 0 else []
        things += ["win", "lose", "lose in part", "lose by refund", "update"] if open_ones else []
        things += ["reverse for it"] if any(_may_take(each, self.left_minor) for each in open_ones) else []
        if not things:
            return
        thing = self.data.draw(st.sampled_from(things), label="thing")
        dispute = self.data.draw(st.sampled_from(open_ones), label="dispute") if open_ones else None
        minor = self.data.draw(st.sampled_from(sorted({self.left_minor, min(3_000, self.left_minor)})), label="minor")
        self._happen(thing, dispute, minor)

    def _happen(self, thing: str, dispute: Dispute | None, minor: int) -> None:
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

    def deliver(self) -> None:
        """Deliver all that was told: in any order, some of it twice, and perhaps the success itself once more."""
        if self.data.draw(st.booleans(), label="success told late"):
            self.post.waiting.append(self.post.event("PAYMENT.CAPTURE.COMPLETED", "capture", self._as_at_first()))
        again = self.data.draw(st.lists(st.sampled_from(self.post.waiting), max_size=3)) if self.post.waiting else []
        for body in self.data.draw(st.permutations([*self.post.waiting, *again]), label="order of arrival"):
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

    def _as_at_first(self) -> Json:
        return made_json(replace(self.made, status="COMPLETED", updated=self.made.created))


def _may_take(dispute: Dispute, left_minor: int) -> bool:
    return dispute.taken_minor == 0 and dispute.amount_minor <= left_minor


@given(st.data())
def test_money_that_may_be_gone_is_not_counted(data: st.DataObject) -> None:
    life = Life(data)
    for _ in range(data.draw(st.integers(0, MAX_THINGS), label="things")):
        life.befall()
    life.deliver()
    view = life.desk.view
    assert view.captured_minor - view.refunded_minor <= life.left_minor
