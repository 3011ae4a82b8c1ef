"""What every gateway's adapter takes from webhooks: whose they are, how often and in which order they come.

Held against a real peer over a socket: see `tests.support.gateway_contract`.
"""

import asyncio
import time
from functools import partial

import pytest

from gateway_adapters.contract import GatewayNotice
from gateway_adapters.errors import UnauthenticError, UntranslatableError
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_contract import asked, notices, payment, provoke, reference_of, running, settled
from tests.support.gateway_requests import follow_up
from tests.support.gateway_under_test import GatewayUnderTest, Situation


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("situation", "outcome", "effects"),
    [
        (Situation.PENDING_THEN_SUCCEEDED, Outcome.SUCCEEDED, [("sale", 10_000)]),
        (Situation.PENDING_THEN_FAILED, Outcome.DECLINED, []),
    ],
)
async def test_pending_call_gets_its_last_word_by_a_signed_webhook(
    peer: GatewayUnderTest, situation: Situation, outcome: Outcome, effects: list[tuple[str, int]]
) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, situation, request)
    result = await peer.gateway.call(request)
    assert result.outcome is Outcome.PENDING
    hook = (await peer.webhooks(1))[0]
    await peer.gateway.verify_webhook(hook.headers, hook.body, now_ms=now_ms(), certificates=peer.certificates)
    (notice,) = peer.gateway.parse_webhook(hook.headers, hook.body)
    assert notice.outcome is outcome
    assert notice.gateway == peer.gateway.name
    assert notice.kind in {CallKind.SALE, None}
    ours = (request.origin_id, request.order_id) if peer.names_orders else (None, None)
    assert (notice.origin_id, notice.order_id, notice.op_id) == (*ours, request.op_id)
    assert notice.gateway_reference == result.gateway_reference
    assert (notice.confirmed_amount_minor, notice.confirmed_currency) == (10_000, "USD")
    can = peer.gateway.capabilities
    if can.can_be_asked(request.currency, reference_known=True):  # the same call again brings its stored answer
        assert (await asked(peer, request, result)).outcome is outcome
    assert peer.effects(request) == effects


async def test_webhook_needs_no_header_that_its_gateway_does_not_name(peer: GatewayUnderTest) -> None:
    await provoke(peer, Situation.PENDING_THEN_SUCCEEDED, request := payment(peer, CallKind.SALE))
    await peer.gateway.call(request)
    hook = (await peer.webhooks(1))[0]
    named = {name: value for name, value in hook.headers.items() if name in peer.gateway.webhook_headers}
    await peer.gateway.verify_webhook(named, hook.body, now_ms=now_ms(), certificates=peer.certificates)
    assert peer.gateway.parse_webhook(named, hook.body) == peer.gateway.parse_webhook(hook.headers, hook.body)
    assert all(name == name.lower() for name in peer.gateway.webhook_headers)


async def test_notice_may_come_before_the_answer_of_its_call(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.EARLY_WEBHOOK, request)
    async with running(peer.gateway.call(request)) as call:
        (notice,) = await notices(peer, 1)
        result = await call
    assert (notice.outcome, notice.op_id) == (Outcome.SUCCEEDED, request.op_id)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.occurred_at_ms in {notice.occurred_at_ms, None}  # some answers name no time
    assert peer.effects(request) == [("sale", 10_000)]


async def test_notice_without_our_metadata_names_the_gateways_own_references(peer: GatewayUnderTest) -> None:
    request = payment(peer)
    reference = reference_of(await settled(peer, request))
    capture = follow_up(request, CallKind.CAPTURE, reference=reference, amount_minor=10_000)
    await provoke(peer, Situation.WEBHOOKS_BY_REFERENCE, capture)
    captured = await peer.gateway.call(capture)
    (notice,) = await notices(peer, 1)
    assert (notice.origin_id, notice.order_id, notice.op_id) == (None, None, None)
    assert (notice.gateway_reference, notice.payment_reference) == (captured.gateway_reference, reference)
    assert (notice.kind, notice.outcome) == (CallKind.CAPTURE, Outcome.SUCCEEDED)


async def test_one_body_speaks_of_several_orders_and_of_what_is_not_ours(peer: GatewayUnderTest) -> None:
    requests = [payment(peer, CallKind.SALE) for _ in range(2)]
    for request in requests:
        await provoke(peer, Situation.BATCHED_WEBHOOKS, request)
    await asyncio.gather(*(peer.gateway.call(request) for request in requests))
    ours = {request.op_id for request in requests}
    told: list[GatewayNotice] = []
    for hooks in (1, 2):  # they may have missed each other
        told = await notices(peer, hooks)
        if ours <= {notice.op_id for notice in told}:
            break
    assert {notice.op_id for notice in told} > ours
    assert {notice.outcome for notice in told if notice.op_id in ours} == {Outcome.SUCCEEDED}
    for hook in await peer.webhooks(1):
        await peer.gateway.verify_webhook(hook.headers, hook.body, now_ms=now_ms(), certificates=peer.certificates)


async def test_notice_delivered_twice_has_one_id(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.DUPLICATE_WEBHOOKS, request)
    await peer.gateway.call(request)
    hooks = await peer.webhooks(2)
    notices = [peer.gateway.parse_webhook(hook.headers, hook.body) for hook in hooks]
    assert notices[0] == notices[1]


async def test_notices_out_of_order_tell_their_own_time(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.OUT_OF_ORDER_WEBHOOKS, request)
    await peer.gateway.call(request)
    hooks = await peer.webhooks(2)
    first, second = (peer.gateway.parse_webhook(hook.headers, hook.body)[0] for hook in hooks)
    assert (first.outcome, second.outcome) == (Outcome.SUCCEEDED, Outcome.PENDING)
    assert first.occurred_at_ms > second.occurred_at_ms
    assert first.notice_id != second.notice_id


async def test_webhook_is_refused_when_tampered_old_or_unsigned(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.PENDING_THEN_SUCCEEDED, request)
    await peer.gateway.call(request)
    hook = (await peer.webhooks(1))[0]
    verify = partial(peer.gateway.verify_webhook, certificates=peer.certificates)
    tampered = peer.tampered(hook.body)
    assert tampered != hook.body
    with pytest.raises(UnauthenticError):
        await verify(hook.headers, tampered, now_ms=now_ms())
    with pytest.raises(UnauthenticError):
        await verify({}, peer.unsigned(hook.body), now_ms=now_ms())
    for away_ms in (-3_600_000, 3_600_000) if peer.signs_time else ():
        with pytest.raises(UnauthenticError):
            await verify(hook.headers, hook.body, now_ms=now_ms() + away_ms)
    await verify(hook.headers, hook.body, now_ms=now_ms())


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff\xfe", b'{"id": "evt_1", "created_ms": 1}', b"[" * 100_000])
async def test_webhook_that_cannot_be_read_is_untranslatable(peer: GatewayUnderTest, body: bytes) -> None:
    with pytest.raises(UntranslatableError):
        peer.gateway.parse_webhook({}, body)
