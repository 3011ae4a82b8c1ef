"""Certificates as a gateway signs its webhooks with, of an authority of our own: root, intermediate, one for a name."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

LIFE = timedelta(days=30)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True)
class Authority:
    """Somebody who vouches for others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """A certificate for one name, its chain, and its key."""

    chain: tuple[x509.Certificate, ...]  # its own first, no root
    key: rsa.RSAPrivateKey

    @property
    def pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)

    def sign(self, text: bytes) -> bytes:
        return self.key.sign(text, PKCS1v15(), SHA256())

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        try:
            self.key.public_key().verify(signature, text, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


def authority(name: str, *, under: Authority | None = None, now: datetime | None = None) -> Authority:
    """Return a root, or an intermediate under one."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _certificate(name, key, under=under, by=key if under is None else under.key, now=now, authority=True)
    return Authority(certificate=made, key=key)


def certificate_for(
    name: str, *, under: Authority, now: datetime | None = None, life: timedelta = LIFE
) -> SigningCertificate:
    """Return a certificate for a host's name, and its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = _certificate(name, key, under=under, by=under.key, now=now, authority=False, life=life)
    return SigningCertificate(chain=(made, under.certificate), key=key)


def _certificate(
    name: str,
    key: Key,
    *,
    under: Authority | None,
    by: ec.EllipticCurvePrivateKey,
    now: datetime | None,
    authority: bool,
    life: timedelta = LIFE,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key = (key if under is None else under.key).public_key()
    since = (now or datetime.now(UTC)) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if under is None else under.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(hours=1) + life)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(by, SHA256())
