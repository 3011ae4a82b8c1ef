"""PayPal's adapter over a socket: its tokens, its completions, its voids, and what of them nobody may see."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import ALARMS, Code
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.paypal.access import RENEW_BEFORE_S
from gateway_adapters.paypal.client import PayPalGateway
from gateway_adapters.paypal.spec import PayPalAccount
from gateway_adapters.paypal.translate import NAME
from gateway_adapters.registry import build_gateways, specs_of
from schemas.identifiers import DEFAULT_ACCOUNT
from schemas.misconfigured import MisconfiguredError
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from tests.simulators.paypal import CLIENT_ID, CLIENT_SECRET, TOKEN_LIFE_S, PayPalSimulator
from tests.simulators.paypal_bank import APPROVES, NEEDS_PAYER
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request
from tests.support.gateway_under_test import Situation
from tests.support.paypal_gateway_under_test import simulated
from tests.support.webhook_certificates import authority, certificate_for

ROOT = authority("Root of the test")
CERTIFICATE = certificate_for("messageverificationcerts.paypal.com", under=ROOT)
BACK = CallDetails(return_url="https://shop.example/back")


@dataclass
class Scene:
    simulator: PayPalSimulator
    gateway: PayPalGateway
    now_s: float = 1_000.0

    async def opened(
        self, kind: CallKind = CallKind.AUTHORIZE, **changes: object
    ) -> tuple[GatewayCallRequested, CallResult]:
        request = replace(payment_request(fresh_order(), kind, gateway="paypal"), **changes)  # type: ignore[arg-type]
        return request, await self.gateway.call(request)


@asynccontextmanager
async def scene(*, secret: str = CLIENT_SECRET, path: str = "") -> AsyncIterator[Scene]:
    async with simulated(CERTIFICATE) as simulator:
        made = Scene(simulator, gateway=None)  # type: ignore[arg-type]  # it needs the clock of the scene
        account = PayPalAccount(url=simulator.url + path, client_id=CLIENT_ID, client_secret=SecretStr(secret))
        limits = TransportLimits(connect_timeout_s=5.0, read_timeout_s=10.0, total_timeout_s=20.0)
        made.gateway = PayPalGateway(account, limits, monotonic_s=lambda: made.now_s)
        try:
            yield made
        finally:
            await made.gateway.close()


# Tokens


async def test_fifty_calls_at_once_ask_for_one_token() -> None:
    async with scene() as here:
        results = await asyncio.gather(*(here.opened() for _ in range(50)))
        assert {result.outcome for _, result in results} == {Outcome.SUCCEEDED}
        assert here.simulator.tokens_given == 1


async def test_token_is_renewed_some_time_before_its_end() -> None:
    async with scene() as here:
        await here.opened()
        here.now_s += TOKEN_LIFE_S - RENEW_BEFORE_S - 1
        await here.opened()
        assert here.simulator.tokens_given == 1
        here.now_s += 1
        await asyncio.gather(*(here.opened() for _ in range(5)))
        assert here.simulator.tokens_given == 2


async def test_token_that_paypal_refuses_is_renewed_once_for_all_and_the_call_is_made() -> None:
    async with scene() as here:
        await here.opened()
        here.simulator.good_tokens.clear()
        results = await asyncio.gather(*(here.opened(CallKind.SALE) for _ in range(10)))
        assert {result.outcome for _, result in results} == {Outcome.SUCCEEDED}
        assert here.simulator.tokens_given == 2


async def test_call_is_not_executed_when_the_credentials_are_refused() -> None:
    async with scene(secret="another") as here:
        request, result = await here.opened()
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS)
        inquiry = inquiry_about(request, own_reference="AUTH")
        assert (await here.gateway.call(inquiry)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (web.Response(status=500), Code.GATEWAY_UNREACHABLE),
        (web.Response(status=200, text="<html>"), Code.GATEWAY_UNREACHABLE),
        (web.Response(status=200, text='{"access_token": "A", "expires_in": 0}'), Code.GATEWAY_UNREACHABLE),
        (web.Response(status=429, headers={"Retry-After": "7"}), Code.RATE_LIMITED),
    ],
)
async def test_call_is_not_executed_when_there_is_no_token_to_be_had(
    answer: web.Response, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene() as here:
        monkeypatch.setattr(here.simulator, "_give_token", lambda *_: answer)
        _, result = await here.opened()
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, code)
        assert result.error.retry_after_ms == (7_000 if code is Code.RATE_LIMITED else None)
        assert here.simulator.bank.orders == {}


async def test_call_that_is_cancelled_takes_the_token_from_nobody() -> None:
    async with scene() as here:
        first = asyncio.ensure_future(here.opened())
        second = asyncio.ensure_future(here.opened())
        await asyncio.sleep(0)  # both wait for the token now
        await asyncio.sleep(0)
        first.cancel()
        assert (await second)[1].outcome is Outcome.SUCCEEDED
        assert here.simulator.tokens_given == 1


async def test_no_token_and_no_secret_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with scene() as here:
        _, result = await here.opened(token="vault-7c1f")
        shown = caplog.text + repr(here.gateway) + repr(result) + repr(vars(here.gateway._tokens))
        for secret in ("A21AA-1", CLIENT_SECRET, "vault-7c1f"):
            assert secret not in shown


# Completions


async def waiting(here: Scene, kind: CallKind) -> tuple[GatewayCallRequested, GatewayCallRequested]:
    """Return the request that opened a payment which waits for its payer, and the completion of it."""
    request, result = await here.opened(kind, token=APPROVES, details=BACK)
    assert (result.outcome, result.gateway_reference) == (Outcome.REQUIRES_ACTION, None)
    step = follow_up(request, CallKind.COMPLETE, reference=None, amount_minor=request.amount_minor)
    return request, replace(step, order_reference=result.payment_reference)


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE])
async def test_order_is_completed_as_it_was_meant_and_its_payment_has_an_id_then(kind: CallKind) -> None:
    async with scene() as here:
        _, step = await waiting(here, kind)
        here.simulator.bank.approve(step.order_reference or "")
        done = await here.gateway.call(step)
        assert (done.outcome, done.payment_reference) == (Outcome.SUCCEEDED, step.order_reference)
        made = here.simulator.bank.made[done.gateway_reference or ""]
        assert made.status == ("CREATED" if kind is CallKind.AUTHORIZE else "COMPLETED")


async def test_completion_waits_on_when_the_payer_has_not_agreed() -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        early = await here.gateway.call(step)
        assert early.error is not None
        assert (early.outcome, early.error.code) == (Outcome.NOT_EXECUTED, Code.AUTHENTICATION_REQUIRED)
        again = replace(step, gateway_key=f"{step.gateway_key}-again")
        here.simulator.bank.approve(step.order_reference or "")
        assert (await here.gateway.call(again)).outcome is Outcome.SUCCEEDED


async def test_lost_completion_is_found_by_its_order() -> None:
    async with scene() as here:
        request, step = await waiting(here, CallKind.SALE)
        order_id = step.order_reference or ""
        here.simulator.bank.approve(order_id)
        found = await here.gateway.call(inquiry_about(step, own_reference=order_id))
        assert found.outcome is Outcome.REQUIRES_ACTION
        here.simulator.arm(Situation.HTML_502_AFTER, order_id)
        looked_at = await here.gateway.call(step)  # the look at the order meets it: nothing was sent
        assert looked_at.outcome is Outcome.NOT_EXECUTED
        assert here.simulator.bank.orders[order_id].effects == []
        assert (await here.gateway.call(step)).outcome is Outcome.SUCCEEDED
        found = await here.gateway.call(inquiry_about(step, own_reference=order_id))
        assert (found.outcome, found.confirmed_amount_minor) == (Outcome.SUCCEEDED, request.amount_minor)


async def test_second_completion_tells_what_the_first_has_taken() -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        here.simulator.bank.approve(step.order_reference or "")
        first = await here.gateway.call(step)
        second = await here.gateway.call(replace(step, gateway_key=f"{step.gateway_key}-again"))
        assert (second.outcome, second.gateway_reference) == (Outcome.SUCCEEDED, first.gateway_reference)


async def test_completion_of_an_order_that_is_not_there_is_not_executed() -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        result = await here.gateway.call(replace(step, order_reference="NOBODYS"))
        assert result.error is not None
        assert (result.outcome, result.error.retry) == (Outcome.NOT_EXECUTED, RetryAdvice.NEVER)


@pytest.mark.parametrize("situation", [Situation.RESET_BEFORE, Situation.HTML_502_BEFORE, Situation.UNAUTHORIZED])
async def test_completion_whose_look_at_its_order_fails_was_not_sent(situation: Situation) -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        order_id = step.order_reference or ""
        here.simulator.bank.approve(order_id)
        for _ in range(2):  # a GET is made again by the library
            here.simulator.arm(situation, order_id)
        assert (await here.gateway.call(step)).outcome is Outcome.NOT_EXECUTED
        assert here.simulator.bank.orders[order_id].effects == []


async def test_completion_is_not_executed_without_a_token() -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        here.simulator.good_tokens.clear()
        here.simulator.refuses_credentials = True
        result = await here.gateway.call(step)
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, Code.GATEWAY_REFUSED_CREDENTIALS)


async def test_completion_waits_as_long_as_paypal_asks_when_the_look_at_its_order_is_throttled() -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        here.simulator.arm(Situation.RATE_LIMITED, step.order_reference or "")
        result = await here.gateway.call(step)
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, Code.RATE_LIMITED)
        assert result.error.retry_after_ms == 7_000


async def test_completion_without_an_order_sends_nothing() -> None:
    async with scene() as here:
        _, step = await waiting(here, CallKind.SALE)
        came_back = CallDetails(return_parameters=(NamedText(name="token", value="x"),))
        result = await here.gateway.call(replace(step, order_reference=None, details=came_back))
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, Code.INVALID_REQUEST)


# Voids, refunds, inquiries


async def test_void_whose_answer_was_lost_is_found_done_by_the_same_call() -> None:
    async with scene() as here:
        request, opened = await here.opened()
        void = follow_up(request, CallKind.VOID, reference=opened.gateway_reference, amount_minor=10_000)
        here.simulator.arm(Situation.RESET_AFTER, opened.gateway_reference or "")
        assert (await here.gateway.call(void)).outcome is Outcome.UNKNOWN
        here.simulator.stored.clear()  # as if PayPal kept no request ids of voids
        again = await here.gateway.call(replace(void, call_number=2))
        assert (again.outcome, again.gateway_reference) == (Outcome.SUCCEEDED, opened.gateway_reference)
        found = await here.gateway.call(inquiry_about(void, own_reference=opened.gateway_reference))
        assert found.outcome is Outcome.SUCCEEDED


async def test_refund_that_names_no_capture_sends_nothing() -> None:
    async with scene() as here:
        request, opened = await here.opened(CallKind.SALE)
        refund = follow_up(request, CallKind.REFUND, reference=opened.gateway_reference, amount_minor=1)
        result = await here.gateway.call(refund)
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, Code.INVALID_REQUEST)


async def test_each_object_is_inquired_about_by_its_own_id() -> None:
    async with scene() as here:
        request, opened = await here.opened()
        capture = follow_up(request, CallKind.CAPTURE, reference=opened.gateway_reference, amount_minor=6_000)
        captured = await here.gateway.call(capture)
        refund = follow_up(
            request,
            CallKind.REFUND,
            reference=opened.gateway_reference,
            amount_minor=2_000,
            capture_reference=captured.gateway_reference,
        )
        refunded = await here.gateway.call(refund)
        for call, result in ((request, opened), (capture, captured), (refund, refunded)):
            found = await here.gateway.call(inquiry_about(call, own_reference=result.gateway_reference))
            assert replace(found, raw=result.raw) == result


async def test_payment_past_its_keys_time_is_not_taken_twice_under_one_invoice() -> None:
    async with scene() as here:
        request, first = await here.opened(CallKind.SALE)
        assert first.outcome is Outcome.SUCCEEDED
        here.simulator.stored.clear()
        again = await here.gateway.call(request)
        assert again.error is not None
        assert (again.outcome, again.error.code) == (Outcome.UNKNOWN, Code.GATEWAY_KEY_MISMATCH)


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE])
async def test_method_in_the_vault_that_needs_its_payer_waits_and_goes_on(kind: CallKind) -> None:
    async with scene() as here:
        request, result = await here.opened(kind, token=NEEDS_PAYER)
        assert (result.outcome, result.gateway_reference) == (Outcome.REQUIRES_ACTION, None)
        assert result.action_url is not None
        here.simulator.bank.approve(result.payment_reference or "")
        step = follow_up(request, CallKind.COMPLETE, reference=None, amount_minor=request.amount_minor)
        done = await here.gateway.call(replace(step, order_reference=result.payment_reference))
        assert done.outcome is Outcome.SUCCEEDED


def is_refused(result: CallResult, code: Code) -> bool:
    """Return whether nothing was done for this reason, which is nobody's fault: it alarms nobody."""
    return (
        result.outcome is Outcome.NOT_EXECUTED
        and result.error is not None
        and result.error.code == code
        and code not in ALARMS
        and result.error.decline_class is not None
    )


async def test_hold_that_was_let_go_at_paypals_desk_is_not_captured_and_nobody_is_alarmed() -> None:
    async with scene() as here:
        request, opened = await here.opened()
        here.simulator.bank.carried_out(f"/v2/payments/authorizations/{opened.gateway_reference}/void", {}, None)
        for kind in (CallKind.CAPTURE, CallKind.VOID):
            step = follow_up(request, kind, reference=opened.gateway_reference, amount_minor=10_000)
            assert is_refused(await here.gateway.call(step), Code.CANCELLED)


async def test_hold_that_was_captured_is_neither_captured_again_nor_let_go_and_nobody_is_alarmed() -> None:
    async with scene() as here:
        request, opened = await here.opened()
        capture = follow_up(request, CallKind.CAPTURE, reference=opened.gateway_reference, amount_minor=10_000)
        assert (await here.gateway.call(capture)).outcome is Outcome.SUCCEEDED
        for kind in (CallKind.CAPTURE, CallKind.VOID):
            step = follow_up(request, kind, reference=opened.gateway_reference, amount_minor=10_000)
            assert is_refused(await here.gateway.call(step), Code.NOTHING_LEFT)


async def test_refund_that_what_stands_at_paypal_does_not_allow_is_refused_and_nobody_is_alarmed() -> None:
    async with scene() as here:
        request, opened = await here.opened(CallKind.SALE)
        taken = here.simulator.bank.made[opened.gateway_reference or ""]

        async def refunded(minor: int) -> CallResult:
            step = follow_up(
                request,
                CallKind.REFUND,
                reference=opened.gateway_reference,
                amount_minor=minor,
                capture_reference=opened.gateway_reference,
            )
            return await here.gateway.call(step)

        dispute = here.simulator.bank.disputes.open(taken, 3_000)
        assert is_refused(await refunded(2_000), Code.NOT_YET)
        here.simulator.bank.disputes.win(dispute)
        here.simulator.bank.refund_at_desk(taken, 6_000)
        assert is_refused(await refunded(5_000), Code.NOTHING_LEFT)
        assert (await refunded(4_000)).outcome is Outcome.SUCCEEDED
        assert is_refused(await refunded(1), Code.NOTHING_LEFT)


@pytest.mark.parametrize(("currency", "minor"), [("JPY", 500), ("HUF", 50_000), ("TWD", 50_000), ("EUR", 501)])
async def test_amount_is_taken_in_the_currencys_own_units(currency: str, minor: int) -> None:
    async with scene() as here:
        _, result = await here.opened(CallKind.SALE, currency=currency, amount_minor=minor)
        assert result.outcome is Outcome.SUCCEEDED
        assert (result.confirmed_amount_minor, result.confirmed_currency) == (minor, currency)


async def test_amount_that_paypal_has_no_decimals_for_sends_nothing() -> None:
    async with scene() as here:
        _, result = await here.opened(CallKind.SALE, currency="HUF", amount_minor=50_001)
        assert result.error is not None
        assert (result.outcome, result.error.code) == (Outcome.NOT_EXECUTED, Code.INVALID_REQUEST)
        assert here.simulator.bank.orders == {}


@pytest.mark.parametrize("content", ["nothing", None])
def test_account_whose_roots_are_no_certificates_is_refused(tmp_path: Path, content: str | None) -> None:
    roots = tmp_path / "roots.pem"
    if content is not None:
        roots.write_text(content)
    account = PayPalAccount(
        url="https://api-m.sandbox.paypal.com",
        client_id=CLIENT_ID,
        client_secret=SecretStr(CLIENT_SECRET),
        webhook_roots=str(roots),
    )
    with pytest.raises(MisconfiguredError, match="webhook_roots"):
        PayPalGateway(account)


async def test_closing_ends_what_is_under_way_and_is_safe_twice() -> None:
    async with scene() as here:
        calling = asyncio.ensure_future(here.opened())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await here.gateway.close()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await here.gateway.close()


async def test_account_is_built_by_the_registry_and_narrows_what_paypal_can_do() -> None:
    account = PayPalAccount(
        url="https://api-m.sandbox.paypal.com",
        client_id=CLIENT_ID,
        client_secret=SecretStr(CLIENT_SECRET),
        currencies="EUR,USD,INR",
    )
    (gateway,) = build_gateways({NAME: {DEFAULT_ACCOUNT: account}}, TransportLimits()).values()
    assert isinstance(gateway, PayPalGateway)
    assert gateway.name == NAME
    assert gateway.capabilities.currencies == frozenset({"EUR", "USD"})
    assert specs_of({NAME: {DEFAULT_ACCOUNT: account}})[NAME].capabilities.refunds_name_captures
    await gateway.close()
