"""What every gateway's adapter does with a payment whose payer has to act.

Held against a real peer over a socket: see `tests.support.gateway_contract`.
"""

from dataclasses import replace

import pytest

from gateway_adapters.contract import CallResult, GatewayNotice
from gateway_adapters.errors import Code
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_contract import asked, needs, notices, payment, provoke, reference_of, settled
from tests.support.gateway_requests import follow_up, inquiry_about
from tests.support.gateway_under_test import GatewayUnderTest, Situation


def completion_of(
    request: GatewayCallRequested, reference: str | None, came_back: tuple[NamedText, ...]
) -> GatewayCallRequested:
    completion = follow_up(request, CallKind.COMPLETE, reference=reference, amount_minor=request.amount_minor)
    return replace(completion, details=CallDetails(return_parameters=came_back))


def waiting_for_payer(peer: GatewayUnderTest, kind: CallKind) -> GatewayCallRequested:
    needs(CallKind.COMPLETE in peer.gateway.capabilities.operations, "completion")
    needs(peer.completion_token is not None, "token that needs a completion")
    return payment(peer, kind, token=peer.completion_token or "")


async def test_void_cancels_what_waits_for_its_payer(peer: GatewayUnderTest) -> None:
    needs(peer.action_token is not None, "token that makes the payer act")
    request = payment(peer, token=peer.action_token or "")
    waiting = await peer.gateway.call(request)
    needs(reference_of(waiting) is not None, "name for what waits for its payer")
    void = follow_up(request, CallKind.VOID, reference=reference_of(waiting), amount_minor=10_000)
    assert (await settled(peer, void)).outcome is Outcome.SUCCEEDED
    told: list[GatewayNotice | CallResult] = list((await notices(peer, 1))[:1])
    if peer.gateway.capabilities.can_be_asked(request.currency, reference_known=True):
        told.append(await asked(peer, request, waiting))
    for word in told:
        assert word.outcome is Outcome.DECLINED
        assert word.error is not None
        assert word.error.code == Code.CANCELLED
    assert [kind for kind, _ in peer.effects(request)] == ["void"]


async def test_action_that_the_payer_does_not_take_in_time_is_a_refusal(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.ACTION_EXPIRED, request)
    assert (await peer.gateway.call(request)).outcome is Outcome.REQUIRES_ACTION
    (notice,) = await notices(peer, 1)
    assert notice.outcome is Outcome.DECLINED
    assert notice.error is not None
    assert notice.error.code == Code.ACTION_EXPIRED
    assert peer.effects(request) == []


async def test_payer_completes_the_action_and_the_webhook_tells(peer: GatewayUnderTest) -> None:
    needs(peer.action_token is not None, "token that makes the payer act")
    request = payment(peer, CallKind.SALE, token=peer.action_token or "")
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.REQUIRES_ACTION
    assert result.action_url
    assert peer.effects(request) == []
    await peer.complete_action(reference_of(result) or "")
    hook = (await peer.webhooks(1))[0]
    assert peer.gateway.parse_webhook(hook.headers, hook.body)[0].outcome is Outcome.SUCCEEDED
    assert peer.effects(request) == [("sale", 10_000)]


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE])
async def test_completion_goes_on_with_the_payment_once_its_payer_is_back(
    peer: GatewayUnderTest, kind: CallKind
) -> None:
    request = waiting_for_payer(peer, kind)
    waiting = await peer.gateway.call(request)
    reference = reference_of(waiting)
    assert (waiting.outcome, peer.effects(request)) == (Outcome.REQUIRES_ACTION, [])
    came_back = await peer.come_back(reference or "", agreed=True)
    assert peer.effects(request) == []
    completion = completion_of(request, reference, came_back)
    done = await peer.gateway.call(completion)
    assert done.outcome is Outcome.SUCCEEDED
    assert done.gateway_reference
    assert done.gateway_reference == (waiting.gateway_reference or done.gateway_reference)
    assert (done.confirmed_amount_minor, done.confirmed_currency) == (10_000, "USD")
    again = await peer.gateway.call(completion)
    assert again == replace(done, replayed=peer.marks_replays)
    assert peer.effects(request) == [(kind.value, 10_000)]
    can = peer.gateway.capabilities
    if can.can_be_asked(request.currency, reference_known=True):
        inquiry = inquiry_about(completion, own_reference=reference)
        assert (await peer.gateway.call(inquiry)).outcome is Outcome.SUCCEEDED


async def test_completion_is_a_decline_when_the_payer_came_back_without_agreeing(peer: GatewayUnderTest) -> None:
    request = waiting_for_payer(peer, CallKind.SALE)
    waiting = await peer.gateway.call(request)
    came_back = await peer.come_back(reference_of(waiting) or "", agreed=False)
    refused = await peer.gateway.call(completion_of(request, reference_of(waiting), came_back))
    assert refused.outcome is Outcome.DECLINED
    assert refused.error is not None
    assert peer.effects(request) == []


async def test_completion_decides_nothing_when_what_came_back_is_not_the_payers(peer: GatewayUnderTest) -> None:
    request = waiting_for_payer(peer, CallKind.SALE)
    waiting = await peer.gateway.call(request)
    came_back = await peer.come_back(reference_of(waiting) or "", agreed=True)
    forged = tuple(replace(entry, value="forged") for entry in came_back)
    result = await peer.gateway.call(completion_of(request, reference_of(waiting), forged))
    assert result.outcome is Outcome.NOT_EXECUTED
    assert peer.effects(request) == []
