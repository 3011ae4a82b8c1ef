"""What the gateway contract suite shares: its payments, how a call is settled and asked about, and what is skipped.

Called by `tests/contract/test_gateway_contract_*.py`, whose fixtures stand in that folder's `conftest`. The suites are
the same for all gateways; what differs stands in each `GatewayUnderTest`: its capabilities say what can be asked for,
`cannot` what its peer cannot be made to do.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway_adapters.contract import CallResult, GatewayNotice
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_requests import fresh_order, inquiry_about, payment_request
from tests.support.gateway_under_test import GatewayUnderTest, Situation


async def provoke(peer: GatewayUnderTest, situation: Situation, request: GatewayCallRequested) -> None:
    if situation in peer.cannot:  # with the peer's own reason
        pytest.skip(f"{peer.gateway.name}: {peer.cannot[situation]}")
    await peer.provoke(situation, request)


@asynccontextmanager
async def running(call: Coroutine[None, None, CallResult]) -> AsyncIterator[asyncio.Task[CallResult]]:
    task = asyncio.create_task(call)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def needs(holds: bool, what: str) -> None:
    if not holds:
        pytest.skip(f"the gateway has no {what}")


def payment(
    peer: GatewayUnderTest,
    kind: CallKind = CallKind.AUTHORIZE,
    *,
    token: str | None = None,
) -> GatewayCallRequested:
    """Return a payment of 100.00 USD for an order that nobody has used, with what this gateway needs besides."""
    request = payment_request(fresh_order(), kind, token=token or peer.token)
    return replace(request, details=peer.details, gateway=peer.gateway.name)


async def asked(peer: GatewayUnderTest, call: GatewayCallRequested, known: CallResult | None = None) -> CallResult:
    """Return what the gateway says became of the call, by the first way of asking that it has.

    By the key alone; by its own reference, if `known` gives one; else by the same call again, which has its key.
    """
    can = peer.gateway.capabilities
    reference = None if known is None or not can.inquire_by_reference else known.gateway_reference
    if can.can_be_asked(call.currency, reference_known=reference is not None):
        return await peer.gateway.call(inquiry_about(call, own_reference=None if can.inquire_by_key else reference))
    return await peer.gateway.call(replace(call, call_number=call.call_number + 1))


async def settled(peer: GatewayUnderTest, call: GatewayCallRequested) -> CallResult:
    """Make the call, and return what it came to; where its kind is only received, what the notice about it tells."""
    result = await peer.gateway.call(call)
    if call.kind not in peer.tells_later or result.outcome is not Outcome.PENDING:
        return result
    for hooks in itertools.count(1):  # bounded by the peer's own time-out
        for notice in await notices(peer, hooks):
            if notice.op_id == call.op_id and notice.outcome is not Outcome.PENDING:
                return replace(
                    result,
                    outcome=notice.outcome,
                    gateway_reference=notice.gateway_reference or result.gateway_reference,
                    confirmed_amount_minor=notice.confirmed_amount_minor,
                    confirmed_currency=notice.confirmed_currency,
                    error=notice.error,
                )
    raise AssertionError


def refusals_of(peer: GatewayUnderTest, kind: CallKind) -> frozenset[Outcome]:
    """Return how such a call is refused: at once, or by the notice that brings its verdict."""
    return frozenset({Outcome.NOT_EXECUTED, *({Outcome.DECLINED} if kind in peer.tells_later else ())})


def reference_of(opened: CallResult) -> str | None:
    """Return the gateway's id that captures and voids of the payment name."""
    return opened.gateway_reference or opened.payment_reference


async def notices(peer: GatewayUnderTest, hooks: int) -> list[GatewayNotice]:
    """Return what the first so many webhooks say, in the order in which they came, once they have."""
    return [
        notice
        for hook in (await peer.webhooks(hooks))[:hooks]
        for notice in peer.gateway.parse_webhook(hook.headers, hook.body)
    ]
