"""An order of the engine's whose gateway is PayPal: real calls over a socket, and all webhooks that are sent of them.

Webhooks of what the engine did itself say nothing new; what was done at PayPal's own desk, and what a bank takes back,
counts once.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from pydantic import SecretStr

from gateway_adapters.contract import completed
from gateway_adapters.notices import NOBODY, address_of
from gateway_adapters.paypal.client import PayPalGateway
from gateway_adapters.paypal.references import reference_of
from gateway_adapters.paypal.spec import CAPABILITIES, PayPalAccount
from gateway_adapters.paypal.translate import NAME
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayRoute, IdempotencyKey, OpId
from schemas.records.commands import Command, CompletionRequested
from schemas.records.gateway import CallDetails
from schemas.vocabulary import CallKind, OperationState, Overlay, PaymentStatus
from streams.domain.inputs import NoticeReceived
from streams.domain.limits import DEFAULT_RULES
from tests.simulators.paypal import CLIENT_ID, CLIENT_SECRET, PayPalSimulator
from tests.simulators.paypal_bank import APPROVES
from tests.simulators.paypal_objects import Order
from tests.support.gateway_under_test import Situation
from tests.support.mock_gateway_process import WebhookReceiver
from tests.support.order_desk import ORDER, ORIGIN, Desk, authorize, capture, plan, refund, sale, void
from tests.support.paypal_gateway_under_test import simulated
from tests.support.waiting import until
from tests.support.webhook_certificates import authority, certificate_for

ROOT = authority("Root of the test")
CERTIFICATE = certificate_for("messageverificationcerts.paypal.com", under=ROOT)
RULES = replace(
    DEFAULT_RULES,
    capabilities={GatewayRoute(NAME): CAPABILITIES},
    key_windows_ms={NAME: CAPABILITIES.key_window_ms},
)
WAIT_S = 5.0


@dataclass
class Play:
    simulator: PayPalSimulator
    gateway: PayPalGateway
    receiver: WebhookReceiver
    desk: Desk = field(default_factory=lambda: Desk(plan=plan(NAME), rules=RULES))
    heard: int = 0

    async def do(self, command: Command, *, token: str = "vault-1", situation: Situation | None = None) -> OpId:
        """Give the command, make the call that it leads to, and hear the webhooks that have come until then."""
        op_id = self.desk.send(command)
        self.desk.now_ms += 1_000
        if self.desk.claims:
            self.desk.grant()
        if situation is not None:
            kind = self.desk.requests[0].kind
            self.simulator.arm(situation, reference_of(kind, op_id))
        while self.desk.requests:
            request = replace(self.desk.requests.popleft(), details=CallDetails(return_url="https://shop.example"))
            opens = request.kind in {CallKind.AUTHORIZE, CallKind.SALE}
            result = await self.gateway.call(replace(request, token=token) if opens else request)
            self.desk.result(completed(request, result, completed_at_ms=self.desk.now_ms))
        self.hear()
        return op_id

    def hear(self, *, twice: bool = True) -> None:
        """Hear what PayPal has sent since, each of it twice."""
        for hook in self.receiver.delivered[self.heard :] * (1 + twice):
            for notice in self.gateway.parse_webhook(hook.headers, hook.body):
                assert address_of(notice, CAPABILITIES) != NOBODY
                self.desk.now_ms += 1
                taken = NoticeReceived(
                    notice=replace(notice, origin_id=ORIGIN, order_id=ORDER),
                    now_ms=self.desk.now_ms,
                    possible_replay=False,
                    account=DEFAULT_ACCOUNT,
                )
                self.desk.take(taken)
        self.heard = len(self.receiver.delivered)

    async def wait_for(self, webhooks: int) -> None:
        await until(lambda: len(self.receiver.delivered) >= webhooks, timeout_s=WAIT_S)
        self.hear()

    @property
    def order(self) -> Order:
        (order,) = self.simulator.bank.orders.values()
        return order

    def status(self) -> PaymentStatus:
        return self.desk.view.status

    def sums(self) -> tuple[int, int, int]:
        view = self.desk.view
        return view.authorized_minor, view.captured_minor, view.refunded_minor

    def is_settled(self) -> bool:
        return not self.desk.payment.review and not self.desk.payment.unclaimed


@asynccontextmanager
async def play() -> AsyncIterator[Play]:
    async with simulated(CERTIFICATE) as simulator, WebhookReceiver() as receiver:
        simulator.events.webhook_url, simulator.bank.tells_all = receiver.url, True
        gateway = PayPalGateway(
            PayPalAccount(url=simulator.url, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET))
        )
        try:
            yield Play(simulator, gateway, receiver)
        finally:
            await gateway.close()


async def test_webhooks_of_what_the_engine_did_itself_say_nothing_new() -> None:
    async with play() as here:
        await here.do(authorize(10_000))
        payment = here.desk.payment.payment_id
        await here.do(capture(payment, 4_000, key="c1"))
        await here.do(capture(payment, 5_000, key="c2"))
        await here.do(refund(payment, 3_000, key="r1"))
        await here.do(refund(payment, 2_000, key="r2"))
        assert here.heard == 5
        assert here.sums() == (10_000, 9_000, 5_000)
        assert here.order.effects == [
            ("authorize", 10_000),
            ("capture", 4_000),
            ("capture", 5_000),
            ("refund", 3_000),
            ("refund", 2_000),
        ]
        assert here.is_settled()
        assert here.desk.row is not None
        assert len(here.desk.row.operations) == 5


async def test_void_and_its_webhook_are_one() -> None:
    async with play() as here:
        await here.do(authorize(10_000))
        payment = here.desk.payment.payment_id
        await here.do(capture(payment, 4_000, key="c1"))
        step = await here.do(void(payment))
        assert here.heard == 3
        assert here.desk.state(step) is OperationState.SUCCEEDED
        assert here.order.effects[-1] == ("void", 6_000)
        assert here.is_settled()
        assert here.desk.row is not None
        assert len(here.desk.row.operations) == 3


async def test_sale_is_refunded_by_its_capture_and_at_paypals_own_desk() -> None:
    async with play() as here:
        await here.do(sale(10_000), situation=Situation.PARTIAL_DESK_REFUND)
        await here.wait_for(1)
        assert here.sums() == (10_000, 10_000, 3_000)
        await here.do(refund(here.desk.payment.payment_id, 7_000))
        assert here.sums() == (10_000, 10_000, 10_000)
        assert here.order.effects == [("sale", 10_000), ("refund", 3_000), ("refund", 7_000)]
        assert here.is_settled()


@pytest.mark.parametrize(
    ("situation", "webhooks", "captured"),
    [
        (Situation.PARTIAL_DISPUTE_LOST, 2, 7_000),
        (Situation.DISPUTE_WON, 2, 10_000),
        (Situation.PARTIAL_REVERSAL, 1, 7_000),
        (Situation.TWO_REVERSALS, 2, 5_000),
    ],
)
async def test_what_is_taken_back_counts_once(situation: Situation, webhooks: int, captured: int) -> None:
    async with play() as here:
        await here.do(sale(10_000), situation=situation)
        await here.wait_for(webhooks)
        assert here.sums()[1:] == (captured, 0)
        assert Overlay.DISPUTED not in here.desk.view.overlays
        assert here.is_settled()


@pytest.mark.parametrize("situation", [Situation.PARTIAL_CHARGEBACK_LOST, Situation.PARTIAL_CHARGEBACK_WON])
async def test_reversal_beside_a_dispute_that_has_ended_is_for_a_person_and_not_counted(situation: Situation) -> None:
    async with play() as here:
        await here.do(sale(10_000), situation=situation)
        await here.wait_for(3)
        lost = situation is Situation.PARTIAL_CHARGEBACK_LOST
        assert here.sums()[1:] == (4_000 if lost else 7_000, 0)
        assert here.desk.payment.review


async def test_refund_that_fails_late_counts_no_more() -> None:
    async with play() as here:
        await here.do(sale(10_000))
        refunded = await here.do(refund(here.desk.payment.payment_id, 4_000))
        assert here.sums() == (10_000, 10_000, 4_000)
        here.simulator.bank.fail_refund(here.desk.operation(refunded).gateway_reference or "")
        await here.wait_for(3)
        assert here.sums() == (10_000, 10_000, 0)
        assert here.desk.state(refunded) is OperationState.REVERSED
        assert here.is_settled()


async def test_dispute_that_is_open_lies_over_the_payment() -> None:
    async with play() as here:
        await here.do(authorize(10_000))
        await here.do(capture(here.desk.payment.payment_id), situation=Situation.DISPUTE_OPENED)
        await here.wait_for(2)
        assert here.sums() == (10_000, 10_000, 0)
        assert Overlay.DISPUTED in here.desk.view.overlays


@pytest.mark.parametrize(
    ("command", "status"), [(authorize(), PaymentStatus.AUTHORIZED), (sale(), PaymentStatus.CAPTURED)]
)
async def test_payment_that_its_payer_approves_goes_on(command: Command, status: PaymentStatus) -> None:
    async with play() as here:
        await here.do(command, token=APPROVES)
        assert here.status() is PaymentStatus.REQUIRES_ACTION
        here.simulator.bank.approve(here.order.id)
        await here.wait_for(1)
        assert here.status() is PaymentStatus.REQUIRES_ACTION
        step = CompletionRequested(
            origin_id=ORIGIN,
            order_id=ORDER,
            idempotency_key=IdempotencyKey("complete"),
            payment_id=here.desk.payment.payment_id,
        )
        op_id = await here.do(step)
        assert here.desk.state(op_id) is OperationState.SUCCEEDED
        assert here.status() is status
        assert here.desk.payment.order_reference == here.order.id
        assert here.is_settled()
        if status is PaymentStatus.AUTHORIZED:
            await here.do(capture(here.desk.payment.payment_id))
        await here.do(refund(here.desk.payment.payment_id))
        assert here.sums() == (10_000, 10_000, 10_000)


async def test_payment_that_its_payer_never_approved_is_cancelled_without_a_call() -> None:
    async with play() as here:
        await here.do(sale(), token=APPROVES)
        judged_before = here.simulator.judged
        step = await here.do(void(here.desk.payment.payment_id))
        assert here.desk.state(step) is OperationState.SUCCEEDED
        assert here.status() is PaymentStatus.FAILED
        assert here.simulator.judged == judged_before


async def test_hold_that_runs_out_is_over() -> None:
    async with play() as here:
        await here.do(authorize(10_000), situation=Situation.HOLD_EXPIRED)
        await here.wait_for(1)
        assert here.status() is PaymentStatus.EXPIRED
        assert here.is_settled()
