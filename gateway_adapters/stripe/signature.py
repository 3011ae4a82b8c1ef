"""Whose a webhook is: Stripe's signature over time and raw bytes. Pure.

`Stripe-Signature: t=<seconds since the epoch>,v1=<hex>[,v1=…][,v0=…]`, where v1 is HMAC-SHA256(secret, "<t>.<body>").
Several `v1` stand there while a secret is rolled; `v0` is for test events, and proves nothing. The body is verified as
it came (https://docs.stripe.com/webhooks?verify=verify-manually). The SDK's own check takes one secret, and whatever
time is in the future.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from gateway_adapters.errors import UnauthenticError

HEADER: Final = "stripe-signature"
TOLERANCE_S: Final = 300
"""Stripe's default. It bounds, before and after now, for how long a caught webhook can be sent again."""

MAX_HEADER_CHARS: Final = 2048
MAX_SIGNATURES: Final = 16
"""Stripe signs with each secret of an endpoint that is still live."""

MAX_TIME_DIGITS: Final = 12


def sign(body: bytes, *, secret: str, at_s: int) -> str:
    """Return the header's value for this body, signed at this time (seconds since the epoch)."""
    return f"t={at_s},v1={_digest(body, secret=secret, at=str(at_s))}"


def verify(header: str | None, body: bytes, *, secrets: Sequence[str], now_s: int) -> None:
    """Return if the header signs exactly these bytes with one of the secrets, at most TOLERANCE_S before or after now.

    Compares in constant time, and the signature before the time, so that a refusal tells a forger nothing.

    Raises:
        UnauthenticError: it does not, or there is none; the message says which check failed, never what was expected.
    """
    if header is None:
        raise UnauthenticError("signature header is missing")
    if len(header) > MAX_HEADER_CHARS or not header.isascii():
        raise UnauthenticError("signature header is malformed")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not times[0].isdigit() or len(times[0]) > MAX_TIME_DIGITS:
        raise UnauthenticError("signature header is malformed")
    if not 0 < len(signatures) <= MAX_SIGNATURES:
        raise UnauthenticError("signature header is malformed")
    expected = [_digest(body, secret=secret, at=times[0]).encode() for secret in secrets]
    # Every pair is compared, so that the time taken does not tell which one matched.
    matches = [hmac.compare_digest(one, other.encode()) for one in expected for other in signatures]
    if not any(matches):
        raise UnauthenticError("signature does not match")
    if abs(now_s - int(times[0])) > TOLERANCE_S:
        raise UnauthenticError("signature is too old or from the future")


def _digest(body: bytes, *, secret: str, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
