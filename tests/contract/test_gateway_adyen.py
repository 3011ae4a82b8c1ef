"""What the shared suite cannot ask of Adyen's adapter: other accounts, its whole noise of notices, its simulator."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from gateway_adapters.adyen.client import AdyenGateway
from gateway_adapters.adyen.references import reference_of
from gateway_adapters.adyen.spec import SPEC
from gateway_adapters.contract import Gateway, GatewayNotice
from gateway_adapters.errors import Code, InvariantViolatedError
from gateway_adapters.notices import split
from schemas.identifiers import GatewayRoute
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested, WebhookReceived
from schemas.vocabulary import CallKind, Outcome
from tests.simulators.adyen import API_KEY, AdyenSimulator
from tests.simulators.adyen_post import HMAC_KEY, AdyenPost, body_of, of_others, signed
from tests.support.adyen_gateway_under_test import account_of, limits
from tests.support.gateway_requests import follow_up, fresh_order, payment_request
from tests.support.gateway_under_test import Situation
from tests.support.ingress_under_test import running_ingress
from tests.support.mock_gateway_process import WebhookReceiver, until

SHOPPER = CallDetails(payer_reference="shopper-17")


def payment(kind: CallKind = CallKind.SALE, token: str = "8415") -> GatewayCallRequested:
    return replace(payment_request(fresh_order(), kind, token=token, gateway="adyen"), details=SHOPPER)


@asynccontextmanager
async def opened(**account: object) -> AsyncIterator[tuple[Gateway, AdyenSimulator, WebhookReceiver]]:
    """An adapter at a simulator that tells of everything, as Adyen does."""
    several = bool(account.get("multiple_captures"))
    async with WebhookReceiver() as receiver:
        post = AdyenPost(target=receiver.url)
        async with AdyenSimulator(post=post, multiple_captures=several, tells_what_it_answered=True) as simulator:
            gateway = AdyenGateway(account_of(simulator, **account), limits())
            try:
                yield gateway, simulator, receiver
            finally:
                await gateway.close()


async def told(gateway: Gateway, receiver: WebhookReceiver, count: int) -> list[GatewayNotice]:
    await until(lambda: len(receiver.delivered) >= count, f"{count} webhooks")
    return [notice for hook in receiver.delivered for notice in gateway.parse_webhook(hook.headers, hook.body)]


async def test_account_with_multiple_captures_takes_a_hold_in_parts_and_releases_the_rest() -> None:
    async with opened(multiple_captures=True) as (gateway, simulator, receiver):
        assert gateway.capabilities.multiple_capture
        request = payment(CallKind.AUTHORIZE)
        reference = (await gateway.call(request)).gateway_reference
        for count, (kind, amount_minor) in enumerate(
            [(CallKind.CAPTURE, 4_000), (CallKind.CAPTURE, 1_000), (CallKind.VOID, 5_000), (CallKind.REFUND, 4_500)]
        ):
            step = follow_up(request, kind, reference=reference, amount_minor=amount_minor)
            assert (await gateway.call(step)).outcome is Outcome.PENDING
            last = (await told(gateway, receiver, count + 2))[-1]
            assert (last.outcome, last.op_id, last.confirmed_amount_minor) == (
                Outcome.SUCCEEDED,
                step.op_id,
                amount_minor,
            )
        assert simulator.effects(reference_of(request.op_id, request.kind)) == [
            ("authorize", 10_000),
            ("capture", 4_000),
            ("capture", 1_000),
            ("void", 5_000),
            ("refund", 4_500),
        ]


async def test_notice_repeats_what_the_answer_said() -> None:
    async with opened() as (gateway, _, receiver):
        for token, outcome in (("8415", Outcome.SUCCEEDED), ("declined_12", Outcome.DECLINED)):
            request = payment(token=token)
            result = await gateway.call(request)
            last = (await told(gateway, receiver, len(receiver.delivered) + 1))[-1]
            assert (result.outcome, last.outcome) == (outcome, outcome)
            assert (last.op_id, last.gateway_reference) == (request.op_id, result.gateway_reference)
            assert (result.error and result.error.code) == (last.error and last.error.code)


async def test_same_call_is_in_progress_while_the_first_is_under_way() -> None:
    async with opened() as (gateway, simulator, _):
        request = payment()
        simulator.provoke(Situation.SLOW, reference_of(request.op_id, request.kind))
        first = asyncio.create_task(gateway.call(request))
        await until(lambda: bool(simulator.requests), "the first call")
        second = await gateway.call(request)
        assert second.error is not None
        assert (second.outcome, second.error.code) == (Outcome.UNKNOWN, Code.CALL_IN_PROGRESS)
        assert (await first).outcome is Outcome.SUCCEEDED
        assert simulator.effects(reference_of(request.op_id, request.kind)) == [("sale", 10_000)]


async def test_payment_of_another_currency_is_counted_as_adyen_counts_it_on_both_sides() -> None:
    async with opened() as (gateway, simulator, receiver):
        request = replace(payment(), currency="ISK", amount_minor=500)
        result = await gateway.call(request)
        assert simulator.requests[0][1]["amount"] == {"currency": "ISK", "value": 50_000}
        (notice,) = await told(gateway, receiver, 1)
        for word in (result, notice):
            assert (word.confirmed_amount_minor, word.confirmed_currency) == (500, "ISK")


async def test_nothing_is_sent_that_adyen_could_make_nothing_of() -> None:
    async with opened() as (gateway, simulator, _):
        result = await gateway.call(replace(payment(), details=CallDetails(token_kind="tok_visa")))
        assert (result.outcome, result.error and result.error.code) == (Outcome.NOT_EXECUTED, Code.INVALID_REQUEST)
        assert (simulator.requests, simulator.complaints) == ([], [])


async def test_inquiry_says_that_nobody_can_be_asked_and_sends_nothing() -> None:
    async with opened() as (gateway, simulator, _):
        asked = replace(payment(), kind=CallKind.INQUIRE, inquired_kind=CallKind.SALE)
        for result in (await gateway.call(asked), await gateway.inquire(asked)):
            assert (result.outcome, result.error and result.error.code) == (Outcome.UNKNOWN, Code.UNSUPPORTED)
        assert simulator.requests == []


# A void of what Adyen has not named: by our reference, before and after the payer has acted


async def waiting(gateway: Gateway, kind: CallKind) -> tuple[GatewayCallRequested, GatewayCallRequested]:
    """Let a payment wait for its payer; return its request, and that of a void by our reference."""
    request = payment(kind, token="redirect")
    result = await gateway.call(request)
    assert (result.outcome, result.payment_reference) == (Outcome.REQUIRES_ACTION, None)
    return request, follow_up(request, CallKind.VOID, reference=None, amount_minor=10_000)


@pytest.mark.parametrize("calls_off", [True, False])
async def test_void_by_our_reference_of_what_waits_for_its_payer_gets_its_verdict(calls_off: bool) -> None:
    async with opened() as (gateway, simulator, receiver):
        simulator.bank.calls_off_what_waits = calls_off
        request, void = await waiting(gateway, CallKind.AUTHORIZE)
        result = await gateway.call(void)
        assert (result.outcome, result.payment_reference) == (Outcome.PENDING, None)
        (verdict,) = await told(gateway, receiver, 1)
        assert (verdict.op_id, verdict.kind, verdict.gateway_reference) == (
            void.op_id,
            CallKind.VOID,
            result.gateway_reference,
        )
        assert (verdict.outcome, verdict.payment_reference) == (
            Outcome.SUCCEEDED if calls_off else Outcome.DECLINED,
            None,
        )
        simulator.bank.settle_redirect()  # the payer acts all the same
        late = (await told(gateway, receiver, 2))[-1]
        assert (late.op_id, late.outcome) == (
            request.op_id,
            Outcome.DECLINED if calls_off else Outcome.SUCCEEDED,
        )
        effects = [] if calls_off else [("authorize", 10_000)]
        assert simulator.effects(reference_of(request.op_id, request.kind)) == effects
        if not calls_off:  # now Adyen has named it: what is held can be let go
            assert late.gateway_reference is not None
            again = follow_up(request, CallKind.VOID, reference=late.gateway_reference, amount_minor=10_000)
            assert (await gateway.call(again)).outcome is Outcome.PENDING
            last = (await told(gateway, receiver, 3))[-1]
            assert (last.op_id, last.outcome) == (again.op_id, Outcome.SUCCEEDED)
            assert simulator.effects(reference_of(request.op_id, request.kind))[-1] == ("void", 10_000)


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE])
async def test_void_by_our_reference_releases_what_is_held_and_never_what_was_captured(kind: CallKind) -> None:
    async with opened() as (gateway, simulator, receiver):
        request, void = await waiting(gateway, kind)
        simulator.bank.settle_redirect()
        (paid,) = await told(gateway, receiver, 1)
        await gateway.call(void)
        verdict = (await told(gateway, receiver, 2))[-1]
        held = kind is CallKind.AUTHORIZE
        assert (verdict.op_id, verdict.outcome) == (void.op_id, Outcome.SUCCEEDED if held else Outcome.DECLINED)
        assert verdict.payment_reference == paid.gateway_reference  # Adyen has found it
        assert ("void" in dict(simulator.effects(reference_of(request.op_id, kind)))) is held


async def test_void_by_our_reference_that_is_asked_for_again_is_made_once_also_when_adyen_has_named_the_payment() -> (
    None
):
    async with opened() as (gateway, simulator, receiver):
        request, void = await waiting(gateway, CallKind.AUTHORIZE)
        simulator.bank.settle_redirect()
        simulator.provoke(Situation.RESET_AFTER, reference_of(void.op_id, void.kind))
        assert (await gateway.call(void)).outcome is Outcome.UNKNOWN
        paid = (await told(gateway, receiver, 2))[0]
        again = await gateway.call(replace(void, payment_reference=paid.gateway_reference))
        assert (again.outcome, again.error) == (Outcome.PENDING, None)
        assert simulator.effects(reference_of(request.op_id, request.kind)) == [("authorize", 10_000), ("void", 10_000)]


async def test_void_that_names_no_payment_in_any_way_is_not_sent() -> None:
    async with opened() as (gateway, simulator, _):
        unnamed = replace(
            follow_up(payment(), CallKind.VOID, reference=None, amount_minor=1), opening_op_id=None, opening_kind=None
        )
        with pytest.raises(InvariantViolatedError):
            await gateway.call(unnamed)
        assert simulator.requests == []


# The simulator refuses what Adyen would: its canaries


async def posted(simulator: AdyenSimulator, path: str, body: object, **headers: str) -> tuple[int, str]:
    given = {"X-API-Key": API_KEY, "Idempotency-Key": "k", **headers}
    async with (
        aiohttp.ClientSession(headers=given) as session,
        session.post(simulator.url + path, json=body) as response,
    ):
        return response.status, (await response.json())["errorCode"]


GOOD = {
    "amount": {"currency": "EUR", "value": 1_000},
    "merchantAccount": "SimulatedMerchant",
    "reference": "op_1.sale",
    "returnUrl": "https://shop.example/back",
    "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415"},
    "shopperReference": "shopper-17",
}


@pytest.mark.parametrize(
    ("changes", "headers", "status"),
    [
        ({"amount": None}, {}, 422),
        ({"amount": {"currency": "EUR"}}, {}, 422),
        ({"amount": {"currency": "EUR", "value": "1000"}}, {}, 422),
        ({"returnUrl": None}, {}, 422),
        ({"reference": "x" * 81}, {}, 422),
        ({"shopperReference": None}, {}, 422),
        ({"shopperReference": "ab"}, {}, 422),
        ({"merchantAccount": "Another"}, {}, 403),
        ({}, {"X-API-Key": "another"}, 401),
        ({}, {"Idempotency-Key": "k" * 65}, 422),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
async def test_simulator_refuses_what_adyen_would(
    changes: dict[str, object], headers: dict[str, str], status: int
) -> None:
    async with opened() as (_, simulator, _):
        body = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
        assert (await posted(simulator, "/payments", body, **headers))[0] == status
        assert simulator.bank.effects("op_1.sale") == []


async def test_simulator_takes_the_request_that_the_others_spoil() -> None:
    async with opened() as (_, simulator, _):
        with pytest.raises(KeyError):  # there is no errorCode
            await posted(simulator, "/payments", GOOD)
        assert simulator.complaints == []


async def test_simulator_refuses_modifications_of_payments_that_it_does_not_have() -> None:
    async with opened() as (gateway, simulator, _):
        request = follow_up(payment(), CallKind.CAPTURE, reference="NOBODYS", amount_minor=1)
        result = await gateway.call(request)
        assert result.error is not None
        assert (result.outcome, result.error.gateway_code) == (Outcome.NOT_EXECUTED, "167")
        forged = replace(
            follow_up(payment(), CallKind.COMPLETE, reference=None, amount_minor=1),
            details=CallDetails(return_parameters=(NamedText(name="redirectResult", value="forged"),)),
        )
        assert (await gateway.call(forged)).outcome is Outcome.NOT_EXECUTED
        assert simulator.complaints == []


# Through the door


async def test_webhook_comes_through_the_door_and_is_acknowledged_in_adyens_words() -> None:
    async with AdyenSimulator() as simulator:
        gateway = SPEC.factory(account_of(simulator), limits())
        async with running_ingress(webhooks={GatewayRoute(SPEC.name): gateway}) as running:
            item = {
                **of_others()[0],
                "merchantReference": "op_1.sale",
                "pspReference": "PSP1",
                "additionalData": {},
            }
            good = body_of([signed(item), *of_others()])
            for body, status in ((good, 200), (good.replace(b"op_1.sale", b"op_2.sale"), 401), (b"{}", 401)):
                async with running.http.post("/webhooks/adyen", data=body) as response:
                    assert response.status == status
                    if status == 200:
                        assert await response.read() == b"[accepted]"
                        assert response.headers["Content-Type"].startswith("text/plain")
            (kept,) = [record for record, _ in running.engine.appended if isinstance(record, WebhookReceived)]
            assert (kept.gateway_reference, kept.origin_id, kept.body) == ("op_1", None, good)
            parts = split(SPEC.translator.parse_webhook({}, kept.body), SPEC.capabilities)
            assert parts.ignored == len(of_others())
        await gateway.close()


async def test_webhook_is_refused_by_an_account_without_a_secret_and_by_one_with_another() -> None:
    async with AdyenSimulator() as simulator:
        for secret, status in ((None, 401), ("6B" * 32, 401), (f"{'6B' * 32},{HMAC_KEY}", 200)):
            gateway = SPEC.factory(account_of(simulator, webhook_secret=secret), limits())
            async with (
                running_ingress(webhooks={GatewayRoute(SPEC.name): gateway}) as running,
                running.http.post("/webhooks/adyen", data=body_of(of_others())) as response,
            ):
                assert response.status == status
            await gateway.close()
