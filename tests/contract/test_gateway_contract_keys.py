"""What a key means to every gateway's adapter: the same request again has its effect once.

Held against a real peer over a socket: see `tests.support.gateway_contract`.
"""

import asyncio
from dataclasses import replace

from gateway_adapters.errors import Code
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.support.gateway_contract import payment, provoke, running
from tests.support.gateway_requests import inquiry_about
from tests.support.gateway_under_test import GatewayUnderTest, Situation


async def test_same_request_again_gives_the_same_answer_and_one_effect(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    first = await peer.gateway.call(request)
    again = await peer.gateway.call(replace(request, call_number=2, requested_at_ms=2_000))
    assert again == replace(first, replayed=peer.marks_replays)
    assert peer.effects(request) == [("sale", 10_000)]


async def test_declined_request_again_is_declined_again(peer: GatewayUnderTest) -> None:
    token = next(iter(peer.decline_tokens.values()))
    request = payment(peer, token=token)
    first = await peer.gateway.call(request)
    again = await peer.gateway.call(request)
    assert again == replace(first, replayed=again.replayed)  # not every gateway that marks replays marks these
    assert again.outcome is Outcome.DECLINED


async def test_same_key_with_another_amount_is_refused_and_left_in_doubt(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await peer.gateway.call(request)
    result = await peer.gateway.call(replace(request, amount_minor=10_001))
    if peer.compares_bodies:
        assert result.outcome is Outcome.UNKNOWN  # the key stands for something that was executed
        assert result.error is not None
        assert result.error.code == Code.GATEWAY_KEY_MISMATCH
    else:  # what was executed is told: the engine sees that it is not what it asked for
        assert (result.outcome, result.confirmed_amount_minor) == (Outcome.SUCCEEDED, 10_000)
    assert peer.effects(request) == [("sale", 10_000)]


async def test_twenty_equal_requests_at_once_have_one_effect(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    results = await asyncio.gather(*(peer.gateway.call(request) for _ in range(20)))
    assert {result.outcome for result in results} <= {Outcome.SUCCEEDED, Outcome.UNKNOWN}
    assert any(result.outcome is Outcome.SUCCEEDED for result in results)
    assert peer.effects(request) == [("sale", 10_000)]


async def test_same_key_is_in_progress_while_the_first_call_is_under_way(peer: GatewayUnderTest) -> None:
    request = payment(peer, CallKind.SALE)
    await provoke(peer, Situation.SLOW, request)
    if not peer.gateway.capabilities.not_found_is_proof:  # whether the first has arrived cannot be asked
        results = await asyncio.gather(peer.gateway.call(request), peer.gateway.call(request))
        told = {(each.outcome, None if each.error is None else each.error.code) for each in results}
        assert told == {(Outcome.SUCCEEDED, None), (Outcome.UNKNOWN, Code.CALL_IN_PROGRESS)}
        assert peer.effects(request) == [("sale", 10_000)]
        return
    async with running(peer.gateway.call(request)) as first:
        inquired = await peer.gateway.call(inquiry_about(request))
        while inquired.error is None or inquired.error.code != Code.CALL_IN_PROGRESS:  # the first has not arrived yet
            assert inquired.outcome is Outcome.NOT_EXECUTED
            inquired = await peer.gateway.call(inquiry_about(request))
        second = await peer.gateway.call(request)
        assert (second.outcome, inquired.outcome) == (Outcome.UNKNOWN, Outcome.UNKNOWN)
        assert second.error is not None
        assert (second.error.code, second.error.retry) == (Code.CALL_IN_PROGRESS, RetryAdvice.SAME_KEY_NOW)
        assert (await first).outcome is Outcome.SUCCEEDED
    assert peer.effects(request) == [("sale", 10_000)]
