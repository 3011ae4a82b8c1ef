"""The simulators as processes: what they are told they keep, and what they tell they repeat until somebody takes it.

Spoken to by the real adapters. The fault run with four gateways relies on this (`tests/faults/peers.py`).
"""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_adapters.contract import CallResult, Gateway
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_requests import follow_up, fresh_order, payment_request
from tests.support.gateway_under_test import Situation
from tests.support.mock_gateway_process import WebhookReceiver, until
from tests.support.simulator_process import SimulatorProcess, simulator

NAMES = ("stripe", "adyen", "paypal")
WHOSE = ("originA", "order-of-the-test")

pytestmark = pytest.mark.slow

by_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", params=NAMES)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """Return a simulator that tells nobody; one for all tests of a name."""
    running = SimulatorProcess(name=request.param, folder=tmp_path_factory.mktemp(request.param))
    running.run()
    yield running
    running.end()


@asynccontextmanager
async def adapter_of(process: SimulatorProcess) -> AsyncIterator[Gateway]:
    gateway = process.gateway()
    try:
        yield gateway
    finally:
        await gateway.close()


def sale(process: SimulatorProcess, kind: CallKind = CallKind.SALE) -> GatewayCallRequested:
    return process.fit(payment_request(fresh_order(), kind, gateway=process.name))


def refund_of(call: GatewayCallRequested, result: CallResult) -> GatewayCallRequested:
    taken = result.gateway_reference
    reference = result.payment_reference
    return follow_up(call, CallKind.REFUND, reference=reference, amount_minor=4_000, capture_reference=taken)


def effects(process: SimulatorProcess, call: GatewayCallRequested) -> list[tuple[str, int, str, str]]:
    """Return what happened to the payment that the call has opened: kind, amount, operation, token."""
    entries = process.book.entries({call.op_id: WHOSE})
    ours = [each for each in entries if (each.origin_id, each.order_id) == WHOSE]
    return [(each.kind, each.amount_minor, each.op_id, each.token) for each in ours]


async def test_what_was_answered_is_there_after_kill_9_and_goes_on(process: SimulatorProcess) -> None:
    async with adapter_of(process) as gateway:
        call = sale(process)
        first = await gateway.call(call)
        assert first.outcome is Outcome.SUCCEEDED, first
        process.kill()
        await process.start()
        again = await gateway.call(replace(call, call_number=2))
        assert (again.outcome, again.gateway_reference) == (Outcome.SUCCEEDED, first.gateway_reference)
        refund = refund_of(call, again)
        assert (await gateway.call(refund)).outcome in {Outcome.SUCCEEDED, Outcome.PENDING}
        assert effects(process, call) == [
            ("sale", 10_000, call.op_id, call.token),
            ("refund", 4_000, refund.op_id, call.token),
        ]
        assert process.book.faults() == []


async def test_hold_is_captured_in_parts_and_another_is_voided_each_effect_under_its_operation(
    process: SimulatorProcess,
) -> None:
    async with adapter_of(process) as gateway:
        call = sale(process, CallKind.AUTHORIZE)
        held = await gateway.call(call)
        # PayPal's captures name the authorization, which is what its answer calls its own.
        reference = held.gateway_reference
        parts = [follow_up(call, CallKind.CAPTURE, reference=reference, amount_minor=part) for part in (3_000, 7_000)]
        for part in parts:
            assert (await gateway.call(part)).outcome in {Outcome.SUCCEEDED, Outcome.PENDING}
        assert effects(process, call) == [
            ("authorize", 10_000, call.op_id, call.token),
            *(("capture", part.amount_minor, part.op_id, call.token) for part in parts),
        ]
        if process.name == "adyen":  # whose outcomes come later alone
            stands = process.book.stands()
            assert [stands[part.op_id].counted_minor for part in parts] == [3_000, 7_000]
        other = sale(process, CallKind.AUTHORIZE)
        held = await gateway.call(other)
        void = follow_up(other, CallKind.VOID, reference=held.gateway_reference, amount_minor=10_000)
        assert (await gateway.call(void)).outcome in {Outcome.SUCCEEDED, Outcome.PENDING}
        assert effects(process, other)[1:] == [("void", 10_000, void.op_id, other.token)]


@pytest.mark.parametrize("situation", [Situation.RESET_AFTER, Situation.CUT_AFTER, Situation.SERVER_ERROR_AFTER])
async def test_lost_answer_is_an_effect_that_the_same_call_finds(
    process: SimulatorProcess, situation: Situation
) -> None:
    async with adapter_of(process) as gateway:
        call = sale(process)
        await process.tell("POST", "/rules", {"situation": situation, "probability": 1.0, "seed": 1})
        assert (await gateway.call(call)).outcome is Outcome.UNKNOWN
        await process.tell("DELETE", "")
        assert (await gateway.call(replace(call, call_number=2))).outcome is Outcome.SUCCEEDED
        assert effects(process, call) == [("sale", 10_000, call.op_id, call.token)]


@pytest.mark.parametrize("situation", [Situation.RESET_BEFORE, Situation.RATE_LIMITED, Situation.UNAUTHORIZED])
async def test_call_that_never_arrived_has_no_effect_before_it_is_made_again(
    process: SimulatorProcess, situation: Situation
) -> None:
    async with adapter_of(process) as gateway:
        call = sale(process)
        await process.tell("POST", "/rules", {"situation": situation, "probability": 1.0, "seed": 1})
        assert (await gateway.call(call)).outcome in {Outcome.UNKNOWN, Outcome.NOT_EXECUTED}
        assert effects(process, call) == []
        await process.tell("DELETE", "")
        assert (await gateway.call(call)).outcome is Outcome.SUCCEEDED


TAKEN_BACK: Mapping[str, tuple[Situation, list[tuple[str, str | None]]]] = {
    "stripe": (Situation.CHARGEBACK_WON, [("reversal", "sale"), ("restoral", "sale")]),
    "adyen": (Situation.LATE_FAILURE, [("reversal", "sale")]),
    "paypal": (Situation.LATE_FAILURE, [("refund", None), ("reversal", "refund")]),
}
"""What each vendor takes back in its own way: of a sale, or of the refund that follows."""


async def test_what_is_taken_back_stands_under_the_operation_that_had_done_it(process: SimulatorProcess) -> None:
    situation, taken_back = TAKEN_BACK[process.name]
    async with adapter_of(process) as gateway:
        await process.tell("POST", "/rules", {"situation": situation, "probability": 1.0, "seed": 1})
        call = sale(process)
        result = await gateway.call(call)
        assert result.outcome is Outcome.SUCCEEDED
        about = call
        if process.name == "paypal":
            about = refund_of(call, result)
            assert (await gateway.call(about)).outcome is Outcome.SUCCEEDED
        await process.tell("DELETE", "")
    entries = process.book.entries({call.op_id: WHOSE})[-len(taken_back) - 1 :]
    assert [(each.kind, each.reversed_kind) for each in entries] == [("sale", None), *taken_back]
    assert {each.op_id for each in entries[1:]} == {about.op_id}
    assert [each.is_effect for each in entries] == [each.reversed_kind is None for each in entries]


@by_name
async def test_webhook_comes_again_until_it_is_taken_also_after_kill_9_and_is_authentic(
    name: str, tmp_path: Path
) -> None:
    async with (
        WebhookReceiver(refusals=2) as receiver,
        simulator(name, tmp_path, webhook_url=receiver.url) as process,
        adapter_of(process) as gateway,
    ):
        await process.tell("POST", "/post", {"delay_s": [0.3, 0.3], "twice": 1.0})
        call = sale(process)
        assert (await gateway.call(call)).outcome is Outcome.SUCCEEDED
        process.kill()
        assert process.book.owed() == 2
        await process.start()
        await until(lambda: len(receiver.delivered) == 2, "the webhook, twice")
        for told in receiver.delivered:
            now_ms, certificates = time.time_ns() // 1_000_000, process.certificates()
            await gateway.verify_webhook(told.headers, told.body, now_ms=now_ms, certificates=certificates)
        first, second = (gateway.parse_webhook(told.headers, told.body) for told in receiver.delivered)
        assert first == second
        assert [(each.op_id, each.outcome, each.confirmed_amount_minor) for each in first] == [
            (call.op_id, Outcome.SUCCEEDED, 10_000)
        ]
        await until(lambda: process.book.owed() == 0, "an empty outbox")

        # What waits is told later, and has its effect once.
        situation = Situation.PENDING_THEN_SUCCEEDED
        await process.tell("POST", "/rules", {"situation": situation, "probability": 1.0, "seed": 1})
        waiting = sale(process)
        assert (await gateway.call(waiting)).outcome is Outcome.PENDING
        await until(lambda: len(receiver.delivered) > 2, "the webhook")
        (notice,) = gateway.parse_webhook(receiver.delivered[-1].headers, receiver.delivered[-1].body)
        assert (notice.op_id, notice.outcome) == (waiting.op_id, Outcome.SUCCEEDED)
        assert effects(process, waiting) == [("sale", 10_000, waiting.op_id, waiting.token)]
