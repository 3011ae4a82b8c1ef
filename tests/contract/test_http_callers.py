"""Who may do what: API keys, origins, rates; and gateways, by their signatures."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway_adapters.contract import Acknowledgement, CertificateFetcher, GatewayNotice, RawHeaders
from gateway_adapters.errors import GatewayError, UnauthenticError, UntranslatableError, UnverifiableError
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.mock.signature import DEVELOPMENT_SECRET, sign
from gateway_adapters.mock.wire import SIGNATURE_HEADER
from gateway_adapters.registry import build_gateways
from http_ingress.access.api_keys import ApiKey, KeyRing, MemoryKeyStore, create_key
from http_ingress.settings import IngressSettings
from schemas.identifiers import GatewayName, GatewayRoute, OrderId, OriginId
from schemas.records.gateway import WebhookReceived
from schemas.vocabulary import CallKind, Outcome
from streams.settings import accounts_with_webhook_secrets, load
from tests.support.fake_engine import NOW_MS
from tests.support.gateway_calls import capabilities_with
from tests.support.ingress_under_test import Running, running_ingress
from tests.support.metric_pages import rise_of

PROBLEM = "application/problem+json"
PEPPER = b"a pepper of more than sixteen bytes"
BODY = {"amount": 1, "currency": "USD", "token": "tok_1", "orderId": "o"}
GATEWAY = GatewayName("fakeway")


class Keyed:
    """A running ingress and one key of `originA`."""

    def __init__(self, running: Running, key: ApiKey) -> None:
        self.running = running
        self.key = key


@pytest.fixture
async def keyed() -> AsyncIterator[Keyed]:
    key, record = create_key(OriginId("originA"), pepper=PEPPER, now_ms=1)
    ring = KeyRing(MemoryKeyStore([record]), pepper=PEPPER)
    async with running_ingress(keys=ring) as running:
        yield Keyed(running, key)


async def pay(running: Running, headers: dict[str, str], **changes: object) -> tuple[int, dict[str, object]]:
    sent = {"Idempotency-Key": "k"} | headers
    async with running.http.post("/payments", json=BODY | changes, headers=sent) as response:
        return response.status, await response.json(content_type=None)


async def test_key_names_the_origin_when_nothing_else_does(keyed: Keyed) -> None:
    status, body = await pay(keyed.running, {"X-Api-Key": keyed.key})
    assert (status, body["originId"]) == (201, "originA")
    status, _ = await pay(keyed.running, {"Authorization": f"Bearer {keyed.key}"})
    assert status == 201


@pytest.mark.parametrize("credentials", ["", "nonsense", "pek_0123456789abcdef_" + "A" * 43, "x" * 10_00])
async def test_caller_is_refused_when_the_key_does_not_hold(keyed: Keyed, credentials: str) -> None:
    status, problem = await pay(keyed.running, {"X-Api-Key": credentials} if credentials else {})
    assert (status, problem["code"]) == (401, "unauthenticated")
    assert keyed.running.engine.appended == []


async def test_caller_is_told_how_to_authenticate_and_never_what_was_wrong_inside(keyed: Keyed) -> None:
    forged = keyed.key[:-1] + ("A" if keyed.key[-1] != "A" else "B")
    async with keyed.running.http.get("/payments/x", headers={"X-Api-Key": forged}) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert forged not in await response.text()


async def test_two_keys_in_one_request_are_refused(keyed: Keyed) -> None:
    status, _ = await pay(keyed.running, {"X-Api-Key": keyed.key, "Authorization": f"Bearer {keyed.key}"})
    assert status == 401


async def test_key_is_forbidden_when_the_request_names_another_origin(keyed: Keyed) -> None:
    status, problem = await pay(keyed.running, {"X-Api-Key": keyed.key, "X-Origin-Id": "originB"})
    assert (status, problem["code"]) == (403, "forbidden")
    status, problem = await pay(keyed.running, {"X-Api-Key": keyed.key}, originId="originB")
    assert (status, problem["code"]) == (403, "forbidden")
    assert keyed.running.engine.appended == []


async def test_origin_is_slowed_down_when_it_sends_too_much_and_others_are_not() -> None:
    settings = IngressSettings(dev=True, requests_per_second=1)
    async with running_ingress(settings=settings) as running:
        statuses = [(await pay(running, {"X-Origin-Id": "busy"}))[0] for _ in range(4)]
        assert statuses.count(429) >= 1
        async with running.http.get("/payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA", headers={"X-Origin-Id": "busy"}) as told:
            assert told.status == 429
            assert told.headers["Retry-After"] == "1"
        assert (await pay(running, {"X-Origin-Id": "calm"}))[0] == 201


def test_ingress_is_not_built_when_there_are_neither_keys_nor_dev_mode() -> None:
    from tests.support.fake_engine import FakeEngine
    from tests.support.ingress_under_test import CODEC, build_ingress

    with pytest.raises(ValueError, match="API keys"):
        build_ingress(FakeEngine(CODEC), settings=IngressSettings(dev=False))


class Fakeway:
    """A gateway whose webhooks are JSON lists of orders, signed with one secret."""

    SECRET = b"whsec"
    webhook_headers = frozenset({"x-signature", "x-time"})
    acknowledgement = Acknowledgement()
    capabilities = capabilities_with(None)

    async def verify_webhook(
        self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher
    ) -> None:
        if not hmac.compare_digest(headers.get("x-signature", ""), self.sign(body)):
            raise UnauthenticError("no")

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        try:
            orders = json.loads(body)
        except ValueError:
            raise UntranslatableError("not JSON") from None
        return tuple(_notice(order) for order in orders if isinstance(order, str))

    @classmethod
    def sign(cls, body: bytes) -> str:
        return hmac.new(cls.SECRET, body, hashlib.sha256).hexdigest()


class Certified(Fakeway):
    """One that signs with a certificate, and wants to be answered in its own words."""

    HOST = "certificates.example"
    acknowledgement = Acknowledgement(status=202, content_type="text/plain", body=b"[accepted]")

    async def verify_webhook(
        self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher
    ) -> None:
        certificate = await certificates.fetch(f"https://{self.HOST}/cert", hosts=frozenset({self.HOST}))
        if certificate != b"certificate":
            raise UnauthenticError("no")


@dataclass
class Cabinet(CertificateFetcher):
    """Has one answer to every question."""

    answer: bytes | GatewayError

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        assert (url, hosts) == (f"https://{Certified.HOST}/cert", frozenset({Certified.HOST}))
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer


class Refusing(Fakeway):
    """Another account of that gateway: another secret."""

    SECRET = b"another"


def _notice(order: str) -> GatewayNotice:
    return GatewayNotice(
        gateway=GATEWAY,
        notice_id="n",
        origin_id=OriginId("originA"),
        order_id=OrderId(order),
        op_id=None,
        kind=CallKind.SALE,
        outcome=Outcome.SUCCEEDED,
        gateway_reference="ref" if order else None,
        payment_reference=None,
        confirmed_amount_minor=None,
        confirmed_currency=None,
        error=None,
        occurred_at_ms=1,
    )


@pytest.fixture
async def hooked() -> AsyncIterator[Running]:
    async with running_ingress(webhooks={GatewayRoute(GATEWAY): Fakeway()}) as running:
        yield running


async def notify(running: Running, body: bytes, signature: str | None = None) -> int:
    headers = {"X-Signature": signature or Fakeway.sign(body), "Authorization": "secret", "Content-Type": "text/weird"}
    async with running.http.post(f"/webhooks/{GATEWAY}", data=body, headers=headers) as response:
        return response.status


def webhooks(running: Running) -> list[WebhookReceived]:
    return [record for record, _ in running.engine.appended if isinstance(record, WebhookReceived)]


async def test_webhook_is_kept_raw_when_its_signature_holds(hooked: Running) -> None:
    body = b' [ "order-1" ] \xc3\xa9'[:15]
    assert await notify(hooked, body) == 200
    (kept,) = webhooks(hooked)
    assert kept.body == body
    assert (kept.origin_id, kept.order_id) == ("originA", "order-1")
    assert [header.name for header in kept.headers] == ["x-signature"]


async def test_webhook_of_an_account_is_verified_with_that_accounts_secret_and_kept_under_its_name() -> None:
    accounts = {GatewayRoute(GATEWAY): Refusing(), GatewayRoute(f"{GATEWAY}/eu"): Fakeway()}
    headers = {"X-Signature": Fakeway.sign(b'["o1"]')}
    async with running_ingress(webhooks=accounts) as running:
        for path, status in ((f"{GATEWAY}/eu", 200), (GATEWAY, 401), (f"{GATEWAY}/us", 404), ("other/eu", 404)):
            async with running.http.post(f"/webhooks/{path}", data=b'["o1"]', headers=headers) as response:
                assert response.status == status
        assert [kept.account for kept in webhooks(running)] == ["eu"]


@pytest.mark.parametrize(
    ("found", "status", "kept"),
    [
        (b"certificate", 202, 1),
        (b"another", 401, 0),
        (UnauthenticError("no such certificate"), 401, 0),
        (UnverifiableError("cannot be fetched"), 503, 0),
    ],
)
async def test_webhook_signed_with_a_certificate_is_acknowledged_refused_or_asked_for_again(
    found: bytes | GatewayError, status: int, kept: int
) -> None:
    async with running_ingress(webhooks={GatewayRoute(GATEWAY): Certified()}, certificates=Cabinet(found)) as running:
        async with running.http.post(f"/webhooks/{GATEWAY}", data=b'["o1"]') as response:
            assert response.status == status
            told = await response.read()
        if status == 202:
            assert (told, response.headers["Content-Type"]) == (b"[accepted]", "text/plain")
        assert len(webhooks(running)) == kept


async def test_webhook_of_no_account_is_the_default_accounts(hooked: Running) -> None:
    await notify(hooked, b'["o1"]')
    (kept,) = webhooks(hooked)
    assert kept.account == "default"


async def test_webhook_is_refused_when_a_header_that_its_gateway_reads_is_repeated(hooked: Running) -> None:
    headers = [("X-Signature", "forged"), ("X-Signature", Fakeway.sign(b"[]"))]
    async with hooked.http.post(f"/webhooks/{GATEWAY}", data=b"[]", headers=headers) as response:
        assert response.status == 400


async def test_webhook_leaves_out_a_header_that_holds_a_card_number(hooked: Running) -> None:
    headers = {"X-Signature": Fakeway.sign(b'["o1"]'), "X-Time": "4111-1111-1111-1111", "X-Card": "4111111111111111"}
    async with hooked.http.post(f"/webhooks/{GATEWAY}", data=b'["o1"]', headers=headers) as response:
        assert response.status == 200
    (kept,) = webhooks(hooked)
    assert [header.name for header in kept.headers] == ["x-signature"]


@pytest.mark.parametrize(
    ("body", "kept_body"),
    [
        (b'["o1"] 4111111111111111', b'["o1"] 9999999999991111'),
        (b'["o1", {"cvv":"123", "number": 4111111111111111}]', b'["o1", {"cvv":"***", "number": 9999999999991111}]'),
    ],
    ids=["unreadable", "readable"],
)
async def test_card_data_in_an_authentic_webhook_is_masked_before_it_is_kept(
    hooked: Running, body: bytes, kept_body: bytes
) -> None:
    assert await notify(hooked, body) == 200
    (kept,) = webhooks(hooked)
    assert kept.body == kept_body


async def test_webhook_is_kept_as_it_came_when_what_looks_like_a_card_number_is_what_it_is_about(
    hooked: Running,
) -> None:
    body = b'["4111111111111111"]'  # an order that Luhn happens to like: without it the payment would hang
    assert await notify(hooked, body) == 200
    (kept,) = webhooks(hooked)
    assert kept.body == body


async def test_webhook_is_a_401_that_stores_nothing_when_its_signature_does_not_hold(hooked: Running) -> None:
    assert await notify(hooked, b'["order-1"]', signature="forged") == 401
    assert hooked.engine.appended == []


async def test_strangers_webhook_is_a_401_that_stores_nothing_when_it_is_signed_with_the_public_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It turned a captured payment to failed: the ingress took the secret that everybody can read for the gateway's."""
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_MOCK_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_MOCK_WEBHOOK_SECRET", "own,next")
    gateways = build_gateways(accounts_with_webhook_secrets(load()), TransportLimits())
    body = b'{"type": "payment.reversed"}'
    async with running_ingress(webhooks=gateways) as running:
        for secret, status in ((DEVELOPMENT_SECRET, 401), ("", 401), ("own", 200), ("next", 200)):
            signed = {SIGNATURE_HEADER: sign(body, secret=secret, at_s=NOW_MS // 1000)}
            async with running.http.post("/webhooks/mock", data=body, headers=signed) as response:
                assert response.status == status
        assert len(webhooks(running)) == 2


async def test_webhook_is_kept_once_an_order_when_it_speaks_of_several(hooked: Running) -> None:
    assert await notify(hooked, b'["o1","o2","o1"]') == 200
    assert [kept.order_id for kept in webhooks(hooked)] == ["o1", "o2"]
    assert len({envelope.id for _, envelope in hooked.engine.appended}) == 2


async def test_webhook_is_kept_once_and_counted_when_it_is_about_nobody(hooked: Running) -> None:
    ignored = rise_of("webhooks_ignored", gateway=GATEWAY, reason="about_nobody")
    assert await notify(hooked, b'["", "o1", ""]') == 200
    assert await notify(hooked, b"[]") == 200
    assert [(kept.order_id, kept.gateway_reference) for kept in webhooks(hooked)] == [("o1", None), (None, None)]
    assert ignored() == 3  # a body that says nothing is one


async def test_webhook_is_kept_for_the_dead_letters_when_it_says_more_than_one_may(hooked: Running) -> None:
    """A refusal would come back for ever, and hold up what the gateway has behind it."""
    assert await notify(hooked, json.dumps(["o1"] * 10_000).encode()) == 200
    (kept,) = webhooks(hooked)
    assert (kept.order_id, kept.gateway_reference, len(kept.body)) == (None, None, 60_000)


async def test_webhook_is_kept_for_the_dead_letters_when_it_cannot_be_read(hooked: Running) -> None:
    assert await notify(hooked, b"\x00\x01") == 200
    (kept,) = webhooks(hooked)
    assert (kept.order_id, kept.body) == (None, b"\x00\x01")


async def test_webhook_is_a_503_when_the_log_cannot_be_written_so_that_it_comes_again(hooked: Running) -> None:
    hooked.engine.break_log()
    assert await notify(hooked, b'["o1"]') == 503


async def test_webhook_of_an_unknown_gateway_is_a_404(hooked: Running) -> None:
    async with hooked.http.post("/webhooks/other", data=b"{}") as response:
        assert response.status == 404
        assert response.content_type == PROBLEM


async def test_webhook_is_a_413_when_it_is_too_large(hooked: Running) -> None:
    assert await notify(hooked, b" " * (64 * 1024 + 1)) == 413


def test_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    from http_ingress.access.api_keys import append_record

    _, record = create_key(OriginId("o"), pepper=PEPPER, now_ms=1)
    path = tmp_path / "keys"
    append_record(path, record)
    assert path.stat().st_mode & 0o077 == 0
