"""The signature of the Mock's webhooks: HMAC-SHA256 over time and raw bytes, in the shape of Stripe's. Pure.

`Mock-Signature: t=<seconds since the epoch>,v1=<hex>`, where v1 is HMAC-SHA256(secret, "<t>.<body>"). Several `v1`
may stand there while a secret is rotated. The body is verified as it came, before anything parses it
(https://docs.stripe.com/webhooks#verify-manually).
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from gateway_adapters.errors import UnauthenticError

DEVELOPMENT_SECRET: Final = "whsec_mock"  # noqa: S105 - public on purpose
"""What the Mock signs with unless it is told otherwise. Everybody can read it here, so it proves nothing: an ingress
takes it in development mode alone."""

MAX_HEADER_CHARS: Final = 1024
MAX_SIGNATURES: Final = 5
MAX_TIME_DIGITS: Final = 12


def sign(body: bytes, *, secret: str, at_s: int) -> str:
    """Return the header value for this body, signed at this time (seconds since the epoch)."""
    return f"t={at_s},v1={_digest(body, secret=secret, at=str(at_s))}"


def verify(header: str, body: bytes, *, secrets: Sequence[str], now_s: int, tolerance_s: int) -> None:
    """Return if the header signs exactly these bytes with one of the secrets, within the tolerance before or after now.

    Compares in constant time, and the signature before the time, so that a refusal tells a forger nothing.

    Raises:
        UnauthenticError: it does not; the message says which check failed, never what was expected.
    """
    if len(header) > MAX_HEADER_CHARS or not header.isascii():
        raise UnauthenticError("signature header is malformed")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"][:MAX_SIGNATURES]
    if len(times) != 1 or not signatures or not times[0].isdigit():
        raise UnauthenticError("signature header is malformed")
    if len(times[0]) > MAX_TIME_DIGITS:
        raise UnauthenticError("signature header is malformed")
    expected = [_digest(body, secret=secret, at=times[0]).encode() for secret in secrets]
    candidates = [signature.encode() for signature in signatures]
    # Every pair is compared, so that the time taken does not tell which one matched.
    if not any([hmac.compare_digest(one, other) for one in expected for other in candidates]):  # noqa: C419 - see above
        raise UnauthenticError("signature does not match")
    if abs(now_s - int(times[0])) > tolerance_s:
        raise UnauthenticError("signature is too old or from the future")


def _digest(body: bytes, *, secret: str, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
