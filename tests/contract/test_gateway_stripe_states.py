"""Stripe's adapter through states that the shared suite does not ask for, at the simulator of ours."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from pydantic import SecretStr

from gateway_adapters.contract import CallResult, GatewayNotice
from gateway_adapters.errors import Code
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.stripe.client import REFUNDS_A_PAGE, StripeGateway
from gateway_adapters.stripe.spec import StripeAccount
from schemas.identifiers import gateway_key
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.simulators.stripe import API_KEY, StripeSimulator, running
from tests.simulators.stripe_events import SECRET
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request
from tests.support.gateway_under_test import Situation
from tests.support.mock_gateway_process import WebhookReceiver, until

QUICK = TransportLimits(connect_timeout_s=0.5, read_timeout_s=0.4, total_timeout_s=2.0)
RETURN = CallDetails(return_url="https://shop.example/back")


@dataclass
class Scene:
    """A simulator that tells all, the adapter, and what was told."""

    simulator: StripeSimulator
    gateway: StripeGateway
    receiver: WebhookReceiver

    async def done(self, request: GatewayCallRequested) -> CallResult:
        result = await self.gateway.call(request)
        assert result.outcome is Outcome.SUCCEEDED, result
        return result

    async def told(self, count: int) -> list[GatewayNotice]:
        await until(lambda: len(self.receiver.delivered) >= count, f"{count} events")
        for hook in self.receiver.delivered:
            now_ms = time.time_ns() // 1_000_000
            await self.gateway.verify_webhook(hook.headers, hook.body, now_ms=now_ms, certificates=NO_CERTIFICATES)
        return [
            notice for hook in self.receiver.delivered for notice in self.gateway.parse_webhook(hook.headers, hook.body)
        ]


@asynccontextmanager
async def scene(*, multicapture: bool = True) -> AsyncIterator[Scene]:
    async with WebhookReceiver() as receiver, running(hook_url=receiver.url, announces=True) as simulator:
        account = StripeAccount(
            api_key=SecretStr(API_KEY),
            url=simulator.url,
            webhook_secret=SecretStr(f"whsec_next,{SECRET}"),
            multicapture=multicapture,
        )
        gateway = StripeGateway(account, QUICK)
        try:
            yield Scene(simulator, gateway, receiver)
        finally:
            await gateway.close()


def hold(token: str = "pm_card_visa") -> GatewayCallRequested:
    return replace(payment_request(fresh_order(), token=token), details=RETURN)


async def test_events_of_a_payment_say_what_its_answers_said() -> None:
    """A real endpoint is told of everything: each event is a copy of an answer's word, or about something else."""
    async with scene() as at:
        request = hold()
        opened = await at.done(request)
        steps = [
            follow_up(request, CallKind.CAPTURE, reference=opened.gateway_reference, amount_minor=4_000),
            follow_up(request, CallKind.CAPTURE, reference=opened.gateway_reference, amount_minor=6_000),
            follow_up(request, CallKind.REFUND, reference=opened.gateway_reference, amount_minor=2_500),
        ]
        answers = [opened, *[await at.done(step) for step in steps]]
        notices = await at.told(len(answers))
    said = {(each.op_id, each.outcome, each.confirmed_amount_minor, each.gateway_reference) for each in notices}
    assert said == {
        (call.op_id, answer.outcome, answer.confirmed_amount_minor, answer.gateway_reference)
        for call, answer in zip([request, *steps], answers, strict=True)
    }
    assert {each.payment_reference for each in notices} == {opened.gateway_reference}


async def test_void_is_told_as_a_void_of_its_payment() -> None:
    async with scene() as at:
        request = hold()
        opened = await at.done(request)
        void = follow_up(request, CallKind.VOID, reference=opened.gateway_reference, amount_minor=10_000)
        released = await at.done(void)
        _, notice = await at.told(3)  # the third is of the refund by which Stripe lets go: it gives nothing back
        assert (notice.kind, notice.outcome, notice.op_id) == (CallKind.VOID, Outcome.SUCCEEDED, None)
        assert notice.gateway_reference == released.gateway_reference == opened.gateway_reference
        found = await at.gateway.call(inquiry_about(void))
        assert (found.outcome, found.occurred_at_ms) == (Outcome.SUCCEEDED, released.occurred_at_ms)
        # The hold had been there: that it was let go is no refusal of it.
        assert (await at.gateway.call(inquiry_about(request))).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE])
async def test_completion_tells_how_the_payment_stands_before_and_after_its_payer_agreed(kind: CallKind) -> None:
    async with scene() as at:
        request = replace(hold("pm_card_authenticationRequired"), kind=kind)
        waiting = await at.gateway.call(request)
        assert waiting.outcome is Outcome.REQUIRES_ACTION
        assert waiting.action_url
        reference = waiting.gateway_reference
        completion = follow_up(request, CallKind.COMPLETE, reference=reference, amount_minor=10_000)
        still = await at.gateway.call(completion)
        assert (still.outcome, still.action_url) == (Outcome.REQUIRES_ACTION, waiting.action_url)
        await at.simulator.payer_agrees(reference or "")
        done = await at.gateway.call(completion)
        assert (done.outcome, done.gateway_reference) == (Outcome.SUCCEEDED, reference)
        assert (done.confirmed_amount_minor, done.confirmed_currency) == (10_000, "USD")
        assert (await at.gateway.call(inquiry_about(completion, own_reference=reference))).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("situation", [Situation.TIMEOUT_AFTER, Situation.RESET_AFTER, Situation.SERVER_ERROR_AFTER])
@pytest.mark.parametrize("kind", [CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND])
async def test_inquiry_finds_what_a_lost_answer_did_to_a_payment(kind: CallKind, situation: Situation) -> None:
    async with scene() as at:
        request = replace(hold(), kind=CallKind.SALE if kind is CallKind.REFUND else CallKind.AUTHORIZE)
        reference = (await at.done(request)).gateway_reference
        step = follow_up(request, kind, reference=reference, amount_minor=4_000)
        before = await at.gateway.call(inquiry_about(step))
        assert before.outcome is Outcome.NOT_EXECUTED  # the payment, and the list of its refunds, show it as it is
        assert before.error is not None
        assert before.error.code == Code.NOT_FOUND_AT_GATEWAY
        at.simulator.provoke(situation, step.order_id, kind.value)
        assert (await at.gateway.call(step)).outcome is Outcome.UNKNOWN
        found = await at.done(inquiry_about(step))
        if kind is not CallKind.VOID:
            assert found.confirmed_amount_minor == 4_000


async def test_inquiry_finds_a_refund_behind_a_page_of_others() -> None:
    async with scene() as at:
        request = replace(hold(), kind=CallKind.SALE)
        reference = (await at.done(request)).gateway_reference or ""
        refund = follow_up(request, CallKind.REFUND, reference=reference, amount_minor=500)
        made = await at.done(refund)
        payment = at.simulator.bank.payments[reference]
        for _ in range(REFUNDS_A_PAGE):
            at.simulator.bank.refund(payment, 1, {})
        found = await at.done(inquiry_about(refund))
        assert found.gateway_reference == made.gateway_reference
        by_reference = await at.done(inquiry_about(refund, own_reference=made.gateway_reference))
        assert by_reference == found
        missing = follow_up(request, CallKind.REFUND, reference=reference, amount_minor=1)
        assert (await at.gateway.call(inquiry_about(missing))).outcome is Outcome.NOT_EXECUTED


async def test_inquiry_tells_attempts_of_one_operation_apart() -> None:
    async with scene() as at:
        first = hold("pm_card_chargeDeclined")
        assert (await at.gateway.call(first)).outcome is Outcome.DECLINED
        second = replace(first, attempt=2, gateway_key=gateway_key(first.op_id, 2), token="pm_card_visa")
        opened = await at.done(second)
        assert (await at.gateway.call(inquiry_about(first))).outcome is Outcome.DECLINED
        assert (await at.done(inquiry_about(second))).gateway_reference == opened.gateway_reference


async def test_search_that_stripe_does_not_offer_leaves_the_call_to_be_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Merchants in India have no search: the same call with its key is the question then."""
    async with scene() as at:
        monkeypatch.setattr("gateway_adapters.stripe.requests.search", lambda _: "status:'unsearchable'")
        result = await at.gateway.call(inquiry_about(hold()))
    assert result.outcome is Outcome.UNKNOWN
    assert result.error is not None
    assert result.error.retry is RetryAdvice.SAME_KEY_NOW


async def test_capture_lets_the_rest_go_where_the_account_has_no_multicapture() -> None:
    async with scene(multicapture=False) as at:
        assert not at.gateway.capabilities.multiple_capture
        request = hold()
        reference = (await at.done(request)).gateway_reference
        await at.done(follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=4_000, final=True))
        assert at.simulator.bank.payments[reference or ""]["status"] == "succeeded"


async def test_amount_that_stripe_has_no_number_for_is_not_sent_and_may_go_elsewhere() -> None:
    async with scene() as at:
        opening = replace(hold(), currency="KWD", amount_minor=1_234)
        step = follow_up(opening, CallKind.CAPTURE, reference="pi_1", amount_minor=1_234)
        for request in (opening, step, replace(step, kind=CallKind.REFUND)):
            result = await at.gateway.call(request)
            assert result.outcome is Outcome.NOT_EXECUTED
            assert result.error is not None
            assert (result.error.code, result.error.retry) == (Code.UNSUPPORTED, RetryAdvice.OTHER_GATEWAY)
        assert at.simulator.requests == []


@pytest.mark.parametrize(
    ("case_type", "said", "told"),
    [
        (
            "resolution",
            ("created", "funds_withdrawn", "prevented"),
            [Outcome.DISPUTE_OPENED, Outcome.REVERSED, Outcome.DISPUTE_LOST],
        ),
        ("block", ("created", "prevented"), [Outcome.DISPUTE_OPENED, Outcome.DISPUTE_WON]),
    ],
)
async def test_prevented_dispute_takes_the_money_that_was_withdrawn_and_no_other(
    case_type: str, said: tuple[str, ...], told: list[Outcome]
) -> None:
    async with scene() as at:
        request = replace(hold(), kind=CallKind.SALE)
        opened = await at.done(request)
        assert opened.gateway_reference is not None
        await at.told(1)
        payment = at.simulator.bank.payments[opened.gateway_reference]
        await at.simulator.events.disputes(payment, said, case_type=case_type)
        notices = (await at.told(1 + len(said)))[1:]
    assert [each.outcome for each in notices] == told
    assert len({each.case_reference for each in notices}) == 1
    assert {each.confirmed_amount_minor for each in notices} == {10_000}
