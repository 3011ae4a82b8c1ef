"""Whether a webhook is PayPal's, by PayPal's own word: its call `verify-webhook-signature`. An account's choice.

Called by `client` where the account is set up so; else a delivery is verified here, by its certificate (`signature`).
Only SUCCESS counts. That PayPal cannot be asked is no word on the delivery: PayPal has to send it again.

Anybody can send a delivery, and each one would cost calls with our credentials. So what can be seen to be no delivery
of PayPal's is refused first, and no more than a few are asked about at once.

PayPal wants the event as it came, since it signs bytes: it is put into the request unread. It has to be one JSON object
for that. A body that only begins with one could go on with members of its own, such as another endpoint's webhook id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import orjson

from gateway_adapters.contract import RawHeaders
from gateway_adapters.errors import CallFailedError, UnauthenticError, UnverifiableError
from gateway_adapters.http_transport import Answer
from gateway_adapters.paypal import wire
from gateway_adapters.paypal.access import NoAccessError
from gateway_adapters.paypal.signature import (
    ALGORITHM_HEADER,
    ID_HEADER,
    SIGNATURE_HEADER,
    TIME_HEADER,
    URL_HEADER,
    Signer,
    check_delivery,
)

LIMIT_S: Final = 10.0
"""Longest that PayPal is asked about one delivery, seconds, tokens included: the door waits for it."""
MAX_AT_ONCE: Final = 8
"""Deliveries that are asked about at once; one more has to be sent again."""

_OK: Final = 200
_REFUSED: Final = frozenset({400, 404, 422})
"""The statuses by which PayPal finds fault with what the delivery itself says."""

_OF_DELIVERY: Final = {
    "auth_algo": ALGORITHM_HEADER,
    "cert_url": URL_HEADER,
    "transmission_id": ID_HEADER,
    "transmission_sig": SIGNATURE_HEADER,
    "transmission_time": TIME_HEADER,
}
"""The members of the call, by the headers of the delivery that they repeat."""

Ask = Callable[[bytes], Awaitable[Answer]]
"""Makes the call with this body. Raises: CallFailedError, NoAccessError."""


class CallVerifier:
    """Verifies deliveries for one account by asking PayPal. Safe for any number at once."""

    def __init__(self, *, webhook_ids: Sequence[str], signer: Signer, ask: Ask, limit_s: float = LIMIT_S) -> None:
        """`webhook_ids`: each is good, so that an endpoint can be replaced. `ask`: makes the call."""
        self._webhook_ids = webhook_ids
        self._signer = signer
        self._ask = ask
        self._limit_s = limit_s
        self._under_way = 0

    async def verify(self, headers: RawHeaders, body: bytes, *, now_ms: int) -> None:
        """Return if PayPal says that it signed exactly these bytes for one of our endpoints, and not too long ago.

        Raises:
            UnauthenticError: it does not say so, or it cannot be its delivery.
            UnverifiableError: it cannot be asked now.
        """
        said = check_delivery(headers, self._signer, now_ms=now_ms)
        if not _is_object(body):
            raise UnauthenticError("the body is not one JSON object")
        if self._under_way >= MAX_AT_ONCE:
            raise UnverifiableError("PayPal is being asked about too many deliveries")
        self._under_way += 1
        try:
            async with asyncio.timeout(self._limit_s):
                for webhook_id in self._webhook_ids:
                    if await self._is_signed(said, body, webhook_id):
                        return
        except TimeoutError:
            raise UnverifiableError("PayPal did not say in time whether it signed the delivery") from None
        except (CallFailedError, NoAccessError):
            raise UnverifiableError("PayPal cannot be asked whether it signed the delivery") from None
        finally:
            self._under_way -= 1
        raise UnauthenticError("PayPal does not say that it signed the delivery")

    async def _is_signed(self, said: RawHeaders, body: bytes, webhook_id: str) -> bool:
        answer = await self._ask(_request(said, body, webhook_id))
        if answer.status in _REFUSED:
            return False
        if answer.status != _OK:
            raise UnverifiableError(f"PayPal cannot be asked whether it signed the delivery: http_{answer.status}")
        try:
            status = wire.VerificationAnswer.read(answer.json_object()).verification_status
        except wire.WireError:
            raise UnverifiableError("PayPal's answer whether it signed the delivery cannot be read") from None
        return status == wire.VERIFIED


def _request(said: RawHeaders, event: bytes, webhook_id: str) -> bytes:
    """Return the body of the call. `event`: one JSON object, as it came."""
    members = {name: said[header] for name, header in _OF_DELIVERY.items()} | {"webhook_id": webhook_id}
    return orjson.dumps(members)[:-1] + b',"webhook_event":' + event + b"}"


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False
