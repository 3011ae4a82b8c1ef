"""PayPal's webhook signatures: by whose certificate, over which bytes, of what time, and from where it is fetched."""

import base64
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import exceptions, x509
from cryptography.x509 import verification

from gateway_adapters.contract import CertificateFetcher
from gateway_adapters.errors import UnauthenticError, UnverifiableError
from gateway_adapters.paypal import signature
from gateway_adapters.paypal.signature import (
    ISSUERS_HOSTS,
    LIVE,
    MAX_AGE,
    MAX_AHEAD,
    SANDBOX,
    Signer,
    Verifier,
    signer_of,
    store_of,
)
from tests.support.webhook_certificates import Authority, SigningCertificate, authority, certificate_for

NOW = datetime(2026, 12, 1, 15, 0, tzinfo=UTC)
BODY = b'{"id":"WH-1","resource":{"amount":{"value":"100.00"}}}'
WEBHOOK = "8PT597110X687430LKGECATA"
URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"

ROOT = authority("Root", now=NOW)
INTERMEDIATE = authority("Intermediate", under=ROOT, now=NOW)
PAYPAL = certificate_for(LIVE.name, under=INTERMEDIATE, now=NOW)


@dataclass
class Certificates(CertificateFetcher):
    """What stands where; and what was asked for."""

    found: bytes | Exception = PAYPAL.pem
    issuer: bytes | Exception = field(default_factory=lambda: UnauthenticError("nothing stands there"))
    asked: list[tuple[str, frozenset[str]]] = field(default_factory=list)

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        self.asked.append((url, hosts))
        found = self.issuer if hosts == ISSUERS_HOSTS else self.found
        if isinstance(found, Exception):
            raise found
        return found


def verifier(*webhook_ids: str, signer: Signer = LIVE, roots: Authority = ROOT) -> Verifier:
    return Verifier(webhook_ids=webhook_ids or (WEBHOOK,), signer=signer, roots=store_of(roots.pem))


def delivery(
    body: bytes = BODY,
    *,
    at: datetime = NOW,
    by: SigningCertificate = PAYPAL,
    webhook_id: str = WEBHOOK,
    url: str = URL,
) -> dict[str, str]:
    time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"69cd13f0-d67a-11e5-baa3-778b53f4ae55|{time}|{webhook_id}|{zlib.crc32(body)}".encode()
    return {
        signature.ID_HEADER: "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        signature.TIME_HEADER: time,
        signature.SIGNATURE_HEADER: base64.b64encode(by.sign(text)).decode(),
        signature.URL_HEADER: url,
        signature.ALGORITHM_HEADER: "SHA256withRSA",
    }


async def verify(
    headers: Mapping[str, str],
    body: bytes = BODY,
    *,
    by: Verifier | None = None,
    now: datetime = NOW,
    certificates: Certificates | None = None,
) -> None:
    await (by or verifier()).verify(
        headers,
        body,
        now_ms=int(now.timestamp() * 1000),
        certificates=certificates or Certificates(),
    )


async def test_delivery_that_paypal_signed_is_authentic() -> None:
    certificates = Certificates()
    await verify(delivery(), certificates=certificates)
    assert certificates.asked == [(URL, LIVE.hosts)]


async def test_delivery_for_each_of_several_webhook_ids_is_authentic() -> None:
    both = verifier("OLD", "NEW")
    for each in ("OLD", "NEW"):
        await verify(delivery(webhook_id=each), by=both)
    with pytest.raises(UnauthenticError):
        await verify(delivery(webhook_id="ANOTHERS"), by=both)


async def test_delivery_is_forged_when_its_account_has_no_webhook_id() -> None:
    with pytest.raises(UnauthenticError):
        await verify(delivery(), by=Verifier(webhook_ids=(), signer=LIVE, roots=store_of(ROOT.pem)))


@pytest.mark.parametrize(
    "body", [BODY.replace(b"100.00", b"100.01"), BODY[:-1], BODY + b" ", b""], ids=["amount", "cut", "longer", "empty"]
)
async def test_delivery_with_other_bytes_is_forged(body: bytes) -> None:
    with pytest.raises(UnauthenticError):
        await verify(delivery(), body)


@pytest.mark.parametrize("header", signature.HEADERS)
@pytest.mark.parametrize("value", [None, "", "\u00fc", "x" * (signature.MAX_HEADER_CHARS + 1), "x"])
async def test_delivery_is_forged_when_a_header_is_missing_or_another(header: str, value: str | None) -> None:
    headers = delivery()
    headers.pop(header)
    if value is not None:
        headers[header] = value
    with pytest.raises(UnauthenticError):
        await verify(headers)


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("last", "beyond"), [(MAX_AHEAD, MAX_AHEAD + SECOND), (-MAX_AGE, -MAX_AGE - SECOND)])
async def test_delivery_is_good_for_as_long_as_paypal_repeats_it(last: timedelta, beyond: timedelta) -> None:
    await verify(delivery(at=NOW + last))
    with pytest.raises(UnauthenticError, match="too old or from the future"):
        await verify(delivery(at=NOW + beyond))


@pytest.mark.parametrize("time", ["2026-12-01T15:00:00", "1764601200", "Tue, 01 Dec 2026 15:00:00 GMT"])
async def test_delivery_is_forged_when_its_time_is_in_another_form(time: str) -> None:
    with pytest.raises(UnauthenticError, match="time of the transmission"):
        await verify({**delivery(), signature.TIME_HEADER: time})


@pytest.mark.parametrize(
    "url",
    [
        "https://api.paypal.com/v1/notifications/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/",
        "https://api.paypal.com/v1/notifications/certs/../../oauth2/token",
        "https://api.paypal.com/v1/notifications/certs/%2e%2e",
        "https://api.paypal.com/v1/notifications/certs/..",
        "https://api.paypal.com/x/v1/notifications/certs/CERT-1",
        "https://[::1/v1/notifications/certs/CERT-1",
    ],
)
async def test_nothing_is_fetched_from_elsewhere_than_paypals_own_path(url: str) -> None:
    certificates = Certificates()
    with pytest.raises(UnauthenticError):
        await verify(delivery(url=url), certificates=certificates)
    assert certificates.asked == []


STRANGER = authority("Stranger", now=NOW)


@pytest.mark.parametrize(
    "certificate",
    [
        certificate_for(LIVE.name, under=STRANGER, now=NOW),
        certificate_for("paypal.com", under=INTERMEDIATE, now=NOW),
        certificate_for(SANDBOX.name, under=INTERMEDIATE, now=NOW),
        certificate_for(f"{LIVE.name}.evil.example", under=INTERMEDIATE, now=NOW),
        certificate_for(LIVE.name, under=INTERMEDIATE, now=NOW - timedelta(days=40)),
        certificate_for(LIVE.name, under=INTERMEDIATE, now=NOW + timedelta(days=1)),
    ],
    ids=["of-another-authority", "domain", "sandbox", "longer-name", "expired", "of-tomorrow"],
)
async def test_delivery_is_forged_when_its_certificate_is_not_paypals_or_not_valid_now(
    certificate: SigningCertificate,
) -> None:
    certificates = Certificates(found=certificate.pem)
    with pytest.raises(UnauthenticError, match="the certificate is not PayPal's, or not valid now"):
        await verify(delivery(by=certificate), certificates=certificates)


async def test_delivery_is_forged_when_its_chain_lacks_a_link() -> None:
    alone = replace_chain(PAYPAL, 1)
    with pytest.raises(UnauthenticError):
        await verify(delivery(), certificates=Certificates(found=alone.pem))


def replace_chain(certificate: SigningCertificate, length: int) -> SigningCertificate:
    return replace(certificate, chain=certificate.chain[:length])


@pytest.mark.parametrize("pem", [b"", b"<html>", PAYPAL.pem * 3], ids=["empty", "html", "long-chain"])
async def test_delivery_is_forged_when_no_certificate_stands_at_its_url(pem: bytes) -> None:
    with pytest.raises(UnauthenticError):
        await verify(delivery(), certificates=Certificates(found=pem))


async def test_delivery_is_forged_when_its_certificate_holds_no_rsa_key() -> None:
    elliptic = authority(LIVE.name, under=INTERMEDIATE, now=NOW)
    chain = elliptic.pem + INTERMEDIATE.pem
    with pytest.raises(UnauthenticError):
        await verify(delivery(), certificates=Certificates(found=chain))


async def test_delivery_waits_when_its_certificate_cannot_be_had_now() -> None:
    with pytest.raises(UnverifiableError):
        await verify(delivery(), certificates=Certificates(found=UnverifiableError("busy")))


async def test_certificate_that_was_good_is_looked_at_again_once_its_time_is_over() -> None:
    short = certificate_for(LIVE.name, under=INTERMEDIATE, now=NOW, life=timedelta(minutes=10))
    by, certificates = verifier(), Certificates(found=short.pem)
    await verify(delivery(by=short), by=by, certificates=certificates)
    await verify(delivery(by=short), by=by, certificates=certificates, now=NOW + timedelta(minutes=9))
    with pytest.raises(UnauthenticError, match="not valid now"):
        await verify(delivery(by=short), by=by, certificates=certificates, now=NOW + timedelta(minutes=11))


async def test_no_more_certificates_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MAX_KEPT", 1)
    by = verifier()
    other = certificate_for(LIVE.name, under=INTERMEDIATE, now=NOW)
    for certificate in (PAYPAL, other, PAYPAL):
        await verify(delivery(by=certificate), by=by, certificates=Certificates(found=certificate.pem))
    assert len(by._kept) == 1


# A delivery that PayPal's sandbox made on 2015-05-18, by the certificate that stood at its URL then: see NOTICE there.

REAL = Path(__file__).parents[1] / "support" / "paypal_certificates"
REAL_LEAF = (REAL / "sandbox-2015.pem").read_bytes()
REAL_ISSUER = (REAL / "DigiCertSHA2ExtendedValidationServerCA.crt.pem").read_bytes()
REAL_ROOT = (REAL / "DigiCertHighAssuranceEVRootCA.crt.pem").read_bytes()
REAL_WEBHOOK = "4JH86294D6297924G"
REAL_TIME = datetime(2015, 5, 18, 15, 45, 13, tzinfo=UTC)
REAL_HEADERS = {
    signature.ID_HEADER: "dfb3be50-fd74-11e4-8bf3-77339302725b",
    signature.TIME_HEADER: "2015-05-18T15:45:13Z",
    signature.SIGNATURE_HEADER: (
        "thy4/U002quzxFavHPwbfJGcc46E8rc5jzgyeafWm5mICTBdY/8rl7WJpn8JA0GKA+oDTPsSruqusw+XXg5RLAP7ip53Euh9Xu3UbUhQFX7U"
        "gwzE2FeYoY6lyRMiiiQLzy9BvHfIzNIVhPad4KnC339dr6y2l+mN8ALgI4GCdIh3/SoJO5wE64Bh/ueWtt8EVuvsvXfda2Le5a2TrOI9vLEz"
        "sm9GS79hAR/5oLexNz8UiZr045Mr5ObroH4w4oNfmkTaDk9Rj0G19uvISs5QzgmBpauKr7Nw++JI0pr/v5mFctQkoWJSGfBGzPRXawrvIIVH"
        "Q9Wer48GR2g9ZiApWg=="
    ),
    signature.URL_HEADER: "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77",
    signature.ALGORITHM_HEADER: "SHA256withRSA",
}
# The event's CRC32 is all that PayPal signs of it. This text has the same.
REAL_BODY = (
    b'{"id":"WH-0G2756385H040842W-5Y612302CV158622M","event_type":"PAYMENT.SALE.COMPLETED",'
    b'"note":"ccaaacaacaacaacacaccccccacccacccaaaaaaaa"}'
)


async def verify_real(
    body: bytes = REAL_BODY,
    *,
    found: bytes = REAL_LEAF,
    issuer: bytes | Exception = REAL_ISSUER,
    webhook_id: str = REAL_WEBHOOK,
    signer: Signer = SANDBOX,
    roots: bytes = REAL_ROOT,
    now: datetime = REAL_TIME,
) -> list[str]:
    """Verify it; return what was fetched."""
    certificates = Certificates(found=found, issuer=issuer)
    by = Verifier(webhook_ids=(webhook_id,), signer=signer, roots=store_of(roots))
    await verify(REAL_HEADERS, body, by=by, now=now, certificates=certificates)
    return [url for url, _ in certificates.asked]


async def test_real_delivery_is_authentic_by_the_certificate_that_stood_alone_at_its_url() -> None:
    assert await verify_real() == [
        REAL_HEADERS[signature.URL_HEADER],
        "https://cacerts.digicert.com/DigiCertSHA2ExtendedValidationServerCA.crt.pem",
    ]


async def test_real_delivery_needs_no_issuer_to_be_fetched_that_stands_beside_or_is_trusted_itself() -> None:
    for asked in (await verify_real(found=REAL_LEAF + REAL_ISSUER), await verify_real(roots=REAL_ISSUER)):
        assert asked == [REAL_HEADERS[signature.URL_HEADER]]


@pytest.mark.parametrize(
    "changes",
    [
        {"body": REAL_BODY.replace(b"note", b"nota")},
        {"webhook_id": "4JH86294D6297924H"},
        {"issuer": REAL_LEAF},
        {"issuer": INTERMEDIATE.pem},
        {"roots": ROOT.pem},
        {"roots": Path(certifi.where()).read_bytes()},  # its root is trusted no more
        {"now": REAL_TIME + timedelta(days=5)},
    ],
    ids=["tampered", "another's", "no-issuer", "another-issuer", "another-root", "roots-of-today", "old"],
)
async def test_real_delivery_is_forged_where_anything_of_it_is_another(changes: dict[str, Any]) -> None:
    with pytest.raises(UnauthenticError):
        await verify_real(**changes)


async def test_real_certificate_of_the_sandbox_is_none_of_the_live_gateways() -> None:
    with pytest.raises(UnauthenticError, match="does not stand at PayPal's"):
        await verify_real(signer=LIVE)
    elsewhere = replace(SANDBOX, name=LIVE.name)
    with pytest.raises(UnauthenticError, match="the certificate is not PayPal's"):
        await verify_real(signer=elsewhere)


@pytest.mark.parametrize("error", [UnauthenticError("nothing stands there"), UnverifiableError("busy")])
async def test_real_delivery_waits_while_its_issuer_cannot_be_had(error: Exception) -> None:
    with pytest.raises(UnverifiableError):
        await verify_real(issuer=error)


@pytest.mark.parametrize(
    ("url", "signer"),
    [
        ("https://api-m.paypal.com", LIVE),
        ("https://api-m.sandbox.paypal.com", SANDBOX),
        ("https://api-m.sandbox.paypal.com/with/a/path", SANDBOX),
        ("https://proxy.example/api-m.sandbox.paypal.com", LIVE),
        ("https://sandbox.paypal.com.evil.example", LIVE),
        ("http://127.0.0.1:8080", LIVE),
    ],
)
def test_sandbox_signs_for_the_sandbox_alone(url: str, signer: Signer) -> None:
    assert signer_of(url) is signer


def test_roots_that_the_package_brings_are_taken_but_for_one_that_breaks_the_rules() -> None:
    pem = Path(certifi.where()).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(store_of(pem), verification.Store)


def test_roots_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        store_of(b"no certificate")


def test_each_exception_of_the_library_is_a_forgery_or_cannot_come_of_a_delivery() -> None:
    ours = {
        "AlreadyFinalized",  # of contexts that are used twice, of encryption and of keys that are derived
        "AlreadyUpdated",
        "InternalError",  # of the library itself: a defect, and no word on the delivery
        "InvalidKey",
        "InvalidTag",
        "NotYetFinalized",
    }
    raised = {
        each
        for module in (exceptions, x509, verification)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Exception)
    }
    unmapped = {each.__name__ for each in raised if not issubclass(each, signature.refusals())}
    assert unmapped == ours
