"""PayPal's own word on whether a webhook is its own, over a socket: an account may choose to ask for it."""

import asyncio
import base64
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from gateway_adapters.contract import RawHeaders
from gateway_adapters.errors import UnauthenticError, UnverifiableError
from gateway_adapters.http_transport import Answer, TransportLimits
from gateway_adapters.paypal import verification
from gateway_adapters.paypal.client import PayPalGateway
from gateway_adapters.paypal.signature import LIVE
from gateway_adapters.paypal.spec import PayPalAccount
from gateway_adapters.paypal.verification import MAX_AT_ONCE, CallVerifier
from tests.simulators.paypal import CLIENT_ID, CLIENT_SECRET, VERIFICATION_PATH, PayPalSimulator
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.gateway_under_test import Situation
from tests.support.paypal_gateway_under_test import CERTIFICATE_URL, WEBHOOK_ID, simulated
from tests.support.webhook_certificates import authority, certificate_for

CERTIFICATE = certificate_for(LIVE.name, under=authority("Root of the test"))
NOW = datetime.now(UTC).replace(microsecond=0)
NOTHING: RawHeaders = {}
BODY = json.dumps({"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED", "resource": {"id": "CAP"}}).encode()


def signed(
    body: bytes = BODY, *, webhook_id: str = WEBHOOK_ID, at: datetime = NOW, changes: RawHeaders = NOTHING
) -> RawHeaders:
    time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"T1-a|{time}|{webhook_id}|{zlib.crc32(body)}".encode()
    return {
        "paypal-transmission-id": "T1-a",
        "paypal-transmission-time": time,
        "paypal-transmission-sig": base64.b64encode(CERTIFICATE.sign(text)).decode(),
        "paypal-cert-url": CERTIFICATE_URL,
        "paypal-auth-algo": "SHA256withRSA",
        **changes,
    }


@dataclass
class Scene:
    simulator: PayPalSimulator
    gateway: PayPalGateway

    async def verify(self, headers: RawHeaders, body: bytes = BODY) -> None:
        # Nothing is fetched: a certificate is PayPal's own business here.
        now_ms = int(NOW.timestamp() * 1000)
        await self.gateway.verify_webhook(headers, body, now_ms=now_ms, certificates=NO_CERTIFICATES)


@asynccontextmanager
async def scene(webhook_ids: str | None = WEBHOOK_ID, *, read_timeout_s: float = 5.0) -> AsyncIterator[Scene]:
    async with simulated(CERTIFICATE) as simulator:
        account = PayPalAccount(
            url=simulator.url,
            client_id=CLIENT_ID,
            client_secret=SecretStr(CLIENT_SECRET),
            webhook_secret=None if webhook_ids is None else SecretStr(webhook_ids),
            webhook_check="call",
        )
        limits = TransportLimits(connect_timeout_s=2.0, read_timeout_s=read_timeout_s, total_timeout_s=10.0)
        gateway = PayPalGateway(account, limits)
        try:
            yield Scene(simulator, gateway)
        finally:
            await gateway.close()


async def test_delivery_is_authentic_when_paypal_says_so() -> None:
    async with scene() as here:
        await here.verify(signed())
        assert here.simulator.verified == [WEBHOOK_ID]
        assert here.simulator.judged == 2  # the token and the call: both fit PayPal's document


async def test_event_is_shown_to_paypal_as_it_came() -> None:
    spaced = b'{ "id" : "WH-1",\n "note": "\\u00fc \xc3\xbc", "amount": 1.10 }\n'
    async with scene() as here:
        await here.verify(signed(spaced), spaced)


async def test_each_of_several_endpoints_is_asked_about() -> None:
    async with scene(f"OLD,{WEBHOOK_ID}") as here:
        await here.verify(signed())
        assert here.simulator.verified == ["OLD", WEBHOOK_ID]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(), BODY.replace(b"CAP", b"CAT")),
        (signed(webhook_id="ANOTHERS"), BODY),
        (signed(changes={"paypal-transmission-sig": "AAAA"}), BODY),
        (signed(changes={"paypal-transmission-id": "T2-a"}), BODY),
    ],
    ids=["tampered", "another's", "another-signature", "another-delivery"],
)
async def test_delivery_that_paypal_did_not_sign_so_is_refused(headers: RawHeaders, body: bytes) -> None:
    async with scene() as here:
        with pytest.raises(UnauthenticError, match="does not say"):
            await here.verify(headers, body)


@pytest.mark.parametrize("word", ["FAILURE", "success", "SUCCESSFUL", "PENDING"])
async def test_nothing_but_success_counts(word: str) -> None:
    async with scene() as here:
        here.simulator.verification_word = word
        with pytest.raises(UnauthenticError):
            await here.verify(signed())


SMUGGLED = b'{"id":"WH-1"},"webhook_id":"THEIRS"'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (signed(at=NOW - timedelta(days=5)), BODY),
        (signed(at=NOW + timedelta(hours=1)), BODY),
        (signed(changes={"paypal-cert-url": "https://evil.example/v1/notifications/certs/CERT-1"}), BODY),
        (signed(changes={"paypal-cert-url": "https://api.paypal.com/else"}), BODY),
        (signed(changes={"paypal-auth-algo": "none"}), BODY),
        (signed(changes={"paypal-transmission-sig": "not base64"}), BODY),
        (signed(SMUGGLED), SMUGGLED),
        (signed(b"[]"), b"[]"),
        (signed(b""), b""),
    ],
    ids=[
        *("unsigned", "old", "of-the-future", "strangers-host", "elsewhere", "unknown-algorithm", "no-signature"),
        *("more-than-an-event", "a-list", "empty"),
    ],
)
async def test_nobody_is_asked_about_what_cannot_be_paypals(headers: RawHeaders, body: bytes) -> None:
    async with scene() as here:
        with pytest.raises(UnauthenticError):
            await here.verify(headers, body)
        assert here.simulator.judged == 0


async def test_delivery_to_an_account_without_an_endpoint_is_refused() -> None:
    async with scene(None) as here:
        with pytest.raises(UnauthenticError):
            await here.verify(signed())


@pytest.mark.parametrize(
    "situation",
    [
        Situation.RESET_BEFORE,
        Situation.HTML_502_BEFORE,
        Situation.SERVER_ERROR_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.CUT_AFTER,
    ],
)
async def test_delivery_has_to_come_again_while_paypal_cannot_be_asked(situation: Situation) -> None:
    async with scene() as here:
        here.simulator.arm(situation, VERIFICATION_PATH)
        with pytest.raises(UnverifiableError):
            await here.verify(signed())
        await here.verify(signed())


async def test_delivery_has_to_come_again_while_our_credentials_are_refused() -> None:
    async with scene() as here:
        here.simulator.refuses_credentials = True
        with pytest.raises(UnverifiableError):
            await here.verify(signed())


async def test_token_that_paypal_refuses_is_renewed_and_the_call_is_made() -> None:
    async with scene() as here:
        await here.verify(signed())
        here.simulator.good_tokens.clear()
        await here.verify(signed())
        assert here.simulator.tokens_given == 2


async def test_answer_that_paypals_document_does_not_describe_is_no_verdict() -> None:
    async def ask(_: bytes) -> Answer:
        return Answer(status=200, headers={}, body=b'{"status":"SUCCESS"}')

    by = CallVerifier(webhook_ids=(WEBHOOK_ID,), signer=LIVE, ask=ask)
    with pytest.raises(UnverifiableError):
        await by.verify(signed(), BODY, now_ms=int(NOW.timestamp() * 1000))


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_delivery_that_paypal_finds_fault_with_is_refused(status: int) -> None:
    async def ask(_: bytes) -> Answer:
        return Answer(status=status, headers={}, body=b'{"name":"VALIDATION_ERROR"}')

    by = CallVerifier(webhook_ids=(WEBHOOK_ID,), signer=LIVE, ask=ask)
    with pytest.raises(UnauthenticError):
        await by.verify(signed(), BODY, now_ms=int(NOW.timestamp() * 1000))


async def test_door_waits_for_paypal_no_longer_than_the_limit_and_for_no_more_than_a_few() -> None:
    asked = 0

    async def ask(_: bytes) -> Answer:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    by = CallVerifier(webhook_ids=(WEBHOOK_ID,), signer=LIVE, ask=ask, limit_s=0.05)
    now_ms = int(NOW.timestamp() * 1000)
    ends = await asyncio.gather(
        *(by.verify(signed(), BODY, now_ms=now_ms) for _ in range(MAX_AT_ONCE + 3)), return_exceptions=True
    )
    assert {type(each) for each in ends} == {UnverifiableError}
    assert asked == MAX_AT_ONCE
    assert verification.LIMIT_S <= 10.0


def test_account_verifies_by_certificate_unless_it_says_otherwise() -> None:
    account = PayPalAccount(url="https://api-m.paypal.com", client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET))
    assert account.webhook_check == "certificate"
