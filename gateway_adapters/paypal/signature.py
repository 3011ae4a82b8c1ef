"""Whether a webhook is PayPal's: its RSA signature, by a certificate whose chain, name and time are checked.

Called by `client`. Pure but for the certificate, which the port's fetcher brings.

PayPal signs `<transmission id>|<transmission time>|<webhook id>|<crc32 of the body>` (its 'Integrate webhooks', 'Verify
the signature offline'), and names in the headers where the certificate stands. A stranger can write such a header, and
can be given a certificate of his own by anybody. So it is fetched from PayPal's hosts and path alone, and must be made
out to PayPal's name for this by an authority that is trusted for web servers.

What stands there may be that certificate alone: so it was in 2015, in the one real answer that is known. Then its
issuer's is fetched, from where it says itself that that one stands, if that is the authority's own host. It adds to
nobody's trust: the chain has to end at a root as before.

The webhook id is PayPal's name of the endpoint, and the only thing here that is the account's own. It is no secret: it
binds a delivery to its endpoint, and is no proof of anything without the certificate.
"""

import base64
import binascii
import contextlib
import hashlib
import re
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway_adapters.contract import CertificateFetcher, RawHeaders
from gateway_adapters.errors import UnauthenticError, UnverifiableError

if TYPE_CHECKING:  # the orders agent takes the names of the headers alone
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import Certificate
    from cryptography.x509.verification import Store

ID_HEADER: Final = "paypal-transmission-id"
TIME_HEADER: Final = "paypal-transmission-time"
SIGNATURE_HEADER: Final = "paypal-transmission-sig"
URL_HEADER: Final = "paypal-cert-url"
ALGORITHM_HEADER: Final = "paypal-auth-algo"
HEADERS: Final = (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER, URL_HEADER, ALGORITHM_HEADER)
MAX_HEADER_CHARS: Final = 1024
"""PayPal's document gives its signature 500; one by a key of 4,096 bits would take 684."""

ALGORITHM: Final = "SHA256withRSA"
ISSUERS_HOSTS: Final = frozenset({"cacerts.digicert.com"})
"""Where the authority of PayPal's certificates keeps its own."""
CERTIFICATE_PATH: Final = "/v1/notifications/certs/"
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
MAX_CHAIN: Final = 5
MAX_KEPT: Final = 16
"""Certificates kept with their verdict; PayPal has one or two at a time."""
KEPT_FOR: Final = timedelta(hours=1)

MAX_AGE: Final = timedelta(days=4)
"""How old a delivery may be. PayPal repeats one up to 25 times in three days, under its first time and signature."""
MAX_AHEAD: Final = timedelta(minutes=5)
"""How much PayPal's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs: PayPal, or its sandbox."""

    hosts: frozenset[str]  # that certificates stand at
    name: str  # that they are made out to


LIVE: Final = Signer(
    hosts=frozenset({"api.paypal.com", "api-m.paypal.com"}), name="messageverificationcerts.paypal.com"
)
SANDBOX: Final = Signer(
    hosts=frozenset({"api.sandbox.paypal.com", "api-m.sandbox.paypal.com"}),
    name="messageverificationcerts.sandbox.paypal.com",
)


def signer_of(base_url: str) -> Signer:
    """Return who signs the webhooks of an account at this URL."""
    return SANDBOX if (urlsplit(base_url).hostname or "").endswith(".sandbox.paypal.com") else LIVE


def signed_text(*, transmission_id: str, transmission_time: str, webhook_id: str, body: bytes) -> bytes:
    """Return what is signed of a delivery."""
    return f"{transmission_id}|{transmission_time}|{webhook_id}|{zlib.crc32(body)}".encode()


def store_of(pem: bytes) -> "Store":
    """Return the trust store of these roots, PEM.

    One that breaks the rules for certificates (RFC 5280) vouches for nobody: Mozilla's list holds one whose serial
    number is not positive, which the library is about to refuse.

    Raises:
        ValueError: they are none.
    """
    from cryptography import x509
    from cryptography.utils import CryptographyDeprecationWarning
    from cryptography.x509.verification import Store

    roots = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        for each in _CERTIFICATE.findall(pem):
            with contextlib.suppress(CryptographyDeprecationWarning):
                roots.append(x509.load_pem_x509_certificate(each))
    if not roots:
        raise ValueError("the roots of webhooks are no certificates in PEM")
    return Store(roots)


@dataclass(frozen=True, slots=True)
class _Kept:
    key: "RSAPublicKey"
    from_time: datetime
    until_time: datetime


def refusals() -> tuple[type[Exception], ...]:
    """Return what the library raises of bytes that are no good certificate, or no good signature: a forger's, all."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.x509.verification import VerificationError

    return (
        ValueError,
        InvalidSignature,
        UnsupportedAlgorithm,
        VerificationError,
        x509.AttributeNotFound,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    )


class Verifier:
    """Verifies deliveries for one account. Safe for any number at once."""

    def __init__(self, *, webhook_ids: Sequence[str], signer: Signer, roots: "Store") -> None:
        """`webhook_ids`: each is good, so that an endpoint can be replaced. `roots`: who may vouch for the signer."""
        self._webhook_ids = webhook_ids
        self._signer = signer
        self._roots = roots
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    async def verify(self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher) -> None:
        """Return if PayPal signed exactly these bytes for one of our endpoints, and not too long ago.

        Raises:
            UnauthenticError: it did not; the message says which check failed.
            UnverifiableError: the certificate cannot be had now.
        """
        said = check_delivery(headers, self._signer, now_ms=now_ms)
        signature = base64.b64decode(said[SIGNATURE_HEADER])
        pem = await certificates.fetch(said[URL_HEADER], hosts=self._signer.hosts)
        key = await self._key_of(pem, datetime.fromtimestamp(now_ms / 1000, UTC), certificates)
        if not any(self._is_signed(key, signature, said, each, body) for each in self._webhook_ids):
            raise UnauthenticError("signature does not match")

    def _is_signed(self, key: "RSAPublicKey", signature: bytes, said: RawHeaders, webhook_id: str, body: bytes) -> bool:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        text = signed_text(
            transmission_id=said[ID_HEADER],
            transmission_time=said[TIME_HEADER],
            webhook_id=webhook_id,
            body=body,
        )
        try:
            key.verify(signature, text, PKCS1v15(), SHA256())
        except refusals():
            return False
        return True

    async def _key_of(self, pem: bytes, now: datetime, certificates: CertificateFetcher) -> "RSAPublicKey":
        name = hashlib.sha256(pem).digest()
        kept = self._kept.get(name)
        if kept is None or not kept.from_time <= now <= kept.until_time:
            chain = _chain_in(pem)
            if len(chain) == 1 and (issuer := _issuers_url(chain[0])) is not None and not self._trusts(chain, now):
                chain = (chain[0], *_chain_in(await _fetched_issuer(issuer, certificates)))
            kept = self._verified(chain, now)
            self._kept[name] = kept
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return kept.key

    def _verified(self, chain: tuple["Certificate", ...], now: datetime) -> _Kept:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        if not self._trusts(chain, now):
            raise UnauthenticError("the certificate is not PayPal's, or not valid now")
        try:
            key = chain[0].public_key()
        except refusals():
            raise UnauthenticError("the certificate holds no key that can be read") from None
        if not isinstance(key, RSAPublicKey):
            raise UnauthenticError("the certificate holds no RSA key")
        until = min(now + KEPT_FOR, *(each.not_valid_after_utc for each in chain))
        return _Kept(key=key, from_time=now, until_time=until)

    def _trusts(self, chain: tuple["Certificate", ...], now: datetime) -> bool:
        from cryptography import x509
        from cryptography.x509.verification import PolicyBuilder

        policy = PolicyBuilder().store(self._roots).time(now)
        try:
            policy.build_server_verifier(x509.DNSName(self._signer.name)).verify(chain[0], list(chain[1:]))
        except refusals():
            return False
        return True


def _chain_in(pem: bytes) -> tuple["Certificate", ...]:
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(pem)
    except refusals():
        raise UnauthenticError("there is no certificate at its URL") from None
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise UnauthenticError(f"a chain of more than {MAX_CHAIN} certificates")
    return tuple(chain)


def _issuers_url(certificate: "Certificate") -> str | None:
    """Return where the certificate of its issuer stands in PEM, by its own word; None: at no authority that is known.

    The extension names it in DER and by http (RFC 5280, 4.2.2.1). DigiCert keeps each beside it in PEM, and by https.
    """
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        urls = [
            urlsplit(each.access_location.value)
            for each in access
            if each.access_method == AuthorityInformationAccessOID.CA_ISSUERS
            and isinstance(each.access_location, x509.UniformResourceIdentifier)
        ]
    except refusals():
        return None
    known = (each for each in urls if each.hostname in ISSUERS_HOSTS and each.path.endswith(".crt"))
    return next((f"https://{each.hostname}{each.path}.pem" for each in known), None)


async def _fetched_issuer(url: str, certificates: CertificateFetcher) -> bytes:
    try:
        return await certificates.fetch(url, hosts=ISSUERS_HOSTS)
    except UnauthenticError:  # that it is not there says nothing of the delivery
        raise UnverifiableError("the certificate of the signer's issuer cannot be had") from None


def check_delivery(headers: RawHeaders, signer: Signer, *, now_ms: int) -> RawHeaders:
    """Return the headers of the signature, if this may be a delivery of the signer's by all that can be seen of it.

    Raises:
        UnauthenticError: it cannot be; the message says which check failed.
    """
    said = _headers_of(headers)
    if said[ALGORITHM_HEADER] != ALGORITHM:
        raise UnauthenticError("signed by another algorithm than is PayPal's")
    _check_age(said[TIME_HEADER], datetime.fromtimestamp(now_ms / 1000, UTC))
    try:
        base64.b64decode(said[SIGNATURE_HEADER], validate=True)
    except binascii.Error:
        raise UnauthenticError("the signature is malformed") from None
    _check_place(said[URL_HEADER], signer)
    return said


def _headers_of(headers: RawHeaders) -> RawHeaders:
    said = {name: headers.get(name, "") for name in HEADERS}
    if not all(0 < len(value) <= MAX_HEADER_CHARS and value.isascii() for value in said.values()):
        raise UnauthenticError("a header of the signature is missing or malformed")
    return said


def _check_age(time: str, now: datetime) -> None:
    try:
        sent = datetime.fromisoformat(time)
    except ValueError:
        raise UnauthenticError("the time of the transmission is malformed") from None
    if sent.tzinfo is None:
        raise UnauthenticError("the time of the transmission is malformed")
    if not -MAX_AHEAD <= now - sent <= MAX_AGE:
        raise UnauthenticError("the delivery is too old or from the future")


def _check_place(url: str, signer: Signer) -> None:
    try:
        parts = urlsplit(url)
        host, path = parts.hostname, parts.path
    except ValueError:
        raise UnauthenticError("the certificate's URL is malformed") from None
    name = path.removeprefix(CERTIFICATE_PATH)
    if name == path or not name or "/" in name or "%" in name or name.startswith("."):
        raise UnauthenticError("the certificate does not stand where PayPal keeps its own")
    if parts.scheme != "https" or host not in signer.hosts:
        raise UnauthenticError("the certificate does not stand at PayPal's")
