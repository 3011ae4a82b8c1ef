"""PayPal's webhooks through the ingress' door: kept when PayPal signed them, refused or put off when not."""

import base64
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_adapters.contract import CertificateFetcher
from gateway_adapters.errors import UnverifiableError
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.paypal.signature import LIVE
from gateway_adapters.paypal.spec import SPEC, PayPalAccount
from schemas.identifiers import GatewayRoute
from schemas.records.gateway import WebhookReceived
from tests.support.fake_engine import NOW_MS
from tests.support.ingress_under_test import Running, running_ingress
from tests.support.webhook_certificates import authority, certificate_for

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
ROOT = authority("Root of the test", now=NOW)
PAYPAL = certificate_for(LIVE.name, under=authority("Intermediate", under=ROOT, now=NOW), now=NOW)
WEBHOOK_ID = "8PT597110X687430LKGECATA"


@dataclass
class Certificates(CertificateFetcher):
    pem: bytes | None = PAYPAL.pem  # None: it cannot be had now

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        if self.pem is None:
            raise UnverifiableError("the certificate could not be fetched")
        return self.pem


def captured(reference: str) -> bytes:
    resource = {
        "id": "CAP",
        "status": "COMPLETED",
        "amount": {"currency_code": "USD", "value": "100.00"},
        "custom_id": reference,
        "invoice_id": reference,
        "create_time": "2025-11-24T16:00:00Z",
        "links": [{"rel": "up", "href": "https://api.paypal.com/v2/checkout/orders/ORDER"}],
    }
    event = {"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED", "create_time": "2025-11-24T16:00:01Z"}
    return json.dumps({**event, "resource": resource}).encode()


def signed(body: bytes, *, at: datetime = NOW, webhook_id: str = WEBHOOK_ID) -> dict[str, str]:
    time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"T1|{time}|{webhook_id}|{zlib.crc32(body)}".encode()
    return {
        "PAYPAL-TRANSMISSION-ID": "T1",
        "PAYPAL-TRANSMISSION-TIME": time,
        "PAYPAL-TRANSMISSION-SIG": base64.b64encode(PAYPAL.sign(text)).decode(),
        "PAYPAL-CERT-URL": "https://api.paypal.com/v1/notifications/certs/CERT-1",
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        "X-Of-A-Proxy": "1",
    }


@asynccontextmanager
async def door(
    folder: Path, *, certificates: Certificates | None = None, webhook_ids: str | None = WEBHOOK_ID
) -> AsyncIterator[Running]:
    roots = folder / "roots.pem"
    roots.write_bytes(ROOT.pem)
    account = PayPalAccount(
        url="https://api-m.paypal.com",
        client_id="client",
        client_secret=SecretStr("secret"),
        webhook_secret=None if webhook_ids is None else SecretStr(webhook_ids),
        webhook_roots=str(roots),
    )
    gateway = SPEC.factory(account, TransportLimits())
    webhooks = {GatewayRoute(SPEC.name): gateway}
    async with running_ingress(webhooks=webhooks, certificates=certificates or Certificates()) as running:
        yield running
    await gateway.close()


async def posted(running: Running, body: bytes, headers: dict[str, str]) -> int:
    async with running.http.post("/webhooks/paypal", data=body, headers=headers) as response:
        return response.status


def kept(running: Running) -> list[WebhookReceived]:
    return [record for record, _ in running.engine.appended if isinstance(record, WebhookReceived)]


async def test_webhook_is_kept_for_the_operation_that_it_names_with_its_own_headers_alone(tmp_path: Path) -> None:
    body = captured("sale:op_1")
    async with door(tmp_path) as running:
        assert await posted(running, body, signed(body)) == 200
        (record,) = kept(running)
        assert (record.gateway_reference, record.order_id, record.body) == ("op_1", None, body)
        assert {header.name for header in record.headers} == SPEC.translator.webhook_headers


async def test_webhook_about_another_systems_payment_is_acknowledged_and_leads_nowhere(tmp_path: Path) -> None:
    body = captured("SHOP-ORDER-1")
    async with door(tmp_path) as running:
        assert await posted(running, body, signed(body)) == 200
        (record,) = kept(running)
        assert (record.gateway_reference, record.order_id) == (None, None)


GOOD = captured("sale:op_1")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (GOOD.replace(b"100.00", b"100.01"), signed(GOOD)),
        (GOOD[:-1], signed(GOOD)),
        (GOOD, {}),
        (GOOD, signed(GOOD, webhook_id="ANOTHERS")),
        (GOOD, signed(GOOD, at=NOW + timedelta(hours=1))),
        (GOOD, signed(GOOD, at=NOW - timedelta(days=5))),
    ],
    ids=["tampered", "truncated", "unsigned", "another's", "of-the-future", "old"],
)
async def test_webhook_that_paypal_did_not_sign_so_is_refused_and_nothing_of_it_is_kept(
    tmp_path: Path, body: bytes, headers: dict[str, str]
) -> None:
    async with door(tmp_path) as running:
        assert await posted(running, body, headers) == 401
        assert kept(running) == []


async def test_webhook_is_put_off_while_its_certificate_cannot_be_had(tmp_path: Path) -> None:
    certificates = Certificates(pem=None)
    async with door(tmp_path, certificates=certificates) as running:
        assert await posted(running, GOOD, signed(GOOD)) == 503
        assert kept(running) == []
        certificates.pem = PAYPAL.pem
        assert await posted(running, GOOD, signed(GOOD)) == 200


@pytest.mark.parametrize(("webhook_ids", "status"), [(None, 401), ("ANOTHER", 401), (f"OLD,{WEBHOOK_ID}", 200)])
async def test_webhook_is_good_for_the_accounts_own_endpoints_alone(
    tmp_path: Path, webhook_ids: str | None, status: int
) -> None:
    async with door(tmp_path, webhook_ids=webhook_ids) as running:
        assert await posted(running, GOOD, signed(GOOD)) == status
