"""The HMACs of Adyen's webhooks. Pure.

Two kinds, both HMAC-SHA256 under a key that stands in hexadecimal, the result in Base64:

* Each item of a standard webhook carries one in `additionalData.hmacSignature`: of eight of its values, joined with
  colons and not escaped. What else the item holds, its date and its reason, is not signed. So is no moment: an old item
  cannot be told from a fresh one, and Adyen may send one again for a month. Where a date alone decides about money, the
  order asks a person (`streams.domain.later_words`).
* Others carry one of the whole body in the header `HmacSignature`.

An item may hold a colon (Adyen's own test vectors do). It is authentic by its HMAC like any other; `webhooks` sees to
it that it never speaks of anything of ours, for another split of the same text would say something else.

Source: https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from gateway_adapters.adyen import wire
from gateway_adapters.adyen.wire import NoticeItem, Notification, WireError
from gateway_adapters.errors import UnauthenticError

HEADER: Final = "hmacsignature"
"""Where the HMAC of a whole body stands, in lower case."""

ITEM_MEMBER: Final = "hmacSignature"
MAX_SIGNATURE_CHARS: Final = 128
"""Of a signature that is looked at; a SHA-256 has 44 characters in Base64."""


def signed_text(item: NoticeItem) -> str:
    """Return what the HMAC of an item is of."""
    return ":".join(signed_values(item))


def signed_values(item: NoticeItem) -> tuple[str, ...]:
    """Return the eight values of an item that are signed, in their order; one that is absent is empty."""
    return (
        item.psp_reference,
        item.original_reference or "",
        item.merchant_account_code,
        item.merchant_reference or "",
        str(item.amount.value),
        item.amount.currency,
        item.event_code,
        item.success,
    )


def sign(content: bytes, *, secret: str) -> str:
    """Return the signature of these bytes under the hexadecimal secret."""
    return base64.b64encode(hmac.new(bytes.fromhex(secret), content, hashlib.sha256).digest()).decode()


def verify(headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str]) -> None:
    """Return if the body is Adyen's own, by one of the secrets: all of it by the header, or else each item of it.

    Compares in constant time, each signature with each secret, and looks at every item before it says anything.

    Raises:
        UnauthenticError: it is not; the message says which check failed, never what was expected.
    """
    if not secrets:
        raise UnauthenticError("no secret is set")
    header = headers.get(HEADER)
    if header is not None:
        if not _matches(header, body, secrets):
            raise UnauthenticError("signature of the body does not match")
        return
    try:
        items = wire.read(Notification, orjson.loads(body)).items
    except (orjson.JSONDecodeError, WireError):
        raise UnauthenticError("neither a signed body nor signed items") from None
    if not all([_is_authentic(item, secrets) for item in items]):  # noqa: C419 - every item is looked at
        raise UnauthenticError("signature of an item is missing or does not match")


def _is_authentic(item: NoticeItem, secrets: Sequence[str]) -> bool:
    given = (item.additional_data or {}).get(ITEM_MEMBER)
    try:
        content = signed_text(item).encode()
    except UnicodeEncodeError:
        return False
    return _matches(given if isinstance(given, str) else "", content, secrets)


def _matches(given: str, content: bytes, secrets: Sequence[str]) -> bool:
    if len(given) > MAX_SIGNATURE_CHARS or not given.isascii():
        return False
    # Every secret is tried, so that the time taken does not tell which one matched.
    return any([hmac.compare_digest(given.encode(), sign(content, secret=each).encode()) for each in secrets])  # noqa: C419
